//! From a request line to what is wanted (distribution-spec 1.1, "Endpoints").

use barque_model::Digest;
use http::{Method, StatusCode};

use super::respond::Problem;
use super::storage::{Name, Tag, UploadId};
use crate::client::percent_decode;
use crate::wire::code;

/// What a path names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v1/search`, of Docker's index: what `docker search HOST/TERM` asks.
    Search,
    /// `/v2/NAME/tags/list`
    Tags(Name),
    /// `/v2/NAME/manifests/REFERENCE`
    Manifest(Name, Target),
    /// `/v2/NAME/blobs/DIGEST`
    Blob(Name, Digest),
    /// `/v2/NAME/blobs/uploads/`
    Uploads(Name),
    /// `/v2/NAME/blobs/uploads/ID`
    Upload(Name, UploadId),
    /// `/v2/NAME/referrers/DIGEST`
    Referrers(Name, Digest),
}

/// How a manifest is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Tag(Tag),
    Digest(Digest),
}

impl Route {
    pub(super) fn parse(path: &str) -> Result<Self, Problem> {
        let path = percent_decode(path);
        let not_found = || Problem::new(StatusCode::NOT_FOUND, code::NAME_UNKNOWN, "no such endpoint");
        if path == "/v2" || path == "/v2/" {
            return Ok(Self::Base);
        }
        if path == "/v1/search" {
            return Ok(Self::Search);
        }
        let rest = path.strip_prefix("/v2/").ok_or_else(not_found)?;
        if rest == "_catalog" {
            return Ok(Self::Catalog);
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(parse_name(name)?));
        }
        // From the right: `blobs`, `manifests` and the like are valid parts of names too.
        let (head, last) = rest.rsplit_once('/').ok_or_else(not_found)?;
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            let name = parse_name(name)?;
            if last.is_empty() {
                return Ok(Self::Uploads(name));
            }
            return Ok(Self::Upload(name, UploadId::parse(last).ok_or_else(Problem::upload_unknown)?));
        }
        if let Some(name) = head.strip_suffix("/blobs") {
            let name = parse_name(name)?;
            if last == "uploads" {
                return Ok(Self::Uploads(name));
            }
            return Ok(Self::Blob(name, parse_digest(last)?));
        }
        if let Some(name) = head.strip_suffix("/manifests") {
            return Ok(Self::Manifest(parse_name(name)?, Target::parse(last)?));
        }
        if let Some(name) = head.strip_suffix("/referrers") {
            return Ok(Self::Referrers(parse_name(name)?, parse_digest(last)?));
        }
        Err(not_found())
    }

    /// The methods a route knows, for `Allow`.
    pub(super) fn allowed(&self) -> &'static [Method] {
        const READ: [Method; 2] = [Method::GET, Method::HEAD];
        const MANIFEST: [Method; 4] = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE];
        const BLOB: [Method; 3] = [Method::GET, Method::HEAD, Method::DELETE];
        const UPLOAD: [Method; 4] = [Method::GET, Method::PATCH, Method::PUT, Method::DELETE];
        match self {
            Self::Base | Self::Catalog | Self::Search | Self::Tags(_) | Self::Referrers(..) => &READ,
            Self::Manifest(..) => &MANIFEST,
            Self::Blob(..) => &BLOB,
            Self::Uploads(_) => &[Method::POST],
            Self::Upload(..) => &UPLOAD,
        }
    }
}

impl Target {
    fn parse(text: &str) -> Result<Self, Problem> {
        if text.contains(':') {
            return parse_digest(text).map(Self::Digest);
        }
        let invalid = || Problem::new(StatusCode::BAD_REQUEST, code::TAG_INVALID, "invalid tag name");
        Tag::parse(text).map(Self::Tag).ok_or_else(invalid)
    }
}

fn parse_name(text: &str) -> Result<Name, Problem> {
    Name::parse(text).ok_or_else(Problem::name_invalid)
}

/// A digest from a request.
pub(super) fn parse_digest(text: &str) -> Result<Digest, Problem> {
    text.parse().map_err(|_| Problem::digest_invalid("invalid digest: expected sha256: and 64 hexadecimal digits"))
}

/// One parameter of a query string.
pub(super) fn query(query: Option<&str>, key: &str) -> Option<String> {
    let pairs = url::form_urlencoded::parse(query?.as_bytes());
    pairs.into_iter().find(|(name, _)| name == key).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn routes() {
        let digest = Digest::of(b"");
        let id = "0123456789abcdef".repeat(4);
        for (path, expected) in [
            ("/v2/".to_owned(), Route::Base),
            ("/v2".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v1/search".to_owned(), Route::Search),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags(name("a/b"))),
            (format!("/v2/a/blobs/{digest}"), Route::Blob(name("a"), digest)),
            (format!("/v2/a/blobs/{}", digest.to_string().replace(':', "%3A")), Route::Blob(name("a"), digest)),
            (format!("/v2/blobs/blobs/blobs/{digest}"), Route::Blob(name("blobs/blobs"), digest)),
            (
                "/v2/a/manifests/latest".to_owned(),
                Route::Manifest(name("a"), Target::Tag(Tag::parse("latest").unwrap())),
            ),
            (format!("/v2/a/manifests/{digest}"), Route::Manifest(name("a"), Target::Digest(digest))),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads".to_owned(), Route::Uploads(name("a"))),
            (format!("/v2/a/blobs/uploads/{id}"), Route::Upload(name("a"), UploadId::parse(&id).unwrap())),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers(name("a"), digest)),
        ] {
            assert_eq!(Route::parse(&path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn hostile_paths() {
        for (path, expected) in [
            ("/v1/", code::NAME_UNKNOWN),
            ("/v2/x", code::NAME_UNKNOWN),
            ("/v2/../manifests/x", code::NAME_INVALID),
            ("/v2/a/%2e%2e/manifests/x", code::NAME_INVALID),
            ("/v2/a%2F..%2Fb/manifests/x", code::NAME_INVALID),
            ("/v2//manifests/x", code::NAME_INVALID),
            ("/v2/A/manifests/x", code::NAME_INVALID),
            ("/v2/a\0/manifests/x", code::NAME_INVALID),
            ("/v2/a/manifests/..", code::TAG_INVALID),
            ("/v2/a/manifests/sha256:..", code::DIGEST_INVALID),
            ("/v2/a/blobs/sha256:x", code::DIGEST_INVALID),
            ("/v2/a/blobs/md5:00", code::DIGEST_INVALID),
            ("/v2/a/blobs/uploads/..%2f..%2fx", code::NAME_UNKNOWN),
            ("/v2/a/blobs/uploads/nope", code::BLOB_UPLOAD_UNKNOWN),
        ] {
            assert_eq!(Route::parse(path).unwrap_err().code, expected, "{path}");
        }
    }

    #[test]
    fn queries() {
        assert_eq!(query(Some("a=1&digest=sha256%3Ax"), "digest").as_deref(), Some("sha256:x"));
        assert_eq!(query(Some("a=1"), "b"), None);
        assert_eq!(query(None, "b"), None);
    }
}
