//! What to run: the typed input of the runtime. Values only; nothing here touches the world.

mod cgroup;
mod mount;
mod namespace;
mod process;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use cgroup::{BlkioLimit, Cgroup, DeviceKind, DeviceRule, Resources};
pub use mount::{Mount, MountOptions, MountSource, ProcessFd, Propagation, ReadOnly, Rootfs, RootfsSource};
pub use namespace::{Join, Namespace, Namespaces};
pub use process::{Capabilities, Caps, Io, LogConfig, Process, Rlimit, Seccomp};

/// A container: file system, isolation, limits and its first process.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Names the cgroup and the monitor. Letters, digits, `_`, `-` and `.`; at most 128 bytes.
    pub id: String,
    /// Absolute. Created (0700) where missing; holds `task.json`, `monitor.sock` and, after the end,
    /// `exit.json`. Should lie on a file system that is empty after a reboot, such as `/run`.
    pub run_dir: PathBuf,
    pub rootfs: Rootfs,
    /// Done in this order. [`crate::defaults::mounts`] gives Docker's and merges the user's into them.
    pub mounts: Vec<Mount>,
    /// Hidden inside the container: files behind `/dev/null`, directories behind an empty tmpfs.
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    /// Nodes made in `/dev`; see [`crate::defaults::devices`].
    pub devices: Vec<Device>,
    pub process: Process,
    /// `None`: as the host's (only sensible with the host's UTS namespace).
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// Dotted (`net.ipv4.ip_forward`) or slashed names and their values.
    pub sysctls: BTreeMap<String, String>,
    pub namespaces: Namespaces,
    pub cgroup: Cgroup,
    pub seccomp: Seccomp,
    /// AppArmor profile, ignored where the kernel has no AppArmor. `None`: unconfined.
    pub apparmor: Option<String>,
    /// A built-in init as process 1 that forwards signals and reaps.
    pub init: bool,
    pub io: Io,
}

impl Spec {
    /// A container with Docker's defaults: mounts, masks, devices, capabilities, seccomp, private namespaces.
    pub fn new(id: impl Into<String>, run_dir: impl Into<PathBuf>, rootfs: Rootfs, args: Vec<String>) -> Spec {
        Spec {
            id: id.into(),
            run_dir: run_dir.into(),
            rootfs,
            mounts: crate::defaults::mounts(None),
            masked_paths: crate::defaults::masked_paths(),
            readonly_paths: crate::defaults::readonly_paths(),
            devices: crate::defaults::devices(),
            process: Process { args, ..Process::default() },
            hostname: None,
            domainname: None,
            sysctls: BTreeMap::new(),
            namespaces: Namespaces::default(),
            cgroup: Cgroup::default(),
            seccomp: Seccomp::Default,
            apparmor: None,
            init: false,
            io: Io::default(),
        }
    }
}

/// A device node to be made in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Absolute, in the container.
    pub path: String,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    /// Permission bits, such as 0o666.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// A further process in a running container.
#[derive(Clone, Debug)]
pub struct ExecSpec {
    /// As [`Spec::id`].
    pub id: String,
    /// As [`Spec::run_dir`], of this process alone.
    pub run_dir: PathBuf,
    pub process: Process,
    pub seccomp: Seccomp,
    pub apparmor: Option<String>,
    pub io: Io,
}
