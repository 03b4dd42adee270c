//! The content store: files named by the sha256 digest of their bytes.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use barque_model::{Digest, Error, Result};

use crate::db::Blob;
use crate::{Lease, Store};

/// What is going to be written.
#[derive(Clone, Debug, Default)]
pub struct IngestSpec {
    /// The digest it must have; also what an interrupted ingest is found again by.
    pub digest: Option<Digest>,
    /// Bytes it must have.
    pub size: Option<u64>,
}

/// A blob being written. Dropped before [`Ingest::commit`], it stays to be resumed as long as its lease.
pub struct Ingest {
    pub(crate) file: File,
}

impl Store {
    /// Begins a blob, or resumes one of the same digest that was interrupted ([`Ingest::offset`] tells where).
    /// Waits while another thread ingests the same digest.
    pub fn ingest(&self, lease: &Lease, spec: IngestSpec) -> Result<Ingest> {
        let _ = (lease, spec);
        Err(Error::not_implemented("ingest"))
    }

    /// The blob, if it is here.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>> {
        self.read(|r| r.blob(digest))
    }

    /// Opens a blob for reading. Errors: NotFound.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let _ = digest;
        Err(Error::not_implemented("open_blob"))
    }

    /// The file of a blob, whether it exists or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.paths.blob(digest)
    }

    /// The bytes of a small blob (a configuration or manifest), looked up among blobs, image configurations and
    /// kept manifests. Errors: NotFound; InvalidArgument above [`crate::Limits::document_bytes`].
    pub fn read_document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let _ = digest;
        Err(Error::not_implemented("read_document"))
    }

    /// Stores `bytes` as a blob held by `lease`.
    pub fn put_blob(&self, lease: &Lease, bytes: &[u8]) -> Result<Blob> {
        let _ = (lease, bytes);
        Err(Error::not_implemented("put_blob"))
    }

    /// Makes `lease` hold a blob that is here; false if it is not.
    pub fn hold_blob(&self, lease: &Lease, digest: &Digest) -> Result<bool> {
        let _ = (lease, digest);
        Err(Error::not_implemented("hold_blob"))
    }
}

impl Ingest {
    /// Bytes already here: writing continues there.
    pub fn offset(&self) -> u64 {
        0
    }

    /// Throws away what is here, to begin anew (a server that cannot resume).
    pub fn restart(&mut self) -> Result<()> {
        Err(Error::not_implemented("ingest"))
    }

    /// Verifies size and digest and makes the blob visible.
    ///
    /// Errors: InvalidArgument if digest or size differ; the bytes are thrown away then.
    pub fn commit(self) -> Result<Blob> {
        Err(Error::not_implemented("ingest"))
    }

    /// Throws the bytes away.
    pub fn abort(self) {}
}

impl io::Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut self.file, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
