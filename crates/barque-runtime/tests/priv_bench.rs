//! Time from launch to exit of /bin/true, and the memory of a monitor. Printed; run it alone:
//! `cargo nextest run -p barque-runtime --test priv_bench --run-ignored all --no-capture`.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use barque_model::Signal;
use barque_runtime::spec::{Io, Namespace, Process, Seccomp};
use barque_runtime::{ExecSpec, Spec};
use common::Lab;

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    let (min, median, p95) = (times[0], times[times.len() / 2], times[times.len() * 95 / 100]);
    println!("{what:40} min {:7.2}  median {:7.2}  p95 {:7.2} ms", ms(min), ms(median), ms(p95));
}

fn measure(lab: &Lab, what: &str, change: impl Fn(&mut Spec)) {
    let (mut started, mut ended, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..100 {
        let mut spec = lab.spec(&["/bin/true"]);
        change(&mut spec);
        let start = Instant::now();
        let task = lab.launch(&spec);
        started.push(start.elapsed());
        assert_eq!(task.wait().unwrap().code, 0);
        ended.push(start.elapsed());
        task.wait_gone(Duration::from_secs(5)).unwrap();
        gone.push(start.elapsed());
    }
    report(&format!("{what}: launch returns"), started);
    report(&format!("{what}: exit reported"), ended);
    report(&format!("{what}: nothing left"), gone);
}

fn volatile(spec: &mut Spec) {
    if let barque_runtime::spec::RootfsSource::Overlay { volatile, .. } = &mut spec.rootfs.source {
        *volatile = true;
    }
}

#[test]
#[ignore = "a measurement"]
fn launch_to_exit() {
    needs_root!();
    let lab = Lab::new();
    measure(&lab, "warm up", |_| ());
    measure(&lab, "default, own network", |_| ());
    measure(&lab, "host network", |s| s.namespaces.net = Namespace::Host);
    measure(&lab, "host network, volatile", |s| {
        volatile(s);
        s.namespaces.net = Namespace::Host;
    });
    measure(&lab, "no seccomp", |s| {
        volatile(s);
        s.namespaces.net = Namespace::Host;
        s.seccomp = Seccomp::Unconfined;
    });
    let c = lab.launch(&lab.spec(&["sleep", "1000"]));
    let mut times = Vec::new();
    for i in 0..100 {
        let spec = ExecSpec {
            id: format!("e{i}"),
            run_dir: lab.path(&format!("exec-{i}")),
            process: Process { args: vec!["/bin/true".into()], ..Process::default() },
            seccomp: Seccomp::Default,
            apparmor: None,
            io: Io::default(),
        };
        let start = Instant::now();
        lab.spawner.exec(&c, &spec, Vec::new()).unwrap().wait().unwrap();
        times.push(start.elapsed());
    }
    report("exec: exit reported", times);
    c.kill(Signal::KILL).unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| (0..10).for_each(|_| drop(lab.run(&lab.spec(&["/bin/true"])))));
        }
    });
    println!("20 in parallel: {:.0} a second", 200.0 / start.elapsed().as_secs_f64());
}

#[test]
#[ignore = "a measurement"]
fn memory_of_a_monitor() {
    needs_root!();
    let lab = Lab::new();
    let tasks: Vec<_> = (0..10).map(|_| lab.launch(&lab.spec(&["sleep", "1000"]))).collect();
    let mine = format!("barque-monitor t{}-", std::process::id());
    let mut pss = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).starts_with(&mine) {
            let text = std::fs::read_to_string(entry.path().join("smaps_rollup")).unwrap();
            let field = |key: &str| -> u64 {
                let line = text.lines().find(|l| l.starts_with(key)).unwrap();
                line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
            };
            pss.push((field("Pss:"), field("Private_Dirty:"), field("Rss:")));
        }
    }
    println!("{} monitors: PSS, private dirty, RSS in kB: {pss:?}", pss.len());
    for task in tasks {
        task.kill(Signal::KILL).unwrap();
        task.wait().unwrap();
    }
}
