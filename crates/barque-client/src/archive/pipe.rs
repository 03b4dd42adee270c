//! Between blocking code and streams: archives are written and read by threads of their own.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// Bytes handed over at once.
const PIECE: usize = 64 << 10;
/// Pieces that may wait.
const QUEUE: usize = 8;

type Piece = io::Result<Bytes>;

/// Runs `write` on a thread; what it writes can be read from the result.
pub fn produce<F>(write: F) -> Produced
where
    F: FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel::<Piece>(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut writer = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        if let Err(e) = write(&mut writer).and_then(|()| writer.flush()) {
            // If nobody listens any more, nobody minds.
            let _ = sender.blocking_send(Err(e));
        }
    });
    Produced { receiver, current: Bytes::new() }
}

struct Pieces(mpsc::Sender<Piece>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reading end of [`produce`].
pub struct Produced {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
}

impl AsyncRead for Produced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            match ready!(self.receiver.poll_recv(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(e)) => return Poll::Ready(Err(e)),
                Some(Ok(piece)) => self.current = piece,
            }
        }
        let count = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current[..count]);
        self.current.advance(count);
        Poll::Ready(Ok(()))
    }
}

/// Feeds a stream of pieces to `read`, which runs on a thread, and gives its result.
pub async fn consume<T, F>(mut stream: crate::ByteStream, read: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce(&mut dyn Read) -> io::Result<T> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel::<Piece>(QUEUE);
    let task = tokio::task::spawn_blocking(move || {
        let mut reader = Received { receiver, current: Bytes::new() };
        let result = read(&mut reader);
        if result.is_ok() {
            // What follows the end of the archive is read too, so that the connection ends in order.
            io::copy(&mut reader, &mut io::sink())?;
        }
        result
    });
    loop {
        let piece = match stream.next().await {
            Ok(Some(piece)) => Ok(piece),
            Ok(None) => break,
            Err(e) => Err(io::Error::other(e.chain())),
        };
        let failed = piece.is_err();
        if sender.send(piece).await.is_err() || failed {
            break;
        }
    }
    drop(sender);
    task.await.map_err(io::Error::other)?
}

struct Received {
    receiver: mpsc::Receiver<Piece>,
    current: Bytes,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.current = piece?,
            }
        }
        let count = self.current.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.current[..count]);
        self.current.advance(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
    }

    #[test]
    fn what_is_written_is_read() {
        let (text, fault) = block_on(async {
            let mut whole = String::new();
            produce(|w| w.write_all(b"hello")).read_to_string(&mut whole).await.expect("reads");
            let mut broken = produce(|w| {
                w.write_all(b"x")?;
                Err(io::Error::other("no more"))
            });
            (whole, broken.read_to_string(&mut String::new()).await.expect_err("fails"))
        });
        assert_eq!((text.as_str(), fault.to_string().as_str()), ("hello", "no more"));
    }
}
