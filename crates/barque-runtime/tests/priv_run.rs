//! Containers for real: programs, exit codes, errors in Docker's words.
#![allow(clippy::unwrap_used)]

mod common;

use barque_model::Signal;
use barque_runtime::LaunchErrorKind as Kind;
use barque_runtime::spec::{Rootfs, Seccomp};
use common::{Lab, refused};

#[test]
fn true_ends_with_zero() {
    needs_root!();
    let lab = Lab::new();
    let (exit, out, err) = lab.run(&lab.spec(&["true"]));
    assert_eq!((exit.code, exit.signal, out.as_str(), err.as_str()), (0, None, "", ""));
    assert!(!exit.oom_killed && !exit.lost);
}

#[test]
fn exit_codes_and_both_outputs() {
    needs_root!();
    let lab = Lab::new();
    let (exit, out, err) = lab.sh("echo out; echo err >&2; exit 42");
    assert_eq!((exit.code, out.as_str(), err.as_str()), (42, "out\n", "err\n"));
}

#[test]
fn signals_end_it_and_are_reported() {
    needs_root!();
    let lab = Lab::new();
    let task = lab.launch(&lab.spec(&["sleep", "100"]));
    task.kill(Signal::KILL).unwrap();
    let exit = task.wait().unwrap();
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    assert_eq!(task.wait().unwrap(), exit, "asked again");
    assert_eq!(task.kill(Signal::KILL).unwrap_err().kind(), barque_model::ErrorKind::NotFound);
}

#[test]
fn missing_programs_in_dockers_words() {
    needs_root!();
    let lab = Lab::new();
    std::fs::write(lab.path("layer/x"), "#!/bin/sh\n").unwrap();
    std::fs::write(lab.path("layer/bin/garbage"), "\x7fNOTELF").unwrap();
    std::fs::write(lab.path("layer/bin/script"), "#!/nonexistent\n").unwrap();
    for name in ["garbage", "script"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(lab.path("layer/bin").join(name), mode).unwrap();
    }
    for (command, kind, code, text) in [
        ("foo", Kind::NotFound, 127, "exec: \"foo\": executable file not found in $PATH"),
        ("/x", Kind::PermissionDenied, 126, "exec: \"/x\": permission denied"),
        ("/nope", Kind::NotFound, 127, "exec: \"/nope\": stat /nope: no such file or directory"),
        ("/etc", Kind::PermissionDenied, 126, "exec: \"/etc\": permission denied: it is a directory"),
        ("./bin/nope", Kind::NotFound, 127, "exec: \"./bin/nope\": stat ./bin/nope: no such file or directory"),
        ("/etc/passwd/x", Kind::NotFound, 127, "exec: \"/etc/passwd/x\": stat /etc/passwd/x: not a directory"),
        ("garbage", Kind::ExecFormat, 126, "exec garbage: exec format error"),
        ("script", Kind::NotFound, 127, "exec script: no such file or directory"),
    ] {
        let spec = lab.spec(&[command]);
        let error = lab.spawner.launch(&spec, Vec::new()).unwrap_err();
        assert_eq!((error.kind, error.error.to_string().as_str(), error.exit_code()), (kind, text, code));
        assert!(!spec.run_dir.exists(), "a failed launch leaves its directory");
    }
}

#[test]
fn the_engines_own_program_is_not_executed_inside() {
    needs_root!();
    let lab = Lab::new();
    assert_eq!(refused(&lab, &lab.spec(&["/proc/self/exe"])).0, Kind::PermissionDenied);
    std::fs::write(lab.path("layer/bin/trick"), "#!/proc/self/exe\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(lab.path("layer/bin/trick"), mode).unwrap();
    assert_eq!(refused(&lab, &lab.spec(&["/bin/trick"])).0, Kind::PermissionDenied);
    assert_eq!(refused(&lab, &lab.spec(&["trick"])).0, Kind::NotFound);
}

#[test]
fn users_and_home() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "id; echo $HOME; umask; touch /tmp/x && echo wrote"]);
    for (user, want) in [
        ("", "uid=0(root) gid=0(root) groups=0(root)\n/root\n0022\nwrote\n"),
        ("bob", "uid=1000(bob) gid=1000(bob) groups=29(audio),1000(bob)\n/home/bob\n0022\n"),
        ("1000:29", "uid=1000(bob) gid=29(audio) groups=29(audio)\n/home/bob\n0022\n"),
        ("7", "uid=7 gid=0(root) groups=0(root)\n/\n0022\n"),
    ] {
        spec.process.user = user.into();
        assert_eq!(lab.run(&spec).1, want, "user {user:?}");
    }
    spec.process.user = "carol".into();
    let (kind, text) = refused(&lab, &spec);
    assert_eq!((kind, text.as_str()), (Kind::User, "unable to find user carol: no matching entries in passwd file"));
    spec.process.user = "bob".into();
    spec.process.env.push("HOME=/elsewhere".into());
    assert!(lab.run(&spec).1.contains("/elsewhere"));
}

#[test]
fn a_missing_working_directory_is_made() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["pwd"]);
    spec.process.cwd = "/a/b/c".into();
    assert_eq!(lab.run(&spec).1, "/a/b/c\n");
    spec.process.cwd = "/etc/passwd".into();
    assert_eq!(refused(&lab, &spec).0, Kind::Cwd);
    spec.process.cwd = "/proc/self/fd/5".into();
    assert_eq!(refused(&lab, &spec).0, Kind::Cwd, "no way out through a descriptor");
}

#[test]
fn environment_and_arguments_arrive_whole() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["env"]);
    spec.process.env =
        vec!["PATH=/bin".into(), "A=b c\"d".into(), "EMPTY=".into(), format!("LONG={}", "x".repeat(100_000))];
    let out = lab.run(&spec).1;
    assert!(out.contains("A=b c\"d\n") && out.contains("EMPTY=\n") && out.contains("HOME=/root\n"));
    assert!(out.lines().any(|l| l.len() == 100_005));
    let many: Vec<String> = (0..20_000).map(|i| format!("argument-{i}")).collect();
    let mut spec = lab.spec(&["sh", "-c", "echo $#"]);
    spec.process.args.extend(many);
    assert_eq!(lab.run(&spec).1, "19999\n");
}

#[test]
fn an_init_forwards_signals_and_reaps() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.05; done"]);
    spec.init = true;
    let (attachment, mut ours) = common::attachment();
    let task = lab.spawner.launch(&spec, vec![attachment]).unwrap();
    let mut head = [0; 14];
    std::io::Read::read_exact(&mut ours, &mut head).unwrap();
    task.kill(Signal::TERM).unwrap();
    assert_eq!(task.wait().unwrap().code, 7);
    assert_eq!(common::read_frames(&mut ours, false).0, "term\n");

    let mut spec = lab.spec(&["sh", "-c", "sh -c '(sleep 0.05; exit 3) & exit 0'; sleep 0.3; ps -o pid,stat,comm"]);
    spec.init = true;
    let out = lab.run(&spec).1;
    assert!(!out.contains('Z'), "a zombie was left:\n{out}");
    assert!(out.lines().any(|l| l.trim().starts_with("1 ") && l.contains("docker-init")), "{out}");

    let mut spec = lab.spec(&["sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; ps -o pid,args | grep '^ *1 '", "and more"]);
    spec.init = true;
    let out = lab.run(&spec).1;
    let shown = "/sbin/docker-init -- sh -c tr '\\0' ' ' < /proc/1/cmdline; ps -o pid,args | grep '^ *1 ' and more";
    assert!(out.starts_with(shown) && out.matches("/sbin/docker-init -- sh -c").count() >= 2, "{out}");

    let mut spec = lab.spec(&["nonexistent"]);
    spec.init = true;
    assert_eq!(refused(&lab, &spec).0, Kind::NotFound);
    let mut spec = lab.spec(&["sleep", "100"]);
    spec.init = true;
    let task = lab.launch(&spec);
    task.kill(Signal::TERM).unwrap();
    assert_eq!(task.wait().unwrap().code, 143);
}

#[test]
fn the_machines_own_root_as_a_layer() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["/bin/busybox", "sh", "-c", "echo x > /etc/barque-test && cat /etc/barque-test"]);
    let dir = spec.run_dir.parent().unwrap().to_path_buf();
    spec.rootfs = Rootfs::overlay(vec!["/".into()], dir.join("upper"), dir.join("work"));
    let (exit, out, err) = lab.run(&spec);
    assert_eq!((exit.code, out.as_str()), (0, "x\n"), "{err}");
    assert!(!std::path::Path::new("/etc/barque-test").exists());
    assert!(dir.join("upper/etc/barque-test").exists());
}

#[test]
fn volatile_layers_start_again() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "echo x >> /count; wc -l < /count"]);
    let dir = spec.run_dir.parent().unwrap().to_path_buf();
    spec.rootfs.source = barque_runtime::spec::RootfsSource::Overlay {
        lower: vec![lab.path("layer")],
        upper: dir.join("upper"),
        work: dir.join("work"),
        volatile: true,
    };
    for n in 1..=3 {
        assert_eq!(lab.run(&spec).1, format!("{n}\n"));
    }
}

#[test]
fn many_layers_and_long_paths() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "cat /n-* | wc -l"]);
    let dir = spec.run_dir.parent().unwrap().to_path_buf();
    let mut lower = vec![lab.path("layer")];
    for i in 0..120 {
        let layer = lab.path("layers").join("x".repeat(200)).join(format!("{i}{}", "y".repeat(100)));
        std::fs::create_dir_all(&layer).unwrap();
        std::fs::write(layer.join(format!("n-{i}")), "1\n").unwrap();
        lower.push(layer);
    }
    spec.rootfs = Rootfs::overlay(lower, dir.join("upper"), dir.join("work"));
    assert_eq!(lab.run(&spec).1, "120\n");
}

#[test]
fn a_plain_directory_as_root() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["touch", "/made"]);
    spec.rootfs = Rootfs::directory(lab.path("layer"));
    assert_eq!(lab.run(&spec).0.code, 0);
    assert!(lab.path("layer/made").exists());
}

#[test]
fn bad_specifications_are_named() {
    needs_root!();
    let lab = Lab::new();
    let check = |change: &dyn Fn(&mut barque_runtime::Spec), kind, part: &str| {
        let mut spec = lab.spec(&["true"]);
        change(&mut spec);
        let (got, text) = refused(&lab, &spec);
        assert_eq!(got, kind, "{text}");
        assert!(text.contains(part), "{text}");
    };
    check(&|s| s.process.args.clear(), Kind::Invalid, "no command");
    check(&|s| s.process.cwd = "x".into(), Kind::Invalid, "absolute path");
    check(&|s| s.id = "../x".into(), Kind::Invalid, "invalid task id");
    check(&|s| s.process.args.push("a\0b".into()), Kind::Invalid, "NUL");
    check(&|s| drop(s.sysctls.insert("vm.swappiness".into(), "1".into())), Kind::Invalid, "not in a separate kernel");
    check(&|s| drop(s.sysctls.insert("net.../../x".into(), "1".into())), Kind::Invalid, "");
    check(&|s| s.seccomp = Seccomp::Profile("{}".into()), Kind::Invalid, "seccomp");
    check(&|s| s.rootfs = Rootfs::directory("/nonexistent"), Kind::Mount, "/nonexistent");
    check(&|s| s.rootfs = Rootfs::overlay(vec!["/nonexistent".into()], "/u", "/w"), Kind::Mount, "no such directory");
    check(&|s| s.cgroup.resources.cpuset_cpus = Some("999".into()), Kind::Cgroup, "cpuset.cpus");
}
