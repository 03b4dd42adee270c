//! Network namespaces: making one, and doing something inside one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Runs `work` on a fresh thread inside the network namespace `ns`.
///
/// A thread of its own, because a thread that cannot get back to its namespace must not
/// serve anyone else; it ends with the call.
///
/// Errors: `EPERM` without CAP_SYS_ADMIN over the namespace, `EAGAIN` if no thread can be made,
/// `ECANCELED` if `work` panicked.
pub fn inside<T: Send>(ns: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    on_thread(move || {
        move_into_link_name_space(ns, Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

/// Makes a network namespace, runs `prepare` inside it and returns its descriptor with the result.
pub fn create<T: Send>(prepare: impl FnOnce() -> T + Send) -> Result<(OwnedFd, T), Errno> {
    on_thread(move || {
        // SAFETY: only the network namespace of this thread changes; the descriptor table stays shared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        let fd = current()?;
        Ok((fd, prepare()))
    })
}

/// The calling thread's network namespace.
pub fn current() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T, Errno> + Send) -> Result<T, Errno> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".into())
            .stack_size(256 << 10)
            .spawn_scoped(scope, work)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::AGAIN))?;
        thread.join().unwrap_or(Err(Errno::CANCELED))
    })
}

/// Asks for explanations of refusals, without copies of what was refused. Kernels that know neither answer as ever.
pub(super) fn want_extended_errors(socket: BorrowedFd<'_>) {
    use std::os::fd::AsRawFd;
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        let on: libc::c_int = 1;
        // SAFETY: the value lives through the call and its size is given.
        unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_elsewhere_and_its_result_comes_back() {
        let here = current().unwrap();
        let me = std::thread::current().id();
        match inside(here.as_fd(), || std::thread::current().id()) {
            Ok(other) => assert_ne!(me, other),
            // Entering even one's own namespace takes a privilege.
            Err(errno) => assert_eq!(errno, Errno::PERM),
        }
    }
}
