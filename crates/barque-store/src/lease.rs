//! Leases hold what in-flight work has made, or is making, against the collector.

use barque_model::{Error, Id, Result};

use crate::Store;

/// Holds blobs, layers and ingests until dropped. Renewed in the background while it lives; after a crash it
/// expires, and what only it held is collected.
pub struct Lease {
    pub(crate) id: Id,
    pub(crate) store: Store,
}

impl Store {
    /// Takes a lease for `purpose` (for people to read, such as `pull python:3.7`).
    pub fn lease(&self, purpose: &str) -> Result<Lease> {
        let _ = purpose;
        Err(Error::not_implemented("leases"))
    }
}

impl Lease {
    pub fn id(&self) -> Id {
        self.id
    }

    pub fn store(&self) -> &Store {
        &self.store
    }
}
