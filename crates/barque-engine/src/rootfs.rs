//! A look at a container's root file system without a process in it: a detached overlay mount that is
//! attached nowhere and goes with its descriptor.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use barque_model::{Context, Error, Result};
use barque_store::RootDir;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

/// A mounted view.
pub struct View {
    pub root: RootDir,
}

/// Layers (top-most first) read-only.
pub fn read_only(layers: &[PathBuf]) -> Result<View> {
    match layers {
        [] => Err(Error::invalid("the image has no layers")),
        [only] => Ok(View { root: RootDir::open(only).with_context(|| format!("cannot open {}", only.display()))? }),
        several => Ok(View { root: RootDir::from_fd(overlay(several, None)?) }),
    }
}

/// Layers with a writable one on top. Nobody else may have `upper` mounted.
pub fn writable(layers: &[PathBuf], upper: &Path, work: &Path) -> Result<View> {
    if layers.is_empty() {
        return Ok(View { root: RootDir::open(upper).context("cannot open the writable layer")? });
    }
    Ok(View { root: RootDir::from_fd(overlay(layers, Some((upper, work)))?) })
}

/// Layers and a writable one that is only read here, because something else may write to it.
pub fn with_upper_read_only(layers: &[PathBuf], upper: &Path) -> Result<View> {
    // overlayfs takes no lower layer inside another: over the machine's own root it has to be the upper one.
    if layers.iter().any(|l| upper.starts_with(l)) {
        return writable(layers, upper, &upper.with_file_name("work"));
    }
    let mut all = vec![upper.to_owned()];
    all.extend_from_slice(layers);
    read_only(&all)
}

fn overlay(lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context("cannot open the overlay file system")?;
    let dirs = lowers.iter().map(|p| open_path(p)).collect::<Result<Vec<_>>>()?;
    // By descriptor: a string option has at most 255 bytes before Linux 6.5.
    let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let appended = dirs.iter().try_for_each(|d| fsconfig_set_string(fs.as_fd(), "lowerdir+", name(d)));
    if appended.is_err() {
        let joined = dirs.iter().map(name).collect::<Vec<_>>().join(":");
        fsconfig_set_string(fs.as_fd(), "lowerdir", joined).context("too many layers for this kernel's overlay")?;
    }
    let mut held = Vec::new();
    if let Some((upper, work)) = upper {
        for (key, path) in [("upperdir", upper), ("workdir", work)] {
            let fd = open_path(path)?;
            fsconfig_set_string(fs.as_fd(), key, name(&fd))
                .with_context(|| format!("cannot use {}", path.display()))?;
            held.push(fd);
        }
    }
    fsconfig_create(fs.as_fd()).context("cannot mount the layers")?;
    let attributes = if upper.is_some() { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_RDONLY };
    fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).context("cannot mount the layers")
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).with_context(|| format!("cannot open {}", path.display()))
}
