//! `up` in the foreground: output of all containers until they end or the user interrupts.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::container::{AttachQuery, LogsQuery};
use barque_api::event::{EventMessage, EventsQuery};
use barque_api::filters::Filters;
use barque_client::JsonStream;
use futures_util::future::join_all;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::args::Up;
use super::context::{Context, Failure, Outcome};
use super::logs::{Lines, Printer, follow};
use super::up::Ready;
use crate::apply::engine::Engine;
use crate::apply::execute::Executor;
use crate::apply::observe;
use crate::apply::progress::Progress;
use crate::apply::teardown::{self, Teardown};
use crate::plan::labels;
use crate::plan::observed::Container;
use crate::plan::step::{Action, Plan};

/// After so long without a line, the output of a container that ended is taken to be at its end.
const QUIET: std::time::Duration = std::time::Duration::from_secs(2);

/// So long a container may be down while it is restarted.
const RESTART: std::time::Duration = std::time::Duration::from_secs(1);

/// Services whose output is shown.
fn shown_services(ready: &Ready, args: &Up) -> Result<BTreeSet<String>, Failure> {
    let project = ready.project()?;
    let mut out: BTreeSet<String> = if !args.attach.is_empty() {
        args.attach.iter().cloned().collect()
    } else if args.services.is_empty() || args.attach_dependencies {
        project.services.values().filter(|s| s.spec.attach != Some(false)).map(|s| s.name.clone()).collect()
    } else {
        args.services.iter().cloned().collect()
    };
    for name in &args.no_attach {
        out.remove(name);
    }
    Ok(out)
}

/// What is known of the containers that are watched.
struct Watch<'a> {
    engine: &'a Engine,
    printer: Printer,
    containers: BTreeMap<String, Container>,
    shown: BTreeSet<String>,
    /// What copies the output of each container; after its end, what says so.
    outputs: BTreeMap<String, JoinHandle<()>>,
    /// Containers whose end was told: their output ends, too.
    told: BTreeSet<String>,
    timestamps: bool,
    ended: BTreeMap<String, i64>,
    /// Containers somebody sent a signal: it may be a restart.
    signalled: BTreeSet<String>,
    /// Until then, a start may follow the end of the last container.
    linger: Option<tokio::time::Instant>,
    /// When each container died last, nanoseconds since 1970.
    died_at: BTreeMap<String, i64>,
    abort_on_exit: bool,
    abort_on_failure: bool,
    code_from: Option<String>,
    code: Option<i64>,
    stopping: bool,
    /// `--watch`: goes on until the user interrupts.
    endless: bool,
    project: String,
    /// Services whose output is shown.
    services: BTreeSet<String>,
    /// All that take part.
    project_services: BTreeSet<String>,
}

/// Starts what is made and shows its output, until all has ended or `leave` is told of.
pub(super) async fn up(
    cx: &Context,
    ready: &Ready,
    executor: &Executor<'_>,
    args: &Up,
    leave: &tokio::sync::Notify,
) -> Outcome {
    let mut watch = Watch::new(cx, ready, executor, args)?;
    let now = jiff::Timestamp::now();
    let query = EventsQuery {
        since: format!("{}.{:09}", now.as_second(), now.subsec_nanosecond()),
        filters: Filters::new()
            .with("type", "container")
            .with("label", format!("{}={}", labels::PROJECT, ready.session.name)),
        ..EventsQuery::default()
    };
    let events = watch.engine.read().client().events(&query).await?;
    watch.forget_finished(&ready.plan);
    watch.attach_all().await?;
    let run = watch.run(cx, ready, executor, events, (args.timeout, leave));
    let interrupted = run.await?;
    watch.drain().await;
    Ok(match (watch.code, interrupted) {
        (_, true) => 130,
        (Some(code), _) => i32::try_from(code).unwrap_or(1),
        _ => 0,
    })
}

async fn either(a: &mut Signal, b: &mut Signal) {
    tokio::select! {
        _ = a.recv() => {}
        _ = b.recv() => {}
    }
}

/// The end of `work`; never, if there is none.
pub(super) async fn pending<F: Future + Unpin>(work: &mut Option<F>) -> F::Output {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Containers that run of the services that take part; what else belongs to the project goes on.
async fn taking_part(engine: &Engine, ready: &Ready) -> Result<Vec<Container>, barque_model::Error> {
    let found = observe::containers(engine.read(), &ready.session.name, false).await;
    let mut found = found.map_err(|e| crate::apply::body::model_error(&e))?;
    let services = ready.session.project.as_ref().map(|p| &p.services);
    found.retain(|c| !c.oneoff && services.is_some_and(|s| s.contains_key(&c.service)));
    Ok(found)
}

async fn stop(
    engine: &Engine,
    ready: &Ready,
    progress: &Progress,
    timeout: Option<i64>,
) -> Result<(), barque_model::Error> {
    let found = taking_part(engine, ready).await?;
    let how = Teardown { stop: true, remove: false, volumes: false, timeout };
    progress.title("Stopping");
    progress.during(teardown::containers(engine, progress, ready.session.project.as_ref(), &found, how)).await
}

/// Lets what is being started come up, and stops it with the rest.
async fn wind_down(
    executor: &Executor<'_>,
    starting: Option<impl Future<Output = Result<(), barque_model::Error>>>,
    ready: &Ready,
    timeout: Option<i64>,
) -> Result<(), barque_model::Error> {
    executor.halt();
    if let Some(starting) = starting {
        // How it went does not matter any more.
        let _ = starting.await;
    }
    stop(&ready.session.engine, ready, &ready.session.progress, timeout).await
}

async fn kill(engine: &Engine, ready: &Ready) {
    if let Ok(found) = taking_part(engine, ready).await {
        join_all(found.iter().map(|c| engine.kill(&c.id, "SIGKILL"))).await;
    }
}

impl<'a> Watch<'a> {
    fn new(cx: &Context, ready: &'a Ready, executor: &Executor<'_>, args: &Up) -> Result<Self, Failure> {
        let services = shown_services(ready, args)?;
        let project = ready.project()?;
        let ours = |c: &Container| !c.oneoff && project.services.contains_key(&c.service);
        let containers: BTreeMap<String, Container> =
            executor.observed().containers.into_iter().filter(ours).map(|c| (c.id.clone(), c)).collect();
        let shown: BTreeSet<String> =
            containers.values().filter(|c| services.contains(&c.service)).map(|c| c.id.clone()).collect();
        let names: BTreeSet<String> =
            containers.values().filter(|c| shown.contains(&c.id)).map(Container::log_name).collect();
        cx.print(&format!("Attaching to {}\n", names.iter().cloned().collect::<Vec<_>>().join(", ")));
        let from_code = args.exit_code_from.is_some() && !args.abort_on_container_failure;
        Ok(Watch {
            engine: &ready.session.engine,
            printer: Printer::new(names, cx.colour() && !args.no_color, !args.no_log_prefix),
            containers,
            shown,
            outputs: BTreeMap::new(),
            told: BTreeSet::new(),
            timestamps: args.timestamps,
            ended: BTreeMap::new(),
            signalled: BTreeSet::new(),
            linger: None,
            died_at: BTreeMap::new(),
            abort_on_exit: args.abort_on_container_exit || from_code,
            abort_on_failure: args.abort_on_container_failure,
            code_from: args.exit_code_from.clone(),
            code: None,
            stopping: false,
            endless: args.watch,
            project: ready.session.name.clone(),
            services,
            project_services: project.services.keys().cloned().collect(),
        })
    }

    /// Starts everything and goes on until all has ended; true if the user interrupted.
    async fn run(
        &mut self,
        cx: &Context,
        ready: &Ready,
        executor: &Executor<'_>,
        mut events: JsonStream<EventMessage>,
        (timeout, leave): (Option<i64>, &tokio::sync::Notify),
    ) -> Result<bool, Failure> {
        let (engine, progress) = (self.engine, &ready.session.progress);
        let listen = |kind| signal(kind).map_err(|e| Failure::new(e.to_string()));
        let (mut interrupts, mut terminations) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let mut starting = Some(Box::pin(executor.start(&ready.plan)));
        let mut stopping = None;
        let end = |starting| Box::pin(wind_down(executor, starting, ready, timeout));
        let mut interrupted = false;
        while starting.is_some() || stopping.is_some() || !self.is_over() || self.linger.is_some() {
            let linger = self.linger;
            tokio::select! {
                () = tokio::time::sleep_until(linger.unwrap_or_else(tokio::time::Instant::now)), if linger.is_some() => {
                    self.linger = None;
                }
                result = pending(&mut starting) => {
                    starting = None;
                    if let Err(e) = result {
                        stop(engine, ready, progress, timeout).await?;
                        // what they wrote may well tell why
                        self.refresh().await;
                        self.drain().await;
                        return Err(e.into());
                    }
                }
                result = pending(&mut stopping) => {
                    stopping = None;
                    result?;
                    self.refresh().await;
                }
                () = leave.notified(), if starting.is_none() && stopping.is_none() => return Ok(false),
                event = events.next() => {
                    let event = event?.ok_or_else(|| Failure::new("the engine closed the stream of events"))?;
                    if self.event(&event).await && stopping.is_none() && !self.stopping {
                        self.stopping = true;
                        cx.print("Aborting on container exit...\n");
                        stopping = Some(end(starting.take()));
                    }
                }
                () = either(&mut interrupts, &mut terminations) => {
                    if interrupted {
                        // its requests would count against --parallel
                        drop(stopping.take());
                        kill(engine, ready).await;
                        self.refresh().await;
                        break;
                    }
                    interrupted = true;
                    self.stopping = true;
                    self.linger = None;
                    cx.print("\nGracefully Stopping... press Ctrl+C again to force\n");
                    stopping = Some(end(starting.take()));
                }
            }
        }
        Ok(interrupted)
    }

    /// Connects to the output of every container that is shown, before it is started.
    async fn attach_all(&mut self) -> Result<(), Failure> {
        let timestamps = self.timestamps;
        let query = AttachQuery { stream: true, stdout: true, stderr: true, ..AttachQuery::default() };
        let ids: Vec<String> = self.shown.iter().filter(|id| !self.ended.contains_key(*id)).cloned().collect();
        let reader = self.engine.read();
        let opened = join_all(ids.iter().map(|id| {
            let query = &query;
            async move {
                let raw = reader.inspect(id).await?.config.tty;
                let stream = reader.client().container_attach(id, query).await?;
                Ok::<_, Failure>((id.clone(), raw, stream))
            }
        }))
        .await;
        for result in opened {
            let (id, raw, stream) = result?;
            let name = self.containers.get(&id).map(Container::log_name).unwrap_or_default();
            let printer = self.printer.clone();
            let mut reader = stream.reader;
            let writer = stream.writer;
            let task = tokio::spawn(async move {
                // dropping the writer could be taken for the end of the connection
                let _writer = writer;
                let mut lines = Lines::new(raw);
                let mut buffer = vec![0u8; 32 << 10];
                while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                    print_all(&printer, &name, lines.push(&buffer[..count]), timestamps);
                }
                print_all(&printer, &name, lines.finish(), timestamps);
            });
            self.outputs.insert(id, task);
        }
        Ok(())
    }

    /// Containers that ended before and are not started now will not end again.
    fn forget_finished(&mut self, plan: &Plan) {
        let started: BTreeSet<&str> =
            plan.steps.iter().filter(|s| matches!(s.action, Action::Start { .. })).map(|s| s.name.as_str()).collect();
        for container in self.containers.values() {
            if !container.state.is_up() && !started.contains(container.name.as_str()) {
                self.ended.insert(container.id.clone(), container.exit_code.unwrap_or(0));
            }
        }
    }

    fn is_over(&self) -> bool {
        let waits = self.endless && !self.stopping;
        !waits && self.containers.keys().all(|id| self.ended.contains_key(id))
    }

    /// Takes an event; true if everything is to be stopped because of it.
    async fn event(&mut self, event: &EventMessage) -> bool {
        if event.action == "start" && !self.containers.contains_key(&event.actor.id) {
            self.welcome(event).await;
            return false;
        }
        let Some(container) = self.containers.get(&event.actor.id).cloned() else { return false };
        match event.action.as_str() {
            "kill" if !self.stopping => {
                self.signalled.insert(container.id.clone());
            }
            // told already after everything was stopped
            "die" if self.ended.contains_key(&container.id) => {}
            "die" => {
                self.died_at.insert(container.id.clone(), event.time_nano);
                if self.signalled.remove(&container.id) {
                    self.linger = Some(tokio::time::Instant::now() + RESTART);
                }
                let code: i64 = event.actor.attributes.get("exitCode").and_then(|c| c.parse().ok()).unwrap_or(0);
                return self.died(&container, code).await;
            }
            "start" if self.ended.contains_key(&container.id) || self.restarted(&container.id) => {
                self.ended.remove(&container.id);
                self.follow_again(&container, event);
            }
            "destroy" => {
                self.ended.entry(container.id.clone()).or_insert(0);
            }
            _ => {}
        }
        false
    }

    /// A container made since the beginning: its output is shown like that of the others.
    async fn welcome(&mut self, event: &EventMessage) {
        let found = crate::apply::observe::containers(self.engine.read(), &self.project, false).await;
        let found = found.unwrap_or_default().into_iter().find(|c| c.id == event.actor.id && !c.oneoff);
        let Some(container) = found.filter(|c| self.project_services.contains(&c.service)) else { return };
        if self.services.contains(&container.service) {
            self.shown.insert(container.id.clone());
        }
        self.containers.insert(container.id.clone(), container.clone());
        self.follow_again(&container, event);
    }

    fn restarted(&self, id: &str) -> bool {
        self.containers.get(id).is_some_and(|c| c.summary.status == "restarting")
    }

    async fn died(&mut self, container: &Container, code: i64) -> bool {
        let restarts = match self.engine.read().inspect(&container.id).await {
            Ok(c) => !self.stopping && (c.state.restarting || c.state.running),
            Err(_) => false,
        };
        self.tell_end(container, code, restarts);
        if restarts {
            if let Some(known) = self.containers.get_mut(&container.id) {
                "restarting".clone_into(&mut known.summary.status);
            }
            return false;
        }
        self.ended.insert(container.id.clone(), code);
        let wanted = match &self.code_from {
            Some(service) => container.service == *service,
            None => self.code.is_none(),
        };
        let abort = !self.stopping && (self.abort_on_exit || (self.abort_on_failure && code != 0));
        if wanted && (abort || self.code_from.is_some()) {
            self.code = Some(code);
        }
        abort
    }

    /// Says that a container ended, after all it wrote: its output may still be on its way when the event comes.
    fn tell_end(&mut self, container: &Container, code: i64, restarts: bool) {
        if !self.shown.contains(&container.id) {
            return;
        }
        self.told.insert(container.id.clone());
        let suffix = if restarts { " (restarting)" } else { "" };
        let text = format!("exited with code {code}{suffix}");
        let (printer, name, before) = (self.printer.clone(), container.log_name(), self.outputs.remove(&container.id));
        let task = tokio::spawn(async move {
            if let Some(output) = before {
                settle(output, &printer).await;
            }
            printer.status(&name, &text);
        });
        self.outputs.insert(container.id.clone(), task);
    }

    /// After a restart, output goes on from the moment of the end before it.
    fn follow_again(&mut self, container: &Container, event: &EventMessage) {
        if let Some(known) = self.containers.get_mut(&container.id) {
            known.summary.status.clear();
        }
        if !self.shown.contains(&container.id) {
            return;
        }
        // its first words may be older than the event of its start
        let from = self.died_at.get(&container.id).copied().unwrap_or(event.time_nano);
        let since = format!("{}.{:09}", from / 1_000_000_000, from % 1_000_000_000);
        let query = LogsQuery {
            follow: true,
            stdout: true,
            stderr: true,
            since,
            timestamps: self.timestamps,
            tail: "all".to_owned(),
            ..LogsQuery::default()
        };
        let (reader, printer) = (self.engine.read().clone(), self.printer.clone());
        let (id, name) = (container.id.clone(), container.log_name());
        let before = self.outputs.remove(&id);
        let key = id.clone();
        let task = tokio::spawn(async move {
            if let Some(output) = before {
                settle(output, &printer).await;
            }
            let _ = follow(&reader, &id, &name, &query, &printer).await;
        });
        self.told.remove(&key);
        self.outputs.insert(key, task);
    }

    /// After everything was stopped: what does not run has ended, whether we heard of it or not.
    async fn refresh(&mut self) {
        for container in self.containers.values().cloned().collect::<Vec<_>>() {
            let id = &container.id;
            match self.engine.read().inspect(id).await {
                Ok(c) if c.state.running => {}
                Ok(c) => {
                    let code = c.state.exit_code;
                    if self.code_from.as_ref() == Some(&container.service) && self.code.is_none() {
                        self.code = Some(code);
                    }
                    if self.ended.insert(id.clone(), code).is_none() && c.state.status == "exited" {
                        self.tell_end(&container, code, false);
                    }
                }
                Err(_) => {
                    self.ended.entry(id.clone()).or_insert(0);
                }
            }
        }
    }

    /// Lets output that is on its way arrive.
    async fn drain(&mut self) {
        let (told, printer) = (&self.told, &self.printer);
        join_all(std::mem::take(&mut self.outputs).into_iter().map(|(id, task)| async move {
            if told.contains(&id) {
                settle(task, printer).await;
            } else {
                task.abort();
            }
        }))
        .await;
    }
}

/// Waits until the output of a container that ended is at its end, however long that takes as long as lines come.
async fn settle(mut output: JoinHandle<()>, printer: &Printer) {
    let mut seen = printer.printed();
    while tokio::time::timeout(QUIET, &mut output).await.is_err() {
        let now = printer.printed();
        if now == seen {
            return output.abort();
        }
        seen = now;
    }
}

fn print_all(printer: &Printer, name: &str, lines: Vec<(bool, Vec<u8>)>, timestamps: bool) {
    for (err, line) in lines {
        if timestamps {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string();
            let line = [now.as_bytes(), b" ", &line].concat();
            printer.line(name, &line, err);
        } else {
            printer.line(name, &line, err);
        }
    }
}
