//! `/volumes`.

use barque_api::container::PruneQuery;
use barque_api::volume::*;

use super::seg;
use crate::client::{Client, Request};
use crate::error::Result;

/// Every call fails with the server's refusal and its status, or a failure of the connection.
impl Client {
    pub async fn volume_list(&self, query: &VolumeListQuery) -> Result<VolumeListResponse> {
        self.request_json(Request::get("/volumes").query(query.encode())).await
    }

    pub async fn volume_inspect(&self, name: &str) -> Result<Volume> {
        self.request_json(Request::get(format!("/volumes/{}", seg(name)))).await
    }

    /// The document as it came, for templates and printing.
    pub async fn volume_inspect_raw(&self, name: &str) -> Result<serde_json::Value> {
        self.request_json(Request::get(format!("/volumes/{}", seg(name)))).await
    }

    pub async fn volume_create(&self, request: &VolumeCreateRequest) -> Result<Volume> {
        self.request_json(Request::post("/volumes/create").json(request)?).await
    }

    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let query = VolumeRemoveQuery { force }.encode();
        self.request_empty(Request::delete(format!("/volumes/{}", seg(name))).query(query)).await
    }

    pub async fn volume_prune(&self, query: &PruneQuery) -> Result<VolumesPruned> {
        self.request_json(Request::post("/volumes/prune").query(query.encode())).await
    }
}
