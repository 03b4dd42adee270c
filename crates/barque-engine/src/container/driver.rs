//! One container's life: the only writer of its state.
//!
//! Every operation locks the container's [`Core`], asks the pure state machine, acts, writes the row and
//! publishes a new [`ContainerView`]. Nobody holds the lock while waiting for a process to end: such
//! waits watch the published views.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use barque_model::{Error, ErrorKind, Id, Result, Signal, Timestamp};
use barque_runtime::{LaunchError, LaunchErrorKind, Task};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::task::AbortHandle;

use super::exec::ExecEntry;
use super::health::Health;
use super::request::ContainerPaths;
use super::spec::ContainerSpec;
use super::state::{self, Denied, Effect, Event, Policy, StartFailure, State};
use super::view::{ContainerView, EndpointView, MountView, PublishedPort};
use crate::Engine;
use crate::network::plug::Plugged;

/// A container as the engine holds it.
pub struct Handle {
    pub id: Id,
    core: Mutex<Core>,
    view: watch::Sender<Arc<ContainerView>>,
    /// Held by who has the writable layer mounted while the container is down, and by a start until it has it. Taken
    /// before the core is locked.
    pub(crate) layer: Arc<Mutex<()>>,
    /// How many `restart`s are between its end and its start: `--rm` does not apply meanwhile.
    restarting: AtomicUsize,
    /// Sockets of clients that attached before the start.
    pub(crate) waiting: StdMutex<Vec<barque_runtime::task::Attachment>>,
    removed: watch::Sender<bool>,
}

/// A `restart` of a container that has not come to its end.
pub struct BeingRestarted(Arc<Handle>);

impl Drop for BeingRestarted {
    fn drop(&mut self) {
        self.0.restarting.fetch_sub(1, Relaxed);
    }
}

/// Tells when a container has been removed.
#[derive(Clone)]
pub struct Gone(watch::Receiver<bool>);

impl Gone {
    pub fn borrow_is_true(&self) -> bool {
        *self.0.borrow()
    }

    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // The sender going away means the same.
        let _gone = receiver.wait_for(|removed| *removed).await;
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "container {}", self.id)
    }
}

/// What changes.
pub struct Core {
    pub name: String,
    pub spec: Arc<ContainerSpec>,
    pub document: Arc<str>,
    pub state: State,
    pub restarts: u32,
    pub backoff: Option<Duration>,
    pub task: Option<Arc<Task>>,
    pub plugged: Option<Plugged>,
    /// Variables about `--link` targets, for the first process and every exec.
    pub link_env: Vec<String>,
    pub health: Option<Health>,
    pub execs: BTreeMap<Id, Arc<ExecEntry>>,
    /// Mounts as `inspect` shows them.
    pub mounts: Vec<MountView>,
    pub endpoints: Vec<EndpointView>,
    pub ports: Vec<PublishedPort>,
    pub error: Option<String>,
    /// The machine or the engine ended the last run, not the container itself: a start that follows is no restart.
    pub ended_from_outside: bool,
    /// Ends a wait for the next restart.
    pub restart_timer: Option<AbortHandle>,
    pub health_task: Option<AbortHandle>,
    /// What never changes.
    pub fixed: Arc<Fixed>,
}

/// The part of a container that is settled at its creation.
#[derive(Debug)]
pub struct Fixed {
    pub id: Id,
    pub created_at: Timestamp,
    pub paths: ContainerPaths,
    pub layers: Vec<std::path::PathBuf>,
    pub upper: std::path::PathBuf,
    pub work: std::path::PathBuf,
    pub platform: String,
    pub image_manifest: Option<String>,
}

/// The `state` column of a container's row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredState {
    pub state: State,
    pub restarts: u32,
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub health: Option<Health>,
    #[serde(default)]
    pub ended_from_outside: bool,
}

impl StoredState {
    /// That of a container which has never been started.
    pub fn created() -> StoredState {
        let state = State::Created { error: None };
        StoredState { state, restarts: 0, error: None, health: None, ended_from_outside: false }
    }
}

impl Core {
    fn policy(&self) -> Policy {
        Policy { restart: self.spec.restart, restarts: self.restarts, backoff: self.backoff }
    }

    pub fn stored_state(&self) -> Result<String> {
        let stored = StoredState {
            state: self.state.clone(),
            restarts: self.restarts,
            error: self.error.clone(),
            health: self.health.clone(),
            ended_from_outside: self.ended_from_outside,
        };
        serde_json::to_string(&stored).map_err(|e| Error::internal(format!("cannot write the state: {e}")))
    }

    /// Lets `event` happen to the state now.
    pub fn step(&mut self, event: Event) -> Result<Vec<Effect>, Denied> {
        self.step_at(event, Timestamp::now())
    }

    /// Lets `event`, which happened at `time`, happen to the state.
    pub fn step_at(&mut self, event: Event, time: Timestamp) -> Result<Vec<Effect>, Denied> {
        let (state, effects) = state::step(&self.state, event, self.policy(), time)?;
        self.state = state;
        Ok(effects)
    }

    pub fn view(&self) -> ContainerView {
        let fixed = &self.fixed;
        ContainerView {
            id: fixed.id,
            name: self.name.clone(),
            created_at: fixed.created_at,
            spec: self.spec.clone(),
            document: self.document.clone(),
            state: self.state.clone(),
            restart_count: self.restarts,
            health: self.health.clone(),
            endpoints: self.endpoints.clone(),
            ports: self.ports.clone(),
            mounts: self.mounts.clone(),
            exec_ids: self.execs.keys().copied().collect(),
            layers: fixed.layers.clone(),
            upper: fixed.upper.clone(),
            work: fixed.work.clone(),
            log_path: super::launch::log_path(&fixed.paths),
            hostname_path: fixed.paths.dir.join("hostname"),
            hosts_path: fixed.paths.dir.join("hosts"),
            resolv_conf_path: fixed.paths.dir.join("resolv.conf"),
            argv: self.spec.process.argv(),
            platform: fixed.platform.clone(),
            image_manifest: fixed.image_manifest.clone(),
            error: self.error.clone(),
        }
    }

    /// A start by the restart policy, after this wait.
    pub fn count_restart(&mut self, waited: Duration) {
        if !std::mem::take(&mut self.ended_from_outside) {
            self.restarts += 1;
        }
        self.backoff = Some(state::next_backoff(waited));
    }

    /// The running process, or Docker's refusal.
    pub fn running_task(&self) -> Result<Arc<Task>> {
        match (&self.state, &self.task) {
            (State::Running(_), Some(task)) => Ok(task.clone()),
            (State::Restarting { .. }, _) => Err(Error::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                self.fixed.id
            ))),
            _ => Err(Error::conflict(format!("container {} is not running", self.fixed.id))),
        }
    }
}

impl Handle {
    pub fn new(core: Core) -> Arc<Handle> {
        let view = watch::Sender::new(Arc::new(core.view()));
        let waiting = StdMutex::new(Vec::new());
        let removed = watch::Sender::new(false);
        let restarting = AtomicUsize::new(0);
        let (id, layer) = (core.fixed.id, Arc::default());
        Arc::new(Handle { id, core: Mutex::new(core), view, layer, restarting, waiting, removed })
    }

    /// From here on the container is not removed at its end, until the value is dropped.
    pub fn being_restarted(self: &Arc<Self>) -> BeingRestarted {
        self.restarting.fetch_add(1, Relaxed);
        BeingRestarted(self.clone())
    }

    fn is_being_restarted(&self) -> bool {
        self.restarting.load(Relaxed) > 0
    }

    pub fn gone(&self) -> Gone {
        Gone(self.removed.subscribe())
    }

    pub fn mark_removed(&self) {
        self.removed.send_replace(true);
    }

    pub fn view(&self) -> Arc<ContainerView> {
        self.view.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<Arc<ContainerView>> {
        self.view.subscribe()
    }

    pub async fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().await
    }

    /// Shows readers what `core` holds now.
    pub fn publish(&self, core: &Core) {
        self.view.send_replace(Arc::new(core.view()));
    }

    /// Whether it runs, for followers of its log.
    pub fn running(self: &Arc<Self>) -> watch::Receiver<bool> {
        let mut views = self.watch();
        let (sender, receiver) = watch::channel(views.borrow_and_update().state.is_running());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    changed = views.changed() => {
                        let running = changed.is_ok() && views.borrow_and_update().state.is_running();
                        if sender.send(running).is_err() || changed.is_err() {
                            return;
                        }
                    }
                    () = sender.closed() => return,
                }
            }
        });
        receiver
    }
}

/// Docker's words for what the state machine refuses.
fn denied(core: &Core, denied: Denied, what: &str) -> Error {
    let id = core.fixed.id;
    match denied {
        Denied::AlreadyStarted => Error::new(ErrorKind::NotModified, "container already started"),
        Denied::NotRunning => Error::conflict(format!("container {id} is not running")),
        Denied::Paused => Error::conflict(match what {
            "start" => "cannot start a paused container, try unpause instead".to_owned(),
            "pause" => format!("Container {id} is already paused"),
            "remove" => {
                format!("cannot remove container \"/{}\": container is paused and must be unpaused first", core.name)
            }
            _ => format!("Container {id} is paused, unpause the container before {what}"),
        }),
        Denied::NotPaused => Error::conflict(format!("Container {id} is not paused")),
        Denied::Running => Error::conflict(format!(
            "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
            core.name
        )),
        Denied::Restarting => Error::conflict(format!(
            "cannot remove container \"/{}\": container is restarting: stop the container before removing or force \
             remove",
            core.name
        )),
        Denied::Removing => Error::conflict(format!("removal of container {id} is already in progress")),
        Denied::Dead => Error::conflict("container is marked for removal and cannot be started"),
        Denied::Stale => Error::conflict(format!("container {id} has changed meanwhile")),
    }
}

impl Engine {
    pub(crate) async fn start_handle(&self, handle: &Arc<Handle>) -> Result<()> {
        let _own_layer = handle.layer.lock().await;
        let mut core = handle.lock().await;
        core.step(Event::StartRequested).map_err(|d| denied(&core, d, "start"))?;
        if let Some(timer) = core.restart_timer.take() {
            timer.abort();
        }
        core.restarts = 0;
        core.backoff = None;
        core.ended_from_outside = false;
        let result = self.launch(handle, &mut core).await;
        self.settle_start(handle, &mut core, result).await
    }

    /// Records how a launch went. The core is in `Starting`.
    async fn settle_start(
        &self,
        handle: &Arc<Handle>,
        core: &mut Core,
        launched: Result<Arc<Task>, LaunchError>,
    ) -> Result<()> {
        let outcome = match launched {
            Ok(task) => {
                let _started = core.step(Event::Started { pid: task.pid() });
                core.error = None;
                core.task = Some(task.clone());
                self.supervise(handle.clone(), task);
                core.health = None;
                self.start_health_checks(handle, core);
                Ok(())
            }
            Err(e) => {
                let error = start_error(e);
                let code = exit_code_of(&error);
                core.error = Some(error.to_string());
                let failure = StartFailure { message: error.to_string(), code, at: Timestamp::now() };
                let _failed = core.step(Event::StartFailed(failure));
                self.drop_waiting(handle);
                Err(error)
            }
        };
        handle.publish(core);
        self.keep_state(core);
        if outcome.is_ok() {
            self.container_event(core, "start", []);
        } else if core.spec.auto_remove {
            self.spawn_removal(handle.clone());
        }
        outcome
    }

    /// Attached clients of a container that did not start see the end of the stream.
    fn drop_waiting(&self, handle: &Handle) {
        handle.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn save_state(&self, core: &Core) -> Result<()> {
        let text = core.stored_state()?;
        self.store().write(|tx| tx.container_set_state(&core.fixed.id, &text))
    }

    /// As [`Engine::save_state`], where what happened has happened: a full disk must not keep anybody from stopping
    /// what fills it. After a restart the run directory tells of what the row does not.
    pub(crate) fn keep_state(&self, core: &Core) {
        if let Err(e) = self.save_state(core) {
            tracing::error!(container = %core.fixed.id, "cannot save the state: {}", e.chain());
        }
    }

    /// Waits for the end of a task in the background and draws the consequences.
    pub(crate) fn supervise(&self, handle: Arc<Handle>, task: Arc<Task>) {
        let engine = self.clone();
        tokio::spawn(async move {
            let exit = super::wait::exit_of(&task).await;
            engine.ended(&handle, &task, exit).await;
        });
    }

    async fn ended(&self, handle: &Arc<Handle>, task: &Arc<Task>, exit: barque_runtime::Exit) {
        let mut core = handle.lock().await;
        if !core.task.as_ref().is_some_and(|t| Arc::ptr_eq(t, task)) {
            return;
        }
        core.task = None;
        if let Some(health) = core.health_task.take() {
            health.abort();
        }
        let left = core.endpoints.clone();
        self.unplug(&mut core).await;
        let event = Event::ProcessExited { code: exit.code, oom_killed: exit.oom_killed };
        let Ok(effects) = core.step(event) else { return };
        core.ended_from_outside = self.is_stopping();
        // Who hears of the end and asks gets the new state.
        handle.publish(&core);
        self.keep_state(&core);
        if exit.oom_killed {
            self.container_event(&core, "oom", []);
        }
        let run = core.state.last_exit().and_then(|e| Some(e.finished_at.since(e.started_at?)));
        let duration = run.unwrap_or_default().as_secs().to_string();
        self.container_event(&core, "die", [("exitCode", exit.code.to_string()), ("execDuration", duration)]);
        self.tell_networks(&core, "disconnect", &left);
        self.tell_volumes(&core, "unmount");
        for effect in effects {
            if let Effect::ScheduleRestart(wait) = effect {
                self.schedule_restart(handle, &mut core, wait, wait);
            }
        }
        let removed =
            core.spec.auto_remove && !handle.is_being_restarted() && !matches!(core.state, State::Restarting { .. });
        drop(core);
        if removed {
            self.remove_ended(handle).await;
        }
    }

    /// Starts it again when `left` of its wait has passed.
    pub(crate) fn schedule_restart(&self, handle: &Arc<Handle>, core: &mut Core, wait: Duration, left: Duration) {
        let (engine, waiting) = (self.clone(), handle.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(left).await;
            engine.restart_due(&waiting, wait).await;
        });
        core.restart_timer = Some(timer.abort_handle());
    }

    async fn restart_due(&self, handle: &Arc<Handle>, waited: Duration) {
        let _own_layer = handle.layer.lock().await;
        let mut core = handle.lock().await;
        core.restart_timer = None;
        // An engine that stops starts nothing; the next one finds the container waiting.
        if self.is_stopping() || core.step(Event::RestartDue).is_err() {
            return;
        }
        core.count_restart(waited);
        let result = self.launch(handle, &mut core).await;
        if let Err(e) = self.settle_start(handle, &mut core, result).await {
            tracing::warn!(container = %handle.id, "restart failed: {}", e.chain());
        }
    }

    /// Marks that somebody wants it down, so that the restart policy does not apply. Tells whether a
    /// process is there to be signalled.
    pub(crate) async fn request_stop(&self, handle: &Arc<Handle>) -> Result<Option<Arc<Task>>> {
        let mut core = handle.lock().await;
        match core.step(Event::StopRequested) {
            Ok(effects) => {
                if effects.contains(&Effect::CancelRestart)
                    && let Some(timer) = core.restart_timer.take()
                {
                    timer.abort();
                }
                handle.publish(&core);
                self.keep_state(&core);
                Ok(core.task.clone().filter(|_| core.state.is_running()))
            }
            Err(Denied::NotRunning) => {
                Err(Error::new(ErrorKind::NotModified, format!("container {} is already stopped", handle.id)))
            }
            Err(d) => Err(denied(&core, d, "stop")),
        }
    }

    /// Sends a signal to the first process. One that asks to end ends a row of restarts, too, between two of them.
    pub(crate) async fn signal_handle(&self, handle: &Arc<Handle>, signal: Signal) -> Result<()> {
        let (waits, stops) = {
            let core = handle.lock().await;
            let waits = matches!(core.state, State::Restarting { .. });
            if !waits && core.running_task().is_err() {
                let id = handle.id;
                let text = format!("Cannot kill container: {id}: Container {id} is not running");
                return Err(Error::conflict(text));
            }
            let own = core.spec.stop_signal;
            (waits, signal == Signal::KILL || own.map_or_else(|| asks_to_end(signal), |own| own == signal))
        };
        let started = if stops { self.request_stop(handle).await?.is_some() } else { false };
        if waits && !started {
            return Ok(());
        }
        let core = handle.lock().await;
        let task = core.running_task()?;
        if stops && core.state.running().is_some_and(|r| r.paused) {
            task.resume()?;
        }
        self.send_signal(&core, &task, signal, stops)
    }

    pub(crate) async fn set_paused(&self, handle: &Arc<Handle>, paused: bool) -> Result<()> {
        let mut core = handle.lock().await;
        let (event, what) = if paused { (Event::Paused, "pause") } else { (Event::Unpaused, "unpause") };
        let before = core.state.clone();
        core.step(event).map_err(|d| denied(&core, d, what))?;
        let done = match core.running_task() {
            // A freezer may take seconds.
            Ok(task) => self.blocking(move || if paused { task.pause() } else { task.resume() }).await,
            Err(e) => Err(e),
        };
        if let Err(e) = done {
            core.state = before;
            return Err(e);
        }
        handle.publish(&core);
        self.keep_state(&core);
        self.container_event(&core, what, []);
        Ok(())
    }

    pub(crate) async fn begin_removal(&self, handle: &Arc<Handle>) -> Result<()> {
        let mut core = handle.lock().await;
        core.step(Event::RemoveRequested).map_err(|d| denied(&core, d, "remove"))?;
        if let Some(timer) = core.restart_timer.take() {
            timer.abort();
        }
        handle.publish(&core);
        Ok(())
    }

    pub(crate) fn container_event<const N: usize>(&self, core: &Core, action: &str, more: [(&str, String); N]) {
        let mut attributes: BTreeMap<String, String> = core.spec.labels.clone();
        attributes.insert("image".into(), core.spec.image_ref.clone());
        attributes.insert("name".into(), core.name.clone());
        attributes.extend(more.into_iter().map(|(k, v)| (k.to_owned(), v)));
        self.events().publish(crate::events::Event {
            kind: "container",
            action: action.to_owned(),
            actor: core.fixed.id.to_string(),
            attributes,
            time: Timestamp::now(),
        });
    }
}

/// Signals by which somebody wants a process to end; others, such as SIGHUP, often mean "read your settings again".
fn asks_to_end(signal: Signal) -> bool {
    const QUIT: i32 = 3;
    const ABRT: i32 = 6;
    [Signal::TERM, Signal::INT].contains(&signal) || [QUIT, ABRT].contains(&signal.number())
}

/// Docker's sentence around the runtime's reason; clients derive 126 and 127 from it.
fn start_error(e: LaunchError) -> Error {
    let kind = match e.kind {
        LaunchErrorKind::NotFound
        | LaunchErrorKind::PermissionDenied
        | LaunchErrorKind::ExecFormat
        | LaunchErrorKind::User
        | LaunchErrorKind::Cwd
        | LaunchErrorKind::Invalid => ErrorKind::InvalidArgument,
        _ => e.error.kind(),
    };
    let hint = e.error.hint().map(str::to_owned);
    let text = e.error.chain();
    // Docker looks users up itself, before it asks the runtime.
    let runtime = !matches!(e.kind, LaunchErrorKind::Other | LaunchErrorKind::Invalid | LaunchErrorKind::User);
    let message = if runtime {
        format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: \
             runc create failed: unable to start container process: {text}: unknown"
        )
    } else {
        text
    };
    let error = Error::new(kind, message);
    match hint {
        Some(h) => error.with_hint(h),
        None => error,
    }
}

fn exit_code_of(error: &Error) -> i32 {
    let text = error.message();
    match () {
        () if text.contains("executable file not found") || text.contains("no such file or directory") => 127,
        () if text.contains("permission denied") || text.contains("exec format error") => 126,
        () => 128,
    }
}
