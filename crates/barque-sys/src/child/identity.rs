//! Namespaces, cgroups, user and capabilities.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{At, Done, Failure, Identity, Interpreter, Step};
use crate::mount::last_errno;

/// Capabilities the kernel may have; those it lacks answer EINVAL.
const CAPS_MAX: u32 = 64;

fn check(result: libc::c_int) -> rustix::io::Result<()> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// The calling thread enters the group. Unlike a write to `cgroup.procs` this takes no global lock, which after
/// an idle moment would cost an RCU grace period (10 ms).
pub(super) fn join_cgroup(tasks: BorrowedFd<'_>) -> Done {
    rustix::io::write(tasks, b"0").map(drop).at(Step::Call)
}

pub(super) fn set_namespaces(fd: RawFd, kinds: u32) -> Done {
    // SAFETY: setns takes two integers; this process has one thread.
    check(unsafe { libc::setns(fd, kinds as libc::c_int) }).at(Step::Call)
}

pub(super) fn unshare(kinds: u32) -> Done {
    // SAFETY: unshare takes an integer; this process has one thread.
    check(unsafe { libc::unshare(kinds as libc::c_int) }).at(Step::Call)
}

pub(super) fn loopback_up() -> Done {
    // SAFETY: plain integers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(socket).at(Step::Call)?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq.
    let result = check(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) });
    // SAFETY: the socket was opened above and is not used any more.
    unsafe { libc::close(socket) };
    result.at(Step::Call)
}

pub(super) fn become_user(id: &Identity) -> Done {
    for cap in (0..CAPS_MAX).filter(|c| id.bounding & (1 << c) == 0) {
        // SAFETY: integers only.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(cap), 0, 0, 0) }) {
            Ok(()) => {}
            // The first number this kernel does not know.
            Err(Errno::INVAL) => break,
            Err(e) => return Err(Failure(Step::Bounding, e)),
        }
    }
    rustix::thread::set_keep_capabilities(true).at(Step::Ids)?;
    // Raw calls: the C library's would signal all threads of a process, which here is another address space's.
    // SAFETY: the kernel reads `groups.len()` ids.
    let r = unsafe { libc::syscall(libc::SYS_setgroups, id.groups.len(), id.groups.as_ptr()) };
    check(r as libc::c_int).at(Step::Ids)?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, id.gid, id.gid, id.gid) } as libc::c_int).at(Step::Ids)?;
    // SAFETY: integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, id.uid, id.uid, id.uid) } as libc::c_int).at(Step::Ids)?;
    rustix::thread::set_keep_capabilities(false).at(Step::Ids)?;
    let set = CapabilitySet::from_bits_retain;
    let sets =
        CapabilitySets { effective: set(id.effective), permitted: set(id.permitted), inheritable: set(id.inheritable) };
    rustix::thread::set_capabilities(None, sets).at(Step::Caps)?;
    ambient(id.ambient).at(Step::Caps)
}

fn ambient(caps: u64) -> rustix::io::Result<()> {
    let call = |operation: libc::c_int, cap: u32| {
        // SAFETY: integers only.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, operation, libc::c_ulong::from(cap), 0, 0) })
    };
    call(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    (0..CAPS_MAX).filter(|c| caps & (1 << c) != 0).try_for_each(|c| call(libc::PR_CAP_AMBIENT_RAISE, c))
}

impl Interpreter<'_> {
    /// A kernel without keys needs none; one whose quota is used up is a warning.
    pub(super) fn session_keyring(&self, name: &CStr) -> Done {
        const JOIN_SESSION_KEYRING: libc::c_long = 1;
        // SAFETY: an integer and a C string.
        let r = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name.as_ptr()) };
        if r < 0 && last_errno() != Errno::NOSYS {
            self.say(false, Step::Call, last_errno());
        }
        Ok(())
    }

    /// Sets a limit; where the hard one may not be raised it stays, with a warning.
    pub(super) fn rlimit(&self, resource: u32, soft: u64, hard: u64) -> Done {
        let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
        let new = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
        let set = |new: *const libc::rlimit64, old: *mut libc::rlimit64| {
            // SAFETY: both pointers are null or point to a limit that outlives the call.
            check(unsafe { libc::prlimit64(0, resource as _, new, old) })
        };
        match set(&raw const new, std::ptr::null_mut()) {
            Err(Errno::PERM) => {
                set(std::ptr::null(), &raw mut old).at(Step::Call)?;
                let hard = hard.min(old.rlim_max);
                let kept = libc::rlimit64 { rlim_cur: soft.min(hard), rlim_max: hard };
                set(&raw const kept, std::ptr::null_mut()).at(Step::Call)?;
                self.say(false, Step::Call, Errno::PERM);
                Ok(())
            }
            other => other.at(Step::Call),
        }
    }
}
