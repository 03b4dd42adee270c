//! A directory tree read safely: no path leads out of it, whatever links it contains or gains meanwhile.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use barque_model::{Context as _, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::worker::Root;

/// Links followed for one path before it counts as a loop (as in the kernel).
const MAX_LINKS: usize = 40;

/// An opened tree.
#[derive(Debug)]
pub struct Tree {
    fd: OwnedFd,
    root: Root,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    File,
    Dir,
    Symlink,
    Fifo,
    CharDevice,
    BlockDevice,
    Socket,
}

/// One file, directory or link, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the tree's root; empty for the root itself.
    pub path: PathBuf,
    pub kind: Kind,
    /// Permission and set-id bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a file.
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: i64,
    /// Nanoseconds since 1970.
    pub ctime: i64,
    pub ino: u64,
    pub dev: u64,
    pub nlink: u64,
    pub rdev: u64,
    /// Target of a symlink.
    pub link: Option<OsString>,
}

impl Entry {
    /// The entry's own name.
    pub fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// Whether `other` is the same file, unchanged. The device does not count: a stage's files are listed on one mount
    /// of its layers and copied from another, and each overlay has a device of its own.
    pub fn unchanged(&self, other: &Entry) -> bool {
        let key = |e: &Entry| (e.kind, e.mode, e.uid, e.gid, e.size, e.mtime, e.ctime, e.ino);
        key(self) == key(other)
    }

    pub(crate) fn from_stat(path: PathBuf, stat: &Stat) -> Option<Self> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Socket => Kind::Socket,
            FileType::Unknown => return None,
        };
        let nanos = |s: i64, n: i64| s.saturating_mul(1_000_000_000).saturating_add(n);
        Some(Entry {
            path,
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: nanos(stat.st_mtime, stat.st_mtime_nsec as i64),
            ctime: nanos(stat.st_ctime, stat.st_ctime_nsec as i64),
            ino: stat.st_ino,
            dev: stat.st_dev,
            nlink: stat.st_nlink,
            rdev: stat.st_rdev,
            link: None,
        })
    }
}

/// An empty path means the directory itself.
pub(crate) fn or_dot(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// `openat2(2)` inside `root`; the kernel asks to try again when a rename raced with `..`.
pub(crate) fn open_in(
    root: &OwnedFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | resolve;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, or_dot(path), flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < 64 => tries += 1,
            result => return result,
        }
    }
}

impl Tree {
    /// Errors: `NotFound`, `InvalidArgument` if it is no directory.
    pub fn open(root: Root) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(root.path(), flags, Mode::empty()) {
            Ok(fd) => Ok(Tree { fd, root }),
            Err(Errno::NOTDIR) => Err(Error::invalid(format!("{} is not a directory", root.path().display()))),
            Err(e) => Err(io::Error::from(e)).with_context(|| format!("open {}", root.path().display())),
        }
    }

    /// Where the tree is on this machine.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Opens a directory without following any link in its path.
    pub(crate) fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        Ok(open_in(&self.fd, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
    }

    /// Opens a regular file without following any link in its path. A fifo that took its place is not waited
    /// for.
    pub(crate) fn open_file(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        Ok(open_in(&self.fd, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
    }

    /// The entry at `path`, not following any link.
    pub fn entry(&self, path: &Path) -> io::Result<Entry> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let fd = open_in(&self.fd, path, flags, Mode::empty(), ResolveFlags::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        let mut entry =
            Entry::from_stat(path.to_owned(), &stat).ok_or_else(|| io::Error::other("a file of unknown kind"))?;
        if entry.kind == Kind::Symlink {
            entry.link = Some(read_link(&fd, Path::new(""))?);
        }
        Ok(entry)
    }

    /// The path without links that `path` leads to inside the tree. With `missing`, the part that does not
    /// exist is kept as it is.
    pub fn resolve(&self, path: &Path, missing: bool) -> io::Result<PathBuf> {
        let mut todo: Vec<OsString> = components(path);
        todo.reverse();
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            let flags = OFlags::PATH | OFlags::NOFOLLOW;
            let fd = match open_in(&self.fd, &next, flags, Mode::empty(), ResolveFlags::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT) if missing => {
                    done = next;
                    continue;
                }
                Err(e) => return Err(e.into()),
            };
            let stat = rustix::fs::fstat(&fd)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                done = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            let target = PathBuf::from(read_link(&fd, Path::new(""))?);
            if target.is_absolute() {
                done = PathBuf::new();
            }
            todo.extend(components(&target).into_iter().rev());
        }
        Ok(done)
    }
}

/// Names and `..` of a path, without the root and `.`.
fn components(path: &Path) -> Vec<OsString> {
    let part = |c: Component<'_>| match c {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

pub(crate) fn read_link(dir: &OwnedFd, name: &Path) -> io::Result<OsString> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}

/// The entries of an opened directory, sorted by name. `path` is its path in the tree.
pub(crate) fn read_dir(dir: &OwnedFd, path: &Path) -> io::Result<Vec<Entry>> {
    let mut buffer = Vec::with_capacity(32 << 10);
    // One piece of memory for all names, each with its end mark: large trees are listed for every build.
    let (mut names, mut places) = (Vec::new(), Vec::new());
    let mut raw = rustix::fs::RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes_with_nul();
        if name != b".\0" && name != b"..\0" {
            places.push(names.len()..names.len() + name.len());
            names.extend_from_slice(name);
        }
    }
    places.sort_unstable_by(|a: &Range<usize>, b| names[a.clone()].cmp(&names[b.clone()]));
    let mut entries = Vec::with_capacity(places.len());
    for place in places {
        let name = CStr::from_bytes_with_nul(&names[place]).map_err(io::Error::other)?;
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Deleted since it was listed.
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e.into()),
        };
        let name = Path::new(OsStr::from_bytes(name.to_bytes()));
        let Some(mut entry) = Entry::from_stat(path.join(name), &stat) else { continue };
        if entry.kind == Kind::Symlink {
            match read_link(dir, name) {
                Ok(target) => entry.link = Some(target),
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            }
        }
        entries.push(entry);
    }
    Ok(entries)
}
