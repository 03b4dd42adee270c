//! The engine as a whole: info, disk usage, prune.

use crate::container::view::ContainerView;
use crate::image::types::ImageView;
use crate::volume::types::VolumeView;

/// Numbers and facts for `info`.
#[derive(Clone, Debug, Default)]
pub struct EngineInfo {
    pub engine_id: String,
    pub containers: usize,
    pub running: usize,
    pub paused: usize,
    pub stopped: usize,
    pub images: usize,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    pub security_options: Vec<String>,
    pub backing_filesystem: String,
    pub kernel_version: String,
    pub operating_system: String,
    pub os_version: String,
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
    pub hostname: String,
    pub ipv4_forwarding: bool,
    pub warnings: Vec<String>,
    pub event_listeners: usize,
    pub goroutines: usize,
    pub file_descriptors: usize,
}

/// What takes space, for `system df`.
#[derive(Clone, Debug, Default)]
pub struct DiskUsage {
    /// Bytes of all layers, each once.
    pub layers_size: u64,
    pub images: Vec<ImageView>,
    /// With the size of the writable layer and of everything.
    pub containers: Vec<(ContainerView, u64, u64)>,
    pub volumes: Vec<(VolumeView, u64)>,
    pub build_cache: Vec<BuildCacheEntry>,
}

#[derive(Clone, Debug, Default)]
pub struct BuildCacheEntry {
    pub id: String,
    pub kind: String,
    pub description: String,
    pub in_use: bool,
    pub shared: bool,
    pub size: u64,
    pub created_at: barque_model::Timestamp,
    pub last_used_at: Option<barque_model::Timestamp>,
    pub usage_count: u64,
}
