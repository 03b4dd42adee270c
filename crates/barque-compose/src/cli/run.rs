//! `run`: a container of its own for one command.

use std::io::IsTerminal;

use barque_api::container::AttachQuery;

use super::args::{Converge, Run};
use super::context::{Context, Failure, Outcome};
use super::session::{Session, api, no_such_service};
use super::up::{self, Request, fetch};
use super::{exec, stream, terminal};
use crate::apply::body::{self, Making};
use crate::apply::execute::Executor;
use crate::apply::{files, hooks, observe, preflight, resources};
use crate::file::canon_short;
use crate::file::diag::Span;
use crate::file::dotenv;
use crate::file::model::{Mount, Port};
use crate::file::node::Node;
use crate::file::project::{Project, Service};
use crate::plan::images::{ImageWish, Policy, needs};
use crate::plan::labels;
use crate::plan::observed::Observed;
use crate::plan::reconcile::{self, Recreate, Wish};
use crate::plan::step::Wait;

/// Runs `run`.
pub(super) async fn run(cx: &Context, args: Run) -> Outcome {
    if args.service_ports && !args.publish.is_empty() {
        return Err(Failure::new("--service-ports and --publish are incompatible"));
    }
    let (name, command) = args.words.split_first().ok_or_else(|| Failure::new("a service is missing"))?;
    let mut options = cx.load_options(std::slice::from_ref(name));
    options.no_deps = false;
    let mut project = cx.load_with(&options)?;
    let missing = |project: &Project| no_such_service(name, project.services.keys().chain(project.disabled.keys()));
    if !project.services.contains_key(name) {
        return Err(missing(&project));
    }
    let called = !args.no_deps && up::call_providers(cx, &mut project).await?;
    let project_name = project.name.clone();
    let mut session = Session::with(cx, Some(project), project_name, "Running").await?;
    let observed = up::look(&mut session, called).await?;
    let project = session.project.as_ref().ok_or_else(|| Failure::new("no project"))?;
    let mut service = project.services.get(name).cloned().ok_or_else(|| missing(project))?;
    let tty = !args.no_tty && !args.detach && std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    change(cx, project, &mut service, &args, command, tty)?;
    let observed = prepare(cx, &session, &service, &args, observed).await?;
    let id = create(cx, &session, project, &service, &args, &observed).await?;
    if cx.global.dry_run {
        return Ok(0);
    }
    if args.detach {
        session.engine.start(&id.0).await?;
        post_start(&session, &service, &id.0).await?;
        cx.print(&format!("{}\n", id.1));
        return Ok(0);
    }
    attach(&session, &service, &id.0, &args, tty).await
}

/// Applies the flags to the service.
fn change(
    cx: &Context,
    project: &Project,
    service: &mut Service,
    args: &Run,
    command: &[String],
    tty: bool,
) -> Result<(), Failure> {
    let spec = &mut service.spec;
    spec.tty = tty;
    spec.stdin_open = args.interactive && !args.detach || spec.stdin_open;
    spec.container_name = String::new();
    spec.restart = String::new();
    spec.deploy = spec.deploy.take().map(|d| crate::file::model::Deploy { restart_policy: None, ..d });
    // a health check says nothing about a command that ends
    if !command.is_empty() {
        spec.command = Some(command.to_vec());
    }
    if let Some(text) = &args.entrypoint {
        let words = canon_short::words(text).map_err(Failure::new)?.words;
        spec.entrypoint = Some(words);
        if command.is_empty() {
            spec.command = Some(Vec::new());
        }
    }
    for path in &args.env_from_file {
        let text = std::fs::read_to_string(cx.host.cwd.join(path))
            .map_err(|e| Failure::new(format!("env file {}: {e}", path.display())))?;
        let lookup = |name: &str| project.environment.get(name).cloned();
        let read = dotenv::parse(&text, &lookup).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
        spec.environment.extend(read.into_iter().map(|(k, v)| (k, Some(v))));
    }
    for pair in exec::resolve_env(cx, &args.env) {
        let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
        spec.environment.insert(key.to_owned(), Some(value.to_owned()));
    }
    for label in &args.label {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        spec.labels.insert(key.to_owned(), value.to_owned());
    }
    if let Some(user) = &args.user {
        spec.user.clone_from(user);
    }
    if let Some(dir) = &args.workdir {
        spec.working_dir.clone_from(dir);
    }
    spec.cap_add.extend(args.cap_add.iter().cloned());
    spec.cap_add.retain(|c| !args.cap_drop.contains(c));
    spec.cap_drop.extend(args.cap_drop.iter().cloned());
    if !args.service_ports {
        spec.ports.clear();
    }
    for text in &args.publish {
        for port in canon_short::ports(text).map_err(Failure::new)? {
            spec.ports.push(Port {
                host_ip: port.host_ip,
                target: port.target,
                published: port.published,
                protocol: port.protocol,
                ..Port::default()
            });
        }
    }
    for text in &args.volume {
        let mount = mount_flag(cx, text)?;
        spec.volumes.retain(|v| v.target != mount.target);
        spec.volumes.push(mount);
    }
    Ok(())
}

fn mount_flag(cx: &Context, text: &str) -> Result<Mount, Failure> {
    let node = canon_short::mount(text, &Node::null(Span::default())).map_err(Failure::new)?;
    let mut mount: Mount =
        serde_json::from_value(crate::file::render::any(&node)).map_err(|e| Failure::new(e.to_string()))?;
    if mount.kind == "bind" {
        mount.source = crate::file::paths::absolute(&mount.source, &cx.host.cwd, cx.host.home.as_deref());
    }
    Ok(mount)
}

/// Fetches images, makes networks and volumes, starts what the service needs.
async fn prepare(
    cx: &Context,
    session: &Session,
    service: &Service,
    args: &Run,
    mut observed: Observed,
) -> Result<Observed, Failure> {
    let project = session.project.as_ref().ok_or_else(|| Failure::new("no project"))?;
    resources::check_external(project, &observed)?;
    let wish = ImageWish { build: args.build, no_build: false, pull: Policy::parse(args.pull.as_deref()) };
    let mut needed = needs(project, &observed, wish, jiff::Timestamp::now().as_second());
    if args.no_deps {
        needed.retain(|name, _| *name == service.name);
    }
    let converge = Converge { quiet_pull: args.quiet_pull, ..Converge::default() };
    let request = Request { converge, quiet_build: args.quiet_build, ..Request::default() };
    fetch(cx, session, project, &needed, &request).await?;
    let names = project.services.values().map(|s| s.image(&project.name)).collect();
    observed.images = observe::images(session.engine.read(), names).await?;
    let mut wish = Wish {
        recreate: Recreate::Never,
        recreate_deps: Recreate::Never,
        start: !args.no_deps,
        remove_orphans: args.remove_orphans,
        compatibility: cx.compatibility(),
        ..Wish::default()
    };
    // of the service itself nothing is made; what runs of it stays as it is
    wish.scale.insert(service.name.clone(), reconcile::present(&service.name, &observed));
    if args.no_deps {
        for other in project.services.keys() {
            wish.scale.insert(other.clone(), reconcile::present(other, &observed));
        }
    }
    let mut plan = reconcile::plan(project, &observed, &wish);
    plan.running.clear();
    let own: Vec<usize> = (0..plan.steps.len())
        .filter(|i| matches!(&plan.steps[*i].action, crate::plan::step::Action::Start { service: s, .. } if *s == service.name))
        .collect();
    let keep: Vec<usize> = (0..plan.steps.len()).filter(|i| !own.contains(i)).collect();
    let steps = keep
        .iter()
        .map(|i| {
            let mut step = plan.steps[*i].clone();
            step.after = step.after.iter().filter_map(|d| keep.iter().position(|k| k == d)).collect();
            step
        })
        .collect();
    plan.steps = steps;
    let api = api(&session.engine).await?;
    preflight::service(project, service, &observed, (0, &service.name), api)?;
    preflight::plan(session.engine.read(), project, &observed, &plan, api).await?;
    let executor = Executor::new(&session.engine, &session.progress, project, observed, &cx.host.version, api);
    let work = async {
        executor.make(&plan).await?;
        executor.start(&plan).await?;
        for (name, d) in
            service.spec.depends_on.iter().filter(|(n, _)| !args.no_deps && project.services.contains_key(*n))
        {
            let wait = Wait { service: name.clone(), condition: d.condition, required: d.required };
            executor.wait_for(&wait).await?;
        }
        Ok::<(), barque_model::Error>(())
    };
    session.progress.during(work).await?;
    Ok(executor.observed())
}

async fn create(
    cx: &Context,
    session: &Session,
    project: &Project,
    service: &Service,
    args: &Run,
    observed: &Observed,
) -> Result<(String, String), Failure> {
    let slug = barque_model::Id::random().to_string();
    let glue = if cx.compatibility() { "_" } else { "-" };
    let own = format!("{}{glue}{}{glue}run{glue}{}", project.name, service.name, &slug[..12]);
    let name = args.name.clone().unwrap_or(own);
    let making = Making {
        project,
        service,
        observed,
        image: observed.images.get(&service.image(&project.name)),
        number: 0,
        name: &name,
        inherit: None,
        aliases: args.use_aliases,
        version: &cx.host.version,
        api: api(&session.engine).await?,
    };
    let mut made = body::make(&making)?;
    made.request.config.attach_stdin = args.interactive && !args.detach;
    made.request.config.stdin_once = made.request.config.attach_stdin;
    let labels = made.request.config.labels.get_or_insert_default();
    labels.insert(labels::SLUG.to_owned(), slug);
    if let Some(host) = made.request.host_config.as_mut() {
        host.auto_remove = args.rm;
    }
    let (id, _) = session.engine.create(&name, &service.spec.platform, &made.request).await?;
    files::complete(&session.engine, project, service, &id, made.later).await?;
    Ok((id, name))
}

async fn post_start(session: &Session, service: &Service, id: &str) -> Result<(), Failure> {
    let hooks = &service.spec.post_start;
    Ok(hooks::run(&session.engine, &session.progress, hooks, id, &service.name, "post_start").await?)
}

async fn attach(session: &Session, service: &Service, id: &str, args: &Run, tty: bool) -> Outcome {
    let client = session.engine.writer()?;
    let stdin = args.interactive;
    let query = AttachQuery { stream: true, stdin, stdout: true, stderr: true, ..AttachQuery::default() };
    let connection = client.container_attach(id, &query).await?;
    let end = if args.rm { "removed" } else { "next-exit" };
    let waiting = client.container_wait(id, end).await?;
    let raw = tty.then(terminal::RawMode::enter);
    let proxy = super::signals::Proxy::start(client.clone(), id.to_owned(), !tty);
    session.engine.start(id).await?;
    let resize = |rows, columns| async move {
        let _ = client.container_resize(id, rows, columns).await;
    };
    if let Some((rows, columns)) = tty.then(terminal::size).flatten() {
        resize(rows, columns).await;
    }
    // What the container writes is not held up by its hooks.
    let copying = stream::copy(connection, tty, stdin, resize);
    let (copied, hooked) = tokio::join!(copying, post_start(session, service, id));
    drop((raw, proxy));
    copied?;
    let code = waiting.finish().await?.status_code;
    hooked?;
    Ok(i32::try_from(code).unwrap_or(1))
}
