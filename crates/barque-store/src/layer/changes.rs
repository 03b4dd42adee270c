//! What a snapshot changed against the layers below, as `docker diff` lists it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use barque_model::{Id, Result};
use barque_sys::rootdir::{Dir, RootDir, Stat};

use super::lower::Lowers;
use super::marks::is_opaque;
use super::names;
use crate::Store;
use crate::error::IoContext;
use crate::tree::{Descend, Visit, Visitor, walk};

/// `A`, `C` and `D` of `docker diff`; the Engine API has 1, 0 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

/// One changed path, absolute within the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: PathBuf,
    pub kind: ChangeKind,
}

struct Differ<'a> {
    lowers: &'a Lowers,
    upper: &'a RootDir,
    changes: Vec<(Vec<u8>, ChangeKind)>,
    listed: HashSet<Vec<u8>>,
}

impl Store {
    /// What the snapshot changed, sorted by path; the root itself is not listed.
    pub fn changes(&self, snapshot: &Id) -> Result<Vec<Change>> {
        let dirs = self.snapshot_dirs(snapshot)?;
        let lowers = Lowers::open(&dirs.lowers)?;
        changes(&dirs.upper, &lowers)
    }
}

fn changes(upper: &Path, lowers: &Lowers) -> Result<Vec<Change>> {
    let root = RootDir::open(upper).at("open", upper)?;
    let dir = Dir::open(upper).at("open", upper)?;
    let mut differ = Differ { lowers, upper: &root, changes: Vec::new(), listed: HashSet::new() };
    walk(dir, &mut differ)?;
    let mut found: Vec<Change> = differ
        .changes
        .into_iter()
        .map(|(path, kind)| Change { path: Path::new("/").join(super::apply::path(&path)), kind })
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

impl Visitor for Differ<'_> {
    fn visit(&mut self, visit: &Visit<'_>, own: Option<&Dir>) -> Result<Descend> {
        let below = self.lowers.find(visit.path)?.map(|(_, stat)| stat);
        if visit.stat.is_whiteout() {
            if below.is_some() {
                self.add(visit.path, ChangeKind::Deleted)?;
            }
            return Ok(Descend::No);
        }
        match (&below, own) {
            (None, _) => self.add(visit.path, ChangeKind::Added)?,
            // A directory is in the upper one already if something in it changed.
            (Some(old), Some(_)) if old.is_dir() && same_directory(old, visit.stat) => {}
            (Some(_), _) => self.add(visit.path, ChangeKind::Modified)?,
        }
        if let (Some(old), Some(dir)) = (&below, own)
            && old.is_dir()
            && is_opaque(&dir.own_xattrs().at("read attributes of", super::apply::path(visit.path))?)
        {
            self.hidden(visit.path)?;
        }
        Ok(Descend::Yes)
    }
}

fn same_directory(old: &Stat, new: &Stat) -> bool {
    (old.mode, old.uid, old.gid, old.modified) == (new.mode, new.uid, new.gid, new.modified)
}

impl Differ<'_> {
    /// Lists a change, and before it the directory it is in, whose contents have changed by it.
    fn add(&mut self, path: &[u8], kind: ChangeKind) -> Result<()> {
        let (parent, _) = names::split(path);
        if !parent.is_empty() && !self.listed.contains(parent) && self.lowers.find(parent)?.is_some() {
            self.add(parent, ChangeKind::Modified)?;
        }
        if self.listed.insert(path.to_vec()) {
            self.changes.push((path.to_vec(), kind));
        }
        Ok(())
    }

    /// The directory was made anew: what it had below and has no more was deleted.
    fn hidden(&mut self, path: &[u8]) -> Result<()> {
        for name in self.lowers.names(path)? {
            let child = [path, b"/", &name].concat();
            if self.upper.lstat(super::apply::path(&child)).is_err() {
                self.add(&child, ChangeKind::Deleted)?;
            }
        }
        Ok(())
    }
}
