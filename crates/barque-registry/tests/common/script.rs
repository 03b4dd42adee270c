//! A server that answers exactly what a test tells it to, down to the byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What to send.
pub struct Say {
    bytes: Vec<u8>,
    then: Then,
}

/// What to do after that.
enum Then {
    Keep,
    Close,
    /// Send this again and again.
    Repeat(Vec<u8>),
    /// Send nothing more, but stay.
    Stall,
}

impl Say {
    /// A whole response.
    pub fn status(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut bytes = format!("{text}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        Self { bytes, then: Then::Keep }
    }

    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status(200, &[], body)
    }

    /// The answer to HEAD: `length` bytes that do not come.
    pub fn head(length: usize, headers: &[(&str, &str)]) -> Self {
        let mut text = format!("HTTP/1.1 200 X\r\nContent-Length: {length}\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        Self { bytes: format!("{text}\r\n").into_bytes(), then: Then::Keep }
    }

    /// Any bytes, then the connection is closed.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self { bytes: bytes.as_ref().to_vec(), then: Then::Close }
    }

    /// Bytes, then others without end.
    pub fn endless(head: impl AsRef<[u8]>, again: impl AsRef<[u8]>) -> Self {
        Self { bytes: head.as_ref().to_vec(), then: Then::Repeat(again.as_ref().to_vec()) }
    }

    pub fn stall(bytes: impl AsRef<[u8]>) -> Self {
        Self { bytes: bytes.as_ref().to_vec(), then: Then::Stall }
    }
}

/// A scripted server.
pub struct Script {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Script {
    pub async fn start(answer: impl Fn(&Seen) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(speak(stream, answer.clone(), log.clone()));
            }
        });
        Self { addr, seen }
    }

    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests' paths contain `part`.
    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }
}

async fn speak(
    mut stream: TcpStream,
    answer: Arc<impl Fn(&Seen) -> Say + Send + Sync + 'static>,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    while let Some(seen) = read_request(&mut stream).await {
        let say = answer(&seen);
        log.lock().unwrap().push(seen);
        if stream.write_all(&say.bytes).await.is_err() {
            return;
        }
        match say.then {
            Then::Keep => {}
            Then::Close => return,
            Then::Repeat(bytes) => while stream.write_all(&bytes).await.is_ok() {},
            Then::Stall => std::future::pending().await,
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.ok()?;
        head.push(byte);
        // A TLS client hello: not for us, and said as servers without TLS say it.
        if head[0] == 0x16 {
            let _rest_of_it = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
            return None;
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines();
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let mut seen = Seen { method, path, headers, body: Vec::new() };
    let length: usize = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    seen.body = vec![0; length];
    stream.read_exact(&mut seen.body).await.ok()?;
    Some(seen)
}
