//! Process 1 of a container with `--init`: forwards signals to its one child, reaps everything, ends as the
//! child ended. Runs in the cloned child itself, still without allocating.

use rustix::io::Errno;

use super::exec::set_mask;
use super::{Done, Failure, Interpreter, Op, Step, exit};
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

impl Interpreter<'_> {
    /// Forks: the parent stays as init, the child goes on with the plan.
    pub(super) fn init(&mut self) -> Done {
        let mask = KEPT.iter().fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)));
        set_mask(mask);
        // SAFETY: this process has one thread and goes on with system calls only, in both processes.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as libc::pid_t;
        match pid {
            0 => {
                lead_terminal();
                set_mask(0);
                Ok(())
            }
            p if p > 0 => self.reap(p, mask),
            _ => Err(Failure(Step::Call, last_errno())),
        }
    }

    /// Is shown as Docker's init is: `/sbin/docker-init -- COMMAND`.
    fn call_itself(&self) {
        let _ = rustix::thread::set_name(c"docker-init");
        let command = self.ctx.ops.iter().find_map(|op| if let Op::Exec { argv, .. } = op { Some(argv) } else { None });
        if let (Some(area), Some(argv)) = (self.ctx.arguments, command) {
            let program = [c"/sbin/docker-init", c"--"];
            area.write(program.into_iter().chain(argv.iter()).map(std::ffi::CStr::to_bytes));
        }
    }

    fn reap(&self, child: libc::pid_t, mask: u64) -> ! {
        self.call_itself();
        // The report pipe among them: its end tells that the child has executed its program.
        // SAFETY: closes descriptors this process does not use any more.
        unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, 0) };
        loop {
            let signal = wait_signal(mask);
            if signal == libc::SIGCHLD {
                if let Some(code) = reap_all(child) {
                    exit(code);
                }
            } else if signal > 0 {
                // SAFETY: integers only. An error means the child has just ended.
                unsafe { libc::kill(child, signal) };
            }
        }
    }
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

/// Reaps all that ended; the exit code of `child` if it was among them.
fn reap_all(child: libc::pid_t) -> Option<i32> {
    let mut code = None;
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match pid {
            0 => return code,
            p if p < 0 && last_errno() == Errno::INTR => {}
            p if p < 0 => return code,
            p if p == child => {
                code = Some(if libc::WIFSIGNALED(status) {
                    128 + libc::WTERMSIG(status)
                } else {
                    libc::WEXITSTATUS(status)
                });
            }
            _ => {}
        }
    }
}
