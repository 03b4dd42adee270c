//! Layers: unpacking while they arrive, and back: diffs, changes, commits, blobs made on demand.

mod apply;
pub mod changes;
mod commit;
mod complete;
mod decompress;
mod diff;
#[cfg(test)]
mod diff_tests;
mod gzip;
#[cfg(test)]
mod hostile_tests;
mod lower;
mod marks;
mod names;
mod pipe;
mod pipeline;
#[cfg(test)]
mod prop_tests;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};

use barque_model::{ChainId, DiffId, Result, Timestamp};

pub(crate) use apply::{ignorable, times, write_data};
pub use decompress::Compression;
pub(crate) use decompress::auto as decompress_auto;
pub(crate) use lower::Lowers;
#[cfg(test)]
pub(crate) use marks::is_opaque;
pub(crate) use marks::{Marks, is_overlay_attribute, is_private_attribute};
pub(crate) use names::{clean, split};
pub(crate) use pipe::{Chunk, Pool, pipe};
pub(crate) use writer::TempDir;
pub use writer::{AppliedLayer, LayerSource, LayerWriter};

use crate::db::{Layer, LeaseKind};
use crate::error::IoContext;
use crate::{Lease, Store};

/// How a writable layer becomes a read-only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// The snapshot's files become the layer; the snapshot is gone (build steps).
    Move,
    /// The files are copied, sharing extents where the file system can; the snapshot stays (`docker commit`).
    Copy,
}

/// How a diff is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// Modification times later than this (seconds since the epoch) are set to it (SOURCE_DATE_EPOCH).
    pub clamp_mtime: Option<i64>,
}

/// What a diff came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffSummary {
    pub diff_id: DiffId,
    /// Bytes of the tar stream.
    pub tar_size: u64,
    /// Bytes of regular files in it.
    pub size: u64,
    pub entries: u64,
}

impl Store {
    /// The layer with its row, if it is here.
    pub fn layer(&self, chain: &ChainId) -> Result<Option<Layer>> {
        self.read(|r| r.layer(chain))
    }

    /// Makes `lease` hold a layer that is here; false if it is not.
    pub fn hold_layer(&self, lease: &Lease, chain: &ChainId) -> Result<bool> {
        self.write(|tx| match tx.layer(chain)? {
            Some(_) => tx.lease_hold(&lease.id(), LeaseKind::Layer, &chain.0.hex()).map(|()| true),
            None => Ok(false),
        })
    }

    /// Makes an unpacked layer part of the store, on top of `parent`, held by `lease`. What refers to files of
    /// lower layers (hard links, parent directories the archive left out) is completed here. If the layer is
    /// there already, that one is used.
    ///
    /// Errors: NotFound if `parent` is not here; InvalidArgument if a hard link leads nowhere.
    pub fn add_layer(&self, lease: &Lease, applied: AppliedLayer, parent: Option<ChainId>) -> Result<Layer> {
        let chain_id = ChainId::on(parent, applied.diff_id);
        let _busy = self.inner.busy.acquire(&format!("layer-{}", chain_id.0.hex()));
        let AppliedLayer { diff_id, blob, media_type, size, mut temp, applied, .. } = applied;
        let record_blob = |tx: &crate::Tx<'_>| match &blob {
            Some(blob) => tx.layer_blob_insert(&diff_id, &blob.digest, &media_type),
            None => Ok(()),
        };
        if self.hold_layer(lease, &chain_id)?
            && let Some(layer) = self.layer(&chain_id)?
        {
            self.write(record_blob)?;
            return Ok(layer);
        }
        let lowers = match &parent {
            Some(parent) => Lowers::open(&self.lower_dirs(parent)?)?,
            None => Lowers::open(&[])?,
        };
        complete::complete(&temp.path().join("diff"), applied, &lowers, self.inner.marks)?;
        let layer = Layer { chain_id, diff_id, parent, size, path: None, created_at: Timestamp::now() };
        self.adopt_layer(lease, &mut temp, &layer, record_blob)?;
        Ok(layer)
    }

    /// Puts the files of a layer whose row exists in the place of damaged ones.
    pub(crate) fn replace_layer(&self, layer: &Layer, again: AppliedLayer) -> Result<()> {
        let AppliedLayer { mut temp, applied, .. } = again;
        let lowers = match &layer.parent {
            Some(parent) => Lowers::open(&self.lower_dirs(parent)?)?,
            None => Lowers::open(&[])?,
        };
        complete::complete(&temp.path().join("diff"), applied, &lowers, self.inner.marks)?;
        let target = self.inner.paths.layer(&layer.chain_id);
        let _files = self.inner.lock_files();
        self.discard_dir(&target)?;
        std::fs::rename(temp.path(), &target).at("create the layer", &target)?;
        temp.release();
        Ok(())
    }

    /// Moves a finished layer directory (`<temp>/diff`) into its place and inserts its row. For an error the files
    /// are still in `temp`.
    pub(crate) fn adopt_layer(
        &self,
        lease: &Lease,
        temp: &mut TempDir,
        layer: &Layer,
        also: impl FnOnce(&crate::Tx<'_>) -> Result<()>,
    ) -> Result<()> {
        let target = self.inner.paths.layer(&layer.chain_id);
        let _files = self.inner.lock_files();
        // A directory without a row is left from a crash.
        self.discard_dir(&target)?;
        std::fs::rename(temp.path(), &target).at("create the layer", &target)?;
        let inserted = self.write(|tx| {
            tx.layer_insert(layer, false)?;
            tx.lease_hold(&lease.id(), LeaseKind::Layer, &layer.chain_id.0.hex())?;
            also(tx)
        });
        if let Err(error) = inserted {
            // The caller decides what becomes of the files.
            let _ = std::fs::rename(&target, temp.path());
            return Err(error);
        }
        temp.release();
        self.inner.janitor.sync_layers();
        Ok(())
    }

    /// Registers a directory of this machine (`/` for barque/host) as a bottom layer with a made-up diff id.
    pub fn add_host_layer(&self, lease: &Lease, diff_id: DiffId, path: &Path) -> Result<Layer> {
        let chain_id = ChainId::on(None, diff_id);
        let layer = Layer {
            chain_id,
            diff_id,
            parent: None,
            size: 0,
            path: Some(path.to_owned()),
            created_at: Timestamp::now(),
        };
        self.write(|tx| {
            tx.layer_insert(&layer, true)?;
            tx.lease_hold(&lease.id(), LeaseKind::Layer, &chain_id.0.hex())
        })?;
        Ok(layer)
    }

    /// Puts the changes of the layer `of` on top of `parent` without a copy: a row of its own that names the
    /// other's files, which stay as long as it does. The layer may only add files and directories.
    ///
    /// Errors: NotFound if one of the two is not here; Unsupported for this machine's own root file system.
    pub fn stack_layer(&self, lease: &Lease, of: &ChainId, parent: Option<ChainId>) -> Result<Layer> {
        let missing = || barque_model::Error::not_found(format!("layer {of} not found"));
        self.write(|tx| {
            let below = tx.layer(of)?.ok_or_else(missing)?;
            let chain_id = ChainId::on(parent, below.diff_id);
            let layer = match tx.layer(&chain_id)? {
                Some(layer) => layer,
                None => {
                    let path = match &below.path {
                        Some(path) if path.is_absolute() => {
                            let text = "this machine's own file system cannot lie on another layer";
                            return Err(barque_model::Error::new(barque_model::ErrorKind::Unsupported, text));
                        }
                        Some(shared) => shared.clone(),
                        None => Path::new("layers").join(of.0.hex()).join("diff"),
                    };
                    let layer = Layer { chain_id, parent, path: Some(path), ..below };
                    tx.layer_insert(&layer, true)?;
                    layer
                }
            };
            tx.lease_hold(&lease.id(), LeaseKind::Layer, &chain_id.0.hex())?;
            Ok(layer)
        })
    }

    /// The directory with a layer's files, in overlayfs form.
    pub fn layer_dir(&self, layer: &Layer) -> PathBuf {
        match &layer.path {
            // Relative: the files of another layer, see [`Store::stack_layer`].
            Some(path) => self.inner.paths.root.join(path),
            None => self.inner.paths.layer(&layer.chain_id).join("diff"),
        }
    }

    /// The directories of a layer and all below it, the top one first: overlayfs's `lowerdir`.
    pub fn lower_dirs(&self, top: &ChainId) -> Result<Vec<PathBuf>> {
        let chain = self.read(|r| r.layer_chain(top))?;
        // overlayfs takes no directory twice; where layers share their files the upper one hides the lower.
        let mut seen = std::collections::HashSet::new();
        Ok(chain.iter().map(|l| self.layer_dir(l)).filter(|dir| seen.insert(dir.clone())).collect())
    }
}
