//! Builds: contexts made present, the solver run over [`worker::EngineWorker`], names given to the result.

mod cache;
mod fetch;
mod run;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_build::config::ImageConfig;
use barque_build::context::{ContextDir, UnpackOptions, unpack_tar};
use barque_build::event::EventSink;
use barque_build::git::GitRef;
use barque_build::options::{BuildOptions, BuildRequest};
use barque_build::worker::{GitRequest, ProgressSink, SnapshotId, UrlRequest, Worker};
use barque_model::{Context, Error, Id, ImageId, Reference, Result};
use tokio_util::sync::CancellationToken;

use crate::Engine;
use crate::container::files::{blocking_reader, tar_stream};
use crate::container::request::TarStream;
use crate::image::types::RegistryAuth;
use worker::EngineWorker;

/// Bytes that a context sent as an archive may unpack to.
const CONTEXT_MAX: u64 = 64 << 30;
/// Where the Dockerfile is unless the caller says otherwise.
const DOCKERFILE: &str = "Dockerfile";

/// Where the files of `COPY` come from.
pub enum ContextSource {
    /// An archive, plain or compressed.
    Tar(TarStream),
    /// A directory of this machine, read in place.
    Directory(PathBuf),
    /// URL of an archive, a Dockerfile or a git repository.
    Remote(String),
    Empty,
}

/// Which Dockerfile.
pub enum DockerfileSource {
    /// A path in the context; empty is `Dockerfile`.
    Path(String),
    /// Its text (`-f -`).
    Inline(Vec<u8>),
}

/// One build as the front end asks for it.
pub struct BuildJob {
    pub context: ContextSource,
    pub dockerfile: DockerfileSource,
    /// `scratch` is filled in by the engine.
    pub options: BuildOptions,
    pub tags: Vec<Reference>,
    /// Credentials for base images, by registry.
    pub auth: Vec<(String, RegistryAuth)>,
    /// Give the result's files as an archive (`-o type=tar` and `type=local`).
    pub export: bool,
}

/// What a build gave.
pub struct BuildResult {
    pub image: Option<ImageId>,
    pub config: ImageConfig,
    pub unused_build_args: Vec<String>,
    /// The files, where they were asked for.
    pub files: Option<TarStream>,
}

/// A directory that goes with this value.
struct Scratch {
    engine: Engine,
    path: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = self.engine.store().discard_dir(&self.path) {
            tracing::warn!("cannot remove {}: {}", self.path.display(), e.chain());
        }
    }
}

impl Engine {
    /// Builds. Dropping the future, or firing `cancel`, stops all steps and leaves nothing behind.
    pub async fn build(&self, job: BuildJob, events: EventSink, cancel: CancellationToken) -> Result<BuildResult> {
        let scratch = Scratch { engine: self.clone(), path: self.build_dir().join(Id::random().to_string()) };
        let work = scratch.path.join("work");
        std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
        let lease = {
            let store = self.store().clone();
            Arc::new(self.blocking(move || store.lease("build")).await?)
        };
        let worker = Arc::new(EngineWorker::new(self.clone(), lease, scratch.path.clone(), job.auth));
        let (context, dockerfile, name) =
            self.prepare_context(&worker, job.context, job.dockerfile, &scratch.path, &cancel).await?;
        let mut options = job.options;
        options.scratch = work;
        if options.scope.is_empty() {
            options.scope = name.clone();
        }
        let make_image = options.make_image;
        let request = BuildRequest { dockerfile, dockerfile_name: name, context, options };
        let cache = Arc::new(cache::EngineCache::new(self.clone()));
        let outcome = barque_build::build(worker.clone(), cache, request, events, cancel).await.map_err(|f| f.error)?;
        if let Some(image) = outcome.image.filter(|_| make_image) {
            self.name_result(image, job.tags).await?;
        }
        let files = match job.export {
            true => Some(self.export_result(&worker, outcome.snapshot.as_ref()).await?),
            false => None,
        };
        Ok(BuildResult {
            image: outcome.image,
            config: outcome.config,
            unused_build_args: outcome.unused_build_args,
            files,
        })
    }

    fn build_dir(&self) -> PathBuf {
        self.config().data_root.join("build")
    }

    async fn name_result(&self, image: ImageId, tags: Vec<Reference>) -> Result<()> {
        let engine = self.clone();
        self.blocking(move || {
            for tag in tags {
                let tag = tag.with_default_tag();
                engine.store().tag_image(&image, &tag)?;
                engine.image_event("tag", &image.to_string(), &tag.familiar());
            }
            Ok(())
        })
        .await
    }

    async fn export_result(&self, worker: &EngineWorker, snapshot: Option<&SnapshotId>) -> Result<TarStream> {
        let Some(snapshot) = snapshot else {
            return tar_stream(|out| {
                // Two zero blocks: an archive without entries.
                out.write_all(&[0u8; 1024])?;
                Ok(())
            });
        };
        let root = worker.view(snapshot).await?;
        tar_stream(move |out| {
            let tree = barque_store::RootDir::open(root.path()).context("cannot open the result")?;
            let options = barque_store::TarTreeOptions::default();
            barque_store::tree::tar_tree(&tree, Path::new("/"), &options, out).map(|_| ())
        })
    }

    /// Makes context and Dockerfile present. Gives the Dockerfile's name for messages too.
    async fn prepare_context(
        &self,
        worker: &EngineWorker,
        context: ContextSource,
        dockerfile: DockerfileSource,
        scratch: &Path,
        cancel: &CancellationToken,
    ) -> Result<(Option<Arc<ContextDir>>, Vec<u8>, String)> {
        let dir = match context {
            ContextSource::Empty => None,
            ContextSource::Directory(path) => Some(path),
            ContextSource::Tar(stream) => Some(self.unpack(stream, scratch, cancel).await?),
            ContextSource::Remote(url) => match self.fetch_context(worker, &url, scratch, cancel).await? {
                Remote::Directory(dir) => Some(dir),
                Remote::Dockerfile(bytes) => return Ok((None, bytes, DOCKERFILE.to_owned())),
            },
        };
        let (name, inline) = match dockerfile {
            DockerfileSource::Path(path) if path.is_empty() => (DOCKERFILE.to_owned(), None),
            DockerfileSource::Path(path) => (path, None),
            DockerfileSource::Inline(bytes) => (DOCKERFILE.to_owned(), Some(bytes)),
        };
        let Some(dir) = dir else {
            let bytes =
                inline.ok_or_else(|| Error::invalid("a build without a context needs the Dockerfile's text"))?;
            return Ok((None, bytes, name));
        };
        self.blocking(move || {
            let context = ContextDir::open(dir, &name)?;
            let bytes = match inline {
                Some(bytes) => bytes,
                None => read_dockerfile(&context, &name)?,
            };
            Ok((Some(context), bytes, name))
        })
        .await
    }

    async fn unpack(&self, stream: TarStream, scratch: &Path, cancel: &CancellationToken) -> Result<PathBuf> {
        let dir = scratch.join("context");
        let (made, cancel) = (dir.clone(), cancel.clone());
        self.blocking(move || {
            std::fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
            unpack_tar(blocking_reader(stream), made, &UnpackOptions::context(CONTEXT_MAX, cancel))
        })
        .await?;
        Ok(dir)
    }

    async fn fetch_context(
        &self,
        worker: &EngineWorker,
        url: &str,
        scratch: &Path,
        cancel: &CancellationToken,
    ) -> Result<Remote> {
        let quiet = ProgressSink::new(|_| {});
        if let Some(git) = GitRef::parse(url) {
            let git = git.map_err(|e| Error::invalid(format!("invalid git source '{url}': {e}")))?;
            let request = GitRequest {
                url: if git.looks_local { format!("https://{}", git.remote) } else { git.remote.clone() },
                reference: git.reference.clone(),
                subdir: git.subdir.clone(),
                keep_git_dir: git.keep_git_dir.unwrap_or(false),
                submodules: git.submodules.unwrap_or(true),
                checksum: git.checksum.clone(),
            };
            let fetched = worker.fetch_git(&request, quiet).await?;
            return Ok(Remote::Directory(fetched.root.path().to_owned()));
        }
        let fetched = worker.fetch_url(&UrlRequest { url: url.to_owned(), checksum: None }, quiet).await?;
        let file = fetched.root.path().join(&fetched.file_name);
        let (dir, cancel) = (scratch.join("context"), cancel.clone());
        self.blocking(move || {
            let mut head = [0u8; 512];
            let mut opened = std::fs::File::open(&file).context("cannot open the download")?;
            let length = std::io::Read::read(&mut opened, &mut head).context("cannot read the download")?;
            if is_text(&head[..length]) {
                return Ok(Remote::Dockerfile(std::fs::read(&file).context("cannot read the download")?));
            }
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let opened = std::fs::File::open(&file).context("cannot open the download")?;
            unpack_tar(opened, dir.clone(), &UnpackOptions::context(CONTEXT_MAX, cancel))?;
            Ok(Remote::Directory(dir))
        })
        .await
    }

    /// Removes build cache records nobody used since `unused_for` seconds, or all; gives keys and bytes.
    pub async fn build_prune(&self, unused_for: Option<u64>, dry_run: bool) -> Result<(Vec<String>, u64)> {
        let engine = self.clone();
        self.blocking(move || {
            let now = barque_model::Timestamp::now();
            let entries = engine.store().read(|r| r.cache_entries())?;
            let old =
                |e: &barque_store::CacheEntry| unused_for.is_none_or(|secs| now.since(e.last_used).as_secs() >= secs);
            let chosen: Vec<_> = entries.into_iter().filter(old).collect();
            let bytes = chosen.iter().map(|e| e.size).sum();
            if !dry_run {
                engine.store().write(|tx| chosen.iter().try_for_each(|e| tx.cache_delete(&e.key)))?;
                engine.store().collect()?;
                engine.store().discard_dir(&engine.cache_mounts_dir())?;
            }
            Ok((chosen.into_iter().map(|e| e.key).collect(), bytes))
        })
        .await
    }

    /// Directories of `RUN --mount=type=cache`.
    pub(crate) fn cache_mounts_dir(&self) -> PathBuf {
        self.config().data_root.join("build-mounts")
    }
}

enum Remote {
    Directory(PathBuf),
    Dockerfile(Vec<u8>),
}

/// No archive begins like a text.
fn is_text(head: &[u8]) -> bool {
    std::str::from_utf8(head).is_ok_and(|t| !t.contains('\0')) || head.is_empty()
}

fn read_dockerfile(context: &ContextDir, name: &str) -> Result<Vec<u8>> {
    let limit = barque_build::parse::MAX_DOCKERFILE;
    if let Some(bytes) = context.read(Path::new(name), limit)? {
        return Ok(bytes);
    }
    // Docker also takes the name in small letters.
    if name == DOCKERFILE
        && let Some(bytes) = context.read(Path::new("dockerfile"), limit)?
    {
        return Ok(bytes);
    }
    Err(Error::invalid(format!("failed to read dockerfile: open {name}: no such file or directory"))
        .with_hint("name it with -f, or change to its directory; a .dockerignore does not hide it"))
}
