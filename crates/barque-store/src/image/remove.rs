//! Removing images as Docker does: a name goes first, the image with its last name, its parents if nobody needs
//! them, and the layers that nothing stands on any more.

use barque_model::{Error, Id, ImageId, Reference, Result};

use crate::Store;
use crate::db::{Image, Tx};
use crate::gc::Swept;
use crate::usage::Gone;

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
    /// The images that went, of those in `records`.
    pub images: Vec<ImageId>,
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

/// What is under way.
struct Work<'a> {
    tx: &'a Tx<'a>,
    options: RemoveImage,
    running: &'a dyn Fn(&Id) -> bool,
    records: Vec<Deletion>,
    images: Vec<ImageId>,
    /// Rows that went with the images; their files follow after the commit.
    swept: Swept,
}

/// Which obstacles count.
#[derive(Clone, Copy)]
struct Obstacles {
    /// Stopped containers.
    stopped: bool,
    /// Names.
    names: bool,
}

impl Store {
    /// Removes by name or id with Docker's semantics: a name goes first, the image with its last name.
    /// `running` says whether a container (of those whose definition names the image) runs; it must not call
    /// the store.
    ///
    /// Errors: NotFound; Conflict with Docker's sentence while containers, children or other names hold it.
    pub fn remove_image(&self, text: &str, options: RemoveImage, running: &dyn Fn(&Id) -> bool) -> Result<Removal> {
        self.removal(options, running, |work| {
            let resolved = work.tx.image_resolve(text)?;
            match resolved.name {
                Some(name) => work.by_name(&resolved.image, &name),
                None => work.by_id(&resolved.image),
            }
        })
    }

    /// Images that `image prune` would consider: without a tag, or with `all` any that no container uses;
    /// none that is nameless and has another image built on it. The caller filters and calls
    /// [`Store::prune_image`].
    pub fn prunable_images(&self, all: bool, gone: &Gone) -> Result<Vec<Image>> {
        self.read(|r| {
            let mut found = Vec::new();
            for image in r.images()? {
                let nameless = image.tags.is_empty() && image.digests.is_empty();
                let wanted = all || image.tags.is_empty();
                if !wanted || r.image_users(&image.id)?.iter().any(|user| !gone.containers.contains(user)) {
                    continue;
                }
                if (nameless || !all) && !r.image_children(&image.id)?.is_empty() {
                    continue;
                }
                found.push(image);
            }
            Ok(found)
        })
    }

    /// Removes an image with all its names unless a container or another image has come to need it meanwhile.
    pub fn prune_image(&self, image: &ImageId) -> Result<Removal> {
        // Names are no obstacle; containers and children are looked at here.
        let options = RemoveImage { force: true, prune_parents: true };
        self.removal(options, &|_| true, |work| {
            let Some(found) = work.tx.image(image)? else { return Ok(()) };
            let needed = !work.tx.image_users(image)?.is_empty() || !work.tx.image_children(image)?.is_empty();
            if needed { Ok(()) } else { work.delete(&found, false) }
        })
    }

    fn removal(
        &self,
        options: RemoveImage,
        running: &dyn Fn(&Id) -> bool,
        what: impl FnOnce(&mut Work<'_>) -> Result<()>,
    ) -> Result<Removal> {
        let _files = self.inner.lock_files();
        let (removal, swept) = self.write_durable(|tx| {
            let (records, images, swept) = (Vec::new(), Vec::new(), Swept::default());
            let mut work = Work { tx, options, running, records, images, swept };
            what(&mut work)?;
            if work.images.is_empty() {
                // What came with a name goes with it, though the image stays.
                work.swept = Swept::sweep(tx)?;
            }
            let reclaimed = work.swept.bytes();
            Ok((Removal { records: work.records, images: work.images, reclaimed }, work.swept))
        })?;
        self.delete_files(&swept)?;
        Ok(removal)
    }
}

/// Whether the names, but for digests, are at most one and all of one repository.
fn is_single(names: &[Reference]) -> bool {
    let tags = names.iter().filter(|n| n.digest().is_none()).count();
    let mut repositories: Vec<String> = names.iter().map(Reference::name).collect();
    repositories.dedup();
    tags <= 1 && repositories.len() <= 1
}

impl Work<'_> {
    fn untag(&mut self, name: &Reference) -> Result<()> {
        if self.tx.image_name_delete(name)? {
            self.records.push(Deletion::Untagged(name.familiar()));
        }
        Ok(())
    }

    fn by_name(&mut self, image: &Image, name: &Reference) -> Result<()> {
        let names = self.tx.image_names(&image.id)?;
        // The digests of its repository would go along.
        if !self.options.force
            && is_single(&names)
            && let Some(user) = self.tx.image_users(&image.id)?.first()
        {
            return Err(Error::conflict(format!(
                "conflict: unable to delete {} (must be forced) - container {} is using its referenced image {}",
                name.familiar(),
                user.short(),
                image.id.0.short()
            )));
        }
        self.untag(name)?;
        let left = self.tx.image_names(&image.id)?;
        // With the last tag of a repository go its digests: nobody would find them.
        let same = |n: &&Reference| n.name() == name.name();
        if name.digest().is_none() && left.iter().filter(same).all(|n| n.digest().is_some()) {
            for digest in left.iter().filter(same) {
                self.untag(digest)?;
            }
        }
        if !self.tx.image_names(&image.id)?.is_empty() {
            return Ok(());
        }
        self.delete(image, true)
    }

    fn by_id(&mut self, image: &Image) -> Result<()> {
        let names = self.tx.image_names(&image.id)?;
        if is_single(&names) {
            // The names go with the image, so that they are no obstacle.
            let obstacles = Obstacles { stopped: !self.options.force, names: false };
            self.check(image, obstacles)?;
            for name in &names {
                self.untag(name)?;
            }
        }
        self.delete(image, false)
    }

    /// Deletes the image, then its parents as far as nobody needs them. `quiet`: the name was removed, so that an
    /// obstacle means the image stays, which is no error.
    fn delete(&mut self, image: &Image, quiet: bool) -> Result<()> {
        let obstacles = Obstacles { stopped: !self.options.force, names: !self.options.force };
        if let Err(obstacle) = self.check(image, obstacles) {
            return if quiet { Ok(()) } else { Err(obstacle) };
        }
        for name in self.tx.image_names(&image.id)? {
            self.untag(&name)?;
        }
        self.tx.image_delete(&image.id)?;
        self.records.push(Deletion::Deleted(image.id.to_string()));
        self.images.push(image.id);
        let mut swept = Swept::sweep(self.tx)?;
        for layer in image.layers.iter().rev().filter(|l| swept.layers.iter().any(|s| s.chain_id == l.chain_id)) {
            self.records.push(Deletion::Deleted(layer.chain_id.to_string()));
        }
        self.swept.layers.append(&mut swept.layers);
        self.swept.blobs.append(&mut swept.blobs);
        let Some(parent) = image.parent.filter(|_| self.options.prune_parents) else { return Ok(()) };
        let Some(parent) = self.tx.image(&parent)? else { return Ok(()) };
        let unwanted = self.tx.image_names(&parent.id)?.is_empty()
            && self.tx.image_children(&parent.id)?.is_empty()
            && self.tx.image_users(&parent.id)?.is_empty();
        if unwanted { self.delete(&parent, true) } else { Ok(()) }
    }

    fn check(&self, image: &Image, obstacles: Obstacles) -> Result<()> {
        let conflict = |soft: bool, why: String| {
            let force = if soft { "must be forced" } else { "cannot be forced" };
            let error = Error::conflict(format!("conflict: unable to delete {} ({force}) - {why}", image.id.0.short()));
            Err(error)
        };
        if !self.tx.image_children(&image.id)?.is_empty() {
            return conflict(false, "image has dependent child images".into());
        }
        let users = self.tx.image_users(&image.id)?;
        if let Some(user) = users.iter().find(|u| (self.running)(u)) {
            return conflict(false, format!("image is being used by running container {}", user.short()));
        }
        if obstacles.names && !self.tx.image_names(&image.id)?.is_empty() {
            return conflict(true, "image is referenced in multiple repositories".into());
        }
        match users.first() {
            Some(user) if obstacles.stopped => {
                conflict(true, format!("image is being used by stopped container {}", user.short()))
            }
            _ => Ok(()),
        }
    }
}
