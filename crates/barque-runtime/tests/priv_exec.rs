//! Further processes in a running container.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;

use barque_model::Signal;
use barque_runtime::spec::{Io, Process, Seccomp};
use barque_runtime::task::Attachment;
use barque_runtime::{ExecSpec, Exit, LaunchErrorKind as Kind, Task};
use common::{Lab, attachment, read_frames};

fn exec_spec(lab: &Lab, args: &[&str]) -> ExecSpec {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    ExecSpec {
        id: format!("e{n}"),
        run_dir: lab.path(&format!("exec-{n}")),
        process: Process { args: args.iter().map(|a| (*a).to_owned()).collect(), ..Process::default() },
        seccomp: Seccomp::Default,
        apparmor: None,
        io: Io::default(),
    }
}

fn run(lab: &Lab, container: &Task, spec: &ExecSpec) -> (Exit, String, String) {
    let (attached, mut ours) = attachment();
    let task = lab.spawner.exec(container, spec, vec![attached]).unwrap_or_else(|e| panic!("{}", e.error.chain()));
    let (out, err) = read_frames(&mut ours, spec.process.tty);
    (task.wait().unwrap(), out, err)
}

fn container(lab: &Lab) -> Task {
    let mut spec = lab.spec(&["sleep", "1000"]);
    spec.hostname = Some("inside".into());
    lab.launch(&spec)
}

fn end(task: &Task) {
    task.kill(Signal::KILL).unwrap();
    task.wait().unwrap();
}

#[test]
fn it_runs_in_the_containers_world() {
    needs_root!();
    let lab = Lab::new();
    let c = container(&lab);
    let script = "hostname; ps -o pid,comm | grep -c sleep; for n in net ipc uts pid cgroup mnt; do readlink /proc/self/ns/$n; done; exit 3";
    let (exit, out, err) = run(&lab, &c, &exec_spec(&lab, &["sh", "-c", script]));
    assert_eq!(exit.code, 3, "{err}");
    let mut want = "inside\n1\n".to_owned();
    for kind in ["net", "ipc", "uts", "pid", "cgroup", "mnt"] {
        let link = std::fs::read_link(format!("/proc/{}/ns/{kind}", c.pid())).unwrap();
        want += &format!("{}\n", link.display());
    }
    assert_eq!(out, want);
    let status = "grep -E '^(CapEff|Seccomp:)' /proc/self/status; ls /proc/self/fd | wc -l; cat /proc/self/cgroup";
    let (_, out, _) = run(&lab, &c, &exec_spec(&lab, &["sh", "-c", status]));
    assert!(out.starts_with("CapEff:\t00000000a80425fb\nSeccomp:\t2\n4\n"), "{out}");
    assert!(out.lines().skip(3).filter(|l| !l.starts_with("0::")).all(|l| l.ends_with(":/")), "in its cgroups: {out}");
    assert!(c.pids().unwrap() == [c.pid()], "gone again");
    end(&c);
}

#[test]
fn user_directory_environment_and_rights() {
    needs_root!();
    let lab = Lab::new();
    let c = container(&lab);
    let mut spec = exec_spec(&lab, &["sh", "-c", "id -un; pwd; echo $HOME $X; grep CapEff /proc/self/status"]);
    spec.process.user = "bob".into();
    spec.process.cwd = "/tmp".into();
    spec.process.env.push("X=y".into());
    assert_eq!(run(&lab, &c, &spec).1, "bob\n/tmp\n/home/bob y\nCapEff:\t0000000000000000\n");
    spec.process.user = String::new();
    spec.process.capabilities = barque_runtime::defaults::capabilities_with::<&str>(&[], &[], true).unwrap();
    let have = rustix::thread::capabilities(None).unwrap().permitted.bits() & ((1 << 41) - 1);
    assert!(run(&lab, &c, &spec).1.ends_with(&format!("CapEff:\t{have:016x}\n")));
    end(&c);
}

#[test]
fn what_cannot_run_is_named() {
    needs_root!();
    let lab = Lab::new();
    let c = container(&lab);
    let refused = |spec: &ExecSpec| {
        let e = lab.spawner.exec(&c, spec, Vec::new()).unwrap_err();
        assert!(!spec.run_dir.exists());
        (e.kind, e.error.to_string())
    };
    let not_found = "exec: \"foo\": executable file not found in $PATH".to_owned();
    assert_eq!(refused(&exec_spec(&lab, &["foo"])), (Kind::NotFound, not_found));
    let mut spec = exec_spec(&lab, &["true"]);
    spec.process.cwd = "/nowhere".into();
    let text = "chdir to cwd (\"/nowhere\") set in config.json failed: no such file or directory".to_owned();
    assert_eq!(refused(&spec), (Kind::Cwd, text));
    assert_eq!(refused(&exec_spec(&lab, &["/proc/self/exe"])).0, Kind::PermissionDenied);
    let mut spec = exec_spec(&lab, &["true"]);
    spec.process.user = "nobody-here".into();
    assert_eq!(refused(&spec).0, Kind::User);
    end(&c);
    assert_eq!(refused(&exec_spec(&lab, &["true"])).0, Kind::NotRunning);
}

#[test]
fn input_and_terminal() {
    needs_root!();
    let lab = Lab::new();
    let c = container(&lab);
    let mut spec = exec_spec(&lab, &["wc", "-c"]);
    (spec.io.stdin, spec.io.stdin_once) = (true, true);
    let (attached, mut ours) = attachment();
    let task = lab.spawner.exec(&c, &spec, vec![attached]).unwrap();
    ours.write_all(&vec![b'x'; 3_000_000]).unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_frames(&mut ours, false).0, "3000000\n");
    assert_eq!(task.wait().unwrap().code, 0);

    let mut spec = exec_spec(&lab, &["sh", "-c", "tty; test -c $(tty) && stty size"]);
    spec.process.tty = true;
    spec.process.console_size = Some((20, 50));
    let (exit, out, _) = run(&lab, &c, &spec);
    assert_eq!((exit.code, out.as_str()), (0, "/dev/pts/0\r\n20 50\r\n"), "a terminal of the container's own");
    end(&c);
}

#[test]
fn it_ends_with_the_container() {
    needs_root!();
    let lab = Lab::new();
    let c = container(&lab);
    let task = lab.spawner.exec(&c, &exec_spec(&lab, &["sleep", "1000"]), Vec::new()).unwrap();
    assert_eq!(c.pids().unwrap().len(), 2);
    end(&c);
    assert_eq!(task.wait().unwrap().code, 137);
    c.wait_gone(std::time::Duration::from_secs(5)).unwrap();
}

#[test]
fn a_process_left_behind_does_not_hold_the_exit_up() {
    needs_root!();
    let lab = Lab::new();
    let c = container(&lab);
    let start = std::time::Instant::now();
    let (exit, out, _) = run(&lab, &c, &exec_spec(&lab, &["sh", "-c", "sleep 100 & echo started"]));
    assert_eq!((exit.code, out.as_str()), (0, "started\n"));
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
    assert_eq!(c.pids().unwrap().len(), 2, "it goes on in the container");
    end(&c);
}

#[test]
fn many_at_once() {
    needs_root!();
    let lab = Lab::new();
    let c = container(&lab);
    std::thread::scope(|scope| {
        for i in 0..8 {
            let (lab, c) = (&lab, &c);
            scope.spawn(move || {
                for j in 0..5 {
                    let text = format!("{i}-{j}");
                    let (exit, out, _) = run(lab, c, &exec_spec(lab, &["echo", &text]));
                    assert_eq!((exit.code, out), (0, format!("{text}\n")));
                }
            });
        }
    });
    end(&c);
}

#[test]
fn other_users_of_the_api_can_pass_their_own_sockets() {
    needs_root!();
    let lab = Lab::new();
    let c = container(&lab);
    let (out_ours, out_theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let (err_ours, err_theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let only = |stdout, stderr| barque_runtime::Attach { stdin: false, stdout, stderr };
    let attach = vec![
        Attachment { socket: out_theirs.into(), streams: only(true, false) },
        Attachment { socket: err_theirs.into(), streams: only(false, true) },
    ];
    let task = lab.spawner.exec(&c, &exec_spec(&lab, &["sh", "-c", "echo o; echo e >&2"]), attach).unwrap();
    let (mut out_ours, mut err_ours) = (out_ours, err_ours);
    assert_eq!(read_frames(&mut out_ours, false).0, "o\n");
    assert_eq!(read_frames(&mut err_ours, false).1, "e\n");
    assert_eq!(task.wait().unwrap().code, 0);
    end(&c);
}
