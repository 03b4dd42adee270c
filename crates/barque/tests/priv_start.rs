//! How engines begin and end: started by the first command, stopped by a signal; and what commands in the foreground
//! and stopped containers keep of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use pair::{Engine, barque_program, in_namespaces, sh};
use rustix::process::{Pid, Signal, kill_process};

const SAID: &str = "Started the engine (barque daemon, pid ";

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !met() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A command that names no engine.
fn plain(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(barque_program());
    command.args(args).env_clear().env("HOME", home).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// Ids of the engines of this process namespace.
fn engines() -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"barque\0daemon\0"))
    })
    .collect()
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

#[test]
fn priv_the_first_command_starts_one_engine() {
    in_namespaces("priv_the_first_command_starts_one_engine", |dir| {
        sh("mkdir -p /var/lib/barque && for at in /run /var/lib/barque; do mount -t tmpfs tmpfs $at; done");
        let first = plain(dir, &["ps", "-q"]).output().unwrap();
        assert!(first.status.success() && first.stdout.is_empty(), "{}", said(&first));
        assert!(said(&first).starts_with(SAID) && said(&first).lines().count() == 1, "{}", said(&first));
        let [engine] = engines()[..] else { panic!("{:?}", engines()) };
        assert!(said(&first).contains(&format!("pid {engine})")), "{engine}: {}", said(&first));
        assert_eq!(sh("stat -c %F /run/barque/barque.sock"), "socket");
        let second = plain(dir, &["ps", "-q"]).output().unwrap();
        assert!(second.status.success() && said(&second).is_empty(), "{}", said(&second));
        // An engine that somebody names is not started.
        let mut named = plain(dir, &["ps"]);
        let named = named.env("DOCKER_HOST", format!("unix://{}/none.sock", dir.display())).output().unwrap();
        assert!(!named.status.success() && !said(&named).contains("Started"), "{}", said(&named));

        kill_process(Pid::from_raw(engine).unwrap(), Signal::TERM).unwrap();
        until("its end", || engines().is_empty() && !Path::new("/run/barque/barque.sock").exists());
        let spawn = |_| plain(dir, &["ps", "-q"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let at_once: Vec<Child> = (0..5).map(spawn).collect();
        let done: Vec<Output> = at_once.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        let all: String = done.iter().map(said).collect();
        assert!(done.iter().all(|one| one.status.success()), "{all}");
        assert_eq!((all.matches(SAID).count(), all.lines().count()), (1, 1), "{all}");
        assert_eq!(engines().len(), 1, "{all}");
    });
}

#[test]
fn priv_an_engine_that_is_told_to_end_leaves_its_containers_alone() {
    in_namespaces("priv_an_engine_that_is_told_to_end_leaves_its_containers_alone", |dir| {
        let mut engine = Engine::barque(dir, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let script = "trap 'exit 42' TERM; while :; do echo tick; sleep 0.1; done";
        engine.ok(&["run", "-d", "--name", "ticker", "-p", "127.0.0.1:8099:80", "box", "sh", "-c", script]);
        let pid: i32 = engine.ok(&["inspect", "-f", "{{.State.Pid}}", "ticker"]).parse().unwrap();
        let lines = |engine: &Engine| engine.ok(&["logs", "ticker"]).lines().count();
        let before = lines(&engine);
        for name in ["sock", "pid"] {
            assert!(engine.dir.join(name).exists(), "{name}");
        }
        let ended = engine.down(false).unwrap();
        assert_eq!(ended.code(), Some(0), "{}", engine.log());
        for name in ["sock", "pid"] {
            assert!(!engine.dir.join(name).exists(), "{name} is left");
        }
        std::thread::sleep(Duration::from_millis(500));
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "the container ended with its engine");
        engine.up();
        let state = "{{.State.Status}} {{.State.Pid}} {{.RestartCount}}";
        assert_eq!(engine.ok(&["inspect", "-f", state, "ticker"]), format!("running {pid} 0"));
        assert!(lines(&engine) > before + 3, "nothing was logged meanwhile");
        assert_eq!(engine.ok(&["exec", "ticker", "echo", "inside"]), "inside");
        assert_eq!(engine.ok(&["port", "ticker"]), "80/tcp -> 127.0.0.1:8099");
        engine.ok(&["stop", "ticker"]);
        assert_eq!(engine.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ticker"]), "exited 42");
        engine.ok(&["rm", "ticker"]);
    });
}

/// `run` in the foreground of a container that has said that it is ready.
fn foreground(engine: &Engine, name: &str, options: &[&str]) -> Child {
    let script = "trap 'exit 42' TERM; trap 'exit 43' INT; echo ready; while :; do sleep 0.05; done";
    let args = [&["run", "--name", name, "--network", "none"], options, &["box", "sh", "-c", script]].concat();
    let mut child = engine.command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "{name}");
    child
}

fn state(engine: &Engine, name: &str) -> String {
    engine.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name])
}

/// Played on Docker too, so that it is known to be Docker's behaviour.
fn proxied(engine: &Engine) {
    engine.import_busybox("box", &["ENV PATH=/bin"]);
    for (name, signal, code) in [("term", Signal::TERM, 42), ("int", Signal::INT, 43)] {
        let mut run = foreground(engine, name, &[]);
        kill_process(Pid::from_child(&run), signal).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(code), "{} {name}", engine.name);
        assert_eq!(state(engine, name), format!("exited {code}"));
        engine.ok(&["rm", name]);
    }
}

#[test]
fn priv_signals_to_a_run_in_the_foreground_reach_the_container() {
    in_namespaces("priv_signals_to_a_run_in_the_foreground_reach_the_container", |dir| {
        let engine = Engine::barque(dir, &[]);
        proxied(&engine);
        alone(&engine);
    });
}

/// Told so, the command keeps signals to itself: it ends, and the container goes on. (Docker's client waits on.)
fn alone(engine: &Engine) {
    let mut run = foreground(engine, "alone", &["--sig-proxy=false"]);
    kill_process(Pid::from_child(&run), Signal::TERM).unwrap();
    let ended = run.wait().unwrap();
    assert!(!ended.success() && ended.code() != Some(42), "{ended}");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(state(engine, "alone"), "running 0");
    engine.ok(&["rm", "-f", "alone"]);
}

#[test]
fn priv_signals_reach_the_container_so_on_docker() {
    in_namespaces("priv_signals_reach_the_container_so_on_docker", |dir| {
        if let Some(docker) = Engine::docker(dir, &[]) {
            proxied(&docker);
        }
    });
}

#[test]
fn priv_a_volume_keeps_its_data_over_stops() {
    in_namespaces("priv_a_volume_keeps_its_data_over_stops", |dir| {
        let mut engine = Engine::barque(dir, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let script = "echo run >> /data/runs; exec sleep 1000";
        let options = ["run", "-d", "--name", "keeper", "--network", "none", "-v", "kept:/data"];
        engine.ok(&[&options[..], &["box", "sh", "-c", script]].concat());
        engine.ok(&["exec", "keeper", "sh", "-c", "head -c 3000000 /dev/urandom > /data/rows; sync"]);
        let sum = |engine: &Engine| engine.ok(&["exec", "keeper", "md5sum", "/data/rows"]);
        let written = sum(&engine);
        engine.ok(&["stop", "-t", "0", "keeper"]);
        engine.ok(&["start", "keeper"]);
        assert_eq!(sum(&engine), written);
        engine.ok(&["stop", "-t", "0", "keeper"]);
        engine.down(false);
        engine.up();
        engine.ok(&["start", "keeper"]);
        assert_eq!(sum(&engine), written);
        // The image had a file there, which is taken along once.
        assert_eq!(engine.ok(&["exec", "keeper", "cat", "/data/seed"]), "seed");
        until("the third run", || engine.ok(&["exec", "keeper", "cat", "/data/runs"]) == "run\nrun\nrun");
        engine.ok(&["rm", "-f", "keeper"]);
        let read = ["run", "--rm", "--network", "none", "-v", "kept:/other:ro", "box", "md5sum", "/other/rows"];
        assert_eq!(engine.ok(&read).split(' ').next(), written.split(' ').next());
        engine.ok(&["volume", "rm", "kept"]);
    });
}
