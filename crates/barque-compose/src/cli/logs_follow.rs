//! `logs --follow`: the logs of what runs, of what starts again and of what is made meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use barque_api::container::LogsQuery;
use barque_api::event::{EventMessage, EventsQuery};
use barque_api::filters::Filters;
use barque_client::JsonStream;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::context::Failure;
use super::logs::{Printer, follow};
use super::session::Session;
use crate::apply::observe;
use crate::plan::labels;
use crate::plan::observed::Container;

/// After the last log's end, a container may start for so long: a restart is an end and a start.
const LINGER: Duration = Duration::from_secs(1);

/// Events of the project's containers from now on.
pub(super) async fn listen(session: &Session) -> Result<JsonStream<EventMessage>, Failure> {
    let now = jiff::Timestamp::now();
    let query = EventsQuery {
        since: moment(i64::try_from(now.as_nanosecond()).unwrap_or_default()),
        filters: Filters::new()
            .with("type", "container")
            .with("label", format!("{}={}", labels::PROJECT, session.name)),
        ..EventsQuery::default()
    };
    Ok(session.engine.read().client().events(&query).await?)
}

/// Nanoseconds since 1970 as the API takes them.
fn moment(nanos: i64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// What is known of the containers whose logs are followed.
#[derive(Default)]
struct Known {
    names: BTreeMap<String, String>,
    /// Those that were there at first, until their log ends for the first time.
    first: BTreeSet<String>,
    /// Those whose log is open.
    live: BTreeSet<String>,
    /// When each ended last, nanoseconds since 1970.
    died: BTreeMap<String, i64>,
    /// Those that started again before their log was at its end.
    again: BTreeMap<String, String>,
}

/// Follows logs until no container runs any more.
pub(super) async fn all(
    session: &Session,
    mut events: JsonStream<EventMessage>,
    found: Vec<Container>,
    query: &LogsQuery,
    (printer, shown): (&Printer, &dyn Fn(&Container) -> bool),
) -> Result<(), Failure> {
    let reader = session.engine.read();
    let open = |id: String, name: String, query: LogsQuery| async move {
        let result = follow(reader, &id, &name, &query, printer).await;
        (id, result)
    };
    let mut logs = FuturesUnordered::new();
    let mut known = Known::default();
    let any = found.iter().any(|c| c.state.is_up());
    for container in found {
        known.names.insert(container.id.clone(), container.log_name());
        known.live.insert(container.id.clone());
        known.first.insert(container.id.clone());
        logs.push(open(container.id.clone(), container.log_name(), query.clone()));
    }
    let from = |since: String| {
        let since = if since.is_empty() { query.since.clone() } else { since };
        LogsQuery { since, tail: "all".to_owned(), ..query.clone() }
    };
    let linger = || tokio::time::Instant::now() + if any { LINGER } else { Duration::ZERO };
    let mut end = linger();
    loop {
        tokio::select! {
            Some((id, result)) = logs.next(), if !logs.is_empty() => {
                // what was made meanwhile may be gone as well
                if known.first.remove(&id) {
                    result?;
                }
                if let Some(since) = known.again.remove(&id) {
                    let name = known.names.get(&id).cloned().unwrap_or_default();
                    logs.push(open(id, name, from(since)));
                } else {
                    known.live.remove(&id);
                    // what it wrote so far was shown
                    let now = jiff::Timestamp::now().as_nanosecond();
                    known.died.entry(id).or_insert(i64::try_from(now).unwrap_or_default());
                }
                end = linger();
            }
            () = tokio::time::sleep_until(end), if logs.is_empty() => {
                if !any || !known.waits(session).await {
                    return Ok(());
                }
                end = linger();
            }
            event = events.next() => {
                let Some(event) = event? else { return Err(Failure::new("the engine closed the stream of events")) };
                if let Some((id, name, since)) = known.take(session, &event, shown).await? {
                    logs.push(open(id, name, from(since)));
                }
            }
        }
    }
}

impl Known {
    /// True if the engine is about to start one of them again.
    async fn waits(&self, session: &Session) -> bool {
        for id in self.names.keys() {
            if session.engine.read().inspect(id).await.is_ok_and(|c| c.state.restarting || c.state.running) {
                return true;
            }
        }
        false
    }

    /// Takes an event; the container whose log is to be followed because of it, and from when on.
    async fn take(
        &mut self,
        session: &Session,
        event: &EventMessage,
        shown: &dyn Fn(&Container) -> bool,
    ) -> Result<Option<(String, String, String)>, Failure> {
        let id = &event.actor.id;
        match event.action.as_str() {
            "die" => {
                self.died.insert(id.clone(), event.time_nano);
                return Ok(None);
            }
            "start" => {}
            _ => return Ok(None),
        }
        // its first words may be older than the event of its start; all of one that is new is to be shown
        let since = self.died.get(id).map(|died| moment(*died)).unwrap_or_default();
        let name = match self.names.get(id).cloned() {
            // started by `up` between the list and the opening of its log
            Some(_) if self.live.contains(id) && !self.died.contains_key(id) => return Ok(None),
            Some(_) if self.live.contains(id) => {
                self.again.insert(id.clone(), since);
                return Ok(None);
            }
            Some(name) => name,
            None => {
                let all = observe::containers(session.engine.read(), &session.name, true).await?;
                let Some(container) = all.into_iter().find(|c| c.id == *id && shown(c)) else { return Ok(None) };
                self.names.insert(id.clone(), container.log_name());
                container.log_name()
            }
        };
        self.live.insert(id.clone());
        Ok(Some((id.clone(), name, since)))
    }
}
