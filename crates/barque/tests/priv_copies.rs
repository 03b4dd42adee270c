//! `cp` in both directions as a matrix: sources × destinations × states of the container, with slashes and dots at the
//! ends, links, parents of mounts. Played on Barque and, where it is installed, on Docker; what matters most is also
//! written down here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::path::Path;

use pair::play::{Play, compare};
use pair::{Engine, in_namespaces, sh};

const STATES: [&str; 3] = ["created", "running", "stopped"];

/// Paths in the container that are copied out.
const OUT: [&str; 25] = [
    "/t/dir",
    "/t/dir/",
    "/t/dir/.",
    "/t/link",
    "/t/link/",
    "/t/link/.",
    "/t/abs",
    "/t/abs/",
    "/t/abs/.",
    "/t/file",
    "/t/file/",
    "/t/file/.",
    "/t/filelink",
    "/t/filelink/",
    "/t/broken",
    "/t/broken/",
    "/t/vol",
    "/t/vol/",
    "/srv",
    "/srv/.",
    "/srv/bind/",
    "/srv/one",
    "t/dir/../file",
    "/none",
    "/t/file/none",
];

/// Where to: missing, missing but said to be a directory, a directory, a file, below what is missing.
const TO: [&str; 5] = ["x", "x/", "ex", "f", "no/x"];

/// What is copied in from the host.
const FROM: [&str; 7] = ["tree", "tree/", "tree/.", "plain", "plain/", "ln", "ln/."];

/// Where to in the container; each gets a copy of `/t` of its own.
const IN: [&str; 15] = [
    "{C}/dir",
    "{C}/dir/",
    "{C}/dir/.",
    "{C}/new",
    "{C}/new/",
    "{C}/file",
    "{C}/file/",
    "{C}/link",
    "{C}/link/",
    "{C}/filelink",
    "{C}/broken",
    "{C}/vol",
    "{C}/none/x",
    "/srv/bind",
    "/srv",
];

/// Copies out whose result is known, whatever the state: source, destination, what is there afterwards.
const KNOWN_OUT: &[(&str, &str, &str)] = &[
    ("/t/dir", "x", "x x/seed x/sub x/sub/deep"),
    ("/t/dir/", "x", "x x/seed x/sub x/sub/deep"),
    ("/t/dir/.", "x", "x x/seed x/sub x/sub/deep"),
    ("/t/dir/", "ex", "ex ex/dir ex/dir/seed ex/dir/sub ex/dir/sub/deep"),
    ("/t/dir/.", "ex", "ex ex/seed ex/sub ex/sub/deep"),
    ("/t/link/", "x", "x x/seed x/sub x/sub/deep"),
    ("/t/link/.", "x", "x x/seed x/sub x/sub/deep"),
    ("/t/link", "x", "x->dir"),
    ("/t/broken", "x", "x->none"),
    ("/t/filelink", "x", "x->file"),
    ("/t/vol/", "x", "x x/inner x/inner/i x/kept"),
    ("/srv", "x", "x x/bind x/bind/b x/data x/data/inner x/data/inner/i x/data/kept x/one"),
];

/// Adds `/t` and copies of it to the busybox image.
fn import(engine: &Engine) {
    engine.import_busybox("busybox:1", &["ENV PATH=/bin"]);
    let (root, tar) = (engine.dir.join("busybox-root"), engine.dir.join("cp.tar"));
    sh(&format!(
        "set -e; cd {}; mkdir -p t/dir/sub c; echo s > t/dir/seed; echo d > t/dir/sub/deep; echo f > t/file; \
         chmod 640 t/file; chown 33:33 t/file; ln -s dir t/link; ln -s /t/dir t/abs; ln -s file t/filelink; \
         ln -s none t/broken; ln -s /srv/data t/vol; \
         for n in $(seq 0 {}); do cp -a t c/$n; done; tar cf {} .; rm -r t c",
        root.display(),
        FROM.len() * IN.len(),
        tar.display()
    ));
    engine.ok(&["import", "-c", "ENV PATH=/bin", &tar.display().to_string(), "cp:1"]);
}

/// A container `box` in a state, with a volume, something mounted in it, a read-only directory and a file.
fn make(play: &mut Play<'_>, state: &str) {
    let host = play.host.clone();
    sh(&format!(
        "set -e; rm -rf {host}; mkdir -p {host}/bind {host}/inner {host}/in/tree/sub; cd {host}; echo b > bind/b; echo i > inner/i; \
         echo one > one; cd in; echo p > plain; chmod 754 plain; chown 33:44 plain; echo a > tree/a; echo b > tree/sub/b; \
         chmod 700 tree/sub; ln -s plain tree/l; ln -s tree ln"
    ));
    let volume = play.fill("{V}:/srv/data");
    play.engine.ok(&["run", "--rm", "--network", "none", "-v", &volume, "cp:1", "sh", "-c", "echo k > /srv/data/kept"]);
    let binds = ["{H}/bind:/srv/bind:ro", "{H}/one:/srv/one", "{H}/inner:/srv/data/inner"].map(|b| play.fill(b));
    let mut args = vec!["create", "--name", "box", "--network", "none", "-v", &volume];
    binds.iter().for_each(|bind| args.extend(["-v", bind]));
    args.extend(["cp:1", "sleep", "1000"]);
    play.engine.ok(&args);
    if state != "created" {
        play.engine.ok(&["start", "box"]);
    }
    if state == "stopped" {
        play.engine.ok(&["stop", "-t", "0", "box"]);
    }
}

fn unmake(play: &Play<'_>) {
    play.engine.ok(&["rm", "-f", "box"]);
    play.engine.ok(&["volume", "rm", &play.volume]);
}

/// Names below the current directory, and where links lead.
fn names(dir: &str) -> String {
    let found = sh(&format!(
        "cd {dir} && find . -mindepth 1 \\( -type l -printf '%P->%l\\n' -o -printf '%P\\n' \\) | LC_ALL=C sort"
    ));
    found.replace('\n', " ")
}

/// All copies out in one state.
fn out(engine: &Engine, dir: &Path, state: &str) -> String {
    let mut play = Play::new(engine, &dir.join(format!("host-{}", engine.name)));
    make(&mut play, state);
    let there = format!("{}/there", play.host);
    for flags in ["", "-L", "-a"] {
        // Without a process it is all the same, started before or not, but for the mounts.
        let all = |source: &&&str| state != "stopped" || source.starts_with("/srv") || source.starts_with("/t/vol");
        for source in OUT.iter().filter(all) {
            for target in TO {
                if !flags.is_empty() && target != "x" {
                    continue;
                }
                sh(&format!("rm -rf {there}; mkdir -p {there}/ex; echo old > {there}/f"));
                let (from, to) = (format!("box:{source}"), format!("{there}/{target}"));
                let args: Vec<&str> = ["cp", flags, &from, &to].into_iter().filter(|a| !a.is_empty()).collect();
                play.step(&format!("{flags} {source} to {target}"), &args);
                let left = sh(&format!(
                    "cd {there} && find . -mindepth 1 | LC_ALL=C sort | xargs stat -c '%N %F %a %u:%g %s'"
                ));
                let left: String = left.lines().map(|l| format!("{flags} {source} to {target}: {l}\n")).collect();
                let left = left.lines().map(|l| if l.contains(" directory ") { cut_size(l) } else { l.to_owned() });
                play.said.push_str(&left.map(|l| l + "\n").collect::<String>());
                let known = KNOWN_OUT.iter().find(|k| flags.is_empty() && (k.0, k.1) == (*source, target));
                if let Some((_, _, expected)) = known {
                    let all = names(&there);
                    let found: Vec<&str> =
                        all.split(' ').filter(|n| n.split(['/', '-']).next() == Some(target)).collect();
                    assert_eq!(found.join(" "), *expected, "{state}: {source} to {target}\n{}", play.said);
                }
            }
        }
    }
    for source in ["/t/dir", "/t/dir/", "/t/dir/.", "/t/link/", "/srv", "/none"] {
        let listed = listed(engine, source);
        play.said.push_str(&format!("tar of {source}:\n{listed}"));
    }
    unmake(&play);
    play.said
}

/// Sizes of directories are the file system's own.
fn cut_size(line: &str) -> String {
    line.rsplit_once(' ').map_or(line, |(rest, _)| rest).to_owned()
}

/// An archive of a path, as tar lists it.
fn listed(engine: &Engine, path: &str) -> String {
    let archive = engine.dir.join("out.tar");
    let output = engine.call(&["cp", &format!("box:{path}"), "-"]);
    std::fs::write(&archive, &output.stdout).unwrap();
    if !output.status.success() {
        // The hint that follows is Barque's own.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return said.lines().filter(|l| !l.starts_with("hint: ")).map(|l| format!("{l}\n")).collect();
    }
    let script =
        format!("tar --numeric-owner -tvPf {} | awk '{{$4=\"\"; $5=\"\"; print}}' | LC_ALL=C sort", archive.display());
    sh(&script) + "\n"
}

/// All copies in, in one state; then what is where.
fn into(engine: &Engine, dir: &Path, state: &str) -> String {
    let mut play = Play::new(engine, &dir.join(format!("host-{}", engine.name)));
    make(&mut play, state);
    let mut n = 0;
    for source in FROM {
        for target in IN {
            let from = format!("{}/in/{source}", play.host);
            let to = format!("box:{}", target.replace("{C}", &format!("/c/{n}")));
            play.step(&format!("{source} to {target}"), &["cp", &from, &to]);
            n += 1;
        }
    }
    let all = listed(engine, "/c") + &listed(engine, "/srv");
    play.said.push_str(&all);
    // The copies of /t are numbered in this order.
    let nth = |source: &str, target: &str| {
        FROM.iter().position(|s| *s == source).unwrap() * IN.len() + IN.iter().position(|t| *t == target).unwrap()
    };
    let has = |entry: String| assert!(all.lines().any(|l| l.ends_with(&entry)), "{state}: no {entry:?} in\n{all}");
    has(format!(" c/{}/new/sub/b", nth("tree/", "{C}/new")));
    has(format!(" c/{}/dir/tree/a", nth("tree/", "{C}/link/")));
    has(format!(" c/{}/dir/a", nth("tree/.", "{C}/link")));
    has(format!(" c/{}/filelink -> file", nth("plain", "{C}/filelink")));
    has(format!(" c/{}/none", nth("plain", "{C}/broken")));
    has(" srv/data/tree/a".into());
    has(" srv/data/plain".into());
    has(" srv/data/kept".into());
    assert!(play.said.contains("mounted volume is marked read-only"), "{}", play.said);
    unmake(&play);
    play.said
}

#[test]
fn priv_copies_are_as_dockers() {
    in_namespaces("priv_copies_are_as_dockers", |dir| {
        let barque = Engine::barque(dir, &[]);
        import(&barque);
        let play = |engine: &Engine| -> Vec<(String, String)> {
            let mut said: Vec<_> = STATES.iter().map(|s| (format!("out, {s}"), out(engine, dir, s))).collect();
            said.extend(STATES[..2].iter().map(|s| (format!("in, {s}"), into(engine, dir, s))));
            said
        };
        let docker = Engine::docker(dir, &[]);
        docker.iter().for_each(import);
        let (ours, theirs) = std::thread::scope(|scope| {
            let theirs = docker.as_ref().map(|docker| scope.spawn(move || play(docker)));
            (play(&barque), theirs.map(|thread| thread.join().unwrap()))
        });
        own_files(&barque, dir);
        let mut differ = Vec::new();
        for ((what, ours), (_, theirs)) in ours.iter().zip(theirs.iter().flatten()) {
            println!("{what}: {} lines compared", ours.lines().count());
            compare(what, ours, &without_roots(theirs), &explained, &mut differ);
        }
        assert!(differ.is_empty(), "{} differences from Docker:\n{}", differ.len(), differ.join("\n"));
    });
}

/// The hosts file of a stopped container is the one it had; the kernel's directories are empty in a copy of everything.
fn own_files(engine: &Engine, dir: &Path) {
    let mut play = Play::new(engine, &dir.join("host-own"));
    make(&mut play, "running");
    let archive = listed(engine, "/");
    assert!(archive.lines().any(|l| l.ends_with(" /t/dir/seed")), "{archive}");
    assert!(archive.lines().any(|l| l.ends_with(" /proc/")) && !archive.contains(" /proc/1"), "{archive}");
    assert!(listed(engine, "/sys").lines().count() == 1, "{}", listed(engine, "/sys"));
    let there = dir.join("everything");
    engine.ok(&["cp", "box:/", &there.display().to_string()]);
    assert!(there.join("srv/data/inner/i").exists() && there.join("proc").exists());
    engine.ok(&["stop", "-t", "0", "box"]);
    let hosts = there.with_file_name("hosts");
    engine.ok(&["cp", "box:/etc/hosts", &hosts.display().to_string()]);
    assert!(std::fs::read_to_string(&hosts).unwrap().contains("localhost"));
    unmake(&play);
    // With a user of its own, -a gives what is copied to that one.
    engine.ok(&["create", "--name", "box", "--network", "none", "-u", "33:33", "cp:1", "sleep", "1000"]);
    engine.ok(&["cp", "-a", &hosts.display().to_string(), "box:/tmp/given"]);
    assert!(listed(engine, "/tmp/given").contains(" 33/33 "), "{}", listed(engine, "/tmp/given"));
    engine.ok(&["rm", "box"]);
    // A mount that is not there: nothing is written behind it, and the rest can be reached.
    let gone = dir.join("gone");
    std::fs::create_dir(&gone).unwrap();
    let mount = format!("type=bind,src={},dst=/srv/gone", gone.display());
    engine.ok(&["create", "--name", "box", "--network", "none", "--mount", &mount, "cp:1", "sleep", "1000"]);
    std::fs::remove_dir(&gone).unwrap();
    engine.fails(&["cp", &hosts.display().to_string(), "box:/srv/gone"], "bind ");
    engine.ok(&["cp", &hosts.display().to_string(), "box:/tmp/x"]);
    engine.ok(&["rm", "box"]);
}

/// Docker 20.10 names files by where it has its layers mounted; later versions as the container does.
fn without_roots(said: &str) -> String {
    let words = said.split_inclusive([' ', '\n']).map(|word| match word.split_once("/merged/") {
        Some((_, path)) => format!("/{path}"),
        None => word.to_owned(),
    });
    words.collect()
}

/// Why a line of either side may be missing on the other.
fn explained(line: &str) -> bool {
    // Where a link with a slash leads is said by 20.10, the path as it was given by later ones and here.
    line.contains("lstat /t/filelink/: not a directory")
        // The client's log.
        || line.starts_with("time=") && line.contains("closed pipe")
        // The same refusal; 20.10 has it from a program of its own, and of two directories names the outer one.
        || line.contains("cannot overwrite non-directory")
}
