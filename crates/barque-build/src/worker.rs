//! The one seam to the world: what the engine must be able to do for a build.
//!
//! The vocabulary is that of a snapshot store. A *snapshot* is a committed, immutable file system state
//! named by a [`SnapshotId`]; an *active* snapshot is a writable one on top of a parent, and committing it
//! gives a [`Layer`]. Copying, directory creation, owner lookup and content hashing are done by this crate
//! on the directories which [`Worker::root`] and [`Worker::view`] hand out; the worker never sees a
//! Dockerfile.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_model::{DiffId, Digest, ImageId, Platform, Result, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::context::ContextDir;
use crate::event::{LogStream, Progress};
use crate::options::{NetworkMode, PullPolicy, Resources, Secret, SecurityMode, SshAgent, Ulimit};

/// Name of a committed snapshot. Equal names must mean equal content: a chain id is ideal. It is the
/// parent's identity in cache keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(pub String);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One committed step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The snapshot with this layer on top. For an `empty` layer: the parent's, or one of equal content.
    pub snapshot: SnapshotId,
    /// Digest of the layer's uncompressed tar. `None` if the worker computes it only in [`Worker::finish`].
    pub diff_id: Option<DiffId>,
    /// Bytes of the files this layer adds.
    pub size: u64,
    /// Nothing changed: the layer is left out of the image (`empty_layer` in its history).
    pub empty: bool,
}

/// A base image to look up (`FROM`, `COPY --from=IMAGE`, `--mount=from=IMAGE`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BaseRequest {
    /// As written after expansion, such as `python:3.7`.
    pub reference: String,
    pub platform: Platform,
    /// `--platform` was written: an image of another platform is an error, not a warning.
    pub platform_explicit: bool,
}

/// A base image that was found. Its layers need not be present yet.
#[derive(Debug, Clone)]
pub struct BaseImage {
    /// Full name with digest if known, for plain progress: `docker.io/library/python:3.7@sha256:…`.
    pub name: String,
    pub id: ImageId,
    /// The image configuration's bytes (OCI image-spec, config.md).
    pub config: Vec<u8>,
    /// Top snapshot; `None` for an image without layers.
    pub snapshot: Option<SnapshotId>,
    /// All layers, bottom first, one for each `rootfs.diff_ids` entry.
    pub layers: Vec<Layer>,
}

/// A directory that stays usable while this value lives (a mount, a checkout).
#[derive(Clone)]
pub struct Root {
    path: PathBuf,
    _guard: Option<Arc<dyn Any + Send + Sync>>,
}

impl Root {
    pub fn new(path: PathBuf) -> Self {
        Root { path, _guard: None }
    }

    /// `guard` is dropped with the last clone: unmount there.
    pub fn guarded(path: PathBuf, guard: impl Any + Send + Sync) -> Self {
        Root { path, _guard: Some(Arc::new(guard)) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Root").field(&self.path).finish()
    }
}

/// One command to run in an active snapshot.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// `NAME=value`, in order, without duplicates. `PATH` is always set.
    pub env: Vec<String>,
    /// Absolute; the worker creates it if missing.
    pub cwd: String,
    /// `USER` as written: name, uid, `name:group`, or empty for root. Looked up in the snapshot.
    pub user: String,
    pub mounts: Vec<RunMount>,
    pub network: NetworkMode,
    /// Name of the machine.
    pub hostname: String,
    pub security: SecurityMode,
    /// Name and address; an address may be `host-gateway`.
    pub extra_hosts: Vec<(String, String)>,
    pub shm_size: Option<u64>,
    pub ulimits: Vec<Ulimit>,
    pub resources: Resources,
    pub platform: Platform,
    /// Where the instruction stands, for messages: `Dockerfile:12`.
    pub location: String,
}

/// One `RUN --mount`. The mount point is created for the run; if it did not exist before it must be absent
/// from the committed layer.
#[derive(Debug, Clone)]
pub struct RunMount {
    /// Absolute path in the container.
    pub target: String,
    pub read_only: bool,
    pub kind: RunMountKind,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub enum RunMountKind {
    /// A directory or file of a snapshot or context; writes (if not `read_only`) are thrown away.
    Bind { source: MountSource, path: String },
    /// A persistent directory shared by all builds with the same `id`; `source`/`path` fill it when new.
    Cache { id: String, sharing: CacheSharing, source: MountSource, path: String, mode: u32, uid: u32, gid: u32 },
    /// Empty and in memory. `size` in bytes, 0 for unlimited.
    Tmpfs { size: u64 },
    /// A file with a secret's bytes, on memory only.
    Secret { id: String, value: Secret, mode: u32, uid: u32, gid: u32 },
    /// The agent's socket, forwarded.
    Ssh { id: String, agent: SshAgent, mode: u32, uid: u32, gid: u32 },
    /// A file with these bytes (a heredoc script), readable and executable by all.
    File { content: Arc<[u8]>, mode: u32 },
}

/// Where a bind or cache mount takes its files from.
#[derive(Debug, Clone)]
pub enum MountSource {
    Empty,
    Snapshot(SnapshotId),
    /// A build context. Files its `.dockerignore` excludes ([`ContextDir::excluded`]) must not be visible.
    Context(Arc<ContextDir>),
}

/// `sharing=` of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheSharing {
    /// Used by several steps at once.
    Shared,
    /// A second user gets a new one.
    Private,
    /// A second user waits.
    Locked,
}

/// Where a step's output goes. Cheap to clone; callable from any thread.
#[derive(Clone)]
pub struct LogSink(Arc<WriteLog>);

type WriteLog = dyn Fn(LogStream, &[u8]) + Send + Sync;

impl LogSink {
    pub fn new(write: impl Fn(LogStream, &[u8]) + Send + Sync + 'static) -> Self {
        LogSink(Arc::new(write))
    }

    /// Any bytes, not necessarily whole lines.
    pub fn write(&self, stream: LogStream, bytes: &[u8]) {
        (self.0)(stream, bytes);
    }
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogSink")
    }
}

/// Where transfers report how far they are.
#[derive(Clone)]
pub struct ProgressSink(Arc<dyn Fn(Progress) + Send + Sync>);

impl ProgressSink {
    pub fn new(report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        ProgressSink(Arc::new(report))
    }

    pub fn report(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl fmt::Debug for ProgressSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProgressSink")
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitStatus {
    /// 0–255; 128+n if a signal killed it.
    pub code: i32,
    pub oom_killed: bool,
}

/// `ADD URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlRequest {
    pub url: String,
    /// `--checksum`: the worker refuses other bytes.
    pub checksum: Option<Digest>,
}

/// A downloaded file.
#[derive(Debug, Clone)]
pub struct FetchedUrl {
    /// Directory holding the one file [`FetchedUrl::stored_name`].
    pub root: Root,
    /// [`UrlRequest::file_name`].
    pub file_name: String,
    /// `Last-Modified`.
    pub modified: Option<Timestamp>,
    pub digest: Digest,
}

impl UrlRequest {
    /// The last part of the path of the address as written, whatever the server calls the file or sends one on to;
    /// empty if there is none. So the same Dockerfile makes the same name.
    pub fn file_name(&self) -> String {
        let Ok(url) = url::Url::parse(&self.url) else { return String::new() };
        // As the value of a form's field, to have it decoded.
        let field = format!("={}", url.path().replace('+', "%2B").replace('&', "%26"));
        let path = url::form_urlencoded::parse(field.as_bytes()).next().map(|(_, path)| path.into_owned());
        let path = path.unwrap_or_default();
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or("");
        if matches!(name, "." | "..") || name.contains('\0') { String::new() } else { name.to_owned() }
    }
}

impl FetchedUrl {
    /// What the file is called in `root`, which has to be something.
    pub fn stored_name(&self) -> &str {
        if self.file_name.is_empty() { "__unnamed__" } else { &self.file_name }
    }
}

/// `ADD git://…` and git contexts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    /// Without fragment and without Barque's query keys.
    pub url: String,
    /// Branch, tag or commit; `None` is the remote's HEAD.
    pub reference: Option<String>,
    /// Directory inside the repository; empty for all.
    pub subdir: String,
    /// Leave `.git` in the result.
    pub keep_git_dir: bool,
    /// Fetch submodules (the default).
    pub submodules: bool,
    /// `--checksum` or `?checksum=`: the commit must have this id (a prefix suffices).
    pub checksum: Option<String>,
}

/// A checked-out tree.
#[derive(Debug, Clone)]
pub struct FetchedGit {
    pub root: Root,
    /// Full commit id.
    pub commit: String,
}

/// What to turn into an image.
#[derive(Debug, Clone)]
pub struct FinishSpec {
    /// The configuration; put the diff ids in with [`crate::config::ImageConfig::to_json`].
    pub config: crate::config::ImageConfig,
    /// Layers of the image, bottom first, none of them `empty`.
    pub layers: Vec<Layer>,
    /// Top snapshot; `None` for an image without layers.
    pub snapshot: Option<SnapshotId>,
    /// Clamp for times in layers and the manifest.
    pub epoch: Option<Timestamp>,
}

/// What the engine does for a build. All methods may be called concurrently. Futures may be dropped at any
/// await point (cancellation): whatever they hold must be released by `Drop`.
pub trait Worker: Send + Sync + 'static {
    /// A writable snapshot. Dropping it discards it.
    type Active: Send + Sync + 'static;

    /// Finds an image: local store first or the registry, as `pull` says. Reads its configuration but need
    /// not fetch layers. Errors: `NotFound` with Docker's wording.
    fn resolve(
        &self,
        request: &BaseRequest,
        pull: PullPolicy,
        progress: ProgressSink,
    ) -> impl Future<Output = Result<BaseImage>> + Send;

    /// Makes the layers of `base` present, so that `prepare` and `view` accept its snapshot.
    fn ensure(&self, base: &BaseImage, progress: ProgressSink) -> impl Future<Output = Result<()>> + Send;

    /// A writable snapshot on `parent` (`None` is empty).
    fn prepare(&self, parent: Option<&SnapshotId>) -> impl Future<Output = Result<Self::Active>> + Send;

    /// A directory through which this crate reads and writes the whole file system of `active`.
    fn root(&self, active: &Self::Active) -> impl Future<Output = Result<Root>> + Send;

    /// A directory through which this crate reads `snapshot`.
    fn view(&self, snapshot: &SnapshotId) -> impl Future<Output = Result<Root>> + Send;

    /// Where the own files of an earlier layer and those of `active` lie, for unchanged ones to be linked from the
    /// first to the second while no [`Root`] of `active` is in use. `None` if the layer is gone or this is not
    /// possible. The layer's files must not be changed.
    fn own_files(
        &self,
        active: &Self::Active,
        earlier: &SnapshotId,
    ) -> impl Future<Output = Result<Option<(Root, Root)>>> + Send {
        let _ = (active, earlier);
        async { Ok(None) }
    }

    /// Runs a command to its end. A non-zero exit is `Ok`; `Err` means it could not be run. When `cancel`
    /// fires, kill it and return an error of kind `Canceled`.
    fn run(
        &self,
        active: &Self::Active,
        spec: &RunSpec,
        log: LogSink,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<ExitStatus>> + Send;

    /// Freezes `active`. With `epoch`, no time in the layer may be later.
    fn commit(&self, active: Self::Active, epoch: Option<Timestamp>) -> impl Future<Output = Result<Layer>> + Send;

    /// Whether [`Worker::stack`] works. Then large copies are made of several layers of which a changed file
    /// renews only one, and `--link` copies survive a change of their base.
    fn can_stack(&self) -> bool {
        false
    }

    /// Puts the changes of `layer`, committed on another parent (or none), on top of `parent`, without copying
    /// files: the same layer directory and diff id under another chain id. Layers given here only add files and
    /// directories.
    fn stack(&self, parent: &SnapshotId, layer: &Layer) -> impl Future<Output = Result<Layer>> + Send {
        let _ = (parent, layer);
        async { Err(barque_model::Error::not_implemented("stacking layers")) }
    }

    /// Downloads a file.
    fn fetch_url(
        &self,
        request: &UrlRequest,
        progress: ProgressSink,
    ) -> impl Future<Output = Result<FetchedUrl>> + Send;

    /// Clones a repository.
    fn fetch_git(
        &self,
        request: &GitRequest,
        progress: ProgressSink,
    ) -> impl Future<Output = Result<FetchedGit>> + Send;

    /// Stores the image; the same spec gives the same id.
    fn finish(&self, spec: &FinishSpec) -> impl Future<Output = Result<ImageId>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_names_the_file() {
        for (url, name) in [
            ("https://h/a/b.tar.gz?x=1#y", "b.tar.gz"),
            ("http://h/a%20b+c&d=e", "a b+c&d=e"),
            ("http://h/dir/", "dir"),
            ("http://h/a%2Fb", "b"),
            ("http://h/%2e%2e%2f..", ""),
            ("http://h", ""),
            ("http://h/", ""),
            ("no address", ""),
        ] {
            assert_eq!(UrlRequest { url: url.into(), checksum: None }.file_name(), name, "{url}");
        }
    }
}
