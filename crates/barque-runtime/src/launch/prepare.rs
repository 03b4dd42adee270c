//! What a launch needs of the host's files, opened in the host's mount namespace and passed on as descriptors:
//! the root, sources of binds, namespaces, the log's directory, terminals.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use barque_model::{Context, Error, Result};
use barque_sys::mount::mount_setattr;
use barque_sys::pty;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    open_tree,
};

use super::{kind, owners};
use crate::error::{LaunchError, LaunchErrorKind};
use crate::overlay::{self, Layers};
use crate::plan::{self, Slot};
use crate::spawner::Host;
use crate::spec::{Join, LogConfig, Mount, MountSource, Process, ProcessFd, ReadOnly, Rootfs, RootfsSource, Spec};
use crate::task::Task;
use crate::tree::{self, CLONE};
use crate::users::User;

/// The magic number of devpts, statfs(2).
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// The container's root as a detached mount.
pub(super) fn root(rootfs: &Rootfs) -> Result<OwnedFd> {
    match &rootfs.source {
        RootfsSource::Overlay { lower, upper, work, volatile } => {
            overlay::mount(&Layers { lower, upper: Some((upper, work)), volatile: *volatile })
        }
        RootfsSource::Directory { path } => {
            let root = tree::copy(path, None, false)?;
            tree::make_private(&root, false)?;
            Ok(root)
        }
    }
}

/// What the descriptors of a container's plan are opened for.
pub(super) struct Opening<'a> {
    pub spec: &'a Spec,
    pub root: &'a Arc<OwnedFd>,
    pub user: &'a User,
    pub terminal: Option<&'a Terminal>,
    pub host: &'a Host,
}

impl Opening<'_> {
    /// Opens what `slot` stands for.
    pub(super) fn slot(&self, slot: &Slot) -> Result<Arc<OwnedFd>, LaunchError> {
        let missing = || Error::internal("the plan asks for a descriptor nobody opened");
        Ok(match slot {
            Slot::Rootfs => self.root.clone(),
            Slot::Mount(n) => {
                let mount = self.spec.mounts.get(*n).ok_or_else(missing)?;
                Arc::new(self.source(mount).map_err(kind(LaunchErrorKind::Mount))?)
            }
            Slot::Namespace(join) => Arc::new(namespace(join)?),
            Slot::Devpts => self.terminal.ok_or_else(missing)?.devpts.clone(),
            Slot::Extra(n) => self.spec.process.extra_fds.get(*n).ok_or_else(missing)?.clone(),
            Slot::Init => self.host.init_program.clone().ok_or_else(missing)?,
            Slot::Container => return Err(missing().into()),
        })
    }

    /// A bind or image mount, with its attributes set while nobody sees it yet.
    fn source(&self, mount: &Mount) -> Result<OwnedFd> {
        let (tree, recursive, image) = match &mount.source {
            MountSource::Bind { path, subpath, recursive, owners } => {
                let tree = tree::copy(path, subpath.as_deref(), *recursive).map_err(|e| bind_failed(mount, path, e))?;
                if let Some(owners) = owners {
                    owners::map(&tree, path, *recursive, owners, self.root.as_fd(), self.user)?;
                }
                (tree, *recursive, false)
            }
            MountSource::Container { process, path } => (other_container(process, path)?, false, false),
            MountSource::Image { layers, subpath } => (tree::image(layers, subpath.as_deref())?, false, true),
            MountSource::Overlay { lower, upper, work } => {
                // What is written here is thrown away: it need never reach a disk.
                (overlay::mount(&Layers { lower, upper: Some((upper, work)), volatile: true })?, false, false)
            }
            _ => return Err(Error::internal("a mount without a source on the host")),
        };
        if self.host.features.mount_setattr {
            set_options(&tree, mount, recursive, image)?;
        }
        Ok(tree)
    }
}

fn set_options(tree: &OwnedFd, mount: &Mount, recursive: bool, image: bool) -> Result<()> {
    let attrs = u64::from(plan::mount_attrs(&mount.options));
    let readonly_below = recursive && matches!(mount.options.readonly, ReadOnly::Yes | ReadOnly::Recursive);
    let set = |attrs, propagation, recursive| {
        mount_setattr(tree.as_fd(), attrs, propagation, recursive)
            .map_err(|e| Error::internal(format!("set the options of the mount on {}", mount.target)).with_source(e))
    };
    let propagation = plan::mount_propagation(mount.options.propagation);
    let below = propagation & barque_sys::mount::MS_REC != 0;
    set(0, u64::from(propagation & !barque_sys::mount::MS_REC), below)?;
    let attrs = if image { attrs | u64::from(barque_sys::mount::MOUNT_ATTR_RDONLY) } else { attrs };
    if attrs != 0 {
        set(attrs, 0, false)?;
    }
    if readonly_below {
        match set(u64::from(barque_sys::mount::MOUNT_ATTR_RDONLY), 0, true) {
            Err(_) if mount.options.readonly == ReadOnly::Yes => {}
            other => other?,
        }
    }
    Ok(())
}

/// A detached copy of a mount in another container. Its path is resolved there, without following links.
fn other_container(process: &ProcessFd, path: &Path) -> Result<OwnedFd> {
    let clone = || {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let place = rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve)?;
        Ok(open_tree(&place, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH)?)
    };
    barque_sys::mount::in_mounts_of(process.0.as_fd(), clone)
        .with_context(|| format!("share {} of another container", path.display()))
}

fn bind_failed(mount: &Mount, path: &Path, e: Error) -> Error {
    if path.symlink_metadata().is_err() {
        return Error::invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            path.display()
        ));
    }
    e.context(format!("error mounting \"{}\" to rootfs at \"{}\"", path.display(), mount.target))
}

/// Opens a namespace to join. A pidfd stands for all namespaces of its process.
pub(super) fn namespace(join: &Join) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match join {
        Join::Fd(fd) => fd.try_clone().context("duplicate a namespace descriptor"),
        Join::Path(path) => rustix::fs::open(path.as_path(), flags, Mode::empty())
            .with_context(|| format!("open namespace {}", path.display())),
        Join::Pid(pid) => {
            let pid = rustix::process::Pid::from_raw(*pid).ok_or_else(|| Error::invalid("no such process"))?;
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
                .with_context(|| format!("join the namespace of process {pid:?}"))
        }
    }
}

/// A terminal for a container, in a devpts instance made for it.
pub(super) struct Terminal {
    pub devpts: Arc<OwnedFd>,
    pub master: OwnedFd,
}

impl Terminal {
    pub(super) fn open(process: &Process) -> Result<Terminal> {
        let make = || -> rustix::io::Result<OwnedFd> {
            let fs = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(fs.as_fd(), "source", "devpts")?;
            for (key, value) in plan::DEVPTS_OPTIONS {
                fsconfig_set_string(fs.as_fd(), key, value)?;
            }
            fsconfig_create(fs.as_fd())?;
            let attrs = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attrs)
        };
        let devpts = make().context("mount devpts for the terminal")?;
        let master = pty::open_master(&devpts).context("open a terminal")?;
        set_size(&master, process);
        Ok(Terminal { devpts: Arc::new(devpts), master })
    }
}

fn set_size(master: &OwnedFd, process: &Process) {
    if let Some((rows, cols)) = process.console_size {
        // A terminal of size zero is worse than none, but no reason to fail.
        let _ = pty::set_size(master, rows, cols);
    }
}

/// A terminal in the container's own devpts, so that its name exists there; where the container has none (or
/// something else in its place) in an instance of its own.
pub(super) fn exec_terminal(root: &OwnedFd, process: &Process) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let devpts = rustix::fs::openat2(root, "dev/pts", flags, Mode::empty(), resolve);
    let real = devpts.ok().filter(|d| rustix::fs::fstatfs(d).is_ok_and(|s| s.f_type == DEVPTS_MAGIC));
    if let Some(master) = real.and_then(|devpts| open_ptmx(&devpts)) {
        set_size(&master, process);
        return Ok(master);
    }
    Ok(Terminal::open(process)?.master)
}

/// A new terminal of the instance, if its entry `ptmx` is the device itself and nothing mounted over it.
fn open_ptmx(devpts: &OwnedFd) -> Option<OwnedFd> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let master = rustix::fs::openat2(devpts, "ptmx", flags, Mode::empty(), resolve).ok()?;
    let stat = rustix::fs::fstat(&master).ok()?;
    let is_char = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_char || stat.st_rdev != rustix::fs::makedev(5, 2) {
        return None;
    }
    rustix::pty::unlockpt(&master).ok().map(|()| master)
}

/// The directories of the cgroups a further process enters. On v2 the group its first process is in: one that
/// has passed its controllers on to groups below may not have processes itself.
pub(super) fn exec_groups(container: &Task) -> Result<Vec<OwnedFd>> {
    let group = container.group();
    let mut dirs = Vec::with_capacity(group.dirs.len());
    for dir in &group.dirs {
        let path = if group.v2 { present_group(container, &dir.path) } else { dir.path.clone() };
        dirs.push(crate::cgroup::dir::open(&path).map_err(|e| match e {
            Errno::NOENT => Error::conflict("the container is not running"),
            e => Error::internal(format!("open cgroup {}", path.display())).with_source(e),
        })?);
    }
    Ok(dirs)
}

fn present_group(container: &Task, own: &Path) -> std::path::PathBuf {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap_or_default();
    let path = text.lines().find_map(|l| l.strip_prefix("0::"));
    // Seen from the host's root; only what lies below the container's own group is believed.
    let below = path.and_then(|p| p.rsplit_once(&format!("/{}/", own.file_name()?.to_str()?)));
    match below {
        Some((_, rest)) if !rest.split('/').any(|c| c == "..") => own.join(rest),
        _ => own.to_path_buf(),
    }
}

/// Directory and name of a log.
pub(super) fn log_place(log: &LogConfig) -> Result<(OwnedFd, String)> {
    let (Some(dir), Some(name)) = (log.path.parent(), log.path.file_name().and_then(|n| n.to_str())) else {
        return Err(Error::invalid(format!("invalid log path {}", log.path.display())));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(dir, flags, Mode::empty());
    Ok((opened.with_context(|| format!("open the log's directory {}", dir.display()))?, name.to_owned()))
}
