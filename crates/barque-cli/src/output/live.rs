//! A line that follows long work on a terminal: how much is done, and for how long it has been going on.

use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};

use crate::term;

/// Time between two looks at the work; what is over sooner shows nothing.
const PAUSE: Duration = Duration::from_millis(500);

/// The line on standard error. It goes when this is dropped. Where standard error is no terminal it never comes.
pub(crate) struct Live {
    count: Arc<AtomicU64>,
    shown: Arc<AtomicBool>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Live {
    /// `label` says what is going on: `Copying to container`.
    pub(crate) fn new(label: &str, quiet: bool) -> Live {
        let (count, shown) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (label, counted, seen) = (label.to_owned(), Arc::clone(&count), Arc::clone(&shown));
        let task = (!quiet && term::is_terminal_err()).then(|| {
            tokio::spawn(async move {
                let begin = Instant::now();
                loop {
                    tokio::time::sleep(PAUSE).await;
                    seen.store(true, Ordering::SeqCst);
                    // who does not read it still wants the work done
                    let text = line(&label, counted.load(Ordering::Relaxed), begin.elapsed());
                    let _ = write!(std::io::stderr().lock(), "\r\x1b[K{text}");
                }
            })
        });
        Live { count, shown, task }
    }

    /// Where the bytes that are done are counted.
    pub(crate) fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }

    /// A reader whose bytes are counted.
    pub(crate) fn reader<R>(&self, inner: R) -> Counted<R> {
        Counted { inner, count: self.count() }
    }
}

fn line(label: &str, bytes: u64, elapsed: Duration) -> String {
    match bytes {
        0 => format!("{label} ({} s)", elapsed.as_secs()),
        bytes => format!("{label} - {} ({} s)", barque_model::size::human_precision(bytes, 3), elapsed.as_secs()),
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let Some(task) = self.task.take() else { return };
        task.abort();
        if self.shown.load(Ordering::SeqCst) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// What is read through it is counted.
pub(crate) struct Counted<T> {
    inner: T,
    count: Arc<AtomicU64>,
}

impl<T> Counted<T> {
    fn add(&mut self, count: usize) -> usize {
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        count
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.add(buf.filled().len().saturating_sub(before));
        Poll::Ready(Ok(()))
    }
}

impl<R: std::io::Read> std::io::Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        Ok(self.add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_how_much_and_how_long() {
        let seconds = Duration::from_millis(2700);
        assert_eq!(line("Copying to container", 0, seconds), "Copying to container (2 s)");
        assert_eq!(line("Copying to container", 12_345_678, seconds), "Copying to container - 12.3MB (2 s)");
    }

    #[tokio::test]
    async fn what_is_read_is_counted() {
        use tokio::io::AsyncReadExt as _;
        let live = Live::new("x", true);
        let mut all = Vec::new();
        live.reader(&b"twelve bytes"[..]).read_to_end(&mut all).await.expect("reads");
        assert_eq!(live.count().load(Ordering::Relaxed), 12);
    }
}
