//! Running containers that change networks: ports, names, files and routes follow, now and for a later engine.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pair::{Engine, in_namespaces, sh};

const SERVE: &str = "mkdir /w; echo served > /w/index.html; exec httpd -f -p 80 -h /w";

/// Whether the published port is answered on the host.
fn fetched(port: u16) -> bool {
    let fetch = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    // The server may only just be starting.
    (0..10).any(|_| {
        let served = fetch().is_ok_and(|answer| answer.ends_with(b"served\n"));
        if !served {
            std::thread::sleep(Duration::from_millis(100));
        }
        served
    })
}

fn resolves(engine: &Engine, from: &str, name: &str) -> bool {
    engine.run(&["exec", from, "nslookup", name]).is_ok()
}

fn hosts(engine: &Engine) -> String {
    engine.ok(&["exec", "srv", "cat", "/etc/hosts"])
}

fn address(engine: &Engine, network: &str) -> String {
    engine.ok(&["inspect", "-f", &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"), "srv"])
}

fn play(engine: &mut Engine) {
    engine.import_busybox("box", &["ENV PATH=/bin"]);
    for network in ["neta", "netb"] {
        engine.ok(&["network", "create", network]);
        engine.ok(&["run", "-d", "--name", &format!("in-{network}"), "--network", network, "box", "sleep", "1000"]);
    }
    engine.ok(&["network", "create", "--internal", "inside"]);
    engine.ok(&["run", "-d", "--name", "srv", "-p", "18091:80", "--network", "neta", "box", "sh", "-c", SERVE]);
    assert!(fetched(18091) && resolves(engine, "srv", "in-neta") && !resolves(engine, "srv", "in-netb"));
    let old = address(engine, "neta");

    // To another network: the port and the route go along, the old names and lines are gone.
    engine.ok(&["network", "connect", "--alias", "guest", "netb", "srv"]);
    assert!(hosts(engine).contains(&old) && hosts(engine).contains(&address(engine, "netb")));
    engine.ok(&["network", "disconnect", "neta", "srv"]);
    moved(engine, &old);
    // A later engine knows of the move.
    if engine.name == "barque" {
        engine.down(true);
        engine.up();
        moved(engine, &old);
        engine.ok(&["run", "--rm", "--network", "neta", "--ip", &old, "box", "true"]);
    }

    // Out of the last one and into another: no port in between, then the same again.
    engine.ok(&["network", "disconnect", "netb", "srv"]);
    assert_eq!(engine.run(&["port", "srv"]).unwrap_or_default(), "");
    engine.ok(&["network", "connect", "neta", "srv"]);
    assert!(fetched(18091), "{}", engine.log());
    assert!(engine.ok(&["port", "srv"]).contains("80/tcp -> 0.0.0.0:18091"));
    assert!(resolves(engine, "in-neta", "srv") && !resolves(engine, "in-netb", "srv"));

    // From an internal network outwards: only then is there a way out, and the port is open.
    engine.ok(&["run", "-d", "--name", "shy", "-p", "18092:80", "--network", "inside", "box", "sh", "-c", SERVE]);
    let routes = |engine: &Engine| engine.ok(&["exec", "shy", "ip", "route"]);
    // Docker 20.10 gives a default route that leads nowhere; later versions and Barque none.
    let no_way_out = |engine: &Engine| engine.name == "docker" || !routes(engine).contains("default");
    assert!(no_way_out(engine), "{}", routes(engine));
    engine.ok(&["network", "connect", "netb", "shy"]);
    assert!(routes(engine).contains("default via") && fetched(18092), "{}", routes(engine));
    engine.ok(&["network", "disconnect", "netb", "shy"]);
    assert!(no_way_out(engine), "{}", routes(engine));
}

fn moved(engine: &Engine, old: &str) {
    assert!(fetched(18091), "{}", engine.log());
    assert!(engine.ok(&["port", "srv"]).contains("80/tcp -> 0.0.0.0:18091"));
    assert!(engine.ok(&["exec", "srv", "ip", "route"]).contains("default via"));
    assert!(!hosts(engine).contains(old), "{}", hosts(engine));
    assert!(
        resolves(engine, "srv", "in-netb") && !resolves(engine, "srv", "in-neta"),
        "names of the networks it is in"
    );
    assert!(resolves(engine, "in-netb", "guest") && !resolves(engine, "in-neta", "srv"));
    let networks = engine.ok(&["inspect", "-f", "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}", "srv"]);
    assert_eq!(networks.trim(), "netb");
}

#[test]
fn priv_containers_that_move_take_everything_along() {
    in_namespaces("priv_containers_that_move_take_everything_along", |scratch| {
        play(&mut Engine::barque(scratch, &[]));
    });
}

/// The same on Docker, so that it is known to be Docker's behaviour.
#[test]
fn priv_containers_move_so_on_docker() {
    in_namespaces("priv_containers_move_so_on_docker", |scratch| {
        if let Some(mut docker) = Engine::docker(scratch, &[]) {
            play(&mut docker);
        }
    });
}

#[test]
fn priv_a_new_name_outlives_the_engine() {
    in_namespaces("priv_a_new_name_outlives_the_engine", |scratch| {
        let mut engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["network", "create", "neta"]);
        for name in ["first", "asks"] {
            engine.ok(&["run", "-d", "--name", name, "--network", "neta", "box", "sleep", "1000"]);
        }
        engine.ok(&["rename", "first", "second"]);
        let renamed = |engine: &Engine| resolves(engine, "asks", "second") && !resolves(engine, "asks", "first");
        assert!(renamed(&engine));
        engine.down(true);
        engine.up();
        assert!(renamed(&engine));
    });
}

#[test]
fn priv_a_connection_that_fails_leaves_nothing() {
    in_namespaces("priv_a_connection_that_fails_leaves_nothing", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["network", "create", "--subnet", "10.77.1.0/24", "neta"]);
        engine.ok(&["network", "create", "--subnet", "10.77.2.0/24", "netb"]);
        engine.ok(&["run", "-d", "--name", "srv", "--network", "neta", "box", "sleep", "1000"]);
        let hosts = engine.ok(&["inspect", "-f", "{{.HostsPath}}", "srv"]);
        // What is written last cannot be written.
        std::fs::remove_file(&hosts).unwrap();
        std::fs::create_dir(&hosts).unwrap();
        engine.fails(&["network", "connect", "--ip", "10.77.2.9", "netb", "srv"], "cannot change");
        assert!(!engine.ok(&["exec", "srv", "ip", "-o", "addr"]).contains("10.77.2.9"));
        assert_eq!(
            engine.ok(&["run", "--rm", "--network", "netb", "--ip", "10.77.2.9", "box", "echo", "free"]),
            "free"
        );
        engine.ok(&["network", "rm", "netb"]);
        std::fs::remove_dir(&hosts).unwrap();
    });
}

#[test]
fn priv_a_network_removed_while_it_is_joined_leaves_no_device() {
    in_namespaces("priv_a_network_removed_while_it_is_joined_leaves_no_device", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let bridges = || sh("ip -o link show type bridge | wc -l");
        let before = bridges();
        for round in 0..15 {
            engine.ok(&["network", "create", "contested"]);
            let commands: [&[&str]; 3] = [
                &["run", "--rm", "--network", "contested", "box", "true"],
                &["network", "rm", "contested"],
                &["run", "--rm", "--network", "contested", "box", "true"],
            ];
            let mut children: Vec<_> = commands.iter().map(|c| engine.command(c).spawn().unwrap()).collect();
            let done: Vec<bool> = children.iter_mut().map(|c| c.wait().unwrap().success()).collect();
            if !done[1] {
                engine.ok(&["network", "rm", "contested"]);
            }
            // Devices are taken away in the background.
            let gone = (0..50).any(|_| {
                bridges() == before || {
                    std::thread::sleep(Duration::from_millis(100));
                    false
                }
            });
            assert!(gone, "round {round}: {done:?} {}", sh("ip -o link show type bridge"));
        }
    });
}
