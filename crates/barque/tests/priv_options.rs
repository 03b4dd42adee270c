//! Options of `run` as the process inside sees them, and the addresses and headers of an engine.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use pair::{Engine, in_namespaces};

#[test]
fn priv_processes_have_what_run_was_told() {
    in_namespaces("priv_processes_have_what_run_was_told", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let inside = |options: &[&str], script: &str| {
            engine.ok(&[&["run", "--rm", "--network", "none"], options, &["box", "sh", "-c", script]].concat())
        };
        let limits = "ulimit -Sn; ulimit -Hn; ulimit -Sc";
        assert_eq!(inside(&["--ulimit", "nofile=100:200", "--ulimit", "core=0"], limits), "100\n200\n0");
        let bounding = |options: &[&str]| {
            let set = inside(options, "grep CapBnd /proc/self/status");
            u64::from_str_radix(set.split_whitespace().last().unwrap(), 16).unwrap()
        };
        const CHOWN: u64 = 1;
        const NET_RAW: u64 = 1 << 13;
        const SYS_TIME: u64 = 1 << 25;
        let usual = bounding(&[]);
        assert_eq!(usual & (CHOWN | NET_RAW | SYS_TIME), CHOWN | NET_RAW);
        assert_eq!(bounding(&["--cap-drop", "net_raw", "--cap-add", "SYS_TIME"]), usual & !NET_RAW | SYS_TIME);
        assert_eq!(bounding(&["--cap-drop", "ALL", "--cap-add", "CHOWN"]), CHOWN);
        assert_eq!(inside(&["--shm-size", "8m"], "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2"), "8192");
        assert_eq!(
            inside(&["-w", "/made/here", "-e", "A=1", "-h", "pc"], "pwd; echo $A; hostname"),
            "/made/here\n1\npc"
        );
        assert!(inside(&["--read-only", "--tmpfs", "/t"], "touch /t/x && ! touch /x 2>&1").contains("Read-only"));
        let listed = scratch.join("variables");
        std::fs::write(&listed, "# a comment\nB=two words\n").unwrap();
        assert_eq!(inside(&["--env-file", &listed.display().to_string()], "echo $B"), "two words");
    });
}

#[test]
fn priv_a_stop_sends_the_signal_that_was_chosen() {
    in_namespaces("priv_a_stop_sends_the_signal_that_was_chosen", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let wait = "trap 'exit 42' USR1; trap 'exit 43' TERM; echo ready; while :; do sleep 0.1; done";
        for (name, options, code) in [
            ("own", &["--stop-signal", "USR1"][..], "42"),
            ("usual", &[], "43"),
            ("deaf", &["--stop-signal", "HUP", "--stop-timeout", "1", "--entrypoint", "sleep"], "137"),
        ] {
            let command: &[&str] = if name == "deaf" { &["1000"] } else { &["sh", "-c", wait] };
            engine.ok(&[&["run", "-d", "--network", "none", "--name", name], options, &["box"], command].concat());
            while name != "deaf" && engine.ok(&["logs", name]) != "ready" {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            engine.ok(&["stop", name]);
            assert_eq!(engine.ok(&["inspect", "-f", "{{.State.ExitCode}}", name]), code, "{name}");
        }
    });
}

#[test]
fn priv_a_program_that_is_starting_hears_that_it_is_to_end() {
    in_namespaces("priv_a_program_that_is_starting_hears_that_it_is_to_end", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        // The first process has no handler yet when the signal is sent: the kernel would drop it.
        let late = "sleep 1; trap 'exit 42' TERM; while :; do sleep 0.1; done";
        for (name, end) in [("killed", &["kill", "-s", "TERM", "killed"][..]), ("stopped", &["stop", "stopped"])] {
            engine.ok(&["run", "-d", "--network", "none", "--name", name, "box", "sh", "-c", late]);
            engine.ok(end);
            assert_eq!(engine.ok(&["wait", name]), "42");
        }
        // What means nothing to it goes on meaning nothing, and another signal is sent at once.
        engine.ok(&["run", "-d", "--network", "none", "--name", "deaf", "box", "sleep", "1000"]);
        engine.ok(&["kill", "-s", "TERM", "deaf"]);
        engine.ok(&["kill", "-s", "KILL", "deaf"]);
        assert_eq!(engine.ok(&["wait", "deaf"]), "137");
    });
}

/// An answer of the engine to `request`, as bytes on the wire.
fn answer(request: &str) -> String {
    let mut stream = TcpStream::connect("127.0.0.1:23750").unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn priv_an_engine_listens_where_it_is_told_and_says_its_version() {
    in_namespaces("priv_an_engine_listens_where_it_is_told_and_says_its_version", |scratch| {
        let other = format!("unix://{}", scratch.join("other").display());
        let engine = Engine::barque(scratch, &["-H", &other, "-H", "tcp://127.0.0.1:23750", "--tls=false"]);
        for host in [other.as_str(), "tcp://127.0.0.1:23750"] {
            let mut command = engine.command(&["info", "-f", "{{.ID}}"]);
            let done = command.env("DOCKER_HOST", host).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), engine.ok(&["info", "-f", "{{.ID}}"]), "{host}");
        }
        let ping = answer("GET /_ping");
        assert!(ping.starts_with("HTTP/1.1 200 OK\r\n") && ping.ends_with("\r\n\r\nOK"), "{ping}");
        for line in [
            "Api-Version: 1.",
            "Docker-Experimental: false",
            "Ostype: linux",
            "Builder-Version: ",
            "Server: ",
            "Content-Type: text/plain; charset=utf-8",
            "Cache-Control: no-cache, no-store, must-revalidate",
            "Pragma: no-cache",
            "Content-Length: 2",
        ] {
            let has = |l: &str| l.to_ascii_lowercase().starts_with(&line.to_ascii_lowercase());
            assert!(ping.lines().any(has), "{line}: {ping}");
        }
        assert!(answer("HEAD /_ping").contains("200 OK"), "HEAD is how clients ask first");
        let message = |path: &str| answer(&format!("GET {path}")).rsplit_once("\r\n\r\n").unwrap().1.trim().to_owned();
        assert!(
            message("/v1.23/info").contains("client version 1.23 is too old. Minimum supported API version is 1.24")
        );
        assert!(message("/v1.99/info").contains("client version 1.99 is too new. Maximum supported API version is 1."));
        assert!(message("/nowhere").contains("page not found"), "{}", message("/nowhere"));
        let unbuilt = "HTTP/1.1 501 Not Implemented";
        assert!(answer("GET /containers/x/checkpoints").starts_with(unbuilt));
        for version in ["v1.24", "v1.41", "v1.56"] {
            assert!(message(&format!("/{version}/version")).contains("\"MinAPIVersion\":\"1.24\""), "{version}");
        }
    });
}
