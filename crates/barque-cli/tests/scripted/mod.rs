//! An engine made of answers, and the program that talks to it.

#![allow(dead_code, reason = "not every test file uses everything")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

/// What the engine says to one request.
pub enum Answer {
    /// Status and JSON document.
    Json(u16, String),
    /// A hijacked connection: these bytes, then the end.
    Stream(Vec<u8>),
}

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `POST /v1.51/containers/create?name=x`.
    pub line: String,
    pub body: String,
}

/// Answers a request of this line (without the version) and body.
pub type Script = dyn Fn(&str, &str) -> Answer + Send + Sync;

pub struct Engine {
    dir: tempfile::TempDir,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Engine {
    /// An engine that answers pings itself, and all else by `script`.
    pub fn new(script: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Engine {
        Engine::of("Test", script)
    }

    /// As [`Engine::new`], an engine whose pings say that it is `server`.
    pub fn of(server: &'static str, script: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Engine {
        let dir = tempfile::tempdir().expect("tempdir");
        let listener = UnixListener::bind(dir.path().join("engine.sock")).expect("binds");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, log): (Arc<Script>, _) = (Arc::new(script), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log) = (script.clone(), log.clone());
                std::thread::spawn(move || serve(stream, server, &*script, &log));
            }
        });
        Engine { dir, seen }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program, called as `docker`, before it runs.
    pub fn command(&self, args: &[&str]) -> Command {
        let called = self.dir.path().join("docker");
        if !called.exists() {
            std::os::unix::fs::symlink(crate::common::program(), &called).expect("links");
        }
        let mut command = Command::new(called);
        let socket = format!("unix://{}", self.dir.path().join("engine.sock").display());
        command.args(args).env_clear().env("HOME", self.dir.path()).env("DOCKER_HOST", socket);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(std::process::Stdio::null()).output().expect("runs")
    }

    /// The requests but for pings, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("log").clone()
    }

    /// The body of the first request whose line contains `part`.
    pub fn body(&self, part: &str) -> serde_json::Value {
        let seen = self.seen();
        let found = seen.iter().find(|s| s.line.contains(part)).unwrap_or_else(|| panic!("no {part} in {seen:?}"));
        serde_json::from_str(&found.body).expect("JSON")
    }
}

fn serve(stream: UnixStream, server: &str, script: &Script, log: &Mutex<Vec<Seen>>) {
    let mut writer = stream.try_clone().expect("clones");
    let mut reader = BufReader::new(stream);
    while let Some((line, body)) = request(&mut reader) {
        let bare = without_version(&line);
        if bare.contains("/_ping") {
            let _ = write!(
                writer,
                "HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nServer: {server}\r\nOstype: linux\r\nContent-Length: 0\r\n\r\n",
            );
            continue;
        }
        log.lock().expect("log").push(Seen { line: bare.clone(), body: body.clone() });
        match script(&bare, &body) {
            Answer::Json(status, document) => {
                let length = document.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
                let _ = writer.write_all(format!("{head}\r\n{document}").as_bytes());
            }
            Answer::Stream(bytes) => {
                let head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
                            Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
                let _ = writer.write_all(head.as_bytes());
                let _ = writer.write_all(&bytes);
                let _ = writer.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    }
}

fn request(reader: &mut BufReader<UnixStream>) -> Option<(String, String)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&count| count > 0)?;
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().expect("length");
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).expect("chunk");
        let mut piece = vec![0; size + 2];
        reader.read_exact(&mut piece).ok()?;
        body.extend_from_slice(&piece[..size]);
        chunked = size > 0;
    }
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some((line, String::from_utf8_lossy(&body).into_owned()))
}

/// `POST /v1.51/x` is `POST /x`.
fn without_version(line: &str) -> String {
    match line.split_once(" /v1.") {
        Some((method, rest)) => format!("{method} /{}", rest.split_once('/').map_or("", |(_, path)| path)),
        None => line.to_owned(),
    }
}
