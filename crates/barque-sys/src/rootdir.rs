//! File operations confined to a directory tree, safe while a hostile process rearranges that tree.
//!
//! [`RootDir`] resolves paths with openat2(2) and `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS`: the tree is `/` for
//! absolute paths, absolute links and `..`, and magic links are refused, so that nothing outside can be reached
//! whatever the tree holds. [`Dir`] is an open directory; the names its methods take are single components.
//!
//! Every operation that creates, removes or describes an object first opens the parent directory within the root
//! and then acts on the last component by the descriptor of that parent, without following a link there.
//! Methods that follow the last link say so.

mod dir;
mod remove;
mod stat;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

pub use dir::{Dir, DirEntry, file_xattrs};
pub use stat::{FileKind, Stat, TimeSpec};

/// How often a resolution is repeated that a concurrent rename or mount made the kernel give up (EAGAIN).
const RETRIES: usize = 1000;

/// A directory tree that paths given to its methods cannot leave. `""`, `.` and `/` name the tree itself.
#[derive(Debug)]
pub struct RootDir {
    dir: Dir,
}

/// The directory that holds the last component of a path, and that component.
pub(crate) enum Parent<'a> {
    Root(&'a Dir, OsString),
    Below(Dir, OsString),
}

impl Parent<'_> {
    fn parts(&self) -> (&Dir, &OsStr) {
        match self {
            Parent::Root(dir, name) => (dir, name),
            Parent::Below(dir, name) => (dir, name),
        }
    }
}

impl RootDir {
    /// The tree at `path` of the caller's own file system; `path` is trusted and links in it are followed.
    pub fn open(path: impl AsRef<Path>) -> io::Result<RootDir> {
        Dir::open(path).map(RootDir::from_dir)
    }

    pub fn from_dir(dir: Dir) -> RootDir {
        RootDir { dir }
    }

    /// The tree below an open directory (`O_PATH` suffices for all but listing the root itself).
    pub fn from_fd(fd: OwnedFd) -> RootDir {
        RootDir { dir: Dir::from_fd(fd) }
    }

    pub fn try_clone(&self) -> io::Result<RootDir> {
        self.dir.try_clone().map(RootDir::from_dir)
    }

    /// The root itself.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode, more: ResolveFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        open_retry(self.dir.as_fd(), path, flags | OFlags::CLOEXEC, mode, resolve)
    }

    fn parent(&self, path: &Path) -> io::Result<Parent<'_>> {
        let (parent, name) = split(path)?;
        if parent.is_empty() {
            return Ok(Parent::Root(&self.dir, name.to_owned()));
        }
        self.open_dir(Path::new(parent)).map(|dir| Parent::Below(dir, name.to_owned()))
    }

    /// Opens the parent directory of `path` and returns it with the last component.
    ///
    /// Errors: EINVAL if `path` has no last component of its own (`/`, `a/..`).
    pub fn open_parent(&self, path: impl AsRef<Path>) -> io::Result<(Dir, OsString)> {
        match self.parent(path.as_ref())? {
            Parent::Root(dir, name) => Ok((dir.try_clone()?, name)),
            Parent::Below(dir, name) => Ok((dir, name)),
        }
    }

    /// Opens a directory; links are followed within the root.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.resolve(path.as_ref(), flags, Mode::empty(), ResolveFlags::empty()).map(Dir::from_fd)
    }

    /// Opens a directory only if no component of `path` is a link.
    ///
    /// Errors: ELOOP if one is.
    pub fn open_dir_no_links(&self, path: impl AsRef<Path>) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        self.resolve(path.as_ref(), flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).map(Dir::from_fd)
    }

    /// An `O_PATH` descriptor for whatever `path` is; the last link is followed only for `follow`.
    pub fn open_path(&self, path: impl AsRef<Path>, follow: bool) -> io::Result<OwnedFd> {
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        self.resolve(path.as_ref(), flags, Mode::empty(), ResolveFlags::empty())
    }

    /// Opens a file with the given flags, following the last link unless they hold `NOFOLLOW`. `NONBLOCK` is
    /// added and `NOCTTY`, so that a fifo or terminal put there does not hang the caller.
    pub fn open_file(&self, path: impl AsRef<Path>, flags: OFlags, mode: u32) -> io::Result<File> {
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(mode) } else { Mode::empty() };
        self.resolve(path.as_ref(), flags, mode, ResolveFlags::empty()).map(File::from)
    }

    /// Opens for reading, following links within the root.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<File> {
        self.open_file(path, OFlags::RDONLY, 0)
    }

    /// Creates a new file for writing.
    ///
    /// Errors: EEXIST if anything, even a dangling link, is there.
    pub fn create_new(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let parent = self.parent(path.as_ref())?;
        let (dir, name) = parent.parts();
        dir.create_new(name, mode)
    }

    pub fn mkdir(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        let parent = self.parent(path.as_ref())?;
        let (dir, name) = parent.parts();
        dir.mkdir(name, mode)
    }

    /// Creates the directory and those above it, and opens it; existing ones stay as they are.
    pub fn mkdir_all(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<Dir> {
        let path = path.as_ref();
        match self.open_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let bytes = path.as_os_str().as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([bytes.len()]);
        for end in ends {
            let prefix = Path::new(OsStr::from_bytes(&bytes[..end]));
            let last = prefix.file_name();
            if last.is_none() {
                continue;
            }
            match self.mkdir(prefix, mode) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        self.open_dir(path)
    }

    /// Creates a link at `path` with `target` as its text.
    pub fn symlink(&self, target: impl AsRef<OsStr>, path: impl AsRef<Path>) -> io::Result<()> {
        let parent = self.parent(path.as_ref())?;
        let (dir, name) = parent.parts();
        dir.symlink(target, name)
    }

    /// Gives the object at `existing` (a link is not followed) the further name `path`.
    pub fn link(&self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (self.parent(existing.as_ref())?, self.parent(path.as_ref())?);
        let ((from_dir, from_name), (to_dir, to_name)) = (from.parts(), to.parts());
        from_dir.link(from_name, to_dir, to_name)
    }

    /// Creates a device, fifo or socket. `device` is (major, minor), ignored but for devices.
    pub fn mknod(&self, path: impl AsRef<Path>, kind: FileKind, mode: u32, device: (u32, u32)) -> io::Result<()> {
        let parent = self.parent(path.as_ref())?;
        let (dir, name) = parent.parts();
        dir.mknod(name, kind, mode, device)
    }

    /// Removes anything but a directory.
    pub fn unlink(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let parent = self.parent(path.as_ref())?;
        let (dir, name) = parent.parts();
        dir.unlink(name)
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let parent = self.parent(path.as_ref())?;
        let (dir, name) = parent.parts();
        dir.rmdir(name)
    }

    /// Removes whatever is at `path` with all below it; nothing there is fine. Does not cross mount points.
    pub fn remove_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        match self.parent(path.as_ref()) {
            Ok(parent) => {
                let (dir, name) = parent.parts();
                dir.remove_all(name)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Renames within the root, replacing what rename(2) replaces.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let (from, to) = (self.parent(from.as_ref())?, self.parent(to.as_ref())?);
        let ((from_dir, from_name), (to_dir, to_name)) = (from.parts(), to.parts());
        from_dir.rename(from_name, to_dir, to_name)
    }

    /// Describes what is at `path`; the last link is not followed.
    pub fn lstat(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        match self.parent(path.as_ref()) {
            Ok(parent) => {
                let (dir, name) = parent.parts();
                dir.lstat(name)
            }
            // `/` and `a/..` have no component of their own, and are never links.
            Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => self.stat(path),
            Err(e) => Err(e),
        }
    }

    /// Describes what `path` leads to, following links within the root.
    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        let fd = self.open_path(path, true)?;
        Stat::of_fd(fd.as_fd())
    }

    pub fn readlink(&self, path: impl AsRef<Path>) -> io::Result<OsString> {
        let parent = self.parent(path.as_ref())?;
        let (dir, name) = parent.parts();
        dir.readlink(name)
    }

    /// Where `path` really is, links resolved: absolute within the root. Only as true as the moment.
    pub fn canonicalize(&self, path: impl AsRef<Path>) -> io::Result<std::path::PathBuf> {
        let fd = self.open_path(path, true)?;
        let base = std::fs::read_link(proc_path(self.dir.as_fd()))?;
        let full = std::fs::read_link(proc_path(fd.as_fd()))?;
        let rest = full.strip_prefix(&base).map_err(|_| io::Error::from(Errno::XDEV))?;
        Ok(Path::new("/").join(rest))
    }

    /// Changes owner and group, of the link itself if `path` is one.
    pub fn chown(&self, path: impl AsRef<Path>, uid: u32, gid: u32) -> io::Result<()> {
        let fd = self.open_path(path, false)?;
        dir::chown_fd(fd.as_fd(), uid, gid)
    }

    /// Changes the permission bits (including setuid, setgid, sticky).
    ///
    /// Errors: EOPNOTSUPP for a link, which has none.
    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
        let fd = self.open_path(path, false)?;
        dir::chmod_fd(fd.as_fd(), mode)
    }

    /// Sets access and modification time, of the link itself if `path` is one; `None` leaves one as it is.
    pub fn set_times(
        &self,
        path: impl AsRef<Path>,
        accessed: Option<TimeSpec>,
        modified: Option<TimeSpec>,
    ) -> io::Result<()> {
        let path = path.as_ref();
        match self.parent(path) {
            Ok(parent) => {
                let (dir, name) = parent.parts();
                dir.set_times(name, accessed, modified)
            }
            Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.open_dir(path)?.set_own_times(accessed, modified)
            }
            Err(e) => Err(e),
        }
    }

    /// All extended attributes the caller may see, sorted by name; those of the link itself if `path` is one.
    pub fn xattrs(&self, path: impl AsRef<Path>) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        let fd = self.open_path(path, false)?;
        dir::path_fd_xattrs(fd.as_fd())
    }

    /// One extended attribute, `None` if it is not set.
    pub fn get_xattr(&self, path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
        let fd = self.open_path(path, false)?;
        dir::path_fd_get_xattr(fd.as_fd(), name.as_ref())
    }

    pub fn set_xattr(&self, path: impl AsRef<Path>, name: impl AsRef<OsStr>, value: &[u8]) -> io::Result<()> {
        let fd = self.open_path(path, false)?;
        dir::path_fd_set_xattr(fd.as_fd(), name.as_ref(), value)
    }

    pub fn remove_xattr(&self, path: impl AsRef<Path>, name: impl AsRef<OsStr>) -> io::Result<()> {
        let fd = self.open_path(path, false)?;
        rustix::fs::removexattr(proc_path(fd.as_fd()), name.as_ref()).map_err(Into::into)
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// The name of an open object in /proc, through which calls reach it that take no `O_PATH` descriptor.
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// openat2(2), repeated while concurrent renames make the kernel unsure whether `..` stayed inside.
pub(crate) fn open_retry(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    for _ in 0..RETRIES {
        match rustix::fs::openat2(dir, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other.map_err(Into::into),
        }
    }
    Err(Errno::AGAIN.into())
}

/// Splits off the last component. Errors: EINVAL if that is empty, `.` or `..`.
fn split(path: &Path) -> io::Result<(&OsStr, &OsStr)> {
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|b| *b != b'/').map_or(0, |i| i + 1);
    let trimmed = &bytes[..end];
    let start = trimmed.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
    let name = &trimmed[start..];
    if name.is_empty() || name == b"." || name == b".." {
        return Err(Errno::INVAL.into());
    }
    let parent = &trimmed[..start];
    let parent_end = parent.iter().rposition(|b| *b != b'/').map_or(0, |i| i + 1);
    Ok((OsStr::from_bytes(&parent[..parent_end]), OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests;
