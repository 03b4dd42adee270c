//! Ways in and out of the engine through the whole program: commit, packed archives, all tags, mirrors, search.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;
#[path = "../../barque-registry/tests/common/script.rs"]
#[allow(dead_code, reason = "not every test uses everything")]
mod script;

use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pair::{Engine, barque_registry, in_namespaces, installed, sh};
use script::{Say, Script};

const REGISTRY: &str = "127.0.0.1:5072";

fn nanos() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i128
}

fn id(engine: &Engine, name: &str) -> String {
    engine.ok(&["image", "inspect", "-f", "{{.Id}}", name])
}

fn end(mut registry: Child) {
    registry.kill().unwrap();
    registry.wait().unwrap();
}

/// Commits a container that writes all the time; gives the moments of `pause` and `unpause`, those of the commit, and
/// how long the file of its volume was when.
fn committed(engine: &Engine, args: &[&str]) -> (Vec<i128>, [i128; 2], Vec<(i128, u64)>) {
    let ticks = engine.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "vol"]) + "/ticks";
    let (done, since) = (Arc::new(AtomicBool::new(false)), nanos());
    let stop = done.clone();
    let watch = std::thread::spawn(move || {
        let mut seen = Vec::new();
        while !stop.load(SeqCst) {
            seen.push((nanos(), std::fs::metadata(&ticks).map_or(0, |m| m.len())));
            std::thread::sleep(Duration::from_millis(2));
        }
        seen
    });
    let begin = nanos();
    engine.ok(&[&["commit"], args, &["writer", "copy:1"]].concat());
    let span = [begin, nanos()];
    done.store(true, SeqCst);
    let time = |t: i128| format!("{}.{:09}", t / 1_000_000_000, t % 1_000_000_000);
    let (from, to) = (time(since), time(nanos()));
    let told = engine.ok(&[
        "events",
        "--since",
        &from,
        "--until",
        &to,
        "--filter",
        "event=pause",
        "--filter",
        "event=unpause",
        "--filter",
        "container=writer",
        "--format",
        "{{.TimeNano}}",
    ]);
    (told.lines().map(|l| l.parse().unwrap()).collect(), span, watch.join().unwrap())
}

#[test]
fn priv_commit_pauses_meanwhile_unless_told_not_to() {
    in_namespaces("priv_commit_pauses_meanwhile_unless_told_not_to", |dir| {
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("base:1", &["ENV PATH=/bin"]);
        let work =
            "head -c 60000000 /dev/urandom > /noise; touch /ready; while :; do echo x >> /v/ticks; usleep 2000; done";
        engine.ok(&["run", "-d", "--name", "writer", "--network", "none", "-v", "vol:/v", "base:1", "sh", "-c", work]);
        while engine.run(&["exec", "writer", "test", "-e", "/ready"]).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        let during = |seen: &[(i128, u64)], from: i128, to: i128| -> Vec<u64> {
            seen.iter().filter(|(t, _)| (from..to).contains(t)).map(|(_, size)| *size).collect()
        };
        // How much a commit has to copy for a few looks to fall into it depends on the disk: more, until they do.
        let mut size = 60_000_000;
        let stood = loop {
            let (told, _, seen) = committed(&engine, &[]);
            assert_eq!(told.len(), 2, "pause and unpause");
            let looks = during(&seen, told[0] + 5_000_000, told[1] - 30_000_000);
            if looks.len() > 5 {
                break looks;
            }
            assert!(size < 3_000_000_000_u64, "{} looks while {size} bytes were copied", looks.len());
            engine.ok(&["exec", "writer", "sh", "-c", "cat /noise /noise /noise > /more && mv /more /noise"]);
            size *= 3;
        };
        assert_eq!(stood.first(), stood.last(), "it went on while it was copied");
        let (told, span, seen) = committed(&engine, &["--pause=false"]);
        assert!(told.is_empty());
        let went = during(&seen, span[0], span[1]);
        assert!(went.first() < went.last(), "it stood still");
        assert_eq!(engine.ok(&["inspect", "-f", "{{.State.Status}}", "writer"]), "running");
        let copied = engine.ok(&["run", "--rm", "--network", "none", "copy:1", "sh", "-c", "wc -c < /noise"]);
        assert_eq!(copied, size.to_string());
    });
}

#[test]
fn priv_archives_packed_in_any_way_are_loaded() {
    in_namespaces("priv_archives_packed_in_any_way_are_loaded", |dir| {
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("base:1", &["ENV PATH=/bin"]);
        let original = id(&engine, "base:1");
        let saved = dir.join("saved.tar").display().to_string();
        engine.ok(&["save", "-o", &saved, "base:1"]);
        let before = {
            engine.ok(&["rmi", "base:1"]);
            engine.stored()
        };
        for packer in ["cat", "gzip", "bzip2", "xz -T1 -1", "zstd -q -c"] {
            if !installed(packer.split(' ').next().unwrap()) {
                continue;
            }
            let packed = format!("{saved}.packed");
            sh(&format!("{packer} < {saved} > {packed}"));
            for from_stdin in [false, true] {
                let mut command = match from_stdin {
                    false => engine.command(&["load", "-i", &packed]),
                    true => engine.command(&["load"]),
                };
                if from_stdin {
                    command.stdin(std::fs::File::open(&packed).unwrap());
                }
                let output = command.output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(said.contains("Loaded image: base:1"), "{packer}, stdin {from_stdin}: {said}{why}");
                assert_eq!(id(&engine, "base:1"), original, "{packer}");
                assert_eq!(engine.ok(&["run", "--rm", "--network", "none", "base:1", "cat", "/data/seed"]), "seed");
                engine.ok(&["rmi", "base:1"]);
                assert_eq!(engine.stored(), before, "{packer}");
            }
            // Cut short it is refused, whatever it is packed with, and nothing stays.
            let length = std::fs::metadata(&packed).unwrap().len();
            std::fs::File::options().write(true).open(&packed).unwrap().set_len(length / 2).unwrap();
            engine.run(&["load", "-i", &packed]).unwrap_err();
            assert_eq!(engine.stored(), before, "{packer}, cut short");
        }
    });
}

/// Who is on the engine's machine names the file; an engine reads none for anybody else, and waits for no pipe.
#[test]
fn priv_files_of_the_machine_are_for_those_who_are_on_it() {
    in_namespaces("priv_files_of_the_machine_are_for_those_who_are_on_it", |dir| {
        let engine = Engine::barque(dir, &["-H", "tcp://127.0.0.1:2399"]);
        engine.import_busybox("base:1", &["ENV PATH=/bin"]);
        let (saved, fifo) = (dir.join("saved.tar").display().to_string(), dir.join("fifo").display().to_string());
        engine.ok(&["save", "-o", &saved, "base:1"]);
        engine.ok(&["rmi", "base:1"]);
        let empty = engine.stored();
        let socket = engine.dir.join("sock").display().to_string();
        let ask = |at: &str, file: &str| {
            sh(&format!("curl -s {at} -X POST 'http://127.0.0.1:2399/v1.50/images/load?barque-file={file}'"))
        };
        let here = format!("--unix-socket {socket}");
        assert!(ask("", &saved).contains("files and sockets of this machine can be named over its unix socket only"));
        assert!(ask(&here, &format!("{saved}.none")).contains("no such file"));
        sh(&format!("mkfifo {fifo}"));
        for odd in [&fifo, "/dev/zero", "/"] {
            assert!(ask(&here, odd).contains("is no ordinary file"), "{odd}");
        }
        assert_eq!(engine.stored(), empty);
        assert!(ask(&here, &saved).contains("Loaded image: base:1"));
        // Neither a pipe nor the rest of a file can be named.
        for script in ["cat $1 | $0 load", "{ head -c 512 > /dev/null; $0 load; } < $2", "$0 load -i <(cat $1)"] {
            engine.ok(&["rmi", "base:1"]);
            sh(&format!("{{ head -c 512 /dev/zero; cat {saved}; }} > {saved}.after"));
            let mut command = std::process::Command::new("bash");
            let words = [script, &pair::barque_program().display().to_string(), &saved, &format!("{saved}.after")];
            command.arg("-c").args(words).env("DOCKER_HOST", format!("unix://{socket}"));
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                said.contains("Loaded image: base:1"),
                "{script}: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    });
}

/// A file in an image: enough to tell images apart.
fn import(engine: &Engine, dir: &Path, text: &str, name: &str) {
    let (root, tar) = (dir.join("little"), dir.join("little.tar"));
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(root.join("text"), text).unwrap();
    sh(&format!("tar -C {} -cf {} .", root.display(), tar.display()));
    engine.ok(&["import", &tar.display().to_string(), name]);
}

#[test]
fn priv_all_tags_go_out_and_come_in() {
    in_namespaces("priv_all_tags_go_out_and_come_in", |dir| {
        let _registry = barque_registry(dir, REGISTRY, &[]);
        let engine = Engine::barque(dir, &[]);
        let app = format!("{REGISTRY}/many/app");
        import(&engine, dir, "one", &format!("{app}:1"));
        import(&engine, dir, "two", &format!("{app}:2"));
        engine.ok(&["tag", &format!("{app}:2"), &format!("{app}:latest")]);
        import(&engine, dir, "other", &format!("{REGISTRY}/many/other:1"));
        let ids = ["1", "2", "latest"].map(|tag| id(&engine, &format!("{app}:{tag}")));
        let said = engine.ok(&["push", "-a", &app]);
        for tag in ["1", "2", "latest"] {
            assert!(said.contains(&format!("{tag}: digest: sha256:")), "{tag}: {said}");
        }
        let listed = |path: &str| sh(&format!("curl -sf http://{REGISTRY}/v2/{path}"));
        assert!(listed("many/app/tags/list").contains(r#"["1","2","latest"]"#), "{}", listed("many/app/tags/list"));
        assert!(!listed("_catalog").contains("many/other"), "of another repository nothing was asked");
        engine.fails(&["push", "-a", &format!("{app}:1")], "tag can't be used with --all-tags/-a");
        for image in [&ids[0], &ids[1]] {
            engine.ok(&["rmi", "-f", image]);
        }
        engine.fails(&["push", "-a", &app], "An image does not exist locally with the tag");
        engine.fails(&["pull", "-a", &format!("{app}:1")], "tag can't be used with --all-tags/-a");
        let said = engine.ok(&["pull", "-a", &app]);
        assert_eq!(said.matches(": Pulling from many/app").count(), 3, "{said}");
        assert!(said.contains(&format!("Status: Downloaded newer image for {app}\n")), "{said}");
        assert_eq!(["1", "2", "latest"].map(|tag| id(&engine, &format!("{app}:{tag}"))), ids);
        assert!(engine.ok(&["pull", "-a", "-q", &app]).contains(&app));
        engine.fails(&["pull", "-a", &format!("{REGISTRY}/no/such")], "not found");
    });
}

#[test]
fn priv_mirrors_stand_in_for_the_hub() {
    in_namespaces("priv_mirrors_stand_in_for_the_hub", |dir| {
        let upstream = barque_registry(dir, REGISTRY, &[]);
        let cache = barque_registry(dir, "127.0.0.1:5074", &["--mirror-of", &format!("http://{REGISTRY}")]);
        // The hub itself cannot be reached here.
        let engine = Engine::barque(dir, &["--registry-mirror", &format!("http://{REGISTRY}")]);
        let (pushed, second) = (format!("{REGISTRY}/team/thing:1"), format!("{REGISTRY}/library/single:latest"));
        for name in [&pushed, &second] {
            import(&engine, dir, name, name);
            engine.ok(&["push", "-q", name]);
        }
        let ids = [&pushed, &second].map(|name| id(&engine, name));
        for image in &ids {
            engine.ok(&["rmi", "-f", image]);
        }
        engine.ok(&["pull", "team/thing:1"]);
        engine.ok(&["pull", "single"]);
        assert_eq!(["team/thing:1", "single"].map(|name| id(&engine, name)), ids);
        assert!(engine.ok(&["info"]).contains(&format!("http://{REGISTRY}/")));
        let why = engine.run(&["pull", "team/other:1"]).unwrap_err();
        assert!(why.contains(REGISTRY), "the mirror is named: {why}");
        // A cache of it, which then does without.
        let second = dir.join("second");
        std::fs::create_dir(&second).unwrap();
        let cached = Engine::barque_on(&second, "bqpair1", &["--registry-mirror", "http://127.0.0.1:5074"]);
        cached.ok(&["pull", "team/thing:1"]);
        assert_eq!(id(&cached, "team/thing:1"), ids[0]);
        end(upstream);
        cached.ok(&["rmi", "team/thing:1"]);
        cached.ok(&["pull", "team/thing:1"]);
        assert_eq!(id(&cached, "team/thing:1"), ids[0]);
        assert!(cached.run(&["pull", "single"]).is_err(), "nobody has asked the cache for it before");
        end(cache);
    });
}

#[test]
fn priv_search_asks_an_index_and_sifts_what_it_says() {
    in_namespaces("priv_search_asks_an_index_and_sifts_what_it_says", |dir| {
        let engine = Engine::barque(dir, &[]);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let index = runtime.block_on(Script::start(|seen| match seen.path.starts_with("/v1/search?") {
            true => Say::ok(
                r#"{"num_results":3,"results":[
                {"name":"busybox","description":"Busybox base image, which has a description that is longer than a line","star_count":300,"is_official":true},
                {"name":"me/box","description":"mine","star_count":5},
                {"name":"you/box","description":"","star_count":0,"is_automated":true}]}"#,
            ),
            false => Say::status(404, &[], "{}"),
        }));
        let term = format!("{}/box", index.host());
        let search = |args: &[&str]| engine.ok(&[&["search"], args, &[&term]].concat());
        let names = |args: &[&str]| {
            let said = search(&[args, &["--format", "{{.Name}}"]].concat());
            said.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let table = search(&[]);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].split_whitespace().eq(["NAME", "DESCRIPTION", "STARS", "OFFICIAL"]), "{table}");
        assert!(lines[1].contains("which has a description …") && lines[1].ends_with("[OK]"), "{table}");
        assert!(search(&["--no-trunc"]).contains("longer than a line"));
        assert_eq!(names(&[]), ["busybox", "me/box", "you/box"]);
        assert_eq!(names(&["-f", "stars=5"]), ["busybox", "me/box"]);
        assert_eq!(names(&["-f", "is-official=true"]), ["busybox"]);
        assert_eq!(names(&["-f", "is-official=false", "-f", "stars=1"]), ["me/box"]);
        assert_eq!(names(&["--limit", "2"]), ["busybox", "me/box"]);
        let asked: Vec<String> = index.seen().into_iter().map(|seen| seen.path).collect();
        assert!(asked.contains(&"/v1/search?q=box&n=25".to_owned()), "{asked:?}");
        assert!(asked.contains(&"/v1/search?q=box&n=2".to_owned()), "{asked:?}");
        // The route as programs see it.
        let json = sh(&format!(
            "curl -sfg --unix-socket {}/sock 'http://d/images/search?term={term}&limit=1'",
            engine.dir.display()
        ));
        assert!(json.starts_with(r#"[{"star_count":300,"is_official":true,"name":"busybox""#), "{json}");
        // And what is refused, in Docker's words.
        for (args, words) in [
            (&["--limit", "-1"][..], "limit -1 is outside the range of [1, 100]"),
            (&["--limit", "101"], "limit 101 is outside the range of [1, 100]"),
            (
                &["--limit", "x"],
                "invalid argument \"x\" for \"--limit\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (&["--limit", "99999999999999999999"], "value out of range"),
            (&["-f", "is-official=maybe"], "invalid filter 'is-official=[maybe]'"),
            (&["-f", "stars=many"], "invalid filter 'stars=many'"),
            (&["-f", "colour=red"], "invalid filter 'colour'"),
        ] {
            engine.fails(&[&["search"], args, &[&term]].concat(), words);
        }
        for (args, words) in [
            (&["images", "-f", "dangling=maybe"][..], "invalid filter 'dangling=[maybe]'"),
            (&["images", "-f", "colour=red"], "invalid filter 'colour'"),
            (&["image", "prune", "-f", "--filter", "colour=red"], "invalid filter 'colour'"),
            (
                &["image", "prune", "-f", "--filter", "until=soon"],
                "failed to parse value as time or duration: \"soon\"",
            ),
            (&["volume", "ls", "-f", "dangling=maybe"], "invalid filter 'dangling=[maybe]'"),
            (&["network", "ls", "-f", "dangling=maybe"], "invalid filter 'dangling=[maybe]'"),
        ] {
            engine.fails(args, words);
        }
        let why = engine.run(&["search", "127.0.0.1:1/box"]).unwrap_err();
        assert!(why.contains("connection refused"), "{why}");
    });
}
