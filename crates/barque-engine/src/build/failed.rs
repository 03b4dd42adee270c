//! Builds that failed: why, with which exit status, and what is kept of the step for a look at it.

use barque_build::BuildFailure;
use barque_build::config::{ContainerConfig, ImageConfig};
use barque_build::worker::{SnapshotId, Worker};
use barque_build::{FailedStep, config::History};
use barque_model::{Error, ImageId, Result, Timestamp};
use barque_store::NewImage;

use super::worker::EngineWorker;
use crate::Engine;

/// A build that failed.
#[derive(Debug)]
pub struct BuildError {
    pub error: Error,
    /// The status of the command that failed.
    pub exit_code: Option<i32>,
    /// The failed step, if it was to be kept.
    pub kept: Option<KeptStep>,
}

/// The file system a failed `RUN` left, as an image without a name.
#[derive(Clone, Debug)]
pub struct KeptStep {
    pub image: ImageId,
    pub instruction: String,
    /// Program and arguments.
    pub command: Vec<String>,
}

impl From<Error> for BuildError {
    fn from(error: Error) -> Self {
        BuildError { error, exit_code: None, kept: None }
    }
}

impl Engine {
    pub(super) async fn failed_build(&self, worker: &EngineWorker, failure: BuildFailure<EngineWorker>) -> BuildError {
        let BuildFailure { error, exit_code, failed_step } = failure;
        let kept = match failed_step {
            Some(step) => match self.keep_step(worker, step).await {
                Ok(kept) => Some(kept),
                Err(e) => {
                    tracing::warn!("cannot keep the failed step: {}", e.chain());
                    None
                }
            },
            None => None,
        };
        BuildError { error, exit_code, kept }
    }

    async fn keep_step(&self, worker: &EngineWorker, step: FailedStep<EngineWorker>) -> Result<KeptStep> {
        let FailedStep { active, spec, instruction } = step;
        let layer = worker.commit(active, None).await?;
        let config = ImageConfig {
            architecture: spec.platform.architecture.clone(),
            os: spec.platform.os.clone(),
            created: Some(Timestamp::now().to_string()),
            config: ContainerConfig {
                user: spec.user.clone(),
                env: spec.env.clone(),
                cmd: Some(vec!["/bin/sh".into()]),
                working_dir: spec.cwd.clone(),
                ..ContainerConfig::default()
            },
            ..ImageConfig::default()
        };
        let image = self.snapshot_image(worker, &layer.snapshot, config).await?;
        Ok(KeptStep { image, instruction, command: spec.args })
    }

    /// An image without a name whose files are those of a snapshot.
    async fn snapshot_image(
        &self,
        worker: &EngineWorker,
        snapshot: &SnapshotId,
        mut config: ImageConfig,
    ) -> Result<ImageId> {
        let (store, lease) = (self.store().clone(), worker.lease.clone());
        let chain = snapshot.0.parse()?;
        self.blocking(move || {
            let mut layers = store.read(|r| r.layer_chain(&chain))?;
            layers.reverse();
            let diff_ids: Vec<_> = layers.iter().map(|l| l.diff_id).collect();
            let entry = History { created_by: "a build step that failed".into(), ..History::default() };
            config.history = vec![entry; diff_ids.len()];
            let config = config.to_json(&diff_ids)?;
            let image = NewImage { config, manifest: None, index: None, names: Vec::new(), parent: None };
            Ok(store.put_image(&lease, image)?.id)
        })
        .await
    }
}
