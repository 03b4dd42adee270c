//! The child of a monitor on its way to `execve`: an interpreter over decoded [`Op`]s.
//!
//! Between `clone3` and `execve` nothing here allocates, locks or panics; there are system calls and
//! arithmetic only. A failure is written as (operation, step, errno) to a pipe that closes on exec, so that
//! the other side can name it in words; the end of the pipe without a failure means success.

mod exec;
mod files;
mod identity;
pub(crate) mod init;
mod mounts;
pub mod op;
mod path;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

pub use op::{Identity, LateAttrs, NO_SLOT, Op, Pointers, SockFilter};

/// What part of an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The operation's one system call.
    Call = 0,
    /// Opening or creating the mount point or file.
    Target = 1,
    /// `fsopen`: the kernel has no such file system.
    FsType = 2,
    /// A file-system option.
    Option = 3,
    /// Making the file system.
    Create = 4,
    /// Putting the mount in its place.
    Place = 5,
    /// Setting mount attributes or propagation.
    Attributes = 6,
    /// The part of the file system to be shown.
    Subpath = 7,
    /// No such program in any directory of `PATH`.
    NotInPath = 8,
    /// The program given by its path cannot be found.
    Stat = 9,
    /// The program is there but may not be executed.
    Denied = 10,
    /// The program is a directory.
    IsDirectory = 11,
    /// `execve` itself.
    Exec = 12,
    /// Bounding set.
    Bounding = 13,
    /// User, group or additional groups.
    Ids = 14,
    /// Capability sets.
    Caps = 15,
    /// The controlling terminal.
    Terminal = 16,
}

impl Step {
    pub fn from_u8(v: u8) -> Option<Step> {
        use Step::*;
        let all = [
            Call,
            Target,
            FsType,
            Option,
            Create,
            Place,
            Attributes,
            Subpath,
            NotInPath,
            Stat,
            Denied,
            IsDirectory,
            Exec,
            Bounding,
            Ids,
            Caps,
            Terminal,
        ];
        all.into_iter().find(|s| *s as u8 == v)
    }
}

/// What a child says on its pipe: a failure (then it ends) or a warning (then it goes on).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub fatal: bool,
    /// Index of the operation in the plan.
    pub op: u16,
    pub step: u8,
    pub errno: i32,
}

impl Report {
    pub const LEN: usize = 8;

    pub fn to_bytes(self) -> [u8; Report::LEN] {
        let (op, e) = (self.op.to_le_bytes(), self.errno.to_le_bytes());
        [u8::from(self.fatal), self.step, op[0], op[1], e[0], e[1], e[2], e[3]]
    }

    pub fn from_bytes(b: [u8; Report::LEN]) -> Report {
        Report {
            fatal: b[0] != 0,
            step: b[1],
            op: u16::from_le_bytes([b[2], b[3]]),
            errno: i32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }
}

/// A file as `statx` tells it apart; the mount counts, so that a bind of the same file is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileKey {
    pub dev_major: u32,
    pub dev_minor: u32,
    pub ino: u64,
    pub mount: u64,
}

impl FileKey {
    /// The key of this process's own program; needs `/proc`.
    pub fn of_own_program() -> io::Result<FileKey> {
        Ok(files::key_of(rustix::fs::CWD, c"/proc/self/exe")?)
    }
}

/// What a child works on.
#[derive(Debug)]
pub struct Context<'a> {
    pub ops: &'a [Op<'a>],
    /// Descriptors by slot.
    pub fds: &'a [RawFd],
    /// The host's procfs.
    pub proc: RawFd,
    /// Streams of the task; with a terminal its slave three times.
    pub stdio: [RawFd; 3],
    /// Where to report.
    pub report: RawFd,
    /// Never executed inside a container.
    pub own_program: FileKey,
    /// Where an init writes what it is called.
    pub arguments: Option<crate::process::ArgumentArea>,
}

/// How to clone.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneOptions {
    /// `CLONE_NEW*` kinds.
    pub namespaces: u32,
    /// Directory of a cgroup v2 group to be born in.
    pub cgroup: Option<RawFd>,
}

/// A child that has begun to execute its plan.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Clones a child that executes `ctx`. It shares nothing with the caller but the descriptors; it never returns
/// from the plan.
pub fn spawn(ctx: &Context<'_>, options: CloneOptions) -> io::Result<Child> {
    // SAFETY: `run` makes system calls only.
    unsafe { clone(options, || run(ctx)) }
}

/// Clones a child into namespaces of its own (`CLONE_NEW*`) that does nothing until nobody has the write end `hold`
/// of its pipe any more, then ends. So it does not outlive the caller.
pub(crate) fn spawn_waiting(pipe: &OwnedFd, hold: BorrowedFd<'_>, namespaces: u32) -> io::Result<Child> {
    let wait = || {
        // SAFETY: the child's own copy of the descriptor, which it uses no more.
        unsafe { libc::close(hold.as_raw_fd()) };
        while rustix::io::read(pipe, &mut [0u8; 1]) == Err(Errno::INTR) {}
    };
    // SAFETY: `wait` makes system calls only.
    unsafe { clone(CloneOptions { namespaces, cgroup: None }, wait) }
}

/// Clones a child that does `work` and ends.
///
/// # Safety
/// The caller may have threads: `work` must not allocate or take a lock.
unsafe fn clone(options: CloneOptions, work: impl FnOnce()) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: libc::CLONE_PIDFD as u64 | u64::from(options.namespaces),
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = options.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup as u64;
    }
    // SAFETY: without CLONE_VM and a stack of its own the child runs on a copy of this address space, like
    // after fork(2); it only executes `work`.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        0 => {
            work();
            exit(0)
        }
        p if p > 0 => {
            // SAFETY: the kernel has just stored a new descriptor here, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: p as i32, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args`, linux/sched.h.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A failed step.
#[derive(Clone, Copy, Debug)]
struct Failure(Step, Errno);

type Done<T = ()> = Result<T, Failure>;

trait At<T> {
    fn at(self, step: Step) -> Done<T>;
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, step: Step) -> Done<T> {
        self.map_err(|e| Failure(step, e))
    }
}

/// Borrows a descriptor the context vouches for.
fn borrow(fd: RawFd) -> Option<BorrowedFd<'static>> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the descriptor is not -1 and stays open until execve: the child never closes what it was given.
    Some(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// What the interpreter carries from one operation to the next.
struct Interpreter<'a> {
    ctx: &'a Context<'a>,
    report: RawFd,
    root: RawFd,
    op: u16,
    /// An empty read-only file system over the first masked directory, to be cloned for the others.
    empty: Option<OwnedFd>,
    /// Path of the program, found by `Lookup`.
    program: path::PathBuffer,
    /// The program that an init becomes; closed on exec.
    init: RawFd,
}

fn run(ctx: &Context<'_>) -> ! {
    let mut interpreter = Interpreter {
        ctx,
        report: ctx.report,
        root: -1,
        op: 0,
        empty: None,
        program: path::PathBuffer::new(),
        init: -1,
    };
    // Neither readable nor traceable from inside the container before execve.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    exec::reset_signals();
    for (i, op) in ctx.ops.iter().enumerate() {
        interpreter.op = i as u16;
        if let Err(Failure(step, errno)) = interpreter.execute(op) {
            interpreter.say(true, step, errno);
            exit(127);
        }
    }
    // A plan without Exec: nothing more to do.
    exit(0)
}

/// Ends the process without running anything of the C library.
fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

impl Interpreter<'_> {
    fn say(&self, fatal: bool, step: Step, errno: Errno) {
        let report = Report { fatal, op: self.op, step: step as u8, errno: errno.raw_os_error() };
        if let Some(fd) = borrow(self.report) {
            let _ = rustix::io::write(fd, &report.to_bytes());
        }
    }

    fn slot(&self, slot: u16) -> Done<BorrowedFd<'static>> {
        self.ctx.fds.get(usize::from(slot)).and_then(|fd| borrow(*fd)).ok_or(Failure(Step::Call, Errno::BADF))
    }

    fn root(&self) -> Done<BorrowedFd<'static>> {
        borrow(self.root).ok_or(Failure(Step::Call, Errno::BADF))
    }

    fn proc(&self) -> Done<BorrowedFd<'static>> {
        borrow(self.ctx.proc).ok_or(Failure(Step::Call, Errno::BADF))
    }

    fn execute(&mut self, op: &Op<'_>) -> Done {
        match op {
            Op::JoinCgroup { slot } => identity::join_cgroup(self.slot(*slot)?),
            Op::SetNs { slot, kinds } => identity::set_namespaces(self.slot(*slot)?.as_raw_fd(), *kinds),
            Op::Unshare { kinds } => identity::unshare(*kinds),
            Op::Hostname(name) => rustix::system::sethostname(name.to_bytes()).at(Step::Call),
            Op::Domainname(name) => rustix::system::setdomainname(name.to_bytes()).at(Step::Call),
            Op::LoopbackUp => identity::loopback_up(),
            Op::SessionKeyring(name) => self.session_keyring(name),
            Op::SwitchRoot { slot } => self.switch_root(*slot),
            Op::AdoptRoot => self.adopt_root(),
            Op::Mount { fs, options, subpath, attrs, target } => self.mount(fs, options, subpath, *attrs, target),
            Op::Attach { slot, target, late } => self.attach(*slot, target, *late),
            Op::Mkdir { path, mode } => self.mkdir(path, *mode),
            Op::Symlink { to, path } => self.symlink(to, path),
            Op::Node { path, mode, major, minor, uid, gid } => {
                self.node(path, *mode, rustix::fs::makedev(*major, *minor), *uid, *gid)
            }
            Op::SetAttrs { path, attrs } => self.set_attrs_of(path, *attrs),
            Op::RootPropagation { flags } => self.propagation(self.root()?, *flags),
            Op::Mask(path) => self.mask(path),
            Op::ReadonlyPath(path) => self.readonly_path(path),
            Op::ProcWrite { path, value, optional } => self.proc_write(path, value, *optional),
            Op::Rlimit { resource, soft, hard } => self.rlimit(*resource, *soft, *hard),
            Op::Console => self.console(),
            Op::Stdio { tty, owner, extra } => self.stdio(*tty, *owner, extra),
            Op::Cwd { path, create } => self.cwd(path, *create),
            Op::Umask(mask) => {
                rustix::process::umask(rustix::fs::Mode::from_raw_mode(*mask));
                Ok(())
            }
            Op::Identity(id) => identity::become_user(id),
            Op::NoNewPrivs => rustix::thread::set_no_new_privs(true).at(Step::Call),
            Op::Seccomp(filter) => crate::seccomp::install(filter).at(Step::Call),
            Op::DieWithParent => {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).at(Step::Call)
            }
            Op::Lookup { name, path } => self.lookup(name, path),
            Op::Init { exe: _, argv } => self.init(argv),
            Op::Exec { argv, envp } => self.exec(argv, envp),
        }
    }
}
