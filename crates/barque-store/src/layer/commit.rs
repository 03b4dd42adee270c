//! Snapshots become layers, layers become blobs.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use barque_model::{ChainId, DiffId, Error, Id, Result, Timestamp};
use barque_sys::rootdir::{Dir, RootDir, Stat, TimeSpec};

use super::decompress::{self, Compression};
use super::diff::{Tee, diff};
use super::gzip::GzipWriter;
use super::writer::TempDir;
use super::{AppliedLayer, CommitMode, DiffOptions, DiffSummary, Lowers};
use crate::content::IngestSpec;
use crate::db::{Layer, LayerBlob, Tx};
use crate::error::{self, IoContext};
use crate::tree::{self, CopyOptions, Descend, Visit, Visitor, walk};
use crate::{Lease, Store};

impl Store {
    /// Writes what the snapshot changed as a layer tar: whiteouts and opaque directories as the OCI image
    /// specification has them, entries in the order of their names.
    pub fn diff_snapshot(&self, snapshot: &Id, options: DiffOptions, out: &mut dyn Write) -> Result<DiffSummary> {
        diff(&self.snapshot_dirs(snapshot)?.upper, options, out)
    }

    /// Turns a snapshot into a layer on top of the one it stands on, held by `lease`. With [`CommitMode::Move`]
    /// the snapshot's row and files are gone afterwards; nothing may have it mounted for writing.
    ///
    /// Errors: NotFound; Conflict if a container still uses a snapshot that is to be moved.
    pub fn commit_snapshot(
        &self,
        lease: &Lease,
        snapshot: &Id,
        mode: CommitMode,
        options: DiffOptions,
    ) -> Result<Layer> {
        let not_found = || Error::not_found(format!("snapshot {snapshot} not found"));
        let parent = self.read(|r| r.snapshot(snapshot)?.ok_or_else(not_found))?.parent;
        let upper = self.snapshot_dirs(snapshot)?.upper;
        let mut temp = TempDir::new(self)?;
        let target = temp.path().join("diff");
        if mode == CommitMode::Copy {
            copy_upper(&upper, &target)?;
            let summary = settle(&target, options)?;
            return self.finish_commit(lease, &mut temp, &summary, parent, |_| Ok(()));
        }
        std::fs::rename(&upper, &target).at("move", &upper)?;
        let done = settle(&target, options).and_then(|summary| {
            self.finish_commit(lease, &mut temp, &summary, parent, |tx| tx.snapshot_delete(snapshot))
        });
        match done {
            Ok(layer) => self.discard_snapshot(snapshot).map(|()| layer),
            Err(error) => {
                // What the snapshot holds may be all there is of somebody's work: it goes back.
                let _ = std::fs::rename(&target, &upper);
                Err(error)
            }
        }
    }

    /// Makes an unpacked archive a bottom layer whose identity is that of the archive its files make.
    pub(crate) fn add_rewritten(&self, lease: &Lease, applied: AppliedLayer) -> Result<Layer> {
        let AppliedLayer { mut temp, applied, .. } = applied;
        let target = temp.path().join("diff");
        super::complete::complete(&target, applied, &Lowers::open(&[])?, self.inner.marks)?;
        let summary = diff(&target, DiffOptions::default(), &mut io::sink())?;
        self.finish_commit(lease, &mut temp, &summary, None, |_| Ok(()))
    }

    fn finish_commit(
        &self,
        lease: &Lease,
        temp: &mut TempDir,
        summary: &DiffSummary,
        parent: Option<ChainId>,
        also: impl FnOnce(&Tx<'_>) -> Result<()>,
    ) -> Result<Layer> {
        let diff_id = summary.diff_id;
        let chain_id = ChainId::on(parent, diff_id);
        let _busy = self.inner.busy.acquire(&format!("layer-{}", chain_id.0.hex()));
        if self.hold_layer(lease, &chain_id)?
            && let Some(layer) = self.layer(&chain_id)?
        {
            return self.write(also).map(|()| layer);
        }
        let created_at = Timestamp::now();
        let layer = Layer { chain_id, diff_id, parent, size: summary.size, path: None, created_at };
        self.adopt_layer(lease, temp, &layer, also)?;
        Ok(layer)
    }

    /// A compressed blob of the layer for push and save: the one it was pulled as, else one made now (gzip, the
    /// same bytes every time) and recorded. Media type: OCI's or Docker's as it came, OCI gzip if made.
    ///
    /// Errors: NotFound; Unsupported for the host's own root file system.
    pub fn layer_blob(&self, lease: &Lease, chain: &ChainId) -> Result<LayerBlob> {
        let layer = self.existing_layer(chain)?;
        let _busy = self.inner.busy.acquire(&format!("blob-of-{}", layer.diff_id.0.hex()));
        let blobs = self.read(|r| r.layer_blobs(&layer.diff_id))?;
        let compressed = |b: &&LayerBlob| b.media_type.ends_with("gzip") || b.media_type.ends_with("zstd");
        if let Some(found) = blobs.iter().find(compressed)
            && self.hold_blob(lease, &found.blob.digest)?
        {
            return Ok(found.clone());
        }
        let ingest = self.ingest(lease, IngestSpec::default())?;
        let mut packed = GzipWriter::new(ingest);
        self.layer_tar(chain, &mut packed)?;
        let blob = packed.finish().map_err(error::from_io)?.commit()?;
        let media_type = Compression::Gzip.layer_media_type();
        self.write(|tx| tx.layer_blob_insert(&layer.diff_id, &blob.digest, media_type))?;
        Ok(LayerBlob { blob, media_type: media_type.to_owned() })
    }

    fn existing_layer(&self, chain: &ChainId) -> Result<Layer> {
        let layer = self.layer(chain)?.ok_or_else(|| Error::not_found(format!("layer {chain} not found")))?;
        match &layer.path {
            None => Ok(layer),
            Some(path) if path.is_relative() => Ok(layer),
            Some(path) => Err(Error::new(
                barque_model::ErrorKind::Unsupported,
                format!("this machine's own file system at {} cannot leave it as a layer", path.display()),
            )
            .with_hint("images made from barque/host run only here; base the image on another one to share it")),
        }
    }

    /// Writes the layer's uncompressed tar, whose digest is its diff id: from a blob of it, else from its files.
    ///
    /// Errors: NotFound; Unsupported for the host's own root file system; Internal if the files have changed.
    pub fn layer_tar(&self, chain: &ChainId, out: &mut dyn Write) -> Result<()> {
        let layer = self.existing_layer(chain)?;
        let mut tee = Tee::new(out);
        match self.read(|r| r.layer_blobs(&layer.diff_id))?.first() {
            Some(blob) => {
                let mut file = BufReader::with_capacity(tree::BUFFER, self.open_blob(&blob.blob.digest)?);
                let start = file.fill_buf().map_err(error::from_io)?.to_vec();
                let kind = Compression::detect(&start);
                let mut plain = decompress::decoder(file, &start)?;
                copy_all(&mut plain, &mut tee, kind)?;
            }
            None => drop(diff(&self.layer_dir(&layer), DiffOptions::default(), &mut tee)?),
        }
        let (_, hash) = tee.finish();
        let found = DiffId(hash.finish());
        if found != layer.diff_id {
            return Err(Error::internal(format!("the files of layer {chain} are not what they were: got {found}"))
                .with_hint("something changed files below the data root; remove the image and get it again"));
        }
        Ok(())
    }
}

/// Copies, telling errors of the decoder from those of the output.
fn copy_all(from: &mut dyn Read, to: &mut dyn Write, kind: Compression) -> Result<()> {
    let mut buffer = vec![0u8; tree::BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n]).map_err(error::from_io)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(decompress::explain(e, kind)),
        }
    }
}

/// Applies the options to a directory that is going to be a layer, and finds its diff id.
fn settle(target: &Path, options: DiffOptions) -> Result<DiffSummary> {
    if let Some(latest) = options.clamp_mtime {
        // In the files themselves, so that a blob made later has the same digest.
        clamp(target, latest)?;
    }
    diff(target, DiffOptions::default(), &mut io::sink())
}

/// Copies an upper directory with its overlay marks.
fn copy_upper(upper: &Path, target: &Path) -> Result<()> {
    std::fs::create_dir(target).at("create the directory", target)?;
    let (from, to) = (RootDir::open(upper).at("open", upper)?, RootDir::open(target).at("open", target)?);
    let options = CopyOptions { raw_overlay: true, ..CopyOptions::default() };
    tree::copy_tree(&from, Path::new("/"), &to, Path::new("/"), &options).map(|_| ())
}

struct Clamp(i64);

impl Clamp {
    fn set(&self, stat: &Stat, set: impl FnOnce(TimeSpec) -> io::Result<()>) -> Result<()> {
        if stat.modified.seconds < self.0 {
            return Ok(());
        }
        set(TimeSpec::new(self.0, 0)).map_err(|e| Error::from(e).context("set a modification time"))
    }
}

impl Visitor for Clamp {
    fn visit(&mut self, visit: &Visit<'_>, own: Option<&Dir>) -> Result<Descend> {
        if own.is_none() {
            self.set(visit.stat, |t| visit.parent.set_times(visit.name, None, Some(t)))?;
        }
        Ok(Descend::Yes)
    }

    fn leave(&mut self, own: &Dir, stat: &Stat) -> Result<()> {
        self.set(stat, |t| own.set_own_times(None, Some(t)))
    }
}

/// Sets modification times later than `latest` (seconds since the epoch) to it.
fn clamp(dir: &Path, latest: i64) -> Result<()> {
    walk(Dir::open(dir).at("open", dir)?, &mut Clamp(latest))
}
