//! Proxies, and lines that break.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use barque_model::Reference;
use barque_registry::{
    BytesSource, Client, ClientConfig, Credentials, Descriptor, ProxyConfig, PushBlob, Pushed, media,
};
use common::image::Image;
use common::script::{Say, Script};
use common::{Server, client, noise, quick};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

const ANON: Credentials = Credentials::Anonymous;

/// A proxy that takes every host for `target`; logs the request lines and proxy credentials.
async fn proxy(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen = log.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.ok()?);
                }
                let text = String::from_utf8(head).ok()?;
                let auth =
                    text.lines().find(|line| line.to_lowercase().starts_with("proxy-authorization")).unwrap_or("");
                seen.lock().unwrap().push(format!("{} {auth}", text.lines().next()?));
                if !text.starts_with("CONNECT") {
                    return None;
                }
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
                let mut upstream = TcpStream::connect(target).await.ok()?;
                copy_bidirectional(&mut stream, &mut upstream).await.ok()
            });
        }
    });
    (addr, log)
}

#[tokio::test]
async fn https_goes_through_a_tunnel() {
    let files = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["registry.test".to_owned()]).unwrap();
    let (cert, key) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    std::fs::write(&cert, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let tls = barque_registry::server::TlsFiles { cert: cert.clone(), key };
    let server = Server::with(|config| config.tls = Some(tls)).await;
    let (addr, log) = proxy(server.addr).await;
    let config = ClientConfig {
        proxy: ProxyConfig { https: Some(format!("http://me:p%40ss@{addr}")), ..ProxyConfig::default() },
        extra_roots: vec![cert],
        ..quick()
    };
    let client = Client::new(config.clone()).unwrap();
    let name: Reference = "registry.test/app:1".parse().unwrap();
    let image = Image::new(vec![noise(1, 100_000)]);
    image.push(&client, &name, &ANON).await;
    assert_eq!(client.resolve(&name, None, &ANON).await.unwrap().manifest, image.manifest);
    let seen = log.lock().unwrap().clone();
    assert!(
        seen.iter().all(|line| line == "CONNECT registry.test:443 HTTP/1.1 Proxy-Authorization: Basic bWU6cEBzcw=="),
        "{seen:?}"
    );

    // The proxy does not make an unknown certificate good.
    let strict = Client::new(ClientConfig { extra_roots: Vec::new(), ..config }).unwrap();
    let error = strict.resolve(&name, None, &ANON).await.unwrap_err();
    assert!(error.message().contains("certificate signed by unknown authority"), "{error}");
    assert!(error.hint().unwrap().contains("certs.d"), "{error:?}");
}

#[tokio::test]
async fn plain_http_names_the_whole_url() {
    let image = Image::new(vec![]);
    let bytes = image.manifest.bytes.clone();
    let script = Script::start(move |seen| {
        assert_eq!(seen.path, "http://plain.test:5000/v2/app/manifests/1");
        assert_eq!(seen.header("proxy-authorization"), Some("Basic dTpw"));
        Say::status(200, &[("Content-Type", media::OCI_MANIFEST)], &bytes)
    })
    .await;
    // HTTPS is tried first; its proxy refuses.
    let config = ClientConfig {
        proxy: ProxyConfig {
            http: Some(format!("u:p@{}", script.host())),
            https: Some(format!("127.0.0.1:{}", common::free_port())),
            no_proxy: String::new(),
        },
        insecure: vec!["plain.test:5000".to_owned()],
        ..quick()
    };
    let client = Client::new(config).unwrap();
    let name: Reference = "plain.test:5000/app:1".parse().unwrap();
    assert_eq!(client.resolve(&name, None, &ANON).await.unwrap().manifest, image.manifest);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named() {
    let script = Script::start(|_| Say::raw("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")).await;
    let proxy = ProxyConfig { https: Some(script.host()), ..ProxyConfig::default() };
    let client = Client::new(ClientConfig { proxy, ..quick() }).unwrap();
    let error = client.resolve(&"registry.test/app:1".parse().unwrap(), None, &ANON).await.unwrap_err();
    assert!(error.message().contains("proxy 127.0.0.1: CONNECT registry.test:443 was answered with"), "{error}");
    assert!(error.message().contains("407"), "{error}");
}

/// A line to `target` whose first `breaks` connections are cut once this many bytes went up.
async fn breaking_line(target: SocketAddr, breaks: usize, after: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let left = Arc::new(AtomicUsize::new(breaks));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let left = left.clone();
            tokio::spawn(async move {
                let upstream = TcpStream::connect(target).await.ok()?;
                let (mut from_client, mut to_client) = stream.into_split();
                let (mut from_server, mut to_server) = upstream.into_split();
                let down = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                let mut sent = 0;
                let mut buffer = vec![0; 16 * 1024];
                loop {
                    let count = from_client.read(&mut buffer).await.ok()?;
                    if count == 0 {
                        return None;
                    }
                    to_server.write_all(&buffer[..count]).await.ok()?;
                    sent += count;
                    let cut = sent > after
                        && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
                    if cut {
                        down.abort();
                        return Some(());
                    }
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn an_upload_is_resumed_where_it_broke() {
    let server = Server::start().await;
    let bytes = noise(1, 12_000_000);
    let line = breaking_line(server.addr, 3, 3_000_000).await;
    let name: Reference = format!("{line}/big/app:1").parse().unwrap();
    let descriptor = Descriptor::of(media::OCI_LAYER, &bytes);
    let opened = Arc::new(Mutex::new(Vec::new()));
    let source = Logged { bytes: bytes.clone().into(), opened: opened.clone() };
    let blob = PushBlob { reference: &name, descriptor: &descriptor, source: &source, mount_from: &[], progress: None };
    assert_eq!(client().push_blob(blob, &ANON).await.unwrap(), Pushed::Uploaded);
    let opened = opened.lock().unwrap().clone();
    assert_eq!((opened.len(), opened[0]), (4, 0));
    assert!(opened.is_sorted() && opened[1] >= 1_000_000, "each try goes on where the last one ended: {opened:?}");
    let direct: Reference = format!("{}/big/app:1", server.host()).parse().unwrap();
    assert!(client().blob_bytes(&direct, &descriptor, 1 << 24, &ANON).await.unwrap() == bytes);
}

#[tokio::test]
async fn an_upload_survives_a_restart_of_the_registry() {
    let server = Server::start().await;
    let bytes = noise(2, 2_000_000);
    let response = common::http(server.addr, "POST", "/v2/a/blobs/uploads/", &[], "").await;
    let location = common::header(&response, "location").to_owned();
    common::http(server.addr, "PATCH", &location, &[], bytes[..1_500_000].to_vec()).await;
    let root = server.root();
    let dir = server.stop().await;
    let server = Server::with(|config| config.root = root).await;
    let response = common::http(server.addr, "GET", &location, &[], "").await;
    assert_eq!(common::header(&response, "range"), "0-1499999");
    let digest = barque_model::Digest::of(&bytes);
    let path = format!("{location}?digest={digest}");
    let response = common::http(server.addr, "PUT", &path, &[], bytes[1_500_000..].to_vec()).await;
    assert_eq!(response.status(), 201);
    drop(dir);
}

/// A source that remembers where it was opened.
struct Logged {
    bytes: bytes::Bytes,
    opened: Arc<Mutex<Vec<u64>>>,
}

impl barque_registry::BlobSource for Logged {
    fn open(&self, offset: u64) -> barque_registry::client::SourceFuture<'_> {
        self.opened.lock().unwrap().push(offset);
        let source = BytesSource(self.bytes.clone());
        Box::pin(async move { source.open(offset).await })
    }
}

#[tokio::test]
async fn a_source_that_is_too_short_is_not_pushed() {
    let server = Server::start().await;
    let bytes = noise(1, 5_000_000);
    let descriptor = Descriptor::of(media::OCI_LAYER, &bytes);
    let name: Reference = format!("{}/short:1", server.host()).parse().unwrap();
    let source = BytesSource(bytes[..4_000_000].to_vec().into());
    let blob = PushBlob { reference: &name, descriptor: &descriptor, source: &source, mount_from: &[], progress: None };
    let config = ClientConfig { retries: 1, ..quick() };
    let error = Client::new(config).unwrap().push_blob(blob, &ANON).await.unwrap_err();
    assert!(error.message().contains("content ended 1000000 bytes early"), "{error}");
    assert!(!client().blob_exists(&name, descriptor.digest, &ANON).await.unwrap());
}
