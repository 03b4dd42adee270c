//! Events: what happened to which object. Kept in a bounded history for `events --since`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use barque_model::Timestamp;
use tokio::sync::broadcast;

/// Events kept for late readers.
const HISTORY: usize = 1024;
/// Events a slow reader may lag behind before it loses some.
const BACKLOG: usize = 1024;

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `container`, `image`, `network`, `volume`, `builder`, `daemon`.
    pub kind: &'static str,
    /// `create`, `start`, `exec_start: /bin/sh -c …`.
    pub action: String,
    pub actor: String,
    pub attributes: BTreeMap<String, String>,
    pub time: Timestamp,
}

/// Publishes events and remembers the latest.
#[derive(Debug)]
pub struct Events {
    history: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

/// The past and the future of the event stream, without a gap between them.
#[derive(Debug)]
pub struct Subscription {
    pub past: Vec<Arc<Event>>,
    pub live: broadcast::Receiver<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Events { history: Mutex::new(VecDeque::new()), sender: broadcast::channel(BACKLOG).0 }
    }
}

impl Events {
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        // Both under one lock, so that a subscriber sees each event exactly once.
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(event.clone());
        let _nobody_listens = self.sender.send(event);
    }

    pub fn emit<'a>(
        &self,
        kind: &'static str,
        action: impl Into<String>,
        actor: impl Into<String>,
        attributes: impl IntoIterator<Item = (&'a str, String)>,
    ) {
        let attributes = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        self.publish(Event { kind, action: action.into(), actor: actor.into(), attributes, time: Timestamp::now() });
    }

    pub fn subscribe(&self) -> Subscription {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        Subscription { past: history.iter().cloned().collect(), live: self.sender.subscribe() }
    }

    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_gap_between_past_and_future() {
        let events = Events::default();
        events.emit("container", "create", "a", []);
        let mut sub = events.subscribe();
        events.emit("container", "start", "a", [("name", "x".to_owned())]);
        assert_eq!(sub.past.len(), 1);
        let live = sub.live.try_recv().unwrap();
        assert_eq!((live.action.as_str(), live.attributes["name"].as_str()), ("start", "x"));
    }

    #[test]
    fn history_is_bounded() {
        let events = Events::default();
        for i in 0..HISTORY + 10 {
            events.emit("image", "tag", i.to_string(), []);
        }
        let past = events.subscribe().past;
        assert_eq!((past.len(), past[0].actor.as_str()), (HISTORY, "10"));
    }
}
