//! Hundreds of containers come and go; the machine and the engine's own records are as before.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::Machine;

/// Containers one after the other, and how many at once.
const IN_A_ROW: usize = 200;
const AT_ONCE: usize = 20;

/// Everything that must not grow, counted.
fn census(machine: &Machine) -> BTreeMap<String, usize> {
    let daemon = machine.daemon();
    let processes = tree(daemon);
    let mut found = BTreeMap::from([("processes".to_owned(), processes.len())]);
    let strays = strays(machine, &processes);
    let is_monitor = |pid: &&u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "barque-monitor")
    };
    found.insert("monitors".into(), processes.iter().chain(&strays).filter(is_monitor).count());
    found.insert("processes that nobody looks after".into(), strays.len());
    let mut namespaces = BTreeMap::new();
    for pid in &processes {
        for kind in ["net", "mnt", "pid", "ipc", "uts", "cgroup"] {
            if let Ok(id) = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")) {
                let mounts = || std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
                namespaces.entry(id).or_insert_with(|| if kind == "mnt" { mounts().lines().count() } else { 0 });
            }
        }
        for open in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let target = std::fs::read_link(open.path()).unwrap_or_default();
            let target = target.to_string_lossy();
            let kind = match target.split_once(':') {
                Some((kind, _)) => kind,
                // The database keeps as many readers as were at work at once.
                None if target.contains("/barque.db") => continue,
                None => "file",
            };
            *found.entry(format!("descriptors: {kind}")).or_default() += 1;
        }
    }
    found.insert("namespaces".into(), namespaces.len());
    found.insert("mounts".into(), namespaces.values().sum());
    let inside = |args: &[&str]| {
        let mut command = Command::new("nsenter");
        let output = command.arg(format!("--net=/proc/{daemon}/ns/net")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    found.insert("links".into(), inside(&["ip", "-o", "link"]));
    found.insert("lines of the ruleset".into(), inside(&["nft", "list", "ruleset"]));
    let own = name(machine.dir.path());
    let groups = files(Path::new("/sys/fs/cgroup"), &|p| p.is_dir() && p.to_string_lossy().contains(&own));
    found.insert("cgroups".into(), groups);
    found.insert("files".into(), files(machine.dir.path(), &|p| !p.to_string_lossy().contains("barque.db-")));
    rows(machine, &mut found);
    found
}

/// The rows of every table of the engine's database.
fn rows(machine: &Machine, found: &mut BTreeMap<String, usize>) {
    let path = machine.dir.path().join("data/barque.db");
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let db = rusqlite::Connection::open_with_flags(path, flags).unwrap();
    let mut tables = db.prepare("select name from sqlite_master where type = 'table'").unwrap();
    let names: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(names.len() > 3, "{names:?}");
    for name in names {
        let count: i64 = db.query_row(&format!("select count(*) from \"{name}\""), [], |row| row.get(0)).unwrap();
        found.insert(format!("rows of {name}"), usize::try_from(count).unwrap());
    }
}

fn name(dir: &Path) -> String {
    dir.file_name().unwrap().to_string_lossy().into_owned()
}

/// The process and all its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all.extend(children.split_whitespace().flat_map(|child| tree(child.parse().unwrap())));
    }
    all
}

/// Processes of this engine that are not among `known`, its daemon and all below it: they have one of its files open, or
/// are in one of its cgroups.
fn strays(machine: &Machine, known: &[u32]) -> Vec<u32> {
    let own = name(machine.dir.path());
    let here = |pid: u32| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.any(|target| target.to_string_lossy().contains(&own))
            || ["cgroup", "cmdline"].iter().any(|file| {
                std::fs::read_to_string(format!("/proc/{pid}/{file}")).is_ok_and(|text| text.contains(&own))
            })
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    all.filter(|pid| *pid != std::process::id() && !known.contains(pid) && here(*pid)).collect()
}

/// How many files and directories below `dir` are wanted; what vanishes meanwhile is not there.
fn files(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        count += usize::from(wanted(&path));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            count += files(&path, wanted);
        }
    }
    count
}

/// A root file system of busybox alone.
fn archive(dir: &Path) -> PathBuf {
    let path = dir.join("root.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    tar.append_path_with_name("/bin/busybox", "bin/busybox").expect("busybox-static is installed");
    for name in ["true", "sh", "touch", "sleep", "nslookup", "ping"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    tar.finish().unwrap();
    path
}

/// Every so many containers one is not only run.
const RUNS: usize = 6;
/// What happens to the others: see [`lasting`].
const EVENTS: usize = 5;

/// Something of the kinds that leave most behind if something is forgotten.
fn one(machine: &Machine, n: usize) {
    if n % RUNS == RUNS - 1 {
        return lasting(machine, n / RUNS % EVENTS, &format!("lasting{n}"));
    }
    let run = |options: &[&str]| drop(machine.barque(&[&["run", "--rm"], options, &["leaks", "true"]].concat()));
    match n % 8 {
        0 => run(&[]),
        1 => run(&["-p", "80", "-p", "53/udp"]),
        2 => run(&["-v", "/data", "--tmpfs", "/t", "--init"]),
        3 => run(&["--network", "leaks", "--network-alias", "a", "--memory", "64m"]),
        // What fails leaves as little.
        4 => {
            let failed = machine.try_run("barque", &["run", "--rm", "-p", "81", "leaks", "nonsense"]).unwrap();
            assert_eq!(failed.status.code(), Some(127));
        }
        5 => run(&["-t"]),
        6 => run(&["--network", "host"]),
        _ => run(&["--network", "none"]),
    }
}

/// A container to which something happens while it runs.
fn lasting(machine: &Machine, event: usize, name: &str) {
    machine.barque(&["run", "-d", "--name", name, "-p", "80", "-v", "/data", "leaks", "sleep", "1000"]);
    match event {
        0 => {
            machine.barque(&["exec", name, "touch", "/data/x"]);
            let failed = machine.try_run("barque", &["exec", name, "nonsense"]).unwrap();
            assert_eq!(failed.status.code(), Some(127));
        }
        1 => drop(machine.barque(&["exec", "-t", name, "true"])),
        2 => {
            let network = format!("container:{name}");
            machine.barque(&["run", "--rm", "--network", &network, "--ipc", "none", "leaks", "true"]);
        }
        3 => ["pause", "unpause"].iter().for_each(|verb| drop(machine.barque(&[verb, name]))),
        _ => drop(machine.barque(&["restart", "-t", "0", name])),
    }
    machine.barque(&["rm", "-f", "-v", name]);
}

/// A machine with an image and a network, both called `leaks`; `None` where the tools are missing.
fn machine() -> Option<Machine> {
    if let Some(why) = common::missing(&["nft"]) {
        eprintln!("skipped: {why}");
        return None;
    }
    let dir = tempfile::Builder::new().prefix("barque-leaks-").tempdir().unwrap();
    let cgroups = format!("/{}", name(dir.path()));
    let machine = Machine::start_in(dir, &["--cgroup-parent", &cgroups]);
    machine.barque(&["import", archive(machine.dir.path()).to_str().unwrap(), "leaks"]);
    machine.barque(&["network", "create", "--ipv6", "--subnet", "10.66.0.0/16", "--subnet", "fd66::/64", "leaks"]);
    Some(machine)
}

/// What has grown, once the kernel has taken network namespaces apart, in its own time.
fn grown(machine: &Machine, before: &BTreeMap<String, usize>) -> BTreeMap<String, usize> {
    let end = Instant::now() + Duration::from_secs(30);
    let mut after = census(machine);
    while after != *before && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
        after = census(machine);
    }
    after.into_iter().filter(|(what, n)| before.get(what) != Some(n)).collect()
}

#[test]
fn hundreds_of_containers_leave_nothing_behind() {
    let Some(machine) = machine() else { return };
    // What is made once and kept: the pool of network namespaces, views of the image, threads.
    for n in 0..RUNS * EVENTS {
        one(&machine, n);
    }
    std::thread::sleep(Duration::from_secs(1));
    let before = census(&machine);
    for n in 0..IN_A_ROW {
        one(&machine, n);
    }
    std::thread::scope(|scope| {
        for n in 0..AT_ONCE {
            let machine = &machine;
            scope.spawn(move || one(machine, n));
        }
    });
    let grown = grown(&machine, &before);
    assert!(grown.is_empty(), "before: {before:#?}\nnow: {grown:#?}");
    // The census sees what it is meant to see.
    machine.barque(&["run", "-d", "--name", "seen", "leaks", "sleep", "1000"]);
    let seen = ["processes", "monitors", "namespaces", "mounts", "links", "cgroups", "files"];
    let mut now = census(&machine);
    for _ in 0..50 {
        if seen.iter().all(|what| now[*what] > before[*what]) {
            break;
        }
        // The container's namespace and links came from the pool, which is filled again in a while.
        std::thread::sleep(Duration::from_millis(200));
        now = census(&machine);
    }
    for what in seen {
        assert!(now[what] > before[what], "{what}: {} before, {} now", before[what], now[what]);
    }
    println!("{before:?}");
}

/// Containers that run at once on one network.
const CROWD: usize = 200;
/// Commands at once.
const HANDS: usize = 8;

/// Calls `each` with all numbers below [`CROWD`], some at once.
fn crowd(each: impl Fn(usize) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while let Some(n) = Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).filter(|n| *n < CROWD)
                {
                    each(n);
                }
            });
        }
    });
}

#[test]
fn two_hundred_containers_on_one_network_find_each_other_and_leave_nothing() {
    let Some(machine) = machine() else { return };
    // As many at once as later, so that what is kept for reuse is there.
    let start = |n: usize| {
        let (name, alias) = (format!("c{n}"), format!("alias{n}"));
        let options = ["run", "-d", "--rm", "--network", "leaks", "--name", &name, "--network-alias", &alias];
        machine.barque(&[&options[..], &["-p", "80", "leaks", "sleep", "1000"]].concat());
    };
    let stop = |n: usize| drop(machine.barque(&["rm", "-f", &format!("c{n}")]));
    (0..HANDS * 4).for_each(start);
    (0..HANDS * 4).for_each(stop);
    std::thread::sleep(Duration::from_secs(1));
    let before = census(&machine);

    let begin = Instant::now();
    crowd(start);
    println!("{CROWD} containers started in {:.1} s", begin.elapsed().as_secs_f64());
    assert_eq!(machine.barque(&["ps", "-q"]).lines().count(), CROWD);
    let shown =
        machine.barque(&["network", "inspect", "-f", "{{range .Containers}}{{.IPv4Address}}\n{{end}}", "leaks"]);
    let addresses: std::collections::BTreeSet<&str> = shown.lines().filter(|l| !l.is_empty()).collect();
    assert_eq!(addresses.len(), CROWD, "no address twice");
    crowd(|n| {
        // A neighbour, one far away, by name and by alias, IPv4 and IPv6.
        let (near, far) = ((n + 1) % CROWD, (n * 7 + 91) % CROWD);
        let script = format!(
            "ping -4 -c 1 -W 5 c{near} && ping -6 -c 1 -W 5 c{far} && ping -4 -c 1 -W 5 alias{far} && nslookup c{near}.leaks"
        );
        machine.barque(&["exec", &format!("c{n}"), "sh", "-c", &script]);
    });
    crowd(stop);
    let grown = grown(&machine, &before);
    assert!(grown.is_empty(), "before: {before:#?}\nnow: {grown:#?}");
}
