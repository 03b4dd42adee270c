//! Operations in words, for error messages and for reading plans.

use std::ffi::CStr;

use barque_sys::child::Op;
use barque_sys::mount::{
    MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME, MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE,
};
use barque_sys::process::{CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS};

fn words(bits: u32, names: &[(u32, &str)]) -> String {
    let set: Vec<&str> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    set.join(",")
}

fn attrs(bits: u32) -> String {
    let names = [
        (MOUNT_ATTR_RDONLY, "ro"),
        (MOUNT_ATTR_NOSUID, "nosuid"),
        (MOUNT_ATTR_NODEV, "nodev"),
        (MOUNT_ATTR_NOEXEC, "noexec"),
        (MOUNT_ATTR_NOATIME, "noatime"),
        (MOUNT_ATTR_STRICTATIME, "strictatime"),
    ];
    match words(bits, &names) {
        text if text.is_empty() => text,
        text => format!(" ({text})"),
    }
}

fn namespaces(bits: u32) -> String {
    let names = [
        (CLONE_NEWNS, "mount"),
        (CLONE_NEWPID, "pid"),
        (CLONE_NEWNET, "network"),
        (CLONE_NEWIPC, "ipc"),
        (CLONE_NEWUTS, "uts"),
        (CLONE_NEWCGROUP, "cgroup"),
    ];
    words(bits, &names)
}

fn propagation(bits: u32) -> String {
    words(bits, &[(MS_REC, "recursively"), (MS_PRIVATE, "private"), (MS_SLAVE, "slave"), (MS_SHARED, "shared")])
}

fn text(s: &CStr) -> std::borrow::Cow<'_, str> {
    s.to_string_lossy()
}

fn limit(value: u64) -> String {
    if value == u64::MAX { "unlimited".to_owned() } else { value.to_string() }
}

/// What `op` does.
pub fn describe(op: &Op<'_>) -> String {
    match op {
        Op::JoinCgroup { slot } => format!("enter cgroup {slot}"),
        Op::SetNs { kinds, .. } => format!("join {} namespace", namespaces(*kinds)),
        Op::Unshare { kinds } => format!("new {} namespace", namespaces(*kinds)),
        Op::Hostname(name) => format!("set host name {}", text(name)),
        Op::Domainname(name) => format!("set domain name {}", text(name)),
        Op::LoopbackUp => "bring lo up".to_owned(),
        Op::SessionKeyring(name) => format!("session keyring {}", text(name)),
        Op::SwitchRoot { .. } => "enter the root file system".to_owned(),
        Op::AdoptRoot => "open the container's root".to_owned(),
        Op::Mount { fs, attrs: bits, target, subpath, options } => {
            let options: Vec<String> = options
                .iter()
                .filter(|(k, _)| *k != c"source")
                .map(|(k, v)| if v.is_empty() { text(k).into_owned() } else { format!("{}={}", text(k), text(v)) })
                .collect();
            let options = if options.is_empty() { String::new() } else { format!(" [{}]", options.join(",")) };
            let part = if subpath.is_empty() { String::new() } else { format!(":{}", text(subpath)) };
            format!("mount {}{part} on {}{}{options}", text(fs), text(target), attrs(*bits))
        }
        Op::Attach { target, late, .. } => format!("mount on {}{}", text(target), attrs(late.attrs)),
        Op::Mkdir { path, .. } => format!("make directory {}", text(path)),
        Op::Symlink { to, path } => format!("link {} to {}", text(path), text(to)),
        Op::Node { path, major, minor, .. } => format!("make device {} {major}:{minor}", text(path)),
        Op::SetAttrs { path, attrs: bits } => format!("remount {}{}", text(path), attrs(*bits)),
        Op::RootPropagation { flags } => format!("make / {}", propagation(*flags)),
        Op::Mask(path) => format!("mask {}", text(path)),
        Op::ReadonlyPath(path) => format!("make {} read-only", text(path)),
        Op::ProcWrite { path, value, .. } => format!("write \"{}\" to /proc/{}", text(value), text(path)),
        Op::Rlimit { resource, soft, hard } => {
            let name = super::process::RLIMITS.get(*resource as usize).copied().unwrap_or("?");
            format!("set ulimit {name}={}:{}", limit(*soft), limit(*hard))
        }
        Op::Console => "show the terminal as /dev/console".to_owned(),
        Op::Stdio { tty: true, .. } => "take the terminal".to_owned(),
        Op::Stdio { .. } => "take the standard streams".to_owned(),
        Op::Cwd { path, .. } => format!("enter working directory {}", text(path)),
        Op::Umask(mask) => format!("umask {mask:04o}"),
        Op::Identity(id) => {
            let groups: Vec<String> = id.groups.iter().map(u32::to_string).collect();
            let (uid, gid) = (id.uid, id.gid);
            format!("become {uid}:{gid} groups {} capabilities {:x}", groups.join(","), id.permitted)
        }
        Op::NoNewPrivs => "give up new privileges".to_owned(),
        Op::Seccomp(filter) => format!("install seccomp filter of {} instructions", filter.len()),
        Op::DieWithParent => "die with the monitor".to_owned(),
        Op::Lookup { name, .. } => format!("find {}", text(name)),
        Op::Init { .. } => "stay as init".to_owned(),
        Op::Exec { argv, .. } => {
            let args: Vec<String> = argv.iter().map(|a| text(a).into_owned()).collect();
            format!("execute {args:?}")
        }
    }
}
