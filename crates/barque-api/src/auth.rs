//! Registry credentials: `POST /auth` and the `X-Registry-Auth` / `X-Registry-Config` headers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Credentials for one registry (definition `AuthConfig`).
///
/// `Debug` hides the secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// base64 of `username:password`, as in the client's configuration file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

impl AuthConfig {
    /// True if nothing is set: an anonymous request.
    pub fn is_empty(&self) -> bool {
        *self == AuthConfig::default()
    }
}

/// Credentials by registry host, the `X-Registry-Config` header of a build.
pub type AuthConfigs = BTreeMap<String, AuthConfig>;

/// The reply of `POST /auth` (definition `AuthResponse`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthResponse {
    #[serde(rename = "IdentityToken", skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
    #[serde(rename = "Status")]
    pub status: String,
}
