//! Credentials as values: what a caller gives with each call, and the `X-Registry-Auth` form of the Engine API.

use base64::Engine as _;
use serde::{Deserialize, Serialize};

/// What to identify oneself with at one registry. Never sent to another host than that registry and the token
/// server it names.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// Nothing; public repositories only.
    #[default]
    Anonymous,
    /// User name and password (or access token used as one).
    Basic {
        /// Account name.
        username: String,
        /// Password or personal access token.
        password: String,
    },
    /// An OAuth2 refresh token obtained by an earlier login.
    IdentityToken(String),
    /// A bearer token ready for use; no token server is asked.
    RegistryToken(String),
}

impl Credentials {
    /// User name and password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic { username: username.into(), password: password.into() }
    }

    /// Whether there is nothing to identify with.
    pub fn is_anonymous(&self) -> bool {
        *self == Self::Anonymous
    }

    /// The value of an `Authorization: Basic` header, when there is a password.
    pub(crate) fn basic_header(&self) -> Option<String> {
        match self {
            Self::Basic { username, password } => {
                let plain = format!("{username}:{password}");
                Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(plain)))
            }
            _ => None,
        }
    }
}

/// Secrets stay out of logs.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { username, .. } => write!(f, "Basic({username:?}, ***)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(***)"),
            Self::RegistryToken(_) => f.write_str("RegistryToken(***)"),
        }
    }
}

/// Docker's `AuthConfig`: the body of `POST /auth`, the JSON inside `X-Registry-Auth`, and one entry of
/// `X-Registry-Config`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    /// Account name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// `base64(username:password)`, used in the configuration file instead of the two above.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// Registry these credentials are for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    /// OAuth2 refresh token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// Bearer token.
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
    /// Reads the value of an `X-Registry-Auth` header: base64url (padded or not, standard alphabet accepted) of JSON.
    /// An empty value means anonymous.
    ///
    /// # Errors
    /// What is wrong with the value, in words.
    pub fn decode(header: &str) -> Result<Self, String> {
        let trimmed = header.trim().trim_end_matches('=');
        if trimmed.is_empty() {
            return Ok(Self::default());
        }
        let url_safe: String = trimmed
            .chars()
            .map(|c| match c {
                '+' => '-',
                '/' => '_',
                other => other,
            })
            .collect();
        let json = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(url_safe)
            .map_err(|error| format!("invalid X-Registry-Auth header: not base64: {error}"))?;
        serde_json::from_slice(&json).map_err(|error| format!("invalid X-Registry-Auth header: {error}"))
    }

    /// The base64url form for the header.
    pub fn encode(&self) -> String {
        // Plain strings always serialise.
        let json = serde_json::to_vec(self).unwrap_or_default();
        base64::engine::general_purpose::URL_SAFE.encode(json)
    }

    /// The credentials inside; the strongest kind wins (registry token, identity token, password, `auth`).
    pub fn credentials(&self) -> Credentials {
        if !self.registrytoken.is_empty() {
            return Credentials::RegistryToken(self.registrytoken.clone());
        }
        if !self.identitytoken.is_empty() {
            return Credentials::IdentityToken(self.identitytoken.clone());
        }
        if !self.username.is_empty() || !self.password.is_empty() {
            return Credentials::basic(&self.username, &self.password);
        }
        match decode_auth(&self.auth) {
            Some((username, password)) => Credentials::Basic { username, password },
            None => Credentials::Anonymous,
        }
    }
}

/// Splits the `auth` field of a configuration file, `base64(username:password)`.
pub(crate) fn decode_auth(auth: &str) -> Option<(String, String)> {
    let plain = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?;
    let plain = String::from_utf8(plain).ok()?;
    // Docker's writer pads with NUL bytes in old files.
    let (user, password) = plain.split_once(':')?;
    (!user.is_empty()).then(|| (user.to_owned(), password.trim_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip_in_every_spelling() {
        let auth = AuthConfig { username: "ünï?>".into(), password: "p:w".into(), ..AuthConfig::default() };
        let encoded = auth.encode();
        assert_eq!(AuthConfig::decode(&encoded).unwrap(), auth);
        assert_eq!(AuthConfig::decode(encoded.trim_end_matches('=')).unwrap(), auth);
        assert_eq!(AuthConfig::decode(&encoded.replace('-', "+").replace('_', "/")).unwrap(), auth);
        assert_eq!(auth.credentials(), Credentials::basic("ünï?>", "p:w"));
    }

    #[test]
    fn empty_and_broken_headers() {
        assert_eq!(AuthConfig::decode("").unwrap().credentials(), Credentials::Anonymous);
        assert_eq!(AuthConfig::decode("e30=").unwrap().credentials(), Credentials::Anonymous);
        assert!(AuthConfig::decode("***").unwrap_err().contains("base64"));
        assert!(AuthConfig::decode("bm90IGpzb24").unwrap_err().contains("X-Registry-Auth"));
    }

    #[test]
    fn strongest_credential_wins() {
        let mut auth = AuthConfig { auth: "dTpwOncA".into(), ..AuthConfig::default() };
        assert_eq!(auth.credentials(), Credentials::basic("u", "p:w"));
        auth.identitytoken = "it".into();
        assert_eq!(auth.credentials(), Credentials::IdentityToken("it".into()));
        auth.registrytoken = "rt".into();
        assert_eq!(auth.credentials(), Credentials::RegistryToken("rt".into()));
    }

    #[test]
    fn secrets_are_not_printed() {
        let printed = format!("{:?}", Credentials::basic("me", "hunter2"));
        assert!(printed.contains("me") && !printed.contains("hunter2"));
        let auth = AuthConfig { password: "hunter2".into(), ..AuthConfig::default() };
        assert!(!format!("{auth:?}").contains("hunter2"));
    }
}
