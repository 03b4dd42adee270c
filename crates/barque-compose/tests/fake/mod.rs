//! An engine in memory that speaks as much of the Engine API as Compose needs, and the program that talks to it.
//!
//! What a container does is its command: `sleep` runs until it is stopped, `end N` ends at once with status N,
//! `sick` runs and is never healthy,
//! `flood N` writes N lines, of which the last arrive long after the event of its end.

#![allow(dead_code, reason = "not every test uses everything")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

/// A container.
#[derive(Clone, Debug, Default)]
pub struct Container {
    pub name: String,
    pub body: Value,
    pub state: String,
    pub code: i64,
}

impl Container {
    fn word(&self, index: usize) -> &str {
        self.body["Cmd"][index].as_str().unwrap_or_default()
    }
}

/// What the engine has and what it was asked.
#[derive(Debug, Default)]
pub struct State {
    pub containers: BTreeMap<String, Container>,
    pub networks: BTreeMap<String, Value>,
    pub volumes: BTreeMap<String, Value>,
    /// Requests that change something: method, path and query, in the order they came.
    pub asked: Vec<String>,
    /// Bodies of the same requests.
    pub bodies: Vec<Value>,
    /// Requests that contain one of these are refused.
    pub refuse: Vec<&'static str>,
    /// Requests that change something and are under way.
    now: usize,
    /// The most of them at once.
    pub most: usize,
    watchers: Vec<Sender<String>>,
    made: usize,
}

/// An engine that ends with the test.
pub struct Fake {
    pub dir: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// An engine that takes `slow` for each change.
    pub fn new(slow: Duration) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state, slow));
            }
        });
        Fake { dir, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Writes the project's file.
    pub fn file(&self, text: &str) {
        std::fs::write(self.dir.path().join("compose.yaml"), text).unwrap();
    }

    /// The program, before it runs.
    pub fn command(&self, args: &[&str]) -> Command {
        let test = std::env::current_exe().unwrap();
        let program: PathBuf = test.ancestors().nth(2).unwrap().join("examples/compose");
        assert!(program.exists(), "{} is missing: cargo build -p barque-compose --example compose", program.display());
        let mut command = Command::new(program);
        let socket = format!("unix://{}", self.dir.path().join("sock").display());
        command
            .args(["-p", "p"])
            .args(args)
            .env_clear()
            .env("DOCKER_HOST", socket)
            .env("HOME", self.dir.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it, and gives its standard output; panics unless it succeeds.
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert!(done.status.success(), "{args:?}: {}", text(&done.stderr));
        text(&done.stdout).to_owned()
    }

    /// The body of the first request that contains this.
    pub fn body(&self, what: &str) -> Value {
        let at = self.when(what);
        self.state().bodies[at].clone()
    }

    /// Names of the containers there are, each with its state.
    pub fn names(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.state().containers.values().map(|c| format!("{} {}", c.name, c.state)).collect();
        all.sort();
        all
    }

    /// Forgets what was asked, and refuses what contains one of these from now on.
    pub fn refuse(&self, what: &[&'static str]) {
        let mut state = self.state();
        state.asked.clear();
        state.bodies.clear();
        state.refuse = what.to_vec();
    }

    /// Position of the first request that contains this.
    pub fn when(&self, what: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.asked.iter().position(|a| a.contains(what)).unwrap_or_else(|| panic!("no {what} in {:?}", state.asked))
    }
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn serve(stream: UnixStream, state: &Mutex<State>, slow: Duration) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some((method, path, body)) = request(&mut reader) {
        let (bare, query) = path.split_once('?').unwrap_or((&path, ""));
        let parts: Vec<&str> = bare.trim_start_matches('/').split('/').filter(|p| !p.starts_with("v1.")).collect();
        match (method.as_str(), parts.as_slice()) {
            (_, ["_ping"]) => answer(&mut writer, 200, ""),
            // no container has a file
            ("HEAD", _) => answer(&mut writer, 404, ""),
            ("GET", ["events"]) => return events(&mut writer, state),
            ("POST", ["containers", id, "attach"]) => return attach(&mut writer, state, id),
            ("POST", ["exec", _, "start"]) => return hijacked(&mut writer, b"from the hook\n"),
            ("POST", ["containers", id, "wait"]) => {
                let code = ended(state, id);
                answer(&mut writer, 200, &json!({"StatusCode": code}).to_string());
            }
            ("GET", parts) => {
                let (status, document) = look(&state.lock().unwrap(), parts, query);
                answer(&mut writer, status, &document.to_string());
            }
            (_, parts) => {
                {
                    let mut state = state.lock().unwrap();
                    state.now += 1;
                    state.most = state.most.max(state.now);
                }
                std::thread::sleep(slow);
                let (status, document) = change(&mut state.lock().unwrap(), &method, parts, query, &body);
                state.lock().unwrap().now -= 1;
                answer(&mut writer, status, &if status == 204 { String::new() } else { document.to_string() });
            }
        }
    }
}

fn request(reader: &mut BufReader<UnixStream>) -> Option<(String, String, String)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut piece = vec![0; size + 2];
        reader.read_exact(&mut piece).ok()?;
        chunked = size > 0;
    }
    let mut words = line.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.to_owned(), String::from_utf8_lossy(&body).into_owned()))
}

fn answer(writer: &mut UnixStream, status: u16, document: &str) {
    let length = document.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nApi-Version: 1.47\r\nOstype: linux\r\nContent-Type: application/json\r\n");
    let _ = writer.write_all(format!("{head}Content-Length: {length}\r\n\r\n{document}").as_bytes());
}

fn look(state: &State, parts: &[&str], query: &str) -> (u16, Value) {
    let summary = |id: &String, c: &Container| {
        let status = if c.state == "exited" { format!("Exited ({}) 1 second ago", c.code) } else { String::new() };
        let networks = c.body["NetworkingConfig"]["EndpointsConfig"].as_object().cloned().unwrap_or_default();
        let networks: BTreeMap<String, Value> =
            networks.keys().map(|n| (n.clone(), json!({"NetworkID": format!("id-{n}")}))).collect();
        json!({"Id": id, "Names": [format!("/{}", c.name)], "Image": c.body["Image"], "ImageID": "sha256:1",
            "Labels": c.body["Labels"], "State": c.state, "Status": status,
            "NetworkSettings": {"Networks": networks}, "Mounts": []})
    };
    match parts {
        ["containers", "json"] => {
            let all = query.contains("all=1") || query.contains("all=true");
            let shown = state.containers.iter().filter(|(_, c)| all || c.state == "running");
            (200, shown.map(|(id, c)| summary(id, c)).collect())
        }
        ["containers", id, "json"] => match state.containers.get(*id) {
            Some(c) => {
                let running = c.state == "running";
                let mut state = json!({"Status": c.state, "Running": running, "ExitCode": c.code});
                let mut config = json!({"Tty": false});
                if c.word(0) == "sick" {
                    state["Health"] = json!({"Status": "starting"});
                    config["Healthcheck"] = json!({"Test": ["CMD", "x"]});
                }
                (200, json!({"Id": id, "Name": format!("/{}", c.name), "State": state, "Config": config}))
            }
            None => (404, json!({"message": "No such container"})),
        },
        ["exec", _, "json"] => (200, json!({"ExitCode": 0})),
        ["networks"] => (200, state.networks.values().cloned().collect()),
        ["networks", id] => match state.networks.get(*id) {
            Some(network) => (200, network.clone()),
            None => (404, json!({"message": "No such network"})),
        },
        ["volumes"] => (200, json!({"Volumes": state.volumes.values().cloned().collect::<Vec<_>>()})),
        ["images", .., "json"] => (200, json!({"Id": "sha256:1", "Config": {}})),
        _ => (404, json!({"message": "page not found"})),
    }
}

fn change(state: &mut State, method: &str, parts: &[&str], query: &str, body: &str) -> (u16, Value) {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let name_of = |state: &State, id: &str| state.containers.get(id).map(|c| c.name.clone()).unwrap_or_default();
    let shown = match parts {
        ["containers", id, rest @ ..] if *id != "create" => {
            format!("{method} {}/{}?{query}", name_of(state, id), rest.join("/"))
        }
        _ => format!("{method} {}?{query}", parts.join("/")),
    };
    let refused = state.refuse.iter().any(|r| shown.contains(r));
    state.asked.push(shown);
    state.bodies.push(body.clone());
    if refused {
        return (500, json!({"message": "refused by the test"}));
    }
    match (method, parts) {
        ("POST", ["containers", "create"]) => {
            state.made += 1;
            let id = format!("{:064}", state.made);
            let name = query.split('&').find_map(|p| p.strip_prefix("name=")).unwrap_or_default().to_owned();
            state.containers.insert(id.clone(), Container { name, body, state: "created".into(), code: 0 });
            (201, json!({"Id": id, "Warnings": []}))
        }
        ("POST", ["containers", id, "start"]) => {
            become_running(state, id);
            (204, Value::Null)
        }
        ("POST", ["containers", id, "stop"]) => {
            end(state, id, 143);
            (204, Value::Null)
        }
        ("POST", ["containers", id, "kill"]) => {
            end(state, id, 137);
            (204, Value::Null)
        }
        ("POST", ["containers", id, "rename"]) => {
            if let (Some(c), Some(name)) = (state.containers.get_mut(*id), query.strip_prefix("name=")) {
                name.clone_into(&mut c.name);
            }
            (204, Value::Null)
        }
        ("POST", ["containers", _, "exec"]) => (201, json!({"Id": "e"})),
        ("DELETE", ["containers", id]) => {
            state.containers.remove(*id);
            (204, Value::Null)
        }
        ("POST", ["networks", "create"]) if body["Driver"] == "wrong" => {
            (404, json!({"message": "could not find plugin wrong"}))
        }
        ("POST", ["networks", "create"]) => {
            let name = body["Name"].as_str().unwrap_or_default().to_owned();
            let network = json!({"Id": format!("id-{name}"), "Name": name, "Labels": body["Labels"]});
            state.networks.insert(format!("id-{name}"), network);
            (201, json!({"Id": format!("id-{name}")}))
        }
        ("DELETE", ["networks", id]) => {
            state.networks.remove(*id);
            (204, Value::Null)
        }
        ("POST", ["volumes", "create"]) => {
            state.volumes.insert(body["Name"].as_str().unwrap_or_default().to_owned(), body.clone());
            (201, body)
        }
        ("DELETE", ["volumes", name]) => {
            state.volumes.remove(*name);
            (204, Value::Null)
        }
        _ => (204, Value::Null),
    }
}

fn become_running(state: &mut State, id: &str) {
    let Some(container) = state.containers.get_mut(id) else { return };
    "running".clone_into(&mut container.state);
    let (what, code) = (container.word(0).to_owned(), container.word(1).parse().unwrap_or(0));
    tell(state, id, "start");
    match what.as_str() {
        "end" => end(state, id, code),
        "flood" => end(state, id, 0),
        _ => {}
    }
}

fn end(state: &mut State, id: &str, code: i64) {
    let Some(container) = state.containers.get_mut(id).filter(|c| c.state == "running") else { return };
    "exited".clone_into(&mut container.state);
    container.code = code;
    tell(state, id, "die");
}

fn tell(state: &mut State, id: &str, action: &str) {
    let code = state.containers.get(id).map_or(0, |c| c.code);
    let event = json!({"Type": "container", "Action": action, "time": 1, "timeNano": 1_000_000_000,
        "Actor": {"ID": id, "Attributes": {"exitCode": code.to_string()}}});
    state.watchers.retain(|w| w.send(event.to_string()).is_ok());
}

fn events(writer: &mut UnixStream, state: &Mutex<State>) {
    let (sender, receiver): (_, Receiver<String>) = channel();
    state.lock().unwrap().watchers.push(sender);
    let _ =
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n");
    for event in receiver {
        if write!(writer, "{:x}\r\n{event}\r\n", event.len()).is_err() {
            return;
        }
    }
}

/// Blocks until a container has ended; its exit status.
fn ended(state: &Mutex<State>, id: &str) -> i64 {
    loop {
        match state.lock().unwrap().containers.get(id) {
            Some(c) if c.state == "exited" => return c.code,
            None => return 0,
            Some(_) => {}
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

const UPGRADED: &str = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
                        Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// Output that is there at once.
fn hijacked(writer: &mut UnixStream, output: &[u8]) {
    let _ = writer.write_all(UPGRADED.as_bytes());
    frame(writer, output);
    let _ = writer.shutdown(std::net::Shutdown::Both);
}

fn attach(writer: &mut UnixStream, state: &Mutex<State>, id: &str) {
    let _ = writer.write_all(UPGRADED.as_bytes());
    ended(state, id);
    let container = state.lock().unwrap().containers.get(id).cloned().unwrap_or_default();
    if container.word(0) == "flood" {
        let count: usize = container.word(1).parse().unwrap_or(0);
        // the event of the end is out already; the output takes its time, with a break in it
        for first in (0..count).step_by(1000) {
            std::thread::sleep(Duration::from_millis(60));
            let lines: String = (first..count.min(first + 1000)).map(|i| format!("line {i}\n")).collect();
            frame(writer, lines.as_bytes());
        }
        frame(writer, b"no line break");
    }
    let _ = writer.shutdown(std::net::Shutdown::Both);
}

fn frame(writer: &mut UnixStream, data: &[u8]) {
    let mut out = vec![1, 0, 0, 0];
    out.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
    out.extend_from_slice(data);
    let _ = writer.write_all(&out);
}
