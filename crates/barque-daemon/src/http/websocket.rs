//! WebSockets, the server's side (RFC 6455): a raw connection in frames. No extensions, no subprotocols.
//!
//! Written here because it is little: frames of one direction are parsed, of the other written, and the digest of the
//! handshake comes from a library that is there anyway.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use barque_model::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::Mutex;

use super::{Body, Call, Reply, Stream};

/// Bytes moved at once, and between frames and the handler.
const CHUNK: usize = 32 << 10;
/// Payload of a control frame at most, section 5.5.
const CONTROL_MAX: usize = 125;
/// How long a client may take to answer the closing frame.
const CLOSING: Duration = Duration::from_secs(2);

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Status codes of closing frames, section 7.4.1.
const NORMAL: u16 = 1000;
const PROTOCOL_ERROR: u16 = 1002;

/// Answers the handshake and gives the payloads, as one raw connection, to `work` in a task of its own. What `work`
/// writes becomes binary frames. Its end closes the connection; a closing client is the end of its input.
///
/// # Errors
/// A request that is no handshake (400).
pub(crate) fn websocket<F, Fut>(mut call: Call, work: F) -> Result<Reply>
where
    F: FnOnce(Stream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    if call.header(SEC_WEBSOCKET_VERSION.as_str()).trim() != "13" {
        // The version it has to be, section 4.4.
        let mut reply = Response::new(Body::empty());
        *reply.status_mut() = StatusCode::UPGRADE_REQUIRED;
        reply.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        reply.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return Ok(reply);
    }
    let accept = accept(&call)?;
    let upgrade = call.upgrade.take().ok_or_else(|| not_a_handshake("Upgrade"))?;
    let alive = call.alive.clone();
    drop(call);
    tokio::spawn(async move {
        // It fails only if the client is gone.
        if let Ok(upgraded) = upgrade.await {
            let (input, output) = tokio::io::split(TokioIo::new(upgraded));
            serve(Stream::new(input, output), work).await;
        }
        drop(alive);
    });
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(reply)
}

fn not_a_handshake(header: &str) -> Error {
    Error::invalid(format!("not a websocket handshake: the header {header} is missing or wrong"))
        .with_hint("a websocket client sends it; POST /containers/{id}/attach is for others")
}

/// The proof that the handshake was understood, section 4.2.2.
fn accept(call: &Call) -> Result<HeaderValue> {
    let has = |name: HeaderName, word: &str| {
        let values = call.headers.get_all(&name).iter().filter_map(|value| value.to_str().ok());
        let mut words = values.flat_map(|value| value.split(','));
        if words.any(|w| w.trim().eq_ignore_ascii_case(word)) { Ok(()) } else { Err(not_a_handshake(name.as_str())) }
    };
    has(UPGRADE, "websocket")?;
    has(CONNECTION, "upgrade")?;
    let key = call.header(SEC_WEBSOCKET_KEY.as_str()).trim();
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16) {
        return Err(not_a_handshake(SEC_WEBSOCKET_KEY.as_str()));
    }
    HeaderValue::try_from(proof(key)).map_err(|why| Error::internal("websocket handshake").with_source(why))
}

fn proof(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Moves payloads between the client's frames and `work` until one of them ends.
async fn serve<F, Fut>(client: Stream, work: F)
where
    F: FnOnce(Stream) -> Fut,
    Fut: Future<Output = ()>,
{
    let (near, far) = tokio::io::duplex(CHUNK);
    let (far_read, far_write) = tokio::io::split(far);
    let (near_read, near_write) = tokio::io::split(near);
    let frames = Frames { output: Mutex::new(Some(client.output)) };
    let work = async {
        work(Stream::new(far_read, far_write)).await;
    };
    let inward = frames.receive(client.input, near_write);
    let outward = frames.send_all(near_read);
    let talk = async {
        tokio::pin!(inward);
        tokio::select! {
            () = &mut inward => {}
            () = outward => {
                // The client's answer ends the connection in order; it is not waited for without end.
                let _answered = tokio::time::timeout(CLOSING, inward).await;
            }
        }
    };
    tokio::join!(work, talk);
}

/// The frames to the client; nothing follows a closing one.
struct Frames {
    output: Mutex<Option<Pin<Box<dyn AsyncWrite + Send>>>>,
}

impl Frames {
    async fn send(&self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let mut guard = self.output.lock().await;
        let Some(output) = guard.as_mut() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let done = write_frame(output, kind, payload).await;
        if (kind == CLOSE || done.is_err())
            && let Some(mut output) = guard.take()
        {
            let _client_gone = output.shutdown().await;
        }
        done
    }

    async fn close(&self, code: u16) {
        let _client_gone = self.send(CLOSE, &code.to_be_bytes()).await;
    }

    /// Sends what the handler writes, then closes.
    async fn send_all(&self, mut from: ReadHalf<DuplexStream>) {
        let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
        while matches!(from.read_buf(&mut buffer).await, Ok(count) if count > 0) {
            if self.send(BINARY, &buffer).await.is_err() {
                return;
            }
            buffer.clear();
        }
        self.close(NORMAL).await;
    }

    /// Passes the payloads of the client's frames on, and answers those that are for the connection.
    async fn receive(&self, mut input: Pin<Box<dyn AsyncRead + Send>>, mut to: WriteHalf<DuplexStream>) {
        match self.receive_frames(&mut input, &mut to).await {
            Ok(()) => self.close(NORMAL).await,
            Err(why) if why.kind() == io::ErrorKind::InvalidData => self.close(PROTOCOL_ERROR).await,
            Err(_client_gone) => drop(self.output.lock().await.take()),
        }
        // A handler that has ended needs no end of its input.
        let _handler_gone = to.shutdown().await;
    }

    /// Up to a closing frame; an error of kind `InvalidData` where the client breaks the protocol.
    async fn receive_frames<R, W>(&self, input: &mut R, to: &mut W) -> io::Result<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut in_message = false;
        let mut handler = true;
        loop {
            let frame = Frame::read(input).await?;
            match frame.kind {
                CLOSE | PING | PONG => {
                    let payload = frame.control(input).await?;
                    match frame.kind {
                        CLOSE => return Ok(()),
                        PING => self.send(PONG, &payload).await?,
                        _ => {}
                    }
                }
                kind => {
                    // A message begins with its kind and goes on with continuations, section 5.4.
                    if (kind == CONTINUATION) != in_message {
                        return Err(broken("a fragment out of place"));
                    }
                    in_message = !frame.last;
                    // Input that nobody takes is read all the same: the closing frame comes after it.
                    handler = frame.copy(input, to, handler).await?;
                }
            }
        }
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The head of a frame from a client, section 5.2.
#[derive(Debug)]
struct Frame {
    kind: u8,
    last: bool,
    length: u64,
    mask: [u8; 4],
}

impl Frame {
    async fn read<R: AsyncRead + Unpin>(input: &mut R) -> io::Result<Frame> {
        let [first, second] = [input.read_u8().await?, input.read_u8().await?];
        if first & 0x70 != 0 {
            return Err(broken("bits of an extension that was not agreed on"));
        }
        if second & 0x80 == 0 {
            return Err(broken("a frame of a client without a mask"));
        }
        let (kind, last) = (first & 0x0f, first & 0x80 != 0);
        let short = u64::from(second & 0x7f);
        match kind {
            CONTINUATION | TEXT | BINARY => {}
            CLOSE | PING | PONG if last && short <= CONTROL_MAX as u64 => {}
            _ => return Err(broken("an unknown kind of frame, or a control frame that is too long")),
        }
        let length = match short {
            126 => u64::from(input.read_u16().await?),
            127 => input.read_u64().await?,
            short => short,
        };
        let mut mask = [0; 4];
        input.read_exact(&mut mask).await?;
        Ok(Frame { kind, last, length, mask })
    }

    /// The payload of a control frame.
    async fn control<R: AsyncRead + Unpin>(&self, input: &mut R) -> io::Result<Vec<u8>> {
        let mut payload = vec![0; usize::try_from(self.length).unwrap_or(0).min(CONTROL_MAX)];
        input.read_exact(&mut payload).await?;
        unmask(&mut payload, self.mask, 0);
        Ok(payload)
    }

    /// Passes the payload on piece by piece, however long it claims to be; gives whether the handler still takes it.
    async fn copy<R, W>(&self, input: &mut R, to: &mut W, mut handler: bool) -> io::Result<bool>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut buffer = vec![0; CHUNK.min(usize::try_from(self.length).unwrap_or(CHUNK))];
        let mut done = 0;
        while done < self.length {
            let wanted = buffer.len().min(usize::try_from(self.length - done).unwrap_or(CHUNK));
            let Some(room) = buffer.get_mut(..wanted) else { break };
            let count = input.read(room).await?;
            let Some(piece) = room.get_mut(..count).filter(|piece| !piece.is_empty()) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            unmask(piece, self.mask, done);
            done += count as u64;
            handler = handler && to.write_all(piece).await.is_ok() && to.flush().await.is_ok();
        }
        Ok(handler)
    }
}

/// Section 5.3; `offset` is the place of the first byte in its frame.
fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut mask = mask;
    mask.rotate_left((offset % 4) as usize);
    for (byte, key) in bytes.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
}

async fn write_frame<W: AsyncWrite + Unpin>(output: &mut W, kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | kind);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short <= 125 => frame.push(short),
        (_, Ok(middle)) => {
            frame.push(126);
            frame.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    output.write_all(&frame).await?;
    output.flush().await
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
