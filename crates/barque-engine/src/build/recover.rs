//! What builds leave behind when the engine ends in the middle of them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use barque_model::{Result, Signal};
use barque_runtime::{Exit, Reopened, Task};

use crate::Engine;

/// How long a killed step may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Takes away what a former engine's builds left: their steps, directories and snapshots. Called before the first
    /// build. What cannot be removed is said and left for the next start.
    pub(crate) fn discard_builds(&self) {
        let said = |what: &str, result: Result<()>| {
            if let Err(e) = result {
                tracing::warn!("cannot remove what {what} left: {}", e.chain());
            }
        };
        let exec = &self.config().exec_root;
        for step in entries(&exec.join("steps")) {
            said("a build step", end_step(&step));
        }
        for dir in entries(&exec.join("build")) {
            said("a build step", std::fs::remove_dir_all(&dir).map_err(Into::into));
        }
        let unfinished =
            entries(&self.cache_mounts_dir()).into_iter().filter(|path| super::mounts::is_unfinished(path));
        for dir in entries(&self.build_dir()).into_iter().chain(unfinished) {
            said("a build", self.store().discard_dir(&dir));
        }
        said("a build", self.discard_step_snapshots());
    }

    /// Snapshots are either containers' or those of build steps.
    fn discard_step_snapshots(&self) -> Result<()> {
        let (snapshots, containers) = self.store().read(|r| Ok((r.snapshots()?, r.containers()?)))?;
        let used: HashSet<_> = containers.iter().filter_map(|c| c.snapshot).collect();
        snapshots.iter().filter(|s| !used.contains(&s.id)).try_for_each(|s| self.store().remove_snapshot(&s.id))
    }
}

/// Kills a step that outlived its engine.
fn end_step(run_dir: &Path) -> Result<()> {
    if let Reopened::Running(task) = Task::reopen(run_dir)? {
        task.kill_all(Signal::KILL)?;
        let _ended: Option<Exit> = task.wait_timeout(PATIENCE)?;
        task.wait_gone(PATIENCE)?;
    }
    match std::fs::remove_dir_all(run_dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => Ok(other?),
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
