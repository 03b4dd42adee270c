//! An engine on scratch directories in network and mount namespaces of its own, and the program that talks to it.

#![allow(dead_code, reason = "not every test file uses everything")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

pub mod project;
#[path = "../../../barque-registry/tests/common/tools.rs"]
mod tools;

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
pub const BARQUE: &str = env!("CARGO_BIN_EXE_barque");

/// Why privileged tests cannot run here.
pub fn missing(programs: &[&str]) -> Option<String> {
    if !rustix::process::getuid().is_root() {
        return Some("not root".into());
    }
    ["unshare", "nsenter", "ip"].iter().chain(programs).find(|p| !tools::installed(p)).map(|p| format!("no {p}"))
}

/// An engine that ends with the test.
pub struct Machine {
    pub dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let listed = self.try_run("barque", &["ps", "-aq"]).map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        for id in listed.unwrap_or_default().split_whitespace() {
            let _ = self.try_run("barque", &["rm", "-f", "-v", id]);
        }
        let pid = std::fs::read_to_string(self.path("pid")).unwrap_or_default();
        let _ = Command::new("kill").arg(pid.trim()).status();
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline && !matches!(self.child.try_wait(), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", std::fs::read_to_string(self.path("log")).unwrap_or_default());
        }
    }
}

impl Machine {
    /// Starts an engine with these options more.
    pub fn start(options: &[&str]) -> Machine {
        let dir = tempfile::Builder::new().prefix("barque-test").tempdir().unwrap();
        Self::start_in(dir, options)
    }

    pub fn start_in(dir: tempfile::TempDir, options: &[&str]) -> Machine {
        let host = format!("unix://{}", dir.path().join("sock").display());
        Self::launch(dir, "exec \"$@\"", Stdio::null(), &[&["-H", &host], options].concat())
    }

    /// Starts an engine as systemd does: with its socket open (sd_listen_fds(3)).
    pub fn start_activated() -> Machine {
        let dir = tempfile::Builder::new().prefix("barque-test").tempdir().unwrap();
        let socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).unwrap();
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"";
        Self::launch(dir, script, std::os::fd::OwnedFd::from(socket).into(), &["-H", "fd://"])
    }

    fn launch(dir: tempfile::TempDir, script: &str, stdin: Stdio, options: &[&str]) -> Machine {
        let at = |name: &str| dir.path().join(name).display().to_string();
        let bin = dir.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        for name in ["barque", "docker", "docker-compose"] {
            std::os::unix::fs::symlink(BARQUE, bin.join(name)).unwrap();
        }
        let script = format!("ip link set lo up; {script}");
        let log = std::fs::File::create(at("log")).unwrap();
        let child = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c", &script, "sh", BARQUE, "daemon", "--data-root", &at("data")])
            .args(["--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(options)
            .stdin(stdin)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let machine = Machine { dir, child };
        let deadline = Instant::now() + Duration::from_secs(40);
        // A socket that was open before the engine tells nothing.
        while !machine.try_run("barque", &["ps"]).is_ok_and(|done| done.status.success()) {
            let log = || std::fs::read_to_string(machine.path("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the engine does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        machine
    }

    /// Process id of the daemon.
    pub fn daemon(&self) -> u32 {
        std::fs::read_to_string(self.path("pid")).unwrap().trim().parse().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A command where the engine is, with a home of its own and the program under all its names. In the engine's mounts
    /// too: paths mean the same to both.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let script = "n=/proc/$1/ns; shift; exec nsenter --net=$n/net --mount=$n/mnt -- env -C \"$PWD\" \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh", &self.child.id().to_string(), program])
            .args(args)
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", self.text("bin")))
            .env("HOME", self.dir.path())
            .env("LC_ALL", "C.UTF-8")
            .env("DOCKER_HOST", format!("unix://{}", self.text("sock")))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub fn try_run(&self, program: &str, args: &[&str]) -> std::io::Result<Output> {
        self.command(program, args).output()
    }

    /// Runs the program and gives its standard output; panics unless it succeeds.
    pub fn barque(&self, args: &[&str]) -> String {
        let done = self.try_run("barque", args).unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}
