//! What stat(2) tells, in one type for all its variants.

use std::io;
use std::os::fd::BorrowedFd;

/// Kind of a file system object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl FileKind {
    pub(crate) fn from_rustix(kind: rustix::fs::FileType) -> Option<FileKind> {
        use rustix::fs::FileType as F;
        Some(match kind {
            F::RegularFile => FileKind::Regular,
            F::Directory => FileKind::Directory,
            F::Symlink => FileKind::Symlink,
            F::CharacterDevice => FileKind::CharDevice,
            F::BlockDevice => FileKind::BlockDevice,
            F::Fifo => FileKind::Fifo,
            F::Socket => FileKind::Socket,
            _ => return None,
        })
    }

    pub(crate) fn to_rustix(self) -> rustix::fs::FileType {
        use rustix::fs::FileType as F;
        match self {
            FileKind::Regular => F::RegularFile,
            FileKind::Directory => F::Directory,
            FileKind::Symlink => F::Symlink,
            FileKind::CharDevice => F::CharacterDevice,
            FileKind::BlockDevice => F::BlockDevice,
            FileKind::Fifo => F::Fifo,
            FileKind::Socket => F::Socket,
        }
    }
}

/// Seconds and nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TimeSpec {
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

impl TimeSpec {
    pub fn new(seconds: i64, nanos: u32) -> TimeSpec {
        TimeSpec { seconds, nanos: nanos.min(999_999_999) }
    }
}

/// An object's inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky, without the kind.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Bytes on disk.
    pub allocated: u64,
    pub links: u64,
    pub inode: u64,
    pub device: u64,
    /// (major, minor) of a device node.
    pub rdev: (u32, u32),
    pub accessed: TimeSpec,
    pub modified: TimeSpec,
    pub changed: TimeSpec,
}

impl Stat {
    /// What the descriptor (which may be an `O_PATH` one) refers to.
    pub fn of_fd(fd: BorrowedFd<'_>) -> io::Result<Stat> {
        rustix::fs::fstat(fd).map(Stat::from_raw).map_err(Into::into)
    }

    pub(crate) fn from_raw(s: rustix::fs::Stat) -> Stat {
        let mode = s.st_mode;
        let time = |seconds: i64, nanos: u64| TimeSpec::new(seconds, u32::try_from(nanos).unwrap_or(0));
        Stat {
            kind: FileKind::from_rustix(rustix::fs::FileType::from_raw_mode(mode)).unwrap_or(FileKind::Regular),
            mode: mode & 0o7777,
            uid: s.st_uid,
            gid: s.st_gid,
            size: u64::try_from(s.st_size).unwrap_or(0),
            allocated: u64::try_from(s.st_blocks).unwrap_or(0).saturating_mul(512),
            links: s.st_nlink,
            inode: s.st_ino,
            device: s.st_dev,
            rdev: (rustix::fs::major(s.st_rdev), rustix::fs::minor(s.st_rdev)),
            accessed: time(s.st_atime, s.st_atime_nsec),
            modified: time(s.st_mtime, s.st_mtime_nsec),
            changed: time(s.st_ctime, s.st_ctime_nsec),
        }
    }

    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// Whether this is how overlayfs marks a deleted name: a character device 0/0.
    pub fn is_whiteout(&self) -> bool {
        self.kind == FileKind::CharDevice && self.rdev == (0, 0)
    }
}
