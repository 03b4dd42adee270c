//! Builds: contexts made present, the solver run over [`worker::EngineWorker`], names given to the result.

mod cache;
mod failed;
mod fetch;
mod mask;
mod mounts;
mod prune;
mod recover;
mod run;
mod source;
mod worker;

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_build::config::ImageConfig;
use barque_build::event::EventSink;
use barque_build::lint::Warning;
use barque_build::options::{BuildOptions, BuildRequest};
use barque_build::worker::{SnapshotId, Worker};
use barque_model::{Context, Id, ImageId, Reference, Result, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::Engine;
use crate::container::files::tar_stream;
use crate::container::request::TarStream;
use crate::image::types::RegistryAuth;
pub use failed::{BuildError, KeptStep};
pub use prune::PruneOptions;
use source::Sources;
use worker::EngineWorker;

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
    /// Its text (`-f -`, or a file outside of the context), and its name for messages.
    Inline(Vec<u8>, String),
}

/// What `--build-context` names.
pub enum NamedSource {
    /// An image's name.
    Image(String),
    /// A directory of this machine.
    Directory(PathBuf),
    /// URL of an archive or a git repository.
    Remote(String),
    /// In the main context's archive, or in [`BuildJob::archive`].
    Archive,
}

/// One build as the front end asks for it.
pub struct BuildJob {
    pub context: ContextSource,
    pub dockerfile: DockerfileSource,
    /// `scratch` and `named_contexts` are filled in by the engine.
    pub options: BuildOptions,
    /// Patterns instead of those of the context's own ignore file.
    pub ignore: Option<Vec<String>>,
    /// `--build-context`.
    pub contexts: Vec<(String, NamedSource)>,
    /// An archive of named contexts alone, where the context itself is not sent.
    pub archive: Option<TarStream>,
    /// Images that may know results of steps (`--cache-from`).
    pub cache_from: Vec<String>,
    pub tags: Vec<Reference>,
    /// Credentials for base images, by registry.
    pub auth: Vec<(String, RegistryAuth)>,
    /// Give the result's files as an archive (`-o type=tar` and `type=local`).
    pub export: bool,
}

/// What a build gave.
pub struct BuildResult {
    pub image: Option<ImageId>,
    /// The image that holds the cache, where it was asked for.
    pub cache_image: Option<ImageId>,
    pub config: ImageConfig,
    pub warnings: Vec<Warning>,
    pub unused_build_args: Vec<String>,
    /// The files, where they were asked for.
    pub files: Option<TarStream>,
}

/// The build argument that leaves `.git` in a context from a repository (BuildKit's).
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Makes a directory that no other user of the machine may enter, with those above it.
fn private_dir(path: &Path) -> Result<()> {
    let say = || format!("cannot make {}", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(say)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).with_context(say)
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
    pub async fn build(
        &self,
        job: BuildJob,
        events: EventSink,
        cancel: CancellationToken,
    ) -> Result<BuildResult, BuildError> {
        let scratch = Scratch { engine: self.clone(), path: self.build_dir().join(Id::random().to_string()) };
        private_dir(&scratch.path)?;
        let lease = {
            let store = self.store().clone();
            Arc::new(self.blocking(move || store.lease("build")).await?)
        };
        let worker = Arc::new(EngineWorker::new(self.clone(), lease, scratch.path.clone(), job.auth));
        let BuildJob { context, dockerfile, mut options, ignore, contexts, archive, cache_from, tags, export, .. } =
            job;
        let keep_git_dir = options.flag(KEEP_GIT_DIR);
        let sources = Sources { context, dockerfile, ignore, contexts, archive, keep_git_dir };
        let prepared = self.prepare_context(&worker, sources, &scratch.path, &cancel).await?;
        options.scratch.clone_from(&scratch.path);
        options.named_contexts = prepared.contexts;
        if options.scope.is_empty() {
            let known = tags.first().map(Reference::familiar).unwrap_or_default();
            let place = if prepared.place.is_empty() { known } else { prepared.place };
            options.scope = format!("{place} {}", prepared.name);
        }
        let imported = self.import_cache(&worker, &cache_from, options.target_platform(), &events).await;
        let make_image = options.make_image;
        let (context, dockerfile, dockerfile_name) = (prepared.context, prepared.bytes, prepared.name);
        let request = BuildRequest { dockerfile, dockerfile_name, context, options };
        let cache = Arc::new(cache::EngineCache::new(self.clone(), worker.lease.clone(), imported));
        let built = Box::pin(barque_build::build(worker.clone(), cache, request, events, cancel)).await;
        let outcome = match built {
            Ok(outcome) => outcome,
            Err(failure) => return Err(self.failed_build(&worker, *failure).await),
        };
        if let Some(image) = outcome.image.filter(|_| make_image) {
            self.name_result(image, tags).await?;
        }
        let files = match export {
            true => Some(self.export_result(&worker, outcome.snapshot.as_ref(), outcome.epoch).await?),
            false => None,
        };
        Ok(BuildResult {
            image: outcome.image,
            cache_image: outcome.cache_image,
            config: outcome.config,
            warnings: outcome.warnings,
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
            engine.image_event("create", &image.to_string(), &image.to_string());
            for tag in tags {
                let tag = tag.with_default_tag();
                engine.store().tag_image(&image, &tag, None)?;
                engine.image_event("tag", &image.to_string(), &tag.familiar());
            }
            Ok(())
        })
        .await
    }

    /// The files of the result; those of the base, too, are no younger than `epoch`.
    async fn export_result(
        &self,
        worker: &EngineWorker,
        snapshot: Option<&SnapshotId>,
        epoch: Option<Timestamp>,
    ) -> Result<TarStream> {
        let Some(snapshot) = snapshot else {
            return tar_stream(|out| {
                // Two zero blocks: an archive without entries.
                out.write_all(&[0u8; 1024])?;
                Ok(())
            });
        };
        let (root, lease) = (worker.view(snapshot).await?, worker.lease.clone());
        tar_stream(move |out| {
            let _held = lease;
            let tree = barque_store::RootDir::open(root.path()).context("cannot open the result")?;
            let clamp_mtime = epoch.map(Timestamp::seconds);
            let options = barque_store::TarTreeOptions { clamp_mtime, ..Default::default() };
            barque_store::tree::tar_tree(&tree, Path::new("/"), &options, out).map(|_| ())
        })
    }
}
