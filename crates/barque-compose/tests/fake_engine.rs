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
