//! What the builder needs of an engine: snapshots, images, downloads. Commands are in [`super::run`].

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_build::options::PullPolicy;
use barque_build::worker::{
    BaseImage, BaseRequest, ExitStatus, FetchedGit, FetchedUrl, FinishSpec, GitRequest, Layer, LogSink, ProgressSink,
    Root, RunSpec, SnapshotId, UrlRequest, Worker,
};
use barque_model::{ChainId, Error, ErrorKind, Id, ImageId, Reference, Result, Timestamp};
use barque_store::{CommitMode, DiffOptions, Image, Lease, NewImage, SnapshotDirs, Store};
use tokio_util::sync::CancellationToken;

use crate::Engine;
use crate::image::types::{PullOptions, RegistryAuth};

pub struct EngineWorker {
    pub(super) engine: Engine,
    pub(super) lease: Arc<Lease>,
    /// This build's own directory.
    pub(super) scratch: PathBuf,
    auth: Vec<(String, RegistryAuth)>,
}

/// A writable snapshot; discarded unless committed.
pub struct Active {
    pub(super) id: Id,
    pub(super) dirs: SnapshotDirs,
    parent: Option<ChainId>,
    store: Store,
    committed: bool,
}

impl Drop for Active {
    fn drop(&mut self) {
        if !self.committed
            && let Err(e) = self.store.remove_snapshot(&self.id)
        {
            tracing::warn!("cannot remove a build step's files: {}", e.chain());
        }
    }
}

impl EngineWorker {
    pub fn new(engine: Engine, lease: Arc<Lease>, scratch: PathBuf, auth: Vec<(String, RegistryAuth)>) -> Self {
        EngineWorker { engine, lease, scratch, auth }
    }

    /// Credentials for the registry of `reference`; Docker Hub goes by several names.
    fn auth_for(&self, reference: &Reference) -> RegistryAuth {
        let hub = reference.domain() == "docker.io";
        let fits = |host: &str| {
            let host = host.trim_start_matches("https://").trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or(host);
            host == reference.domain() || hub && matches!(host, "index.docker.io" | "docker.io")
        };
        self.auth.iter().find(|(host, _)| fits(host)).map(|(_, auth)| auth.clone()).unwrap_or_default()
    }

    /// The image of that name; its layers stay until the build ends.
    async fn local(&self, name: &str) -> Result<Option<Image>> {
        let (engine, lease, name) = (self.engine.clone(), self.lease.clone(), name.to_owned());
        self.engine
            .blocking(move || {
                let found = match engine.image_for_container(&name, None) {
                    Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                    Err(e) => return Err(e),
                    Ok(info) => engine.store().read(|r| r.image(&info.id))?,
                };
                // Removed meanwhile, or not to be removed any more.
                let Some(image) = found else { return Ok(None) };
                let held = match image.layers.last() {
                    Some(top) => engine.store().hold_layer(&lease, &top.chain_id)?,
                    None => true,
                };
                Ok(Some(image).filter(|_| held))
            })
            .await
    }

    /// Whether an image of that name need not be pulled.
    pub(super) async fn is_here(&self, name: &str) -> Result<bool> {
        Ok(self.local(name).await?.is_some())
    }

    async fn pull(&self, request: &BaseRequest, progress: ProgressSink) -> Result<()> {
        let reference: Reference = request.reference.parse()?;
        let options = PullOptions {
            auth: self.auth_for(&reference),
            reference,
            all_tags: false,
            platform: Some(request.platform.clone()),
        };
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel::<crate::image::types::Progress>();
        let tell = async {
            while let Some(step) = told.recv().await {
                let Some(id) = step.id else { continue };
                let (current, total) = (step.current.unwrap_or(0), step.total.unwrap_or(0));
                progress.report(barque_build::event::Progress { id, action: step.status, current, total });
            }
        };
        tokio::join!(self.engine.image_pull(options, sender), tell).0
    }
}

/// A mounted directory as a path: it stays as long as the descriptor does.
fn rooted(view: crate::rootfs::View) -> Root {
    let fd = view.root.dir().as_fd().as_raw_fd();
    Root::guarded(PathBuf::from(format!("/proc/self/fd/{fd}")), view.root)
}

fn chain_of(snapshot: &SnapshotId) -> Result<ChainId> {
    snapshot.0.parse()
}

/// `written` is what the image was asked for by: the name that is shown.
fn base_image(image: &Image, written: &str) -> BaseImage {
    let asked: Option<Reference> = written.parse().ok().map(|r: Reference| r.with_default_tag());
    // An id names no repository, though it looks like one.
    let asked = asked.filter(|r| image.tags.contains(r));
    let name = asked.as_ref().or(image.tags.first()).map_or_else(|| image.id.to_string(), ToString::to_string);
    let repository = asked.as_ref().or(image.tags.first()).map(Reference::name);
    let own = image.digests.iter().find(|d| repository.as_ref().is_none_or(|r| d.name() == *r));
    let name = match own.and_then(Reference::digest) {
        Some(digest) => format!("{name}@{digest}"),
        None => name,
    };
    let diff_ids: Vec<_> = image.layers.iter().map(|l| l.diff_id).collect();
    let layers: Vec<Layer> = ChainId::chain(&diff_ids)
        .iter()
        .zip(&diff_ids)
        .map(|(chain, diff)| Layer {
            snapshot: SnapshotId(chain.to_string()),
            diff_id: Some(*diff),
            size: 0,
            empty: false,
        })
        .collect();
    BaseImage {
        name,
        id: image.id,
        config: image.config.clone(),
        snapshot: layers.last().map(|l| l.snapshot.clone()),
        layers,
    }
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

impl Worker for EngineWorker {
    type Active = Active;

    async fn resolve(&self, request: &BaseRequest, pull: PullPolicy, progress: ProgressSink) -> Result<BaseImage> {
        if pull != PullPolicy::Always
            && let Some(image) = self.local(&request.reference).await?
            && (!request.platform_explicit || request.platform.score(&image.platform).is_some())
        {
            return Ok(base_image(&image, &request.reference));
        }
        self.pull(request, progress).await?;
        let image = self.local(&request.reference).await?;
        let image = image.ok_or_else(|| Error::not_found(format!("No such image: {}", request.reference)))?;
        Ok(base_image(&image, &request.reference))
    }

    /// [`EngineWorker::resolve`] has pulled everything already.
    async fn ensure(&self, _base: &BaseImage, _progress: ProgressSink) -> Result<()> {
        Ok(())
    }

    async fn prepare(&self, parent: Option<&SnapshotId>) -> Result<Active> {
        let parent = parent.map(chain_of).transpose()?;
        let store = self.engine.store().clone();
        self.engine
            .blocking(move || {
                let id = Id::random();
                let dirs = store.create_snapshot(id, parent)?;
                Ok(Active { id, dirs, parent, store, committed: false })
            })
            .await
    }

    async fn root(&self, active: &Active) -> Result<Root> {
        let dirs = active.dirs.clone();
        self.engine.blocking(move || crate::rootfs::writable(&dirs.lowers, &dirs.upper, &dirs.work).map(rooted)).await
    }

    async fn view(&self, snapshot: &SnapshotId) -> Result<Root> {
        let (store, chain) = (self.engine.store().clone(), chain_of(snapshot)?);
        self.engine.blocking(move || crate::rootfs::read_only(&store.lower_dirs(&chain)?).map(rooted)).await
    }

    async fn own_files(&self, active: &Active, earlier: &SnapshotId) -> Result<Option<(Root, Root)>> {
        let (chain, upper) = (chain_of(earlier)?, active.dirs.upper.clone());
        let (store, lease) = (self.engine.store().clone(), self.lease.clone());
        self.engine
            .blocking(move || {
                // Held until the build ends, so that nothing takes it away meanwhile.
                if !store.hold_layer(&lease, &chain)? {
                    return Ok(None);
                }
                let own = store.lower_dirs(&chain)?.into_iter().next();
                Ok(own.map(|own| (Root::new(own), Root::new(upper))))
            })
            .await
    }

    async fn run(
        &self,
        active: &Active,
        spec: &RunSpec,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<ExitStatus> {
        self.run_command(active, spec, log, cancel).await
    }

    async fn commit(&self, mut active: Active, epoch: Option<Timestamp>) -> Result<Layer> {
        if let Some(parent) = active.parent
            && is_empty(&active.dirs.upper)
        {
            let snapshot = SnapshotId(parent.to_string());
            return Ok(Layer { snapshot, diff_id: None, size: 0, empty: true });
        }
        let (store, lease) = (self.engine.store().clone(), self.lease.clone());
        self.engine
            .blocking(move || {
                // All of it moves here: of a captured field only a copy would change.
                let active = &mut active;
                let options = DiffOptions { clamp_mtime: epoch.map(Timestamp::seconds) };
                let layer = store.commit_snapshot(&lease, &active.id, CommitMode::Move, options)?;
                active.committed = true;
                Ok(Layer {
                    snapshot: SnapshotId(layer.chain_id.to_string()),
                    diff_id: Some(layer.diff_id),
                    size: layer.size,
                    empty: false,
                })
            })
            .await
    }

    fn can_stack(&self) -> bool {
        true
    }

    async fn stack(&self, parent: &SnapshotId, layer: &Layer) -> Result<Layer> {
        let (parent, of) = (chain_of(parent)?, chain_of(&layer.snapshot)?);
        let (store, lease) = (self.engine.store().clone(), self.lease.clone());
        self.engine
            .blocking(move || {
                let stacked = store.stack_layer(&lease, &of, Some(parent))?;
                Ok(Layer {
                    snapshot: SnapshotId(stacked.chain_id.to_string()),
                    diff_id: Some(stacked.diff_id),
                    size: stacked.size,
                    empty: false,
                })
            })
            .await
    }

    async fn fetch_url(&self, request: &UrlRequest, progress: ProgressSink) -> Result<FetchedUrl> {
        super::fetch::url(&self.engine, &self.scratch, request, progress).await
    }

    async fn fetch_git(&self, request: &GitRequest, _progress: ProgressSink) -> Result<FetchedGit> {
        super::fetch::git(&self.scratch, request).await
    }

    async fn finish(&self, spec: &FinishSpec) -> Result<ImageId> {
        let missing = || Error::internal("a layer of the result has no digest");
        let diff_ids = spec.layers.iter().map(|l| l.diff_id.ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
        let config = spec.config.to_json(&diff_ids)?;
        let (store, lease) = (self.engine.store().clone(), self.lease.clone());
        self.engine
            .blocking(move || {
                let image = NewImage { config, manifest: None, index: None, names: Vec::new(), parent: None };
                Ok(store.put_image(&lease, image)?.id)
            })
            .await
    }
}
