//! Collection of what neither a row nor a lease refers to.

use barque_model::{ChainId, Digest, Error, Result};

use crate::Store;

/// What a collection removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    pub blobs: Vec<Digest>,
    pub layers: Vec<ChainId>,
    /// Interrupted ingests that no lease holds any more.
    pub ingests: usize,
    /// Bytes of files and blobs.
    pub bytes: u64,
}

impl Store {
    /// Removes expired leases, then blobs, layers and ingests that nothing refers to. Safe at any time.
    pub fn collect(&self) -> Result<Collected> {
        Err(Error::not_implemented("collect"))
    }
}
