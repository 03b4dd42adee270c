//! Images: put, resolve, tag, remove, history, prune.

use barque_model::{ChainId, Error, Id, ImageId, Reference, Result, Timestamp};

use crate::db::Image;
use crate::{Lease, Store};

/// An image to be put. Its layers follow from the configuration's `rootfs.diff_ids` and must be here.
#[derive(Clone, Debug, Default)]
pub struct NewImage {
    /// The configuration, byte for byte; its digest becomes the id.
    pub config: Vec<u8>,
    /// The manifest it came with (media type, bytes); its blobs must be here, so that a push reproduces it.
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

/// One line of what `docker rmi` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// A name in its short form.
    Untagged(String),
    /// The id of an image or the chain id of a layer, with `sha256:`.
    Deleted(String),
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    pub records: Vec<Deletion>,
    /// Bytes of files and blobs that went with it.
    pub reclaimed: u64,
}

/// How to remove an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoveImage {
    /// Remove although several names or stopped containers refer to it (`-f`).
    pub force: bool,
    /// Also remove untagged parents (not `--no-prune`).
    pub prune_parents: bool,
}

impl Default for RemoveImage {
    fn default() -> Self {
        RemoveImage { force: false, prune_parents: true }
    }
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

impl Store {
    /// Puts an image in one durable transaction. Everything it needs is held by `lease` until then.
    ///
    /// Errors: InvalidArgument for a configuration or manifest that makes no sense; NotFound for a missing
    /// layer, blob or parent.
    pub fn put_image(&self, lease: &Lease, new: NewImage) -> Result<PutImage> {
        let _ = (lease, new);
        Err(Error::not_implemented("put_image"))
    }

    /// Finds an image by full id (with or without `sha256:`), name (`:latest` is implied), name with digest, or
    /// unique prefix of an id, as Docker does.
    ///
    /// Errors: NotFound `No such image: X`; InvalidArgument if several ids have the prefix.
    pub fn resolve_image(&self, text: &str) -> Result<Resolved> {
        let _ = text;
        Err(Error::not_implemented("resolve_image"))
    }

    /// All images, the newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        self.read(|r| r.images())
    }

    /// Gives an image a further name (`:latest` is implied); returns the image that lost it.
    pub fn tag_image(&self, image: &ImageId, name: &Reference) -> Result<Option<ImageId>> {
        self.write_durable(|tx| tx.image_name_set(name, image))
    }

    /// Removes by name or id with Docker's semantics: a name goes first, the image with its last name.
    /// `running` says whether a container (of those whose definition names the image) runs.
    ///
    /// Errors: NotFound; Conflict with Docker's sentence while containers, children or other names hold it.
    pub fn remove_image(&self, text: &str, options: RemoveImage, running: &dyn Fn(&Id) -> bool) -> Result<Removal> {
        let _ = (text, options, running);
        Err(Error::not_implemented("remove_image"))
    }

    /// Images that `image prune` would consider: without a tag, or with `all` any that no container uses;
    /// none that another image is built on. The caller filters and calls [`Store::prune_image`].
    pub fn prunable_images(&self, all: bool) -> Result<Vec<Image>> {
        let _ = all;
        Err(Error::not_implemented("prunable_images"))
    }

    /// Removes an image with all its names unless a container or another image has come to need it meanwhile.
    pub fn prune_image(&self, image: &ImageId) -> Result<Removal> {
        let _ = image;
        Err(Error::not_implemented("prune_image"))
    }

    /// The history, the newest entry first.
    pub fn image_history(&self, image: &ImageId) -> Result<Vec<History>> {
        let _ = image;
        Err(Error::not_implemented("image_history"))
    }

    /// The top layer of an image and its directories, the top one first.
    pub fn image_lower_dirs(&self, image: &ImageId) -> Result<(Option<ChainId>, Vec<std::path::PathBuf>)> {
        let image =
            self.read(|r| r.image(image))?.ok_or_else(|| Error::not_found(format!("No such image: {image}")))?;
        match image.top() {
            Some(top) => Ok((Some(top), self.lower_dirs(&top)?)),
            None => Ok((None, Vec::new())),
        }
    }
}
