//! Restarts, removals and ends, as users and scripts meet them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Machine, missing};

fn machine() -> Option<Machine> {
    match missing(&[]) {
        Some(why) => {
            eprintln!("skipped: {why}");
            None
        }
        None => Some(Machine::start(&[])),
    }
}

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !met() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn status(m: &Machine, name: &str) -> String {
    m.barque(&["inspect", "-f", "{{.State.Status}}", name]).trim().to_owned()
}

#[test]
fn a_restart_keeps_what_goes_away_at_its_end() {
    let Some(m) = machine() else { return };
    m.barque(&["run", "-d", "--rm", "--name", "kept", "barque/host", "sh", "-c", "echo > /kept; exec sleep 1000"]);
    until("the file", || m.try_run("barque", &["exec", "kept", "test", "-e", "/kept"]).unwrap().status.success());
    m.barque(&["restart", "-t", "0", "kept"]);
    assert_eq!(status(&m, "kept"), "running");
    m.barque(&["exec", "kept", "test", "-e", "/kept"]);
    m.barque(&["stop", "-t", "0", "kept"]);
    until("its removal", || !m.barque(&["ps", "-aq"]).contains(|c: char| c.is_alphanumeric()));
}

#[test]
fn a_container_that_fails_again_and_again_is_up() {
    let Some(m) = machine() else { return };
    m.barque(&["run", "-d", "--restart", "always", "--name", "loop", "barque/host", "sh", "-c", "sleep 0.2; exit 3"]);
    // At an exit that a restart follows, too.
    assert_eq!(m.barque(&["wait", "loop"]).trim(), "3");
    until("a restart", || status(&m, "loop") == "restarting");
    assert!(m.barque(&["ps", "--format", "{{.Names}}"]).contains("loop"));
    let refused = m.try_run("barque", &["rm", "loop"]).unwrap();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("before removing or force remove"), "{text}");
    m.barque(&["rm", "-f", "loop"]);
    assert!(m.barque(&["ps", "-aq"]).is_empty());
}

#[test]
fn an_engine_that_stops_starts_nothing_again() {
    if missing(&[]).is_some() {
        return;
    }
    let m = Machine::start(&["--live-restore=false"]);
    let run = |name: &str, script: &str| {
        let args = ["run", "-d", "--restart", "always", "--name", name, "barque/host", "sh", "-c", script];
        m.barque(&args).trim().to_owned()
    };
    let ids = [run("quick", "exec sleep 1000"), run("slow", "trap 'sleep 2; exit 0' TERM; sleep 1000 & wait")];
    assert!(Command::new("kill").arg(m.daemon().to_string()).status().unwrap().success());
    until("the daemon's end", || !m.path("pid").exists());
    let running = |id: &String| {
        let found = Command::new("pgrep").args(["-f", &format!("barque-monitor.*{}", &id[..12])]).output().unwrap();
        !found.stdout.is_empty()
    };
    until("the monitors' end", || !ids.iter().any(running));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!ids.iter().any(running));
}

#[test]
fn shared_memory_belongs_to_its_ipc_namespace() {
    let Some(m) = machine() else { return };
    let shell = |options: &[&str], script: &str| {
        m.try_run("barque", &[&["run", "--rm"], options, &["barque/host", "sh", "-c", script]].concat()).unwrap()
    };
    m.barque(&["run", "-d", "--name", "donor", "--ipc", "shareable", "barque/host", "sleep", "1000"]);
    m.barque(&["run", "-d", "--name", "private", "barque/host", "sleep", "1000"]);
    m.barque(&["exec", "donor", "sh", "-c", "echo shared > /dev/shm/x"]);
    assert_eq!(shell(&["--ipc", "container:donor"], "cat /dev/shm/x").stdout, b"shared\n");
    let source = "grep ' /dev/shm ' /proc/mounts";
    for (options, size) in [
        (&[][..], "size=65536k"),
        (&["--ipc", "shareable", "--shm-size", "3m"], "size=3072k"),
        (&["--ipc", "container:donor"], "size=65536k"),
        (&["--ipc", "private", "--tty"], "size=65536k"),
    ] {
        let line = String::from_utf8(shell(options, source).stdout).unwrap();
        assert!(line.starts_with("shm /dev/shm tmpfs rw,nosuid,nodev,noexec") && line.contains(size), "{line}");
    }
    let refused = shell(&["--ipc", "container:private"], "true");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("non-shareable IPC"));
    assert!(shell(&["--ipc", "none"], "! grep -q ' /dev/shm ' /proc/mounts").status.success());
    let host = format!("stat -f -c %b /dev/shm | grep -x {}", blocks());
    assert!(shell(&["--ipc", "host"], &host).status.success());
}

/// Blocks of the machine's own shared memory.
fn blocks() -> u64 {
    rustix::fs::statvfs("/dev/shm").unwrap().f_blocks
}

#[test]
fn a_creation_that_fails_leaves_no_volume() {
    let Some(m) = machine() else { return };
    m.barque(&["create", "--name", "taken", "barque/host", "true"]);
    let again =
        m.try_run("barque", &["create", "--name", "taken", "-v", "/data", "-v", "new:/x", "barque/host", "true"]);
    assert!(!again.unwrap().status.success());
    assert_eq!(m.barque(&["volume", "ls", "-q"]), "");
    let volumes = m.path("data").join("volumes");
    assert_eq!(std::fs::read_dir(volumes).map_or(0, Iterator::count), 0);
}

#[test]
fn a_copy_into_a_volume_of_a_read_only_container() {
    let Some(m) = machine() else { return };
    std::fs::write(m.path("file"), "x").unwrap();
    let options = ["create", "--name", "sealed", "--read-only", "-v", "open:/open", "-v", "shut:/shut:ro"];
    m.barque(&[&options[..], &["barque/host", "sleep", "1000"]].concat());
    let copy = |to: &str| m.try_run("barque", &["cp", "file", to]).unwrap();
    for _ in ["stopped", "running"] {
        assert!(copy("sealed:/open/").status.success());
        for (place, why) in [("sealed:/shut/", "mounted volume is"), ("sealed:/root/", "container rootfs is")] {
            let refused = copy(place);
            let text = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(!refused.status.success() && text.contains(why), "{place}: {text}");
        }
        m.barque(&["start", "sealed"]);
    }
}

#[test]
fn a_slow_reader_gets_everything() {
    let Some(m) = machine() else { return };
    // More than the pipe and the monitor's queue hold, then an end long before the reader begins.
    let args = ["run", "--rm", "--name", "many", "barque/host", "seq", "1", "60000"];
    let mut reader = m.command("barque", &args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut pipe = reader.stdout.take().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut pipe, &mut text).unwrap();
    assert!(reader.wait().unwrap().success());
    assert_eq!(text.lines().count(), 60000);
}

#[test]
fn a_program_that_is_a_directory_is_126_for_dockers_client() {
    let Some(m) = machine() else { return };
    let Some(docker) =
        ["/usr/bin/docker", "/usr/local/bin/docker"].into_iter().find(|p| std::path::Path::new(p).exists())
    else {
        eprintln!("skipped: no docker");
        return;
    };
    let done = m.try_run(docker, &["run", "--rm", "barque/host", "/etc"]).unwrap();
    assert_eq!(done.status.code(), Some(126), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_machine_that_was_changed_is_an_image_and_an_archive() {
    let Some(m) = machine() else { return };
    let script = "echo made > /made; rm -rf /opt/gone; exec sleep 1000";
    m.barque(&["run", "-d", "--name", "changed", "--network", "none", "barque/host", "sh", "-c", script]);
    until("the change", || m.try_run("barque", &["exec", "changed", "test", "-e", "/made"]).unwrap().status.success());
    m.barque(&["commit", "changed", "machine:1"]);
    assert_eq!(m.barque(&["run", "--rm", "--network", "none", "machine:1", "cat", "/made"]), "made\n");
    // A change of a change, looked at while both run.
    m.barque(&[
        "run",
        "-d",
        "--name",
        "again",
        "--network",
        "none",
        "machine:1",
        "sh",
        "-c",
        &script.replace("made >", "more >>"),
    ]);
    until("the change", || m.barque(&["exec", "again", "cat", "/made"]) == "made\nmore\n");
    m.barque(&["commit", "again", "machine:2"]);
    assert_eq!(m.barque(&["run", "--rm", "--network", "none", "machine:2", "cat", "/made"]), "made\nmore\n");
    for (name, expected) in [("changed", "made\n"), ("again", "made\nmore\n")] {
        assert!(m.barque(&["diff", name]).contains("/made"));
        let script = format!("barque export {name} | tar -xO --occurrence=1 made");
        let done = m.try_run("sh", &["-c", &script]).unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout), expected);
        m.barque(&["exec", name, "sh", "-c", "echo on > /tmp/goes-on"]);
        m.barque(&["stop", "-t", "0", name]);
        m.barque(&["cp", &format!("{name}:/made"), "copied"]);
        assert_eq!(std::fs::read_to_string(m.path("copied")).unwrap(), expected);
    }
}

#[test]
fn copies_into_a_container_that_is_started_meanwhile_are_whole() {
    let Some(m) = machine() else { return };
    let tree = m.path("tree");
    std::fs::create_dir(&tree).unwrap();
    for n in 0..200 {
        std::fs::write(tree.join(n.to_string()), n.to_string()).unwrap();
    }
    for round in 0..3 {
        m.barque(&["create", "--name", "filled", "--network", "none", "barque/host", "sleep", "1000"]);
        let copy =
            |n: usize| m.command("barque", &["cp", "tree", &format!("filled:/copied{}", n % 3)]).spawn().unwrap();
        let mut children: Vec<_> = (0..6).map(copy).collect();
        children.iter_mut().for_each(|copy| assert!(copy.wait().unwrap().success(), "round {round}"));
        let copy = |n: usize| m.command("barque", &["cp", "tree", &format!("filled:/other{n}")]).spawn().unwrap();
        let mut children: Vec<_> = (0..6).map(copy).collect();
        children.push(m.command("barque", &["start", "filled"]).spawn().unwrap());
        children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success(), "round {round}"));
        // They meet one another at the same files.
        let copy = |_: usize| m.command("barque", &["cp", "tree/.", "filled:/copied0"]).spawn().unwrap();
        let mut children: Vec<_> = (0..4).map(copy).collect();
        children.iter_mut().for_each(|copy| assert!(copy.wait().unwrap().success(), "round {round}"));
        let count = m.barque(&["exec", "filled", "sh", "-c", "find /copied? /other? -maxdepth 1 -type f | wc -l"]);
        assert_eq!(count.trim(), (3 * 200 + 6 * 200).to_string(), "round {round}");
        m.barque(&["rm", "-f", "filled"]);
    }
}
