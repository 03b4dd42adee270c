//! What callers ask of images and see of them.

use std::collections::BTreeMap;

use barque_model::{DiffId, ImageId, Platform, Reference, Timestamp};
pub use barque_store::ReadAt;
use serde::{Deserialize, Serialize};

use crate::container::request::TarStream;

/// An image in the store.
#[derive(Clone, Debug)]
pub struct ImageView {
    pub id: ImageId,
    /// `name:tag`, familiar form.
    pub tags: Vec<String>,
    /// `name@digest`, familiar form.
    pub digests: Vec<String>,
    pub parent: Option<ImageId>,
    pub config: ImageConfig,
    /// Bytes on disk: of the files of all layers, and of the blobs that are kept to send them again.
    pub size: u64,
    /// Directories of the layers, lowest first.
    pub layer_paths: Vec<std::path::PathBuf>,
    /// Bytes that only this image holds.
    pub unique_size: Option<u64>,
    /// Containers made from it.
    pub containers: usize,
    pub last_tagged: Option<Timestamp>,
    pub manifest_digest: Option<String>,
}

/// An archive of images.
pub enum ArchiveInput {
    Stream(TarStream),
    /// A file of this machine, of which several layers are read at once.
    File(Box<dyn ReadAt>),
}

/// What a registry has under a name.
#[derive(Clone, Debug)]
pub struct Distribution {
    pub media_type: String,
    pub digest: barque_model::Digest,
    /// Bytes of the manifest or index.
    pub size: u64,
    pub platforms: Vec<Platform>,
}

/// The OCI image configuration (image-spec, config.md) with Docker's additions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "os.version")]
    pub os_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    #[serde(default)]
    pub config: RunConfig,
    #[serde(default)]
    pub rootfs: RootFs,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub diff_ids: Vec<DiffId>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Defaults of containers made from an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    #[serde(default, skip_serializing_if = "is_empty")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub working_dir: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub stop_signal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<ImageHealth>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
}

fn is_empty(text: &Option<String>) -> bool {
    text.as_deref().is_none_or(str::is_empty)
}

/// Times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageHealth {
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// Credentials for one registry.
#[derive(Clone, Default)]
pub enum RegistryAuth {
    #[default]
    Anonymous,
    Password {
        username: String,
        password: String,
    },
    IdentityToken(String),
    RegistryToken(String),
}

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RegistryAuth::Anonymous => "Anonymous",
            _ => "RegistryAuth(hidden)",
        })
    }
}

/// Progress of a transfer, in Docker's words; `id` is a short layer id or a tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub id: Option<String>,
    /// `Pulling fs layer`, `Downloading`, `Extracting`, `Pull complete`, `Pushed`, …
    pub status: String,
    /// Bytes done and in all.
    pub current: Option<u64>,
    pub total: Option<u64>,
    /// A machine-readable result (JSON text), such as a push's digest.
    pub aux: Option<String>,
}

impl Progress {
    pub fn status(status: impl Into<String>) -> Self {
        Progress { id: None, status: status.into(), current: None, total: None, aux: None }
    }

    pub fn of(id: impl Into<String>, status: impl Into<String>) -> Self {
        Progress { id: Some(id.into()), ..Progress::status(status) }
    }

    #[must_use]
    pub fn at(mut self, current: u64, total: u64) -> Self {
        self.current = Some(current);
        self.total = Some(total);
        self
    }
}

/// Where progress goes. Senders never wait: what a slow reader misses is dropped by the front end.
pub type ProgressSink = tokio::sync::mpsc::UnboundedSender<Progress>;

#[derive(Clone, Debug)]
pub struct PullOptions {
    pub reference: Reference,
    pub all_tags: bool,
    pub platform: Option<Platform>,
    pub auth: RegistryAuth,
}

/// What a removal did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageRemoval {
    Untagged(String),
    Deleted(String),
}

/// A line of `history`, newest first.
#[derive(Clone, Debug)]
pub struct HistoryView {
    /// The image's id where known, else `<missing>`.
    pub id: String,
    pub created: i64,
    pub created_by: String,
    pub tags: Vec<String>,
    pub size: u64,
    pub comment: String,
}

/// A hit of `search`.
#[derive(Clone, Debug, Default)]
pub struct SearchHit {
    pub name: String,
    pub description: String,
    pub stars: i64,
    pub official: bool,
    pub automated: bool,
}
