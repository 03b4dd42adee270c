//! Making replies.

use std::io;
use std::pin::Pin;

use barque_model::{Error, ErrorKind, Result};
use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use tokio::io::AsyncRead;

use super::Body;

pub(crate) type Reply = Response<Body>;

/// What a route gives back.
pub(crate) type Outcome = Result<Reply>;

fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// A reply without content.
pub(crate) fn status(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}

/// 204.
pub(crate) fn empty() -> Outcome {
    Ok(status(StatusCode::NO_CONTENT))
}

/// 200 without content.
pub(crate) fn ok() -> Outcome {
    Ok(status(StatusCode::OK))
}

/// 200 with a JSON document.
pub(crate) fn json<T: serde::Serialize + ?Sized>(document: &T) -> Outcome {
    json_status(StatusCode::OK, document)
}

/// 201 with a JSON document.
pub(crate) fn created<T: serde::Serialize + ?Sized>(document: &T) -> Outcome {
    json_status(StatusCode::CREATED, document)
}

fn json_status<T: serde::Serialize + ?Sized>(status: StatusCode, document: &T) -> Outcome {
    let bytes = barque_api::json::to_vec(document)
        .map_err(|why| Error::internal("cannot encode the reply").with_source(why))?;
    Ok(with_type(status, "application/json", Body::Bytes(Some(bytes.into()))))
}

/// 200 with JSON that is text already.
pub(crate) fn json_text(text: impl Into<Bytes>) -> Outcome {
    Ok(with_type(StatusCode::OK, "application/json", Body::Bytes(Some(text.into()))))
}

/// 200 with plain text.
pub(crate) fn text(text: &'static str) -> Reply {
    with_type(StatusCode::OK, "text/plain; charset=utf-8", Body::Bytes(Some(Bytes::from_static(text.as_bytes()))))
}

/// 200 with bytes.
pub(crate) fn bytes(kind: &'static str, bytes: Bytes) -> Reply {
    with_type(StatusCode::OK, kind, Body::Bytes(Some(bytes)))
}

/// 200 with what a reader yields.
pub(crate) fn reader(kind: &'static str, reader: Pin<Box<dyn AsyncRead + Send>>) -> Reply {
    with_type(StatusCode::OK, kind, Body::reader(reader))
}

/// 200 with pieces as they come; the head is sent at once.
pub(crate) fn stream(kind: &'static str, stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Reply {
    with_type(StatusCode::OK, kind, Body::Stream(Box::pin(stream)))
}

/// The reply for an error: its status, and the sentence with causes and cure.
pub(crate) fn error_reply(error: &Error) -> Reply {
    let code = StatusCode::from_u16(error.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if error.kind() == ErrorKind::NotModified {
        return status(StatusCode::NOT_MODIFIED);
    }
    let document = barque_api::ErrorResponse { message: crate::wording::sentence(error) };
    json_status(code, &document).unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
}
