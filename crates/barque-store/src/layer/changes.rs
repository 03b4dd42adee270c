//! What a snapshot changed against the layers below, as `docker diff` lists it.

use std::path::PathBuf;

use barque_model::{Error, Id, Result};

use crate::Store;

/// `A`, `C` and `D` of `docker diff`; the Engine API has 1, 0 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

/// One changed path, absolute within the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: PathBuf,
    pub kind: ChangeKind,
}

impl Store {
    /// What the snapshot changed, sorted by path; the root itself is not listed.
    pub fn changes(&self, snapshot: &Id) -> Result<Vec<Change>> {
        let _ = snapshot;
        Err(Error::not_implemented("changes"))
    }
}
