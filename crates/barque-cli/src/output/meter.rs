//! Tells how much was sent to the engine.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};

use super::progress::{Sink, print};
use crate::term;

/// Bytes between two reports on a terminal.
const STEP: u64 = 512 << 10;
/// Time between two reports on a terminal.
const PAUSE: Duration = Duration::from_millis(100);

/// A reader that reports what is read through it: as it goes on a terminal, once at the end elsewhere.
pub(crate) struct Meter<R> {
    inner: R,
    /// `Sending build context to Docker daemon`.
    label: String,
    sink: Sink,
    live: bool,
    total: u64,
    shown: u64,
    last: Instant,
    ended: bool,
}

impl<R> Meter<R> {
    pub(crate) fn new(inner: R, label: String, sink: Sink) -> Meter<R> {
        let live = match sink {
            Sink::Stdout => term::is_terminal_out(),
            Sink::Stderr => term::is_terminal_err(),
            Sink::Silent => false,
        };
        Meter { inner, label, sink, live, total: 0, shown: 0, last: Instant::now(), ended: false }
    }

    fn report(&mut self, end: &str) {
        let size = match self.total {
            0 => String::new(),
            total => format!("{:>8}", barque_model::size::human(total)),
        };
        // Who does not read the output still wants the build.
        let _ = print(self.sink, &format!("{} {size}\r{end}", self.label));
        (self.shown, self.last) = (self.total, Instant::now());
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Meter<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let count = buf.filled().len().saturating_sub(before);
        self.total += count as u64;
        if count == 0 && buf.remaining() > 0 {
            if !self.ended {
                self.ended = true;
                self.report("\r\n");
            }
        } else if self.live && self.total - self.shown > STEP && self.last.elapsed() >= PAUSE {
            self.report("");
        }
        Poll::Ready(Ok(()))
    }
}
