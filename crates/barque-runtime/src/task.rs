//! A running (or ended) process with its monitor, as the daemon holds it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use barque_model::{Error, Result, Signal, Timestamp};

use crate::cgroup::stats::Stats;
use crate::spec::Resources;

/// Which streams an attached connection carries.
///
/// The connection is a stream socket. Towards the task it carries the bytes of standard input (if
/// `stdin`); shutting down its writing half is the end of input, for the task only if the container's
/// input closes with its first client ([`crate::spec::Io::stdin_once`]). From the task it carries raw bytes
/// with a terminal, else Docker's frames: `[1|2, 0, 0, 0, length as 4 bytes big-endian]` and the bytes.
/// The end of output is the end of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attach {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// A socket handed to a monitor at launch; keep the other end of the pair.
#[derive(Debug)]
pub struct Attachment {
    pub socket: OwnedFd,
    pub streams: Attach,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 0 to 255; 128+n for signal n.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The kernel killed some process of the container for want of memory.
    pub oom_killed: bool,
    pub finished_at: Timestamp,
    /// The monitor was killed and nobody saw the true status; `code` is 137.
    pub lost: bool,
}

/// What a monitor says of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    pub pid: i32,
    pub started_at: Timestamp,
    pub exit: Option<Exit>,
    /// Connected clients of its streams.
    pub attached: u32,
}

/// What [`Task::reopen`] found.
#[derive(Debug)]
pub enum Reopened {
    Running(Task),
    /// It ended; whatever was left of it has been removed.
    Exited(Exit),
    /// There was never a task, or its run directory is gone.
    Absent,
}

/// A process started by [`crate::Spawner`].
#[derive(Debug)]
pub struct Task {}

impl Task {
    /// Finds the task of a run directory again after a restart of the daemon.
    pub fn reopen(_run_dir: &Path) -> Result<Reopened> {
        Err(Error::not_implemented("reopen"))
    }

    /// The process id of the task as the host sees it.
    pub fn pid(&self) -> i32 {
        0
    }

    /// Readable once the task has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        unreachable_fd()
    }

    pub fn started_at(&self) -> Timestamp {
        Timestamp::default()
    }

    /// What could not be done as asked but was no reason to fail, such as a hard limit that may not be raised.
    pub fn warnings(&self) -> &[String] {
        &[]
    }

    /// Sends a signal to the task's process. A task that has ended is [`barque_model::ErrorKind::NotFound`].
    pub fn kill(&self, _signal: Signal) -> Result<()> {
        Err(Error::not_implemented("kill"))
    }

    /// Sends a signal to every process of the container's cgroup; SIGKILL reaches all of them at once on v2.
    pub fn kill_all(&self, _signal: Signal) -> Result<()> {
        Err(Error::not_implemented("kill"))
    }

    /// Connects to the streams from now on.
    pub fn attach(&self, _streams: Attach) -> Result<UnixStream> {
        Err(Error::not_implemented("attach"))
    }

    /// Sets the size of the terminal.
    pub fn resize(&self, _rows: u16, _cols: u16) -> Result<()> {
        Err(Error::not_implemented("resize"))
    }

    /// Ends the task's standard input.
    pub fn close_stdin(&self) -> Result<()> {
        Err(Error::not_implemented("close stdin"))
    }

    /// Opens the log anew, after somebody moved or truncated it.
    pub fn reopen_log(&self) -> Result<()> {
        Err(Error::not_implemented("reopen log"))
    }

    pub fn status(&self) -> Result<TaskStatus> {
        Err(Error::not_implemented("status"))
    }

    /// A descriptor for `poll` or tokio's `AsyncFd`: readable once the task has ended and all its output
    /// is logged and delivered (or its monitor has died). [`Task::wait`] then returns at once.
    pub fn exit_fd(&self) -> BorrowedFd<'_> {
        unreachable_fd()
    }

    /// Waits for the end.
    pub fn wait(&self) -> Result<Exit> {
        Err(Error::not_implemented("wait"))
    }

    /// Waits at most `timeout`; `None`: still running.
    pub fn wait_timeout(&self, _timeout: Duration) -> Result<Option<Exit>> {
        Err(Error::not_implemented("wait"))
    }

    /// Waits until the monitor is gone too, with its cgroup and mounts: nothing of the task is left. An error
    /// after `timeout`.
    pub fn wait_gone(&self, _timeout: Duration) -> Result<()> {
        Err(Error::not_implemented("wait"))
    }

    /// Freezes all processes of the container.
    pub fn pause(&self) -> Result<()> {
        Err(Error::not_implemented("pause"))
    }

    pub fn resume(&self) -> Result<()> {
        Err(Error::not_implemented("resume"))
    }

    pub fn stats(&self) -> Result<Stats> {
        Err(Error::not_implemented("stats"))
    }

    /// All process ids of the container as the host sees them, ascending.
    pub fn pids(&self) -> Result<Vec<i32>> {
        Err(Error::not_implemented("pids"))
    }

    /// Changes limits of the running container; `None` fields stay as they are.
    pub fn update(&self, _resources: &Resources) -> Result<()> {
        Err(Error::not_implemented("update"))
    }

    /// The root of the container as `/proc/PID/root`, opened with `O_PATH`: for copying in and out.
    pub fn root(&self) -> Result<OwnedFd> {
        Err(Error::not_implemented("root"))
    }
}

fn unreachable_fd() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}
