//! Compose on a real engine: builds with secrets and named contexts, `watch`, and Docker Compose 1 on the same
//! projects.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod common;

use std::process::Stdio;

use common::missing;
use common::project::{machine, sh, until};

#[test]
fn builds_take_secrets_and_contexts_of_services() {
    if let Some(why) = missing(&["busybox"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    let file = r#"
services:
  base:
    build: {dockerfile_inline: "FROM little\nRUN echo from-base > /origin\n"}
  app:
    build:
      dockerfile_inline: |
        FROM base AS base
        FROM little
        COPY --from=base /origin /origin
        COPY --from=extra note /note
        RUN --mount=type=secret,id=token cat /run/secrets/token > /seen
      additional_contexts: {base: "service:base", extra: ./more}
      secrets: [token]
    command: cat /origin /note /seen
secrets: {token: {environment: TOKEN}}
"#;
    std::fs::write(machine.path("p/compose.yaml"), file).unwrap();
    sh(&machine, "p", "mkdir more; echo beside > more/note; TOKEN=s3cret barque compose build");
    let out = sh(&machine, "p", "TOKEN=s3cret barque compose run --rm -T app 2>/dev/null");
    assert_eq!(out, "from-base\nbeside\ns3cret");
    // Secrets stay out of the image.
    let history = sh(&machine, "p", "barque history --no-trunc p-app");
    assert!(!history.contains("s3cret"), "{history}");
    // An engine that sees other files is sent the directories.
    sh(&machine, "p", "echo sent > more/note; TOKEN=s3cret unshare -m barque compose build");
    let out = sh(&machine, "p", "TOKEN=s3cret barque compose run --rm -T app 2>/dev/null");
    assert_eq!(out, "from-base\nsent\ns3cret");
}

#[test]
fn of_several_platforms_the_one_to_run_is_built() {
    if let Some(why) = missing(&["busybox"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    let file = r#"
services:
  app:
    build: {dockerfile_inline: "FROM little\n", platforms: [linux/amd64, linux/arm64]}
    command: uname -m
"#;
    std::fs::write(machine.path("p/compose.yaml"), file).unwrap();
    let whole = sh(&machine, "p", "barque compose build 2>&1 || echo status $?");
    assert!(whole.contains("not implemented yet: images for several platforms"), "{whole}");
    assert_eq!(sh(&machine, "p", "barque compose run --rm -T app 2>/dev/null").trim(), "x86_64");
    let other = sh(&machine, "p", "DOCKER_DEFAULT_PLATFORM=linux/s390x barque compose up -d --build 2>&1 || true");
    assert!(other.contains("build.platforms does not support value set by DOCKER_DEFAULT_PLATFORM"), "{other}");
}

#[test]
fn builds_keep_their_caches_in_directories() {
    if let Some(why) = missing(&["busybox"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    let sh = |dir: &str, script: &str| sh(&machine, dir, script).trim_end().to_owned();
    let file = r#"
services:
  app:
    build:
      dockerfile_inline: "FROM little\nRUN cat /proc/sys/kernel/random/uuid > /once\n"
      cache_to: ["type=local,dest=kept", "type=gha"]
      cache_from: ["type=local,src=kept"]
    command: cat /once
"#;
    std::fs::write(machine.path("p/compose.yaml"), file).unwrap();
    let build = "barque compose build 2>&1; barque compose run --rm -T app 2>/dev/null";
    let first = sh("p", build);
    assert!(first.contains("p/kept: nothing is imported"), "{first}");
    assert!(first.contains("not implemented yet: build cache_to type=gha; it is left out"), "{first}");
    // Without what the engine knows, the directory tells what the step made.
    sh("p", "test -e kept/index.json; barque rmi p-app; barque builder prune -af");
    let again = sh("p", build);
    assert!(!again.contains("nothing is imported"), "{again}");
    assert_eq!(first.lines().last(), again.lines().last());
    assert_eq!(sh("p", "barque images -qa | sort -u | wc -l"), "2", "{again}");
    // The same without the imported cache is another.
    sh("p", "rm -r kept; barque rmi p-app; barque builder prune -af");
    assert_ne!(first.lines().last(), sh("p", build).lines().last());
}

#[test]
fn files_are_copied_as_cp_copies_them() {
    if let Some(why) = missing(&["busybox"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    let sh = |dir: &str, script: &str| sh(&machine, dir, script).trim_end().to_owned();
    let file = "services: {app: {image: little, command: sleep 1000, init: true, scale: 2}}";
    std::fs::write(machine.path("p/compose.yaml"), file).unwrap();
    sh(
        "p",
        "barque compose up -d; mkdir -p t/d; echo deep > t/d/f; ln -s t/d/f l; chmod 750 t/d; \
         for n in 1 2; do barque compose exec -T --index $n app mkdir /tmp; done",
    );
    let inside =
        |number: usize, script: &str| sh("p", &format!("barque compose exec -T --index {number} app sh -c '{script}'"));
    sh("p", "barque compose cp --all t app:/ 2>&1");
    for number in [1, 2] {
        assert_eq!(inside(number, "cat /t/d/f; stat -c %a /t/d"), "deep\n750", "container {number}");
    }
    sh("p", "barque compose cp t/. app:/bin 2>&1; barque compose cp -L l app:/new 2>&1");
    assert_eq!(inside(1, "cat /bin/d/f /new"), "deep\ndeep");
    sh("p", "tar -c t | barque compose cp --all - app:/tmp 2>&1; tar -c l | barque compose cp - app:/tmp");
    assert_eq!(inside(2, "cat /tmp/t/d/f"), "deep");
    assert_eq!(inside(1, "readlink /tmp/l"), "t/d/f");
    sh("p", "barque compose cp app:/t/. out 2>&1; barque compose cp app:/tmp/l link; barque compose cp app:/t - > tar");
    assert_eq!(sh("p", "cat out/d/f; readlink link; tar -tf tar | tail -1"), "deep\nt/d/f\nt/d/f");
    let refused = |words: &str| sh("p", &format!("barque compose cp {words} 2>&1 && echo done || echo $?"));
    assert_eq!(
        refused("nothing app:/"),
        format!("lstat {}: no such file or directory\n1", machine.path("p/nothing").display())
    );
    assert_eq!(refused("t app:/new"), "cannot copy directory\n1");
    assert!(refused("app:/none out").contains("Could not find the file /none"));
    let dry = sh("p", "barque compose --dry-run cp app:/t nowhere 2>&1; ls nowhere 2>&1 | tail -1");
    assert!(dry.contains("DRY-RUN") && dry.ends_with("No such file or directory"), "{dry}");
}

#[test]
fn watch_copies_and_rebuilds() {
    if let Some(why) = missing(&["busybox"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    let file = r#"
services:
  web:
    build: {context: ., dockerfile_inline: "FROM little\nCOPY src /app\nCOPY version /version\n"}
    command: sleep 1000
    init: true
    develop:
      watch:
        - {path: ./src, action: sync, target: /app, ignore: ["*.log"]}
        - {path: ./version, action: rebuild}
"#;
    std::fs::write(machine.path("p/compose.yaml"), file).unwrap();
    sh(&machine, "p", "mkdir -p src; echo one > src/a; echo 1 > version");
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
    until("the first content", || inside("cat /app/a") == "one\n");
    // The watch begins after the start: the change is made until it is seen.
    until("a changed file", || {
        sh(&machine, "p", "echo two > src/a; mkdir -p src/d; echo deep > src/d/f; echo no > src/x.log");
        inside("cat /app/a /app/d/f") == "two\ndeep\n"
    });
    assert_eq!(inside("ls /app"), "a\nd\n", "what is ignored is not copied");
    sh(&machine, "p", "rm -r src/d");
    until("a removed file", || inside("ls /app") == "a\n");
    sh(&machine, "p", "echo 2 > version");
    until("a rebuilt image", || inside("cat /version") == "2\n");
    let _ = watch.kill();
    let _ = watch.wait();
    sh(&machine, "p", "barque compose down -t 0 2>&1");
}

#[test]
fn compose_1_and_barque_manage_each_others_projects() {
    if let Some(why) = missing(&["busybox", "docker-compose"]) {
        return println!("skipped: {why}");
    }
    let machine = machine();
    let file = "version: '3.8'\nservices:\n  db: {image: little, command: sleep 1000, init: true}\n  app:\n    image: \
                little\n    command: sh -c 'echo ready; exec sleep 1000'\n    init: true\n    depends_on: [db]\n    \
                networks: [default, front]\nnetworks: {front: {}}\n";
    std::fs::write(machine.path("p/docker-compose.yml"), file).unwrap();
    let old = |words: &str| sh(&machine, "p", &format!("/usr/bin/docker-compose {words}"));
    let new = |words: &str| sh(&machine, "p", &format!("barque compose {words}"));
    // Made by Compose 1, seen, used and taken down by Barque.
    old("up -d --scale app=2 2>&1");
    assert_eq!(new("ps -q").lines().count(), 3);
    assert!(new("logs 2>&1").contains("ready"));
    assert_eq!(new("exec -T app echo here"), "here\n");
    new("down -t 0 2>&1");
    assert_eq!(sh(&machine, "p", "barque ps -aq; barque network ls -q --filter type=custom"), "");
    // And the other way about.
    new("up -d --wait 2>&1");
    assert_eq!(old("ps -q").lines().count(), 2);
    assert!(old("logs app 2>&1").contains("ready"));
    assert_eq!(old("exec -T db echo there"), "there\n");
    old("restart -t 0 db 2>&1");
    old("down -t 0 2>&1");
    assert_eq!(sh(&machine, "p", "barque ps -aq; barque network ls -q --filter type=custom"), "");
}
