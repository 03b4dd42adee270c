//! Writing a blob: append, resume, verify, publish.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_model::{Digest, Error, Hasher, Id, Result};

use super::busy::BusyKey;
use super::hash::Hash;
use crate::db::{Blob, LeaseKind};
use crate::error::{self, IoContext};
use crate::layer::Chunk;
use crate::{Lease, Store};

/// What is going to be written.
#[derive(Clone, Debug, Default)]
pub struct IngestSpec {
    /// The digest it must have; also what an interrupted ingest is found again by.
    pub digest: Option<Digest>,
    /// Bytes it must have.
    pub size: Option<u64>,
    /// Hash on a thread of its own: for one large stream, where writing would wait for the hash of each piece.
    pub hash_apart: bool,
}

/// A blob being written. Dropped before [`Ingest::commit`], one of a known digest stays to be resumed as long as
/// its lease.
pub struct Ingest {
    lease: Lease,
    spec: IngestSpec,
    state: State,
    /// Nobody else writes this digest meanwhile.
    _busy: BusyKey,
}

enum State {
    Writing(Box<Partial>),
    /// It turned out to be here already.
    Present(Blob),
    /// Committed or thrown away.
    Done,
}

struct Partial {
    key: String,
    path: PathBuf,
    file: File,
    hash: Hash,
}

impl Store {
    /// Begins a blob, or resumes one of the same digest that was interrupted: [`Ingest::offset`] tells where to
    /// go on, which is the end if the blob is here already. Waits while another thread writes the same digest.
    pub fn ingest(&self, lease: &Lease, spec: IngestSpec) -> Result<Ingest> {
        let key = spec.digest.map_or_else(|| format!("new-{}", Id::random()), |d| d.hex());
        let busy = self.inner.busy.acquire(&key);
        if let Some(digest) = spec.digest
            && self.hold_blob(lease, &digest)?
            && let Some(blob) = self.blob(&digest)?
        {
            return Ok(Ingest { lease: lease.clone(), spec, state: State::Present(blob), _busy: busy });
        }
        lease.hold(LeaseKind::Ingest, &key)?;
        let path = self.inner.paths.ingests().join(&key);
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).at("open", &path)?;
        let mut partial = Partial { key, path, file, hash: Hash::Here(Hasher::new()) };
        partial.recall(spec.size)?;
        if spec.hash_apart {
            partial.hash = partial.hash.apart()?;
        }
        Ok(Ingest { lease: lease.clone(), spec, state: State::Writing(Box::new(partial)), _busy: busy })
    }
}

impl Partial {
    /// Hashes what an interrupted ingest left, and goes to its end. What is longer than the blob is rubbish.
    fn recall(&mut self, size: Option<u64>) -> Result<()> {
        let length = self.file.metadata().at("examine", &self.path)?.len();
        if size.is_some_and(|s| length > s) {
            return self.clear();
        }
        let mut buffer = vec![0u8; 128 * 1024];
        loop {
            match self.file.read(&mut buffer).at("read", &self.path)? {
                0 => return Ok(()),
                n => self.hash.update(&buffer[..n])?,
            }
        }
    }

    fn clear(&mut self) -> Result<()> {
        self.file.set_len(0).at("truncate", &self.path)?;
        self.file.seek(SeekFrom::Start(0)).at("rewind", &self.path)?;
        self.hash = Hash::Here(Hasher::new());
        Ok(())
    }
}

impl Ingest {
    /// Bytes already here: writing continues there.
    pub fn offset(&self) -> u64 {
        match &self.state {
            State::Writing(partial) => partial.hash.bytes(),
            State::Present(blob) => blob.size,
            State::Done => 0,
        }
    }

    /// Whether the whole blob was here before: nothing need be written.
    pub fn is_present(&self) -> bool {
        matches!(self.state, State::Present(_))
    }

    /// The file with the bytes so far.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.state {
            State::Writing(partial) => partial.path.clone(),
            State::Present(blob) => self.lease.store().blob_path(&blob.digest),
            State::Done => PathBuf::new(),
        }
    }

    /// Throws away what is here, to begin anew (a server that cannot resume).
    pub fn restart(&mut self) -> Result<()> {
        match &mut self.state {
            State::Writing(partial) => partial.clear(),
            _ => Ok(()),
        }
    }

    /// Appends bytes. Errors: Unavailable if the disk is full, saying how much is missing; InvalidArgument if the
    /// blob becomes larger than announced.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        match self.append(bytes)? {
            Some(partial) => partial.hash.update(bytes),
            None => Ok(()),
        }
    }

    /// As [`Ingest::push`], of bytes that a thread that hashes may share.
    pub(crate) fn share(&mut self, chunk: &Arc<Chunk>) -> Result<()> {
        match self.append(chunk.bytes())? {
            Some(partial) => partial.hash.share(chunk),
            None => Ok(()),
        }
    }

    /// Writes what is to be hashed next; `None` if there is nothing to write.
    fn append(&mut self, bytes: &[u8]) -> Result<Option<&mut Partial>> {
        let State::Writing(partial) = &mut self.state else { return Ok(None) };
        let end = partial.hash.bytes() + bytes.len() as u64;
        if let Some(size) = self.spec.size
            && end > size
        {
            return Err(Error::invalid(format!("{} is longer than the {size} bytes announced", what(&self.spec))));
        }
        if let Err(e) = partial.file.write_all(bytes) {
            let missing = self.spec.size.map(|s| s - partial.hash.bytes());
            // Part of it may have been written: what is hashed and what is in the file must agree.
            let _ = partial.file.set_len(partial.hash.bytes());
            let _ = partial.file.seek(SeekFrom::End(0));
            return Err(error::io(e, "write", &partial.path, missing));
        }
        Ok(Some(partial))
    }

    /// Verifies size and digest and makes the blob visible.
    ///
    /// Errors: Unavailable if bytes are missing, which can be resumed; InvalidArgument if the digest differs: the
    /// bytes are thrown away then.
    pub fn commit(mut self) -> Result<Blob> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Present(blob) => Ok(blob),
            State::Done => Err(Error::internal("this ingest has ended")),
            State::Writing(partial) => self.publish(partial),
        }
    }

    fn publish(&mut self, mut partial: Box<Partial>) -> Result<Blob> {
        let size = partial.hash.bytes();
        if let Some(expected) = self.spec.size
            && size < expected
        {
            self.state = State::Writing(partial);
            return Err(Error::unavailable(format!("{} ended after {size} of {expected} bytes", what(&self.spec)))
                .with_hint("try again: what has arrived is kept"));
        }
        let digest = std::mem::take(&mut partial.hash).finish()?;
        if let Some(expected) = self.spec.digest
            && digest != expected
        {
            self.throw_away(&partial);
            return Err(Error::invalid(format!("digest mismatch: expected {expected}, got {digest}"))
                .with_hint("the sender's data is damaged or was tampered with; nothing of it was kept"));
        }
        let blob = Blob { digest, size };
        let store = self.lease.store();
        let target = store.blob_path(&digest);
        let _files = store.inner.lock_files();
        move_into(&partial.path, &target)?;
        store.write(|tx| {
            tx.blob_insert(&blob)?;
            tx.lease_hold(&self.lease.id(), LeaseKind::Blob, &digest.hex())?;
            tx.lease_drop_item(LeaseKind::Ingest, &partial.key)
        })?;
        store.inner.janitor.sync_layers();
        Ok(blob)
    }

    /// Throws the bytes away.
    pub fn abort(mut self) {
        if let State::Writing(partial) = std::mem::replace(&mut self.state, State::Done) {
            self.throw_away(&partial);
        }
    }

    fn throw_away(&self, partial: &Partial) {
        let _ = std::fs::remove_file(&partial.path);
        let _ = self.lease.store().write(|tx| tx.lease_drop_item(LeaseKind::Ingest, &partial.key));
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let State::Writing(partial) = &self.state else { return };
        if self.spec.digest.is_some() && partial.hash.bytes() > 0 {
            self.lease.linger();
        } else {
            self.throw_away(partial);
        }
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map(|()| bytes.len()).map_err(error::into_io)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn what(spec: &IngestSpec) -> String {
    spec.digest.map_or_else(|| "the blob".to_owned(), |d| format!("blob {d}"))
}

/// Renames `from` to `to`, creating the directory of `to`.
fn move_into(from: &Path, to: &Path) -> Result<()> {
    match std::fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(dir) = to.parent() {
                std::fs::create_dir_all(dir).at("create the directory", dir)?;
            }
            std::fs::rename(from, to).at("create", to)
        }
        other => other.at("create", to),
    }
}
