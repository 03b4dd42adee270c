//! The thread that relays connections and answers DNS queries: one tokio runtime for a whole engine.

use std::future::Future;

use barque_model::{Context, Result};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

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

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn spawn<F>(&self, task: F) -> tokio::task::AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.handle.spawn(task).abort_handle()
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
