//! `/containers`.

use barque_api::container::*;
use barque_api::error::IdResponse;
use barque_api::json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;

use super::seg;
use crate::body::Upload;
use crate::client::{Client, Request};
use crate::error::{Error, Result};
use crate::hijack::Hijacked;
use crate::stream::{ByteStream, JsonStream};

/// A wait whose request the server has accepted: what happens from now on is not missed.
pub struct WaitHandle(JsonStream<WaitResponse>);

impl WaitHandle {
    /// Waits for the condition.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn finish(mut self) -> Result<WaitResponse> {
        self.0.next().await?.ok_or_else(|| Error::transport("the daemon ended the wait without an answer"))
    }
}

/// A path in a container, and its content as a tar stream.
pub struct Archive {
    pub stat: PathStat,
    pub content: ByteStream,
}

fn path(id: &str, rest: &str) -> String {
    format!("/containers/{}{rest}", seg(id))
}

/// Every call fails with the server's refusal and its status, or a failure of the connection.
impl Client {
    pub async fn container_list(&self, query: &ContainerListQuery) -> Result<Vec<ContainerSummary>> {
        self.request_json(Request::get("/containers/json").query(query.encode())).await
    }

    pub async fn container_create(
        &self,
        query: &ContainerCreateQuery,
        request: &ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        self.request_json(Request::post("/containers/create").query(query.encode()).json(request)?).await
    }

    pub async fn container_inspect(&self, id: &str, size: bool) -> Result<ContainerInspect> {
        let query = InspectQuery { size }.encode();
        self.request_json(Request::get(path(id, "/json")).query(query)).await
    }

    /// The document as it came, for templates and printing.
    pub async fn container_inspect_raw(&self, id: &str, size: bool) -> Result<serde_json::Value> {
        let query = InspectQuery { size }.encode();
        self.request_json(Request::get(path(id, "/json")).query(query)).await
    }

    /// 304, already running, is success.
    pub async fn container_start(&self, id: &str, query: &StartQuery) -> Result<()> {
        self.request_empty(Request::post(path(id, "/start")).query(query.encode())).await
    }

    /// 304, already stopped, is success.
    pub async fn container_stop(&self, id: &str, query: &StopQuery) -> Result<()> {
        self.request_empty(Request::post(path(id, "/stop")).query(query.encode())).await
    }

    pub async fn container_restart(&self, id: &str, query: &StopQuery) -> Result<()> {
        self.request_empty(Request::post(path(id, "/restart")).query(query.encode())).await
    }

    /// An empty signal is `SIGKILL`.
    pub async fn container_kill(&self, id: &str, signal: &str) -> Result<()> {
        let query = KillQuery { signal: signal.to_owned() }.encode();
        self.request_empty(Request::post(path(id, "/kill")).query(query)).await
    }

    pub async fn container_pause(&self, id: &str) -> Result<()> {
        self.request_empty(Request::post(path(id, "/pause"))).await
    }

    pub async fn container_unpause(&self, id: &str) -> Result<()> {
        self.request_empty(Request::post(path(id, "/unpause"))).await
    }

    pub async fn container_rename(&self, id: &str, name: &str) -> Result<()> {
        let query = RenameQuery { name: name.to_owned() }.encode();
        self.request_empty(Request::post(path(id, "/rename")).query(query)).await
    }

    pub async fn container_update(
        &self,
        id: &str,
        request: &ContainerUpdateRequest,
    ) -> Result<ContainerUpdateResponse> {
        self.request_json(Request::post(path(id, "/update")).json(request)?).await
    }

    pub async fn container_remove(&self, id: &str, query: &RemoveQuery) -> Result<()> {
        self.request_empty(Request::delete(path(id, "")).query(query.encode())).await
    }

    /// Begins to wait; `condition` is `not-running` (if empty), `next-exit` or `removed`.
    pub async fn container_wait(&self, id: &str, condition: &str) -> Result<WaitHandle> {
        let query = WaitQuery { condition: condition.to_owned() }.encode();
        let reply = self.request(Request::post(path(id, "/wait")).query(query)).await?;
        Ok(WaitHandle(JsonStream::new(reply)))
    }

    pub async fn container_attach(&self, id: &str, query: &AttachQuery) -> Result<Hijacked> {
        self.hijack(Request::post(path(id, "/attach")).query(query.encode()), "tcp").await
    }

    /// The log: frames without a terminal, raw with one (the container's `Tty` tells).
    pub async fn container_logs(&self, id: &str, query: &LogsQuery) -> Result<ByteStream> {
        self.request(Request::get(path(id, "/logs")).query(query.encode())).await
    }

    /// Characters.
    pub async fn container_resize(&self, id: &str, height: u32, width: u32) -> Result<()> {
        let query = ResizeQuery { height, width }.encode();
        self.request_empty(Request::post(path(id, "/resize")).query(query)).await
    }

    /// An empty `ps_args` is `-ef`.
    pub async fn container_top(&self, id: &str, ps_args: &str) -> Result<TopResponse> {
        let query = TopQuery { ps_args: ps_args.to_owned() }.encode();
        self.request_json(Request::get(path(id, "/top")).query(query)).await
    }

    pub async fn container_changes(&self, id: &str) -> Result<Vec<Change>> {
        let changes: Option<Vec<Change>> = self.request_json(Request::get(path(id, "/changes"))).await?;
        Ok(changes.unwrap_or_default())
    }

    pub async fn container_stats(&self, id: &str, query: &StatsQuery) -> Result<JsonStream<ContainerStats>> {
        let reply = self.request(Request::get(path(id, "/stats")).query(query.encode())).await?;
        Ok(JsonStream::new(reply))
    }

    /// The whole file system as a tar stream.
    pub async fn container_export(&self, id: &str) -> Result<ByteStream> {
        self.request(Request::get(path(id, "/export"))).await
    }

    pub async fn container_archive_stat(&self, id: &str, in_container: &str) -> Result<PathStat> {
        let query = CopyQuery { path: in_container.to_owned(), ..CopyQuery::default() }.encode();
        let reply = self.request(Request::new(Method::HEAD, path(id, "/archive")).query(query)).await?;
        path_stat(&reply)
    }

    pub async fn container_archive_get(&self, id: &str, in_container: &str) -> Result<Archive> {
        let query = CopyQuery { path: in_container.to_owned(), ..CopyQuery::default() }.encode();
        let content = self.request(Request::get(path(id, "/archive")).query(query)).await?;
        Ok(Archive { stat: path_stat(&content)?, content })
    }

    /// Unpacks a tar stream into a directory of the container.
    pub async fn container_archive_put(&self, id: &str, query: &CopyQuery, content: Upload) -> Result<()> {
        let request = Request::new(Method::PUT, path(id, "/archive")).query(query.encode());
        self.request_empty(request.body("application/x-tar", content)).await
    }

    pub async fn container_prune(&self, query: &PruneQuery) -> Result<ContainersPruned> {
        self.request_json(Request::post("/containers/prune").query(query.encode())).await
    }

    /// Makes an image of a container. The configuration overrides the container's.
    pub async fn container_commit(&self, query: &CommitQuery, config: Option<&ContainerConfig>) -> Result<IdResponse> {
        self.request_json(Request::post("/commit").query(query.encode()).json(&config)?).await
    }
}

fn path_stat(reply: &ByteStream) -> Result<PathStat> {
    let invalid = || Error::transport("the daemon's reply has no valid X-Docker-Container-Path-Stat");
    let bytes = STANDARD.decode(reply.header("x-docker-container-path-stat")).map_err(|_| invalid())?;
    json::from_slice(&bytes).map_err(|why| invalid().with_source(why))
}
