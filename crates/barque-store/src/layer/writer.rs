//! Taking a layer: blob, diff id and unpacked directory in one pass over its bytes.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use barque_model::{DiffId, Digest, Error, Hasher, Id, Result};

use super::apply::{Applied, ApplyOptions};
use super::pipeline::Pipeline;
use crate::content::{Ingest, IngestSpec};
use crate::db::Blob;
use crate::error::{self, IoContext};
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
    /// Nothing else arrives meanwhile: hash the blob on a thread of its own.
    pub alone: bool,
}

/// Takes a layer's bytes (tar, plain or compressed by gzip, zstd, bzip2 or xz) and stores and unpacks them in one
/// pass: inflating, hashing and unpacking run on threads of their own. Writing blocks when they lag behind.
pub struct LayerWriter {
    lease: Lease,
    source: LayerSource,
    sink: Sink,
    temp: TempDir,
    pipeline: Option<Pipeline>,
}

/// Where the bytes go as they come.
enum Sink {
    Blob(Ingest),
    /// Hashed and forgotten.
    Nowhere(Hasher),
}

/// A layer that was unpacked but is not part of the store yet; removed when dropped.
pub struct AppliedLayer {
    pub diff_id: DiffId,
    /// The bytes as they came, unless discarded.
    pub blob: Option<Blob>,
    /// Media type of the blob.
    pub media_type: String,
    /// Bytes of its regular files.
    pub size: u64,
    pub entries: u64,
    pub(super) temp: TempDir,
    pub(super) applied: Applied,
}

/// A directory below `tmp/`; moved to the trash when dropped.
pub(crate) struct TempDir {
    path: Option<PathBuf>,
    store: Store,
}

impl TempDir {
    pub(crate) fn new(store: &Store) -> Result<TempDir> {
        let path = store.inner.paths.tmp().join(Id::random().to_string());
        std::fs::create_dir(&path).at("create the directory", &path)?;
        Ok(TempDir { path: Some(path), store: store.clone() })
    }

    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// The directory has found its place elsewhere.
    pub(crate) fn release(&mut self) {
        self.path = None;
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = self.store.discard_dir(&path)
        {
            tracing::warn!(path = %path.display(), error = %error.chain(), "temporary directory stays until restart");
        }
    }
}

impl Store {
    /// Begins to take a layer. If an interrupted one of the same digest is found, its bytes are unpacked first
    /// and [`LayerWriter::offset`] tells where to go on: at the end if the blob is here whole. Waits while another
    /// thread takes the same digest.
    pub fn layer_writer(&self, lease: &Lease, source: LayerSource) -> Result<LayerWriter> {
        let sink = if source.discard_blob {
            Sink::Nowhere(Hasher::new())
        } else {
            Sink::Blob(
                self.ingest(lease, IngestSpec { digest: source.digest, size: source.size, hash_apart: source.alone })?,
            )
        };
        let temp = TempDir::new(self)?;
        let mut writer = LayerWriter { lease: lease.clone(), source, sink, temp, pipeline: None };
        writer.begin()?;
        writer.replay()?;
        Ok(writer)
    }

    /// Unpacks a blob that is here already. Errors: NotFound.
    pub fn unpack_blob(&self, lease: &Lease, source: LayerSource) -> Result<AppliedLayer> {
        let digest = source.digest.ok_or_else(|| Error::invalid("a blob to unpack needs a digest"))?;
        if !self.hold_blob(lease, &digest)? {
            return Err(Error::not_found(format!("blob {digest} not found")));
        }
        self.layer_writer(lease, LayerSource { discard_blob: false, ..source })?.finish()
    }
}

impl LayerWriter {
    fn begin(&mut self) -> Result<()> {
        let diff = self.temp.path().join("diff");
        std::fs::create_dir(&diff).at("create the directory", &diff)?;
        let inner = &self.lease.store().inner;
        let options = ApplyOptions {
            marks: inner.marks,
            max_bytes: inner.limits.layer_bytes,
            max_entries: inner.limits.layer_entries,
        };
        self.pipeline = Some(Pipeline::start(diff, options)?);
        Ok(())
    }

    /// Unpacks the bytes that are here from before.
    fn replay(&mut self) -> Result<()> {
        let Sink::Blob(ingest) = &self.sink else { return Ok(()) };
        if ingest.offset() == 0 {
            return Ok(());
        }
        let path = ingest.path();
        let mut file = std::fs::File::open(&path).at("open", &path)?.take(ingest.offset());
        let mut buffer = vec![0u8; super::pipe::BUFFER];
        loop {
            match file.read(&mut buffer).at("read", &path)? {
                0 => return Ok(()),
                n => self.unpack(&buffer[..n])?,
            }
        }
    }

    fn unpack(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.pipeline {
            Some(pipeline) => pipeline.push(bytes),
            None => Err(Error::internal("the layer has ended")),
        }
    }

    /// Bytes already here: writing continues there.
    pub fn offset(&self) -> u64 {
        match &self.sink {
            Sink::Blob(ingest) => ingest.offset(),
            Sink::Nowhere(hash) => hash.bytes(),
        }
    }

    /// Uncompressed bytes so far, for progress.
    pub fn unpacked(&self) -> u64 {
        self.pipeline.as_ref().map_or(0, Pipeline::unpacked)
    }

    /// Throws away what is here, to begin anew (a server that cannot resume).
    pub fn restart(&mut self) -> Result<()> {
        // The old threads must be gone before their directory goes.
        self.pipeline = None;
        self.temp = TempDir::new(self.lease.store())?;
        match &mut self.sink {
            Sink::Blob(ingest) if ingest.is_present() => {}
            Sink::Blob(ingest) => ingest.restart()?,
            Sink::Nowhere(hash) => *hash = Hasher::new(),
        }
        self.begin()?;
        self.replay()
    }

    /// Appends bytes.
    ///
    /// Errors: InvalidArgument for a hostile or damaged archive, found so far; Unavailable if the disk is full.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.sink {
            // All of it is here and was unpacked.
            Sink::Blob(ingest) if ingest.is_present() => return Ok(()),
            Sink::Blob(ingest) => ingest.push(bytes)?,
            Sink::Nowhere(hash) => hash.update(bytes),
        }
        self.unpack(bytes).inspect_err(|e| {
            // A bad archive is not worth resuming; a full disk may be mended.
            if e.kind() != barque_model::ErrorKind::Unavailable
                && let Sink::Blob(ingest) = std::mem::replace(&mut self.sink, Sink::Nowhere(Hasher::new()))
            {
                ingest.abort();
            }
        })
    }

    /// Waits for the threads, verifies digests and sizes.
    ///
    /// Errors: InvalidArgument for a wrong digest, a damaged or hostile archive: nothing is kept then. If the
    /// bytes merely ended early (Unavailable), they stay to be resumed.
    pub fn finish(mut self) -> Result<AppliedLayer> {
        if let (Sink::Blob(ingest), Some(size)) = (&self.sink, self.source.size)
            && ingest.offset() < size
        {
            let name = self.source.digest.map_or_else(|| "the layer".to_owned(), |d| format!("layer {d}"));
            return Err(Error::unavailable(format!("{name} ended after {} of {size} bytes", ingest.offset()))
                .with_hint("try again: what has arrived is kept"));
        }
        let Some(pipeline) = self.pipeline.take() else { return Err(Error::internal("the layer has ended")) };
        let outcome = match pipeline.finish() {
            Ok(outcome) => outcome,
            Err(error) => return Err(self.give_up(error)),
        };
        let media_type = self.source.media_type.clone();
        let media_type = media_type.unwrap_or_else(|| outcome.compression.layer_media_type().to_owned());
        let (blob, digest) = match self.sink {
            Sink::Blob(ingest) => {
                let blob = ingest.commit()?;
                (Some(blob), blob.digest)
            }
            Sink::Nowhere(hash) => (None, verify(&self.source, hash)?),
        };
        let diff_id = outcome.diff_id.unwrap_or(DiffId(digest));
        if let Some(expected) = self.source.diff_id
            && expected != diff_id
        {
            return Err(Error::invalid(format!("diff id mismatch: expected {expected}, got {diff_id}"))
                .with_hint("the layer is not the one the image's configuration names; nothing of it was kept"));
        }
        Ok(AppliedLayer {
            diff_id,
            blob,
            media_type,
            size: outcome.applied.size,
            entries: outcome.applied.entries,
            temp: self.temp,
            applied: outcome.applied,
        })
    }

    /// The archive is no good. Whether its bytes are those that were asked for decides who is to blame.
    fn give_up(self, error: Error) -> Error {
        let Sink::Blob(ingest) = self.sink else { return error };
        if error.kind() == barque_model::ErrorKind::Unavailable {
            return error;
        }
        match ingest.commit() {
            Err(mismatch) if self.source.digest.is_some() => mismatch,
            _ => error,
        }
    }
}

fn verify(source: &LayerSource, hash: Hasher) -> Result<Digest> {
    let bytes = hash.bytes();
    if let Some(size) = source.size
        && size != bytes
    {
        return Err(Error::unavailable(format!("the layer has {bytes} bytes instead of {size}")));
    }
    let digest = hash.finish();
    match source.digest {
        Some(expected) if expected != digest => {
            Err(Error::invalid(format!("digest mismatch: expected {expected}, got {digest}")))
        }
        _ => Ok(digest),
    }
}

impl Write for LayerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map(|()| bytes.len()).map_err(error::into_io)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
