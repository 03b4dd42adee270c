//! Signals, standard streams, finding the program and executing it.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::files::key_of;
use super::path::PathBuffer;
use super::{At, Done, Failure, Interpreter, Pointers, Step};
use crate::mount::last_errno;

/// Signals of Linux are 1 to 64.
const SIGNALS: std::ops::RangeInclusive<libc::c_int> = 1..=64;

/// `struct sigaction` of the kernel (not the C library's).
#[repr(C)]
struct KernelSigaction {
    handler: usize,
    flags: libc::c_ulong,
    restorer: usize,
    mask: u64,
}

/// Default dispositions and an empty mask: ignored signals and masks would survive execve.
pub(super) fn reset_signals() {
    let default = KernelSigaction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    for signal in SIGNALS {
        // SAFETY: the kernel reads one action with a mask of 8 bytes. Fails for SIGKILL and SIGSTOP, rightly.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, std::ptr::null::<u8>(), 8usize);
        }
    }
    set_mask(0);
}

/// Sets the mask of blocked signals: bit n-1 is signal n.
pub(super) fn set_mask(mask: u64) {
    // SAFETY: the kernel reads 8 bytes.
    unsafe {
        let none = std::ptr::null::<u8>();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, none, 8usize);
    }
}

fn duplicate(from: RawFd, to: RawFd, flags: libc::c_int) -> rustix::io::Result<()> {
    // SAFETY: integers only. Closes `to` if open: the caller has moved what is needed out of the way.
    let r = unsafe { libc::dup3(from, to, flags) };
    if r < 0 { Err(last_errno()) } else { Ok(()) }
}

/// A copy of `fd` numbered `min` or above, closed on exec.
fn move_up(fd: RawFd, min: RawFd) -> rustix::io::Result<RawFd> {
    // SAFETY: integers only.
    let r = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, min) };
    if r < 0 { Err(last_errno()) } else { Ok(r) }
}

impl Interpreter<'_> {
    /// A new session with the task's streams as descriptors 0 to 2 and further ones from 3 on. Everything else
    /// but the report pipe, the container's root and an init's program (a read-only mount of that one file) is closed
    /// now, not at exec: a program named by a link through `/proc/self/fd` must not find a way out of the container
    /// (CVE-2024-21626).
    /// The streams get the user as owner, so that it can open `/dev/stdout` anew.
    /// None of the context's descriptors may lie where these go.
    pub(super) fn stdio(&mut self, tty: bool, owner: u32, extra: &[u16]) -> Done {
        // SAFETY: no arguments. Fails for a group leader, which a fresh child is not.
        unsafe { libc::setsid() };
        let first_free = 3 + extra.len() as RawFd;
        let (report, root, init) = (first_free, first_free + 1, first_free + 2);
        // Out of the way of where they are to go, then there.
        let moved = [self.report, self.root].map(|fd| move_up(fd, first_free + 3));
        let program = self.init_program().map(|fd| move_up(fd, first_free + 3));
        for (i, slot) in extra.iter().enumerate() {
            duplicate(self.slot(*slot)?.as_raw_fd(), 3 + i as RawFd, 0).at(Step::Call)?;
        }
        for (to, stream) in (0..).zip(self.ctx.stdio) {
            duplicate(stream, to, 0).at(Step::Call)?;
            own(to, owner);
        }
        for (from, to) in moved.into_iter().zip([report, root]) {
            duplicate(from.at(Step::Call)?, to, libc::O_CLOEXEC).at(Step::Call)?;
        }
        (self.report, self.root, self.empty) = (report, root, None);
        if let Some(program) = program {
            duplicate(program.at(Step::Call)?, init, libc::O_CLOEXEC).at(Step::Call)?;
            self.init = init;
        }
        close_from(first_free + if self.init < 0 { 2 } else { 3 });
        if tty {
            // SAFETY: TIOCSCTTY takes an integer.
            let r = unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
            if r < 0 {
                return Err(Failure(Step::Terminal, last_errno()));
            }
        }
        Ok(())
    }

    /// Go's `exec.LookPath`, whose wording Docker shows: a name with a slash is taken as it is, any other is
    /// looked for in `path`.
    pub(super) fn lookup(&mut self, name: &CStr, path: &CStr) -> Done {
        let bytes = name.to_bytes();
        if bytes.contains(&b'/') {
            self.program = PathBuffer::from(bytes).at(Step::Stat)?;
            return self.executable();
        }
        if bytes.is_empty() {
            return Err(Failure(Step::NotInPath, Errno::NOENT));
        }
        for dir in path.to_bytes().split(|b| *b == b':') {
            let dir = if dir.is_empty() { b".".as_slice() } else { dir };
            let candidate = PathBuffer::from(dir).and_then(|mut p| p.push(bytes).map(|()| p));
            let Ok(candidate) = candidate else { continue };
            self.program = candidate;
            match self.executable() {
                Ok(()) => return Ok(()),
                Err(Failure(Step::Denied, Errno::TXTBSY)) => break,
                Err(_) => {}
            }
        }
        Err(Failure(Step::NotInPath, Errno::NOENT))
    }

    /// Whether `self.program` can be executed by who we are.
    fn executable(&self) -> Done {
        let path = self.program.as_cstr();
        let stat = rustix::fs::stat(path).at(Step::Stat)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(Failure(Step::IsDirectory, Errno::ISDIR));
        }
        match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
            // A seccomp profile may not know faccessat2; real and effective ids are the same here.
            Err(Errno::NOSYS | Errno::PERM) => rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()),
            other => other,
        }
        .at(Step::Denied)?;
        self.not_our_own(path)?;
        self.interpreter_not_our_own(path)
    }

    /// Refuses this engine's own program: executed inside (`/proc/self/exe`), a container could get hold of it
    /// and overwrite it on the host (CVE-2019-5736).
    fn not_our_own(&self, path: &CStr) -> Done {
        let own = self.ctx.own_program;
        match key_of(CWD, path) {
            Ok(key) if key == own && own.ino != 0 => Err(Failure(Step::Denied, Errno::TXTBSY)),
            _ => Ok(()),
        }
    }

    /// The same for the interpreter of a script.
    fn interpreter_not_our_own(&self, path: &CStr) -> Done {
        let mut head = [0u8; 256];
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) else { return Ok(()) };
        let n = rustix::io::read(&file, &mut head).unwrap_or(0);
        let Some(line) = head[..n].strip_prefix(b"#!") else { return Ok(()) };
        let line = line.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii_start();
        let name = line.split(|b| matches!(b, b' ' | b'\t' | 0)).next().unwrap_or_default();
        match PathBuffer::from(name) {
            Ok(interpreter) if !name.is_empty() => self.not_our_own(interpreter.as_cstr()),
            _ => Ok(()),
        }
    }

    pub(super) fn exec(&self, argv: &Pointers<'_>, envp: &Pointers<'_>) -> Done {
        // SAFETY: a C string and two NULL-terminated arrays of C strings, all alive.
        unsafe { libc::execve(self.program.as_cstr().as_ptr(), argv.as_ptr(), envp.as_ptr()) };
        Err(Failure(Step::Exec, last_errno()))
    }
}

/// Makes `uid` the owner of a stream, where it is of a kind that can have one of its own.
fn own(fd: RawFd, uid: u32) {
    let Some(fd) = super::borrow(fd) else { return };
    let Ok(stat) = rustix::fs::fstat(fd) else { return };
    let shared = stat.st_rdev == rustix::fs::makedev(1, 3);
    if stat.st_uid != uid && !shared {
        let _ = rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None);
    }
}

/// Closes everything from `first` on.
pub(super) fn close_from(first: RawFd) {
    // SAFETY: integers only; nothing in this process uses these descriptors any more.
    let r = unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, 0) };
    if r != 0 {
        // Before kernel 5.9. A monitor has some hundred descriptors at most.
        for fd in first..8192 {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}
