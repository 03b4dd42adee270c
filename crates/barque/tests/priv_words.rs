//! What clients and scripts read: host names in shared networks, refusals, exit statuses.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::{Engine, in_namespaces, sh};

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
        engine.ok(&["run", "-d", "--name", "held", "box", "sleep", "1000"]);
        engine.ok(&["pause", "held"]);
        engine.ok(&["create", "--name", "idle", "box", "true"]);
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
            (
                &["run", "--rm", "--group-add", "nosuch", "box", "true"],
                125,
                "daemon: Unable to find group nosuch: no match",
            ),
            (&["run", "--rm", "-u", "99999999999", "box", "true"], 125, "must be in range 0-2147483647"),
            (&["exec", "-it", "nosuch", "sh"], 1, "No such container: nosuch"),
            (&["rm", "held"], 1, "cannot remove container \"/held\": container is paused and must be unpaused first"),
            (&["unpause", "idle"], 1, "is not paused"),
            (&["pause", "idle"], 1, "is not running"),
            (&["info", "-f", "{{.HTTPProxy}}{{.HTTPSProxy}}."], 0, "."),
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
            (
                &["create", "--log-opt", "tag={{.Nope}}", "box", "true"],
                1,
                "daemon: failed to initialize logging driver: template: log-tag:1:2: executing \"log-tag\" at <.Nope>",
            ),
            (
                &["create", "--log-opt", r#"tag={{define "a"}}{{template "a"}}{{end}}{{template "a"}}"#, "box", "true"],
                1,
                "exceeded maximum template depth",
            ),
            (
                &["create", "--log-driver", "local", "--log-opt", "labels=a", "box"],
                1,
                "unknown log opt 'labels' for log driver local",
            ),
            (
                &["run", "--rm", "--cpu-count", "2", "box", "true"],
                1,
                "\"--cpu-count\" is only supported on a Docker daemon running on windows",
            ),
            (
                &["run", "--rm", "--network", "host", "--mac-address", "02:42:00:00:00:01", "box", "true"],
                125,
                "conflicting options: mac-address and the network mode",
            ),
            (&["run", "--rm", "--network", "none", "--mac-address", "02:42:00:00:00:01", "box", "true"], 0, ""),
            (&["ps", "-f", "is-task=foo"], 1, "invalid filter 'is-task=[foo]'"),
            (&["run", "--rm", "--volumes-from", "web:ro:z", "box", "true"], 125, "invalid mode: ro:z"),
            (&["run", "--rm", "--volumes-from", "web:ro,z", "box", "true"], 0, ""),
            (&["cp", ":/etc/hosts", "/tmp"], 1, "must specify at least one container source"),
            (&["-l", "bogus", "ps"], 1, "Unable to parse logging level: bogus"),
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
        // What is frozen cannot be ended with its namespace.
        engine.ok(&["rm", "-f", "held"]);
        assert!(!failed(&engine, &["exec", "-u", "nosuch", "web", "true"]).1.contains("OCI runtime"));
        let processes = engine.ok(&["top", "web", "-o", "pid,comm"]);
        assert!(processes.lines().nth(1).unwrap().ends_with("sleep"), "{processes}");
    });
}

#[test]
fn priv_images_in_use_are_refused_and_the_machines_own_has_a_date() {
    in_namespaces("priv_images_in_use_are_refused_and_the_machines_own_has_a_date", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box:1", &["ENV PATH=/bin"]);
        let image = engine.ok(&["images", "-q", "box:1"]);
        let refused = |args: &[&str]| {
            let (status, said) = failed(&engine, args);
            assert_eq!(status, Some(1), "{args:?}: {said}");
            said.lines().next().unwrap().to_owned()
        };
        let user = engine.ok(&["create", "--name", "idle", "box:1", "true"])[..12].to_owned();
        let used = format!(
            "Error response from daemon: conflict: unable to delete box:1 (must be forced) - container {user} is using \
             its referenced image {image}"
        );
        assert_eq!(refused(&["rmi", "box:1"]), used);
        let by_id = "Error response from daemon: conflict: unable to delete";
        let stopped = format!("{by_id} {image} (must be forced) - image is being used by stopped container {user}");
        assert_eq!(refused(&["rmi", &image]), stopped);
        engine.ok(&["rm", "idle"]);
        let user = engine.ok(&["run", "-d", "--name", "busy", "--network", "none", "box:1", "sleep", "1000"]);
        let running =
            format!("{by_id} {image} (cannot be forced) - image is being used by running container {}", &user[..12]);
        for args in [&["rmi", &image][..], &["rmi", "-f", &image]] {
            assert_eq!(refused(args), running);
        }
        engine.ok(&["rm", "-f", "busy"]);
        engine.ok(&["run", "--rm", "--network", "none", "barque/host", "true"]);
        let year = engine.ok(&["image", "inspect", "-f", "{{.Created}}", "barque/host"]);
        assert!(year.as_str() > "1971", "{year}");
        assert!(!engine.ok(&["images", "barque/host"]).contains("56 years"), "{year}");
    });
}

/// What `ps -s` shows of containers that wrote something, and of one that did not.
fn sizes(engine: &Engine) -> Vec<String> {
    engine.import_busybox("box", &["ENV PATH=/bin"]);
    for (name, script) in [
        ("idle", "true"),
        ("page", "head -c 4096 /dev/zero > /page"),
        ("more", "head -c 3000000 /dev/urandom > /a; ln /a /b; ln -s /a /c; mkdir /d; echo x > /d/e"),
        ("less", "rm /data/seed; rm -r /data/sub"),
        ("copied", "chmod 600 /data/seed; echo x >> /etc/passwd"),
        ("sparse", "dd if=/dev/zero of=/sparse bs=1 count=1 seek=99999 2> /dev/null"),
    ] {
        engine.ok(&["run", "--name", name, "--network", "none", "box", "sh", "-c", script]);
    }
    let shown = engine.ok(&["ps", "-a", "-s", "--format", "{{.Names}} {{.Size}}"]);
    shown.lines().map(str::to_owned).collect()
}

#[test]
fn priv_sizes_of_containers_are_dockers() {
    in_namespaces("priv_sizes_of_containers_are_dockers", |scratch| {
        let ours = sizes(&Engine::barque(scratch, &[]));
        for (name, own) in [("idle", "0B"), ("page", "4.1kB"), ("more", "3MB"), ("less", "0B"), ("sparse", "100kB")] {
            let start = format!("{name} {own} (virtual ");
            assert!(ours.iter().any(|line| line.starts_with(&start) && line.ends_with(')')), "{name}: {ours:?}");
        }
        if let Some(docker) = Engine::docker(scratch, &[]) {
            assert_eq!(ours, sizes(&docker));
        }
    });
}

#[test]
fn priv_commands_that_never_ran_have_a_cure() {
    in_namespaces("priv_commands_that_never_ran_have_a_cure", |dir| {
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["run", "-d", "--init", "--name", "there", "--network", "none", "box", "sleep", "1000"]);
        let said = |words: &[&str]| {
            let output = engine.call(words);
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, text) = said(&["exec", "there", "nothing"]);
        assert!(code == Some(127) && text.contains("hint: the container has no such program"), "{code:?} {text}");
        let (code, text) = said(&["exec", "there", "/bin"]);
        assert!(code == Some(126) && text.contains("hint: it cannot be run"), "{code:?} {text}");
        let (code, text) = said(&["exec", "there", "sh", "-c", "nothing"]);
        assert!(code == Some(127) && !text.contains("hint: "), "it ran, and says so itself: {code:?} {text}");
        let (_, text) = said(&["image", "lss"]);
        assert!(text.contains("Did you mean: ls?"), "{text}");
        // A helper that is missing keeps nobody from what needs no login.
        let config = engine.dir.join("config");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("config.json"), r#"{"credsStore": "is-not-there"}"#).unwrap();
        let (_, text) = said(&["--config", config.to_str().unwrap(), "pull", "127.0.0.1:9/none"]);
        assert!(text.contains("WARNING: error getting credentials") && text.contains("connection refused"), "{text}");
    });
}

#[test]
fn priv_shared_namespaces_stay_those_of_the_same_container() {
    in_namespaces("priv_shared_namespaces_stay_those_of_the_same_container", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let id = engine.ok(&["run", "-d", "--name", "first", "--ipc", "shareable", "box", "sleep", "1000"]);
        let modes =
            ["--network", "container:first", "--pid", &format!("container:{}", &id[..8]), "--ipc", "container:first"];
        engine.ok(&[&["run", "-d", "--name", "guest"][..], &modes, &["box", "sleep", "1000"]].concat());
        let shown = "{{.HostConfig.NetworkMode}} {{.HostConfig.PidMode}} {{.HostConfig.IpcMode}}";
        let whole = format!("container:{id}");
        assert_eq!(engine.ok(&["inspect", "-f", shown, "guest"]), [whole.as_str(); 3].join(" "));
        engine.ok(&["rename", "first", "second"]);
        engine.ok(&["run", "-d", "--name", "first", "--network", "none", "box", "sleep", "1000"]);
        engine.ok(&["restart", "-t", "0", "guest"]);
        assert!(engine.ok(&["exec", "guest", "ls", "/sys/class/net"]).contains("eth0"), "the one it was made with");
        engine.fails(&["create", "--pid", "container:nope", "box"], "No such container: nope");
        engine.fails(&["create", "--ipc", "container:nope", "box"], "No such container: nope");
    });
}

fn post(engine: &Engine, path: &str, body: &str) -> String {
    let socket = engine.dir.join("sock").display().to_string();
    sh(&format!("curl -sg -H 'Content-Type: application/json' -d '{body}' --unix-socket {socket} 'http://d{path}'"))
}

#[test]
fn priv_an_exec_has_the_limits_of_its_container_and_may_be_tried_again() {
    in_namespaces("priv_an_exec_has_the_limits_of_its_container_and_may_be_tried_again", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&[
            "run",
            "-d",
            "--name",
            "web",
            "--network",
            "none",
            "--ulimit",
            "nofile=100:200",
            "box",
            "sleep",
            "1000",
        ]);
        assert_eq!(engine.ok(&["exec", "web", "sh", "-c", "ulimit -n; ulimit -Hn"]), "100\n200");
        let made = post(&engine, "/v1.41/containers/web/exec", "{\"Cmd\":[\"true\"]}");
        let exec = made.split('"').nth(3).unwrap().to_owned();
        let start = || post(&engine, &format!("/v1.41/exec/{exec}/start"), "{\"Detach\":true}");
        assert_eq!(post(&engine, "/v1.41/containers/web/resize?h=10&w=10", ""), "", "without a terminal");
        engine.ok(&["pause", "web"]);
        assert!(start().contains("is paused"), "refused");
        engine.ok(&["unpause", "web"]);
        assert_eq!(start(), "");
        assert!(start().contains("has already run"));
    });
}

/// The line is Docker's own for the same options.
#[test]
fn priv_logs_are_marked_as_their_options_say() {
    in_namespaces("priv_logs_are_marked_as_their_options_say", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let marks = ["tag={{.Name}}/{{.ImageName}}", "labels-regex=^a", "env-regex=^F", "env=BAR"];
        let mut args =
            vec!["run", "--name", "marked", "--label", "abc=1", "--label", "b=2", "-e", "FOO=1", "-e", "BAR=a b"];
        marks.iter().for_each(|mark| args.extend(["--log-opt", mark]));
        args.extend(["box", "echo", "hi"]);
        engine.ok(&args);
        assert_eq!(engine.ok(&["logs", "--details", "marked"]), "BAR=a+b,FOO=1,abc=1,tag=marked%2Fbox hi");
        assert_eq!(engine.ok(&["logs", "marked"]), "hi");
        engine.ok(&["create", "--name", "own", "--log-driver", "local", "box", "true"]);
        assert_eq!(engine.ok(&["inspect", "-f", "{{.LogPath}}", "own"]), "");
    });
}

#[test]
fn priv_the_umask_of_who_starts_the_engine_is_not_its_containers() {
    in_namespaces("priv_the_umask_of_who_starts_the_engine_is_not_its_containers", |scratch| {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let engine = Engine::barque(scratch, &[]);
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let paths = "/etc/hosts /etc/resolv.conf /etc/hostname /etc /v /.dockerenv";
        let said = engine.ok(&["run", "--rm", "-v", "kept:/v", "box", "sh", "-c", &format!("stat -c %a {paths}")]);
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["644", "644", "644", "755", "755", "755"]);
    });
}

#[test]
fn priv_a_number_is_no_name_and_a_tmpfs_has_the_mode_of_what_it_covers() {
    in_namespaces("priv_a_number_is_no_name_and_a_tmpfs_has_the_mode_of_what_it_covers", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let made = "mkdir -m 700 /private; echo 1000:x:0:0::/:/bin/sh > /etc/passwd; echo 1000:x:0: > /etc/group";
        engine.ok(&["run", "--name", "made", "box", "sh", "-c", made]);
        engine.ok(&["commit", "made", "foo:2"]);
        let id = ["id", "-u"];
        assert_eq!(engine.ok(&[&["run", "--rm", "-u", "1000", "foo:2"][..], &id].concat()), "1000");
        assert_eq!(engine.ok(&["run", "--rm", "-u", "5:1000", "foo:2", "id", "-g"]), "1000");
        engine.ok(&["run", "-d", "--name", "up", "foo:2", "sleep", "100"]);
        assert_eq!(engine.ok(&[&["exec", "-u", "1000", "up"][..], &id].concat()), "1000");
        let mode = |flags: &[&str], dir: &str| {
            engine.ok(&[&["run", "--rm"], flags, &["foo:2", "stat", "-c", "%a", dir]].concat())
        };
        assert_eq!(mode(&["--tmpfs", "/private"], "/private"), "700");
        assert_eq!(mode(&["--mount", "type=tmpfs,dst=/private"], "/private"), "700");
        assert_eq!(mode(&["--tmpfs", "/private:mode=750"], "/private"), "750");
        assert_eq!(mode(&["--tmpfs", "/new"], "/new"), "1777");
        // Events name images as their users do.
        let events = engine.ok(&[
            "events",
            "--since",
            "10m",
            "--until",
            "0s",
            "--filter",
            "image=foo:2",
            "--format",
            "{{.Action}}",
        ]);
        assert!(events.lines().any(|action| action == "tag"), "{events}");
    });
}

#[test]
fn priv_an_init_may_be_looked_at_and_not_be_written_to() {
    in_namespaces("priv_an_init_may_be_looked_at_and_not_be_written_to", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let run = |flags: &[&str], script: &str| {
            engine.ok(&[&["run", "--rm", "--init"], flags, &["box", "sh", "-c", script]].concat())
        };
        for flags in [&[][..], &["-u", "1000"], &["--security-opt", "no-new-privileges"]] {
            assert_eq!(run(flags, "echo there > /proc/1/fd/1"), "there", "{flags:?}");
        }
        let line = run(
            &["-e", "OWN=1"],
            "tr '\\0' ' ' < /proc/1/cmdline | cut -c1-26; grep -cz OWN=1 /proc/1/environ; ls /proc/1/fd | wc -l",
        );
        assert_eq!(line.lines().collect::<Vec<_>>(), ["/sbin/docker-init -- sh -c", "1", "4"]);
        let written = run(&["--privileged"], "(echo x > /proc/1/exe) 2>&1; (echo x >> /proc/1/exe) 2>&1; true");
        // As long as it runs it is busy, too.
        let refused = written.matches("can't create /proc/1/exe").count();
        assert!(refused == 2 && written.contains("Read-only file system"), "{written}");
        // Who is left behind is reaped, and the end is the child's.
        let orphans = "(sleep 0.1 & sleep 0.1 &); sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";
        assert_eq!(run(&[], orphans), "0");
        engine.ok(&[
            "run",
            "-d",
            "--init",
            "--name",
            "trap",
            "box",
            "sh",
            "-c",
            "trap 'exit 7' TERM; while :; do sleep 0.05; done",
        ]);
        engine.ok(&["stop", "trap"]);
        assert_eq!(engine.ok(&["inspect", "-f", "{{.State.ExitCode}}", "trap"]), "7");
    });
}
