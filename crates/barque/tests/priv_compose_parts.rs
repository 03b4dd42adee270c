//! Compose on parts of a project: what was not named goes on, and what one command made is that command's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use common::project::{machine, sh};
use common::{Machine, missing};

/// A machine with a project of this file, unless something is missing.
fn project(file: &str) -> Option<Machine> {
    if let Some(why) = missing(&["busybox"]) {
        println!("skipped: {why}");
        return None;
    }
    let machine = machine();
    std::fs::write(machine.path("p/compose.yaml"), file).unwrap();
    Some(machine)
}

fn status(machine: &Machine, words: &str) -> String {
    sh(machine, "p", &format!("barque compose {words} > out 2>&1 && echo 0 || echo $?")).trim_end().to_owned()
}

#[test]
fn an_up_stops_only_those_that_take_part() {
    let Some(machine) = project(
        "services:
  a: {image: little, init: true, command: sleep 1000}
  b: {image: little, init: true, command: sleep 1000}
  bad: {image: little, command: /nothing}
  end: {image: little, command: 'true'}
  late: {image: little, init: true, command: sleep 1000, depends_on: [slow]}
  slow: {image: little, init: true, command: sleep 1000, depends_on: [end]}",
    ) else {
        return;
    };
    let up = || sh(&machine, "p", "barque ps --format {{.Names}} | sort | xargs");
    sh(&machine, "p", "barque compose up -d b");
    assert_eq!(sh(&machine, "p", "timeout -s INT 3 barque compose up a > out 2>&1 || echo $?").trim_end(), "124");
    assert_eq!(up(), "p-b-1\n", "an interrupt");
    assert_eq!(status(&machine, "up bad"), "1");
    assert_eq!(up(), "p-b-1\n", "a failed start");
    for _ in 0..3 {
        assert_eq!(status(&machine, "up --abort-on-container-exit late"), "0");
        assert_eq!(up(), "p-b-1\n", "an end, while others are being started");
    }
    // What the file no longer has is not this command's matter either.
    sh(&machine, "p", "printf 'services: {a: {image: little, init: true, command: sleep 1000}}' > less.yaml");
    sh(&machine, "p", "timeout -s INT 3 barque compose -f less.yaml up > out 2>&1 || true");
    assert_eq!(up(), "p-b-1\n", "an orphan");
}

#[test]
fn waiting_sees_what_fails_at_once() {
    let Some(machine) = project(
        "services:
  fails: {image: little, command: sh -c 'exit 3'}
  runs: {image: little, init: true, command: sleep 1000}",
    ) else {
        return;
    };
    for _ in 0..3 {
        assert_eq!(status(&machine, "up --wait fails"), "1");
        assert!(sh(&machine, "p", "cat out").contains("exited (3)"));
    }
    assert_eq!(status(&machine, "up --wait runs"), "0");
}

#[test]
fn a_run_has_its_output_its_hooks_and_its_end() {
    let Some(machine) = project(
        "services:
  a:
    image: little
    init: true
    command: sleep 1000
    post_start: [{command: [sh, -c, 'sleep 0.2; echo hooked > /hooked']}]
  plain: {image: little, init: true, command: sleep 1000}
  bad: {image: little, init: true, post_start: [{command: [sh, -c, 'exit 4']}]}",
    ) else {
        return;
    };
    let out = sh(&machine, "p", "barque compose run --rm -T a sh -c 'echo short; sleep 1; cat /hooked' 2> err");
    assert_eq!(out, "short\nhooked\n");
    let (code, out) = (status(&machine, "run --rm -T bad sh -c 'echo said; sleep 1'"), sh(&machine, "p", "cat out"));
    assert!(code == "1" && out.contains("said\n") && out.contains("hook exited with status 4"), "{code}: {out}");
    assert_eq!(sh(&machine, "p", "barque ps -aq"), "", "nothing stays of either");
    // Flags with values in one word, before the service.
    assert_eq!(status(&machine, "run -i=false -T=true --rm plain true"), "0");
    assert_eq!(status(&machine, "run --service-ports -p 1:1 plain"), "1");
    // It is the engine that removes it, whatever becomes of the client.
    sh(&machine, "p", "barque compose run -T --rm --name kept plain sleep 1000 > out 2>&1 & echo $! > pid");
    common::project::until("kept runs", || sh(&machine, "p", "barque ps -q -f name=kept") != "");
    sh(&machine, "p", "kill -9 $(cat pid); barque kill kept > /dev/null");
    common::project::until("kept is gone", || sh(&machine, "p", "barque ps -aq") == "");
    // What `run` made is no container of the service.
    sh(&machine, "p", "barque compose up -d plain; barque compose run -d --name own plain sleep 1000");
    assert_eq!(status(&machine, "exec -T=true plain true"), "0");
    sh(&machine, "p", "barque compose rm -fs plain");
    assert_eq!(sh(&machine, "p", "barque ps -a --format {{.Names}}"), "own\n");
}

#[test]
fn owners_and_lists_tell_what_the_file_says() {
    let Some(machine) = project(
        "services:
  a:
    image: little
    init: true
    user: '500:600'
    command: sleep 1000
    volumes: ['data:/data']
    configs: [{source: c, target: /c, uid: '103', gid: '104', mode: 0440}]
configs: {c: {content: text}}
volumes: {data: {}}",
    ) else {
        return;
    };
    sh(&machine, "p", "barque compose up -d");
    assert_eq!(sh(&machine, "p", "barque compose exec -T a stat -c '%u %g %a' /c"), "103 104 440\n");
    let format = "{{.Label \"com.docker.compose.service\"}} {{.Mounts}} {{.LocalVolumes}} {{.Name}}";
    let listed = sh(&machine, "p", &format!("barque compose ps --format '{format}'"));
    assert_eq!(listed, "a p_data 1 p-a-1\n");
    assert!(!sh(&machine, "p", "barque compose ps --format json").contains("\"Label\""));
    let top = sh(&machine, "p", "barque compose top");
    let lines: Vec<Vec<&str>> = top.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!((&lines[0][..2], *lines[0].last().unwrap()), (&["SERVICE", "#"][..], "CMD"), "{top}");
    assert_eq!(&lines[1][..2], ["a", "1"]);
    let id = sh(&machine, "p", "barque compose ps -q");
    let stats = sh(&machine, "p", "barque compose stats --no-stream --format json");
    assert!(stats.contains(&format!("\"ID\":\"{}\"", &id[..12])), "{stats}");
}
