//! Further processes in running containers.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use barque_model::{Context as _, Error, ErrorKind, Id, Result};
use barque_runtime::spec as rs;
use barque_runtime::task::{Attach, Attachment};
use barque_runtime::{LaunchError, LaunchErrorKind, Task};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;

use super::driver::{Core, Handle};
use super::request::{AttachStream, ExecSpec, ExecView};
use super::spec::ContainerSpec;
use crate::Engine;

/// Ended execs that a container keeps for `inspect`.
const ENDED_KEPT: usize = 32;

/// An exec from its creation to the end of its container.
#[derive(Debug)]
pub struct ExecEntry {
    pub id: Id,
    pub container: Id,
    pub spec: ExecSpec,
    state: Mutex<ExecState>,
    /// Turns true once the exit status is known.
    ended: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct ExecState {
    started: bool,
    task: Option<Arc<Task>>,
    pid: i32,
    exit_code: Option<i32>,
}

/// How to start one.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecStart {
    pub detach: bool,
    /// Overrides what was said at the creation.
    pub tty: Option<bool>,
    pub console_size: Option<(u16, u16)>,
}

impl ExecEntry {
    fn state(&self) -> std::sync::MutexGuard<'_, ExecState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> bool {
        self.state().exit_code.is_some()
    }

    fn set_ended(&self, code: i32) {
        {
            let mut state = self.state();
            state.exit_code = Some(code);
            state.task = None;
        }
        self.ended.send_replace(true);
    }
}

impl Engine {
    /// Describes a process to be started in a running container.
    pub async fn exec_create(&self, container: &str, spec: ExecSpec) -> Result<Id> {
        let handle = self.find(container)?;
        let mut core = handle.lock().await;
        core.running_task()?;
        if core.state.running().is_some_and(|r| r.paused) {
            return Err(Error::conflict(format!("container {container} is paused, unpause the container before exec")));
        }
        if spec.process.argv().is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        let entry = Arc::new(ExecEntry {
            id: Id::random(),
            container: handle.id,
            spec,
            state: Mutex::default(),
            ended: watch::Sender::new(false),
        });
        forget_ended(self, &mut core);
        core.execs.insert(entry.id, entry.clone());
        self.put_exec(entry.clone());
        handle.publish(&core);
        let command = event_words(&entry.spec.process.argv());
        self.container_event(&core, &format!("exec_create: {command}"), [("execID", entry.id.to_string())]);
        Ok(entry.id)
    }

    /// Starts it; connected unless detached.
    pub async fn exec_start(&self, id: &str, start: ExecStart) -> Result<Option<AttachStream>> {
        let entry = self.exec_entry(id)?;
        let handle = self.find(&entry.container.to_string())?;
        // What is refused for the container's state may be started later.
        able_to_exec(&*handle.lock().await)?;
        {
            let mut state = entry.state();
            if state.started {
                return Err(Error::conflict(format!("Error: Exec command {id} has already run")));
            }
            state.started = true;
        }
        let tty = start.tty.unwrap_or(entry.spec.process.tty) || entry.spec.process.tty;
        let (socket, attach) = if start.detach {
            (None, Vec::new())
        } else {
            let (ours, theirs) = StdUnixStream::pair().context("cannot make a socket pair")?;
            let p = &entry.spec.process;
            let streams = Attach { stdin: p.attach_stdin, stdout: p.attach_stdout, stderr: p.attach_stderr };
            (Some(ours), vec![Attachment { socket: theirs.into(), streams }])
        };
        let launched = self.launch_exec(&handle, &entry, start, tty, attach).await;
        let task = match launched {
            Ok(task) => task,
            Err(e) => {
                entry.set_ended(exec_exit_code(e.kind));
                let error = exec_error(e);
                // Clients with a terminal or pipe see the reason in the stream, and the status by asking for it.
                if start.detach || error.kind() != ErrorKind::InvalidArgument {
                    return Err(error);
                }
                return Ok(Some(reason_stream(&error, tty)));
            }
        };
        self.exec_started(&handle, &entry, task).await;
        match socket {
            None => Ok(None),
            Some(socket) => {
                let (output, input) = super::attach::split(socket)?;
                let mut ended = entry.ended.subscribe();
                let known = async move { drop(ended.wait_for(|ended| *ended).await) };
                let output = UntilKnown { output, known: Box::pin(known) };
                Ok(Some(AttachStream { output: Box::pin(output), input: Box::pin(input), tty }))
            }
        }
    }

    async fn launch_exec(
        &self,
        handle: &Arc<Handle>,
        entry: &Arc<ExecEntry>,
        start: ExecStart,
        tty: bool,
        attach: Vec<Attachment>,
    ) -> Result<Arc<Task>, LaunchError> {
        let (container, spec, link_env) = {
            let core = handle.lock().await;
            (able_to_exec(&core)?, core.spec.clone(), core.link_env.clone())
        };
        let mut runtime = self.exec_runtime(&spec, &entry.spec, &link_env)?;
        runtime.id = entry.id.to_string();
        runtime.run_dir = self.exec_dir(&entry.container, &entry.id);
        runtime.process.tty = tty;
        runtime.process.console_size = start.console_size.or(entry.spec.process.console_size);
        let engine = self.clone();
        let launched = tokio::task::spawn_blocking(move || engine.spawner().exec(&container, &runtime, attach)).await;
        launched.map_err(|e| Error::internal(format!("the launch broke off: {e}")))?.map(Arc::new)
    }

    fn exec_dir(&self, container: &Id, exec: &Id) -> PathBuf {
        self.container_paths(container).run_dir.join("execs").join(exec.to_string())
    }

    /// An exec's process: the container's environment and directory unless it names its own.
    fn exec_runtime(&self, spec: &ContainerSpec, exec: &ExecSpec, link_env: &[String]) -> Result<rs::ExecSpec> {
        let mut process = exec.process.clone();
        if process.working_dir.is_empty() {
            process.working_dir.clone_from(&spec.process.working_dir);
        }
        if process.user.is_empty() {
            process.user.clone_from(&spec.process.user);
            process.group_add.clone_from(&spec.process.group_add);
        }
        let mut with_tty = spec.clone();
        with_tty.process.tty = process.tty;
        let mut env = super::start::environment(&with_tty, link_env);
        let key = |e: &str| e.split('=').next().unwrap_or_default().to_owned();
        for own in &process.env {
            env.retain(|e| key(e) != key(own));
            if own.contains('=') {
                env.push(own.clone());
            }
        }
        let mut security = spec.security.clone();
        security.privileged |= exec.privileged;
        let mut runtime = super::launch::process(&process, &security, env)?;
        runtime.rlimits = super::launch::rlimits(&spec.ulimits, &self.config().default_ulimits)?;
        runtime.oom_score_adj = spec.resources.oom_score_adj;
        runtime.no_new_privileges = spec.security.no_new_privileges.unwrap_or(self.config().no_new_privileges);
        Ok(rs::ExecSpec {
            id: String::new(),
            run_dir: PathBuf::new(),
            process: runtime,
            seccomp: super::launch::seccomp(&security, self.config()),
            apparmor: super::launch::apparmor(&security),
            io: rs::Io { stdin: process.attach_stdin, stdin_once: true, log: None },
        })
    }

    async fn exec_started(&self, handle: &Arc<Handle>, entry: &Arc<ExecEntry>, task: Arc<Task>) {
        {
            let mut state = entry.state();
            state.pid = task.pid();
            state.task = Some(task.clone());
        }
        let command = event_words(&entry.spec.process.argv());
        self.container_event(
            &*handle.lock().await,
            &format!("exec_start: {command}"),
            [("execID", entry.id.to_string())],
        );
        let (engine, handle, entry) = (self.clone(), handle.clone(), entry.clone());
        tokio::spawn(async move {
            let exit = super::wait::exit_of(&task).await;
            entry.set_ended(exit.code);
            let dir = engine.exec_dir(&entry.container, &entry.id);
            let _gone_with_the_container = tokio::fs::remove_dir_all(dir).await;
            let core = handle.lock().await;
            engine.container_event(
                &core,
                "exec_die",
                [("execID", entry.id.to_string()), ("exitCode", exit.code.to_string())],
            );
        });
    }

    pub async fn exec_inspect(&self, id: &str) -> Result<ExecView> {
        let entry = self.exec_entry(id)?;
        let state = entry.state();
        Ok(ExecView {
            id: entry.id,
            container_id: entry.container,
            spec: entry.spec.clone(),
            running: state.task.is_some(),
            exit_code: state.exit_code,
            pid: state.pid,
            can_remove: false,
        })
    }

    /// The exit status of an exec, once it has one.
    pub(crate) async fn exec_exit_code(&self, entry: &Arc<ExecEntry>) -> i32 {
        let task = entry.state().task.clone();
        if let Some(task) = task {
            return super::wait::exit_of(&task).await.code;
        }
        entry.state().exit_code.unwrap_or(-1)
    }

    pub(crate) fn kill_exec(&self, entry: &Arc<ExecEntry>) {
        if let Some(task) = entry.state().task.clone() {
            let _already_gone = task.kill(barque_model::Signal::KILL);
        }
    }

    pub async fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        let entry = self.exec_entry(id)?;
        let task = entry.state().task.clone();
        match task {
            Some(task) => task.resize(rows, cols),
            None => Err(Error::conflict(format!("exec process {id} is not running"))),
        }
    }
}

/// The task a command may be started beside.
fn able_to_exec(core: &Core) -> Result<Arc<Task>> {
    if core.state.running().is_some_and(|r| r.paused) {
        let id = core.fixed.id;
        return Err(Error::conflict(format!("Container {id} is paused, unpause the container before exec")));
    }
    core.running_task()
}

/// What a client of an exec that could not start reads.
fn reason_stream(error: &Error, tty: bool) -> AttachStream {
    let text = format!("{}\r\n", error.message());
    let mut bytes = Vec::with_capacity(text.len() + 8);
    if !tty {
        bytes.extend_from_slice(&super::attach::frame_header(false, text.len()));
    }
    bytes.extend_from_slice(text.as_bytes());
    AttachStream { output: Box::pin(std::io::Cursor::new(bytes)), input: Box::pin(tokio::io::sink()), tty }
}

/// Output whose end comes only once the exit status is known: clients ask for it as soon as they see the end.
struct UntilKnown<R> {
    output: R,
    known: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<R: AsyncRead + Unpin> AsyncRead for UntilKnown<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        // A process that ends before it has read its input resets the connection: that is its end, too.
        let read = ready!(Pin::new(&mut self.output).poll_read(cx, buf));
        let is_end = read.is_err() || (buf.filled().len() == before && buf.remaining() > 0);
        if is_end {
            ready!(self.known.as_mut().poll(cx));
            self.known = Box::pin(std::future::ready(()));
        }
        read.or_else(|e| if e.kind() == std::io::ErrorKind::ConnectionReset { Ok(()) } else { Err(e) }).into()
    }
}

/// A command as events name it: the program, a space, its arguments. Docker writes the space also where none follow.
fn event_words(argv: &[String]) -> String {
    let (program, arguments) = argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    format!("{program} {}", arguments.join(" "))
}

fn forget_ended(engine: &Engine, core: &mut Core) {
    let ended: Vec<Id> = core.execs.values().filter(|e| e.ended()).map(|e| e.id).collect();
    for id in ended.iter().take(ended.len().saturating_sub(ENDED_KEPT)) {
        core.execs.remove(id);
        engine.drop_exec(id);
    }
}

/// Of a process that could not be started in a container that runs: what is not there is 127, all else 126.
fn exec_exit_code(kind: LaunchErrorKind) -> i32 {
    if kind == LaunchErrorKind::NotFound { 127 } else { 126 }
}

/// Docker's sentence around the runtime's reason.
fn exec_error(e: LaunchError) -> Error {
    use LaunchErrorKind as K;
    let text = e.error.chain();
    match e.kind {
        // Docker looks users up itself, before it asks the runtime.
        K::User => Error::new(ErrorKind::InvalidArgument, text),
        K::NotFound | K::PermissionDenied | K::ExecFormat | K::Cwd => Error::new(
            ErrorKind::InvalidArgument,
            format!("OCI runtime exec failed: exec failed: unable to start container process: {text}: unknown"),
        ),
        _ => e.error,
    }
}
