//! One call per endpoint, one file per noun.

pub(crate) mod build;
pub(crate) mod container;
mod exec;
mod image;
mod network;
mod system;
mod volume;

use barque_api::auth::AuthConfig;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

pub(crate) use barque_api::query::escape_segment as seg;

/// The value of `X-Registry-Auth`.
pub(crate) fn registry_auth(auth: Option<&AuthConfig>) -> String {
    let document = serde_json::to_vec(&auth.cloned().unwrap_or_default()).unwrap_or_default();
    URL_SAFE.encode(document)
}

/// An image name in a path keeps its slashes; everything else unusual is escaped.
pub(crate) fn name_path(name: &str) -> String {
    name.split('/').map(seg).collect::<Vec<_>>().join("/")
}
