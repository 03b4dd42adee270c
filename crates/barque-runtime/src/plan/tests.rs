//! Plans as text: what a container's process does, step by step.

use super::*;
use crate::cgroup::layout::Hierarchy;
use crate::spec::{Io, Mount, MountOptions, MountSource, Namespace, Process, ReadOnly, Rlimit, Rootfs, Seccomp, Spec};

fn facts(layout: &Layout) -> Facts<'_> {
    let v1_groups = if let Layout::V1(h) = layout { h.len() } else { 0 };
    Facts {
        user: User { uid: 5, gid: 6, groups: vec![6, 7], home: "/home/x".into() },
        layout,
        cgroup_path: "barque/c1".into(),
        v1_groups,
        available_caps: u64::MAX,
        mount_setattr: true,
        apparmor: true,
        init_program: false,
        seccomp: Some(vec![SockFilter { code: 6, jt: 0, jf: 0, k: 0 }].into()),
    }
}

fn spec() -> Spec {
    let rootfs = Rootfs::directory("/r");
    let mut spec = Spec::new("c1", "/run/c1", rootfs, vec!["sh".into(), "-c".into(), "true".into()]);
    spec.masked_paths = vec!["/proc/kcore".into()];
    spec
}

fn lines(spec: &Spec, facts: &Facts<'_>) -> Vec<String> {
    compile(spec, facts).unwrap().to_string().lines().map(String::from).collect()
}

fn place(lines: &[String], start: &str) -> usize {
    lines.iter().position(|l| l.starts_with(start)).unwrap_or_else(|| panic!("no '{start}' in {lines:#?}"))
}

#[test]
fn the_default_container() {
    let layout = Layout::V2("/sys/fs/cgroup".into());
    let mut spec = spec();
    spec.hostname = Some("box".into());
    spec.readonly_paths = vec!["/proc/sys".into()];
    assert_eq!(
        lines(&spec, &facts(&layout)),
        [
            "new cgroup namespace",
            "bring lo up",
            "set host name box",
            "session keyring _ses.c1",
            "enter the root file system",
            "mount proc on /proc (nosuid,nodev,noexec)",
            "mount tmpfs on /dev (nosuid,strictatime) [size=67108864,mode=755]",
            "mount devpts on /dev/pts (nosuid,noexec) [ptmxmode=0666,mode=0620,gid=5]",
            "mount sysfs on /sys (ro,nosuid,nodev,noexec)",
            "mount cgroup2 on /sys/fs/cgroup (ro,nosuid,nodev,noexec)",
            "mount mqueue on /dev/mqueue (nosuid,nodev,noexec)",
            "mount tmpfs on /dev/shm (nosuid,nodev,noexec) [size=67108864,mode=1777]",
            "link /dev/core to /proc/kcore",
            "link /dev/fd to /proc/self/fd",
            "link /dev/stdin to /proc/self/fd/0",
            "link /dev/stdout to /proc/self/fd/1",
            "link /dev/stderr to /proc/self/fd/2",
            "link /dev/ptmx to pts/ptmx",
            "make device /dev/null 1:3",
            "make device /dev/zero 1:5",
            "make device /dev/full 1:7",
            "make device /dev/random 1:8",
            "make device /dev/urandom 1:9",
            "make device /dev/tty 5:0",
            "enter working directory /",
            "make /proc/sys read-only",
            "mask /proc/kcore",
            "write \"0\" to /proc/self/oom_score_adj",
            "take the standard streams",
            "umask 0022",
            "install seccomp filter of 1 instructions",
            "become 5:6 groups 6,7 capabilities a80425fb",
            "die with the monitor",
            "find sh",
            "execute [\"sh\", \"-c\", \"true\"]",
        ]
    );
}

#[test]
fn orders_that_security_hangs_on() {
    let layout = Layout::V2("/c".into());
    let mut spec = spec();
    spec.process.no_new_privileges = true;
    spec.process.rlimits = vec![Rlimit { name: "nofile".into(), soft: 3, hard: u64::MAX }];
    spec.process.oom_score_adj = 5;
    spec.apparmor = Some("p".into());
    spec.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
    spec.init = true;
    spec.rootfs.readonly = true;
    let l = lines(&spec, &facts(&layout));
    let at = |start: &str| place(&l, start);
    assert!(at("write \"exec p\"") < at("take the standard"), "/proc of the host is closed by then");
    assert!(at("write \"5\" to /proc/self/oom_score_adj") < at("take the standard"));
    assert!(at("write \"1\" to /proc/sys/net/ipv4/ip_forward") < at("remount / (ro)"));
    assert!(at("take the standard") < at("find sh"), "nothing of the host is open when a program is looked up");
    assert!(at("set ulimit nofile=3:unlimited") < at("become"), "raising takes a capability");
    assert!(at("become") < at("give up new privileges"));
    assert!(at("give up new privileges") < at("install seccomp"), "as late as possible");
    assert!(at("become") < at("die with the monitor"), "changing the user forgets the death signal");
    assert!(at("install seccomp") < at("stay as init") && at("stay as init") < at("execute"));
    assert!(at("enter working directory") < at("remount / (ro)"), "it may have to be made");
}

#[test]
fn version_1_cgroups_are_entered_first_and_shown_read_only() {
    let h = |controllers: &[&str]| Hierarchy {
        mount: "/sys/fs/cgroup/x".into(),
        controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
    };
    let layout = Layout::V1(vec![h(&["cpu", "cpuacct"]), h(&["name=systemd"])]);
    let mut spec = spec();
    let l = lines(&spec, &facts(&layout));
    assert_eq!(l[..3], ["enter cgroup 0", "enter cgroup 1", "new cgroup namespace"]);
    let start = place(&l, "mount tmpfs on /sys/fs/cgroup");
    assert_eq!(
        l[start..start + 6],
        [
            "mount tmpfs on /sys/fs/cgroup (nosuid,nodev,noexec) [mode=0755]",
            "mount cgroup on /sys/fs/cgroup/cpu,cpuacct (ro,nosuid,nodev,noexec) [cpu,cpuacct]",
            "link /sys/fs/cgroup/cpu to cpu,cpuacct",
            "link /sys/fs/cgroup/cpuacct to cpu,cpuacct",
            "mount cgroup on /sys/fs/cgroup/systemd (ro,nosuid,nodev,noexec) [none,name=systemd]",
            "remount /sys/fs/cgroup (ro)",
        ]
    );
    assert_eq!(compile(&spec, &facts(&layout)).unwrap().slots.len(), 1);
    spec.namespaces.cgroup = Namespace::Host;
    let l = lines(&spec, &facts(&layout));
    place(&l, "mount cgroup:barque/c1 on /sys/fs/cgroup/systemd");
}

#[test]
fn shared_namespaces_are_not_made() {
    let layout = Layout::V2("/c".into());
    let mut spec = spec();
    spec.hostname = Some("box".into());
    let n = &mut spec.namespaces;
    for namespace in [&mut n.net, &mut n.uts, &mut n.pid, &mut n.ipc, &mut n.cgroup] {
        *namespace = Namespace::Host;
    }
    let plan = compile(&spec, &facts(&layout)).unwrap();
    assert_eq!(plan.namespaces, barque_sys::process::CLONE_NEWNS);
    let text = plan.to_string();
    assert!(!text.contains("host name") && !text.contains("lo up") && !text.contains("cgroup namespace"), "{text}");
}

#[test]
fn environment_is_completed() {
    let layout = Layout::V2("/c".into());
    let mut spec = spec();
    spec.process = Process { args: vec!["x".into()], tty: true, ..spec.process };
    spec.process.env = vec!["A=1".into(), "HOME=".into()];
    let plan = compile(&spec, &facts(&layout)).unwrap();
    let ops = Op::decode_all(&plan.ops).unwrap();
    let Some(Op::Exec { envp, .. }) = ops.last() else { panic!("{ops:?}") };
    let env: Vec<_> = envp.iter().map(|e| e.to_str().unwrap()).collect();
    assert_eq!(env, ["A=1", "TERM=xterm", "HOME=/home/x"]);
    assert!(matches!(plan.slots[1], Slot::Devpts));
}

#[test]
fn a_kernel_without_mount_setattr() {
    let layout = Layout::V2("/c".into());
    let mut facts = facts(&layout);
    facts.mount_setattr = false;
    let mut spec = spec();
    let source = MountSource::Bind { path: "/h".into(), subpath: None, recursive: true, owners: None };
    let options = MountOptions { readonly: ReadOnly::Yes, nosuid: true, ..MountOptions::default() };
    spec.mounts = vec![Mount { target: "/b".into(), source, options }];
    place(&lines(&spec, &facts), "mount on /b (ro,nosuid)");
    spec.mounts[0].options.readonly = ReadOnly::Recursive;
    assert!(compile(&spec, &facts).unwrap_err().to_string().contains("recursively"));
    assert!(matches!(spec.seccomp, Seccomp::Default) && spec.io == Io::default());
}
