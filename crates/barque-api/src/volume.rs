//! Volumes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::filters::Filters;
use crate::json;

/// A volume (definition `Volume`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Volume {
    /// RFC 3339.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub created_at: String,
    pub driver: String,
    pub labels: Option<BTreeMap<String, String>>,
    pub mountpoint: String,
    pub name: String,
    pub options: Option<BTreeMap<String, String>>,
    /// `local` or `global`.
    pub scope: String,
    /// What a driver says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Map<String, serde_json::Value>>,
    /// Only in `/system/df`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_data: Option<VolumeUsage>,
}

/// Use of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeUsage {
    /// -1 if not known.
    pub ref_count: i64,
    /// Bytes; -1 if not known.
    pub size: i64,
}

/// Body of `POST /volumes/create`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeCreateRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_volume_spec: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    #[serde(skip_serializing_if = "json::no_entries")]
    pub driver_opts: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "json::no_entries")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Empty: a name is made.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// Reply of `GET /volumes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeListResponse {
    /// `[]` since 1.44, `null` before.
    pub volumes: Vec<Volume>,
    pub warnings: Option<Vec<String>>,
}

/// Reply of `POST /volumes/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumesPruned {
    pub volumes_deleted: Option<Vec<String>>,
    /// Bytes.
    pub space_reclaimed: u64,
}

crate::query! {
    /// Query of `GET /volumes`.
    pub struct VolumeListQuery {
        filters: Filters => "filters",
    }
}

crate::query! {
    /// Query of `POST /volumes/{name}/clone` and `/rename`, which only Barque has.
    pub struct VolumeTargetQuery {
        /// The other name.
        name: String => "name",
    }
}

crate::query! {
    /// Query of `DELETE /volumes/{name}`.
    pub struct VolumeRemoveQuery {
        force: bool => "force",
    }
}
