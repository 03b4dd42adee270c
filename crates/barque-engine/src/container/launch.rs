//! From a container's definition to the runtime's specification. Pure but for device numbers, which
//! are looked up by the caller.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_model::{Error, Result};
use barque_runtime as rt;
use barque_runtime::spec as rs;

use super::limits::resources;
use super::request::ContainerPaths;
use super::spec::{
    ContainerSpec, LogSpec, MountSource, MountSpec, NamespaceMode, NetworkMode, ProcessSpec, SeccompSpec, SecuritySpec,
    Ulimit,
};
use crate::config::EngineConfig;

/// What the engine has prepared for one start.
pub struct Prepared {
    pub id: String,
    pub paths: ContainerPaths,
    /// Top-most first.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// Skips the sync of the upper layer at the end: for containers that are thrown away anyway.
    pub volatile: bool,
    pub net: rs::Namespace,
    pub pid: rs::Namespace,
    pub ipc: rs::Namespace,
    /// Mounts with their sources resolved to host paths.
    pub mounts: Vec<ResolvedMount>,
    pub devices: Vec<(rs::Device, String)>,
    pub env: Vec<String>,
    pub hostname: String,
}

/// A mount whose source is known.
pub struct ResolvedMount {
    pub spec: MountSpec,
    /// Host path of binds and volumes.
    pub source: Option<PathBuf>,
    /// Layers of image mounts, top-most first.
    pub layers: Vec<PathBuf>,
}

/// Lowers the definition.
pub fn runtime_spec(spec: &ContainerSpec, prepared: Prepared, config: &EngineConfig) -> Result<rs::Spec> {
    let mut rootfs = rs::Rootfs::overlay(prepared.lower, prepared.upper, prepared.work);
    rootfs.readonly = spec.read_only;
    if let rs::RootfsSource::Overlay { volatile, .. } = &mut rootfs.source {
        *volatile = prepared.volatile;
    }
    let mut out = rs::Spec::new(prepared.id, prepared.paths.run_dir.clone(), rootfs, spec.process.argv());
    out.process = process(&spec.process, &spec.security, prepared.env)?;
    out.process.rlimits = rlimits(&spec.ulimits, &config.default_ulimits)?;
    out.process.oom_score_adj = spec.resources.oom_score_adj;
    out.process.no_new_privileges = spec.security.no_new_privileges.unwrap_or(config.no_new_privileges);
    if spec.namespaces.uts != NamespaceMode::Host {
        out.hostname = Some(prepared.hostname);
        out.domainname = Some(spec.domainname.clone()).filter(|d| !d.is_empty());
    }
    out.sysctls = spec.sysctls.clone();
    out.namespaces = rs::Namespaces {
        net: prepared.net,
        pid: prepared.pid,
        ipc: prepared.ipc,
        uts: plain_namespace(&spec.namespaces.uts),
        cgroup: cgroup_namespace(spec),
    };
    let mut mounts = prepared.mounts.iter().map(mount).collect::<Result<Vec<_>>>()?;
    mounts.extend(own_files(spec, &prepared.mounts, &prepared.paths.dir));
    let mut defaults = rt::defaults::mounts(Some(spec.shm_size.filter(|s| *s > 0).unwrap_or(config.default_shm_size)));
    share_memory(spec, &out.namespaces.ipc, &mut defaults);
    out.mounts = rt::defaults::merge_mounts(defaults, mounts);
    out.cgroup.parent = spec.cgroup_parent.clone().or_else(|| config.cgroup_parent.clone());
    out.cgroup.resources = resources(&spec.resources)?;
    out.cgroup.devices = rt::defaults::device_rules();
    for (device, permissions) in prepared.devices {
        out.cgroup.devices.push(device_rule(&device, &permissions)?);
        out.devices.retain(|d| d.path != device.path);
        out.devices.push(device);
    }
    for rule in &spec.device_cgroup_rules {
        out.cgroup.devices.push(parse_device_rule(rule)?);
    }
    out.init = spec.init.unwrap_or(config.init);
    out.io = rs::Io {
        stdin: spec.process.open_stdin,
        stdin_once: spec.process.stdin_once,
        log: log_config(spec.log.as_ref().unwrap_or(&config.default_log), log_path(&prepared.paths))?,
    };
    security(spec, config, &mut out)?;
    Ok(out)
}

/// `/dev/shm` belongs to the IPC namespace: the machine's with `--ipc host`, the other's with `--ipc container:X`,
/// none with `--ipc none`.
fn share_memory(spec: &ContainerSpec, ipc: &rs::Namespace, defaults: &mut Vec<rs::Mount>) {
    const SHM: &str = "/dev/shm";
    let source = match (&spec.namespaces.ipc, ipc) {
        (NamespaceMode::None, _) => return defaults.retain(|m| m.target != SHM),
        (NamespaceMode::Host, _) => {
            rs::MountSource::Bind { path: SHM.into(), subpath: None, recursive: true, owners: None }
        }
        (NamespaceMode::Container(_), rs::Namespace::Join(rs::Join::Fd(process))) => {
            rs::MountSource::Container { process: rs::ProcessFd(process.clone()), path: SHM.into() }
        }
        _ => return,
    };
    for mount in defaults.iter_mut().filter(|m| m.target == SHM) {
        mount.source = source.clone();
    }
}

/// The file of a container's json-file log.
pub fn log_path(paths: &ContainerPaths) -> PathBuf {
    paths.dir.join("container.log")
}

/// A process from its definition, for a container as for an exec.
pub fn process(process: &ProcessSpec, security: &SecuritySpec, env: Vec<String>) -> Result<rs::Process> {
    Ok(rs::Process {
        args: process.argv(),
        env,
        cwd: if process.working_dir.is_empty() { "/".into() } else { process.working_dir.clone() },
        user: process.user.clone(),
        groups: process.group_add.clone(),
        tty: process.tty,
        console_size: process.console_size,
        capabilities: rt::defaults::capabilities_with(&security.cap_add, &security.cap_drop, security.privileged)?,
        ..rs::Process::default()
    })
}

fn security(spec: &ContainerSpec, config: &EngineConfig, out: &mut rs::Spec) -> Result<()> {
    let s = &spec.security;
    out.seccomp = seccomp(s, config);
    out.apparmor = apparmor(s);
    if let Some(masked) = &s.masked_paths {
        out.masked_paths.clone_from(masked);
    }
    if let Some(readonly) = &s.readonly_paths {
        out.readonly_paths.clone_from(readonly);
    }
    if s.unconfined_paths || s.privileged {
        out.masked_paths.clear();
        out.readonly_paths.clear();
    }
    if s.privileged {
        rt::defaults::make_privileged(out)?;
    }
    Ok(())
}

/// The profile in force.
pub fn seccomp(security: &SecuritySpec, config: &EngineConfig) -> rs::Seccomp {
    match &security.seccomp {
        _ if security.privileged => rs::Seccomp::Unconfined,
        SeccompSpec::Unconfined => rs::Seccomp::Unconfined,
        SeccompSpec::Profile(text) => rs::Seccomp::Profile(text.clone()),
        SeccompSpec::Default => match &config.seccomp_profile {
            Some(text) if text == "unconfined" => rs::Seccomp::Unconfined,
            Some(text) => rs::Seccomp::Profile(text.clone()),
            None => rs::Seccomp::Default,
        },
    }
}

/// The AppArmor profile of a container, which the default one is written into when it is created.
pub fn apparmor(security: &SecuritySpec) -> Option<String> {
    security.apparmor.clone().filter(|p| p != "unconfined" && !security.privileged)
}

fn plain_namespace(mode: &NamespaceMode) -> rs::Namespace {
    match mode {
        NamespaceMode::Host => rs::Namespace::Host,
        _ => rs::Namespace::Private,
    }
}

/// Privileged containers on cgroup v1 see the host's tree, as Docker has it; everybody else a private one.
fn cgroup_namespace(spec: &ContainerSpec) -> rs::Namespace {
    plain_namespace(&spec.namespaces.cgroup)
}

/// A namespace shared with the process behind `pidfd`.
pub fn joined(pidfd: OwnedFd) -> rs::Namespace {
    rs::Namespace::Join(rs::Join::Fd(Arc::new(pidfd)))
}

/// hosts, hostname and resolv.conf, unless the user mounts something there.
fn own_files(spec: &ContainerSpec, mounts: &[ResolvedMount], dir: &Path) -> Vec<rs::Mount> {
    let mut files = vec![("/etc/resolv.conf", "resolv.conf"), ("/etc/hosts", "hosts")];
    if spec.namespaces.uts != NamespaceMode::Host || matches!(spec.network.mode, NetworkMode::Default) {
        files.push(("/etc/hostname", "hostname"));
    }
    files
        .into_iter()
        .filter(|(target, _)| !mounts.iter().any(|m| barque_model::path::rooted(&m.spec.target) == **target))
        .map(|(target, file)| rs::Mount {
            target: target.into(),
            source: rs::MountSource::Bind { path: dir.join(file), subpath: None, recursive: false, owners: None },
            options: rs::MountOptions {
                readonly: if spec.read_only { rs::ReadOnly::TopOnly } else { rs::ReadOnly::No },
                ..rs::MountOptions::default()
            },
        })
        .collect()
}

fn mount(resolved: &ResolvedMount) -> Result<rs::Mount> {
    let spec = &resolved.spec;
    let missing = || Error::internal(format!("mount {} has no source", spec.target));
    let mut options = rs::MountOptions { propagation: propagation(spec)?, ..rs::MountOptions::default() };
    if spec.read_only {
        options.readonly = match (spec.recursive_read_only, spec.top_read_only) {
            (true, _) => rs::ReadOnly::Recursive,
            (_, true) => rs::ReadOnly::TopOnly,
            _ => rs::ReadOnly::Yes,
        };
    }
    let source = match &spec.source {
        MountSource::Bind { non_recursive, owners, .. } => rs::MountSource::Bind {
            path: resolved.source.clone().ok_or_else(missing)?,
            subpath: None,
            recursive: !non_recursive,
            owners: owners.clone(),
        },
        MountSource::Volume { subpath, .. } => rs::MountSource::Bind {
            path: resolved.source.clone().ok_or_else(missing)?,
            subpath: subpath.as_ref().map(PathBuf::from),
            recursive: true,
            owners: None,
        },
        MountSource::Tmpfs { size, mode, options: words } => {
            (options.nosuid, options.nodev, options.noexec) = (true, true, true);
            let mut rest = Vec::new();
            let (mut size, mut mode) = (*size, *mode);
            for word in words {
                tmpfs_option(word, &mut options, &mut size, &mut mode, &mut rest)?;
            }
            rs::MountSource::Tmpfs { size, mode, options: rest }
        }
        MountSource::Image { subpath, .. } => {
            options.readonly = rs::ReadOnly::Yes;
            rs::MountSource::Image { layers: resolved.layers.clone(), subpath: subpath.as_ref().map(PathBuf::from) }
        }
    };
    Ok(rs::Mount { target: spec.target.clone(), source, options })
}

fn tmpfs_option(
    word: &str,
    options: &mut rs::MountOptions,
    size: &mut Option<u64>,
    mode: &mut Option<u32>,
    rest: &mut Vec<(String, String)>,
) -> Result<()> {
    match word {
        "" | "rw" | "defaults" => {}
        "ro" => options.readonly = rs::ReadOnly::Yes,
        "exec" => options.noexec = false,
        "noexec" => options.noexec = true,
        "suid" => options.nosuid = false,
        "nosuid" => options.nosuid = true,
        "dev" => options.nodev = false,
        "nodev" => options.nodev = true,
        "noatime" => options.noatime = true,
        "strictatime" => options.strictatime = true,
        other => match other.split_once('=') {
            Some(("size", text)) if text.ends_with('%') => rest.push(("size".into(), text.to_owned())),
            Some(("size", text)) => *size = Some(barque_model::size::parse_binary(text)?),
            Some(("mode", text)) => {
                let octal = u32::from_str_radix(text, 8);
                *mode = Some(octal.map_err(|_| Error::invalid(format!("invalid tmpfs mode '{text}'")))?);
            }
            Some((key @ ("uid" | "gid" | "nr_inodes" | "nr_blocks" | "huge"), value)) => {
                rest.push((key.to_owned(), value.to_owned()));
            }
            _ => return Err(Error::invalid(format!("invalid tmpfs option [\"{other}\"]"))),
        },
    }
    Ok(())
}

fn propagation(spec: &MountSpec) -> Result<rs::Propagation> {
    Ok(match spec.propagation.as_deref() {
        None | Some("" | "rprivate") => rs::Propagation::RPrivate,
        Some("private") => rs::Propagation::Private,
        Some("rslave") => rs::Propagation::RSlave,
        Some("slave") => rs::Propagation::Slave,
        Some("rshared") => rs::Propagation::RShared,
        Some("shared") => rs::Propagation::Shared,
        Some(other) => return Err(Error::invalid(format!("invalid mount propagation: {other}"))),
    })
}

pub(super) fn rlimits(own: &[Ulimit], defaults: &[Ulimit]) -> Result<Vec<rs::Rlimit>> {
    let value = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
    let from_defaults = defaults.iter().filter(|d| !own.iter().any(|o| o.name == d.name));
    own.iter()
        .chain(from_defaults)
        .map(|u| {
            if u.hard >= 0 && (u.soft > u.hard || u.soft < 0) {
                return Err(Error::invalid(format!(
                    "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                    u.soft, u.hard
                )));
            }
            Ok(rs::Rlimit { name: u.name.clone(), soft: value(u.soft), hard: value(u.hard) })
        })
        .collect()
}

fn log_config(log: &LogSpec, path: PathBuf) -> Result<Option<rs::LogConfig>> {
    match log.driver.as_str() {
        "none" => return Ok(None),
        "json-file" | "local" | "" => {}
        other => {
            return Err(Error::not_implemented(format!("log driver '{other}'"))
                .with_hint("json-file, local and none are there: --log-driver json-file"));
        }
    }
    let (max_size, max_files) = log.limits()?;
    Ok(Some(rs::LogConfig { path, max_size, max_files }))
}

fn device_rule(device: &rs::Device, permissions: &str) -> Result<rs::DeviceRule> {
    let has = |c| permissions.contains(c);
    if permissions.chars().any(|c| !"rwm".contains(c)) {
        return Err(Error::invalid(format!("invalid device mode: {permissions}")));
    }
    Ok(rs::DeviceRule {
        allow: true,
        kind: device.kind,
        major: Some(device.major),
        minor: Some(device.minor),
        read: has('r'),
        write: has('w'),
        mknod: has('m'),
    })
}

/// `c 1:3 mr`, `a *:* rwm`.
fn parse_device_rule(text: &str) -> Result<rs::DeviceRule> {
    let invalid = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split_whitespace();
    let (Some(kind), Some(numbers), Some(permissions), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(invalid());
    };
    let kind = match kind {
        "a" => rs::DeviceKind::All,
        "b" => rs::DeviceKind::Block,
        "c" => rs::DeviceKind::Char,
        _ => return Err(invalid()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |t: &str| if t == "*" { Ok(None) } else { t.parse().map(Some).map_err(|_| invalid()) };
    if permissions.chars().any(|c| !"rwm".contains(c)) {
        return Err(invalid());
    }
    Ok(rs::DeviceRule {
        allow: true,
        kind,
        major: number(major)?,
        minor: number(minor)?,
        read: permissions.contains('r'),
        write: permissions.contains('w'),
        mknod: permissions.contains('m'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_rules_parse() {
        let r = parse_device_rule("c 1:* rm").unwrap();
        assert_eq!((r.major, r.minor, r.read, r.write, r.mknod), (Some(1), None, true, false, true));
        for bad in ["", "c 1 r", "x 1:1 r", "c 1:1 z", "c 1:1 r r", "c a:1 r"] {
            assert!(parse_device_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn logs_rotate_by_default() {
        let log = log_config(&LogSpec::default(), "/l".into()).unwrap().unwrap();
        assert_eq!((log.max_size, log.max_files), (Some(20 << 20), 5));
        let named = |k: &str, v: &str| LogSpec { options: [(k.to_owned(), v.to_owned())].into(), ..LogSpec::default() };
        assert_eq!(log_config(&named("max-size", "-1"), "/l".into()).unwrap().unwrap().max_size, None);
        assert!(log_config(&named("max-file", "0"), "/l".into()).is_err());
        let other = LogSpec { driver: "syslog".into(), ..LogSpec::default() };
        assert!(log_config(&other, "/l".into()).unwrap_err().to_string().starts_with("not implemented yet"));
    }

    #[test]
    fn soft_limits_stay_below_hard_ones() {
        let u = |soft, hard| [Ulimit { name: "nofile".into(), soft, hard }];
        assert!(rlimits(&u(2, 1), &[]).is_err());
        assert_eq!(rlimits(&u(-1, -1), &u(1, 1)).unwrap()[0].hard, u64::MAX);
    }
}
