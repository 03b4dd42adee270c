//! Files of a container: copy in and out, changes, export, commit.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use barque_model::{Context, Error, ErrorKind, ImageId, Result, Timestamp};
use barque_store::{CommitMode, DiffOptions, RootDir, TarTreeOptions, UntarOptions};
use barque_sys::rootdir::FileKind;
use tokio_util::io::SyncIoBridge;

use super::driver::Handle;
use super::merge::clean_path;
use super::request::{ChangeKind, CommitOptions, FileChange, PathStat, TarStream};
use super::spec::MountSource;
use super::view::ContainerView;
use crate::Engine;
use crate::rootfs;
use crate::volume::device::MountGuard;

/// How archives are unpacked into a container.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyInOptions {
    /// Refuse to put a file in a directory's place and the reverse.
    pub no_overwrite_dir_non_dir: bool,
    /// Keep the archive's owners.
    pub copy_uid_gid: bool,
}

/// A path of a container within the root it is reached by.
struct Located {
    root: RootDir,
    path: PathBuf,
    /// Why nothing may be written there.
    read_only: Option<&'static str>,
    /// Keeps a volume mounted that is a mount.
    _mounted: Option<MountGuard>,
}

impl Located {
    /// In the container's own root.
    fn in_root(view: &ContainerView, root: RootDir, path: impl Into<PathBuf>) -> Located {
        let read_only = view.spec.read_only.then_some("container rootfs is marked read-only");
        Located { root, path: path.into(), read_only, _mounted: None }
    }

    /// In a mount.
    fn in_mount(root: RootDir, path: impl Into<PathBuf>, read_only: bool) -> Located {
        let read_only = read_only.then_some("mounted volume is marked read-only");
        Located { root, path: path.into(), read_only, _mounted: None }
    }
}

impl Engine {
    pub async fn container_changes(&self, name: &str) -> Result<Vec<FileChange>> {
        let (engine, view) = (self.clone(), self.container(name)?);
        self.blocking(move || {
            let changes = without_mount_points(engine.store().changes(&view.id)?, &view);
            Ok(changes
                .into_iter()
                .map(|c| FileChange {
                    path: c.path.to_string_lossy().into_owned(),
                    kind: match c.kind {
                        barque_store::ChangeKind::Modified => ChangeKind::Modified,
                        barque_store::ChangeKind::Added => ChangeKind::Added,
                        barque_store::ChangeKind::Deleted => ChangeKind::Deleted,
                    },
                })
                .collect())
        })
        .await
    }

    /// Bytes of the writable layer, and of everything.
    pub async fn container_size(&self, name: &str) -> Result<(u64, u64)> {
        let (engine, view) = (self.clone(), self.container(name)?);
        self.blocking(move || {
            let own = engine.store().snapshot_size(&view.id)?;
            let image = match view.spec.image_id {
                Some(id) => engine.store().read(|r| r.image(&id))?.map_or(0, |i| i.size),
                None => 0,
            };
            Ok((own, own + image))
        })
        .await
    }

    /// The whole file system as a tar archive, without volumes.
    pub async fn container_export(&self, name: &str) -> Result<TarStream> {
        let view = self.container(name)?;
        self.container_event(&*self.find(name)?.lock().await, "export", []);
        let root = self.blocking(move || merged(&view)).await?;
        tar_stream(move |out| {
            let options = TarTreeOptions::default();
            barque_store::tree::tar_tree(&root, Path::new("/"), &options, out).map(|_| ())
        })
    }

    pub async fn container_stat_path(&self, name: &str, path: &str) -> Result<PathStat> {
        let (engine, handle, path) = (self.clone(), self.find(name)?, path.to_owned());
        let root = self.live_root(&handle).await?;
        self.blocking(move || {
            let located = engine.locate(&handle.view(), root, &path)?;
            stat(&located, &path).map_err(|e| missing(e, &path, &handle))
        })
        .await
    }

    pub async fn container_copy_out(&self, name: &str, path: &str) -> Result<(PathStat, TarStream)> {
        let (engine, handle, path) = (self.clone(), self.find(name)?, path.to_owned());
        let root = self.live_root(&handle).await?;
        let (stat, located, base) = self
            .blocking(move || {
                let located = engine.locate(&handle.view(), root, &path)?;
                let stat = stat(&located, &path).map_err(|e| missing(e, &path, &handle))?;
                let base = match path.rsplit('/').next() {
                    Some("." | "") | None => ".".to_owned(),
                    Some(base) => base.to_owned(),
                };
                Ok((stat, located, base))
            })
            .await?;
        let stream = tar_stream(move |out| {
            let options = TarTreeOptions { rebase: Some(base.into()), ..TarTreeOptions::default() };
            barque_store::tree::tar_tree(&located.root, &located.path, &options, out).map(|_| ())
        })?;
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
        let (engine, handle, path) = (self.clone(), self.find(name)?, path.to_owned());
        let layer = handle.layer.clone().lock_owned().await;
        let root = self.live_root(&handle).await?;
        // One mount of a layer for writing at a time; while the container runs, that is the container's own.
        let layer = root.is_none().then_some(layer);
        self.blocking(move || {
            let _until_done = layer;
            let view = handle.view();
            let located = engine.locate_writable(&view, root, &path)?;
            let stat = located.root.stat(&located.path).map_err(|e| missing(e.into(), &path, &handle))?;
            if stat.kind != FileKind::Directory {
                return Err(Error::invalid("extraction point is not a directory"));
            }
            if let Some(why) = located.read_only {
                return Err(Error::new(ErrorKind::Forbidden, why));
            }
            let mut input = SyncIoBridge::new(archive);
            let untar = UntarOptions {
                no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
                keep_owners: true,
                ..UntarOptions::default()
            };
            barque_store::tree::untar_into(&located.root, &located.path, &mut input, &untar)?;
            // What follows the archive's end is part of the request all the same.
            std::io::copy(&mut input, &mut std::io::sink())?;
            Ok(())
        })
        .await
    }

    /// The root as the running processes see it.
    async fn live_root(&self, handle: &Arc<Handle>) -> Result<Option<RootDir>> {
        let core = handle.lock().await;
        match &core.task {
            Some(task) => Ok(Some(RootDir::from_fd(task.root()?))),
            None => Ok(None),
        }
    }

    fn locate(&self, view: &ContainerView, live: Option<RootDir>, path: &str) -> Result<Located> {
        let make = || rootfs::with_upper_read_only(&view.layers, &view.upper).map(|v| v.root);
        self.locate_in(view, live, path, &make)
    }

    fn locate_writable(&self, view: &ContainerView, live: Option<RootDir>, path: &str) -> Result<Located> {
        let make = || {
            // overlayfs wants the work directory to be its own.
            self.store().prepare_snapshot(&view.id)?;
            rootfs::writable(&view.layers, &view.upper, &view.work).map(|v| v.root)
        };
        self.locate_in(view, live, path, &make)
    }

    /// Where a container's path really is: in its running root, or, while it is stopped, in a mount's
    /// source or the layers.
    fn locate_in(
        &self,
        view: &ContainerView,
        live: Option<RootDir>,
        path: &str,
        make: &dyn Fn() -> Result<RootDir>,
    ) -> Result<Located> {
        let clean = clean_path(path);
        if let Some(root) = live {
            // The innermost mount decides.
            let mounts = view.mounts.iter().filter(|m| inside(&clean, &m.target).is_some());
            return Ok(match mounts.max_by_key(|m| m.target.len()) {
                Some(mount) => Located::in_mount(root, &clean, !mount.read_write),
                None => Located::in_root(view, root, &clean),
            });
        }
        let root = make()?;
        // Links of the image may lead into a mount: resolved inside the root first.
        let real = root.canonicalize(&clean).map_or(clean, |p| p.to_string_lossy().into_owned());
        let mut best: Option<(&super::spec::MountSpec, &str)> = None;
        for mount in &view.spec.mounts {
            if let Some(rest) = inside(&real, &clean_path(&mount.target))
                && best.is_none_or(|(_, b)| rest.len() < b.len())
            {
                best = Some((mount, rest));
            }
        }
        let Some((mount, rest)) = best else {
            return Ok(Located::in_root(view, root, real.clone()));
        };
        let source = match &mount.source {
            MountSource::Bind { path, create_missing, .. } => {
                if *create_missing && path.symlink_metadata().is_err() {
                    // As a start would.
                    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
                }
                path.clone()
            }
            MountSource::Volume { name: Some(name), subpath, .. } => {
                let mounted = self.mount_volume_for_now(name)?;
                let located = in_volume(&self.volume_dir(name), subpath.as_deref(), rest, mount.read_only)?;
                return Ok(Located { _mounted: mounted, ..located });
            }
            _ => return Ok(Located::in_mount(root, real.clone(), mount.read_only)),
        };
        let open = |dir: &Path| RootDir::open(dir).with_context(|| format!("cannot open {}", dir.display()));
        Ok(match source.parent() {
            Some(parent) if source.is_file() => {
                let name = Path::new("/").join(source.file_name().unwrap_or_default());
                Located::in_mount(open(parent)?, name, mount.read_only)
            }
            _ => Located::in_mount(open(&source)?, Path::new("/").join(rest), mount.read_only),
        })
    }

    /// An image of the container's changes (`docker commit`).
    pub async fn container_commit(&self, name: &str, options: CommitOptions) -> Result<ImageId> {
        let handle = self.find(name)?;
        let view = handle.view();
        let pause = options.pause && view.state.running().is_some_and(|r| !r.paused);
        let task = handle.lock().await.task.clone();
        if pause && let Some(task) = task.clone() {
            self.blocking(move || task.pause()).await?;
            self.container_event(&*handle.lock().await, "pause", []);
        }
        let engine = self.clone();
        let (comment, name) = (options.comment.clone(), options.repo_tag.clone().unwrap_or_default());
        let result = self.blocking(move || engine.commit_blocking(&view, options)).await;
        if pause && let Some(task) = task {
            self.blocking(move || task.resume()).await?;
            self.container_event(&*handle.lock().await, "unpause", []);
        }
        let id = result?;
        if !name.is_empty() {
            self.image_event("tag", &id.to_string(), &name);
        }
        let attributes = [("imageID", id.to_string()), ("imageRef", name), ("comment", comment)];
        self.container_event(&*handle.lock().await, "commit", attributes);
        Ok(id)
    }

    fn commit_blocking(&self, view: &ContainerView, options: CommitOptions) -> Result<ImageId> {
        let lease = self.store().lease(&format!("commit of {}", view.name))?;
        let base = match view.spec.image_id {
            Some(id) => self.store().read(|r| r.image(&id))?,
            None => None,
        };
        let layer = self.store().commit_snapshot(&lease, &view.id, CommitMode::Copy, DiffOptions::default())?;
        let config = crate::image::config::committed(view, base.as_ref(), &layer, &options, Timestamp::now())?;
        let names = match options.repo_tag.as_deref().filter(|t| !t.is_empty()) {
            Some(name) => vec![name.parse::<barque_model::Reference>()?.with_default_tag()],
            None => Vec::new(),
        };
        let put = self.store().put_image(
            &lease,
            barque_store::NewImage { config, manifest: None, index: None, names, parent: base.map(|b| b.id) },
        )?;
        Ok(put.id)
    }
}

/// `rest` in the part of a volume that is mounted. The part is resolved inside the volume and held by its descriptor:
/// a container that shares the volume may put links in its way meanwhile.
fn in_volume(dir: &Path, subpath: Option<&str>, rest: &str, read_only: bool) -> Result<Located> {
    let volume = RootDir::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    let rest = Path::new("/").join(rest);
    let Some(subpath) = subpath.filter(|s| !s.is_empty()) else {
        return Ok(Located::in_mount(volume, rest, read_only));
    };
    let real = volume.canonicalize(subpath)?;
    let real = real.strip_prefix("/").unwrap_or(&real);
    let (part, rest) = match volume.lstat(real)?.kind {
        FileKind::Directory => (real, rest),
        _ => (real.parent().unwrap_or(Path::new("")), Path::new("/").join(real.file_name().unwrap_or_default())),
    };
    let part = RootDir::from_fd(volume.open_dir_no_links(part)?.into_fd());
    Ok(Located::in_mount(part, rest, read_only))
}

/// Takes out what was made only to mount something on, and directories changed by nothing else.
fn without_mount_points(changes: Vec<barque_store::Change>, view: &ContainerView) -> Vec<barque_store::Change> {
    let own = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev", "/proc", "/sys"].map(PathBuf::from);
    let targets: Vec<PathBuf> = own.into_iter().chain(view.mounts.iter().map(|m| PathBuf::from(&m.target))).collect();
    let is_target = |c: &barque_store::Change| {
        c.kind == barque_store::ChangeKind::Added && targets.iter().any(|t| *t == c.path || c.path.starts_with("/dev"))
    };
    let (made, mut kept): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_target);
    for path in made.iter().flat_map(|c| c.path.ancestors().skip(1)) {
        let alone = !kept.iter().any(|c| c.path != path && c.path.starts_with(path));
        kept.retain(|c| !(alone && c.path == path && c.kind == barque_store::ChangeKind::Modified));
    }
    kept
}

/// The rest of `path` below `target`.
fn inside<'a>(path: &'a str, target: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(target)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

fn merged(view: &ContainerView) -> Result<RootDir> {
    Ok(rootfs::with_upper_read_only(&view.layers, &view.upper)?.root)
}

fn missing(e: Error, path: &str, handle: &Handle) -> Error {
    match e.kind() {
        ErrorKind::NotFound => {
            Error::not_found(format!("Could not find the file {path} in container {}", handle.view().name))
        }
        _ => e,
    }
}

fn stat(located: &Located, path: &str) -> Result<PathStat> {
    // `dir/.` and `dir/` mean what a link at the end points to.
    let follow = path.ends_with('/') || path.ends_with("/.");
    let stat = if follow { located.root.stat(&located.path) } else { located.root.lstat(&located.path) }?;
    let link_target = match stat.kind {
        FileKind::Symlink => located
            .root
            .canonicalize(&located.path)
            .map_or_else(|_| String::new(), |p| p.to_string_lossy().into_owned()),
        _ => String::new(),
    };
    let name = clean_path(path).rsplit('/').next().unwrap_or_default().to_owned();
    Ok(PathStat {
        name: if name.is_empty() { "/".into() } else { name },
        size: i64::try_from(stat.size).unwrap_or(i64::MAX),
        mode: go_mode(stat.kind, stat.mode),
        mtime: Timestamp::from_nanos(
            stat.modified.seconds.saturating_mul(1_000_000_000) + i64::from(stat.modified.nanos),
        ),
        link_target,
    })
}

/// Kind and permissions as Go's `os.FileMode`.
pub fn go_mode(kind: FileKind, mode: u32) -> u32 {
    let kind = match kind {
        FileKind::Directory => 1 << 31,
        FileKind::Symlink => 1 << 27,
        FileKind::BlockDevice => 1 << 26,
        FileKind::CharDevice => 1 << 26 | 1 << 21,
        FileKind::Fifo => 1 << 25,
        FileKind::Socket => 1 << 24,
        FileKind::Regular => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let bits = special.iter().filter(|(bit, _)| mode & bit != 0).fold(0, |all, (_, go)| all | go);
    kind | bits | (mode & 0o777)
}

/// Runs a writer on a thread of its own, since its reader may take hours, and gives its output to be read. Where the
/// writer fails, so does the last read: a part of an archive is not taken for all of it.
pub fn tar_stream(work: impl FnOnce(&mut dyn Write) -> Result<()> + Send + 'static) -> Result<TarStream> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().context("cannot make a socket pair")?;
    ours.set_nonblocking(true).context("cannot use a socket")?;
    let stream = tokio::net::UnixStream::from_std(ours).context("cannot use a socket")?;
    let (done, outcome) = tokio::sync::oneshot::channel();
    let write = move || {
        let mut out = std::io::BufWriter::with_capacity(256 << 10, theirs);
        let result = work(&mut out).and_then(|()| out.flush().context("write the archive"));
        let _reader_gone = done.send(result);
        // `out` closes after that: who sees the end finds the reason.
    };
    std::thread::Builder::new().name("archive".into()).spawn(write).context("cannot start a thread")?;
    Ok(Box::pin(tokio::io::AsyncReadExt::chain(stream, Outcome(Some(outcome)))))
}

/// Nothing, or the error that ended an archive early.
struct Outcome(Option<tokio::sync::oneshot::Receiver<Result<()>>>);

impl tokio::io::AsyncRead for Outcome {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let Some(outcome) = &mut self.0 else { return Poll::Ready(Ok(())) };
        let result = std::task::ready!(std::future::Future::poll(Pin::new(outcome), cx));
        self.0 = None;
        Poll::Ready(match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(std::io::Error::other(e)),
            Err(_) => Err(std::io::Error::other("the archive's writer broke off")),
        })
    }
}

/// An async reader as a blocking one, for a blocking thread.
pub fn blocking_reader(stream: TarStream) -> impl Read + Send {
    SyncIoBridge::new(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        assert_eq!(go_mode(FileKind::Regular, 0o644), 0o644);
        assert_eq!(go_mode(FileKind::Directory, 0o755), 1 << 31 | 0o755);
        assert_eq!(go_mode(FileKind::Symlink, 0o777), 1 << 27 | 0o777);
        assert_eq!(go_mode(FileKind::Regular, 0o4755), 1 << 23 | 0o755);
    }

    #[test]
    fn paths_inside_mounts() {
        assert_eq!(inside("/a/b", "/a"), Some("b"));
        assert_eq!(inside("/a", "/a"), Some(""));
        assert_eq!(inside("/ab", "/a"), None);
    }
}
