//! Start, stop, kill, restart, pause, rename, update, wait, remove; and taking up after a restart of the engine.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use barque_model::{Context, Error, ErrorKind, Result, Signal, Timestamp};
use barque_runtime::Task;
use barque_runtime::task::Reopened;

use super::driver::{Core, Fixed, Handle, StoredState};
use super::request::{RemoveOptions, StopOptions, UpdateContainer, WaitCondition, WaitResult};
use super::spec::{ContainerSpec, MountSource, RestartPolicy};
use super::state::{Event, State};
use super::{names, wait};
use crate::Engine;

/// Seconds before SIGKILL where nobody says otherwise.
const STOP_TIMEOUT_SECS: i64 = 10;
/// How long a process may take to die of SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// How long a program may take until it hears signals.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

impl Engine {
    pub async fn container_start(&self, name: &str) -> Result<()> {
        let handle = self.find(name)?;
        self.start_handle(&handle).await
    }

    pub async fn container_stop(&self, name: &str, options: StopOptions) -> Result<()> {
        let handle = self.find(name)?;
        self.stop_handle(&handle, options).await
    }

    async fn stop_handle(&self, handle: &Arc<Handle>, options: StopOptions) -> Result<()> {
        match self.request_stop(handle).await? {
            Some(task) => self.end_task(handle, task, options).await,
            None => Ok(()),
        }
    }

    /// Stops for the engine's own end: the container comes back with it if its policy says so.
    pub(crate) async fn stop_for_shutdown(&self, handle: &Arc<Handle>, secs: i64) -> Result<()> {
        let task = handle.lock().await.running_task()?;
        self.end_task(handle, task, StopOptions { signal: None, timeout_secs: Some(secs) }).await
    }

    /// Asks the process to end, and makes it when its time is over.
    async fn end_task(&self, handle: &Arc<Handle>, task: Arc<Task>, options: StopOptions) -> Result<()> {
        let view = handle.view();
        let signal = options.signal.or(view.spec.stop_signal).unwrap_or(Signal::TERM);
        let secs = options.timeout_secs.or(view.spec.stop_timeout_secs).unwrap_or(STOP_TIMEOUT_SECS);
        if view.state.running().is_some_and(|r| r.paused) {
            // A freezer may take seconds.
            let frozen = task.clone();
            self.blocking(move || frozen.resume()).await?;
        }
        self.signal_task(handle, &task, signal).await?;
        let patience = u64::try_from(secs).ok().map(Duration::from_secs);
        if !wait::stopped_within(handle, patience).await {
            self.signal_task(handle, &task, Signal::KILL).await?;
            if !wait::stopped_within(handle, Some(KILL_LIMIT)).await {
                // The first process is gone or stuck, but something still holds its output.
                let _all = self.blocking(move || task.kill_all(Signal::KILL)).await;
                wait::must_stop_within(handle, KILL_LIMIT).await?;
            }
        }
        let core = handle.lock().await;
        self.container_event(&core, "stop", []);
        Ok(())
    }

    async fn signal_task(&self, handle: &Arc<Handle>, task: &Arc<Task>, signal: Signal) -> Result<()> {
        // Locked first: the event comes before that of the end it brings about.
        let core = handle.lock().await;
        self.send_signal(&core, task, signal, true)
    }

    /// Sends a signal and tells of it. One that is to end the container is sent again to a first process that has no
    /// handler for it yet, once it has: a program that is just starting would never know.
    pub(crate) fn send_signal(&self, core: &Core, task: &Arc<Task>, signal: Signal, stops: bool) -> Result<()> {
        let unheard = stops && task.may_not_hear(signal);
        // A process that ended meanwhile is what the caller wanted.
        task.kill(signal).or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
        if unheard {
            tokio::spawn(once_caught(task.clone(), signal));
        }
        self.container_event(core, "kill", [("signal", signal.number().to_string())]);
        Ok(())
    }

    pub async fn container_restart(&self, name: &str, options: StopOptions) -> Result<()> {
        let handle = &self.find(name)?;
        let _not_removed = handle.being_restarted();
        match self.stop_handle(handle, options).await {
            Err(e) if e.kind() != ErrorKind::NotModified => return Err(e),
            _ => {}
        }
        match self.start_handle(handle).await {
            // Somebody was quicker: it runs, anew.
            Err(e) if e.kind() == ErrorKind::NotModified => {}
            started => started?,
        }
        let core = handle.lock().await;
        self.container_event(&core, "restart", []);
        Ok(())
    }

    pub async fn container_kill(&self, name: &str, signal: Signal) -> Result<()> {
        let handle = self.find(name)?;
        self.signal_handle(&handle, signal).await?;
        if signal == Signal::KILL {
            // `docker kill` returns once the container is down.
            wait::must_stop_within(&handle, KILL_LIMIT).await?;
        }
        Ok(())
    }

    pub async fn container_pause(&self, name: &str) -> Result<()> {
        self.set_paused(&self.find(name)?, true).await
    }

    pub async fn container_unpause(&self, name: &str) -> Result<()> {
        self.set_paused(&self.find(name)?, false).await
    }

    /// Registers a waiter; the future inside resolves when the condition is met.
    pub async fn container_wait(
        &self,
        name: &str,
        condition: WaitCondition,
    ) -> Result<impl Future<Output = Result<WaitResult>> + Send + 'static> {
        let handle = self.find(name)?;
        Ok(wait::wait(&handle, condition))
    }

    pub async fn container_rename(&self, name: &str, new_name: &str) -> Result<()> {
        let handle = self.find(name)?;
        if new_name.trim_start_matches('/').is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let new_name = names::checked(new_name)?.to_owned();
        let mut core = handle.lock().await;
        if core.name == new_name {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        self.store().write(|tx| tx.container_rename(&handle.id, &new_name))?;
        let old = std::mem::replace(&mut core.name, new_name.clone());
        for endpoint in &mut core.endpoints {
            for known in endpoint.dns_names.iter_mut().filter(|n| **n == old) {
                known.clone_from(&new_name);
            }
        }
        if core.state.is_running() {
            for endpoint in core.endpoints.iter().filter(|e| !e.dns_names.is_empty()) {
                let record = self.network_record(&endpoint.network_id)?;
                self.set_name(&record.def, &handle.id, Some(crate::network::plug::name_entry(endpoint)));
            }
        }
        let (endpoints, fixed) = (core.endpoints.clone(), core.fixed.clone());
        if let Some(plugged) = core.plugged.as_mut().filter(|p| !p.endpoints.is_empty()) {
            plugged.endpoints = endpoints;
            // A later engine is to know the new name too.
            self.remember_plugged(&fixed.paths.run_dir, plugged)?;
        }
        handle.publish(&core);
        self.container_event(&core, "rename", [("oldName", format!("/{old}"))]);
        Ok(())
    }

    pub async fn container_update(&self, name: &str, update: UpdateContainer) -> Result<Vec<String>> {
        let handle = self.find(name)?;
        let mut core = handle.lock().await;
        if matches!(core.state, State::Removing { .. } | State::Dead { .. }) {
            return Err(Error::conflict("container is marked for removal and cannot be \"update\""));
        }
        let mut spec = (*core.spec).clone();
        if let Some(restart) = update.restart {
            if spec.auto_remove && !matches!(restart, RestartPolicy::No) {
                return Err(Error::conflict(
                    "Restart policy cannot be updated because AutoRemove is enabled for the container",
                ));
            }
            spec.restart = restart;
        }
        if let Some(resources) = update.resources {
            if let Some(task) = core.task.clone() {
                let limits = super::limits::resources(&resources)?;
                self.blocking(move || task.update(&limits)).await?;
            }
            spec.resources = resources;
        }
        core.spec = Arc::new(spec);
        if let Some(document) = update.document {
            core.document = document.into();
        }
        self.save_spec(&core)?;
        handle.publish(&core);
        self.container_event(&core, "update", []);
        Ok(Vec::new())
    }

    pub(crate) fn save_spec(&self, core: &Core) -> Result<()> {
        let spec = serde_json::to_string(&*core.spec).map_err(|e| Error::internal(e.to_string()))?;
        self.store().write(|tx| {
            tx.container_set_spec(&core.fixed.id, &spec)?;
            tx.container_set_document(&core.fixed.id, &core.document)
        })
    }

    pub async fn container_resize(&self, name: &str, rows: u16, cols: u16) -> Result<()> {
        let handle = self.find(name)?;
        let core = handle.lock().await;
        let task = core.running_task()?;
        self.blocking(move || task.resize(rows, cols)).await?;
        self.container_event(&core, "resize", [("height", rows.to_string()), ("width", cols.to_string())]);
        Ok(())
    }

    pub async fn container_remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let handle = self.find(name)?;
        // A restart may come between a kill and the removal: then it is killed once more.
        loop {
            if options.force && handle.view().state.is_up() {
                self.end_for_removal(&handle).await?;
                if handle.view().spec.auto_remove {
                    return wait::removed(&handle).await;
                }
            }
            match self.begin_removal(&handle).await {
                // Somebody else removes it: done when they are.
                Err(e) if options.force && e.message().contains("already in progress") => {
                    return wait::removed(&handle).await;
                }
                Err(_) if options.force && handle.view().state.is_up() => {}
                Err(e) => return Err(e),
                Ok(()) => return self.finish_removal(&handle, options.volumes).await,
            }
        }
    }

    /// Kills what runs, and ends the wait of a restart policy.
    async fn end_for_removal(&self, handle: &Arc<Handle>) -> Result<()> {
        let ended = match handle.view().state {
            State::Restarting { .. } => self.request_stop(handle).await.map(drop),
            _ => self.signal_handle(handle, Signal::KILL).await,
        };
        match ended {
            Err(e) if !matches!(e.kind(), ErrorKind::Conflict | ErrorKind::NotModified) => Err(e),
            _ => wait::must_stop_within(handle, KILL_LIMIT).await,
        }
    }

    pub(crate) fn spawn_removal(&self, handle: Arc<Handle>) {
        let engine = self.clone();
        tokio::spawn(async move { engine.remove_ended(&handle).await });
    }

    /// `--rm`: away with it and its anonymous volumes.
    pub(crate) async fn remove_ended(&self, handle: &Arc<Handle>) {
        // It may be what has filled the disk.
        self.make_room();
        let removed = match self.begin_removal(handle).await {
            Ok(()) => self.finish_removal(handle, true).await,
            Err(e) => Err(e),
        };
        if let Err(e) = removed
            && e.kind() != ErrorKind::Conflict
        {
            tracing::error!(container = %handle.id, "cannot remove: {}", e.chain());
        }
    }

    /// Takes away all that a container in `Removing` has.
    async fn finish_removal(&self, handle: &Arc<Handle>, volumes: bool) -> Result<()> {
        let (spec, fixed) = {
            let core = handle.lock().await;
            (core.spec.clone(), core.fixed.clone())
        };
        let engine = self.clone();
        let result = self.blocking(move || engine.remove_blocking(&spec, &fixed, volumes)).await;
        let mut core = handle.lock().await;
        match result {
            Ok(()) => {
                for id in core.execs.keys() {
                    self.drop_exec(id);
                }
                self.unregister(&handle.id);
                self.container_event(&core, "destroy", []);
                handle.mark_removed();
                Ok(())
            }
            Err(e) => {
                let _dead = core.step(Event::RemoveFailed(e.chain()));
                handle.publish(&core);
                Err(e.context(format!("container {}: driver failed to remove root filesystem", handle.id)))
            }
        }
    }

    fn remove_blocking(&self, spec: &ContainerSpec, fixed: &Fixed, volumes: bool) -> Result<()> {
        let id = fixed.id;
        self.store().write(|tx| tx.container_delete(&id))?;
        self.store().discard_snapshot(&id)?;
        self.store().discard_dir(&fixed.paths.dir)?;
        discard_run_dir(&fixed.paths.run_dir);
        if volumes {
            for mount in &spec.mounts {
                if let MountSource::Volume { name: Some(name), anonymous: true, .. } = &mount.source {
                    // Others may use it too (`--volumes-from`), or have removed it.
                    let _still_used = self.volume_remove_blocking(name);
                }
            }
        }
        Ok(())
    }

    /// Removes all containers that do not run and `wanted` accepts.
    pub async fn containers_prune(
        &self,
        wanted: impl Fn(&super::view::ContainerView) -> bool + Send + Sync + 'static,
        dry_run: bool,
    ) -> Result<(Vec<barque_model::Id>, u64)> {
        let (mut ids, mut bytes) = (Vec::new(), 0);
        for handle in self.handles() {
            let view = handle.view();
            let ended = matches!(view.state, State::Created { .. } | State::Exited { .. } | State::Dead { .. });
            if !ended || !wanted(&view) {
                continue;
            }
            let size = self.store().snapshot_size(&view.id).unwrap_or(0);
            if dry_run || self.container_remove(&view.id.to_string(), RemoveOptions::default()).await.is_ok() {
                ids.push(view.id);
                bytes += size;
            }
        }
        Ok((ids, bytes))
    }

    /// Takes up what the rows and the run directories say after a start of the engine.
    pub(crate) async fn restore(&self) -> Result<()> {
        let rows = self.store().read(|r| r.containers())?;
        let mut revive = Vec::new();
        for row in rows {
            match self.restore_one(&row).await {
                Ok(Some(handle)) => revive.push(handle),
                Ok(None) => {}
                Err(e) => tracing::error!(container = %row.id, "cannot take it up: {}", e.chain()),
            }
        }
        self.restore_networks().await?;
        let engine = self.clone();
        self.blocking(move || engine.settle_volume_mounts()).await?;
        for handle in revive {
            let mut core = handle.lock().await;
            if let State::Restarting { backoff, not_before, .. } = core.state {
                // A clock that was set back must not make it longer.
                let left = not_before.since(Timestamp::now()).min(backoff);
                self.schedule_restart(&handle, &mut core, backoff, left);
                continue;
            }
            drop(core);
            let engine = self.clone();
            tokio::spawn(async move {
                if let Err(e) = engine.start_handle(&handle).await {
                    tracing::warn!(container = %handle.id, "cannot start it again: {}", e.chain());
                }
            });
        }
        Ok(())
    }

    /// Gives the handle if the container is to be started again.
    async fn restore_one(&self, row: &barque_store::Container) -> Result<Option<Arc<Handle>>> {
        let broken = |e: serde_json::Error| Error::internal(format!("its stored definition is broken: {e}"));
        let spec: ContainerSpec = serde_json::from_str(&row.spec).map_err(broken)?;
        let stored: StoredState = serde_json::from_str(&row.state).map_err(broken)?;
        let dirs = self.store().snapshot_dirs(&row.id)?;
        let fixed = Arc::new(Fixed {
            id: row.id,
            created_at: row.created_at,
            paths: self.container_paths(&row.id),
            layers: dirs.lowers,
            upper: dirs.upper,
            work: dirs.work,
            platform: "linux".into(),
            image_manifest: None,
        });
        let (engine, known) = (self.clone(), fixed.clone());
        let handle = Handle::new(self.new_core(fixed, row.name.clone(), spec, row.document.clone(), stored));
        self.register(handle.clone());
        let found = self.blocking(move || {
            engine.settle_files(&known);
            Task::reopen(&known.paths.run_dir)
        });
        let found = found.await;
        let mut core = handle.lock().await;
        let was_up = core.state.is_up() || matches!(core.state, State::Starting { .. });
        match found {
            Ok(Reopened::Running(task)) => self.adopt(&handle, &mut core, Arc::new(task)).await,
            Ok(Reopened::Exited(exit)) => {
                settle_lost(&mut core, exit.code, exit.oom_killed, exit.finished_at);
                core.ended_from_outside |= exit.lost;
            }
            Ok(Reopened::Absent) if was_up => {
                settle_lost(&mut core, 255, false, Timestamp::now());
                core.ended_from_outside = true;
            }
            Ok(Reopened::Absent) => {}
            Err(e) => {
                // Nobody knows whether it runs: it is shown as ended, with the reason, and not started again.
                settle_lost(&mut core, 255, false, Timestamp::now());
                if let State::Restarting { exit, .. } = &core.state {
                    core.state = State::Exited { exit: exit.clone() };
                }
                core.error = Some(e.chain());
                self.keep_state(&core);
                handle.publish(&core);
                return Err(e);
            }
        }
        self.keep_state(&core);
        handle.publish(&core);
        let removal = core.spec.auto_remove && was_up && !core.state.is_running();
        let again = !core.state.is_running() && self.should_revive(&core);
        drop(core);
        if removal {
            self.spawn_removal(handle);
            return Ok(None);
        }
        Ok(again.then_some(handle))
    }

    /// The row of a container comes before its directories: what a crash left out between the two is made now.
    fn settle_files(&self, fixed: &Fixed) {
        let dir = &fixed.paths.dir;
        let missing: Vec<_> = [dir, &fixed.upper].into_iter().filter(|d| !d.is_dir()).collect();
        if missing.is_empty() {
            return;
        }
        let made = std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()));
        let made = made.and_then(|()| self.store().prepare_snapshot(&fixed.id));
        for path in missing {
            match &made {
                Ok(_) => tracing::warn!(container = %fixed.id, "{} was missing: made anew, empty", path.display()),
                Err(e) => tracing::error!(container = %fixed.id, "{} is missing: {}", path.display(), e.chain()),
            }
        }
    }

    fn should_revive(&self, core: &Core) -> bool {
        let Some(exit) = core.state.last_exit() else { return false };
        match (&core.state, core.spec.restart) {
            // As the policy said at its end.
            (State::Restarting { .. }, _) => true,
            // An engine's start is one more chance: for what somebody has stopped, and for what could not start.
            (_, RestartPolicy::Always) => true,
            (_, RestartPolicy::UnlessStopped) => !exit.stopped_by_user,
            (_, RestartPolicy::No | RestartPolicy::OnFailure { .. }) => false,
        }
    }

    /// A process that outlived the engine is taken under control again.
    async fn adopt(&self, handle: &Arc<Handle>, core: &mut Core, task: Arc<Task>) {
        if !core.state.is_running() {
            // The engine ended between the start and its record.
            if let State::Restarting { backoff, .. } = core.state {
                core.count_restart(backoff);
            }
            core.state = State::Starting { since: task.started_at(), before: core.state.last_exit().cloned() };
            let _started = core.step(Event::Started { pid: task.pid() });
        }
        core.task = Some(task.clone());
        // First of all: whatever else fails, its end is seen.
        self.supervise(handle.clone(), task.clone());
        if core.state.running().is_some_and(|r| !r.paused) {
            // The engine may have died while it froze the container for a commit.
            let frozen = task.clone();
            if let Err(e) = self.blocking(move || frozen.resume()).await {
                tracing::debug!(container = %handle.id, "cannot thaw it: {}", e.chain());
            }
        }
        let (engine, id, spec, fixed) = (self.clone(), handle.id, core.spec.clone(), core.fixed.clone());
        let (name, pid) = (core.name.clone(), task.pid());
        match self.blocking(move || engine.replug(&id, &name, &spec, &fixed, pid)).await {
            Ok(plugged) => {
                if !plugged.endpoints.is_empty() {
                    core.endpoints.clone_from(&plugged.endpoints);
                }
                core.ports.clone_from(&plugged.ports);
                core.plugged = Some(plugged);
            }
            Err(e) => tracing::error!(container = %handle.id, "cannot take up its network: {}", e.chain()),
        }
        self.start_health_checks(handle, core);
    }
}

/// A run whose end, at `ended`, nobody saw is over; the restart policy decides about the next.
fn settle_lost(core: &mut Core, code: i32, oom_killed: bool, ended: Timestamp) {
    if core.state.is_running() {
        let _ended = core.step_at(Event::ProcessExited { code, oom_killed }, ended);
    }
}

/// Removes what a container had below the exec root. Monitors of its last execs may still write there.
fn discard_run_dir(dir: &Path) {
    for _ in 0..50 {
        match std::fs::remove_dir_all(dir) {
            Ok(()) => return,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    tracing::warn!("{} stays: it cannot be removed", dir.display());
}

/// Sends a signal as soon as the process has a handler for it, if that is soon.
async fn once_caught(task: Arc<Task>, signal: Signal) {
    let until = tokio::time::Instant::now() + STARTS_WITHIN;
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match task.catches(signal) {
            Some(false) => {}
            Some(true) => {
                let _already_gone = task.kill(signal);
                return;
            }
            None => return,
        }
    }
}
