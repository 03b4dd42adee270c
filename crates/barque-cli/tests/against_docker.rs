//! Texts that do not need an engine, compared with the reference client where that is installed.

mod common;

use std::process::{Command, Output};

use common::{program, text};

/// The reference client of the version whose texts these are.
fn reference() -> Option<&'static str> {
    const DOCKER: &str = "/usr/local/bin/docker";
    let version = Command::new(DOCKER).arg("--version").output().ok()?;
    if !text(&version.stdout).starts_with("Docker version 28.") {
        return None;
    }
    Some(DOCKER)
}

fn run(program: &std::path::Path, home: &std::path::Path, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("DOCKER_HOST", format!("unix://{}/none.sock", home.display()))
        .output()
        .expect("runs")
}

#[test]
fn help_and_usage_errors_are_the_same() {
    let Some(docker) = reference() else {
        println!("skipped: no docker client 28 to compare with");
        return;
    };
    let home = tempfile::tempdir().expect("tempdir");
    let ours = home.path().join("docker");
    std::os::unix::fs::symlink(program(), &ours).expect("links");
    let helped = [
        "ps",
        "run",
        "create",
        "start",
        "stop",
        "restart",
        "kill",
        "rm",
        "logs",
        "exec",
        "attach",
        "wait",
        "top",
        "port",
        "rename",
        "pause",
        "unpause",
        "update",
        "stats",
        "diff",
        "cp",
        "commit",
        "export",
        "images",
        "pull",
        "push",
        "tag",
        "rmi",
        "history",
        "save",
        "load",
        "import",
        "login",
        "logout",
        "search",
        "version",
        "info",
        "events",
        "inspect",
        "container",
        "container ls",
        "image ls",
        "network",
        "network create",
        "network connect",
        "network ls",
        "volume create",
        "volume ls",
        "volume inspect",
        "system df",
        "system events",
        "context",
        "context create",
        "context ls",
    ];
    let wrong = [
        "run",
        "run --foo",
        "run -Z",
        "run --memory",
        "run --memory x busybox",
        "run -p a:b:c:d busybox",
        "ps --foo",
        "ps a",
        "rm",
        "exec x",
        "cp a",
        "network create",
        "volume create a b c",
        "tag a",
        "container foo",
        "image",
        "logs",
        "logs a b",
        "--foo",
        "login a b",
        "system foo",
        "run --cpus x busybox",
        "run -e =x busybox",
        "build",
        "run --ulimit x busybox",
        "run --mount type=foo busybox",
        "run --network a --network b: busybox",
    ];
    let cases = helped.iter().map(|c| format!("{c} --help")).chain(wrong.iter().map(|c| (*c).to_owned()));
    let mut differ = Vec::new();
    for case in cases {
        let words: Vec<&str> = case.split(' ').collect();
        let (theirs, own) = (run(docker.as_ref(), home.path(), &words), run(&ours, home.path(), &words));
        // A slip of the pen in the reference is not imitated.
        let messages = |o: &Output| text(&o.stderr).replace("\nSRun ", "\nRun ");
        let shown = |o: &Output| (o.status.code(), text(&o.stdout).to_owned(), messages(o));
        if case == "build" {
            // Without the plug-in that builds, the reference says so first.
            continue;
        }
        if shown(&theirs) != shown(&own) {
            differ.push(format!("{case}\n  theirs {:?}\n  ours   {:?}", shown(&theirs), shown(&own)));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
