//! The content store: files named by the sha256 digest of their bytes.

mod busy;
mod hash;
mod ingest;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use barque_model::{Digest, Error, Result};

use crate::db::{Blob, LeaseKind};
use crate::error::IoContext;
use crate::{Lease, Store};

pub(crate) use busy::Busy;
pub use ingest::{Ingest, IngestSpec};

impl Store {
    /// The blob, if it is here.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>> {
        self.read(|r| r.blob(digest))
    }

    /// Opens a blob for reading. Errors: NotFound.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::not_found(format!("blob {digest} not found")))
            }
            other => other.at("open", &path),
        }
    }

    /// The file of a blob, whether it exists or not.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.paths.blob(digest)
    }

    /// The bytes of a small blob (a configuration or manifest), looked up among image configurations, kept
    /// manifests and blobs. Errors: NotFound; InvalidArgument above [`crate::Limits::document_bytes`].
    pub fn read_document(&self, digest: &Digest) -> Result<Vec<u8>> {
        if let Some(bytes) = self.read(|r| r.document(digest))? {
            return Ok(bytes);
        }
        let limit = self.inner.limits.document_bytes;
        let mut file = self.open_blob(digest)?.take(limit.saturating_add(1));
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).at("read", &self.blob_path(digest))?;
        if limit > 0 && bytes.len() as u64 > limit {
            return Err(Error::invalid(format!("document {digest} is larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Stores `bytes` as a blob held by `lease`.
    pub fn put_blob(&self, lease: &Lease, bytes: &[u8]) -> Result<Blob> {
        let digest = barque_model::Digest::of(bytes);
        let spec = IngestSpec { digest: Some(digest), size: Some(bytes.len() as u64), hash_apart: false };
        let mut ingest = self.ingest(lease, spec)?;
        if ingest.offset() > 0 && ingest.offset() < bytes.len() as u64 {
            ingest.restart()?;
        }
        if ingest.offset() == 0 {
            ingest.push(bytes)?;
        }
        ingest.commit()
    }

    /// Makes `lease` hold a blob that is here; false if it is not.
    pub fn hold_blob(&self, lease: &Lease, digest: &Digest) -> Result<bool> {
        self.write(|tx| match tx.blob(digest)? {
            Some(_) => tx.lease_hold(&lease.id(), LeaseKind::Blob, &digest.hex()).map(|()| true),
            None => Ok(false),
        })
    }
}
