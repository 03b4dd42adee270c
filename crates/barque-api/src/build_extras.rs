//! What Barque adds to `POST /build`: options the classic API has no place for, and typed progress.
//!
//! A request with the header [`HEADER`] = N has N bytes of JSON ([`BuildExtras`]) before its archive. A server
//! that is not Barque must not be sent one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Header with the number of bytes of JSON before the body's archive.
pub const HEADER: &str = "X-Barque-Build";
/// The longest such JSON, bytes.
pub const MAX: usize = 16 << 20;
/// `id` of the messages whose `aux` is a [`SolveStatus`].
pub const STATUS: &str = "barque.build.status";
/// `id` of the message whose `aux` is a [`FailedStep`].
pub const FAILED: &str = "barque.build.failed";
/// `id` of the message whose `aux` is `{"ID": …}` of the image that holds the exported cache.
pub const CACHE: &str = "barque.build.cache";
/// `id` of the last message before an archive ([`BuildExtras::export`]); its `aux` is `{}`.
pub const FILES: &str = "barque.build.files";
/// Directory of the archive under which named contexts lie, each under its own name.
pub const CONTEXTS: &str = ".barque-contexts";

/// Options beyond the classic API. Paths and sockets are taken from clients of the unix socket only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BuildExtras {
    /// A directory of this machine instead of the archive.
    pub context_dir: String,
    /// No archive follows and none is meant: the Dockerfile alone.
    pub no_context: bool,
    /// The Dockerfile's text in base64 instead of a file of the context.
    pub dockerfile: Option<String>,
    /// What messages call the Dockerfile.
    pub dockerfile_name: String,
    /// The ignore file's lines, where it does not lie in the context.
    pub ignore: Option<Vec<String>>,
    /// Values in base64, by id.
    pub secrets: BTreeMap<String, String>,
    /// Paths of agents' sockets, by id.
    pub ssh: BTreeMap<String, String>,
    /// `--build-context`: `docker-image://REF`, an address, `dir:PATH` on this machine, or `archive:` for
    /// [`CONTEXTS`]`/NAME` in the archive.
    pub contexts: BTreeMap<String, String>,
    pub no_cache_filter: Vec<String>,
    /// Entitlements: `security.insecure`, `network.host`.
    pub allow: Vec<String>,
    /// Say why each step runs.
    pub explain: bool,
    /// Keep the file system of a step that fails, as an image ([`FailedStep`]).
    pub keep_failed: bool,
    /// Parse, plan and lint only.
    pub check: bool,
    /// Send [`SolveStatus`] instead of the classic builder's text.
    pub status: bool,
    /// Seconds since the epoch: the latest time in the result.
    pub source_date_epoch: Option<i64>,
    /// Send the result's files as a tar archive after the last document; no image is made.
    pub export: bool,
    /// Put what the cache knows of the result's steps into the image.
    pub inline_cache: bool,
    /// Also make an image that holds what the cache knows, for [`CACHE`].
    pub export_cache: bool,
    /// That image also holds the steps of other stages than the target's.
    pub cache_all: bool,
}

/// A `RUN` that failed, kept as an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FailedStep {
    /// The image with the step's file system, environment, directory and user.
    #[serde(rename = "ID")]
    pub id: String,
    /// The instruction as written.
    pub instruction: String,
    /// Program and arguments that failed.
    pub command: Vec<String>,
}

/// Progress in BuildKit's form (`--progress rawjson`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SolveStatus {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vertexes: Vec<Vertex>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<VertexStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<VertexLog>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<VertexWarning>,
    /// Barque's own: why a step ran.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<VertexReasons>,
}

/// A piece of work. Times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vertex {
    pub digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// How far one transfer of a vertex is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VertexStatus {
    pub id: String,
    pub vertex: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Bytes; 0 if unknown.
    pub total: u64,
    pub current: u64,
    pub timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<String>,
}

/// Output of a vertex.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VertexLog {
    pub vertex: String,
    /// 1 or 2.
    pub stream: u8,
    /// base64.
    pub data: String,
    pub timestamp: String,
}

/// A lint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VertexWarning {
    pub vertex: String,
    pub level: i32,
    /// base64: `RULE: MESSAGE (line N)`.
    pub short: String,
    /// base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub detail: Vec<String>,
    pub url: String,
}

/// Why a vertex ran (`--why`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VertexReasons {
    pub vertex: String,
    pub reasons: Vec<String>,
}
