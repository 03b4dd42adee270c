//! Our client against our server: what goes in comes out, byte for byte.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Mutex;

use barque_model::{Digest, ErrorKind, Reference};
use barque_registry::{BytesSource, Credentials, Descriptor, FileSource, PushBlob, Pushed, RawManifest, media};
use bytes::Bytes;
use common::image::{Image, index, push_bytes};
use common::{Server, client, noise, quick};
use futures_util::StreamExt as _;
use tokio::io::AsyncReadExt as _;

const ANON: Credentials = Credentials::Anonymous;

fn reference(server: &Server, rest: &str) -> Reference {
    format!("{}/{rest}", server.host()).parse().unwrap()
}

#[tokio::test]
async fn an_image_there_and_back() {
    let server = Server::start().await;
    let client = client();
    let image = Image::docker(vec![noise(1, 3_000_000), noise(2, 10), Vec::new()]);
    let name = reference(&server, "team/app:1");
    image.push(&client, &name, &ANON).await;

    let resolved = client.resolve(&name, None, &ANON).await.unwrap();
    assert_eq!(resolved.manifest, image.manifest);
    assert_eq!((resolved.digest, resolved.index.is_none()), (image.manifest.digest, true));
    assert_eq!(resolved.image.layers.len(), 3);
    for ((descriptor, bytes), found) in image.layers.iter().zip(&resolved.image.layers) {
        assert_eq!(descriptor, found);
        let mut blob = client.blob(&name, found, 0, &ANON).await.unwrap().verified();
        let mut content = Vec::new();
        blob.read_to_end(&mut content).await.unwrap();
        assert!(content == *bytes, "layer {}", found.digest);
    }
    let config = client.blob_bytes(&name, &resolved.image.config, 1 << 20, &ANON).await.unwrap();
    assert_eq!(config, image.config.1);
    let head = client.head(&name, &ANON).await.unwrap();
    assert_eq!(head, image.manifest.descriptor());
    let by_digest = name.with_digest(image.manifest.digest);
    assert_eq!(client.resolve(&by_digest, None, &ANON).await.unwrap().manifest, image.manifest);
}

#[tokio::test]
async fn a_blob_from_the_middle_and_from_the_end() {
    let server = Server::start().await;
    let client = client();
    let bytes = Bytes::from(noise(3, 2_000_000));
    let descriptor = Descriptor::of(media::OCI_LAYER, &bytes);
    let name = reference(&server, "a");
    push_bytes(&client, &name, &descriptor, &bytes, &ANON).await.unwrap();
    for offset in [1, 1_000_000, 1_999_999, 2_000_000] {
        let mut blob = client.blob(&name, &descriptor, offset, &ANON).await.unwrap();
        let mut content = Vec::new();
        while let Some(chunk) = blob.next().await {
            content.extend_from_slice(&chunk.unwrap());
        }
        assert!(content == bytes[offset as usize..], "from {offset}");
    }
    assert!(client.blob(&name, &descriptor, 2_000_001, &ANON).await.is_err());
    assert_eq!(client.blob_size(&name, descriptor.digest, &ANON).await.unwrap(), 2_000_000);
}

#[tokio::test]
async fn an_index_serves_platforms() {
    let server = Server::start().await;
    let client = client();
    let (amd, arm) = (Image::new(vec![noise(1, 100)]), Image::new(vec![noise(2, 100)]));
    let name = reference(&server, "multi:1");
    for image in [&amd, &arm] {
        image.push(&client, &name.with_digest(image.manifest.digest), &ANON).await;
    }
    let index = index(&[(&amd.manifest, "linux/amd64"), (&arm.manifest, "linux/arm64")]);
    client.put_manifest(&name, &index, &ANON).await.unwrap();
    let platform = "linux/arm64/v8".parse().unwrap();
    let resolved = client.resolve(&name, Some(&platform), &ANON).await.unwrap();
    assert_eq!((resolved.digest, resolved.manifest), (index.digest, arm.manifest));
    assert_eq!(resolved.index, Some(index));
    let error = client.resolve(&name, Some(&"linux/s390x".parse().unwrap()), &ANON).await.unwrap_err();
    assert!(error.message().starts_with("no matching manifest for linux/s390x in the manifest list entries"));
    assert_eq!(error.hint(), Some("the image is there for linux/amd64, linux/arm64"));
}

#[tokio::test]
async fn pushing_twice_and_mounting() {
    let server = Server::start().await;
    let client = client();
    let bytes = Bytes::from(noise(4, 5000));
    let descriptor = Descriptor::of(media::OCI_LAYER, &bytes);
    let (first, second) = (reference(&server, "first"), reference(&server, "second/x"));
    assert_eq!(push_bytes(&client, &first, &descriptor, &bytes, &ANON).await.unwrap(), Pushed::Uploaded);
    assert_eq!(push_bytes(&client, &first, &descriptor, &bytes, &ANON).await.unwrap(), Pushed::Exists);
    assert!(client.blob_exists(&first, descriptor.digest, &ANON).await.unwrap());
    assert!(!client.blob_exists(&second, descriptor.digest, &ANON).await.unwrap());

    let source = BytesSource(Bytes::new());
    let from = ["nowhere".to_owned(), "first".to_owned()];
    let blob =
        PushBlob { reference: &second, descriptor: &descriptor, source: &source, mount_from: &from, progress: None };
    assert_eq!(client.push_blob(blob, &ANON).await.unwrap(), Pushed::Mounted { from: "first".to_owned() });
    assert!(client.blob_exists(&second, descriptor.digest, &ANON).await.unwrap());
    let left = std::fs::read_dir(server.root().join("uploads")).unwrap().count();
    assert_eq!(left, 0, "the upload opened by the failed mount was cancelled");
}

#[tokio::test]
async fn a_large_blob_from_a_file_with_progress() {
    let server = Server::start().await;
    let client = client();
    let bytes = noise(5, 9_000_000);
    let path = server.dir.path().join("blob");
    std::fs::write(&path, &bytes).unwrap();
    let descriptor = Descriptor::of(media::OCI_LAYER, &bytes);
    let name = reference(&server, "big");
    let told = Mutex::new(Vec::new());
    let progress = |sent| told.lock().unwrap().push(sent);
    let source = FileSource(path);
    let blob = PushBlob {
        reference: &name,
        descriptor: &descriptor,
        source: &source,
        mount_from: &[],
        progress: Some(&progress),
    };
    assert_eq!(client.push_blob(blob, &ANON).await.unwrap(), Pushed::Uploaded);
    let told = told.into_inner().unwrap();
    assert_eq!(told.last(), Some(&9_000_000));
    assert!(told.is_sorted());
    assert!(client.blob_bytes(&name, &descriptor, 1 << 24, &ANON).await.unwrap() == bytes);
}

#[tokio::test]
async fn lists_and_deletion() {
    let server = Server::start().await;
    let client = client();
    let image = Image::new(vec![noise(1, 10)]);
    for name in ["b/two:x", "b/two:a", "a-one:latest", "b:z"] {
        image.push(&client, &reference(&server, name), &ANON).await;
    }
    assert_eq!(client.tags(&reference(&server, "b/two"), &ANON).await.unwrap(), ["a", "x"]);
    assert_eq!(client.catalog(&server.host(), &ANON).await.unwrap(), ["a-one", "b", "b/two"]);
    let found = |term: &str, limit| {
        let (client, term) = (client.clone(), format!("{}/{term}", server.host()));
        async move {
            let hits = client.search(&term, limit, &ANON).await.unwrap();
            hits.into_iter().map(|hit| hit.name).collect::<Vec<_>>()
        }
    };
    assert_eq!(found("o", 25).await, ["a-one", "b/two"]);
    assert_eq!(found("B", 25).await, ["b", "b/two"]);
    assert_eq!(found("o", 1).await, ["a-one"]);
    assert!(found("nosuch", 25).await.is_empty());
    client.delete_manifest(&reference(&server, "b/two:x"), &ANON).await.unwrap();
    assert_eq!(client.tags(&reference(&server, "b/two"), &ANON).await.unwrap(), ["a"]);
    let by_digest = reference(&server, "b/two").with_digest(image.manifest.digest);
    client.delete_manifest(&by_digest, &ANON).await.unwrap();
    assert!(client.tags(&reference(&server, "b/two"), &ANON).await.unwrap().is_empty());
    assert_eq!(client.catalog(&server.host(), &ANON).await.unwrap(), ["a-one", "b"]);
    let layer = image.layers[0].0.digest;
    client.delete_blob(&reference(&server, "b"), layer, &ANON).await.unwrap();
    assert!(!client.blob_exists(&reference(&server, "b"), layer, &ANON).await.unwrap());
    assert!(client.blob_exists(&reference(&server, "a-one"), layer, &ANON).await.unwrap());
}

#[tokio::test]
async fn missing_things_in_dockers_words() {
    let server = Server::start().await;
    let client = client();
    Image::new(vec![]).push(&client, &reference(&server, "there:1"), &ANON).await;
    let name = reference(&server, "there:2");
    let error = client.resolve(&name, None, &ANON).await.unwrap_err();
    let expected = format!("manifest for {}/there:2 not found: manifest unknown: manifest unknown", server.host());
    assert_eq!((error.message(), error.kind()), (expected.as_str(), ErrorKind::NotFound));
    let error = client.tags(&reference(&server, "gone:1"), &ANON).await.unwrap_err();
    let expected =
        format!("repository {}/gone not found: name unknown: repository name not known to registry", server.host());
    assert_eq!((error.message(), error.kind()), (expected.as_str(), ErrorKind::NotFound));
    let stray = Descriptor::of(media::OCI_LAYER, b"stray");
    let error = client.blob(&name, &stray, 0, &ANON).await.err().unwrap();
    assert!(error.message().contains(&stray.digest.to_string()) && error.kind() == ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn referrers() {
    let server = Server::start().await;
    let client = client();
    let image = Image::new(vec![noise(1, 10)]);
    let name = reference(&server, "signed:1");
    image.push(&client, &name, &ANON).await;
    let subject = image.manifest.descriptor();
    let (one, two) = (Image::about(&subject, "x/sig", b"1"), Image::about(&subject, "x/sbom", b"2"));
    for artifact in [&one, &two] {
        artifact.push(&client, &name.with_digest(artifact.manifest.digest), &ANON).await;
    }
    let all = client.referrers(&name, subject.digest, None, &ANON).await.unwrap();
    assert_eq!(all.manifests.len(), 2);
    let sigs = client.referrers(&name, subject.digest, Some("x/sig"), &ANON).await.unwrap().manifests;
    assert_eq!(sigs.len(), 1);
    assert_eq!((sigs[0].digest, sigs[0].artifact_type.as_deref()), (one.manifest.digest, Some("x/sig")));
    assert_eq!(sigs[0].annotations["k"], "v");
    assert!(client.referrers(&name, Digest::of(b"none"), None, &ANON).await.unwrap().manifests.is_empty());
    assert_eq!(client.tags(&name, &ANON).await.unwrap(), ["1"], "no fallback tag where the API exists");
}

#[tokio::test]
async fn basic_authentication() {
    let server = Server::with(|config| {
        let path = config.root.with_file_name("htpasswd");
        std::fs::write(&path, format!("pupil:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        config.htpasswd = Some(path);
    })
    .await;
    let client = client();
    let name = reference(&server, "private:1");
    let (good, bad) = (Credentials::basic("pupil", "secret"), Credentials::basic("pupil", "wrong"));
    let image = Image::new(vec![noise(1, 2_000_000)]);
    image.push(&client, &name, &good).await;
    assert_eq!(client.resolve(&name, None, &good).await.unwrap().manifest, image.manifest);

    let error = client.resolve(&name, None, &ANON).await.unwrap_err();
    let expected = format!("Head \"http://{}/v2/private/manifests/1\": no basic auth credentials", server.host());
    assert_eq!(error.message(), expected);
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let error = client.resolve(&name, None, &bad).await.unwrap_err();
    assert_eq!(error.message(), "unauthorized: authentication required");
    let error = client.put_manifest(&name, &image.manifest, &ANON).await.unwrap_err();
    assert_eq!(error.message(), "no basic auth credentials");

    let login = client.login(&server.host(), &good).await.unwrap();
    assert_eq!((login.status.as_str(), login.identity_token.as_str()), ("Login Succeeded", ""));
    let error = client.login(&server.host(), &bad).await.unwrap_err();
    let expected = format!("login attempt to http://{}/v2/ failed with status: 401 Unauthorized", server.host());
    assert_eq!((error.message(), error.kind()), (expected.as_str(), ErrorKind::Unauthorized));
}

#[tokio::test]
async fn tls_with_a_private_authority_and_a_client_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let files = barque_registry::server::TlsFiles { cert: cert.clone(), key: key.clone() };
    let server = Server::with(|config| config.tls = Some(files)).await;
    let host = format!("localhost:{}", server.addr.port());
    let name: Reference = format!("{host}/secure:1").parse().unwrap();
    let image = Image::new(vec![noise(1, 500_000)]);

    let certs = dir.path().join("certs.d");
    std::fs::create_dir_all(certs.join(&host)).unwrap();
    std::fs::copy(&cert, certs.join(&host).join("ca.crt")).unwrap();
    std::fs::copy(&cert, certs.join(&host).join("client.cert")).unwrap();
    std::fs::copy(&key, certs.join(&host).join("client.key")).unwrap();
    let config = barque_registry::ClientConfig { certs_dirs: vec![certs], ..quick() };
    let client = barque_registry::Client::new(config).unwrap();
    image.push(&client, &name, &ANON).await;
    assert_eq!(client.resolve(&name, None, &ANON).await.unwrap().manifest, image.manifest);
    // Loopback needs no valid certificate, as with Docker.
    assert_eq!(common::client().resolve(&name, None, &ANON).await.unwrap().manifest, image.manifest);
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let server = Server::start().await;
    let client = client();
    let image = Image::new(vec![noise(1, 100)]);
    image.push(&client, &reference(&server, "kept:1"), &ANON).await;
    let root = server.root();
    let dir = server.stop().await;
    let again = Server::with(|config| config.root = root).await;
    let resolved = client.resolve(&reference(&again, "kept:1"), None, &ANON).await.unwrap();
    assert_eq!(resolved.manifest, image.manifest);
    drop(dir);
}

#[tokio::test]
async fn manifests_are_refused_for_a_reason() {
    let server = Server::start().await;
    let client = client();
    let name = reference(&server, "strict:1");
    let image = Image::new(vec![noise(1, 100)]);
    let error = client.put_manifest(&name, &image.manifest, &ANON).await.unwrap_err();
    assert!(error.message().starts_with("manifest blob unknown: manifest references sha256:"), "{error}");
    let nonsense = RawManifest::new(media::OCI_MANIFEST, &b"{\"schemaVersion\":2}"[..]);
    let error = client.put_manifest(&name, &nonsense, &ANON).await.unwrap_err();
    assert!(error.message().starts_with("manifest invalid: "), "{error}");
}

/// The futures can be spawned.
#[test]
fn futures_are_send() {
    fn send<T: Send>(_: &T) {}
    let client = client();
    let name: Reference = "127.0.0.1:1/x:1".parse().unwrap();
    let descriptor = Descriptor::of("x", b"");
    send(&client.resolve(&name, None, &ANON));
    send(&client.blob(&name, &descriptor, 0, &ANON));
    send(&client.tags(&name, &ANON));
    send(&client.login("", &ANON));
    send(&push_bytes(&client, &name, &descriptor, &Bytes::new(), &ANON));
}
