//! Content digests of files: by bytes and metadata, never by time, remembered between builds by stat data.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use barque_model::{Context as _, Digest, Error, Hasher, Result};

use super::tree::{Entry, Kind, Tree};
use super::walk::threads;

/// A file changed less than this before it was hashed might change again without a new time stamp.
const RACY: i64 = 100_000_000;

/// Tries for a file that changes while it is read.
const TRIES: usize = 3;

/// What a file was when its digest was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    ino: u64,
    size: u64,
    mtime: i64,
    ctime: i64,
    digest: Digest,
}

impl Stamp {
    fn is_of(&self, entry: &Entry) -> bool {
        (self.ino, self.size, self.mtime, self.ctime) == (entry.ino, entry.size, entry.mtime, entry.ctime)
    }
}

/// Digests of files by path, valid while inode, size and both times stay the same.
#[derive(Debug, Default)]
pub(crate) struct StatCache {
    /// As it was read: taking it apart into a map would cost more than all looking up.
    bytes: Vec<u8>,
    /// Where each record of it starts, in the order of paths.
    records: Vec<usize>,
    found: Mutex<Found>,
    dirty: AtomicBool,
}

#[derive(Debug, Default)]
struct Found {
    /// Which records are still true.
    seen: Vec<bool>,
    fresh: HashMap<Box<[u8]>, Stamp>,
}

const MAGIC: &[u8; 8] = b"bqstat2\n";

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StatCache {
    /// Reads what [`StatCache::encode`] wrote; anything else gives an empty cache.
    pub(crate) fn decode(bytes: Vec<u8>) -> Self {
        let mut records = Vec::with_capacity(bytes.len() / 128);
        let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
        let mut last: Option<&[u8]> = None;
        while let Some((path, _, next)) = decode_one(rest) {
            if last.is_some_and(|last| path_order(last, path) != Ordering::Less) {
                return Self::default();
            }
            records.push(bytes.len() - rest.len());
            (last, rest) = (Some(path), next);
        }
        let found = Mutex::new(Found { seen: vec![false; records.len()], fresh: HashMap::new() });
        StatCache { bytes, records, found, dirty: AtomicBool::new(false) }
    }

    fn record(&self, start: usize) -> Option<(&[u8], Stamp)> {
        decode_one(self.bytes.get(start..)?).map(|(path, stamp, _)| (path, stamp))
    }

    /// The bytes to keep, if something changed. With `complete`, files not looked at are forgotten.
    pub(crate) fn encode(&self, complete: bool) -> Option<Vec<u8>> {
        if !self.dirty.load(Acquire) {
            return None;
        }
        let found = lock(&self.found);
        let mut stamps: Vec<(&[u8], Stamp)> = found.fresh.iter().map(|(path, stamp)| (&**path, *stamp)).collect();
        stamps.reserve(self.records.len());
        let kept = self.records.iter().zip(&found.seen).filter(|(_, seen)| **seen || !complete);
        let kept = kept.filter_map(|(start, _)| self.record(*start));
        stamps.extend(kept.filter(|(path, _)| !found.fresh.contains_key(*path)));
        // Almost in order already.
        stamps.sort_by(|(a, _), (b, _)| path_order(a, b));
        let mut out = Vec::with_capacity(stamps.len() * 128);
        out.extend_from_slice(MAGIC);
        for (path, stamp) in stamps {
            let Ok(length) = u16::try_from(path.len()) else { continue };
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(path);
            for number in [stamp.ino, stamp.size, stamp.mtime as u64, stamp.ctime as u64] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(stamp.digest.as_bytes());
        }
        Some(out)
    }

    /// Known digests of `entries`, in their order: that of paths, or some are not found.
    fn lookup(&self, entries: &[Entry]) -> Vec<Option<Digest>> {
        let mut found = lock(&self.found);
        let mut at = 0;
        let mut find = |entry: &Entry| {
            let path = path_bytes(&entry.path);
            if let Some(stamp) = found.fresh.get(path) {
                return Some(*stamp).filter(|s| s.is_of(entry));
            }
            let order = |start: &usize| self.record(*start).map(|(known, _)| path_order(known, path));
            if self.records.get(at).and_then(order) == Some(Ordering::Less) {
                at += self.records[at..].partition_point(|start| order(start) == Some(Ordering::Less));
            }
            let (known, stamp) = self.record(*self.records.get(at)?)?;
            let same = known == path && stamp.is_of(entry);
            if same && let Some(seen) = found.seen.get_mut(at) {
                *seen = true;
            }
            same.then_some(stamp)
        };
        let mut digest = |entry: &Entry| find(entry).filter(|_| entry.kind == Kind::File).map(|stamp| stamp.digest);
        entries.iter().map(&mut digest).collect()
    }

    fn insert(&self, entry: &Entry, digest: Digest, now: i64) {
        if now.saturating_sub(entry.ctime.max(entry.mtime)) < RACY {
            return;
        }
        let Entry { ino, size, mtime, ctime, .. } = *entry;
        let stamp = Stamp { ino, size, mtime, ctime, digest };
        lock(&self.found).fresh.insert(path_bytes(&entry.path).into(), stamp);
        self.dirty.store(true, Release);
    }
}

fn decode_one(bytes: &[u8]) -> Option<(&[u8], Stamp, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (path, mut rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let mut numbers = [0u64; 4];
    for number in &mut numbers {
        let (raw, next) = rest.split_first_chunk::<8>()?;
        (*number, rest) = (u64::from_le_bytes(*raw), next);
    }
    let (digest, rest) = rest.split_first_chunk::<32>()?;
    let [ino, size, mtime, ctime] = numbers;
    let digest = Digest::from_bytes(*digest);
    Some((path, Stamp { ino, size, mtime: mtime as i64, ctime: ctime as i64, digest }, rest))
}

/// As `Path` compares, without taking paths apart: a `/` comes before everything else.
fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    match a.iter().zip(b).position(|(x, y)| x != y) {
        Some(at) => {
            let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
            rank(a[at]).cmp(&rank(b[at]))
        }
        None => a.len().cmp(&b.len()),
    }
}

pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes()
}

/// Digests of the bytes of all regular files among `entries`, in order; `None` for everything else.
///
/// A file that changed since it was listed gets its new stat data in `entries`. Errors: a file that keeps
/// changing, that vanished or cannot be read.
pub(crate) fn contents(tree: &Tree, cache: Option<&StatCache>, entries: &mut [Entry]) -> Result<Vec<Option<Digest>>> {
    // Before anything is read: a change during the reading must count as one after it.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64);
    let known = match cache {
        Some(cache) => cache.lookup(entries),
        None => vec![None; entries.len()],
    };
    let is_missing = |(i, e): &(usize, &Entry)| e.kind == Kind::File && known[*i].is_none();
    let missing: Vec<usize> = entries.iter().enumerate().filter(is_missing).map(|(i, _)| i).collect();
    let mut digests = known;
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let shared: &[Entry] = entries;
    let work = || {
        let mut done = Vec::new();
        while let Some(index) = missing.get(next.fetch_add(1, Relaxed)) {
            if lock(&failed).is_some() {
                break;
            }
            match stable(tree, &shared[*index]) {
                Ok(result) => done.push((*index, result)),
                Err(e) => {
                    lock(&failed).get_or_insert(e);
                }
            }
        }
        done
    };
    let helpers = if missing.len() > 64 { threads() } else { 1 };
    let results = std::thread::scope(|scope| {
        let handles: Vec<_> = (1..helpers).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        all.extend(handles.into_iter().filter_map(|h| h.join().ok()).flatten());
        all
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    for (index, (entry, digest)) in results {
        if let Some(cache) = cache {
            cache.insert(&entry, digest, now);
        }
        digests[index] = Some(digest);
        entries[index] = entry;
    }
    Ok(digests)
}

/// Hashes a file; tries again if it changed meanwhile.
fn stable(tree: &Tree, listed: &Entry) -> Result<(Entry, Digest)> {
    let say = || format!("read {}", tree.path().join(&listed.path).display());
    for _ in 0..TRIES {
        let file = File::from(tree.open_file(&listed.path).with_context(say)?);
        let stat =
            || -> io::Result<Option<Entry>> { Ok(Entry::from_stat(listed.path.clone(), &rustix::fs::fstat(&file)?)) };
        let before = stat().with_context(say)?;
        let Some(before) = before.filter(|e| e.kind == Kind::File) else {
            return Err(changed(tree, listed));
        };
        let digest = of_file(&file).with_context(say)?;
        match stat().with_context(say)? {
            Some(after) if after.unchanged(&before) => return Ok((after, digest)),
            _ => {}
        }
    }
    Err(changed(tree, listed))
}

pub(crate) fn changed(tree: &Tree, entry: &Entry) -> Error {
    Error::conflict(format!("{} changed while it was being read", tree.path().join(&entry.path).display()))
        .with_hint("build again when nothing writes to it, or exclude it in .dockerignore")
}

/// The digest of a file's bytes and of the extended attributes that are copied with it.
fn of_file(mut file: &File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    for (name, value) in super::xattr::of_fd(file)? {
        hasher.update(b"\0xattr\0");
        for part in [name.as_bytes(), &value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher.finish())
}

/// Appends one entry as it counts in a digest: its name as `path`, kind, mode, owner, link target, device and
/// content.
pub(crate) fn feed(out: &mut Vec<u8>, path: &Path, entry: &Entry, content: Option<Digest>, owner: bool) {
    let path = path_bytes(path);
    out.extend_from_slice(&(path.len() as u32).to_le_bytes());
    out.extend_from_slice(path);
    // A link's mode means nothing.
    let mode = if entry.kind == Kind::Symlink { 0 } else { entry.mode };
    let (uid, gid) = if owner { (entry.uid, entry.gid) } else { (0, 0) };
    for number in [entry.kind as u32, mode, uid, gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    match entry.kind {
        Kind::File => out.extend_from_slice(content.as_ref().map_or(&[][..], |d| d.as_bytes())),
        Kind::Symlink => {
            let target = entry.link.as_deref().map_or(&[][..], std::os::unix::ffi::OsStrExt::as_bytes);
            out.extend_from_slice(&(target.len() as u32).to_le_bytes());
            out.extend_from_slice(target);
        }
        Kind::CharDevice | Kind::BlockDevice => out.extend_from_slice(&entry.rdev.to_le_bytes()),
        Kind::Dir | Kind::Fifo | Kind::Socket => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str, size: u64) -> Entry {
        Entry {
            path: path.into(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: 5,
            ctime: 6,
            ino: 7,
            dev: 8,
            nlink: 1,
            rdev: 0,
            link: None,
        }
    }

    #[test]
    fn stamps_survive_and_mind_changes() {
        let cache = StatCache::default();
        assert_eq!(cache.encode(true), None);
        for path in ["a/b", "a.c", "a/b/c"] {
            cache.insert(&entry(path, 3), Digest::of(path.as_bytes()), RACY * 2);
        }
        cache.insert(&entry("young", 3), Digest::of(b"abc"), 7);
        let again = StatCache::decode(cache.encode(true).unwrap());
        let wanted = [entry("a/a", 3), entry("a/b", 4), entry("a/b/c", 3), entry("a.c", 3), entry("young", 3)];
        let known = [None, None, Some(Digest::of(b"a/b/c")), Some(Digest::of(b"a.c")), None];
        assert_eq!(again.lookup(&wanted), known);
        assert_eq!(again.lookup(&wanted[3..]), known[3..]);
        assert_eq!(again.encode(true), None);

        // Of what was not seen again, nothing is kept once everything was looked at.
        again.insert(&entry("a/a", 3), Digest::of(b"a/a"), RACY * 2);
        assert_eq!(again.lookup(&wanted)[0], Some(Digest::of(b"a/a")));
        for (complete, count) in [(true, 3), (false, 4)] {
            assert_eq!(StatCache::decode(again.encode(complete).unwrap()).records.len(), count);
        }
    }

    #[test]
    fn paths_are_in_order_as_paths() {
        let mut paths = ["a", "a/b", "a/b/c", "a b", "a.c", "a0", "b"].map(Path::new);
        paths.sort();
        assert!(paths.is_sorted_by(|a, b| path_order(path_bytes(a), path_bytes(b)) == Ordering::Less), "{paths:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = StatCache::decode(bytes.clone());
            let mut framed = MAGIC.to_vec();
            framed.extend(bytes);
            let _ = StatCache::decode(framed);
        }
    }
}
