//! Archives of images: `load`, `save` and `import`.

mod legacy;
mod load;
mod members;
mod positioned;
mod save;
#[cfg(test)]
mod tests;

use std::io::{Read, Write};

pub use positioned::ReadAt;

use barque_model::{ImageId, Platform, Reference, Result};

use crate::db::Layer;
use crate::{Lease, Store};

/// An image that an archive held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    pub id: ImageId,
    /// Its names in the archive.
    pub names: Vec<Reference>,
    /// Names that other images lost to it.
    pub moved: Vec<(Reference, ImageId)>,
}

/// Progress of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadEvent {
    /// Bytes of a layer read so far, and in all. `name` is the member's.
    Layer { name: String, current: u64, total: u64 },
    /// An image was put.
    Image(LoadedImage),
}

/// Where an archive comes from.
pub enum Archive<'a> {
    /// Read once, from beginning to end.
    Stream(&'a mut dyn Read),
    /// Layers are read side by side.
    File(&'a dyn ReadAt),
}

/// An image to be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveImage {
    pub id: ImageId,
    /// The names to write down; none for an image given by id.
    pub names: Vec<Reference>,
}

/// A root file system that was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedRoot {
    pub layer: Layer,
}

impl Store {
    /// Reads an image archive as `docker save` writes it (docker-archive, OCI layout, both in one), plain or
    /// compressed. `platforms` choose among several manifests of one index, the first that it has; without them,
    /// this machine's. Several images may come of one archive.
    ///
    /// Errors: NotFound where the archive has images, but none for `platforms`; InvalidArgument for an archive that
    /// is none, is damaged or hostile: nothing of it is kept.
    pub fn load(
        &self,
        archive: Archive<'_>,
        platforms: &[Platform],
        events: &mut (dyn FnMut(LoadEvent) + Send),
    ) -> Result<Vec<LoadedImage>> {
        load::load(self, archive, platforms, events)
    }

    /// Writes an archive with both `manifest.json` and an OCI index, the same bytes every time.
    ///
    /// Errors: NotFound; Unsupported for images that stand on the host's own file system.
    pub fn save(&self, lease: &Lease, images: &[SaveImage], out: &mut dyn Write) -> Result<()> {
        save::save(self, lease, images, out)
    }

    /// Unpacks the tar of a root file system (plain or compressed) as a layer of its own. The caller makes the
    /// configuration and puts the image.
    pub fn import_root(&self, lease: &Lease, input: &mut dyn Read) -> Result<ImportedRoot> {
        load::import_root(self, lease, input).map(|layer| ImportedRoot { layer })
    }
}
