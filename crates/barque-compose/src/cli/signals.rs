//! Signals the user sends us, passed on to a container.

use barque_client::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

/// Passes signals on until dropped.
#[derive(Debug)]
pub(super) struct Proxy(Vec<JoinHandle<()>>);

impl Proxy {
    /// Passes INT, TERM, HUP, QUIT, USR1 and USR2 on to a container.
    pub(super) fn start(client: Client, id: String, wanted: bool) -> Proxy {
        let kinds = [
            (SignalKind::interrupt(), "SIGINT"),
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::hangup(), "SIGHUP"),
            (SignalKind::quit(), "SIGQUIT"),
            (SignalKind::user_defined1(), "SIGUSR1"),
            (SignalKind::user_defined2(), "SIGUSR2"),
        ];
        let tasks = kinds.into_iter().filter(|_| wanted).filter_map(|(kind, name)| {
            let mut stream = signal(kind).ok()?;
            let (client, id) = (client.clone(), id.clone());
            Some(tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    let _ = client.container_kill(&id, name).await;
                }
            }))
        });
        Proxy(tasks.collect())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}
