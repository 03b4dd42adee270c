//! `--cache-from` and `--cache-to`: caches in the image, in a directory, in a registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use barque_api::image::{ImageRemoveQuery, LoadQuery, SaveQuery};
use barque_client::{Client, Upload};

use super::build_output;
use crate::archive::pack::{Owner, Packer};
use crate::archive::pipe;
use crate::archive::unpack::{Options, unpack};
use crate::cli::Invocation;
use crate::cmdline::csv;
use crate::error::{CliResult, Failure, path_error};
use crate::opts;

/// Where the cache goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exports {
    /// Into the image.
    pub(super) inline: bool,
    /// Steps of all stages, not only the target's (`mode=max`); an image itself never has others.
    pub(super) all: bool,
    places: Vec<(Place, Failing)>,
}

/// One place for the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Directory(PathBuf),
    Registry(String),
}

/// What it means if the cache does not get to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    Fails,
    /// `ignore-error=true`.
    Warns,
}

impl Exports {
    /// Whether an image of its own is needed for the cache.
    pub(super) fn apart(&self) -> bool {
        !self.places.is_empty()
    }
}

fn fields(text: &str) -> BTreeMap<String, String> {
    csv(text).iter().map(|part| opts::key_value(part)).collect()
}

/// `--cache-to`.
pub(super) fn exports(texts: &[&str]) -> CliResult<Exports> {
    let mut out = Exports::default();
    for text in texts {
        if !text.contains('=') {
            out.places.push((Place::Registry((*text).to_owned()), Failing::Fails));
            continue;
        }
        let fields = fields(text);
        let field = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
        let needed = |key: &str| match field(key) {
            "" => Err(Failure::new(format!("--cache-to {text}: {key}= is missing"))),
            value => Ok(value.to_owned()),
        };
        match field("mode") {
            "" | "min" => {}
            "max" => out.all = true,
            other => return Err(Failure::new(format!("--cache-to {text}: mode={other} is not min or max"))),
        }
        let failing = match field("ignore-error") {
            "" | "false" | "0" => Failing::Fails,
            "true" | "1" => Failing::Warns,
            other => return Err(Failure::new(format!("--cache-to {text}: ignore-error={other} is not true or false"))),
        };
        match field("type") {
            "inline" => out.inline = true,
            "local" => out.places.push((Place::Directory(needed("dest")?.into()), failing)),
            "registry" => out.places.push((Place::Registry(needed("ref")?), failing)),
            "" => return Err(Failure::new(format!("--cache-to {text}: type= is missing"))),
            other => return Err(Failure::unbuilt(format!("build --cache-to type={other}"))),
        }
    }
    Ok(out)
}

/// Where a cache comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Import {
    Image(String),
    Directory(PathBuf),
}

fn import(text: &str) -> CliResult<Import> {
    if !text.contains('=') {
        return Ok(Import::Image(text.to_owned()));
    }
    let fields = fields(text);
    let field = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
    match (field("type"), field("ref"), field("src")) {
        ("registry" | "", name, _) if !name.is_empty() => Ok(Import::Image(name.to_owned())),
        ("local", _, dir) if !dir.is_empty() => Ok(Import::Directory(dir.into())),
        ("registry" | "local" | "", ..) => Err(Failure::new(format!("--cache-from {text}: ref= or src= is missing"))),
        (other, ..) => Err(Failure::unbuilt(format!("build --cache-from type={other}"))),
    }
}

/// Images with the caches of `--cache-from`; those of directories are loaded, and go again with `forget`.
pub(super) struct Imports {
    pub(super) names: Vec<String>,
    loaded: Vec<String>,
}

pub(super) async fn imports(inv: &Invocation<'_>) -> CliResult<Imports> {
    let mut out = Imports { names: Vec::new(), loaded: Vec::new() };
    // Several names in one word are the classic form.
    let split = |text: &str| if text.contains('=') { vec![text.to_owned()] } else { csv(text) };
    for text in inv.flags.all("cache-from").into_iter().flat_map(split) {
        match import(&text)? {
            Import::Image(name) => out.names.push(name),
            // The first build has none yet.
            Import::Directory(dir) if !dir.join("index.json").exists() => {
                inv.cli.err(&format!("no cache in {}: nothing is imported", dir.display()));
            }
            Import::Directory(dir) => {
                let id = load(inv.client().await?, dir).await?;
                out.names.push(id.clone());
                out.loaded.push(id);
            }
        }
    }
    Ok(out)
}

impl Imports {
    pub(super) async fn forget(&self, client: &Client) {
        for id in &self.loaded {
            forget(client, id).await;
        }
    }
}

/// Removes an image that nobody named.
pub(super) async fn forget(client: &Client, id: &str) {
    let unnamed = client.image_inspect(id, &Default::default()).await;
    if unnamed.is_ok_and(|image| image.repo_tags.is_empty()) {
        // Another build may need it meanwhile.
        let _ = client.image_remove(id, &ImageRemoveQuery { noprune: true, ..ImageRemoveQuery::default() }).await;
    }
}

async fn load(client: &Client, dir: PathBuf) -> CliResult<String> {
    let produced = pipe::produce(move |writer| {
        let mut packer = Packer::new(writer, Owner::Root);
        for name in ["oci-layout", "index.json", "blobs"] {
            packer.tree(&dir.join(name), Path::new(name))?;
        }
        packer.finish()
    });
    let mut stream = client.image_load(&LoadQuery::default(), Upload::reader(produced)).await?;
    let mut id = String::new();
    while let Some(message) = stream.next().await? {
        if let Some(text) = message.error_message() {
            return Err(Failure::new(text.to_owned()));
        }
        if let Some(found) = message.stream.trim().strip_prefix("Loaded image ID: ") {
            found.clone_into(&mut id);
        }
    }
    if id.is_empty() { Err(Failure::new("the directory of --cache-from holds no cache")) } else { Ok(id) }
}

/// Brings the cache in the image `id` to where `--cache-to` says, and removes the image.
pub(super) async fn export(inv: &Invocation<'_>, exports: &Exports, id: &str) -> CliResult<()> {
    let client = inv.client().await?;
    let result = deliver(inv, client, exports, id).await;
    forget(client, id).await;
    result
}

async fn deliver(inv: &Invocation<'_>, client: &Client, exports: &Exports, id: &str) -> CliResult<()> {
    for (place, failing) in &exports.places {
        let done = match place {
            Place::Directory(dir) => layout(client, vec![id.to_owned()], dir).await,
            Place::Registry(name) => push(inv, name, id).await,
        };
        match (done, failing) {
            (Err(failure), Failing::Warns) => inv.cli.err(&format!("WARNING: {}", failure.message)),
            (done, _) => done?,
        }
    }
    Ok(())
}

async fn push(inv: &Invocation<'_>, name: &str, id: &str) -> CliResult<()> {
    // The name is only for the way.
    let lent = build_output::lend(inv, &[name.to_owned()], id).await?;
    let pushed = build_output::push(inv, name).await;
    lent.give_back(inv).await?;
    pushed
}

/// Saves an image, by its names or its id, as an OCI layout in a directory.
pub(super) async fn layout(client: &Client, names: Vec<String>, dir: &Path) -> CliResult<()> {
    let shown = dir.display().to_string();
    std::fs::create_dir_all(dir).map_err(|e| path_error("mkdir", &shown, &e))?;
    let stream = client.image_save(&SaveQuery { names, ..SaveQuery::default() }).await?;
    let dir = dir.to_owned();
    let reader = tokio_util::io::SyncIoBridge::new(stream);
    let done = tokio::task::spawn_blocking(move || {
        let mut reader = reader;
        unpack(&mut reader, &dir, &Options::default()).map(drop)
    });
    let done = done.await.map_err(|e| Failure::new(e.to_string()))?;
    done.map_err(|e| Failure::from(e).prefixed(&format!("writing {shown}: ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let to = |text: &str| exports(&[text]);
        assert!(to("type=inline").expect("inline").inline);
        let registry = |failing| [(Place::Registry("a/b".into()), failing)];
        assert_eq!(to("type=local,dest=d").expect("local").places, [(Place::Directory("d".into()), Failing::Fails)]);
        assert_eq!(to("type=registry,ref=a/b").expect("registry").places, registry(Failing::Fails));
        assert_eq!(to("type=registry,ref=a/b,ignore-error=true").expect("may fail").places, registry(Failing::Warns));
        assert_eq!(to("a/b").expect("short").places, registry(Failing::Fails));
        assert!(to("type=local,dest=d,ignore-error=x").is_err());
        assert_eq!(to("type=gha").expect_err("unknown").code, 125);
        assert!(
            to("type=local,dest=d,mode=max").expect("max").all && !to("type=local,dest=d,mode=min").expect("min").all
        );
        assert!(to("type=local,dest=d,mode=most").expect_err("mode").message.contains("min or max"));
        assert_eq!(to("type=local").expect_err("no dest").code, 1);
        assert_eq!(import("user/app:cache").expect("short"), Import::Image("user/app:cache".into()));
        assert_eq!(import("type=registry,ref=a").expect("registry"), Import::Image("a".into()));
        assert_eq!(import("type=local,src=d").expect("local"), Import::Directory("d".into()));
        assert!(import("type=local").is_err() && import("type=s3,bucket=b").is_err());
    }
}
