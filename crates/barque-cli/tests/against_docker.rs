//! Texts that do not need an engine, compared with the reference client where that is installed.

mod common;
mod scripted;

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
        // A cure is a paragraph of its own, which the reference does not have.
        let messages = |o: &Output| {
            let own = text(&o.stderr).replace("\nSRun ", "\nRun ");
            own.split("\n\n").filter(|part| !part.starts_with("hint: ")).collect::<Vec<_>>().join("\n\n")
        };
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

/// Images with several platforms, one, and none that is told.
fn images() -> serde_json::Value {
    let manifest = |digit: &str, platform: [&str; 3], kind: &str, content: i64, unpacked: i64, used: &[&str]| {
        let id = format!("sha256:{}", digit.repeat(64));
        let platform = serde_json::json!({"os": platform[0], "architecture": platform[1], "variant": platform[2]});
        let mut manifest = serde_json::json!({"ID": id, "Descriptor": {"digest": id, "size": 9, "platform": platform},
            "Available": unpacked > 0, "Size": {"Content": content, "Total": content + unpacked}, "Kind": kind});
        if kind == "image" {
            manifest["ImageData"] =
                serde_json::json!({"Platform": platform, "Size": {"Unpacked": unpacked}, "Containers": used});
        } else {
            manifest["AttestationData"] = serde_json::json!({"For": id});
        }
        manifest
    };
    let image = |digit: &str, created: i64, tags: &[&str], size: i64, manifests: Vec<serde_json::Value>| {
        serde_json::json!({"Id": format!("sha256:{}", digit.repeat(64)), "ParentId": "", "RepoTags": tags,
            "RepoDigests": [], "Created": created, "Size": size, "SharedSize": -1, "Labels": {}, "Containers": 0,
            "Manifests": manifests})
    };
    serde_json::json!([
        image(
            "a",
            1_700_000_000,
            &["multi:1", "reg.example/multi:latest"],
            30_123_456,
            vec![
                manifest("1", ["linux", "amd64", ""], "image", 4_000_000, 9_000_000, &["x"]),
                manifest("2", ["linux", "arm", "v7"], "image", 3_000_000, 5_000, &[]),
                manifest("3", ["linux", "s390x", ""], "image", 0, 0, &[]),
                manifest("4", ["unknown", "unknown", ""], "attestation", 1000, 0, &[]),
            ]
        ),
        image(
            "b",
            1_800_000_000,
            &["single:1"],
            1_230_000,
            vec![manifest("5", ["linux", "amd64", ""], "image", 4_000_000, 9_000_000, &[]),]
        ),
        image("c", 1_600_000_000, &[], 99, vec![manifest("6", ["linux", "amd64", ""], "image", 1, 1, &[])]),
    ])
}

#[test]
fn images_as_a_tree_are_the_same() {
    let Some(docker) = reference() else {
        println!("skipped: no docker client 28 to compare with");
        return;
    };
    let engine = scripted::Engine::new(|_, _| scripted::Answer::Json(200, images().to_string()));
    for more in [&["--tree"][..], &["--all", "--tree"]] {
        let ours = engine.run(&[&["image", "ls"], more].concat());
        let theirs = Command::new(docker)
            .args(["image", "ls"])
            .args(more)
            .env_clear()
            .env("HOME", engine.dir())
            .env("DOCKER_HOST", format!("unix://{}/engine.sock", engine.dir().display()))
            .output()
            .expect("runs");
        // Docker prints titles in bold and colours even where nobody sees them.
        let plain = text(&theirs.stdout).replace("\u{1b}[39m", "").replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        let trimmed = |text: &str| text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(text(&ours.stdout)), trimmed(&plain));
        assert_eq!(text(&ours.stderr), text(&theirs.stderr));
    }
}
