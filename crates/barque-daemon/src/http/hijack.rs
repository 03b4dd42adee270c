//! Connections that turn raw: attach and exec.

use std::io;
use std::pin::Pin;

use barque_api::stdcopy;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::{Body, Call, Reply};

/// The client's side of a raw connection.
pub(crate) struct Stream {
    pub(crate) input: Pin<Box<dyn AsyncRead + Send>>,
    pub(crate) output: Pin<Box<dyn AsyncWrite + Send>>,
}

/// Bytes between a handler and a reply that cannot be upgraded.
const PIPE: usize = 64 << 10;

/// Answers with a raw connection and gives it to `work` in a task of its own.
///
/// A client that asked for `Upgrade` gets status 101 and a connection that is raw both ways. Others, such as
/// plain HTTP tools, get status 200 and read a body; what they send as their body is the input.
pub(crate) fn hijack<F, Fut>(mut call: Call, multiplexed: bool, work: F) -> Reply
where
    F: FnOnce(Stream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    match call.upgrade.take() {
        Some(upgrade) => {
            let kind = match multiplexed && call.version.at_least(42) {
                true => stdcopy::MULTIPLEXED,
                false => stdcopy::RAW,
            };
            let Call { alive, .. } = call;
            tokio::spawn(async move {
                // It fails only if the client is gone.
                if let Ok(upgraded) = upgrade.await {
                    let (input, output) = tokio::io::split(TokioIo::new(upgraded));
                    work(Stream { input: Box::pin(input), output: Box::pin(output) }).await;
                }
                drop(alive);
            });
            let mut reply = Response::new(Body::empty());
            *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            reply.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
            let headers = reply.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
            reply
        }
        None => {
            let (near, far) = tokio::io::simplex(PIPE);
            let input = call.reader();
            let task = tokio::spawn(work(Stream { input, output: Box::pin(far) }));
            super::stream(stdcopy::RAW, pieces(near, AbortOnDrop(task)))
        }
    }
}

/// Ends the work when the client goes away.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn pieces<R: AsyncRead + Unpin + Send>(
    reader: R,
    task: AbortOnDrop,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((reader, task), |(mut reader, task)| async move {
        let mut buffer = bytes::BytesMut::with_capacity(8 << 10);
        let count = reader.read_buf(&mut buffer).await?;
        Ok((count > 0).then(|| (buffer.freeze(), (reader, task))))
    })
}
