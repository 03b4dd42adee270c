//! The thread that relays connections and answers DNS queries: one tokio runtime for a whole engine.

use std::future::Future;
use std::sync::mpsc;
use std::time::Duration;

use barque_model::{Context, Result};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// How long the sockets of ended tasks may take to close.
const CLOSING: Duration = Duration::from_secs(2);

/// The thread's handle. Dropping it ends the thread; all tasks and their sockets go with it.
pub(crate) struct Io {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Io {
    /// Starts the thread in the calling thread's network namespace.
    pub(crate) fn start() -> Result<Io> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.context("cannot set up the network thread's event loop")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("barque-net".into()).spawn(move || {
            // An error is a dropped sender, which means the same.
            let _ = runtime.block_on(stopped);
        });
        let thread = thread.context("cannot start the network thread")?;
        Ok(Io { handle, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its ports must be free when we return. A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

/// Tasks whose sockets are closed once this is dropped: whoever binds the same ports next must not
/// find them in use. Not to be dropped on the network thread, which would wait for itself.
pub(crate) struct Tasks {
    handle: Handle,
    tasks: Vec<AbortHandle>,
    alive: Option<mpsc::Sender<()>>,
    /// Disconnected once every task is gone.
    gone: mpsc::Receiver<()>,
}

/// Held by a task for as long as it has sockets; dropped after them.
#[derive(Clone)]
pub(crate) struct Guard(#[expect(dead_code, reason = "held for its drop")] mpsc::Sender<()>);

impl Tasks {
    pub(crate) fn new(handle: Handle) -> Tasks {
        let (alive, gone) = mpsc::channel();
        Tasks { handle, tasks: Vec::new(), alive: Some(alive), gone }
    }

    pub(crate) fn spawn<F>(&mut self, task: impl FnOnce(Guard) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(alive) = &self.alive {
            let task = task(Guard(alive.clone()));
            self.tasks.push(self.handle.spawn(task).abort_handle());
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.alive = None;
        if self.tasks.is_empty() {
            return;
        }
        self.tasks.iter().for_each(AbortHandle::abort);
        // Nothing is ever sent.
        let _ = self.gone.recv_timeout(CLOSING);
    }
}
