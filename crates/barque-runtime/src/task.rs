//! A running (or ended) process with its monitor, as the daemon holds it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use barque_model::{Context, Error, Result, Signal, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::cgroup::stats::Stats;
use crate::monitor;
use crate::protocol::Message;
use crate::spec::Resources;

/// Name of a monitor's socket in the run directory.
pub(crate) const SOCKET: &str = "monitor.sock";

/// Name of the record of a task in its run directory.
pub(crate) const RECORD: &str = "task.json";

/// What a later daemon must know of a task besides what its monitor tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    id: String,
    /// The container's groups; a further process only uses them.
    group: Group,
    /// A further process: the groups outlive it.
    exec: bool,
}

impl Record {
    pub(crate) fn container(id: &str, group: Group) -> Record {
        Record { version: 1, id: id.to_owned(), group, exec: false }
    }

    pub(crate) fn exec(id: &str, group: Group) -> Record {
        Record { version: 1, id: id.to_owned(), group, exec: true }
    }
}

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

impl Attach {
    /// All three streams.
    pub const ALL: Attach = Attach { stdin: true, stdout: true, stderr: true };

    pub(crate) fn bits(self) -> u8 {
        u8::from(self.stdin) | u8::from(self.stdout) << 1 | u8::from(self.stderr) << 2
    }

    pub(crate) fn from_bits(bits: u8) -> Attach {
        Attach { stdin: bits & 1 != 0, stdout: bits & 2 != 0, stderr: bits & 4 != 0 }
    }
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
pub struct Task {
    run_dir: PathBuf,
    record: Record,
    pid: i32,
    pidfd: OwnedFd,
    started_at: Timestamp,
    warnings: Vec<String>,
    /// Told of the end by the monitor.
    events: UnixStream,
    exit: Mutex<Option<Exit>>,
}

impl Task {
    pub(crate) fn launched(
        run_dir: PathBuf,
        record: Record,
        pid: i32,
        pidfd: OwnedFd,
        started_at: Timestamp,
        events: UnixStream,
        warnings: Vec<String>,
    ) -> Task {
        Task { run_dir, record, pid, pidfd, started_at, warnings, events, exit: Mutex::new(None) }
    }

    /// Finds the task of a run directory again after a restart of the daemon.
    pub fn reopen(run_dir: &Path) -> Result<Reopened> {
        let dir = match open_dir(run_dir) {
            Err(Errno::NOENT) => return Ok(Reopened::Absent),
            other => other.with_context(|| format!("open {}", run_dir.display()))?,
        };
        let Some(record) = read_record(&dir)? else { return Ok(Reopened::Absent) };
        if let Some((events, status, pidfd)) = connect(&dir).ok().and_then(|s| ask_status(s).ok()) {
            let Message::StatusIs { pid, started_at, .. } = status else {
                return Err(Error::internal(format!("the monitor in {} answers nonsense", run_dir.display())));
            };
            Message::Wait.send(&events, &[]).context("talk to the monitor")?;
            let run_dir = run_dir.to_path_buf();
            let task = Task::launched(run_dir, record, pid, pidfd, started_at, events, Vec::new());
            return Ok(Reopened::Running(task));
        }
        wait_for_lock(&dir, GONE_PATIENCE)?;
        Ok(Reopened::Exited(settle(&dir, &record)?))
    }

    /// As given at launch.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The process id of the task as the host sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable once the task's process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// What could not be done as asked but was no reason to fail, such as a hard limit that may not be raised.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn group(&self) -> &Group {
        &self.record.group
    }

    /// Sends a signal to the task's process. A task that has ended is [`barque_model::ErrorKind::NotFound`].
    pub fn kill(&self, signal: Signal) -> Result<()> {
        barque_sys::process::send_signal(self.pidfd(), signal.number()).map_err(|e| match e {
            Errno::SRCH => Error::not_found("the process has ended"),
            e => Error::internal(format!("send {signal}")).with_source(e),
        })
    }

    /// Whether the kernel may drop a signal: the first process of a PID namespace gets none that it has no handler for
    /// (pid_namespaces(7)). A program that is just starting may have one in a moment; one that waits for signals
    /// (sigtimedwait(2)) looks the same and gets them.
    pub fn may_not_hear(&self, signal: Signal) -> bool {
        self.proc_status().is_some_and(|status| is_dropped(&status, signal))
    }

    /// Whether the process has a handler for a signal; `None` if it is gone.
    pub fn catches(&self, signal: Signal) -> Option<bool> {
        Some(in_set(&self.proc_status()?, "SigCgt:", signal))
    }

    /// proc_pid_status(5).
    fn proc_status(&self) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()
    }

    /// Sends a signal to every process of the container's cgroup; SIGKILL reaches all of them at once on v2.
    pub fn kill_all(&self, signal: Signal) -> Result<()> {
        self.group().signal(signal)
    }

    /// Connects to the streams from now on.
    pub fn attach(&self, streams: Attach) -> Result<UnixStream> {
        let socket = self.connect()?;
        match ask(&socket, &Message::Attach(streams))? {
            Message::Done => Ok(socket),
            other => Err(refused("attach", &other)),
        }
    }

    /// Sets the size of the terminal.
    pub fn resize(&self, rows: u16, cols: u16) -> Result<()> {
        self.order("resize", &Message::Resize { rows, cols })
    }

    /// Ends the task's standard input.
    pub fn close_stdin(&self) -> Result<()> {
        self.order("close the input of", &Message::CloseStdin)
    }

    /// Opens the log anew, after somebody moved or truncated it.
    pub fn reopen_log(&self) -> Result<()> {
        self.order("reopen the log of", &Message::ReopenLog)
    }

    pub fn status(&self) -> Result<TaskStatus> {
        let (_, status, _) = ask_status(self.connect()?)?;
        match status {
            Message::StatusIs { pid, started_at, attached, exit } => Ok(TaskStatus { pid, started_at, exit, attached }),
            other => Err(refused("ask for the status of", &other)),
        }
    }

    fn connect(&self) -> Result<UnixStream> {
        let dir = open_dir(&self.run_dir).map_err(|_| ended())?;
        connect(&dir).map_err(|_| ended())
    }

    fn order(&self, what: &str, message: &Message) -> Result<()> {
        match ask(&self.connect()?, message)? {
            Message::Done => Ok(()),
            other => Err(refused(what, &other)),
        }
    }

    /// A descriptor for `poll` or tokio's `AsyncFd`: readable once the task has ended and all its output
    /// is logged and delivered (or its monitor has died). [`Task::wait`] then returns at once.
    pub fn exit_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Waits for the end.
    pub fn wait(&self) -> Result<Exit> {
        wait_readable(self.exit_fd(), None)?;
        self.read_exit()
    }

    /// Waits at most `timeout`; `None`: still running.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Exit>> {
        if let Some(exit) = *self.exit.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return Ok(Some(exit));
        }
        if wait_readable(self.exit_fd(), Some(timeout))? { self.read_exit().map(Some) } else { Ok(None) }
    }

    /// Takes the monitor's last message; without one it has been killed, and what it stood for is settled here.
    fn read_exit(&self) -> Result<Exit> {
        let mut known = self.exit.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(exit) = *known {
            return Ok(exit);
        }
        let exit = match Message::receive(&self.events, &mut Vec::new()) {
            Ok(Some(Message::Exited(exit))) => exit,
            _ => match open_dir(&self.run_dir) {
                Ok(dir) => {
                    wait_for_lock(&dir, GONE_PATIENCE)?;
                    settle(&dir, &self.record)?
                }
                Err(_) => lost(false),
            },
        };
        *known = Some(exit);
        Ok(exit)
    }

    /// Waits until the monitor is gone too, with its cgroup and mounts: nothing of the task is left. An error
    /// after `timeout`.
    pub fn wait_gone(&self, timeout: Duration) -> Result<()> {
        let end = Instant::now() + timeout;
        let late = || Error::unavailable(format!("task {} does not end", self.record.id));
        self.wait_timeout(timeout)?.ok_or_else(late)?;
        match open_dir(&self.run_dir) {
            Ok(dir) => wait_for_lock(&dir, end.saturating_duration_since(Instant::now())),
            Err(_) => Ok(()),
        }
    }

    /// Freezes all processes of the container.
    pub fn pause(&self) -> Result<()> {
        self.group().freeze()
    }

    pub fn resume(&self) -> Result<()> {
        self.group().thaw()
    }

    pub fn stats(&self) -> Result<Stats> {
        self.group().stats()
    }

    /// All process ids of the container as the host sees them, ascending.
    pub fn pids(&self) -> Result<Vec<i32>> {
        self.group().pids()
    }

    /// Changes limits of the running container; `None` fields stay as they are.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        self.group().update(resources)
    }

    /// The root of the container's file system as its process sees it, opened with `O_PATH`: for copying in
    /// and out. Resolve paths below it with `RESOLVE_IN_ROOT`.
    pub fn root(&self) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{}/root", self.pid), flags, Mode::empty()).map_err(|_| ended())?;
        // The number may have been given to another process before the open, but not if this one still lives.
        if wait_readable(self.pidfd(), Some(Duration::ZERO))? { Err(ended()) } else { Ok(root) }
    }
}

/// How long a monitor that has reported the end may take to clean up.
const GONE_PATIENCE: Duration = Duration::from_secs(30);

fn ended() -> Error {
    Error::conflict("the task has ended")
}

fn refused(what: &str, answer: &Message) -> Error {
    match answer {
        Message::Failed { errno } => {
            let source = std::io::Error::from_raw_os_error(*errno);
            Error::internal(format!("cannot {what} the task")).with_source(source)
        }
        _ => Error::internal(format!("cannot {what} the task: its monitor answers nonsense")),
    }
}

fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn connect(dir: &OwnedFd) -> std::io::Result<UnixStream> {
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}

fn ask(socket: &UnixStream, question: &Message) -> Result<Message> {
    question.send(socket, &[]).map_err(|_| ended())?;
    let answer = Message::receive(socket, &mut Vec::new()).map_err(|_| ended())?;
    answer.ok_or_else(ended)
}

/// Asks for the status, and a pidfd of the task that no reuse of its number can mislead.
fn ask_status(socket: UnixStream) -> Result<(UnixStream, Message, OwnedFd)> {
    let mut fds = Vec::new();
    Message::Status.send(&socket, &[]).map_err(|_| ended())?;
    let answer = Message::receive(&socket, &mut fds).map_err(|_| ended())?.ok_or_else(ended)?;
    let pidfd = fds.pop().ok_or_else(|| Error::internal("the monitor sent no pidfd"))?;
    Ok((socket, answer, pidfd))
}

/// Waits for input or the end of a connection; false after `timeout`.
fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<bool> {
    let end = timeout.map(|t| Instant::now() + t);
    loop {
        let left = end.map(|e| e.saturating_duration_since(Instant::now()));
        let left = left.map(|l| Timespec { tv_sec: l.as_secs() as i64, tv_nsec: i64::from(l.subsec_nanos()) });
        match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::internal("poll").with_source(e)),
        }
    }
}

/// Waits until no monitor holds the run directory.
fn wait_for_lock(dir: &OwnedFd, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    loop {
        match rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                let _ = rustix::fs::flock(dir, FlockOperation::Unlock);
                return Ok(());
            }
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() < end => std::thread::sleep(pause),
            Err(e) => return Err(Error::unavailable("the monitor does not end").with_source(e)),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn read_record(dir: &OwnedFd) -> Result<Option<Record>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match rustix::fs::openat(dir, RECORD, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => std::fs::File::from(other.with_context(|| format!("open {RECORD}"))?),
    };
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, 1 << 20), &mut text).context("read the task's record")?;
    serde_json::from_slice(&text).context("the task's record is damaged").map(Some)
}

/// The exit of a task whose monitor is gone. One that left no record was killed: its task died with it, and
/// what it could not clean up is cleaned up here.
fn settle(dir: &OwnedFd, record: &Record) -> Result<Exit> {
    let recorded = monitor::read_exit(dir).unwrap_or_default();
    let exit = match recorded {
        Some(exit) => exit,
        None => {
            let exit = lost(!record.exec && record.group.oom_killed());
            monitor::write_exit(dir, &exit).context("record the end of a lost task")?;
            exit
        }
    };
    if !record.exec {
        record.group.remove()?;
    }
    let _ = rustix::fs::unlinkat(dir, SOCKET, AtFlags::empty());
    Ok(exit)
}

fn lost(oom_killed: bool) -> Exit {
    Exit { code: 137, signal: Some(9), oom_killed, finished_at: Timestamp::now(), lost: true }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

fn in_set(status: &str, name: &str, signal: Signal) -> bool {
    let set = field(status, name).and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_none_or(|set| set & (1 << (signal.number() - 1)) != 0)
}

/// Neither blocked, ignored nor caught.
fn is_dropped(status: &str, signal: Signal) -> bool {
    let first = field(status, "NSpid:").is_some_and(|ids| ids.split_whitespace().last() == Some("1"));
    let minded = ["SigBlk:", "SigIgn:", "SigCgt:"].into_iter().any(|set| in_set(status, set, signal));
    first && signal != Signal::KILL && !minded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_process_hears_what_it_minds() {
        let status = |pids: &str, caught: &str| {
            format!(
                "Name:\tsh\nNSpid:\t{pids}\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\nSigCgt:\t{caught}\n"
            )
        };
        let dropped = |pids: &str, caught: &str, signal| is_dropped(&status(pids, caught), signal);
        assert!(dropped("900\t1", "0000000000000002", Signal::TERM));
        assert!(!dropped("900\t1", "0000000000004000", Signal::TERM), "caught");
        assert!(!dropped("900\t1", "0000000000000000", Signal::HUP), "ignored by its own will");
        assert!(!dropped("900\t1", "0000000000000000", Signal::KILL), "always heard");
        assert!(!dropped("900\t7", "0000000000000000", Signal::TERM), "not the first");
        assert!(!dropped("900", "0000000000000000", Signal::TERM), "in the machine's namespace");
        assert!(!is_dropped("", Signal::TERM));
    }
}
