//! What a build reports while it goes on: typed, so that any renderer can show it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use barque_model::ImageId;

use crate::lint::Warning;

/// Receives events, from any thread, in order for each vertex. Must not block for long.
#[derive(Clone)]
pub struct EventSink(Arc<dyn Fn(BuildEvent) + Send + Sync>);

impl EventSink {
    pub fn new(receive: impl Fn(BuildEvent) + Send + Sync + 'static) -> Self {
        EventSink(Arc::new(receive))
    }

    /// Throws everything away.
    pub fn discard() -> Self {
        EventSink::new(|_| {})
    }

    pub fn send(&self, event: BuildEvent) {
        (self.0)(event);
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSink")
    }
}

/// Which output stream of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    Stdout,
    Stderr,
}

/// How far one transfer inside a vertex is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Layer id, file name or repository.
    pub id: String,
    /// `Downloading`, `Extracting`, `Pull complete`, …
    pub action: String,
    /// Bytes so far.
    pub current: u64,
    /// Bytes in all; 0 if unknown.
    pub total: u64,
}

/// A number for each piece of work of one build, from 0, in Dockerfile order within the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VertexId(pub u32);

/// A piece of work as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VertexInfo {
    pub id: VertexId,
    /// BuildKit's name: `[build 2/5] RUN make`, `[internal] load build context`.
    pub name: String,
    /// Vertices whose results this one needs.
    pub inputs: Vec<VertexId>,
    /// Line of the instruction, from 1; 0 for internal work.
    pub line: u32,
}

/// One instruction as the classic builder numbers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInfo {
    /// From 1; triggers have the number of their `FROM`.
    pub number: u32,
    /// The instruction as written: `RUN make`, `FROM python:3.7 AS build`.
    pub text: String,
    pub kind: StepKind,
    /// The vertex doing its work; `None` for instructions that only change the configuration.
    pub vertex: Option<VertexId>,
    /// Index of the stage it belongs to.
    pub stage: u32,
    /// A trigger of the base image (`ONBUILD`), shown by the classic builder without a number.
    pub trigger: bool,
}

/// What a step is to the classic builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// `ARG` before the first `FROM`.
    GlobalArg,
    /// `FROM` an image, with 12 hexadecimal digits of its id.
    FromImage(String),
    /// `FROM` an earlier stage.
    FromStage(u32),
    /// `FROM scratch`.
    FromScratch,
    /// `RUN`, `WORKDIR` and configuration: the classic builder made a container for it.
    Container,
    /// `COPY` and `ADD`: it did not.
    Copy,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum BuildEvent {
    /// Internal work which precedes the plan (loading the Dockerfile, metadata, the context) or follows it
    /// (exporting) was announced.
    Announced(VertexInfo),
    /// The plan stands: all vertices of the build, and the classic numbering.
    Planned {
        vertices: Arc<[VertexInfo]>,
        steps: Arc<[StepInfo]>,
    },
    Warning(Warning),
    Started {
        vertex: VertexId,
    },
    /// The result was in the cache; no `Started` was sent.
    Cached {
        vertex: VertexId,
        result: String,
    },
    Log {
        vertex: VertexId,
        stream: LogStream,
        data: Vec<u8>,
        elapsed: Duration,
    },
    Progress {
        vertex: VertexId,
        progress: Progress,
    },
    /// `result` is a short name (12 hexadecimal digits) of what came out, empty for internal work.
    Completed {
        vertex: VertexId,
        result: String,
        elapsed: Duration,
    },
    Failed {
        vertex: VertexId,
        message: String,
        elapsed: Duration,
    },
    /// The build stopped before this vertex ended, by the caller's wish or another vertex's failure.
    Canceled {
        vertex: VertexId,
    },
    /// `--why`: the step ran, for these reasons (never empty).
    Why {
        vertex: VertexId,
        reasons: Vec<String>,
    },
    /// The image is stored.
    Finished {
        image: ImageId,
    },
}
