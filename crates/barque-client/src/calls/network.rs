//! `/networks`.

use barque_api::container::PruneQuery;
use barque_api::network::*;

use super::seg;
use crate::client::{Client, Request};
use crate::error::Result;

/// Every call fails with the server's refusal and its status, or a failure of the connection.
impl Client {
    pub async fn network_list(&self, query: &NetworkListQuery) -> Result<Vec<Network>> {
        self.request_json(Request::get("/networks").query(query.encode())).await
    }

    pub async fn network_inspect(&self, id: &str, query: &NetworkInspectQuery) -> Result<Network> {
        self.request_json(Request::get(format!("/networks/{}", seg(id))).query(query.encode())).await
    }

    /// The document as it came, for templates and printing.
    pub async fn network_inspect_raw(&self, id: &str, query: &NetworkInspectQuery) -> Result<serde_json::Value> {
        self.request_json(Request::get(format!("/networks/{}", seg(id))).query(query.encode())).await
    }

    pub async fn network_create(&self, request: &NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        self.request_json(Request::post("/networks/create").json(request)?).await
    }

    pub async fn network_connect(&self, id: &str, request: &NetworkConnectRequest) -> Result<()> {
        self.request_empty(Request::post(format!("/networks/{}/connect", seg(id))).json(request)?).await
    }

    pub async fn network_disconnect(&self, id: &str, request: &NetworkDisconnectRequest) -> Result<()> {
        self.request_empty(Request::post(format!("/networks/{}/disconnect", seg(id))).json(request)?).await
    }

    pub async fn network_remove(&self, id: &str) -> Result<()> {
        self.request_empty(Request::delete(format!("/networks/{}", seg(id)))).await
    }

    pub async fn network_prune(&self, query: &PruneQuery) -> Result<NetworksPruned> {
        self.request_json(Request::post("/networks/prune").query(query.encode())).await
    }
}
