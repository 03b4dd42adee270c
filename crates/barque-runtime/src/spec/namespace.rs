//! Which namespaces are new, the host's or another container's.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    /// `Private` without a descriptor has only `lo`; the engine passes a prepared one as [`Join::Fd`].
    pub net: Namespace,
    pub pid: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub cgroup: Namespace,
}

#[derive(Clone, Debug, Default)]
pub enum Namespace {
    #[default]
    Private,
    Host,
    Join(Join),
}

/// Another namespace.
#[derive(Clone, Debug)]
pub enum Join {
    /// Such as `/proc/1/ns/net` or `/run/netns/x`.
    Path(PathBuf),
    /// A namespace descriptor, or a pidfd (the namespace of that process; kernel ≥ 5.8).
    Fd(Arc<OwnedFd>),
    /// The namespace of a process. Prefer a pidfd, which cannot be recycled.
    Pid(i32),
}
