//! Writing into a root: directories made and files created without ever leaving it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use barque_model::{Context as _, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use crate::context::{Tree, open_in};

/// Who owns what is written; `None` keeps what the kernel gives.
pub(crate) type Ids = Option<(u32, u32)>;

/// A writable root.
pub(crate) struct Target<'a> {
    tree: &'a Tree,
    /// Without privileges nothing can be given away: everything belongs to the caller.
    may_chown: bool,
}

impl<'a> Target<'a> {
    pub(crate) fn new(tree: &'a Tree) -> Self {
        Target { tree, may_chown: rustix::process::geteuid().is_root() }
    }

    pub(crate) fn tree(&self) -> &Tree {
        self.tree
    }

    /// `ids`, if they can be set at all.
    pub(crate) fn settable(&self, ids: Ids) -> Ids {
        ids.filter(|_| self.may_chown)
    }

    /// Makes `path` (which has no links) and its parents directories; new ones get `mode` and `ids`. Returns
    /// whether `path` itself is new.
    pub(crate) fn make_dirs(&self, path: &Path, mode: u32, ids: Ids) -> Result<bool> {
        let mut made = false;
        let mut so_far = PathBuf::new();
        for part in path.components() {
            let parent = so_far.clone();
            so_far.push(part);
            made = false;
            match self.tree.entry(&so_far) {
                Ok(entry) if entry.kind == crate::context::Kind::Dir => continue,
                Ok(_) => return Err(not_a_directory(&so_far)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).with_context(|| format!("look at {}", shown(&so_far))),
            }
            let dir = self.open_dir(&parent)?;
            let name = so_far.file_name().unwrap_or_default();
            self.make_dir(&dir, name, mode, ids).with_context(|| format!("make the directory {}", shown(&so_far)))?;
            made = true;
        }
        Ok(made)
    }

    pub(crate) fn make_dir(&self, dir: &OwnedFd, name: &OsStr, mode: u32, ids: Ids) -> io::Result<()> {
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700))?;
        self.set_owner(dir, name, ids)?;
        // Not subject to the umask.
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        Ok(())
    }

    pub(crate) fn set_owner(&self, dir: &OwnedFd, name: &OsStr, ids: Ids) -> io::Result<()> {
        let Some((uid, gid)) = self.settable(ids) else { return Ok(()) };
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        Ok(rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Opens a directory whose path has no links.
    pub(crate) fn open_dir(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        open_in(self.tree.fd(), path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
            .map_err(io::Error::from)
            .with_context(|| format!("open the directory {}", shown(path)))
    }

    /// Removes whatever `name` is, so that a file can take its place. A directory must be empty.
    pub(crate) fn clear(&self, dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes `name` with all it contains.
    pub(crate) fn remove_all(&self, dir: &OwnedFd, name: &OsStr, depth: usize) -> io::Result<()> {
        match self.clear(dir, name) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty && depth < 256 => {}
            result => return result,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        let names: Vec<_> = rustix::fs::Dir::read_from(&inner)?
            .filter_map(std::result::Result::ok)
            .map(|e| e.file_name().to_owned())
            .filter(|n| n.to_bytes() != b"." && n.to_bytes() != b"..")
            .collect();
        for child in names {
            use std::os::unix::ffi::OsStrExt;
            self.remove_all(&inner, OsStr::from_bytes(child.to_bytes()), depth + 1)?;
        }
        Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
    }

    /// Creates an empty file, replacing what has its name.
    pub(crate) fn create(&self, dir: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => {
                self.clear(dir, name)?;
                Ok(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?)
            }
            result => Ok(result?),
        }
    }

    /// Sets owner, mode and time of an open file.
    pub(crate) fn finish(&self, file: impl AsFd, mode: u32, ids: Ids, mtime: i64) -> io::Result<()> {
        if let Some((uid, gid)) = self.settable(ids) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::fchown(file.as_fd(), Some(uid), Some(gid))?;
        }
        // After the owner: a change of owner clears set-id bits.
        rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(mode))?;
        Ok(rustix::fs::futimens(file.as_fd(), &times(mtime))?)
    }

    /// Sets a directory's time to now, as a file made in it would: it then is in the layer, whatever else is.
    pub(crate) fn touch(&self, path: &Path) -> Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        let dir = self.open_dir(path)?;
        rustix::fs::futimens(&dir, &times)
            .map_err(io::Error::from)
            .with_context(|| format!("touch the directory {}", shown(path)))
    }

    /// Sets the time of `name` itself, not of what a link leads to.
    pub(crate) fn set_time(&self, dir: &OwnedFd, name: &OsStr, mtime: i64) -> io::Result<()> {
        Ok(rustix::fs::utimensat(dir, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a fifo or device.
    pub(crate) fn make_node(&self, dir: &OwnedFd, name: &OsStr, kind: FileType, rdev: u64) -> io::Result<()> {
        self.clear(dir, name)?;
        Ok(rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(0o600), rdev)?)
    }
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime.div_euclid(1_000_000_000), tv_nsec: mtime.rem_euclid(1_000_000_000) as _ };
    Timestamps { last_access: time, last_modification: time }
}

/// A path in the image, for messages.
pub(crate) fn shown(path: &Path) -> String {
    format!("/{}", path.display())
}

pub(crate) fn not_a_directory(path: &Path) -> Error {
    Error::invalid(format!("cannot copy to non-directory: {}", shown(path)))
        .with_hint("a file or link of that name is in the way")
}
