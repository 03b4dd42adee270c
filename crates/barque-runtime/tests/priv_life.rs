//! Life of a container: pause, limits, statistics, deaths of daemon and monitor, and what is left behind.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barque_model::Signal;
use barque_runtime::cgroup::Layout;
use barque_runtime::spawner::SpawnerOptions;
use barque_runtime::spec::Resources;
use barque_runtime::{LaunchErrorKind as Kind, Reopened, Spec, Task};
use common::{Lab, eventually, refused};

fn end(task: &Task) {
    task.kill(Signal::KILL).unwrap();
    task.wait().unwrap();
}

/// Directories named after containers of this test process in any cgroup hierarchy.
fn cgroups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    let mine = format!("t{}-", std::process::id());
    while let Some((dir, depth)) = pending.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name().to_str().unwrap().starts_with(&mine) {
                    found.push(entry.path());
                }
                if depth < 2 {
                    pending.push((entry.path(), depth + 1));
                }
            }
        }
    }
    found
}

/// Processes whose command line names a monitor of this test process.
fn monitors() -> Vec<i32> {
    let mine = format!("barque-monitor t{}-", std::process::id());
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_str().unwrap_or("").parse::<i32>() else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).starts_with(&mine) {
            pids.push(pid);
        }
    }
    pids
}

fn open_files() -> BTreeSet<String> {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    fds.map(|e| format!("{:?}", e.file_name())).collect()
}

fn mounts() -> usize {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count()
}

#[test]
fn two_hundred_runs_leave_nothing_behind() {
    needs_root!();
    let lab = Lab::new();
    let before = (mounts(), open_files());
    for i in 0..200 {
        let mut spec = lab.spec(&["sh", "-c", "exit 3"]);
        spec.process.tty = i % 3 == 0;
        spec.init = i % 5 == 0;
        let task = lab.launch(&spec);
        assert_eq!(task.wait().unwrap().code, 3);
        task.wait_gone(Duration::from_secs(5)).unwrap();
        if i % 10 == 0 {
            let _ = lab.spawner.launch(&lab.spec(&["nonexistent"]), Vec::new()).unwrap_err();
        }
    }
    assert_eq!(cgroups(), Vec::<PathBuf>::new());
    assert_eq!((mounts(), open_files()), before);
    eventually("monitors to be gone", || monitors().is_empty());
}

#[test]
fn twenty_at_once_ten_times() {
    needs_root!();
    let lab = Lab::new();
    let before = open_files();
    std::thread::scope(|scope| {
        for i in 0..20 {
            let lab = &lab;
            scope.spawn(move || {
                for j in 0..10 {
                    let spec = lab.spec(&["sh", "-c", &format!("echo {i}-{j}; exit {j}")]);
                    let (exit, out, _) = lab.run(&spec);
                    assert_eq!((exit.code, out), (j, format!("{i}-{j}\n")));
                }
            });
        }
    });
    eventually("monitors to be gone", || monitors().is_empty());
    assert_eq!((cgroups(), open_files()), (Vec::new(), before));
}

#[test]
fn paused_and_resumed() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /tick; sleep 0.01; done"]);
    let tick = spec.run_dir.parent().unwrap().join("upper/tick");
    spec.init = true;
    let task = lab.launch(&spec);
    eventually("the first tick", || tick.exists());
    task.pause().unwrap();
    let frozen = std::fs::read_to_string(&tick).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(std::fs::read_to_string(&tick).unwrap(), frozen);
    task.resume().unwrap();
    eventually("another tick", || std::fs::read_to_string(&tick).unwrap() != frozen);
    task.pause().unwrap();
    task.kill_all(Signal::KILL).unwrap();
    let start = Instant::now();
    if task.wait_timeout(Duration::from_secs(5)).unwrap().is_none() {
        task.resume().unwrap();
        panic!("a paused container must die of kill_all ({:?})", start.elapsed());
    }
}

#[test]
fn numbers_of_a_running_container() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "sleep 100 & head -c 20000000 /dev/zero > /dev/shm/x; while :; do :; done"]);
    spec.cgroup.resources = Resources { memory: Some(256 << 20), pids: Some(50), ..Resources::default() };
    let task = lab.launch(&spec);
    eventually("memory to be used", || task.stats().unwrap().memory.usage > 20_000_000);
    let first = task.stats().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let second = task.stats().unwrap();
    assert!(second.cpu.total > first.cpu.total && second.cpu.system > first.cpu.system);
    assert!(second.cpu.online_cpus > 0);
    assert_eq!((second.memory.limit, second.pids.limit), (256 << 20, 50));
    assert!(second.memory.stat.len() > 10);
    assert_eq!(second.pids.current, 2);
    let pids = task.pids().unwrap();
    assert!(pids.len() == 2 && pids.contains(&task.pid()));
    task.update(&Resources { memory: Some(512 << 20), pids: Some(7), cpu_shares: Some(512), ..Resources::default() })
        .unwrap();
    let third = task.stats().unwrap();
    assert_eq!((third.memory.limit, third.pids.limit), (512 << 20, 7));
    let refused = task.update(&Resources { memory: Some(4096), ..Resources::default() }).unwrap_err();
    assert!(refused.to_string().contains("memory"), "{refused}");
    end(&task);
    task.wait_gone(Duration::from_secs(5)).unwrap();
    assert_eq!(task.stats().unwrap_err().kind(), barque_model::ErrorKind::NotFound);
}

#[test]
fn the_memory_limit_kills() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo survived"]);
    spec.cgroup.resources.memory = Some(16 << 20);
    let (exit, out, _) = lab.run(&spec);
    assert!(exit.oom_killed && exit.code != 0 && out.is_empty(), "{exit:?} {out}");
    let mut spec = lab.spec(&["true"]);
    spec.cgroup.resources.memory = Some(16 << 20);
    assert!(!lab.run(&spec).0.oom_killed);
}

#[test]
fn the_pids_limit_holds() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"]);
    spec.cgroup.resources.pids = Some(4);
    let (_, _, err) = lab.run(&spec);
    assert!(err.contains("fork"), "{err}");
}

#[test]
fn processes_of_a_host_pid_container_die_with_it() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "sleep 1000 & sleep 1000 & echo started"]);
    spec.namespaces.pid = barque_runtime::spec::Namespace::Host;
    let (attachment, mut ours) = common::attachment();
    let task = lab.spawner.launch(&spec, vec![attachment]).unwrap();
    assert_eq!(common::read_frames(&mut ours, false).0, "started\n");
    let start = Instant::now();
    task.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
    task.wait_gone(Duration::from_secs(5)).unwrap();
    assert!(cgroups().is_empty());
}

#[test]
fn a_container_that_makes_cgroups_is_cleaned_up_too() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&[
        "sh",
        "-c",
        "for c in /sys/fs/cgroup/*; do mkdir -p $c/a/b; done; ls -d /sys/fs/cgroup/*/a/b | wc -l",
    ]);
    for mount in &mut spec.mounts {
        mount.options.readonly = barque_runtime::spec::ReadOnly::No;
    }
    let task = lab.launch(&spec);
    task.wait().unwrap();
    task.wait_gone(Duration::from_secs(10)).unwrap();
    assert!(cgroups().is_empty());
}

#[test]
fn failed_limits_leave_no_group() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["true"]);
    spec.cgroup.resources.cpu_period = Some(1);
    let (kind, text) = refused(&lab, &spec);
    assert!(kind == Kind::Cgroup && text.contains("failed to write") && text.contains(" to cpu."), "{text}");
    assert!(cgroups().is_empty() && !spec.run_dir.exists());
}

#[test]
fn a_killed_monitor_takes_its_container_along() {
    needs_root!();
    let lab = Lab::new();
    let spec = lab.spec(&["sleep", "1000"]);
    let task = lab.launch(&spec);
    let pid = task.pid();
    let monitor = monitors();
    assert_eq!(monitor.len(), 1);
    barque_sys::process::kill(monitor[0], 9).unwrap();
    let exit = task.wait().unwrap();
    assert!(exit.lost && exit.code == 137, "{exit:?}");
    // Whose parent reaps it is not ours to say.
    let alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "));
    eventually("the container's death", || !alive());
    assert!(cgroups().is_empty());
    match Task::reopen(&spec.run_dir).unwrap() {
        Reopened::Exited(again) => assert!(again.lost),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reopened_tasks_and_their_records() {
    needs_root!();
    let lab = Lab::new();
    let spec = lab.spec(&["sh", "-c", "read x; echo out; exit 9"]);
    assert!(matches!(Task::reopen(&spec.run_dir).unwrap(), Reopened::Absent));
    let mut spec = spec;
    spec.io.stdin = true;
    let first = lab.launch(&spec);
    let Reopened::Running(second) = Task::reopen(&spec.run_dir).unwrap() else { panic!("not running") };
    assert_eq!((second.pid(), second.started_at(), second.id()), (first.pid(), first.started_at(), spec.id.as_str()));
    drop(first);
    let mut client = second.attach(barque_runtime::Attach::ALL).unwrap();
    std::io::Write::write_all(&mut client, b"\n").unwrap();
    assert_eq!(common::read_frames(&mut client, false).0, "out\n");
    assert_eq!(second.wait().unwrap().code, 9);
    second.wait_gone(Duration::from_secs(5)).unwrap();
    match Task::reopen(&spec.run_dir).unwrap() {
        Reopened::Exited(exit) => assert!(exit.code == 9 && !exit.lost),
        other => panic!("{other:?}"),
    }
    assert!(second.resize(1, 1).is_err() && second.attach(barque_runtime::Attach::ALL).is_err());
}

#[test]
fn a_run_directory_serves_one_task_at_a_time() {
    needs_root!();
    let lab = Lab::new();
    let spec = lab.spec(&["sleep", "0.3"]);
    let first = lab.launch(&spec);
    let start = Instant::now();
    let second = lab.launch(&spec);
    assert!(start.elapsed() > Duration::from_millis(200), "it waited for the first");
    assert_eq!(first.wait().unwrap().code, 0);
    end(&second);
}

/// The daemon of the next test: started as another process of this test program.
#[test]
fn helper_daemon() {
    let Ok(dir) = std::env::var("BARQUE_TEST_DAEMON_DIR") else { return };
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "while read x; do echo got $x; done; exit 5"]);
    spec.run_dir = Path::new(&dir).join("run");
    (spec.io.stdin, spec.io.stdin_once) = (true, true);
    let log = Path::new(&dir).join("log");
    spec.io.log = Some(barque_runtime::spec::LogConfig { path: log, max_size: None, max_files: 1 });
    let _task = lab.launch(&spec);
    std::fs::write(Path::new(&dir).join("ready"), "").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_daemon_finds_its_container_again() {
    needs_root!();
    let tmp = tempfile::tempdir().unwrap();
    let mut daemon = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_daemon", "--nocapture"])
        .env("BARQUE_TEST_DAEMON_DIR", tmp.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the daemon's container", || tmp.path().join("ready").exists());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let Reopened::Running(task) = Task::reopen(&tmp.path().join("run")).unwrap() else { panic!("not running") };
    let mut client = task.attach(barque_runtime::Attach::ALL).unwrap();
    std::io::Write::write_all(&mut client, b"one\ntwo\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(common::read_frames(&mut client, false).0, "got one\ngot two\n");
    assert_eq!(task.wait().unwrap().code, 5);
    assert!(std::fs::read_to_string(tmp.path().join("log")).unwrap().contains("got two"));
    task.wait_gone(Duration::from_secs(5)).unwrap();
}

#[test]
fn monitors_live_outside_of_the_daemons_cgroup() {
    needs_root!();
    let lab = Lab::new();
    let task = lab.launch(&lab.spec(&["sleep", "100"]));
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", monitors()[0])).unwrap();
    assert!(groups.lines().any(|l| l.ends_with(":/barque/monitors")), "{groups}");
    end(&task);
}

#[test]
fn a_spawner_that_died_is_an_error() {
    needs_root!();
    let lab = Lab::new();
    let running = lab.launch(&lab.spec(&["sleep", "100"]));
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let mine = status.contains(&format!("\nPPid:\t{}\n", std::process::id()));
        if mine && status.starts_with("Name:\tbarque-spawner") {
            barque_sys::process::kill(entry.file_name().to_str().unwrap().parse().unwrap(), 9).unwrap();
        }
    }
    std::thread::sleep(Duration::from_millis(50));
    let (_, text) = refused(&lab, &lab.spec(&["true"]));
    assert!(text.contains("spawner"), "{text}");
    assert_eq!(running.wait_timeout(Duration::ZERO).unwrap(), None, "what ran goes on");
    end(&running);
}

#[test]
fn cgroup_v2_without_controllers() {
    needs_root!();
    let root = Path::new("/sys/fs/cgroup/unified");
    let root = if root.exists() { root } else { Path::new("/sys/fs/cgroup") };
    if !root.join("cgroup.procs").exists() || !root.join("cgroup.controllers").exists() {
        println!("skipped: no cgroup v2 hierarchy");
        return;
    }
    let lab = Lab::with(SpawnerOptions { layout: Some(Layout::V2(root.into())), ..SpawnerOptions::default() });
    let script = "cat /proc/self/cgroup | grep ^0; cat /sys/fs/cgroup/cgroup.procs | wc -l; head -c 1 /dev/zero | wc -c; \
                  mknod /dev/mem c 1 1 && head -c 1 /dev/mem";
    let spec = lab.spec(&["sh", "-c", script]);
    let (exit, out, err) = lab.run(&spec);
    assert_eq!(out, "0::/\n3\n1\n", "{exit:?} {err}");
    assert!(err.contains("Operation not permitted"), "the device program decides: {err}");

    let mut spec = lab.spec(&["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /tick; sleep 0.01; done"]);
    spec.cgroup.resources.memory_swappiness = Some(5);
    let tick = spec.run_dir.parent().unwrap().join("upper/tick");
    let task = lab.launch(&spec);
    assert!(task.warnings()[0].contains("swappiness"), "{:?}", task.warnings());
    eventually("the first tick", || tick.exists());
    task.pause().unwrap();
    let frozen = std::fs::read_to_string(&tick).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(std::fs::read_to_string(&tick).unwrap(), frozen);
    task.resume().unwrap();
    assert!(task.stats().unwrap().v2 && task.stats().unwrap().cpu.total > 0);
    task.kill_all(Signal::KILL).unwrap();
    assert_eq!(task.wait().unwrap().code, 137);
    task.wait_gone(Duration::from_secs(5)).unwrap();
    assert!(cgroups().is_empty());
}

#[test]
fn kernels_without_mount_setattr() {
    needs_root!();
    let features = barque_runtime::spawner::Features { mount_setattr: false, apparmor: false };
    let lab = Lab::with(SpawnerOptions { features: Some(features), ..SpawnerOptions::default() });
    std::fs::create_dir(lab.path("host")).unwrap();
    let bind = |readonly| {
        let options = barque_runtime::spec::MountOptions { readonly, ..Default::default() };
        common::bind(&lab.path("host"), "/b", options)
    };
    let mut spec: Spec = lab.spec(&["sh", "-c", "touch /b/x 2>&1"]);
    spec.mounts.push(bind(barque_runtime::spec::ReadOnly::Yes));
    assert_eq!(lab.run(&spec).1, "touch: /b/x: Read-only file system\n");
    spec.mounts.pop();
    spec.mounts.push(bind(barque_runtime::spec::ReadOnly::Recursive));
    assert!(refused(&lab, &spec).1.contains("recursively read-only"));
}

#[test]
fn a_cgroup_root_with_processes_as_inside_a_container() {
    needs_root!();
    let machine = Path::new("/sys/fs/cgroup");
    let passed = std::fs::read_to_string(machine.join("cgroup.subtree_control")).unwrap_or_default();
    if !passed.contains("memory") {
        println!("skipped: no cgroup v2 with controllers");
        return;
    }
    let root = machine.join(format!("barque-test-{}", std::process::id()));
    std::fs::create_dir(&root).unwrap();
    let mut other = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(root.join("cgroup.procs"), other.id().to_string()).unwrap();
    let lab = Lab::with(SpawnerOptions { layout: Some(Layout::V2(root.clone())), ..SpawnerOptions::default() });
    let mut spec = lab.spec(&["cat", "/sys/fs/cgroup/memory.max"]);
    spec.cgroup.resources.memory = Some(64 << 20);
    let (exit, out, err) = lab.run(&spec);
    assert_eq!((exit.code, out.as_str()), (0, "67108864\n"), "{err}");
    let moved = std::fs::read_to_string(root.join("barque-init/cgroup.procs")).unwrap();
    assert_eq!(moved.trim(), other.id().to_string());
    drop(lab);
    other.kill().unwrap();
    other.wait().unwrap();
    for dir in ["barque/monitors", "barque", "barque-init", ""] {
        eventually("the groups to be empty", || std::fs::remove_dir(root.join(dir)).is_ok());
    }
}

/// Makes calls unknown to the calling thread and all it forks, as on an older kernel.
fn forget_calls(numbers: &[u32]) {
    use barque_sys::child::SockFilter;
    let insn = |code, jt, jf, k| SockFilter { code, jt, jf, k };
    let mut filter = vec![insn(0x20, 0, 0, 0)];
    for number in numbers {
        filter.push(insn(0x15, 0, 1, *number));
        filter.push(insn(0x06, 0, 0, 0x0005_0000 | 38));
    }
    filter.push(insn(0x06, 0, 0, 0x7fff_0000));
    barque_sys::seccomp::install(&filter).unwrap();
}

#[test]
fn an_older_kernel() {
    needs_root!();
    // close_range 5.9, faccessat2 5.8, mount_setattr 5.12.
    forget_calls(&[436, 439, 442]);
    assert!(!barque_sys::mount::has_mount_setattr());
    let lab = Lab::new();
    std::fs::create_dir(lab.path("host")).unwrap();
    let script = "touch /b/x 2>&1; touch /n 2>&1; echo 1 2>/dev/null > /proc/sys/kernel/domainname || echo kept; \
                  ls /sys/firmware | wc -l; ls /proc/self/fd | wc -l; touch /sys/fs/cgroup/x 2>/dev/null || echo kept";
    let mut spec: Spec = lab.spec(&["sh", "-c", script]);
    let readonly = barque_runtime::spec::ReadOnly::Yes;
    let options = barque_runtime::spec::MountOptions { readonly, nosuid: true, ..Default::default() };
    spec.mounts.push(common::bind(&lab.path("host"), "/b", options));
    spec.rootfs.readonly = true;
    let (_, out, err) = lab.run(&spec);
    let read_only = |path| format!("touch: {path}: Read-only file system\n");
    assert_eq!(out, format!("{}{}kept\n0\n4\nkept\n", read_only("/b/x"), read_only("/n")), "{err}");
    spec.mounts.last_mut().unwrap().options.readonly = barque_runtime::spec::ReadOnly::Recursive;
    assert!(refused(&lab, &spec).1.contains("recursively read-only"));
}

/// The daemon of the next test: launches one container after the other until it is killed.
#[test]
fn helper_busy_daemon() {
    let Ok(dir) = std::env::var("BARQUE_TEST_BUSY_DIR") else { return };
    let lab = Lab::new();
    for n in 0.. {
        let mut spec = lab.spec(&["sleep", "1000"]);
        spec.run_dir = Path::new(&dir).join(n.to_string());
        std::mem::forget(lab.spawner.launch(&spec, Vec::new()));
    }
}

#[test]
fn a_daemon_killed_at_any_moment_leaves_only_what_can_be_found_again() {
    needs_root!();
    let tmp = tempfile::tempdir().unwrap();
    let mut found = (0, 0);
    for round in 0..20u64 {
        let dir = tmp.path().join(round.to_string());
        std::fs::create_dir(&dir).unwrap();
        let mut daemon = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "helper_busy_daemon", "--nocapture"])
            .env("BARQUE_TEST_BUSY_DIR", &dir)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        eventually("the first container", || dir.join("0/task.json").exists());
        std::thread::sleep(Duration::from_micros(round * 1700 % 9000));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // What was under way settles: no new directory appears once the spawner is gone.
        std::thread::sleep(Duration::from_millis(50));
        for entry in std::fs::read_dir(&dir).unwrap().flatten() {
            match Task::reopen(&entry.path()).unwrap() {
                Reopened::Running(task) => {
                    found.0 += 1;
                    end(&task);
                    task.wait_gone(Duration::from_secs(5)).unwrap();
                }
                Reopened::Exited(exit) => {
                    assert!(exit.lost);
                    found.1 += 1;
                }
                Reopened::Absent => {}
            }
        }
        let mine = format!("t{}-", daemon.id());
        let left: Vec<_> =
            std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path().join("barque")).collect();
        for group in left.iter().flat_map(|d| std::fs::read_dir(d).into_iter().flatten().flatten()) {
            assert!(!group.file_name().to_str().unwrap().starts_with(&mine), "{group:?} is left");
        }
    }
    println!("{found:?} running and lost");
    // One at least of each round; how many of them ran already depends on the machine.
    assert!(found.0 > 0 && found.0 + found.1 >= 20);
}

#[test]
fn a_full_disk_loses_lines_but_spoils_none() {
    needs_root!();
    let lab = Lab::new();
    let logs = lab.path("logs");
    std::fs::create_dir(&logs).unwrap();
    let outcome = barque_sys::mount::in_private_mounts(|| {
        rustix::mount::mount("small", &logs, "tmpfs", rustix::mount::MountFlags::empty(), c"size=64k")?;
        let mut spec = lab.spec(&["seq", "1", "20000"]);
        spec.io.log = Some(barque_runtime::spec::LogConfig { path: logs.join("log"), max_size: None, max_files: 1 });
        let (exit, out, _) = lab.run(&spec);
        Ok((exit.code, out.lines().count(), std::fs::read_to_string(logs.join("log"))?))
    });
    let (code, lines, text) = outcome.unwrap();
    assert_eq!((code, lines), (0, 20000));
    assert!(text.len() > 60_000 && text.ends_with("}\n"));
    assert!(text.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()));
}

#[test]
fn monitors_sleep_while_nothing_happens() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "exec 0<&- 1>&- 2>&-; sleep 1000"]);
    spec.process.tty = true;
    spec.io.stdin = true;
    let closed = lab.launch(&spec);
    let mut spec = lab.spec(&["sleep", "1000"]);
    spec.io.stdin = true;
    let (attached, ours) = common::attachment();
    let half_open = lab.spawner.launch(&spec, vec![attached]).unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let ticks = || -> u64 {
        let fields = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let used = |text: String| -> u64 {
            let rest: Vec<i64> = text.rsplit_once(')').unwrap().1.split(' ').filter_map(|f| f.parse().ok()).collect();
            // utime and stime; the state before them is no number.
            (rest[10] + rest[11]) as u64
        };
        monitors().iter().map(fields).map(used).sum()
    };
    assert_eq!(monitors().len(), 2);
    let before = ticks();
    std::thread::sleep(Duration::from_millis(700));
    assert!(ticks() - before <= 1, "a monitor spins");
    end(&closed);
    end(&half_open);
}
