//! Layers: unpacking while they arrive, and back: diffs, changes, commits, blobs made on demand.

pub mod changes;

use std::io::{self, Write};
use std::path::PathBuf;

use barque_model::{ChainId, DiffId, Digest, Error, Id, Result};

use crate::db::{Blob, Layer, LayerBlob};
use crate::{Lease, Store};

/// What is known of a layer before it arrives.
#[derive(Clone, Debug, Default)]
pub struct LayerSource {
    /// Digest of the bytes as they come (compressed or not); verified. An interrupted layer is resumed by it.
    pub digest: Option<Digest>,
    /// Bytes as they come; verified.
    pub size: Option<u64>,
    /// Digest of the uncompressed tar; verified.
    pub diff_id: Option<DiffId>,
    /// Media type recorded for the blob. Compression is recognised by the bytes, not by this.
    pub media_type: Option<String>,
    /// Do not keep the bytes as a blob.
    pub discard_blob: bool,
}

/// Takes a layer's bytes (tar, plain or compressed by gzip, zstd, bzip2 or xz) and stores and unpacks them in one
/// pass: hashing, inflating and unpacking run on threads of their own. Writing blocks when they lag behind.
pub struct LayerWriter {
    store: Store,
}

/// A layer that was unpacked but is not part of the store yet; removed when dropped.
pub struct AppliedLayer {
    pub diff_id: DiffId,
    /// The bytes as they came, unless discarded.
    pub blob: Option<Blob>,
    /// Bytes of its regular files.
    pub size: u64,
    pub entries: u64,
}

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
        let _ = (lease, chain);
        Err(Error::not_implemented("hold_layer"))
    }

    /// Begins to take a layer. If an interrupted one of the same digest is found, its bytes are unpacked first
    /// and [`LayerWriter::offset`] tells where to go on. Waits while another thread takes the same digest.
    pub fn layer_writer(&self, lease: &Lease, source: LayerSource) -> Result<LayerWriter> {
        let _ = (lease, source);
        Err(Error::not_implemented("layer_writer"))
    }

    /// Unpacks a blob that is here already. Errors: NotFound.
    pub fn unpack_blob(&self, lease: &Lease, source: LayerSource) -> Result<AppliedLayer> {
        let _ = (lease, source);
        Err(Error::not_implemented("unpack_blob"))
    }

    /// Makes an unpacked layer part of the store, on top of `parent`, held by `lease`. What refers to files of
    /// lower layers (hard links, parent directories the archive left out) is completed here. If the layer is
    /// there already, that one is used.
    ///
    /// Errors: NotFound if `parent` is not here; InvalidArgument if a hard link leads nowhere.
    pub fn add_layer(&self, lease: &Lease, applied: AppliedLayer, parent: Option<ChainId>) -> Result<Layer> {
        let _ = (lease, applied, parent);
        Err(Error::not_implemented("add_layer"))
    }

    /// Registers a directory of this machine (`/` for barque/host) as a bottom layer with a made-up diff id.
    pub fn add_host_layer(&self, diff_id: DiffId, path: PathBuf) -> Result<Layer> {
        let _ = (diff_id, path);
        Err(Error::not_implemented("add_host_layer"))
    }

    /// The directory with a layer's files, in overlayfs form.
    pub fn layer_dir(&self, layer: &Layer) -> PathBuf {
        match &layer.path {
            Some(path) => path.clone(),
            None => self.inner.paths.layer(&layer.chain_id).join("diff"),
        }
    }

    /// The directories of a layer and all below it, the top one first: overlayfs's `lowerdir`.
    pub fn lower_dirs(&self, top: &ChainId) -> Result<Vec<PathBuf>> {
        let chain = self.read(|r| r.layer_chain(top))?;
        Ok(chain.iter().map(|l| self.layer_dir(l)).collect())
    }

    /// Writes what the snapshot changed as a layer tar: whiteouts and opaque directories as the OCI image
    /// specification has them, entries in the order of their names.
    pub fn diff_snapshot(&self, snapshot: &Id, options: DiffOptions, out: &mut dyn Write) -> Result<DiffSummary> {
        let _ = (snapshot, options, out);
        Err(Error::not_implemented("diff_snapshot"))
    }

    /// Turns a snapshot into a layer on top of the one it stands on, held by `lease`. With [`CommitMode::Move`]
    /// the snapshot's row and files are gone afterwards; nothing may have it mounted for writing.
    pub fn commit_snapshot(
        &self,
        lease: &Lease,
        snapshot: &Id,
        mode: CommitMode,
        options: DiffOptions,
    ) -> Result<Layer> {
        let _ = (lease, snapshot, mode, options);
        Err(Error::not_implemented("commit_snapshot"))
    }

    /// A compressed blob of the layer for push and save: the one it was pulled as, else one made now (gzip, the
    /// same bytes every time) and recorded. Media type: OCI's or Docker's as it came, OCI gzip if made.
    pub fn layer_blob(&self, lease: &Lease, chain: &ChainId) -> Result<LayerBlob> {
        let _ = (lease, chain);
        Err(Error::not_implemented("layer_blob"))
    }

    /// Writes the layer's uncompressed tar, whose digest is its diff id.
    pub fn layer_tar(&self, chain: &ChainId, out: &mut dyn Write) -> Result<()> {
        let _ = (chain, out);
        Err(Error::not_implemented("layer_tar"))
    }
}

impl LayerWriter {
    /// Bytes already here: writing continues there.
    pub fn offset(&self) -> u64 {
        0
    }

    /// Bytes unpacked so far, for progress.
    pub fn unpacked(&self) -> u64 {
        0
    }

    /// Throws away what is here, to begin anew (a server that cannot resume).
    pub fn restart(&mut self) -> Result<()> {
        Err(Error::not_implemented("layer_writer"))
    }

    /// Waits for the threads, verifies digests and sizes.
    ///
    /// Errors: InvalidArgument for a wrong digest, a damaged or hostile archive: nothing is kept then. If the
    /// bytes merely ended early, they stay to be resumed.
    pub fn finish(self) -> Result<AppliedLayer> {
        Err(Error::not_implemented("layer_writer"))
    }
}

impl io::Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = &self.store;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
