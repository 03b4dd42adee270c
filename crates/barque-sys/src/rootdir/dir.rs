//! An open directory and the operations on its entries.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RawDir, ResolveFlags, StatxAttributes, StatxFlags, Timespec, Timestamps, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use super::stat::{FileKind, Stat, TimeSpec};
use super::{open_retry, proc_path};

/// Longest list of names and longest value of extended attributes (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 * 1024;

/// An open directory. Names are single components: none that holds a `/`, and neither `.` nor `..`.
#[derive(Debug)]
pub struct Dir(OwnedFd);

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: OsString,
    /// `None` where the file system does not tell while listing.
    pub kind: Option<FileKind>,
    pub inode: u64,
}

/// Refuses what is not a single component.
fn component(name: &OsStr) -> rustix::io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    Ok(name)
}

fn timestamps(accessed: Option<TimeSpec>, modified: Option<TimeSpec>) -> Timestamps {
    let convert = |t: Option<TimeSpec>| match t {
        Some(t) => Timespec { tv_sec: t.seconds, tv_nsec: i64::from(t.nanos) },
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
    };
    Timestamps { last_access: convert(accessed), last_modification: convert(modified) }
}

impl Dir {
    /// Opens a trusted path of the caller's own file system.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path.as_ref(), flags, Mode::empty()).map(Dir).map_err(Into::into)
    }

    pub fn from_fd(fd: OwnedFd) -> Dir {
        Dir(fd)
    }

    pub fn try_clone(&self) -> io::Result<Dir> {
        self.0.try_clone().map(Dir)
    }

    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Opens the directory `name`, which must not be a link.
    pub fn subdir(&self, name: impl AsRef<OsStr>) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, component(name.as_ref())?, flags, Mode::empty()).map(Dir).map_err(Into::into)
    }

    /// As [`Dir::subdir`], but fails with EXDEV where something is mounted.
    pub(super) fn subdir_same_mount(&self, name: &OsStr) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        open_retry(self.0.as_fd(), Path::new(component(name)?), flags, Mode::empty(), resolve).map(Dir)
    }

    /// Opens `name` with the given flags, never through a link; does not hang on fifos.
    pub fn open_file(&self, name: impl AsRef<OsStr>, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::openat(&self.0, component(name.as_ref())?, flags, Mode::empty())?;
        Ok(File::from(fd))
    }

    /// An `O_PATH` descriptor of `name`, of the link itself if it is one.
    pub fn open_path(&self, name: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.0, component(name.as_ref())?, flags, Mode::empty()).map_err(Into::into)
    }

    /// Creates a new file for writing; EEXIST if the name is taken by anything.
    pub fn create_new(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, component(name.as_ref())?, flags, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    pub fn mkdir(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        let name = component(name.as_ref())?;
        rustix::fs::mkdirat(&self.0, name, Mode::from_raw_mode(mode)).map_err(Into::into)
    }

    pub fn symlink(&self, target: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> io::Result<()> {
        rustix::fs::symlinkat(target.as_ref(), &self.0, component(name.as_ref())?).map_err(Into::into)
    }

    /// Gives the object `name` (a link is not followed) the further name `to_name` in `to`.
    pub fn link(&self, name: impl AsRef<OsStr>, to: &Dir, to_name: impl AsRef<OsStr>) -> io::Result<()> {
        let (from, into) = (component(name.as_ref())?, component(to_name.as_ref())?);
        rustix::fs::linkat(&self.0, from, &to.0, into, AtFlags::empty()).map_err(Into::into)
    }

    /// Creates a device, fifo or socket. `device` is (major, minor), ignored but for devices.
    pub fn mknod(
        &self,
        name: impl AsRef<OsStr>,
        kind: FileKind,
        mode: u32,
        (major, minor): (u32, u32),
    ) -> io::Result<()> {
        let device = match kind {
            FileKind::CharDevice | FileKind::BlockDevice => rustix::fs::makedev(major, minor),
            _ => 0,
        };
        let (name, mode) = (component(name.as_ref())?, Mode::from_raw_mode(mode));
        rustix::fs::mknodat(&self.0, name, kind.to_rustix(), mode, device).map_err(Into::into)
    }

    /// Removes anything but a directory.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        rustix::fs::unlinkat(&self.0, component(name.as_ref())?, AtFlags::empty()).map_err(Into::into)
    }

    /// Whether something is mounted at `name` where this directory is. The kernel lets a name go that is a mount point
    /// only in other namespaces, and the mount with it: who works in another's tree has to ask. False before Linux 5.8.
    pub fn is_mount(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        let (name, flags) = (component(name.as_ref())?, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT);
        let found = rustix::fs::statx(&self.0, name, flags, StatxFlags::empty())?;
        Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        rustix::fs::unlinkat(&self.0, component(name.as_ref())?, AtFlags::REMOVEDIR).map_err(Into::into)
    }

    /// Removes `name` with all below it; nothing there is fine. Does not cross mount points, whoever's they are (EXDEV
    /// or EBUSY).
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        super::remove::remove_all(self, component(name.as_ref())?)
    }

    /// Renames `name` to `to_name` in `to`, replacing what rename(2) replaces.
    pub fn rename(&self, name: impl AsRef<OsStr>, to: &Dir, to_name: impl AsRef<OsStr>) -> io::Result<()> {
        let (from, into) = (component(name.as_ref())?, component(to_name.as_ref())?);
        rustix::fs::renameat(&self.0, from, &to.0, into).map_err(Into::into)
    }

    /// Describes `name`, the link itself if it is one.
    pub fn lstat(&self, name: impl AsRef<OsStr>) -> io::Result<Stat> {
        let name = component(name.as_ref())?;
        rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW).map(Stat::from_raw).map_err(Into::into)
    }

    /// Describes the directory itself.
    pub fn stat_self(&self) -> io::Result<Stat> {
        Stat::of_fd(self.0.as_fd())
    }

    pub fn readlink(&self, name: impl AsRef<OsStr>) -> io::Result<OsString> {
        let target: CString = rustix::fs::readlinkat(&self.0, component(name.as_ref())?, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Changes owner and group of `name`, of the link itself if it is one.
    pub fn chown(&self, name: impl AsRef<OsStr>, uid: u32, gid: u32) -> io::Result<()> {
        let (name, uid, gid) = (component(name.as_ref())?, Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(&self.0, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into)
    }

    /// Changes the permission bits; EOPNOTSUPP for a link.
    pub fn chmod(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        chmod_fd(self.open_path(name)?.as_fd(), mode)
    }

    /// Sets times of `name`, of the link itself if it is one; `None` leaves one as it is.
    pub fn set_times(
        &self,
        name: impl AsRef<OsStr>,
        accessed: Option<TimeSpec>,
        modified: Option<TimeSpec>,
    ) -> io::Result<()> {
        let (name, times) = (component(name.as_ref())?, timestamps(accessed, modified));
        rustix::fs::utimensat(&self.0, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into)
    }

    /// Sets times of the directory itself.
    pub fn set_own_times(&self, accessed: Option<TimeSpec>, modified: Option<TimeSpec>) -> io::Result<()> {
        rustix::fs::futimens(&self.0, &timestamps(accessed, modified)).map_err(Into::into)
    }

    /// Sets owner and group, then permission bits, of the directory itself.
    pub fn set_own_owner(&self, uid: u32, gid: u32) -> io::Result<()> {
        rustix::fs::fchown(&self.0, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(Into::into)
    }

    pub fn set_own_mode(&self, mode: u32) -> io::Result<()> {
        rustix::fs::fchmod(&self.0, Mode::from_raw_mode(mode)).map_err(Into::into)
    }

    pub fn set_own_xattr(&self, attribute: impl AsRef<OsStr>, value: &[u8]) -> io::Result<()> {
        rustix::fs::fsetxattr(&self.0, attribute.as_ref(), value, XattrFlags::empty()).map_err(Into::into)
    }

    /// Extended attributes of the directory itself, sorted by name.
    pub fn own_xattrs(&self) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        file_xattrs(self.0.as_fd())
    }

    /// Extended attributes of `name`, of the link itself if it is one, sorted by name.
    pub fn xattrs(&self, name: impl AsRef<OsStr>) -> io::Result<Vec<(OsString, Vec<u8>)>> {
        path_fd_xattrs(self.open_path(name)?.as_fd())
    }

    /// One extended attribute of `name`, `None` if it is not set.
    pub fn get_xattr(&self, name: impl AsRef<OsStr>, attribute: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
        path_fd_get_xattr(self.open_path(name)?.as_fd(), attribute.as_ref())
    }

    pub fn set_xattr(&self, name: impl AsRef<OsStr>, attribute: impl AsRef<OsStr>, value: &[u8]) -> io::Result<()> {
        path_fd_set_xattr(self.open_path(name)?.as_fd(), attribute.as_ref(), value)
    }

    /// All names but `.` and `..`, in the order of their bytes.
    pub fn entries(&self) -> io::Result<Vec<DirEntry>> {
        // A descriptor of its own: the position in a directory is shared by duplicates.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, ".", flags, Mode::empty())?;
        let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
        let mut raw = RawDir::new(fd, &mut buffer);
        let mut entries = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            entries.push(DirEntry {
                name: OsStr::from_bytes(name).to_owned(),
                kind: FileKind::from_rustix(entry.file_type()),
                inode: entry.ino(),
            });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Waits until the names in this directory are on the disk.
    pub fn sync(&self) -> io::Result<()> {
        rustix::fs::fsync(&self.0).map_err(Into::into)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub(super) fn chown_fd(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW).map_err(Into::into)
}

pub(super) fn chmod_fd(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    // fchmod(2) refuses O_PATH descriptors and fchmodat2(2) came with Linux 6.6; the /proc name of the descriptor
    // leads to the object itself, whatever happens to its path. A link would be followed nowhere: EOPNOTSUPP.
    rustix::fs::chmod(proc_path(fd), Mode::from_raw_mode(mode)).map_err(Into::into)
}

pub(super) fn path_fd_set_xattr(fd: BorrowedFd<'_>, name: &OsStr, value: &[u8]) -> io::Result<()> {
    rustix::fs::setxattr(proc_path(fd), name, value, XattrFlags::empty()).map_err(Into::into)
}

pub(super) fn path_fd_get_xattr(fd: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let path = proc_path(fd);
    read_value(|buffer| rustix::fs::getxattr(path.as_str(), name, buffer))
}

/// Runs getxattr with a small buffer first, since nearly all values are short.
fn read_value(get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0u8; 256];
    loop {
        match get(&mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) if buffer.len() < XATTR_MAX => buffer.resize(XATTR_MAX, 0),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

fn collect_xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&OsStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut names = [0u8; 512];
    let mut long;
    let names: &[u8] = match list(&mut names) {
        Ok(n) => &names[..n],
        Err(Errno::RANGE) => {
            long = vec![0u8; XATTR_MAX];
            let n = list(&mut long)?;
            &long[..n]
        }
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let name = OsStr::from_bytes(name);
        if let Some(value) = read_value(|buffer| get(name, buffer))? {
            found.push((name.to_owned(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Extended attributes of an open file or directory (not of an `O_PATH` descriptor), sorted by name.
pub fn file_xattrs(fd: BorrowedFd<'_>) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    collect_xattrs(|b| rustix::fs::flistxattr(fd, b), |name, b| rustix::fs::fgetxattr(fd, name, b))
}

pub(super) fn path_fd_xattrs(fd: BorrowedFd<'_>) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let path = proc_path(fd);
    let path = path.as_str();
    collect_xattrs(|b| rustix::fs::listxattr(path, b), |name, b| rustix::fs::getxattr(path, name, b))
}
