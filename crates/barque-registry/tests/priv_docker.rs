//! Docker's daemon and client against our registry: push, pull, mount, login, mirror. Needs root; runs in namespaces of
//! its own, which take every process with them when they end.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use barque_registry::Credentials;
use barque_registry::server::MirrorConfig;
use common::{Server, installed, quick};

const INSIDE: &str = "BARQUE_TEST_INSIDE_NAMESPACES";

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

#[test]
fn priv_docker_uses_our_registry() {
    if !is_root() || !["dockerd", "docker", "unshare", "ip"].iter().all(|program| installed(program)) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inside_namespaces", "--ignored", "--nocapture"])
        .env(INSIDE, scratch.path())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// A daemon on scratch directories and a client that talks to it.
struct Docker {
    dir: std::path::PathBuf,
    daemon: std::process::Child,
}

impl Docker {
    async fn start(dir: &Path, mirror: &str) -> Self {
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", dir.join("sock").display()))
            .args(["--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip-forward=false"])
            .args(["--registry-mirror", mirror])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let docker = Self { dir: dir.to_owned(), daemon };
        for _ in 0..300 {
            if docker.command(&["version"]).output().unwrap().status.success() {
                return docker;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("dockerd does not answer: {}", std::fs::read_to_string(dir.join("log")).unwrap());
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(args);
        command.env("DOCKER_HOST", format!("unix://{}", self.dir.join("sock").display()));
        command.env("DOCKER_CONFIG", self.dir.join("config"));
        command
    }

    fn run(&self, args: &[&str]) -> Result<String, String> {
        let output = tokio::task::block_in_place(|| self.command(args).output()).unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    fn ok(&self, args: &[&str]) -> String {
        self.run(args).unwrap_or_else(|said| panic!("docker {args:?}: {said}"))
    }

    fn fails(&self, args: &[&str], expected: &str) {
        let said = self.run(args).expect_err("should fail");
        assert!(said.contains(expected), "docker {args:?}: {said}");
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by priv_docker_uses_our_registry in namespaces of its own"]
async fn inside_namespaces() {
    let Some(dir) = std::env::var_os(INSIDE) else { return };
    let dir = Path::new(&dir);
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());

    let open = Server::start().await;
    let closed = Server::with(|config| {
        let path = config.root.with_file_name("htpasswd");
        std::fs::write(&path, format!("pupil:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        config.htpasswd = Some(path);
    })
    .await;
    let upstream = format!("http://{}", open.host());
    let mirror = MirrorConfig { upstream, credentials: Credentials::Anonymous, client: quick() };
    let cache = Server::with(|config| config.mirror = Some(mirror)).await;
    let docker = Docker::start(dir, &format!("http://{}", cache.host())).await;

    // Two layers, one of some size.
    let files = dir.join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("noise"), common::noise(1, 5_000_000)).unwrap();
    let tar = dir.join("base.tar");
    let packed = Command::new("tar").arg("-C").arg(&files).arg("-cf").arg(&tar).arg(".").status().unwrap();
    assert!(packed.success());
    docker.ok(&["import", tar.to_str().unwrap(), "base:1"]);
    let id = |docker: &Docker, name: &str| docker.ok(&["image", "inspect", "-f", "{{.Id}}", name]).trim().to_owned();
    let original = id(&docker, "base:1");

    let name = format!("{}/team/app:1", open.host());
    docker.ok(&["tag", "base:1", &name]);
    let pushed = docker.ok(&["push", &name]);
    assert!(pushed.contains(": Pushed") && pushed.contains("1: digest: sha256:"), "{pushed}");
    assert!(docker.ok(&["push", &name]).contains("Layer already exists"));
    let second = format!("{}/other/app:1", open.host());
    docker.ok(&["tag", "base:1", &second]);
    assert!(docker.ok(&["push", &second]).contains("Mounted from team/app"));

    let hub = format!("{}/library/hubapp:1", open.host());
    docker.ok(&["tag", "base:1", &hub]);
    docker.ok(&["push", &hub]);
    docker.ok(&["rmi", "-f", "base:1", &name, &second, &hub]);
    let pulled = docker.ok(&["pull", &name]);
    assert!(pulled.contains("Downloaded newer image"), "{pulled}");
    assert_eq!(id(&docker, &name), original);
    docker.ok(&["rmi", "-f", &name]);
    // A short name comes through the cache.
    docker.ok(&["pull", "hubapp:1"]);
    assert_eq!(id(&docker, "hubapp:1"), original);

    let missing = format!("{}/team/app:none", open.host());
    docker.fails(&["pull", &missing], &format!("manifest for {missing} not found: manifest unknown: manifest unknown"));

    let private = format!("{}/pupil/app:1", closed.host());
    docker.ok(&["tag", "hubapp:1", &private]);
    docker.fails(&["push", &private], "no basic auth credentials");
    docker.fails(&["login", "-u", "pupil", "-p", "wrong", &closed.host()], "401 Unauthorized");
    assert!(docker.ok(&["login", "-u", "pupil", "-p", "secret", &closed.host()]).contains("Login Succeeded"));
    docker.ok(&["push", &private]);
    docker.ok(&["pull", &private]);
    docker.ok(&["logout", &closed.host()]);
    docker.fails(&["pull", &private], "no basic auth credentials");
}
