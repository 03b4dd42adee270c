//! `build.cache_from` and `build.cache_to`: caches in images, in directories, in registries.

use barque_client::Client;
use barque_client::build_cache::{self, Exports, Imports, Place};
use barque_model::{Error, ErrorKind};

use super::engine::Engine;
use super::images;
use super::progress::{Progress, Status};
use crate::file::model::Build;
use crate::file::project::Project;

/// Where the cache of a build goes. What this engine cannot do is left out, and said.
///
/// # Errors
/// A field that is missing or wrong.
pub(super) fn exports(spec: &Build, ours: bool, progress: &Progress, id: &str) -> Result<Exports, Error> {
    let mut out = Exports::default();
    for text in &spec.cache_to {
        let left_out = |why: &str| progress.event(id, &format!("{why}; it is left out"), Status::Warning);
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
pub(super) async fn imports(
    client: &Client,
    project: &Project,
    spec: &Build,
    progress: &Progress,
    id: &str,
) -> Result<Imports, Error> {
    let texts = spec.cache_from.iter().map(String::as_str);
    let imports = Imports::load(client, "cache_from", texts, &project.working_dir).await?;
    for dir in &imports.absent {
        progress.event(id, &format!("no cache in {}: nothing is imported", dir.display()), Status::Warning);
    }
    Ok(imports)
}

/// Brings the cache in `image` to where `cache_to` says, and removes that image.
///
/// # Errors
/// What the engine, the registry or the file system says, but for `ignore-error=true`.
pub(super) async fn export(
    engine: &Engine,
    project: &Project,
    exports: &Exports,
    image: &str,
    progress: &Progress,
    id: &str,
) -> Result<(), Error> {
    let client = engine.writer()?;
    let mut result = Ok(());
    for export in &exports.places {
        let done = match &export.place {
            Place::Directory(dir) => {
                let dir = project.working_dir.join(dir);
                build_cache::layout(client, vec![image.to_owned()], &dir).await.map_err(Error::from)
            }
            Place::Registry(name) => push(engine, name, image).await,
        };
        match done.map_err(|e| e.context("exporting the cache")) {
            Err(e) if export.may_fail => progress.event(id, &e.chain(), Status::Warning),
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
