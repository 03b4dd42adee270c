//! The pull-through cache.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use barque_model::Reference;
use barque_registry::server::MirrorConfig;
use barque_registry::{ClientConfig, Credentials, Descriptor, media};
use common::image::{Image, index};
use common::script::{Say, Script};
use common::{Server, client, code, http, noise, quick};
use tokio::io::AsyncReadExt as _;

const ANON: Credentials = Credentials::Anonymous;

async fn cache_of(upstream: &str) -> Server {
    let client = ClientConfig { retries: 1, ..quick() };
    let mirror = MirrorConfig { upstream: upstream.to_owned(), credentials: ANON, client };
    Server::with(|config| config.mirror = Some(mirror)).await
}

fn reference(server: &Server, rest: &str) -> Reference {
    format!("{}/{rest}", server.host()).parse().unwrap()
}

#[tokio::test]
async fn fetches_on_a_miss_and_serves_without_the_upstream() {
    let upstream = Server::start().await;
    let client = client();
    let (one, two) = (Image::new(vec![noise(1, 3_000_000), noise(2, 5)]), Image::new(vec![noise(3, 5)]));
    let name = reference(&upstream, "library/app:1");
    for image in [&one, &two] {
        image.push(&client, &name.with_digest(image.manifest.digest), &ANON).await;
    }
    let list = index(&[(&one.manifest, "linux/amd64"), (&two.manifest, "linux/arm64")]);
    client.put_manifest(&name, &list, &ANON).await.unwrap();
    let cache = cache_of(&format!("http://{}", upstream.host())).await;
    let cached = reference(&cache, "library/app:1");
    let amd = "linux/amd64".parse().unwrap();
    let mut upstream = Some(upstream);
    for round in ["from the upstream", "from the cache", "without the upstream"] {
        let resolved = client.resolve(&cached, Some(&amd), &ANON).await.expect(round);
        assert_eq!((resolved.digest, &resolved.manifest), (list.digest, &one.manifest), "{round}");
        for (descriptor, bytes) in one.blobs() {
            assert!(client.blob_bytes(&cached, descriptor, 1 << 24, &ANON).await.expect(round) == bytes, "{round}");
        }
        if round == "from the cache" {
            upstream.take().unwrap().stop().await;
        }
    }
}

#[tokio::test]
async fn follows_a_tag_that_moves_and_outlives_its_upstream() {
    let upstream = Server::start().await;
    let client = client();
    let (old, new) = (Image::new(vec![noise(1, 50)]), Image::new(vec![noise(2, 50)]));
    let name = reference(&upstream, "app:latest");
    old.push(&client, &name, &ANON).await;
    let cache = cache_of(&format!("http://{}", upstream.host())).await;
    let cached = reference(&cache, "app:latest");
    assert_eq!(client.resolve(&cached, None, &ANON).await.unwrap().digest, old.manifest.digest);
    new.push(&client, &name, &ANON).await;
    assert_eq!(client.resolve(&cached, None, &ANON).await.unwrap().digest, new.manifest.digest);
    assert_eq!(client.tags(&cached, &ANON).await.unwrap(), ["latest"]);
    upstream.stop().await;
    assert_eq!(client.resolve(&cached, None, &ANON).await.unwrap().digest, new.manifest.digest);
    assert_eq!(client.tags(&cached, &ANON).await.unwrap(), ["latest"]);
    let gone = client.resolve(&reference(&cache, "other:1"), None, &ANON).await.unwrap_err();
    assert!(gone.message().contains("the upstream failed"), "{gone}");
}

#[tokio::test]
async fn what_the_upstream_lacks_is_missing() {
    let upstream = Server::start().await;
    let cache = cache_of(&upstream.host()).await;
    let response = http(cache.addr, "GET", "/v2/no/such/manifests/x", &[], "").await;
    assert_eq!((response.status().as_u16(), code(&response).as_str()), (404, "MANIFEST_UNKNOWN"));
    let digest = barque_model::Digest::of(b"x");
    let response = http(cache.addr, "GET", &format!("/v2/no/such/blobs/{digest}"), &[], "").await;
    assert_eq!((response.status().as_u16(), code(&response).as_str()), (404, "BLOB_UNKNOWN"));
}

#[tokio::test]
async fn pushes_are_refused() {
    let upstream = Server::start().await;
    let cache = cache_of(&upstream.host()).await;
    let response = http(cache.addr, "POST", "/v2/a/blobs/uploads/", &[], "").await;
    assert_eq!((response.status().as_u16(), code(&response).as_str()), (405, "UNSUPPORTED"));
}

/// An upstream that serves one blob slowly enough for several to want it at once.
async fn slow_upstream(bytes: Vec<u8>, open: Arc<AtomicBool>) -> Script {
    Script::start(move |seen| {
        if seen.method == "HEAD" {
            return Say::head(bytes.len(), &[]);
        }
        while !open.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Say::ok(&bytes)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_clients_share_one_fetch() {
    let bytes = noise(1, 4_000_000);
    let descriptor = Descriptor::of(media::OCI_LAYER, &bytes);
    let open = Arc::new(AtomicBool::new(false));
    let upstream = slow_upstream(bytes.clone(), open.clone()).await;
    let cache = cache_of(&format!("http://{}", upstream.host())).await;
    let name = reference(&cache, "a/b:1");
    let mut readers = Vec::new();
    for _ in 0..6 {
        let (client, name, descriptor) = (client(), name.clone(), descriptor.clone());
        readers.push(tokio::spawn(async move { client.blob_bytes(&name, &descriptor, 1 << 24, &ANON).await }));
    }
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    open.store(true, Ordering::SeqCst);
    for reader in readers {
        assert!(reader.await.unwrap().unwrap() == bytes);
    }
    let fetches = upstream.seen().iter().filter(|seen| seen.method == "GET").count();
    assert_eq!(fetches, 1);
    // Another repository gets it without asking.
    let other = reference(&cache, "c:1");
    assert!(client().blob_bytes(&other, &descriptor, 1 << 24, &ANON).await.unwrap() == bytes);
    assert_eq!(upstream.seen().iter().filter(|seen| seen.method == "GET").count(), 1);
}

#[tokio::test]
async fn a_lying_upstream_poisons_nothing() {
    let bytes = noise(1, 2_000_000);
    let descriptor = Descriptor::of(media::OCI_LAYER, &bytes);
    let mut wrong = bytes.clone();
    wrong[7] ^= 1;
    let upstream = Script::start(move |seen| match seen.method.as_str() {
        "HEAD" => Say::head(wrong.len(), &[]),
        _ => Say::ok(&wrong),
    })
    .await;
    let cache = cache_of(&format!("http://{}", upstream.host())).await;
    let name = reference(&cache, "a:1");
    let config = ClientConfig { retries: 0, ..quick() };
    let client = barque_registry::Client::new(config).unwrap();
    // Not even an unverified reader gets the whole of it.
    let mut blob = client.blob(&name, &descriptor, 0, &ANON).await.unwrap();
    let mut content = Vec::new();
    assert!(blob.read_to_end(&mut content).await.is_err());
    assert!(content.len() < bytes.len());
    let link = cache.root().join(format!("repositories/a/_blobs/sha256/{}", descriptor.digest.hex()));
    assert!(!link.exists());
    let hex = descriptor.digest.hex();
    assert!(!cache.root().join("blobs/sha256").join(&hex[..2]).join(&hex).exists());
    for _ in 0..50 {
        if std::fs::read_dir(cache.root().join("uploads")).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the failed fetch left its upload behind");
}

#[tokio::test]
async fn serves_as_a_mirror_of_docker_hub() {
    // The client asks its mirror for docker.io's names; the cache asks its upstream for the same.
    let upstream = Server::start().await;
    let image = Image::docker(vec![noise(1, 100_000)]);
    image.push(&client(), &reference(&upstream, "library/python:3.7"), &ANON).await;
    let cache = cache_of(&format!("http://{}", upstream.host())).await;
    let config = ClientConfig { mirrors: vec![format!("http://{}", cache.host())], ..quick() };
    let client = barque_registry::Client::new(config).unwrap();
    let name: Reference = "python:3.7".parse().unwrap();
    let resolved = client.resolve(&name, None, &ANON).await.unwrap();
    assert_eq!(resolved.manifest, image.manifest);
    let layer = client.blob_bytes(&name, &resolved.image.layers[0], 1 << 20, &ANON).await.unwrap();
    assert_eq!(layer, image.layers[0].1);
}
