//! `up`, `create`, `scale` and `plan`.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::ApiVersion;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::args::{Converge, Create, Plan as PlanArgs, Scale, Up};
use super::context::{Context, Failure, Outcome};
use super::follow;
use super::menu::{Asked, Menu};
use super::session::{Session, api, no_such_service};
use super::watch;
use crate::apply::execute::Executor;
use crate::apply::images::{self, BuildWish};
use crate::apply::{files, observe, preflight, provider, resources, wait};
use crate::file::model::Condition;
use crate::file::project::Project;
use crate::plan::images::{ImageWish, Need, Policy, needs};
use crate::plan::observed::Observed;
use crate::plan::reconcile::{self, Recreate, Wish};
use crate::plan::step::Plan;
use crate::plan::text;

/// Everything `up` and its relatives differ in.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) converge: Converge,
    pub(super) services: Vec<String>,
    pub(super) no_deps: bool,
    pub(super) recreate_deps: bool,
    pub(super) start: bool,
    pub(super) timeout: Option<i64>,
    pub(super) renew_volumes: bool,
    pub(super) quiet_build: bool,
}

/// A project that was brought to what the file says, not started yet.
pub(super) struct Ready {
    pub(super) session: Session,
    pub(super) observed: Observed,
    pub(super) plan: Plan,
    pub(super) api: ApiVersion,
}

impl Ready {
    pub(super) fn project(&self) -> Result<&Project, Failure> {
        self.session.project.as_ref().ok_or_else(|| Failure::new("no project"))
    }
}

/// Most calls at once, if the user set a bound: `--parallel`, `COMPOSE_PARALLEL_LIMIT`.
pub(super) fn asked_parallel(cx: &Context) -> Option<usize> {
    let from_env = cx.host.environment.get("COMPOSE_PARALLEL_LIMIT").and_then(|v| v.parse().ok());
    cx.global.parallel.or(from_env).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0)
}

/// Most steps at once.
pub(super) fn parallel(cx: &Context) -> usize {
    asked_parallel(cx).unwrap_or(32)
}

fn scale_flags(flags: &[String], project: &Project) -> Result<BTreeMap<String, usize>, Failure> {
    let mut out = BTreeMap::new();
    for flag in flags {
        let (name, number) = flag
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("invalid --scale option {flag:?}. Should be SERVICE=NUM")))?;
        let number: usize = number
            .parse()
            .map_err(|_| Failure::new(format!("invalid --scale option {flag:?}. Should be SERVICE=NUM")))?;
        if !project.services.contains_key(name) && !project.disabled.contains_key(name) {
            return Err(no_such_service(name, project.services.keys().chain(project.disabled.keys())));
        }
        if number > 1 && project.services.get(name).is_some_and(|s| !s.spec.container_name.is_empty()) {
            return Err(Failure::new(format!(
                "services.{name}: can't set container_name and scale as container name must be unique"
            )));
        }
        out.insert(name.to_owned(), number);
    }
    Ok(out)
}

fn wish_of(cx: &Context, request: &Request, project: &Project) -> Result<Wish, Failure> {
    let recreate = match (request.converge.force_recreate, request.converge.no_recreate) {
        (true, _) => Recreate::Always,
        (_, true) => Recreate::Never,
        _ => Recreate::Changed,
    };
    let recreate_deps = match (request.recreate_deps, recreate) {
        (true, _) => Recreate::Always,
        (_, Recreate::Never) => Recreate::Never,
        _ => Recreate::Changed,
    };
    let orphans = cx.host.environment.get("COMPOSE_REMOVE_ORPHANS").is_some_and(|v| matches!(v.as_str(), "1" | "true"));
    Ok(Wish {
        named: request.services.clone(),
        scale: scale_flags(&request.converge.scale, project)?,
        recreate,
        recreate_deps,
        remove_orphans: request.converge.remove_orphans || orphans,
        start: request.start,
        compatibility: cx.compatibility(),
        images_pending: BTreeMap::new(),
        files: project.services.values().filter_map(|s| Some((s.name.clone(), files::digest(project, s)?))).collect(),
    })
}

fn image_wish(converge: &Converge) -> ImageWish {
    ImageWish { build: converge.build, no_build: converge.no_build, pull: Policy::parse(converge.pull.as_deref()) }
}

/// Loads, looks, fetches images and plans.
pub(super) async fn prepare(cx: &Context, request: &Request) -> Result<Ready, Failure> {
    let mut options = cx.load_options(&request.services);
    options.no_deps = request.no_deps;
    let mut project = cx.load_with(&options)?;
    if project.services.is_empty() {
        return Err(Failure::new("no service selected"));
    }
    let called = call_providers(cx, &mut project).await?;
    let wish = wish_of(cx, request, &project)?;
    let name = project.name.clone();
    let mut session = Session::with(cx, Some(project), name, "Running").await?;
    let mut observed = look(&mut session, called).await?;
    let project = session.project.as_ref().ok_or_else(|| Failure::new("no project"))?;
    resources::check_external(project, &observed)?;
    let needed = needs(project, &observed, image_wish(&request.converge), jiff::Timestamp::now().as_second());
    fetch(cx, &session, project, &needed, request).await?;
    if needed.values().any(|n| *n != Need::Nothing) {
        let names: BTreeSet<String> = project.services.values().map(|s| s.image(&project.name)).collect();
        observed.images = observe::images(session.engine.read(), names).await?;
    }
    let plan = reconcile::plan(project, &observed, &wish);
    plan.warnings.iter().for_each(|w| cx.warn(w));
    orphan_warning(cx, &plan, &wish);
    let api = api(&session.engine).await?;
    preflight::plan(session.engine.read(), project, &observed, &plan, api).await?;
    Ok(Ready { observed, plan, api, session })
}

/// Lets the providers of the project do their work, unless this is a dry run; tells whether it did.
pub(super) async fn call_providers(cx: &Context, project: &mut Project) -> Result<bool, Failure> {
    if !cx.global.dry_run {
        let progress = super::session::progress(cx);
        provider::up(project, cx.host.home.as_deref(), &progress).await?;
    }
    Ok(!cx.global.dry_run)
}

/// What the engine has of the project, whose services get what their providers set earlier if they were not called.
pub(super) async fn look(session: &mut Session, called: bool) -> Result<Observed, Failure> {
    let project = session.project.as_mut().ok_or_else(|| Failure::new("no project"))?;
    let observed = observe::project(session.engine.read(), project).await?;
    provider::remember(project, &observed, called);
    Ok(observed)
}

fn orphan_warning(cx: &Context, plan: &Plan, wish: &Wish) {
    let ignored = cx.host.environment.get("COMPOSE_IGNORE_ORPHANS").is_some_and(|v| matches!(v.as_str(), "1" | "true"));
    if plan.orphans.is_empty() || wish.remove_orphans || ignored {
        return;
    }
    let names: Vec<&str> = plan.orphans.iter().map(|c| c.name.as_str()).collect();
    cx.warn(&format!(
        "Found orphan containers ([{}]) for this project. If you removed or renamed this service in your compose file, you can run this command with the --remove-orphans flag to clean it up.",
        names.join(" ")
    ));
}

/// Pulls and builds what is needed, each image once.
pub(super) async fn fetch(
    cx: &Context,
    session: &Session,
    project: &Project,
    needed: &BTreeMap<String, Need>,
    request: &Request,
) -> Result<(), Failure> {
    let quiet = crate::apply::progress::Progress::quiet();
    let progress = if request.converge.quiet_pull { &quiet } else { &session.progress };
    let mut pulls: BTreeMap<(String, String), (String, bool, bool)> = BTreeMap::new();
    let mut builds: Vec<String> = Vec::new();
    for (name, need) in needed {
        let Some(service) = project.services.get(name) else { continue };
        let image = service.image(&project.name);
        let key = (image.clone(), project.platform_of(service));
        match need {
            Need::Nothing => {}
            Need::Pull { optional, .. } => {
                pulls.entry(key).or_insert((name.clone(), *optional, false));
            }
            Need::PullOrBuild { .. } => {
                pulls.entry(key).or_insert((name.clone(), true, true));
            }
            Need::Build { .. } => builds.push(name.clone()),
            Need::Missing => {
                return Err(Failure::new(format!("No such image: {image}"))
                    .with_hint("its pull policy forbids to fetch it; build or load it, or allow to pull"));
            }
        }
    }
    let limit = parallel(cx);
    let pulling = stream::iter(pulls).map(|((image, platform), (name, optional, build))| async move {
        let result = images::pull(&session.engine, progress, &name, &image, &platform).await;
        match result {
            Err(_) if build => Ok(Some(name)),
            Err(e) if !optional => Err(Failure::from(e)),
            _ => Ok(None),
        }
    });
    let unpulled: Vec<Option<String>> = session.progress.during(pulling.buffer_unordered(limit).try_collect()).await?;
    builds.extend(unpulled.into_iter().flatten());
    let wish = BuildWish { quiet: request.quiet_build, prefix: builds.len() > 1, to_run: true, ..BuildWish::default() };
    build_all(session, project, &builds, &wish).await
}

/// Builds services at once, but those whose images are contexts of others first.
pub(super) async fn build_all(
    session: &Session,
    project: &Project,
    names: &[String],
    wish: &BuildWish,
) -> Result<(), Failure> {
    for round in build_rounds(project, names)? {
        let building = round
            .iter()
            .filter_map(|n| project.services.get(n))
            .map(|service| images::build(&session.engine, &session.progress, project, service, wish));
        session.progress.during(try_join_all(building)).await?;
    }
    Ok(())
}

/// The services to build in their order; what a service names as `service:…` context is built before it.
fn build_rounds(project: &Project, names: &[String]) -> Result<Vec<Vec<String>>, Failure> {
    let needs = |name: &String| -> BTreeSet<String> {
        let spec = project.services.get(name).and_then(|s| s.spec.build.as_ref());
        let contexts = spec.into_iter().flat_map(|b| b.additional_contexts.values());
        let named = contexts.filter_map(|c| c.strip_prefix("service:").map(str::to_owned));
        named.filter(|n| project.services.get(n).is_some_and(|s| s.spec.build.is_some())).collect()
    };
    let mut left: BTreeSet<String> = names.iter().cloned().collect();
    let mut more: Vec<String> = names.to_vec();
    while let Some(name) = more.pop() {
        more.extend(needs(&name).into_iter().filter(|n| left.insert(n.clone())));
    }
    let mut rounds = Vec::new();
    while !left.is_empty() {
        let (ready, waiting): (BTreeSet<String>, BTreeSet<String>) =
            left.iter().cloned().partition(|name| needs(name).is_disjoint(&left));
        if ready.is_empty() {
            let list: Vec<String> = waiting.into_iter().collect();
            return Err(Failure::new(format!("builds wait for each other: {}", list.join(", "))));
        }
        left = waiting;
        rounds.push(ready.into_iter().collect());
    }
    Ok(rounds)
}

fn executor<'a>(cx: &'a Context, ready: &'a Ready, request: &Request) -> Result<Executor<'a>, Failure> {
    let mut executor = Executor::new(
        &ready.session.engine,
        &ready.session.progress,
        ready.project()?,
        ready.observed.clone(),
        &cx.host.version,
        ready.api,
    );
    executor.parallel = parallel(cx);
    executor.timeout = request.timeout;
    executor.renew_volumes = request.renew_volumes;
    executor.refill = true;
    Ok(executor)
}

/// Runs `create`.
pub(super) async fn create(cx: &Context, args: Create) -> Outcome {
    check_build(&args.converge)?;
    let request = Request { converge: args.converge, services: args.services, ..Request::default() };
    let ready = prepare(cx, &request).await?;
    let executor = executor(cx, &ready, &request)?;
    ready.session.progress.during(executor.make(&ready.plan)).await?;
    Ok(0)
}

/// Runs `scale`.
pub(super) async fn scale(cx: &Context, args: Scale) -> Outcome {
    let services: Vec<String> = args.scale.iter().map(|s| s.split('=').next().unwrap_or_default().to_owned()).collect();
    let converge = Converge { scale: args.scale, ..Converge::default() };
    let request = Request { converge, services, no_deps: args.no_deps, start: true, ..Request::default() };
    converge_and_start(cx, &request).await?;
    Ok(0)
}

pub(super) async fn converge_and_start(cx: &Context, request: &Request) -> Result<Observed, Failure> {
    let ready = prepare(cx, request).await?;
    let executor = executor(cx, &ready, request)?;
    let work = async {
        executor.make(&ready.plan).await?;
        executor.start(&ready.plan).await
    };
    ready.session.progress.during(work).await?;
    Ok(executor.observed())
}

/// Runs `plan`.
pub(super) async fn plan(cx: &Context, args: PlanArgs) -> Outcome {
    let request = Request {
        converge: args.converge,
        services: args.services,
        no_deps: args.no_deps,
        recreate_deps: args.always_recreate_deps,
        start: true,
        ..Request::default()
    };
    let failed = |mut f: Failure| {
        f.code = 1;
        f
    };
    let (plan, needed) = compute(cx, &request).await.map_err(failed)?;
    if args.format == "json" {
        cx.print(&format!("{:#}\n", text::json(&plan, &needed)));
    } else {
        cx.print(&text::text(&plan, &needed, cx.colour()));
    }
    Ok(if text::changes(&plan, &needed) { 2 } else { 0 })
}

async fn compute(cx: &Context, request: &Request) -> Result<(Plan, BTreeMap<String, Need>), Failure> {
    let mut options = cx.load_options(&request.services);
    options.no_deps = request.no_deps;
    let project = cx.load_with(&options)?;
    let mut wish = wish_of(cx, request, &project)?;
    let name = project.name.clone();
    let mut session = Session::with(cx, Some(project), name, "Planning").await?;
    let observed = look(&mut session, false).await?;
    let project = session.project.as_ref().ok_or_else(|| Failure::new("no project"))?;
    resources::check_external(project, &observed)?;
    let needed = needs(project, &observed, image_wish(&request.converge), jiff::Timestamp::now().as_second());
    for (service, need) in &needed {
        if let Need::Pull { why, .. } | Need::PullOrBuild { why } | Need::Build { why } = need {
            wish.images_pending.insert(service.clone(), why.clone());
        }
    }
    let mut plan = reconcile::plan(project, &observed, &wish);
    preflight::plan(session.engine.read(), project, &observed, &plan, api(&session.engine).await?).await?;
    for service in project.services.values() {
        let Some(kind) = service.spec.provider.as_ref().and_then(|p| p["type"].as_str()) else { continue };
        plan.warnings.push(format!("service {} is made by the provider {kind}, which up always calls", service.name));
    }
    if !wish.remove_orphans {
        for orphan in &plan.orphans {
            plan.warnings.push(format!(
                "container {} belongs to no service of the file; --remove-orphans removes it",
                orphan.name
            ));
        }
    }
    Ok((plan, needed))
}

fn check_build(converge: &Converge) -> Result<(), Failure> {
    if converge.build && converge.no_build {
        return Err(Failure::new("--build and --no-build are incompatible"));
    }
    Ok(())
}

fn check_flags(args: &Up) -> Result<(), Failure> {
    let detached = args.detach || args.wait;
    let cascade = args.abort_on_container_exit || args.abort_on_container_failure || args.exit_code_from.is_some();
    if args.abort_on_container_exit && args.abort_on_container_failure {
        return Err(Failure::new("cannot combine --abort-on-container-failure and --abort-on-container-exit"));
    }
    if args.wait && (args.attach_dependencies || cascade || !args.attach.is_empty()) {
        return Err(Failure::new(
            "--wait cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach or --attach-dependencies",
        ));
    }
    if detached && (args.attach_dependencies || cascade || !args.attach.is_empty() || args.watch) {
        return Err(Failure::new(
            "--detach cannot be combined with --abort-on-container-exit, --abort-on-container-failure, --attach, --attach-dependencies or --watch",
        ));
    }
    check_build(&args.converge)?;
    if args.converge.no_recreate && args.renew_anon_volumes {
        return Err(Failure::new("--no-recreate and --renew-anon-volumes are incompatible"));
    }
    if args.watch && args.converge.no_build {
        return Err(Failure::new("--no-build and --watch are incompatible"));
    }
    if args.always_recreate_deps && args.converge.no_recreate {
        return Err(Failure::new("--always-recreate-deps and --no-recreate are incompatible"));
    }
    Ok(())
}

/// Runs `up`.
pub(super) async fn up(cx: &Context, args: Up) -> Outcome {
    check_flags(&args)?;
    let request = Request {
        converge: args.converge.clone(),
        services: args.services.clone(),
        no_deps: args.no_deps,
        recreate_deps: args.always_recreate_deps,
        start: !args.no_start,
        timeout: args.timeout,
        renew_volumes: args.renew_anon_volumes,
        quiet_build: args.quiet_build,
    };
    let ready = prepare(cx, &request).await?;
    if let Some(service) =
        args.exit_code_from.as_ref().filter(|s| !ready.project().is_ok_and(|p| p.services.contains_key(*s)))
    {
        return Err(no_such_service(service, ready.project()?.services.keys()));
    }
    let mut executor = executor(cx, &ready, &request)?;
    let attached = !(args.detach || args.wait || args.no_start || cx.global.dry_run);
    if attached {
        ready.session.progress.during(executor.make(&ready.plan)).await?;
        // progress and the output of containers would overwrite each other
        let lines = crate::apply::progress::Progress::lines_only();
        executor.progress = &lines;
        return attended(cx, &args, &ready, &executor).await;
    }
    let work = async {
        executor.make(&ready.plan).await?;
        executor.start(&ready.plan).await?;
        if args.wait && !args.no_start {
            wait_for_all(&ready, &executor, args.wait_timeout).await?;
        }
        Ok::<(), Failure>(())
    };
    ready.session.progress.during(work).await?;
    Ok(0)
}

/// Shows what containers write until they end, watching files meanwhile and doing what keys ask for, if wanted.
async fn attended(cx: &Context, args: &Up, ready: &Ready, executor: &Executor<'_>) -> Outcome {
    let options = || watch::Options { services: args.services.clone(), quiet: args.quiet_build, ..Default::default() };
    let watch = || Box::pin(watch::beside(cx, options()));
    let mut watching = args.watch.then(watch);
    let mut menu = Menu::open(cx, args);
    let leave = tokio::sync::Notify::new();
    let mut shown = std::pin::pin!(follow::up(cx, ready, executor, args, &leave));
    loop {
        tokio::select! {
            outcome = &mut shown => return outcome,
            Err(failure) = follow::pending(&mut watching) => {
                if args.watch {
                    return Err(failure);
                }
                cx.warn(&failure.message);
                watching = None;
            }
            asked = Menu::next(&mut menu) => match asked {
                Asked::Detach => leave.notify_one(),
                Asked::Watch if watching.take().is_some() => cx.print("Watch disabled\n"),
                Asked::Watch => watching = Some(watch()),
            }
        }
    }
}

/// `--wait`: every container runs and is healthy, or ended well if that is its way.
pub(super) async fn wait_for_all(ready: &Ready, executor: &Executor<'_>, limit: Option<u64>) -> Result<(), Failure> {
    let observed = executor.observed();
    let project = ready.project()?;
    let one_shots: BTreeSet<&str> = project
        .services
        .values()
        .flat_map(|s| &s.spec.depends_on)
        .filter(|(_, d)| d.condition == Condition::Completed)
        .map(|(name, _)| name.as_str())
        .collect();
    let waits = project.services.keys().flat_map(|s| observed.of_service(s)).map(|c| {
        let may_end = one_shots.contains(c.service.as_str());
        let (id, name) = (c.id.clone(), c.name.clone());
        async move { wait::running_or_healthy(executor.engine, executor.progress, &id, &name, may_end).await }
    });
    let all = join_all(waits);
    let results = match limit.filter(|l| *l > 0) {
        Some(seconds) => tokio::time::timeout(std::time::Duration::from_secs(seconds), all)
            .await
            .map_err(|_| Failure::new("application not healthy after ".to_owned() + &format!("{seconds}s")))?,
        None => all.await,
    };
    results.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::model::{Build, ServiceSpec};
    use crate::file::project::Service;

    fn project(services: &[(&str, &str)]) -> Project {
        let mut project = Project::default();
        for (name, context) in services {
            let contexts =
                if context.is_empty() { [].into() } else { [("base".to_owned(), (*context).to_owned())].into() };
            let build = Some(Build { additional_contexts: contexts, ..Build::default() });
            let spec = ServiceSpec { build, ..ServiceSpec::default() };
            let service = Service { name: (*name).to_owned(), json: serde_json::Value::Null, spec };
            project.services.insert((*name).to_owned(), service);
        }
        project
    }

    #[test]
    fn contexts_of_services_are_built_first() {
        let project = project(&[("app", "service:base"), ("base", ""), ("web", "docker-image://x")]);
        let rounds = build_rounds(&project, &["app".into(), "web".into()]).expect("rounds");
        assert_eq!(rounds, [vec!["base".to_owned(), "web".into()], vec!["app".into()]]);
        let circle = super::tests::project(&[("a", "service:b"), ("b", "service:a")]);
        assert!(build_rounds(&circle, &["a".into()]).expect_err("circle").message.contains("a, b"));
    }
}
