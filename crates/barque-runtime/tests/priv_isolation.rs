//! What a container sees and may do.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use barque_model::Signal;
use barque_runtime::LaunchErrorKind as Kind;
use barque_runtime::defaults;
use barque_runtime::spec::{
    DeviceRule, Join, Mount, MountOptions, MountSource, Namespace, ProcessFd, ReadOnly, Rlimit, Seccomp,
};
use common::{Lab, bind, refused};

#[test]
fn the_default_container_is_confined() {
    needs_root!();
    let lab = Lab::new();
    let mut spec =
        lab.spec(&["sh", "-c", "grep -E '^(CapEff|CapBnd|Seccomp:|NoNewPrivs)' /proc/self/status; echo $$; hostname"]);
    spec.hostname = Some("box".into());
    let out = lab.run(&spec).1;
    assert_eq!(
        out.replace('\t', " "),
        "CapEff: 00000000a80425fb\nCapBnd: 00000000a80425fb\nNoNewPrivs: 0\nSeccomp: 2\n1\nbox\n"
    );
    let (_, out, err) = lab.sh(
        "echo 1 > /proc/sys/kernel/domainname; cat /proc/keys | wc -c; ls /proc/acpi | wc -l; ls /sys/firmware | wc -l",
    );
    assert!(err.contains("Read-only file system"), "{err}");
    assert_eq!(out, "0\n0\n0\n");
    let (exit, _, err) = lab.sh("mount -t tmpfs x /tmp");
    assert!(exit.code != 0 && (err.contains("denied") || err.contains("permitted")), "{err}");
    let (exit, _, _) = lab.sh("chroot / true");
    assert_eq!(exit.code, 0, "chroot is among the default capabilities");
}

#[test]
fn devices_and_links() {
    needs_root!();
    let lab = Lab::new();
    let (_, out, err) = lab.sh("for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done; \
         for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done; \
         echo x > /dev/null; head -c 3 /dev/zero | wc -c; \
         mknod /dev/mem c 1 1 && head -c 1 /dev/mem; echo hello > /dev/stdout");
    assert_eq!(
        out,
        "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n/dev/urandom 1:9 666\n\
         /dev/tty 5:0 666\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n3\nhello\n"
    );
    assert!(err.contains("Operation not permitted"), "/dev/mem must not open: {err}");
}

#[test]
fn a_user_may_open_its_streams_anew() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr"]);
    spec.process.user = "bob".into();
    let (exit, out, err) = lab.run(&spec);
    assert_eq!((exit.code, out.as_str(), err.as_str()), (0, "out\n", "err\n"));
}

#[test]
fn a_privileged_container_is_not() {
    needs_root!();
    let lab = Lab::new();
    let mut spec =
        lab.spec(&["sh", "-c", "grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp && echo mounted; ls /dev | wc -l; touch /sys/fs/cgroup/x 2>&1"]);
    defaults::make_privileged(&mut spec).unwrap();
    let (_, out, err) = lab.run(&spec);
    assert!(out.contains("Seccomp:\t0\nmounted\n"), "{out}{err}");
    assert!(!out.contains("Read-only"), "{out}{err}");
}

#[test]
fn binds_files_and_temporary_file_systems() {
    needs_root!();
    let lab = Lab::new();
    let host = lab.path("host");
    std::fs::create_dir_all(host.join("sub")).unwrap();
    std::fs::write(host.join("file"), "content\n").unwrap();
    let ro = MountOptions { readonly: ReadOnly::Yes, ..MountOptions::default() };
    let mut spec = lab.spec(&[
        "sh",
        "-c",
        "cat /deep/er/file /one; touch /rw/made; touch /deep/er/no 2>&1; stat -c %a /t; df -k /t | grep -c 1024; \
         touch /t/x && echo wrote; cat /sub/only 2>&1; touch /etc/hosts && cat /etc/hosts",
    ]);
    std::fs::write(host.join("sub/only"), "sub\n").unwrap();
    std::fs::write(lab.path("hosts"), "127.0.0.1 me\n").unwrap();
    spec.mounts.push(bind(&host, "/deep/er", ro));
    spec.mounts.push(bind(&host.join("file"), "/one", MountOptions::default()));
    spec.mounts.push(bind(&host, "/rw", MountOptions::default()));
    spec.mounts.push(bind(&lab.path("hosts"), "/etc/hosts", MountOptions::default()));
    let tmpfs =
        MountSource::Tmpfs { size: Some(1 << 20), mode: Some(0o700), options: vec![("uid".into(), "5".into())] };
    spec.mounts.push(Mount { target: "/t".into(), source: tmpfs, options: MountOptions::default() });
    let sub = MountSource::Bind { path: host.clone(), subpath: Some("sub".into()), recursive: true, owners: None };
    spec.mounts.push(Mount { target: "/sub".into(), source: sub, options: MountOptions::default() });
    let (exit, out, err) = lab.run(&spec);
    assert_eq!(
        out, "content\ncontent\ntouch: /deep/er/no: Read-only file system\n700\n1\nwrote\nsub\n127.0.0.1 me\n",
        "{exit:?} {err}"
    );
    assert!(host.join("made").exists());
    let upper = spec.run_dir.parent().unwrap().join("upper");
    assert!(upper.join("one").is_file() && upper.join("deep/er").is_dir(), "mount points were made");
}

#[test]
fn mounts_below_a_read_only_bind_are_read_only() {
    needs_root!();
    let lab = Lab::new();
    let host = lab.path("host");
    std::fs::create_dir_all(host.join("inner")).unwrap();
    let script = "touch /b/inner/x 2>/dev/null && echo writable || echo read-only";
    // A mount of the host's below the source, made in a mount namespace of our own.
    let outcome = barque_sys::mount::in_private_mounts(|| {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("inner", host.join("inner"), "tmpfs", flags, c"")?;
        let run = |readonly| {
            let mut spec = lab_spec(&lab, script);
            spec.mounts.push(bind(&host, "/b", MountOptions { readonly, ..MountOptions::default() }));
            lab.run(&spec).1
        };
        Ok([ReadOnly::No, ReadOnly::TopOnly, ReadOnly::Yes, ReadOnly::Recursive].map(run))
    });
    assert_eq!(outcome.unwrap(), ["writable\n", "writable\n", "read-only\n", "read-only\n"]);
}

fn lab_spec(lab: &Lab, script: &str) -> barque_runtime::Spec {
    lab.spec(&["sh", "-c", script])
}

#[test]
fn mount_points_stay_inside_the_root() {
    needs_root!();
    let lab = Lab::new();
    let outside = lab.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, lab.path("layer/evil")).unwrap();
    std::os::unix::fs::symlink("../../../../../../..", lab.path("layer/dots")).unwrap();
    std::os::unix::fs::symlink("/proc/self/fd/4", lab.path("layer/magic")).unwrap();
    let mut spec = lab.spec(&["sh", "-c", "ls /evil/made /dots/made2"]);
    let host = lab.path("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("f"), "").unwrap();
    spec.mounts.push(bind(&host, "/evil/made", MountOptions::default()));
    spec.mounts.push(bind(&host, "/dots/made2", MountOptions::default()));
    let (exit, out, err) = lab.run(&spec);
    assert_eq!((exit.code, out.matches("f\n").count()), (0, 2), "{out}{err}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "made outside of the root");
    assert!(!std::path::Path::new("/made2").exists());
    spec.mounts.push(bind(&host, "/magic/x", MountOptions::default()));
    assert_eq!(refused(&lab, &spec).0, Kind::Mount, "a link through a descriptor");
}

#[test]
fn mount_errors_are_named() {
    needs_root!();
    let lab = Lab::new();
    std::fs::write(lab.path("f"), "").unwrap();
    let mut spec = lab.spec(&["true"]);
    spec.mounts.push(bind(&lab.path("f"), "/etc", MountOptions::default()));
    let (kind, text) = refused(&lab, &spec);
    assert!(kind == Kind::Mount && text.contains("\"/etc\"") && text.contains("Are you trying to mount a directory"));
    let mut spec = lab.spec(&["true"]);
    spec.mounts.push(bind(&lab.path("nope"), "/x", MountOptions::default()));
    assert!(refused(&lab, &spec).1.contains("bind source path does not exist"));
    let mut spec = lab.spec(&["true"]);
    let source = MountSource::Tmpfs { size: None, mode: None, options: vec![("colour".into(), "red".into())] };
    spec.mounts.push(Mount { target: "/x".into(), source, options: MountOptions::default() });
    assert!(refused(&lab, &spec).1.contains("mount tmpfs on /x"));
}

#[test]
fn a_read_only_root_is_one() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab.spec(&["sh", "-c", "touch /x 2>&1; touch /tmp/x && echo tmp; cat /new/f; echo > /dev/null"]);
    spec.rootfs.readonly = true;
    let tmpfs = MountSource::Tmpfs { size: None, mode: None, options: Vec::new() };
    spec.mounts.push(Mount { target: "/tmp".into(), source: tmpfs, options: MountOptions::default() });
    std::fs::create_dir(lab.path("host")).unwrap();
    std::fs::write(lab.path("host/f"), "bound\n").unwrap();
    spec.mounts.push(bind(&lab.path("host"), "/new", MountOptions::default()));
    assert_eq!(lab.run(&spec).1, "touch: /x: Read-only file system\ntmp\nbound\n");
}

#[test]
fn images_are_mounted_read_only() {
    needs_root!();
    let lab = Lab::new();
    for (layer, text) in [("i1", "top\n"), ("i2", "bottom\n")] {
        std::fs::create_dir(lab.path(layer)).unwrap();
        std::fs::write(lab.path(layer).join("f"), text).unwrap();
    }
    std::fs::write(lab.path("i2/only"), "below\n").unwrap();
    let mut spec = lab.spec(&["sh", "-c", "cat /i/f /i/only /one/f; touch /i/x /one/x 2>&1"]);
    let two = MountSource::Image { layers: vec![lab.path("i1"), lab.path("i2")], subpath: None };
    let one = MountSource::Image { layers: vec![lab.path("i1")], subpath: None };
    spec.mounts.push(Mount { target: "/i".into(), source: two, options: MountOptions::default() });
    spec.mounts.push(Mount { target: "/one".into(), source: one, options: MountOptions::default() });
    let out = lab.run(&spec).1;
    assert!(out.starts_with("top\nbelow\ntop\n"), "{out}");
    assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
}

#[test]
fn namespaces_private_host_and_joined() {
    needs_root!();
    let lab = Lab::new();
    let ns = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned();
    let script = "for n in net ipc uts pid cgroup mnt; do readlink /proc/self/ns/$n; done; ip link | grep -c UP";
    let read = |spec: &barque_runtime::Spec| -> Vec<String> { lab.run(spec).1.lines().map(String::from).collect() };
    let kinds = ["net", "ipc", "uts", "pid", "cgroup", "mnt"];
    let private = read(&lab_spec(&lab, script));
    for (kind, id) in kinds.iter().zip(&private) {
        assert_ne!(*id, ns(kind), "{kind} is the host's");
    }
    assert_eq!(private[6], "1", "lo is up");

    let mut spec = lab_spec(&lab, script);
    let n = &mut spec.namespaces;
    for ns in [&mut n.net, &mut n.ipc, &mut n.uts, &mut n.pid, &mut n.cgroup] {
        *ns = Namespace::Host;
    }
    let host = read(&spec);
    for (kind, id) in kinds.iter().zip(&host).take(5) {
        assert_eq!(*id, ns(kind), "{kind} is not the host's");
    }

    let other = lab.launch(&lab.spec(&["sleep", "100"]));
    let theirs: Vec<String> = kinds
        .iter()
        .map(|k| std::fs::read_link(format!("/proc/{}/ns/{k}", other.pid())).unwrap().to_str().unwrap().to_owned())
        .collect();
    let pidfd: Arc<OwnedFd> = Arc::new(other.pidfd().try_clone_to_owned().unwrap());
    let mut spec = lab_spec(&lab, script);
    spec.namespaces.net = Namespace::Join(Join::Path(format!("/proc/{}/ns/net", other.pid()).into()));
    spec.namespaces.ipc = Namespace::Join(Join::Fd(pidfd.clone()));
    spec.namespaces.uts = Namespace::Join(Join::Pid(other.pid()));
    spec.namespaces.pid = Namespace::Join(Join::Fd(pidfd));
    let joined = read(&spec);
    assert_eq!(joined[..4], theirs[..4]);
    assert_ne!(joined[5], theirs[5], "mounts are never shared");
    other.kill(Signal::KILL).unwrap();
    other.wait().unwrap();
}

#[test]
fn shared_memory_of_another_container() {
    needs_root!();
    let lab = Lab::new();
    let first = lab.launch(&lab_spec(&lab, "echo shared > /dev/shm/x; exec sleep 100"));
    let pidfd = Arc::new(first.pidfd().try_clone_to_owned().unwrap());
    let mut spec = lab_spec(&lab, "while ! test -s /dev/shm/x; do :; done; cat /dev/shm/x; echo back > /dev/shm/y");
    spec.namespaces.ipc = Namespace::Join(Join::Fd(pidfd.clone()));
    let source = MountSource::Container { process: ProcessFd(pidfd), path: "/dev/shm".into() };
    let shm = Mount { target: "/dev/shm".into(), source, options: MountOptions::default() };
    spec.mounts = defaults::merge_mounts(defaults::mounts(None), vec![shm]);
    assert_eq!(lab.run(&spec).1, "shared\n");
    first.kill(Signal::KILL).unwrap();
    first.wait().unwrap();
    assert_eq!(refused(&lab, &spec).0, Kind::Mount);
}

#[test]
fn a_prepared_network_namespace_is_taken() {
    needs_root!();
    let lab = Lab::new();
    let net = std::thread::spawn(|| {
        #[allow(deprecated)]
        rustix::thread::unshare(rustix::thread::UnshareFlags::NEWNET).unwrap();
        let tid = rustix::thread::gettid().as_raw_nonzero();
        std::fs::File::open(format!("/proc/self/task/{tid}/ns/net")).unwrap()
    })
    .join()
    .unwrap();
    let inode = rustix::fs::fstat(net.as_fd()).unwrap().st_ino;
    let mut spec = lab_spec(&lab, "readlink /proc/self/ns/net; cat /proc/sys/net/ipv4/ip_forward");
    spec.namespaces.net = Namespace::Join(Join::Fd(Arc::new(net.into())));
    spec.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
    assert_eq!(lab.run(&spec).1, format!("net:[{inode}]\n1\n"));
}

#[test]
fn sysctls_of_own_namespaces_only() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab_spec(&lab, "cat /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ip_unprivileged_port_start");
    spec.sysctls.insert("kernel.shmmni".into(), "77".into());
    spec.sysctls.insert("net/ipv4/ip_unprivileged_port_start".into(), "80".into());
    assert_eq!(lab.run(&spec).1, "77\n80\n");
    spec.namespaces.net = Namespace::Host;
    assert!(refused(&lab, &spec).1.contains("not allowed in host network namespace"));
}

#[test]
fn limits_that_may_not_be_raised_are_warnings() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab_spec(&lab, "ulimit -n; ulimit -c; cat /proc/self/oom_score_adj");
    spec.process.rlimits = vec![
        Rlimit { name: "nofile".into(), soft: 512, hard: 1024 },
        Rlimit { name: "RLIMIT_CORE".into(), soft: 0, hard: 0 },
    ];
    spec.process.oom_score_adj = 200;
    let (exit, out, _) = lab.run(&spec);
    assert_eq!((exit.code, out.as_str()), (0, "512\n0\n200\n"));
    spec.process.rlimits = vec![Rlimit { name: "nofile".into(), soft: 1 << 29, hard: 1 << 29 }];
    let task = lab.launch(&spec);
    assert_eq!(task.wait().unwrap().code, 0);
    if !task.warnings().is_empty() {
        assert!(task.warnings()[0].contains("nofile"), "{:?}", task.warnings());
    }
    spec.process.rlimits = vec![Rlimit { name: "speed".into(), soft: 1, hard: 1 }];
    assert!(refused(&lab, &spec).1.contains("invalid ulimit type: speed"));
}

#[test]
fn seccomp_profiles_take_effect() {
    needs_root!();
    let lab = Lab::new();
    let status = "grep Seccomp: /proc/self/status";
    let mut spec = lab_spec(&lab, status);
    spec.seccomp = Seccomp::Unconfined;
    assert_eq!(lab.run(&spec).1, "Seccomp:\t0\n");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95}]}"#;
    for no_new_privileges in [false, true] {
        let mut spec = lab_spec(&lab, "mkdir /x 2>&1; grep NoNewPrivs /proc/self/status");
        spec.seccomp = Seccomp::Profile(profile.into());
        spec.process.no_new_privileges = no_new_privileges;
        let flag = u8::from(no_new_privileges);
        let want = format!("mkdir: can't create directory '/x': Operation not supported\nNoNewPrivs:\t{flag}\n");
        assert_eq!(lab.run(&spec).1, want);
    }
}

#[test]
fn capabilities_follow_the_user() {
    needs_root!();
    let lab = Lab::new();
    let script = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | tr -d '\\n\\t'";
    let mut spec = lab_spec(&lab, script);
    spec.process.capabilities = defaults::capabilities_with(&["NET_ADMIN"], &["ALL"], false).unwrap();
    let bit = "0000000000001000";
    let zero = "0000000000000000";
    assert_eq!(lab.run(&spec).1, format!("CapInh:{zero}CapPrm:{bit}CapEff:{bit}CapBnd:{bit}CapAmb:{zero}"));
    spec.process.user = "bob".into();
    assert_eq!(lab.run(&spec).1, format!("CapInh:{zero}CapPrm:{zero}CapEff:{zero}CapBnd:{bit}CapAmb:{zero}"));
    let caps = &mut spec.process.capabilities;
    (caps.inheritable, caps.ambient) = (caps.permitted, caps.permitted);
    assert_eq!(lab.run(&spec).1, format!("CapInh:{bit}CapPrm:{bit}CapEff:{bit}CapBnd:{bit}CapAmb:{bit}"));
}

#[test]
fn no_descriptor_of_the_host_leaks() {
    needs_root!();
    let lab = Lab::new();
    let (_, out, _) = lab.sh("ls /proc/self/fd");
    // 3 is the directory being listed.
    assert_eq!(out, "0\n1\n2\n3\n");
    let (reader, writer) = std::io::pipe().unwrap();
    let mut spec = lab_spec(&lab, "echo passed >&4; ls /proc/self/fd | tr '\\n' ' '");
    let null = std::fs::File::open("/dev/null").unwrap();
    spec.process.extra_fds = vec![Arc::new(null.into()), Arc::new(writer.into())];
    assert_eq!(lab.run(&spec).1, "0 1 2 3 4 5 ");
    drop(spec);
    assert_eq!(std::io::read_to_string(reader).unwrap(), "passed\n");
}

#[test]
fn no_program_is_found_through_a_descriptor() {
    needs_root!();
    let lab = Lab::new();
    for n in 3..80 {
        let spec = lab.spec(&[&format!("/proc/self/fd/{n}/.")]);
        let (_, text) = refused(&lab, &spec);
        // 4 is the container's own root.
        let want = if n == 4 { "it is a directory" } else { "" };
        assert!(text.contains(want) && (n == 4 || !text.contains("it is a directory")), "{n}: {text}");
    }
}

#[test]
fn bound_directories_follow_the_host_where_asked() {
    needs_root!();
    let lab = Lab::new();
    let host = lab.path("host");
    std::fs::create_dir(&host).unwrap();
    let outcome = barque_sys::mount::in_private_mounts(|| {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        mount("x", &host, "tmpfs", MountFlags::empty(), c"")?;
        mount_change(&host, MountPropagationFlags::SHARED)?;
        std::fs::create_dir(host.join("late"))?;
        let run = |propagation| {
            let mut spec =
                lab.spec(&["sh", "-c", "read x; grep -c late /proc/self/mountinfo; mount 2>/dev/null | grep -c zzz"]);
            spec.io.stdin = true;
            spec.mounts.push(bind(&host, "/b", MountOptions { propagation, ..MountOptions::default() }));
            let (attached, mut ours) = common::attachment();
            let task = lab.spawner.launch(&spec, vec![attached]).unwrap();
            mount("y", host.join("late"), "tmpfs", MountFlags::empty(), c"").unwrap();
            std::io::Write::write_all(&mut ours, b"\n").unwrap();
            let out = common::read_frames(&mut ours, false).0;
            task.wait().unwrap();
            rustix::mount::unmount(host.join("late"), rustix::mount::UnmountFlags::DETACH).unwrap();
            out.lines().next().unwrap().to_owned()
        };
        use barque_runtime::spec::Propagation::{RPrivate, RShared, RSlave};
        Ok([RPrivate, RSlave, RShared].map(run))
    });
    assert_eq!(outcome.unwrap(), ["0", "1", "1"]);
}

#[test]
fn the_mount_table_shows_only_the_container() {
    needs_root!();
    let lab = Lab::new();
    let out = lab.sh("cat /proc/self/mountinfo").1;
    assert!(out.lines().all(|l| !l.contains(lab.tmp.path().to_str().unwrap()) || l.contains(" - overlay ")), "{out}");
    let targets: Vec<&str> = out.lines().filter_map(|l| l.split(' ').nth(4)).collect();
    assert_eq!(targets[..5], ["/", "/proc", "/dev", "/dev/pts", "/sys"], "{out}");
    // Sources as Docker names them.
    let table = lab.sh("cat /proc/mounts").1;
    for line in
        ["overlay / overlay", "proc /proc proc", "tmpfs /dev tmpfs", "devpts /dev/pts devpts", "sysfs /sys sysfs"]
    {
        assert!(table.lines().any(|l| l.starts_with(&format!("{line} "))), "{line}: {table}");
    }
    for line in
        ["mqueue /dev/mqueue mqueue", "shm /dev/shm tmpfs", "tmpfs /proc/interrupts tmpfs", "tmpfs /sys/firmware tmpfs"]
    {
        assert!(table.lines().any(|l| l.starts_with(&format!("{line} "))), "{line}: {table}");
    }
}

#[test]
fn device_rules_decide() {
    needs_root!();
    let lab = Lab::new();
    let mut spec = lab_spec(&lab, "head -c 1 /dev/zero | wc -c; head -c 1 /dev/full | wc -c");
    let mut deny = DeviceRule::allow_all();
    (deny.allow, deny.kind, deny.major, deny.minor) = (false, barque_runtime::spec::DeviceKind::Char, Some(1), Some(7));
    let allow = |minor| DeviceRule { allow: true, minor: Some(minor), ..deny.clone() };
    let mut rules = defaults::device_rules();
    rules.truncate(2);
    assert!(rules.iter().all(|r| r.major.is_none() && !r.read && !r.write), "only the making of nodes");
    spec.cgroup.devices = [rules, vec![allow(3), allow(5)]].concat();
    let (_, out, err) = lab.run(&spec);
    assert_eq!(out, "1\n0\n");
    assert!(err.contains("/dev/full: Operation not permitted"), "{err}");
}
