//! Where caches of builds lie outside the engine: in an image, in a directory, in a registry.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use barque_api::image::{ImageRemoveQuery, LoadQuery, SaveQuery};
use barque_model::csv::csv;
use barque_model::{Error as ModelError, Reference};

use crate::archive::pack::{Owner, Packer};
use crate::archive::pipe;
use crate::archive::unpack::{Options, unpack};
use crate::{Client, Error, Result, Upload};

/// Where a cache goes: what `--cache-to` and `build.cache_to` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exports {
    /// Into the image.
    pub inline: bool,
    /// Steps of all stages, not only the target's (`mode=max`); an image itself never has others.
    pub all: bool,
    /// Places apart from the image; for these the engine makes an image of its own.
    pub places: Vec<Export>,
}

/// One place for the cache, and whether the build goes on if it does not get there (`ignore-error=true`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub place: Place,
    pub may_fail: bool,
}

/// A place for a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An OCI layout.
    Directory(PathBuf),
    /// The name of an image in a registry.
    Registry(String),
}

fn fields(text: &str) -> BTreeMap<String, String> {
    let pair =
        |part: String| part.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).unwrap_or((part, String::new()));
    csv(text).into_iter().map(pair).collect()
}

impl Exports {
    /// Reads `type=…,…` or the name of an image. `option` is what messages call it: `--cache-to`.
    ///
    /// # Errors
    /// A field that is missing or wrong; a kind of cache that is not built.
    pub fn parse<'a>(option: &str, texts: impl IntoIterator<Item = &'a str>) -> Result<Exports, ModelError> {
        let mut out = Exports::default();
        for text in texts {
            if !text.contains('=') {
                out.places.push(Export { place: Place::Registry(text.to_owned()), may_fail: false });
                continue;
            }
            let wrong = |what: &str| ModelError::invalid(format!("{option} {text}: {what}"));
            let fields = fields(text);
            let field = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
            let needed = |key: &str| match field(key) {
                "" => Err(wrong(&format!("{key}= is missing"))),
                value => Ok(value.to_owned()),
            };
            match field("mode") {
                "" | "min" => {}
                "max" => out.all = true,
                other => return Err(wrong(&format!("mode={other} is not min or max"))),
            }
            let may_fail = match field("ignore-error") {
                "" | "false" | "0" => false,
                "true" | "1" => true,
                other => return Err(wrong(&format!("ignore-error={other} is not true or false"))),
            };
            let place = match field("type") {
                "inline" => {
                    out.inline = true;
                    continue;
                }
                "local" => Place::Directory(needed("dest")?.into()),
                "registry" => Place::Registry(needed("ref")?),
                "" => return Err(wrong("type= is missing")),
                other => return Err(ModelError::not_implemented(format!("build {option} type={other}"))),
            };
            out.places.push(Export { place, may_fail });
        }
        Ok(out)
    }
}

/// Where a cache comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Import {
    Image(String),
    Directory(PathBuf),
}

fn import(option: &str, text: &str) -> Result<Import, ModelError> {
    if !text.contains('=') {
        return Ok(Import::Image(text.to_owned()));
    }
    let fields = fields(text);
    let field = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
    match (field("type"), field("ref"), field("src")) {
        ("registry" | "", name, _) if !name.is_empty() => Ok(Import::Image(name.to_owned())),
        ("local", _, dir) if !dir.is_empty() => Ok(Import::Directory(dir.into())),
        ("registry" | "local" | "", ..) => {
            Err(ModelError::invalid(format!("{option} {text}: ref= or src= is missing")))
        }
        (other, ..) => Err(ModelError::not_implemented(format!("build {option} type={other}"))),
    }
}

/// Images with the caches a build may use; those of directories were loaded, and go again with [`Imports::forget`].
#[derive(Debug, Default)]
pub struct Imports {
    /// For `cachefrom` of the request.
    pub names: Vec<String>,
    /// Directories that hold no cache yet, as before the first build.
    pub absent: Vec<PathBuf>,
    loaded: Vec<String>,
}

impl Imports {
    /// Reads what `option` (`--cache-from`) says and loads the caches that lie in directories, which start at `here`.
    ///
    /// # Errors
    /// A field that is missing, a kind of cache that is not built, a directory that holds something else.
    pub async fn load<'a>(
        client: &Client,
        option: &str,
        texts: impl IntoIterator<Item = &'a str>,
        here: &Path,
    ) -> Result<Imports, ModelError> {
        let mut out = Imports::default();
        // Several names in one word are the classic form.
        let split = |text: &str| if text.contains('=') { vec![text.to_owned()] } else { csv(text) };
        for text in texts.into_iter().flat_map(split) {
            match import(option, &text)? {
                Import::Image(name) => out.names.push(name),
                Import::Directory(dir) => {
                    let dir = here.join(dir);
                    if !dir.join("index.json").exists() {
                        out.absent.push(dir);
                        continue;
                    }
                    let id =
                        load(client, dir).await.map_err(|e| ModelError::from(e).context(format!("{option} {text}")))?;
                    out.names.push(id.clone());
                    out.loaded.push(id);
                }
            }
        }
        Ok(out)
    }

    /// Removes the images that were loaded for the build alone.
    pub async fn forget(&self, client: &Client) {
        for id in &self.loaded {
            forget(client, id).await;
        }
    }
}

/// Removes an image that nobody named.
pub async fn forget(client: &Client, id: &str) {
    let unnamed = client.image_inspect(id, &Default::default()).await;
    if unnamed.is_ok_and(|image| image.repo_tags.is_empty()) {
        // Another build may need it meanwhile.
        let _ = client.image_remove(id, &ImageRemoveQuery { noprune: true, ..ImageRemoveQuery::default() }).await;
    }
}

async fn load(client: &Client, dir: PathBuf) -> Result<String> {
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
            return Err(Error::stream(text));
        }
        if let Some(found) = message.stream.trim().strip_prefix("Loaded image ID: ") {
            found.clone_into(&mut id);
        }
    }
    if id.is_empty() { Err(Error::stream("the directory holds no cache")) } else { Ok(id) }
}

/// Saves an image, by its names or its id, as an OCI layout in a directory.
///
/// # Errors
/// The engine's refusal; what the file system says, with the directory's name.
pub async fn layout(client: &Client, names: Vec<String>, dir: &Path) -> Result<()> {
    let shown = dir.display().to_string();
    let failed =
        |verb: &str, e: &io::Error| Error::argument(format!("{verb} {shown}: {}", crate::archive::plain_io(e)));
    std::fs::create_dir_all(dir).map_err(|e| failed("mkdir", &e))?;
    let stream = client.image_save(&SaveQuery { names, ..SaveQuery::default() }).await?;
    let dir = dir.to_owned();
    pipe::consume(stream, move |reader| unpack(reader, &dir, &Options::default()).map(drop))
        .await
        .map_err(|e| failed("writing", &e))
}

/// Names that an image has only on its way to an archive or a registry, and what had them before.
#[derive(Debug, Default)]
pub struct Lent(Vec<(Reference, Option<String>)>);

/// Gives an image names, but those it has.
///
/// # Errors
/// The engine's refusal.
pub async fn lend(client: &Client, names: impl IntoIterator<Item = Reference>, id: &str) -> Result<Lent> {
    let mut lent = Lent::default();
    for name in names {
        let name = name.with_default_tag();
        let before = client.image_inspect(&name.familiar(), &Default::default()).await.ok().map(|image| image.id);
        if before.as_deref() != Some(id) {
            client.image_tag(id, &name.name(), name.tag().unwrap_or_default()).await?;
            lent.0.push((name, before));
        }
    }
    Ok(lent)
}

impl Lent {
    /// Gives the names back to those that had them.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn give_back(self, client: &Client) -> Result<()> {
        for (name, before) in self.0 {
            match before {
                Some(id) => client.image_tag(&id, &name.name(), name.tag().unwrap_or_default()).await?,
                None => {
                    let query = ImageRemoveQuery { noprune: true, ..ImageRemoveQuery::default() };
                    client.image_remove(&name.familiar(), &query).await.map(drop)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use barque_model::ErrorKind;

    use super::*;

    #[test]
    fn places() {
        let to = |text: &str| Exports::parse("--cache-to", [text]);
        assert!(to("type=inline").expect("inline").inline);
        let at = |place, may_fail| [Export { place, may_fail }];
        let registry = |may_fail| at(Place::Registry("a/b".into()), may_fail);
        assert_eq!(to("type=local,dest=d").expect("local").places, at(Place::Directory("d".into()), false));
        assert_eq!(to("type=registry,ref=a/b").expect("registry").places, registry(false));
        assert_eq!(to("type=registry,ref=a/b,ignore-error=true").expect("may fail").places, registry(true));
        assert_eq!(to("a/b").expect("short").places, registry(false));
        assert!(to("type=local,dest=d,ignore-error=x").is_err());
        assert_eq!(to("type=gha").expect_err("unknown").kind(), ErrorKind::Unsupported);
        assert!(
            to("type=local,dest=d,mode=max").expect("max").all && !to("type=local,dest=d,mode=min").expect("min").all
        );
        assert!(to("type=local,dest=d,mode=most").expect_err("mode").to_string().contains("min or max"));
        let missing = to("type=local").expect_err("no dest");
        assert_eq!(missing.to_string(), "--cache-to type=local: dest= is missing");
        let import = |text: &str| import("--cache-from", text);
        assert_eq!(import("user/app:cache").expect("short"), Import::Image("user/app:cache".into()));
        assert_eq!(import("type=registry,ref=a").expect("registry"), Import::Image("a".into()));
        assert_eq!(import("type=local,src=d").expect("local"), Import::Directory("d".into()));
        assert!(import("type=local").is_err() && import("type=s3,bucket=b").is_err());
    }
}
