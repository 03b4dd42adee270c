//! Walks a tree by descriptors, in the order of names, without following links.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use barque_model::{Error, Result};
use barque_sys::rootdir::{Dir, DirEntry, FileKind, RootDir, Stat};
use rustix::io::Errno;

use crate::error::IoContext;

/// Deepest nesting of directories that is walked: each level costs a descriptor.
const DEPTH_MAX: usize = 900;

/// One thing on the way.
pub(crate) struct Visit<'a> {
    /// The directory it is in.
    pub(crate) parent: &'a Dir,
    pub(crate) name: &'a OsStr,
    /// Path relative to where the walk began.
    pub(crate) path: &'a [u8],
    pub(crate) stat: &'a Stat,
}

/// What is to happen with a directory just visited.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descend {
    Yes,
    /// Pass over what is below; [`Visitor::leave`] is not called.
    No,
}

/// What is done on a walk.
pub(crate) trait Visitor {
    /// Something was found. The answer counts for directories only. `own` is the directory itself, opened.
    fn visit(&mut self, visit: &Visit<'_>, own: Option<&Dir>) -> Result<Descend>;

    /// All below a directory was visited. `own` is the directory itself.
    fn leave(&mut self, _own: &Dir, _stat: &Stat) -> Result<()> {
        Ok(())
    }
}

struct Level {
    dir: Dir,
    stat: Stat,
    entries: std::vec::IntoIter<DirEntry>,
    /// Length of the path of this directory.
    path: usize,
}

impl Level {
    fn open(dir: Dir, stat: Stat, path: &[u8]) -> Result<Level> {
        let entries = dir.entries().at("list the directory", shown(path))?.into_iter();
        Ok(Level { dir, stat, entries, path: path.len() })
    }
}

fn shown(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(if path.is_empty() { b"/" } else { path }))
}

fn is_gone(e: &std::io::Error) -> bool {
    e.raw_os_error() == Some(Errno::NOENT.raw_os_error())
}

/// Visits everything below `top` (not `top` itself), calling [`Visitor::leave`] for `top` too. What vanishes
/// meanwhile is passed over.
pub(crate) fn walk(top: Dir, visitor: &mut dyn Visitor) -> Result<()> {
    let mut path = Vec::new();
    let stat = top.stat_self().at("examine", shown(&path))?;
    let mut stack = vec![Level::open(top, stat, &path)?];
    while let Some(level) = stack.last_mut() {
        path.truncate(level.path);
        let Some(entry) = level.entries.next() else {
            visitor.leave(&level.dir, &level.stat)?;
            stack.pop();
            continue;
        };
        let stat = match level.dir.lstat(&entry.name) {
            Ok(stat) => stat,
            Err(e) if is_gone(&e) => continue,
            Err(e) => return Err(e).at("examine", shown(&path)),
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.name.as_bytes());
        let own = match stat.kind {
            FileKind::Directory => match level.dir.subdir(&entry.name) {
                Ok(dir) => Some(dir),
                // Replaced by something else since it was listed.
                Err(e) if is_gone(&e) || e.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) => continue,
                Err(e) => return Err(e).at("open the directory", shown(&path)),
            },
            _ => None,
        };
        let visit = Visit { parent: &level.dir, name: &entry.name, path: &path, stat: &stat };
        let descend = visitor.visit(&visit, own.as_ref())?;
        if let (Descend::Yes, Some(dir)) = (descend, own) {
            if stack.len() >= DEPTH_MAX {
                return Err(Error::invalid(format!(
                    "directories are nested more than {DEPTH_MAX} deep at {}…",
                    shown(&path[..path.len().min(100)]).display()
                )));
            }
            stack.push(Level::open(dir, stat, &path)?);
        }
    }
    Ok(())
}

/// What a path within a root leads to: a directory opened, or anything else as parent and name.
pub(crate) enum Target {
    Directory(Dir, Stat),
    Other(Dir, std::ffi::OsString, Stat),
}

/// Opens `path`; a link at its end is followed within the root for `follow`.
pub(crate) fn open_target(root: &RootDir, path: &Path, follow: bool) -> std::io::Result<Target> {
    let stat = if follow { root.stat(path)? } else { root.lstat(path)? };
    if stat.is_dir() {
        let dir = root.open_dir(path)?;
        let stat = dir.stat_self()?;
        return Ok(Target::Directory(dir, stat));
    }
    let real = if follow { root.canonicalize(path)? } else { path.to_owned() };
    let (dir, name) = root.open_parent(&real)?;
    let stat = dir.lstat(&name)?;
    Ok(Target::Other(dir, name, stat))
}
