//! Files in the container's root, resolved without ever leaving it.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::path::PathBuffer;
use super::{At, Done, Failure, FileKey, Interpreter, Step};

/// Symbolic links followed in one path.
const LINKS_MAX: usize = 40;

const OPATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

pub(super) fn key_of(dir: BorrowedFd<'_>, path: &CStr) -> rustix::io::Result<FileKey> {
    // STATX_MNT_ID, kernel 5.8; elsewhere the field stays zero.
    let want = StatxFlags::BASIC_STATS.union(StatxFlags::MNT_ID);
    let s = rustix::fs::statx(dir, path, AtFlags::empty(), want)?;
    Ok(FileKey { dev_major: s.stx_dev_major, dev_minor: s.stx_dev_minor, ino: s.stx_ino, mount: s.stx_mnt_id })
}

/// Opens `path` below `root` as `O_PATH`. Links are followed inside the root; the magic links of procfs, which
/// lead anywhere, are not.
pub(super) fn open_in(root: BorrowedFd<'_>, path: &CStr, extra: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, OPATH | extra, Mode::empty(), resolve) {
            // A rename elsewhere on the system raced with "..": try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

pub(super) fn file_type(fd: impl AsFd) -> rustix::io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

/// Opens `path` below `root`; whatever is missing of it is made: directories (0755) and at its end a
/// directory or an empty file (0755, as Docker's). Dangling links are followed to where they point.
pub(super) fn open_or_create(root: BorrowedFd<'_>, path: &CStr, dir: bool) -> rustix::io::Result<OwnedFd> {
    match open_in(root, path, OFlags::empty()) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut done = PathBuffer::new();
    let mut rest = PathBuffer::from(path.to_bytes())?;
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        let name = name.as_slice();
        match name {
            b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            _ => {}
        }
        let parent_len = done.len();
        done.push(name)?;
        match open_in(root, done.as_cstr(), OFlags::NOFOLLOW) {
            Ok(fd) if file_type(&fd)? == FileType::Symlink => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                done.truncate(parent_len);
                let target = read_link(&fd)?;
                if target.as_slice().first() == Some(&b'/') {
                    done.truncate(0);
                }
                rest.put_in_front(target.as_slice())?;
            }
            Ok(_) => {}
            Err(Errno::NOENT) => create(root, &mut done, parent_len, dir || !rest.is_empty())?,
            Err(e) => return Err(e),
        }
    }
    open_in(root, done.as_cstr(), OFlags::empty())
}

fn read_link(fd: &OwnedFd) -> rustix::io::Result<PathBuffer> {
    let mut target = PathBuffer::new();
    let len = rustix::fs::readlinkat_raw(fd, c"", target.spare())?;
    target.set_len(len)?;
    Ok(target)
}

fn create(root: BorrowedFd<'_>, path: &mut PathBuffer, parent_len: usize, dir: bool) -> rustix::io::Result<()> {
    let parent = open_in(root, path.prefix(parent_len)?.as_cstr(), OFlags::DIRECTORY)?;
    let name = path.last_component();
    let made = if dir {
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o755)).map(drop)
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

impl Interpreter<'_> {
    /// Opens the directory `path` lies in, and gives its last component.
    fn parent_of<'p>(&self, path: &'p CStr) -> Done<(OwnedFd, &'p CStr)> {
        let bytes = path.to_bytes_with_nul();
        let cut = bytes.iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
        let name = CStr::from_bytes_with_nul(&bytes[cut..]).map_err(|_| Failure(Step::Target, Errno::INVAL))?;
        let dir = PathBuffer::from(&bytes[..cut]).at(Step::Target)?;
        let dir = open_or_create(self.root()?, dir.as_cstr(), true).at(Step::Target)?;
        Ok((dir, name))
    }

    pub(super) fn mkdir(&self, path: &CStr, mode: u32) -> Done {
        let (dir, name) = self.parent_of(path)?;
        match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
            Err(Errno::EXIST) => Ok(()),
            other => other.at(Step::Call),
        }
    }

    pub(super) fn symlink(&self, to: &CStr, path: &CStr) -> Done {
        let (dir, name) = self.parent_of(path)?;
        match rustix::fs::symlinkat(to, &dir, name) {
            Err(Errno::EXIST) => Ok(()),
            other => other.at(Step::Call),
        }
    }

    pub(super) fn node(&self, path: &CStr, mode: u32, dev: u64, uid: u32, gid: u32) -> Done {
        let (dir, name) = self.parent_of(path)?;
        let kind = FileType::from_raw_mode(mode);
        match rustix::fs::mknodat(&dir, name, kind, Mode::from_raw_mode(mode & 0o7777), dev) {
            Err(Errno::EXIST) => return Ok(()),
            other => other.at(Step::Call)?,
        }
        if (uid, gid) != (0, 0) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).at(Step::Call)?;
        }
        Ok(())
    }

    pub(super) fn proc_write(&self, path: &CStr, value: &CStr, optional: bool) -> Done {
        let write = || -> rustix::io::Result<()> {
            let proc = super::borrow(self.ctx.proc).ok_or(Errno::BADF)?;
            let fd = rustix::fs::openat(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&fd, value.to_bytes()).map(drop)
        };
        match write() {
            Err(e) if optional => {
                self.say(false, Step::Call, e);
                Ok(())
            }
            other => other.at(Step::Call),
        }
    }

    pub(super) fn cwd(&self, path: &CStr, create: bool) -> Done {
        let root = self.root()?;
        let opened = if create { open_or_create(root, path, true) } else { open_in(root, path, OFlags::empty()) };
        let dir = opened.at(Step::Target)?;
        rustix::process::fchdir(&dir).at(Step::Call)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn root(dir: &Path) -> OwnedFd {
        rustix::fs::open(dir, OPATH, Mode::empty()).unwrap()
    }

    fn make(dir: &Path, path: &str, is_dir: bool) -> rustix::io::Result<OwnedFd> {
        open_or_create(root(dir).as_fd(), &CString::new(path.as_bytes()).unwrap(), is_dir)
    }

    #[test]
    fn missing_directories_and_files_are_made() {
        let tmp = tempfile::tempdir().unwrap();
        make(tmp.path(), "/a/b/c", true).unwrap();
        make(tmp.path(), "/a/./x/../f", false).unwrap();
        assert!(tmp.path().join("a/b/c").is_dir());
        assert!(tmp.path().join("a/f").is_file());
        make(tmp.path(), "/a/f", false).unwrap();
        assert_eq!(make(tmp.path(), "/a/f/g", false).unwrap_err(), Errno::NOTDIR);
    }

    #[test]
    fn links_never_lead_out_of_the_root() {
        let tmp = tempfile::tempdir().unwrap();
        let (inside, outside) = (tmp.path().join("root"), tmp.path().join("outside"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        symlink(&outside, inside.join("abs")).unwrap();
        symlink("../../../outside", inside.join("rel")).unwrap();
        symlink("/run/late/file", inside.join("dangling")).unwrap();
        make(&inside, "/abs/x", true).unwrap();
        make(&inside, "/rel/y", true).unwrap();
        make(&inside, "/dangling", false).unwrap();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
        let bytes = outside.as_os_str().as_bytes();
        let mirrored = inside.join(std::ffi::OsStr::from_bytes(&bytes[1..]));
        assert!(mirrored.join("x").is_dir(), "the absolute link starts at the root");
        assert!(inside.join("outside/y").is_dir(), "dots stop at the root");
        assert!(inside.join("run/late/file").is_file());
    }

    #[test]
    fn magic_links_and_loops_are_refused() {
        let tmp = tempfile::tempdir().unwrap();
        symlink("loop", tmp.path().join("loop")).unwrap();
        assert_eq!(make(tmp.path(), "/loop/x", true).unwrap_err(), Errno::LOOP);
        let slash = rustix::fs::open("/", OPATH, Mode::empty()).unwrap();
        assert_eq!(open_or_create(slash.as_fd(), c"/proc/self/cwd/x", true).unwrap_err(), Errno::LOOP);
    }
}
