//! `/volumes`.

use barque_api::container::PruneQuery;
use barque_api::volume::*;

use http::Method;

use super::seg;
use crate::body::Upload;
use crate::client::{Client, Request};
use crate::error::Result;
use crate::stream::ByteStream;

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

    /// The volume's content as a tar stream. Barque only.
    pub async fn volume_export(&self, name: &str) -> Result<ByteStream> {
        self.request(Request::get(format!("/volumes/{}/archive", seg(name)))).await
    }

    /// Unpacks a tar stream into the volume. Barque only.
    pub async fn volume_import(&self, name: &str, content: Upload) -> Result<()> {
        let request = Request::new(Method::PUT, format!("/volumes/{}/archive", seg(name)));
        self.request_empty(request.body("application/x-tar", content)).await
    }

    /// Makes a volume with another's content. Barque only.
    pub async fn volume_clone(&self, name: &str, target: &str) -> Result<()> {
        let query = VolumeTargetQuery { name: target.to_owned() }.encode();
        self.request_empty(Request::post(format!("/volumes/{}/clone", seg(name))).query(query)).await
    }

    /// Gives an unused volume another name. Barque only.
    pub async fn volume_rename(&self, name: &str, target: &str) -> Result<()> {
        let query = VolumeTargetQuery { name: target.to_owned() }.encode();
        self.request_empty(Request::post(format!("/volumes/{}/rename", seg(name))).query(query)).await
    }

    pub async fn volume_prune(&self, query: &PruneQuery) -> Result<VolumesPruned> {
        self.request_json(Request::post("/volumes/prune").query(query.encode())).await
    }
}
