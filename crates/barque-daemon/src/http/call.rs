//! A request, taken apart.

use barque_api::auth::AuthConfig;
use barque_api::query::{InvalidParam, Params};
use barque_api::{ApiVersion, json};
use barque_model::{Error, Result};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::io::AsyncRead;

use super::BodyReader;

/// The longest JSON document that is read, bytes.
const MAX_DOCUMENT: usize = 16 << 20;

/// Something the daemon waits for when it stops, for as long as this is held.
pub(crate) type Token = tokio::sync::mpsc::Sender<()>;

/// A request.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) version: ApiVersion,
    pub(crate) params: Params,
    pub(crate) headers: HeaderMap,
    /// Until it was read.
    pub(crate) body: Option<Incoming>,
    /// The connection.
    pub(crate) alive: Token,
    /// The handler, until its reply stands; streams go on without it.
    pub(crate) _busy: Option<Token>,
    /// It came over a unix socket.
    pub(crate) local: bool,
    /// Set if the client asked for another protocol.
    pub(crate) upgrade: Option<OnUpgrade>,
}

impl Call {
    /// The query as a typed struct.
    ///
    /// # Errors
    /// Malformed numbers and documents (400).
    pub(crate) fn query<T>(&self, from: fn(&Params) -> Result<T, InvalidParam>) -> Result<T> {
        from(&self.params).map_err(|why| Error::invalid(why.to_string()))
    }

    /// A header's text, empty if missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn has_body(&self) -> bool {
        self.headers.contains_key(TRANSFER_ENCODING)
            || self.headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
    }

    /// The JSON body, decoded; the default if there is none.
    ///
    /// # Errors
    /// Another content type; malformed JSON; a document that is too long.
    pub(crate) async fn json<T: serde::de::DeserializeOwned + Default>(&mut self) -> Result<T> {
        let text = self.json_bytes().await?;
        if text.is_empty() { Ok(T::default()) } else { decode(&text) }
    }

    /// The bytes of the JSON body, empty if there is none.
    ///
    /// # Errors
    /// As [`Call::json`], but the JSON is not checked.
    pub(crate) async fn json_bytes(&mut self) -> Result<bytes::Bytes> {
        let has_body = self.has_body();
        let kind = self.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        match kind {
            None if !has_body => return Ok(bytes::Bytes::new()),
            None => return Err(Error::invalid("malformed Content-Type header (): mime: no media type")),
            Some(kind) => {
                let media = kind.split(';').next().unwrap_or_default().trim();
                if !media.eq_ignore_ascii_case("application/json") {
                    return Err(Error::invalid(format!(
                        "unsupported Content-Type header ({kind}): must be 'application/json'"
                    )));
                }
            }
        }
        self.bytes().await
    }

    /// The body, up to the limit for documents.
    pub(crate) async fn bytes(&mut self) -> Result<bytes::Bytes> {
        let Some(body) = self.body.take() else { return Ok(bytes::Bytes::new()) };
        match Limited::new(body, MAX_DOCUMENT).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(why) if why.is::<http_body_util::LengthLimitError>() => {
                Err(Error::invalid(format!("the request's body is longer than {} MiB", MAX_DOCUMENT >> 20)))
            }
            Err(why) => Err(Error::invalid("the request's body broke off").with_source(why)),
        }
    }

    /// The body as it arrives.
    pub(crate) fn reader(&mut self) -> std::pin::Pin<Box<dyn AsyncRead + Send>> {
        match self.body.take() {
            Some(body) => Box::pin(BodyReader::new(body)),
            None => Box::pin(tokio::io::empty()),
        }
    }

    /// `X-Registry-Auth`, decoded; malformed ones are taken for none, as Docker does.
    pub(crate) fn registry_auth(&self) -> AuthConfig {
        decode_base64(self.header("x-registry-auth"))
            .and_then(|bytes| json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }
}

/// A request that was refused before its body was read: see [`BodyReader`].
impl Drop for Call {
    fn drop(&mut self) {
        drop(self.body.take().map(BodyReader::new));
    }
}

/// Decodes a document; the error is Docker's `invalid JSON: …`.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T> {
    json::from_slice(text).map_err(|why| {
        if why.is_eof() && text.iter().all(u8::is_ascii_whitespace) {
            return Error::invalid("invalid JSON: got EOF while reading request body");
        }
        Error::invalid(format!("invalid JSON: {why}"))
    })
}

/// base64 of either alphabet, with or without padding.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    URL.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_kind() {
        for text in ["eyJhIjoxfQ==", "eyJhIjoxfQ"] {
            assert_eq!(decode_base64(text).unwrap(), br#"{"a":1}"#);
        }
        assert_eq!(decode_base64("-_-_").unwrap(), decode_base64("+/+/").unwrap());
        assert_eq!(decode_base64("!"), None);
    }

    #[test]
    fn documents() {
        assert!(decode::<serde_json::Value>(b" ").unwrap_err().to_string().contains("got EOF"));
        assert!(decode::<serde_json::Value>(b"{").unwrap_err().to_string().starts_with("invalid JSON: "));
    }
}
