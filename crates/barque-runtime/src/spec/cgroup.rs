//! Control groups: place, limits, device rules.

/// Where the container's processes are accounted, and their limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Absolute path below the cgroup root, created where missing; `None`: `/barque`.
    /// The container's own group is `PARENT/ID`.
    pub parent: Option<String>,
    pub resources: Resources,
    /// Applied in order on top of "nothing allowed"; empty: Docker's default list
    /// ([`crate::defaults::device_rules`]). Privileged: one [`DeviceRule::allow_all`]. The making (`m`) of
    /// [`super::Spec::devices`] must be among what is allowed, as it is by the default list.
    pub devices: Vec<DeviceRule>,
}

/// Limits; `None` is "no limit asked for".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together, as Docker counts; -1 is unlimited swap.
    /// `None` with `memory` set: twice `memory`.
    pub memory_swap: Option<i64>,
    /// Bytes, a soft limit.
    pub memory_reservation: Option<u64>,
    /// 0 to 100 (v1 only).
    pub memory_swappiness: Option<u64>,
    pub oom_kill_disable: bool,
    /// Relative weight, 2 to 262144; 1024 is normal.
    pub cpu_shares: Option<u64>,
    /// Microseconds per period; -1 is unlimited.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Billionths of a CPU; excludes quota and period.
    pub nano_cpus: Option<u64>,
    /// Such as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// -1 is unlimited.
    pub pids: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// Weights on single devices: major, minor, 10 to 1000.
    pub blkio_weight_devices: Vec<(u32, u32, u16)>,
    pub blkio_throttle: Vec<BlkioLimit>,
}

/// A rate limit on one block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioLimit {
    pub major: u32,
    pub minor: u32,
    pub read_bps: Option<u64>,
    pub write_bps: Option<u64>,
    pub read_iops: Option<u64>,
    pub write_iops: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Char,
    Block,
    /// In rules only: both.
    All,
    /// In nodes only.
    Fifo,
}

/// One line of a device list, `c 1:3 rwm`; `None` is `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pub allow: bool,
    pub kind: DeviceKind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

impl DeviceRule {
    /// `a *:* rwm`.
    pub fn allow_all() -> DeviceRule {
        DeviceRule {
            allow: true,
            kind: DeviceKind::All,
            major: None,
            minor: None,
            read: true,
            write: true,
            mknod: true,
        }
    }
}
