//! `--dry-run` of every prune: what it says, and that it deletes nothing on an engine of any make.

mod common;
mod scripted;

use common::text;
use scripted::{Answer, Engine};

/// Lists with one thing each that a prune would take, and one that it would leave.
fn lists(line: &str) -> Answer {
    let path = line.split(['?', ' ']).nth(1).unwrap_or_default();
    let record = |id: &str, rest: serde_json::Value| {
        let mut record = serde_json::json!({
            "ID": id, "Type": "regular", "Description": format!("RUN {id}"), "InUse": false, "Shared": false,
            "Size": 2_000_000, "CreatedAt": "2020-01-01T00:00:00Z", "LastUsedAt": "2020-01-02T00:00:00Z"
        });
        record.as_object_mut().expect("object").extend(rest.as_object().expect("object").clone());
        record
    };
    let document = match path {
        "/containers/json" => {
            let mount = |name: &str| serde_json::json!([{"Type": "volume", "Name": name}]);
            let old = serde_json::json!({
                "Id": "c0ffee", "Names": ["/old"], "Created": 1, "ImageID": "sha256:used", "Mounts": mount("v3")
            });
            let running = serde_json::json!({
                "Id": "beef", "Names": ["/new"], "Created": 1, "ImageID": "sha256:busy", "Mounts": mount("v4")
            });
            if line.contains("exited") { serde_json::json!([old]) } else { serde_json::json!([old, running]) }
        }
        "/networks" => serde_json::json!([{"Name": "lonely", "Id": "n1", "Created": "2020-01-01T00:00:00Z"}]),
        "/volumes" => {
            let anonymous = |name: &str| serde_json::json!({"Name": name, "Driver": "local", "Labels": {"com.docker.volume.anonymous": ""}});
            let mut list = vec![anonymous("v1"), serde_json::json!({"Name": "v2", "Driver": "local"})];
            if !line.contains("dangling") {
                list.extend([anonymous("v3"), anonymous("v4")]);
            }
            serde_json::json!({ "Volumes": list })
        }
        "/images/json" => serde_json::json!([
            {"Id": "sha256:loose", "RepoTags": [], "Created": 1, "Size": 1000},
            {"Id": "sha256:used", "RepoTags": ["a:1"], "Created": 1, "Size": 1000},
            {"Id": "sha256:busy", "RepoTags": ["b:1"], "Created": 1, "Size": 1000}
        ]),
        "/system/df" => serde_json::json!({"BuildCache": [
            record("plain", serde_json::json!({})),
            record("busy", serde_json::json!({"InUse": true})),
            record("shared", serde_json::json!({"Shared": true})),
            record("front", serde_json::json!({"Type": "frontend"})),
            record("fresh", serde_json::json!({"LastUsedAt": "2999-01-01T00:00:00Z"})),
        ]}),
        _ => return Answer::Json(500, format!("{{\"message\":\"not asked for: {line}\"}}")),
    };
    Answer::Json(200, document.to_string())
}

fn said(engine: &Engine, args: &[&str]) -> String {
    let done = engine.run(args);
    assert_eq!(done.status.code(), Some(0), "{args:?}: {}", text(&done.stderr));
    text(&done.stdout).to_owned()
}

#[test]
fn a_dry_run_only_reads_whatever_the_engine() {
    let engine = Engine::of("Docker/28.2.2 (linux)", |line, _| lists(line));
    for (command, expected) in [
        ("container", "Would delete containers:\nc0ffee (old)\n"),
        ("network", "Would delete networks:\nlonely\n"),
        ("volume", "Would delete volumes:\nv1\n"),
        ("image", "Would delete images:\nsha256:loose (<none>, 1kB)\n"),
        ("builder", "Would delete build cache objects:\nplain (2MB)\nfresh (2MB)\n"),
        ("buildx", "Would delete build cache objects:\nplain (2MB)\nfresh (2MB)\n"),
    ] {
        assert_eq!(said(&engine, &[command, "prune", "--dry-run"]), expected, "{command}");
        assert_eq!(said(&engine, &[command, "prune", "--dry-run", "--force"]), expected, "{command}");
    }
    let all = said(&engine, &["system", "prune", "--all", "--volumes", "--dry-run", "--force"]);
    for word in ["c0ffee", "lonely", "v1", "loose", "plain", "shared", "front"] {
        assert!(all.contains(word), "{word} is missing:\n{all}");
    }
    // What is used by stopped containers alone goes with them, but only where they go.
    assert!(all.contains("v3") && all.contains("sha256:used"), "{all}");
    assert!(!all.contains("v4") && !all.contains("busy (b:1"), "{all}");
    let images = said(&engine, &["image", "prune", "--all", "--dry-run"]);
    assert!(!images.contains("used") && !images.contains("sha256:busy"), "{images}");
    let requests: Vec<String> = engine.seen().into_iter().map(|s| s.line).collect();
    assert!(requests.iter().all(|line| line.starts_with("GET ")), "{requests:?}");
}

#[test]
fn filters_of_the_build_cache_hold_where_the_client_must_apply_them() {
    let engine = Engine::new(|line, _| lists(line));
    let ids = |args: &[&str]| {
        let out = said(&engine, &[&["builder", "prune", "--dry-run"], args].concat());
        out.lines().skip(1).filter_map(|l| l.split(' ').next().map(str::to_owned)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids(&["-a"]), "front plain shared fresh");
    assert_eq!(ids(&["-a", "--filter", "until=24h"]), "front plain shared");
    assert_eq!(ids(&["-a", "--filter", "type=frontend"]), "front");
    assert_eq!(ids(&["-a", "--filter", "id=sha", "--filter", "description=RUN"]), "shared");
    assert_eq!(ids(&["-a", "--filter", "shared=true"]), "shared");
    assert_eq!(ids(&["-a", "--filter", "private=true"]), "front plain fresh");
    assert_eq!(ids(&["--filter", "inuse=true"]), "");
    // What only the engine can tell is not guessed.
    for wish in [["--keep-storage", "1GB"], ["--filter", "nonsense=1"]] {
        let done = engine.run(&[&["builder", "prune", "--dry-run"], &wish[..]].concat());
        assert_eq!((text(&done.stdout), done.status.code()), ("", Some(1)), "{}", text(&done.stderr));
        assert!(text(&done.stderr).contains(wish[0].trim_start_matches("--filter")), "{}", text(&done.stderr));
    }
    assert!(engine.seen().iter().all(|s| s.line.starts_with("GET ")));
}

#[test]
fn our_engine_is_asked_what_it_would_do() {
    let engine = Engine::of("Barque/0.1.0 (linux)", |line, _| match line {
        "POST /build/prune?dry-run=1" | "POST /build/prune?keep-storage=5242880&dry-run=1" => {
            Answer::Json(200, "{\"CachesDeleted\":[\"front\",\"unlisted\"],\"SpaceReclaimed\":5}".into())
        }
        line if line.starts_with("POST ") && line.contains("dry-run=1") => {
            let images = if line.starts_with("POST /images/prune?") { 300 } else { 20 };
            Answer::Json(200, format!("{{\"CachesDeleted\":[\"unlisted\"],\"SpaceReclaimed\":{images}}}"))
        }
        line => lists(line),
    });
    let listed = "Would delete build cache objects:\nfront (2MB)\nunlisted\n\nWould free: 5B\n";
    assert_eq!(said(&engine, &["builder", "prune", "--dry-run"]), listed);
    assert_eq!(said(&engine, &["builder", "prune", "--dry-run", "--keep-storage", "5MB"]), listed);
    let whole = said(&engine, &["system", "prune", "--dry-run"]);
    assert!(whole.ends_with("Would delete build cache objects:\nunlisted\n\nWould free: 340B\n"), "{whole}");
}
