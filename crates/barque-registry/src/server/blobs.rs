//! Pulling and deleting blobs.

use barque_model::Digest;
use http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::app::{App, block};
use super::respond::{CONTENT_DIGEST, FileBody, Problem, Reply, empty, set};
use super::storage::Name;
use crate::wire::code;

/// What part of a blob is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// Start and length.
    Range(u64, u64),
    Unsatisfiable,
}

impl App {
    pub(super) async fn get_blob(
        &self,
        name: Name,
        digest: Digest,
        request: &Request<Incoming>,
    ) -> Result<Reply, Problem> {
        let range = request.headers().get(RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let head = request.method() == Method::HEAD;
        let (storage, wanted, caches) = (self.storage.clone(), name.clone(), self.mirror.is_some());
        let found = block(move || {
            // What one repository fetched serves all that know the digest.
            if caches && !storage.holds(&wanted, digest) {
                storage.link_blob(&wanted, digest)?;
            }
            // A client that looks before it pushes relies on the answer, so that is a promise for a while.
            if head {
                storage.blob_size(&wanted, digest)?;
            }
            storage.open_blob(&wanted, digest)
        });
        match found.await? {
            Some(blob) => {
                let size = blob.size;
                Ok(content(digest, size, range.as_deref(), |start, length| {
                    FileBody::new(blob.file, start, if head { 0 } else { length }).boxed_unsync()
                }))
            }
            None => match &self.mirror {
                Some(mirror) if head => {
                    let size = mirror.blob_size(&name, digest).await?;
                    Ok(content(digest, size, None, |_, _| empty(StatusCode::OK).into_body()))
                }
                Some(mirror) => {
                    let fetch = mirror.blob(&name, digest).await?;
                    Ok(content(digest, fetch.size(), range.as_deref(), |start, length| fetch.body(start, length)))
                }
                None => Err(Problem::blob_unknown()),
            },
        }
    }

    pub(super) async fn delete_blob(&self, name: Name, digest: Digest) -> Result<Reply, Problem> {
        let storage = self.storage.clone();
        match block(move || storage.delete_blob(&name, digest)).await? {
            true => Ok(empty(StatusCode::ACCEPTED)),
            false => Err(Problem::blob_unknown()),
        }
    }
}

/// The response for a blob or a part of it.
fn content(
    digest: Digest,
    size: u64,
    range: Option<&str>,
    body: impl FnOnce(u64, u64) -> super::respond::ReplyBody,
) -> Reply {
    let (status, start, length) = match part(range, size) {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Range(start, length) => (StatusCode::PARTIAL_CONTENT, start, length),
        Part::Unsatisfiable => {
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, code::SIZE_INVALID, "range not satisfiable");
            return problem.with(CONTENT_RANGE, format!("bytes */{size}")).into();
        }
    };
    let mut reply = Response::new(body(start, length));
    *reply.status_mut() = status;
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut reply, CONTENT_RANGE, &format!("bytes {start}-{}/{size}", start + length - 1));
    }
    set(&mut reply, http::header::CONTENT_LENGTH, &length.to_string());
    set(&mut reply, CONTENT_TYPE, "application/octet-stream");
    set(&mut reply, CONTENT_DIGEST, &digest.to_string());
    set(&mut reply, ETAG, &format!("\"{digest}\""));
    set(&mut reply, ACCEPT_RANGES, "bytes");
    set(&mut reply, CACHE_CONTROL, "max-age=31536000");
    reply
}

/// One range of RFC 9110 section 14.1.2; several, or what cannot be read, mean the whole.
fn part(header: Option<&str>, size: u64) -> Part {
    let Some(range) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Part::Whole };
    let Some((start, end)) = range.split_once('-') else { return Part::Whole };
    let (start, end) = (start.trim(), end.trim());
    let (start, end) = match (start.parse::<u64>(), end.parse::<u64>()) {
        (Ok(start), Ok(end)) if start <= end => (start, end),
        (Ok(start), Err(_)) if end.is_empty() => (start, u64::MAX),
        // The last `end` bytes.
        (Err(_), Ok(0)) if start.is_empty() => return Part::Unsatisfiable,
        (Err(_), Ok(end)) if start.is_empty() => (size.saturating_sub(end), u64::MAX),
        _ => return Part::Whole,
    };
    if start >= size {
        return Part::Unsatisfiable;
    }
    Part::Range(start, end.min(size - 1) - start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (header, expected) in [
            ("bytes=0-", Part::Range(0, 10)),
            ("bytes=3-", Part::Range(3, 7)),
            ("bytes=3-5", Part::Range(3, 3)),
            ("bytes=3-99", Part::Range(3, 7)),
            ("bytes=-4", Part::Range(6, 4)),
            ("bytes=-99", Part::Range(0, 10)),
            ("bytes=9-9", Part::Range(9, 1)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=5-3", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("items=0-1", Part::Whole),
            ("bytes=x-", Part::Whole),
        ] {
            assert_eq!(part(Some(header), 10), expected, "{header}");
        }
        assert_eq!(part(None, 10), Part::Whole);
        assert_eq!(part(Some("bytes=0-"), 0), Part::Unsatisfiable);
    }
}
