//! Compose against a real engine: Debian's dockerd on scratch directories in namespaces of its own.
//!
//! Needs root, dockerd and busybox; skips with a reason without them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use barque_compose::cli::{Host, run};

#[path = "../../barque-registry/tests/common/tools.rs"]
mod tools;

/// An engine that ends with the test.
struct Daemon {
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.dir.path().join("pid")).unwrap_or_default();
        let _ = Command::new("kill").arg(pid.trim()).status();
        let deadline = Instant::now() + Duration::from_secs(15);
        while Instant::now() < deadline && !matches!(self.child.try_wait(), Ok(Some(_))) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn missing() -> Option<&'static str> {
    if !rustix::process::getuid().is_root() {
        return Some("not root");
    }
    let needed = [("dockerd", "no dockerd"), ("busybox", "no busybox"), ("unshare", "no unshare")];
    needed.into_iter().find(|(program, _)| !tools::installed(program)).map(|(_, why)| why)
}

impl Daemon {
    fn start() -> Daemon {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let script = format!(
            "mount --make-rprivate / && ip link set lo up && exec /usr/sbin/dockerd --data-root {} --exec-root {} \
             -H unix://{} --pidfile {} --storage-driver vfs",
            at("data"),
            at("exec"),
            at("sock"),
            at("pid")
        );
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("unshare")
            .args(["-n", "-m", "bash", "-c", &script])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Daemon { dir, child };
        let deadline = Instant::now() + Duration::from_secs(40);
        while std::os::unix::net::UnixStream::connect(daemon.socket()).is_err() {
            let log = || std::fs::read_to_string(daemon.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "dockerd does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    fn client(&self) -> barque_client::Client {
        barque_client::Client::new(barque_client::Host::Unix(self.socket()))
    }

    /// `busybox:latest`, made of the machine's own.
    async fn image(&self) {
        let root = self.dir.path().join("root");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::copy("/usr/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "cat", "echo", "true", "httpd", "ls"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let mut tar = tar::Builder::new(Vec::new());
        tar.follow_symlinks(false);
        tar.append_dir_all(".", &root).unwrap();
        let query = barque_api::image::ImageCreateQuery {
            from_src: "-".into(),
            repo: "busybox".into(),
            tag: "latest".into(),
            changes: vec!["ENV PATH=/bin".into()],
            ..Default::default()
        };
        let content = barque_client::Upload::bytes(tar.into_inner().unwrap());
        self.client().image_import(&query, content).await.unwrap().finish().await.unwrap();
    }

    /// Runs a compose command in a directory.
    async fn compose(&self, dir: &Path, words: &[&str]) -> i32 {
        let client = self.client();
        let host = Host {
            program: "compose".into(),
            version: "0.0.0".into(),
            environment: BTreeMap::new(),
            cwd: dir.to_path_buf(),
            home: None,
            connect: Arc::new(move || {
                let client = client.clone();
                Box::pin(async move { Ok(client) })
            }),
            auth: Arc::new(|_| None),
            logins: Arc::new(String::new),
            nearby: |_| false,
            render: |_, _| Err("no templates here".into()),
            cure: std::sync::Arc::new(|_| None),
        };
        run(words.iter().map(Into::into).collect(), host).await
    }

    /// Name → (id, state) of every container.
    async fn containers(&self) -> BTreeMap<String, (String, String)> {
        let query = barque_api::container::ContainerListQuery { all: true, ..Default::default() };
        let all = self.client().container_list(&query).await.unwrap();
        all.into_iter().map(|c| (c.names[0].trim_start_matches('/').to_owned(), (c.id, c.state))).collect()
    }
}

const FILE: &str = "
services:
  db:
    image: busybox
    command: sleep 1000
    init: true
    environment: {A: '1'}
    volumes: ['data:/data', /anonymous]
    healthcheck: {test: ['CMD', 'true'], interval: 1s}
  init:
    image: busybox
    command: sh -c 'cat /secret > /data/copy && cat /etc/conf >> /data/copy'
    volumes: ['data:/data']
    secrets: [{source: s, target: /secret, uid: '7', mode: 0400}]
    configs: [{source: c, target: /etc/conf}]
    depends_on: {db: {condition: service_healthy}}
  web:
    image: busybox
    command: sleep 1000
    init: true
    deploy: {replicas: 2}
    depends_on: {init: {condition: service_completed_successfully}}
    networks: [default, front]
networks: {front: {}}
volumes: {data: {}}
secrets: {s: {file: ./s.txt}}
configs: {c: {content: 'of config'}}
";

#[tokio::test(flavor = "current_thread")]
async fn priv_a_project_lives() {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return;
    }
    let daemon = Daemon::start();
    daemon.image().await;
    let dir = tempfile::Builder::new().prefix("live").tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("compose.yaml"), FILE).unwrap();
    std::fs::write(dir.join("s.txt"), "of secret, ").unwrap();
    let p = |args: &'static [&'static str]| [&["-p", "live"], args].concat();

    assert_eq!(daemon.compose(dir, &p(&["plan"])).await, 2, "there is all to do");
    assert_eq!(daemon.compose(dir, &p(&["--dry-run", "up", "-d"])).await, 0);
    assert!(daemon.containers().await.is_empty(), "a dry run changes nothing");

    assert_eq!(daemon.compose(dir, &p(&["up", "-d"])).await, 0);
    let first = daemon.containers().await;
    let states: Vec<(&str, &str)> = first.iter().map(|(n, (_, s))| (n.as_str(), s.as_str())).collect();
    assert_eq!(
        states,
        [("live-db-1", "running"), ("live-init-1", "exited"), ("live-web-1", "running"), ("live-web-2", "running")]
    );
    let check = ["exec", "-T", "db", "sh", "-c", "[ \"$(cat /data/copy)\" = 'of secret, of config' ]"];
    assert_eq!(daemon.compose(dir, &[&["-p", "live"], &check[..]].concat()).await, 0, "secret and config arrived");
    assert_eq!(daemon.compose(dir, &p(&["exec", "-T", "db", "sh", "-c", "exit 9"])).await, 9);

    assert_eq!(daemon.compose(dir, &p(&["plan"])).await, 0, "nothing is left to do");
    assert_eq!(daemon.compose(dir, &p(&["up", "-d"])).await, 0);
    assert_eq!(daemon.containers().await, first, "nothing was touched, the finished one-shot neither");

    let mark = ["exec", "-T", "db", "sh", "-c", "echo kept > /anonymous/mark"];
    assert_eq!(daemon.compose(dir, &[&["-p", "live"], &mark[..]].concat()).await, 0);
    std::fs::write(dir.join("compose.yaml"), FILE.replace("{A: '1'}", "{A: '2'}")).unwrap();
    assert_eq!(daemon.compose(dir, &p(&["up", "-d", "-t", "1"])).await, 0);
    let second = daemon.containers().await;
    assert_ne!(second["live-db-1"], first["live-db-1"], "what changed is new");
    assert_eq!(second["live-web-1"], first["live-web-1"], "what did not change is not");
    let kept = ["exec", "-T", "db", "sh", "-c", "[ \"$(cat /anonymous/mark)\" = kept ] && [ $A = 2 ]"];
    assert_eq!(daemon.compose(dir, &[&["-p", "live"], &kept[..]].concat()).await, 0, "anonymous volumes are kept");

    assert_eq!(daemon.compose(dir, &p(&["up", "-d", "-t", "1", "--scale", "web=1"])).await, 0);
    assert_eq!(daemon.containers().await.len(), 3);
    assert_eq!(daemon.compose(dir, &p(&["run", "--rm", "-T", "--no-deps", "web", "sh", "-c", "exit 4"])).await, 4);
    assert_eq!(daemon.containers().await.len(), 3, "a container of run --rm is gone");

    assert_eq!(daemon.compose(dir, &p(&["down", "-v", "-t", "1"])).await, 0);
    assert!(daemon.containers().await.is_empty());
    let volumes = daemon.client().volume_list(&Default::default()).await.unwrap().volumes;
    assert!(volumes.is_empty(), "{volumes:?}");
    let networks = daemon.client().network_list(&Default::default()).await.unwrap();
    assert_eq!(networks.len(), 3, "only the engine's own are left");
}

#[tokio::test(flavor = "current_thread")]
async fn priv_failures_are_told() {
    if let Some(why) = missing() {
        println!("skipped: {why}");
        return;
    }
    let daemon = Daemon::start();
    daemon.image().await;
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(dir.path().join("compose.yaml"), text).unwrap();
    let up = ["-p", "x", "up", "-d"];

    write(
        "services:\n  a: {image: busybox, command: sh -c 'exit 3'}\n  b: {image: busybox, command: 'true', depends_on: {a: {condition: service_completed_successfully}}}\n",
    );
    assert_eq!(daemon.compose(dir.path(), &up).await, 1, "a dependency that fails stops what needs it");
    assert_eq!(daemon.containers().await["x-b-1"].1, "created");
    assert_eq!(daemon.compose(dir.path(), &["-p", "x", "down"]).await, 0);

    write(
        "services:\n  a: {image: busybox, command: sleep 100, healthcheck: {test: 'exit 1', interval: 1s, retries: 1}}\n  b: {image: busybox, command: 'true', depends_on: {a: {condition: service_healthy}}}\n",
    );
    assert_eq!(daemon.compose(dir.path(), &up).await, 1, "so does one that is not healthy");
    assert_eq!(daemon.compose(dir.path(), &["-p", "x", "down", "-t", "0"]).await, 0);

    write(
        "services:\n  a: {image: busybox, command: sleep 100, init: true, pre_start: [{command: [sh, -c, 'exit 5']}]}\n",
    );
    assert_eq!(daemon.compose(dir.path(), &up).await, 1, "a hook that fails keeps its service from starting");
    let states: Vec<String> = daemon.containers().await.into_values().map(|(_, state)| state).collect();
    assert_eq!(states, ["created", "exited"], "the hook is kept to be looked at");
    write("services:\n  a: {image: busybox, command: sleep 100, init: true, pre_start: [{command: 'true'}]}\n");
    assert_eq!(daemon.compose(dir.path(), &up).await, 0);
    assert_eq!(daemon.containers().await.len(), 1, "hooks that ended well are gone, and so are old ones");
    assert_eq!(daemon.compose(dir.path(), &["-p", "x", "down", "-t", "1"]).await, 0);

    write("services:\n  a: {image: nowhere.invalid/none}\n");
    assert_eq!(daemon.compose(dir.path(), &up).await, 1, "an image that cannot be had");
    write("services:\n  a: {image: busybox, networks: [n]}\nnetworks: {n: {external: true}}\n");
    assert_eq!(daemon.compose(dir.path(), &up).await, 1, "an external network that is not there");
    write("services:\n  a: {imgae: busybox}\n");
    assert_eq!(daemon.compose(dir.path(), &up).await, 15, "a file that is not valid");
    assert_eq!(daemon.compose(dir.path(), &["-f", "nope.yaml", "up"]).await, 14, "a file that is not there");
    assert_eq!(daemon.compose(dir.path(), &["up", "--no-such-flag"]).await, 16);
    assert_eq!(daemon.compose(dir.path(), &["build", "--provenance", "true"]).await, 125);
    assert!(daemon.containers().await.is_empty());
}
