//! Carries out a plan: what may happen at once does, up to a bound; the first failure stops what has not begun.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use barque_api::ApiVersion;
use barque_model::Error;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;

use super::body::{self, Making, model_error};
use super::engine::Engine;
use super::progress::{Progress, Status};
use super::{files, hooks, resources, wait};
use crate::file::model::Condition;
use crate::file::project::{Project, Service};
use crate::plan::labels;
use crate::plan::observed::{Container, Observed, State};
use crate::plan::step::{Action, Plan, Wait};

/// What carrying out a plan needs.
pub struct Executor<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// Where progress is shown.
    pub progress: &'a Progress,
    /// The project.
    pub project: &'a Project,
    /// Written into labels.
    pub version: &'a str,
    /// API version spoken.
    pub api: ApiVersion,
    /// Most steps at once.
    pub parallel: usize,
    /// `--timeout`, seconds.
    pub timeout: Option<i64>,
    /// Do not take over anonymous volumes.
    pub renew_volumes: bool,
    /// Copy files into containers that never ran: they may lack them.
    pub refill: bool,
    pub(super) hooks: super::pre_start::Ran,
    state: Mutex<Observed>,
    /// Nothing further is to be started.
    halted: watch::Sender<bool>,
    /// Containers that were stopped since they were observed.
    stopped: Mutex<BTreeSet<String>>,
}

impl std::fmt::Debug for Executor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("project", &self.project.name).finish_non_exhaustive()
    }
}

impl<'a> Executor<'a> {
    /// An executor that starts from what was observed.
    pub fn new(
        engine: &'a Engine,
        progress: &'a Progress,
        project: &'a Project,
        observed: Observed,
        version: &'a str,
        api: ApiVersion,
    ) -> Self {
        Executor {
            engine,
            progress,
            project,
            version,
            api,
            parallel: 32,
            timeout: None,
            renew_volumes: false,
            refill: false,
            hooks: super::pre_start::Ran::default(),
            state: Mutex::new(observed),
            halted: watch::Sender::new(false),
            stopped: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopped(&self, id: &str) -> bool {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    pub(super) fn set_stopped(&self, id: &str, stopped: bool) {
        let mut all = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if stopped {
            all.insert(id.to_owned())
        } else {
            all.remove(id)
        };
    }

    /// What there is now.
    pub fn observed(&self) -> Observed {
        self.lock().clone()
    }

    /// Makes, makes again and removes; starts nothing.
    ///
    /// # Errors
    /// The first step that failed.
    pub async fn make(&self, plan: &Plan) -> Result<(), Error> {
        for container in &plan.running {
            self.progress.done(&format!("Container {}", container.name), "Running");
        }
        self.run(plan, |action| !matches!(action, Action::Start { .. }), false).await
    }

    /// Lets what is being started come up, and starts nothing else: a request that is given up may still be carried out.
    pub fn halt(&self) {
        self.halted.send_replace(true);
    }

    /// `work`, unless nothing is to be started any more before it is done.
    async fn unless_halted(&self, work: impl Future<Output = Result<(), Error>>) -> Result<bool, Error> {
        let mut halted = self.halted.subscribe();
        tokio::select! {
            biased;
            _ = halted.wait_for(|halted| *halted) => Ok(false),
            result = work => result.map(|()| true),
        }
    }

    /// Starts what was made and what was stopped; does not wait for the rest after a failure.
    ///
    /// # Errors
    /// The first step that failed.
    pub async fn start(&self, plan: &Plan) -> Result<(), Error> {
        self.run(plan, |action| matches!(action, Action::Start { .. }), true).await
    }

    /// Carries out some steps. What has begun is let finish after a failure, but with `at_once` it waits for nobody: a
    /// start may wait for the health of others for long.
    async fn run(&self, plan: &Plan, chosen: impl Fn(&Action) -> bool, at_once: bool) -> Result<(), Error> {
        let mut waiting: Vec<usize> = (0..plan.steps.len()).filter(|i| chosen(&plan.steps[*i].action)).collect();
        let mut left: BTreeMap<usize, Vec<usize>> = waiting
            .iter()
            .map(|i| (*i, plan.steps[*i].after.iter().copied().filter(|d| waiting.contains(d)).collect()))
            .collect();
        let mut running = FuturesUnordered::new();
        let mut failure = None;
        loop {
            if failure.is_none() && !*self.halted.borrow() {
                let ready: Vec<usize> = waiting.iter().copied().filter(|i| left[i].is_empty()).collect();
                for step in ready.into_iter().take(self.parallel.max(1).saturating_sub(running.len())) {
                    waiting.retain(|w| *w != step);
                    running.push(Box::pin(async move { (step, self.step(plan, step).await) }));
                }
            }
            let Some((step, result)) = running.next().await else { break };
            match result {
                Ok(()) => left.values_mut().for_each(|deps| deps.retain(|d| *d != step)),
                Err(e) => {
                    if at_once {
                        self.halt();
                    }
                    failure.get_or_insert(e);
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn step(&self, plan: &Plan, index: usize) -> Result<(), Error> {
        let step = &plan.steps[index];
        match &step.action {
            Action::CreateNetwork { key } => {
                resources::create_network(self.engine, self.progress, self.project, key, self.version).await
            }
            Action::RecreateNetwork { key, old, users, kept } => self.renew_network(key, old, users, kept).await,
            Action::CreateVolume { key } => {
                resources::create_volume(self.engine, self.progress, self.project, key, self.version).await
            }
            Action::Create { service, number } => {
                let Some(service) = self.project.services.get(service) else { return Ok(()) };
                self.create(service, *number, &step.name, None).await
            }
            Action::Recreate { service, number, old } => {
                let Some(service) = self.project.services.get(service) else { return Ok(()) };
                self.create(service, *number, &step.name, Some(old)).await
            }
            Action::Remove { old } => self.remove(old).await,
            Action::Stop { old } => self.stop(old).await,
            Action::Start { service, number, existing, waits } => {
                let Some(service) = self.project.services.get(service) else { return Ok(()) };
                self.start_one(service, *number, existing.as_deref(), waits, &step.name).await
            }
        }
    }

    async fn create(&self, service: &Service, number: usize, name: &str, old: Option<&Container>) -> Result<(), Error> {
        let shown = format!("Container {name}");
        let (doing, done) = if old.is_some() { ("Recreate", "Recreated") } else { ("Creating", "Created") };
        self.progress.working(&shown, doing);
        let result = self.create_quietly(service, number, name, old).await;
        match &result {
            Ok(()) => self.progress.done(&shown, done),
            Err(e) => self.progress.failed(&shown, e.message()),
        }
        result
    }

    async fn create_quietly(
        &self,
        service: &Service,
        number: usize,
        name: &str,
        old: Option<&Container>,
    ) -> Result<(), Error> {
        let mut body = {
            let observed = self.lock();
            let making = Making {
                project: self.project,
                service,
                observed: &observed,
                image: observed.images.get(&service.image(&self.project.name)),
                number,
                name,
                inherit: old.filter(|_| !self.renew_volumes),
                aliases: true,
                version: self.version,
                api: self.api,
            };
            body::make(&making)?
        };
        if let Some(hash) = files::digest(self.project, service) {
            body.request.config.labels.get_or_insert_default().insert(labels::FILES.to_owned(), hash);
        }
        if let Some(old) = old {
            let replaced = old.unfinished().unwrap_or(&old.name).to_owned();
            body.request.config.labels.get_or_insert_default().insert(labels::REPLACE.to_owned(), replaced);
        }
        // the old one keeps its name until the new one is there
        let first_name = old.map_or_else(|| name.to_owned(), |o| format!("{}_{name}", &o.id[..o.id.len().min(12)]));
        let created = self.engine.create(&first_name, &service.spec.platform, &body.request).await;
        let (id, warnings) = created.map_err(|e| model_error(&e))?;
        for warning in warnings {
            self.progress.detailed(&format!("Container {name}"), "Warning", &warning, Status::Warning);
        }
        Box::pin(files::complete(self.engine, self.project, service, &id, body.later)).await?;
        if let Some(old) = old {
            if let Err(e) = self.take_away(old).await {
                let _ = self.engine.remove(&id, true).await;
                return Err(e);
            }
            self.engine.rename(&id, name).await.map_err(|e| model_error(&e))?;
        }
        let mut observed = self.lock();
        if let Some(old) = old {
            observed.containers.retain(|c| c.id != old.id);
        }
        observed.containers.push(Container {
            id,
            name: name.to_owned(),
            service: service.name.clone(),
            number,
            labels: body.request.config.labels.unwrap_or_default(),
            state: State::Created,
            ..Container::default()
        });
        Ok(())
    }

    /// Stops and removes a container that another takes the place of.
    async fn take_away(&self, old: &Container) -> Result<(), Error> {
        if old.state.is_up() && !self.is_stopped(&old.id) {
            self.pre_stop(old).await?;
            self.engine.stop(&old.id, self.timeout).await.map_err(|e| model_error(&e))?;
        }
        self.engine.remove(&old.id, self.renew_volumes).await.map_err(|e| model_error(&e))
    }

    async fn pre_stop(&self, container: &Container) -> Result<(), Error> {
        let service = self.project.services.get(&container.service);
        match service.or_else(|| self.project.disabled.get(&container.service)) {
            Some(service) if !service.spec.pre_stop.is_empty() => {
                let name = container.log_name();
                hooks::run(self.engine, self.progress, &service.spec.pre_stop, &container.id, &name, "pre_stop").await
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn stop(&self, container: &Container) -> Result<(), Error> {
        let shown = format!("Container {}", container.name);
        self.progress.working(&shown, "Stopping");
        self.pre_stop(container).await?;
        let result = self.engine.stop(&container.id, self.timeout).await.map_err(|e| model_error(&e));
        match &result {
            Ok(()) => self.progress.done(&shown, "Stopped"),
            Err(e) => self.progress.failed(&shown, e.message()),
        }
        result
    }

    async fn remove(&self, container: &Container) -> Result<(), Error> {
        if container.state.is_up() && !self.is_stopped(&container.id) {
            self.stop(container).await?;
        }
        let shown = format!("Container {}", container.name);
        self.progress.working(&shown, "Removing");
        self.engine.remove(&container.id, false).await.map_err(|e| model_error(&e))?;
        self.lock().containers.retain(|c| c.id != container.id);
        self.progress.done(&shown, "Removed");
        Ok(())
    }

    async fn start_one(
        &self,
        service: &Service,
        number: usize,
        existing: Option<&Container>,
        waits: &[Wait],
        name: &str,
    ) -> Result<(), Error> {
        let waiting = async {
            for wait in waits {
                self.wait_for(wait).await?;
            }
            Ok(())
        };
        if !self.unless_halted(waiting).await? {
            return Ok(());
        }
        let id = existing.map(|c| c.id.clone()).or_else(|| {
            self.lock().of_service(&service.name).into_iter().find(|c| c.number == number).map(|c| c.id.clone())
        });
        let Some(id) = id else { return Ok(()) };
        if self.refill && existing.is_some_and(|c| c.state == State::Created) {
            // whoever made it may not have come so far
            files::inject(self.engine, self.project, service, &id).await?;
        }
        // unlike most, it makes and runs containers: on the heap, since futures hold those they wait for
        Box::pin(self.pre_start(service, number, existing.map(|c| c.state))).await?;
        let shown = format!("Container {name}");
        self.progress.working(&shown, "Starting");
        let result = match existing.map(|c| c.state) {
            Some(State::Paused) => self.engine.pause(&id, false).await,
            _ => self.engine.start(&id).await,
        };
        let result = match result.map_err(|e| port_hint(service, model_error(&e))) {
            Ok(()) => {
                let known = self.lock().containers.iter().find(|c| c.id == id).map(Container::log_name);
                let name = known.unwrap_or_else(|| name.to_owned());
                let hooks = hooks::run(self.engine, self.progress, &service.spec.post_start, &id, &name, "post_start");
                self.unless_halted(hooks).await.map(drop)
            }
            Err(e) => Err(e),
        };
        match &result {
            Ok(()) => self.progress.done(&shown, "Started"),
            Err(e) => self.progress.failed(&shown, e.message()),
        }
        if result.is_ok() {
            let mut observed = self.lock();
            if let Some(container) = observed.containers.iter_mut().find(|c| c.id == id) {
                container.state = State::Running;
            }
        }
        result
    }

    /// Waits until a condition holds of every container of a service.
    ///
    /// # Errors
    /// It can no longer come to hold, and is required.
    pub async fn wait_for(&self, wanted: &Wait) -> Result<(), Error> {
        if wanted.condition == Condition::Started {
            return Ok(());
        }
        let containers: Vec<(String, String)> =
            self.lock().of_service(&wanted.service).iter().map(|c| (c.id.clone(), c.name.clone())).collect();
        for (id, name) in containers {
            let result = wait::until(self.engine, self.progress, &id, &name, &wanted.service, wanted.condition).await;
            match result {
                Err(e) if wanted.required => {
                    let text = format!("dependency failed to start: {}", e.message());
                    let error = Error::conflict(text);
                    return Err(match e.hint() {
                        Some(hint) => error.with_hint(hint),
                        None => error,
                    });
                }
                Err(e) => {
                    let text = format!("optional dependency {:?} failed to start: {}", wanted.service, e.message());
                    self.progress.detailed(&format!("Container {name}"), "Skipped", &text, Status::Warning);
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

/// Several containers of a service that publish the same port: the cure is a range.
fn port_hint(service: &Service, error: Error) -> Error {
    let fixed = |p: &&crate::file::model::Port| !p.published.is_empty() && !p.published.contains('-');
    let message = error.message();
    let clash = message.contains("already allocated") || message.contains("already in use");
    let cured = error.hint().is_some() || message.contains("hint: ");
    match service.spec.ports.iter().find(fixed).filter(|_| clash && !cured) {
        Some(port) => {
            let last = port.published.parse::<u32>().map_or(0, |p| p + 9);
            let hint = format!(
                "another program has the port, or another container of the service: publish a range for several, \"{}-{last}:{}\"",
                port.published, port.target
            );
            error.with_hint(hint)
        }
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_has_a_range_for_its_cure() {
        let with = |port: serde_json::Value| {
            let spec = serde_json::from_value(serde_json::json!({"ports": [port]})).expect("a service");
            Service { spec, ..Service::default() }
        };
        let one = with(serde_json::json!({"target": 80, "published": "8080"}));
        let hint = |service: &Service, message: &str| {
            port_hint(service, Error::conflict(message)).hint().map(str::to_owned).unwrap_or_default()
        };
        let taken = "driver failed: Bind for 0.0.0.0:8080 failed: port is already allocated";
        assert!(hint(&one, taken).ends_with("publish a range for several, \"8080-8089:80\""), "{}", hint(&one, taken));
        assert_eq!(hint(&one, "no such image"), "", "that is about something else");
        assert_eq!(hint(&with(serde_json::json!({"target": 80, "published": "8080-8089"})), taken), "");
        let own = port_hint(&one, Error::conflict(taken).with_hint("container web has it"));
        assert_eq!(own.hint(), Some("container web has it"), "who knows more is left to speak");
    }
}
