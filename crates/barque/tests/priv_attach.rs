//! Attached clients that come and go, while the container says nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pair::{Engine, in_namespaces};

/// Attaches over a connection of its own; gives it once it is raw.
fn attach(engine: &Engine, name: &str) -> UnixStream {
    let mut stream = UnixStream::connect(engine.dir.join("sock")).unwrap();
    let request = format!(
        "POST /v1.41/containers/{name}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: e\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    stream
}

fn soon(mut met: impl FnMut() -> bool) -> bool {
    (0..50).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        met()
    })
}

#[test]
fn priv_clients_that_vanish_leave_nothing_open() {
    in_namespaces("priv_clients_that_vanish_leave_nothing_open", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        for (name, options) in [("quiet", "-di"), ("terminal", "-dit")] {
            engine.ok(&["run", options, "--name", name, "--network", "none", "box", "sh", "-c", "sleep 1000"]);
        }
        let open = || std::fs::read_dir(format!("/proc/{}/fd", engine.pid())).unwrap().count();
        let before = open();
        for name in ["quiet", "terminal"] {
            let clients: Vec<UnixStream> = (0..20).map(|_| attach(&engine, name)).collect();
            assert!(open() >= before + 40, "{} {before}", open());
            // Half of them end their input first; all go without a word.
            clients.iter().step_by(2).for_each(|client| client.shutdown(Shutdown::Write).unwrap());
            std::thread::sleep(Duration::from_millis(200));
            drop(clients);
            assert!(soon(|| open() <= before + 2), "{name}: {} are open, {before} before", open());
        }
        engine.ok(&["rm", "-f", "quiet", "terminal"]);
    });
}

#[test]
fn priv_a_client_that_has_ended_its_input_still_reads() {
    in_namespaces("priv_a_client_that_has_ended_its_input_still_reads", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let create = |name: &str, script: &str| {
            engine.ok(&["create", "-i", "--name", name, "--network", "none", "box", "sh", "-c", script]);
        };
        create("slow", "cat; sleep 1; echo late");
        let mut client = attach(&engine, "slow");
        engine.ok(&["start", "slow"]);
        client.write_all(b"early\n").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut text = Vec::new();
        client.read_to_end(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains("early") && text.ends_with("late\n"), "{text:?}");
        // Of one that leaves at once, everything is heard.
        create("left", "sleep 1; cat > /heard; sleep 1000");
        let mut client = attach(&engine, "left");
        engine.ok(&["start", "left"]);
        client.write_all(&vec![b'x'; 1_000_000]).unwrap();
        drop(client);
        let heard = || engine.ok(&["exec", "left", "sh", "-c", "wc -c < /heard"]);
        assert!(soon(|| heard() == "1000000"), "{}", heard());
        engine.ok(&["rm", "-f", "left"]);
    });
}

/// A write to a closed pipe would end them.
#[test]
fn priv_what_an_exec_leaves_behind_may_go_on_writing() {
    in_namespaces("priv_what_an_exec_leaves_behind_may_go_on_writing", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["run", "-d", "--name", "box", "--network", "none", "box", "sleep", "1000"]);
        let began = std::time::Instant::now();
        let script = "(sleep 5; echo late; echo survived > /proof) & echo early";
        assert_eq!(engine.ok(&["exec", "box", "sh", "-c", script]), "early");
        assert!(began.elapsed() < Duration::from_secs(5), "the end is told before the late word");
        let mut proof = || engine.run(&["exec", "box", "cat", "/proof"]).is_ok_and(|text| text == "survived");
        assert!(soon(&mut proof) || soon(&mut proof));
    });
}

/// Who still sends when the command ends hears its status, not that the connection was reset.
#[test]
fn priv_input_that_is_left_unread_changes_no_status() {
    in_namespaces("priv_input_that_is_left_unread_changes_no_status", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["run", "-d", "--name", "quiet", "--network", "none", "box", "sleep", "1000"]);
        let ours = format!("{} -H unix://{}", env!("CARGO_BIN_EXE_barque"), engine.dir.join("sock").display());
        let mut clients = vec![ours];
        if pair::installed("docker") {
            clients.push(format!("docker -H unix://{}", engine.dir.join("sock").display()));
        }
        for client in clients {
            for (command, size) in
                [("exec -i quiet", 1 << 20), ("exec -i quiet", 20 << 20), ("run -i --rm --network none box", 1 << 20)]
            {
                for _ in 0..8 {
                    let script = format!(
                        "head -c {size} /dev/zero | {client} {command} sh -c 'head -c 10 > /dev/null; echo out; exit 5' 2>&1; echo ${{PIPESTATUS[1]}}"
                    );
                    let done = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
                    assert_eq!(String::from_utf8_lossy(&done.stdout), "out\n5\n", "{client} {command}, {size} bytes");
                }
            }
        }
    });
}
