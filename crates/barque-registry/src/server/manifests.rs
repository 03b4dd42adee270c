//! Pulling and pushing manifests.

use std::time::Duration;

use barque_model::{Digest, ErrorKind};
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

use super::app::{App, block};
use super::respond::{CONTENT_DIGEST, OCI_SUBJECT, Problem, Reply, empty, full, set};
use super::route::Target;
use super::storage::{Name, Storage};
use crate::client::referrer_descriptor;
use crate::wire::code;
use crate::{Descriptor, Document, RawManifest, media};

/// How long a manifest may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// The digest of the manifest that `manifest` says something about.
pub(super) fn subject_of(manifest: &RawManifest) -> Option<Digest> {
    let subject = match manifest.parse().ok()? {
        Document::Image(image) => image.subject,
        Document::Index(index) => index.subject,
    };
    subject.map(|subject| subject.digest)
}

impl App {
    pub(super) async fn get_manifest(&self, name: Name, target: Target, head: bool) -> Result<Reply, Problem> {
        if let Some(mirror) = &self.mirror {
            return mirror.manifest(&name, &target).await.map(|manifest| content(&manifest));
        }
        let storage = self.storage.clone();
        // Of an unknown repository too the manifest is unknown: that is what Docker's registry says and clients expect.
        let found =
            block(move || if head { promised(&storage, &name, &target) } else { stored(&storage, &name, &target) });
        let found = found.await?;
        found.map(|manifest| content(&manifest)).ok_or_else(Problem::manifest_unknown)
    }

    pub(super) async fn put_manifest(
        &self,
        name: Name,
        target: Target,
        request: Request<Incoming>,
    ) -> Result<Reply, Problem> {
        let limit = self.config.manifest_bytes_max;
        let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let limited = Limited::new(request.into_body(), usize::try_from(limit).unwrap_or(usize::MAX));
        let collected = tokio::time::timeout(BODY_TIMEOUT, limited.collect()).await;
        let bytes = match collected.map_err(|_| Problem::manifest_invalid("the client stopped sending"))? {
            Ok(collected) => collected.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let message = format!("the manifest is larger than {limit} bytes");
                return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, code::MANIFEST_INVALID, message));
            }
            Err(error) => return Err(Problem::manifest_invalid(format!("the body ended early: {error}"))),
        };
        let (media_type, document) =
            crate::manifest::parse(&bytes, &content_type).map_err(|error| match error.kind() {
                ErrorKind::InvalidArgument => Problem::manifest_invalid(error.message()),
                _ => Problem::manifest_invalid("manifest invalid"),
            })?;
        let manifest = RawManifest::new(media_type, bytes);
        let tag = match target {
            Target::Digest(digest) if digest != manifest.digest => {
                return Err(Problem::digest_invalid(format!(
                    "provided digest {digest} did not match uploaded content, whose digest is {}",
                    manifest.digest
                )));
            }
            Target::Digest(_) => None,
            Target::Tag(tag) => Some(tag),
        };
        let (storage, owner, digest) = (self.storage.clone(), name.clone(), manifest.digest);
        let subject = block(move || {
            if let Some(missing) = missing_part(&storage, &owner, &document)? {
                return Ok(Err(missing));
            }
            let subject = subject_of(&manifest);
            let entry = subject.map(|subject| (subject, referrer_descriptor(&manifest)));
            storage.put_manifest(&owner, &manifest, entry, tag.as_ref())?;
            Ok(Ok(subject))
        })
        .await??;
        let mut reply = empty(StatusCode::CREATED);
        set(&mut reply, LOCATION, &format!("/v2/{}/manifests/{digest}", name.as_str()));
        set(&mut reply, CONTENT_DIGEST, &digest.to_string());
        if let Some(subject) = subject {
            set(&mut reply, OCI_SUBJECT, &subject.to_string());
        }
        Ok(reply)
    }
}

/// A manifest by tag or digest.
pub(super) fn stored(storage: &Storage, name: &Name, target: &Target) -> std::io::Result<Option<RawManifest>> {
    let digest = match target {
        Target::Digest(digest) => Some(*digest),
        Target::Tag(tag) => storage.tag(name, tag)?,
    };
    match digest {
        Some(digest) => storage.manifest(name, digest),
        None => Ok(None),
    }
}

/// As [`stored`], for a client that only asks whether it is there: one that pushes then leaves it out, so the collector
/// has to leave it alone for a while.
pub(super) fn promised(storage: &Storage, name: &Name, target: &Target) -> std::io::Result<Option<RawManifest>> {
    match target {
        Target::Digest(digest) if !storage.has_manifest(name, *digest)? => Ok(None),
        _ => stored(storage, name, target),
    }
}

/// What a manifest names and the repository does not hold. Asking makes what is there safe from the collector.
pub(super) fn missing_part(storage: &Storage, name: &Name, document: &Document) -> std::io::Result<Option<Problem>> {
    let missing = |digest: Digest| {
        let message = format!("manifest references {digest}, which is unknown to the repository");
        Some(Problem::new(StatusCode::BAD_REQUEST, code::MANIFEST_BLOB_UNKNOWN, message))
    };
    match document {
        Document::Image(image) => {
            // Layers that may not be redistributed are fetched from elsewhere.
            let belongs_here =
                |layer: &&Descriptor| !media::is_foreign_layer(&layer.media_type) || layer.urls.is_empty();
            for part in std::iter::once(&image.config).chain(image.layers.iter().filter(belongs_here)) {
                match storage.blob_size(name, part.digest)? {
                    Some(size) if size == part.size => {}
                    Some(size) => {
                        let message = format!("{} has {size} bytes, the manifest says {}", part.digest, part.size);
                        return Ok(Some(Problem::new(StatusCode::BAD_REQUEST, code::SIZE_INVALID, message)));
                    }
                    None => return Ok(missing(part.digest)),
                }
            }
        }
        Document::Index(index) => {
            for entry in &index.manifests {
                // An index may list blobs too, such as the layers of an attestation.
                if !storage.has_manifest(name, entry.digest)? && storage.blob_size(name, entry.digest)?.is_none() {
                    return Ok(missing(entry.digest));
                }
            }
        }
    }
    Ok(None)
}

/// The response for a manifest.
fn content(manifest: &RawManifest) -> Reply {
    let mut reply = full(StatusCode::OK, manifest.bytes.clone());
    set(&mut reply, CONTENT_TYPE, &manifest.media_type);
    set(&mut reply, CONTENT_DIGEST, &manifest.digest.to_string());
    set(&mut reply, ETAG, &format!("\"{}\"", manifest.digest));
    reply
}
