//! `build.cache_from` and `build.cache_to`: caches in images, in directories, in registries.

use barque_client::Client;
use barque_client::build_cache::{self, Exports, Imports, Place};
use barque_model::{Error, ErrorKind};

use super::engine::Engine;
use super::images::{self, Job};

/// Where the cache of a build goes. What this engine cannot do is left out, and said.
///
/// # Errors
/// A field that is missing or wrong.
pub(super) fn exports(job: &Job<'_>, ours: bool) -> Result<Exports, Error> {
    let mut out = Exports::default();
    for text in &job.spec.cache_to {
        let left_out = |why: &str| job.warn(&format!("{why}; it is left out"));
        match Exports::parse("cache_to", [text.as_str()]) {
            Err(e) if e.kind() == ErrorKind::Unsupported => left_out(e.message()),
            Err(e) => return Err(e),
            Ok(found) if !found.places.is_empty() && !ours => {
                left_out(&format!("not implemented yet: cache_to {text} with an engine other than Barque's"));
            }
            Ok(found) => {
                out.inline |= found.inline;
                out.all |= found.all;
                out.places.extend(found.places);
            }
        }
    }
    Ok(out)
}

/// Caches the build may use; what lies in directories is loaded.
///
/// # Errors
/// A field that is missing; a directory that holds something else.
pub(super) async fn imports(job: &Job<'_>, client: &Client) -> Result<Imports, Error> {
    let texts = job.spec.cache_from.iter().map(String::as_str);
    let imports = Imports::load(client, "cache_from", texts, &job.project.working_dir).await?;
    for dir in &imports.absent {
        job.warn(&format!("no cache in {}: nothing is imported", dir.display()));
    }
    Ok(imports)
}

/// Brings the cache in `image` to where `cache_to` says, and removes that image.
///
/// # Errors
/// What the engine, the registry or the file system says, but for `ignore-error=true`.
pub(super) async fn export(job: &Job<'_>, exports: &Exports, image: &str) -> Result<(), Error> {
    let client = job.engine.writer()?;
    let mut result = Ok(());
    for export in &exports.places {
        let done = match &export.place {
            Place::Directory(dir) => {
                let dir = job.project.working_dir.join(dir);
                build_cache::layout(client, vec![image.to_owned()], &dir).await.map_err(Error::from)
            }
            Place::Registry(name) => push(job.engine, name, image).await,
        };
        match done.map_err(|e| e.context("exporting the cache")) {
            Err(e) if export.may_fail => job.warn(&e.chain()),
            Err(e) => {
                result = Err(e);
                break;
            }
            Ok(()) => {}
        }
    }
    build_cache::forget(client, image).await;
    result
}

async fn push(engine: &Engine, name: &str, image: &str) -> Result<(), Error> {
    let client = engine.writer()?;
    let lent = build_cache::lend(client, [name.parse()?], image).await?;
    let pushed = images::push(engine, name).await;
    lent.give_back(client).await?;
    pushed
}
