//! Process 1 of a container with `--init`: forwards signals to its one child, reaps everything, ends as the
//! child ended.
//!
//! It executes a read-only mount of this program ([`crate::init`]): others in the container may then look at
//! `/proc/1/fd`, as they may with Docker's, and find no way to change a file of the host. Where that is not to be had
//! the cloned child itself goes on as init, still without allocating.

use std::os::fd::RawFd;

use rustix::io::Errno;

use super::exec::{close_from, set_mask};
use super::{Done, Failure, Interpreter, NO_SLOT, Op, Pointers, Step, exit};
use crate::mount::last_errno;

/// Signals that mean an error of our own or must stay as they are; all others are blocked and forwarded.
const KEPT: [libc::c_int; 8] = [
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGKILL,
];

/// Where an init finds the pidfd of its child.
const CHILD: RawFd = 3;

impl Interpreter<'_> {
    /// Forks: the parent becomes init, the child goes on with the plan.
    pub(super) fn init(&mut self, argv: &Pointers<'_>) -> Done {
        set_mask(forwarded());
        // SAFETY: this process has one thread and goes on with system calls only, in both processes.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as libc::pid_t;
        match pid {
            0 => {
                if self.init >= 0 {
                    // SAFETY: integers only; nothing here uses the descriptor any more.
                    unsafe { libc::close(self.init) };
                }
                lead_terminal();
                set_mask(0);
                Ok(())
            }
            p if p > 0 => self.become_init(p, argv),
            _ => Err(Failure(Step::Call, last_errno())),
        }
    }

    /// The program that a plan's init is to be.
    pub(super) fn init_program(&self) -> Option<RawFd> {
        let slot = self.ctx.ops.iter().find_map(|op| if let Op::Init { exe, .. } = op { Some(*exe) } else { None })?;
        if slot == NO_SLOT { None } else { self.ctx.fds.get(usize::from(slot)).copied() }
    }

    fn become_init(&self, child: libc::pid_t, argv: &Pointers<'_>) -> ! {
        // SAFETY: integers only. What was open as the child's number, such as the report pipe, is the child's alone now:
        // its end tells that the child has executed its program.
        let held = unsafe {
            let pidfd = libc::syscall(libc::SYS_pidfd_open, child, 0) as libc::c_int;
            libc::dup2(pidfd, CHILD)
        };
        if held < 0 {
            // Without it nobody could wait for the child.
            exit(127);
        }
        if self.init > CHILD {
            // SAFETY: integers only; these descriptors are not used here any more.
            unsafe {
                libc::syscall(libc::SYS_close_range, CHILD + 1, self.init - 1, 0);
            }
            close_from(self.init + 1);
            let envp =
                self.ctx.ops.iter().find_map(|op| if let Op::Exec { envp, .. } = op { Some(envp) } else { None });
            if let Some(envp) = envp {
                // SAFETY: C strings and NULL-terminated arrays of them, all alive.
                unsafe {
                    let (argv, envp) = (argv.as_ptr(), envp.as_ptr());
                    libc::syscall(libc::SYS_execveat, self.init, c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH);
                }
            }
        }
        close_from(CHILD + 1);
        let _ = rustix::thread::set_name(NAME);
        if let Some(area) = self.ctx.arguments {
            area.write(argv.iter().map(std::ffi::CStr::to_bytes));
        }
        tend()
    }
}

/// What `ps` shows, as of Docker's.
pub(crate) const NAME: &std::ffi::CStr = c"docker-init";

/// Whether there is a child to tend: an init was executed, not just called by that name.
pub(crate) fn has_child() -> bool {
    waited(libc::P_PIDFD, CHILD as libc::id_t, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).is_ok()
}

/// Forwards and reaps until the child ends.
pub(crate) fn tend() -> ! {
    let mask = forwarded();
    set_mask(mask);
    loop {
        // First: it may have ended while this process became another program.
        if let Some(code) = reap_all() {
            exit(code);
        }
        let signal = wait_signal(mask);
        if signal > 0 && signal != libc::SIGCHLD {
            let none = std::ptr::null::<u8>();
            // SAFETY: integers only. An error means the child has just ended.
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, CHILD, signal, none, 0) };
        }
    }
}

fn forwarded() -> u64 {
    KEPT.iter().fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)))
}

/// The child as a process group of its own, in the foreground of the terminal if there is one.
fn lead_terminal() {
    // SAFETY: integers only. SIGTTOU is blocked here, so that tcsetpgrp cannot stop us; without a terminal
    // it fails, which is fine.
    unsafe {
        libc::setpgid(0, 0);
        libc::tcsetpgrp(0, libc::getpid());
    }
}

fn wait_signal(mask: u64) -> libc::c_int {
    let none = std::ptr::null::<u8>();
    // SAFETY: the kernel reads a mask of 8 bytes; no information or time-out is asked for.
    unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, &raw const mask, none, none, 8usize) as libc::c_int }
}

/// waitid(2): the process and the exit code of who ended; process 0 is nobody.
fn waited(kind: libc::idtype_t, id: libc::id_t, options: libc::c_int) -> Result<(libc::pid_t, i32), Errno> {
    loop {
        // SAFETY: all zeros is a valid value; `info` is a place for the result, whose fields the kernel fills in for
        // an ended child.
        let (pid, how, status) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            match libc::waitid(kind, id, &raw mut info, options) {
                0 => (info.si_pid(), info.si_code, info.si_status()),
                _ if last_errno() == Errno::INTR => continue,
                _ => return Err(last_errno()),
            }
        };
        return Ok((pid, if how == libc::CLD_EXITED { status } else { 128 + status }));
    }
}

/// Reaps all that ended; the exit code of the child if it was among them.
fn reap_all() -> Option<i32> {
    let now = libc::WEXITED | libc::WNOHANG;
    loop {
        // Who ended is looked at first, and taken by its number only when it is not the child.
        let ended = waited(libc::P_ALL, 0, now | libc::WNOWAIT);
        match waited(libc::P_PIDFD, CHILD as libc::id_t, now) {
            Ok((0, _)) => {}
            Ok((_, code)) => return Some(code),
            // Taken by somebody else: there is nothing left to wait for.
            Err(_) => return Some(0),
        }
        match ended {
            Ok((pid, _)) if pid > 0 => {
                let _ = waited(libc::P_PID, pid as libc::id_t, now);
            }
            _ => return None,
        }
    }
}
