//! `GET /events`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::filters::Filters;
use crate::json;

/// Something that happened (definition `EventMessage`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventMessage {
    /// Deprecated, before 1.52: the action of container and image events.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Deprecated, before 1.52.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Deprecated, before 1.52: the image of a container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// `container`, `image`, `network`, `volume`, `builder`, `daemon`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `start`, `die`, `exec_create: sh`, `health_status: healthy`, …
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: EventActor,
    /// `local` or `swarm`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// Unix seconds.
    #[serde(skip_serializing_if = "json::is_zero")]
    pub time: i64,
    /// Unix nanoseconds.
    #[serde(rename = "timeNano", skip_serializing_if = "json::is_zero")]
    pub time_nano: i64,
}

/// What it happened to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventActor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

crate::query! {
    /// Query of `GET /events`.
    pub struct EventsQuery {
        /// Unix seconds with fraction, RFC 3339, or a duration ago.
        since: String => "since",
        /// As `since`; the stream ends there.
        until: String => "until",
        filters: Filters => "filters",
    }
}
