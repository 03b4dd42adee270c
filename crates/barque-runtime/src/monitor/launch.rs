//! Starting a task from a request, and taking everything down again where that fails.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use barque_model::Timestamp;
use barque_sys::child::{self, CloneOptions, Context, Op, Report};
use barque_sys::process::CLONE_NEWPID;
use barque_sys::{bpf, process, pty};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::Inherited;
use super::log::Log;
use crate::cgroup::dir;
use crate::cgroup::live::oom_counter;
use crate::protocol::{Message, Stage};
use crate::request::{CgroupRequest, FdIndex, Request};
use crate::task::Attach;

/// How long a group may stay busy after its processes have ended.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);

/// A task that runs, and all its monitor needs.
pub(super) struct Running {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub started_at: Timestamp,
    pub master: Option<OwnedFd>,
    pub outputs: [Option<OwnedFd>; 2],
    pub stdin: Option<OwnedFd>,
    pub stdin_once: bool,
    pub log: Option<Log>,
    pub attachments: Vec<(OwnedFd, Attach)>,
    pub listen: OwnedFd,
    pub run_dir: OwnedFd,
    pub groups: Groups,
    pub hold: Option<OwnedFd>,
    /// The kernel does not kill the rest when the first process ends: they have no namespace of their own.
    pub kill_rest: bool,
}

pub(super) struct Launched {
    pub task: Running,
    pub warnings: Vec<Report>,
}

fn failed(stage: Stage, index: usize, e: impl Into<io::Error>) -> Message {
    let errno = e.into().raw_os_error().unwrap_or(Errno::IO.raw_os_error());
    Message::LaunchFailed { stage, index: u16::try_from(index).unwrap_or(u16::MAX), step: 0, errno }
}

/// Descriptors of a request, taken out one by one.
struct Fds(Vec<Option<OwnedFd>>);

impl Fds {
    fn take(&mut self, index: FdIndex) -> Result<OwnedFd, Message> {
        let fd = self.0.get_mut(usize::from(index)).and_then(Option::take);
        fd.ok_or_else(|| failed(Stage::Request, usize::from(index), Errno::BADF))
    }

    fn take_some(&mut self, index: Option<FdIndex>) -> Result<Option<OwnedFd>, Message> {
        index.map(|i| self.take(i)).transpose()
    }
}

/// Starts the task; the message says what went wrong.
pub(super) fn launch(request: Request, fds: Vec<OwnedFd>, inherited: Inherited) -> Result<Launched, Message> {
    let floor = RawFd::from(request.fd_floor);
    let fds = fds.into_iter().map(|fd| Ok(Some(above(fd, floor)?))).collect::<io::Result<Vec<_>>>();
    let mut fds = Fds(fds.map_err(|e| failed(Stage::Request, 0, e))?);
    let slots = (0..request.slots).map(|i| fds.take(i)).collect::<Result<Vec<_>, _>>()?;
    let (run_dir, proc, listen) = (fds.take(request.run_dir)?, fds.take(request.proc)?, fds.take(request.listen)?);
    let pid_namespace = fds.take_some(request.pid_namespace)?;
    let master = fds.take_some(request.master)?;
    let mut attachments = Vec::new();
    for (index, streams) in &request.attachments {
        attachments.push((fds.take(*index)?, *streams));
    }
    let log = match &request.log {
        None => None,
        Some(l) => {
            let log = Log::open(fds.take(l.dir)?, l.name.clone(), l.max_size, l.max_files);
            Some(log.map_err(|e| failed(Stage::Streams, 1, e))?)
        }
    };
    let mut groups = Groups::default();
    if let Err(e) = groups.enter_all(&request.cgroups, &mut fds) {
        groups.remove();
        return Err(e);
    }
    let hold = request.hold.and_then(|i| slots.get(usize::from(i))).and_then(|fd| fd.try_clone().ok());
    let mut streams = match Streams::open(master, request.stdin, floor) {
        Ok(streams) => streams,
        Err(e) => {
            groups.remove();
            return Err(failed(Stage::Streams, 0, e));
        }
    };
    let started = start(&request, &slots, &proc, pid_namespace, &groups, &streams, inherited, floor);
    let (child, warnings) = match started {
        Ok(started) => started,
        Err(e) => {
            groups.remove();
            return Err(e);
        }
    };
    streams.close_theirs();
    drop(slots);
    groups.close_entries();
    let Streams { master, outputs, stdin, .. } = streams;
    let task = Running {
        pid: child.pid,
        pidfd: child.pidfd,
        started_at: Timestamp::now(),
        master,
        outputs,
        stdin,
        stdin_once: request.stdin_once,
        log,
        attachments,
        listen,
        run_dir,
        groups,
        hold,
        kill_rest: request.namespaces & CLONE_NEWPID == 0,
    };
    Ok(Launched { task, warnings })
}

/// `fd` itself, or a copy where its number is wanted for the task's own descriptors.
fn above(fd: OwnedFd, floor: RawFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= floor { Ok(fd) } else { process::duplicate_above(fd.as_fd(), floor) }
}

/// Clones the child and waits until it has executed its program.
#[allow(clippy::too_many_arguments)]
fn start(
    request: &Request,
    slots: &[OwnedFd],
    proc: &OwnedFd,
    pid_namespace: Option<OwnedFd>,
    groups: &Groups,
    streams: &Streams,
    inherited: Inherited,
    floor: RawFd,
) -> Result<(child::Child, Vec<Report>), Message> {
    let ops = Op::decode_all(&request.ops).map_err(|e| failed(Stage::Request, 1, e))?;
    if let Some(ns) = pid_namespace {
        process::set_namespace(ns.as_fd(), CLONE_NEWPID).map_err(|e| failed(Stage::PidNamespace, 0, e))?;
    }
    let (reports, report) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(Stage::Streams, 2, e))?;
    let report = above(report, floor).map_err(|e| failed(Stage::Streams, 2, e))?;
    let table: Vec<RawFd> = groups.entries.iter().chain(slots).map(AsRawFd::as_raw_fd).collect();
    let context = Context {
        ops: &ops,
        fds: &table,
        proc: proc.as_raw_fd(),
        stdio: streams.theirs_raw(),
        report: report.as_raw_fd(),
        own_program: inherited.own_program,
        arguments: inherited.arguments,
    };
    let options = CloneOptions { namespaces: request.namespaces, cgroup: groups.v2_raw() };
    let child = child::spawn(&context, options).map_err(|e| failed(Stage::Clone, 0, e))?;
    drop(report);
    match read_reports(reports) {
        Ok(warnings) => Ok((child, warnings)),
        Err(message) => {
            reap(&child.pidfd);
            Err(message)
        }
    }
}

fn reap(pidfd: &OwnedFd) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    while let Err(Errno::INTR) = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {}
}

/// Reads the child's reports up to the end, which its execve makes. Warnings, or the failure.
fn read_reports(pipe: OwnedFd) -> Result<Vec<Report>, Message> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut std::fs::File::from(pipe), &mut bytes).map_err(|e| failed(Stage::Vanished, 0, e))?;
    let mut warnings = Vec::new();
    for chunk in bytes.chunks_exact(Report::LEN) {
        let Ok(chunk) = <[u8; Report::LEN]>::try_from(chunk) else { continue };
        let r = Report::from_bytes(chunk);
        if r.fatal {
            return Err(Message::LaunchFailed { stage: Stage::Operation, index: r.op, step: r.step, errno: r.errno });
        }
        warnings.push(r);
    }
    Ok(warnings)
}

/// Both ends of the standard streams.
struct Streams {
    master: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    stdin: Option<OwnedFd>,
    theirs: Vec<OwnedFd>,
}

impl Streams {
    fn open(master: Option<OwnedFd>, want_stdin: bool, floor: RawFd) -> io::Result<Streams> {
        if let Some(master) = master {
            let slave = above(pty::open_slave(&master)?, floor)?;
            rustix::io::ioctl_fionbio(&master, true)?;
            let outputs = [Some(master.try_clone()?), None];
            let stdin = if want_stdin { Some(master.try_clone()?) } else { None };
            return Ok(Streams { master: Some(master), outputs, stdin, theirs: vec![slave] });
        }
        let mut theirs = Vec::with_capacity(3);
        let stdin = if want_stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&write, true)?;
            theirs.push(above(read, floor)?);
            Some(write)
        } else {
            // Descriptor 0 of a monitor is /dev/null.
            theirs.push(process::duplicate_above(rustix::stdio::stdin(), floor.max(3))?);
            None
        };
        let mut outputs = [None, None];
        for output in &mut outputs {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&read, true)?;
            theirs.push(above(write, floor)?);
            *output = Some(read);
        }
        Ok(Streams { master: None, outputs, stdin, theirs })
    }

    fn theirs_raw(&self) -> [RawFd; 3] {
        match self.theirs.as_slice() {
            [a, b, c] => [a.as_raw_fd(), b.as_raw_fd(), c.as_raw_fd()],
            [slave] => [slave.as_raw_fd(); 3],
            _ => [-1; 3],
        }
    }

    fn close_theirs(&mut self) {
        self.theirs.clear();
    }
}

/// The cgroups of a task, in every hierarchy.
#[derive(Default)]
pub(super) struct Groups {
    /// Open `tasks` files of v1.
    entries: Vec<OwnedFd>,
    /// Groups of our own: parent, name, and the group.
    made: Vec<(OwnedFd, String, OwnedFd)>,
    /// The v2 group to be born in.
    v2: Option<OwnedFd>,
}

impl Groups {
    fn enter_all(&mut self, requests: &[CgroupRequest], fds: &mut Fds) -> Result<(), Message> {
        let mut writes = 0;
        for (i, request) in requests.iter().enumerate() {
            let group = self.open(i, request, fds)?;
            for (file, value, optional) in &request.writes {
                match dir::write(&group, file, value) {
                    Err(e) if !optional => return Err(failed(Stage::CgroupWrite, writes, e)),
                    _ => {}
                }
                writes += 1;
            }
            if !request.devices.is_empty() {
                let attach =
                    || bpf::attach_device_program(group.as_fd(), bpf::load_device_program(&request.devices)?.as_fd());
                attach().map_err(|e| failed(Stage::Devices, 0, e))?;
            }
            if request.v2 {
                self.v2 = Some(group);
            } else {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                let entry = rustix::fs::openat(&group, "tasks", flags, Mode::empty());
                self.entries.push(entry.map_err(|e| failed(Stage::CgroupCreate, i, e))?);
            }
        }
        Ok(())
    }

    fn open(&mut self, i: usize, request: &CgroupRequest, fds: &mut Fds) -> Result<OwnedFd, Message> {
        let parent = fds.take(request.dir)?;
        let Some(name) = &request.create else { return Ok(parent) };
        let group = dir::create(&parent, name).map_err(|e| failed(Stage::CgroupCreate, i, e))?;
        let copy = group.try_clone().map_err(|e| failed(Stage::CgroupCreate, i, e))?;
        self.made.push((parent, name.clone(), group));
        Ok(copy)
    }

    fn v2_raw(&self) -> Option<RawFd> {
        self.v2.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// What only the start needed.
    fn close_entries(&mut self) {
        self.entries.clear();
    }

    /// Whether the kernel killed in a group of ours for want of memory.
    pub(super) fn oom_killed(&self) -> bool {
        let count = |v2| {
            let (file, key) = oom_counter(v2);
            self.made.iter().find_map(|(_, _, group)| dir::read_key(group, file, key))
        };
        count(self.v2.is_some()).is_some_and(|n| n > 0)
    }

    /// Signals all that is left in groups of ours, once.
    pub(super) fn kill(&self) {
        for (_, _, group) in self.made.iter().take(1) {
            if dir::write(group, "cgroup.kill", "1").is_err() {
                let _ = dir::signal_all(group.as_fd(), barque_model::Signal::KILL.number());
            }
        }
    }

    /// Kills what is left in groups of ours and removes them.
    pub(super) fn remove(&mut self) {
        self.close_entries();
        self.v2 = None;
        for (parent, name, group) in self.made.drain(..) {
            if rustix::fs::unlinkat(&parent, name.as_str(), rustix::fs::AtFlags::REMOVEDIR).is_ok() {
                continue;
            }
            let _ = dir::kill_everything(group.as_fd(), REMOVE_PATIENCE);
            let _ = dir::remove(parent.as_fd(), &name, REMOVE_PATIENCE);
        }
    }
}
