//! Content digests of files: by bytes and metadata, never by time, remembered between builds by stat data.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    ino: u64,
    size: u64,
    mtime: i64,
    ctime: i64,
    digest: Digest,
    seen: bool,
}

/// Digests of files by path, valid while inode, size and both times stay the same.
#[derive(Debug, Default)]
pub(crate) struct StatCache {
    stamps: Mutex<HashMap<Box<[u8]>, Stamp>>,
    dirty: AtomicBool,
}

const MAGIC: &[u8; 8] = b"bqstat1\n";

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StatCache {
    /// Reads what [`StatCache::encode`] wrote; anything else gives an empty cache.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut stamps = HashMap::new();
        let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
        stamps.reserve(rest.len() / 128);
        while let Some((path, stamp, next)) = decode_one(rest) {
            stamps.insert(path.into(), stamp);
            rest = next;
        }
        StatCache { stamps: Mutex::new(stamps), dirty: AtomicBool::new(false) }
    }

    /// The bytes to keep, if something changed. With `complete`, files not looked at are forgotten.
    pub(crate) fn encode(&self, complete: bool) -> Option<Vec<u8>> {
        if !self.dirty.load(Ordering::Acquire) {
            return None;
        }
        let stamps = lock(&self.stamps);
        let mut out = Vec::with_capacity(stamps.len() * 128);
        out.extend_from_slice(MAGIC);
        for (path, stamp) in stamps.iter().filter(|(_, s)| s.seen || !complete) {
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

    /// Known digests of `entries`, in their order.
    fn lookup(&self, entries: &[&Entry]) -> Vec<Option<Digest>> {
        let mut stamps = lock(&self.stamps);
        let mut find = |entry: &&Entry| {
            let stamp = stamps.get_mut(path_bytes(&entry.path))?;
            let same =
                (stamp.ino, stamp.size, stamp.mtime, stamp.ctime) == (entry.ino, entry.size, entry.mtime, entry.ctime);
            stamp.seen = same;
            same.then_some(stamp.digest)
        };
        entries.iter().map(&mut find).collect()
    }

    fn insert(&self, entry: &Entry, digest: Digest, now: i64) {
        if now.saturating_sub(entry.ctime.max(entry.mtime)) < RACY {
            return;
        }
        let Entry { ino, size, mtime, ctime, .. } = *entry;
        let stamp = Stamp { ino, size, mtime, ctime, digest, seen: true };
        lock(&self.stamps).insert(path_bytes(&entry.path).into(), stamp);
        self.dirty.store(true, Ordering::Release);
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
    Some((path, Stamp { ino, size, mtime: mtime as i64, ctime: ctime as i64, digest, seen: false }, rest))
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
        Some(cache) => cache.lookup(&entries.iter().collect::<Vec<_>>()),
        None => vec![None; entries.len()],
    };
    let is_missing = |(i, e): &(usize, &Entry)| e.kind == Kind::File && known[*i].is_none();
    let missing: Vec<usize> = entries.iter().enumerate().filter(is_missing).map(|(i, _)| i).collect();
    let mut digests: Vec<Option<Digest>> =
        entries.iter().zip(known).map(|(entry, digest)| digest.filter(|_| entry.kind == Kind::File)).collect();
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let shared: &[Entry] = entries;
    let work = || {
        let mut done = Vec::new();
        while let Some(index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
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

/// Feeds one entry into a digest: its name as `path`, kind, mode, owner, link target, device and content.
pub(crate) fn feed(hasher: &mut Hasher, path: &Path, entry: &Entry, content: Option<Digest>, owner: bool) {
    let path = path_bytes(path);
    hasher.update(&(path.len() as u32).to_le_bytes());
    hasher.update(path);
    // A link's mode means nothing.
    let mode = if entry.kind == Kind::Symlink { 0 } else { entry.mode };
    let (uid, gid) = if owner { (entry.uid, entry.gid) } else { (0, 0) };
    for number in [entry.kind as u32, mode, uid, gid] {
        hasher.update(&number.to_le_bytes());
    }
    match entry.kind {
        Kind::File => hasher.update(content.as_ref().map_or(&[][..], |d| d.as_bytes())),
        Kind::Symlink => {
            let target = entry.link.as_deref().map_or(&[][..], std::os::unix::ffi::OsStrExt::as_bytes);
            hasher.update(&(target.len() as u32).to_le_bytes());
            hasher.update(target);
        }
        Kind::CharDevice | Kind::BlockDevice => hasher.update(&entry.rdev.to_le_bytes()),
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
        cache.insert(&entry("a/b", 3), Digest::of(b"abc"), RACY * 2);
        cache.insert(&entry("young", 3), Digest::of(b"abc"), 7);
        let again = StatCache::decode(&cache.encode(true).unwrap());
        let (same, other, young) = (entry("a/b", 3), entry("a/b", 4), entry("young", 3));
        assert_eq!(again.lookup(&[&same, &other, &young]), [Some(Digest::of(b"abc")), None, None]);
    }

    proptest! {
        #[test]
        fn any_bytes_decode(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = StatCache::decode(&bytes);
            let mut framed = MAGIC.to_vec();
            framed.extend(bytes);
            let _ = StatCache::decode(&framed);
        }
    }
}
