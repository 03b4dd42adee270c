//! Mounts of a container as operations.

use std::ffi::CString;

use barque_model::{Error, Result};
use barque_sys::child::{LateAttrs, Op};
use barque_sys::mount::{
    MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME, MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE,
};

use super::{Builder, Facts, Slot, c};
use crate::cgroup::Layout;
use crate::spec::{Mount, MountOptions, MountSource, Namespace, Propagation, ReadOnly, Spec};

/// `MOUNT_ATTR_*` of mount options.
pub(crate) fn attrs(options: &MountOptions) -> u32 {
    let bits = [
        (options.readonly != ReadOnly::No, MOUNT_ATTR_RDONLY),
        (options.nosuid, MOUNT_ATTR_NOSUID),
        (options.nodev, MOUNT_ATTR_NODEV),
        (options.noexec, MOUNT_ATTR_NOEXEC),
        (options.noatime, MOUNT_ATTR_NOATIME),
        (options.strictatime && !options.noatime, MOUNT_ATTR_STRICTATIME),
    ];
    bits.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum()
}

/// `MS_*` of a propagation.
pub(crate) fn propagation(p: Propagation) -> u32 {
    match p {
        Propagation::RPrivate => MS_PRIVATE | MS_REC,
        Propagation::Private => MS_PRIVATE,
        Propagation::RSlave => MS_SLAVE | MS_REC,
        Propagation::Slave => MS_SLAVE,
        Propagation::RShared => MS_SHARED | MS_REC,
        Propagation::Shared => MS_SHARED,
    }
}

/// A mount of a new file system.
struct NewFs<'a> {
    fs: &'a str,
    options: Vec<(CString, CString)>,
    subpath: &'a str,
    attrs: u32,
    target: &'a str,
}

fn option(key: &str, value: &str) -> Result<(CString, CString)> {
    Ok((c(key, "a mount option")?, c(value, "a mount option")?))
}

fn push(b: &mut Builder, new: &NewFs<'_>) -> Result<()> {
    let (fs, subpath, target) = (c(new.fs, "fs")?, c(new.subpath, "subpath")?, c(new.target, "mount target")?);
    let options = new.options.iter().map(|(k, v)| (k.as_c_str(), v.as_c_str())).collect();
    b.op(Op::Mount { fs: &fs, options, subpath: &subpath, attrs: new.attrs, target: &target });
    Ok(())
}

pub(super) fn mount(b: &mut Builder, spec: &Spec, index: usize, facts: &Facts<'_>) -> Result<()> {
    let mount = &spec.mounts[index];
    if !mount.target.starts_with('/') {
        return Err(Error::invalid(format!("invalid mount target '{}': it must be an absolute path", mount.target)));
    }
    let plain = |fs: &'static str| -> Result<NewFs<'_>> {
        let options = vec![option("source", fs)?];
        Ok(NewFs { fs, options, subpath: "", attrs: attrs(&mount.options), target: &mount.target })
    };
    match &mount.source {
        MountSource::Bind { .. }
        | MountSource::Image { .. }
        | MountSource::Overlay { .. }
        | MountSource::Container { .. } => attach(b, mount, Slot::Mount(index), facts),
        MountSource::Tmpfs { size, mode, options } => {
            let mut new = plain("tmpfs")?;
            if let Some(size) = size {
                new.options.push(option("size", &size.to_string())?);
            }
            if let Some(mode) = mode {
                new.options.push(option("mode", &format!("{mode:o}"))?);
            }
            for (key, value) in options {
                // The kernel takes no second source.
                new.options.retain(|(k, _)| key != "source" || k.as_c_str() != c"source");
                new.options.push(option(key, value)?);
            }
            push(b, &new)
        }
        MountSource::Proc => push(b, &plain("proc")?),
        MountSource::Sysfs => push(b, &plain("sysfs")?),
        MountSource::Mqueue => push(b, &plain("mqueue")?),
        MountSource::Devpts if spec.process.tty => attach(b, mount, Slot::Devpts, facts),
        MountSource::Devpts => {
            let mut new = plain("devpts")?;
            for (key, value) in DEVPTS_OPTIONS {
                new.options.push(option(key, value)?);
            }
            push(b, &new)
        }
        MountSource::Cgroup => cgroup(b, spec, mount, facts),
    }
}

/// Options of a container's devpts: group 5 is `tty` everywhere.
pub(crate) const DEVPTS_OPTIONS: [(&str, &str); 3] = [("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];

/// Puts a mount made on the host's side in its place. What such a mount's attributes are to be was set there,
/// unless the kernel cannot yet.
fn attach(b: &mut Builder, mount: &Mount, slot: Slot, facts: &Facts<'_>) -> Result<()> {
    let mut late = LateAttrs::default();
    if !facts.mount_setattr && !matches!(slot, Slot::Devpts) {
        if mount.options.readonly == ReadOnly::Recursive {
            return Err(Error::invalid(format!("cannot mount {} recursively read-only", mount.target))
                .with_hint("this takes kernel 5.12"));
        }
        let image = if matches!(mount.source, MountSource::Image { .. }) { MOUNT_ATTR_RDONLY } else { 0 };
        let attrs = attrs(&mount.options) | image;
        late = LateAttrs { attrs, propagation: propagation(mount.options.propagation) };
    }
    let slot = b.slot(slot);
    let target = c(&mount.target, "mount target")?;
    b.op(Op::Attach { slot, target: &target, late });
    Ok(())
}

fn cgroup(b: &mut Builder, spec: &Spec, mount: &Mount, facts: &Facts<'_>) -> Result<()> {
    let wanted = attrs(&mount.options);
    let hierarchies = match facts.layout {
        Layout::V2(_) => {
            let options = vec![option("source", "cgroup")?];
            return push(b, &NewFs { fs: "cgroup2", options, subpath: "", attrs: wanted, target: &mount.target });
        }
        Layout::V1(hierarchies) => hierarchies,
    };
    let options = vec![option("source", "tmpfs")?, option("mode", "0755")?];
    let frame = wanted & !MOUNT_ATTR_RDONLY;
    push(b, &NewFs { fs: "tmpfs", options, subpath: "", attrs: frame, target: &mount.target })?;
    // Without a namespace of its own the container is shown only its own part of each hierarchy.
    let subpath = if matches!(spec.namespaces.cgroup, Namespace::Private) { "" } else { facts.cgroup_path.as_str() };
    for hierarchy in hierarchies {
        let mut options = vec![option("source", "cgroup")?];
        for word in hierarchy.mount_options().split(',') {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            options.push(option(key, value)?);
        }
        let target = format!("{}/{}", mount.target, hierarchy.dir_name());
        push(b, &NewFs { fs: "cgroup", options, subpath, attrs: wanted, target: &target })?;
        if hierarchy.controllers.len() > 1 {
            let to = c(hierarchy.dir_name(), "cgroup name")?;
            for controller in &hierarchy.controllers {
                let path = c(format!("{}/{controller}", mount.target), "cgroup name")?;
                b.op(Op::Symlink { to: &to, path: &path });
            }
        }
    }
    if wanted & MOUNT_ATTR_RDONLY != 0 {
        b.op(Op::SetAttrs { path: &c(&mount.target, "mount target")?, attrs: MOUNT_ATTR_RDONLY });
    }
    Ok(())
}
