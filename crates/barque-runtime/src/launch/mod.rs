//! Launching from the daemon's side: opens what the plan needs of the host, sends it to a fresh monitor and
//! puts the answer in words.

mod failure;
mod groups;
pub(crate) mod owners;
mod prepare;
mod run_dir;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use barque_model::{Error, Result};

use crate::cgroup::plan::Write;
use crate::error::{LaunchError, LaunchErrorKind};
use crate::plan::{Facts, Plan, Slot, compile, compile_exec};
use crate::protocol::Message;
use crate::request::{CgroupRequest, FdIndex, LogRequest, Request};
use crate::spawner::{Host, Spawner};
use crate::spec::{Caps, ExecSpec, Io, Process, Seccomp, Spec};
use crate::task::{Attachment, Record, Task};
use crate::users::{self, User};

use groups::NewGroups;
use prepare::{Opening, Terminal};
use run_dir::RunDir;

/// Descriptors on their way to the monitor, in the order of their indices.
#[derive(Default)]
struct Outgoing(Vec<Arc<OwnedFd>>);

impl Outgoing {
    fn add(&mut self, fd: impl Into<Arc<OwnedFd>>) -> FdIndex {
        self.0.push(fd.into());
        FdIndex::try_from(self.0.len() - 1).unwrap_or(FdIndex::MAX)
    }
}

/// A request under construction.
struct Launch {
    request: Request,
    fds: Outgoing,
    plan: Plan,
    /// All cgroup writes in the order the monitor makes them, to name one that fails.
    writes: Vec<Write>,
    warnings: Vec<String>,
}

fn kind(kind: LaunchErrorKind) -> impl FnOnce(Error) -> LaunchError {
    move |error| LaunchError { kind, error }
}

/// Starts a container.
pub(crate) fn container(spawner: &Spawner, spec: &Spec, attach: Vec<Attachment>) -> Result<Task, LaunchError> {
    let host = spawner.host();
    let run_dir = RunDir::acquire(&spec.run_dir)?;
    // Forked while we prepare; without a request it ends by itself.
    let monitor = spawner.monitor()?;
    let root = Arc::new(prepare::root(&spec.rootfs).map_err(kind(LaunchErrorKind::Mount))?);
    let user = users::lookup(root.as_fd(), &spec.process.user, &spec.process.groups);
    let user = user.map_err(kind(LaunchErrorKind::User))?;
    let groups = NewGroups::plan(host, spec).map_err(kind(LaunchErrorKind::Cgroup))?;
    let v1_groups = groups.v1_count();
    let facts = facts(host, user, groups.path.clone(), v1_groups, &spec.process, &spec.seccomp)?;
    let plan = compile(spec, &facts)?;
    let terminal = if spec.process.tty { Some(Terminal::open(&spec.process)?) } else { None };
    let mut slots = Vec::with_capacity(plan.slots.len());
    let opening = Opening { spec, root: &root, user: &facts.user, terminal: terminal.as_ref(), host };
    for slot in &plan.slots {
        slots.push(opening.slot(slot)?);
    }
    let hold = plan.slots.iter().position(|s| matches!(s, Slot::Rootfs));
    let mut launch = Launch::new(plan, slots, &spec.id, &run_dir, host)?;
    launch.request.hold = hold.and_then(|i| FdIndex::try_from(i).ok());
    let record = Record::container(&spec.id, groups.group.clone());
    launch.add_groups(groups);
    launch.add_streams(&spec.process, &spec.io, terminal.map(|t| t.master), attach)?;
    if let Some(join) = &launch.plan.pid_namespace {
        launch.request.pid_namespace = Some(launch.fds.add(prepare::namespace(join)?));
    }
    launch.send(monitor, run_dir, record)
}

/// Starts a further process in a container.
pub(crate) fn exec(
    spawner: &Spawner,
    container: &Task,
    spec: &ExecSpec,
    attach: Vec<Attachment>,
) -> Result<Task, LaunchError> {
    let host = spawner.host();
    let run_dir = RunDir::acquire(&spec.run_dir)?;
    let monitor = spawner.monitor()?;
    let root = container.root().map_err(kind(LaunchErrorKind::NotRunning))?;
    let user = users::lookup(root.as_fd(), &spec.process.user, &spec.process.groups);
    let user = user.map_err(kind(LaunchErrorKind::User))?;
    let dirs = prepare::exec_groups(container).map_err(kind(LaunchErrorKind::NotRunning))?;
    let v2 = container.group().v2;
    let facts = facts(host, user, String::new(), if v2 { 0 } else { dirs.len() }, &spec.process, &spec.seccomp)?;
    let plan = compile_exec(spec, container.id(), &facts)?;
    let pidfd = Arc::new(container.pidfd().try_clone_to_owned().map_err(Error::from)?);
    let mut slots = Vec::with_capacity(plan.slots.len());
    for slot in &plan.slots {
        slots.push(match slot {
            Slot::Extra(n) => spec.process.extra_fds[*n].clone(),
            _ => pidfd.clone(),
        });
    }
    let mut launch = Launch::new(plan, slots, &spec.id, &run_dir, host)?;
    launch.request.pid_namespace = Some(launch.fds.add(pidfd));
    for dir in dirs {
        let dir = launch.fds.add(dir);
        launch.request.cgroups.push(CgroupRequest { dir, v2, ..CgroupRequest::default() });
    }
    let master = if spec.process.tty { Some(prepare::exec_terminal(&root, &spec.process)?) } else { None };
    launch.add_streams(&spec.process, &spec.io, master, attach)?;
    launch.send(monitor, run_dir, Record::exec(&spec.id, container.group().clone()))
}

fn facts<'a>(
    host: &'a Host,
    user: User,
    cgroup_path: String,
    v1_groups: usize,
    process: &Process,
    seccomp: &Seccomp,
) -> Result<Facts<'a>> {
    let caps = Caps(process.capabilities.bounding.0 & host.caps);
    Ok(Facts {
        user,
        layout: &host.layout,
        cgroup_path,
        v1_groups,
        available_caps: host.caps,
        mount_setattr: host.features.mount_setattr,
        apparmor: host.features.apparmor,
        seccomp: host.seccomp.filter(seccomp, caps)?,
        init_program: host.init_program.is_some(),
    })
}

impl Launch {
    /// The descriptors of the plan's slots come first.
    fn new(plan: Plan, slots: Vec<Arc<OwnedFd>>, id: &str, run_dir: &RunDir, host: &Host) -> Result<Launch> {
        let extra = plan.slots.iter().filter(|s| matches!(s, Slot::Extra(_))).count();
        let mut fds = Outgoing(slots);
        let request = Request {
            title: id.to_owned(),
            ops: plan.ops.clone(),
            slots: FdIndex::try_from(plan.slots.len()).map_err(|_| Error::invalid("too many mounts"))?,
            namespaces: plan.namespaces,
            fd_floor: u16::try_from(3 + extra).map_err(|_| Error::invalid("too many descriptors"))?,
            run_dir: fds.add(run_dir.share()?),
            proc: fds.add(host.proc.clone()),
            listen: fds.add(run_dir.listen()?),
            ..Request::default()
        };
        Ok(Launch { request, fds, plan, writes: Vec::new(), warnings: Vec::new() })
    }

    fn add_groups(&mut self, groups: NewGroups) {
        for group in groups.groups {
            let dir = self.fds.add(group.parent);
            let writes = group.writes.iter().map(|w| (w.file.clone(), w.value.clone(), w.optional)).collect();
            let create = Some(group.name);
            self.request.cgroups.push(CgroupRequest { dir, v2: group.v2, create, writes, devices: group.devices });
            self.writes.extend(group.writes);
        }
        self.warnings.extend(groups.warnings);
    }

    fn add_streams(
        &mut self,
        process: &Process,
        io: &Io,
        master: Option<OwnedFd>,
        attach: Vec<Attachment>,
    ) -> Result<()> {
        debug_assert_eq!(process.tty, master.is_some());
        self.request.master = master.map(|m| self.fds.add(m));
        self.request.stdin = io.stdin;
        self.request.stdin_once = io.stdin_once;
        if let Some(log) = &io.log {
            let (dir, name) = prepare::log_place(log)?;
            let dir = self.fds.add(dir);
            self.request.log = Some(LogRequest { dir, name, max_size: log.max_size, max_files: log.max_files });
        }
        for attachment in attach {
            let fd = self.fds.add(attachment.socket);
            self.request.attachments.push((fd, attachment.streams));
        }
        Ok(())
    }

    /// Hands everything to a new monitor and waits for its answer.
    fn send(mut self, connection: UnixStream, run_dir: RunDir, record: Record) -> Result<Task, LaunchError> {
        run_dir.write_record(&record)?;
        let fds: Vec<BorrowedFd<'_>> = self.fds.0.iter().map(AsFd::as_fd).collect();
        let sent = self.request.send(&connection, &fds);
        drop(fds);
        // What the monitor has now must not be held open here: ends of pipes among them.
        self.fds.0.clear();
        let mut received = Vec::new();
        let answer = sent.and_then(|()| Message::receive(&connection, &mut received));
        match answer {
            Ok(Some(Message::Launched { pid, started_at, warnings })) => {
                let pidfd = received.pop().ok_or_else(|| Error::internal("the monitor sent no pidfd"))?;
                let mut all = self.warnings;
                all.extend(warnings.iter().map(|r| failure::warning(&self.plan, r)));
                Ok(Task::launched(run_dir.keep(), record, pid, pidfd, started_at, connection, all))
            }
            Ok(Some(Message::LaunchFailed { stage, index, step, errno })) => {
                let what = failure::What { stage, index: usize::from(index), step, errno };
                Err(failure::explain(&what, &self.plan, &self.writes))
            }
            Ok(_) => Err(Error::internal("the monitor died before it could start anything").into()),
            Err(e) => Err(Error::internal("cannot talk to the monitor").with_source(e).into()),
        }
    }
}
