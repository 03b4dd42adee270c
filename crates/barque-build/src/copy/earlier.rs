//! Files that an earlier run of the same copy made just so: they are linked from its layer, not written again.
//!
//! A link takes no new inode and no space. Bytes are compared, never trusted to be what a cache says.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use barque_model::{Context as _, Result, Timestamp};
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::files::parent_of;
use super::target::{Ids, shown};
use crate::context::{Entry, Kind, Tree, xattr};
use crate::worker::Root;

/// Bytes compared at a time.
const STEP: usize = 64 << 10;

/// The layer of an earlier run.
pub(crate) struct Earlier {
    /// The layer's own files, at their places in the image.
    tree: Tree,
    /// To which its later times were cut down when it was made.
    epoch: Option<Timestamp>,
    /// What was found to be the same; places in the image.
    same: Mutex<Vec<PathBuf>>,
}

/// What a copy would make of a file.
pub(crate) struct Wanted<'a> {
    /// Its place in the image.
    pub(crate) to: &'a Path,
    pub(crate) source: &'a OwnedFd,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    /// `None` is the caller's own.
    pub(crate) ids: Ids,
    /// Nanoseconds since 1970.
    pub(crate) mtime: i64,
}

impl Earlier {
    /// `epoch` is that of both builds.
    pub(crate) fn open(root: Root, epoch: Option<Timestamp>) -> Result<Self> {
        Ok(Earlier { tree: Tree::open(root)?, epoch, same: Mutex::new(Vec::new()) })
    }

    /// The directory `path` of the earlier layer.
    pub(crate) fn dir(&self, path: &Path) -> Option<OwnedFd> {
        self.tree.open_dir(path).ok()
    }

    /// Whether `dir` has the file already as it is wanted; if so it is remembered for [`Earlier::link`].
    pub(crate) fn has(&self, dir: &OwnedFd, wanted: &Wanted<'_>) -> io::Result<bool> {
        let name = wanted.to.file_name().unwrap_or_default();
        let Ok(stat) = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(false) };
        let mtime =
            self.epoch.map_or(wanted.mtime, |epoch| wanted.mtime.min(epoch.seconds().saturating_mul(1_000_000_000)));
        let alike = |e: &Entry| {
            let owned = wanted.ids.is_none_or(|ids| ids == (e.uid, e.gid));
            owned && (e.kind, e.size, e.mode, e.mtime) == (Kind::File, wanted.size, wanted.mode, mtime)
        };
        if !Entry::from_stat(PathBuf::new(), &stat).is_some_and(|e| alike(&e)) {
            return Ok(false);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        if !equal(&file, wanted.source, wanted.size)? || xattr::of_fd(&file)? != xattr::of_fd(wanted.source)? {
            return Ok(false);
        }
        self.same.lock().unwrap_or_else(PoisonError::into_inner).push(wanted.to.to_owned());
        Ok(true)
    }

    /// Links what was found to be the same into `upper`, the files of the new layer itself: not through a mount,
    /// since no link leads from one into another. The times of directories stay. `false` if something could not
    /// be linked: then all must be copied.
    pub(crate) fn link(self, upper: &Tree) -> Result<bool> {
        let mut same = self.same.into_inner().unwrap_or_else(PoisonError::into_inner);
        same.sort_unstable();
        for group in same.chunk_by(|a, b| parent_of(a) == parent_of(b)) {
            let Some(path) = group.first().map(|p| parent_of(p)) else { continue };
            let say = || format!("link files of {}", shown(path));
            let (Ok(from), Ok(to)) = (self.tree.open_dir(path), upper.open_dir(path)) else { return Ok(false) };
            let stat = rustix::fs::fstat(&to).map_err(io::Error::from).with_context(say)?;
            for file in group {
                let name = file.file_name().unwrap_or_default();
                match rustix::fs::linkat(from.as_fd(), name, to.as_fd(), name, AtFlags::empty()) {
                    Ok(()) => {}
                    // Another file system, the most links of one file, or a file that must not be linked.
                    Err(Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::EXIST | Errno::NOENT) => return Ok(false),
                    Err(e) => return Err(io::Error::from(e)).with_context(say),
                }
            }
            let time = |tv_sec, nanos: u64| Timespec { tv_sec, tv_nsec: nanos as _ };
            let times = Timestamps {
                last_access: time(stat.st_atime, stat.st_atime_nsec),
                last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
            };
            rustix::fs::futimens(&to, &times).map_err(io::Error::from).with_context(say)?;
        }
        Ok(true)
    }
}

/// Whether both files start with the same `size` bytes. Neither's position changes.
fn equal(a: &OwnedFd, b: &OwnedFd, size: u64) -> io::Result<bool> {
    let step = usize::try_from(size).unwrap_or(STEP).clamp(1, STEP);
    let (mut left, mut right) = (vec![0; step], vec![0; step]);
    let mut at = 0;
    while at < size {
        let read = rustix::io::pread(a, &mut left, at)?;
        // As much of the other: a short read is no difference.
        let (left, right) = (&left[..read], &mut right[..read]);
        let mut filled = 0;
        while filled < read {
            match rustix::io::pread(b, &mut right[filled..], at + filled as u64)? {
                0 => return Ok(false),
                n => filled += n,
            }
        }
        if read == 0 || left != right {
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}
