//! Leases hold what in-flight work has made, or is making, against the collector.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use barque_model::{Id, Result, Timestamp};

use crate::Store;
use crate::db::LeaseKind;

/// How long a lease outlives its engine. Long, so that a pull interrupted by a reboot can be resumed.
pub(crate) const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How often a living lease is renewed.
pub(crate) const RENEWAL: Duration = Duration::from_secs(3600);

/// Holds blobs, layers and ingests until dropped. Renewed in the background while it lives; after a crash it
/// expires, and what only it held is collected. Clones are one lease, which ends with the last of them.
#[derive(Clone)]
pub struct Lease {
    held: Arc<Held>,
}

struct Held {
    id: Id,
    store: Store,
    /// Set when partly written blobs remain that only this lease keeps from the collector.
    keep: AtomicBool,
    /// Set when nothing of the work is to be kept.
    ended: AtomicBool,
}

impl Store {
    /// Takes a lease for `purpose` (for people to read, such as `pull python:3.7`).
    pub fn lease(&self, purpose: &str) -> Result<Lease> {
        let id = Id::random();
        // Known to be alive before it can be found: see `Store::collect_interrupted`.
        self.inner.janitor.renew(id);
        if let Err(e) = self.write(|tx| tx.lease_insert(&id, purpose, Timestamp::now() + LIFETIME)) {
            self.inner.janitor.forget(&id);
            return Err(e);
        }
        let (keep, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Lease { held: Arc::new(Held { id, store: self.clone(), keep, ended }) })
    }
}

impl Lease {
    pub fn id(&self) -> Id {
        self.held.id
    }

    pub(crate) fn store(&self) -> &Store {
        &self.held.store
    }

    pub(crate) fn hold(&self, kind: LeaseKind, item: &str) -> Result<()> {
        self.store().write(|tx| tx.lease_hold(&self.id(), kind, item))
    }

    /// Lets the lease outlive its handle until it expires: something is left to be resumed.
    pub(crate) fn linger(&self) {
        self.held.keep.store(true, Relaxed);
    }

    /// Nothing of the work is worth being resumed: what only this lease holds goes when its last handle does.
    pub fn end(&self) {
        self.held.ended.store(true, Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.store.inner.janitor.forget(&self.id);
        let ended = self.ended.load(Relaxed);
        if ended || !self.keep.load(Relaxed) {
            let id = self.id;
            // A lease that cannot be deleted now expires by itself.
            let _ = self.store.write(|tx| tx.lease_delete(&id));
        }
        if ended {
            self.store.inner.janitor.end(self.id);
        }
    }
}
