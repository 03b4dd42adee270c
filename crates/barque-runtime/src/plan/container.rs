//! The plan of a container's first process.

use std::ffi::CString;
use std::path::{Component, Path};

use barque_model::{Error, Result};
use barque_sys::child::Op;
use barque_sys::mount::MOUNT_ATTR_RDONLY;
use barque_sys::process::{CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS};

use super::process::{Tail, become_and_exec, check, streams_and_limits};
use super::{Builder, Facts, Plan, Slot, c, mounts};
use crate::spec::{Device, DeviceKind, MountSource, Namespace, Spec};

/// Links every container has in `/dev`.
const DEV_LINKS: [(&str, &str); 6] = [
    ("/proc/kcore", "/dev/core"),
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Compiles a container.
pub fn compile(spec: &Spec, facts: &Facts<'_>) -> Result<Plan> {
    check(&spec.process)?;
    check_id(&spec.id)?;
    let mut b = Builder::new(facts);
    let namespaces = enter_namespaces(&mut b, spec)?;
    b.op(Op::SessionKeyring(&keyring(&spec.id)?));
    let slot = b.slot(Slot::Rootfs);
    b.op(Op::SwitchRoot { slot });
    for index in 0..spec.mounts.len() {
        mounts::mount(&mut b, spec, index, facts)?;
    }
    let own_dev = !spec.mounts.iter().any(|m| m.target == "/dev" && matches!(m.source, MountSource::Bind { .. }));
    if own_dev {
        devices(&mut b, spec)?;
    }
    sysctls(&mut b, spec)?;
    b.op(Op::Cwd { path: &c(&spec.process.cwd, "the working directory")?, create: true });
    for path in &spec.readonly_paths {
        b.op(Op::ReadonlyPath(&c(path, "a read-only path")?));
    }
    for path in &spec.masked_paths {
        b.op(Op::Mask(&c(path, "a masked path")?));
    }
    if let Some(propagation) = spec.rootfs.propagation {
        b.op(Op::RootPropagation { flags: mounts::propagation(propagation) });
    }
    if spec.rootfs.readonly {
        b.op(Op::SetAttrs { path: c"/", attrs: MOUNT_ATTR_RDONLY });
    }
    let tail = Tail { process: &spec.process, apparmor: spec.apparmor.as_deref(), init: spec.init };
    streams_and_limits(&mut b, &tail, facts)?;
    become_and_exec(&mut b, &tail, facts)?;
    let pid_namespace = match &spec.namespaces.pid {
        Namespace::Join(join) => Some(join.clone()),
        _ => None,
    };
    Ok(b.finish(namespaces, pid_namespace))
}

/// Ids become names of cgroups and directories.
pub(super) fn check_id(id: &str) -> Result<()> {
    let fits = |ch: char| ch.is_ascii_alphanumeric() || matches!(ch, '_' | '-' | '.');
    if id.is_empty() || id.len() > 128 || id.starts_with('.') || !id.chars().all(fits) {
        return Err(Error::invalid(format!("invalid task id '{id}': letters, digits, '_', '-' and '.', at most 128")));
    }
    Ok(())
}

/// The name of a container's session keyring, as OCI runtimes call it.
pub(super) fn keyring(container: &str) -> Result<CString> {
    c(format!("_ses.{container}"), "the id")
}

/// Joins what is another's; the kinds that are new.
fn enter_namespaces(b: &mut Builder, spec: &Spec) -> Result<u32> {
    let n = &spec.namespaces;
    let mut new = CLONE_NEWNS;
    for (namespace, kind) in [(&n.net, CLONE_NEWNET), (&n.ipc, CLONE_NEWIPC), (&n.uts, CLONE_NEWUTS)] {
        match namespace {
            Namespace::Private => new |= kind,
            Namespace::Host => {}
            Namespace::Join(join) => {
                let slot = b.slot(Slot::Namespace(join.clone()));
                b.op(Op::SetNs { slot, kinds: kind });
            }
        }
    }
    if matches!(n.pid, Namespace::Private) {
        new |= CLONE_NEWPID;
    }
    match &n.cgroup {
        // Only once the process is in its cgroup: that becomes the root of what it sees.
        Namespace::Private => b.op(Op::Unshare { kinds: CLONE_NEWCGROUP }),
        Namespace::Host => {}
        Namespace::Join(join) => {
            let slot = b.slot(Slot::Namespace(join.clone()));
            b.op(Op::SetNs { slot, kinds: CLONE_NEWCGROUP });
        }
    }
    if matches!(n.net, Namespace::Private) {
        b.op(Op::LoopbackUp);
    }
    if matches!(n.uts, Namespace::Private) {
        if let Some(name) = &spec.hostname {
            b.op(Op::Hostname(&c(name, "the host name")?));
        }
        if let Some(name) = &spec.domainname {
            b.op(Op::Domainname(&c(name, "the domain name")?));
        }
    }
    Ok(new)
}

fn devices(b: &mut Builder, spec: &Spec) -> Result<()> {
    for (to, path) in DEV_LINKS {
        b.op(Op::Symlink { to: &c(to, "link")?, path: &c(path, "link")? });
    }
    for device in &spec.devices {
        node(b, device)?;
    }
    if spec.process.tty {
        b.op(Op::Console);
    }
    Ok(())
}

fn node(b: &mut Builder, device: &Device) -> Result<()> {
    const S_IFCHR: u32 = 0o020_000;
    const S_IFBLK: u32 = 0o060_000;
    const S_IFIFO: u32 = 0o010_000;
    let kind = match device.kind {
        DeviceKind::Char => S_IFCHR,
        DeviceKind::Block => S_IFBLK,
        DeviceKind::Fifo => S_IFIFO,
        DeviceKind::All => return Err(Error::invalid(format!("device {}: no kind of node", device.path))),
    };
    if !device.path.starts_with('/') {
        return Err(Error::invalid(format!("invalid device path '{}': it must be absolute", device.path)));
    }
    let path = c(&device.path, "a device path")?;
    let Device { major, minor, uid, gid, .. } = *device;
    b.op(Op::Node { path: &path, mode: kind | device.mode & 0o7777, major, minor, uid, gid });
    Ok(())
}

fn sysctls(b: &mut Builder, spec: &Spec) -> Result<()> {
    for (name, value) in &spec.sysctls {
        let path = sysctl_path(name, spec)?;
        b.op(Op::ProcWrite {
            path: &c(format!("sys/{path}"), "a sysctl")?,
            value: &c(value, "a sysctl")?,
            optional: false,
        });
    }
    Ok(())
}

/// The file below `/proc/sys`. Only what belongs to one of the container's own namespaces may be set: anything
/// else would change the host.
fn sysctl_path(name: &str, spec: &Spec) -> Result<String> {
    const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let plain = Path::new(&path).components().all(|c| matches!(c, Component::Normal(_)));
    if path.is_empty() || !plain {
        return Err(Error::invalid(format!("invalid sysctl name '{name}'")));
    }
    let n = &spec.namespaces;
    let (namespace, what) = match path.split_once('/') {
        Some(("net", _)) => (&n.net, "network"),
        Some(("fs", rest)) if rest.starts_with("mqueue/") => (&n.ipc, "IPC"),
        Some(("kernel", rest)) if IPC.contains(&rest) => (&n.ipc, "IPC"),
        Some(("kernel", "domainname" | "hostname")) => (&n.uts, "UTS"),
        _ => {
            return Err(Error::invalid(format!("sysctl \"{name}\" is not in a separate kernel namespace"))
                .with_hint("set it on the host with sysctl(8): it would apply to the whole machine anyway"));
        }
    };
    if matches!(namespace, Namespace::Host) {
        return Err(Error::invalid(format!("sysctl \"{name}\" not allowed in host {what} namespace")));
    }
    Ok(path)
}
