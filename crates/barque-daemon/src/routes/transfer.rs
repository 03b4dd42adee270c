//! Progress of transfers as a stream of JSON documents.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use barque_api::ApiVersion;
use barque_api::progress::JsonMessage;
use barque_engine::container::request::TarStream;
use barque_engine::image::types::ProgressSink;
use barque_model::{Error, Result};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::io::ReadBuf;
use tokio::sync::mpsc;

use crate::convert;
use crate::http::{self, Outcome};
use crate::wording;

/// Runs a transfer and streams its progress. An error before the first message is an error of the request; a
/// later one is the last document. The transfer stops when the client goes away.
pub(super) async fn stream<F, Fut>(version: ApiVersion, work: F) -> Outcome
where
    F: FnOnce(ProgressSink) -> Fut,
    Fut: Future<Output = Result<Vec<JsonMessage>>> + Send + 'static,
{
    run(version, |progress, version| convert::progress::message(&progress, version), Arc::default(), work).await
}

/// As [`stream`], for work that makes its messages itself. `waiting` are the bytes of output that the work has
/// sent and the client not yet taken: the work adds, the stream subtracts.
pub(super) async fn messages<F, Fut>(version: ApiVersion, waiting: Arc<AtomicUsize>, work: F) -> Outcome
where
    F: FnOnce(mpsc::UnboundedSender<JsonMessage>) -> Fut,
    Fut: Future<Output = Result<Ending>> + Send + 'static,
{
    run(version, |message, _| message, waiting, work).await
}

/// What ends a transfer.
#[derive(Default)]
pub(super) struct Ending {
    pub(super) messages: Vec<JsonMessage>,
    /// Bytes after the last document.
    pub(super) archive: Option<TarStream>,
}

impl From<Vec<JsonMessage>> for Ending {
    fn from(messages: Vec<JsonMessage>) -> Self {
        Ending { messages, archive: None }
    }
}

/// Bytes read of an archive at once.
const CHUNK: usize = 64 << 10;

type Work = Pin<Box<dyn Future<Output = Result<Ending>> + Send>>;

/// Bytes that a message takes apart from the output it carries, about.
const OVERHEAD: usize = 256;

/// Bytes that a message takes while it waits.
pub(super) fn weight(message: &JsonMessage) -> usize {
    let logs = message.aux.as_ref().and_then(|aux| aux.get("logs")?.as_array());
    let data = |log: &serde_json::Value| log.get("data").and_then(serde_json::Value::as_str).map_or(0, str::len);
    OVERHEAD + message.stream.len() + logs.map_or(0, |logs| logs.iter().map(data).sum())
}

async fn run<T, F, Fut, E>(
    version: ApiVersion,
    convert: fn(T, ApiVersion) -> JsonMessage,
    waiting: Arc<AtomicUsize>,
    work: F,
) -> Outcome
where
    T: Send + 'static,
    F: FnOnce(mpsc::UnboundedSender<T>) -> Fut,
    Fut: Future<Output = Result<E>> + Send + 'static,
    E: Into<Ending>,
{
    let (sink, progress) = mpsc::unbounded_channel();
    let (ready, buffer) = (VecDeque::new(), BytesMut::new());
    let mut transfer = Transfer { ready, progress, work: None, archive: None, buffer, convert, waiting, version };
    let work = work(sink);
    let mut work: Work = Box::pin(async move { work.await.map(Into::into) });
    tokio::select! {
        biased;
        Some(message) = transfer.progress.recv() => transfer.ready.push_back(convert(message, version)),
        outcome = &mut work => {
            transfer.drain();
            match outcome {
                Ok(ending) => transfer.end(ending),
                Err(error) if transfer.ready.is_empty() => return Err(error),
                Err(error) => transfer.ready.push_back(failure(&error)),
            }
            return Ok(http::stream("application/json", transfer));
        }
    };
    transfer.work = Some(work);
    Ok(http::stream("application/json", transfer))
}

/// The last document of a transfer that failed.
fn failure(error: &Error) -> JsonMessage {
    JsonMessage::error(wording::sentence(error))
}

fn encode(message: &JsonMessage) -> io::Result<Bytes> {
    let mut bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
    // Docker ends each document of a progress stream so.
    bytes.extend_from_slice(b"\r\n");
    Ok(bytes.into())
}

struct Transfer<T> {
    ready: VecDeque<JsonMessage>,
    progress: mpsc::UnboundedReceiver<T>,
    work: Option<Work>,
    archive: Option<TarStream>,
    buffer: BytesMut,
    convert: fn(T, ApiVersion) -> JsonMessage,
    waiting: Arc<AtomicUsize>,
    version: ApiVersion,
}

impl<T> Transfer<T> {
    fn end(&mut self, ending: Ending) {
        self.ready.extend(ending.messages);
        self.archive = ending.archive;
    }

    fn poll_archive(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Some(archive) = &mut self.archive else { return Poll::Ready(None) };
        self.buffer.resize(CHUNK, 0);
        let mut target = ReadBuf::new(&mut self.buffer);
        let result = ready!(archive.as_mut().poll_read(cx, &mut target));
        match (result, target.filled().len()) {
            (Err(e), _) => Poll::Ready(Some(Err(e))),
            (Ok(()), 0) => Poll::Ready(None),
            (Ok(()), count) => Poll::Ready(Some(Ok(self.buffer.split_to(count).freeze()))),
        }
    }

    /// Queues what was reported so far.
    fn drain(&mut self) {
        while let Ok(message) = self.progress.try_recv() {
            self.queue(message);
        }
    }

    fn queue(&mut self, message: T) {
        if let Some(replaced) = push_latest(&mut self.ready, (self.convert)(message, self.version)) {
            self.taken(&replaced);
        }
    }

    /// A message does not wait any more.
    fn taken(&self, message: &JsonMessage) {
        let taken = weight(message);
        let _before = self.waiting.fetch_update(Relaxed, Relaxed, |bytes| Some(bytes.saturating_sub(taken)));
    }
}

impl<T> Stream for Transfer<T> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(message) = this.ready.pop_front() {
                this.taken(&message);
                return Poll::Ready(Some(encode(&message)));
            }
            this.drain();
            if !this.ready.is_empty() {
                continue;
            }
            let Some(work) = &mut this.work else { return this.poll_archive(cx) };
            match work.as_mut().poll(cx) {
                Poll::Ready(outcome) => {
                    this.work = None;
                    this.drain();
                    match outcome {
                        Ok(ending) => this.end(ending),
                        Err(error) => this.ready.push_back(failure(&error)),
                    }
                }
                // The work may have reported while it was polled, or report from another thread.
                Poll::Pending => match this.progress.poll_recv(cx) {
                    Poll::Ready(Some(message)) => this.queue(message),
                    _ => return Poll::Pending,
                },
            }
        }
    }
}

/// Queues a message; of several about the same layer's progress that wait, the client needs the latest only. Gives the
/// one whose place was taken.
fn push_latest(queue: &mut VecDeque<JsonMessage>, message: JsonMessage) -> Option<JsonMessage> {
    let counts = |message: &JsonMessage| message.progress_detail.as_ref().is_some_and(|detail| detail.current > 0);
    let same = |have: &JsonMessage| !message.id.is_empty() && have.id == message.id && have.status == message.status;
    match queue.iter_mut().rev().take(64).find(|have| counts(have) && same(have)) {
        Some(have) if counts(&message) => Some(std::mem::replace(have, message)),
        _ => {
            queue.push_back(message);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use barque_engine::image::types::Progress;
    use http_body_util::BodyExt;

    use super::*;

    async fn text(outcome: Outcome) -> String {
        let bytes = outcome.unwrap().into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn early_errors_are_of_the_request_and_late_ones_of_the_stream() {
        let early = stream(ApiVersion::MAX, |_sink| async { Err(Error::not_found("nothing there")) }).await;
        assert_eq!(early.err().unwrap().to_string(), "nothing there");
        let late = stream(ApiVersion::MAX, |sink| async move {
            let _listening = sink.send(Progress::of("a", "Downloading").at(1, 2));
            tokio::task::yield_now().await;
            let _listening = sink.send(Progress::of("a", "Download complete"));
            Err(Error::unavailable("disk full"))
        })
        .await;
        let at_once = stream(ApiVersion::MAX, |sink| async move {
            let _listening = sink.send(Progress::status("begun"));
            Err(Error::not_found("nothing there"))
        })
        .await;
        assert_eq!(text(at_once).await.lines().count(), 2, "an error that follows a message at once is a late one");
        let text = text(late).await;
        let lines: Vec<&str> = text.split("\r\n").filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[2], r#"{"errorDetail":{"message":"disk full"},"error":"disk full"}"#);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn everything_that_was_reported_arrives() {
        let outcome = stream(ApiVersion::MAX, |sink| async move {
            for n in 0..5 {
                let _listening = sink.send(Progress::status(format!("step {n}")));
            }
            Ok(vec![JsonMessage::status("", "done")])
        })
        .await;
        let text = text(outcome).await;
        assert_eq!(text.matches("step").count(), 5);
        assert!(text.ends_with("{\"status\":\"done\"}\r\n"), "{text}");
    }

    #[test]
    fn only_the_latest_count_waits() {
        let mut queue = VecDeque::new();
        let count = |n| convert::progress::message(&Progress::of("a", "Downloading").at(n, 10), ApiVersion::MAX);
        push_latest(&mut queue, count(1));
        push_latest(&mut queue, count(2));
        push_latest(&mut queue, convert::progress::message(&Progress::of("a", "Complete"), ApiVersion::MAX));
        assert_eq!(queue.len(), 2);
        assert_eq!(queue[0].progress_detail.as_ref().unwrap().current, 2);
    }
}
