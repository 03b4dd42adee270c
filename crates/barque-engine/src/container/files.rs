//! Files of a container: changes, export, commit. Copying is in [`super::copy`].

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;

use barque_model::{Context, ImageId, Result, Timestamp};
use barque_store::{CommitMode, DiffOptions, RootDir, TarTreeOptions};
use barque_sys::rootdir::FileKind;
use tokio_util::io::SyncIoBridge;

use super::request::{ChangeKind, CommitOptions, FileChange, TarStream};
use super::view::ContainerView;
use crate::Engine;
use crate::rootfs;

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
        let stream = tar_stream(move |out| {
            let options = TarTreeOptions::default();
            barque_store::tree::tar_tree(&root, Path::new("/"), &options, out).map(|_| ())
        })?;
        begun(stream).await
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
        let reference = options.repo_tag.as_deref().and_then(|tag| tag.parse::<barque_model::Reference>().ok());
        let name = reference.map(|r| r.with_default_tag().familiar()).unwrap_or_default();
        let comment = options.comment.clone();
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

fn merged(view: &ContainerView) -> Result<RootDir> {
    Ok(rootfs::with_upper_read_only(&view.layers, &view.upper)?.root)
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

/// Waits for the beginning of an archive: what fails before that is an answer, and not a connection that breaks off.
pub async fn begun(mut stream: TarStream) -> Result<TarStream> {
    let mut first = vec![0; 64 << 10];
    let length = tokio::io::AsyncReadExt::read(&mut stream, &mut first).await?;
    first.truncate(length);
    Ok(Box::pin(tokio::io::AsyncReadExt::chain(std::io::Cursor::new(first), stream)))
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
}
