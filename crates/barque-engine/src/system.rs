//! The engine as a whole: info, disk usage, prune.

use crate::container::view::ContainerView;
use crate::image::types::ImageView;
use crate::volume::types::VolumeView;

pub use barque_runtime::defaults::own_hard_limit;

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
    /// Bytes of all layers and of the blobs kept beside them, each once; without what only the build cache holds.
    pub layers_size: u64,
    /// What of `layers_size` goes with the images that no container uses.
    pub images_reclaimable: u64,
    /// Their sizes with their blobs.
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
    /// Bytes; those of a result that several records name count at the one used last.
    pub size: u64,
    pub created_at: barque_model::Timestamp,
    pub last_used_at: Option<barque_model::Timestamp>,
    pub usage_count: u64,
}

impl crate::Engine {
    /// Gives memory back to the system that only work needs; for an engine that has been idle for a while.
    pub async fn release_memory(&self) {
        let released = tokio::task::spawn_blocking(|| {
            barque_sys::memory::trim_heap();
            barque_sys::memory::release_code();
        });
        let _only_at_the_end_of_the_runtime = released.await;
    }

    pub async fn info(&self) -> barque_model::Result<EngineInfo> {
        let views = self.containers();
        let count = |status: &str| views.iter().filter(|v| v.state.status() == status).count();
        let (running, paused) = (count("running"), count("paused"));
        let engine = self.clone();
        let images = self.blocking(move || engine.store().images().map(|i| i.len())).await?;
        let os = os_release();
        let layout = barque_runtime::cgroup::Layout::detect().map_or(2, |l| if l.is_v2() { 2 } else { 1 });
        let fabric = self.clone();
        let findings = self.blocking(move || fabric.fabric().diagnose()).await.unwrap_or_default();
        Ok(EngineInfo {
            engine_id: self.engine_id().to_owned(),
            containers: views.len(),
            running,
            paused,
            stopped: views.len() - running - paused,
            images,
            cgroup_version: layout,
            cgroup_driver: "cgroupfs".into(),
            security_options: self
                .apparmor()
                .map(|_| "name=apparmor".to_owned())
                .into_iter()
                .chain(["name=seccomp,profile=builtin".to_owned()])
                .collect(),
            backing_filesystem: backing_filesystem(&self.config().data_root),
            kernel_version: read_trimmed("/proc/sys/kernel/osrelease"),
            operating_system: os.0,
            os_version: os.1,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory: crate::container::top::total_memory(),
            hostname: hostname(),
            ipv4_forwarding: read_trimmed("/proc/sys/net/ipv4/ip_forward") == "1",
            warnings: findings
                .into_iter()
                .map(|f| format!("WARNING: {}: {}", f.problem, f.cure.replace('\n', "; ")))
                .collect(),
            event_listeners: self.events().listeners(),
            goroutines: std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
            file_descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        })
    }

    async fn build_cache(&self) -> barque_model::Result<Vec<BuildCacheEntry>> {
        let engine = self.clone();
        self.blocking(move || engine.build_cache_entries(&barque_store::Gone::default())).await
    }

    pub async fn disk_usage(&self) -> barque_model::Result<DiskUsage> {
        let engine = self.clone();
        let usage = self.blocking(move || engine.store().disk_usage()).await?;
        let images = self.images_with_unique().await?;
        let containers = self.containers().into_iter().map(|view| {
            let own = usage.containers.iter().find(|(id, _)| *id == view.id).map_or(0, |(_, size)| *size);
            let image = usage.images.iter().find(|(id, _)| Some(*id) == view.spec.image_id).map_or(0, |(_, u)| u.files);
            ((*view).clone(), own, own + image)
        });
        let containers = containers.collect();
        let volumes = self.volumes().await?.into_iter().map(|v| {
            let size = usage.volumes.iter().find(|(name, _)| *name == v.name).map_or(0, |(_, size)| *size);
            (v, size)
        });
        Ok(DiskUsage {
            layers_size: usage.layers + usage.blobs,
            images_reclaimable: usage.unused,
            containers,
            volumes: volumes.collect(),
            images,
            build_cache: self.build_cache().await?,
        })
    }
}

/// This machine's name.
pub fn hostname() -> String {
    read_trimmed("/proc/sys/kernel/hostname")
}

fn read_trimmed(path: &str) -> String {
    std::fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default()
}

/// Name and version from `/etc/os-release`.
fn os_release() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map(|v| v.trim_matches('"').to_owned()).unwrap_or_default()
    };
    (value("PRETTY_NAME"), value("VERSION_ID"))
}

/// The type of file system a directory lies on; empty if nobody knows.
pub fn backing_filesystem(dir: &std::path::Path) -> String {
    mounted_at(dir, &std::fs::read_to_string("/proc/self/mounts").unwrap_or_default())
}

/// The type of the last mount among the nearest above a directory (proc_pid_mounts(5)).
fn mounted_at(dir: &std::path::Path, mounts: &str) -> String {
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (point, kind) = (words.nth(1)?.replace("\\040", " "), words.next()?);
        dir.starts_with(&point).then(|| (point.len(), kind.to_owned()))
    });
    above.max_by_key(|(length, _)| *length).map(|(_, kind)| kind).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let table = "/dev/a / ext4 rw 0 0\nh:/x /var/lib nfs4 rw 0 0\nnone /my\\040disk xfs rw 0 0\n\
                     none /my\\040disk tmpfs rw 0 0\nbroken\n";
        let kind = |dir: &str| mounted_at(dir.as_ref(), table);
        assert_eq!(
            (kind("/var/lib/barque"), kind("/srv"), kind("/var/library")),
            ("nfs4".into(), "ext4".into(), "ext4".into())
        );
        assert_eq!(kind("/my disk/data"), "tmpfs", "the one mounted last is seen");
        assert_eq!(mounted_at("/srv".as_ref(), ""), "");
    }
}
