//! `watch` and `up --watch`: files of this machine that change are copied into containers, or images built anew.

mod rules;
mod tree;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use barque_api::filters::Filters;
use barque_client::Upload;

use self::rules::{Rule, Work};
use super::args::{Converge, Watch};
use super::context::{Context, Failure, Outcome};
use super::session::Session;
use super::up::{self, Request};
use crate::apply::hooks;
use crate::apply::images::BuildWish;
use crate::file::model::Hook;
use crate::plan::labels;
use crate::plan::observed::Container;

/// Changes are gathered until nothing happened for this long: saving a file is several events.
const QUIET: Duration = Duration::from_millis(300);
/// But not longer than this, where something is written all the time.
const LONGEST: Duration = Duration::from_secs(1);
/// A directory larger than this is not packed at once.
const PIECE: usize = 512;

/// How to watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) services: Vec<String>,
    pub(super) prune: bool,
    pub(super) quiet: bool,
}

/// Runs `watch`.
pub(super) async fn watch(cx: &Context, args: Watch) -> Outcome {
    let project = cx.load(&args.services)?;
    let watched = rules::collect(&project, &args.services)?;
    if !args.no_up {
        let build = project.services.values().any(|s| s.spec.build.is_some());
        let request = Request {
            converge: Converge { build, ..Converge::default() },
            services: args.services.clone(),
            start: true,
            quiet_build: args.quiet,
            ..Request::default()
        };
        up::converge_and_start(cx, &request).await?;
    }
    let options = Options { services: args.services, prune: args.prune, quiet: args.quiet };
    tokio::select! {
        result = run(cx, &watched, &options) => result.map(|()| 0),
        _ = tokio::signal::ctrl_c() => Ok(130),
    }
}

/// Checks the rules and watches for `up --watch`, whose containers are made already.
pub(super) async fn beside(cx: &Context, options: Options) -> Result<(), Failure> {
    let project = cx.load(&options.services)?;
    let watched = rules::collect(&project, &options.services)?;
    run(cx, &watched, &options).await
}

async fn run(cx: &Context, watched: &[Rule], options: &Options) -> Result<(), Failure> {
    let roots: BTreeSet<PathBuf> = watched.iter().map(|r| r.path.clone()).collect();
    let all = watched.to_vec();
    let wanted = move |path: &Path| all.iter().any(|rule| rule.may_hold(path));
    let (first, mut changes) = tree::watch(&roots, Box::new(wanted))
        .map_err(|e| Failure::new(e.to_string()).with_hint("develop.watch.path"))?;
    cx.print("Watch enabled\n");
    let quietly: Vec<Rule> = watched.iter().filter(|r| r.initial_sync && r.copies()).map(Rule::only_sync).collect();
    apply(cx, &quietly, &first, options).await?;
    let broken = |e: io::Error| Failure::new(e.to_string());
    while let Some(changed) = changes.recv().await {
        let mut changed = changed.map_err(broken)?;
        let latest = tokio::time::Instant::now() + LONGEST;
        loop {
            let until = latest.min(tokio::time::Instant::now() + QUIET);
            match tokio::time::timeout_at(until, changes.recv()).await {
                Ok(Some(more)) => changed.extend(more.map_err(broken)?),
                _ => break,
            }
        }
        // A fault (a build that fails, a container that is gone) ends this round, not the watching.
        if let Err(failure) = apply(cx, watched, &changed, options).await {
            cx.warn(&failure.message);
        }
    }
    Err(Failure::new("the kernel no longer tells of changes"))
}

async fn apply(cx: &Context, watched: &[Rule], changed: &BTreeSet<PathBuf>, options: &Options) -> Result<(), Failure> {
    let plan = rules::plan(watched, changed);
    let rebuilt: Vec<String> = plan.iter().filter(|(_, w)| w.rebuild).map(|(name, _)| name.clone()).collect();
    if !rebuilt.is_empty() {
        rebuild(cx, &rebuilt, options).await?;
    }
    for (service, work) in plan.iter().filter(|(_, w)| !w.rebuild) {
        sync(cx, service, work).await?;
    }
    Ok(())
}

async fn rebuild(cx: &Context, services: &[String], options: &Options) -> Result<(), Failure> {
    cx.print(&format!("Rebuilding service(s) {services:?} after changes were detected...\n"));
    let project = cx.load(services)?;
    let name = project.name.clone();
    let session = Session::with(cx, Some(project), name, "Building").await?;
    let project = session.project.as_ref().ok_or_else(|| Failure::new("no project"))?;
    let wish = BuildWish { quiet: options.quiet, to_run: true, ..BuildWish::default() };
    up::build_all(&session, project, services, &wish).await?;
    let request = Request { services: services.to_vec(), no_deps: true, start: true, ..Request::default() };
    up::converge_and_start(cx, &request).await?;
    if options.prune && !session.engine.is_dry_run() {
        let filters =
            Filters::new().with("dangling", "true").with("label", format!("{}={}", labels::PROJECT, session.name));
        let query = barque_api::container::PruneQuery { filters, ..Default::default() };
        session.engine.read().client().image_prune(&query).await?;
    }
    cx.print(&format!("service(s) {services:?} successfully built\n"));
    Ok(())
}

async fn sync(cx: &Context, service: &str, work: &Work) -> Result<(), Failure> {
    let session = Session::open(cx, "Watching").await?;
    let containers = session.containers(&[service.to_owned()], false, false).await?;
    if !work.copy.is_empty() {
        let count = work.copy.len();
        cx.print(&format!("Syncing service {service:?} after {count} changes were detected\n"));
    }
    for container in &containers {
        copy(&session, container, work).await?;
        hooks::run(&session.engine, &session.progress, &work.exec, &container.id, &container.name, "watch").await?;
    }
    if work.restart {
        for container in &containers {
            session.engine.restart(&container.id, None).await?;
        }
        cx.print(&format!("service(s) [{service:?}] restarted\n"));
    }
    Ok(())
}

async fn copy(session: &Session, container: &Container, work: &Work) -> Result<(), Failure> {
    let there = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    let (present, gone): (Vec<_>, Vec<_>) = work.copy.iter().partition(|(path, _)| there(path));
    let owner = owner_of(&session.engine.read().inspect(&container.id).await?.config.user);
    for piece in present.chunks(PIECE) {
        let tar = pack(piece, owner).map_err(|e| Failure::new(format!("cannot read a changed file: {e}")))?;
        session.engine.put_archive(&container.id, "/", true, Upload::bytes(tar)).await?;
    }
    if !gone.is_empty() {
        let mut command = vec!["rm".to_owned(), "-rf".to_owned(), "--".to_owned()];
        command.extend(gone.into_iter().map(|(_, target)| target.clone()));
        let hook = Hook { command: Some(command), user: "0".into(), ..Hook::default() };
        hooks::run(&session.engine, &session.progress, &[hook], &container.id, &container.name, "watch").await?;
    }
    Ok(())
}

/// Files belong to the container's user where that is a number; names are known inside only.
fn owner_of(user: &str) -> (u64, u64) {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => (uid, gid),
        (Ok(uid), Err(_)) => (uid, 0),
        _ => (0, 0),
    }
}

fn pack(files: &[(&PathBuf, &String)], owner: (u64, u64)) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, target) in files {
        match append(&mut builder, path, target.trim_start_matches('/'), owner) {
            // Between the look and now it may be gone again; the next round tells.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    builder.into_inner()
}

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &Path, name: &str, owner: (u64, u64)) -> io::Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&meta);
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_size(0);
    if meta.is_symlink() {
        builder.append_link(&mut header, name, std::fs::read_link(path)?)
    } else if meta.is_dir() {
        builder.append_data(&mut header, format!("{name}/"), io::empty())
    } else if meta.is_file() {
        // Its size may change while it is read: what is sent must agree with the header.
        let content = std::fs::read(path)?;
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_slice())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers_or_root() {
        assert_eq!(owner_of("1000:50"), (1000, 50));
        assert_eq!(owner_of("1000"), (1000, 1000));
        assert_eq!(owner_of("www-data"), (0, 0));
        assert_eq!(owner_of(""), (0, 0));
    }

    #[test]
    fn files_are_packed_under_their_targets() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (file, link) = (dir.path().join("a"), dir.path().join("l"));
        std::fs::write(&file, "text").expect("write");
        std::os::unix::fs::symlink("a", &link).expect("link");
        let (one, two) = ("/app/a".to_owned(), "/app/l".to_owned());
        let gone = dir.path().join("gone");
        let tar = pack(&[(&gone, &one), (&file, &one), (&link, &two)], (7, 8)).expect("what went away is left out");
        let mut archive = tar::Archive::new(tar.as_slice());
        let found: Vec<(String, u64)> = archive
            .entries()
            .expect("entries")
            .map(|e| e.expect("entry"))
            .map(|e| (e.path().expect("path").display().to_string(), e.header().uid().expect("uid")))
            .collect();
        assert_eq!(found, [("app/a".to_owned(), 7), ("app/l".to_owned(), 7)]);
    }
}
