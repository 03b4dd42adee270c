//! Barque and Docker side by side, in namespaces that end with the test: for scenarios that are played on both.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a test that cannot go on may panic")]

pub mod build;
pub mod play;
pub mod probe;
#[path = "../../../barque-registry/tests/common/tools.rs"]
mod tools;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

pub use tools::installed;

const INSIDE: &str = "BARQUE_PAIR_INSIDE";
const LABEL: &str = "BARQUE_PAIR_LABEL";

/// Runs `body` as root in network, mount and process namespaces of its own; says so if it cannot.
pub fn in_namespaces(name: &str, body: impl FnOnce(&Path)) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: {name} needs root");
        return;
    }
    if let Some(dir) = std::env::var_os(INSIDE) {
        sh("ip link set lo up && mount --make-rprivate /");
        body(Path::new(&dir));
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    again(name, scratch.path(), "");
}

/// Runs this test again, in namespaces; false if it could not.
fn again(name: &str, scratch: &Path, label: &str) -> bool {
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, scratch)
        .env(LABEL, label)
        .status();
    match &status {
        Ok(status) => assert!(status.success(), "{name} failed in its namespaces {label}"),
        Err(e) => eprintln!("skipped: {name} needs unshare(1): {e}"),
    }
    status.is_ok()
}

/// Runs `body` once per label, each time in namespaces of its own, where programs would disturb each other side by
/// side; then `compare` with what each wrote to its file in the shared directory. `None` says that it did not run.
pub fn apart(name: &str, labels: &[&str], body: impl FnOnce(&str, &Path), compare: impl FnOnce(&Path)) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: {name} needs root");
        return;
    }
    if let (Some(dir), Ok(label)) = (std::env::var_os(INSIDE), std::env::var(LABEL)) {
        sh("ip link set lo up && mount --make-rprivate /");
        body(&label, Path::new(&dir));
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    if labels.iter().all(|label| again(name, scratch.path(), label)) {
        compare(scratch.path());
    }
}

/// Runs a shell script that has to succeed; gives its standard output.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script}: {out}{err}");
    out.trim_end().to_owned()
}

/// A daemon on scratch directories, and how to talk to it.
pub struct Engine {
    pub name: &'static str,
    /// Bridge address and prefix of its default network.
    pub dir: PathBuf,
    client: PathBuf,
    socket: String,
    daemon: Option<Child>,
    start: Vec<String>,
    /// More of the daemon's environment, from its next start on.
    pub env: Vec<(String, String)>,
}

/// The binary under test.
pub fn barque_program() -> PathBuf {
    match std::env::var_os("BARQUE_BINARY") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_barque").into(),
    }
}

impl Engine {
    /// Barque's daemon, driven by its own command line.
    pub fn barque(scratch: &Path, args: &[&str]) -> Engine {
        Engine::barque_on(scratch, "bqpair0", &[&["--bip", "10.214.0.1/16"], args].concat())
    }

    /// The same on a bridge of this name, whose addresses the engine chooses.
    pub fn barque_on(scratch: &Path, bridge: &str, args: &[&str]) -> Engine {
        let program = barque_program();
        let start = [&program.display().to_string(), "daemon", "--bridge", bridge].map(str::to_owned).to_vec();
        Engine::start("barque", scratch, program, start, args, "--pidfile")
    }

    /// The same with nothing said but where it is.
    pub fn barque_plain(scratch: &Path, args: &[&str]) -> Engine {
        let program = barque_program();
        let start = vec![program.display().to_string(), "daemon".to_owned()];
        Engine::start("barque", scratch, program, start, args, "--pidfile")
    }

    /// Docker's daemon and client; `None` where they are not installed.
    pub fn docker(scratch: &Path, args: &[&str]) -> Option<Engine> {
        if !installed("dockerd") || !installed("docker") || !is_reference_client() {
            return None;
        }
        let start = ["dockerd", "--log-level", "error", "--bip", "10.215.0.1/16"].map(str::to_owned).to_vec();
        Some(Engine::start("docker", scratch, "docker".into(), start, args, "-p"))
    }

    fn start(
        name: &'static str,
        scratch: &Path,
        client: PathBuf,
        mut start: Vec<String>,
        args: &[&str],
        pid: &str,
    ) -> Engine {
        let dir = scratch.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let socket = format!("unix://{}/sock", dir.display());
        let path = |file: &str| dir.join(file).display().to_string();
        start.extend(["--data-root".into(), path("data"), "--exec-root".into(), path("exec"), pid.into(), path("pid")]);
        start.extend(["-H".to_owned(), socket.clone()]);
        start.extend(args.iter().map(|a| (*a).to_owned()));
        let mut engine = Engine { name, dir, client, socket, daemon: None, start, env: Vec::new() };
        engine.up();
        engine
    }

    /// Starts the daemon and waits until it answers.
    pub fn up(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let daemon = Command::new(&self.start[0])
            .args(&self.start[1..])
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
        for _ in 0..300 {
            if self.call(&["version"]).status.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{} does not answer: {}", self.name, self.log());
    }

    /// Stops the daemon, or kills it; tells how it ended.
    pub fn down(&mut self, kill: bool) -> Option<ExitStatus> {
        let mut daemon = self.daemon.take()?;
        if !kill {
            let pid = rustix::process::Pid::from_child(&daemon);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        } else {
            daemon.kill().unwrap();
        }
        Some(daemon.wait().unwrap())
    }

    pub fn log(&self) -> String {
        let all = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// The client, ready to run.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command.args(args).env("DOCKER_HOST", &self.socket).env("DOCKER_CONFIG", self.dir.join("config"));
        command.stdin(Stdio::null());
        command
    }

    /// Docker's client on this engine, with a configuration of its own.
    pub fn by_docker(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", &self.socket).env("DOCKER_CONFIG", self.dir.join("docker-config"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said.trim_end().to_owned()) } else { Err(said.trim_end().to_owned()) }
    }

    pub fn call(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Both outputs of a call; `Err` if it failed.
    pub fn run(&self, args: &[&str]) -> Result<String, String> {
        let output = self.call(args);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said.trim_end().to_owned()) } else { Err(said.trim_end().to_owned()) }
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{} {args:?}: {out}{err}\n{}", self.name, self.log());
        out.trim_end().to_owned()
    }

    pub fn fails(&self, args: &[&str], expected: &str) -> String {
        let said = self.run(args).expect_err("should fail");
        assert!(said.contains(expected), "{} {args:?}: {said}", self.name);
        said
    }

    /// Rows and files of Barque's store by kind, once nothing is being deleted any more.
    pub fn stored(&self) -> Vec<(String, i64)> {
        let data = self.dir.join("data");
        let count = || {
            let rows = rusqlite::Connection::open(data.join("barque.db")).unwrap();
            let of = |table: &str| rows.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get(0)).unwrap();
            let tables = ["image", "image_name", "manifest", "layer", "layer_blob", "blob", "snapshot", "lease_item"];
            let mut found: Vec<(String, i64)> = tables.iter().map(|t| (format!("rows of {t}"), of(t))).collect();
            for dir in ["blobs", "layers", "snapshots", "ingest", "tmp", "trash"] {
                let files = sh(&format!("find {}/{dir} -type f | wc -l", data.display()));
                found.push((format!("files in {dir}"), files.parse().unwrap()));
            }
            found
        };
        let mut last = count();
        for _ in 0..60 {
            std::thread::sleep(Duration::from_millis(250));
            let now = count();
            let still = now == last && now.iter().all(|(what, n)| !what.ends_with("trash") || *n == 0);
            last = now;
            if still {
                break;
            }
        }
        last
    }

    /// Builds on [`Engine::import_busybox`] with this test program as `/probe` (see [`probe`]).
    pub fn import_probe(&self, name: &str) {
        self.import_busybox("busybox-for-probe", &[]);
        let root = self.dir.join("busybox-root");
        let tar = self.dir.join("probe.tar");
        std::fs::copy(std::env::current_exe().unwrap(), root.join("probe")).unwrap();
        sh(&format!("tar -C {} -cf {} .", root.display(), tar.display()));
        self.ok(&["import", "-c", "ENV PATH=/bin", &tar.display().to_string(), name]);
        std::fs::remove_file(root.join("probe")).unwrap();
    }

    /// Imports a root file system of busybox under `name`.
    pub fn import_busybox(&self, name: &str, changes: &[&str]) {
        let tar = self.dir.join("busybox.tar");
        let root = self.dir.join("busybox-root");
        if !tar.exists() {
            let (r, t) = (root.display(), tar.display());
            sh(&format!(
                "set -e; mkdir -p {r}/bin {r}/etc {r}/tmp {r}/root {r}/proc {r}/sys {r}/dev {r}/data/sub {r}/var; \
                 cp /bin/busybox {r}/bin/; for a in $(/bin/busybox --list); do [ $a = busybox ] || ln -s busybox {r}/bin/$a; done; \
                 echo root:x:0:0::/root:/bin/sh > {r}/etc/passwd; echo web:x:33:33::/:/bin/sh >> {r}/etc/passwd; \
                 echo root:x:0: > {r}/etc/group; echo web:x:33: >> {r}/etc/group; chmod 1777 {r}/tmp; \
                 echo seed > {r}/data/seed; chown 33:33 {r}/data/seed; chmod 640 {r}/data/seed; ln -s seed {r}/data/link; \
                 echo deep > {r}/data/sub/deep; chmod 2750 {r}/data/sub; tar -C {r} -cf {t} ."
            ));
        }
        let mut args = vec!["import"];
        for change in changes {
            args.extend(["-c", change]);
        }
        let path = tar.display().to_string();
        args.extend([path.as_str(), name]);
        self.ok(&args);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Debian's registry on loopback; ends with the namespaces.
pub fn docker_registry(scratch: &Path, address: &str, more: &str) -> Child {
    let dir = scratch.join(format!("registry-{}", address.replace(':', "-")));
    std::fs::create_dir_all(&dir).unwrap();
    let config = dir.join("config.yml");
    std::fs::write(
        &config,
        format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '{address}'}}\n{more}\n",
            dir.display()
        ),
    )
    .unwrap();
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    wait_for(address);
    child
}

/// `barque registry serve` on loopback.
pub fn barque_registry(scratch: &Path, address: &str, more: &[&str]) -> Child {
    let dir = scratch.join(format!("bq-registry-{}", address.replace(':', "-")));
    let mut command = Command::new(barque_program());
    command.args(["registry", "serve", "--listen", address, "--root"]).arg(&dir).args(more);
    let log = std::fs::File::create(scratch.join(format!("bq-registry-{}.log", address.replace(':', "-")))).unwrap();
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    wait_for(address);
    child
}

fn wait_for(address: &str) {
    for _ in 0..200 {
        if std::net::TcpStream::connect(address).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("nobody answers at {address}");
}

/// Whether `docker` is of the version whose words are compared: a distribution's daemon brings an older client.
fn is_reference_client() -> bool {
    let told = Command::new("docker").arg("--version").output().map(|done| done.stdout).unwrap_or_default();
    let reference = told.starts_with(b"Docker version 28.");
    if !reference {
        eprintln!("skipped: docker is {}", String::from_utf8_lossy(&told).trim());
    }
    reference
}
