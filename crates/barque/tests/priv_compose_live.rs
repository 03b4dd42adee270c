//! Compose on a real engine: order and signals of a shutdown, whole output, `watch`, and the commands on what runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use std::process::Stdio;

use common::project::{machine, sh, until};
use common::{Machine, missing};

/// Writes the project's file.
fn file(machine: &Machine, text: &str) {
    std::fs::write(machine.path("p/compose.yaml"), text).unwrap();
}

const ORDERED: &str = r#"
services:
  db:
    image: little
    stop_grace_period: 1s
    command: sh -c "trap '' TERM; echo up; while :; do sleep 0.1; done"
  cache: {image: little, init: true, command: sleep 1000, stop_signal: SIGUSR1}
  app:
    image: little
    command: sh -c "trap 'echo bye; exit 0' TERM; while :; do sleep 0.1; done"
    depends_on: [db, cache]
    post_start: [{command: [sh, -c, "sleep 0.3; echo made > /made"]}]
    pre_stop: [{command: [sh, -c, "cat /made; sleep 0.3"]}]
  web:
    image: little
    depends_on: [app]
    scale: 2
    command: sh -c "trap 'exit 7' TERM; while :; do sleep 0.1; done"
"#;

/// What happened to containers since `since`: nanoseconds and text, such as `kill p-db-1 15`.
fn happened(machine: &Machine, since: &str) -> Vec<(u128, String)> {
    let script = format!(
        "barque events --since {since} --until $(date +%s.%N) --filter type=container --format \
         '{{{{.TimeNano}}}} {{{{.Action}}}} {{{{index .Actor.Attributes \"name\"}}}} {{{{index .Actor.Attributes \"signal\"}}}}'"
    );
    let text = sh(machine, "p", &script);
    let event = |line: &str| {
        let (time, what) = line.split_once(' ')?;
        Some((time.parse().ok()?, what.trim().to_owned()))
    };
    text.lines().filter_map(event).collect()
}

fn assert_ordered(events: &[(u128, String)]) {
    let at = |what: &str| {
        let found = events.iter().find(|(_, e)| e.starts_with(what) || (e.ends_with(what) && what.starts_with("p-")));
        found.unwrap_or_else(|| panic!("no {what}: {events:#?}")).0
    };
    let webs = at("die p-web-1").max(at("die p-web-2"));
    assert!(at("kill p-web-1 15").max(at("kill p-web-2 15")) < at("die p-web-1").min(at("die p-web-2")), "at once");
    assert!(webs < at("exec_start: sh -c cat /made"), "the hook runs after those that need the service are gone");
    let hook = at("kill p-app-1 15") - at("exec_start: sh -c cat /made");
    assert!(hook >= 300_000_000, "and is at its end before the service is told: {hook} ns");
    let app = at("die p-app-1");
    assert!(app < at("kill p-cache-1 10") && app < at("kill p-db-1 15"));
    let grace = at("kill p-db-1 9") - at("kill p-db-1 15");
    assert!((900_000_000..8_000_000_000).contains(&grace), "a second, not ten: {grace} ns");
}

#[test]
fn projects_stop_in_order_with_their_signals_and_hooks() {
    if let Some(why) = missing(&["busybox"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    file(&machine, ORDERED);
    let now = || sh(&machine, "p", "date +%s.%N").trim().to_owned();
    let begin = now();
    sh(&machine, "p", "barque compose up -d 2>&1");
    let started = happened(&machine, &begin);
    let at = |what: &str| started.iter().position(|(_, e)| e.starts_with(what)).unwrap_or_else(|| panic!("no {what}"));
    assert!(at("start p-app-1") < at("exec_start: sh -c sleep") && at("exec_die p-app-1") < at("start p-web-1"));
    for command in ["stop", "down"] {
        sh(&machine, "p", "barque compose up -d 2>&1");
        let begin = now();
        let told = sh(&machine, "p", &format!("barque compose {command} 2>&1"));
        assert!(told.contains("app-1 ->pre_stop  | made\n"), "{told}");
        assert_ordered(&happened(&machine, &begin));
    }
    // Ctrl-C
    let begin = now();
    let out = sh(
        &machine,
        "p",
        "barque compose up > out 2> err & up=$!
        until [ \"$(barque compose ps -q --status running | wc -l)\" = 5 ]; do sleep 0.1; done; sleep 1
        kill -INT $up; wait $up || echo status $?; cat out",
    );
    assert!(out.contains("status 130\n"), "{out}");
    for line in [
        "app-1    | bye",
        "web-1 exited with code 7",
        "web-2 exited with code 7",
        "app-1 exited with code 0",
        "db-1 exited with code 137",
        "cache-1 exited with code 138",
    ] {
        assert!(out.lines().any(|l| l == line), "{line}: {out}");
    }
    assert_ordered(&happened(&machine, &begin));
    sh(&machine, "p", "barque compose down -t 0 2>&1");
}

#[test]
fn all_that_is_written_is_shown() {
    if let Some(why) = missing(&["busybox"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    file(
        &machine,
        r#"
services:
  many: {image: little, command: [sh, -c, "i=0; while [ $$i -lt 20000 ]; do i=$$((i+1)); echo line $$i; done"]}
  bare: {image: little, command: [sh, -c, "printf no-line-break"]}
  long: {image: little, command: [sh, -c, "head -c 300000 /dev/zero | tr '\\0' x; echo; echo after"]}
  again: {image: little, restart: "on-failure:2", command: [sh, -c, "for i in 1 2 3; do echo word $$i; done; exit 3"]}
  web: {image: little, scale: 2, command: echo hello}
"#,
    );
    let shown = sh(&machine, "p", "barque compose up 2>&1");
    let count = |text: &str, start: &str| text.lines().filter(|l| l.starts_with(start)).count();
    assert_eq!(count(&shown, "many-1   | line "), 20_000);
    assert!(shown.contains("many-1   | line 20000\n") && shown.contains("bare-1   | no-line-break\n"));
    let long = shown.lines().find(|l| l.starts_with("long-1   | xx")).map(str::len);
    assert_eq!((long, count(&shown, "long-1   | after")), (Some("long-1   | ".len() + 300_000), 1));
    assert_eq!(count(&shown, "again-1  | word "), 9, "all three runs, each line once");
    assert_eq!(count(&shown, "again-1 exited with code 3"), 3);
    assert_eq!((count(&shown, "web-1    | hello"), count(&shown, "web-2    | hello")), (1, 1));
    let position = |what: &str| shown.lines().position(|l| l == what).unwrap();
    assert!(position("many-1   | line 20000") < position("many-1 exited with code 0"));

    let logs = |flags: &str| sh(&machine, "p", &format!("barque compose logs {flags} 2>&1"));
    assert_eq!(count(&logs("--no-color"), "many-1   | line "), 20_000);
    assert_eq!(logs("--tail 2 many"), "many-1  | line 19999\nmany-1  | line 20000\n");
    assert_eq!(logs("--no-log-prefix --tail 1 bare many"), "no-line-break\nline 20000\n");
    assert_eq!(logs("-f again").lines().count(), 9, "followed to its end, which was");
    let stamped = logs("-t web");
    let stamp = |line: &str| line.split_once("| ").unwrap().1.split_once(' ').unwrap().0.to_owned();
    let stamps: Vec<String> = stamped.lines().map(stamp).collect();
    assert!(stamps.len() == 2 && stamps[0].starts_with("20") && stamps[0].ends_with('Z'), "{stamped}");
    let old = &stamps[0][..19];
    assert_eq!(logs(&format!("--until {}Z web", old.replace(&old[..4], "2001"))), "");
    assert_eq!(logs("--since 1h --until 0s web").lines().count(), 2);
    assert_eq!(logs("--since 2100-01-01T00:00:00Z web"), "");
    // a restart while it is followed
    file(&machine, "services: {a: {image: little, init: true, command: sh -c 'echo up; exec sleep 1000'}}");
    sh(&machine, "p", "barque compose up -d --remove-orphans 2>&1");
    let followed = sh(
        &machine,
        "p",
        "barque compose logs -f > log & p=$!
        until grep -q up log; do sleep 0.1; done
        barque compose restart -t 0 a 2>&1; until [ $(grep -c up log) = 2 ]; do sleep 0.1; done
        barque compose kill 2>&1; wait $p; cat log",
    );
    assert!(followed.ends_with("a-1  | up\na-1  | up\n"), "{followed}");
    // what is made meanwhile
    let followed = sh(
        &machine,
        "p",
        "barque compose up -d 2>&1; barque compose logs -f --tail 0 > log & p=$!
        sleep 1; barque compose up -d --scale a=2 2>&1
        until grep -q 'a-2  | up' log; do sleep 0.1; done
        barque compose restart -t 0 a 2>&1; until [ $(grep -c up log) = 3 ]; do sleep 0.1; done
        barque compose kill 2>&1; wait $p; sort log",
    );
    assert!(followed.ends_with("a-1  | up\na-2  | up\na-2  | up\n"), "{followed}");
    let attached = sh(
        &machine,
        "p",
        "barque compose up -t 0 --timestamps > log 2>&1 & p=$!
        until grep -q up log; do sleep 0.1; done
        barque compose restart -t 0 a 2>&1; until [ $(grep -c 'Z up' log) = 2 ]; do sleep 0.1; done
        barque compose kill 2>&1; wait $p || true; cat log",
    );
    assert_eq!(attached.matches("Z up").count(), 2, "times are shown after a restart, too: {attached}");
}

#[test]
fn watch_does_each_action() {
    if let Some(why) = missing(&["busybox"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    file(
        &machine,
        r#"
services:
  web:
    build: {context: ., dockerfile_inline: "FROM little\nRUN mkdir /app /w /conf\n"}
    command: sleep 1000
    init: true
    develop:
      watch:
        - {path: ./conf, action: sync+restart, target: /conf}
        - {path: ./ping, action: restart}
        - path: ./src
          action: sync+exec
          target: /app
          include: ["*.py"]
          initial_sync: true
          exec: {command: [sh, -c, 'echo $$WHO $$(pwd) > /ran'], working_dir: /w, environment: {WHO: me}}
"#,
    );
    sh(&machine, "p", "mkdir conf ping src; echo one > src/a.py; echo no > src/a.txt");
    let mut watch = machine
        .command("barque", &["compose", "watch"])
        .current_dir(machine.path("p"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let inside = |script: &str| {
        let args = ["compose", "exec", "-T", "web", "sh", "-c", script];
        let done = machine.command("barque", &args).current_dir(machine.path("p")).output().unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let since = || sh(&machine, "p", "barque inspect -f '{{.State.StartedAt}}' $(barque compose ps -aq web)");
    until("the first copy", || inside("cat /app/a.py") == "one\n");
    until("a command after a copy", || {
        sh(&machine, "p", "echo two > src/a.py; echo no > src/b.txt");
        inside("cat /app/a.py /ran") == "two\nme /w\n"
    });
    assert_eq!(inside("ls /app"), "a.py\n", "what is not included is not copied");
    let first = since();
    until("a restart after a copy", || {
        sh(&machine, "p", "echo conf > conf/x");
        inside("cat /conf/x") == "conf\n" && since() != first
    });
    let second = since();
    until("a restart alone", || {
        sh(&machine, "p", "date > ping/x");
        since() != second
    });
    assert_eq!(inside("cat /ping/x"), "", "nothing was copied");
    let _ = watch.kill();
    let _ = watch.wait();
    sh(&machine, "p", "barque compose down -t 0 2>&1");
}

#[test]
fn keys_of_the_menu_watch_and_detach() {
    if let Some(why) = missing(&["busybox", "script"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    let watched = "develop: {watch: [{path: ./src, target: /src, action: sync}]}";
    file(&machine, &format!("services: {{a: {{image: little, command: sleep 1000, build: ., {watched}}}}}"));
    std::fs::create_dir(machine.path("p/src")).unwrap();
    std::fs::write(machine.path("p/Dockerfile"), "FROM little\n").unwrap();
    let inside = "stty -g > before; barque compose up --menu --no-build; echo ended $?; stty -g > after";
    std::fs::write(machine.path("p/inside"), inside).unwrap();
    let said = sh(
        &machine,
        "p",
        "barque compose build -q > /dev/null 2>&1; ready() { until grep -q \"$1\" said; do sleep 0.1; done; }; : > said
        (ready Attaching; sleep 1; printf w; ready 'Watch enabled'; echo new > src/file
         until barque compose exec -T a cat /src/file; do sleep 0.2; done > copied 2> /dev/null
         printf w; ready 'Watch disabled'; printf x; printf d; ready ended) | script -qefc 'sh inside' said > /dev/null
        cat copied; cmp before after && barque compose ps --format '{{.Name}} {{.State}}'; cat said",
    );
    assert!(said.starts_with("new\np-a-1 running\n"), "{said}");
    assert!(said.contains("w Enable Watch   d Detach") && said.contains("ended 0"), "{said}");
    sh(&machine, "p", "barque compose down -t 0 2>&1");
}

#[test]
fn commands_on_what_runs() {
    if let Some(why) = missing(&["busybox"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    file(
        &machine,
        r#"
services:
  web: {image: little, init: true, scale: 2, ports: ["80"], command: httpd -f -p 80 -h /}
  job: {image: little, stdin_open: true, command: [sh, -c, "read line; echo got $$line; exit 3"]}
"#,
    );
    let run = |script: &str| sh(&machine, "p", script);
    run("barque compose up -d 2>&1");
    assert!(run("barque compose version").starts_with("Barque Compose version v"));
    assert_eq!(run("docker compose version --short"), "2.40.3\n");
    assert!(run("barque compose version -f json").starts_with("{\"version\":\"v"));
    assert!(run("barque compose ls").contains("running(3)"));
    assert!(run("barque compose ls --format json").contains("\"Name\":\"p\",\"Status\":\"running(3)\""));
    let top = run("barque compose top web");
    let row = |service: &str, number: &str| {
        let mut rows = top.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
        rows.any(|row| row.starts_with(&[service, number]) && row.ends_with(&["httpd", "-f", "-p", "80", "-h", "/"]))
    };
    assert!(row("web", "1") && row("web", "2"), "{top}");
    let ports = (run("barque compose port web 80"), run("barque compose port --index 2 web 80"));
    assert!(ports.0.starts_with("0.0.0.0:") && ports.1.starts_with("0.0.0.0:") && ports.0 != ports.1, "{ports:?}");
    assert_eq!(run("barque compose port web 81 2>&1 || echo status $?").lines().last(), Some("status 1"));
    // cp: to all containers, to one, and back
    run("echo all > f; barque compose cp f web:/f 2>&1; echo one > g; barque compose cp --index 2 g web:/g 2>&1");
    assert_eq!(
        run("barque compose exec -T web cat /f; barque compose exec -T --index 2 web cat /f /g"),
        "all\nall\none\n"
    );
    assert_eq!(run("barque compose cp --index 2 web:/g back >/dev/null 2>&1; cat back"), "one\n");
    assert_eq!(
        run("barque compose exec -T --index 1 web ls /g 2>&1 || echo status $?").lines().last(),
        Some("status 1")
    );
    let stats = run("barque compose stats --no-stream");
    assert!(["p-web-1", "p-web-2", "p-job-1"].iter().all(|name| stats.contains(name)), "{stats}");
    assert_eq!(run("barque compose stats --no-stream --format '{{.Name}}' job"), "p-job-1\n");
    // wait and attach: the same end, seen by both
    let ended = run("(barque compose wait job > waited || echo status $? >> waited) & w=$!
        echo hello | barque compose attach job || echo status $?; wait $w; cat waited");
    let lines: Vec<&str> = ended.lines().collect();
    assert_eq!(lines[..2], ["got hello", "status 3"], "{ended}");
    assert!(lines[2].ends_with("exited with status code 3") && lines[3] == "status 3", "{ended}");
    let events = run("timeout 20 barque compose events --json web > events & e=$!
        until grep -q '\"action\":\"start\"' events; do barque compose restart -t 0 web 2>/dev/null; sleep 0.2; done
        kill $e; cat events");
    let first: serde_json::Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    assert_eq!((&first["service"], &first["type"]), (&"web".into(), &"container".into()), "{first}");
    // links of containers that are made by the same command
    let linked = "a: {image: little, init: true, command: sleep 1000, links: ['b:bee', b]}";
    file(&machine, &format!("services:\n  {linked}\n  b: {{image: little, init: true, command: sleep 1000}}"));
    run("barque compose up -d --remove-orphans -t 0 2>&1");
    let links = run("docker inspect -f '{{range .NetworkSettings.Networks}}{{.Links}}{{end}}' p-a-1");
    assert_eq!(links, "[p-b-1:b p-b-1:b-1 p-b-1:bee p-b-1:p-b-1]\n");
    run("barque compose down -t 0 2>&1");
}

#[test]
fn a_changed_network_leaves_everything_reachable() {
    if let Some(why) = missing(&["busybox"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    let text = |subnet: &str| {
        format!(
            "services:
  db: {{image: little, init: true, command: sleep 1000, networks: {{back: {{aliases: [store]}}}},
    pre_stop: [{{command: [sh, -c, 'echo stopping']}}], post_start: [{{command: [sh, -c, 'echo started']}}]}}
  web: {{image: little, init: true, command: sleep 1000, networks: {{back: {{ipv4_address: {subnet}.77}}}}}}
networks: {{back: {{ipam: {{config: [{{subnet: {subnet}.0/24}}]}}}}}}
"
        )
    };
    let run = |script: &str| sh(&machine, "p", script);
    let reaches = |from: &str, name: &str| {
        let script =
            format!("barque compose exec -T {from} nslookup -type=a {name} 127.0.0.11 | grep -c Name: || true");
        run(&script).trim() != "0"
    };
    file(&machine, &text("10.91.1"));
    run("barque compose up -d 2>&1; barque compose run -d --rm --name once db sleep 1000 2>&1");
    // a part of the project: the rest and one-offs stand aside, and return as they were
    file(&machine, &text("10.91.2"));
    let planned = run("barque compose plan web || true");
    assert!(planned.contains("container p-db-1 is stopped, connected to it and started again"), "{planned}");
    let old = run("barque compose ps -q db");
    let told = run("barque compose up -d web 2>&1 || true");
    assert!(told.contains("db-1 ->pre_stop  | stopping") && told.contains("db-1 ->post_start  | started"), "{told}");
    assert_eq!(run("barque compose ps -q db"), old, "it is the same container, and runs");
    assert!(reaches("web", "db") && reaches("web", "store") && reaches("db", "web"));
    assert_eq!(run("barque compose exec -T web hostname -i"), "10.91.2.77\n");
    // all of it
    file(&machine, &text("10.91.3"));
    run("barque compose up -d 2>&1");
    assert!(reaches("web", "db") && reaches("web", "store") && reaches("db", "web"));
    assert_eq!(run("barque compose exec -T web hostname -i"), "10.91.3.77\n");
    assert_eq!(run("barque compose plan"), "Nothing to do: everything is as the file says.\n");
    // containers of others are in the way: nothing is stopped
    run("barque run -d --name stranger --network p_back little sleep 1000");
    file(&machine, &text("10.91.4"));
    let refused = run("barque compose up -d 2>&1 && exit 1; barque compose plan 2>&1 || echo status $?");
    assert!(
        refused.contains("containers of others are in it: stranger") && refused.ends_with("status 1\n"),
        "{refused}"
    );
    assert_eq!(run("barque compose ps -q --status running").lines().count(), 2);
    run("barque rm -f stranger; barque compose down -t 0 2>&1");
}
