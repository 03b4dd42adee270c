//! The program against an engine in memory: what it asks for, in which order, and what it prints.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod fake;

use std::process::Stdio;
use std::time::{Duration, Instant};

use fake::{Fake, text};

fn twelve() -> String {
    let service = |i: usize| format!("  s{i}: {{image: x, command: [sleep]}}\n");
    format!("services:\n{}volumes: {{a: {{}}, b: {{}}, c: {{}}}}\n", (0..12).map(service).collect::<String>())
}

#[test]
fn parallel_bounds_what_is_asked_of_the_engine_at_once() {
    for (limit, most) in [("1", 1), ("3", 3)] {
        let fake = Fake::new(Duration::from_millis(15));
        fake.file(&twelve());
        for words in [&["up", "-d"][..], &["kill"], &["up", "-d"], &["stop"], &["start"], &["restart"], &["down", "-v"]]
        {
            fake.state().most = 0;
            fake.ok(&[&["--parallel", limit], words].concat());
            assert_eq!(fake.state().most, most, "--parallel {limit} {words:?}");
        }
        assert!(fake.state().containers.is_empty() && fake.state().volumes.is_empty());
    }
    let fake = Fake::new(Duration::from_millis(60));
    fake.file(&twelve());
    fake.ok(&["up", "-d"]);
    assert!(fake.state().most > 6, "without it, what may happen at once does: {}", fake.state().most);
    fake.state().most = 0;
    assert!(fake.command(&["stop"]).env("COMPOSE_PARALLEL_LIMIT", "2").status().unwrap().success());
    assert_eq!(fake.state().most, 2, "the variable does the same");
}

#[test]
fn output_that_comes_after_the_end_is_shown_whole() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {many: {image: x, command: [flood, '20000']}}");
    let shown = fake.ok(&["up"]);
    let lines: Vec<&str> = shown.lines().filter(|l| l.starts_with("many-1  | line ")).collect();
    assert_eq!(lines.len(), 20_000);
    assert_eq!(lines.last(), Some(&"many-1  | line 19999"));
    let end: Vec<&str> = shown.lines().rev().take(2).collect();
    assert_eq!(end, ["many-1 exited with code 0", "many-1  | no line break"], "and its end is told after it");
}

#[test]
fn what_needs_others_stops_before_them() {
    let file = "
services:
  db: {image: x, command: [sleep]}
  cache: {image: x, command: [sleep]}
  app: {image: x, command: [sleep], depends_on: [db, cache], scale: 2}
  web: {image: x, command: [sleep], depends_on: [app]}
";
    let fake = Fake::new(Duration::from_millis(30));
    fake.file(file);
    let ordered = |fake: &Fake| {
        let stop = |name: &str| fake.when(&format!("p-{name}/stop"));
        assert!(stop("web-1") < stop("app-1").min(stop("app-2")));
        assert!(stop("app-1").max(stop("app-2")) < stop("db-1").min(stop("cache-1")));
        assert!(fake.state().most >= 2, "those that do not need each other stop at once");
        let mut state = fake.state();
        state.asked.clear();
        state.most = 0;
    };
    for words in [&["stop"][..], &["down"]] {
        fake.ok(&["up", "-d"]);
        fake.state().asked.clear();
        fake.ok(words);
        ordered(&fake);
    }
    // Ctrl-C does the same, and every end is told
    let child = fake.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(|| fake.state().containers.values().filter(|c| c.state == "running").count() == 5);
    fake.state().asked.clear();
    interrupt(&child);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130), "{}", text(&done.stderr));
    ordered(&fake);
    for name in ["web-1", "app-1", "app-2", "db-1", "cache-1"] {
        let line = format!("{name} exited with code 143");
        assert!(text(&done.stdout).contains(&line), "{line}: {}", text(&done.stdout));
    }
}

#[test]
fn a_second_interrupt_kills_even_while_stops_use_up_the_parallel_requests() {
    let fake = Fake::new(Duration::from_millis(400));
    fake.file("services: {a: {image: x, command: [sleep]}, b: {image: x, command: [sleep], depends_on: [a]}}");
    let child = fake.command(&["--parallel", "1", "up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until(|| fake.state().containers.values().filter(|c| c.state == "running").count() == 2);
    interrupt(&child);
    std::thread::sleep(Duration::from_millis(100));
    interrupt(&child);
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130));
    assert!(fake.state().asked.iter().any(|a| a.contains("p-a-1/kill?signal=SIGKILL")), "{:?}", fake.state().asked);
}

#[test]
fn services_that_say_so_keep_their_output_to_themselves() {
    let fake = Fake::new(Duration::ZERO);
    fake.file(
        "services: {quiet: {image: x, command: [flood, '3'], attach: false}, loud: {image: x, command: [flood, '3']}}",
    );
    let shown = fake.ok(&["up"]);
    assert_eq!((shown.matches("loud-1  | ").count(), shown.matches("quiet-1").count()), (4, 0), "{shown}");
    assert_eq!(fake.ok(&["up", "--no-log-prefix", "loud"]).matches("|").count(), 0);
}

#[test]
fn colours_are_for_terminals_unless_asked_for() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [flood, '2']}, b: {image: x, command: [flood, '2']}}");
    let coloured = |words: &[&str]| {
        let shown = fake.ok(words);
        (shown.contains("\u{1b}[36ma-1  | \u{1b}[0mline 0"), shown.contains("\u{1b}[33mb-1  | \u{1b}[0m"), shown)
    };
    let (a, b, shown) = coloured(&["--ansi", "always", "up"]);
    assert!(a && b && shown.contains("\u{1b}[36ma-1 exited with code 0\u{1b}[0m"), "{shown}");
    for words in [&["up"][..], &["--ansi", "never", "up"], &["--ansi", "always", "up", "--no-color"]] {
        assert!(!coloured(words).2.contains('\u{1b}'), "{words:?}");
    }
}

#[test]
fn each_kind_of_progress_is_what_it_says() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep], post_start: [{command: hook}]}}");
    let up = |words: &[&str]| {
        fake.ok(&["down"]);
        let done = fake.run(&[words, &["up", "-d"]].concat());
        assert!(done.status.success() && done.stdout.is_empty(), "{words:?}: {}", text(&done.stderr));
        text(&done.stderr).to_owned()
    };
    // not a terminal: `auto` is `plain`
    for words in [&["--progress", "plain"][..], &["--progress", "auto"], &[]] {
        let shown = up(words);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines,
            [
                " Network p_default  Creating",
                " Network p_default  Created",
                " Container p-a-1  Creating",
                " Container p-a-1  Created",
                " Container p-a-1  Starting",
                "a-1 ->post_start  | from the hook",
                " Container p-a-1  Started"
            ]
        );
    }
    let shown = up(&["--progress", "json"]);
    let documents: Vec<serde_json::Value> = shown.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let started = serde_json::json!({"id": "Container p-a-1", "status": "Done", "text": "Started"});
    assert_eq!(documents.last(), Some(&started));
    assert!(documents.contains(&serde_json::json!({"id": "a-1", "text": "from the hook"})), "{shown}");
    assert_eq!(up(&["--progress", "quiet"]), "");
    let shown = up(&["--progress", "tty"]);
    assert!(shown.contains("\u{1b}[?25l[+] Running 2/2") && shown.contains("✔"), "{shown}");
    assert!(shown.contains("\u{1b}[Ja-1 ->post_start  | from the hook\n") || shown.starts_with("a-1 ->"), "{shown:?}");
    for (words, why) in [
        (&["--ansi", "never", "--progress", "tty"], "can't use --progress tty while ANSI support is disabled"),
        (&["--ansi", "always", "--progress", "plain"], "can't use --progress plain while ANSI support is forced"),
    ] {
        let done = fake.run(&[&words[..], &["ps"]].concat());
        assert_eq!((done.status.code(), text(&done.stderr).trim()), (Some(1), why));
    }
    let done = fake.command(&["ps"]).env("COMPOSE_PROGRESS", "loud").output().unwrap();
    assert!(text(&done.stderr).starts_with("unsupported --progress value \"loud\"\n"), "{}", text(&done.stderr));
}

#[test]
fn hooks_run_as_they_say() {
    let fake = Fake::new(Duration::ZERO);
    let hook = |word: &str| {
        format!("[{{command: [{word}, x], user: u, privileged: true, working_dir: /w, environment: {{A: b}}}}]")
    };
    fake.file(&format!(
        "services: {{a: {{image: x, command: [sleep], post_start: {}, pre_stop: {}}}}}",
        hook("after"),
        hook("before")
    ));
    let wanted = |word: &str| {
        serde_json::json!({"AttachStdout": true, "AttachStderr": true, "User": "u", "Privileged": true,
            "WorkingDir": "/w", "Env": ["A=b"], "Cmd": [word, "x"]})
    };
    let runs = |word: &str| {
        let body = fake.body("p-a-1/exec");
        let wanted = wanted(word);
        assert!(wanted.as_object().unwrap().iter().all(|(k, v)| body[k] == *v), "{body}");
    };
    fake.ok(&["up", "-d"]);
    runs("after");
    assert!(fake.when("p-a-1/start") < fake.when("p-a-1/exec"));
    for words in [&["stop"][..], &["down"]] {
        fake.ok(&["up", "-d"]);
        fake.state().asked.clear();
        fake.state().bodies.clear();
        let done = fake.run(words);
        assert!(text(&done.stderr).contains("a-1 ->pre_stop  | from the hook"), "{}", text(&done.stderr));
        runs("before");
        assert!(fake.when("p-a-1/exec") < fake.when("p-a-1/stop"));
    }
}

#[test]
fn the_platform_is_asked_for() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep], platform: linux/arm64}}");
    fake.ok(&["up", "-d"]);
    assert!(fake.state().asked.iter().any(|a| a.contains("create?") && a.contains("platform=linux%2Farm64")));
}

#[test]
fn owners_of_build_secrets_are_named() {
    let fake = Fake::new(Duration::ZERO);
    for key in ["uid: '1'", "gid: '1'", "mode: 0400"] {
        fake.file(&format!(
            "services: {{a: {{build: {{context: ., secrets: [{{source: e, {key}}}]}}}}}}\nsecrets: {{e: {{environment: E}}}}"
        ));
        let done = fake.run(&["--dry-run", "build"]);
        assert!(text(&done.stderr).contains("uid, gid and mode of build.secrets have no effect"), "{key}");
    }
}

#[test]
fn a_finished_one_shot_stays_so_and_runs_when_it_is_named() {
    let fake = Fake::new(Duration::ZERO);
    fake.file(
        "services:
  job: {image: x, command: [end, '0']}
  plain: {image: x, command: [end, '0']}
  web: {image: x, command: [sleep], depends_on: {job: {condition: service_completed_successfully}}}",
    );
    let starts = |words: &[&str]| {
        fake.state().asked.clear();
        fake.ok(words);
        let state = fake.state();
        let of = |name: &str| state.asked.iter().filter(|a| a.contains(&format!("{name}-1/start"))).count();
        (of("job"), of("plain"), of("web"))
    };
    assert_eq!(starts(&["up", "-d"]), (1, 1, 1));
    assert_eq!(starts(&["up", "-d"]), (0, 1, 0), "nobody waits for the end of plain, so it shall run");
    assert_eq!(fake.run(&["plan", "web"]).status.code(), Some(0));
    assert_eq!(starts(&["up", "-d", "web"]), (0, 0, 0));
    assert_eq!(fake.run(&["plan", "job"]).status.code(), Some(2));
    assert_eq!(starts(&["up", "-d", "job"]), (1, 0, 0), "asked for by name, it runs again");
    assert_eq!(starts(&["up", "-d", "--force-recreate", "job"]), (1, 0, 0));
}

#[test]
fn what_cannot_be_made_is_known_before_anything_is_changed() {
    for (file, code) in [
        ("services: {a: {image: x, command: [sleep], secrets: [s]}}\nsecrets: {s: {environment: UNSET}}", 1),
        ("services: {a: {image: x, command: [sleep], read_only: true, configs: [s]}}\nconfigs: {s: {content: x}}", 1),
        ("services: {a: {image: x, command: [sleep], read_only: true, use_api_socket: true}}", 1),
    ] {
        let fake = Fake::new(Duration::ZERO);
        fake.file(file);
        for (words, code) in
            [(&["up", "-d"][..], code), (&["plan"], 1), (&["create"], code), (&["run", "-d", "a"], code)]
        {
            let done = fake.run(words);
            assert_eq!(done.status.code(), Some(code), "{words:?} {file}: {}", text(&done.stderr));
            assert!(fake.state().asked.is_empty(), "{words:?} {file}: {:?}", fake.state().asked);
        }
    }
}

#[test]
fn a_service_gets_the_engines_socket_and_the_logins() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep], use_api_socket: true}, b: {image: x, command: [sleep]}}");
    fake.ok(&["up", "-d"]);
    let made = fake.body("containers/create?name=p-a-1");
    let socket = fake.dir.path().join("sock").display().to_string();
    assert_eq!(made["HostConfig"]["Mounts"][0]["Source"], socket, "where this engine listens");
    assert_eq!(made["HostConfig"]["Mounts"][0]["Target"], "/var/run/docker.sock");
    assert!(made["Env"].to_string().contains("DOCKER_CONFIG=/run/secrets/docker"), "{made}");
    assert_eq!(fake.state().asked.iter().filter(|a| a.contains("/archive")).count(), 1, "the logins, for one of two");
    assert_eq!(fake.run(&["plan"]).status.code(), Some(0));
    fake.ok(&["run", "--rm", "-d", "a"]);
    assert_eq!(fake.state().asked.iter().filter(|a| a.contains("/archive")).count(), 2);
    assert!(!fake.ok(&["config"]).contains("docker.sock"), "config shows what the file says");
}

#[test]
fn what_stays_half_made_is_removed() {
    let fake = Fake::new(Duration::ZERO);
    let file =
        "services: {a: {image: x, command: [sleep], configs: [c], environment: {A: '1'}}}\nconfigs: {c: {content: x}}";
    fake.file(file);
    for words in [&["up", "-d"][..], &["run", "-d", "a"]] {
        fake.refuse(&["/archive"]);
        assert_eq!(fake.run(words).status.code(), Some(1));
        assert_eq!(fake.names(), [""; 0], "{words:?}: it would be started without its config");
    }
    fake.refuse(&[]);
    fake.ok(&["up", "-d"]);
    // in place of another: what was there goes on
    fake.file(&file.replace("'1'", "'2'"));
    for refused in ["/archive", "p-a-1/stop"] {
        fake.refuse(&[refused]);
        assert_eq!(fake.run(&["up", "-d"]).status.code(), Some(1), "{refused}");
        assert_eq!(fake.names(), ["p-a-1 running"], "{refused}");
    }
    fake.refuse(&[]);
    fake.ok(&["up", "-d"]);
    assert_eq!(fake.names(), ["p-a-1 running"]);
    assert!(fake.body("containers/create")["Env"].to_string().contains("A=2"));
}

#[test]
fn a_container_that_never_ran_gets_its_files_again() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep], configs: [c]}}\nconfigs: {c: {content: x}}");
    fake.ok(&["create"]);
    fake.refuse(&[]);
    fake.ok(&["up", "-d"]);
    assert!(fake.when("p-a-1/archive") < fake.when("p-a-1/start"), "whoever made it may have been killed before");
}

#[test]
fn a_changed_config_or_secret_makes_its_containers_again() {
    let fake = Fake::new(Duration::ZERO);
    let file =
        "services: {a: {image: x, command: [sleep], configs: [c], secrets: [s]}, b: {image: x, command: [sleep]}}
configs: {c: {content: one}}
secrets: {s: {environment: S}}";
    fake.file(file);
    let up = |secret: &str| {
        fake.refuse(&[]);
        assert!(fake.command(&["up", "-d"]).env("S", secret).status().unwrap().success());
        fake.state().asked.iter().filter(|a| a.contains("containers/create")).count()
    };
    assert_eq!((up("first"), up("first"), up("second"), up("second")), (2, 0, 1, 0));
    fake.file(&file.replace("one", "two"));
    assert_eq!((up("second"), up("second")), (1, 0));
    let planned = fake.command(&["plan"]).env("S", "third").output().unwrap();
    assert!(
        text(&planned.stdout).contains("the content of its secrets or configs changed"),
        "{}",
        text(&planned.stdout)
    );
}

#[test]
fn services_that_are_not_there_are_told_with_what_is_near() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {web: {image: x, command: [sleep]}}");
    fake.ok(&["up", "-d"]);
    for words in [
        &["logs", "wbe"][..],
        &["exec", "-T", "wbe", "true"],
        &["stop", "wbe"],
        &["restart", "wbe"],
        &["ps", "wbe"],
        &["up", "-d", "--scale", "wbe=2"],
        &["config", "--hash", "wbe"],
        &["up", "--exit-code-from", "wbe"],
    ] {
        let done = fake.run(words);
        let wanted = "no such service: wbe\nhint: did you mean \"web\"?\n";
        assert_eq!((done.status.code(), text(&done.stderr)), (Some(1), wanted), "{words:?}");
    }
}

#[test]
fn flags_of_older_times_are_told_to_do_nothing() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, build: .}}");
    for (words, flags) in [
        (
            &["build", "--compress", "--force-rm", "--no-rm", "--parallel"][..],
            &["compress", "force-rm", "no-rm", "parallel"][..],
        ),
        (&["pull", "--no-parallel", "--ignore-buildable"], &["no-parallel"]),
        (&["--verbose", "ps"], &["verbose"]),
    ] {
        let done = fake.run(&[&["--dry-run"], words].concat());
        for flag in flags {
            let line = format!("option '--{flag}' is DEPRECATED and will be ignored.\n");
            assert!(text(&done.stderr).contains(&line), "{words:?}: {}", text(&done.stderr));
        }
    }
}

#[test]
fn a_number_of_lines_is_a_number() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep]}}");
    let done = fake.run(&["logs", "--tail", "x"]);
    assert_eq!((done.status.code(), text(&done.stderr).lines().next()), (Some(1), Some("invalid --tail \"x\"")));
}

#[test]
fn an_interrupted_change_is_finished_by_the_next_up() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep]}}");
    fake.ok(&["up", "-d"]);
    // killed before the old one was gone
    let half = |fake: &Fake, state: &str| {
        let mut all = fake.state();
        let mut copy = all.containers.values().next().unwrap().clone();
        (copy.name, copy.state) = ("0123456789ab_p-a-1".into(), state.into());
        all.containers.insert(format!("{:064}", 900), copy);
    };
    for state in ["created", "running"] {
        half(&fake, state);
        let planned = fake.run(&["plan"]);
        assert!(text(&planned.stdout).contains("- remove   container 0123456789ab_p-a-1"), "{}", text(&planned.stdout));
        fake.refuse(&[]);
        fake.ok(&["up", "-d"]);
        assert_eq!(fake.names(), ["p-a-1 running"]);
        assert!(!fake.state().asked.iter().any(|a| a.contains("POST p-a-1/")), "it was not touched");
    }
    // killed before the new one got its name
    half(&fake, "created");
    fake.state().containers.retain(|_, c| c.name != "p-a-1");
    fake.ok(&["up", "-d"]);
    assert_eq!(fake.names(), ["p-a-1 running"]);
    assert_eq!(text(&fake.run(&["plan"]).stdout), "Nothing to do: everything is as the file says.\n");
}

#[test]
fn a_name_is_taken_after_it_is_free() {
    let fake = Fake::new(Duration::from_millis(30));
    fake.file("services: {a: {image: x, command: [sleep], container_name: one}}");
    fake.ok(&["up", "-d"]);
    fake.file("services: {b: {image: x, command: [sleep], container_name: one}}");
    fake.refuse(&[]);
    fake.ok(&["up", "-d", "--remove-orphans"]);
    assert!(fake.when("DELETE one/") < fake.when("containers/create?name=one"), "{:?}", fake.state().asked);
}

#[test]
fn a_name_alone_speaks_of_what_runs() {
    let fake = Fake::new(Duration::ZERO);
    let hook = "pre_stop: [{command: [x]}]";
    fake.file(&format!("services: {{a: {{image: x, command: [sleep], {hook}}}, b: {{image: x, command: [sleep]}}}}"));
    fake.ok(&["up", "-d"]);
    let elsewhere = fake.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("compose.yaml"), "services: {other: {image: y}}").unwrap();
    for (words, asked) in [
        (&["stop"][..], "p-a-1/stop"),
        (&["start"], "p-b-1/start"),
        (&["restart"], "p-a-1/restart"),
        (&["kill"], "p-b-1/kill"),
        (&["down"], "DELETE p-a-1/"),
    ] {
        fake.refuse(&[]);
        let done = fake.command(words).current_dir(&elsewhere).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", text(&done.stderr));
        fake.when(asked);
        if words == ["kill"] {
            fake.ok(&["start"]);
        }
    }
    assert_eq!(fake.names(), [""; 0]);
    // in its own directory the hooks are known
    fake.ok(&["up", "-d"]);
    fake.refuse(&[]);
    fake.ok(&["stop"]);
    assert!(fake.when("p-a-1/exec") < fake.when("p-a-1/stop"));
}

#[test]
fn start_begins_with_what_is_needed() {
    let fake = Fake::new(Duration::ZERO);
    fake.file(
        "services:
  job: {image: x, command: [end, '0']}
  db: {image: x, command: [sleep]}
  app: {image: x, command: [sleep], depends_on: {db: {condition: service_started}, job: {condition: service_completed_successfully}}}
  web: {image: x, command: [sleep], depends_on: [app]}
  other: {image: x, command: [sleep]}",
    );
    fake.ok(&["up", "-d"]);
    fake.ok(&["stop"]);
    fake.refuse(&[]);
    fake.ok(&["start", "web"]);
    assert!(fake.when("p-db-1/start") < fake.when("p-app-1/start"));
    assert!(fake.when("p-app-1/start") < fake.when("p-web-1/start"));
    let asked = fake.state().asked.clone();
    assert!(!asked.iter().any(|a| a.contains("p-other-1") || a.contains("p-job-1")), "{asked:?}");
}

#[test]
fn restart_reaches_all_that_ask_for_it_and_runs_the_hooks() {
    let fake = Fake::new(Duration::ZERO);
    fake.file(
        "services:
  db: {image: x, command: [sleep], pre_stop: [{command: [before]}], post_start: [{command: [after]}]}
  app: {image: x, command: [sleep], depends_on: {db: {condition: service_started, restart: true}}}
  web: {image: x, command: [sleep], depends_on: {app: {condition: service_started, restart: true}}}
  other: {image: x, command: [sleep], depends_on: [web]}",
    );
    fake.ok(&["up", "-d"]);
    fake.refuse(&[]);
    fake.ok(&["restart", "db"]);
    assert!(fake.when("p-db-1/restart") < fake.when("p-app-1/restart"));
    assert!(fake.when("p-app-1/restart") < fake.when("p-web-1/restart"));
    let state = fake.state();
    assert!(!state.asked.iter().any(|a| a.contains("p-other-1")), "{:?}", state.asked);
    let of_db: Vec<&String> = state.asked.iter().filter(|a| a.contains("p-db-1")).collect();
    assert!(of_db[0].contains("/exec") && of_db[1].contains("/restart") && of_db[2].contains("/exec"), "{of_db:?}");
    let hooks: Vec<&serde_json::Value> = state.bodies.iter().map(|b| &b["Cmd"][0]).filter(|c| c.is_string()).collect();
    assert_eq!(hooks, ["before", "after"]);
}

#[test]
fn a_detached_run_has_its_hooks() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep], post_start: [{command: [after]}]}}");
    fake.ok(&["run", "-d", "--name", "once", "a"]);
    assert!(fake.when("once/start") < fake.when("once/exec"));
}

#[test]
fn after_a_failed_start_nothing_is_waited_for() {
    let fake = Fake::new(Duration::ZERO);
    fake.file(
        "services:
  bad: {image: x, command: [sleep]}
  job: {image: x, command: [sleep]}
  web: {image: x, command: [sleep], depends_on: {job: {condition: service_completed_successfully}}}",
    );
    fake.refuse(&["p-bad-1/start"]);
    let begin = Instant::now();
    let mut child = fake.command(&["up", "-d"]).stderr(Stdio::null()).spawn().unwrap();
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if begin.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("it waits for the end of job, which does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(code, Some(1));
}

#[test]
fn up_goes_on_with_what_is_made_meanwhile() {
    let fake = Fake::new(Duration::ZERO);
    fake.file("services: {a: {image: x, command: [sleep]}}");
    let child = fake.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    until(|| fake.names() == ["p-a-1 running"]);
    fake.ok(&["up", "-d", "--scale", "a=2"]);
    fake.ok(&["run", "-d", "--name", "once", "a"]);
    std::thread::sleep(Duration::from_millis(300));
    fake.ok(&["kill", "a"]);
    let shown = child.wait_with_output().unwrap();
    let shown = text(&shown.stdout);
    assert!(shown.contains("a-1 exited with code 137") && shown.contains("a-2 exited with code 137"), "{shown}");
    assert!(!shown.contains("once"), "{shown}");
}

fn interrupt(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
}
