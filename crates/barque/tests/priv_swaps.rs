//! Copies in and out of containers that swap directories for links to the machine's meanwhile: what lies outside of
//! the container is neither read nor written.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use pair::{Engine, in_namespaces};
use rustix::fs::{CWD, RenameFlags};

const ROUNDS: usize = 300;

/// Exchanges two names as fast as it can, until it is dropped.
struct Swapper {
    end: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(a: PathBuf, b: PathBuf) -> Swapper {
        let (end, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ended, count) = (end.clone(), swaps.clone());
        let thread = std::thread::spawn(move || {
            while !ended.load(Relaxed) {
                rustix::fs::renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
                count.fetch_add(1, Relaxed);
            }
        });
        Swapper { end, swaps, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.end.store(true, Relaxed);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// One request to the engine; gives the status and everything that follows.
fn call(engine: &Engine, method: &str, target: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = UnixStream::connect(engine.dir.join("sock")).unwrap();
    let head = format!(
        "{method} /v1.41/{target} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\nContent-Type: application/x-tar\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    // What can no longer be read when the answer is to begin breaks the connection.
    let status = answer.get(9..12).map_or(500, |digits| String::from_utf8_lossy(digits).parse().unwrap());
    (status, answer)
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Where a swapper works and how the container calls it.
struct Stage<'a> {
    /// A directory of the container, as the machine sees it.
    here: PathBuf,
    container: &'a str,
    /// The same directory in the container.
    inside: &'a str,
}

/// Copies while `d` is now a directory and now a link out.
fn attack(engine: &Engine, stage: &Stage<'_>, outside: &Path) {
    let Stage { here, container, inside } = stage;
    std::fs::create_dir_all(here.join("d/sub")).unwrap();
    std::fs::write(here.join("d/f"), "inside").unwrap();
    std::fs::write(here.join("d/sub/f"), "inside").unwrap();
    // Far enough up for every root, then down to the marker.
    let link = PathBuf::from(format!("{}{}", "../".repeat(40), outside.strip_prefix("/").unwrap().display()));
    for (n, target) in [outside.to_owned(), link].iter().enumerate() {
        let other = here.join(format!("link{n}"));
        std::os::unix::fs::symlink(target, &other).unwrap();
        let swapper = Swapper::start(here.join("d"), other);
        let poison = tar(&[("f", "poison"), ("new", "poison"), ("sub/f", "poison"), ("sub/new", "poison")]);
        let (mut good, mut bad) = (0, 0);
        for round in 0..ROUNDS {
            let path = ["d/f", "d", "d/.", "d/sub/f", "d/sub/", ""][round % 6];
            let (status, answer) =
                call(engine, "GET", &format!("containers/{container}/archive?path={inside}/{path}"), b"");
            let text = String::from_utf8_lossy(&answer);
            assert!(!text.contains("outside secret"), "{container} {path}: read from outside");
            if status == 200 {
                good += 1
            } else {
                bad += 1
            }
            assert!(matches!(status, 200 | 400 | 404 | 500), "{path}: {status} {text}");
            let place = ["d", "d/sub", "d/."][round % 3];
            let (status, answer) =
                call(engine, "PUT", &format!("containers/{container}/archive?path={inside}/{place}"), &poison);
            let text = String::from_utf8_lossy(&answer);
            if status == 200 {
                good += 1
            } else {
                bad += 1
            }
            assert!(matches!(status, 200 | 400 | 404 | 500), "{place}: {status} {text}");
        }
        println!("{container} {n}: {good} went well, {bad} did not, {} swaps", swapper.swaps.load(Relaxed));
        assert!(good > 0 && bad > 0 && swapper.swaps.load(Relaxed) > 100, "nothing was raced: {good} {bad}");
    }
    assert_eq!(entries(outside), ["f outside secret", "sub", "sub/f outside secret"], "{container}: written outside");
}

/// Everything below a directory, files with what they hold.
fn entries(dir: &Path) -> Vec<String> {
    pair::sh(&format!(
        "cd {} && find . -mindepth 1 | sort | while read p; do p=${{p#./}}; if [ -f $p ]; then echo \"$p $(cat $p)\"; else echo $p; fi; done",
        dir.display()
    ))
    .lines()
    .map(str::to_owned)
    .collect()
}

#[test]
fn priv_copies_stay_inside_of_containers_that_swap_paths() {
    in_namespaces("priv_copies_stay_inside_of_containers_that_swap_paths", |scratch| {
        let outside = scratch.join("outside");
        std::fs::create_dir_all(outside.join("sub")).unwrap();
        std::fs::write(outside.join("f"), "outside secret").unwrap();
        std::fs::write(outside.join("sub/f"), "outside secret").unwrap();
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);

        engine.ok(&["run", "-d", "--name", "running", "--network", "none", "-v", "vol:/v", "box", "sleep", "10000"]);
        engine.ok(&["create", "--name", "stopped", "--network", "none", "-v", "vol2:/v", "box", "true"]);
        let pid = engine.ok(&["inspect", "-f", "{{.State.Pid}}", "running"]);
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        attack(&engine, &Stage { here: root.join("w"), container: "running", inside: "/w" }, &outside);
        let volume = |name: &str| PathBuf::from(engine.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", name]));
        attack(&engine, &Stage { here: volume("vol"), container: "running", inside: "/v" }, &outside);
        attack(&engine, &Stage { here: volume("vol2"), container: "stopped", inside: "/v" }, &outside);
    });
}

#[test]
fn priv_a_part_of_a_volume_that_is_swapped_stays_in_it() {
    in_namespaces("priv_a_part_of_a_volume_that_is_swapped_stays_in_it", |scratch| {
        let outside = scratch.join("outside");
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("f"), "outside secret").unwrap();
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        engine.ok(&["volume", "create", "vol"]);
        let here = PathBuf::from(engine.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "vol"]));
        std::fs::create_dir(here.join("d")).unwrap();
        std::fs::write(here.join("d/f"), "inside").unwrap();
        std::os::unix::fs::symlink(&outside, here.join("link")).unwrap();
        engine.ok(&["run", "--rm", "--mount", "type=volume,src=vol,dst=/v,volume-subpath=d", "box", "true"]);
        let _swapper = Swapper::start(here.join("d"), here.join("link"));
        let mount = "type=volume,src=vol,dst=/v,volume-subpath=d";
        let options = ["run", "--rm", "--network", "none", "--mount", mount, "box", "sh", "-c"];
        let mut good = 0;
        for _ in 0..60 {
            let said = engine.run(&[&options[..], &["cat /v/f; echo poison > /v/new"]].concat());
            let text = said.clone().unwrap_or_else(|e| e);
            assert!(!text.contains("outside secret"), "{text}");
            good += usize::from(said.is_ok());
        }
        assert!(good > 0);
        assert_eq!(entries(&outside), ["f outside secret"]);
    });
}

/// An archive that puts a file in a directory's place, which programs may ask for: what is mounted below stays.
#[test]
fn priv_what_is_mounted_below_a_replaced_directory_stays_mounted() {
    in_namespaces("priv_what_is_mounted_below_a_replaced_directory_stays_mounted", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let (file, dir) = (scratch.join("file"), scratch.join("dir"));
        std::fs::write(&file, "of the host").unwrap();
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("f"), "of the host").unwrap();
        let mounts = [format!("{}:/data/seed", file.display()), format!("{}:/srv/a/b", dir.display())];
        let options = ["run", "-d", "--name", "box", "--network", "none", "-v", &mounts[0], "-v", &mounts[1]];
        engine.ok(&[&options[..], &["box", "sleep", "1000"]].concat());
        for state in ["running", "stopped"] {
            if state == "stopped" {
                engine.ok(&["stop", "-t", "0", "box"]);
            }
            for name in ["data", "srv"] {
                let target = "containers/box/archive?path=/";
                let (status, answer) = call(&engine, "PUT", target, &tar(&[(name, "a file")]));
                let said = String::from_utf8_lossy(&answer);
                assert!(status == 409 && said.contains("device or resource busy"), "{state}, {name}: {said}");
            }
            if state == "running" {
                let read = ["exec", "box", "cat", "/data/seed", "/srv/a/b/f"];
                assert_eq!(engine.ok(&read), "of the hostof the host");
            }
        }
        assert_eq!(std::fs::read(dir.join("f")).unwrap(), b"of the host");
        assert_eq!(std::fs::read(&file).unwrap(), b"of the host");
    });
}
