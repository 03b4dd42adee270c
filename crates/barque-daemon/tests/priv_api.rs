//! The API over a unix socket on a real engine: life of a container, streams, files, networks, errors.

#[path = "../../barque-engine/tests/common/mod.rs"]
mod common;

use std::path::Path;

use barque_api::container::{
    AttachQuery, ContainerCreateQuery, ContainerCreateRequest, ContainerListQuery, CopyQuery, LogsQuery, PathStat,
    RemoveQuery, StatsQuery, StopQuery,
};
use barque_api::exec::ExecCreateRequest;
use barque_api::image::ImageCreateQuery;
use barque_api::stdcopy::{Decoder, Stream};
use barque_api::{ApiVersion, json};
use barque_client::{Client, ClientOptions, Host, Request, TlsFiles, Upload};
use barque_daemon::config::{Values, merge};
use barque_daemon::{Daemon, DaemonConfig, Defaults, Handle, Product, Settings};
use barque_engine::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Runs a test body with a daemon on scratch roots, as root, in a network namespace of its own.
fn with_daemon(body: impl AsyncFn(Client, &Path) + Send + Sync) {
    on_machine(async |dir| {
        let (client, handle, served) = start(dir).await;
        body(client, dir).await;
        handle.shutdown();
        served.await.unwrap().unwrap();
    });
}

/// Runs a body on a machine of its own; its daemon takes its socket away.
fn on_machine(body: impl AsyncFn(&Path) + Send + Sync) {
    common::on_machine(async |dir| {
        body(dir).await;
        assert!(!dir.join("api.sock").exists(), "the socket is left behind");
    });
}

async fn start(dir: &Path) -> (Client, Handle, JoinHandle<barque_model::Result<()>>) {
    start_with(dir, r#"{"live-restore": false, "shutdown-timeout": 5}"#).await
}

/// As the configuration file `file` says; the unix socket is there in any case.
fn settings(dir: &Path, file: &str) -> Settings {
    let socket = dir.join("api.sock");
    let defaults = Defaults {
        data_root: dir.join("data"),
        exec_root: dir.join("exec"),
        pidfile: dir.join("pid"),
        hosts: vec![format!("unix://{}", socket.display())],
        cert_dir: dir.to_owned(),
    };
    merge(&Values::default(), Some(file), &defaults).unwrap()
}

async fn start_with(dir: &Path, file: &str) -> (Client, Handle, JoinHandle<barque_model::Result<()>>) {
    let settings = settings(dir, file);
    let socket = dir.join("api.sock");
    let mut config = settings.engine_config();
    config.cgroup_parent = Some(format!("/{}", common::cgroup_parent()));
    let daemon = Daemon::bind(DaemonConfig { settings, product: Product::default(), activated: vec![] }).unwrap();
    let handle = daemon.handle();
    let engine = Engine::open(config, common::spawner()).await.unwrap();
    let served = tokio::spawn(daemon.serve(engine));
    let client = Client::new(Host::Unix(socket));
    import(&client).await;
    (client, handle, served)
}

/// Makes the image `tiny:1` of busybox.
async fn import(client: &Client) {
    let mut tar = tar::Builder::new(Vec::new());
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    tar.append_data(&mut header, "bin/busybox", &busybox[..]).unwrap();
    for name in ["sh", "cat", "echo", "sleep", "true", "false"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    let query = ImageCreateQuery {
        from_src: "-".into(),
        repo: "tiny".into(),
        tag: "1".into(),
        changes: vec!["CMD [\"sh\"]".into(), "ENV PATH=/bin".into(), "LABEL x=y".into()],
        ..Default::default()
    };
    let archive = Upload::bytes(tar.into_inner().unwrap());
    client.image_import(&query, archive).await.unwrap().finish().await.unwrap();
}

fn request(text: &str) -> ContainerCreateRequest {
    json::from_str(text).unwrap()
}

async fn create(client: &Client, name: &str, text: &str) -> String {
    let query = ContainerCreateQuery { name: name.into(), ..Default::default() };
    client.container_create(&query, &request(text)).await.unwrap().id
}

/// Splits a multiplexed stream.
fn demultiplex(bytes: &[u8]) -> (String, String) {
    let mut decoder = Decoder::new();
    decoder.push(bytes);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some((stream, piece)) = decoder.next_piece().unwrap() {
        if stream == Stream::Stderr { &mut err } else { &mut out }.extend_from_slice(&piece);
    }
    assert!(decoder.is_at_boundary());
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn a_container_from_creation_to_removal() {
    with_daemon(async |client, _dir| {
        let text = r#"{"Image":"tiny:1","Cmd":["sh","-c","echo out; echo err >&2; sleep 0.2; exit 7"],
            "Labels":{"a":"b"},"HostConfig":{"NetworkMode":"none"}}"#;
        let id = create(&client, "one", text).await;
        let wait = client.container_wait("one", "next-exit").await.unwrap();
        client.container_start("one", &Default::default()).await.unwrap();
        // 304, already started, is no error.
        client.container_start(&id[..12], &Default::default()).await.unwrap();
        assert_eq!(wait.finish().await.unwrap().status_code, 7);
        let document = client.container_inspect("one", true).await.unwrap();
        assert_eq!((document.state.status.as_str(), document.state.exit_code), ("exited", 7));
        assert_eq!((document.name.as_str(), document.config.image.as_str()), ("/one", "tiny:1"));
        assert_eq!(document.config.labels.unwrap().into_keys().collect::<Vec<_>>(), ["a", "x"]);
        assert!(document.size_root_fs.unwrap() > 0 && document.host_config.shm_size == 64 << 20);
        let query = LogsQuery { stdout: true, stderr: true, ..Default::default() };
        let log = client.container_logs("one", &query).await.unwrap().into_bytes(1 << 20).await.unwrap();
        assert_eq!(demultiplex(&log), ("out\n".into(), "err\n".into()));
        let list = client.container_list(&ContainerListQuery::default()).await.unwrap();
        assert!(list.is_empty());
        let filters = barque_api::Filters::new().with("label", "a=b").with("exited", "7");
        let list = client.container_list(&ContainerListQuery { filters, ..Default::default() }).await.unwrap();
        assert!(list[0].status.starts_with("Exited (7) "), "{}", list[0].status);
        client.container_remove("one", &RemoveQuery::default()).await.unwrap();
        let error = client.container_inspect("one", false).await.unwrap_err();
        assert_eq!((error.status(), error.message()), (Some(404), "No such container: one"));
    });
}

#[test]
fn attached_streams_and_half_closes() {
    with_daemon(async |client, _dir| {
        let text = r#"{"Image":"tiny:1","Cmd":["cat"],"OpenStdin":true,"StdinOnce":true,"AttachStdin":true,
            "HostConfig":{"NetworkMode":"none","AutoRemove":true}}"#;
        create(&client, "cat", text).await;
        let query = AttachQuery { stream: true, stdin: true, stdout: true, stderr: true, ..Default::default() };
        let mut attached = client.container_attach("cat", &query).await.unwrap();
        assert!(attached.is_multiplexed());
        let removed = client.container_wait("cat", "removed").await.unwrap();
        client.container_start("cat", &Default::default()).await.unwrap();
        attached.writer.write_all(b"through the pipe").await.unwrap();
        attached.writer.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        attached.reader.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(demultiplex(&bytes).0, "through the pipe");
        assert_eq!(removed.finish().await.unwrap().status_code, 0);
        assert!(client.container_inspect("cat", false).await.unwrap_err().is_not_found());
    });
}

/// A websocket client: a connection after its handshake, and frames.
struct WebSocket(tokio::net::UnixStream);

impl WebSocket {
    async fn open(dir: &Path, path: &str, more: &str) -> Result<WebSocket, String> {
        let mut stream = tokio::net::UnixStream::connect(dir.join("api.sock")).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: docker\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let good = head.starts_with("http/1.1 101 ") && head.contains("upgrade: websocket\r\n");
        if good && head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n") {
            return Ok(WebSocket(stream));
        }
        Err(head)
    }

    async fn send(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | kind, 0x80 | u8::try_from(payload.len()).unwrap(), 1, 2, 3, 4];
        frame.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.write_all(&frame).await.unwrap();
    }

    /// What came up to the closing frame, and its status.
    async fn rest(mut self) -> (String, u16) {
        let mut text = Vec::new();
        loop {
            let (kind, length) = (self.0.read_u8().await.unwrap(), self.0.read_u8().await.unwrap());
            let length = if length == 126 { self.0.read_u16().await.unwrap() } else { u16::from(length) };
            let mut payload = vec![0; usize::from(length)];
            self.0.read_exact(&mut payload).await.unwrap();
            match kind {
                0x82 => text.extend(payload),
                0x88 => return (String::from_utf8(text).unwrap(), u16::from_be_bytes([payload[0], payload[1]])),
                other => panic!("a frame of kind {other:x}"),
            }
        }
    }
}

#[test]
fn websockets_attach() {
    with_daemon(async |client, dir| {
        let version = "Sec-WebSocket-Version: 13\r\n";
        let attach = |name: &str, query: &str| format!("/v1.43/containers/{name}/attach/ws?{query}");
        let cat = r#"{"Image":"tiny:1","Cmd":["sh","-c","while read x; do echo got $x; echo err >&2; done; echo end"],
            "OpenStdin":true,"StdinOnce":true,"HostConfig":{"NetworkMode":"none"}}"#;
        create(&client, "plain", cat).await;
        client.container_start("plain", &Default::default()).await.unwrap();
        let all = "stream=1&stdin=1&stdout=1&stderr=1";
        let mut socket = WebSocket::open(dir, &attach("plain", all), version).await.unwrap();
        let waited = client.container_wait("plain", "not-running").await.unwrap();
        socket.send(1, b"one\n").await;
        socket.send(2, b"two\n").await;
        // Closing is the end of the input, which ends this program.
        socket.0.readable().await.unwrap();
        socket.send(8, &1000u16.to_be_bytes()).await;
        assert_eq!(waited.finish().await.unwrap().status_code, 0);
        let (_, code) = socket.rest().await;
        assert_eq!(code, 1000);
        // What was written before is replayed, both outputs without frames of their own.
        let query = "logs=1&stdout=1&stderr=1";
        let socket = WebSocket::open(dir, &attach("plain", query), version).await.unwrap();
        let (text, code) = socket.rest().await;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!((lines, code), (vec!["end", "err", "err", "got one", "got two"], 1000));
        // A terminal: the detach keys end the attachment, not the program.
        let tty = r#"{"Image":"tiny:1","Cmd":["cat"],"OpenStdin":true,"Tty":true,"HostConfig":{"NetworkMode":"none"}}"#;
        create(&client, "tty", tty).await;
        client.container_start("tty", &Default::default()).await.unwrap();
        let query = "stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,x";
        let mut socket = WebSocket::open(dir, &attach("tty", query), version).await.unwrap();
        socket.send(2, b"\x01x").await;
        assert_eq!(socket.rest().await.1, 1000);
        assert!(client.container_inspect("tty", false).await.unwrap().state.running);
        client.container_kill("tty", "KILL").await.unwrap();
        // What is no handshake, and who is not there.
        let refused = WebSocket::open(dir, &attach("tty", all), "Sec-WebSocket-Version: 8\r\n").await.err().unwrap();
        assert!(refused.starts_with("http/1.1 426 ") && refused.contains("sec-websocket-version: 13"), "{refused}");
        let refused = WebSocket::open(dir, &attach("nobody", all), version).await.err().unwrap();
        assert!(refused.starts_with("http/1.1 404 "), "{refused}");
    });
}

#[test]
fn execs() {
    with_daemon(async |client, _dir| {
        let text = r#"{"Image":"tiny:1","Cmd":["sleep","100"],"HostConfig":{"NetworkMode":"none","Init":true}}"#;
        create(&client, "host", text).await;
        client.container_start("host", &Default::default()).await.unwrap();
        let exec = |text: &str| -> ExecCreateRequest { json::from_str(text).unwrap() };
        let request =
            exec(r#"{"AttachStdout":true,"AttachStderr":true,"Env":["Q=1"],"Cmd":["sh","-c","echo $Q; exit 4"]}"#);
        let id = client.exec_create("host", &request).await.unwrap();
        let mut stream = client.exec_start(&id, &Default::default()).await.unwrap();
        let mut bytes = Vec::new();
        stream.reader.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(demultiplex(&bytes).0, "1\n");
        let inspected = client.exec_inspect(&id).await.unwrap();
        assert_eq!((inspected.running, inspected.exit_code), (false, Some(4)));
        // A command that is not there is told in the stream.
        let id = client.exec_create("host", &exec(r#"{"AttachStdout":true,"Cmd":["nosuch"]}"#)).await.unwrap();
        let mut stream = client.exec_start(&id, &Default::default()).await.unwrap();
        let mut bytes = Vec::new();
        stream.reader.read_to_end(&mut bytes).await.unwrap();
        let (text, _) = demultiplex(&bytes);
        assert!(text.starts_with("OCI runtime exec failed: ") && text.ends_with("\r\n"), "{text}");
        let error = client.exec_create("host", &exec("{}")).await.unwrap_err();
        assert_eq!((error.status(), error.message()), (Some(400), "No exec command specified"));
        client.container_stop("host", &StopQuery { timeout: Some(0), ..Default::default() }).await.unwrap();
        let error = client.exec_create("host", &exec(r#"{"Cmd":["true"]}"#)).await.unwrap_err();
        assert_eq!(error.status(), Some(409));
    });
}

#[test]
fn files_stats_and_events() {
    with_daemon(async |client, _dir| {
        let text = r#"{"Image":"tiny:1","Cmd":["sleep","100"],"HostConfig":{"NetworkMode":"none","Init":true}}"#;
        create(&client, "files", text).await;
        let filters = barque_api::Filters::new().with("container", "files").with("event", "start");
        let query = barque_api::event::EventsQuery { filters, ..Default::default() };
        let mut events = client.events(&query).await.unwrap();
        client.container_start("files", &Default::default()).await.unwrap();
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.kind.as_str(), event.action.as_str(), event.status.as_str()), ("container", "start", ""));
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        header.set_size(3);
        tar.append_data(&mut header, "put", &b"abc"[..]).unwrap();
        let query = CopyQuery { path: "/".into(), ..Default::default() };
        let archive = Upload::bytes(tar.into_inner().unwrap());
        client.container_archive_put("files", &query, archive).await.unwrap();
        let stat = client.container_archive_stat("files", "/put").await.unwrap();
        assert_eq!((stat.name.as_str(), stat.size, stat.mode), ("put", 3, 0o640));
        let copied = client.container_archive_get("files", "/put").await.unwrap();
        let bytes = copied.content.into_bytes(1 << 20).await.unwrap();
        let mut entries = tar::Archive::new(&bytes[..]);
        let name = entries.entries().unwrap().next().unwrap().unwrap().path().unwrap().into_owned();
        assert_eq!(name, Path::new("put"));
        let link = client.container_archive_stat("files", "/bin/sh").await.unwrap();
        assert!(link.is_symlink() && link.mode & PathStat::DIRECTORY == 0, "{link:?}");
        let changes = client.container_changes("files").await.unwrap();
        assert!(changes.iter().any(|change| change.path == "/put" && change.kind == 1), "{changes:?}");
        let once = StatsQuery { stream: Some(false), one_shot: true };
        let stats = client.container_stats("files", &once).await.unwrap().next().await.unwrap().unwrap();
        assert!(stats.cpu_stats.system_cpu_usage > 0);
        let missing = client.container_archive_stat("files", "/none").await.unwrap_err();
        assert_eq!(missing.status(), Some(404));
    });
}

#[test]
fn a_build_of_an_archive() {
    with_daemon(async |client, _dir| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |name: &str, text: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        };
        add("Dockerfile", "FROM tiny:1\nCOPY f /f\nRUN cat /f\nRUN exit 3\n");
        add("f", "content\n");
        let context = Upload::bytes(tar.into_inner().unwrap());
        let query = barque_api::build::BuildQuery { tags: vec!["built".into()], ..Default::default() };
        let mut output = client.build(&query, &Default::default(), context).await.unwrap();
        let (mut text, mut failure) = (String::new(), None);
        while let Some(message) = output.next().await.unwrap() {
            text.push_str(&message.stream);
            failure = failure.or(message.error_detail);
        }
        assert!(text.contains("Step 3/4 : RUN cat /f\n") && text.contains("\ncontent\n"), "{text}");
        let failure = failure.unwrap();
        assert_eq!(failure.code, 3);
        assert!(failure.message.starts_with("The command '/bin/sh -c exit 3' returned a non-zero code: 3"));
        assert!(client.image_inspect("built", &Default::default()).await.unwrap_err().is_not_found());
    });
}

#[test]
fn volumes_as_objects() {
    with_daemon(async |client, _dir| {
        let request = |name: &str| barque_api::volume::VolumeCreateRequest { name: name.into(), ..Default::default() };
        client.volume_create(&request("first")).await.unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(3);
        tar.append_data(&mut header, "file", &b"abc"[..]).unwrap();
        client.volume_import("first", Upload::bytes(tar.into_inner().unwrap())).await.unwrap();
        client.volume_clone("first", "second").await.unwrap();
        client.volume_rename("second", "third").await.unwrap();
        let bytes = client.volume_export("third").await.unwrap().into_bytes(1 << 20).await.unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
        assert!(names.iter().any(|name| name.ends_with("file")), "{names:?}");
        assert!(client.volume_inspect("second").await.unwrap_err().is_not_found());
        // Named volumes are not pruned unless all are.
        let pruned = client.volume_prune(&Default::default()).await.unwrap();
        assert_eq!(pruned.volumes_deleted, None);
        let filters = barque_api::Filters::new().with("all", "true");
        let mut query = barque_api::container::PruneQuery { filters, dry_run: true, ..Default::default() };
        let would = client.volume_prune(&query).await.unwrap();
        assert_eq!(would.volumes_deleted.unwrap().len(), 2);
        query.dry_run = false;
        let mut pruned = client.volume_prune(&query).await.unwrap().volumes_deleted.unwrap();
        pruned.sort();
        assert_eq!(pruned, ["first", "third"]);
    });
}

#[test]
fn versions_headers_and_refusals() {
    with_daemon(async |client, dir| {
        let ping = client.ping().await.unwrap();
        assert_eq!((ping.api_version.as_str(), ping.os_type.as_str()), ("1.56", "linux"));
        assert_eq!((ping.builder_version.as_str(), ping.experimental), ("1", false));
        let at = |minor| {
            let options = ClientOptions { version: Some(ApiVersion::new(1, minor)), ..Default::default() };
            Client::with_options(Host::Unix(dir.join("api.sock")), options)
        };
        let error = at(99).info().await.unwrap_err();
        assert_eq!(error.message(), "client version 1.99 is too new. Maximum supported API version is 1.56");
        assert_eq!(at(23).info().await.unwrap_err().status(), Some(400));
        at(24).info().await.unwrap();
        let error = client.request_bytes(Request::get("/nonsense")).await.unwrap_err();
        assert_eq!((error.status(), error.message()), (Some(404), "page not found"));
        let error = client.request_bytes(Request::post("/swarm/init")).await.unwrap_err();
        assert_eq!((error.status(), error.message()), (Some(501), "not implemented yet: swarm mode"));
        let text = Request::post("/containers/create").body("text/plain", Upload::bytes("x"));
        let error = client.request_bytes(text).await.unwrap_err();
        assert_eq!(error.message(), "unsupported Content-Type header (text/plain): must be 'application/json'");
        // A refusal reaches whom still sends.
        for _ in 0..20 {
            let body = tokio::io::repeat(0).take(700_000);
            let import =
                Request::post("/images/create?fromSrc=-&platform=foo").body("application/x-tar", Upload::reader(body));
            let error = client.request_bytes(import).await.unwrap_err();
            let words = "\"foo\": unknown operating system or architecture: invalid argument";
            assert!(error.message().starts_with(words), "{}", error.message());
        }
        let query = ContainerCreateQuery { name: "a".into(), ..Default::default() };
        let error = client.container_create(&query, &request(r#"{"Image":"none:1"}"#)).await.unwrap_err();
        assert_eq!((error.status(), error.message()), (Some(404), "No such image: none:1"));
        // A network need not exist before the start.
        let unknown = request(r#"{"Image":"tiny:1","HostConfig":{"NetworkMode":"nonet"}}"#);
        let made = client.container_create(&ContainerCreateQuery::default(), &unknown).await.unwrap();
        let error = client.container_start(&made.id, &Default::default()).await.unwrap_err();
        assert_eq!((error.status(), error.message()), (Some(404), "network nonet not found"));
    });
}

#[test]
fn json_in_a_query_need_not_be_escaped() {
    with_daemon(async |client, dir| {
        create(&client, "one", r#"{"Image":"tiny:1","Labels":{"a":"b"}}"#).await;
        create(&client, "two", r#"{"Image":"tiny:1"}"#).await;
        let socket = dir.join("api.sock");
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let list = r#"GET /v1.44/containers/json?all=1&filters={"label":["a=b"]} HTTP/1.1"#;
        // The body of a request is what it is.
        let make = r#"POST /v1.44/volumes/create?x="" HTTP/1.1"#;
        let body = r#"{"Name":"vol","Labels":{"q":"\"<"}}"#;
        stream.write_all(format!("{list}\r\nHost: d\r\n\r\n").as_bytes()).await.unwrap();
        let mut all = vec![0; 16 << 10];
        let count = stream.read(&mut all).await.unwrap();
        let listed = String::from_utf8_lossy(&all[..count]).into_owned();
        assert!(listed.contains("200 OK") && listed.contains("/one") && !listed.contains("/two"), "{listed}");
        stream.write_all(b"GET /_ping?x=\"\" HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.contains("200 OK") && rest.ends_with("OK"), "{rest}");
        let mut stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let head = format!("Host: d\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
        let request = format!("{make}\r\n{head}\r\nConnection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut made = String::new();
        stream.read_to_string(&mut made).await.unwrap();
        assert!(made.contains("201 Created"), "{made}");
        assert_eq!(client.volume_inspect("vol").await.unwrap().labels.unwrap()["q"], "\"<");
    });
}

/// An authority, and certificates by it for a server and a client, as files in `dir`.
fn certificates(dir: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    write("ca.pem", params.self_signed(&key).unwrap().pem());
    let authority = Issuer::new(params, key);
    for (name, host) in [("server", "127.0.0.1"), ("client", "client")] {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        write(&format!("{name}-cert.pem"), cert.pem());
        write(&format!("{name}-key.pem"), key.serialize_pem());
    }
}

#[test]
fn tls_asks_for_certificates_on_both_sides() {
    on_machine(async |dir| {
        certificates(dir);
        let path = |name: &str| dir.join(name);
        let file = serde_json::json!({
            "hosts": [format!("unix://{}", path("api.sock").display()), "tcp://127.0.0.1:23760"],
            "tlsverify": true, "tlscacert": path("ca.pem"), "tlscert": path("server-cert.pem"),
            "tlskey": path("server-key.pem"),
        });
        let (_client, handle, served) = start_with(dir, &file.to_string()).await;
        let files = |cert: Option<&str>| TlsFiles {
            ca: Some(path("ca.pem")),
            cert: cert.map(|name| path(&format!("{name}-cert.pem"))),
            key: cert.map(|name| path(&format!("{name}-key.pem"))),
            verify: true,
        };
        let connect = |files: TlsFiles| Client::new(Host::parse_tls("tcp://127.0.0.1:23760", &files).unwrap());
        assert_eq!(connect(files(Some("client"))).ping().await.unwrap().os_type, "linux");
        // Without a certificate, and without encryption.
        assert!(connect(files(None)).ping().await.is_err());
        assert!(Client::new(Host::parse("tcp://127.0.0.1:23760").unwrap()).ping().await.is_err());
        // A server that the client's authority does not know.
        let strangers = tempfile::tempdir().unwrap();
        certificates(strangers.path());
        let wrong = TlsFiles { ca: Some(strangers.path().join("ca.pem")), ..files(Some("client")) };
        assert!(connect(wrong).ping().await.unwrap_err().is_connect());
        handle.shutdown();
        served.await.unwrap().unwrap();
    });
}

#[test]
fn a_reload_takes_on_what_can_change() {
    on_machine(async |dir| {
        let (client, handle, served) = start(dir).await;
        let query = barque_api::event::EventsQuery {
            filters: barque_api::Filters::new().with("event", "reload"),
            ..Default::default()
        };
        let mut events = client.events(&query).await.unwrap();
        let file = r#"{"labels": ["a=b"], "registry-mirrors": ["http://127.0.0.1:1"], "bip": "10.9.8.1/24",
            "live-restore": true}"#;
        assert!(!client.info().await.unwrap().live_restore_enabled);
        handle.reload(&settings(dir, file)).unwrap();
        let info = client.info().await.unwrap();
        assert_eq!((info.labels.as_slice(), info.live_restore_enabled), (&["a=b".to_owned()][..], true));
        assert_eq!(info.registry_config.unwrap().mirrors.unwrap(), ["http://127.0.0.1:1/"]);
        assert_eq!(events.next().await.unwrap().unwrap().kind, "daemon");
        handle.shutdown();
        served.await.unwrap().unwrap();
    });
}

#[test]
fn attached_clients_see_the_last_words_when_the_daemon_stops() {
    on_machine(async |dir| {
        let (client, handle, served) = start(dir).await;
        let script = "trap 'echo bye; exit 0' TERM; echo up; while true; do sleep 0.05; done";
        let text =
            format!(r#"{{"Image":"tiny:1","Cmd":["sh","-c",{script:?}],"HostConfig":{{"NetworkMode":"none"}}}}"#);
        create(&client, "trap", &text).await;
        let query = AttachQuery { stream: true, stdout: true, ..Default::default() };
        let mut attached = client.container_attach("trap", &query).await.unwrap();
        client.container_start("trap", &Default::default()).await.unwrap();
        let mut bytes = vec![0; 11];
        attached.reader.read_exact(&mut bytes).await.unwrap();
        handle.shutdown();
        attached.reader.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(demultiplex(&bytes).0, "up\nbye\n");
        served.await.unwrap().unwrap();
    });
}
