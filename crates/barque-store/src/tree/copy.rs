//! Copies of trees: owners, modes, times, attributes, hard links and holes kept; extents shared where possible.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use barque_model::{Error, Result};
use barque_sys::rootdir::{Dir, FileKind, RootDir, Stat};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::walk::{self, Descend, Target, Visit, Visitor};
use super::{CopyOptions, TreeSummary};
use crate::error::{self, IoContext};
use crate::layer::{ignorable, is_private_attribute};

/// Bytes copied by one call when extents cannot be shared.
const STEP: usize = 1 << 30;

struct Copier<'a> {
    /// Directories being filled in the target, the current one last.
    into: Vec<Dir>,
    options: &'a CopyOptions,
    /// The topmost directory being filled, to which `links` are relative.
    top: Option<RootDir>,
    /// First copies of files with several names: device and inode of the source → path of the copy.
    links: HashMap<(u64, u64), Vec<u8>>,
    summary: TreeSummary,
}

fn errno(e: &io::Error) -> Option<Errno> {
    e.raw_os_error().map(Errno::from_raw_os_error)
}

/// See [`super::copy_tree`].
pub(super) fn copy_tree(
    source: &RootDir,
    from: &Path,
    target: &RootDir,
    to: &Path,
    options: &CopyOptions,
) -> Result<TreeSummary> {
    let summary = TreeSummary::default();
    let mut copier = Copier { into: Vec::new(), options, top: None, links: HashMap::new(), summary };
    match walk::open_target(source, from, options.follow_link).at("open", from)? {
        Target::Directory(dir, _) => {
            let into = match target.open_dir(to) {
                Ok(dir) => dir,
                Err(e) if e.kind() == io::ErrorKind::NotFound => target.mkdir_all(to, 0o755).at("create", to)?,
                Err(e) => return Err(e).at("open the directory", to),
            };
            copier.top = Some(RootDir::from_dir(into.try_clone().at("open the directory", to)?));
            copier.into.push(into);
            walk::walk(dir, &mut copier)?;
        }
        Target::Other(parent, name, stat) => {
            let (into, to_name) = target.open_parent(to).at("open the directory of", to)?;
            copier.into.push(into);
            let visit = Visit { parent: &parent, name: &name, path: name.as_bytes(), stat: &stat };
            copier.object(&visit, &to_name)?;
        }
    }
    Ok(copier.summary)
}

impl Visitor for Copier<'_> {
    fn visit(&mut self, visit: &Visit<'_>, own: Option<&Dir>) -> Result<Descend> {
        if own.is_none() {
            self.object(visit, visit.name)?;
            return Ok(Descend::No);
        }
        let into = self.current()?;
        match into.mkdir(visit.name, 0o700) {
            Err(e) if errno(&e) == Some(Errno::EXIST) => {}
            other => other.at("create the directory", shown(visit))?,
        }
        let dir = into.subdir(visit.name).map_err(|e| match errno(&e) {
            Some(Errno::NOTDIR | Errno::LOOP) => {
                Error::conflict(format!("cannot overwrite non-directory {} with a directory", shown(visit).display()))
            }
            _ => error::io(e, "open the directory", shown(visit), None),
        })?;
        self.into.push(dir);
        self.summary.entries += 1;
        Ok(Descend::Yes)
    }

    fn leave(&mut self, own: &Dir, stat: &Stat) -> Result<()> {
        let Some(dir) = self.into.pop() else { return Ok(()) };
        let what = Path::new("a directory");
        let (uid, gid) = self.options.chown.unwrap_or((stat.uid, stat.gid));
        chown(&dir, uid, gid).at("set the owner of", what)?;
        dir.set_own_mode(self.options.chmod.unwrap_or(stat.mode)).at("set the mode of", what)?;
        for (name, value) in own.own_xattrs().at("read attributes of", what)? {
            if self.wants(&name) {
                ignorable(dir.set_own_xattr(&name, &value)).at("set attributes of", what)?;
            }
        }
        dir.set_own_times(Some(stat.accessed), Some(stat.modified)).at("set times of", what)
    }
}

fn shown<'a>(visit: &Visit<'a>) -> &'a Path {
    Path::new(OsStr::from_bytes(visit.path))
}

/// Without the privilege everything belongs to the caller.
fn chown(fd: impl std::os::fd::AsFd, uid: u32, gid: u32) -> io::Result<()> {
    ignorable(rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(Into::into))
}

impl Copier<'_> {
    fn current(&self) -> Result<&Dir> {
        self.into.last().ok_or_else(|| Error::internal("no directory is being copied"))
    }

    fn wants(&self, attribute: &OsStr) -> bool {
        self.options.raw_overlay || !is_private_attribute(attribute.as_bytes())
    }

    /// Runs `make`, once more if a non-directory was in the way.
    fn replace<T>(&self, name: &OsStr, at: &Path, make: impl Fn(&Dir) -> io::Result<T>) -> Result<T> {
        let dir = self.current()?;
        match make(dir) {
            Err(e) if errno(&e) == Some(Errno::EXIST) => {
                dir.unlink(name).map_err(|e| match errno(&e) {
                    Some(Errno::ISDIR) => {
                        Error::conflict(format!("cannot overwrite directory {} with a non-directory", at.display()))
                    }
                    _ => error::io(e, "replace", at, None),
                })?;
                make(dir).at("create", at)
            }
            other => other.at("create", at),
        }
    }

    /// Copies anything but a directory to `name` in the current directory.
    fn object(&mut self, visit: &Visit<'_>, name: &OsStr) -> Result<()> {
        let stat = visit.stat;
        if stat.kind == FileKind::Socket || (stat.is_whiteout() && !self.options.raw_overlay) {
            return Ok(());
        }
        let key = (stat.device, stat.inode);
        let at = shown(visit);
        if stat.links > 1
            && let (Some(top), Some(first)) = (&self.top, self.links.get(&key))
        {
            self.summary.entries += 1;
            let (dir, first) = top.open_parent(OsStr::from_bytes(first)).at("open the directory of", at)?;
            return self.replace(name, at, |into| dir.link(&first, into, name));
        }
        match stat.kind {
            FileKind::Regular => self.regular(visit, name)?,
            FileKind::Symlink => {
                let target = match visit.parent.readlink(visit.name) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                    other => other.at("read the link", at)?,
                };
                self.replace(name, at, |into| into.symlink(&target, name))?;
                self.describe(visit, name)?;
            }
            kind => {
                self.replace(name, at, |into| into.mknod(name, kind, 0o600, stat.rdev))?;
                self.describe(visit, name)?;
            }
        }
        self.summary.entries += 1;
        if stat.links > 1 {
            self.links.insert(key, visit.path.to_vec());
        }
        Ok(())
    }

    fn regular(&mut self, visit: &Visit<'_>, name: &OsStr) -> Result<()> {
        let at = shown(visit);
        let from = match visit.parent.open_file(visit.name, OFlags::RDONLY) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.at("open", at)?,
        };
        let to = self.replace(name, at, |into| into.create_new(name, 0o600))?;
        let size = copy_data(&from, &to).map_err(|e| error::io_in(&to, e, "copy", at, Some(visit.stat.size)))?;
        self.summary.bytes += size;
        let stat = visit.stat;
        let (uid, gid) = self.options.chown.unwrap_or((stat.uid, stat.gid));
        chown(&to, uid, gid).at("set the owner of", at)?;
        let mode = Mode::from_raw_mode(self.options.chmod.unwrap_or(stat.mode));
        rustix::fs::fchmod(&to, mode).at("set the mode of", at)?;
        let attributes = barque_sys::rootdir::file_xattrs(std::os::fd::AsFd::as_fd(&from));
        for (attribute, value) in attributes.at("read attributes of", at)? {
            if self.wants(&attribute) {
                let flags = rustix::fs::XattrFlags::empty();
                let set = rustix::fs::fsetxattr(&to, &*attribute, &value, flags).map_err(io::Error::from);
                ignorable(set).at("set attributes of", at)?;
            }
        }
        self.current()?.set_times(name, Some(stat.accessed), Some(stat.modified)).at("set times of", at)
    }

    /// Owner, mode, attributes and times of something that is not opened.
    fn describe(&self, visit: &Visit<'_>, name: &OsStr) -> Result<()> {
        let (stat, at, dir) = (visit.stat, shown(visit), self.current()?);
        let (uid, gid) = self.options.chown.unwrap_or((stat.uid, stat.gid));
        ignorable(dir.chown(name, uid, gid)).at("set the owner of", at)?;
        if stat.kind != FileKind::Symlink {
            dir.chmod(name, self.options.chmod.unwrap_or(stat.mode)).at("set the mode of", at)?;
        }
        for (attribute, value) in visit.parent.xattrs(visit.name).at("read attributes of", at)? {
            if self.wants(&attribute) {
                ignorable(dir.set_xattr(name, &attribute, &value)).at("set attributes of", at)?;
            }
        }
        dir.set_times(name, Some(stat.accessed), Some(stat.modified)).at("set times of", at)
    }
}

/// Copies the contents of a file into an empty one: by sharing extents, else in the kernel, else by hand. Holes
/// stay holes. Returns the size.
pub(crate) fn copy_data(from: &File, to: &File) -> io::Result<u64> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return to.metadata().map(|m| m.len());
    }
    let size = from.metadata()?.len();
    let (mut position, mut by_hand) = (0u64, false);
    while position < size {
        let Some((start, end)) = next_data(from, position, size)? else { break };
        position = start;
        while position < end {
            let want = usize::try_from(end - position).unwrap_or(STEP).min(STEP);
            let copied = if by_hand {
                copy_bytes(from, to, position, want)?
            } else {
                let (mut at_from, mut at_to) = (position, position);
                match rustix::fs::copy_file_range(from, Some(&mut at_from), to, Some(&mut at_to), want) {
                    Ok(0) | Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::PERM) => {
                        by_hand = true;
                        continue;
                    }
                    Ok(n) => n,
                    Err(Errno::INTR) => 0,
                    Err(e) => return Err(e.into()),
                }
            };
            if by_hand && copied == 0 {
                // The file was cut short meanwhile.
                to.set_len(position)?;
                return Ok(position);
            }
            position += copied as u64;
        }
    }
    to.set_len(size)?;
    Ok(size)
}

/// The next part of the file that has data, at or after `position`.
fn next_data(file: &File, position: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(position)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // The file system does not tell.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((position, size))),
        Err(e) => return Err(e.into()),
    };
    let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start)).unwrap_or(size);
    Ok((start < size).then_some((start, end.min(size))))
}

fn copy_bytes(mut from: &File, mut to: &File, position: u64, want: usize) -> io::Result<usize> {
    let mut buffer = vec![0u8; want.min(256 * 1024)];
    from.seek(SeekFrom::Start(position))?;
    let n = from.read(&mut buffer)?;
    to.seek(SeekFrom::Start(position))?;
    to.write_all(&buffer[..n])?;
    Ok(n)
}
