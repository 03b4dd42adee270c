//! The process itself: what is executed, as whom, with which rights and streams.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// A process to execute. The default is root in `/` with Docker's capabilities and no terminal.
#[derive(Clone, Debug)]
pub struct Process {
    /// At least one; `args[0]` is looked for in the `PATH` of `env`, in the container.
    pub args: Vec<String>,
    /// `NAME=value`. `HOME` is added from the container's passwd file where absent, `TERM=xterm` where
    /// a terminal is asked for.
    pub env: Vec<String>,
    /// Created where missing.
    pub cwd: String,
    /// As Docker takes it: empty, `1000`, `www-data`, `uid:gid`, `user:group`; looked up in the container.
    pub user: String,
    /// Additional groups by name or number (`--group-add`).
    pub groups: Vec<String>,
    pub tty: bool,
    /// Rows and columns of the terminal at the start.
    pub console_size: Option<(u16, u16)>,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    pub rlimits: Vec<Rlimit>,
    /// A value the engine may not set is a warning.
    pub oom_score_adj: i32,
    /// `None`: 0o022.
    pub umask: Option<u32>,
    /// Passed as descriptors 3, 4, … with `LISTEN_FDS` left to the caller.
    pub extra_fds: Vec<Arc<OwnedFd>>,
}

impl Default for Process {
    fn default() -> Self {
        Process {
            args: Vec::new(),
            env: vec![crate::defaults::PATH.to_owned()],
            cwd: "/".into(),
            user: String::new(),
            groups: Vec::new(),
            tty: false,
            console_size: None,
            capabilities: crate::defaults::capabilities(),
            no_new_privileges: false,
            rlimits: Vec::new(),
            oom_score_adj: 0,
            umask: None,
            extra_fds: Vec::new(),
        }
    }
}

/// A set of capabilities: bit n is capability n of `linux/capability.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps(pub u64);

/// The five sets, capabilities(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub bounding: Caps,
    pub effective: Caps,
    pub permitted: Caps,
    pub inheritable: Caps,
    pub ambient: Caps,
}

impl Capabilities {
    /// As Docker gives them: bounding, permitted and effective; nothing inheritable or ambient.
    pub fn docker(caps: Caps) -> Capabilities {
        Capabilities { bounding: caps, effective: caps, permitted: caps, ..Capabilities::default() }
    }
}

/// A resource limit. `u64::MAX` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// As in `docker run --ulimit`: `nofile`, `nproc`, `core`, …
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Docker's default profile, with the rules that follow the process's capabilities.
    #[default]
    Default,
    Unconfined,
    /// A profile in Docker's JSON.
    Profile(String),
}

/// Standard streams of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// Keep a pipe to standard input open; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Close it when the first attached client has ended its input.
    pub stdin_once: bool,
    /// `None`: nothing is logged.
    pub log: Option<LogConfig>,
}

/// A log in Docker's json-file format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Absolute. Its directory must exist. Rotated files are called `PATH.1`, `PATH.2`, …
    pub path: PathBuf,
    /// Bytes after which the file is rotated; `None`: never.
    pub max_size: Option<u64>,
    /// Number of files kept, this one included; at least 1.
    pub max_files: u32,
}
