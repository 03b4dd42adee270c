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
const FORMS: [(&str, &[&str]); 21] = [
    ("bind", &["-v", "{H}/dir:{T}"]),
    ("bind ro", &["-v", "{H}/dir:{T}:ro"]),
    ("bind by --mount", &["--mount", "type=bind,src={H}/dir,dst={T}"]),
    ("bind ro by --mount", &["--mount", "type=bind,src={H}/dir,dst={T},readonly"]),
    ("bind of a link", &["-v", "{H}/link-to-dir:{T}"]),
    ("bind of a missing directory", &["-v", "{H}/missing/x:{T}"]),
    ("bind of a missing directory by --mount", &["--mount", "type=bind,src={H}/missing/y,dst={T}"]),
    ("bind with propagation", &["-v", "{H}/dir:{T}:rprivate"]),
    ("bind of a relative path", &["-v", "./dir:{T}"]),
    ("bind of a missing relative path", &["-v", "./missing/../missing/z:{T}"]),
    ("bind of a relative path by --mount", &["--mount", "type=bind,src=./dir,dst={T}"]),
    ("bind of a missing relative path by --mount", &["--mount", "type=bind,src=./missing/u,dst={T}"]),
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

/// A form of mount whose source is no directory.
const FILE_FORMS: [(&str, &[&str]); 10] = [
    ("file", &["-v", "{H}/one:{T}"]),
    ("file ro", &["-v", "{H}/one:{T}:ro"]),
    ("file by --mount", &["--mount", "type=bind,src={H}/one,dst={T}"]),
    ("file ro by --mount", &["--mount", "type=bind,src={H}/one,dst={T},readonly"]),
    ("relative file", &["-v", "./dir/../one:{T}"]),
    ("relative file by --mount", &["--mount", "type=bind,src=./one,dst={T}"]),
    ("link to a file", &["-v", "{H}/link-to-one:{T}"]),
    ("pipe", &["-v", "{H}/pipe:{T}"]),
    ("device", &["-v", "/dev/zero:{T}"]),
    ("socket", &["-v", "{H}/socket:{T}"]),
];

/// A file of the image, a link to it, nothing, and a directory.
const FILE_TARGETS: [&str; 4] = ["/data/seed", "/data/link", "/new/deep/file", "/data/sub"];

/// Commands that end with an error, and what that says.
const FAULTS: [&[&str]; 16] = [
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
    &["-v", "dir/sub:/data"],
    &["--mount", "type=bind,src=dir,dst=/data"],
    &["--mount", "type=bind,src={H}/dir,dst=/data,bind-propagation=wrong"],
    &["--mount", "type=bind,src={H}/dir,dst=/data,bind-recursive=wrong"],
];

/// A scenario with a directory on the host that has something of every kind.
fn play_with_files<'a>(engine: &'a Engine, dir: &Path) -> Play<'a> {
    let host = dir.join(format!("host-{}", engine.name));
    sh(&format!(
        "set -e; rm -rf {0}; mkdir -p {0}/dir/sub {0}/other; cd {0}; umask 022; echo text > dir/file; chmod 640 dir/file; \
         chown 33:33 dir/file; ln -s file dir/link; ln -s /etc dir/out; mkfifo dir/pipe; chmod 2770 dir/sub; \
         echo more > dir/sub/file; ln -s dir link-to-dir; echo in > payload; chmod 751 payload; \
         echo one > one; chmod 604 one; chown 33:44 one; ln -s one link-to-one; mkfifo pipe",
        host.display()
    ));
    drop(std::os::unix::net::UnixListener::bind(host.join("socket")).unwrap());
    Play::new(engine, &host)
}

/// Creates the container `box` with the mount.
fn create(play: &mut Play<'_>, form: &[&str], target: &str, more: &[&str]) {
    let form: Vec<String> = form.iter().map(|word| play.fill(word).replace("{T}", target)).collect();
    let mut create = vec!["create", "--name", "box", "--network", "none"];
    create.extend(form.iter().map(String::as_str));
    create.extend(more);
    create.extend(["busybox:1", "sleep", "1000"]);
    play.step("create", &create);
}

/// The kind, mode, owner, size and content of a file.
const STAT: &str = "stat -c '%F %a %u:%g %s' $0; ls $(dirname $0); if [ -f $0 ]; then cat $0; fi";

/// The same of a mount that is no directory.
fn of_files(engine: &Engine, dir: &Path, form: &[&str], target: &str) -> String {
    let mut play = play_with_files(engine, dir);
    create(&mut play, form, target, &[]);
    let inside = format!("box:{target}");
    play.step("cp in, created", &["cp", "payload", &inside]);
    play.step("cp out, created", &["cp", &inside, "out1"]);
    play.step("start", &["start", "box"]);
    play.step("look", &["exec", "box", "sh", "-c", STAT, target]);
    play.step("write", &["exec", "box", "sh", "-c", "[ -p $0 ] || echo written >> $0; echo $?", target]);
    play.step("put another in its place", &["exec", "box", "sh", "-c", "echo x > $0-new; mv $0-new $0; rm $0", target]);
    play.step("cp in, running", &["cp", "payload", &inside]);
    play.step("cp out, running", &["cp", &inside, "out2"]);
    play.step("stop", &["stop", "-t", "0", "box"]);
    play.step("cp in, stopped", &["cp", "payload", &inside]);
    play.step("cp out, stopped", &["cp", &inside, "out3"]);
    play.step("start again", &["start", "box"]);
    play.step("look again", &["exec", "box", "sh", "-c", STAT, target]);
    let volumes = ["run", "--rm", "--network", "none", "--volumes-from", "box:ro", "busybox:1", "sh", "-c"];
    play.step(
        "with its volumes",
        &[&volumes[..], &["if [ -f $0 ]; then stat -c '%F %a %u:%g %s' $0; echo >> $0; fi", target]].concat(),
    );
    play.step("rm", &["rm", "-f", "-v", "box"]);
    let left = sh(&format!("cd {} && find . | sort | xargs stat -c '%N %F %a %u:%g' && cat one", play.host));
    play.said.push_str(&format!("on the host:\n{}", play.neutral(&left)));
    play.said
}

/// Refusals that Docker 20.10 words by where it has its layers mounted, or by which of its programs refuses.
fn alike(said: &str) -> String {
    let line = |line: &str| match line {
        line if line.contains("not a directory: ")
            && line.contains("Are you trying to mount a directory onto a file") =>
        {
            "cannot start: not a directory".into()
        }
        line if line.contains("mount ") && line.ends_with(": not a directory") => {
            "cannot mount: not a directory".into()
        }
        line if line.starts_with("Usage:  ") => line.split_whitespace().skip(2).collect::<Vec<_>>().join(" "),
        line => line.replace("Error processing tar file(exit status 1): ", "").replace(": Container ", ": container "),
    };
    said.lines().map(|l| line(l) + "\n").collect()
}

/// A form on a target: what the container sees, may write, and what is there afterwards, in every state.
fn scenario(engine: &Engine, dir: &Path, form: &[&str], target: &str) -> String {
    let mut play = play_with_files(engine, dir);
    let host = play.host.clone();
    create(&mut play, form, target, &[]);
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

/// Plays on both engines at once, with Docker only where it is installed; the differences go to `differ`.
fn both(
    engines: (&Engine, &Engine),
    what: &str,
    play: &(dyn Fn(&Engine) -> String + Sync),
    known: &dyn Fn(&str) -> bool,
    differ: &mut Vec<String>,
) -> usize {
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| play(engines.1));
        (play(engines.0), theirs.join().unwrap())
    });
    compare(what, &ours, &theirs, known, differ);
    ours.lines().filter(|l| l.contains(": ")).count()
}

/// Both engines with an image; `body` gives how much was compared and what differs.
fn beside_docker(name: &str, body: impl FnOnce((&Engine, &Engine), &Path) -> (usize, Vec<String>)) {
    in_namespaces(name, |dir| {
        let barque = Engine::barque(dir, &[]);
        let Some(docker) = Engine::docker(dir, &[]) else { return };
        for engine in [&barque, &docker] {
            engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
        }
        let (count, differ) = body((&barque, &docker), dir);
        println!("{count} lines compared");
        assert!(differ.is_empty(), "{} differences from Docker:\n{}", differ.len(), differ.join("\n"));
    });
}

#[test]
fn priv_mounts_are_as_dockers() {
    beside_docker("priv_mounts_are_as_dockers", |engines, dir| {
        let (mut differ, mut count) = (Vec::new(), 0);
        for (name, form) in FORMS {
            for target in TARGETS {
                let known = |line: &str| explained(name, line).is_some();
                let play = |engine: &Engine| scenario(engine, dir, form, target);
                count += both(engines, &format!("{name} on {target}"), &play, &known, &mut differ);
            }
        }
        for fault in FAULTS {
            let said = |engine: &Engine| {
                let mut play = Play::new(engine, &dir.join(format!("host-{}", engine.name)));
                create(&mut play, fault, "", &[]);
                alike(&play.said)
            };
            count += both(engines, &format!("{fault:?}"), &said, &|_| false, &mut differ);
        }
        (count, differ)
    });
}

#[test]
fn priv_files_are_mounted_as_dockers() {
    beside_docker("priv_files_are_mounted_as_dockers", |engines, dir| {
        let (mut differ, mut count) = (Vec::new(), 0);
        for (name, form) in FILE_FORMS {
            for target in FILE_TARGETS {
                let play = |engine: &Engine| alike(&of_files(engine, dir, form, target));
                // Docker 20.10 mounts everything once more for a copy, also where the container has removed the link
                // that led to the mount; here the copy goes where the container sees it.
                let no_link = ["cp in, running:", "'./out2'"];
                let known = |line: &str| target == "/data/link" && no_link.iter().any(|part| line.starts_with(part));
                count += both(engines, &format!("{name} on {target}"), &play, &known, &mut differ);
            }
        }
        (count, differ)
    });
}

/// A bind and how mounts travel through it, and what is read-only below it.
const DEEP_FORMS: [(&str, &[&str]); 22] = [
    ("none said", &["-v", "{H}/dir:/data"]),
    ("private", &["-v", "{H}/dir:/data:private"]),
    ("rprivate", &["-v", "{H}/dir:/data:rprivate"]),
    ("slave", &["-v", "{H}/dir:/data:slave"]),
    ("rslave", &["-v", "{H}/dir:/data:rslave"]),
    ("shared", &["-v", "{H}/dir:/data:shared"]),
    ("rshared", &["-v", "{H}/dir:/data:rshared"]),
    ("rshared ro", &["-v", "{H}/dir:/data:ro,rshared"]),
    ("private by --mount", &["--mount", "type=bind,src={H}/dir,dst=/data,bind-propagation=private"]),
    ("slave by --mount", &["--mount", "type=bind,src={H}/dir,dst=/data,bind-propagation=slave"]),
    ("rslave by --mount", &["--mount", "type=bind,src={H}/dir,dst=/data,bind-propagation=rslave"]),
    ("shared by --mount", &["--mount", "type=bind,src={H}/dir,dst=/data,bind-propagation=shared"]),
    ("rshared by --mount", &["--mount", "type=bind,src={H}/dir,dst=/data,bind-propagation=rshared"]),
    ("not recursive", &["--mount", "type=bind,src={H}/dir,dst=/data,bind-nonrecursive"]),
    ("not recursive, ro", &["--mount", "type=bind,src={H}/dir,dst=/data,bind-nonrecursive,ro"]),
    ("recursion disabled", &["--mount", "type=bind,src={H}/dir,dst=/data,bind-recursive=disabled"]),
    ("recursion enabled", &["--mount", "type=bind,src={H}/dir,dst=/data,bind-recursive=enabled"]),
    ("ro", &["--mount", "type=bind,src={H}/dir,dst=/data,ro"]),
    ("ro, writable below", &["--mount", "type=bind,src={H}/dir,dst=/data,ro,bind-recursive=writable"]),
    (
        "ro, read-only below",
        &["--mount", "type=bind,src={H}/dir,dst=/data,ro,bind-recursive=readonly,bind-propagation=rprivate"],
    ),
    ("rw, read-only below", &["--mount", "type=bind,src={H}/dir,dst=/data,bind-recursive=readonly"]),
    ("ro, read-only below, rslave", &["--mount", "type=bind,src={H}/dir,dst=/data,ro,bind-recursive=readonly"]),
];

/// What is mounted before, on the host and in the container later, and who sees it.
fn travels(engine: &Engine, dir: &Path, form: &[&str], propagation: &str) -> String {
    let host = dir.join(format!("deep-{}", engine.name));
    let at = host.display().to_string();
    sh(&format!(
        "set -e; mkdir -p {at}; mount -t tmpfs h {at}; mount --make-{propagation} {at}; \
         mkdir -p {at}/dir/sub {at}/dir/later {at}/dir/inner; mount -t tmpfs s {at}/dir/sub; echo b > {at}/dir/sub/below"
    ));
    let mut play = Play::new(engine, &host);
    create(&mut play, form, "/data", &["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"]);
    play.step("start", &["start", "box"]);
    play.step("inspect", &["inspect", "-f", "{{range .Mounts}}{{.RW}} {{.Propagation}}{{end}}", "box"]);
    play.step("look", &["exec", "box", "sh", "-c", "cd /data; find . | sort"]);
    for place in [".", "sub"] {
        let write = "touch /data/$0/w && echo written || echo not; rm -f /data/$0/w";
        play.step(&format!("write in {place}"), &["exec", "box", "sh", "-c", write, place]);
    }
    sh(&format!("mount -t tmpfs l {at}/dir/later; touch {at}/dir/later/f"));
    play.step("mounted on the host", &["exec", "box", "ls", "/data/later"]);
    play.step("mount inside", &["exec", "box", "sh", "-c", "mount -t tmpfs i /data/inner && touch /data/inner/g"]);
    play.said.push_str(&format!("mounted inside, on the host: {}\n", sh(&format!("ls {at}/dir/inner"))));
    play.step("copy of it all", &["cp", "box:/data", "out"]);
    play.step("stop", &["stop", "-t", "0", "box"]);
    play.step("start again", &["start", "box"]);
    play.step("look again", &["exec", "box", "sh", "-c", "cd /data; find . | sort"]);
    play.step("rm", &["rm", "-f", "box"]);
    let left = sh(&format!("cd {at}; find . | sort; cut -d' ' -f2 /proc/mounts | grep ^{at} | sort"));
    play.said.push_str(&format!("on the host:\n{}", play.neutral(&left)));
    sh(&format!("umount -R {at}"));
    play.said
}

/// Why a line of either side may be missing on the other.
fn explained_below(form: &str, line: &str) -> Option<&'static str> {
    match line {
        line if line.starts_with("./out/") => Some("20.10 copies what it would mount, not what the container sees"),
        "written" | "touch: /data/sub/w: Read-only file system" if matches!(form, "ro" | "rshared ro") => {
            Some("read-only is so for all below since Docker 25")
        }
        _ => None,
    }
}

/// What 20.10 cannot do: the mounts below are there, and read-only, too.
fn below_is_read_only(said: &str) {
    let has = |line: &str| said.lines().filter(|l| *l == line).count();
    assert_eq!(has("./sub/below"), 2, "{said}");
    assert_eq!(
        (has("touch: /data/./w: Read-only file system"), has("touch: /data/sub/w: Read-only file system")),
        (1, 1)
    );
    assert!(has("written") == 0 && has("false rprivate") == 1 && has("start again: 0") == 1, "{said}");
}

#[test]
fn priv_mounts_below_binds_travel_as_dockers() {
    beside_docker("priv_mounts_below_binds_travel_as_dockers", |engines, dir| {
        let (mut differ, mut count) = (Vec::new(), 0);
        for (name, form) in DEEP_FORMS {
            for propagation in ["shared", "private"] {
                if propagation == "private" && !name.contains("shared") && !name.contains("slave") {
                    continue;
                }
                let play = |engine: &Engine| alike(&travels(engine, dir, form, propagation));
                if name == "ro, read-only below" {
                    below_is_read_only(&play(engines.0));
                    continue;
                }
                let known = |line: &str| explained_below(name, line).is_some();
                count += both(engines, &format!("{name} of a {propagation} mount"), &play, &known, &mut differ);
            }
        }
        (count, differ)
    });
}

/// Mounts of parts, which Docker 20.10 does not have: what is seen at the target, in every state.
const PART_FORMS: [(&str, &str, &str); 9] = [
    ("image", "type=image,src=parts:1,dst={T}", "data to-sub"),
    ("image, a directory", "type=image,src=parts:1,dst={T},image-subpath=data/sub", "deep"),
    ("image, by a link", "type=image,src=parts:1,dst={T},image-subpath=to-sub", "deep"),
    ("volume", "type=volume,src={V},dst={T},volume-subpath=a", "b one"),
    ("volume, deeper", "type=volume,src={V},dst={T},volume-subpath=a/b", "two"),
    ("volume, up and down", "type=volume,src={V},dst={T},volume-subpath=a/../a/b", "two"),
    ("volume, by a link", "type=volume,src={V},dst={T},volume-subpath=to-b", "two"),
    ("volume, ro", "type=volume,src={V},dst={T},volume-subpath=a/b,ro", "two"),
    ("volume, nocopy", "type=volume,src={V},dst={T},volume-subpath=empty,volume-nocopy", ""),
];

/// What is refused, and how.
const PART_FAULTS: [(&str, &str); 9] = [
    ("type=image,src=parts:1,dst=/x,image-subpath=none", "none"),
    ("type=image,src=parts:1,dst=/x,image-subpath=../etc", "subpath must be a relative path within the image"),
    ("type=image,src=nobody/none:1,dst=/x", "nobody/none:1"),
    ("type=image,dst=/x", "field Source must not be empty"),
    ("type=volume,src={V},dst=/x,volume-subpath=none", "none"),
    ("type=volume,src={V},dst=/x,volume-subpath=/a", "subpath must be a relative path within the volume"),
    ("type=volume,src={V},dst=/x,volume-subpath=../..", "subpath must be a relative path within the volume"),
    ("type=volume,src={V},dst=/x,volume-subpath=out", "subpath out leads out of "),
    ("type=volume,src={V},dst=/x,volume-subpath=from-root", "subpath from-root leads out of "),
];

#[test]
fn priv_parts_of_volumes_and_images_are_mounted() {
    in_namespaces("priv_parts_of_volumes_and_images_are_mounted", |dir| {
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
        let tar = dir.join("parts.tar");
        sh(&format!(
            "set -e; cd {}; ln -s data/sub to-sub; tar -cf {} data to-sub; rm to-sub",
            engine.dir.join("busybox-root").display(),
            tar.display()
        ));
        engine.ok(&["import", &tar.display().to_string(), "parts:1"]);
        let fill = "mkdir -p /v/a/b /v/empty; echo 1 > /v/a/one; echo 2 > /v/a/b/two; chown 33:44 /v/a/b/two; \
                    chmod 2711 /v/a/b; ln -s a/b /v/to-b; ln -s /a/b /v/from-root; ln -s ../../../../../../etc /v/out";
        let mut play = Play::new(&engine, dir);
        let volume = format!("{}:/v", play.volume);
        engine.ok(&["run", "--rm", "-v", &volume, "busybox:1", "sh", "-c", fill]);
        for (name, form, seen) in PART_FORMS {
            for target in TARGETS {
                part(&mut play, name, form, target, seen);
            }
        }
        // One file of either.
        for (form, text, stat) in [
            ("type=image,src=parts:1,dst=/data/seed,image-subpath=data/seed", "seed", "640 33:33"),
            ("type=volume,src={V},dst=/new/file,volume-subpath=a/b/two", "2", "644 33:44"),
        ] {
            let target = form.split(['=', ',']).nth(5).unwrap();
            let options = ["run", "--rm", "--mount", &play.fill(form), "busybox:1", "sh", "-c"];
            let said = engine.ok(&[&options[..], &["cat $0; stat -c '%a %u:%g' $0", target]].concat());
            assert_eq!(said, format!("{text}\n{stat}"), "{form}");
        }
        for (form, why) in PART_FAULTS {
            let said = engine.fails(&["run", "--rm", "--mount", &play.fill(form), "busybox:1", "true"], why);
            println!("{form}: {said}");
        }
        assert_eq!(engine.ok(&["ps", "-aq"]), "");
        // An image that is mounted is in use, as the one a container is made from.
        engine.ok(&["create", "--name", "box", "--mount", "type=image,src=parts:1,dst=/x", "busybox:1", "true"]);
        engine.fails(&["rmi", "parts:1"], "(must be forced) - image is mounted by stopped container ");
        engine.ok(&["image", "prune", "-a", "-f"]);
        engine.ok(&["rm", "box"]);
        let mount = "type=image,src=parts:1,dst=/x";
        engine.ok(&["run", "-d", "--name", "box", "--mount", mount, "busybox:1", "sleep", "1000"]);
        engine.fails(&["rmi", "-f", "parts:1"], "(cannot be forced) - image is mounted by running container ");
        // Its name may go to another one: what is mounted stays.
        engine.ok(&["tag", "busybox:1", "parts:1"]);
        engine.ok(&["image", "prune", "-f"]);
        assert_eq!(engine.ok(&["exec", "box", "ls", "/x"]), "data\nto-sub");
        engine.ok(&["restart", "-t", "0", "box"]);
        assert_eq!(engine.ok(&["exec", "box", "ls", "/x"]), "data\nto-sub");
        engine.ok(&["rm", "-f", "box"]);
        engine.ok(&["image", "prune", "-f"]);
        assert_eq!(engine.ok(&["images", "-q"]).lines().count(), 2);
        engine.ok(&["rmi", "parts:1"]);
        engine.ok(&["volume", "rm", &play.volume]);
    });
}

/// One part on one target: the same in every state, and nothing of what it covers.
fn part(play: &mut Play<'_>, name: &str, form: &str, target: &str, seen: &str) {
    play.said.clear();
    let ro = name.starts_with("image") || name.ends_with("ro");
    create(play, &["--mount", form], target, &[]);
    let engine = play.engine;
    let out = play.host.clone() + "/out";
    let copied = |state: &str| {
        engine.ok(&["cp", &format!("box:{target}"), &out]);
        let found = sh(&format!("cd {out} && LC_ALL=C ls | xargs echo; rm -r {out}"));
        let mut expected: Vec<&str> = seen.split(' ').filter(|s| !s.is_empty()).collect();
        expected.sort_unstable();
        assert_eq!(found, expected.join(" "), "{name} on {target}, {state}\n{}", play.said);
    };
    let put = |state: &str| {
        let args = ["cp", "/etc/hostname", &format!("box:{target}/put")];
        if ro {
            engine.fails(&args, "mounted volume is marked read-only");
            return;
        }
        engine.ok(&args);
        engine.ok(&["cp", &format!("box:{target}/put"), "-"]);
        if state != "running" {
            engine.ok(&["start", "box"]);
        }
        engine.ok(&["exec", "box", "rm", &format!("{target}/put")]);
        engine.ok(&["stop", "-t", "0", "box"]);
    };
    let writable = engine.ok(&["inspect", "-f", "{{range .Mounts}}{{.RW}}{{end}}", "box"]);
    assert_eq!(writable, (!ro).to_string(), "{name} on {target}");
    copied("created");
    put("created");
    engine.ok(&["start", "box"]);
    copied("running");
    let write = ["exec", "box", "sh", "-c", "touch $0/w && rm $0/w", target];
    assert_eq!(engine.run(&write).is_err(), ro, "{name} on {target}");
    put("running");
    engine.run(&["stop", "-t", "0", "box"]).unwrap();
    copied("stopped");
    put("stopped");
    engine.ok(&["rm", "-f", "-v", "box"]);
}
