//! `/build`, `/build/prune`, `/build/cancel`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use barque_api::auth::AuthConfigs;
use barque_api::build::{BuildPruneQuery, BuildPruned, BuildQuery};
use barque_api::progress::JsonMessage;
use barque_build::event::{BuildEvent, EventSink};
use barque_build::render::classic::Classic;
use barque_engine::build::{BuildJob, ContextSource, DockerfileSource};
use barque_model::{Error, Reference, Result, Timestamp};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::{Context, transfer};
use crate::convert;
use crate::filter;
use crate::http::{self, Call, Outcome};
use crate::router::{Routed, inline, keep};

/// Bytes of output that wait for a slow client before output is left out.
const BACKLOG: usize = 8 << 20;
/// Bytes of a message that is sent in any case.
const SHORT: usize = 256;
/// A directory of this machine instead of an archive; taken from clients of the unix socket only.
const CONTEXT_DIR: &str = "x-barque-context-dir";
/// Say why each step runs.
const EXPLAIN: &str = "x-barque-explain";

/// Finds the route below `/build`.
pub(crate) fn route(context: Context, method: &str, path: &[&str]) -> Option<Routed> {
    Some(match (method, path) {
        ("POST", []) => inline(build(context)),
        ("POST", ["prune"]) => keep(prune(context)),
        // A build is cancelled by its client going away; there is nothing left to cancel.
        ("POST", ["cancel"]) => inline(async { http::empty() }),
        _ => return None,
    })
}

async fn build(context: Context) -> Outcome {
    let Context { state, mut call } = context;
    let query = call.query(BuildQuery::from_params)?;
    let mut options = convert::build::options(&query)?;
    options.explain = !call.header(EXPLAIN).is_empty();
    let tags = convert::build::tags(&query.tags)?;
    let job = BuildJob {
        context: source(&mut call, &query)?,
        dockerfile: DockerfileSource::Path(query.dockerfile.clone()),
        options,
        tags: tags.clone(),
        auth: convert::build::credentials(registry_config(&call)),
        export: false,
    };
    let engine = state.engine.clone();
    let cancel = CancellationToken::new();
    let guard = cancel.clone().drop_guard();
    let waiting = Arc::new(AtomicUsize::new(0));
    transfer::messages(call.version, waiting.clone(), move |sender| async move {
        // Dropped with the reply: the client went away.
        let _guard = guard;
        let output = Output::new(sender, waiting, query.quiet, query.rm.unwrap_or(true));
        let result = engine.build(job, output.sink(), cancel).await;
        match result {
            Ok(result) => {
                Ok(finished(result.image.map(|id| id.to_string()), &result.unused_build_args, &tags, query.quiet))
            }
            Err(error) => {
                output.rest();
                Err(error)
            }
        }
    })
    .await
}

/// Where the files come from.
fn source(call: &mut Call, query: &BuildQuery) -> Result<ContextSource> {
    let dir = call.header(CONTEXT_DIR);
    if !dir.is_empty() {
        if !call.local {
            return Err(Error::new(
                barque_model::ErrorKind::Forbidden,
                "a directory of this machine can be named over its unix socket only",
            ));
        }
        return Ok(ContextSource::Directory(dir.into()));
    }
    Ok(match query.remote.as_str() {
        "" => ContextSource::Tar(call.reader()),
        url => ContextSource::Remote(url.to_owned()),
    })
}

/// `X-Registry-Config`; malformed ones are taken for none, as Docker does.
fn registry_config(call: &Call) -> AuthConfigs {
    http::decode_base64(call.header("x-registry-config"))
        .and_then(|bytes| barque_api::json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// What follows the builder's own messages when a build succeeded.
fn finished(image: Option<String>, unused: &[String], tags: &[Reference], quiet: bool) -> Vec<JsonMessage> {
    let Some(id) = image else { return Vec::new() };
    if quiet {
        return vec![JsonMessage::stream(format!("{id}\n"))];
    }
    let mut out = Vec::new();
    if !unused.is_empty() {
        let list = unused.join(" ");
        out.push(JsonMessage::stream(format!("[Warning] One or more build-args [{list}] were not consumed\n")));
    }
    out.extend(tags.iter().map(|tag| convert::build::message(Classic::tagged(&tag.familiar()))));
    out
}

/// The way from the builder's events to the client.
struct Output {
    sender: UnboundedSender<JsonMessage>,
    classic: Arc<Mutex<Classic>>,
    /// Bytes that were sent and not yet taken by the client.
    waiting: Arc<AtomicUsize>,
    quiet: bool,
}

impl Output {
    fn new(sender: UnboundedSender<JsonMessage>, waiting: Arc<AtomicUsize>, quiet: bool, remove: bool) -> Output {
        Output { sender, classic: Arc::new(Mutex::new(Classic::new(remove))), waiting, quiet }
    }

    fn sink(&self) -> EventSink {
        if self.quiet {
            return EventSink::discard();
        }
        let (sender, classic, waiting) = (self.sender.clone(), self.classic.clone(), self.waiting.clone());
        let clipped = AtomicBool::new(false);
        EventSink::new(move |event| {
            if sender.is_closed() {
                return;
            }
            let mut messages: Vec<JsonMessage> = Vec::new();
            if let BuildEvent::Why { reasons, .. } = &event {
                messages.extend(reasons.iter().map(|reason| JsonMessage::stream(format!(" # {reason}\n"))));
            }
            let told = classic.lock().unwrap_or_else(PoisonError::into_inner).push(&event);
            messages.extend(told.into_iter().map(convert::build::message));
            for message in messages {
                let bytes = message.stream.len();
                // A client that reads slower than a step writes must not fill the memory: output is cut, and
                // said to be cut. Short messages are those of the builder itself.
                if bytes > SHORT && waiting.load(Ordering::Relaxed) > BACKLOG {
                    if !clipped.swap(true, Ordering::Relaxed) {
                        let note = "[output clipped: the client reads too slowly]\n";
                        let _client_gone = sender.send(JsonMessage::stream(note));
                    }
                    continue;
                }
                clipped.store(false, Ordering::Relaxed);
                waiting.fetch_add(bytes, Ordering::Relaxed);
                let _client_gone = sender.send(message);
            }
        })
    }

    /// The output of the step that failed, if its turn had not come.
    fn rest(&self) {
        if self.quiet {
            return;
        }
        for message in self.classic.lock().unwrap_or_else(PoisonError::into_inner).failed() {
            let _client_gone = self.sender.send(convert::build::message(message));
        }
    }
}

async fn prune(context: Context) -> Outcome {
    let query = context.call.query(BuildPruneQuery::from_params)?;
    let filters = &query.filters;
    filter::check(
        filters,
        &["id", "inuse", "parent", "private", "shared", "type", "until", "unused-for", "description"],
    )?;
    let now = Timestamp::now();
    let mut unused_for = filter::until(filters, now)?.map(|until| now.since(until).as_secs());
    if let Some(text) = filters.get("unused-for").next() {
        let nanos = barque_api::time::parse_go_duration(text)
            .ok_or_else(|| crate::wording::invalid_filter_value("unused-for", text))?;
        unused_for = Some(u64::try_from(nanos / 1_000_000_000).unwrap_or(0));
    }
    if let Some(key) =
        ["id", "inuse", "parent", "private", "shared", "type", "description"].iter().find(|key| filters.contains(key))
    {
        return Err(Error::not_implemented(format!("pruning the build cache by {key}")));
    }
    if query.keep_storage + query.reserved_space + query.max_used_space + query.min_free_space > 0 {
        return Err(Error::not_implemented("pruning the build cache down to a size (keep-storage and the like)")
            .with_hint("--filter until=24h removes what was not used for a day"));
    }
    let (keys, bytes) = context.state.engine.build_prune(unused_for, query.dry_run).await?;
    http::json(&BuildPruned { caches_deleted: convert::listed(keys), space_reclaimed: bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_lines() {
        let id = format!("sha256:{}", "ab".repeat(32));
        let tags = convert::build::tags(&["a".into()]).unwrap();
        let lines = finished(Some(id.clone()), &["X".into()], &tags, false);
        let text: String = lines.iter().map(|message| message.stream.as_str()).collect();
        assert_eq!(text, "[Warning] One or more build-args [X] were not consumed\nSuccessfully tagged a:latest\n");
        let quiet = finished(Some(id.clone()), &[], &tags, true);
        assert_eq!((quiet.len(), quiet[0].stream.as_str()), (1, format!("{id}\n").as_str()));
    }
}
