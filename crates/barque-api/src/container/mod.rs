//! Containers: configuration, create, inspect, list, stats and the small replies.

mod config;
mod create;
mod host;
mod inspect;
mod mount;
mod ops;
mod stats;
mod summary;

pub use config::{ContainerConfig, HealthConfig};
pub use create::{ContainerCreateQuery, ContainerCreateRequest, ContainerCreateResponse};
pub use host::{
    ContainerUpdateRequest, ContainerUpdateResponse, DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding,
    PortMap, Resources, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice,
};
pub use inspect::{
    Address, ContainerInspect, ContainerState, DriverData, Health, HealthcheckResult, InspectQuery, MountPoint,
    NetworkSettings,
};
pub use mount::{BindOptions, IdMapping, IdRange, ImageOptions, Mount, MountDriver, TmpfsOptions, VolumeOptions};
pub use ops::{
    AttachQuery, Change, CommitQuery, ContainerListQuery, ContainersPruned, CopyQuery, KillQuery, LogsQuery, PathStat,
    PruneQuery, RemoveQuery, RenameQuery, ResizeQuery, StartQuery, StopQuery, TopQuery, TopResponse, WaitExitError,
    WaitQuery, WaitResponse,
};
pub use stats::{
    BlkioStatEntry, BlkioStats, ContainerStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, StatsQuery,
    StorageStats, ThrottlingData,
};
pub use summary::{ContainerSummary, HealthSummary, PortSummary, SummaryHostConfig, SummaryNetworkSettings};
