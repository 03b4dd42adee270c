//! A file that only takes room, given up when the disk is full: removing things takes some room itself, and what a
//! full disk needs must not fail for want of it.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::Store;

/// What rows and directories of a removal take, many times over.
const BYTES: u64 = 2 << 20;
/// With less than this, bytes, a disk is taken for full.
const LOW: u64 = 512 << 10;
/// With less than this, bytes, nothing is set aside.
const PLENTY: u64 = 16 * BYTES;

impl Store {
    /// To be called before something is removed: gives the reserve up if the disk is full, and sets it aside anew if
    /// there is room again.
    pub fn make_room(&self) {
        make_room(&self.inner.paths.root);
    }
}

pub(crate) fn make_room(root: &Path) {
    if free(root).is_some_and(|free| free < LOW) {
        if std::fs::remove_file(file(root)).is_ok() {
            tracing::warn!(root = %root.display(), "the disk is full: the reserve is used to remove things");
        }
    } else {
        set_aside(root);
    }
}

fn file(root: &Path) -> PathBuf {
    root.join("reserve")
}

fn free(root: &Path) -> Option<u64> {
    statvfs(root).ok().map(|disk| disk.f_bfree.saturating_mul(disk.f_frsize))
}

/// Sets the reserve aside if it is not there and there is room; to be called after something was deleted.
pub(crate) fn set_aside(root: &Path) {
    let file = file(root);
    if free(root).is_some_and(|free| free >= PLENTY) && !file.exists() {
        let reserved = File::create_new(&file).and_then(|f| Ok(fallocate(f, FallocateFlags::empty(), 0, BYTES)?));
        if reserved.is_err() {
            // A file system that sets nothing aside, or somebody was quicker.
            let _ = std::fs::remove_file(&file);
        }
    }
}
