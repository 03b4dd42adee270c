//! Responses: error documents, files as bodies.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::task::JoinHandle;

use crate::wire::code;

pub(super) type ReplyBody = UnsyncBoxBody<Bytes, io::Error>;
pub(super) type Reply = Response<ReplyBody>;

pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(super) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(super) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
pub(super) const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(super) const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Read from a file at once.
const CHUNK_BYTES: u64 = 512 * 1024;

/// A request's refusal.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// What it is about. Docker's client tells errors with a detail in full and others by their code only.
    pub(super) about: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new(), about: String::new() }
    }

    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn name_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, code::NAME_UNKNOWN, "repository name not known to registry")
    }

    pub(super) fn name_invalid() -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::NAME_INVALID, "invalid repository name")
    }

    pub(super) fn manifest_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, code::MANIFEST_UNKNOWN, "manifest unknown")
    }

    pub(super) fn blob_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, code::BLOB_UNKNOWN, "blob unknown to registry")
    }

    pub(super) fn upload_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, code::BLOB_UPLOAD_UNKNOWN, "blob upload unknown to registry")
    }

    pub(super) fn digest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::DIGEST_INVALID, message)
    }

    pub(super) fn manifest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code::MANIFEST_INVALID, message)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, code::UNSUPPORTED, message)
    }
}

/// The disk's troubles are the operator's to read in full; clients learn what they can act on.
impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        tracing::warn!(%error, "registry storage");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, code::UNKNOWN, "the registry's disk is full")
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, code::UNKNOWN, "the registry's storage failed"),
        }
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let document = serde_json::json!({ "errors": [{ "code": problem.code, "message": problem.message,
                "detail": { "request": problem.about } }] });
        let mut reply = json(problem.status, document.to_string());
        for (name, value) in problem.headers {
            set(&mut reply, name, &value);
        }
        reply
    }
}

pub(super) fn empty(status: StatusCode) -> Reply {
    full(status, Bytes::new())
}

pub(super) fn full(status: StatusCode, bytes: impl Into<Bytes>) -> Reply {
    let body = Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync();
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply
}

pub(super) fn json(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    let mut reply = full(status, text);
    set(&mut reply, CONTENT_TYPE, "application/json");
    reply
}

/// Sets a header; a value that cannot be one is left out.
pub(super) fn set(reply: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        reply.headers_mut().insert(name, value);
    }
}

/// The answer to HEAD: headers and length without the content.
pub(super) fn without_body(mut reply: Reply) -> Reply {
    let length = reply.body().size_hint().exact();
    *reply.body_mut() = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    if let Some(length) = length
        && !reply.headers().contains_key(CONTENT_LENGTH)
    {
        set(&mut reply, CONTENT_LENGTH, &length.to_string());
    }
    reply
}

/// A part of a file as a body. The next chunk is read while the last one is sent.
pub(super) struct FileBody {
    left: u64,
    reading: Option<JoinHandle<io::Result<(File, Bytes)>>>,
}

impl FileBody {
    /// `length` bytes from `start` on.
    pub(super) fn new(mut file: File, start: u64, length: u64) -> Self {
        let reading = (length > 0).then(|| {
            tokio::task::spawn_blocking(move || {
                file.seek(io::SeekFrom::Start(start))?;
                read_chunk(file, length)
            })
        });
        Self { left: length, reading }
    }
}

fn read_chunk(mut file: File, left: u64) -> io::Result<(File, Bytes)> {
    let wanted = left.min(CHUNK_BYTES);
    let mut chunk = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0));
    io::Read::by_ref(&mut file).take(wanted).read_to_end(&mut chunk)?;
    if chunk.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "file is shorter than it was"));
    }
    Ok((file, chunk.into()))
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let finished = std::task::ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let (file, chunk) = finished.map_err(io::Error::other)??;
        self.left -= chunk.len() as u64;
        let left = self.left;
        if left > 0 {
            self.reading = Some(tokio::task::spawn_blocking(move || read_chunk(file, left)));
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
