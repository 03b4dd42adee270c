//! Progress of pull, push, load, import and build: a stream of JSON documents.

use bytes::{Buf, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json;

/// One document of a progress stream (Docker calls it JSONMessage).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JsonMessage {
    /// Output of a build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The bar as text, for clients that draw none themselves (dropped in 1.52).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// The layer or image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The error's message again (dropped in 1.52).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Data for programs: an image id, a digest, a build trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<serde_json::Value>,
}

impl JsonMessage {
    /// `{"status":…,"id":…}`.
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> Self {
        JsonMessage { id: id.into(), status: status.into(), ..Self::default() }
    }

    /// `{"stream":…}`.
    pub fn stream(text: impl Into<String>) -> Self {
        JsonMessage { stream: text.into(), ..Self::default() }
    }

    /// `{"errorDetail":{"message":…},"error":…}`.
    pub fn error(message: impl Into<String>) -> Self {
        let message = message.into();
        JsonMessage {
            error_detail: Some(ErrorDetail { code: 0, message: message.clone() }),
            error: message,
            ..Self::default()
        }
    }

    /// `{"aux":…}`.
    pub fn aux(aux: serde_json::Value) -> Self {
        JsonMessage { aux: Some(aux), ..Self::default() }
    }

    /// The message of an error document.
    pub fn error_message(&self) -> Option<&str> {
        match &self.error_detail {
            Some(detail) => Some(&detail.message),
            None => Some(self.error.as_str()).filter(|text| !text.is_empty()),
        }
    }
}

/// How far something is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "json::is_zero")]
    pub current: i64,
    /// 0 if unknown.
    #[serde(skip_serializing_if = "json::is_zero")]
    pub total: i64,
    #[serde(skip_serializing_if = "json::is_zero")]
    pub start: i64,
    #[serde(rename = "hidecounts", skip_serializing_if = "json::is_zero")]
    pub hide_counts: bool,
    /// Bytes if empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// Why it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// Exit code of a build step, else 0.
    #[serde(skip_serializing_if = "json::is_zero")]
    pub code: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Splits a byte stream into JSON documents, whatever lies between them (newlines, or the RS of json-seq).
#[derive(Debug, Default)]
pub struct Documents {
    buffer: BytesMut,
}

impl Documents {
    /// A document may not be longer than this, bytes.
    pub const MAX: usize = 64 << 20;

    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete document, decoded; `None` if more must be read.
    ///
    /// # Errors
    /// The bytes are no JSON, or no `T`, or the document is longer than [`Documents::MAX`].
    pub fn next_document<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, json::Error> {
        let Some(raw) = self.next_raw()? else { return Ok(None) };
        json::from_str(raw.get()).map(Some)
    }

    /// The next complete document as text.
    ///
    /// # Errors
    /// As [`Documents::next_document`].
    pub fn next_raw(&mut self) -> Result<Option<Box<RawValue>>, json::Error> {
        let blank = self.buffer.iter().take_while(|b| b.is_ascii_whitespace() || **b == 0x1e).count();
        self.buffer.advance(blank);
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let mut documents = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Box<RawValue>>();
        match documents.next() {
            Some(Ok(raw)) => {
                let used = documents.byte_offset();
                self.buffer.advance(used);
                Ok(Some(raw))
            }
            Some(Err(error)) if error.is_eof() && self.buffer.len() <= Self::MAX => Ok(None),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }

    /// What is left over: an incomplete document at the end of a broken stream.
    pub fn rest(&self) -> &[u8] {
        &self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_at_any_split() {
        let wire = b"{\"status\":\"a\"}\r\n{\"status\":\"b\",\"progressDetail\":{}}\n\x1e{\"status\":\"c{\"}\n";
        for step in 1..wire.len() {
            let mut documents = Documents::new();
            let mut seen = Vec::new();
            for part in wire.chunks(step) {
                documents.push(part);
                while let Some(message) = documents.next_document::<JsonMessage>().unwrap() {
                    seen.push(message.status);
                }
            }
            assert_eq!(seen, ["a", "b", "c{"], "step {step}");
            assert!(documents.rest().iter().all(u8::is_ascii_whitespace));
        }
    }

    #[test]
    fn error_documents() {
        let text = serde_json::to_string(&JsonMessage::error("no such image")).unwrap();
        assert_eq!(text, r#"{"errorDetail":{"message":"no such image"},"error":"no such image"}"#);
        let old: JsonMessage = crate::json::from_str(r#"{"error":"old"}"#).unwrap();
        assert_eq!(old.error_message(), Some("old"));
    }

    #[test]
    fn garbage_is_an_error() {
        let mut documents = Documents::new();
        documents.push(b"<html>");
        assert!(documents.next_raw().is_err());
    }
}
