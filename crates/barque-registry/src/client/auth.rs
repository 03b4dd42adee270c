//! Authorization: which way a server wants it, and the tokens it gave (distribution project: "Token Authentication").

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use barque_model::{Digest, Error, ErrorKind};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use url::Url;

use super::Inner;
use super::endpoint::{Endpoint, lock};
use super::failure::Failure;
use super::request::body_bytes;
use crate::Credentials;
use crate::challenge::Challenge;

/// Token documents are a few KiB.
const TOKEN_BYTES_MAX: u64 = 1024 * 1024;
/// A token without a lifetime lives this long (the protocol's default).
const LIFETIME_DEFAULT: Duration = Duration::from_secs(60);
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Tokens kept; more means somebody walks over every repository there is.
const TOKENS_MAX: usize = 4096;
const CLIENT_ID: &str = "barque";

/// How a server wants to be convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// A token and, after a login, the refresh token that came with it.
#[derive(Debug, Clone)]
pub(super) struct Token {
    value: String,
    expires: Instant,
    pub(super) refresh: Option<String>,
}

impl Token {
    /// The `Authorization` value.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.value)
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    origin: String,
    /// Fingerprint, so that passwords are not kept.
    credentials: Digest,
    scopes: Vec<String>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// What is known about servers and the tokens they gave.
#[derive(Default)]
pub(super) struct Auth {
    ways: Mutex<HashMap<String, Way>>,
    tokens: Mutex<HashMap<Key, Slot>>,
}

impl Auth {
    pub(super) fn way(&self, endpoint: &Endpoint) -> Option<Way> {
        lock(&self.ways).get(&endpoint.origin()).cloned()
    }

    pub(super) fn learn(&self, endpoint: &Endpoint, way: &Way) {
        lock(&self.ways).insert(endpoint.origin(), way.clone());
    }

    fn slot(&self, endpoint: &Endpoint, scopes: &[String]) -> Slot {
        let credentials = match &endpoint.credentials {
            Credentials::Anonymous => Digest::of(b""),
            Credentials::Basic { username, password } => Digest::of(format!("b\0{username}\0{password}").as_bytes()),
            Credentials::IdentityToken(token) => Digest::of(format!("i\0{token}").as_bytes()),
            Credentials::RegistryToken(token) => Digest::of(format!("r\0{token}").as_bytes()),
        };
        let key = Key { origin: endpoint.origin(), credentials, scopes: scopes.to_vec() };
        let mut tokens = lock(&self.tokens);
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.entry(key).or_default().clone()
    }
}

/// The strongest way among challenges that we can go.
pub(super) fn choose(challenges: &[Challenge], base: &Url) -> Option<Way> {
    let bearer = challenges.iter().filter(|challenge| challenge.scheme == "bearer").find_map(|challenge| {
        let realm = base.join(challenge.param("realm")?).ok()?;
        matches!(realm.scheme(), "http" | "https").then(|| Way::Bearer {
            realm,
            service: challenge.param("service").filter(|service| !service.is_empty()).map(str::to_owned),
        })
    });
    bearer.or_else(|| challenges.iter().any(|challenge| challenge.scheme == "basic").then_some(Way::Basic))
}

impl Inner {
    /// The `Authorization` value for a request to `endpoint`. `stale` is a value the server just refused.
    pub(super) async fn authorization(
        &self,
        endpoint: &Endpoint,
        way: Option<&Way>,
        scopes: &[String],
        extra_scope: Option<&str>,
        stale: Option<&str>,
    ) -> Result<Option<String>, Failure> {
        if !endpoint.credentials.is_anonymous() && !self.directory.private(&endpoint.base) {
            return Err(Failure::Final(
                Error::new(
                    ErrorKind::Unauthorized,
                    format!("credentials are not sent to {} unencrypted", endpoint.origin()),
                )
                .with_hint("use https, or add the host to the insecure registries"),
            ));
        }
        if let Credentials::RegistryToken(token) = &endpoint.credentials {
            return Ok(Some(format!("Bearer {token}")));
        }
        match way {
            None => Ok(None),
            Some(Way::Basic) => Ok(endpoint.credentials.basic_header()),
            Some(Way::Bearer { realm, service }) => {
                let slot = self.auth.slot(endpoint, scopes);
                // Held while the token is fetched: parallel layers ask once.
                let mut held = slot.lock().await;
                if let Some(token) = held.as_ref() {
                    let value = token.header();
                    if token.expires > Instant::now() && stale != Some(value.as_str()) {
                        return Ok(Some(value));
                    }
                }
                *held = None;
                let mut wanted: Vec<&str> = scopes.iter().map(String::as_str).collect();
                wanted.extend(extra_scope.filter(|extra| !scopes.iter().any(|scope| scope == extra)));
                let token = self.fetch_token(endpoint, realm, service.as_deref(), &wanted, false).await?;
                let value = token.header();
                *held = Some(token);
                Ok(Some(value))
            }
        }
    }

    /// Asks the token server; with `offline`, for a refresh token too.
    pub(super) async fn fetch_token(
        &self,
        endpoint: &Endpoint,
        realm: &Url,
        service: Option<&str>,
        scopes: &[&str],
        offline: bool,
    ) -> Result<Token, Failure> {
        let secret = !endpoint.credentials.is_anonymous();
        if secret && !self.directory.private(realm) {
            return Err(Failure::Final(
                Error::new(
                    ErrorKind::Unauthorized,
                    format!("credentials are not sent to the token server {realm}: it is not encrypted"),
                )
                .with_hint("add the token server's host to the insecure registries if it is trusted"),
            ));
        }
        let (method, url, headers, body) = token_request(&endpoint.credentials, realm, service, scopes, offline)?;
        let answer = self.exchange(&method, &url, headers, body.into()).await?;
        if !answer.status().is_success() {
            return Err(answer.into_refusal(&method).await);
        }
        let bytes = body_bytes(answer, TOKEN_BYTES_MAX, self.config.idle_timeout).await?;
        parse_token(&bytes, &url)
    }
}

type TokenRequest = (Method, Url, HeaderMap, Option<String>);

fn token_request(
    credentials: &Credentials,
    realm: &Url,
    service: Option<&str>,
    scopes: &[&str],
    offline: bool,
) -> Result<TokenRequest, Failure> {
    let mut headers = HeaderMap::new();
    let mut url = realm.clone();
    if let Credentials::IdentityToken(token) = credentials {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", token);
        form.append_pair("client_id", CLIENT_ID);
        if let Some(service) = service {
            form.append_pair("service", service);
        }
        if !scopes.is_empty() {
            form.append_pair("scope", &scopes.join(" "));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        return Ok((Method::POST, url, headers, Some(form.finish())));
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
        if let Credentials::Basic { username, .. } = credentials {
            query.append_pair("account", username).append_pair("client_id", CLIENT_ID);
            if offline {
                query.append_pair("offline_token", "true");
            }
        }
    }
    if let Some(basic) = credentials.basic_header() {
        headers.insert(AUTHORIZATION, secret_header(&basic)?);
    }
    Ok((Method::GET, url, headers, None))
}

/// A header value that is not written to logs.
pub(super) fn secret_header(value: &str) -> Result<HeaderValue, Failure> {
    let mut header = HeaderValue::from_str(value).map_err(|_| Failure::bad("token with forbidden characters"))?;
    header.set_sensitive(true);
    Ok(header)
}

fn parse_token(bytes: &[u8], url: &Url) -> Result<Token, Failure> {
    #[derive(Deserialize)]
    struct Document {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<f64>,
        refresh_token: Option<String>,
    }
    let host = url.host_str().unwrap_or_default();
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| Failure::bad(format!("token server {host} sent a malformed token: {error}")))?;
    let value = document.token.or(document.access_token).filter(|token| !token.is_empty());
    let value = value
        .ok_or_else(|| Failure::bad(format!("authorization server {host} did not include a token in the response")))?;
    let lifetime = document.expires_in.filter(|seconds| *seconds > 0.0);
    let lifetime = lifetime.map_or(LIFETIME_DEFAULT, |seconds| Duration::from_secs_f64(seconds.min(1e9)));
    // Given up a little early, so that it does not run out on the way.
    let lifetime = lifetime.min(LIFETIME_MAX).mul_f64(0.9);
    let refresh = document.refresh_token.filter(|token| !token.is_empty());
    Ok(Token { value, expires: Instant::now() + lifetime, refresh })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::parse;

    #[test]
    fn bearer_is_preferred_and_realms_are_checked() {
        let base = Url::parse("https://r.example/").unwrap();
        let way = choose(&parse(r#"Basic realm="x", Bearer realm="https://t.example/token",service="s""#), &base);
        let realm = Url::parse("https://t.example/token").unwrap();
        assert_eq!(way, Some(Way::Bearer { realm, service: Some("s".into()) }));
        let relative = choose(&parse(r#"Bearer realm="/token""#), &base);
        assert!(matches!(relative, Some(Way::Bearer { realm, .. }) if realm.as_str() == "https://r.example/token"));
        assert_eq!(choose(&parse(r#"Bearer realm="file:///etc/passwd""#), &base), None);
        assert_eq!(choose(&parse(r#"Bearer realm="file:///x", Basic"#), &base), Some(Way::Basic));
        assert_eq!(choose(&parse("Negotiate"), &base), None);
    }

    #[test]
    fn token_requests() {
        let realm = Url::parse("https://t.example/token?x=1").unwrap();
        let scopes = ["repository:a/b:pull"];
        let (method, url, headers, body) =
            token_request(&Credentials::basic("u", "p"), &realm, Some("svc"), &scopes, true).unwrap();
        assert_eq!((method, body), (Method::GET, None));
        assert_eq!(
            url.query(),
            Some("x=1&service=svc&scope=repository%3Aa%2Fb%3Apull&account=u&client_id=barque&offline_token=true")
        );
        assert_eq!(headers[AUTHORIZATION], "Basic dTpw");

        let identity = Credentials::IdentityToken("re&fresh".into());
        let (method, url, headers, body) = token_request(&identity, &realm, None, &["a", "b"], false).unwrap();
        assert_eq!((method, url), (Method::POST, realm));
        assert!(headers.get(AUTHORIZATION).is_none());
        assert_eq!(body.unwrap(), "grant_type=refresh_token&refresh_token=re%26fresh&client_id=barque&scope=a+b");
    }

    #[test]
    fn token_documents() {
        let url = Url::parse("https://t.example/").unwrap();
        let token = parse_token(br#"{"access_token":"x","expires_in":300,"refresh_token":"r"}"#, &url).unwrap();
        assert_eq!((token.value.as_str(), token.refresh.as_deref()), ("x", Some("r")));
        let left = token.expires - Instant::now();
        assert!(left > Duration::from_secs(265) && left <= Duration::from_secs(270), "{left:?}");
        assert!(parse_token(br#"{"token":""}"#, &url).unwrap_err().brief().contains("did not include a token"));
        assert!(parse_token(b"<html>", &url).unwrap_err().brief().contains("malformed token"));
        assert!(parse_token(br#"{"token":"x","expires_in":1e300}"#, &url).is_ok());
    }
}
