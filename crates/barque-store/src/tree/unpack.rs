//! A tar stream unpacked into a tree that may be in use by somebody hostile.
//!
//! Unlike a layer, the tree is live: every object is created through a descriptor of its parent directory, opened
//! anew within the root for every change of directory, and nothing is ever reached by a path from outside.

use std::ffi::OsStr;
use std::io::{self, BufRead, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use barque_model::{Error, ErrorKind, Result};
use barque_sys::rootdir::{Dir, FileKind, RootDir, Stat, TimeSpec};
use rustix::fs::{Gid, Mode, Uid, XattrFlags};
use rustix::io::Errno;

use super::{TreeSummary, UntarOptions};
use crate::error::{self, IoContext};
use crate::layer::{clean, ignorable, is_private_attribute, split, write_data};
use crate::tar::{Entry, Kind, Reader, bad, show};

/// Docker's words for a name that is a mount point.
fn mounted(path: &Path) -> Error {
    Error::conflict(format!("unlinkat {}: device or resource busy", path.display())).with_hint(
        "something is mounted there, which a copy would replace: change what is mounted, or write into it with exec",
    )
}

struct Unpacker<'a> {
    /// The directory the archive is unpacked into; names in it are resolved within the whole root, so that links
    /// mean what they mean to a process in there.
    base: PathBuf,
    root: &'a RootDir,
    options: &'a UntarOptions,
    last: Option<(Vec<u8>, Dir)>,
    /// Directories whose times are set last.
    dirs: Vec<(Vec<u8>, TimeSpec)>,
    summary: TreeSummary,
}

fn errno(e: &io::Error) -> Option<Errno> {
    e.raw_os_error().map(Errno::from_raw_os_error)
}

fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// How often room is made for an object: a container, or another copy, may put something there meanwhile.
const ATTEMPTS: usize = 16;

/// See [`super::untar_into`].
pub(super) fn untar_into(
    root: &RootDir,
    path: &Path,
    input: &mut dyn Read,
    options: &UntarOptions,
) -> Result<TreeSummary> {
    let base = root.open_dir(path).at("open the directory", path)?;
    // Where the directory really is now: entries are resolved from there.
    let real = root.canonicalize(path).at("resolve", path)?;
    drop(base);
    let mut unpacker =
        Unpacker { base: real, root, options, last: None, dirs: Vec::new(), summary: TreeSummary::default() };
    let mut reader = Reader::new(io::BufReader::with_capacity(128 * 1024, crate::layer::decompress_auto(input)?));
    while let Some(entry) = reader.next()? {
        let name = clean(&entry.path)?;
        unpacker.entry(&entry, &name, &mut reader).map_err(|e| {
            if e.kind() == ErrorKind::Conflict {
                return e;
            }
            let kind = if error::is_impossible(&e) { ErrorKind::InvalidArgument } else { e.kind() };
            e.context(format!("unpack '{}'", show(&entry.path))).with_kind(kind)
        })?;
        unpacker.summary.entries += 1;
    }
    unpacker.settle();
    // The sender must not see a broken pipe because of what follows the end mark.
    io::copy(&mut reader.into_inner(), &mut io::sink()).map_err(error::from_io)?;
    Ok(unpacker.summary)
}

impl Unpacker<'_> {
    fn full(&self, name: &[u8]) -> PathBuf {
        if name.is_empty() { self.base.clone() } else { self.base.join(os(name)) }
    }

    fn io(&self, e: io::Error, doing: &str, name: &[u8]) -> Error {
        error::io_in(self.root, e, doing, &self.full(name), None)
    }

    fn parent(&self) -> Result<&Dir> {
        self.last.as_ref().map(|(_, dir)| dir).ok_or_else(|| Error::internal("no directory is open"))
    }

    fn enter(&mut self, parent: &[u8]) -> Result<()> {
        if self.last.as_ref().is_some_and(|(p, _)| p == parent) {
            return Ok(());
        }
        let full = self.full(parent);
        let dir = match self.root.open_dir(&full) {
            Err(e) if errno(&e) == Some(Errno::NOENT) => self.imply(parent)?,
            Err(e) if errno(&e) == Some(Errno::NOTDIR) => {
                return Err(bad(format!("'{}' is not a directory", full.display())));
            }
            other => other.map_err(|e| self.io(e, "open the directory", parent))?,
        };
        self.last = Some((parent.to_vec(), dir));
        Ok(())
    }

    /// Creates directories that the archive left out; they belong to whom everything is given, else to root.
    fn imply(&mut self, dir: &[u8]) -> Result<Dir> {
        let ends = dir.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([dir.len()]);
        for end in ends.collect::<Vec<_>>() {
            let full = self.full(&dir[..end]);
            match self.root.mkdir(&full, 0o755) {
                Ok(()) => {
                    if let Some((uid, gid)) = self.options.chown {
                        ignorable(self.root.chown(&full, uid, gid)).at("set the owner of", &full)?;
                    }
                    self.root.chmod(&full, 0o755).at("set the mode of", &full)?;
                }
                Err(e) if errno(&e) == Some(Errno::EXIST) => {}
                Err(e) => return Err(e).at("create the directory", &full),
            }
        }
        let full = self.full(dir);
        self.root.open_dir(&full).at("open the directory", &full)
    }

    fn entry<R: BufRead>(&mut self, entry: &Entry, name: &[u8], reader: &mut Reader<R>) -> Result<()> {
        if let Some((attribute, _)) = entry.xattrs.iter().find(|(n, _)| is_private_attribute(n)) {
            return Err(bad(format!("extended attribute '{}', which only the engine may set", show(attribute))));
        }
        if name.is_empty() {
            // The directory itself exists and keeps its owner and mode, unless told otherwise.
            return Ok(());
        }
        let (parent, last) = split(name);
        self.enter(parent)?;
        match entry.kind {
            Kind::Directory => self.directory(entry, name, last),
            Kind::Regular => self.regular(entry, name, last, reader),
            Kind::HardLink => self.hard_link(entry, name, last),
            Kind::Symlink => {
                self.replace(name, last, |dir| dir.symlink(os(&entry.link), os(last)))?;
                self.describe(entry, name, last)
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::CharDevice => FileKind::CharDevice,
                    Kind::BlockDevice => FileKind::BlockDevice,
                    _ => FileKind::Fifo,
                };
                self.replace(name, last, |dir| dir.mknod(os(last), kind, 0o600, entry.device))?;
                self.describe(entry, name, last)
            }
        }
    }

    fn owner(&self, entry: &Entry) -> Option<(u32, u32)> {
        match self.options.chown {
            Some(owner) => Some(owner),
            None if self.options.keep_owners => Some((entry.uid, entry.gid)),
            None => None,
        }
    }

    fn mode(&self, entry: &Entry) -> u32 {
        self.options.chmod.unwrap_or(entry.mode)
    }

    /// Makes room for `entry` at `name` and runs `make`.
    fn replace<T>(&mut self, name: &[u8], last: &[u8], make: impl Fn(&Dir) -> io::Result<T>) -> Result<T> {
        let mut made = make(self.parent()?);
        for _ in 0..ATTEMPTS {
            if !made.as_ref().is_err_and(|e| errno(e) == Some(Errno::EXIST)) {
                break;
            }
            self.clear(name, last, false)?;
            made = make(self.parent()?);
        }
        made.map_err(|e| self.not_made(e, name))
    }

    fn not_made(&self, e: io::Error, name: &[u8]) -> Error {
        match errno(&e) {
            Some(Errno::OVERFLOW) => Error::conflict(format!(
                "cannot create {}: the mount there maps owners, and to root none of them",
                self.full(name).display()
            ))
            .with_hint("copy into the directory on the host that is mounted there, or map an owner to 0"),
            _ => self.io(e, "create", name),
        }
    }

    /// Removes what is at `name`, unless a directory and something else would replace each other against orders.
    fn clear(&mut self, name: &[u8], last: &[u8], for_directory: bool) -> Result<()> {
        let dir = self.parent()?;
        let stat: Stat = match dir.lstat(os(last)) {
            Ok(stat) => stat,
            Err(e) if errno(&e) == Some(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(self.io(e, "examine", name)),
        };
        if self.options.no_overwrite_dir_non_dir && stat.is_dir() != for_directory {
            let (old, new) =
                if stat.is_dir() { ("directory", "non-directory") } else { ("non-directory", "directory") };
            let shown = self.full(name);
            return Err(bad(format!("cannot overwrite {old} \"{}\" with {new} \"{}\"", shown.display(), show(name))));
        }
        dir.remove_all(os(last)).map_err(|e| match errno(&e) {
            Some(Errno::BUSY | Errno::XDEV) => mounted(&self.full(name)),
            _ => self.io(e, "replace", name),
        })
    }

    fn directory(&mut self, entry: &Entry, name: &[u8], last: &[u8]) -> Result<()> {
        match self.parent()?.mkdir(os(last), 0o700) {
            Ok(()) => {}
            Err(e) if errno(&e) == Some(Errno::EXIST) => {
                if !self.parent()?.lstat(os(last)).is_ok_and(|s| s.is_dir()) {
                    self.clear(name, last, true)?;
                    self.parent()?.mkdir(os(last), 0o700).map_err(|e| self.io(e, "create the directory", name))?;
                }
            }
            Err(e) => return Err(self.not_made(e, name)),
        }
        let own = self.parent()?.subdir(os(last)).map_err(|e| self.io(e, "open the directory", name))?;
        if let Some((uid, gid)) = self.owner(entry) {
            ignorable(own.set_own_owner(uid, gid)).map_err(|e| self.io(e, "set the owner of", name))?;
        }
        own.set_own_mode(self.mode(entry)).map_err(|e| self.io(e, "set the mode of", name))?;
        for (attribute, value) in &entry.xattrs {
            ignorable(own.set_own_xattr(os(attribute), value)).map_err(|e| self.io(e, "set attributes of", name))?;
        }
        self.dirs.push((name.to_vec(), entry.mtime));
        Ok(())
    }

    fn regular<R: BufRead>(&mut self, entry: &Entry, name: &[u8], last: &[u8], reader: &mut Reader<R>) -> Result<()> {
        let at = self.full(name);
        let file = self.replace(name, last, |dir| dir.create_new(os(last), 0o600))?;
        write_data(&file, entry, reader, &at)?;
        self.summary.bytes += entry.size;
        if let Some((uid, gid)) = self.owner(entry) {
            let owner = rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            ignorable(owner.map_err(Into::into)).at("set the owner of", &at)?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(self.mode(entry))).at("set the mode of", &at)?;
        for (attribute, value) in &entry.xattrs {
            let set = rustix::fs::fsetxattr(&file, os(attribute), value, XattrFlags::empty());
            ignorable(set.map_err(Into::into)).at("set attributes of", &at)?;
        }
        let times = crate::layer::times(entry.mtime);
        ignorable(rustix::fs::futimens(&file, &times).map_err(Into::into)).at("set times of", &at)
    }

    fn hard_link(&mut self, entry: &Entry, name: &[u8], last: &[u8]) -> Result<()> {
        let target = clean(&entry.link)?;
        if target.is_empty() {
            return Err(bad("hard link to the root"));
        }
        if target == name {
            return Ok(());
        }
        let (from_dir, from_name) = split(&target);
        let from = self.root.open_dir(self.full(from_dir)).map_err(|e| self.io(e, "open the directory", from_dir))?;
        self.replace(name, last, |dir| from.link(os(from_name), dir, os(last)))
    }

    /// Owner, mode, attributes and time of something that is not opened.
    fn describe(&self, entry: &Entry, name: &[u8], last: &[u8]) -> Result<()> {
        let dir = self.parent()?;
        let set = || -> io::Result<()> {
            if let Some((uid, gid)) = self.owner(entry) {
                ignorable(dir.chown(os(last), uid, gid))?;
            }
            if entry.kind != Kind::Symlink {
                dir.chmod(os(last), self.mode(entry))?;
            }
            for (attribute, value) in &entry.xattrs {
                ignorable(dir.set_xattr(os(last), os(attribute), value))?;
            }
            ignorable(dir.set_times(os(last), None, Some(entry.mtime)))
        };
        set().map_err(|e| self.io(e, "set owner, mode or times of", name))
    }

    /// Sets the times of directories.
    fn settle(&self) {
        for (name, mtime) in &self.dirs {
            let _ = self.root.set_times(self.full(name), None, Some(*mtime));
        }
    }
}
