//! `/exec`.

use barque_api::container::ResizeQuery;
use barque_api::exec::{ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecStartRequest};

use super::seg;
use crate::client::{Client, Request};
use crate::error::Result;
use crate::hijack::Hijacked;

/// Every call fails with the server's refusal and its status, or a failure of the connection.
impl Client {
    /// Prepares a process in a running container; returns its id.
    pub async fn exec_create(&self, container: &str, request: &ExecCreateRequest) -> Result<String> {
        let path = format!("/containers/{}/exec", seg(container));
        let reply: ExecCreateResponse = self.request_json(Request::post(path).json(request)?).await?;
        Ok(reply.id)
    }

    /// Starts it and connects to its streams.
    pub async fn exec_start(&self, id: &str, request: &ExecStartRequest) -> Result<Hijacked> {
        let request = ExecStartRequest { detach: false, ..request.clone() };
        self.hijack(Request::post(format!("/exec/{}/start", seg(id))).json(&request)?, "tcp").await
    }

    /// Starts it and returns at once.
    pub async fn exec_start_detached(&self, id: &str, request: &ExecStartRequest) -> Result<()> {
        let request = ExecStartRequest { detach: true, ..request.clone() };
        self.request_empty(Request::post(format!("/exec/{}/start", seg(id))).json(&request)?).await
    }

    /// Characters.
    pub async fn exec_resize(&self, id: &str, height: u32, width: u32) -> Result<()> {
        let query = ResizeQuery { height, width }.encode();
        self.request_empty(Request::post(format!("/exec/{}/resize", seg(id))).query(query)).await
    }

    pub async fn exec_inspect(&self, id: &str) -> Result<ExecInspect> {
        self.request_json(Request::get(format!("/exec/{}/json", seg(id)))).await
    }
}
