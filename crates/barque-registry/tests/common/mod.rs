//! Fixtures: the server on a scratch directory, a raw HTTP client, and servers that misbehave as told.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod image;
pub mod script;
pub mod tools;

use std::net::SocketAddr;
use std::time::Duration;

use barque_registry::server::{ServerConfig, serve};
use barque_registry::{Client, ClientConfig};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
pub use tools::installed;

/// A registry of ours on a free port of the loopback interface.
pub struct Server {
    pub addr: SocketAddr,
    pub dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<barque_model::Result<()>>>,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(adjust: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig::new(dir.path().join("registry"));
        config.durable = false;
        config.gc_interval = None;
        adjust(&mut config);
        Self::serve(dir, config).await
    }

    async fn serve(dir: tempfile::TempDir, config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(config, vec![listener], async {
            let _ = stopped.await;
        }));
        Self { addr, dir, stop: Some(stop), task: Some(task) }
    }

    /// Stops it in order and waits.
    pub async fn stop(mut self) -> tempfile::TempDir {
        drop(self.stop.take());
        self.task.take().unwrap().await.unwrap().unwrap();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    pub fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("registry")
    }
}

/// A client that does not wait long for anything.
pub fn quick() -> ClientConfig {
    ClientConfig {
        backoff: Duration::from_millis(5),
        backoff_max: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..ClientConfig::default()
    }
}

pub fn client() -> Client {
    Client::new(quick()).unwrap()
}

/// One plain HTTP exchange.
pub async fn http(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let client = legacy::Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(HttpConnector::new());
    // A Location may be absolute.
    let uri = if path.starts_with("http") { path.to_owned() } else { format!("http://{addr}{path}") };
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

pub fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// The code of an error document.
pub fn code(response: &Response<Bytes>) -> String {
    let value: serde_json::Value = serde_json::from_slice(response.body()).unwrap_or_default();
    value["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
}

/// A port nobody listens on at the moment.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Bytes that do not compress and differ by seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Debian's registry on a scratch directory, ended with the guard.
pub struct Distribution {
    pub addr: SocketAddr,
    pub dir: tempfile::TempDir,
    child: std::process::Child,
}

impl Distribution {
    /// `None` when it is not installed.
    pub async fn start(extra: &str) -> Option<Self> {
        if !installed("docker-registry") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {addr}\n{extra}",
            dir.path().join("data").display()
        );
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let child = std::process::Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .env_clear()
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut registry = Self { addr, dir, child };
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(addr).await.is_ok() {
                return Some(registry);
            }
            assert!(registry.child.try_wait().unwrap().is_none(), "docker-registry ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("docker-registry does not answer");
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
