//! Unpacks the entries of a layer archive into a directory in overlayfs form.
//!
//! The directory is a diff: names it lacks show through from below, deleted ones are whiteouts. Everything is done
//! relative to descriptors inside the directory, so that no name or link in the archive leads outside. What
//! concerns lower layers (hard links to their files, owners of directories the archive left out) is noted down
//! and completed when those are known, in [`super::complete`].

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use barque_model::{Error, ErrorKind, Result};
use barque_sys::rootdir::{Dir, FileKind, RootDir, TimeSpec};
use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::marks::{Marks, is_private_attribute};
use super::names::{self, Meaning};
use super::pipeline::too_large;
use crate::error::{self, IoContext};
use crate::tar::{Entry, Kind, Reader, bad, show};

/// How a layer is unpacked.
#[derive(Clone, Debug)]
pub(super) struct ApplyOptions {
    pub(super) marks: Marks,
    /// Bytes of the stream, and of the files with their holes. 0: no limit.
    pub(super) max_bytes: u64,
    /// Entries. 0: no limit.
    pub(super) max_entries: u64,
}

/// What was unpacked, and what must be completed when the lower layers are known.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) entries: u64,
    /// Bytes of regular files.
    pub(super) size: u64,
    /// Hard links to files that are not in this layer: (new name, existing name).
    pub(super) links: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directories, in order of creation, that the archive used but did not describe.
    pub(super) implied: Vec<Vec<u8>>,
    /// Modes and times of directories, set last because unpacking changes them. In the order of the archive.
    pub(super) dirs: Vec<DirMeta>,
}

/// Mode and time of a directory.
#[derive(Debug)]
pub(super) struct DirMeta {
    pub(super) path: Vec<u8>,
    pub(super) mode: u32,
    pub(super) mtime: TimeSpec,
}

pub(super) struct Applier {
    root: RootDir,
    root_path: PathBuf,
    options: ApplyOptions,
    /// The directory the last entry was put in: archives come sorted by directory.
    last: Option<(Vec<u8>, Dir)>,
    implied: HashSet<Vec<u8>>,
    applied: Applied,
}

pub(super) fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

pub(super) fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn errno(e: &io::Error) -> Option<Errno> {
    e.raw_os_error().map(Errno::from_raw_os_error)
}

impl Applier {
    pub(super) fn new(target: &Path, options: ApplyOptions) -> Result<Applier> {
        let root = RootDir::open(target).at("open", target)?;
        // The root is implied until the archive describes it.
        let applied = Applied { implied: vec![Vec::new()], ..Applied::default() };
        let implied = HashSet::from([Vec::new()]);
        Ok(Applier { root, root_path: target.to_owned(), options, last: None, implied, applied })
    }

    /// Unpacks one entry; its data comes from `reader`.
    pub(super) fn apply<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        self.applied.entries += 1;
        if self.options.max_entries > 0 && self.applied.entries > self.options.max_entries {
            return Err(bad(format!("the layer has more than {} entries", self.options.max_entries)));
        }
        let clean = names::clean(&entry.path)?;
        self.apply_clean(entry, &clean, reader).map_err(|e| {
            let kind = if error::is_impossible(&e) { ErrorKind::InvalidArgument } else { e.kind() };
            e.context(format!("unpack '{}'", show(&entry.path))).with_kind(kind)
        })
    }

    fn apply_clean<R: BufRead>(&mut self, entry: &Entry, clean: &[u8], reader: &mut Reader<R>) -> Result<()> {
        match names::meaning(clean)? {
            Meaning::Ignore => return Ok(()),
            Meaning::Opaque { dir } => {
                self.enter(dir)?;
                let marks = self.options.marks;
                return self.parent().and_then(|d| marks.set_opaque(d).map_err(|e| self.io(e, "mark opaque", dir)));
            }
            Meaning::Whiteout { parent, name } => return self.whiteout(parent, name),
            Meaning::Object => {}
        }
        if let Some((name, _)) = entry.xattrs.iter().find(|(name, _)| is_private_attribute(name)) {
            return Err(bad(format!("extended attribute '{}', which only the engine may set", show(name))));
        }
        if clean.is_empty() {
            return self.describe_root(entry);
        }
        let (parent, name) = names::split(clean);
        self.enter(parent)?;
        match entry.kind {
            Kind::Directory => self.directory(entry, clean, name),
            Kind::Regular => self.regular(entry, name, reader),
            Kind::Symlink => self.symlink(entry, name),
            Kind::HardLink => self.hard_link(entry, clean, name),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.node(entry, name),
        }
    }

    /// Sets the times of directories and gives the account.
    pub(super) fn finish(mut self) -> Result<Applied> {
        let implied = std::mem::take(&mut self.implied);
        self.applied.implied.retain(|p| implied.contains(p));
        settle_dirs(&self.root, &self.applied.dirs);
        Ok(self.applied)
    }

    fn io(&self, e: io::Error, doing: &str, at: &[u8]) -> Error {
        error::io(e, doing, &self.root_path.join(path(at)), None)
    }

    fn parent(&self) -> Result<&Dir> {
        self.last.as_ref().map(|(_, dir)| dir).ok_or_else(|| Error::internal("no directory is open"))
    }

    /// Opens the directory `parent`, creating what the archive left out.
    fn enter(&mut self, parent: &[u8]) -> Result<()> {
        if self.last.as_ref().is_some_and(|(p, _)| p == parent) {
            return Ok(());
        }
        let opened = match self.root.open_dir(path(parent)) {
            Ok(dir) => dir,
            Err(e) if matches!(errno(&e), Some(Errno::NOENT | Errno::NOTDIR)) => self.imply(parent)?,
            Err(e) => return Err(self.io(e, "open the directory", parent)),
        };
        self.last = Some((parent.to_vec(), opened));
        Ok(())
    }

    /// Creates the missing components of `dir`.
    fn imply(&mut self, dir: &[u8]) -> Result<Dir> {
        let ends = dir.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([dir.len()]);
        for end in ends.collect::<Vec<_>>() {
            let prefix = &dir[..end];
            let made = match self.root.mkdir(path(prefix), 0o755) {
                Err(e) if errno(&e) == Some(Errno::EXIST) => self.imply_over(prefix)?,
                Err(e) => return Err(self.io(e, "create the directory", prefix)),
                Ok(()) => {
                    self.root.chmod(path(prefix), 0o755).map_err(|e| self.io(e, "chmod", prefix))?;
                    true
                }
            };
            if made && self.implied.insert(prefix.to_vec()) {
                self.applied.implied.push(prefix.to_vec());
            }
        }
        self.root.open_dir(path(dir)).map_err(|e| match errno(&e) {
            Some(Errno::NOENT | Errno::LOOP) => {
                bad(format!("the directory '{}' is a link that leads nowhere", show(dir)))
            }
            Some(Errno::NOTDIR) => bad(format!("'{}' is not a directory", show(dir))),
            _ => self.io(e, "open the directory", dir),
        })
    }

    /// `prefix` exists: a deleted name that is used again becomes an opaque directory; whether one was made.
    fn imply_over(&mut self, prefix: &[u8]) -> Result<bool> {
        let stat = self.root.lstat(path(prefix)).map_err(|e| self.io(e, "examine", prefix))?;
        if !stat.is_whiteout() {
            return Ok(false);
        }
        self.root.unlink(path(prefix)).map_err(|e| self.io(e, "remove", prefix))?;
        let dir = self.root.mkdir_all(path(prefix), 0o755).map_err(|e| self.io(e, "create", prefix))?;
        self.options.marks.set_opaque(&dir).map_err(|e| self.io(e, "mark opaque", prefix))?;
        Ok(true)
    }

    fn whiteout(&mut self, parent: &[u8], name: &[u8]) -> Result<()> {
        self.enter(parent)?;
        let marks = self.options.marks;
        let dir = self.parent()?;
        match marks.whiteout(dir, os(name)) {
            Ok(()) => Ok(()),
            // Whiteouts hide what is below, not what this layer itself has: a directory then hides its namesake.
            Err(e) if errno(&e) == Some(Errno::EXIST) => match dir.subdir(os(name)) {
                Ok(own) => marks.set_opaque(&own).map_err(|e| self.io(e, "mark opaque", name)),
                Err(_) => Ok(()),
            },
            Err(e) => Err(self.io(e, "create the whiteout", name)),
        }
    }

    fn describe_root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(bad("the root of the archive is not a directory"));
        }
        self.implied.remove(&Vec::new());
        let dir = self.root.dir().try_clone().map_err(|e| self.io(e, "open", b""))?;
        self.own_dir(&dir, entry, b"")
    }

    /// Gives a directory its owner and attributes now, mode and time later.
    fn own_dir(&mut self, dir: &Dir, entry: &Entry, clean: &[u8]) -> Result<()> {
        if self.options.marks.chown {
            dir.set_own_owner(entry.uid, entry.gid).map_err(|e| self.io(e, "chown", clean))?;
        }
        for (name, value) in &entry.xattrs {
            ignorable(dir.set_own_xattr(os(name), value)).map_err(|e| self.io(e, "set attributes of", clean))?;
        }
        if self.options.marks.chown {
            // As root permissions do not get in the way of what follows.
            dir.set_own_mode(entry.mode).map_err(|e| self.io(e, "chmod", clean))?;
        }
        self.applied.dirs.push(DirMeta { path: clean.to_vec(), mode: entry.mode, mtime: entry.mtime });
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, clean: &[u8], name: &[u8]) -> Result<()> {
        self.implied.remove(clean);
        let mut opaque = false;
        loop {
            let dir = self.parent()?;
            match dir.mkdir(os(name), 0o700) {
                Ok(()) => break,
                Err(e) if errno(&e) == Some(Errno::EXIST) => {
                    let stat = dir.lstat(os(name)).map_err(|e| self.io(e, "examine", clean))?;
                    if stat.is_dir() {
                        break;
                    }
                    opaque |= stat.is_whiteout();
                    self.clear(name)?;
                }
                Err(e) => return Err(self.io(e, "create the directory", clean)),
            }
        }
        let dir = self.parent()?.subdir(os(name)).map_err(|e| self.io(e, "open the directory", clean))?;
        if opaque {
            self.options.marks.set_opaque(&dir).map_err(|e| self.io(e, "mark opaque", clean))?;
        }
        self.own_dir(&dir, entry, clean)
    }

    /// Removes what is in the way of a new object.
    fn clear(&mut self, name: &[u8]) -> Result<()> {
        let dir = self.parent()?;
        dir.remove_all(os(name)).map_err(|e| self.io(e, "replace", name))?;
        // An open directory below, or one reached through a link that is gone, must not be used any more.
        if let Some((parent, dir)) = self.last.take() {
            match self.root.open_dir(path(&parent)) {
                Ok(again) => self.last = Some((parent, again)),
                Err(_) => self.last = Some((parent, dir)),
            }
        }
        Ok(())
    }

    /// Runs `make`, once more if something was in the way.
    fn replace<T>(&mut self, name: &[u8], make: impl Fn(&Dir) -> io::Result<T>) -> Result<T> {
        match make(self.parent()?) {
            Err(e) if errno(&e) == Some(Errno::EXIST) => {
                self.clear(name)?;
                make(self.parent()?).map_err(|e| self.io(e, "create", name))
            }
            other => other.map_err(|e| self.io(e, "create", name)),
        }
    }

    fn regular<R: BufRead>(&mut self, entry: &Entry, name: &[u8], reader: &mut Reader<R>) -> Result<()> {
        self.applied.size = self.applied.size.saturating_add(entry.size);
        if self.options.max_bytes > 0 && self.applied.size > self.options.max_bytes {
            return Err(too_large(self.options.max_bytes));
        }
        let file = self.replace(name, |dir| dir.create_new(os(name), 0o600))?;
        let at = self.root_path.join(path(name));
        write_data(&file, entry, reader, &at)?;
        if self.options.marks.chown {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::fchown(&file, Some(uid), Some(gid)).at("chown", &at)?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).at("chmod", &at)?;
        for (attribute, value) in &entry.xattrs {
            let set = rustix::fs::fsetxattr(&file, os(attribute), value, XattrFlags::empty());
            ignorable(set.map_err(io::Error::from)).at("set attributes of", &at)?;
        }
        ignorable(rustix::fs::futimens(&file, &times(entry.mtime)).map_err(io::Error::from)).at("set times of", &at)
    }

    fn symlink(&mut self, entry: &Entry, name: &[u8]) -> Result<()> {
        if entry.link.is_empty() || entry.link.len() > 4095 || entry.link.contains(&0) {
            return Err(bad(format!("link with an impossible target of {} bytes", entry.link.len())));
        }
        self.replace(name, |dir| dir.symlink(os(&entry.link), os(name)))?;
        self.own_node(entry, name, false)
    }

    fn node(&mut self, entry: &Entry, name: &[u8]) -> Result<()> {
        let kind = match entry.kind {
            Kind::CharDevice => FileKind::CharDevice,
            Kind::BlockDevice => FileKind::BlockDevice,
            _ => FileKind::Fifo,
        };
        if !self.options.marks.chown && kind != FileKind::Fifo {
            // Only root may create devices; without it images do without them, as in a user namespace.
            return Ok(());
        }
        self.replace(name, |dir| dir.mknod(os(name), kind, 0o600, entry.device))?;
        self.own_node(entry, name, true)
    }

    /// Owner, mode, attributes and time of something that cannot be opened.
    fn own_node(&mut self, entry: &Entry, name: &[u8], chmod: bool) -> Result<()> {
        let dir = self.parent()?;
        let chown = self.options.marks.chown;
        let set = || -> io::Result<()> {
            if chown {
                dir.chown(os(name), entry.uid, entry.gid)?;
            }
            if chmod {
                dir.chmod(os(name), entry.mode)?;
            }
            for (attribute, value) in &entry.xattrs {
                ignorable(dir.set_xattr(os(name), os(attribute), value))?;
            }
            ignorable(dir.set_times(os(name), None, Some(entry.mtime)))
        };
        set().map_err(|e| self.io(e, "set owner, mode or times of", name))
    }

    fn hard_link(&mut self, entry: &Entry, clean: &[u8], name: &[u8]) -> Result<()> {
        let target = names::clean(&entry.link)?;
        if target.is_empty() {
            return Err(bad("hard link to the root"));
        }
        if target == clean {
            return Ok(());
        }
        let (target_dir, target_name) = names::split(&target);
        let from = match self.root.open_dir(path(target_dir)) {
            Ok(dir) => dir,
            Err(e) if matches!(errno(&e), Some(Errno::NOENT | Errno::NOTDIR)) => return self.link_later(clean, target),
            Err(e) => return Err(self.io(e, "open the directory", target_dir)),
        };
        let stat = match from.lstat(os(target_name)) {
            Ok(stat) => stat,
            Err(e) if errno(&e) == Some(Errno::NOENT) => return self.link_later(clean, target),
            Err(e) => return Err(self.io(e, "examine", &target)),
        };
        if stat.is_dir() || stat.is_whiteout() {
            return Err(bad(format!("hard link to '{}', which is not a file", show(&target))));
        }
        let dir = self.parent()?;
        match from.link(os(target_name), dir, os(name)) {
            Err(e) if errno(&e) == Some(Errno::EXIST) => {
                let same = dir.lstat(os(name)).is_ok_and(|s| (s.device, s.inode) == (stat.device, stat.inode));
                if same {
                    return Ok(());
                }
                self.clear(name)?;
                let dir = self.parent()?;
                from.link(os(target_name), dir, os(name)).map_err(|e| self.io(e, "link", &target))
            }
            other => other.map_err(|e| self.io(e, "link", &target)),
        }
    }

    /// The target may be in a lower layer.
    fn link_later(&mut self, clean: &[u8], target: Vec<u8>) -> Result<()> {
        self.applied.links.push((clean.to_vec(), target));
        Ok(())
    }
}

/// Sets modes and times of directories, the deepest first, so that a mode does not bar the way to what lies below.
/// Those that something else has replaced are passed over.
pub(super) fn settle_dirs(root: &RootDir, dirs: &[DirMeta]) {
    let mut seen = HashSet::new();
    for meta in dirs.iter().rev().filter(|m| seen.insert(m.path.as_slice())) {
        let mtime = Some(meta.mtime);
        if meta.path.is_empty() {
            let _ = root.dir().set_own_mode(meta.mode);
            let _ = root.dir().set_own_times(None, mtime);
            continue;
        }
        let Ok((dir, name)) = root.open_parent(path(&meta.path)) else { continue };
        match dir.lstat(&name) {
            Ok(stat) if stat.is_dir() => {
                if stat.mode != meta.mode {
                    let _ = dir.chmod(&name, meta.mode);
                }
                let _ = dir.set_times(&name, None, mtime);
            }
            _ => {}
        }
    }
}

pub(crate) fn times(mtime: TimeSpec) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: i64::from(mtime.nanos) },
    }
}

/// Attributes and times that this file system cannot hold are left out, as other engines do.
pub(crate) fn ignorable(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if matches!(errno(&e), Some(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL)) => Ok(()),
        other => other,
    }
}

/// Writes the data of a file, leaving the holes of a sparse one.
pub(crate) fn write_data<R: BufRead>(file: &File, entry: &Entry, reader: &mut Reader<R>, at: &Path) -> Result<()> {
    let whole = [crate::tar::Segment { offset: 0, length: entry.size }];
    let segments = entry.sparse.as_deref().unwrap_or(&whole);
    if entry.sparse.is_some() {
        file.set_len(entry.size).at("extend", at)?;
    }
    for segment in segments {
        let mut offset = segment.offset;
        let end = segment.offset + segment.length;
        while offset < end {
            let mut written = Ok(());
            let n = reader.data(end - offset, |bytes| {
                written = file.write_all_at(bytes, offset);
                Ok(())
            })?;
            written.map_err(|e| error::io_in(file, e, "write", at, Some(end - offset)))?;
            if n == 0 {
                return Err(crate::tar::truncated());
            }
            offset += n;
        }
    }
    Ok(())
}
