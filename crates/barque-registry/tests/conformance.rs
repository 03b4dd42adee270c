//! The requirements of the distribution specification 1.1, asked of our registry and, to test the tests, of Debian's
//! docker-registry where it is installed (what version 2.8 of that cannot do is marked).
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;

use barque_model::Digest;
use barque_registry::media;
use bytes::Bytes;
use common::image::{Image, index};
use common::{Distribution, Server, code, header, http, noise};
use http::Response;

/// A registry to be examined.
struct Subject {
    addr: SocketAddr,
    ours: bool,
    _server: Option<Server>,
    _distribution: Option<Distribution>,
}

/// Both registries, or only ours.
async fn subjects() -> Vec<Subject> {
    let server = Server::start().await;
    let mut list = vec![Subject { addr: server.addr, ours: true, _server: Some(server), _distribution: None }];
    if let Some(registry) = Distribution::start("").await {
        list.push(Subject { addr: registry.addr, ours: false, _server: None, _distribution: Some(registry) });
    }
    list
}

impl Subject {
    async fn get(&self, path: &str) -> Response<Bytes> {
        http(self.addr, "GET", path, &[("Accept", &media::ACCEPT_MANIFESTS.join(", "))], "").await
    }

    async fn head(&self, path: &str) -> Response<Bytes> {
        http(self.addr, "HEAD", path, &[("Accept", &media::ACCEPT_MANIFESTS.join(", "))], "").await
    }

    async fn delete(&self, path: &str) -> Response<Bytes> {
        http(self.addr, "DELETE", path, &[], "").await
    }

    /// Opens an upload; returns where.
    async fn open(&self, name: &str) -> String {
        let response = http(self.addr, "POST", &format!("/v2/{name}/blobs/uploads/"), &[], "").await;
        assert_eq!(response.status(), 202);
        self.location(&response)
    }

    fn location(&self, response: &Response<Bytes>) -> String {
        let location = header(response, "location");
        assert!(!location.is_empty(), "no Location in {response:?}");
        if location.starts_with('/') { format!("http://{}{location}", self.addr) } else { location.to_owned() }
    }

    /// Pushes a blob in two requests.
    async fn put_blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let location = self.open(name).await;
        let response = self.close(&location, &digest.to_string(), bytes).await;
        assert_eq!(response.status(), 201, "{}", self.addr);
        digest
    }

    async fn close(&self, location: &str, digest: &str, bytes: &[u8]) -> Response<Bytes> {
        let joint = if location.contains('?') { '&' } else { '?' };
        let headers = [("Content-Type", "application/octet-stream")];
        http(self.addr, "PUT", &format!("{location}{joint}digest={digest}"), &headers, bytes.to_vec()).await
    }

    async fn patch(&self, location: &str, range: &str, bytes: &[u8]) -> Response<Bytes> {
        let mut headers = vec![("Content-Type", "application/octet-stream")];
        if !range.is_empty() {
            headers.push(("Content-Range", range));
        }
        http(self.addr, "PATCH", location, &headers, bytes.to_vec()).await
    }

    async fn put_manifest(&self, name: &str, reference: &str, kind: &str, bytes: &[u8]) -> Response<Bytes> {
        http(self.addr, "PUT", &format!("/v2/{name}/manifests/{reference}"), &[("Content-Type", kind)], bytes.to_vec())
            .await
    }

    async fn put_image(&self, name: &str, tag: &str, image: &Image) {
        for (_, bytes) in image.blobs() {
            self.put_blob(name, bytes).await;
        }
        let response = self.put_manifest(name, tag, &image.manifest.media_type, &image.manifest.bytes).await;
        assert_eq!(response.status(), 201, "{response:?}");
    }
}

#[tokio::test]
async fn end_1_base() {
    for subject in subjects().await {
        let response = subject.get("/v2/").await;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "docker-distribution-api-version"), "registry/2.0");
    }
}

#[tokio::test]
async fn pull_blobs() {
    for subject in subjects().await {
        let bytes = noise(1, 100_000);
        let digest = subject.put_blob("pull/blobs", &bytes).await;
        let path = format!("/v2/pull/blobs/blobs/{digest}");
        let response = subject.get(&path).await;
        assert_eq!(response.status(), 200);
        assert!(response.body() == &bytes);
        assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
        let response = subject.head(&path).await;
        assert_eq!((response.status().as_u16(), header(&response, "content-length")), (200, "100000"));
        assert_eq!(header(&response, "docker-content-digest"), digest.to_string());

        let missing = format!("/v2/pull/blobs/blobs/{}", Digest::of(b"missing"));
        let response = subject.get(&missing).await;
        assert_eq!((response.status().as_u16(), code(&response).as_str()), (404, "BLOB_UNKNOWN"));
        assert_eq!(subject.head(&missing).await.status(), 404);
        let elsewhere = format!("/v2/other/repository/blobs/{digest}");
        assert_eq!(subject.get(&elsewhere).await.status(), 404, "blobs belong to repositories");
        let response = subject.get("/v2/pull/blobs/blobs/sha256:totally-wrong").await;
        assert!(response.status().is_client_error());
    }
}

#[tokio::test]
async fn pull_parts_of_blobs() {
    for subject in subjects().await {
        let bytes = noise(1, 1000);
        let digest = subject.put_blob("ranges", &bytes).await;
        let path = format!("/v2/ranges/blobs/{digest}");
        for (range, expected, content) in [
            ("bytes=0-99", "bytes 0-99/1000", &bytes[..100]),
            ("bytes=500-", "bytes 500-999/1000", &bytes[500..]),
            ("bytes=-10", "bytes 990-999/1000", &bytes[990..]),
            ("bytes=990-2000", "bytes 990-999/1000", &bytes[990..]),
        ] {
            let response = http(subject.addr, "GET", &path, &[("Range", range)], "").await;
            assert_eq!((response.status().as_u16(), header(&response, "content-range")), (206, expected), "{range}");
            assert!(response.body() == content, "{range}");
        }
        if subject.ours {
            // Version 2.8 announces a body of the blob's size and sends another.
            let response = http(subject.addr, "GET", &path, &[("Range", "bytes=1000-")], "").await;
            assert_eq!((response.status().as_u16(), header(&response, "content-range")), (416, "bytes */1000"));
        }
    }
}

#[tokio::test]
async fn pull_manifests() {
    for subject in subjects().await {
        let image = Image::new(vec![noise(1, 10)]);
        subject.put_image("pull/manifests", "v1", &image).await;
        let digest = image.manifest.digest.to_string();
        for reference in ["v1", &digest] {
            let path = format!("/v2/pull/manifests/manifests/{reference}");
            let response = subject.get(&path).await;
            assert_eq!(response.status(), 200);
            assert_eq!(response.body(), &image.manifest.bytes);
            assert_eq!(header(&response, "content-type"), media::OCI_MANIFEST);
            assert_eq!(header(&response, "docker-content-digest"), digest);
            let response = subject.head(&path).await;
            assert_eq!(header(&response, "content-length"), image.manifest.bytes.len().to_string());
            assert_eq!(header(&response, "docker-content-digest"), digest);
            assert_eq!(header(&response, "content-type"), media::OCI_MANIFEST);
        }
        let response = subject.get("/v2/pull/manifests/manifests/nope").await;
        assert_eq!((response.status().as_u16(), code(&response).as_str()), (404, "MANIFEST_UNKNOWN"));
        assert_eq!(subject.head("/v2/pull/manifests/manifests/nope").await.status(), 404);
        let missing = format!("/v2/pull/manifests/manifests/{}", Digest::of(b"missing"));
        assert_eq!(subject.get(&missing).await.status(), 404);
        assert_eq!(subject.get("/v2/no/such/manifests/latest").await.status(), 404);
    }
}

#[tokio::test]
async fn push_blobs_monolithically() {
    for subject in subjects().await {
        let bytes = noise(1, 5000);
        let digest = Digest::of(&bytes);
        // POST, then PUT.
        let location = subject.open("push/mono").await;
        let response = subject.close(&location, &digest.to_string(), &bytes).await;
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
        let blob = subject.location(&response);
        assert!(http(subject.addr, "GET", &blob, &[], "").await.body() == &bytes, "Location leads to the blob");
        // The upload is over.
        assert_eq!(http(subject.addr, "GET", &location, &[], "").await.status(), 404);
        // An empty blob.
        let location = subject.open("push/mono").await;
        assert_eq!(subject.close(&location, &Digest::of(b"").to_string(), b"").await.status(), 201);
        // One POST with the digest: 201, or 202 where it is not supported.
        let other = noise(2, 5000);
        let path = format!("/v2/push/mono/blobs/uploads/?digest={}", Digest::of(&other));
        let response = http(subject.addr, "POST", &path, &[("Content-Type", "application/octet-stream")], other).await;
        assert_eq!(response.status(), if subject.ours { 201 } else { 202 });
    }
}

#[tokio::test]
async fn push_with_a_wrong_digest() {
    for subject in subjects().await {
        let location = subject.open("push/wrong").await;
        let wrong = Digest::of(b"something else");
        let response = subject.close(&location, &wrong.to_string(), b"content").await;
        assert_eq!((response.status().as_u16(), code(&response).as_str()), (400, "DIGEST_INVALID"));
        assert_eq!(subject.head(&format!("/v2/push/wrong/blobs/{wrong}")).await.status(), 404);
        assert_eq!(subject.head(&format!("/v2/push/wrong/blobs/{}", Digest::of(b"content"))).await.status(), 404);
        let location = subject.open("push/wrong").await;
        for digest in ["", "sha256:short", "nonsense"] {
            let response = subject.close(&location, digest, b"").await;
            assert_eq!((response.status().as_u16(), code(&response).as_str()), (400, "DIGEST_INVALID"), "{digest:?}");
        }
        let response = http(subject.addr, "PUT", &location, &[], "").await;
        assert_eq!(response.status(), 400, "the digest is missing");
    }
}

#[tokio::test]
async fn push_blobs_in_chunks() {
    for subject in subjects().await {
        let bytes = noise(1, 3000);
        let digest = Digest::of(&bytes);
        let location = subject.open("push/chunks").await;
        let response = subject.patch(&location, "0-999", &bytes[..1000]).await;
        assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-999"));
        let location = subject.location(&response);

        let response = http(subject.addr, "GET", &location, &[], "").await;
        assert_eq!((response.status().as_u16(), header(&response, "range")), (204, "0-999"));
        let location = subject.location(&response);

        if subject.ours {
            // Out of order: refused, and the upload is as it was. (Version 2.8 does not look.)
            let response = subject.patch(&location, "2000-2999", &bytes[2000..]).await;
            assert_eq!(response.status(), 416);
            let response = subject.patch(&location, "0-999", &bytes[..1000]).await;
            assert_eq!(response.status(), 416);
        }
        let response = http(subject.addr, "GET", &location, &[], "").await;
        assert_eq!(header(&response, "range"), "0-999");
        let location = subject.location(&response);

        let response = subject.patch(&location, "1000-1999", &bytes[1000..2000]).await;
        assert_eq!((response.status().as_u16(), header(&response, "range")), (202, "0-1999"));
        let location = subject.location(&response);
        // The last chunk comes with the closing request.
        let response = subject.close(&location, &digest.to_string(), &bytes[2000..]).await;
        assert_eq!(response.status(), 201);
        let response = subject.get(&format!("/v2/push/chunks/blobs/{digest}")).await;
        assert!(response.body() == &bytes);
    }
}

#[tokio::test]
async fn push_blobs_as_a_stream() {
    for subject in subjects().await {
        let bytes = noise(1, 300_000);
        let location = subject.open("push/stream").await;
        let response = subject.patch(&location, "", &bytes).await;
        assert_eq!(response.status(), 202);
        let location = subject.location(&response);
        assert_eq!(subject.close(&location, &Digest::of(&bytes).to_string(), b"").await.status(), 201);
    }
}

#[tokio::test]
async fn malformed_chunks() {
    for subject in subjects().await.into_iter().filter(|subject| subject.ours) {
        let location = subject.open("push/bad").await;
        for range in ["x", "5-2", "bytes */3"] {
            assert_eq!(subject.patch(&location, range, b"abc").await.status(), 416, "{range}");
        }
        let response = subject.patch(&location, "0-9", b"abc").await;
        assert_eq!((response.status().as_u16(), code(&response).as_str()), (400, "SIZE_INVALID"));
        let response = subject.patch(&location, "0-2", b"abc").await;
        assert_eq!(response.status(), 202);
    }
}

#[tokio::test]
async fn uploads_can_be_cancelled_and_others_do_not_exist() {
    for subject in subjects().await {
        let location = subject.open("push/cancel").await;
        assert_eq!(http(subject.addr, "DELETE", &location, &[], "").await.status(), 204);
        assert_eq!(http(subject.addr, "GET", &location, &[], "").await.status(), 404);
        let path = "/v2/push/cancel/blobs/uploads/00000000-0000-0000-0000-000000000000";
        let response = http(subject.addr, "GET", path, &[], "").await;
        assert!(response.status().is_client_error());
        if subject.ours {
            // An upload belongs to its repository.
            let location = subject.open("push/cancel").await.replace("push/cancel", "push/other");
            let response = http(subject.addr, "GET", &location, &[], "").await;
            assert_eq!((response.status().as_u16(), code(&response).as_str()), (404, "BLOB_UPLOAD_UNKNOWN"));
        }
    }
}

#[tokio::test]
async fn mounts() {
    for subject in subjects().await {
        let digest = subject.put_blob("mount/from", b"shared").await;
        let mount = |from: &str, digest: &str| format!("/v2/mount/to/blobs/uploads/?mount={digest}&from={from}");
        let response = http(subject.addr, "POST", &mount("mount/from", &digest.to_string()), &[], "").await;
        assert_eq!(response.status(), 201);
        assert_eq!(subject.get(&format!("/v2/mount/to/blobs/{digest}")).await.body(), "shared");
        // What cannot be mounted becomes an ordinary upload.
        let missing = Digest::of(b"missing").to_string();
        let response = http(subject.addr, "POST", &mount("mount/from", &missing), &[], "").await;
        assert_eq!(response.status(), 202);
        assert!(!header(&response, "location").is_empty());
        let response = http(subject.addr, "POST", &mount("mount/nowhere", &missing), &[], "").await;
        assert_eq!(response.status(), 202);
    }
}

#[tokio::test]
async fn push_manifests() {
    for subject in subjects().await {
        let image = Image::new(vec![noise(1, 10)]);
        for (_, bytes) in image.blobs() {
            subject.put_blob("push/manifests", bytes).await;
        }
        let (kind, bytes, digest) = (&image.manifest.media_type, &image.manifest.bytes, image.manifest.digest);
        let response = subject.put_manifest("push/manifests", "v1", kind, bytes).await;
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "docker-content-digest"), digest.to_string());
        let location = subject.location(&response);
        let accept = [("Accept", media::OCI_MANIFEST)];
        assert_eq!(http(subject.addr, "GET", &location, &accept, "").await.body(), bytes);
        let response = subject.put_manifest("push/manifests", &digest.to_string(), kind, bytes).await;
        assert_eq!(response.status(), 201);

        let wrong = Digest::of(b"wrong").to_string();
        let response = subject.put_manifest("push/manifests", &wrong, kind, bytes).await;
        assert_eq!((response.status().as_u16(), code(&response).as_str()), (400, "DIGEST_INVALID"));
        for garbage in ["", "{}", "blablabla", "{\"schemaVersion\":2}"] {
            let response = subject.put_manifest("push/manifests", "bad", kind, garbage.as_bytes()).await;
            // Version 2.8 fails where it should refuse.
            let refused = response.status().is_client_error() || (!subject.ours && response.status().is_server_error());
            assert!(refused, "{garbage}: {}", response.status());
        }
        // A manifest whose blobs are not there.
        let orphan = Image::new(vec![noise(99, 10)]);
        let response = subject.put_manifest("push/manifests", "orphan", kind, &orphan.manifest.bytes).await;
        assert!(response.status().is_client_error());
        assert_eq!(code(&response), "MANIFEST_BLOB_UNKNOWN");
        assert_eq!(subject.get("/v2/push/manifests/manifests/orphan").await.status(), 404);
        // A tag moves.
        let other = Image::new(vec![noise(2, 10)]);
        subject.put_image("push/manifests", "v1", &other).await;
        let response = subject.head("/v2/push/manifests/manifests/v1").await;
        assert_eq!(header(&response, "docker-content-digest"), other.manifest.digest.to_string());
    }
}

#[tokio::test]
async fn manifests_of_every_kind() {
    for subject in subjects().await {
        let (oci, docker) = (Image::new(vec![noise(1, 10)]), Image::docker(vec![noise(2, 10)]));
        subject.put_image("kinds", "oci", &oci).await;
        subject.put_image("kinds", "docker", &docker).await;
        let list = index(&[(&oci.manifest, "linux/amd64"), (&docker.manifest, "linux/arm64")]);
        let response = subject.put_manifest("kinds", "all", media::OCI_INDEX, &list.bytes).await;
        assert_eq!(response.status(), 201);
        let response = subject.get("/v2/kinds/manifests/all").await;
        assert_eq!((header(&response, "content-type"), response.body()), (media::OCI_INDEX, &list.bytes));
        let response = subject.get("/v2/kinds/manifests/docker").await;
        assert_eq!(header(&response, "content-type"), media::DOCKER_MANIFEST);
        // An index of what is not there.
        let orphan = Image::new(vec![noise(9, 10)]);
        let list = index(&[(&orphan.manifest, "linux/amd64")]);
        let response = subject.put_manifest("kinds", "orphan", media::OCI_INDEX, &list.bytes).await;
        assert!(response.status().is_client_error());
    }
}

#[tokio::test]
async fn a_manifest_that_is_too_large() {
    for subject in subjects().await {
        let huge = vec![b' '; 5 * 1024 * 1024];
        let response = subject.put_manifest("huge", "x", media::OCI_MANIFEST, &huge).await;
        let status = response.status().as_u16();
        assert!(matches!(status, 400 | 413), "{status}");
        let image = Image::new(vec![]);
        subject.put_image("huge", "y", &image).await;
        // 4 MiB must work.
        let mut padded: serde_json::Value = serde_json::from_slice(&image.manifest.bytes).unwrap();
        padded["annotations"] = serde_json::json!({"pad": "x".repeat(4 * 1024 * 1024 - 2000)});
        let bytes = padded.to_string();
        let response = subject.put_manifest("huge", "z", media::OCI_MANIFEST, bytes.as_bytes()).await;
        assert_eq!(response.status(), 201);
    }
}

fn tags_of(response: &Response<Bytes>) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    serde_json::from_value(value["tags"].clone()).unwrap()
}

/// The path and query of a `Link` to the next page.
fn next_of(response: &Response<Bytes>) -> String {
    let link = header(response, "link");
    let Some((target, rest)) = link.trim_start_matches('<').split_once('>') else { return String::new() };
    assert!(rest.contains("rel=\"next\""), "{link}");
    match target.strip_prefix("http://") {
        Some(rest) => format!("/{}", rest.split_once('/').unwrap().1),
        None => target.to_owned(),
    }
}

#[tokio::test]
async fn tags_come_sorted_and_in_pages() {
    for subject in subjects().await {
        let image = Image::new(vec![noise(1, 10)]);
        for tag in ["b", "a", "Z", "c", "0.1"] {
            subject.put_image("list/tags", tag, &image).await;
        }
        let response = subject.get("/v2/list/tags/tags/list").await;
        assert_eq!(response.status(), 200);
        let mut tags = tags_of(&response);
        if !subject.ours {
            tags.sort(); // version 2.8 does not
        }
        assert_eq!(tags, ["0.1", "Z", "a", "b", "c"]);
        let response = subject.get("/v2/no/such/tags/list").await;
        assert_eq!((response.status().as_u16(), code(&response).as_str()), (404, "NAME_UNKNOWN"));
        if !subject.ours {
            continue; // version 2.8 has no pages of tags
        }
        let response = subject.get("/v2/list/tags/tags/list?n=2").await;
        assert_eq!(tags_of(&response), ["0.1", "Z"]);
        let response = subject.get(&next_of(&response)).await;
        assert_eq!(tags_of(&response), ["a", "b"]);
        let response = subject.get(&next_of(&response)).await;
        assert_eq!((tags_of(&response), next_of(&response)), (vec!["c".to_owned()], String::new()));
        let response = subject.get("/v2/list/tags/tags/list?last=a").await;
        assert_eq!(tags_of(&response), ["b", "c"]);
        let response = subject.get("/v2/list/tags/tags/list?n=0").await;
        assert!(tags_of(&response).is_empty() && next_of(&response).is_empty());
        let response = subject.get("/v2/list/tags/tags/list?n=x").await;
        assert_eq!((response.status().as_u16(), code(&response).as_str()), (400, "PAGINATION_NUMBER_INVALID"));
    }
}

#[tokio::test]
async fn the_catalog_comes_in_pages() {
    for subject in subjects().await {
        let image = Image::new(vec![noise(1, 10)]);
        for name in ["cat/b", "cat/a", "aaa", "zzz"] {
            subject.put_image(name, "x", &image).await;
        }
        let names = |response: &Response<Bytes>| {
            let value: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            serde_json::from_value::<Vec<String>>(value["repositories"].clone()).unwrap()
        };
        let response = subject.get("/v2/_catalog").await;
        assert_eq!(names(&response), ["aaa", "cat/a", "cat/b", "zzz"]);
        let response = subject.get("/v2/_catalog?n=3").await;
        assert_eq!(names(&response), ["aaa", "cat/a", "cat/b"]);
        let response = subject.get(&next_of(&response)).await;
        assert_eq!(names(&response), ["zzz"]);
    }
}

#[tokio::test]
async fn deletion() {
    for subject in subjects().await {
        let image = Image::new(vec![noise(1, 10)]);
        subject.put_image("delete/me", "one", &image).await;
        let manifest = format!("/v2/delete/me/manifests/{}", image.manifest.digest);
        if subject.ours {
            // A tag goes alone. (Version 2.8 deletes by digest only.)
            subject.put_image("delete/me", "two", &image).await;
            assert_eq!(subject.delete("/v2/delete/me/manifests/two").await.status(), 202);
            assert_eq!(subject.get("/v2/delete/me/manifests/two").await.status(), 404);
            assert_eq!(subject.get("/v2/delete/me/manifests/one").await.status(), 200);
            assert_eq!(subject.delete("/v2/delete/me/manifests/two").await.status(), 404);
        }
        assert_eq!(subject.delete(&manifest).await.status(), 202);
        assert_eq!(subject.get(&manifest).await.status(), 404);
        assert_eq!(subject.get("/v2/delete/me/manifests/one").await.status(), 404, "its tags go with it");
        assert_eq!(subject.delete(&manifest).await.status(), 404);
        let response = subject.get("/v2/delete/me/tags/list").await;
        assert_eq!(response.status(), 200);
        assert!(
            serde_json::from_slice::<serde_json::Value>(response.body()).unwrap()["tags"]
                .as_array()
                .is_none_or(Vec::is_empty)
        );

        let blob = format!("/v2/delete/me/blobs/{}", image.layers[0].0.digest);
        assert_eq!(subject.delete(&blob).await.status(), 202);
        assert_eq!(subject.get(&blob).await.status(), 404);
        assert_eq!(subject.delete(&blob).await.status(), 404);
    }
}

#[tokio::test]
async fn deletion_can_be_disabled() {
    let server = Server::with(|config| config.allow_delete = false).await;
    let subject = Subject { addr: server.addr, ours: true, _server: Some(server), _distribution: None };
    let image = Image::new(vec![noise(1, 10)]);
    subject.put_image("keep/me", "one", &image).await;
    let response = subject.delete("/v2/keep/me/manifests/one").await;
    assert_eq!((response.status().as_u16(), code(&response).as_str()), (405, "UNSUPPORTED"));
    let response = subject.delete(&format!("/v2/keep/me/blobs/{}", image.layers[0].0.digest)).await;
    assert_eq!(response.status(), 405);
    let location = subject.open("keep/me").await;
    assert_eq!(
        http(subject.addr, "DELETE", &location, &[], "").await.status(),
        204,
        "uploads can be given up all the same"
    );
}

#[tokio::test]
async fn referrers() {
    for subject in subjects().await.into_iter().filter(|subject| subject.ours) {
        let image = Image::new(vec![noise(1, 10)]);
        let target = image.manifest.descriptor();
        // The artifact may come before what it is about.
        let early = Image::about(&target, "test/early", b"early");
        for (_, bytes) in early.blobs() {
            subject.put_blob("refs", bytes).await;
        }
        let response = subject
            .put_manifest("refs", &early.manifest.digest.to_string(), media::OCI_MANIFEST, &early.manifest.bytes)
            .await;
        assert_eq!(response.status(), 201);
        assert_eq!(header(&response, "oci-subject"), target.digest.to_string());
        subject.put_image("refs", "image", &image).await;
        subject.put_image("refs", "late", &Image::about(&target, "test/late", b"late")).await;

        let list = |response: &Response<Bytes>| {
            let value: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!((&value["schemaVersion"], &value["mediaType"]), (&2.into(), &media::OCI_INDEX.into()));
            let kinds = value["manifests"].as_array().unwrap().iter();
            let mut kinds: Vec<String> = kinds.map(|m| m["artifactType"].as_str().unwrap().to_owned()).collect();
            kinds.sort();
            kinds
        };
        let path = format!("/v2/refs/referrers/{}", target.digest);
        let response = subject.get(&path).await;
        assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, media::OCI_INDEX));
        assert_eq!(list(&response), ["test/early", "test/late"]);
        assert_eq!(header(&response, "oci-filters-applied"), "");
        let response = subject.get(&format!("{path}?artifactType=test%2Flate")).await;
        assert_eq!(list(&response), ["test/late"]);
        assert_eq!(header(&response, "oci-filters-applied"), "artifactType");
        let response = subject.get(&format!("/v2/refs/referrers/{}", Digest::of(b"nothing"))).await;
        assert_eq!((response.status().as_u16(), list(&response).len()), (200, 0));
        assert_eq!(subject.get("/v2/refs/referrers/sha256:bad").await.status(), 400);

        assert_eq!(subject.delete(&format!("/v2/refs/manifests/{}", early.manifest.digest)).await.status(), 202);
        assert_eq!(list(&subject.get(&path).await), ["test/late"]);
    }
}

#[tokio::test]
async fn names_are_checked() {
    for subject in subjects().await {
        for path in ["/v2/UPPER/manifests/x", "/v2/a..b/manifests/x", "/v2/%2e%2e/manifests/x", "/v2/-a/tags/list"] {
            let response = subject.get(path).await;
            // Version 2.8 redirects dots away.
            let refused = response.status().is_client_error() || (!subject.ours && response.status() == 301);
            assert!(refused, "{path}: {}", response.status());
        }
        let response = http(subject.addr, "POST", "/v2/UPPER/blobs/uploads/", &[], "").await;
        assert!(response.status().is_client_error());
        assert_eq!(subject.get("/v2/a/unknown/thing").await.status(), 404);
        if subject.ours {
            let long = "a".repeat(300);
            let response = http(subject.addr, "POST", &format!("/v2/{long}/blobs/uploads/"), &[], "").await;
            assert_eq!((response.status().as_u16(), code(&response).as_str()), (400, "NAME_INVALID"));
            let response = http(subject.addr, "POST", "/v2/a/tags/list", &[], "").await;
            assert_eq!((response.status().as_u16(), header(&response, "allow")), (405, "GET, HEAD"));
        }
    }
}
