//! `/build`, `/build/prune`, `/build/cancel`.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use barque_api::auth::AuthConfigs;
use barque_api::build::{BuildPruneQuery, BuildPruned, BuildQuery};
use barque_api::build_extras::{self, BuildExtras};
use barque_api::progress::JsonMessage;
use barque_build::event::{BuildEvent, EventSink};
use barque_build::render::classic::Classic;
use barque_engine::build::{BuildError, BuildJob, ContextSource, PruneOptions};
use barque_engine::container::request::TarStream;
use barque_model::{Error, Reference, Result, Timestamp};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::transfer::Ending;
use super::{Context, transfer};
use crate::convert;
use crate::filter;
use crate::http::{self, Call, Outcome};
use crate::router::{Routed, inline, keep};
use crate::wording;

/// Bytes of output that wait for a slow client before output is left out.
const BACKLOG: usize = 8 << 20;
/// Bytes of text of the builder's own that are sent in any case.
const SHORT: usize = 256;

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
    let mut options = convert::build::options(&query, &state.machine)?;
    let tags = convert::build::tags(&query.tags)?;
    let auth = convert::build::credentials(registry_config(&call));
    let (extras, body) = extras(&mut call).await?;
    convert::build_extras::apply(&mut options, &extras, call.local)?;
    let (context, archive) = source(&query, &extras, body, call.local)?;
    let job = BuildJob {
        context,
        archive,
        dockerfile: convert::build_extras::dockerfile(&query.dockerfile, &extras)?,
        ignore: extras.ignore.clone(),
        contexts: convert::build_extras::contexts(&extras, call.local)?,
        cache_from: query.cache_from.0.clone(),
        options,
        tags: tags.clone(),
        auth,
        export: extras.export,
    };
    let engine = state.engine.clone();
    let cancel = CancellationToken::new();
    let guard = cancel.clone().drop_guard();
    let waiting = Arc::new(AtomicUsize::new(0));
    transfer::messages(call.version, waiting.clone(), move |sender| async move {
        // Dropped with the reply: the client went away.
        let _guard = guard;
        let style = match (query.quiet, extras.status) {
            (true, _) => Style::Quiet,
            (false, true) => Style::Status(Mutex::default()),
            (false, false) => Style::Classic(Mutex::new(Classic::new(query.rm.unwrap_or(true)))),
        };
        let output = Output { sender, style: Arc::new(style), waiting };
        let result = engine.build(job, output.sink(), cancel).await;
        match result {
            Ok(result) => {
                let (image, cache) = (result.image.map(|id| id.to_string()), result.cache_image);
                let mut messages = finished(image, &result.unused_build_args, &tags, &output.style);
                messages.extend(cache.map(|id| aux(build_extras::CACHE, &serde_json::json!({ "ID": id.to_string() }))));
                if result.files.is_some() {
                    messages.push(aux(build_extras::FILES, &serde_json::json!({})));
                }
                Ok(Ending { messages, archive: result.files })
            }
            Err(failure) => {
                output.rest();
                failed(failure)
            }
        }
    })
    .await
}

fn aux<T: serde::Serialize>(id: &str, document: &T) -> JsonMessage {
    let mut message = JsonMessage::aux(serde_json::to_value(document).unwrap_or_default());
    id.clone_into(&mut message.id);
    message
}

/// A step's exit status is the code of the last document.
fn failed(failure: BuildError) -> Result<Ending> {
    let BuildError { error, exit_code, kept } = failure;
    let mut messages = Vec::new();
    if let Some(kept) = kept {
        let step = build_extras::FailedStep {
            id: kept.image.to_string(),
            instruction: kept.instruction,
            command: kept.command,
        };
        messages.push(aux(build_extras::FAILED, &step));
    }
    let mut text = wording::sentence(&error);
    use barque_model::ErrorKind::{Forbidden, NotFound, Unauthorized, Unavailable};
    let in_the_stream = matches!(error.kind(), NotFound | Unavailable | Unauthorized | Forbidden);
    // What is missing has no cure elsewhere; here the line that names it is one. As in Docker's engine it is the end of
    // a build that began: a program that drives it takes another answer for an engine that fails.
    if let (true, Some(hint)) = (in_the_stream, error.hint()) {
        if !text.contains(hint) {
            text = format!("{text}\n{hint}");
        }
    } else if exit_code.is_none() {
        return Err(error);
    }
    let code = exit_code.unwrap_or(0);
    let mut last = JsonMessage::error(text);
    if let Some(detail) = &mut last.error_detail {
        detail.code = i64::from(code);
    }
    messages.push(last);
    Ok(messages.into())
}

/// Barque's own options, and what follows them.
async fn extras(call: &mut Call) -> Result<(BuildExtras, TarStream)> {
    let length = call.header(build_extras::HEADER).to_owned();
    let mut body = call.reader();
    if length.is_empty() {
        return Ok((BuildExtras::default(), body));
    }
    let length = length.parse::<usize>().ok().filter(|n| *n <= build_extras::MAX);
    let length = length.ok_or_else(|| Error::invalid(format!("{} is no sensible length", build_extras::HEADER)))?;
    let mut bytes = vec![0; length];
    body.read_exact(&mut bytes).await.map_err(|e| Error::invalid("the build's options broke off").with_source(e))?;
    let extras = serde_json::from_slice(&bytes)
        .map_err(|e| Error::invalid("the build's options make no sense").with_source(e))?;
    Ok((extras, body))
}

/// Where the files come from, and the request's archive where the context is no part of it.
fn source(
    query: &BuildQuery,
    extras: &BuildExtras,
    body: TarStream,
    local: bool,
) -> Result<(ContextSource, Option<TarStream>)> {
    if !extras.context_dir.is_empty() {
        convert::build_extras::only_here(local)?;
        return Ok((ContextSource::Directory(extras.context_dir.clone().into()), Some(body)));
    }
    Ok(match query.remote.as_str() {
        "" if extras.no_context => (ContextSource::Empty, Some(body)),
        "" => (ContextSource::Tar(body), None),
        url => (ContextSource::Remote(url.to_owned()), Some(body)),
    })
}

/// `X-Registry-Config`; malformed ones are taken for none, as Docker does.
fn registry_config(call: &Call) -> AuthConfigs {
    http::decode_base64(call.header("x-registry-config"))
        .and_then(|bytes| barque_api::json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

/// What follows the builder's own messages when a build succeeded.
fn finished(image: Option<String>, unused: &[String], tags: &[Reference], style: &Style) -> Vec<JsonMessage> {
    let Some(id) = image else { return Vec::new() };
    let list = unused.join(" ");
    let warning = (!unused.is_empty()).then(|| format!("One or more build-args [{list}] were not consumed"));
    let mut out = Vec::new();
    match style {
        Style::Quiet => return vec![JsonMessage::stream(format!("{id}\n"))],
        Style::Status(_) => {
            out.extend(warning.map(|text| aux(build_extras::STATUS, &convert::status::warned(&text))));
            out.push(JsonMessage::aux(serde_json::json!({ "ID": id })));
            return out;
        }
        Style::Classic(_) => {}
    }
    out.extend(warning.map(|text| JsonMessage::stream(format!("[Warning] {text}\n"))));
    out.extend(tags.iter().map(|tag| convert::build::message(Classic::tagged(&tag.familiar()))));
    out
}

/// How a build is told.
enum Style {
    /// Only its result.
    Quiet,
    /// BuildKit's documents.
    Status(Mutex<convert::status::Status>),
    /// The classic builder's text.
    Classic(Mutex<Classic>),
}

impl Style {
    fn messages(&self, event: &BuildEvent) -> Vec<JsonMessage> {
        match self {
            Style::Quiet => Vec::new(),
            Style::Status(status) => {
                let document = status.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                document.map(|d| aux(build_extras::STATUS, &d)).into_iter().collect()
            }
            Style::Classic(classic) => {
                let mut messages = Vec::new();
                if let BuildEvent::Why { reasons, .. } = event {
                    messages.extend(reasons.iter().map(|reason| JsonMessage::stream(format!(" # {reason}\n"))));
                }
                let told = classic.lock().unwrap_or_else(PoisonError::into_inner).push(event);
                messages.extend(told.into_iter().map(convert::build::message));
                messages
            }
        }
    }
}

/// The way from the builder's events to the client.
struct Output {
    sender: UnboundedSender<JsonMessage>,
    style: Arc<Style>,
    /// Bytes that were sent and not yet taken by the client.
    waiting: Arc<AtomicUsize>,
}

impl Output {
    fn sink(&self) -> EventSink {
        let (sender, style, waiting) = (self.sender.clone(), self.style.clone(), self.waiting.clone());
        let clipped = AtomicBool::new(false);
        EventSink::new(move |event| {
            if sender.is_closed() {
                return;
            }
            let send = |message: JsonMessage| {
                waiting.fetch_add(transfer::weight(&message), Ordering::Relaxed);
                let _client_gone = sender.send(message);
            };
            let spare = matches!(event, BuildEvent::Log { .. } | BuildEvent::Progress { .. });
            for message in style.messages(&event) {
                // A client that reads slower than a step writes must not fill the memory: output is cut, and
                // said to be cut. What the builder itself says is short.
                if (spare || message.stream.len() > SHORT) && waiting.load(Ordering::Relaxed) > BACKLOG {
                    if !clipped.swap(true, Ordering::Relaxed) {
                        send(JsonMessage::stream("[output clipped: the client reads too slowly]\n"));
                    }
                    continue;
                }
                clipped.store(false, Ordering::Relaxed);
                send(message);
            }
        })
    }

    /// The output of the step that failed, if its turn had not come.
    fn rest(&self) {
        let Style::Classic(classic) = &*self.style else { return };
        for message in classic.lock().unwrap_or_else(PoisonError::into_inner).failed() {
            let _client_gone = self.sender.send(convert::build::message(message));
        }
    }
}

async fn prune(context: Context) -> Outcome {
    let query = context.call.query(BuildPruneQuery::from_params)?;
    let wanted = filter::build_cache::parse(&query.filters, Timestamp::now())?;
    let bytes = |n: i64| u64::try_from(n).unwrap_or(0);
    let options = PruneOptions {
        all: query.all,
        dry: super::dry(query.dry_run, &query.without)?,
        reserved_space: bytes(query.keep_storage).max(bytes(query.reserved_space)),
        max_used_space: bytes(query.max_used_space),
        min_free_space: bytes(query.min_free_space),
    };
    let (keys, bytes) = context.state.engine.build_prune(options, move |entry| wanted.fits(entry)).await?;
    super::pruned(&context, "builder", bytes, query.dry_run);
    http::json(&BuildPruned { caches_deleted: convert::listed(keys), space_reclaimed: bytes })
}

#[cfg(test)]
mod tests {
    use barque_build::event::{LogStream, Progress, VertexId};

    use super::*;

    #[test]
    fn a_slow_client_costs_a_bounded_amount_of_memory() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let (style, waiting) = (Arc::new(Style::Status(Mutex::default())), Arc::new(AtomicUsize::new(0)));
        let sink = Output { sender, style, waiting: waiting.clone() }.sink();
        let vertex = VertexId(0);
        for _ in 0..BACKLOG / 128 {
            let (stream, elapsed) = (LogStream::Stdout, Default::default());
            sink.send(BuildEvent::Log { vertex, stream, data: b"x".to_vec(), elapsed });
            let progress = Progress { id: "i".into(), action: "a".into(), current: 1, total: 2 };
            sink.send(BuildEvent::Progress { vertex, progress });
        }
        sink.send(BuildEvent::Completed { vertex, result: String::new(), elapsed: Default::default() });
        assert!(waiting.load(Ordering::Relaxed) < BACKLOG + 4096);
        let mut messages = Vec::new();
        while let Ok(message) = receiver.try_recv() {
            messages.push(message);
        }
        assert_eq!(messages.iter().filter(|m| m.stream.starts_with("[output clipped")).count(), 1);
        assert!(messages.last().unwrap().aux.as_ref().unwrap().get("vertexes").is_some(), "the end is told");
    }

    #[test]
    fn last_lines() {
        let id = format!("sha256:{}", "ab".repeat(32));
        let tags = convert::build::tags(&["a".into()]).unwrap();
        let lines = finished(Some(id.clone()), &["X".into()], &tags, &Style::Classic(Mutex::new(Classic::new(true))));
        let text: String = lines.iter().map(|message| message.stream.as_str()).collect();
        assert_eq!(text, "[Warning] One or more build-args [X] were not consumed\nSuccessfully tagged a:latest\n");
        let typed = finished(Some(id.clone()), &["BUILDKIT_X".into()], &tags, &Style::Status(Mutex::default()));
        assert_eq!((typed.len(), typed[0].id.as_str()), (2, build_extras::STATUS));
        let quiet = finished(Some(id.clone()), &[], &tags, &Style::Quiet);
        assert_eq!((quiet.len(), quiet[0].stream.as_str()), (1, format!("{id}\n").as_str()));
    }
}
