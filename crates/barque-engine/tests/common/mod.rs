//! Scratch directories and a network namespace for engines that live in the test's own process.

#![allow(dead_code, reason = "not every test file uses everything")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

use std::path::Path;

use barque_runtime::Spawner;
use barque_runtime::spawner::SpawnerOptions;

/// Enough for futures that are not optimized.
const STACK: usize = 16 << 20;

/// Runs a test body as root, with a scratch directory, in a network namespace of its own. Afterwards no mount below
/// the directory may be left.
pub fn on_machine(body: impl AsyncFn(&Path) + Send + Sync) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let made = barque_sys::netlink::netns::create(move || {
        // A thread of its own, in the same namespace, for its stack.
        std::thread::scope(|scope| {
            let run = || {
                let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
                assert!(up.expect("iproute2 is installed").success());
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                let runtime = builder.worker_threads(2).thread_stack_size(STACK).enable_all().build().unwrap();
                runtime.block_on(body(&path));
            };
            let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
            thread.unwrap().join().map_err(|_| "the test failed")
        })
    });
    remove_cgroups(Path::new("/sys/fs/cgroup"));
    made.unwrap().1.unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()), "mounts are left behind:\n{mounts}");
}

/// Parent of the cgroups of this process's containers.
pub fn cgroup_parent() -> String {
    format!("barque-test-{}", std::process::id())
}

/// A spawner in a process that has threads already, as tests have.
pub fn spawner() -> Spawner {
    Spawner::start_with(SpawnerOptions { allow_threads: true, ..SpawnerOptions::default() }).unwrap()
}

/// Removes the parent cgroups, of each v1 controller and of v2.
fn remove_cgroups(root: &Path) {
    let mut hierarchies = vec![root.to_owned()];
    hierarchies.extend(std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()));
    for parent in hierarchies.iter().map(|h| h.join(cgroup_parent())).filter(|p| p.exists()) {
        // Monitors have a group of their own in it, and end a moment after their containers.
        let empty = || {
            for child in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
                let _a_file = std::fs::remove_dir(child.path());
            }
            std::fs::remove_dir(&parent).is_ok()
        };
        for _ in 0..100 {
            if empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
