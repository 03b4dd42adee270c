//! From typed instructions to a graph: only what the target needs, with the image's configuration worked out.
//!
//! Planning is pure. Base images' configurations decide about variables, `ONBUILD` and working directories, so
//! [`Planner::pending`] names the images it must know next, [`Planner::provide`] takes them, and
//! [`Planner::finish`] gives the [`BuildGraph`].

mod args;
mod copy;
mod eval;
mod meta;
mod planner;
mod ports;
mod run;
mod text;

use std::fmt;
use std::sync::Arc;

use barque_model::Timestamp;

pub(crate) use meta::check_options;
pub use planner::Planner;
pub(crate) use text::mount_text;

use crate::config::ImageConfig;
use crate::event::{StepInfo, VertexId};
use crate::instructions::Chmod;
use crate::lint::Warning;
use crate::options::{NetworkMode, SecurityMode};
use crate::span::Span;
use crate::worker::{BaseImage, CacheSharing, GitRequest, UrlRequest};

/// What to do, in an order in which every vertex follows its inputs.
#[derive(Debug, Clone)]
pub struct BuildGraph {
    pub vertices: Vec<Vertex>,
    /// The classic builder's numbering.
    pub steps: Vec<StepInfo>,
    pub target: FsRef,
    /// The target's configuration. Times are unset; `empty_layer` is provisional for entries of `layers`.
    pub config: ImageConfig,
    /// For each history entry of `config`: the vertex whose layer it describes.
    pub history: Vec<Option<VertexId>>,
    pub warnings: Vec<Warning>,
    /// `# check=error=true` turns the warnings into this error.
    pub lint_error: Option<String>,
    pub unused_build_args: Vec<String>,
    pub epoch: Option<Timestamp>,
}

/// One piece of work.
#[derive(Debug, Clone)]
pub struct Vertex {
    pub id: VertexId,
    /// BuildKit's name: `[build 2/5] RUN make`.
    pub name: String,
    pub op: Op,
    /// Stage name or number, for explanations.
    pub stage: String,
    /// Position among the file-system steps of its stage, from 1.
    pub ordinal: u32,
    /// The instruction after expansion.
    pub instruction: String,
    pub span: Span,
    /// Line of the Dockerfile, from 1.
    pub line: u32,
    /// `--no-cache` applies.
    pub ignore_cache: bool,
}

/// What a vertex does.
#[derive(Debug, Clone)]
pub enum Op {
    Base(Arc<BaseImage>),
    Run(Box<RunOp>),
    Copy(Box<CopyOp>),
    Mkdir(MkdirOp),
    FetchUrl(UrlRequest),
    FetchGit(GitRequest),
}

/// A file system that a vertex reads or builds on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FsRef {
    /// Empty.
    Scratch,
    /// What that vertex made.
    Vertex(VertexId),
    /// The build context (empty name) or a `--build-context`.
    Context(String),
}

impl FsRef {
    pub fn vertex(&self) -> Option<VertexId> {
        if let FsRef::Vertex(id) = self { Some(*id) } else { None }
    }
}

impl fmt::Display for FsRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FsRef::Scratch => f.write_str("scratch"),
            FsRef::Vertex(id) => write!(f, "#{}", id.0),
            FsRef::Context(name) if name.is_empty() => f.write_str("context"),
            FsRef::Context(name) => write!(f, "context:{name}"),
        }
    }
}

/// `RUN`.
#[derive(Debug, Clone)]
pub struct RunOp {
    pub parent: FsRef,
    pub args: Vec<String>,
    /// `NAME=value` of `ENV` and `ARG`, part of the cache key.
    pub env: Vec<String>,
    /// Proxy settings from build arguments, no part of the cache key.
    pub proxy_env: Vec<String>,
    pub cwd: String,
    pub user: String,
    pub mounts: Vec<PlannedMount>,
    /// `None`: the build's `--network`.
    pub network: Option<NetworkMode>,
    pub security: SecurityMode,
    /// The command as Docker names it in "returned a non-zero code".
    pub command: String,
}

/// A `RUN --mount` with its source found.
#[derive(Debug, Clone)]
pub struct PlannedMount {
    /// Absolute; empty for a secret that is only a variable.
    pub target: String,
    pub read_only: bool,
    pub kind: PlannedKind,
}

/// What a mount shows.
#[derive(Debug, Clone)]
pub enum PlannedKind {
    Bind { from: FsRef, path: String },
    Cache { id: String, sharing: CacheSharing, from: FsRef, path: String, mode: u32, uid: u32, gid: u32 },
    Tmpfs { size: u64 },
    Secret { id: String, env: Option<String>, required: bool, mode: u32, uid: u32, gid: u32 },
    Ssh { id: String, required: bool, mode: u32, uid: u32, gid: u32 },
    File { content: Arc<[u8]>, mode: u32 },
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone)]
pub struct CopyOp {
    pub parent: FsRef,
    /// `COPY` or `ADD`, for messages.
    pub verb: &'static str,
    pub sources: Vec<CopySource>,
    /// Absolute and clean, with a `/` at its end if it must be a directory.
    pub destination: String,
    pub chown: Option<String>,
    pub chmod: Option<Chmod>,
    pub parents: bool,
    pub link: bool,
    /// `--exclude` patterns.
    pub exclude: Vec<String>,
}

/// One source of a copy.
#[derive(Debug, Clone)]
pub enum CopySource {
    Path(PathSource),
    /// A file a [`Op::FetchUrl`] vertex downloads.
    Url {
        vertex: VertexId,
        unpack: bool,
    },
    /// A tree a [`Op::FetchGit`] vertex checks out; its contents are copied.
    Git {
        vertex: VertexId,
    },
    Inline {
        name: String,
        content: Arc<[u8]>,
    },
}

/// Files of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSource {
    pub from: FsRef,
    /// Relative to the tree's root, clean, possibly with wildcards; empty is the root. With `--parents`, what
    /// follows the pivot.
    pub pattern: String,
    /// `--parents`: the directory before `/./`, empty for the root.
    pub pivot: String,
    /// As written, for messages.
    pub written: String,
    /// Where the files come from, for messages: `build context`, `stage build`, `image busybox`.
    pub origin: String,
    /// Unpack archives.
    pub unpack: bool,
}

/// `WORKDIR` making its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MkdirOp {
    pub parent: FsRef,
    pub path: String,
    /// `USER` in force: owner of what is made.
    pub user: String,
}

impl Op {
    /// The file system this one builds on.
    pub fn parent(&self) -> Option<&FsRef> {
        match self {
            Op::Run(op) => Some(&op.parent),
            Op::Copy(op) => Some(&op.parent),
            Op::Mkdir(op) => Some(&op.parent),
            Op::Base(_) | Op::FetchUrl(_) | Op::FetchGit(_) => None,
        }
    }

    /// Every file system it reads, the parent first.
    pub fn sources(&self) -> Vec<&FsRef> {
        let mut list: Vec<&FsRef> = self.parent().into_iter().collect();
        match self {
            Op::Run(op) => list.extend(op.mounts.iter().filter_map(|m| match &m.kind {
                PlannedKind::Bind { from, .. } | PlannedKind::Cache { from, .. } => Some(from),
                _ => None,
            })),
            Op::Copy(op) => list.extend(op.sources.iter().filter_map(|s| match s {
                CopySource::Path(p) => Some(&p.from),
                _ => None,
            })),
            _ => {}
        }
        list
    }

    /// Vertices which must be done before.
    pub fn inputs(&self) -> Vec<VertexId> {
        let mut inputs: Vec<VertexId> = self.sources().into_iter().filter_map(FsRef::vertex).collect();
        if let Op::Copy(op) = self {
            inputs.extend(op.sources.iter().filter_map(|s| match s {
                CopySource::Url { vertex, .. } | CopySource::Git { vertex } => Some(*vertex),
                _ => None,
            }));
        }
        inputs.sort_unstable();
        inputs.dedup();
        inputs
    }
}

impl BuildGraph {
    pub fn vertex(&self, id: VertexId) -> Option<&Vertex> {
        self.vertices.get(id.0 as usize)
    }

    /// A stable text of the whole graph, for tests and `--print`.
    pub fn dump(&self) -> String {
        text::dump(self)
    }
}
