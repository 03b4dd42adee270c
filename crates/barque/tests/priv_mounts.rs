//! A table of mount forms, container states and kinds of files, played on Barque and on Docker: contents, owners,
//! modes, what appears on the host, and error texts have to be the same, or the difference has to be explained here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::path::Path;

use pair::play::{Play, compare};
use pair::{Engine, in_namespaces, sh};

/// Lists a directory in the container: kinds, modes, owners, sizes of files, targets of links.
const LOOK: &str = "cd $0 && find . | sort | while read -r f; do \
    if [ -L \"$f\" ]; then echo \"$f -> $(readlink \"$f\")\"; \
    elif [ -f \"$f\" ]; then stat -c '%n %F %a %u:%g %s' \"$f\"; else stat -c '%n %F %a %u:%g' \"$f\"; fi; done";

/// Where the image has something, or not.
const TARGETS: [&str; 2] = ["/data", "/new/deep"];

/// A form of mount; `{T}` is the target, `{H}` the directory on the host, `{V}` a volume.
const FORMS: [(&str, &[&str]); 17] = [
    ("bind", &["-v", "{H}/dir:{T}"]),
    ("bind ro", &["-v", "{H}/dir:{T}:ro"]),
    ("bind by --mount", &["--mount", "type=bind,src={H}/dir,dst={T}"]),
    ("bind ro by --mount", &["--mount", "type=bind,src={H}/dir,dst={T},readonly"]),
    ("bind of a link", &["-v", "{H}/link-to-dir:{T}"]),
    ("bind of a missing directory", &["-v", "{H}/missing/x:{T}"]),
    ("bind of a missing directory by --mount", &["--mount", "type=bind,src={H}/missing/y,dst={T}"]),
    ("bind with propagation", &["-v", "{H}/dir:{T}:rprivate"]),
    ("volume", &["-v", "{V}:{T}"]),
    ("volume ro", &["-v", "{V}:{T}:ro"]),
    ("volume nocopy", &["-v", "{V}:{T}:nocopy"]),
    ("volume by --mount", &["--mount", "type=volume,src={V},dst={T}"]),
    ("volume nocopy by --mount", &["--mount", "type=volume,src={V},dst={T},volume-nocopy"]),
    (
        "volume of a tmpfs",
        &["--mount", "type=volume,src={V},dst={T},volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=1m"],
    ),
    ("anonymous volume", &["-v", "{T}"]),
    ("tmpfs", &["--tmpfs", "{T}:size=1m,mode=750,uid=33"]),
    ("tmpfs by --mount", &["--mount", "type=tmpfs,dst={T},tmpfs-size=1m,tmpfs-mode=0710"]),
];

/// Commands that end with an error, and what that says.
const FAULTS: [&[&str]; 12] = [
    &["-v", "relative:no:such:form"],
    &["-v", "xx:/data:wrong"],
    &["-v", "{H}/dir:relative"],
    &["-v", "{H}/dir:/"],
    &["-v", "{H}/dir:/data", "-v", "{V}:/data"],
    &["--mount", "type=bind,src={H}/none,dst=/data"],
    &["--mount", "type=bind,dst=/data"],
    &["--mount", "type=wrong,dst=/data"],
    &["--mount", "type=volume,src=bad/name,dst=/data"],
    &["--mount", "type=tmpfs,src=x,dst=/data"],
    &["-v", "a!b:/data"],
    &["--volumes-from", "nobody"],
];

/// A form on a target: what the container sees, may write, and what is there afterwards, in every state.
fn scenario(engine: &Engine, dir: &Path, form: &[&str], target: &str) -> String {
    let host = dir.join(format!("host-{}", engine.name));
    sh(&format!(
        "set -e; rm -rf {0}; mkdir -p {0}/dir/sub {0}/other; cd {0}; umask 022; echo text > dir/file; chmod 640 dir/file; \
         chown 33:33 dir/file; ln -s file dir/link; ln -s /etc dir/out; mkfifo dir/pipe; chmod 2770 dir/sub; \
         echo more > dir/sub/file; ln -s dir link-to-dir; echo in > payload; chmod 751 payload",
        host.display()
    ));
    let mut play = Play::new(engine, &host);
    let host = play.host.clone();
    let form: Vec<String> = form.iter().map(|word| play.fill(word).replace("{T}", target)).collect();
    let mut create = vec!["create", "--name", "box", "--network", "none"];
    create.extend(form.iter().map(String::as_str));
    create.extend(["busybox:1", "sleep", "1000"]);
    play.step("create", &create);
    let (payload, inside) = (format!("{host}/payload"), format!("box:{target}/put"));
    play.step("cp in, created", &["cp", &payload, &inside]);
    play.step("start", &["start", "box"]);
    play.step("look", &["exec", "box", "sh", "-c", LOOK, target]);
    play.step(
        "write",
        &["exec", "box", "sh", "-c", "umask 027; mkdir $0/made && echo w > $0/made/file; echo $?", target],
    );
    play.step("mount", &["exec", "box", "sh", "-c", "grep \" $0 \" /proc/mounts | cut -d' ' -f2,4 | tr ',' '\\n' | grep -xE 'ro|rw|nosuid|nodev|noexec|size=.*|mode=.*'", target]);
    play.step("cp in, running", &["cp", &payload, &format!("{inside}2")]);
    play.step("cp out, running", &["cp", &format!("box:{target}"), &format!("{host}/out1")]);
    play.step("stop", &["stop", "-t", "0", "box"]);
    play.step("cp in, stopped", &["cp", &payload, &format!("{inside}3")]);
    play.step("cp out, stopped", &["cp", &format!("box:{target}/put3"), &format!("{host}/out2")]);
    play.step("start again", &["start", "box"]);
    play.step("look again", &["exec", "box", "sh", "-c", LOOK, target]);
    play.step(
        "with its volumes",
        &["run", "--rm", "--network", "none", "--volumes-from", "box:ro", "busybox:1", "sh", "-c", LOOK, target],
    );
    play.step("rm", &["rm", "-f", "-v", "box"]);
    play.step("volumes", &["volume", "ls", "-q"]);
    play.step("volume rm", &["volume", "rm", "-f", &play.volume.clone()]);
    let left = sh(&format!("cd {host} && find . ! -path './dir/pipe' | sort | xargs stat -c '%N %F %a %u:%g'"));
    let left = play.neutral(&left);
    play.said.push_str(&format!("on the host:\n{left}"));
    play.said
}

/// Why a line of either side may be missing on the other.
fn explained(form: &str, line: &str) -> Option<&'static str> {
    let tmpfs = form.starts_with("tmpfs");
    match line {
        line if tmpfs && line.starts_with(". directory") => {
            Some("the mode asked for is kept, not the image directory's")
        }
        line if tmpfs && line.contains("'./out1") => {
            Some("cp sees the tmpfs of a running container, not what is below")
        }
        line if form.starts_with("tmpfs by --mount") && VOLUMES_FROM.iter().any(|part| line.contains(part)) => {
            Some("--volumes-from leaves a tmpfs out, where Docker 20.10 cannot go on")
        }
        _ => None,
    }
}

/// What `--volumes-from` says of a container with a tmpfs.
const VOLUMES_FROM: [&str; 8] =
    ["with its volumes:", "Unable to find image", "registry-1", "can't cd to", "./seed", "./link", "./sub", "./deep"];

#[test]
fn priv_mounts_are_as_dockers() {
    in_namespaces("priv_mounts_are_as_dockers", |dir| {
        let barque = Engine::barque(dir, &[]);
        let Some(docker) = Engine::docker(dir, &[]) else { return };
        for engine in [&barque, &docker] {
            engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
        }
        let (mut differ, mut count) = (Vec::new(), 0);
        for (name, form) in FORMS {
            for target in TARGETS {
                let (ours, theirs) = (scenario(&barque, dir, form, target), scenario(&docker, dir, form, target));
                count += ours.lines().filter(|l| l.contains(": ")).count();
                let known = |line: &str| explained(name, line).is_some();
                compare(&format!("{name} on {target}"), &ours, &theirs, &known, &mut differ);
            }
        }
        for fault in FAULTS {
            let said = |engine: &Engine| {
                let mut play = Play::new(engine, &dir.join(format!("host-{}", engine.name)));
                let words: Vec<String> = fault.iter().map(|word| play.fill(word)).collect();
                let mut args = vec!["create", "--network", "none"];
                args.extend(words.iter().map(String::as_str));
                args.extend(["busybox:1", "true"]);
                play.step("create", &args);
                play.said
            };
            compare(&format!("{fault:?}"), &said(&barque), &said(&docker), &|_| false, &mut differ);
        }
        println!("{count} lines compared");
        assert!(differ.is_empty(), "{} differences from Docker:\n{}", differ.len(), differ.join("\n"));
    });
}
