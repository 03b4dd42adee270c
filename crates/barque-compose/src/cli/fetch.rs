//! `build`, `pull` and `push`.

use std::collections::{BTreeMap, BTreeSet};

use barque_model::ErrorKind;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::args::{Build, Pull, Push};
use super::bake;
use super::context::{Context, Failure, Outcome};
use super::session::{Session, progress};
use super::up::{build_all, parallel};
use crate::apply::images::{self, BuildWish};
use crate::apply::observe;
use crate::apply::progress::{Progress, Status};
use crate::file::paths;
use crate::file::project::Project;
use crate::file::units;

async fn open(cx: &Context, services: &[String], no_deps: bool, title: &str) -> Result<Session, Failure> {
    let mut options = cx.load_options(services);
    options.no_deps = no_deps;
    let project = cx.load_with(&options)?;
    let name = project.name.clone();
    Session::with(cx, Some(project), name, title).await
}

fn project_of(session: &Session) -> Result<&Project, Failure> {
    session.project.as_ref().ok_or_else(|| Failure::new("no project"))
}

/// Runs `build`.
pub(super) async fn build(cx: &Context, args: Build) -> Outcome {
    let wanted = |value: &Option<String>| value.as_deref().is_some_and(|v| !matches!(v, "" | "false" | "0"));
    for (given, what) in [(wanted(&args.provenance), "build --provenance"), (wanted(&args.sbom), "build --sbom")] {
        if given {
            return Err(Failure::not_implemented(what));
        }
    }
    barque_client::builder::check(args.builder.as_deref().unwrap_or_default())?;
    cx.warn_ignored(&[
        (args.compress, "compress"),
        (args.force_rm, "force-rm"),
        (args.no_rm, "no-rm"),
        (args.parallel, "parallel"),
    ]);
    let session = open(cx, &args.services, !args.with_dependencies, "Building").await?;
    let project = project_of(&session)?;
    let names: Vec<String> =
        project.services.values().filter(|s| s.spec.build.is_some()).map(|s| s.name.clone()).collect();
    if names.is_empty() {
        cx.warn("No services to build");
        return Ok(0);
    }
    let args_of = |flag: &String| match flag.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (flag.clone(), project.environment.get(flag).cloned()),
    };
    let wish = BuildWish {
        args: args.build_arg.iter().map(args_of).collect(),
        no_cache: args.no_cache,
        pull: args.pull,
        quiet: args.quiet,
        memory: args.memory.as_deref().map(units::bytes).transpose().map_err(Failure::new)?.unwrap_or(0),
        prefix: names.len() > 1,
        ssh: args.ssh.iter().flat_map(|s| s.split(',')).map(|s| from_here(cx, s)).collect(),
        check: args.check,
        to_run: false,
    };
    if args.print {
        let text = serde_json::to_string_pretty(&bake::bake(project, &names, &wish, args.push))
            .map_err(|e| Failure::new(e.to_string()))?;
        cx.print(&format!("{text}\n"));
        return Ok(0);
    }
    if args.check {
        return check(cx, &session, project, &names, &wish).await;
    }
    build_all(&session, project, &names, &wish).await?;
    if args.push {
        push_all(cx, &session, project, &names, false, &session.progress).await?;
    }
    Ok(0)
}

/// `build --check`: the warnings of every service; exit status 1 if there are any.
async fn check(cx: &Context, session: &Session, project: &Project, names: &[String], wish: &BuildWish) -> Outcome {
    let mut code = 0;
    for service in names.iter().filter_map(|n| project.services.get(n)) {
        let found = images::check(&session.engine, project, service, wish).await;
        let text = match found.as_deref() {
            Ok([]) => "Check complete, no warnings found.".to_owned(),
            Ok([_]) => "Check complete, 1 warning has been found!".to_owned(),
            Ok(many) => format!("Check complete, {} warnings have been found!", many.len()),
            Err(e) => e.chain(),
        };
        let mut lines = vec![text];
        lines.extend(found.iter().flatten().map(|warning| format!("WARNING: {warning}")));
        for line in lines {
            let prefix = if wish.prefix { format!("{}  ", service.name) } else { String::new() };
            cx.print(&format!("{prefix}{line}\n"));
        }
        match found {
            Ok(warnings) if warnings.is_empty() => {}
            Err(e) if e.kind() == ErrorKind::Unsupported => return Err(e.into()),
            _ => code = 1,
        }
    }
    Ok(code)
}

/// `ID=SOCKET` of the command line: a path there starts where the user is, one of the file at the file.
fn from_here(cx: &Context, agent: &str) -> String {
    match agent.split_once('=') {
        Some((id, path)) => format!("{id}={}", paths::absolute(path, &cx.host.cwd, None)),
        None => agent.to_owned(),
    }
}

/// Runs `pull`.
pub(super) async fn pull(cx: &Context, args: Pull) -> Outcome {
    cx.warn_ignored(&[(args.parallel, "parallel"), (args.no_parallel, "no-parallel")]);
    let session = open(cx, &args.services, !args.include_deps, "Pulling").await?;
    let project = project_of(&session)?;
    let quiet = Progress::quiet();
    let shown = if args.quiet { &quiet } else { &session.progress };
    let wanted: BTreeSet<String> = project.services.values().map(|s| s.image(&project.name)).collect();
    let there = match args.policy.as_deref() {
        Some("missing") => observe::images(session.engine.read(), wanted).await?,
        _ => BTreeMap::new(),
    };
    let mut pulls: BTreeMap<(String, String), (String, bool)> = BTreeMap::new();
    for service in project.services.values().filter(|s| s.spec.provider.is_none()) {
        let image = service.image(&project.name);
        let buildable = service.spec.build.is_some();
        let policy = service.spec.pull_policy.as_str();
        let skip = if service.spec.image.is_empty() {
            Some("No image to be pulled")
        } else if buildable && (args.ignore_buildable || policy == "build") {
            Some("Image can be built")
        } else if there.contains_key(&image) {
            Some("Image is already present locally")
        } else if policy == "never" {
            Some("pull_policy: never")
        } else {
            None
        };
        match skip {
            Some(why) => shown.event(&service.name, &format!("Skipped {why}"), Status::Done),
            None => {
                pulls.entry((image, project.platform_of(service))).or_insert((service.name.clone(), buildable));
            }
        }
    }
    let work = stream::iter(pulls).map(|((image, platform), (name, buildable))| {
        let engine = &session.engine;
        async move {
            match images::pull(engine, shown, &name, &image, &platform).await {
                Err(_) if args.ignore_pull_failures => Ok(None),
                // what can be built need not be in a registry
                Err(_) if buildable => Ok(Some(name)),
                Err(e) => Err(Failure::from(e)),
                Ok(()) => Ok(None),
            }
        }
    });
    let work = work.buffer_unordered(parallel(cx)).try_collect::<Vec<Option<String>>>();
    let left: Vec<String> = shown.during(work).await?.into_iter().flatten().collect();
    if !left.is_empty() {
        let list = left.join(" ");
        cx.warn(&format!(
            "Some service image(s) must be built from source by running:\n    {} build {list}",
            cx.host.program
        ));
    }
    Ok(0)
}

/// Runs `push`.
pub(super) async fn push(cx: &Context, args: Push) -> Outcome {
    let session = open(cx, &args.services, !args.include_deps, "Pushing").await?;
    let project = project_of(&session)?;
    let names: Vec<String> = project.services.keys().cloned().collect();
    let shown = if args.quiet { Progress::quiet() } else { progress(cx) };
    shown.title("Pushing");
    push_all(cx, &session, project, &names, args.ignore_push_failures, &shown).await?;
    Ok(0)
}

async fn push_all(
    cx: &Context,
    session: &Session,
    project: &Project,
    names: &[String],
    ignore: bool,
    shown: &Progress,
) -> Result<(), Failure> {
    let mut work = Vec::new();
    for service in names.iter().filter_map(|n| project.services.get(n)) {
        if service.spec.build.is_none() || service.spec.image.is_empty() {
            if service.spec.image.is_empty() {
                shown.event(&service.name, "Skipped", Status::Warning);
            }
            continue;
        }
        let mut tags = vec![service.spec.image.clone()];
        tags.extend(service.spec.build.iter().flat_map(|b| b.tags.clone()));
        work.extend(tags.into_iter().map(|tag| (service.name.clone(), tag)));
    }
    let pushing = stream::iter(work).map(|(name, image)| async move {
        match push_one(session, shown, &name, &image).await {
            Err(_) if ignore => Ok(()),
            other => other,
        }
    });
    shown.during(pushing.buffer_unordered(parallel(cx)).try_collect::<Vec<()>>()).await?;
    Ok(())
}

async fn push_one(session: &Session, shown: &Progress, service: &str, image: &str) -> Result<(), Failure> {
    let id = format!("Pushing {image}");
    shown.working(&id, "Pushing");
    if session.engine.is_dry_run() {
        shown.done(&id, "Pushed");
        return Ok(());
    }
    if let Err(e) = images::push(&session.engine, image).await {
        shown.failed(&id, e.message());
        return Err(Failure::from(e.context(format!("push of {image} for service {service} failed"))));
    }
    shown.done(&id, "Pushed");
    Ok(())
}
