//! The events of a container's life, its networks, volumes and copies: the same sequence as Docker's, with the same
//! attributes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::{Engine, in_namespaces, sh};

/// Kind, action and names of attributes, in their order.
const KNOWN: [&str; 23] = [
    "network create name type",
    "volume create driver",
    "container create image name",
    "network connect container name type",
    "volume mount container destination driver propagation read/write",
    "container start image name",
    "container top image name",
    "container kill image name signal",
    "container die exitCode image name",
    "network disconnect container name type",
    "volume unmount container driver",
    "container create image name",
    "container extract-to-dir image name",
    "network connect container name type",
    "container start image name",
    "container archive-path image name",
    "container kill image name signal",
    "container die exitCode image name",
    "network disconnect container name type",
    "container destroy image name",
    "container destroy image name",
    "volume destroy driver",
    "network destroy name type",
];

fn scenario(engine: &Engine, file: &str) -> Vec<String> {
    engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
    let since = sh("sleep 1; date +%s.%N");
    engine.ok(&["network", "create", "neta"]);
    engine.ok(&["run", "-d", "--name", "one", "--network", "neta", "-v", "vol:/data", "busybox:1", "sleep", "1000"]);
    engine.ok(&["top", "one"]);
    let ended = |name: &str| {
        engine.ok(&["kill", name]);
        engine.ok(&["wait", name]);
        sh("sleep 0.5");
    };
    ended("one");
    engine.ok(&["create", "--name", "two", "--network", "none", "busybox:1", "sleep", "1000"]);
    engine.ok(&["cp", file, "two:/tmp/x"]);
    engine.ok(&["start", "two"]);
    engine.ok(&["cp", "two:/tmp/x", "-"]);
    ended("two");
    engine.ok(&["rm", "one", "two"]);
    engine.ok(&["volume", "rm", "vol"]);
    engine.ok(&["network", "rm", "neta"]);
    let until = sh("date +%s.%N");
    let format = "{{.Type}} {{.Action}}{{range $k, $v := .Actor.Attributes}} {{$k}}{{end}}";
    let said = engine.ok(&["events", "--since", &since, "--until", &until, "--format", format]);
    // How long it ran is told since Docker 23.
    said.lines().map(|line| line.replace(" execDuration", "").trim().to_owned()).collect()
}

#[test]
fn priv_events_are_dockers() {
    in_namespaces("priv_events_are_dockers", |dir| {
        let file = dir.join("file");
        std::fs::write(&file, "x").unwrap();
        let file = file.display().to_string();
        let barque = Engine::barque(dir, &[]);
        let ours = scenario(&barque, &file);
        assert_eq!(ours, KNOWN, "{}", ours.join("\n"));
        if let Some(docker) = Engine::docker(dir, &[]) {
            let theirs = scenario(&docker, &file);
            assert_eq!(ours, theirs, "Docker:\n{}", theirs.join("\n"));
        }
    });
}
