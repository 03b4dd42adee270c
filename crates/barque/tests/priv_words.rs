//! What clients and scripts read: host names in shared networks, refusals, exit statuses.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::{Engine, in_namespaces};

#[test]
fn priv_a_shared_network_has_one_host_name() {
    in_namespaces("priv_a_shared_network_has_one_host_name", |scratch| {
        let mut engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["run", "-d", "--name", "web", "--hostname", "ex", "--domainname", "corp", "box", "sleep", "1000"]);
        engine.ok(&["run", "-d", "--name", "side", "--network", "container:web", "box", "sleep", "1000"]);
        let said = "hostname; cat /proc/sys/kernel/domainname; echo $HOSTNAME; cat /etc/hostname";
        let expected = "ex\ncorp\nex\nex";
        assert_eq!(engine.ok(&["run", "--rm", "--network", "container:web", "box", "sh", "-c", said]), expected);
        assert_eq!(engine.ok(&["exec", "side", "sh", "-c", said]), expected);
        let shown = ["inspect", "-f", "{{.Config.Hostname}} {{.Config.Domainname}}", "side"];
        assert_eq!(engine.ok(&shown), "ex corp");
        engine.down(false);
        engine.up();
        assert_eq!(engine.ok(&shown), "ex corp");
        engine.fails(
            &["run", "--rm", "--network", "container:web", "--hostname", "own", "box", "true"],
            "conflicting options: hostname and the network mode",
        );
    });
}

/// What a command that must fail says, and its exit status.
fn failed(engine: &Engine, args: &[&str]) -> (Option<i32>, String) {
    let done = engine.call(args);
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(!said.contains("(os error"), "{args:?}: {said}");
    (done.status.code(), said)
}

#[test]
fn priv_refusals_say_and_return_what_docker_does() {
    in_namespaces("priv_refusals_say_and_return_what_docker_does", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["run", "-d", "--name", "web", "box", "sleep", "1000"]);
        let unknown = "unable to find user nosuch: no matching entries in passwd file";
        for (args, code, expected) in [
            (&["exec", "-u", "nosuch", "web", "true"][..], 126, unknown),
            (
                &["exec", "-w", "/nosuch", "web", "true"],
                126,
                "chdir to cwd (\"/nosuch\") set in config.json failed: no such",
            ),
            (&["exec", "web", "/nosuch"], 127, "no such file or directory"),
            (&["exec", "web", "/etc/passwd"], 126, "permission denied"),
            (&["run", "--rm", "-u", "nosuch", "box", "true"], 125, &format!("daemon: {unknown}")),
            (&["run", "--rm", "--group-add", "nosuch", "box", "true"], 125, "daemon: Unable to find group nosuch"),
            (
                &["run", "--rm", "--device", "/nosuch", "box", "true"],
                127,
                "error gathering device information while adding custom device \"/nosuch\": no such file or directory",
            ),
            (
                &["run", "--rm", "--cap-add", "NOSUCH", "box", "true"],
                125,
                "invalid CapAdd: unknown capability: \"CAP_NOSUCH\"",
            ),
            (
                &["run", "--rm", "--log-opt", "max-size=foo", "box", "true"],
                125,
                "daemon: failed to initialize logging driver: invalid size: 'foo'",
            ),
            (&["run", "--rm", "-m", "64m", "--memory-swap", "32m", "box", "true"], 125, "Minimum memoryswap limit"),
            (
                &["run", "--rm", "--cpuset-cpus", "8000", "box", "true"],
                125,
                "Requested CPUs are not available - requested 8000",
            ),
            (&["run", "--rm", "--runtime", "crun", "box", "true"], 125, "unknown or invalid runtime name: crun"),
            (&["top", "web", "-o", "comm"], 1, "Couldn't find PID field in ps output"),
        ] {
            let (status, said) = failed(&engine, args);
            assert!(status == Some(code) && said.contains(expected), "{args:?}: {status:?}: {said}");
        }
        assert!(!failed(&engine, &["exec", "-u", "nosuch", "web", "true"]).1.contains("OCI runtime"));
        let processes = engine.ok(&["top", "web", "-o", "pid,comm"]);
        assert!(processes.lines().nth(1).unwrap().ends_with("sleep"), "{processes}");
    });
}
