//! `RUN --mount`: what the builder wishes as mounts of the runtime.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use barque_build::worker::{CacheSharing, MountSource, RunMount, RunMountKind};
use barque_model::{Context, Digest, Error, Result};
use barque_runtime::spec as rs;
use barque_store::{CopyOptions, RootDir};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::Engine;
use barque_model::path::rooted;

/// Directories of one cache that several steps want for themselves at the same time.
const PRIVATE_MAX: usize = 64;

/// Mounts of one step, and what must stay as long as it runs.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) mounts: Vec<rs::Mount>,
    _locks: Vec<Guard>,
    agents: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        self.agents.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Makes the sources of all mounts; what is only for this step lies in `dir` (in memory) and `scratch` (on the
/// file system of the snapshots).
pub(super) async fn prepare(engine: &Engine, mounts: &[RunMount], dir: &Path, scratch: &Path) -> Result<Prepared> {
    let mut out = Prepared::default();
    let caches: Vec<_> = mounts.iter().map(|mount| wanted_cache(engine, &mount.kind)).collect();
    let (dirs, locks) = lock_caches(&caches).await?;
    out._locks = locks;
    for ((index, mount), cache) in mounts.iter().enumerate().zip(dirs) {
        let made = match &mount.kind {
            RunMountKind::Cache { source, path, mode, uid, gid, .. } => {
                let cache = cache.ok_or_else(|| Error::internal("a cache without a directory"))?;
                let (engine, source, path) = (engine.clone(), source.clone(), path.clone());
                let (filled, owner, scratch) = (cache.clone(), (*mode, *uid, *gid), scratch.to_owned());
                engine
                    .clone()
                    .blocking(move || fill_cache(&engine, &filled, (&source, &path), owner, &scratch))
                    .await?;
                bind(&rooted(&mount.target), cache, None, mount.read_only)
            }
            RunMountKind::Ssh { agent, mode, uid, gid, .. } => {
                let socket = dir.join(format!("agent-{index}"));
                out.agents.push(forward(&agent.socket, &socket, (*mode, *uid, *gid))?);
                bind(&rooted(&mount.target), socket, None, false)
            }
            _ => {
                let (engine, mount) = (engine.clone(), mount.clone());
                let (dir, scratch) = (dir.to_owned(), scratch.to_owned());
                engine.clone().blocking(move || lower(&engine, &mount, &dir, &scratch, index)).await?
            }
        };
        out.mounts.push(made);
    }
    Ok(out)
}

pub(super) fn bind(target: &str, path: PathBuf, subpath: Option<PathBuf>, read_only: bool) -> rs::Mount {
    let readonly = if read_only { rs::ReadOnly::Yes } else { rs::ReadOnly::No };
    rs::Mount {
        target: target.to_owned(),
        source: rs::MountSource::Bind { path, subpath, recursive: true, owners: None },
        options: rs::MountOptions { readonly, ..rs::MountOptions::default() },
    }
}

fn lower(engine: &Engine, mount: &RunMount, dir: &Path, scratch: &Path, index: usize) -> Result<rs::Mount> {
    let target = rooted(&mount.target);
    let file = dir.join(format!("mount-{index}"));
    match &mount.kind {
        RunMountKind::Tmpfs { size } => Ok(rs::Mount {
            target,
            source: rs::MountSource::Tmpfs {
                size: Some(*size).filter(|s| *s > 0),
                mode: Some(0o1777),
                options: Vec::new(),
            },
            options: rs::MountOptions { nosuid: true, nodev: true, ..rs::MountOptions::default() },
        }),
        RunMountKind::Secret { value, mode, uid, gid, .. } => {
            write_file(&file, &value.0, *mode, *uid, *gid)?;
            Ok(bind(&target, file, None, true))
        }
        RunMountKind::File { content, mode } => {
            write_file(&file, content, *mode, 0, 0)?;
            Ok(bind(&target, file, None, true))
        }
        RunMountKind::Bind { source, path } => {
            let found = find(engine, source, path, scratch)?;
            match mount.read_only {
                true => found.read_only(&target, &file),
                false => found.writable(&target, &scratch.join(barque_model::Id::random().to_string())),
            }
        }
        RunMountKind::Cache { .. } | RunMountKind::Ssh { .. } => Err(Error::internal("a mount of another kind")),
    }
}

/// What a bind mount names.
enum Found {
    Nothing,
    File(PathBuf),
    /// A directory made of these, the top-most first.
    Directory(Vec<PathBuf>),
}

impl Found {
    fn read_only(self, target: &str, empty: &Path) -> Result<rs::Mount> {
        match self {
            Found::Nothing => {
                std::fs::create_dir_all(empty).context("cannot make an empty directory")?;
                Ok(bind(target, empty.to_owned(), None, true))
            }
            Found::File(path) => Ok(bind(target, path, None, true)),
            Found::Directory(mut layers) if layers.len() == 1 => Ok(bind(target, layers.remove(0), None, true)),
            Found::Directory(layers) => Ok(rs::Mount {
                target: target.to_owned(),
                source: rs::MountSource::Image { layers, subpath: None },
                options: rs::MountOptions { readonly: rs::ReadOnly::Yes, ..rs::MountOptions::default() },
            }),
        }
    }

    /// `dir` holds what is written, until the build ends.
    fn writable(self, target: &str, dir: &Path) -> Result<rs::Mount> {
        let (upper, work) = (dir.join("upper"), dir.join("work"));
        for made in [&upper, &work] {
            std::fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        Ok(match self {
            Found::Nothing => bind(target, upper, None, false),
            Found::File(path) => {
                let copy = dir.join("file");
                std::fs::copy(&path, &copy).context("cannot copy the file of a writable mount")?;
                bind(target, copy, None, false)
            }
            Found::Directory(lower) => {
                if let Some(meta) = lower.first().and_then(|dir| std::fs::metadata(dir).ok()) {
                    // The root of the mount is that of the upper directory.
                    use std::os::unix::fs::MetadataExt;
                    own(&upper, meta.mode() & 0o7777, meta.uid(), meta.gid())?;
                }
                rs::Mount {
                    target: target.to_owned(),
                    source: rs::MountSource::Overlay { lower, upper, work },
                    options: rs::MountOptions::default(),
                }
            }
        })
    }
}

/// Finds `path` in what `source` stands for; links are followed inside of it only. `scratch` takes what has to be made.
fn find(engine: &Engine, source: &MountSource, path: &str, scratch: &Path) -> Result<Found> {
    let path = rooted(path);
    let missing = || {
        Error::invalid(format!("failed to calculate checksum of ref: \"{path}\": not found"))
            .with_hint("source= names a path in the context, or in the image or stage of from=")
    };
    let layers = match source {
        MountSource::Empty if path == "/" => return Ok(Found::Nothing),
        MountSource::Empty => return Err(missing()),
        MountSource::Context(context) => super::mask::layers(context, scratch)?,
        MountSource::Snapshot(snapshot) => engine.store().lower_dirs(&snapshot.0.parse()?)?,
    };
    if path == "/" {
        return Ok(Found::Directory(layers));
    }
    let real = crate::rootfs::read_only(&layers)?.root.canonicalize(&path).map_err(|_| missing())?;
    below(&layers, real.strip_prefix("/").unwrap_or(&real)).ok_or_else(missing)
}

/// The directories of `layers` that make up `path`, which holds no links: a layer that deletes or replaces a
/// part of the path hides those under it.
fn below(layers: &[PathBuf], path: &Path) -> Option<Found> {
    let mut dirs = Vec::new();
    'layers: for layer in layers {
        let Ok(root) = RootDir::open(layer) else { continue };
        let mut at = PathBuf::new();
        let mut last = false;
        for part in path {
            at.push(part);
            let Ok(stat) = root.lstat(&at) else {
                match last {
                    true => break 'layers,
                    false => continue 'layers,
                }
            };
            if stat.is_whiteout() {
                break 'layers;
            }
            if !stat.is_dir() {
                let file = (dirs.is_empty() && at == path).then(|| layer.join(&at));
                return match dirs.is_empty() {
                    true => file.map(Found::File),
                    false => Some(Found::Directory(dirs)),
                };
            }
            let opaque = |name: &std::ffi::OsStr, value: &[u8]| name == "trusted.overlay.opaque" && value == b"y";
            last |= root.xattrs(&at).is_ok_and(|all| all.iter().any(|(name, value)| opaque(name, value)));
        }
        dirs.push(layer.join(path));
        if last {
            break;
        }
    }
    (!dirs.is_empty()).then_some(Found::Directory(dirs))
}

type Locks = BTreeMap<PathBuf, Weak<RwLock<()>>>;

/// A cache in use: with others, or by one step alone.
enum Guard {
    Shared(#[allow(dead_code, reason = "held")] OwnedRwLockReadGuard<()>),
    Alone(#[allow(dead_code, reason = "held")] OwnedRwLockWriteGuard<()>),
}

/// One lock for each cache directory in use.
fn lock_of(path: &Path) -> Arc<RwLock<()>> {
    static LOCKS: Mutex<Locks> = Mutex::new(BTreeMap::new());
    let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    locks.retain(|_, lock| lock.strong_count() > 0);
    if let Some(lock) = locks.get(path).and_then(Weak::upgrade) {
        return lock;
    }
    let lock = Arc::new(RwLock::new(()));
    locks.insert(path.to_owned(), Arc::downgrade(&lock));
    lock
}

/// Whether a step uses this cache.
pub(super) fn is_busy(path: &Path) -> bool {
    claim(path).is_none()
}

/// Keeps steps away from a cache that none uses; `None` if one does.
pub(super) fn claim(path: &Path) -> Option<OwnedRwLockWriteGuard<()>> {
    lock_of(path).try_write_owned().ok()
}

/// Whether `path` is a cache that is being filled, or never was to its end.
pub(super) fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// The directory a mount wants, and how; `None` for mounts that are no caches.
fn wanted_cache(engine: &Engine, kind: &RunMountKind) -> Option<(PathBuf, CacheSharing)> {
    let RunMountKind::Cache { id, sharing, .. } = kind else { return None };
    Some((engine.cache_mounts_dir().join(Digest::of(id.as_bytes()).hex()), *sharing))
}

/// The directories of a step's caches, in the order of `wanted`, and what keeps others out of them.
///
/// All steps wait for their caches in one order, each once, so that no two wait for each other. Those that are
/// private are never waited for, and come last: whoever holds one waits for nothing.
async fn lock_caches(wanted: &[Option<(PathBuf, CacheSharing)>]) -> Result<(Vec<Option<PathBuf>>, Vec<Guard>)> {
    let mut waited: BTreeMap<&Path, bool> = BTreeMap::new();
    for (path, sharing) in wanted.iter().flatten().filter(|(_, s)| *s != CacheSharing::Private) {
        *waited.entry(path).or_default() |= *sharing == CacheSharing::Locked;
    }
    let mut guards = Vec::new();
    for (path, alone) in waited {
        guards.push(match alone {
            true => Guard::Alone(lock_of(path).write_owned().await),
            false => Guard::Shared(lock_of(path).read_owned().await),
        });
    }
    let mut dirs = Vec::with_capacity(wanted.len());
    for wish in wanted {
        dirs.push(match wish {
            Some((base, CacheSharing::Private)) => {
                let (dir, guard) = private_cache(base)?;
                guards.push(Guard::Alone(guard));
                Some(dir)
            }
            Some((path, _)) => Some(path.clone()),
            None => None,
        });
    }
    Ok((dirs, guards))
}

/// The first directory of this cache that nobody uses.
fn private_cache(base: &Path) -> Result<(PathBuf, OwnedRwLockWriteGuard<()>)> {
    for number in 0..PRIVATE_MAX {
        let dir = match number {
            0 => base.to_owned(),
            n => base.with_extension(n.to_string()),
        };
        if let Some(guard) = claim(&dir) {
            return Ok((dir, guard));
        }
    }
    Err(Error::conflict(format!("more than {PRIVATE_MAX} steps use the same private cache at once")))
}

/// A new cache gets the files of `from=` and `source=`, and the owner the instruction names.
fn fill_cache(
    engine: &Engine,
    cache: &Path,
    source: (&MountSource, &str),
    (mode, uid, gid): (u32, u32, u32),
    scratch: &Path,
) -> Result<()> {
    if cache.exists() {
        return Ok(());
    }
    let parent = cache.parent().unwrap_or(cache);
    let fresh = parent.join(format!(".{}", barque_model::Id::random()));
    let filled = fill(engine, &fresh, source, scratch).and_then(|()| own(&fresh, mode, uid, gid));
    let placed = filled.and_then(|()| match std::fs::rename(&fresh, cache) {
        // Another step was first.
        Err(_) if cache.exists() => Ok(()),
        other => other.with_context(|| format!("cannot make {}", cache.display())),
    });
    match std::fs::remove_dir_all(&fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!("cannot remove a spare cache: {e}");
        }
        _ => {}
    }
    placed
}

fn fill(engine: &Engine, fresh: &Path, (source, path): (&MountSource, &str), scratch: &Path) -> Result<()> {
    std::fs::create_dir_all(fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
    if let Found::Directory(layers) = find(engine, source, path, scratch)? {
        let from = crate::rootfs::read_only(&layers)?.root;
        let to = RootDir::open(fresh).context("cannot open a new cache")?;
        for entry in from.dir().entries().context("cannot read the files of a new cache")? {
            let name = Path::new("/").join(&entry.name);
            barque_store::tree::copy_tree(&from, &name, &to, &name, &CopyOptions::default())?;
        }
    }
    Ok(())
}

/// A socket of the step's own in front of the user's agent, with the owner that the instruction names.
fn forward(agent: &Path, socket: &Path, (mode, uid, gid): (u32, u32, u32)) -> Result<tokio::task::JoinHandle<()>> {
    let listener = UnixListener::bind(socket).context("cannot listen for the ssh agent's clients")?;
    own(socket, mode, uid, gid)?;
    let agent = agent.to_owned();
    Ok(tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let agent = agent.clone();
            connections.spawn(async move {
                if let Ok(mut server) = UnixStream::connect(&agent).await {
                    let _either_side_left = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
            while connections.try_join_next().is_some() {}
        }
    }))
}

fn write_file(path: &Path, bytes: &[u8], mode: u32, uid: u32, gid: u32) -> Result<()> {
    // Readable by nobody else until it has its owner.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    own(path, mode, uid, gid)
}

fn own(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<()> {
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).context("cannot set the owner of a mount")?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).context("cannot set the mode of a mount")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (path, id) = (dir.path().join("s"), rustix::process::getuid().as_raw());
        write_file(&path, b"word", 0o440, id, rustix::process::getgid().as_raw()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o440);
        assert!(write_file(&path, b"again", 0o440, id, 0).is_err(), "what is there is not written to");
        assert_eq!(std::fs::read(&path).unwrap(), b"word");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn steps_do_not_wait_for_each_other_in_a_circle() {
        let dir = tempfile::tempdir().unwrap();
        let wish = |name: &str, sharing| Some((dir.path().join(name), sharing));
        use CacheSharing::{Locked, Private, Shared};
        // The same twice, and two in both orders.
        let (one, two) =
            ([wish("b", Locked), None, wish("a", Locked), wish("a", Shared)], [wish("a", Locked), wish("b", Locked)]);
        let run = async |wishes: &[Option<(PathBuf, CacheSharing)>]| {
            for _ in 0..50 {
                let _held = lock_caches(wishes).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let both = async { tokio::join!(run(&one), run(&two)) };
        tokio::time::timeout(std::time::Duration::from_secs(20), both).await.unwrap();
        let private = [wish("a", Private), wish("a", Private)];
        let (dirs, held) = lock_caches(&private).await.unwrap();
        assert_ne!(dirs[0], dirs[1]);
        drop(held);
        let shared = [wish("a", Shared)];
        let (_, first) = lock_caches(&shared).await.unwrap();
        let (_, second) = lock_caches(&shared).await.unwrap();
        assert!(is_busy(&dir.path().join("a")), "pruning leaves it alone");
        drop((first, second));
        assert!(!is_busy(&dir.path().join("a")));
    }

    #[test]
    fn a_path_of_several_layers() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str, paths: &[&str]| {
            let root = dir.path().join(name);
            std::fs::create_dir_all(&root).unwrap();
            for path in paths {
                match path.strip_suffix('/') {
                    Some(sub) => std::fs::create_dir_all(root.join(sub)).unwrap(),
                    None => std::fs::write(root.join(path), name).unwrap(),
                }
            }
            root
        };
        let top = layer("top", &["a/b/", "a/b/file"]);
        let middle = layer("middle", &["other/", "a/", "a/c"]);
        let bottom = layer("bottom", &["a/b/", "a/b/old"]);
        let layers = [top.clone(), middle.clone(), bottom.clone()];
        let dirs = |path: &str| match below(&layers, Path::new(path)) {
            Some(Found::Directory(dirs)) => dirs,
            Some(Found::File(file)) => vec![file],
            _ => Vec::new(),
        };
        assert_eq!(dirs("a/b"), [top.join("a/b"), bottom.join("a/b")]);
        assert_eq!(dirs("a/b/file"), [top.join("a/b/file")]);
        assert_eq!(dirs("a/c"), [middle.join("a/c")]);
        assert!(dirs("a/missing").is_empty());
    }
}
