//! Signals on their way to a container, and those that end this program.

use barque_client::Client;
use barque_model::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::{CliResult, Failure};

/// The signals that are passed on: all that can be caught, but for those that mean this program alone.
fn proxied(tty: bool) -> impl Iterator<Item = i32> {
    // CHLD, STOP, KILL, PIPE, URG, and those of faults are this program's own; the C library's are 32 and 33.
    const OWN: [i32; 11] = [4, 7, 8, 9, 11, 13, 17, 19, 23, 32, 33];
    (1..=64).filter(move |n| !(OWN.contains(n) || tty && *n == Signal::WINCH.number()))
}

/// How many times a program may be asked to end before this one ends without it.
const PATIENCE: u32 = 2;

/// Starts to catch signals; they are kept until [`Caught::forward`] passes them on.
pub(crate) struct Caught {
    arrived: mpsc::UnboundedReceiver<i32>,
}

impl Caught {
    /// Begins to catch; how big a terminal is, is told another way. From here on, Ctrl-C does not end this program.
    pub(crate) fn all(tty: bool) -> Caught {
        let (sender, arrived) = mpsc::unbounded_channel();
        for number in proxied(tty) {
            // Real-time and reserved signals that cannot be caught are left alone.
            let Ok(mut stream) = signal(SignalKind::from_raw(number)) else { continue };
            let sender = sender.clone();
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    if sender.send(number).is_err() {
                        return;
                    }
                }
            });
        }
        Caught { arrived }
    }

    /// Sends every signal to the container, until dropped.
    pub(crate) async fn forward(mut self, client: &Client, container: &str) {
        let mut asked_to_end = 0;
        while let Some(number) = self.arrived.recv().await {
            asked_to_end += u32::from(number == 2 || number == 15);
            if asked_to_end > PATIENCE {
                super::restore();
                barque_client::tell("\ngot 3 SIGTERM/SIGINTs, forcefully exiting");
                std::process::exit(1);
            }
            let Some(signal) = Signal::from_number(number) else { continue };
            let name = signal.to_string();
            let name = name.strip_prefix("SIG").unwrap_or(&name);
            // A container that has ended needs no signal any more.
            let _ = client.container_kill(container, name).await;
        }
    }
}

/// Does `work`, unless a signal ends this program first. What `work` keeps is dropped then, so temporary files and
/// settings of the terminal do not outlive it.
pub(crate) async fn unless_ended<T>(work: impl Future<Output = CliResult<T>>) -> CliResult<T> {
    tokio::select! {
        biased;
        result = work => result,
        number = termination() => Err(Failure::silent(128 + number)),
    }
}

/// Waits for a signal that is to end this program, and gives its number.
pub(crate) async fn termination() -> u8 {
    let wait = |kind: SignalKind, number: u8| async move {
        match signal(kind) {
            Ok(mut stream) => {
                stream.recv().await;
                number
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        number = wait(SignalKind::interrupt(), 2) => number,
        number = wait(SignalKind::terminate(), 15) => number,
        number = wait(SignalKind::hangup(), 1) => number,
        number = wait(SignalKind::quit(), 3) => number,
    }
}
