//! What happens when things go wrong: full disks, daemons killed in the middle of a pull.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use pair::{Engine, barque_registry, in_namespaces, sh};

const REGISTRY: &str = "127.0.0.1:5072";

/// Bytes to the client so far, and how many it gets before the line goes dead.
#[derive(Default)]
struct Line {
    sent: AtomicU64,
    limit: AtomicU64,
}

/// A line to `target` that can go dead.
fn line(target: &'static str) -> (String, Arc<Line>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let line = Arc::new(Line { limit: AtomicU64::new(u64::MAX), ..Line::default() });
    let shared = line.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let line = shared.clone();
            std::thread::spawn(move || {
                let server = TcpStream::connect(target).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    std::io::copy(&mut from, &mut to).and_then(|_| to.shutdown(std::net::Shutdown::Write))
                });
                let (mut server, mut client) = (server, client);
                let mut buffer = vec![0u8; 16 << 10];
                while let Ok(n) = server.read(&mut buffer) {
                    while line.sent.load(SeqCst) >= line.limit.load(SeqCst) {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    if n == 0 || client.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                    line.sent.fetch_add(n as u64, SeqCst);
                }
                let _ = client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, line)
}

/// Pushes an image of so many incompressible megabytes, and forgets it.
fn publish(engine: &Engine, name: &str, megabytes: usize) {
    let dir = engine.dir.join("noise");
    let d = dir.display();
    sh(&format!(
        "mkdir -p {d}/bin && cp /bin/busybox {d}/bin/ && head -c {megabytes}000000 /dev/urandom > {d}/noise && tar -C {d} -cf {d}.tar ."
    ));
    engine.ok(&["import", &format!("{d}.tar"), name]);
    engine.ok(&["push", "-q", name]);
    engine.ok(&["rmi", name]);
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Files below a directory of the data root.
fn files(engine: &Engine, place: &str) -> usize {
    sh(&format!("find {}/data/{place} -type f 2>/dev/null | wc -l", engine.dir.display())).parse().unwrap()
}

#[test]
fn priv_a_pull_that_was_cut_off_goes_on_where_it_was() {
    in_namespaces("priv_a_pull_that_was_cut_off_goes_on_where_it_was", |dir| {
        let _registry = barque_registry(dir, REGISTRY, &[]);
        let mut engine = Engine::barque(dir, &[]);
        publish(&engine, &format!("{REGISTRY}/big/app:1"), 30);
        let (address, line) = line(REGISTRY);
        let name = format!("{address}/big/app:1");
        line.limit.store(15_000_000, SeqCst);
        let mut pull = engine.command(&["pull", "-q", &name]).spawn().unwrap();
        for _ in 0..400 {
            if line.sent.load(SeqCst) >= 15_000_000 {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(line.sent.load(SeqCst) >= 15_000_000, "the pull does not get along");
        // What has arrived reaches the file.
        std::thread::sleep(Duration::from_millis(300));
        engine.down(true);
        let _ = pull.wait();
        engine.up();
        assert!(engine.ok(&["images", "-q"]).is_empty());
        let before = line.sent.load(SeqCst);
        line.limit.store(u64::MAX, SeqCst);
        engine.ok(&["pull", "-q", &name]);
        let again = line.sent.load(SeqCst) - before;
        assert!(again < 20_000_000, "{again} bytes were fetched for the second try");
        assert!(
            engine
                .ok(&["run", "--rm", "--network", "none", &name, "/bin/busybox", "wc", "-c", "/noise"])
                .starts_with("30000000")
        );
        engine.ok(&["rmi", &name]);
        for _ in 0..100 {
            if files(&engine, "blobs") + files(&engine, "layers") + files(&engine, "ingest") == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("left behind: {}", sh(&format!("find {}/data -type f", engine.dir.display())));
    });
}

#[test]
fn priv_a_full_disk_is_said_and_nothing_is_broken() {
    in_namespaces("priv_a_full_disk_is_said_and_nothing_is_broken", |dir| {
        let _registry = barque_registry(dir, REGISTRY, &[]);
        let name = format!("{REGISTRY}/big/app:1");
        let archive = dir.join("big.tar").display().to_string();
        {
            let helper = Engine::barque(&dir.join("helper"), &[]);
            publish(&helper, &name, 30);
            helper.ok(&["pull", "-q", &name]);
            helper.ok(&["save", "-o", &archive, &name]);
        }
        let data = dir.join("barque/data");
        sh(&format!("mkdir -p {0} && mount -t tmpfs -o size=45m tmpfs {0}", data.display()));
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("small:1", &["ENV PATH=/bin"]);
        let used = |engine: &Engine| -> u64 {
            // The trash is emptied in the background.
            std::thread::sleep(Duration::from_millis(500));
            sh(&format!("df -k --output=used {}/data | tail -1", engine.dir.display())).trim().parse().unwrap()
        };
        let before = used(&engine);
        let little = dir.join("little.tar").display().to_string();
        engine.ok(&["save", "-o", &little, "small:1"]);
        // What is asked for more than there is, and how much of it is missing.
        let said = |what: &str, why: String| {
            assert!(
                why.contains("no space left on device (") && why.contains("more needed"),
                "{what}: how much? {why}"
            );
        };
        said("pull", engine.run(&["pull", &name]).unwrap_err());
        // What has arrived is kept to be resumed, unless somebody wants the room. What was unpacked of it is deleted in
        // the background: until then the database has no room either.
        engine.stored();
        engine.ok(&["image", "prune", "-f"]);
        for from_stdin in [false, true] {
            let stored = engine.stored();
            let from_file = ["load", "-i", &archive];
            let mut load = engine.command(if from_stdin { &["load"] } else { &from_file[..] });
            load.stdin(std::fs::File::open(&archive).unwrap());
            let output = load.output().unwrap();
            assert!(!output.status.success());
            said("load", String::from_utf8_lossy(&output.stderr).into_owned());
            assert_eq!(engine.stored(), stored, "nothing of half an archive is kept");
            // What fits is taken.
            engine.ok(&["rmi", "small:1"]);
            assert!(engine.ok(&["load", "-i", &little]).contains("small:1"));
        }
        engine.ok(&[
            "run",
            "-d",
            "--name",
            "writer",
            "--network",
            "none",
            "small:1",
            "sh",
            "-c",
            "head -c 22000000 /dev/urandom > /big; sleep 1000",
        ]);
        std::thread::sleep(Duration::from_secs(1));
        let stored = engine.stored();
        said("commit", engine.run(&["commit", "writer", "too:big"]).unwrap_err());
        assert_eq!(engine.stored(), stored, "nothing of half a commit is kept");
        assert!(engine.run(&["image", "inspect", "too:big"]).is_err());
        assert_eq!(engine.ok(&["exec", "writer", "sh", "-c", "wc -c < /big"]), "22000000");
        let why = engine.run(&["cp", &archive, "writer:/copy"]).unwrap_err();
        assert!(why.contains("no space left on device (") && !why.contains("GB free"), "room of this disk: {why}");
        engine.ok(&["rm", "-f", "writer"]);
        // What fills the disk ends with its own status, and goes as it was told to.
        let filling = ["run", "--rm", "--network", "none", "small:1", "sh", "-c", "cat /dev/zero > /big; exit 7"];
        let output = engine.call(&filling);
        assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(engine.ok(&["ps", "-aq"]), "");
        // With not one block left, also for an engine that starts then, removals still do what they are for.
        engine.ok(&["create", "--name", "gone", "--network", "none", "-v", "gone:/v", "small:1", "true"]);
        engine.ok(&["tag", "small:1", "other:1"]);
        sh(&format!("cat /dev/zero > {}/data/filler 2> /dev/null || true", engine.dir.display()));
        let left = || sh(&format!("df -k --output=avail {}/data | tail -1", engine.dir.display())).trim().to_owned();
        assert_eq!(left(), "0");
        for removal in [&["rm", "gone"][..], &["volume", "rm", "gone"], &["rmi", "other:1"], &["image", "prune", "-f"]]
        {
            engine.ok(removal);
        }
        sh(&format!("rm {}/data/filler", engine.dir.display()));
        // Everything else goes on, and what was begun takes no room for ever.
        assert!(engine.ok(&["images"]).contains("small"));
        engine.ok(&["run", "--rm", "--network", "none", "small:1", "true"]);
        engine.ok(&["system", "prune", "-f"]);
        let after = used(&engine);
        assert!(after < before + 3_000, "{after} kB are used, {before} before");
        sh(&format!("mount -o remount,size=400m {}", data.display()));
        engine.ok(&["pull", "-q", &name]);
        engine.ok(&["load", "-i", &archive]);
        assert!(
            engine
                .ok(&["run", "--rm", "--network", "none", &name, "/bin/busybox", "wc", "-c", "/noise"])
                .starts_with("30000000")
        );
    });
}

#[test]
fn priv_a_second_engine_on_the_same_bridge_is_told_the_cure() {
    in_namespaces("priv_a_second_engine_on_the_same_bridge_is_told_the_cure", |dir| {
        let mut first = Engine::barque(dir, &[]);
        let second = dir.join("second");
        std::fs::create_dir(&second).unwrap();
        let path = |name: &str| second.join(name).display().to_string();
        let start = || {
            let mut command = std::process::Command::new("timeout");
            command.args(["3"]).arg(pair::barque_program()).args(["daemon", "--data-root", &path("data")]);
            command.args(["--exec-root", &path("exec"), "--pidfile", &path("pid"), "--bridge", "bqpair0"]);
            let output = command.args(["-H", &format!("unix://{}", path("sock"))]).output().unwrap();
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        let why = start();
        let who = format!("another engine on this machine (process {}) has the bridge bqpair0", first.pid());
        assert!(why.contains(&who), "{why}");
        assert!(why.contains("hint: ") && why.contains("--bridge") && !why.contains("listening"), "{why}");
        // It is free again with the engine that had it, however that ended.
        first.down(true);
        let now = start();
        assert!(now.contains("listening"), "{now}");
    });
}

#[test]
fn priv_doctor_names_the_filters_of_others() {
    in_namespaces("priv_doctor_names_the_filters_of_others", |_| {
        let filters = || {
            let doctor = env!("CARGO_BIN_EXE_barque");
            let said = sh(&format!("{doctor} doctor --no-registry --config-file /dev/null --format json || true"));
            let findings: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
            let of_filters = findings.into_iter().filter(|f| f["area"] == "Firewall");
            of_filters.map(|f| (f["level"].as_str().unwrap().to_owned(), f["text"].to_string())).collect::<Vec<_>>()
        };
        assert!(filters().iter().all(|(level, _)| level == "ok"), "{:?}", filters());
        sh("nft add table inet fw");
        for (name, hook) in [("through", "forward"), ("local", "input")] {
            sh(&format!("nft 'add chain inet fw {name} {{ type filter hook {hook} priority 0; policy drop; }}'"));
        }
        let found = filters();
        assert!(
            found[0].0 == "warning" && found[0].1.contains("chain through of table inet fw drops forwarded"),
            "{found:?}"
        );
        assert!(
            found[1].0 == "ok" && found[1].1.contains("chain local of table inet fw lets in what it names"),
            "{found:?}"
        );
    });
}
