//! The merged view of a stack of layers, read without mounting it.

use std::io;
use std::path::{Path, PathBuf};

use barque_model::{Error, Result};
use barque_sys::rootdir::{RootDir, Stat};
use rustix::io::Errno;

use super::apply::path;
use super::marks::is_opaque;
use super::names;
use crate::error::IoContext;

/// Links followed in one resolution (as the kernel's MAXSYMLINKS).
const LINKS_MAX: usize = 40;

/// A stack of layers in overlayfs form, the top one first.
pub(crate) struct Lowers(Vec<RootDir>);

/// What a layer of the stack says about a path.
enum Seen {
    Here(Stat),
    /// Not here, but what is below shows.
    Through,
    /// Not here, and nothing below shows.
    Hidden,
}

fn missing(e: &io::Error) -> bool {
    let errno = e.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

impl Lowers {
    pub(crate) fn open(dirs: &[PathBuf]) -> Result<Lowers> {
        let open = |d: &PathBuf| RootDir::open(d).at("open the layer", d);
        dirs.iter().map(open).collect::<Result<_>>().map(Lowers)
    }

    /// Looks up a clean path literally: no component of it is followed as a link.
    fn lookup(root: &RootDir, clean: &[u8]) -> io::Result<Seen> {
        let ends = clean.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([clean.len()]);
        // Below an opaque directory nothing shows through.
        let mut opaque = false;
        for end in ends {
            let prefix = path(&clean[..end]);
            let stat = match Self::lstat_literal(root, prefix) {
                Ok(stat) => stat,
                Err(e) if missing(&e) => return Ok(if opaque { Seen::Hidden } else { Seen::Through }),
                Err(e) => return Err(e),
            };
            if stat.is_whiteout() {
                return Ok(Seen::Hidden);
            }
            if end == clean.len() {
                return Ok(Seen::Here(stat));
            }
            if !stat.is_dir() {
                return Ok(Seen::Hidden);
            }
            opaque = opaque || is_opaque(&root.xattrs(prefix)?);
        }
        Ok(Seen::Through)
    }

    fn lstat_literal(root: &RootDir, at: &Path) -> io::Result<Stat> {
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(at.as_os_str());
        let (parent, name) = names::split(bytes);
        if name.is_empty() {
            return root.dir().stat_self();
        }
        root.open_dir_no_links(path(parent))?.lstat(super::apply::os(name))
    }

    /// The layer that holds the object at a clean path, links on the way not followed; `None` if there is none.
    pub(crate) fn find(&self, clean: &[u8]) -> Result<Option<(&RootDir, Stat)>> {
        for root in &self.0 {
            match Self::lookup(root, clean).map_err(|e| Error::from(e).context("examine a lower layer"))? {
                Seen::Here(stat) => return Ok(Some((root, stat))),
                Seen::Through => {}
                Seen::Hidden => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The names that show in a directory given by its clean path.
    pub(crate) fn names(&self, clean: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut shown = std::collections::BTreeMap::new();
        for root in &self.0 {
            let seen = Self::lookup(root, clean).map_err(|e| Error::from(e).context("examine a lower layer"))?;
            let stat = match seen {
                Seen::Here(stat) => stat,
                Seen::Through => continue,
                Seen::Hidden => break,
            };
            if !stat.is_dir() {
                break;
            }
            let dir = root.open_dir_no_links(path(clean)).at("open", path(clean))?;
            for entry in dir.entries().at("list", path(clean))? {
                let name = std::os::unix::ffi::OsStringExt::into_vec(entry.name.clone());
                if let std::collections::btree_map::Entry::Vacant(place) = shown.entry(name) {
                    let there = dir.lstat(&entry.name).at("examine", path(clean))?;
                    place.insert(!there.is_whiteout());
                }
            }
            if is_opaque(&dir.own_xattrs().at("read attributes of", path(clean))?) {
                break;
            }
        }
        Ok(shown.into_iter().filter(|(_, visible)| *visible).map(|(name, _)| name).collect())
    }

    /// As [`Lowers::find`], but links among the directories on the way are followed within the merged tree. Also
    /// gives the path where the object really is.
    pub(crate) fn resolve(&self, clean: &[u8]) -> Result<Option<(&RootDir, Stat, Vec<u8>)>> {
        let mut wanted = clean.to_vec();
        for _ in 0..LINKS_MAX {
            match self.first_link(&wanted)? {
                None => return Ok(self.find(&wanted)?.map(|(root, stat)| (root, stat, wanted))),
                Some(redirected) => wanted = redirected,
            }
        }
        Ok(None)
    }

    /// If a directory component of the path is a link, the path with that link replaced by its target.
    fn first_link(&self, clean: &[u8]) -> Result<Option<Vec<u8>>> {
        let ends: Vec<usize> = clean.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).collect();
        for end in ends {
            let prefix = &clean[..end];
            let Some((root, stat)) = self.find(prefix)? else { return Ok(None) };
            if stat.kind == barque_sys::rootdir::FileKind::Symlink {
                let target = root.readlink(path(prefix)).map_err(Error::from)?;
                let target = std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str());
                let base = if target.starts_with(b"/") { &b""[..] } else { names::split(prefix).0 };
                let joined = [base, target, &clean[end + 1..]].join(&b'/');
                return Ok(Some(clean_within(&joined)));
            }
        }
        Ok(None)
    }
}

/// `path` without `.`, with `..` at the root staying there.
fn clean_within(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}
