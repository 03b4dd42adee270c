//! `GET /events`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use barque_api::ApiVersion;
use barque_api::event::EventsQuery;
use barque_engine::events::{Event, Subscription};
use barque_model::{Error, Timestamp};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Context;
use super::logs::moment;
use crate::convert;
use crate::filter;
use crate::http::{self, Outcome};
use crate::router::{Routed, inline};

pub(super) fn events(context: Context) -> Routed {
    inline(stream_events(context))
}

/// How each document is set off.
#[derive(Clone, Copy)]
enum Framing {
    Lines,
    /// RFC 7464: a record separator before each document.
    Sequence,
}

async fn stream_events(context: Context) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(EventsQuery::from_params)?;
    let since = moment("since", &query.since)?;
    let until = moment("until", &query.until)?;
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(Error::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            query.since, query.until
        )));
    }
    let wanted = filter::event::events(query.filters);
    let (kind, framing) = content_type(call.header("accept"), call.version);
    let subscription = state.engine.events().subscribe();
    let now = Timestamp::now();
    let past = past(&subscription, since, until);
    let ends = until.map(|until| Instant::now() + until.since(now).min(Duration::from_secs(1 << 30)));
    let source = Source {
        past,
        live: (until.is_none_or(|until| until > now)).then_some(subscription),
        ends,
        stop: state.stop.clone(),
    };
    let version = call.version;
    let documents = stream::unfold((source, wanted), move |(mut source, wanted)| async move {
        let event = loop {
            let event = source.next().await?;
            // Creation of images is an event since 1.46.
            let hidden = version.before(46) && event.kind == "image" && event.action == "create";
            if !hidden && wanted(&event) {
                break event;
            }
        };
        Some((encode(&event, version, framing), (source, wanted)))
    });
    Ok(http::stream(kind, documents))
}

/// What was remembered; without `since` nothing, as Docker does.
fn past(subscription: &Subscription, since: Option<Timestamp>, until: Option<Timestamp>) -> VecDeque<Arc<Event>> {
    if since.is_none() && until.is_none() {
        return VecDeque::new();
    }
    let inside = |event: &&Arc<Event>| {
        since.is_none_or(|since| event.time >= since) && until.is_none_or(|until| event.time <= until)
    };
    subscription.past.iter().filter(inside).cloned().collect()
}

struct Source {
    past: VecDeque<Arc<Event>>,
    live: Option<Subscription>,
    ends: Option<Instant>,
    /// The daemon stops.
    stop: watch::Receiver<bool>,
}

impl Source {
    async fn next(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.past.pop_front() {
            return Some(event);
        }
        let live = &mut self.live.as_mut()?.live;
        loop {
            let ends = self.ends;
            let end = async {
                match ends {
                    Some(ends) => tokio::time::sleep_until(ends).await,
                    None => std::future::pending().await,
                }
            };
            let received = tokio::select! {
                biased;
                received = live.recv() => received,
                () = end => return None,
                _ = self.stop.wait_for(|stop| *stop) => return None,
            };
            match received {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(lost)) => tracing::warn!("a reader of events was too slow and lost {lost}"),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// The media type: what the client asks for by name, else that of its version.
fn content_type(accept: &str, version: ApiVersion) -> (&'static str, Framing) {
    for part in accept.split(',') {
        match part.split(';').next().unwrap_or_default().trim() {
            "application/jsonl" => return ("application/jsonl", Framing::Lines),
            "application/x-ndjson" => return ("application/x-ndjson", Framing::Lines),
            "application/json-seq" => return ("application/json-seq", Framing::Sequence),
            _ => {}
        }
    }
    (if version.before(52) { "application/json" } else { "application/jsonl" }, Framing::Lines)
}

fn encode(event: &Event, version: ApiVersion, framing: Framing) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    if matches!(framing, Framing::Sequence) {
        bytes.push(0x1e);
    }
    serde_json::to_writer(&mut bytes, &convert::event::message(event, version)).map_err(io::Error::other)?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types() {
        let of = |accept, minor| content_type(accept, ApiVersion::new(1, minor)).0;
        assert_eq!(of("", 41), "application/json");
        assert_eq!(of("*/*", 52), "application/jsonl");
        assert_eq!(of("application/json-seq, */*;q=0.1", 52), "application/json-seq");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_stream_with_an_end_ends() {
        let events = barque_engine::events::Events::default();
        events.emit("container", "start", "a", []);
        let subscription = events.subscribe();
        let past = past(&subscription, Some(Timestamp::from_secs(0)), None);
        let (_sender, stop) = watch::channel(false);
        let mut source =
            Source { past, live: Some(subscription), ends: Some(Instant::now() + Duration::from_millis(100)), stop };
        events.emit("container", "die", "a", []);
        assert_eq!(source.next().await.unwrap().action, "start");
        assert_eq!(source.next().await.unwrap().action, "die");
        assert!(source.next().await.is_none());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_stream_without_an_end_ends_with_the_daemon() {
        let events = barque_engine::events::Events::default();
        let (sender, stop) = watch::channel(false);
        let mut source = Source { past: VecDeque::new(), live: Some(events.subscribe()), ends: None, stop };
        sender.send(true).unwrap();
        assert!(source.next().await.is_none());
    }
}
