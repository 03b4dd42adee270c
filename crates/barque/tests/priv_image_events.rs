//! What events tell of images, beside what Docker's tell on the same way through a registry.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use pair::{Engine, barque_registry, in_namespaces};
use serde_json::Value;

const REGISTRY: &str = "127.0.0.1:5072";

fn now() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{}.{:09}", time.as_secs(), time.subsec_nanos())
}

/// `ACTION ID ATTRIBUTES` of every event of an image while `work` runs, with `IMAGE` for the id.
fn told(engine: &Engine, image: &str, work: impl FnOnce()) -> Vec<String> {
    let since = now();
    work();
    let until = now();
    let format = "{{json .}}";
    let text =
        engine.ok(&["events", "--since", &since, "--until", &until, "--filter", "type=image", "--format", format]);
    let line = |text: &str| {
        let event: Value = serde_json::from_str(text).unwrap();
        let attributes = event["Actor"]["Attributes"].as_object().unwrap();
        let mut pairs: Vec<String> = attributes.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap())).collect();
        pairs.sort();
        let all = format!(
            "{} {} {}",
            event["Action"].as_str().unwrap(),
            event["Actor"]["ID"].as_str().unwrap(),
            pairs.join(" ")
        );
        all.replace(image, "IMAGE")
    };
    text.lines().map(line).collect()
}

/// The same way for every engine; the figures of a line are the step and what it told.
fn way(engine: &Engine, dir: &Path) -> Vec<(&'static str, Vec<String>)> {
    let repository = format!("{REGISTRY}/{}/app", engine.name);
    let name = format!("{repository}:1");
    let archive = dir.join(format!("{}.tar", engine.name)).display().to_string();
    let mut all = Vec::new();
    let began = now();
    engine.import_busybox("base:1", &["LABEL colour=red", "LABEL name=hidden"]);
    let image = engine.ok(&["image", "inspect", "-f", "{{.Id}}", "base:1"]);
    let text = engine.ok(&[
        "events",
        "--since",
        &began,
        "--until",
        &now(),
        "--filter",
        "type=image",
        "--format",
        "{{.Action}}",
    ]);
    all.push(("import", text.lines().map(str::to_owned).collect()));
    let mut step = |what: &'static str, commands: &[&[&str]]| {
        let lines = told(engine, &image, || commands.iter().for_each(|args| drop(engine.ok(args))));
        all.push((what, lines.into_iter().map(|l| l.replace(&repository, "REPOSITORY")).collect()));
    };
    step("tag", &[&["tag", "base:1", &name]]);
    step("push", &[&["push", &name]]);
    step("push all", &[&["push", "-a", &repository]]);
    step("save", &[&["save", "-o", &archive, "base:1"]]);
    step("untag", &[&["rmi", &name]]);
    step("pull", &[&["pull", &name]]);
    step("pull all", &[&["pull", "-a", &repository]]);
    step("remove all names", &[&["rmi", "base:1"], &["rmi", &name]]);
    step("load", &[&["load", "-i", &archive]]);
    step("remove by id", &[&["rmi", "-f", &image]]);
    step("prune", &[&["load", "-i", &archive], &["image", "prune", "-a", "-f"]]);
    all
}

fn expected() -> Vec<(&'static str, Vec<&'static str>)> {
    let (delete, load) = ("delete IMAGE name=IMAGE", "load IMAGE colour=red name=IMAGE");
    let untag = "untag IMAGE colour=red name=IMAGE";
    vec![
        ("import", vec!["tag", "import"]),
        ("tag", vec!["tag IMAGE colour=red name=REPOSITORY:1"]),
        ("push", vec!["push REPOSITORY:1 colour=red name=REPOSITORY"]),
        // There is no `latest`, whose labels these would be.
        ("push all", vec!["push REPOSITORY name=REPOSITORY"]),
        ("save", vec!["save IMAGE colour=red name=IMAGE"]),
        ("untag", vec![untag]),
        ("pull", vec!["pull REPOSITORY:1 colour=red name=REPOSITORY"]),
        ("pull all", vec!["pull REPOSITORY name=REPOSITORY"]),
        ("remove all names", vec![untag, untag, delete]),
        ("load", vec![load]),
        ("remove by id", vec![untag, delete]),
        ("prune", vec![load, untag, delete, "prune  reclaimed=BYTES"]),
    ]
}

#[test]
fn priv_events_of_images_are_dockers() {
    in_namespaces("priv_events_of_images_are_dockers", |dir| {
        let _registry = barque_registry(dir, REGISTRY, &[]);
        let bytes = |lines: Vec<String>| -> Vec<String> {
            let plain =
                |l: String| l.split_once("reclaimed=").map_or(l.clone(), |(a, _)| format!("{a}reclaimed=BYTES"));
            lines.into_iter().map(plain).collect()
        };
        let of = |engine: &Engine| way(engine, dir).into_iter().map(|(what, l)| (what, bytes(l))).collect::<Vec<_>>();
        let barque = of(&Engine::barque(dir, &[]));
        let wanted = expected();
        for ((what, found), (_, lines)) in barque.iter().zip(&wanted) {
            assert_eq!(found, lines, "{what}");
        }
        assert_eq!(barque.len(), wanted.len());
        let Some(docker) = Engine::docker(dir, &[]) else { return };
        for ((what, theirs), (_, ours)) in of(&docker).iter().zip(&barque) {
            assert_eq!(theirs, ours, "{what}");
        }
    });
}
