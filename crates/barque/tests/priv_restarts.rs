//! Restart policies and health checks go on over the end of the engine; limits of what runs are changed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::time::{Duration, Instant};

use pair::{Engine, in_namespaces, sh};

fn inspect(engine: &Engine, what: &str, name: &str) -> String {
    engine.ok(&["inspect", "-f", &format!("{{{{{what}}}}}"), name])
}

fn restarts(engine: &Engine, name: &str) -> u32 {
    inspect(engine, ".RestartCount", name).parse().unwrap()
}

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !met() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn priv_restart_policies_go_on_over_the_end_of_the_engine() {
    in_namespaces("priv_restart_policies_go_on_over_the_end_of_the_engine", |scratch| {
        let mut engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let run = |name: &str, policy: &str, script: &str| {
            let runs = format!("echo run >> /v/{name}; {script}");
            let options = ["run", "-d", "--network", "none", "-v", "runs:/v", "--restart", policy, "--name", name];
            engine.ok(&[&options[..], &["box", "sh", "-c", &runs]].concat());
        };
        run("always", "always", "exit 3");
        run("thrice", "on-failure:3", "exit 4");
        run("manual", "unless-stopped", "exec sleep 1000");
        run("paused", "unless-stopped", "exit 5");
        run("good", "on-failure", "exit 0");
        engine.ok(&["stop", "-t", "0", "manual"]);
        until("two restarts", || restarts(&engine, "thrice") == 2);
        // Between two runs: from here on it stays down.
        until("a wait", || {
            restarts(&engine, "paused") >= 2 && inspect(&engine, ".State.Status", "paused") == "restarting"
        });
        engine.ok(&["stop", "paused"]);
        // The third restart comes 400 ms after the second; nobody is there to do it.
        engine.down(true);
        std::thread::sleep(Duration::from_millis(800));
        engine.up();
        until("the last restart", || inspect(&engine, ".State.Status", "thrice") == "exited");
        assert_eq!(restarts(&engine, "thrice"), 3);

        until("the fifth restart", || restarts(&engine, "always") >= 5);
        let count = restarts(&engine, "always");
        engine.down(true);
        engine.up();
        // 3.2 s after the fifth restart comes the sixth, 6.4 s later the next.
        let began = Instant::now();
        assert!(restarts(&engine, "always") >= count, "the count starts over");
        until("the sixth restart", || restarts(&engine, "always") > count);
        std::thread::sleep(Duration::from_secs(4).saturating_sub(began.elapsed()));
        assert_eq!(restarts(&engine, "always"), count + 1, "the wait starts over");
        assert_eq!(inspect(&engine, ".State.Status", "always"), "restarting");
        engine.ok(&["stop", "always"]);

        let volume = engine.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "runs"]);
        let runs = |name: &str| sh(&format!("grep -c run {volume}/{name}")).parse::<u32>().unwrap();
        let before = runs("always");
        engine.down(true);
        engine.up();
        for name in ["thrice", "manual", "paused", "good"] {
            assert_eq!(inspect(&engine, ".State.Status", name), "exited", "{name}");
        }
        // As with Docker, `always` starts with the engine even what somebody has stopped.
        until("its start", || runs("always") > before);
        engine.ok(&["rm", "-f", "always"]);
        assert_eq!((runs("thrice"), runs("manual"), runs("good")), (4, 1, 1));
    });
}

#[test]
fn priv_what_the_engine_stopped_comes_back_without_counting() {
    in_namespaces("priv_what_the_engine_stopped_comes_back_without_counting", |scratch| {
        let mut engine = Engine::barque(scratch, &["--live-restore=false"]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let fails = "trap 'exit 3' TERM; sleep 1000 & wait";
        for (name, policy) in [("kept", "always"), ("failing", "on-failure:1"), ("plain", "no")] {
            let options = ["run", "-d", "--network", "none", "--restart", policy, "--name", name];
            engine.ok(&[&options[..], &["box", "sh", "-c", fails]].concat());
        }
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..2 {
            engine.down(false);
            engine.up();
            for name in ["kept", "failing"] {
                until("its start", || inspect(&engine, ".State.Status", name) == "running");
                assert_eq!(restarts(&engine, name), 0, "{name}");
            }
            assert_eq!(inspect(&engine, ".State.Status", "plain"), "exited");
            std::thread::sleep(Duration::from_millis(300));
        }
        engine.ok(&["rm", "-f", "kept", "failing", "plain"]);
    });
}

#[test]
fn priv_a_run_that_lasted_is_followed_by_the_first_wait() {
    in_namespaces("priv_a_run_that_lasted_is_followed_by_the_first_wait", |scratch| {
        let mut engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        // Four quick failures, so that the next wait is 1.6 s; then a run of more than ten seconds.
        let script = "echo run >> /v/n; [ $(wc -l < /v/n) -eq 5 ] && sleep 10.5; exit 1";
        let options = ["run", "-d", "--name", "lasting", "--network", "none", "-v", "runs:/v", "--restart", "always"];
        engine.ok(&[&options[..], &["box", "sh", "-c", script]].concat());
        until("the long run", || restarts(&engine, "lasting") == 4);
        // The engine that sees its end is not the one that began it.
        engine.down(true);
        engine.up();
        assert_eq!(inspect(&engine, ".State.Status", "lasting"), "running");
        until("its end", || restarts(&engine, "lasting") > 4);
        let since = Instant::now();
        until("waits from the first", || restarts(&engine, "lasting") >= 7);
        assert!(since.elapsed() < Duration::from_millis(1500), "{:?}", since.elapsed());
        engine.ok(&["rm", "-f", "lasting"]);
    });
}

#[test]
fn priv_health_goes_on_over_the_end_of_the_engine() {
    in_namespaces("priv_health_goes_on_over_the_end_of_the_engine", |scratch| {
        let mut engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let health =
            ["--health-cmd", "echo checked; [ ! -e /ill ]", "--health-interval", "400ms", "--health-retries", "2"];
        let options = ["run", "-d", "--name", "checked", "--network", "none"];
        engine.ok(&[&options[..], &health, &["box", "sleep", "1000"]].concat());
        let status = |engine: &Engine| inspect(engine, ".State.Health.Status", "checked");
        until("health", || status(&engine) == "healthy");
        until("a log", || inspect(&engine, "len .State.Health.Log", "checked") == "3");
        let log = |engine: &Engine| {
            let text = inspect(engine, "range .State.Health.Log}}{{.Start}} {{.ExitCode}} {{.Output}}{{end", "checked");
            text.lines().map(str::to_owned).filter(|l| !l.is_empty()).collect::<Vec<_>>()
        };
        let before = log(&engine);
        assert!(before[0].ends_with("0 checked"), "{before:?}");
        engine.down(true);
        engine.up();
        assert_eq!(status(&engine), "healthy");
        let after = log(&engine);
        assert!(after.contains(&before[2]), "{before:?} {after:?}");
        // Checks go on.
        engine.ok(&["exec", "checked", "touch", "/ill"]);
        until("illness", || status(&engine) == "unhealthy");
        engine.down(true);
        engine.up();
        assert_eq!(status(&engine), "unhealthy");
        assert!(inspect(&engine, ".State.Health.FailingStreak", "checked").parse::<u32>().unwrap() >= 2);
        engine.ok(&["exec", "checked", "rm", "/ill"]);
        until("health", || status(&engine) == "healthy");
        // Another run knows nothing of the last.
        engine.ok(&["restart", "-t", "0", "checked"]);
        assert_ne!(status(&engine), "unhealthy");
        engine.ok(&["rm", "-f", "checked"]);
    });
}

#[test]
fn priv_a_check_that_takes_too_long_is_all_that_is_killed() {
    in_namespaces("priv_a_check_that_takes_too_long_is_all_that_is_killed", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let check = r#"HEALTHCHECK --interval=500ms --timeout=500ms --retries=1 CMD ["sleep", "7"]"#;
        engine.import_busybox("checked-box", &["ENV PATH=/bin", check]);
        engine.ok(&["run", "-d", "--name", "slow", "--network", "none", "checked-box", "sleep", "1000"]);
        // Somebody runs the same command.
        let begin = Instant::now();
        let mut own = engine.command(&["exec", "slow", "sleep", "7"]).spawn().unwrap();
        until("illness", || inspect(&engine, ".State.Health.Status", "slow") == "unhealthy");
        until("more checks", || inspect(&engine, "len .State.Health.Log", "slow") == "4");
        let output = inspect(&engine, "range .State.Health.Log}}{{.ExitCode}} {{.Output}};{{end", "slow");
        assert!(output.starts_with("-1 Health check exceeded timeout (500ms)"), "{output}");
        // Its own are gone: one in progress at most.
        let sleeping = engine.ok(&["top", "slow", "-o", "pid,args"]).matches("sleep 7").count();
        assert!((1..=2).contains(&sleeping), "{sleeping}");
        assert!(own.wait().unwrap().success(), "killed after {:?}", begin.elapsed());
        assert!(begin.elapsed() >= Duration::from_secs(6));
        engine.ok(&["rm", "-f", "slow"]);
    });
}

/// The value of a controller's file in the group of a container, cgroup v1 or v2.
fn limit(id: &str, v1: &str, v2: &str) -> String {
    let (controller, file) = v1.split_once('/').unwrap();
    let found = sh(&format!("find /sys/fs/cgroup/{controller} -type d -name {id} 2>/dev/null | head -1; true"));
    let path = if found.is_empty() {
        format!("{}/{v2}", sh(&format!("find /sys/fs/cgroup -type d -name '*{id}*' | head -1")))
    } else {
        format!("{found}/{file}")
    };
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
}

#[test]
fn priv_updates_reach_what_runs() {
    in_namespaces("priv_updates_reach_what_runs", |scratch| {
        let mut engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["run", "-d", "--name", "limited", "--network", "none", "-m", "64m", "box", "sleep", "1000"]);
        let id = engine.ok(&["ps", "-q", "--no-trunc"]);
        let update = ["--memory", "128m", "--memory-swap", "-1", "--cpus", "1.5", "--pids-limit", "77"];
        let more =
            ["--cpu-shares", "512", "--cpuset-cpus", "0", "--memory-reservation", "32m", "--restart", "on-failure:2"];
        let said = engine.ok(&[&["update"], &update[..], &more, &["limited"]].concat());
        assert_eq!(said, "limited");
        let check = |engine: &Engine| {
            assert_eq!(limit(&id, "memory/memory.limit_in_bytes", "memory.max"), "134217728");
            assert_eq!(limit(&id, "memory/memory.soft_limit_in_bytes", "memory.low"), "33554432");
            assert_eq!(limit(&id, "pids/pids.max", "pids.max"), "77");
            assert!(["150000", "150000 100000"].contains(&&*limit(&id, "cpu/cpu.cfs_quota_us", "cpu.max")));
            assert_eq!(limit(&id, "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
            assert!(["512", "20"].contains(&&*limit(&id, "cpu/cpu.shares", "cpu.weight")));
            for (field, expected) in [
                (".HostConfig.Memory", "134217728"),
                (".HostConfig.MemorySwap", "-1"),
                (".HostConfig.MemoryReservation", "33554432"),
                (".HostConfig.NanoCpus", "1500000000"),
                (".HostConfig.PidsLimit", "77"),
                (".HostConfig.CpuShares", "512"),
                (".HostConfig.CpusetCpus", "0"),
                (".HostConfig.RestartPolicy.Name", "on-failure"),
                (".HostConfig.RestartPolicy.MaximumRetryCount", "2"),
            ] {
                assert_eq!(inspect(engine, field, "limited"), expected, "{field}");
            }
        };
        check(&engine);
        engine.down(true);
        engine.up();
        check(&engine);
        // What is not named stays.
        engine.ok(&["update", "--memory", "96m", "limited"]);
        assert_eq!(limit(&id, "memory/memory.limit_in_bytes", "memory.max"), "100663296");
        assert_eq!(inspect(&engine, ".HostConfig.PidsLimit", "limited"), "77");
        // A policy given to what runs counts at its next end.
        sh(&format!("kill -KILL {}", inspect(&engine, ".State.Pid", "limited")));
        until("its restart", || restarts(&engine, "limited") == 1);
        engine.ok(&["rm", "-f", "limited"]);
        engine.fails(&["update", "--memory", "1m", "nobody"], "No such container: nobody");
        engine.ok(&["run", "-d", "--rm", "--name", "passing", "--network", "none", "box", "sleep", "1000"]);
        engine.fails(&["update", "--restart", "always", "passing"], "AutoRemove is enabled");
        engine.ok(&["rm", "-f", "passing"]);
    });
}

/// Played on Docker too, so that it is known to be Docker's behaviour.
fn shown_networks(engine: &Engine) {
    engine.import_busybox("box", &["ENV PATH=/bin"]);
    for (name, network) in
        [("hosts", "host"), ("guest", "container:hosts"), ("own", "bridge"), ("joined", "container:own")]
    {
        engine.ok(&["run", "-d", "--name", name, "--network", network, "box", "sleep", "1000"]);
    }
    let networks = |name: &str| {
        let socket = format!("{}/sock", engine.dir.display());
        let url = format!("http://e/containers/{name}/stats?stream=0&one-shot=1");
        let body = sh(&format!("curl -s --unix-socket {socket} '{url}'"));
        body.split_once(r#""networks":"#).map(|(_, rest)| rest.split('{').nth(1).unwrap_or_default().to_owned())
    };
    assert_eq!((networks("hosts"), networks("guest")), (None, None), "{}", engine.name);
    let eth0 = |name: &str| networks(name).is_some_and(|networks| networks.contains("eth0"));
    assert!(eth0("own") && eth0("joined"), "{}", engine.name);
    let shown = engine.ok(&["stats", "--no-stream", "--format", "{{.NetIO}}", "hosts"]);
    assert!(["0B / 0B", "--"].contains(&shown.as_str()), "{} {shown}", engine.name);
    engine.ok(&["rm", "-f", "guest", "joined", "hosts", "own"]);
}

#[test]
fn priv_the_machines_interfaces_are_no_containers_network() {
    in_namespaces("priv_the_machines_interfaces_are_no_containers_network", |scratch| {
        sh("ip link add office type veth peer name far && ip link set office up");
        shown_networks(&Engine::barque(scratch, &[]));
    });
}

#[test]
fn priv_the_machines_interfaces_are_none_on_docker() {
    in_namespaces("priv_the_machines_interfaces_are_none_on_docker", |scratch| {
        if let Some(docker) = Engine::docker(scratch, &[]) {
            shown_networks(&docker);
        }
    });
}

#[test]
fn priv_directories_that_a_crash_left_out_are_made_anew() {
    in_namespaces("priv_directories_that_a_crash_left_out_are_made_anew", |scratch| {
        let mut engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let id = engine.ok(&["create", "--name", "half", "--network", "none", "box", "echo", "whole"]);
        engine.down(true);
        // The row was written; the machine went down before its directories were made.
        let data = engine.dir.join("data");
        let lost = [data.join("containers").join(&id), data.join("snapshots").join(&id)];
        for dir in &lost {
            std::fs::remove_dir_all(dir).unwrap();
        }
        engine.up();
        assert!(lost.iter().all(|dir| dir.is_dir()));
        let log = engine.log();
        let said = |dir: &std::path::Path| log.lines().any(|l| l.contains(&id) && l.contains(dir.to_str().unwrap()));
        assert!(log.contains("was missing") && lost.iter().all(|dir| said(dir)), "{log}");
        assert_eq!(engine.ok(&["start", "-a", "half"]), "whole");
        assert_eq!(engine.ok(&["logs", "half"]), "whole");
        engine.ok(&["cp", "half:/data/seed", &scratch.join("seed").display().to_string()]);
        engine.ok(&["rm", "half"]);
        assert!(!lost.iter().any(|dir| dir.exists()));
    });
}

#[test]
fn priv_restarts_at_the_same_time_remove_nothing() {
    in_namespaces("priv_restarts_at_the_same_time_remove_nothing", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let sleeper = ["--network", "none", "box", "sleep", "1000"];
        engine.ok(&[&["run", "-d", "--rm", "--name", "passing"], &sleeper[..]].concat());
        for round in 0..6 {
            let mut commands = vec![vec!["restart", "-t", "0", "passing"]; 3];
            commands.push(vec!["start", "passing"]);
            let mut children: Vec<_> = commands.iter().map(|c| engine.command(c).spawn().unwrap()).collect();
            let done: Vec<bool> = children.iter_mut().map(|c| c.wait().unwrap().success()).collect();
            assert!(done.iter().all(|good| *good), "round {round}: {done:?}");
            assert_eq!(inspect(&engine, ".State.Status", "passing"), "running", "round {round}");
        }
        // No mark of a restart is left: now it goes with its end.
        engine.ok(&["stop", "-t", "0", "passing"]);
        until("its removal", || engine.ok(&["ps", "-aq"]).is_empty());
        // A restart comes to its end although nobody waits for it.
        let slow = "trap 'sleep 1; exit 0' TERM; sleep 1000 & wait";
        engine.ok(&["run", "-d", "--name", "slow", "--network", "none", "box", "sh", "-c", slow]);
        let pid = inspect(&engine, ".State.Pid", "slow");
        std::thread::sleep(Duration::from_millis(300));
        let mut caller = engine.command(&["restart", "slow"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        caller.kill().unwrap();
        caller.wait().unwrap();
        until("another run", || !["0".to_owned(), pid.clone()].contains(&inspect(&engine, ".State.Pid", "slow")));
        engine.ok(&["rm", "-f", "slow"]);
    });
}

#[test]
fn priv_a_row_of_restarts_ends_with_a_kill() {
    in_namespaces("priv_a_row_of_restarts_ends_with_a_kill", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["run", "-d", "--name", "row", "--network", "none", "--restart", "always", "box", "false"]);
        until("a wait between two", || {
            restarts(&engine, "row") > 2 && inspect(&engine, ".State.Status", "row") == "restarting"
        });
        engine.fails(&["exec", "row", "true"], "is restarting, wait until the container is running");
        assert_eq!(engine.ok(&["kill", "row"]), "row");
        assert_eq!(inspect(&engine, ".State.Status", "row"), "exited");
        let count = restarts(&engine, "row");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!((inspect(&engine, ".State.Status", "row").as_str(), restarts(&engine, "row")), ("exited", count));
    });
}
