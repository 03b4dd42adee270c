//! `HostConfig.Mounts`: the long form of mounts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json;

/// A mount to make (definition `Mount`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
    #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub read_only: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consistency: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// Since 1.48.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_options: Option<serde_json::Value>,
}

/// Options of a bind mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BindOptions {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub non_recursive: bool,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub create_mountpoint: bool,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub read_only_non_recursive: bool,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub read_only_force_recursive: bool,
    /// Since 1.56.
    #[serde(rename = "IDMapping", skip_serializing_if = "Option::is_none")]
    pub id_mapping: Option<IdMapping>,
}

/// How the owners of files are shown in a bind mount (1.56).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IdMapping {
    /// `match-user`, `userns`, or Barque's own `ranges`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// As `--user`, for `match-user`; empty is the user the container runs as.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Barque's own, for `ranges`.
    #[serde(rename = "UIDs", skip_serializing_if = "json::no_items")]
    pub uids: Option<Vec<IdRange>>,
    #[serde(rename = "GIDs", skip_serializing_if = "json::no_items")]
    pub gids: Option<Vec<IdRange>>,
}

/// `Count` ids from `Stored` on, as the file system has them, appear in the container as those from `Shown` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IdRange {
    pub stored: u32,
    pub shown: u32,
    pub count: u32,
}

/// Options of a volume mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeOptions {
    #[serde(skip_serializing_if = "json::is_zero")]
    pub no_copy: bool,
    #[serde(skip_serializing_if = "json::no_entries")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Since 1.45.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<MountDriver>,
}

/// The driver that creates a mount's volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MountDriver {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "json::no_entries")]
    pub options: Option<BTreeMap<String, String>>,
}

/// Options of an image mount (1.48).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageOptions {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
}

/// Options of a tmpfs mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TmpfsOptions {
    /// Bytes; 0 is without limit.
    #[serde(skip_serializing_if = "json::is_zero")]
    pub size_bytes: i64,
    /// Permission bits; 0 is the default, 01777.
    #[serde(skip_serializing_if = "json::is_zero")]
    pub mode: u32,
    /// Since 1.46: `[["noexec"],["key","value"]]`.
    #[serde(skip_serializing_if = "json::no_items")]
    pub options: Option<Vec<Vec<String>>>,
}
