//! Waiting for processes and for containers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use barque_model::{Error, Result, Timestamp};
use barque_runtime::{Exit, Task};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::driver::Handle;
use super::request::{WaitCondition, WaitResult};
use super::state::State;
use super::view::ContainerView;

/// The end of a task, once all its output is delivered.
pub async fn exit_of(task: &Arc<Task>) -> Exit {
    if let Ok(fd) = task.exit_fd().try_clone_to_owned() {
        // Deprecated for types that may give another descriptor each time; an owned one does not.
        #[expect(deprecated)]
        let registered = AsyncFd::with_interest(fd, Interest::READABLE);
        if let Ok(fd) = registered {
            let _readable = fd.readable().await;
        }
    }
    let waiting = task.clone();
    let result = tokio::task::spawn_blocking(move || waiting.wait()).await;
    match result {
        Ok(Ok(exit)) => exit,
        _ => Exit { code: 137, signal: None, oom_killed: false, finished_at: Timestamp::now(), lost: true },
    }
}

/// Resolves when `handle` meets `condition`. The state at the call counts, not that at the first poll.
pub fn wait(handle: &Arc<Handle>, condition: WaitCondition) -> impl Future<Output = Result<WaitResult>> + Send + use<> {
    let mut views = handle.watch();
    let first = views.borrow_and_update().clone();
    let gone = handle.gone();
    async move {
        let started = Starts::of(&first);
        let mut view = first;
        let mut last = result_of(&view);
        loop {
            let removed = gone.borrow_is_true();
            let done = match condition {
                // An exit that a restart follows is one, too.
                WaitCondition::NotRunning => !is_up(&view) || started.ended_since(&view) || removed,
                WaitCondition::NextExit => started.ended_since(&view) || removed,
                WaitCondition::Removed => removed,
            };
            if let (State::Dead { why }, WaitCondition::Removed) = (&view.state, condition) {
                return Ok(WaitResult { error: Some(why.clone()), ..last });
            }
            if done {
                return Ok(last);
            }
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return Ok(last) },
                () = gone.wait() => {}
            }
            view = views.borrow_and_update().clone();
            // A view of the removal does not say how the last run ended better than the one before.
            if view.state.last_exit().is_some() || matches!(view.state, State::Created { error: Some(_) }) {
                last = result_of(&view);
            }
        }
    }
}

fn is_up(view: &ContainerView) -> bool {
    matches!(view.state, State::Running(_) | State::Starting { .. } | State::Restarting { .. })
}

/// What tells one run from the next.
struct Starts(Option<Timestamp>);

impl Starts {
    fn of(view: &ContainerView) -> Starts {
        Starts(finished(view))
    }

    fn ended_since(&self, view: &ContainerView) -> bool {
        finished(view).is_some_and(|f| Some(f) != self.0)
    }
}

fn finished(view: &ContainerView) -> Option<Timestamp> {
    match &view.state {
        State::Created { error: Some(failure) } => Some(failure.at),
        state => state.last_exit().map(|e| e.finished_at),
    }
}

fn result_of(view: &ContainerView) -> WaitResult {
    match &view.state {
        State::Created { error: Some(failure) } => {
            WaitResult { code: failure.code, error: Some(failure.message.clone()) }
        }
        state => state.last_exit().map_or_else(WaitResult::default, |e| WaitResult {
            code: e.code,
            error: Some(e.error.clone()).filter(|t| !t.is_empty()),
        }),
    }
}

/// Waits for the end of a removal that somebody else began.
///
/// Errors: Internal if it failed.
pub async fn removed(handle: &Arc<Handle>) -> Result<()> {
    match wait(handle, WaitCondition::Removed).await?.error {
        Some(why) if matches!(handle.view().state, State::Dead { .. }) => {
            Err(Error::internal(format!("container {} could not be removed: {why}", handle.id))
                .with_hint("mend the cause and remove it again"))
        }
        _ => Ok(()),
    }
}

/// Waits until the process of `handle` is gone; `false` after `limit`.
pub async fn stopped_within(handle: &Arc<Handle>, limit: Option<Duration>) -> bool {
    let mut views = handle.watch();
    let down = async {
        loop {
            if !views.borrow_and_update().state.is_running() {
                return;
            }
            if views.changed().await.is_err() {
                return;
            }
        }
    };
    match limit {
        None => {
            down.await;
            true
        }
        Some(limit) => tokio::time::timeout(limit, down).await.is_ok(),
    }
}

/// As [`stopped_within`], with an error for who waits without end.
pub async fn must_stop_within(handle: &Arc<Handle>, limit: Duration) -> Result<()> {
    if stopped_within(handle, Some(limit)).await {
        return Ok(());
    }
    Err(Error::internal(format!(
        "container {} did not stop: tried to kill it, but no exit event came within {} s",
        handle.id,
        limit.as_secs()
    ))
    .with_hint("a process in uninterruptible sleep cannot be killed: see its state in `ps`, and what it waits for"))
}
