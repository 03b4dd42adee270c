//! `down`, `stop`, `start`, `restart`, `kill`, `pause`, `unpause`, `rm`, `wait`.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{select_all, try_join_all};

use super::args::{Down, Kill, Restart, Rm, Services, Start, Stop, Wait};
use super::context::{Context, Failure, Outcome};
use super::session::{Session, api};
use super::terminal;
use crate::apply::body::model_error;
use crate::apply::execute::Executor;
use crate::apply::hooks;
use crate::apply::provider;
use crate::apply::teardown::{self, Teardown};
use crate::apply::wait;
use crate::file::model::Condition;
use crate::file::project::{Project, Service};
use crate::plan::labels;
use crate::plan::observed::{Container, Observed, Resource, State};
use crate::plan::step;

/// Containers `down` removes: all of the project without a file, else those of its services and, if asked, orphans.
fn doomed(session: &Session, found: Vec<Container>, args: &Down) -> Vec<Container> {
    let Some(project) = &session.project else { return found };
    let orphan =
        |c: &Container| !project.services.contains_key(&c.service) && !project.disabled.contains_key(&c.service);
    found
        .into_iter()
        .filter(|c| match args.services.is_empty() {
            true => project.services.contains_key(&c.service) || (orphan(c) && (args.remove_orphans || c.oneoff)),
            false => args.services.contains(&c.service),
        })
        .collect()
}

/// Runs `down`.
pub(super) async fn down(cx: &Context, args: Down) -> Outcome {
    let session = Session::open(cx, "Running").await?;
    let engine = &session.engine;
    let all = session.containers(&args.services, true, true).await?;
    let orphans_env =
        cx.host.environment.get("COMPOSE_REMOVE_ORPHANS").is_some_and(|v| matches!(v.as_str(), "1" | "true"));
    let args = Down { remove_orphans: args.remove_orphans || orphans_env, ..args };
    let doomed = doomed(&session, all.clone(), &args);
    let how = Teardown { stop: true, remove: true, volumes: args.volumes, timeout: args.timeout };
    let work = async {
        teardown::containers(engine, &session.progress, session.project.as_ref(), &doomed, how).await?;
        if let Some(project) = session.project.as_ref().filter(|_| !cx.global.dry_run) {
            provider::down(project, &args.services, cx.host.home.as_deref(), &session.progress).await?;
        }
        if !args.services.is_empty() {
            return Ok::<bool, Failure>(!doomed.is_empty());
        }
        let networks: Vec<Resource> = own_networks(&session).await?;
        let volumes = if args.volumes { own_volumes(&session).await? } else { Vec::new() };
        let images = own_images(&session, args.rmi.as_deref(), &all);
        teardown::networks(engine, &session.progress, &networks).await?;
        teardown::volumes(engine, &session.progress, &volumes).await?;
        if args.volumes {
            teardown::anonymous(engine, &doomed).await;
        }
        teardown::images(engine, &session.progress, &images).await?;
        Ok(!(doomed.is_empty() && networks.is_empty() && volumes.is_empty() && images.is_empty()))
    };
    if !session.progress.during(work).await? && session.project.is_none() {
        cx.warn(&format!("No resource found to remove for project {:?}.", session.name));
    }
    Ok(0)
}

async fn own_networks(session: &Session) -> Result<Vec<Resource>, Failure> {
    let all = session.engine.read().networks().await?;
    let own =
        all.into_iter().map(crate::plan::observed::network).filter(|n| n.project.as_deref() == Some(&session.name));
    Ok(own.collect())
}

async fn own_volumes(session: &Session) -> Result<Vec<String>, Failure> {
    let all = session.engine.read().volumes().await?;
    let own =
        all.into_iter().map(crate::plan::observed::volume).filter(|v| v.project.as_deref() == Some(&session.name));
    let mut names: Vec<String> = own.map(|v| v.name).collect();
    names.sort();
    Ok(names)
}

fn own_images(session: &Session, which: Option<&str>, containers: &[Container]) -> Vec<String> {
    let Some(which) = which else { return Vec::new() };
    let mut out: BTreeSet<String> = BTreeSet::new();
    match &session.project {
        Some(project) => {
            for service in project.services.values().filter(|s| which == "all" || s.spec.image.is_empty()) {
                out.insert(service.image(&project.name));
            }
        }
        None => {
            let local = format!("{}-", session.name);
            let images = containers.iter().map(|c| c.image.clone());
            out.extend(images.filter(|i| which == "all" || i.starts_with(&local)));
        }
    }
    out.into_iter().collect()
}

/// Runs `stop`.
pub(super) async fn stop(cx: &Context, args: Stop) -> Outcome {
    let session = Session::open(cx, "Stopping").await?;
    let found = session.containers(&args.services, true, false).await?;
    let found: Vec<Container> =
        found.into_iter().filter(|c| c.state != State::Created && in_project(&session, c)).collect();
    let how = Teardown { stop: true, remove: false, volumes: false, timeout: args.timeout };
    let work = teardown::containers(&session.engine, &session.progress, session.project.as_ref(), &found, how);
    session.progress.during(work).await?;
    Ok(0)
}

/// False for containers of services the file does not have, which only `--remove-orphans` touches.
fn in_project(session: &Session, container: &Container) -> bool {
    session
        .project
        .as_ref()
        .is_none_or(|p| p.services.contains_key(&container.service) || p.disabled.contains_key(&container.service))
}

/// Runs `start`.
pub(super) async fn start(cx: &Context, args: Start) -> Outcome {
    let session = Session::open(cx, "Running").await?;
    let found = session.containers(&[], true, false).await?;
    let found: Vec<Container> = found.into_iter().filter(|c| in_project(&session, c)).collect();
    if found.is_empty() {
        let name = args
            .services
            .first()
            .cloned()
            .or_else(|| session.project.as_ref().and_then(|p| p.services.keys().next().cloned()));
        let text = match name {
            Some(name) => format!("service {name:?} has no container to start"),
            None => format!("no container found for project {:?}: not found", session.name),
        };
        return Err(Failure::new(text).with_hint(format!("make them with: {} up --no-start", session.program)));
    }
    let stand_in = stand_in(&session, &found);
    let project = session.project.as_ref().unwrap_or(&stand_in);
    let observed = Observed { containers: found.clone(), ..Observed::default() };
    let has = |name: &String| found.iter().any(|c| c.service == *name);
    let wanted: BTreeSet<String> = match args.services.is_empty() {
        true => project.services.keys().cloned().collect(),
        false => with_needed(project, &args.services, has),
    };
    if let Some(name) = wanted.iter().find(|n| !has(n) && !args.services.is_empty()) {
        return Err(Failure::new(format!("service {name:?} has no container to start"))
            .with_hint(format!("make it with: {} up --no-start {name}", session.program)));
    }
    let plan = start_plan(project, &observed, &wanted, &args.services);
    let api = api(&session.engine).await?;
    let mut executor = Executor::new(&session.engine, &session.progress, project, observed, &cx.host.version, api);
    executor.parallel = super::up::parallel(cx);
    let work = async {
        executor.start(&plan).await?;
        if args.wait {
            let waits = found
                .iter()
                .filter(|c| wanted.contains(&c.service))
                .map(|c| wait::running_or_healthy(&session.engine, &session.progress, &c.id, &c.name, true));
            let all = try_join_all(waits);
            match args.wait_timeout.filter(|t| *t > 0) {
                Some(seconds) => tokio::time::timeout(std::time::Duration::from_secs(seconds), all)
                    .await
                    .map_err(|_| Failure::new(format!("application not healthy after {seconds}s")))??,
                None => all.await?,
            };
        }
        Ok::<(), Failure>(())
    };
    session.progress.during(work).await?;
    Ok(0)
}

/// A project made of the labels of its containers, for when there is no file.
fn stand_in(session: &Session, found: &[Container]) -> Project {
    let mut project = Project { name: session.name.clone(), ..Project::default() };
    for container in found {
        let service = project.services.entry(container.service.clone()).or_default();
        service.name.clone_from(&container.service);
        let listed = container.labels.get(labels::DEPENDS).map(String::as_str).unwrap_or_default();
        for text in listed.split(',').filter(|t| !t.is_empty()) {
            let mut parts = text.split(':');
            let name = parts.next().unwrap_or_default().to_owned();
            let condition = match parts.next() {
                Some("service_healthy") => Condition::Healthy,
                Some("service_completed_successfully") => Condition::Completed,
                _ => Condition::Started,
            };
            let restart = parts.next() == Some("true");
            service.spec.depends_on.insert(name, crate::file::model::Dependency { condition, restart, required: true });
        }
    }
    project
}

/// Services with all they depend on; what is only optional and has no container is left out.
fn with_needed(project: &Project, services: &[String], has: impl Fn(&String) -> bool) -> BTreeSet<String> {
    let mut out: BTreeSet<String> = services.iter().cloned().collect();
    let mut more: Vec<String> = services.to_vec();
    while let Some(name) = more.pop() {
        let needs = project.services.get(&name).into_iter().flat_map(|s| &s.spec.depends_on);
        for (name, _) in needs.filter(|(n, d)| project.services.contains_key(*n) && (d.required || has(n))) {
            if out.insert(name.clone()) {
                more.push(name.clone());
            }
        }
    }
    out
}

/// Starts of what does not run, in order. What others only waited for and has ended well stays so, if services are
/// named and it is not among them.
fn start_plan(project: &Project, observed: &Observed, wanted: &BTreeSet<String>, named: &[String]) -> step::Plan {
    let mut plan = step::Plan::default();
    let mut starts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for name in crate::plan::reconcile::dependency_order(project) {
        let service = &project.services[&name];
        if !wanted.contains(&name) {
            continue;
        }
        let waits: Vec<step::Wait> = service
            .spec
            .depends_on
            .iter()
            .filter(|(name, _)| project.services.contains_key(*name))
            .map(|(name, d)| step::Wait { service: name.clone(), condition: d.condition, required: d.required })
            .collect();
        let after: Vec<usize> = waits.iter().filter_map(|w| starts.get(&w.service)).flatten().copied().collect();
        let mut own = Vec::new();
        let awaited = |s: &Service| s.spec.depends_on.get(&name).is_some_and(|d| d.condition == Condition::Completed);
        let may_be_done = !named.is_empty() && !named.contains(&name) && project.services.values().any(awaited);
        let rests = |c: &Container| match c.state {
            State::Running | State::Restarting => true,
            State::Exited => may_be_done && c.exit_code == Some(0),
            _ => false,
        };
        for container in observed.of_service(&name).into_iter().filter(|c| !rests(c)) {
            let action = step::Action::Start {
                service: name.clone(),
                number: container.number,
                existing: Some(Box::new(container.clone())),
                waits: waits.clone(),
            };
            own.push(plan.push(action, container.name.clone(), Vec::new(), after.clone()));
        }
        starts.insert(name.clone(), own);
    }
    plan
}

/// Runs `restart`.
pub(super) async fn restart(cx: &Context, args: Restart) -> Outcome {
    let session = Session::open(cx, "Restarting").await?;
    let found = session.containers(&[], true, false).await?;
    session.containers(&args.services, true, false).await?;
    let mut wanted: BTreeSet<String> = match (args.services.is_empty(), &session.project) {
        (false, _) => args.services.iter().cloned().collect(),
        (true, Some(project)) => project.services.keys().cloned().collect(),
        (true, None) => found.iter().map(|c| c.service.clone()).collect(),
    };
    if let Some(project) = session.project.as_ref().filter(|_| !args.no_deps) {
        // those that say `restart: true` of a service that is restarted, and those that say it of them
        let says =
            |s: &Service, of: &BTreeSet<String>| s.spec.depends_on.iter().any(|(n, d)| d.restart && of.contains(n));
        while let Some(more) = project.services.values().find(|s| !wanted.contains(&s.name) && says(s, &wanted)) {
            wanted.insert(more.name.clone());
        }
    }
    let chosen: Vec<Container> = found.into_iter().filter(|c| wanted.contains(&c.service)).collect();
    let work = async {
        // what others need is restarted first
        for layer in teardown::layers(&chosen, session.project.as_ref()).into_iter().rev() {
            try_join_all(layer.iter().map(|c| restart_one(&session, c, args.timeout))).await?;
        }
        Ok::<(), Failure>(())
    };
    session.progress.during(work).await?;
    Ok(0)
}

async fn restart_one(
    session: &Session,
    container: &Container,
    timeout: Option<i64>,
) -> Result<(), barque_model::Error> {
    let Session { engine, progress, .. } = session;
    let (shown, name) = (format!("Container {}", container.name), container.log_name());
    let fail = |e: barque_model::Error| {
        progress.failed(&shown, e.message());
        e
    };
    let service = session.project.as_ref().and_then(|p| p.services.get(&container.service));
    let run = |hooks: &'static str| {
        let spec = service.map(|s| &s.spec);
        let list = spec.map(|s| if hooks == "pre_stop" { s.pre_stop.as_slice() } else { s.post_start.as_slice() });
        hooks::run(engine, progress, list.unwrap_or_default(), &container.id, &name, hooks)
    };
    progress.working(&shown, "Restarting");
    if container.state.is_up() {
        run("pre_stop").await.map_err(fail)?;
    }
    engine.restart(&container.id, timeout).await.map_err(|e| fail(model_error(&e)))?;
    run("post_start").await.map_err(fail)?;
    progress.done(&shown, "Started");
    Ok(())
}

/// Runs `kill`.
pub(super) async fn kill(cx: &Context, args: Kill) -> Outcome {
    let session = Session::open(cx, "Killing").await?;
    let found = session.containers(&args.services, false, false).await?;
    let found: Vec<Container> = found.into_iter().filter(|c| args.remove_orphans || in_project(&session, c)).collect();
    let found: Vec<Container> = found.into_iter().filter(|c| c.state.is_up()).collect();
    if found.is_empty() {
        // As Docker Compose: what was asked for holds already.
        barque_client::tell("no container to kill");
        return Ok(0);
    }
    each(&session, &found, "Killing", "Killed", |c| session.engine.kill(&c.id, &args.signal)).await
}

/// Runs `pause` or `unpause`.
pub(super) async fn pause(cx: &Context, args: Services, freeze: bool) -> Outcome {
    let session = Session::open(cx, if freeze { "Pausing" } else { "Unpausing" }).await?;
    let found = session.containers(&args.services, false, false).await?;
    let from = if freeze { State::Running } else { State::Paused };
    let found: Vec<Container> = found.into_iter().filter(|c| c.state == from).collect();
    let (doing, done) = if freeze { ("Pausing", "Paused") } else { ("Unpausing", "Unpaused") };
    each(&session, &found, doing, done, |c| session.engine.pause(&c.id, freeze)).await
}

async fn each<'a, F>(
    session: &'a Session,
    found: &'a [Container],
    doing: &str,
    done: &str,
    work: impl Fn(&'a Container) -> F,
) -> Outcome
where
    F: Future<Output = barque_client::Result<()>>,
{
    let all = try_join_all(found.iter().map(|c| {
        let call = work(c);
        async move {
            let shown = format!("Container {}", c.name);
            session.progress.working(&shown, doing);
            match call.await {
                Ok(()) => session.progress.done(&shown, done),
                Err(e) => {
                    session.progress.failed(&shown, e.message());
                    return Err(Failure::from(e));
                }
            }
            Ok(())
        }
    }));
    session.progress.during(all).await?;
    Ok(0)
}

/// Runs `rm`.
pub(super) async fn rm(cx: &Context, args: Rm) -> Outcome {
    let session = Session::open(cx, "Removing").await?;
    let found = session.containers(&args.services, true, false).await?;
    if args.stop {
        let how = Teardown { stop: true, remove: false, volumes: false, timeout: None };
        let up: Vec<Container> = found.iter().filter(|c| c.state.is_up()).cloned().collect();
        let work = teardown::containers(&session.engine, &session.progress, session.project.as_ref(), &up, how);
        session.progress.during(work).await?;
    }
    let doomed: Vec<Container> = found.into_iter().filter(|c| args.stop || !c.state.is_up()).collect();
    if doomed.is_empty() {
        barque_client::tell("No stopped containers");
        return Ok(0);
    }
    let names: Vec<&str> = doomed.iter().map(|c| c.name.as_str()).collect();
    let list = names.join(", ");
    if args.force || cx.global.dry_run {
        barque_client::tell(&format!("Going to remove {list}"));
    } else if !terminal::confirm(&format!("? Going to remove {list}")) {
        return Ok(0);
    }
    let how = Teardown { stop: false, remove: true, volumes: args.volumes, timeout: None };
    let work = teardown::containers(&session.engine, &session.progress, session.project.as_ref(), &doomed, how);
    session.progress.during(work).await?;
    if args.volumes {
        teardown::anonymous(&session.engine, &doomed).await;
    }
    Ok(0)
}

/// Runs `wait`.
pub(super) async fn wait(cx: &Context, args: Wait) -> Outcome {
    let session = Session::open(cx, "Running").await?;
    let found = session.containers(&args.services, false, false).await?;
    if found.is_empty() {
        return Err(Failure::new(format!("no containers for project {:?}", session.name)));
    }
    let client = session.engine.read().client();
    let waits = found.iter().map(|c| {
        Box::pin(async move {
            let code = client.container_wait(&c.id, "not-running").await?.finish().await?.status_code;
            Ok::<_, Failure>((c, code))
        })
    });
    let code = if args.down_project {
        let (first, _, _) = select_all(waits).await;
        let (container, code) = first?;
        cx.print(&format!("container {:?} exited with status code {code}\n", container.id));
        let name = session.name.clone();
        drop(session);
        let mut cx = cx.clone();
        cx.global.project_name = Some(name);
        down(&cx, Down::default()).await?;
        code
    } else {
        let mut last = 0;
        for (container, code) in try_join_all(waits).await? {
            cx.print(&format!("container {:?} exited with status code {code}\n", container.id));
            last = code;
        }
        last
    };
    Ok(i32::try_from(code).unwrap_or(1))
}
