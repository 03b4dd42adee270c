//! Writable layers: their directories, from creation to the trash.

use std::path::PathBuf;

use barque_model::{ChainId, Error, Id, Result};

use crate::Store;
use crate::db::Snapshot;

/// What an overlay mount of a snapshot needs. `redirect_dir`, `metacopy` and `index` must be off, so that the
/// upper directory stays a plain diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotDirs {
    pub upper: PathBuf,
    pub work: PathBuf,
    /// The top layer first; empty for a snapshot without a parent.
    pub lowers: Vec<PathBuf>,
}

impl Store {
    /// Inserts the row and makes the directories in one call, for build steps. Containers insert the row in
    /// their own transaction ([`crate::Tx::snapshot_insert`]) and then call [`Store::prepare_snapshot`].
    pub fn create_snapshot(&self, id: Id, parent: Option<ChainId>) -> Result<SnapshotDirs> {
        let row = Snapshot { id, parent, created_at: barque_model::Timestamp::now() };
        self.write(|tx| tx.snapshot_insert(&row))?;
        self.prepare_snapshot(&id)
    }

    /// Makes the directories of a snapshot whose row exists; doing it again is fine. The upper directory gets
    /// owner, mode and attributes of the image's root, since overlayfs shows those of the upper one.
    ///
    /// Errors: NotFound if there is no such row.
    pub fn prepare_snapshot(&self, id: &Id) -> Result<SnapshotDirs> {
        let _ = id;
        Err(Error::not_implemented("prepare_snapshot"))
    }

    /// The directories of a snapshot, without touching them. Errors: NotFound.
    pub fn snapshot_dirs(&self, id: &Id) -> Result<SnapshotDirs> {
        let _ = id;
        Err(Error::not_implemented("snapshot_dirs"))
    }

    /// Removes the files of a snapshot whose row is gone: renamed into the trash now, deleted in the background.
    /// Nothing there is fine.
    pub fn discard_snapshot(&self, id: &Id) -> Result<()> {
        let _ = id;
        Err(Error::not_implemented("discard_snapshot"))
    }

    /// Deletes the row of a snapshot that no container uses, and its files.
    pub fn remove_snapshot(&self, id: &Id) -> Result<()> {
        self.write(|tx| tx.snapshot_delete(id))?;
        self.discard_snapshot(id)
    }

    /// Bytes on disk of the snapshot's own files (`SizeRw`).
    pub fn snapshot_size(&self, id: &Id) -> Result<u64> {
        let _ = id;
        Err(Error::not_implemented("snapshot_size"))
    }

    /// Moves any directory of the data root's file system into the trash, to be deleted in the background: a
    /// volume's files, a container's own directory. Nothing there is fine.
    pub fn discard_dir(&self, path: &std::path::Path) -> Result<()> {
        let _ = path;
        Err(Error::not_implemented("discard_dir"))
    }
}
