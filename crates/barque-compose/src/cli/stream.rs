//! Copying between the user's terminal and a process in a container.

use std::io::Write;

use barque_api::stdcopy::{Decoder, Stream};
use barque_client::Hijacked;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::context::Failure;
use super::terminal;

/// Copies until the process closes its output. `raw`: it has a terminal, so its output has no frames.
/// `resize` is called with rows and columns when the user's terminal changes.
pub(super) async fn copy<F, R>(stream: Hijacked, raw: bool, stdin: bool, resize: F) -> Result<(), Failure>
where
    F: Fn(u32, u32) -> R,
    R: Future<Output = ()>,
{
    let Hijacked { mut reader, writer, .. } = stream;
    let mut writer = Some(writer);
    let mut keys = stdin.then(terminal::input);
    let mut windows = signal(SignalKind::window_change()).map_err(|e| Failure::new(e.to_string()))?;
    let mut decoder = Decoder::new();
    let mut buffer = vec![0u8; 32 << 10];
    loop {
        tokio::select! {
            count = reader.read(&mut buffer) => {
                let count = count.unwrap_or(0);
                if count == 0 {
                    return Ok(());
                }
                if raw {
                    put(Stream::Stdout, &buffer[..count]);
                    continue;
                }
                decoder.push(&buffer[..count]);
                while let Some((stream, piece)) = decoder.next_piece().map_err(|e| Failure::new(e.to_string()))? {
                    put(stream, &piece);
                }
            }
            piece = next(&mut keys) => match (piece, writer.as_mut()) {
                (Some(bytes), Some(out)) => {
                    if out.write_all(&bytes).await.is_err() {
                        keys = None;
                    }
                }
                _ => {
                    // the end of our input is the end of the process's
                    keys = None;
                    if let Some(mut out) = writer.take() {
                        let _ = out.shutdown().await;
                        writer = Some(out);
                    }
                }
            },
            _ = windows.recv(), if raw => {
                if let Some((rows, columns)) = terminal::size() {
                    resize(rows, columns).await;
                }
            }
        }
    }
}

async fn next(keys: &mut Option<tokio::sync::mpsc::Receiver<bytes::Bytes>>) -> Option<bytes::Bytes> {
    match keys {
        Some(keys) => keys.recv().await,
        None => std::future::pending().await,
    }
}

fn put(stream: Stream, bytes: &[u8]) {
    // a reader that went away is no reason to fail
    let _ = match stream {
        Stream::Stderr | Stream::SystemError => {
            let mut err = std::io::stderr().lock();
            err.write_all(bytes).and_then(|()| err.flush())
        }
        _ => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
    };
}
