//! Pushing blobs (distribution-spec 1.1, "Pushing blobs").

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use barque_model::Digest;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::OwnedMutexGuard;

use super::app::{App, block};
use super::respond::{CONTENT_DIGEST, Problem, Reply, UPLOAD_UUID, empty, set};
use super::route::{parse_digest, query as parameter};
use super::storage::{Batch, Finished, Name, Session, UploadId};
use crate::wire::{self, code};

/// Collected before it is written.
const BATCH_BYTES: usize = 512 * 1024;
/// How long a client may be silent in the middle of a body.
const IDLE: Duration = Duration::from_secs(120);
/// How long to wait for an earlier request on the same upload to notice that its client is gone.
const BUSY: Duration = Duration::from_secs(10);
/// After this time an upload is kept on disk only.
const KEPT_OPEN: Duration = Duration::from_secs(600);

type Slot = Arc<tokio::sync::Mutex<Option<Session>>>;

/// Uploads this process has seen.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<HashMap<UploadId, (Instant, Slot)>>,
}

impl Sessions {
    fn slot(&self, id: &UploadId) -> Slot {
        let mut open = self.lock();
        let now = Instant::now();
        // Closes the files of uploads nobody has touched for a while; they can be resumed from disk.
        open.retain(|_, (used, slot)| now - *used < KEPT_OPEN || Arc::strong_count(slot) > 1);
        let entry = open.entry(id.clone()).or_insert_with(|| (now, Slot::default()));
        entry.0 = now;
        entry.1.clone()
    }

    fn forget(&self, id: &UploadId) {
        self.lock().remove(id);
    }

    /// Whether a request is working on an upload right now.
    pub(super) fn is_busy(&self, id: &UploadId) -> bool {
        self.lock().get(id).is_some_and(|(_, slot)| slot.try_lock().is_err())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<UploadId, (Instant, Slot)>> {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// An upload taken for the time of one request.
type Held = OwnedMutexGuard<Option<Session>>;

impl App {
    pub(super) async fn begin_upload(
        self: &Arc<Self>,
        name: Name,
        query: Option<&str>,
        request: Request<Incoming>,
    ) -> Result<Reply, Problem> {
        if let Some(digest) = parameter(query, "mount") {
            let from = parameter(query, "from").and_then(|from| Name::parse(&from));
            if let Some(from) = from
                && let Some(reply) = self.mount(&name, parse_digest(&digest)?, from).await?
            {
                return Ok(reply);
            }
        }
        let (storage, begun) = (self.storage.clone(), name.clone());
        let session = block(move || storage.begin(&begun)).await?;
        let id = session.id.clone();
        let mut held = self.sessions.slot(&id).lock_owned().await;
        *held = Some(session);
        match parameter(query, "digest") {
            // The whole blob in one request.
            Some(digest) => {
                let digest = parse_digest(&digest)?;
                self.receive(held, request).await?;
                self.finish(name, id, digest).await
            }
            None => Ok(status_reply(StatusCode::ACCEPTED, &name, &id, 0)),
        }
    }

    async fn mount(&self, name: &Name, digest: Digest, from: Name) -> Result<Option<Reply>, Problem> {
        let (storage, to) = (self.storage.clone(), name.clone());
        let mounted =
            block(move || Ok(storage.blob_size(&from, digest)?.is_some() && storage.link_blob(&to, digest)?)).await?;
        Ok(mounted.then(|| created(name, digest)))
    }

    /// Takes an upload, from memory or from disk.
    async fn hold(&self, name: &Name, id: &UploadId) -> Result<Held, Problem> {
        let slot = self.sessions.slot(id);
        let busy = || Problem::new(StatusCode::CONFLICT, code::BLOB_UPLOAD_INVALID, "the upload is in use");
        let mut held = tokio::time::timeout(BUSY, slot.lock_owned()).await.map_err(|_| busy())?;
        if held.is_none() {
            let (storage, wanted, owner) = (self.storage.clone(), id.clone(), name.clone());
            *held = block(move || storage.resume(&owner, &wanted)).await?;
        }
        match held.as_ref() {
            Some(session) if session.name == *name => Ok(held),
            Some(_) => Err(Problem::upload_unknown()),
            None => {
                self.sessions.forget(id);
                Err(Problem::upload_unknown())
            }
        }
    }

    pub(super) async fn upload_status(&self, name: Name, id: UploadId) -> Result<Reply, Problem> {
        let held = self.hold(&name, &id).await?;
        let size = held.as_ref().map_or(0, |session| session.size);
        Ok(status_reply(StatusCode::NO_CONTENT, &name, &id, size))
    }

    pub(super) async fn cancel_upload(&self, name: Name, id: UploadId) -> Result<Reply, Problem> {
        let mut held = self.hold(&name, &id).await?;
        *held = None;
        let (storage, wanted) = (self.storage.clone(), id.clone());
        block(move || storage.cancel(&wanted)).await?;
        self.sessions.forget(&id);
        Ok(empty(StatusCode::NO_CONTENT))
    }

    pub(super) async fn patch_upload(
        self: &Arc<Self>,
        name: Name,
        id: UploadId,
        request: Request<Incoming>,
    ) -> Result<Reply, Problem> {
        let held = self.hold(&name, &id).await?;
        check_range(&held, request.headers(), &name, &id)?;
        let size = self.receive(held, request).await?;
        Ok(status_reply(StatusCode::ACCEPTED, &name, &id, size))
    }

    pub(super) async fn put_upload(
        self: &Arc<Self>,
        name: Name,
        id: UploadId,
        query: Option<&str>,
        request: Request<Incoming>,
    ) -> Result<Reply, Problem> {
        let digest = parameter(query, "digest").ok_or_else(|| Problem::digest_invalid("digest parameter missing"))?;
        let digest = parse_digest(&digest)?;
        let held = self.hold(&name, &id).await?;
        check_range(&held, request.headers(), &name, &id)?;
        self.receive(held, request).await?;
        self.finish(name, id, digest).await
    }

    async fn finish(&self, name: Name, id: UploadId, digest: Digest) -> Result<Reply, Problem> {
        let mut held = self.hold(&name, &id).await?;
        let session = held.take().ok_or_else(Problem::upload_unknown)?;
        let storage = self.storage.clone();
        let finished = block(move || storage.finish(session, digest)).await?;
        self.sessions.forget(&id);
        match finished {
            Finished::Stored => Ok(created(&name, digest)),
            Finished::WrongDigest(found) => Err(Problem::digest_invalid(format!(
                "provided digest {digest} did not match uploaded content, whose digest is {found}"
            ))),
        }
    }

    /// Appends a request's body to an upload; returns the size after it.
    async fn receive(self: &Arc<Self>, held: Held, request: Request<Incoming>) -> Result<u64, Problem> {
        let expected = request.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let expected = expected.and_then(wire::content_range).map(|(start, end)| end - start + 1);
        let body = request.into_body();
        // A task of its own: when the client goes away this handler is dropped, and the upload must be put back in
        // order all the same.
        let task = tokio::spawn(async move {
            let mut held = held;
            let session = held.take().ok_or_else(Problem::upload_unknown)?;
            let before = session.size;
            let (session, result) = append_body(session, body).await;
            let received = session.as_ref().map_or(0, |session| session.size - before);
            // A lost session is found again on disk.
            *held = session;
            result?;
            if expected.is_some_and(|expected| expected != received) {
                let message = format!("{received} bytes came where Content-Range announced another number");
                return Err(Problem::new(StatusCode::BAD_REQUEST, code::SIZE_INVALID, message));
            }
            Ok(before + received)
        });
        task.await.unwrap_or_else(|error| Err(Problem::from(io::Error::other(error))))
    }
}

/// Writes a body to an upload, collecting the next batch while the last one is written. What came before a loss is
/// kept: that is what resuming is for.
async fn append_body(mut session: Session, mut body: Incoming) -> (Option<Session>, Result<(), Problem>) {
    let (mut batch, mut end) = gather(&mut body).await;
    loop {
        let writing = tokio::task::spawn_blocking(move || {
            let result = session.append(&batch);
            (session, result)
        });
        let next = match end {
            None => Some(gather(&mut body).await),
            Some(_) => None,
        };
        match writing.await {
            Ok((back, Ok(()))) => session = back,
            Ok((back, Err(error))) => return (Some(back), Err(error.into())),
            Err(error) => return (None, Err(io::Error::other(error).into())),
        }
        match next {
            Some(next) => (batch, end) = next,
            None => return (Some(session), end.unwrap_or(Ok(()))),
        }
    }
}

/// The next batch of a body, and how the body ended if it did.
async fn gather(body: &mut Incoming) -> (Batch, Option<Result<(), Problem>>) {
    let lost = |why: String| Some(Err(Problem::new(StatusCode::BAD_REQUEST, code::BLOB_UPLOAD_INVALID, why)));
    let mut batch = Vec::new();
    let mut bytes = 0;
    while bytes < BATCH_BYTES {
        match tokio::time::timeout(IDLE, body.frame()).await {
            Err(_) => return (batch, lost("the client stopped sending".to_owned())),
            Ok(None) => return (batch, Some(Ok(()))),
            Ok(Some(Err(error))) => return (batch, lost(format!("the body ended early: {error}"))),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    bytes += data.len();
                    batch.push(data);
                }
            }
        }
    }
    (batch, None)
}

/// Chunks must come in order (distribution-spec 1.1, "Pushing a blob in chunks").
fn check_range(held: &Held, headers: &HeaderMap, name: &Name, id: &UploadId) -> Result<(), Problem> {
    let Some(header) = headers.get(CONTENT_RANGE) else { return Ok(()) };
    let size = held.as_ref().map_or(0, |session| session.size);
    let range = header.to_str().ok().and_then(wire::content_range);
    let refuse = |message: String| {
        Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, code::BLOB_UPLOAD_INVALID, message)
            .with(LOCATION, location(name, id))
            .with(RANGE, range_text(size))
            .with(UPLOAD_UUID, id.as_str())
    };
    let (start, end) = range.ok_or_else(|| refuse("malformed Content-Range".to_owned()))?;
    if start != size {
        return Err(refuse(format!("chunk starts at {start}, the upload has {size} bytes")));
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length != (end - start).saturating_add(1)) {
        let message = "Content-Length and Content-Range do not agree";
        return Err(Problem::new(StatusCode::BAD_REQUEST, code::SIZE_INVALID, message));
    }
    Ok(())
}

fn location(name: &Name, id: &UploadId) -> String {
    format!("/v2/{}/blobs/uploads/{}", name.as_str(), id.as_str())
}

/// `0-N`; an empty upload says `0-0`, as Docker's registry does.
fn range_text(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn status_reply(status: StatusCode, name: &Name, id: &UploadId, size: u64) -> Reply {
    let mut reply = empty(status);
    set(&mut reply, LOCATION, &location(name, id));
    set(&mut reply, RANGE, &range_text(size));
    set(&mut reply, UPLOAD_UUID, id.as_str());
    reply
}

fn created(name: &Name, digest: Digest) -> Reply {
    let mut reply = empty(StatusCode::CREATED);
    set(&mut reply, LOCATION, &format!("/v2/{}/blobs/{digest}", name.as_str()));
    set(&mut reply, CONTENT_DIGEST, &digest.to_string());
    reply
}
