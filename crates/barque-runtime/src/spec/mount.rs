//! Root file system and mounts.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use barque_model::IdMap;

/// The container's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rootfs {
    pub source: RootfsSource,
    /// Read-only once all mount points exist (`--read-only`).
    pub readonly: bool,
    /// Propagation of the root mount; `None` is private.
    pub propagation: Option<Propagation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootfsSource {
    /// overlayfs. All paths absolute; `upper` and `work` exist and lie on one file system.
    Overlay {
        /// Top-most first, at least one. `/` is allowed: this machine's own root.
        lower: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        /// Skip the sync of the upper layer at the end (kernel ≥ 5.10): fast, but a power cut may tear it.
        volatile: bool,
    },
    /// A plain directory, bound as it is.
    Directory { path: PathBuf },
}

impl Rootfs {
    pub fn overlay(lower: Vec<PathBuf>, upper: impl Into<PathBuf>, work: impl Into<PathBuf>) -> Rootfs {
        let source = RootfsSource::Overlay { lower, upper: upper.into(), work: work.into(), volatile: false };
        Rootfs { source, readonly: false, propagation: None }
    }

    pub fn directory(path: impl Into<PathBuf>) -> Rootfs {
        Rootfs { source: RootfsSource::Directory { path: path.into() }, readonly: false, propagation: None }
    }
}

/// One mount in the container. A missing mount point is created, never outside the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute in the container; symbolic links are followed inside its root only.
    pub target: String,
    pub source: MountSource,
    pub options: MountOptions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A host file or directory.
    Bind {
        path: PathBuf,
        /// Below `path`, resolved without leaving it.
        subpath: Option<PathBuf>,
        /// With the mounts below it.
        recursive: bool,
        /// Owners are shown as others.
        owners: Option<IdMap>,
    },
    /// A mount point of another running container, such as its `/dev/shm` for a shared IPC namespace.
    Container {
        process: ProcessFd,
        path: PathBuf,
    },
    Tmpfs {
        /// Bytes; `None`: half of the memory.
        size: Option<u64>,
        /// Permission bits; `None`: those of the directory it covers, 0o1777 if there is none.
        mode: Option<u32>,
        /// Further file-system options, such as `("uid", "1000")` or `("nr_inodes", "1k")`; `source` is what the table
        /// of mounts names instead of `tmpfs`.
        options: Vec<(String, String)>,
    },
    Proc,
    Sysfs,
    Mqueue,
    /// A new instance; the process's terminal comes from here.
    Devpts,
    /// The container's view of its cgroups, v1 or v2 as the host has it.
    Cgroup,
    /// Layers of an image, top-most first, read-only.
    Image {
        layers: Vec<PathBuf>,
        subpath: Option<PathBuf>,
    },
    /// Layers, top-most first, at least one, under a writable one. `upper` and `work` exist and lie on one file
    /// system; what is written goes to `upper`.
    Overlay {
        lower: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
    },
}

/// A process by pidfd.
#[derive(Clone, Debug)]
pub struct ProcessFd(pub Arc<OwnedFd>);

impl PartialEq for ProcessFd {
    fn eq(&self, other: &ProcessFd) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ProcessFd {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    pub readonly: ReadOnly,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
    pub noatime: bool,
    pub strictatime: bool,
    pub propagation: Propagation,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnly {
    #[default]
    No,
    /// With the mounts below it where the kernel can (≥ 5.12), else the top one only.
    Yes,
    /// The top mount only.
    TopOnly,
    /// With the mounts below it, or an error.
    Recursive,
}

/// Mount propagation, mount_namespaces(7). All but `Private` matter for binds only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    RPrivate,
    Private,
    RSlave,
    Slave,
    RShared,
    Shared,
}
