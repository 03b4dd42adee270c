//! Connections that turn raw: attach and exec.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::pin::Pin;

use barque_api::stdcopy;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use super::gate::{Gate, Seen};
use super::{Body, Call, FirstLine, Reply};

/// The client's side of a raw connection.
pub(crate) struct Stream {
    pub(crate) input: Pin<Box<dyn AsyncRead + Send>>,
    pub(crate) output: Pin<Box<dyn AsyncWrite + Send>>,
    /// Resolves when nobody is left to take output, which the end of the input does not mean.
    pub(crate) gone: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Stream {
    /// One whose client's going away shows in no other way than failing output.
    pub(crate) fn new(input: impl AsyncRead + Send + 'static, output: impl AsyncWrite + Send + 'static) -> Stream {
        Stream { input: Box::pin(input), output: Box::pin(output), gone: Box::pin(std::future::pending()) }
    }

    /// A connection that was upgraded.
    fn upgraded(upgraded: Upgraded) -> Stream {
        watched(upgraded, UnixStream::as_fd, true)
            .or_else(|upgraded| watched(upgraded, TcpStream::as_fd, false))
            .or_else(|upgraded| watched(upgraded, |tls: &TlsStream<TcpStream>| tls.get_ref().0.as_fd(), false))
            .unwrap_or_else(|upgraded| {
                let (input, output) = tokio::io::split(TokioIo::new(upgraded));
                Stream::new(input, output)
            })
    }
}

/// The connection as the stream it is, if it is one of that type; `here` if both its ends are on this machine.
fn watched<S>(upgraded: Upgraded, socket: impl Fn(&S) -> BorrowedFd<'_>, here: bool) -> Result<Stream, Upgraded>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let parts = upgraded.downcast::<TokioIo<FirstLine<S>>>()?;
    let (stream, waiting) = parts.io.into_inner().into_parts();
    let gone = closed(socket(&stream));
    let own = here.then(|| socket(&stream).try_clone_to_owned().ok()).flatten();
    let (input, output) = tokio::io::split(stream);
    let output = Gate::new(output, own.map_or(Seen::Never, Seen::Here));
    // What came right behind the request has been read already.
    let input = io::Cursor::new(parts.read_buf).chain(io::Cursor::new(waiting)).chain(input);
    Ok(Stream { input: Box::pin(input), output: Box::pin(output), gone: Box::pin(gone) })
}

/// Resolves when both directions of a connection are closed, or it has broken. Over TCP a closed connection looks
/// like one whose client has only ended its input, until the client's machine refuses a packet.
fn closed(socket: BorrowedFd<'_>) -> impl Future<Output = ()> + Send + use<> {
    // Deprecated for types that may give another descriptor each time; an owned one does not.
    #[expect(deprecated)]
    let socket = socket.try_clone_to_owned().and_then(|fd| AsyncFd::with_interest(fd, Interest::WRITABLE));
    async move {
        if let Ok(socket) = &socket {
            while let Ok(mut event) = socket.writable().await {
                if event.ready().is_write_closed() {
                    return;
                }
                event.clear_ready();
            }
        }
        std::future::pending().await
    }
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
            let alive = call.alive.clone();
            drop(call);
            tokio::spawn(async move {
                // It fails only if the client is gone.
                if let Ok(upgraded) = upgrade.await {
                    work(Stream::upgraded(upgraded)).await;
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
            let task = tokio::spawn(work(Stream::new(input, far)));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn is_gone(gone: &mut Pin<Box<impl Future<Output = ()>>>) -> bool {
        tokio::time::timeout(Duration::from_millis(300), gone).await.is_ok()
    }

    #[tokio::test]
    async fn a_client_is_gone_when_it_has_closed_both_directions() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut gone = Box::pin(closed(near.as_fd()));
        assert!(!is_gone(&mut gone).await);
        far.write_all(b"typed and never read").await.unwrap();
        far.shutdown().await.unwrap();
        assert!(!is_gone(&mut gone).await, "only the input has ended");
        drop(far);
        assert!(is_gone(&mut gone).await);
    }

    #[tokio::test]
    async fn a_broken_connection_has_nobody_at_its_end() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        let mut gone = Box::pin(closed(near.as_fd()));
        assert!(!is_gone(&mut gone).await);
        // Unread bytes make the end of a connection a reset.
        near.writable().await.unwrap();
        near.try_write(b"never read").unwrap();
        far.readable().await.unwrap();
        drop(far);
        assert!(is_gone(&mut gone).await);
    }
}
