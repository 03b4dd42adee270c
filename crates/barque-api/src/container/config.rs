//! `ContainerConfig`: the part of a container's configuration that does not depend on the host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json::{self, Set};

/// Portable configuration (definition `ContainerConfig`); also `Config` of an image before 1.50.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    pub hostname: String,
    pub domainname: String,
    /// `user`, `user:group`, numbers or names.
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    /// Keys are `port/protocol`.
    #[serde(skip_serializing_if = "json::no_entries")]
    pub exposed_ports: Option<Set>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    /// `NAME=value`; a bare `NAME` removes the image's variable.
    pub env: Option<Vec<String>>,
    #[serde(deserialize_with = "json::string_or_list")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub args_escaped: bool,
    /// The image as the user wrote it.
    pub image: String,
    /// Keys are paths in the container that get an anonymous volume.
    pub volumes: Option<Set>,
    pub working_dir: String,
    #[serde(deserialize_with = "json::string_or_list")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub network_disabled: bool,
    /// Deprecated in 1.44: now in the endpoint's settings.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    /// `null` when unset; dockerd says `null` in images and `[]`-less elsewhere.
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds; -1 waits without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "json::no_items")]
    pub shell: Option<Vec<String>>,
}

/// A health check (definition `HealthConfig`). Times are nanoseconds; 0 inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `[]` inherits, `["NONE"]` disables, `["CMD", args…]`, `["CMD-SHELL", command]`.
    #[serde(skip_serializing_if = "json::no_items")]
    pub test: Option<Vec<String>>,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub start_period: i64,
    /// Since 1.44.
    #[serde(skip_serializing_if = "json::is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub retries: i64,
}
