//! Namespaces kept ready: making one, with its interface, takes longer than all the rest of a start.
//!
//! One thread refills, and waits for a quiet moment while half is left: making a namespace
//! takes the same locks in the kernel as the start that just took one. Whoever finds the pool empty
//! makes a namespace himself.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use barque_model::{Id, Result};

use crate::fabric::PoolConfig;
use crate::netns::NetNs;

/// Pause after a failed attempt; what failed will rarely work at once.
const RETRY: Duration = Duration::from_secs(5);

/// No namespace was taken for so long: a start is over.
const QUIET: Duration = Duration::from_millis(15);

/// Makes a namespace: bare, or with an interface on the network.
pub(crate) type Maker = dyn Fn(Option<&Id>) -> Result<NetNs> + Send + Sync;

#[derive(Debug, Default)]
struct State {
    bare: Vec<NetNs>,
    bridged: Vec<NetNs>,
    network: Option<Id>,
    last_taken: Option<Instant>,
    closed: bool,
}

/// The pool and its thread. Dropping it ends the thread and lets the namespaces go.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    limits: PoolConfig,
    state: Mutex<State>,
    wake: Condvar,
}

impl Pool {
    /// Starts the refilling thread, unless there is nothing to keep.
    pub(crate) fn start(limits: PoolConfig, make: Box<Maker>) -> Pool {
        let shared = Arc::new(Shared { limits, state: Mutex::default(), wake: Condvar::new() });
        if limits.bare + limits.bridged > 0 {
            let worker = Arc::clone(&shared);
            let spawned = std::thread::Builder::new()
                .name("netns-pool".into())
                .stack_size(256 << 10)
                .spawn(move || worker.refill(&*make));
            // Without the thread nothing is ready ahead, and everything still works.
            if let Err(error) = spawned {
                tracing::warn!(%error, "no thread for the pool of network namespaces");
            }
        }
        Pool { shared }
    }

    /// A namespace that is ready: with an interface on `network` if possible.
    pub(crate) fn take(&self, network: Option<&Id>) -> Option<NetNs> {
        let mut state = self.shared.lock();
        let ns = match network {
            Some(id) if state.network.as_ref() == Some(id) => state.bridged.pop(),
            _ => state.bare.pop(),
        };
        state.last_taken = Some(Instant::now());
        self.shared.wake.notify_one();
        ns
    }

    /// Changes the network interfaces are prepared for; what was prepared for another one is let go.
    pub(crate) fn set_network(&self, network: Option<Id>) {
        let stale = {
            let mut state = self.shared.lock();
            if state.network == network {
                return;
            }
            state.network = network;
            std::mem::take(&mut state.bridged)
        };
        drop(stale);
        self.shared.wake.notify_one();
    }

    /// Stops preparing interfaces for `network`.
    pub(crate) fn drop_network(&self, network: &Id) {
        let current = self.shared.lock().network;
        if current.as_ref() == Some(network) {
            self.set_network(None);
        }
    }

    /// How many are ready: bare, with an interface.
    pub(crate) fn ready(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.bare.len(), state.bridged.len())
    }

    /// Ends the thread and lets all namespaces go.
    pub(crate) fn close(&self) {
        let gone = {
            let mut state = self.shared.lock();
            state.closed = true;
            (std::mem::take(&mut state.bare), std::mem::take(&mut state.bridged))
        };
        drop(gone);
        self.shared.wake.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refill(&self, make: &Maker) {
        let mut state = self.lock();
        while !state.closed {
            let Some(network) = self.wanted(&state) else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let pause = state.last_taken.map_or(Duration::ZERO, |t| QUIET.saturating_sub(t.elapsed()));
            if pause > Duration::ZERO && !self.is_low(&state, network.as_ref()) {
                state = self.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            drop(state);
            let made = make(network.as_ref());
            state = self.lock();
            match made {
                Ok(ns) if state.closed => drop(ns),
                Ok(ns) if network.is_none() => state.bare.push(ns),
                // The network may have changed meanwhile.
                Ok(ns) if network == state.network => state.bridged.push(ns),
                Ok(ns) => drop(ns),
                Err(error) => {
                    tracing::debug!(error = error.chain(), "cannot prepare a network namespace");
                    state = self.wake.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// Less than half is left: this is more than a single start.
    fn is_low(&self, state: &State, network: Option<&Id>) -> bool {
        match network {
            Some(_) => state.bridged.len() * 2 < self.limits.bridged,
            None => state.bare.len() * 2 < self.limits.bare,
        }
    }

    /// What to make next: with an interface on this network, bare (`None` inside), or nothing.
    fn wanted(&self, state: &State) -> Option<Option<Id>> {
        if state.network.is_some() && state.bridged.len() < self.limits.bridged {
            return Some(state.network);
        }
        (state.bare.len() < self.limits.bare).then_some(None)
    }
}
