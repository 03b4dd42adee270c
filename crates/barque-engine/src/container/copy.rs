//! Copying in and out (`cp`): what a path means, and the archives at it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_model::{Context, Error, ErrorKind, Result, Timestamp};
use barque_store::{RootDir, TarTreeOptions, UntarOptions};
use barque_sys::rootdir::{FileKind, Stat};
use tokio_util::io::SyncIoBridge;

use super::composed::{Composed, inside};
use super::driver::Handle;
use super::files::{begun, go_mode, tar_stream};
use super::request::{PathStat, TarStream};
use super::view::ContainerView;
use crate::Engine;
use barque_model::path::rooted;

/// Links on the way to what a path leads to at the end.
const LINKS_MAX: usize = 40;

/// How archives are unpacked into a container.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyInOptions {
    /// Refuse to put a file in a directory's place and the reverse.
    pub no_overwrite_dir_non_dir: bool,
    /// Give everything to the container's user, if it has one, instead of the archive's owners.
    pub copy_uid_gid: bool,
}

/// What a path says.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// Absolute, without `.` and `..`.
    path: String,
    /// What the names in an archive of it begin with: the last part, `.` after `/.`, `/` for the root.
    base: String,
    /// It ends in `/` or `/.`: a directory, and a link there is followed.
    directory: bool,
    /// The path with its ending, for messages.
    shown: String,
}

impl Wanted {
    fn parse(path: &str) -> Wanted {
        let clean = rooted(path);
        let last = path.rsplit('/').next().unwrap_or_default();
        let base = match (last, clean.rsplit('/').next()) {
            (".", _) => ".",
            (_, None | Some("")) => "/",
            (_, Some(name)) => name,
        };
        let ending = match last {
            "" if clean != "/" => "/",
            "." if clean != "/" => "/.",
            _ => "",
        };
        let shown = format!("{clean}{ending}");
        Wanted { base: base.to_owned(), directory: matches!(last, "" | ".") || clean == "/", path: clean, shown }
    }
}

/// A container's files, in its processes' root or put together.
struct Files {
    root: RootDir,
    composed: Option<Composed>,
}

impl Files {
    fn stat(&self, wanted: &Wanted) -> Result<Stat> {
        let path = &wanted.path;
        let found = if wanted.directory { self.root.stat(path) } else { self.root.lstat(path) };
        let no_directory = || Error::invalid(format!("lstat {}: not a directory", wanted.shown));
        match found {
            Ok(stat) if wanted.directory && stat.kind != FileKind::Directory => Err(no_directory()),
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => Err(no_directory()),
            other => Ok(other?),
        }
    }

    /// Where `path` is when all links are followed; itself where it leads nowhere.
    fn real(&self, path: &str) -> String {
        self.root.canonicalize(path).map_or_else(|_| path.to_owned(), |p| p.to_string_lossy().into_owned())
    }

    /// Where the link at `path` leads, be there something or not.
    fn link_target(&self, path: &str) -> PathBuf {
        let mut path = PathBuf::from(path);
        for _ in 0..LINKS_MAX {
            if let Ok(real) = self.root.canonicalize(&path) {
                return real;
            }
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { break };
            let Ok(parent) = self.root.canonicalize(parent) else { break };
            let Ok(target) = self.root.readlink(parent.join(name)) else { return parent.join(name) };
            path = rooted(&parent.join(target).to_string_lossy()).into();
        }
        path
    }

    /// Errors where a mount that is not there would cover the path.
    fn check(&mut self, wanted: &Wanted) -> Result<()> {
        let real = self.real(&wanted.path);
        self.composed.as_mut().map_or(Ok(()), |composed| composed.check(&real))
    }

    /// Directories below `path` whose content is the kernel's and not the container's, relative to it.
    fn hollow(&self, view: &ContainerView, wanted: &Wanted) -> Vec<PathBuf> {
        if self.composed.is_some() {
            return Vec::new();
        }
        let real = self.real(&wanted.path);
        let own = |target: &&str| !view.mounts.iter().any(|m| m.target == **target);
        let kernels = ["/dev", "/proc", "/sys"].into_iter().filter(own);
        kernels.filter_map(|target| inside(target, &real).map(PathBuf::from)).collect()
    }
}

impl Engine {
    pub async fn container_stat_path(&self, name: &str, path: &str) -> Result<PathStat> {
        let (engine, handle, name) = (self.clone(), self.find(name)?, name.to_owned());
        let (root, wanted) = (live_root(&handle).await?, Wanted::parse(path));
        self.blocking(move || {
            let mut files = engine.files(&handle.view(), root, false)?;
            files.check(&wanted)?;
            path_stat(&files, &wanted).map_err(|e| missing(e, &wanted, &name))
        })
        .await
    }

    pub async fn container_copy_out(&self, name: &str, path: &str) -> Result<(PathStat, TarStream)> {
        let (engine, handle, name) = (self.clone(), self.find(name)?, name.to_owned());
        let (root, wanted) = (live_root(&handle).await?, Wanted::parse(path));
        let found = handle.clone();
        let (stat, files, wanted, hollow) = self
            .blocking(move || {
                let view = found.view();
                let mut files = engine.files(&view, root, false)?;
                files.check(&wanted)?;
                let stat = path_stat(&files, &wanted).map_err(|e| missing(e, &wanted, &name))?;
                let hollow = files.hollow(&view, &wanted);
                Ok((stat, files, wanted, hollow))
            })
            .await?;
        let stream = tar_stream(move |out| {
            let options = TarTreeOptions {
                rebase: Some(wanted.base.into()),
                follow_link: wanted.directory,
                hollow,
                ..TarTreeOptions::default()
            };
            barque_store::tree::tar_tree(&files.root, Path::new(&wanted.path), &options, out).map(|_| ())
        })?;
        let stream = begun(stream).await?;
        self.container_event(&*handle.lock().await, "archive-path", []);
        Ok((stat, stream))
    }

    /// Unpacks an archive into the directory `path`.
    pub async fn container_copy_in(
        &self,
        name: &str,
        path: &str,
        archive: TarStream,
        options: CopyInOptions,
    ) -> Result<()> {
        let (engine, handle, name) = (self.clone(), self.find(name)?, name.to_owned());
        let layer = handle.layer.clone().lock_owned().await;
        let (root, wanted) = (live_root(&handle).await?, Wanted::parse(path));
        // One mount of a layer for writing at a time; while the container runs, that is the container's own.
        let layer = root.is_none().then_some(layer);
        let target = handle.clone();
        self.blocking(move || {
            let _until_done = layer;
            let view = target.view();
            let mut files = engine.files(&view, root, true)?;
            files.check(&wanted)?;
            let stat = files.root.stat(&wanted.path).map_err(|e| missing(e.into(), &wanted, &name))?;
            if stat.kind != FileKind::Directory {
                return Err(Error::invalid("extraction point is not a directory"));
            }
            writable(&view, &files.real(&wanted.path))?;
            let untar = UntarOptions {
                no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
                keep_owners: true,
                chown: if options.copy_uid_gid { owner(&files.root, &view)? } else { None },
                ..UntarOptions::default()
            };
            let mut input = SyncIoBridge::new(archive);
            barque_store::tree::untar_into(&files.root, Path::new(&wanted.path), &mut input, &untar)?;
            // What follows the archive's end is part of the request all the same.
            std::io::copy(&mut input, &mut std::io::sink())?;
            Ok(())
        })
        .await?;
        self.container_event(&*handle.lock().await, "extract-to-dir", []);
        Ok(())
    }

    fn files(&self, view: &ContainerView, live: Option<RootDir>, writing: bool) -> Result<Files> {
        if let Some(root) = live {
            return Ok(Files { root, composed: None });
        }
        let composed = self.composed(view, writing)?;
        let root = composed.root.try_clone().context("cannot hold the container's root")?;
        Ok(Files { root, composed: Some(composed) })
    }
}

/// The root as the running processes see it.
async fn live_root(handle: &Arc<Handle>) -> Result<Option<RootDir>> {
    let core = handle.lock().await;
    match &core.task {
        Some(task) => Ok(Some(RootDir::from_fd(task.root()?))),
        None => Ok(None),
    }
}

/// Docker's refusals to write at `real`: the innermost mount decides.
fn writable(view: &ContainerView, real: &str) -> Result<()> {
    let mounts = view.mounts.iter().filter(|m| inside(real, &m.target).is_some());
    let why = match mounts.max_by_key(|m| m.target.len()) {
        Some(mount) if !mount.read_write => "mounted volume is marked read-only",
        None if view.spec.read_only => "container rootfs is marked read-only",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::Forbidden, why))
}

/// The user that the container's process runs as.
fn owner(root: &RootDir, view: &ContainerView) -> Result<Option<(u32, u32)>> {
    let user = &view.spec.process.user;
    if user.is_empty() {
        return Ok(None);
    }
    let found = barque_runtime::users::lookup(root.dir().as_fd(), user, &[])?;
    Ok(Some((found.uid, found.gid)))
}

fn missing(e: Error, wanted: &Wanted, name: &str) -> Error {
    match e.kind() {
        ErrorKind::NotFound => {
            Error::not_found(format!("Could not find the file {} in container {name}", wanted.shown))
        }
        _ => e,
    }
}

fn path_stat(files: &Files, wanted: &Wanted) -> Result<PathStat> {
    let stat = files.stat(wanted)?;
    let link_target = match stat.kind {
        FileKind::Symlink => files.link_target(&wanted.path).to_string_lossy().into_owned(),
        _ => String::new(),
    };
    Ok(PathStat {
        name: wanted.base.clone(),
        size: i64::try_from(stat.size).unwrap_or(i64::MAX),
        mode: go_mode(stat.kind, stat.mode),
        mtime: Timestamp::from_nanos(
            stat.modified.seconds.saturating_mul(1_000_000_000) + i64::from(stat.modified.nanos),
        ),
        link_target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_path_says_what_is_wanted() {
        for (path, clean, base, directory, shown) in [
            ("/data", "/data", "data", false, "/data"),
            ("data/sub/", "/data/sub", "sub", true, "/data/sub/"),
            ("/data/sub/.", "/data/sub", ".", true, "/data/sub/."),
            ("/data/../etc//x", "/etc/x", "x", false, "/etc/x"),
            ("/", "/", "/", true, "/"),
            ("/.", "/", ".", true, "/"),
            (".", "/", ".", true, "/"),
            ("/..data", "/..data", "..data", false, "/..data"),
        ] {
            let wanted = Wanted { path: clean.into(), base: base.into(), directory, shown: shown.into() };
            assert_eq!(Wanted::parse(path), wanted);
        }
    }

    fn files() -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join("data/seed"), "x").unwrap();
        for (target, link) in [("data", "dir"), ("data/none", "broken"), ("broken", "twice"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, dir.path().join(link)).unwrap();
        }
        let root = RootDir::open(dir.path()).unwrap();
        (dir, Files { root, composed: None })
    }

    #[test]
    fn links_are_followed_where_a_directory_is_said() {
        let (_dir, files) = files();
        let kind = |path: &str| files.stat(&Wanted::parse(path)).map(|s| s.kind);
        assert_eq!(kind("/dir").unwrap(), FileKind::Symlink);
        assert_eq!(kind("/dir/").unwrap(), FileKind::Directory);
        assert_eq!(kind("/dir/.").unwrap(), FileKind::Directory);
        assert_eq!(kind("/dir/seed").unwrap(), FileKind::Regular);
        let error = kind("/data/seed/").unwrap_err();
        assert_eq!(error.to_string(), "lstat /data/seed/: not a directory");
        assert_eq!(kind("/broken/").unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn links_that_lead_nowhere_say_where() {
        let (_dir, files) = files();
        assert_eq!(files.link_target("/dir"), Path::new("/data"));
        assert_eq!(files.link_target("/broken"), Path::new("/data/none"));
        assert_eq!(files.link_target("/twice"), Path::new("/data/none"));
        assert!(files.link_target("/loop").is_absolute());
    }
}
