//! What a build leaves beyond an image: files in a directory, archives, pushes.

use std::fs::File;
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};

use barque_api::image::{PushQuery, SaveQuery};
use barque_client::ByteStream;
use barque_client::archive::unpack::{Options, unpack};
use barque_client::build_cache::{self, Exports, Lent, Place};

use super::build_options::Output;
use super::flatten::{flatten, temporary};
use super::reference;
use crate::auth;
use crate::cli::Invocation;
use crate::error::{CliResult, Failure, path_error};
use crate::output::progress;
use crate::save;

/// Brings the image `id` to where `output` says.
pub(super) async fn deliver(inv: &Invocation<'_>, output: &Output, id: &str) -> CliResult<()> {
    match output {
        Output::Push(names) => {
            tag(inv, names, id).await?;
            for name in names {
                push(inv, name).await?;
            }
            Ok(())
        }
        Output::Archive(path, names) => {
            let lent = lend(inv, names, id).await?;
            let saved = archive(inv, saved_as(names, id), path).await;
            lent.give_back(inv.client().await?).await?;
            saved
        }
        Output::Layout(directory, names) => {
            let lent = lend(inv, names, id).await?;
            let client = inv.client().await?;
            let saved = build_cache::layout(client, saved_as(names, id), Path::new(directory)).await;
            lent.give_back(client).await?;
            Ok(saved?)
        }
        Output::Tag(names) => {
            // Those of `-t` it has already.
            let given = inv.flags.all("tag");
            let others: Vec<String> = names.iter().filter(|n| !given.contains(&n.as_str())).cloned().collect();
            tag(inv, &others, id).await
        }
        Output::Cache => Ok(()),
        Output::Local(directory) => {
            let directory = PathBuf::from(directory);
            std::fs::create_dir_all(&directory)
                .map_err(|e| path_error("mkdir", &directory.display().to_string(), &e))?;
            let saved = saved(inv, id).await?;
            blocking(move || {
                let mut flat = temporary()?;
                flatten(saved, &mut flat)?;
                flat.rewind()?;
                unpack(&mut flat, &directory, &Options::default()).map(drop)
            })
            .await
        }
        Output::Tar(path) => {
            let saved = saved(inv, id).await?;
            let path = path.clone();
            blocking(move || match path.as_str() {
                "-" => flatten(saved, &mut io::stdout().lock()),
                path => flatten(saved, &mut File::create(Path::new(path))?),
            })
            .await
        }
    }
}

async fn tag(inv: &Invocation<'_>, names: &[String], id: &str) -> CliResult<()> {
    for name in names {
        let name = reference(name)?.with_default_tag();
        inv.client().await?.image_tag(id, &name.name(), name.tag().unwrap_or_default()).await?;
    }
    Ok(())
}

async fn archive(inv: &Invocation<'_>, names: Vec<String>, path: &str) -> CliResult<()> {
    let query = SaveQuery { names, ..SaveQuery::default() };
    save::stream(inv.client().await?.image_save(&query).await?, path).await
}

fn saved_as(names: &[String], id: &str) -> Vec<String> {
    if names.is_empty() { vec![id.to_owned()] } else { names.to_vec() }
}

/// Gives an image the names its archive is to have, but those that `-t` gave it.
async fn lend(inv: &Invocation<'_>, names: &[String], id: &str) -> CliResult<Lent> {
    let names = names.iter().map(|name| reference(name)).collect::<CliResult<Vec<_>>>()?;
    Ok(build_cache::lend(inv.client().await?, names, id).await?)
}

/// Brings the cache in the image `id` to where `--cache-to` says, and removes the image.
pub(super) async fn cache(inv: &Invocation<'_>, exports: &Exports, id: &str) -> CliResult<()> {
    let mut result = Ok(());
    for export in &exports.places {
        let done = match &export.place {
            Place::Directory(dir) => {
                build_cache::layout(inv.client().await?, vec![id.to_owned()], dir).await.map_err(Failure::from)
            }
            Place::Registry(name) => push_cache(inv, name, id).await,
        };
        match done {
            Err(failure) if export.may_fail => inv.cli.err(&format!("WARNING: {}", failure.message)),
            Err(failure) => {
                result = Err(failure);
                break;
            }
            Ok(()) => {}
        }
    }
    build_cache::forget(inv.client().await?, id).await;
    result
}

async fn push_cache(inv: &Invocation<'_>, name: &str, id: &str) -> CliResult<()> {
    let lent = lend(inv, &[name.to_owned()], id).await?;
    let pushed = push(inv, name).await;
    lent.give_back(inv.client().await?).await?;
    pushed
}

/// Brings the files that came with the build to where `output` says.
pub(super) async fn files(output: &Output, stream: ByteStream) -> CliResult<()> {
    match output {
        Output::Tar(path) => save::stream(stream, if path == "-" { "" } else { path }).await,
        Output::Local(directory) => {
            std::fs::create_dir_all(directory).map_err(|e| path_error("mkdir", directory, &e))?;
            let directory = PathBuf::from(directory);
            let mut reader = tokio_util::io::SyncIoBridge::new(stream);
            blocking(move || unpack(&mut reader, &directory, &Options::default()).map(drop)).await
        }
        _ => Ok(()),
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> CliResult<()> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| Failure::new(e.to_string()))?;
    done.map_err(|e| Failure::from(e).prefixed("exporting the build's result: "))
}

/// The image as `save` sends it, in a nameless file.
async fn saved(inv: &Invocation<'_>, id: &str) -> CliResult<File> {
    use tokio::io::AsyncWriteExt as _;
    let query = SaveQuery { names: vec![id.to_owned()], ..SaveQuery::default() };
    let mut stream = inv.client().await?.image_save(&query).await?;
    let mut file = tokio::fs::File::from_std(temporary()?);
    while let Some(piece) = stream.next().await? {
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    Ok(file.into_std().await)
}

/// Pushes a name of the engine's.
pub(super) async fn push(inv: &Invocation<'_>, name: &str) -> CliResult<()> {
    let name = reference(name)?.with_default_tag();
    let auth = auth::for_image(inv.cli.config(), &name);
    let query = PushQuery { tag: name.tag().unwrap_or_default().to_owned(), ..PushQuery::default() };
    let stream = inv.client().await?.image_push(&name.name(), &query, auth.as_ref()).await?;
    progress::show(stream, super::build_options::way(inv), |_| Ok(())).await
}
