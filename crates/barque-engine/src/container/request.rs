//! What callers ask of containers, as values.

use std::path::PathBuf;
use std::pin::Pin;

use barque_model::{Id, Platform, Signal, Timestamp};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::spec::{ContainerSpec, ProcessSpec, Resources, RestartPolicy};

/// A new container.
#[derive(Clone, Debug, Default)]
pub struct CreateContainer {
    /// `None`: a name is made up.
    pub name: Option<String>,
    pub spec: ContainerSpec,
    /// Opaque to the engine, given back by `ContainerView::document`.
    pub document: String,
    pub platform: Option<Platform>,
}

#[derive(Clone, Debug)]
pub struct CreatedContainer {
    pub id: Id,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct StopOptions {
    /// Seconds before SIGKILL; `None`: the container's own, else 10; negative: wait for ever.
    pub timeout_secs: Option<i64>,
    pub signal: Option<Signal>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    pub force: bool,
    /// Anonymous volumes too.
    pub volumes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// Returns at once where it does not run.
    #[default]
    NotRunning,
    /// The next exit, even where it does not run yet.
    NextExit,
    Removed,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct WaitResult {
    pub code: i32,
    pub error: Option<String>,
}

/// Changes by `update`; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct UpdateContainer {
    pub resources: Option<Resources>,
    pub restart: Option<RestartPolicy>,
    /// The front end's new document.
    pub document: Option<String>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct AttachOptions {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Output from now on; without it only `logs` is wanted.
    pub stream: bool,
    /// What was logged so far first.
    pub logs: bool,
}

/// A connection to a process: with a terminal raw bytes, else Docker's 8-byte frames.
pub struct AttachStream {
    pub output: Pin<Box<dyn AsyncRead + Send>>,
    /// Shutting it down is the end of input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    pub tty: bool,
}

#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    /// Last lines only.
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// One line of a container's output, with its line end.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRecord {
    pub time: Timestamp,
    pub stderr: bool,
    pub line: Bytes,
}

/// A process in a running container.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    /// `cmd` is the argument vector; user and directory default to the container's.
    pub process: ProcessSpec,
    pub privileged: bool,
    pub detach_keys: Option<String>,
}

#[derive(Clone, Debug)]
pub struct ExecView {
    pub id: Id,
    pub container_id: Id,
    pub spec: ExecSpec,
    pub running: bool,
    pub exit_code: Option<i32>,
    pub pid: i32,
    pub can_remove: bool,
}

/// A change of the file system against the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange {
    pub path: String,
    pub kind: ChangeKind,
}

/// Numbers as in the Engine API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Modified = 0,
    Added = 1,
    Deleted = 2,
}

/// A file in a container (`HEAD /containers/{id}/archive`).
#[derive(Clone, Debug)]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// Go's `os.FileMode` bits.
    pub mode: u32,
    pub mtime: Timestamp,
    pub link_target: String,
}

/// `docker commit`.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    pub repo_tag: Option<String>,
    pub author: String,
    pub comment: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    pub pause: bool,
}

/// Titles and rows of `ps`.
#[derive(Clone, Debug, Default)]
pub struct ProcessTable {
    pub titles: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// A tar archive to be read.
pub type TarStream = Pin<Box<dyn AsyncRead + Send>>;

/// Where an engine keeps a container's own files.
#[derive(Clone, Debug)]
pub struct ContainerPaths {
    /// Durable: hosts, hostname, resolv.conf, log.
    pub dir: PathBuf,
    /// Ends with the uptime: monitor socket, exit record.
    pub run_dir: PathBuf,
}
