//! `/info`, `/version`, `/events`, `/system/df`, `/auth`.

use barque_api::auth::{AuthConfig, AuthResponse};
use barque_api::event::{EventMessage, EventsQuery};
use barque_api::system::{DiskUsage, DiskUsageQuery, Info, Version};

use crate::client::{Client, Request};
use crate::error::Result;
use crate::stream::JsonStream;

/// Every call fails with the server's refusal and its status, or a failure of the connection.
impl Client {
    pub async fn info(&self) -> Result<Info> {
        self.request_json(Request::get("/info")).await
    }

    /// The document as it came, for templates and printing.
    pub async fn info_raw(&self) -> Result<serde_json::Value> {
        self.request_json(Request::get("/info")).await
    }

    pub async fn version(&self) -> Result<Version> {
        self.request_json(Request::get("/version")).await
    }

    pub async fn events(&self, query: &EventsQuery) -> Result<JsonStream<EventMessage>> {
        Ok(JsonStream::new(self.request(Request::get("/events").query(query.encode())).await?))
    }

    pub async fn disk_usage(&self, query: &DiskUsageQuery) -> Result<DiskUsage> {
        self.request_json(Request::get("/system/df").query(query.encode())).await
    }

    /// Checks credentials with the registry.
    pub async fn auth(&self, credentials: &AuthConfig) -> Result<AuthResponse> {
        self.request_json(Request::post("/auth").json(credentials)?).await
    }
}
