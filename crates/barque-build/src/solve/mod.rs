//! The solver: executes what the target needs, in parallel, with a cache.

mod definition;
mod exec;
mod export;
mod finish;
mod keys;
mod lookup;
mod parts;
mod prepare;
mod solver;

use std::sync::Arc;

use barque_model::{Error, ImageId, Result, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::cache::{Cache, CacheRecord};
use crate::config::ImageConfig;
use crate::event::EventSink;
use crate::lint::Warning;
use crate::options::BuildRequest;
use crate::worker::{Layer, RunSpec, SnapshotId, Worker};

/// What a build gave.
#[derive(Debug, Clone)]
pub struct BuildOutcome {
    /// The stored image; `None` if none was wished for (`make_image: false`, `check_only`).
    pub image: Option<ImageId>,
    /// The image with the cache's records ([`crate::options::BuildOptions::export_cache`]).
    pub cache_image: Option<ImageId>,
    pub config: ImageConfig,
    /// Layers of the result, bottom first, without empty ones.
    pub layers: Vec<Layer>,
    /// `SOURCE_DATE_EPOCH`, from wherever it came.
    pub epoch: Option<Timestamp>,
    /// The result's file system, for `-o`; `None` is an empty one.
    pub snapshot: Option<SnapshotId>,
    pub warnings: Vec<Warning>,
    /// Build arguments that no `ARG` declares, sorted.
    pub unused_build_args: Vec<String>,
    /// Records of the target's steps, bottom first, for `--cache-to`.
    pub records: Vec<CacheRecord>,
}

/// A build that failed, and what is left of the step that did.
pub struct BuildFailure<W: Worker> {
    pub error: Error,
    /// The status of the command that failed: `docker build` exits with it.
    pub exit_code: Option<i32>,
    /// With [`crate::options::BuildOptions::keep_failed`], if a `RUN` failed.
    pub failed_step: Option<FailedStep<W>>,
}

impl<W: Worker> std::fmt::Debug for BuildFailure<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut out = f.debug_struct("BuildFailure");
        out.field("error", &self.error).field("exit_code", &self.exit_code).field("failed_step", &self.failed_step);
        out.finish()
    }
}

impl<W: Worker> From<Error> for Box<BuildFailure<W>> {
    fn from(error: Error) -> Self {
        Box::new(BuildFailure { error, exit_code: None, failed_step: None })
    }
}

/// The scene of a failed `RUN`, for `--debug`.
pub struct FailedStep<W: Worker> {
    pub active: W::Active,
    /// The failed command: run another program with the same surroundings.
    pub spec: RunSpec,
    /// The instruction's text.
    pub instruction: String,
}

impl<W: Worker> std::fmt::Debug for FailedStep<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FailedStep").field("spec", &self.spec).field("instruction", &self.instruction).finish()
    }
}

/// Builds one image for one platform.
///
/// Errors: `InvalidArgument` for what the Dockerfile or the context does wrong (hint: the marked excerpt),
/// `Canceled` after `cancel`, whatever the worker said otherwise. A failed command's message is Docker's:
/// `The command '/bin/sh -c …' returned a non-zero code: N`.
///
/// When it returns, nothing of the build runs any more. Drop the future only with the runtime: `cancel` is the
/// way to stop a build.
pub async fn build<W: Worker>(
    worker: Arc<W>,
    cache: Arc<dyn Cache>,
    request: BuildRequest,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<BuildOutcome, Box<BuildFailure<W>>> {
    let request = Arc::new(request);
    let prepared = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Error::canceled("the build was canceled").into()),
        prepared = prepare::prepare(&*worker, &request, &events) => prepared?,
    };
    for warning in &prepared.graph.warnings {
        events.send(crate::event::BuildEvent::Warning(warning.clone()));
    }
    if let Some(lint) = &prepared.graph.lint_error {
        return Err(Error::invalid(lint.clone())
            .with_hint("fix the warnings, or drop error=true from # check=")
            .into());
    }
    if request.options.check_only {
        let prepare::Prepared { graph, .. } = prepared;
        return Ok(BuildOutcome {
            image: None,
            cache_image: None,
            config: graph.config,
            layers: Vec::new(),
            epoch: graph.epoch,
            snapshot: None,
            warnings: graph.warnings,
            unused_build_args: graph.unused_build_args,
            records: Vec::new(),
        });
    }
    solver::solve(worker, cache, request, prepared, events, cancel).await
}
