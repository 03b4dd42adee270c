//! From bytes to the graph: parsing, planning, and looking up base images meanwhile.

use std::time::Instant;

use barque_model::{Error, Result};

use crate::event::{BuildEvent, EventSink, VertexId, VertexInfo};
use crate::graph::{BuildGraph, Planner};
use crate::instructions::{self, Dockerfile};
use crate::options::BuildRequest;
use crate::span::{Diagnostic, Span};
use crate::worker::{BaseImage, BaseRequest, ProgressSink, Worker};

/// Internal work is numbered from here, so that it never meets a vertex of the graph.
pub(super) const INTERNAL: u32 = 1 << 24;

/// A planned build.
pub(super) struct Prepared {
    pub(super) file: Dockerfile,
    pub(super) graph: BuildGraph,
    /// Number of the next internal vertex.
    pub(super) next_internal: u32,
}

/// Announces internal work and reports its end.
pub(super) struct Internal<'a> {
    events: &'a EventSink,
    id: VertexId,
    started: Instant,
}

impl<'a> Internal<'a> {
    pub(super) fn start(events: &'a EventSink, number: u32, name: String) -> Self {
        let id = VertexId(INTERNAL + number);
        events.send(BuildEvent::Announced(VertexInfo { id, name, inputs: Vec::new(), line: 0 }));
        events.send(BuildEvent::Started { vertex: id });
        Internal { events, id, started: Instant::now() }
    }

    pub(super) fn vertex(&self) -> VertexId {
        self.id
    }

    /// For transfers that are a part of this work.
    fn progress(&self) -> ProgressSink {
        let (events, vertex) = (self.events.clone(), self.id);
        ProgressSink::new(move |progress| events.send(BuildEvent::Progress { vertex, progress }))
    }

    pub(super) fn done<T>(self, result: &Result<T>) {
        let (vertex, elapsed) = (self.id, self.started.elapsed());
        self.events.send(match result {
            Ok(_) => BuildEvent::Completed { vertex, result: String::new(), elapsed },
            Err(e) => BuildEvent::Failed { vertex, message: e.to_string(), elapsed },
        });
    }
}

pub(super) async fn prepare<W: Worker>(worker: &W, request: &BuildRequest, events: &EventSink) -> Result<Prepared> {
    crate::graph::check_options(&request.options)?;
    let load = Internal::start(events, 0, format!("[internal] load build definition from {}", request.dockerfile_name));
    let file = parse(request);
    load.done(&file);
    let file = file?;
    check_syntax(&file, request.options.argument("BUILDKIT_SYNTAX"))?;
    let ignore = request.context.as_ref().map(|c| c.ignore()).filter(|i| !i.is_empty());
    let fail = |d: Diagnostic| d.to_plain_error(&file.source);
    let mut planner = Planner::new(&file, &request.options, ignore).map_err(fail)?;
    let mut next_internal = 1;
    loop {
        let pending = planner.pending();
        if pending.is_empty() {
            break;
        }
        let found = resolve(worker, request, events, &file, pending, &mut next_internal).await?;
        for (base, image) in found {
            planner.provide(&base, image).map_err(fail)?;
        }
    }
    let graph = planner.finish().map_err(fail)?;
    Ok(Prepared { file, graph, next_internal })
}

fn parse(request: &BuildRequest) -> Result<Dockerfile> {
    if request.dockerfile.is_empty() {
        return Err(Error::invalid(format!("the Dockerfile ({}) cannot be empty", request.dockerfile_name))
            .with_hint("a Dockerfile starts with FROM IMAGE"));
    }
    instructions::parse(&request.dockerfile, &request.dockerfile_name).map_err(|e| e.to_error())
}

/// `# syntax=docker/dockerfile:*` is what is built in here; other front ends are programs of their own. One that was
/// `given` (`BUILDKIT_SYNTAX`) counts instead of the file's.
fn check_syntax(file: &Dockerfile, given: Option<&str>) -> Result<()> {
    let directive = file.directives.iter().find(|d| d.name == "syntax").filter(|_| given.is_none());
    let Some(text) = given.or(directive.map(|d| d.value.text.as_str())) else { return Ok(()) };
    let name = text.split_whitespace().next().unwrap_or("");
    let repository = name.split(['@', ':']).next().unwrap_or("").trim_start_matches("docker.io/");
    if matches!(repository, "docker/dockerfile" | "docker/dockerfile-upstream" | "dockerfile.v0") {
        return Ok(());
    }
    Err(Error::not_implemented(format_args!("the Dockerfile front end {name}")).with_hint(match directive {
        Some(directive) => {
            let excerpt = file.source.excerpt(directive.value.span);
            format!("remove the line, or write # syntax=docker/dockerfile:1\n{excerpt}")
        }
        None => "build without the argument BUILDKIT_SYNTAX".to_owned(),
    }))
}

/// Looks up all images at once.
async fn resolve<W: Worker>(
    worker: &W,
    request: &BuildRequest,
    events: &EventSink,
    file: &Dockerfile,
    pending: Vec<(BaseRequest, Span)>,
    next_internal: &mut u32,
) -> Result<Vec<(BaseRequest, BaseImage)>> {
    let mut lookups = Vec::new();
    for (base, span) in pending {
        let full = base.reference.parse::<barque_model::Reference>();
        let name = full.map_or_else(|_| base.reference.clone(), |r| r.with_default_tag().to_string());
        let vertex = Internal::start(events, *next_internal, format!("[internal] load metadata for {name}"));
        *next_internal += 1;
        lookups.push(async move {
            let found = worker.resolve(&base, request.options.pull, vertex.progress()).await;
            vertex.done(&found);
            match found {
                Ok(image) => Ok((base, image)),
                Err(e) => {
                    let names = file.stages.iter().filter_map(|s| s.name.as_deref());
                    let close = crate::suggest::closest(&base.reference, names);
                    Err(at_line(e, file, span, close))
                }
            }
        });
    }
    join_all(lookups).await.into_iter().collect()
}

/// Keeps the worker's words and kind, and adds where the image is named.
fn at_line(error: Error, file: &Dockerfile, span: Span, close: Option<&str>) -> Error {
    let mut hint = String::new();
    if let Some(own) = error.hint() {
        hint.push_str(own);
        hint.push('\n');
    }
    if let Some(close) = close {
        hint.push_str(&format!("did you mean the stage {close}?\n"));
    }
    hint.push_str(&file.source.excerpt(span));
    error.with_hint(hint)
}

/// Polls all futures until all are done.
pub(super) async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|f| Some(Box::pin(f))).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, output) in waiting.iter_mut().zip(&mut done) {
            if let Some(std::task::Poll::Ready(value)) = future.as_mut().map(|f| f.as_mut().poll(context)) {
                *output = Some(value);
                *future = None;
            }
        }
        if waiting.iter().any(Option::is_some) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
    })
    .await
}
