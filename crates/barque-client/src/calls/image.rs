//! `/images` and `/distribution`.

use barque_api::auth::AuthConfig;
use barque_api::container::PruneQuery;
use barque_api::distribution::DistributionInspect;
use barque_api::image::*;
use barque_api::progress::JsonMessage;

use super::{name_path, registry_auth};
use crate::body::Upload;
use crate::client::{Client, Request};
use crate::error::Result;
use crate::stream::{ByteStream, JsonStream};

/// Every call fails with the server's refusal and its status, or a failure of the connection.
/// Errors of pulls, pushes and loads that began well come as documents of the stream.
impl Client {
    pub async fn image_list(&self, query: &ImageListQuery) -> Result<Vec<ImageSummary>> {
        self.request_json(Request::get("/images/json").query(query.encode())).await
    }

    pub async fn image_inspect(&self, name: &str, query: &ImageInspectQuery) -> Result<ImageInspect> {
        self.request_json(Request::get(format!("/images/{}/json", name_path(name))).query(query.encode())).await
    }

    /// The document as it came, for templates and printing.
    pub async fn image_inspect_raw(&self, name: &str, query: &ImageInspectQuery) -> Result<serde_json::Value> {
        self.request_json(Request::get(format!("/images/{}/json", name_path(name))).query(query.encode())).await
    }

    pub async fn image_history(&self, name: &str, query: &ImageInspectQuery) -> Result<Vec<HistoryItem>> {
        self.request_json(Request::get(format!("/images/{}/history", name_path(name))).query(query.encode())).await
    }

    /// Pulls an image.
    pub async fn image_pull(
        &self,
        query: &ImageCreateQuery,
        auth: Option<&AuthConfig>,
    ) -> Result<JsonStream<JsonMessage>> {
        let request = Request::post("/images/create").query(query.encode());
        let reply = self.request(request.header("X-Registry-Auth", &registry_auth(auth))).await?;
        Ok(JsonStream::new(reply))
    }

    /// Makes an image of a tar stream (`from_src` is `-`) or of a URL the daemon fetches.
    pub async fn image_import(&self, query: &ImageCreateQuery, content: Upload) -> Result<JsonStream<JsonMessage>> {
        let request = Request::post("/images/create").query(query.encode()).body("application/x-tar", content);
        Ok(JsonStream::new(self.request(request).await?))
    }

    pub async fn image_push(
        &self,
        name: &str,
        query: &PushQuery,
        auth: Option<&AuthConfig>,
    ) -> Result<JsonStream<JsonMessage>> {
        let request = Request::post(format!("/images/{}/push", name_path(name))).query(query.encode());
        let reply = self.request(request.header("X-Registry-Auth", &registry_auth(auth))).await?;
        Ok(JsonStream::new(reply))
    }

    pub async fn image_tag(&self, source: &str, repo: &str, tag: &str) -> Result<()> {
        let query = TagQuery { repo: repo.to_owned(), tag: tag.to_owned() }.encode();
        self.request_empty(Request::post(format!("/images/{}/tag", name_path(source))).query(query)).await
    }

    pub async fn image_remove(&self, name: &str, query: &ImageRemoveQuery) -> Result<Vec<ImageDeleted>> {
        self.request_json(Request::delete(format!("/images/{}", name_path(name))).query(query.encode())).await
    }

    pub async fn image_prune(&self, query: &PruneQuery) -> Result<ImagesPruned> {
        self.request_json(Request::post("/images/prune").query(query.encode())).await
    }

    pub async fn image_search(&self, query: &SearchQuery, auth: Option<&AuthConfig>) -> Result<Vec<SearchResult>> {
        let request = Request::get("/images/search").query(query.encode());
        self.request_json(request.header("X-Registry-Auth", &registry_auth(auth))).await
    }

    /// Images as one tar stream.
    pub async fn image_save(&self, query: &SaveQuery) -> Result<ByteStream> {
        self.request(Request::get("/images/get").query(query.encode())).await
    }

    pub async fn image_load(&self, query: &LoadQuery, content: Upload) -> Result<JsonStream<JsonMessage>> {
        let request = Request::post("/images/load").query(query.encode()).body("application/x-tar", content);
        Ok(JsonStream::new(self.request(request).await?))
    }

    /// What the registry has under a name.
    pub async fn distribution_inspect(&self, name: &str, auth: Option<&AuthConfig>) -> Result<DistributionInspect> {
        let request = Request::get(format!("/distribution/{}/json", name_path(name)));
        self.request_json(request.header("X-Registry-Auth", &registry_auth(auth))).await
    }
}
