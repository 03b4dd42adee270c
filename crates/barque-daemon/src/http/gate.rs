//! The first bytes of a raw connection come after its head has been read.
//!
//! docker-py, and with it Compose 1 and Ansible, reads the head of the answer through a buffer and all that follows from
//! the socket below: what arrives together with the head stays in the buffer and is lost. Docker takes too long to start
//! a command for that to happen.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a client that does not read its head is waited for.
const LONGEST: Duration = Duration::from_millis(200);
/// How often a socket of this machine is looked at.
const STEP: Duration = Duration::from_micros(200);
/// How long a head that was received over a network is given to be read, which cannot be seen.
const NETWORK: Duration = Duration::from_millis(5);

/// What is known of the client's reading.
pub(super) enum Seen {
    /// A socket of this machine: it shows when everything has been read.
    Here(OwnedFd),
    /// Nothing but the time.
    Never,
}

/// A writer whose first write waits.
pub(super) struct Gate<W> {
    inner: W,
    waits: Option<Waits>,
}

struct Waits {
    seen: Seen,
    until: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl<W> Gate<W> {
    /// A writer to a connection whose head has just been sent.
    pub(super) fn new(inner: W, seen: Seen) -> Gate<W> {
        let now = Instant::now();
        let (until, first) = match seen {
            Seen::Here(_) => (now + LONGEST, now),
            Seen::Never => (now + NETWORK, now + NETWORK),
        };
        Gate { inner, waits: Some(Waits { seen, until, sleep: Box::pin(sleep_until(first)) }) }
    }

    fn opened(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(waits) = &mut self.waits {
            ready!(waits.poll(cx));
            self.waits = None;
        }
        Poll::Ready(())
    }
}

impl Waits {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let read = match &self.seen {
                // where it cannot be asked there is nothing to wait for
                Seen::Here(socket) => barque_engine::untaken_bytes(socket).unwrap_or(0) == 0,
                Seen::Never => false,
            };
            let now = Instant::now();
            if read || now >= self.until {
                return Poll::Ready(());
            }
            if self.sleep.is_elapsed() || self.sleep.deadline() <= now {
                self.sleep.as_mut().reset(now + STEP);
            }
            ready!(self.sleep.as_mut().poll(cx));
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Gate<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.opened(cx));
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.opened(cx));
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn what_follows_the_head_comes_when_the_head_has_been_read() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        near.write_all(b"head").await.unwrap();
        let fd = near.as_fd().try_clone_to_owned().unwrap();
        let mut gate = Gate::new(near, Seen::Here(fd));
        let writer = tokio::spawn(async move {
            gate.write_all(b"body").await.unwrap();
            gate.write_all(b", and more").await.unwrap();
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut buffer = [0; 100];
        let count = far.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"head");
        let mut rest = String::new();
        far.read_to_string(&mut rest).await.unwrap();
        writer.await.unwrap();
        assert_eq!(rest, "body, and more");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_not_waited_for_forever() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"head").await.unwrap();
        let fd = near.as_fd().try_clone_to_owned().unwrap();
        let begin = Instant::now();
        Gate::new(&mut near, Seen::Here(fd)).write_all(b"body").await.unwrap();
        assert!(begin.elapsed() >= LONGEST);
        let begin = Instant::now();
        Gate::new(&mut near, Seen::Never).write_all(b"body").await.unwrap();
        assert!((NETWORK..LONGEST).contains(&begin.elapsed()));
        drop(far);
    }
}
