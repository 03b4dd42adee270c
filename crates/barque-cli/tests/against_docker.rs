//! Texts that do not need an engine, compared with those of the reference client.
//!
//! What the client says is kept as digests in `docker-28-texts.txt`, so that the comparison needs no client; where one
//! is installed, the digests are compared with what it says, and `BARQUE_WRITE_TEXTS=1` writes them anew, test by test.

mod common;
mod scripted;

use std::collections::BTreeMap;
use std::process::{Command, Output};

use barque_model::Digest;
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

/// Digests of what the reference client says, by command.
const TEXTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker-28-texts.txt");

/// Compares what we say with what the reference client says, each by case: with the client itself where it is
/// installed, so that differences are shown; else with the digests. `part` tells the cases of tests apart.
fn compare(part: &str, ours: &BTreeMap<String, String>, theirs: Option<&BTreeMap<String, String>>) {
    let digest = |text: &String| Digest::of(text.as_bytes()).to_string();
    let line = |case: &str| format!("{part}: {case}");
    let texts = std::fs::read_to_string(TEXTS).expect("the list of texts");
    if let Some(theirs) = theirs {
        let differs = |(case, text): (&String, &String)| {
            (ours.get(case) != Some(text)).then(|| format!("{case}\n  theirs {text:?}\n  ours   {:?}", ours.get(case)))
        };
        let differ: Vec<String> = theirs.iter().filter_map(differs).collect();
        assert!(differ.is_empty(), "{}", differ.join("\n"));
        if std::env::var_os("BARQUE_WRITE_TEXTS").is_some() {
            let kept = texts.lines().filter(|l| !l.contains(&format!("  {part}: "))).map(str::to_owned);
            let new = theirs.iter().map(|(case, text)| format!("{}  {}", digest(text), line(case)));
            let all: Vec<String> = kept.chain(new).collect();
            std::fs::write(TEXTS, all.join("\n") + "\n").expect("writes");
            return;
        }
    }
    let known: BTreeMap<&str, &str> =
        texts.lines().filter_map(|l| l.split_once("  ")).map(|(digest, case)| (case, digest)).collect();
    let same = |case: &str, text: &String| known.get(line(case).as_str()).is_some_and(|known| *known == digest(text));
    let differ: Vec<&String> = ours.iter().filter(|(case, text)| !same(case, text)).map(|(case, _)| case).collect();
    assert!(differ.is_empty(), "other than the reference client 28.2.2, which is not here to show how: {differ:?}");
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
        "run --ulimit x busybox",
        "run --mount type=foo busybox",
        "run --network a --network b: busybox",
    ];
    let cases = helped.iter().map(|c| format!("{c} --help")).chain(wrong.iter().map(|c| (*c).to_owned()));
    let said = |program: &std::path::Path| {
        let of = |case: String| {
            let done = run(program, home.path(), &case.split(' ').collect::<Vec<_>>());
            // A slip of the pen in the reference is not imitated.
            let messages = text(&done.stderr).replace("\nSRun ", "\nRun ");
            // A cure is a paragraph of its own, which the reference does not have.
            let kept: Vec<&str> = messages.split("\n\n").filter(|part| !part.starts_with("hint: ")).collect();
            let mut kept = kept.join("\n\n");
            // One that stood last took the end of the line with it.
            if messages.ends_with('\n') && !kept.ends_with('\n') {
                kept.push('\n');
            }
            let all = format!("{:?}\n{}\n{kept}", done.status.code(), text(&done.stdout));
            (case, all.replace(&home.path().display().to_string(), "HOME"))
        };
        cases.clone().map(of).collect::<BTreeMap<_, _>>()
    };
    let theirs = reference().map(|docker| said(docker.as_ref()));
    compare("text", &said(&ours), theirs.as_ref());
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
    let engine = scripted::Engine::new(|_, _| scripted::Answer::Json(200, images().to_string()));
    // Docker prints titles in bold and colours even where nobody sees them.
    let plain = |done: &Output| {
        let shown = text(&done.stdout).replace("\u{1b}[39m", "").replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        format!("{}\n{}", lines.join("\n"), text(&done.stderr))
    };
    let cases = ["image ls --tree", "image ls --all --tree"];
    let words = |case: &'static str| case.split(' ').collect::<Vec<_>>();
    let ours = cases.map(|case| (case.to_owned(), plain(&engine.run(&words(case)))));
    let theirs = reference().map(|docker| {
        let said = cases.map(|case| {
            let mut command = Command::new(docker);
            command.args(words(case)).env_clear().env("HOME", engine.dir());
            command.env("DOCKER_HOST", format!("unix://{}/engine.sock", engine.dir().display()));
            (case.to_owned(), plain(&command.output().expect("runs")))
        });
        BTreeMap::from(said)
    });
    compare("tree", &BTreeMap::from(ours), theirs.as_ref());
}
