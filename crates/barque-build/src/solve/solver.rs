//! Chains of steps as tasks: each waits for its inputs, asks the cache, executes what it must.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use barque_model::{Digest, Error, ErrorKind, Result, Timestamp};
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::definition::Definitions;
use super::lookup::files_name;
use super::prepare::Prepared;
use super::{BuildFailure, BuildOutcome, FailedStep};
use crate::cache::{Cache, CacheRecord, KeyInput, LayerRecord, NO_PARENT, StepIdentity};
use crate::context::Digested;
use crate::event::{BuildEvent, EventSink, StepInfo, VertexId, VertexInfo};
use crate::graph::{BuildGraph, FsRef, Op, Vertex};
use crate::instructions::Dockerfile;
use crate::options::BuildRequest;
use crate::why;
use crate::worker::{BaseImage, FetchedGit, FetchedUrl, GitRequest, Layer, SnapshotId, Worker};

/// After a failure or cancellation, tasks have this long to clean up.
const GRACE: Duration = Duration::from_secs(20);

/// What a vertex made.
#[derive(Debug, Clone)]
pub(super) enum Done {
    /// A base image; its layers may not be present yet.
    Base,
    Step {
        /// Bottom first; never empty.
        layers: Vec<Layer>,
        created: Timestamp,
        record: Arc<CacheRecord>,
    },
    /// A download, made or (if its content is known beforehand) still to be made.
    Fetch,
}

/// What was fetched.
#[derive(Debug, Clone)]
pub(super) enum Fetched {
    Url(Arc<FetchedUrl>),
    Git(Arc<FetchedGit>),
}

/// Tells waiting tasks that a vertex is done; `Err` that it never will be.
type Cell = watch::Sender<Option<Result<Done, ()>>>;

/// The first failure of the build.
pub(super) struct Failure<W: Worker> {
    pub(super) error: Error,
    pub(super) exit_code: Option<i32>,
    pub(super) failed_step: Option<FailedStep<W>>,
}

impl<W: Worker> From<Error> for Failure<W> {
    fn from(error: Error) -> Self {
        Failure { error, exit_code: None, failed_step: None }
    }
}

/// Everything the tasks of one build share.
pub(super) struct Shared<W: Worker> {
    pub(super) worker: Arc<W>,
    pub(super) cache: Arc<dyn Cache>,
    pub(super) request: Arc<BuildRequest>,
    pub(super) file: Dockerfile,
    pub(super) graph: BuildGraph,
    pub(super) events: EventSink,
    pub(super) cancel: CancellationToken,
    cells: Vec<Cell>,
    /// Base images made present.
    bases: Vec<OnceCell<()>>,
    downloads: Vec<OnceCell<Fetched>>,
    /// Base images the user was told about.
    told: Vec<AtomicBool>,
    permits: Semaphore,
    failure: Mutex<Option<Failure<W>>>,
    /// By which imported caches were asked.
    pub(super) found: OnceLock<Definitions>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs blocking work where it may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(Error::internal("a task of the build was lost").with_source(e)),
    }
}

pub(super) async fn solve<W: Worker>(
    worker: Arc<W>,
    cache: Arc<dyn Cache>,
    request: Arc<BuildRequest>,
    prepared: Prepared,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<BuildOutcome, Box<BuildFailure<W>>> {
    let Prepared { file, graph, next_internal } = prepared;
    announce(&graph, &events);
    let vertices = graph.vertices.len();
    let shared = Arc::new(Shared {
        worker,
        cache,
        file,
        events,
        cancel: cancel.child_token(),
        cells: (0..vertices).map(|_| watch::Sender::new(None)).collect(),
        bases: (0..vertices).map(|_| OnceCell::new()).collect(),
        downloads: (0..vertices).map(|_| OnceCell::new()).collect(),
        told: (0..vertices).map(|_| AtomicBool::new(false)).collect(),
        permits: Semaphore::new(request.options.parallelism.max(1)),
        failure: Mutex::new(None),
        found: OnceLock::new(),
        graph,
        request,
    });
    let mut tasks = JoinSet::new();
    let mut chains = chains(&shared.graph);
    if shared.cache.imports() {
        match shared.take_over().await {
            Ok(needed) => chains.iter_mut().for_each(|chain| chain.retain(|id| needed.contains(id))),
            Err(failure) => {
                shared.fail(failure);
                chains.clear();
            }
        }
    }
    for chain in chains {
        let shared = shared.clone();
        tasks.spawn(async move { shared.chain(chain).await });
    }
    wait(&shared, &mut tasks).await;
    shared.save_stats().await;
    if cancel.is_cancelled() {
        return Err(Error::canceled("the build was canceled").into());
    }
    if let Some(failure) = lock(&shared.failure).take() {
        let Failure { error, exit_code, failed_step } = failure;
        return Err(Box::new(BuildFailure { error, exit_code, failed_step }));
    }
    Ok(shared.finish(next_internal).await?)
}

/// Waits for all tasks; after a cancellation not for ever.
async fn wait<W: Worker>(shared: &Shared<W>, tasks: &mut JoinSet<()>) {
    let mut deadline = None;
    loop {
        let next = async {
            match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, tasks.join_next()).await,
                None => Ok(tasks.join_next().await),
            }
        };
        tokio::select! {
            joined = next => match joined {
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(e))) => shared.fail(Error::internal("a task of the build was lost").with_source(e).into()),
                Ok(None) => return,
                Err(_) => {
                    tasks.shutdown().await;
                    return;
                }
            },
            () = shared.cancel.cancelled(), if deadline.is_none() => {
                deadline = Some(tokio::time::Instant::now() + GRACE);
            }
        }
    }
}

fn announce(graph: &BuildGraph, events: &EventSink) {
    let info = |v: &Vertex| VertexInfo { id: v.id, name: v.name.clone(), inputs: v.op.inputs(), line: v.line };
    let vertices: Arc<[VertexInfo]> = graph.vertices.iter().map(info).collect();
    let steps: Arc<[StepInfo]> = graph.steps.clone().into();
    events.send(BuildEvent::Planned { vertices, steps });
}

/// Splits the graph into chains, each vertex after its parent, every vertex in exactly one.
fn chains(graph: &BuildGraph) -> Vec<Vec<VertexId>> {
    let mut chain_of: HashMap<VertexId, usize> = HashMap::new();
    let mut chains: Vec<Vec<VertexId>> = Vec::new();
    for vertex in &graph.vertices {
        let parent = vertex.op.parent().and_then(FsRef::vertex);
        // A second child of the same parent is another branch.
        let place = parent.and_then(|p| {
            let index = *chain_of.get(&p)?;
            (chains.get(index)?.last() == Some(&p)).then_some(index)
        });
        let index = place.unwrap_or_else(|| {
            chains.push(Vec::new());
            chains.len() - 1
        });
        if let Some(chain) = chains.get_mut(index) {
            chain.push(vertex.id);
        }
        chain_of.insert(vertex.id, index);
    }
    chains
}

/// The commit a git source must have, if it is named completely: then nothing need be asked.
pub(super) fn pinned_commit(request: &GitRequest) -> Option<&str> {
    let full = |c: &&str| matches!(c.len(), 40 | 64) && c.bytes().all(|b| b.is_ascii_hexdigit());
    request.checksum.as_deref().filter(full)
}

/// A name of 12 hexadecimal digits for what a step made.
fn name_of(layers: &[Layer]) -> String {
    let snapshot = layers.last().map_or("", |l| l.snapshot.0.as_str());
    Digest::of(snapshot.as_bytes()).short()
}

impl<W: Worker> Shared<W> {
    pub(super) fn set(&self, id: VertexId, result: Result<Done, ()>) {
        if let Some(cell) = self.cells.get(id.0 as usize) {
            cell.send_replace(Some(result));
        }
    }

    /// What `id` made, once it has. Errors: the build failed elsewhere.
    pub(super) async fn done(&self, id: VertexId) -> Result<Done> {
        let stopped = || Error::canceled("the build stopped");
        let mut receiver = self.cells.get(id.0 as usize).ok_or_else(stopped)?.subscribe();
        tokio::select! {
            biased;
            value = receiver.wait_for(Option::is_some) => match value.map_err(|_| stopped())?.as_ref() {
                Some(Ok(done)) => Ok(done.clone()),
                _ => Err(stopped()),
            },
            () = self.cancel.cancelled() => Err(stopped()),
        }
    }

    /// What `id` has made until now.
    pub(super) fn made_already(&self, id: VertexId) -> Option<Done> {
        self.cells.get(id.0 as usize)?.borrow().as_ref()?.as_ref().ok().cloned()
    }

    fn fail(&self, failure: Failure<W>) {
        lock(&self.failure).get_or_insert(failure);
        self.cancel.cancel();
    }

    async fn chain(self: Arc<Self>, chain: Vec<VertexId>) {
        for (index, id) in chain.iter().enumerate() {
            if self.made_already(*id).is_some() {
                continue;
            }
            if let Err(failure) = self.clone().one(*id).await {
                if failure.error.kind() == ErrorKind::Canceled && self.cancel.is_cancelled() {
                    self.events.send(BuildEvent::Canceled { vertex: *id });
                }
                self.fail(failure);
                for id in &chain[index..] {
                    self.set(*id, Err(()));
                }
                return;
            }
        }
    }

    pub(super) async fn one(self: Arc<Self>, id: VertexId) -> Result<(), Failure<W>> {
        let Some(vertex) = self.graph.vertex(id) else { return Ok(()) };
        let done = match &vertex.op {
            Op::Base(_) => Done::Base,
            Op::FetchUrl(r) if r.checksum.is_some() => Done::Fetch,
            Op::FetchGit(r) if pinned_commit(r).is_some() => Done::Fetch,
            Op::FetchUrl(_) | Op::FetchGit(_) => {
                self.fetched(id).await?;
                Done::Fetch
            }
            Op::Run(_) | Op::Copy(_) | Op::Mkdir(_) => self.clone().step(vertex).await?,
        };
        self.set(id, Ok(done));
        Ok(())
    }

    /// A step that the cache had, laid on its parent where it was made `apart` from it.
    pub(super) async fn cached(
        &self,
        vertex: &Vertex,
        apart: Option<&SnapshotId>,
        record: CacheRecord,
    ) -> Result<Done> {
        let layers = self.laid_on(apart, record.layers()).await?;
        self.tell_cached(vertex, &layers);
        Ok(Done::Step { layers, created: record.created, record: Arc::new(record) })
    }

    /// Downloads what `id` names, once.
    pub(super) async fn fetched(&self, id: VertexId) -> Result<Fetched> {
        let unknown = || Error::internal("not a download");
        let vertex = self.graph.vertex(id).ok_or_else(unknown)?;
        let cell = self.downloads.get(id.0 as usize).ok_or_else(unknown)?;
        let fetch = || async {
            let started = self.start(id);
            let progress = self.progress(id);
            let work = async {
                match &vertex.op {
                    Op::FetchUrl(r) => self.worker.fetch_url(r, progress).await.map(|f| Fetched::Url(f.into())),
                    Op::FetchGit(r) => self.worker.fetch_git(r, progress).await.map(|f| Fetched::Git(f.into())),
                    _ => Err(unknown()),
                }
            };
            let fetched = tokio::select! {
                () = self.cancel.cancelled() => return Err(Error::canceled("the build stopped")),
                fetched = work => fetched,
            };
            match fetched {
                Ok(value) => {
                    self.complete(id, String::new(), started);
                    Ok(value)
                }
                Err(e) => Err(self.failed(vertex, e, started)),
            }
        };
        cell.get_or_try_init(fetch).await.cloned()
    }

    pub(super) fn start(&self, vertex: VertexId) -> Instant {
        self.events.send(BuildEvent::Started { vertex });
        Instant::now()
    }

    fn complete(&self, vertex: VertexId, result: String, started: Instant) {
        self.events.send(BuildEvent::Completed { vertex, result, elapsed: started.elapsed() });
    }

    /// Reports a failure and adds the marked line to the error.
    fn failed(&self, vertex: &Vertex, error: Error, started: Instant) -> Error {
        if error.kind() == ErrorKind::Canceled {
            return error;
        }
        let message = error.chain();
        self.events.send(BuildEvent::Failed { vertex: vertex.id, message, elapsed: started.elapsed() });
        let excerpt = self.file.source.excerpt(vertex.span);
        let hint = match error.hint() {
            // The download that a step made for itself has said so already.
            Some(hint) if hint.contains(&excerpt) => return error,
            Some(hint) => format!("{hint}\n{excerpt}"),
            None => excerpt,
        };
        error.with_hint(hint)
    }

    /// The snapshot a reference stands for; `None` for an empty file system or a context.
    pub(super) async fn snapshot(&self, fs: &FsRef) -> Result<Option<SnapshotId>> {
        let FsRef::Vertex(id) = fs else { return Ok(None) };
        match (self.done(*id).await?, self.graph.vertex(*id).map(|v| &v.op)) {
            (Done::Step { layers, .. }, _) => Ok(layers.last().map(|l| l.snapshot.clone())),
            (Done::Base, Some(Op::Base(image))) => Ok(image.snapshot.clone()),
            _ => Ok(None),
        }
    }

    /// The base image below `fs`.
    fn base_of(&self, fs: &FsRef) -> Option<(&Vertex, &Arc<BaseImage>)> {
        let mut at = fs.vertex();
        while let Some(vertex) = at.and_then(|id| self.graph.vertex(id)) {
            if let Op::Base(image) = &vertex.op {
                return Some((vertex, image));
            }
            at = vertex.op.parent().and_then(FsRef::vertex);
        }
        None
    }

    /// Whether this is the first word about a base image.
    fn untold(&self, base: VertexId) -> bool {
        self.told.get(base.0 as usize).is_some_and(|told| !told.swap(true, Ordering::Relaxed))
    }

    /// Makes the base image below `fs` present.
    pub(super) async fn ensure(&self, fs: &FsRef) -> Result<()> {
        let Some((vertex, image)) = self.base_of(fs) else { return Ok(()) };
        let Some(cell) = self.bases.get(vertex.id.0 as usize) else { return Ok(()) };
        let fetch = || async {
            let told = !self.untold(vertex.id);
            let started = if told { Instant::now() } else { self.start(vertex.id) };
            match self.worker.ensure(image, self.progress(vertex.id)).await {
                Ok(()) if told => Ok(()),
                Ok(()) => {
                    self.complete(vertex.id, image.id.digest().short(), started);
                    Ok(())
                }
                Err(e) => Err(self.failed(vertex, e, started)),
            }
        };
        cell.get_or_try_init(fetch).await.copied()
    }

    /// A step came from the cache: so did what it stands on.
    fn tell_cached(&self, vertex: &Vertex, layers: &[Layer]) {
        if let Some((base, image)) = vertex.op.parent().and_then(|fs| self.base_of(fs))
            && self.untold(base.id)
        {
            self.events.send(BuildEvent::Cached { vertex: base.id, result: image.id.digest().short() });
        }
        self.events.send(BuildEvent::Cached { vertex: vertex.id, result: name_of(layers) });
    }

    /// A file-system step: from the cache, or executed.
    async fn step(self: Arc<Self>, vertex: &Vertex) -> Result<Done, Failure<W>> {
        let parent = match vertex.op.parent() {
            Some(fs) => self.snapshot(fs).await?,
            None => None,
        };
        // A linked copy is made on nothing and laid on top of its parent afterwards.
        let apart = self.is_apart(&vertex.op).then_some(parent.as_ref()).flatten();
        let below = if apart.is_some() { None } else { parent.as_ref() };
        let parent_text = below.map_or_else(|| NO_PARENT.to_owned(), |s| s.0.clone());
        let began = Instant::now();
        let keyed = match self.keyed(vertex, &parent_text).await {
            Ok(keyed) => keyed,
            Err(e) if e.kind() == ErrorKind::Canceled => return Err(e.into()),
            Err(e) => {
                self.events.send(BuildEvent::Started { vertex: vertex.id });
                return Err(self.failed(vertex, e, began).into());
            }
        };
        if let Some(record) = keyed.hit {
            return Ok(self.cached(vertex, apart, record).await?);
        }
        let permit = tokio::select! {
            permit = self.permits.acquire() => permit,
            () = self.cancel.cancelled() => return Err(Error::canceled("the build stopped").into()),
        };
        for fs in vertex.op.sources() {
            self.ensure(fs).await?;
        }
        let identity = self.identity(vertex);
        let before = match self.request.options.explain {
            true => self.cache.nearest(&identity).ok().flatten(),
            false => None,
        };
        let started = self.start(vertex.id);
        let made = match self.clone().made(vertex, below, &parent_text, &keyed.files).await {
            Ok(made) => made,
            Err(mut failure) => {
                failure.error = self.failed(vertex, failure.error, started);
                return Err(failure);
            }
        };
        drop(permit);
        let record = self.record(keyed.key, identity, keyed.inputs.0, &made);
        self.keep(&record, keyed.fast_key, &keyed.files);
        if self.request.options.explain {
            self.explain(vertex, &record, before.as_ref());
        }
        let layers = self.laid_on(apart, made).await?;
        self.complete(vertex.id, name_of(&layers), started);
        Ok(Done::Step { layers, created: record.created, record: Arc::new(record) })
    }

    pub(super) fn record(
        &self,
        key: Digest,
        step: StepIdentity,
        inputs: Vec<KeyInput>,
        layers: &[Layer],
    ) -> CacheRecord {
        let mut parts: Vec<LayerRecord> = layers.iter().map(LayerRecord::from).collect();
        let nothing = LayerRecord { snapshot: String::new(), diff_id: None, size: 0, empty: true };
        let layer = parts.pop().unwrap_or(nothing);
        CacheRecord { key, step, inputs, layer, parts, created: Timestamp::now(), definition: None }
    }

    /// A cache that cannot be written makes the next build slow, not this one wrong.
    pub(super) fn keep(&self, record: &CacheRecord, fast_key: Option<Digest>, files: &[Option<Arc<Digested>>]) {
        let alias = fast_key.map(|key| CacheRecord { key, ..record.clone() });
        for record in std::iter::once(record).chain(&alias) {
            if let Err(e) = self.cache.put(record) {
                tracing::warn!("build cache: {}", e.chain());
            }
        }
        for done in files.iter().flatten() {
            let _ = self.cache.put_blob(&files_name(&done.digest.to_string()), &done.manifest());
        }
    }

    fn explain(&self, vertex: &Vertex, record: &CacheRecord, before: Option<&CacheRecord>) {
        let previous = vertex.op.parent().and_then(FsRef::vertex).and_then(|id| self.graph.vertex(id));
        let previous = previous.filter(|v| !matches!(v.op, Op::Base(_))).map(|v| v.instruction.as_str());
        let step = why::Step { inputs: &record.inputs, before, forced: vertex.ignore_cache, previous };
        let manifest = |digest: &str| self.cache.blob(&files_name(digest)).ok().flatten();
        let reasons = why::reasons(&step, &manifest);
        self.events.send(BuildEvent::Why { vertex: vertex.id, reasons });
    }

    pub(super) fn identity(&self, vertex: &Vertex) -> StepIdentity {
        StepIdentity {
            scope: self.request.options.scope.clone(),
            stage: vertex.stage.clone(),
            ordinal: vertex.ordinal,
            instruction: vertex.instruction.clone(),
        }
    }

    async fn save_stats(self: &Arc<Self>) {
        let shared = self.clone();
        let save = move || {
            let options = &shared.request.options;
            let named = options.named_contexts.values().filter_map(|c| match c {
                crate::options::NamedContext::Directory(dir) => Some(dir),
                crate::options::NamedContext::Image(_) => None,
            });
            // What was made for this build alone will not be seen again.
            let stays = |c: &&Arc<crate::context::ContextDir>| !c.path().starts_with(&options.scratch);
            for context in shared.request.context.iter().chain(named).filter(stays) {
                context.save_stats(&*shared.cache)?;
            }
            Ok(())
        };
        if let Err(e) = blocking(save).await {
            tracing::warn!("build cache: {}", e.chain());
        }
    }

    pub(super) fn location(&self, vertex: &Vertex) -> String {
        format!("{}:{}", self.file.source.name(), vertex.line)
    }

    pub(super) fn progress(&self, vertex: VertexId) -> crate::worker::ProgressSink {
        let events = self.events.clone();
        crate::worker::ProgressSink::new(move |progress| events.send(BuildEvent::Progress { vertex, progress }))
    }
}
