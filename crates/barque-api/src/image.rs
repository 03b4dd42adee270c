//! Images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::container::{DriverData, HealthConfig};
use crate::filters::Filters;
use crate::json::{self, Set};

/// A content descriptor (OCI image specification, definition `OCIDescriptor`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: i64,
    #[serde(skip_serializing_if = "json::no_items")]
    pub urls: Option<Vec<String>>,
    #[serde(skip_serializing_if = "json::no_entries")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// A platform (definition `OCIPlatform`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "json::no_items")]
    pub os_features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// One row of `GET /images/json` (definition `ImageSummary`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageSummary {
    /// How many containers use it; -1 if not counted.
    pub containers: i64,
    /// Unix seconds.
    pub created: i64,
    pub id: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub parent_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// With `manifests=1` (1.47).
    #[serde(skip_serializing_if = "json::no_items")]
    pub manifests: Option<Vec<ManifestSummary>>,
    pub repo_digests: Vec<String>,
    pub repo_tags: Vec<String>,
    /// Bytes; -1 if not computed.
    pub shared_size: i64,
    /// Bytes.
    pub size: i64,
    /// Bytes; before 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
}

/// A manifest of an image with several platforms (definition `ImageManifestSummary`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSummary {
    #[serde(rename = "ID")]
    pub id: String,
    pub descriptor: Descriptor,
    pub available: bool,
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ManifestImage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<ManifestAttestation>,
}

/// Bytes a manifest takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSize {
    /// Of blobs present.
    pub content: i64,
    /// Of blobs and unpacked layers.
    pub total: i64,
}

/// What an image manifest is of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestImage {
    pub platform: Platform,
    pub size: UnpackedSize,
    pub containers: Vec<String>,
}

/// Bytes of unpacked layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UnpackedSize {
    pub unpacked: i64,
}

/// What an attestation manifest is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestAttestation {
    #[serde(rename = "For")]
    pub subject: String,
}

/// `GET /images/{name}/json` (definition `ImageInspect`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageInspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    /// Before 1.52 (empty there without the classic builder).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// Before 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Before 1.45, as [`crate::container::ContainerConfig`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_config: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    pub config: Option<ImageConfig>,
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    /// Bytes.
    pub size: i64,
    /// Bytes; before 1.44.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: ImageMetadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    #[serde(skip_serializing_if = "json::no_items")]
    pub manifests: Option<Vec<ManifestSummary>>,
}

/// `Config` of an image (definition `ImageConfig`): empty fields are left out since 1.50.
///
/// The fields marked "before 1.50" were container fields that older replies repeat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "json::no_entries")]
    pub exposed_ports: Option<Set>,
    #[serde(skip_serializing_if = "json::no_items")]
    pub env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "json::no_items", deserialize_with = "json::string_or_list")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "json::no_items", deserialize_with = "json::string_or_list")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "json::no_entries")]
    pub volumes: Option<Set>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "json::no_entries")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "json::no_items")]
    pub on_build: Option<Vec<String>>,
    #[serde(skip_serializing_if = "json::no_items")]
    pub shell: Option<Vec<String>>,
}

/// The layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Digests of the uncompressed layers.
    #[serde(skip_serializing_if = "json::no_items")]
    pub layers: Option<Vec<String>>,
}

/// What this engine knows of an image, not its author.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageMetadata {
    /// RFC 3339; [`crate::time::ZERO`] if never tagged here.
    pub last_tag_time: String,
}

/// A row of `GET /images/{name}/history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    pub comment: String,
    /// Unix seconds.
    pub created: i64,
    pub created_by: String,
    /// `<missing>` for all but the newest.
    pub id: String,
    /// Bytes.
    pub size: i64,
    pub tags: Option<Vec<String>>,
}

/// A row of the reply of `DELETE /images/{name}` and of a prune.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageDeleted {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deleted: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub untagged: String,
}

/// Reply of `POST /images/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImagesPruned {
    pub images_deleted: Option<Vec<ImageDeleted>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

/// A row of `GET /images/search`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    pub is_automated: bool,
    pub description: String,
}

/// `aux` of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PushResult {
    pub tag: String,
    pub digest: String,
    pub size: i64,
}

crate::query! {
    /// Query of `GET /images/json`.
    pub struct ImageListQuery {
        /// Intermediate images too.
        all: bool => "all",
        filters: Filters => "filters",
        /// Compute `SharedSize` (1.42).
        shared_size: bool => "shared-size",
        /// Show digests (always shown).
        digests: bool => "digests",
        /// List every platform's manifest (1.47).
        manifests: bool => "manifests",
        /// Before 1.25: a name pattern.
        filter: String => "filter",
    }
}

crate::query! {
    /// Query of `POST /images/create`: a pull, or an import with `fromSrc`.
    pub struct ImageCreateQuery {
        from_image: String => "fromImage",
        /// `-` for the body, or a URL.
        from_src: String => "fromSrc",
        /// Name of the imported image.
        repo: String => "repo",
        /// Tag or digest.
        tag: String => "tag",
        /// Comment of the imported image.
        message: String => "message",
        changes: Vec<String> => "changes",
        platform: String => "platform",
    }
}

crate::query! {
    /// Query of `GET /images/{name}/json` and `/history`.
    pub struct ImageInspectQuery {
        /// 1.48.
        manifests: bool => "manifests",
        /// A JSON `OCIPlatform` (1.49).
        platform: String => "platform",
    }
}

crate::query! {
    /// Query of `POST /images/{name}/push`.
    pub struct PushQuery {
        tag: String => "tag",
        /// A JSON `OCIPlatform` (1.46).
        platform: String => "platform",
    }
}

crate::query! {
    /// Query of `POST /images/{name}/tag`.
    pub struct TagQuery {
        repo: String => "repo",
        tag: String => "tag",
    }
}

crate::query! {
    /// Query of `DELETE /images/{name}`.
    pub struct ImageRemoveQuery {
        force: bool => "force",
        /// Keep untagged parents.
        noprune: bool => "noprune",
        /// JSON `OCIPlatform`s (1.50).
        platforms: Vec<String> => "platforms",
    }
}

crate::query! {
    /// Query of `GET /images/search`.
    pub struct SearchQuery {
        term: String => "term",
        /// Default 25, at most 100.
        limit: i64 => "limit",
        filters: Filters => "filters",
    }
}

crate::query! {
    /// Query of `GET /images/get` and `/images/{name}/get`.
    pub struct SaveQuery {
        names: Vec<String> => "names",
        /// JSON `OCIPlatform`s (1.48).
        platform: Vec<String> => "platform",
    }
}

crate::query! {
    /// Query of `POST /images/load`.
    pub struct LoadQuery {
        /// No progress bars; where it is missing, none either.
        quiet: Option<bool> => "quiet",
        /// JSON `OCIPlatform`s (1.48).
        platform: Vec<String> => "platform",
        /// Barque's own: the archive is this file of the engine's machine, not the body. From clients of the unix
        /// socket only.
        file: String => "barque-file",
    }
}
