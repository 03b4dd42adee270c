//! `POST /containers/{id}/attach`, and the pump between a client and a process.

use std::pin::Pin;

use barque_api::container::AttachQuery;
use barque_engine::container::request::{AttachOptions, AttachStream};
use barque_model::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Context;
use crate::detach::{self, DetachReader};
use crate::http::{self, Outcome, Stream};

/// Bytes moved at once.
const CHUNK: usize = 32 << 10;

pub(super) async fn attach(context: Context, id: String) -> Outcome {
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
    let stream = state.engine.container_attach(&id, options).await?;
    let tty = stream.tty;
    // Without a terminal the keys are ordinary bytes, unless the client insists.
    let keys = (tty || !query.detach_keys.is_empty()).then_some(keys);
    Ok(http::hijack(call, !tty, move |client| pump(client, stream, options.stdin, keys)))
}

pub(super) async fn websocket(_context: Context, _id: String) -> Outcome {
    Err(Error::not_implemented("attaching by websocket").with_hint("POST /containers/{id}/attach does the same"))
}

/// Moves bytes until the process's output ends or the client detaches. The client's end of input reaches the
/// process; the client's going away does not stop it.
pub(super) async fn pump(client: Stream, process: AttachStream, wants_input: bool, keys: Option<Vec<u8>>) {
    let Stream { input, mut output } = client;
    let AttachStream { output: mut from_process, input: to_process, .. } = process;
    let inward = async {
        let detached = match wants_input {
            true => feed(input, to_process, keys).await,
            false => drain(input).await,
        };
        if !detached {
            // The end of input ends nothing: output may go on for long.
            std::future::pending::<()>().await;
        }
    };
    let outward = copy_flushing(&mut from_process, &mut output);
    tokio::select! {
        () = inward => {}
        _ = outward => {}
    }
    let _client_gone = output.shutdown().await;
}

/// Passes input on; true if the detach keys were typed.
async fn feed(
    input: Pin<Box<dyn AsyncRead + Send>>,
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
            let mut input = input;
            let _process_gone = copy_flushing(&mut input, &mut to_process).await;
            false
        }
    };
    if !detached {
        let _process_gone = to_process.shutdown().await;
    }
    detached
}

/// Reads what nobody wants, so that the client does not block.
async fn drain(mut input: Pin<Box<dyn AsyncRead + Send>>) -> bool {
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
        let task = tokio::spawn(pump(Stream { input, output }, stream, true, None));
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
        pump(Stream { input, output }, stream, true, Some(keys)).await;
        let mut got = [0u8; 2];
        process.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ab");
        let mut out = Vec::new();
        client.read_to_end(&mut out).await.unwrap();
        assert!(out.is_empty());
    }
}
