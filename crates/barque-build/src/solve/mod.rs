//! The solver: executes what the target needs, in parallel, with a cache.

use std::sync::Arc;

use barque_model::{Error, ImageId, Result};
use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
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
    pub config: ImageConfig,
    /// Layers of the result, bottom first, without empty ones.
    pub layers: Vec<Layer>,
    /// The result's file system, for `-o`; `None` is an empty one.
    pub snapshot: Option<SnapshotId>,
    pub warnings: Vec<Warning>,
    /// Declared but unused build arguments, in Docker's order.
    pub unused_build_args: Vec<String>,
}

/// A build that failed, and what is left of the step that did.
#[derive(Debug)]
pub struct BuildFailure<W: Worker> {
    pub error: Error,
    /// With [`crate::options::BuildOptions::keep_failed`], if a `RUN` failed.
    pub failed_step: Option<FailedStep<W>>,
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
pub async fn build<W: Worker>(
    worker: Arc<W>,
    cache: Arc<dyn Cache>,
    request: BuildRequest,
    events: EventSink,
    cancel: CancellationToken,
) -> Result<BuildOutcome, Box<BuildFailure<W>>> {
    let _ = (worker, cache, request, events, cancel);
    Err(Box::new(BuildFailure { error: Error::not_implemented("build"), failed_step: None }))
}
