//! Taking a layer: blob, diff id and unpacked directory in one pass over its bytes.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use barque_model::{DiffId, Digest, Error, Hasher, Id, Result};

use super::apply::{Applied, ApplyOptions};
use super::pipe::{BUFFER, Chunk};
use super::pipeline::{self, Pipeline};
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
    /// What came since the last whole buffer: the blob, its hash and the pipeline share each buffer.
    pending: Vec<u8>,
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

    /// The same directory, in other hands.
    fn take(&mut self) -> TempDir {
        TempDir { path: self.path.take(), store: self.store.clone() }
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
        let mut writer = LayerWriter { lease: lease.clone(), source, sink, temp, pipeline: None, pending: Vec::new() };
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
        loop {
            let pipeline = running(&mut self.pipeline)?;
            let buffer = pipeline::fill(&mut file, pipeline.pool().take()).at("read", &path)?;
            if buffer.is_empty() {
                return Ok(());
            }
            let chunk = Chunk::new(buffer, pipeline.pool());
            pipeline.push(chunk)?;
        }
    }

    /// Bytes already here: writing continues there.
    pub fn offset(&self) -> u64 {
        let whole = match &self.sink {
            Sink::Blob(ingest) => ingest.offset(),
            Sink::Nowhere(hash) => hash.bytes(),
        };
        whole + self.pending.len() as u64
    }

    /// Uncompressed bytes so far, for progress.
    pub fn unpacked(&self) -> u64 {
        self.pipeline.as_ref().map_or(0, Pipeline::unpacked)
    }

    /// Throws away what is here, to begin anew (a server that cannot resume).
    pub fn restart(&mut self) -> Result<()> {
        // The old threads must be gone before their directory goes.
        self.pipeline = None;
        self.pending.clear();
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
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        if let Sink::Blob(ingest) = &self.sink
            && ingest.is_present()
        {
            // All of it is here and was unpacked.
            return Ok(());
        }
        while !bytes.is_empty() {
            if self.pending.capacity() == 0 {
                self.pending = running(&mut self.pipeline)?.pool().take();
                self.pending.clear();
            }
            let n = bytes.len().min(BUFFER - self.pending.len());
            self.pending.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.pending.len() == BUFFER {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Hands on what is pending.
    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pipeline = running(&mut self.pipeline)?;
        let chunk = Chunk::new(std::mem::take(&mut self.pending), pipeline.pool());
        match &mut self.sink {
            Sink::Blob(ingest) => ingest.share(&chunk)?,
            Sink::Nowhere(hash) => hash.update(chunk.bytes()),
        }
        pipeline.push(chunk).inspect_err(|e| {
            // A bad archive is not worth resuming; a full disk may be mended.
            if e.kind() != barque_model::ErrorKind::Unavailable
                && let Sink::Blob(ingest) = self.take_sink()
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
        self.flush()?;
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
        let source = std::mem::take(&mut self.source);
        let media_type = source.media_type.clone();
        let media_type = media_type.unwrap_or_else(|| outcome.compression.layer_media_type().to_owned());
        let (blob, digest) = match self.take_sink() {
            Sink::Blob(ingest) => {
                let blob = ingest.commit()?;
                (Some(blob), blob.digest)
            }
            Sink::Nowhere(hash) => (None, verify(&source, hash)?),
        };
        let diff_id = outcome.diff_id.unwrap_or(DiffId(digest));
        if let Some(expected) = source.diff_id
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
            temp: self.temp.take(),
            applied: outcome.applied,
        })
    }

    /// What is written to it from now on is forgotten.
    fn take_sink(&mut self) -> Sink {
        std::mem::replace(&mut self.sink, Sink::Nowhere(Hasher::new()))
    }

    /// The archive is no good. Whether its bytes are those that were asked for decides who is to blame.
    fn give_up(&mut self, error: Error) -> Error {
        let Sink::Blob(ingest) = self.take_sink() else { return error };
        if error.kind() == barque_model::ErrorKind::Unavailable {
            return error;
        }
        match ingest.commit() {
            Err(mismatch) if self.source.digest.is_some() => mismatch,
            _ => error,
        }
    }
}

impl Drop for LayerWriter {
    fn drop(&mut self) {
        // An interrupted layer is resumed from its last byte.
        if let Sink::Blob(ingest) = &mut self.sink
            && !self.pending.is_empty()
            && let Err(error) = ingest.push(&self.pending)
        {
            tracing::warn!(error = %error.chain(), "the last bytes of an interrupted layer are lost");
        }
    }
}

fn running(pipeline: &mut Option<Pipeline>) -> Result<&mut Pipeline> {
    pipeline.as_mut().ok_or_else(|| Error::internal("the layer has ended"))
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
