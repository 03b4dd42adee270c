//! The client against servers that lie, stall, flood and lead astray: a clear error, soon, and no secret told.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use barque_model::{Digest, ErrorKind, Reference};
use barque_registry::{Client, ClientConfig, Credentials, Descriptor, media};
use common::image::Image;
use common::script::{Say, Script, Seen};
use common::{client, noise, quick};
use tokio::io::AsyncReadExt as _;

const ANON: Credentials = Credentials::Anonymous;
const MANIFEST: (&str, &str) = ("Content-Type", media::OCI_MANIFEST);

fn name(script: &Script) -> Reference {
    format!("{}/evil/app:1", script.host()).parse().unwrap()
}

/// Reads a blob of a scripted registry to its end.
async fn read(client: &Client, script: &Script, descriptor: &Descriptor) -> Result<Vec<u8>, String> {
    let blob = client.blob(&name(script), descriptor, 0, &ANON).await;
    let mut blob = blob.map_err(|error| error.chain())?.verified();
    let mut content = Vec::new();
    match blob.read_to_end(&mut content).await {
        Ok(_) => Ok(content),
        Err(error) => Err(error.to_string()),
    }
}

async fn manifest_error(answer: impl Fn(&Seen) -> Say + Send + Sync + 'static) -> String {
    let script = Script::start(answer).await;
    client().resolve(&name(&script), None, &ANON).await.unwrap_err().chain()
}

#[tokio::test]
async fn manifests_that_are_not_what_they_claim() {
    let image = Image::new(vec![noise(1, 10)]);
    let bytes = image.manifest.bytes.clone();
    let other = Digest::of(b"other").to_string();
    let error = manifest_error(move |_| Say::status(200, &[MANIFEST, ("Docker-Content-Digest", &other)], &bytes)).await;
    assert!(error.starts_with("manifest verification failed for digest sha256:"), "{error}");

    let error = manifest_error(|_| Say::status(200, &[MANIFEST], b"{\"schemaVersion\": 2,")).await;
    assert!(error.starts_with("malformed manifest: "), "{error}");
    let error = manifest_error(|_| Say::ok("<html>welcome</html>")).await;
    assert!(error.starts_with("malformed manifest: "), "{error}");
    let error = manifest_error(|_| {
        Say::status(200, &[("Content-Type", media::DOCKER_SCHEMA1_SIGNED)], b"{\"schemaVersion\":1,\"fsLayers\":[]}")
    });
    assert!(error.await.contains("schema 1, which was withdrawn"));
    let deep = "[".repeat(100_000);
    let error = manifest_error(move |_| Say::status(200, &[MANIFEST], &deep)).await;
    assert!(error.starts_with("malformed manifest: "), "{error}");

    let image = Image::new(vec![noise(1, 10)]);
    let script = Script::start(move |_| Say::status(200, &[MANIFEST], &image.manifest.bytes)).await;
    let pinned = name(&script).with_digest(Digest::of(b"what was asked for"));
    let error = client().resolve(&pinned, None, &ANON).await.unwrap_err();
    assert!(error.message().contains("manifest verification failed"), "{error}");
}

#[tokio::test]
async fn huge_and_endless_manifests_are_cut_off() {
    let start = Instant::now();
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: 99999999999\r\n\r\n", media::OCI_MANIFEST);
    let error = manifest_error(move |_| Say::raw(&head)).await;
    assert!(error.contains("answer is larger than 4194304 bytes"), "{error}");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(65536));
    let error =
        manifest_error(move |_| Say::endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &chunk)).await;
    assert!(error.contains("answer is larger than 4194304 bytes"), "{error}");
    // Headers without end.
    let error =
        manifest_error(|_| Say::endless("HTTP/1.1 200 OK\r\n", "X-Flood: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n")).await;
    assert!(error.contains("manifests/1"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test]
async fn blobs_of_the_wrong_digest_or_size() {
    let good = noise(1, 100_000);
    let descriptor = Descriptor::of(media::OCI_LAYER, &good);
    let client = client();

    let mut flipped = good.clone();
    flipped[99_999] ^= 1;
    let script = Script::start(move |_| Say::ok(&flipped)).await;
    let error = read(&client, &script, &descriptor).await.unwrap_err();
    assert!(error.starts_with("filesystem layer verification failed for digest sha256:"), "{error}");
    let mut blob = client.blob(&name(&script), &descriptor, 0, &ANON).await.unwrap().verified();
    let error = loop {
        match blob.chunk().await {
            Ok(chunk) => assert!(chunk.is_some(), "ended without an error"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "the kind survives");

    let longer = noise(1, 100_001);
    let script = Script::start(move |_| Say::ok(&longer)).await;
    let error = read(&client, &script, &descriptor).await.unwrap_err();
    assert!(error.contains("has 100001 bytes where its manifest says 100000"), "{error}");

    let shorter = noise(1, 99_999);
    let script = Script::start(move |_| Say::ok(&shorter)).await;
    let error = read(&client, &script, &descriptor).await.unwrap_err();
    assert!(error.contains("has 99999 bytes where its manifest says 100000"), "{error}");

    let piece = format!("{:x}\r\n{}\r\n", 65536, "x".repeat(65536));
    let script =
        Script::start(move |_| Say::endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &piece)).await;
    let error = read(&client, &script, &descriptor).await.unwrap_err();
    assert!(error.contains("is larger than the 100000 bytes its manifest says"), "{error}");
}

#[tokio::test]
async fn an_empty_blob_is_verified_too() {
    let descriptor = Descriptor::new(media::OCI_LAYER, Digest::of(b"not empty"), 0);
    let script = Script::start(|_| Say::ok("")).await;
    let error = read(&client(), &script, &descriptor).await.unwrap_err();
    assert!(error.contains("verification failed"), "{error}");
}

/// Serves `bytes`, at most `piece` of them per connection, honouring ranges or not.
fn flaky(bytes: Vec<u8>, piece: usize, ranges: bool) -> impl Fn(&Seen) -> Say {
    move |seen| {
        let start = seen
            .header("range")
            .filter(|_| ranges)
            .map_or(0, |range| range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap());
        let (total, left) = (bytes.len(), bytes.len() - start);
        let mut head = match start {
            0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n"),
            _ => format!(
                "HTTP/1.1 206 Partial\r\nContent-Length: {left}\r\nContent-Range: bytes {start}-{}/{total}\r\n\r\n",
                total - 1
            ),
        }
        .into_bytes();
        head.extend_from_slice(&bytes[start..total.min(start + piece)]);
        Say::raw(head)
    }
}

#[tokio::test]
async fn truncated_bodies_are_resumed() {
    let good = noise(1, 1_000_000);
    let descriptor = Descriptor::of(media::OCI_LAYER, &good);
    let script = Script::start(flaky(good.clone(), 300_000, true)).await;
    assert!(read(&client(), &script, &descriptor).await.unwrap() == good);
    let ranges: Vec<_> = script.seen().iter().map(|seen| seen.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges.len(), 4);
    assert_eq!((ranges[0].as_deref(), ranges[1].as_deref()), (None, Some("bytes=300000-")));

    // A server that never gets further gives an error in the end.
    let script = Script::start(flaky(good.clone(), 300_000, false)).await;
    let error = read(&client(), &script, &descriptor).await.unwrap_err();
    assert!(error.contains("Get blob sha256:"), "{error}");
    assert_eq!(script.seen().len(), 6, "the first try and five more");
}

#[tokio::test]
async fn a_wrong_range_is_not_taken() {
    let good = noise(1, 1_000_000);
    let descriptor = Descriptor::of(media::OCI_LAYER, &good);
    let script = Script::start(|_| {
        Say::raw("HTTP/1.1 206 P\r\nContent-Length: 500000\r\nContent-Range: bytes 700000-1199999/1200000\r\n\r\n")
    })
    .await;
    let error = client().blob(&name(&script), &descriptor, 500_000, &ANON).await.err().unwrap();
    assert!(error.message().contains("another range than asked for"), "{error}");
}

#[tokio::test]
async fn a_registry_that_falls_silent_is_given_up() {
    let config = ClientConfig {
        idle_timeout: Duration::from_millis(100),
        response_timeout: Duration::from_millis(100),
        retries: 1,
        ..quick()
    };
    let client = Client::new(config).unwrap();
    let descriptor = Descriptor::of(media::OCI_LAYER, &noise(1, 1000));
    let script = Script::start(|_| Say::stall("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nxxx")).await;
    let error = read(&client, &script, &descriptor).await.unwrap_err();
    assert!(error.contains("the registry stopped sending"), "{error}");
    let script = Script::start(|_| Say::stall("")).await;
    let error = read(&client, &script, &descriptor).await.unwrap_err();
    assert!(error.contains("timeout awaiting response headers"), "{error}");
}

#[tokio::test]
async fn a_download_that_falls_silent_is_given_up() {
    use futures_util::StreamExt as _;

    let client = Client::new(ClientConfig { idle_timeout: Duration::from_millis(100), ..quick() }).unwrap();
    let script = Script::start(|_| Say::stall("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nxxx")).await;
    let mut download = client.download(&format!("http://{}/f", script.host())).await.unwrap();
    assert_eq!(&download.next().await.unwrap().unwrap()[..], b"xxx");
    let ended = tokio::time::timeout(Duration::from_secs(20), download.next()).await.unwrap();
    let error = ended.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect() {
    let bytes = noise(1, 1000);
    let descriptor = Descriptor::of(media::OCI_LAYER, &bytes);
    let content = bytes.clone();
    let elsewhere = Script::start(move |_| Say::ok(&content)).await;
    // Another port is another host.
    let target = format!("http://{}/cdn?signature=x", elsewhere.host());
    let script = Script::start(move |seen| {
        if seen.header("authorization").is_none() {
            return Say::status(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], "");
        }
        Say::status(307, &[("Location", &target)], "")
    })
    .await;
    let creds = Credentials::basic("me", "hunter2");
    let mut blob = client().blob(&name(&script), &descriptor, 0, &creds).await.unwrap();
    let mut content = Vec::new();
    blob.read_to_end(&mut content).await.unwrap();
    assert!(content == bytes);
    assert!(script.seen().iter().any(|seen| seen.header("authorization").is_some()));
    for seen in elsewhere.seen() {
        assert_eq!(seen.path, "/cdn?signature=x");
        assert_eq!(seen.header("authorization"), None, "told another host the password");
    }
}

#[tokio::test]
async fn a_challenge_of_a_redirect_target_gets_nothing() {
    let descriptor = Descriptor::of(media::OCI_LAYER, b"x");
    let elsewhere = Script::start(|_| Say::status(401, &[("WWW-Authenticate", "Basic realm=\"phish\"")], "")).await;
    let target = format!("http://{}/", elsewhere.host());
    let script = Script::start(move |_| Say::status(302, &[("Location", &target)], "")).await;
    let creds = Credentials::basic("me", "hunter2");
    assert!(client().blob(&name(&script), &descriptor, 0, &creds).await.is_err());
    assert!(elsewhere.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(elsewhere.seen().len(), 1);
}

#[tokio::test]
async fn redirects_have_an_end() {
    let script = Script::start(|seen| Say::status(302, &[("Location", &format!("{}x", seen.path))], "")).await;
    let error = client().resolve(&name(&script), None, &ANON).await.unwrap_err();
    assert!(error.message().contains("stopped after 10 redirects"), "{error}");
    assert_eq!(script.seen().len(), 11);
    let script = Script::start(|_| Say::status(302, &[("Location", "file:///etc/passwd")], "")).await;
    let error = client().resolve(&name(&script), None, &ANON).await.unwrap_err();
    assert!(error.message().contains("refusing the redirect"), "{error}");
    let script = Script::start(|_| Say::status(302, &[], "")).await;
    let error = client().resolve(&name(&script), None, &ANON).await.unwrap_err();
    assert!(error.message().contains("redirect without a target"), "{error}");
}

#[tokio::test]
async fn endless_refusals_end() {
    let script = Script::start(|_| Say::status(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], "")).await;
    let creds = Credentials::basic("me", "wrong");
    let error = client().resolve(&name(&script), None, &creds).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(script.seen().len(), 2, "once without, once with credentials");
    let script = Script::start(|_| Say::status(401, &[], "")).await;
    assert!(client().resolve(&name(&script), None, &creds).await.is_err());
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test]
async fn a_busy_registry_is_obeyed() {
    let image = Image::new(vec![]);
    let tries = Arc::new(AtomicUsize::new(0));
    let (count, bytes) = (tries.clone(), image.manifest.bytes.clone());
    let script = Script::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Say::status(429, &[("Retry-After", "1")], "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\"}]}"),
        1 => Say::status(503, &[], ""),
        _ => Say::status(200, &[MANIFEST], &bytes),
    })
    .await;
    let start = Instant::now();
    client().resolve(&name(&script), None, &ANON).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After was not obeyed");
    assert_eq!(tries.load(Ordering::SeqCst), 3);

    let script = Script::start(|_| {
        Say::status(
            429,
            &[("Retry-After", "3600")],
            "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"message\":\"slow down\"}]}",
        )
    })
    .await;
    let error = client().resolve(&name(&script), None, &ANON).await.unwrap_err();
    assert_eq!(error.message(), "toomanyrequests: slow down");
    assert_eq!(error.hint(), Some("the registry asks to wait 3600 seconds"));
    assert_eq!(script.seen().len(), 1, "an hour is not waited for");
}

#[tokio::test]
async fn a_bad_gateway_is_asked_again_and_a_bad_request_is_not() {
    let script = Script::start(|_| Say::status(502, &[], "")).await;
    let error = client().resolve(&name(&script), None, &ANON).await.unwrap_err();
    assert!(error.message().ends_with("received unexpected HTTP status: 502 Bad Gateway"), "{error}");
    assert_eq!(script.seen().len(), 6);
    let script =
        Script::start(|_| Say::status(400, &[], "{\"errors\":[{\"code\":\"NAME_INVALID\",\"message\":\"no\"}]}")).await;
    let error = client().resolve(&name(&script), None, &ANON).await.unwrap_err();
    assert_eq!(error.message(), "name invalid: no");
    assert_eq!(script.seen().len(), 1);
}

#[tokio::test]
async fn nobody_there() {
    let port = common::free_port();
    let reference: Reference = format!("127.0.0.1:{port}/x:1").parse().unwrap();
    let error = client().resolve(&reference, None, &ANON).await.unwrap_err();
    let expected =
        format!("Get \"http://127.0.0.1:{port}/v2/\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!((error.message(), error.kind()), (expected.as_str(), ErrorKind::Unavailable));
    assert!(error.hint().unwrap().contains("nothing listens there"));
}

#[tokio::test]
async fn mirrors_fail_over_and_every_try_is_told() {
    let image = Image::new(vec![noise(1, 10)]);
    let bytes = image.manifest.bytes.clone();
    let empty =
        Script::start(|_| Say::status(404, &[], "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"no\"}]}"))
            .await;
    let liar = Script::start(|_| Say::status(200, &[MANIFEST], "{}")).await;
    let good = Script::start(move |seen| match seen.path.contains("manifests") {
        true => Say::status(200, &[MANIFEST], &bytes),
        false => Say::ok("{}"),
    })
    .await;
    let dead = format!("http://127.0.0.1:{}", common::free_port());
    let urls = |scripts: &[&Script]| scripts.iter().map(|s| format!("http://{}", s.host())).collect::<Vec<_>>();
    let mut mirrors = vec![dead.clone()];
    mirrors.extend(urls(&[&empty, &liar, &good]));
    // A closed proxy stands for a registry that cannot be reached.
    let proxy = barque_registry::ProxyConfig { https: Some(dead.clone()), ..Default::default() };
    let client = Client::new(ClientConfig { mirrors, proxy: proxy.clone(), ..quick() }).unwrap();
    let reference: Reference = "library/app:1".parse().unwrap();
    let creds = Credentials::basic("me", "hunter2");
    assert_eq!(client.resolve(&reference, None, &creds).await.unwrap().manifest, image.manifest);
    assert_eq!(good.seen()[0].path, "/v2/library/app/manifests/1");
    // The mirror that had it is asked first from now on.
    let before = empty.seen().len();
    client.blob(&reference, &Descriptor::of("x", b"{}"), 0, &creds).await.unwrap();
    assert_eq!(empty.seen().len(), before);
    for script in [&empty, &liar, &good] {
        assert!(script.seen().iter().all(|seen| seen.header("authorization").is_none()), "secrets are not for mirrors");
    }

    let mut mirrors = vec![dead];
    mirrors.extend(urls(&[&empty]));
    let client = Client::new(ClientConfig { mirrors, proxy, retries: 0, ..quick() }).unwrap();
    let error = client.resolve(&reference, None, &ANON).await.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(error.message().starts_with("Get \"https://registry-1.docker.io/v2/\": "), "{error}");
    for part in ["connection refused", &empty.host(), "manifest unknown: no", "https://registry-1.docker.io"] {
        assert!(hint.contains(part), "{part} is missing in: {hint}");
    }
}

#[tokio::test]
async fn secrets_are_not_sent_in_the_clear() {
    let realm = Script::start(|_| Say::ok("{\"token\":\"t\"}")).await;
    // The token server's name is not loopback's, so it would have to be encrypted.
    let challenge = format!("Bearer realm=\"http://tokens.example:{}/token\"", realm.addr.port());
    let script = Script::start(move |_| Say::status(401, &[("WWW-Authenticate", &challenge)], "")).await;
    let creds = Credentials::basic("me", "hunter2");
    let error = client().resolve(&name(&script), None, &creds).await.unwrap_err();
    assert!(error.message().contains("credentials are not sent to the token server"), "{error}");
    assert!(realm.seen().is_empty());
}

#[tokio::test]
async fn lists_that_do_not_end_or_lead_away() {
    let script = Script::start(|seen| {
        let next = format!("<{}x>; rel=\"next\"", seen.path);
        Say::status(200, &[("Link", &next)], "{\"tags\":[\"a\"]}")
    })
    .await;
    let error = client().tags(&name(&script), &ANON).await.unwrap_err();
    assert!(error.message().contains("the list does not end"), "{error}");
    let script = Script::start(|_| Say::status(200, &[("Link", "<http://evil.example/>; rel=next")], "{}")).await;
    let error = client().tags(&name(&script), &ANON).await.unwrap_err();
    assert!(error.message().contains("bad link to the next page"), "{error}");
    let script = Script::start(|_| Say::ok("{\"tags\": 7}")).await;
    assert!(client().tags(&name(&script), &ANON).await.unwrap_err().message().contains("malformed answer"));
    let script = Script::start(|_| Say::ok("{\"name\":\"x\",\"tags\":null}")).await;
    assert!(client().tags(&name(&script), &ANON).await.unwrap().is_empty());
}

#[tokio::test]
async fn terminal_escapes_in_messages_are_disarmed() {
    let body = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"\\u001b]0;owned\\u0007bad\\nline\"}]}";
    let script = Script::start(move |_| Say::status(403, &[], body)).await;
    let error = client().resolve(&name(&script), None, &ANON).await.unwrap_err();
    assert!(error.message().ends_with("denied: ]0;ownedbad line"), "{error:?}");
    assert!(!error.message().contains(char::is_control));
}

#[tokio::test]
async fn index_entries_are_checked() {
    let image = Image::new(vec![]);
    let mut entry = image.manifest.descriptor();
    entry.size += 1;
    entry.platform = Some(barque_model::Platform::host());
    let index =
        serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry]}).to_string();
    let bytes = image.manifest.bytes.clone();
    let script = Script::start(move |seen| match seen.path.ends_with("/1") {
        true => Say::status(200, &[("Content-Type", media::OCI_INDEX)], &index),
        false => Say::status(200, &[MANIFEST], &bytes),
    })
    .await;
    let error = client().resolve(&name(&script), None, &ANON).await.unwrap_err();
    assert!(error.message().contains("where the index says"), "{error}");
}

#[tokio::test]
async fn uploads_to_strange_places() {
    // A registry that sends the upload elsewhere: the bytes may go there, the password may not.
    let elsewhere = Script::start(|_| Say::status(201, &[], "")).await;
    let target = format!("http://{}/put?sig=1", elsewhere.host());
    let script = Script::start(move |seen| match (seen.method.as_str(), seen.header("authorization")) {
        (_, None) => Say::status(401, &[("WWW-Authenticate", "Basic realm=\"x\"")], ""),
        ("HEAD", _) => Say::raw("HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"),
        _ => Say::status(202, &[("Location", &target)], ""),
    })
    .await;
    let bytes = bytes::Bytes::from(noise(1, 1000));
    let descriptor = Descriptor::of(media::OCI_LAYER, &bytes);
    let creds = Credentials::basic("me", "hunter2");
    common::image::push_bytes(&client(), &name(&script), &descriptor, &bytes, &creds).await.unwrap();
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(seen[0].path, format!("/put?sig=1&digest=sha256%3A{}", descriptor.digest.hex()));
    assert!(seen[0].body == bytes);

    let script = Script::start(|seen| match seen.method.as_str() {
        "HEAD" => Say::raw("HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"),
        _ => Say::status(202, &[], ""),
    })
    .await;
    let error = common::image::push_bytes(&client(), &name(&script), &descriptor, &bytes, &ANON).await.unwrap_err();
    assert!(error.message().contains("no Location in the answer"), "{error}");
}
