//! Writable layers: their directories, from creation to the trash.

use std::io;
use std::path::{Path, PathBuf};

use barque_model::{ChainId, Error, Id, Result, Timestamp};
use barque_sys::rootdir::{Dir, Stat};
use rustix::fs::{AtFlags, CWD, Mode, RenameFlags};

use crate::Store;
use crate::db::Snapshot;
use crate::error::IoContext;
use crate::layer::{ignorable, is_overlay_attribute};

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
        let row = Snapshot { id, parent, created_at: Timestamp::now() };
        self.write(|tx| tx.snapshot_insert(&row))?;
        self.prepare_snapshot(&id).inspect_err(|_| {
            let _ = self.remove_snapshot(&id);
        })
    }

    /// Makes the directories of a snapshot whose row exists; doing it again is fine. The upper directory gets
    /// owner, mode and attributes of the image's root, since overlayfs shows those of the upper one.
    ///
    /// Errors: NotFound if there is no such row.
    pub fn prepare_snapshot(&self, id: &Id) -> Result<SnapshotDirs> {
        let dirs = self.snapshot_dirs(id)?;
        let base = self.inner.paths.snapshot(id);
        match make_dir(&base) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.at("create the directory", &base)?,
        }
        if !dirs.upper.exists() {
            // Whole when it gets its name: a crash leaves no root that only its owner may read.
            let fresh = base.join("upper.new");
            match make_dir(&fresh) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.at("create the directory", &fresh)?,
            }
            adopt_root(&fresh, dirs.lowers.first().map(PathBuf::as_path))?;
            match rustix::fs::renameat_with(CWD, &fresh, CWD, &dirs.upper, RenameFlags::NOREPLACE) {
                // Somebody else was quicker.
                Err(rustix::io::Errno::EXIST) => remove_now(&fresh)?,
                other => other.map_err(io::Error::from).at("create the directory", &dirs.upper)?,
            }
        }
        match make_dir(&dirs.work) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.at("create the directory", &dirs.work)?,
        }
        Ok(dirs)
    }

    /// The directories of a snapshot, without touching them. Errors: NotFound.
    pub fn snapshot_dirs(&self, id: &Id) -> Result<SnapshotDirs> {
        let not_found = || Error::not_found(format!("snapshot {id} not found"));
        let lowers = match self.read(|r| r.snapshot(id))?.ok_or_else(not_found)?.parent {
            Some(parent) => self.lower_dirs(&parent)?,
            None => Vec::new(),
        };
        let base = self.inner.paths.snapshot(id);
        Ok(SnapshotDirs { upper: base.join("upper"), work: base.join("work"), lowers })
    }

    /// Removes the files of a snapshot whose row is gone: renamed into the trash now, deleted in the background.
    /// Nothing there is fine.
    pub fn discard_snapshot(&self, id: &Id) -> Result<()> {
        self.discard_dir(&self.inner.paths.snapshot(id))
    }

    /// Deletes the row of a snapshot that no container uses, and its files.
    pub fn remove_snapshot(&self, id: &Id) -> Result<()> {
        self.write(|tx| tx.snapshot_delete(id))?;
        self.discard_snapshot(id)
    }

    /// Bytes on disk of the snapshot's own files (`SizeRw`).
    pub fn snapshot_size(&self, id: &Id) -> Result<u64> {
        crate::usage::directory_size(&self.inner.paths.snapshot(id).join("upper"))
    }

    /// Moves any directory of the data root's file system into the trash, to be deleted in the background: a
    /// volume's files, a container's own directory. Nothing there is fine.
    pub fn discard_dir(&self, path: &Path) -> Result<()> {
        self.inner.discard(path)
    }

    /// Waits until what was discarded is deleted and what was added is durable; for tests and shutdown.
    pub fn flush(&self) {
        self.inner.janitor.flush();
    }
}

impl crate::store::Inner {
    /// See [`Store::discard_dir`].
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        let grave = self.paths.trash().join(Id::random().to_string());
        match std::fs::rename(path, &grave) {
            Ok(()) => self.janitor.empty_trash(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::ResourceBusy) => {
                // Another file system, or something mounted: here and now.
                remove_now(path)?;
            }
            Err(e) => return Err(e).at("move to the trash", path),
        }
        Ok(())
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o711)).map_err(Into::into)
}

/// Removes a directory that cannot be renamed.
fn remove_now(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::invalid(format!("cannot remove {}", path.display())));
    };
    let dir = Dir::open(parent).at("open", parent)?;
    dir.remove_all(name).at("remove", path)
}

/// Makes the new upper directory look like the root of the topmost lower one.
fn adopt_root(fresh: &Path, top: Option<&Path>) -> Result<()> {
    let upper = Dir::open(fresh).at("open", fresh)?;
    let Some(top) = top else {
        return upper.set_own_mode(0o755).at("chmod", fresh);
    };
    let lower = Dir::open(top).at("open the layer", top)?;
    let stat: Stat = lower.stat_self().at("examine", top)?;
    let own = upper.stat_self().at("examine", fresh)?;
    if (stat.uid, stat.gid) != (own.uid, own.gid) {
        ignorable(upper.set_own_owner(stat.uid, stat.gid)).at("chown", fresh)?;
    }
    upper.set_own_mode(stat.mode).at("chmod", fresh)?;
    for (name, value) in lower.own_xattrs().at("read attributes of", top)? {
        if !is_overlay_attribute(std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str())) {
            ignorable(upper.set_own_xattr(&name, &value)).at("set attributes of", fresh)?;
        }
    }
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: rustix::fs::Timespec {
            tv_sec: stat.modified.seconds,
            tv_nsec: i64::from(stat.modified.nanos),
        },
    };
    let _ = rustix::fs::utimensat(CWD, fresh, &times, AtFlags::empty());
    Ok(())
}
