//! The small single-threaded process all monitors are forked from.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use barque_model::{Context, Error, Result};
use barque_sys::child::FileKey;
use barque_sys::process::{self, ArgumentArea};
use barque_sys::{fdpass, mount};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::cgroup::{Layout, dir, parent};
use crate::error::LaunchError;
use crate::launch;
use crate::monitor::{self, Inherited};
use crate::seccomp;
use crate::spec::{ExecSpec, Spec};
use crate::task::{Attachment, Task};

/// A handle to the spawner process. It ends when the last handle of the daemon is closed, as when the
/// daemon dies; the monitors it has forked live on.
#[derive(Debug)]
pub struct Spawner {
    control: OwnedFd,
    host: Host,
}

/// What this machine is like, found out once.
#[derive(Debug)]
pub(crate) struct Host {
    pub layout: Layout,
    pub features: Features,
    /// Capabilities this process may pass on.
    pub caps: u64,
    /// The host's procfs.
    pub proc: Arc<OwnedFd>,
    pub seccomp: seccomp::Cache,
    /// The program of inits, as a mount that nobody can write to.
    pub init_program: Option<Arc<OwnedFd>>,
}

/// Kernel features with a way around them; a test may switch them off.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// mount_setattr(2), kernel 5.12.
    pub mount_setattr: bool,
    pub apparmor: bool,
}

impl Features {
    pub fn detect() -> Features {
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        Features { mount_setattr: mount::has_mount_setattr(), apparmor: enabled.starts_with('Y') }
    }
}

/// Choices at the start of a spawner.
#[derive(Clone, Debug, Default)]
pub struct SpawnerOptions {
    /// Fork although the process has further threads. The child then inherits whatever locks they hold:
    /// for tests only, whose harness cannot avoid a second thread.
    pub allow_threads: bool,
    /// Use these hierarchies instead of those the machine seems to want.
    pub layout: Option<Layout>,
    pub features: Option<Features>,
    /// This program can be a container's init ([`barque_sys::init::run`]).
    pub is_init: bool,
}

impl Spawner {
    /// Forks the spawner. Call it before any thread is started (so before tokio); it is an error otherwise.
    pub fn start() -> Result<Spawner> {
        Spawner::start_with(SpawnerOptions::default())
    }

    pub fn start_with(options: SpawnerOptions) -> Result<Spawner> {
        let threads = process::thread_count().context("count the threads of this process")?;
        if threads != 1 && !options.allow_threads {
            return Err(Error::internal(format!("the spawner must be started before any thread: there are {threads}")));
        }
        let host = Host::detect(&options)?;
        let inherited =
            Inherited { own_program: FileKey::of_own_program().unwrap_or_default(), arguments: ArgumentArea::find() };
        let groups = monitors_group(&host.layout);
        let (control, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context("socketpair")?;
        let control_raw = control.as_raw_fd();
        // Moved into the child, so that only the spawner holds its end.
        process::fork(move || {
            // The daemon's end must not be held open here, or its death would not be noticed.
            if let Ok(end) = process::adopt(control_raw) {
                drop(end);
            }
            main(&theirs, &groups, inherited)
        })
        .context("fork the spawner")?;
        let mut ready = [0];
        match fdpass::receive(&control, &mut ready, &mut Vec::new()) {
            Ok(1) if ready[0] == READY => Ok(Spawner { control, host }),
            Ok(1) => Err(Error::internal("the spawner could not make a mount namespace of its own")
                .with_source(std::io::Error::from_raw_os_error(i32::from(ready[0])))
                .with_hint("the engine must run as root (with CAP_SYS_ADMIN)")),
            _ => Err(Error::internal("the spawner died at its start")),
        }
    }

    /// Starts a container. Returns once its program has been executed, or with the reason why not.
    /// `attach`: sockets that carry the standard streams from the first byte on; see [`crate::Attach`].
    /// Waits for a former monitor of the same `run_dir` to be gone.
    pub fn launch(&self, spec: &Spec, attach: Vec<Attachment>) -> Result<Task, LaunchError> {
        launch::container(self, spec, attach)
    }

    /// Starts a further process in the running container `container`.
    pub fn exec(&self, container: &Task, spec: &ExecSpec, attach: Vec<Attachment>) -> Result<Task, LaunchError> {
        launch::exec(self, container, spec, attach)
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// A connection to a new monitor.
    pub(crate) fn monitor(&self) -> Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair().context("socketpair")?;
        fdpass::send(&self.control, &[FORK], &[theirs.as_fd()]).map_err(|e| {
            Error::unavailable("the spawner process has died").with_source(e).with_hint("restart the engine")
        })?;
        Ok(ours)
    }
}

impl Host {
    fn detect(options: &SpawnerOptions) -> Result<Host> {
        let layout = match &options.layout {
            Some(layout) => layout.clone(),
            None => Layout::detect()?,
        };
        let caps = rustix::thread::capabilities(None).context("read capabilities")?.permitted.bits();
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, rustix::fs::Mode::empty()).context("open /proc")?;
        let magic = rustix::fs::fstatfs(&proc).context("statfs /proc")?.f_type;
        if magic != rustix::fs::PROC_SUPER_MAGIC {
            return Err(Error::unavailable("/proc is not a proc file system").with_hint("mount -t proc proc /proc"));
        }
        let features = options.features.unwrap_or_else(Features::detect);
        let init_program = if options.is_init && features.mount_setattr { own_program() } else { None };
        Ok(Host { layout, features, caps, proc: Arc::new(proc), seccomp: seccomp::Cache::default(), init_program })
    }
}

/// This program as a detached mount of its one file. None where it cannot be had: inits do without.
fn own_program() -> Option<Arc<OwnedFd>> {
    let mount = open_tree(rustix::fs::CWD, "/proc/self/exe", crate::tree::CLONE).ok()?;
    let attrs =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    mount::mount_setattr(mount.as_fd(), u64::from(attrs.bits()), 0, false).ok()?;
    Some(Arc::new(mount))
}

/// Name of the monitors' group beside those of the containers.
const MONITORS: &str = "monitors";

/// Messages on the control socket.
const FORK: u8 = b'f';
const READY: u8 = 0;

/// The spawner process: forks a monitor for each socket it is sent, until the daemon is gone.
///
/// It is told of the daemon's death by the end of the control socket, not by PR_SET_PDEATHSIG, which would
/// fire when merely the thread ends that had called `start`.
fn main(control: &OwnedFd, groups: &[OwnedFd], inherited: Inherited) -> i32 {
    for entry in groups {
        // Where it may not, it stays with the daemon.
        let _ = rustix::io::write(entry, b"0");
    }
    let _ = process::setsid();
    process::reset_signals();
    process::close_others(&[control.as_raw_fd()]);
    if process::detach_stdio().is_err() {
        return 1;
    }
    process::set_title(c"barque-spawner", "barque-spawner", inherited.arguments);
    process::ignore_children();
    let entered = own_mount_namespace();
    let errno = entered.map_err(|e| e.raw_os_error()).err().unwrap_or(0);
    if fdpass::send(control, &[u8::try_from(errno).unwrap_or(u8::MAX)], &[]).is_err() || errno != 0 {
        return 1;
    }
    loop {
        let (mut message, mut fds) = ([0], Vec::new());
        match fdpass::receive(control, &mut message, &mut fds) {
            Ok(0) | Err(_) => return 0,
            Ok(_) => {}
        }
        if message[0] != FORK {
            continue;
        }
        for connection in fds {
            // A failed fork shows as the end of the connection.
            let _ = fork_monitor(control.as_fd(), connection, inherited);
        }
    }
}

/// Entry files of the group the spawner and all monitors are to be in. Outside of the daemon's own: a service
/// manager that stops the daemon with all of its group must not take the containers along.
fn monitors_group(layout: &Layout) -> Vec<OwnedFd> {
    let Ok(prepared) = parent::prepare(layout, layout.default_parent()) else { return Vec::new() };
    let mut entries = Vec::new();
    for parent in &prepared.parents {
        let Ok(group) = dir::create(&parent.dir, MONITORS) else { continue };
        for write in prepared.writes.iter().filter(|w| parent.controllers.iter().any(|c| c == w.controller)) {
            let _ = dir::write(&group, &write.file, &write.value);
        }
        let file = if layout.is_v2() { "cgroup.procs" } else { "tasks" };
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        entries.extend(rustix::fs::openat(&group, file, flags, rustix::fs::Mode::empty()));
    }
    entries
}

fn fork_monitor(control: BorrowedFd<'_>, connection: OwnedFd, inherited: Inherited) -> std::io::Result<()> {
    let control = control.as_raw_fd();
    process::fork(move || {
        if let Ok(end) = process::adopt(control) {
            drop(end);
        }
        process::reap_children();
        monitor::serve(connection, inherited)
    })?;
    Ok(())
}

/// A mount namespace with one empty mount: copying it for a container and tearing the copy down costs next to
/// nothing, and nothing of the host lies beneath a container's root. Everything that must be reached of the
/// host's files (layers, binds, logs, cgroups) comes from the daemon as a descriptor.
fn own_mount_namespace() -> rustix::io::Result<()> {
    process::unshare_mounts()?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("source", "barque"), ("size", "4k"), ("nr_inodes", "2"), ("mode", "0555")] {
        fsconfig_set_string(fs.as_fd(), key, value)?;
    }
    fsconfig_create(fs.as_fd())?;
    let attrs = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attrs)?;
    move_mount(&root, "", rustix::fs::CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}
