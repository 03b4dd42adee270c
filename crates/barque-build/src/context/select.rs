//! Which files a `COPY` source names.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use barque_model::{Context as _, Error, Result};

use super::digest::path_bytes;
use super::tree::{Entry, Kind, Tree};
use super::walk::{Filter, walk};
use crate::graph::{FsRef, PathSource};
use crate::ignore::Ignore;
use crate::ignore::glob::{Glob, has_wildcards};

/// Files to copy, as one unit with one rule for their names at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    pub kind: SelectedKind,
    /// Sorted by path; paths are those in the source tree.
    pub entries: Vec<Entry>,
}

/// How names at the destination come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectedKind {
    /// One file (or link target): the destination itself, or `name` in it if that is a directory.
    File { name: PathBuf },
    /// The contents of directory `root` go into the destination.
    Contents { root: PathBuf },
    /// `--parents`: paths relative to `pivot` are kept below the destination.
    Parents { pivot: PathBuf },
}

impl Selected {
    /// The name of an entry below the destination.
    pub fn relative<'e>(&'e self, entry: &'e Entry) -> &'e Path {
        // By bytes: taking paths apart costs more than all else that is done for a file of a large context.
        let strip = |root: &Path| {
            let (path, root) = (path_bytes(&entry.path), path_bytes(root));
            let below = match path.strip_prefix(root) {
                Some(rest) if root.is_empty() => rest,
                Some([]) => b"",
                Some([b'/', rest @ ..]) => rest,
                _ => path,
            };
            Path::new(OsStr::from_bytes(below))
        };
        match &self.kind {
            SelectedKind::File { name } => name,
            SelectedKind::Contents { root } => strip(root),
            SelectedKind::Parents { pivot } => strip(pivot),
        }
    }
}

/// A tree to select from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct From<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) ignore: &'a Ignore,
    /// `COPY` or `ADD`.
    pub(crate) verb: &'a str,
}

impl From<'_> {
    fn missing(&self, source: &PathSource) -> Error {
        let ignorable = if matches!(source.from, FsRef::Context(_)) { " or excluded by .dockerignore" } else { "" };
        let what = format!("file not found in {}{ignorable}", source.origin);
        let name = source.written.trim_start_matches('/');
        let name = if name.is_empty() { "/" } else { name };
        let error = Error::not_found(format!("{} failed: {what}: stat {name}: file does not exist", self.verb));
        match self.near(name) {
            Some(near) => error.with_hint(format!("did you mean {near}?")),
            None => error,
        }
    }

    /// A file of the same directory whose name is close to the one wanted.
    fn near(&self, name: &str) -> Option<String> {
        let path = Path::new(name);
        let dir = self.tree.resolve(path.parent()?, false).ok()?;
        let fd = self.tree.open_dir(&dir).ok()?;
        let entries = super::tree::read_dir(&fd, &dir).ok()?;
        let names: Vec<String> = entries.iter().map(|e| e.name().to_string_lossy().into_owned()).collect();
        let close = crate::suggest::closest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
        Some(path.with_file_name(close).to_string_lossy().into_owned())
    }

    fn ignored(&self, path: &Path) -> bool {
        !self.ignore.is_empty() && !path.as_os_str().is_empty() && self.ignore.matches(&path.to_string_lossy())
    }

    /// The files `source` names. A wildcard that matches nothing selects nothing; a plain name must exist.
    pub(crate) fn select(&self, source: &PathSource, parents: bool, exclude: &Ignore) -> Result<Vec<Selected>> {
        if parents {
            return self.with_parents(source, exclude);
        }
        if !has_wildcards(&source.pattern) {
            let plain = Path::new(&source.pattern);
            // `\[x]` is the file `[x]`, unless there is one with the backslash in its name.
            let literal = Glob::new(&source.pattern).ok().and_then(|g| g.literal()).unwrap_or_default();
            let path = if self.tree.entry(plain).is_ok() { plain } else { Path::new(&literal) };
            return Ok(vec![self.one(path, source, exclude)?]);
        }
        if Glob::new(&source.pattern).is_err() {
            let message = format!("{} failed: syntax error in pattern {}", self.verb, source.written);
            return Err(Error::invalid(message));
        }
        let mut selected = Vec::new();
        for path in self.matches(&source.pattern)? {
            let as_file = self.tree.entry(&path).is_ok_and(|e| e.kind != Kind::Dir);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if as_file && !exclude.is_empty() && exclude.matches(&name) {
                continue;
            }
            selected.push(self.one(&path, source, exclude)?);
        }
        Ok(selected)
    }

    /// One path: a file, or the contents of a directory. Links are followed inside the tree.
    fn one(&self, path: &Path, source: &PathSource, exclude: &Ignore) -> Result<Selected> {
        let found = self.tree.resolve(path, false).and_then(|p| self.tree.entry(&p));
        let entry = match found {
            Ok(entry) => entry,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(self.missing(source));
            }
            Err(e) => return Err(e).with_context(|| format!("{} failed: {}", self.verb, source.written)),
        };
        if entry.kind != Kind::Dir {
            if self.ignored(path) || self.ignored(&entry.path) {
                return Err(self.missing(source));
            }
            let name = PathBuf::from(path.file_name().unwrap_or(entry.name()));
            return Ok(Selected { kind: SelectedKind::File { name }, entries: vec![entry] });
        }
        let entries = walk(self.tree, &entry.path, Filter { ignore: self.ignore, exclude })?;
        if entries.is_empty() && (self.ignored(path) || self.ignored(&entry.path)) {
            return Err(self.missing(source));
        }
        Ok(Selected { kind: SelectedKind::Contents { root: entry.path }, entries })
    }

    /// Paths a pattern with wildcards matches, sorted. Directories before the first wildcard may be links.
    fn matches(&self, pattern: &str) -> Result<Vec<PathBuf>> {
        let parts: Vec<&str> = pattern.split('/').collect();
        let plain = parts.iter().take_while(|p| !has_wildcards(p)).count();
        let unescaped = |part: &&str| Glob::new(part).ok().and_then(|g| g.literal()).unwrap_or_default();
        let base: PathBuf = parts[..plain].iter().map(unescaped).collect();
        let mut found = vec![base];
        for part in &parts[plain..] {
            let Ok(glob) = Glob::new(part) else { return Ok(Vec::new()) };
            let mut next = Vec::new();
            for dir in found {
                let listed = self.tree.resolve(&dir, false).and_then(|resolved| {
                    let fd = self.tree.open_dir(&resolved)?;
                    super::tree::read_dir(&fd, &dir)
                });
                let entries = match listed {
                    Ok(entries) => entries,
                    Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
                    Err(e) => return Err(e).with_context(|| format!("read the directory {}", dir.display())),
                };
                let fits = |e: &&Entry| glob.matches(&e.name().to_string_lossy());
                next.extend(entries.iter().filter(fits).map(|e| e.path.clone()));
            }
            found = next;
        }
        let is_last_visible = |path: &PathBuf| {
            // An ignored directory may still hold something re-included.
            let is_dir = self.tree.entry(path).is_ok_and(|e| e.kind == Kind::Dir);
            !self.ignored(path) || (is_dir && self.ignore.may_include_below(&path.to_string_lossy()))
        };
        found.retain(is_last_visible);
        found.sort_unstable();
        Ok(found)
    }

    /// Below each directory before the pivot, of which a wildcard may name several.
    fn with_parents(&self, source: &PathSource, exclude: &Ignore) -> Result<Vec<Selected>> {
        if !has_wildcards(&source.pivot) {
            return Ok(vec![self.below(Path::new(&source.pivot), source, exclude)?]);
        }
        let is_dir = |path: &PathBuf| {
            let entry = self.tree.resolve(path, false).and_then(|path| self.tree.entry(&path));
            entry.is_ok_and(|entry| entry.kind == Kind::Dir)
        };
        let pivots = self.matches(&source.pivot)?;
        pivots.iter().filter(|path| is_dir(path)).map(|pivot| self.below(pivot, source, exclude)).collect()
    }

    fn below(&self, pivot: &Path, source: &PathSource, exclude: &Ignore) -> Result<Selected> {
        let pivot = match self.tree.resolve(pivot, false) {
            Ok(pivot) => pivot,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(self.missing(source)),
            Err(e) => return Err(e).with_context(|| format!("{} failed: {}", self.verb, source.written)),
        };
        let all = walk(self.tree, &pivot, Filter { ignore: self.ignore, exclude })?;
        let relative = |entry: &Entry| entry.path.strip_prefix(&pivot).unwrap_or(&entry.path).to_owned();
        let entries = if source.pattern.is_empty() {
            all
        } else {
            let include = Ignore::new([&source.pattern]).map_err(|e| Error::invalid(e.to_string()))?;
            let chosen: Vec<bool> = all.iter().map(|e| include.matches(&relative(e).to_string_lossy())).collect();
            let mut keep = chosen.clone();
            // Directories above what is chosen come along.
            let mut above: std::collections::BTreeSet<PathBuf> = std::collections::BTreeSet::new();
            for (entry, _) in all.iter().zip(&chosen).filter(|(_, c)| **c) {
                above.extend(entry.path.ancestors().skip(1).map(Path::to_owned));
            }
            for (entry, keep) in all.iter().zip(keep.iter_mut()) {
                *keep |= above.contains(&entry.path);
            }
            all.into_iter().zip(keep).filter(|(_, k)| *k).map(|(e, _)| e).collect::<Vec<_>>()
        };
        let plain = !has_wildcards(&source.pivot) && !has_wildcards(&source.pattern);
        if entries.is_empty() && plain && !source.pattern.is_empty() {
            return Err(self.missing(source));
        }
        Ok(Selected { kind: SelectedKind::Parents { pivot }, entries })
    }
}
