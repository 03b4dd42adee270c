//! Keys that one thread works on while others wait, such as two pulls of one layer.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

#[derive(Default)]
struct State {
    keys: Mutex<HashSet<String>>,
    released: Condvar,
}

/// A set of locks by name.
#[derive(Clone, Default)]
pub(crate) struct Busy(Arc<State>);

/// Holds one name until dropped.
pub(crate) struct BusyKey {
    state: Arc<State>,
    key: String,
}

impl Busy {
    /// Waits until nobody holds `key`, and takes it.
    pub(crate) fn acquire(&self, key: &str) -> BusyKey {
        let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        while keys.contains(key) {
            keys = self.0.released.wait(keys).unwrap_or_else(PoisonError::into_inner);
        }
        keys.insert(key.to_owned());
        BusyKey { state: Arc::clone(&self.0), key: key.to_owned() }
    }

    /// The names held now.
    pub(crate) fn held(&self) -> HashSet<String> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for BusyKey {
    fn drop(&mut self) {
        self.state.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.state.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_waits_for_the_first() {
        let busy = Busy::default();
        let first = busy.acquire("x");
        let other = busy.acquire("y");
        let (sent, seen) = std::sync::mpsc::channel();
        let waiter = {
            let busy = busy.clone();
            std::thread::spawn(move || {
                let _second = busy.acquire("x");
                sent.send(()).unwrap();
            })
        };
        assert!(seen.recv_timeout(std::time::Duration::from_millis(50)).is_err());
        drop(first);
        seen.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
        waiter.join().unwrap();
        drop(other);
        assert!(busy.held().is_empty());
    }
}
