//! `POST /containers/{id}/attach`, the same by websocket, and the pump between a client and a process.

use std::io;
use std::pin::Pin;

use barque_api::container::AttachQuery;
use barque_api::stdcopy::Decoder;
use barque_engine::container::request::{AttachOptions, AttachStream};
use barque_model::Result;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::io::StreamReader;

use super::Context;
use crate::detach::{self, DetachReader};
use crate::http::{self, Call, Outcome, Stream};

/// Bytes moved at once.
const CHUNK: usize = 32 << 10;
/// For how long a client that was told the end may say nothing before the connection is closed.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

pub(super) async fn attach(context: Context, id: String) -> Outcome {
    let (call, stream, options, keys) = open(context, &id).await?;
    let multiplexed = !stream.tty;
    Ok(http::hijack(call, multiplexed, move |client| pump(client, stream, options.stdin, keys)))
}

/// `GET /containers/{id}/attach/ws`: as attach, but what the process writes to both outputs comes unmarked, in the
/// order it was written. The client's closing of the connection is the end of the input, and of the attachment.
pub(super) async fn websocket(context: Context, id: String) -> Outcome {
    let (call, mut stream, options, keys) = open(context, &id).await?;
    if !stream.tty {
        stream.output = Box::pin(StreamReader::new(contents(stream.output)));
    }
    http::websocket(call, move |client| exchange(client, stream, options.stdin, keys, InputEnd::Detaches))
}

/// What a request wants of a container.
async fn open(context: Context, id: &str) -> Result<(Call, AttachStream, AttachOptions, Option<Vec<u8>>)> {
    let Context { state, call } = context;
    let query = call.query(AttachQuery::from_params)?;
    let keys = detach::parse(&query.detach_keys)?;
    let options = AttachOptions {
        stdin: query.stdin && query.stream,
        stdout: query.stdout,
        stderr: query.stderr,
        stream: query.stream,
        logs: query.logs,
    };
    let stream = state.engine.container_attach(id, options).await?;
    // Without a terminal the keys are ordinary bytes, unless the client insists.
    let keys = (stream.tty || !query.detach_keys.is_empty()).then_some(keys);
    Ok((call, stream, options, keys))
}

/// The contents of the frames of a multiplexed stream.
fn contents<R: AsyncRead + Unpin + Send + 'static>(
    reader: R,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((reader, Decoder::new()), |(mut reader, mut decoder)| async move {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        loop {
            let piece = decoder.next_piece().map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
            if let Some((_, piece)) = piece {
                return Ok(Some((piece, (reader, decoder))));
            }
            buffer.clear();
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(None);
            }
            decoder.push(&buffer);
        }
    })
    .boxed()
}

/// Moves bytes until the process's output ends or the client detaches. The client's end of input reaches the
/// process; the client's going away does not stop it, but ends the attachment, though the process be silent.
pub(super) async fn pump(client: Stream, process: AttachStream, wants_input: bool, keys: Option<Vec<u8>>) {
    exchange(client, process, wants_input, keys, InputEnd::LeavesOutput).await;
}

/// What the end of a client's input means beyond being passed on to the process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InputEnd {
    /// Output may go on for long.
    LeavesOutput,
    /// There is nobody any more to take output.
    Detaches,
}

async fn exchange(
    client: Stream,
    process: AttachStream,
    wants_input: bool,
    keys: Option<Vec<u8>>,
    input_end: InputEnd,
) {
    let Stream { mut input, mut output, gone } = client;
    let AttachStream { output: mut from_process, input: to_process, .. } = process;
    let inward = async {
        let detached = match wants_input {
            true => feed(&mut input, to_process, keys).await,
            false => drain(&mut input).await,
        };
        if !detached && input_end == InputEnd::LeavesOutput {
            gone.await;
        }
    };
    let outward = async {
        if copy_flushing(&mut from_process, &mut output).await.is_err() {
            // A client that takes nothing any more may have sent something before: its input is what ends this, or
            // the process, whose output is for nobody.
            let _process_gone = tokio::io::copy(&mut from_process, &mut tokio::io::sink()).await;
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
    let _client_gone = output.shutdown().await;
    // Who still sends reads to the end that was just sent; a connection closed with input unread would be reset.
    drop(from_process);
    let mut rest = vec![0u8; CHUNK];
    while matches!(tokio::time::timeout(PATIENCE, input.read(&mut rest)).await, Ok(Ok(1..))) {}
}

/// Passes input on; true if the detach keys were typed.
async fn feed(
    input: &mut Pin<Box<dyn AsyncRead + Send>>,
    mut to_process: Pin<Box<dyn AsyncWrite + Send>>,
    keys: Option<Vec<u8>>,
) -> bool {
    let detached = match keys {
        Some(keys) => {
            let mut reader = DetachReader::new(input, keys);
            let _process_gone = copy_flushing(&mut reader, &mut to_process).await;
            reader.is_detached()
        }
        None => {
            let _process_gone = copy_flushing(input, &mut to_process).await;
            false
        }
    };
    if !detached {
        let _process_gone = to_process.shutdown().await;
    }
    detached
}

/// Reads what nobody wants, so that the client does not block.
async fn drain(input: &mut Pin<Box<dyn AsyncRead + Send>>) -> bool {
    let mut buffer = [0u8; 1024];
    while matches!(input.read(&mut buffer).await, Ok(count) if count > 0) {}
    false
}

/// Copies and flushes each piece: a prompt must not wait for more output.
async fn copy_flushing<R, W>(reader: &mut R, writer: &mut W) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = bytes::BytesMut::with_capacity(CHUNK);
    loop {
        buffer.clear();
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        writer.write_all(&buffer).await?;
        writer.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn ends(near: tokio::io::DuplexStream) -> (Pin<Box<dyn AsyncRead + Send>>, Pin<Box<dyn AsyncWrite + Send>>) {
        let (read, write) = tokio::io::split(near);
        (Box::pin(read), Box::pin(write))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_end_of_input_reaches_the_process_and_output_goes_on() {
        let (mut client, near) = duplex(64);
        let (mut process, inner) = duplex(64);
        let (input, output) = ends(near);
        let (from, to) = ends(inner);
        let stream = AttachStream { output: from, input: to, tty: false };
        let task = tokio::spawn(pump(Stream::new(input, output), stream, true, None));
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        process.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"hello");
        process.write_all(b"late").await.unwrap();
        process.shutdown().await.unwrap();
        let mut out = Vec::new();
        client.read_to_end(&mut out).await.unwrap();
        assert_eq!(out, b"late");
        task.await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn detaching_leaves_the_process_its_input() {
        let (mut client, near) = duplex(64);
        let (mut process, inner) = duplex(64);
        let (input, output) = ends(near);
        let (from, to) = ends(inner);
        let stream = AttachStream { output: from, input: to, tty: true };
        let keys = detach::parse("").unwrap();
        client.write_all(b"ab\x10\x11").await.unwrap();
        pump(Stream::new(input, output), stream, true, Some(keys)).await;
        let mut got = [0u8; 2];
        process.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ab");
        let mut out = Vec::new();
        client.read_to_end(&mut out).await.unwrap();
        assert!(out.is_empty());
    }

    /// The input of a client that cannot be written to any more.
    #[tokio::test(flavor = "current_thread")]
    async fn what_a_client_sent_before_it_left_is_still_the_process_s() {
        let (mut client, near) = duplex(64);
        let (input, _) = ends(near);
        let (deaf, output) = ends(duplex(64).0);
        drop(deaf);
        let (mut process, inner) = duplex(64);
        let (from, to) = ends(inner);
        process.write_all(b"output").await.unwrap();
        let stream = AttachStream { output: from, input: to, tty: false };
        let task = tokio::spawn(exchange(Stream::new(input, output), stream, true, None, InputEnd::Detaches));
        // The output has met the closed connection by then.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut got = Vec::new();
        process.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"hello");
        task.await.unwrap();
    }
}
