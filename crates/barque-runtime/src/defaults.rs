//! What Docker gives a container unless told otherwise.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use barque_model::{Context, Result};

use crate::spec::{
    Capabilities, Caps, Device, DeviceKind, DeviceRule, Mount, MountOptions, MountSource, ReadOnly, Seccomp, Spec,
};

/// Name of the AppArmor profile that the engine loads; a container starts without it if it is not loaded any more.
pub const APPARMOR_PROFILE: &str = "barque-default";

/// `PATH` of a process whose image says nothing else.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of `/dev/shm`.
pub const SHM_SIZE: u64 = 64 << 20;

const CAP_NAMES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Docker's 14 capabilities.
pub fn caps() -> Caps {
    Caps::of(&CAP_NAMES).unwrap_or_default()
}

/// [`caps`] in the sets Docker puts them in.
pub fn capabilities() -> Capabilities {
    Capabilities::docker(caps())
}

/// What this process may raise a limit to, by its name in `--ulimit`; `None`: as far as it likes, or no such limit.
pub fn own_hard_limit(name: &str) -> Option<u64> {
    barque_sys::process::hard_limit(crate::plan::rlimit_number(name).ok()?)
}

/// The capability sets after `--cap-add`, `--cap-drop` and `--privileged`; an unknown name is an error.
pub fn capabilities_with<S: AsRef<str>>(add: &[S], drop: &[S], privileged: bool) -> Result<Capabilities> {
    let changed = caps().changed(add, drop)?;
    Ok(Capabilities::docker(if privileged { Caps::ALL } else { changed }))
}

pub fn masked_paths() -> Vec<String> {
    let mut paths: Vec<String> = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
    ]
    .map(String::from)
    .to_vec();
    // Heat counters tell what other tenants compute. Virtual machines have none.
    for cpu in 0.. {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
        if !Path::new(&path).exists() {
            break;
        }
        paths.push(path);
    }
    paths
}

pub fn readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"].map(String::from).to_vec()
}

fn strict(target: &str, source: MountSource, readonly: ReadOnly) -> Mount {
    let options = MountOptions { readonly, nosuid: true, nodev: true, noexec: true, ..MountOptions::default() };
    Mount { target: target.into(), source, options }
}

/// `/proc`, `/dev`, `/dev/pts`, `/sys`, `/sys/fs/cgroup`, `/dev/mqueue` and `/dev/shm` (of `shm_size` bytes).
pub fn mounts(shm_size: Option<u64>) -> Vec<Mount> {
    let dev = Mount {
        target: "/dev".into(),
        source: MountSource::Tmpfs { size: Some(64 << 20), mode: Some(0o755), options: Vec::new() },
        options: MountOptions { nosuid: true, strictatime: true, ..MountOptions::default() },
    };
    let pts = Mount {
        target: "/dev/pts".into(),
        source: MountSource::Devpts,
        options: MountOptions { nosuid: true, noexec: true, ..MountOptions::default() },
    };
    let shm = MountSource::Tmpfs {
        size: Some(shm_size.unwrap_or(SHM_SIZE)),
        mode: Some(0o1777),
        // Programs look for it by this name in the table of mounts.
        options: vec![("source".into(), "shm".into())],
    };
    vec![
        strict("/proc", MountSource::Proc, ReadOnly::No),
        dev,
        pts,
        strict("/sys", MountSource::Sysfs, ReadOnly::Yes),
        strict("/sys/fs/cgroup", MountSource::Cgroup, ReadOnly::Yes),
        strict("/dev/mqueue", MountSource::Mqueue, ReadOnly::No),
        strict("/dev/shm", shm, ReadOnly::No),
    ]
}

/// The defaults without those the user's mounts replace, then the user's, outer ones before inner ones.
pub fn merge_mounts(defaults: Vec<Mount>, mut user: Vec<Mount>) -> Vec<Mount> {
    let replaced =
        |m: &Mount| user.iter().any(|u| u.target == m.target || (u.target == "/dev" && m.target.starts_with("/dev/")));
    let mut all: Vec<Mount> = defaults.into_iter().filter(|m| !replaced(m)).collect();
    user.sort_by_key(|m| Path::new(&m.target).components().count());
    all.append(&mut user);
    all
}

fn char_device(path: &str, major: u32, minor: u32) -> Device {
    Device { path: path.into(), kind: DeviceKind::Char, major, minor, mode: 0o666, uid: 0, gid: 0 }
}

/// The nodes every container has.
pub fn devices() -> Vec<Device> {
    vec![
        char_device("/dev/null", 1, 3),
        char_device("/dev/zero", 1, 5),
        char_device("/dev/full", 1, 7),
        char_device("/dev/random", 1, 8),
        char_device("/dev/urandom", 1, 9),
        char_device("/dev/tty", 5, 0),
    ]
}

/// What may be opened: the nodes of [`devices`], the console and pseudo-terminals. Any node may be made.
pub fn device_rules() -> Vec<DeviceRule> {
    let rule =
        |kind, major, minor, rw| DeviceRule { allow: true, kind, major, minor, read: rw, write: rw, mknod: true };
    let mut rules = vec![rule(DeviceKind::Char, None, None, false), rule(DeviceKind::Block, None, None, false)];
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule(DeviceKind::Char, Some(major), Some(minor), true));
    }
    rules.push(rule(DeviceKind::Char, Some(136), None, true));
    rules
}

/// Turns `spec` into a privileged one: all capabilities and devices, nothing masked or read-only, no seccomp
/// or AppArmor. Reads the host's `/dev`.
pub fn make_privileged(spec: &mut Spec) -> Result<()> {
    spec.process.capabilities = Capabilities::docker(Caps::ALL);
    spec.masked_paths.clear();
    spec.readonly_paths.clear();
    spec.seccomp = Seccomp::Unconfined;
    spec.apparmor = None;
    spec.cgroup.devices = vec![DeviceRule::allow_all()];
    for mount in &mut spec.mounts {
        if matches!(mount.source, MountSource::Sysfs | MountSource::Cgroup) {
            mount.options.readonly = ReadOnly::No;
        }
    }
    let known: Vec<String> = spec.devices.iter().map(|d| d.path.clone()).collect();
    spec.devices.extend(host_devices()?.into_iter().filter(|d| !known.contains(&d.path)));
    Ok(())
}

/// All device nodes of the host's `/dev` but terminals, as Docker passes to privileged containers.
pub fn host_devices() -> Result<Vec<Device>> {
    let mut found = Vec::new();
    let mut pending = vec![std::path::PathBuf::from("/dev")];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let Ok(entry) = entry else { continue };
            let path = entry.path();
            // A node may vanish while we look.
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            let name = entry.file_name();
            let kind = meta.file_type();
            if kind.is_dir() {
                let skipped = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
                if !skipped.iter().any(|s| *s == name) {
                    pending.push(path);
                }
            } else if (kind.is_char_device() || kind.is_block_device()) && name != "console" {
                found.extend(device_of(&path, &meta));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The node at the host's `path` (links followed), to appear at `container_path` (`--device`).
pub fn device_at(path: &Path, container_path: &str) -> Result<Device> {
    let meta = std::fs::metadata(path).with_context(|| {
        format!("error gathering device information while adding custom device \"{}\"", path.display())
    })?;
    let mut device = device_of(path, &meta)
        .ok_or_else(|| barque_model::Error::invalid(format!("not a device node: {}", path.display())))?;
    device.path = container_path.to_owned();
    Ok(device)
}

fn device_of(path: &Path, meta: &std::fs::Metadata) -> Option<Device> {
    let kind = match meta.file_type() {
        t if t.is_char_device() => DeviceKind::Char,
        t if t.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    Some(Device {
        path: path.to_str()?.to_owned(),
        kind,
        major: rustix::fs::major(meta.rdev()),
        minor: rustix::fs::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(target: &str) -> Mount {
        let source = MountSource::Bind { path: "/x".into(), subpath: None, recursive: true, owners: None };
        Mount { target: target.into(), source, options: MountOptions::default() }
    }

    #[test]
    fn user_mounts_replace_defaults_and_are_sorted_by_depth() {
        let merged = merge_mounts(mounts(None), vec![bind("/a/b/c"), bind("/dev"), bind("/a")]);
        let targets: Vec<&str> = merged.iter().map(|m| m.target.as_str()).collect();
        assert_eq!(targets, ["/proc", "/sys", "/sys/fs/cgroup", "/dev", "/a", "/a/b/c"]);
    }

    #[test]
    fn a_device_must_be_one() {
        assert_eq!(device_at(Path::new("/dev/null"), "/dev/zip").unwrap().path, "/dev/zip");
        assert!(device_at(Path::new("/etc/passwd"), "/dev/x").unwrap_err().to_string().contains("not a device node"));
        assert!(device_at(Path::new("/nonexistent"), "/dev/x").is_err());
    }
}
