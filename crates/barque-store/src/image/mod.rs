//! Images: put, resolve, tag, remove, history, prune.

pub(crate) mod config;
mod remove;
#[cfg(test)]
pub(crate) mod tests;

use barque_model::{ChainId, Digest, Error, ErrorKind, Id, ImageId, Reference, Result, Timestamp};

pub use remove::{Deletion, Removal, RemoveImage};

use crate::db::{Image, ImageLayer, Manifest, Tx};
use crate::{Lease, Store};
use config::{Config, ImageManifest};

/// An image to be put. Its layers follow from the configuration's `rootfs.diff_ids` and must be here.
#[derive(Clone, Debug, Default)]
pub struct NewImage {
    /// The configuration, byte for byte; its digest becomes the id.
    pub config: Vec<u8>,
    /// The manifest it came with (media type, bytes). Those of its blobs that are here are kept with the image,
    /// so that a push reproduces it.
    pub manifest: Option<(String, Vec<u8>)>,
    /// The index the manifest was chosen from (media type, bytes).
    pub index: Option<(String, Vec<u8>)>,
    /// Names, with tags or digests; tags move here from other images.
    pub names: Vec<Reference>,
    /// The image it was built or committed from.
    pub parent: Option<ImageId>,
}

/// What putting an image did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutImage {
    pub id: ImageId,
    /// The image was here already.
    pub existed: bool,
    /// Names that other images lost to it.
    pub moved: Vec<(Reference, ImageId)>,
}

/// An image and the name it was found by.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub image: Image,
    /// `None` if found by id.
    pub name: Option<Reference>,
}

/// One line of `docker history`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// `None` is shown as `<missing>`.
    pub id: Option<ImageId>,
    pub created_at: Option<Timestamp>,
    pub created_by: String,
    pub comment: String,
    /// Bytes of the layer's files, 0 for an instruction without a layer.
    pub size: u64,
    /// Short names of `id`.
    pub tags: Vec<String>,
}

/// A document of an image to be put, checked.
struct Document {
    manifest: Manifest,
    blobs: Vec<Digest>,
}

impl Store {
    /// Puts an image in one durable transaction. Everything it needs is held by `lease` until then.
    ///
    /// Errors: InvalidArgument for a configuration or manifest that makes no sense or does not belong to it;
    /// NotFound for a missing layer.
    pub fn put_image(&self, lease: &Lease, new: NewImage) -> Result<PutImage> {
        let put = self.put_held(new);
        if put.as_ref().is_err_and(|e| e.kind() == ErrorKind::InvalidArgument) {
            // No other try would do better with what was made for it.
            lease.end();
        }
        put
    }

    fn put_held(&self, new: NewImage) -> Result<PutImage> {
        self.check_size("configuration", &new.config)?;
        let id = ImageId(barque_model::Digest::of(&new.config));
        let config = Config::parse(&new.config)?;
        let documents = self.documents(&new, &id)?;
        let now = Timestamp::now();
        self.write_durable(|tx| {
            let layers = layers_of(tx, &config)?;
            let existed = tx.image(&id)?.is_some();
            let image = Image {
                id,
                created_at: config.created_at(),
                added_at: now,
                platform: config.platform(),
                size: layers.iter().map(|l| l.size).sum(),
                parent: None,
                config: new.config,
                layers,
                tags: Vec::new(),
                digests: Vec::new(),
            };
            tx.image_insert(&image)?;
            if let Some(parent) = new.parent.filter(|p| *p != id) {
                adopt_parent(tx, &id, &parent)?;
            }
            for document in &documents {
                let mut here = Vec::new();
                for blob in &document.blobs {
                    if tx.blob(blob)?.is_some() {
                        here.push(*blob);
                    }
                }
                tx.manifest_insert(&id, &document.manifest, &here)?;
            }
            let mut moved = Vec::new();
            let manifest = documents.iter().find(|d| !d.manifest.is_index).map(|d| d.manifest.digest);
            for name in &new.names {
                if let Some(loser) = tx.image_name_set(name, &id, manifest)? {
                    moved.push((name.clone(), loser));
                }
            }
            Ok(PutImage { id, existed, moved })
        })
    }

    fn check_size(&self, what: &str, bytes: &[u8]) -> Result<()> {
        let limit = self.inner.limits.document_bytes;
        if limit > 0 && bytes.len() as u64 > limit {
            return Err(Error::invalid(format!(
                "the image's {what} has {} bytes; more than {limit} are not taken",
                bytes.len()
            )));
        }
        Ok(())
    }

    fn documents(&self, new: &NewImage, id: &ImageId) -> Result<Vec<Document>> {
        let mut documents = Vec::new();
        if let Some((media_type, bytes)) = &new.manifest {
            self.check_size("manifest", bytes)?;
            let parsed = ImageManifest::parse(bytes)?;
            if parsed.config.digest != id.0 {
                return Err(Error::invalid(format!(
                    "the manifest names the configuration {}, but the image's is {id}",
                    parsed.config.digest
                )));
            }
            let blobs = parsed.layers.iter().map(|l| l.digest).collect();
            documents.push(Document { manifest: document(media_type, bytes, false), blobs });
        }
        if let Some((media_type, bytes)) = &new.index {
            self.check_size("index", bytes)?;
            config::Index::parse(bytes)?;
            documents.push(Document { manifest: document(media_type, bytes, true), blobs: Vec::new() });
        }
        Ok(documents)
    }

    /// Finds an image by full id (with or without `sha256:`), name (`:latest` is implied), name with digest, or
    /// unique prefix of an id, as Docker does.
    ///
    /// Errors: NotFound `No such image: X`; InvalidArgument if several ids have the prefix.
    pub fn resolve_image(&self, text: &str) -> Result<Resolved> {
        self.read(|r| r.image_resolve(text))
    }

    /// All images, the newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        self.read(|r| r.images())
    }

    /// Gives an image a further name (`:latest` is implied); returns the image that lost it. The manifest that the
    /// name `of` came with is the new one's too.
    pub fn tag_image(&self, image: &ImageId, name: &Reference, of: Option<&Reference>) -> Result<Option<ImageId>> {
        self.write_durable(|tx| match tx.image(image)? {
            Some(_) => {
                let manifest = of.map(|of| tx.image_name_manifest(of)).transpose()?.flatten();
                tx.image_name_set(name, image, manifest)
            }
            None => Err(Error::not_found(format!("No such image: {image}"))),
        })
    }

    /// The history, the newest entry first.
    pub fn image_history(&self, image: &ImageId) -> Result<Vec<History>> {
        self.read(|r| {
            let no_such = || Error::not_found(format!("No such image: {image}"));
            let found = r.image(image)?.ok_or_else(no_such)?;
            let mut lines = history_lines(&found)?;
            // Images built here know the images their steps came to.
            let mut step = Some(found);
            for line in &mut lines {
                let Some(image) = step else { break };
                line.id = Some(image.id);
                line.tags = image.tags.iter().map(Reference::familiar).collect();
                step = match image.parent {
                    Some(parent) => r.image(&parent)?,
                    None => None,
                };
            }
            Ok(lines)
        })
    }

    /// The top layer of an image and its directories, the top one first.
    pub fn image_lower_dirs(&self, image: &ImageId) -> Result<(Option<ChainId>, Vec<std::path::PathBuf>)> {
        let found = self.read(|r| r.image(image))?;
        let image = found.ok_or_else(|| Error::not_found(format!("No such image: {image}")))?;
        match image.top() {
            Some(top) => Ok((Some(top), self.lower_dirs(&top)?)),
            None => Ok((None, Vec::new())),
        }
    }
}

fn document(media_type: &str, bytes: &[u8], is_index: bool) -> Manifest {
    Manifest {
        digest: barque_model::Digest::of(bytes),
        media_type: media_type.to_owned(),
        bytes: bytes.to_vec(),
        is_index,
    }
}

fn layers_of(tx: &Tx<'_>, config: &Config) -> Result<Vec<ImageLayer>> {
    let mut layers = Vec::new();
    for chain_id in ChainId::chain(config.diff_ids()) {
        let missing = || Error::not_found(format!("layer {chain_id} of the image is not here"));
        let layer = tx.layer(&chain_id)?.ok_or_else(missing)?;
        layers.push(ImageLayer { chain_id, diff_id: layer.diff_id, size: layer.size });
    }
    Ok(layers)
}

/// Sets the parent unless that is gone or would close a circle.
fn adopt_parent(tx: &Tx<'_>, id: &ImageId, parent: &ImageId) -> Result<()> {
    let mut above = Some(*parent);
    while let Some(next) = above {
        if next == *id {
            return Ok(());
        }
        above = match tx.image(&next)? {
            Some(image) => image.parent,
            None if next == *parent => return Ok(()),
            None => None,
        };
    }
    tx.image_set_parent(id, parent)
}

/// The history by the configuration alone, the newest entry first.
fn history_lines(image: &Image) -> Result<Vec<History>> {
    let config = Config::parse(&image.config)?;
    let mut layers = image.layers.iter();
    let mut lines = Vec::new();
    for item in config.history.unwrap_or_default() {
        let empty = item.empty_layer.unwrap_or(false);
        let size = if empty { 0 } else { layers.next().map_or(0, |l| l.size) };
        lines.push(History {
            id: None,
            created_at: item.created_at(),
            created_by: item.created_by.unwrap_or_default(),
            comment: item.comment.unwrap_or_default(),
            size,
            tags: Vec::new(),
        });
    }
    // Layers that the history does not account for.
    lines.extend(layers.map(|l| History {
        id: None,
        created_at: Some(image.created_at),
        created_by: String::new(),
        comment: String::new(),
        size: l.size,
        tags: Vec::new(),
    }));
    lines.reverse();
    Ok(lines)
}

impl crate::db::Read<'_> {
    /// See [`Store::resolve_image`].
    pub fn image_resolve(&self, text: &str) -> Result<Resolved> {
        let by_id = |image: Image| Resolved { image, name: None };
        let bare = text.strip_prefix("sha256:").unwrap_or(text);
        if let Some(bytes) = barque_model::id::from_hex(bare) {
            let found = self.image(&ImageId(Digest::from_bytes(bytes)))?;
            return found.map(by_id).ok_or_else(|| Error::not_found(format!("No such image: {text}")));
        }
        let name = text.parse::<Reference>().ok().map(Reference::with_default_tag);
        if let Some(name) = &name
            && let Some(id) = self.image_by_name(name)?
            && let Some(image) = self.image(&id)?
        {
            return Ok(Resolved { image, name: Some(name.clone()) });
        }
        let shown = name.map_or_else(|| text.to_owned(), |n| n.familiar());
        match self.images_with_prefix(bare)?.as_slice() {
            [] => Err(Error::not_found(format!("No such image: {shown}"))),
            [id] => {
                let found = self.image(id)?;
                found.map(by_id).ok_or_else(|| Error::not_found(format!("No such image: {shown}")))
            }
            _ => Err(Error::invalid(format!("multiple IDs found with provided prefix: {bare}"))
                .with_hint("give more digits")),
        }
    }

    /// Whether containers were made from the image.
    pub(crate) fn image_users(&self, image: &ImageId) -> Result<Vec<Id>> {
        self.containers_of_image(image)
    }
}
