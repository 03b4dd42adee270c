//! The small single-threaded process all monitors are forked from.

use barque_model::{Error, Result};

use crate::error::LaunchError;
use crate::spec::{ExecSpec, Spec};
use crate::task::{Attachment, Task};

/// A handle to the spawner process. It ends when the last handle of the daemon is closed, as when the
/// daemon dies; the monitors it has forked live on.
#[derive(Debug)]
pub struct Spawner {}

/// Choices at the start of a spawner.
#[derive(Clone, Debug, Default)]
pub struct SpawnerOptions {
    /// Fork although the process has further threads. The child then inherits whatever locks they hold:
    /// for tests only, whose harness cannot avoid a second thread.
    pub allow_threads: bool,
}

impl Spawner {
    /// Forks the spawner. Call it before any thread is started (so before tokio); it is an error otherwise.
    pub fn start() -> Result<Spawner> {
        Spawner::start_with(SpawnerOptions::default())
    }

    pub fn start_with(_options: SpawnerOptions) -> Result<Spawner> {
        Err(Error::not_implemented("spawner"))
    }

    /// Starts a container. Returns once its program has been executed, or with the reason why not.
    /// `attach`: sockets that carry the standard streams from the first byte on; see [`Attachment`].
    /// Waits for a former monitor of the same `run_dir` to be gone.
    pub fn launch(&self, _spec: &Spec, _attach: Vec<Attachment>) -> Result<Task, LaunchError> {
        Err(Error::not_implemented("launch").into())
    }

    /// Starts a further process in the running container `container`.
    pub fn exec(&self, _container: &Task, _spec: &ExecSpec, _attach: Vec<Attachment>) -> Result<Task, LaunchError> {
        Err(Error::not_implemented("exec").into())
    }
}
