//! The handle, the data root's layout and its lock.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use barque_model::{ChainId, Context, Digest, Error, Id, Result};
use rustix::fs::{FlockOperation, IFlags, Mode, OFlags};

use crate::content::Busy;
use crate::db::{Database, Durability, Read, Tx};
use crate::error::IoContext;
use crate::janitor::Janitor;
use crate::layer::Marks;

/// What hostile archives are held to. Zero means no limit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes a layer may unpack to.
    pub layer_bytes: u64,
    /// Entries a layer may have.
    pub layer_entries: u64,
    /// Bytes of configurations, manifests and other JSON documents.
    pub document_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { layer_bytes: 1 << 40, layer_entries: 10_000_000, document_bytes: 4 << 20 }
    }
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The data root; created if missing.
    pub root: PathBuf,
    pub limits: Limits,
}

impl StoreOptions {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        StoreOptions { root: root.into(), limits: Limits::default() }
    }
}

/// What opening found left over from a crash and put right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Half-made layers and trash deleted.
    pub temporary: usize,
    /// Layer directories without a row.
    pub layers: usize,
    /// Snapshot directories without a row.
    pub snapshots: usize,
    /// Blob files without a row, or rows without a file.
    pub blobs: usize,
    /// Layers that a loss of power had left doubtful, unpacked again from their blobs.
    pub repaired: Vec<ChainId>,
    /// Sentences about what could not be put right, such as an image whose layer is gone.
    pub lost: Vec<String>,
}

/// Names of files below the data root.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
}

impl Paths {
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("barque.db")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs().join(&hex[..2]).join(&hex)
    }

    pub(crate) fn ingests(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, chain: &ChainId) -> PathBuf {
        self.layers().join(chain.0.hex())
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    pub(crate) fn snapshot(&self, id: &Id) -> PathBuf {
        self.snapshots().join(id.to_string())
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }
}

pub(crate) struct Inner {
    pub(crate) janitor: Janitor,
    pub(crate) paths: Paths,
    pub(crate) limits: Limits,
    pub(crate) db: Database,
    /// How overlayfs's marks are written here.
    pub(crate) marks: Marks,
    /// Blobs and layers that a thread is writing.
    pub(crate) busy: Busy,
    /// Taken while a row and its files are brought into line, so that the collector never deletes a file that
    /// somebody has just put there again.
    files: Mutex<()>,
    recovery: OnceLock<Recovery>,
    /// Held as long as the store is open.
    #[allow(dead_code, reason = "held, not used")]
    lock: File,
}

impl Inner {
    /// Gives up the lock, as the death of the process would.
    #[cfg(test)]
    pub(crate) fn crash_for_tests(&self) {
        rustix::fs::flock(&self.lock, FlockOperation::Unlock).unwrap();
    }

    pub(crate) fn lock_files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's durable state. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl Store {
    /// Opens the data root, creating it if missing, migrates the database and removes what a crash left behind.
    ///
    /// Errors: Conflict if another engine holds the data root; Unavailable if the disk is full.
    pub fn open(options: StoreOptions) -> Result<Store> {
        let paths = Paths { root: options.root };
        std::fs::create_dir_all(&paths.root).at("create the data root", &paths.root)?;
        let lock = lock_root(&paths.root)?;
        crate::reserve::make_room(&paths.root);
        let dirs = [paths.blobs(), paths.ingests(), paths.layers(), paths.snapshots(), paths.tmp(), paths.trash()];
        for dir in &dirs {
            std::fs::create_dir_all(dir).at("create the directory", dir)?;
        }
        for dir in [paths.snapshots(), paths.tmp()] {
            spread(&dir);
        }
        let inner = Arc::new(Inner {
            janitor: Janitor::new(),
            db: Database::open(&paths.database())?,
            marks: Marks::probe(&paths.tmp()),
            paths,
            limits: options.limits,
            busy: Busy::default(),
            files: Mutex::new(()),
            recovery: OnceLock::new(),
            lock,
        });
        let store = Store { inner };
        let recovery = store.recover()?;
        let _ = store.inner.recovery.set(recovery);
        let weak = Arc::downgrade(&store.inner);
        store.inner.janitor.start(store.inner.paths.trash(), weak).context("start the store's background thread")?;
        store.inner.janitor.empty_trash();
        Ok(store)
    }

    /// The data root.
    pub fn root(&self) -> &Path {
        &self.inner.paths.root
    }

    /// What opening had to put right.
    pub fn recovery(&self) -> Recovery {
        self.inner.recovery.get().cloned().unwrap_or_default()
    }

    /// Runs `work` on a consistent view of the database; never waits for writers.
    pub fn read<T>(&self, work: impl FnOnce(&Read<'_>) -> Result<T>) -> Result<T> {
        self.inner.db.read(work)
    }

    /// Runs `work` in a write transaction: everything is committed, or for an error nothing. The commit survives
    /// the death of the process but the last ones may be lost with the power: right for container state.
    /// `work` must not call [`Store::write`] again.
    pub fn write<T>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        self.inner.db.write(Durability::Process, work)
    }

    /// As [`Store::write`], but the commit, and every one before it, survives the loss of power: for images,
    /// volumes and networks.
    pub fn write_durable<T>(&self, work: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        self.inner.db.write(Durability::Power, work)
    }

    /// Makes everything durable and compacts the write-ahead log; for a clean shutdown.
    pub fn close(&self) -> Result<()> {
        self.inner.sync_layers()?;
        self.inner.db.checkpoint()
    }
}

/// Has ext4 give each directory that is made in `dir` a region of the disk to itself, as it does in a home directory
/// (chattr(1), `T`). In one region for all, every file made passes over each inode that was deleted there within the
/// last minutes: after images were removed, unpacking the next takes many times as long. Other file systems know no
/// such flag, and need none.
fn spread(dir: &Path) {
    let set = || -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        rustix::fs::ioctl_setflags(&dir, rustix::fs::ioctl_getflags(&dir)? | IFlags::TOPDIR)
    };
    let _only_slower = set();
}

fn lock_root(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let file = File::options().create(true).append(true).open(&path).at("open", &path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::conflict(format!("another engine is using the data root {}", root.display()))
                .with_hint("stop it, or give this one another --data-root"))
        }
        Err(e) => Err(std::io::Error::from(e)).with_context(|| format!("lock {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `EXT4_SUPER_MAGIC` of statfs(2).
    const EXT4: i64 = 0xef53;

    #[test]
    fn snapshots_and_layers_begin_in_regions_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let ext4 = rustix::fs::statfs(dir.path()).unwrap().f_type == EXT4;
        let store = Store::open(StoreOptions::new(dir.path())).unwrap();
        let flagged = |path: &Path| {
            let file = File::open(path).unwrap();
            rustix::fs::ioctl_getflags(&file).is_ok_and(|flags| flags.contains(IFlags::TOPDIR))
        };
        let paths = &store.inner.paths;
        assert_eq!([flagged(&paths.snapshots()), flagged(&paths.tmp())], [ext4; 2]);
        assert!(!flagged(&paths.blobs()));
    }
}
