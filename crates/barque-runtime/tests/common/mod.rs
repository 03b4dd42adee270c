//! A busybox root and a spawner for the privileged tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::new_without_default)]

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use barque_runtime::spawner::SpawnerOptions;
use barque_runtime::spec::Rootfs;
use barque_runtime::task::{Attach, Attachment};
use barque_runtime::{Exit, Spawner, Spec, Task};

/// Why privileged tests cannot run here, if they cannot.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".into());
    }
    if !Path::new("/bin/busybox").exists() {
        return Some("no /bin/busybox".into());
    }
    None
}

/// Returns from the test with a printed reason where it cannot run.
#[macro_export]
macro_rules! needs_root {
    () => {
        if let Some(why) = $crate::common::missing() {
            println!("skipped: {why}");
            return;
        }
    };
}

pub struct Lab {
    pub tmp: tempfile::TempDir,
    pub spawner: Spawner,
}

impl Lab {
    pub fn new() -> Lab {
        Lab::with(SpawnerOptions::default())
    }

    pub fn with(options: SpawnerOptions) -> Lab {
        let tmp = tempfile::tempdir().unwrap();
        let layer = tmp.path().join("layer");
        for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "root", "home/bob"] {
            std::fs::create_dir_all(layer.join(dir)).unwrap();
        }
        std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "true", "false", "cat", "echo", "id", "ls", "mount", "sleep", "dd", "wc", "stty", "env", "pwd",
            "kill", "grep", "seq", "tr", "head", "printf", "ps", "readlink", "stat", "tty", "yes", "hostname",
            "umount", "mkdir", "touch", "rm", "test", "df", "md5sum", "ip", "chroot", "mknod", "tail",
        ] {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
        }
        std::fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\n")
            .unwrap();
        std::fs::write(layer.join("etc/group"), "root:x:0:\nbob:x:1000:\naudio:x:29:bob\n").unwrap();
        let spawner = Spawner::start_with(SpawnerOptions { allow_threads: true, ..options }).unwrap();
        Lab { tmp, spawner }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    /// A container with an upper layer of its own.
    pub fn spec(&self, args: &[&str]) -> Spec {
        // Of the process: several tests may run in one.
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let id = format!("t{}-{n}", std::process::id());
        let dir = self.path(&id);
        for sub in ["upper", "work"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let rootfs = Rootfs::overlay(vec![self.path("layer")], dir.join("upper"), dir.join("work"));
        Spec::new(id, dir.join("run"), rootfs, args.iter().map(|a| (*a).to_owned()).collect())
    }

    /// Runs to the end: exit and the two outputs.
    pub fn run(&self, spec: &Spec) -> (Exit, String, String) {
        let (attachment, mut ours) = attachment();
        let task = self.spawner.launch(spec, vec![attachment]).unwrap_or_else(|e| panic!("{}", e.error.chain()));
        let (out, err) = read_frames(&mut ours, spec.process.tty);
        let exit = task.wait().unwrap();
        (exit, out, err)
    }

    pub fn sh(&self, script: &str) -> (Exit, String, String) {
        self.run(&self.spec(&["sh", "-c", script]))
    }

    pub fn launch(&self, spec: &Spec) -> Task {
        self.spawner.launch(spec, Vec::new()).unwrap_or_else(|e| panic!("{}", e.error.chain()))
    }
}

pub fn attachment() -> (Attachment, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Attachment { socket: theirs.into(), streams: Attach::ALL }, ours)
}

/// Standard output and error of an attached connection, up to its end.
pub fn read_frames(stream: &mut UnixStream, tty: bool) -> (String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    if tty {
        return (String::from_utf8_lossy(&bytes).into_owned(), String::new());
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let len = u32::from_be_bytes(rest[4..8].try_into().unwrap()) as usize;
        assert!(matches!(rest[0], 1 | 2) && rest[1..4] == [0, 0, 0], "frame {:?}", &rest[..8]);
        if rest[0] == 1 { &mut out } else { &mut err }.extend_from_slice(&rest[8..8 + len]);
        rest = &rest[8 + len..];
    }
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
}

/// Launches what must not start; the error's kind and full text.
pub fn refused(lab: &Lab, spec: &Spec) -> (barque_runtime::LaunchErrorKind, String) {
    match lab.spawner.launch(spec, Vec::new()) {
        Ok(task) => {
            let _ = task.kill(barque_model::Signal::KILL);
            panic!("it started: {:?}", spec.process.args)
        }
        Err(e) => (e.kind, e.error.chain()),
    }
}

pub fn bind(source: &Path, target: &str, options: barque_runtime::spec::MountOptions) -> barque_runtime::spec::Mount {
    let source = barque_runtime::spec::MountSource::Bind {
        path: source.to_path_buf(),
        subpath: None,
        recursive: true,
        owners: None,
    };
    barque_runtime::spec::Mount { target: target.into(), source, options }
}

/// Waits until `done` holds.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{what}: not within 5 s");
}
