//! `/build`.

use barque_api::auth::AuthConfigs;
use barque_api::build::{BuildCancelQuery, BuildPruneQuery, BuildPruned, BuildQuery};
use barque_api::build_extras::{self, BuildExtras};
use barque_api::progress::JsonMessage;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

use crate::body::Upload;
use crate::client::{Client, Request};
use crate::error::Result;
use crate::stream::JsonStream;

/// What a build sends besides its query and context.
#[derive(Clone, Debug, Default)]
pub struct BuildHeaders {
    /// Credentials for registries, by host.
    pub auth: AuthConfigs,
    /// Further headers, for servers that are Barque.
    pub extra: Vec<(String, String)>,
}

impl BuildHeaders {
    /// Announces Barque's own options; the bytes come before the archive. Only for a server that is Barque
    /// ([`Client::is_barque`]).
    ///
    /// # Errors
    /// More than [`build_extras::MAX`] bytes.
    pub fn announce(&mut self, extras: &BuildExtras) -> Result<Vec<u8>, barque_model::Error> {
        let head = serde_json::to_vec(extras).map_err(|e| barque_model::Error::internal(e.to_string()))?;
        if head.len() > build_extras::MAX {
            return Err(barque_model::Error::invalid("the build's secrets and Dockerfile are too long"));
        }
        self.extra.push((build_extras::HEADER.to_owned(), head.len().to_string()));
        Ok(head)
    }
}

/// Output of a build: text in `stream`, the image in `aux`, an error at the end.
pub type BuildOutput = JsonStream<JsonMessage>;

/// Every call fails with the server's refusal and its status, or a failure of the connection.
impl Client {
    /// Builds an image of a tar stream; an empty upload with `remote` lets the daemon fetch the context.
    pub async fn build(&self, query: &BuildQuery, headers: &BuildHeaders, context: Upload) -> Result<BuildOutput> {
        let auth = URL_SAFE.encode(serde_json::to_vec(&headers.auth).unwrap_or_default());
        let mut request = Request::post("/build").query(query.encode()).header("X-Registry-Config", &auth);
        for (name, value) in &headers.extra {
            request = request.header(name, value);
        }
        Ok(JsonStream::new(self.request(request.body("application/x-tar", context)).await?))
    }

    pub async fn build_prune(&self, query: &BuildPruneQuery) -> Result<BuildPruned> {
        self.request_json(Request::post("/build/prune").query(query.encode())).await
    }

    pub async fn build_cancel(&self, id: &str) -> Result<()> {
        let query = BuildCancelQuery { id: id.to_owned() }.encode();
        self.request_empty(Request::post("/build/cancel").query(query)).await
    }
}
