//! Build contexts: directories read in place, never trusted.

mod digest;
mod select;
mod split;
mod tree;
mod unpack;
mod walk;
pub(crate) mod xattr;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use barque_model::{Context as _, Digest, Error, ErrorKind, Hasher, Result};

pub use select::{Selected, SelectedKind};
pub use tree::{Entry, Kind, Tree};
pub use unpack::{Owner, UnpackOptions, unpack_tar};

pub(crate) use unpack::{is_archive, unpack};

pub(crate) use digest::{changed, path_bytes};
pub(crate) use split::Part;
pub(crate) use tree::open_in;
pub(crate) use walk::threads;

use crate::cache::Cache;
use crate::graph::PathSource;
use crate::ignore::Ignore;
use crate::worker::Root;
use digest::StatCache;

/// A context directory. Paths are resolved inside it, whatever links it contains; the ignore file has been
/// read.
#[derive(Debug)]
pub struct ContextDir {
    tree: Tree,
    ignore: Ignore,
    stats: OnceLock<StatCache>,
    /// The whole tree was walked: stat data of files not seen is stale.
    complete: AtomicBool,
}

/// Bytes hashed at a time.
const PIECE: usize = 32 << 10;

/// Selected files with their content's digests.
#[derive(Debug, Clone)]
pub struct Digested {
    pub selected: Vec<Selected>,
    /// Of the bytes of each entry, in the order of `selected`'s.
    contents: Vec<Vec<Option<Digest>>>,
    /// Owners count: the files are an image's.
    owners: bool,
    /// Over names at the destination, kinds, modes, owners, targets and bytes.
    pub digest: Digest,
}

impl ContextDir {
    /// Opens `path`. `dockerfile` is the Dockerfile's path inside it (or its bare name when it lies outside):
    /// `DOCKERFILE.dockerignore` is preferred to `.dockerignore`.
    ///
    /// Errors: `NotFound`, `InvalidArgument` for a bad pattern.
    pub fn open(path: PathBuf, dockerfile: &str) -> Result<Arc<Self>> {
        Self::open_root(Root::new(path), dockerfile)
    }

    /// As [`ContextDir::open`]; the root's guard lives as long as the context.
    pub fn open_root(root: Root, dockerfile: &str) -> Result<Arc<Self>> {
        let tree = Tree::open(root)?;
        let own = format!("{dockerfile}.dockerignore");
        for name in [own.as_str(), ".dockerignore"] {
            let Some(bytes) = read_file(&tree, Path::new(name), crate::ignore::MAX_FILE)? else { continue };
            let ignore =
                Ignore::parse(&bytes).map_err(|e| Error::invalid(format!("error reading {name}")).with_source(e))?;
            return Ok(Self::new(tree, ignore));
        }
        Ok(Self::new(tree, Ignore::default()))
    }

    /// Opens a directory with patterns from elsewhere (a Dockerfile outside of its context).
    pub fn with_ignore(root: Root, ignore: Ignore) -> Result<Arc<Self>> {
        Ok(Self::new(Tree::open(root)?, ignore))
    }

    fn new(tree: Tree, ignore: Ignore) -> Arc<Self> {
        Arc::new(ContextDir { tree, ignore, stats: OnceLock::new(), complete: AtomicBool::new(false) })
    }

    pub fn path(&self) -> &Path {
        self.tree.path()
    }

    pub fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// A file's bytes, such as the Dockerfile's; ignore patterns do not apply. `None` if it does not exist.
    ///
    /// Errors: `InvalidArgument` if it is larger than `limit` bytes or no regular file.
    pub fn read(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
        read_file(&self.tree, path, limit)
    }

    fn stats(&self, cache: &dyn Cache) -> &StatCache {
        self.stats.get_or_init(|| {
            let bytes = cache.blob(&self.stats_name()).ok().flatten().unwrap_or_default();
            StatCache::decode(bytes)
        })
    }

    fn stats_name(&self) -> String {
        format!("stat/{}", Digest::of(path_bytes(self.path())).hex())
    }

    /// Keeps what was learned about files for the next build.
    pub(crate) fn save_stats(&self, cache: &dyn Cache) -> Result<()> {
        let encoded = self.stats.get().and_then(|s| s.encode(self.complete.load(Ordering::Acquire)));
        match encoded {
            Some(bytes) => cache.put_blob(&self.stats_name(), &bytes),
            None => Ok(()),
        }
    }

    /// The files `source` names, with their digest. Blocking.
    pub(crate) fn digest(
        &self,
        cache: &dyn Cache,
        source: &PathSource,
        parents: bool,
        exclude: &Ignore,
        verb: &str,
    ) -> Result<Digested> {
        let from = select::From { tree: &self.tree, ignore: &self.ignore, verb };
        self.selected(cache, exclude, from.select(source, parents, exclude)?)
    }

    /// What the ignore file excludes, as the highest paths, sorted: all below them is excluded too. Blocking.
    pub fn excluded(&self) -> Result<Vec<PathBuf>> {
        if self.ignore.is_empty() { Ok(Vec::new()) } else { walk::excluded(&self.tree, &self.ignore) }
    }

    fn selected(&self, cache: &dyn Cache, exclude: &Ignore, selected: Vec<Selected>) -> Result<Digested> {
        let whole = |s: &Selected| matches!(&s.kind, SelectedKind::Contents { root } if root.as_os_str().is_empty());
        if exclude.is_empty() && selected.iter().any(whole) {
            self.complete.store(true, Ordering::Release);
        }
        digested(&self.tree, Some(self.stats(cache)), selected, false)
    }
}

/// As [`ContextDir::digest`] for any tree, keeping owners.
pub(crate) fn digest_tree(
    tree: &Tree,
    source: &PathSource,
    parents: bool,
    exclude: &Ignore,
    verb: &str,
) -> Result<Digested> {
    let ignore = Ignore::default();
    let selected = select::From { tree, ignore: &ignore, verb }.select(source, parents, exclude)?;
    digested(tree, None, selected, true)
}

/// Everything in a tree but what `exclude` matches.
pub(crate) fn list(tree: &Tree, exclude: &Ignore) -> Result<Vec<Entry>> {
    walk::walk(tree, Path::new(""), walk::Filter { ignore: &Ignore::default(), exclude })
}

fn digested(tree: &Tree, stats: Option<&StatCache>, mut selected: Vec<Selected>, owners: bool) -> Result<Digested> {
    let mut contents = Vec::with_capacity(selected.len());
    for part in &mut selected {
        contents.push(digest::contents(tree, stats, &mut part.entries)?);
    }
    Ok(Digested::new(selected, contents, owners))
}

impl Digested {
    fn new(selected: Vec<Selected>, contents: Vec<Vec<Option<Digest>>>, owners: bool) -> Self {
        let parts = selected.iter().zip(&contents);
        let digest = digest_of(parts.map(|(s, c)| (s, s.entries.iter().zip(c.iter().copied()))), owners);
        Digested { selected, contents, owners, digest }
    }

    /// One line for each file: what `--why` compares.
    pub fn manifest(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (part, contents) in self.selected.iter().zip(&self.contents) {
            for (entry, content) in part.entries.iter().zip(contents) {
                manifest_line(&mut out, entry, *content);
            }
        }
        out
    }
}

/// See [`Digested::digest`].
fn digest_of<'a, F>(parts: impl IntoIterator<Item = (&'a Selected, F)>, owners: bool) -> Digest
where
    F: Iterator<Item = (&'a Entry, Option<Digest>)>,
{
    let mut hasher = Hasher::new();
    // Hashed in pieces: a few bytes at a time take longer to hand over than to hash.
    let mut piece = Vec::with_capacity(2 * PIECE);
    for (part, files) in parts {
        // A file and the contents of a directory get their names in different ways.
        piece.push(match part.kind {
            SelectedKind::File { .. } => b'f',
            SelectedKind::Contents { .. } => b'c',
            SelectedKind::Parents { .. } => b'p',
        });
        for (entry, content) in files {
            digest::feed(&mut piece, part.relative(entry), entry, content, owners);
            if piece.len() >= PIECE {
                hasher.update(&piece);
                piece.clear();
            }
        }
    }
    hasher.update(&piece);
    hasher.finish()
}

/// `kind mode digest-prefix path NUL`; short, since there is one for each file.
fn manifest_line(out: &mut Vec<u8>, entry: &Entry, content: Option<Digest>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'0' + entry.kind as u8);
    let digits = (entry.mode.checked_ilog2().unwrap_or(0) / 3) as usize;
    out.extend((0..=digits).rev().map(|digit| b'0' + (entry.mode >> (3 * digit) & 7) as u8));
    out.push(b' ');
    let mark = match (&entry.link, content) {
        (Some(target), _) => Digest::of(path_bytes(Path::new(target))),
        (None, Some(digest)) => digest,
        (None, None) => Digest::from_bytes([0; 32]),
    };
    for byte in &mark.as_bytes()[..6] {
        out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    out.push(b' ');
    out.extend_from_slice(path_bytes(&entry.path));
    out.push(0);
}

pub(crate) fn read_file(tree: &Tree, path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    let say = || format!("read {}", tree.path().join(path).display());
    let entry = match tree.resolve(path, false).and_then(|p| tree.entry(&p)) {
        Ok(entry) => entry,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(e).with_context(say),
    };
    if entry.kind != Kind::File {
        return Err(Error::new(ErrorKind::InvalidArgument, format!("{} is not a regular file", path.display())));
    }
    let fd = tree.open_file(&entry.path).with_context(say)?;
    let mut bytes = Vec::new();
    File::from(fd).take(limit as u64 + 1).read_to_end(&mut bytes).with_context(say)?;
    if bytes.len() > limit {
        return Err(Error::invalid(format!("{} is larger than {limit} bytes", path.display())));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
