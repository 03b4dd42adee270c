//! The client against a scripted server: reuse, negotiation, streams, hijacking, errors.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use barque_api::ApiVersion;
use barque_client::{Client, ClientOptions, Host, Upload};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

const PING: &str = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nOstype: linux\r\nContent-Length: 0\r\n\r\n";

/// Serves connections with `handler`, which gets the head of each request and the stream.
struct Fake {
    _dir: tempfile::TempDir,
    path: PathBuf,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    fn start<F, Fut>(handler: F) -> Fake
    where
        F: Fn(String, Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Stream>> + Send,
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, handler) = (connections.clone(), Arc::new(handler));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let handler = handler.clone();
                tokio::spawn(async move {
                    let mut stream = Stream(stream);
                    while let Some(head) = stream.head().await {
                        if head.starts_with("HEAD /_ping") {
                            stream.send(PING).await;
                            continue;
                        }
                        match handler(head, stream).await {
                            Some(back) => stream = back,
                            None => return,
                        }
                    }
                });
            }
        });
        Fake { _dir: dir, path, connections }
    }

    fn client(&self) -> Client {
        Client::new(Host::Unix(self.path.clone()))
    }
}

struct Stream(UnixStream);

impl Stream {
    async fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        String::from_utf8(head).ok()
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn json(&mut self, status: &str, body: &str) {
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send(&format!("{head}{body}")).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn one_connection_serves_many_requests_in_the_negotiated_version() {
    let fake = Fake::start(|head, mut stream| async move {
        assert!(head.starts_with("GET /v1.41/containers/json?all=1 HTTP/1.1\r\n"), "{head}");
        stream.json("200 OK", r#"[{"Id":"abc","Names":["/x"]}]"#).await;
        Some(stream)
    });
    let client = fake.client();
    let query = barque_api::container::ContainerListQuery { all: true, ..Default::default() };
    for _ in 0..5 {
        assert_eq!(client.container_list(&query).await.unwrap()[0].id, "abc");
    }
    assert_eq!(client.version_used().await.unwrap(), ApiVersion::new(1, 41));
    assert_eq!(fake.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_kept_connection_that_the_server_closed_is_replaced() {
    let fake = Fake::start(|_, mut stream| async move {
        stream.json("200 OK", "{}").await;
        None
    });
    let client = fake.client();
    for _ in 0..5 {
        client.info().await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(fake.connections.load(Ordering::SeqCst), 5);
}

#[tokio::test(flavor = "current_thread")]
async fn refusals_keep_status_and_sentence() {
    let fake = Fake::start(|head, mut stream| async move {
        if head.contains("/none/") {
            stream.json("404 Not Found", r#"{"message":"No such container: none"}"#).await;
        } else if head.contains("/page/") {
            stream.json("502 Bad Gateway", "<html>oops</html>").await;
        } else if head.contains("/text/") {
            stream.json("500 Oops", "plain sentence\n").await;
        } else {
            stream.send("HTTP/1.1 304 Not Modified\r\n\r\n").await;
        }
        Some(stream)
    });
    let client = fake.client();
    let error = client.container_inspect("none", false).await.unwrap_err();
    assert_eq!((error.status(), error.message()), (Some(404), "No such container: none"));
    let error = client.container_inspect("page", false).await.unwrap_err();
    assert!(error.message().starts_with("request returned 502 Bad Gateway for API route /v1.41"), "{error}");
    let error = client.container_inspect("text", false).await.unwrap_err();
    assert_eq!(error.for_user(), "Error response from daemon: plain sentence");
    client.container_start("running", &Default::default()).await.unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_missing_daemon_is_told_apart() {
    let client = Client::new(Host::parse("unix:///nonexistent/socket").unwrap());
    let error = client.info().await.unwrap_err();
    assert!(error.is_connect() && error.status().is_none());
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::NotFound));
    assert_eq!(
        error.message(),
        "Cannot connect to the Docker daemon at unix:///nonexistent/socket. Is the docker daemon running?"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn documents_arrive_one_by_one_and_a_broken_stream_is_an_error() {
    let fake = Fake::start(|head, mut stream| async move {
        stream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        stream.send("13\r\n{\"status\":\"one\"}\r\n{\r\n").await;
        stream.send("f\r\n\"status\":\"two\"}\r\n").await;
        if head.contains("broken") {
            stream.send("4\r\n{\"st\r\n0\r\n\r\n").await;
        } else {
            stream.send("0\r\n\r\n").await;
        }
        Some(stream)
    });
    let client = fake.client();
    for name in ["fine", "broken"] {
        let query = barque_api::image::ImageCreateQuery { from_image: name.into(), ..Default::default() };
        let mut stream = client.image_pull(&query, None).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().status, "one");
        assert_eq!(stream.next().await.unwrap().unwrap().status, "two");
        match stream.next().await {
            Ok(None) => assert_eq!(name, "fine"),
            Err(error) => assert!(name == "broken" && error.message().contains("middle of a document"), "{error}"),
            Ok(Some(more)) => panic!("{more:?}"),
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn uploads_are_sent_in_chunks() {
    let fake = Fake::start(|head, mut stream| async move {
        assert!(head.starts_with("PUT /v1.41/containers/a/archive?path=%2Ftmp"), "{head}");
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n0\r\n\r\n") {
            body.push(stream.0.read_u8().await.unwrap());
        }
        assert!(body.len() > 200_000);
        stream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        Some(stream)
    });
    let query = barque_api::container::CopyQuery { path: "/tmp".into(), ..Default::default() };
    let content = std::io::Cursor::new(vec![7u8; 200_000]);
    fake.client().container_archive_put("a", &query, Upload::reader(content)).await.unwrap();
}

/// Both forms of a hijack, half-closed by the client while the server still talks.
#[tokio::test(flavor = "current_thread")]
async fn hijacked_connections_are_raw_and_close_by_halves() {
    let fake = Fake::start(|head, mut stream| async move {
        assert!(head.contains("Upgrade: tcp") && head.contains("Connection: Upgrade"), "{head}");
        let status = if head.contains("/old/") { "200 OK" } else { "101 UPGRADED" };
        let kind = barque_api::stdcopy::MULTIPLEXED;
        stream.send(&format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n\r\nearly ")).await;
        let mut input = Vec::new();
        stream.0.read_to_end(&mut input).await.unwrap();
        stream.send(&format!("got {}", String::from_utf8_lossy(&input))).await;
        None
    });
    let client = fake.client();
    for id in ["old", "new"] {
        let mut hijacked = client.container_attach(id, &Default::default()).await.unwrap();
        assert!(hijacked.is_multiplexed());
        hijacked.writer.write_all(b"0\r\nHTTP/1.1 input").await.unwrap();
        hijacked.writer.shutdown().await.unwrap();
        let mut output = String::new();
        hijacked.reader.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "early got 0\r\nHTTP/1.1 input");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_refused_hijack_gives_the_sentence() {
    let fake = Fake::start(|_, mut stream| async move {
        stream.json("409 Conflict", r#"{"message":"container is paused"}"#).await;
        Some(stream)
    });
    let error = fake.client().exec_start("x", &Default::default()).await.map(|_| ()).unwrap_err();
    assert_eq!((error.status(), error.message()), (Some(409), "container is paused"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_wait_is_accepted_before_it_ends() {
    let fake = Fake::start(|head, mut stream| async move {
        assert!(head.starts_with("POST /v1.30/containers/a/wait?condition=removed"), "{head}");
        assert!(head.contains("x-meta: 7"), "{head}");
        stream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        stream.send("10\r\n{\"StatusCode\":3}\r\n0\r\n\r\n").await;
        Some(stream)
    });
    let options = ClientOptions {
        version: Some(ApiVersion::new(1, 30)),
        headers: vec![("X-Meta".into(), "7".into())],
        ..Default::default()
    };
    let client = Client::with_options(Host::Unix(fake.path.clone()), options);
    let wait = client.container_wait("a", "removed").await.unwrap();
    assert_eq!(wait.finish().await.unwrap().status_code, 3);
}
