//! Forking, names of processes, and the few calls the C library or rustix keep to themselves.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// Forks; the child runs `child` and ends with what it returns, without running destructors or exit handlers
/// of the parent. Only the calling thread lives on in the child: locks held by other threads of the parent
/// stay locked there for ever (the C library frees its allocator's). Callers fork from one-threaded processes.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: fork(2) copies the process; memory stays valid in both. The closure runs in the child alone.
    match unsafe { libc::fork() } {
        0 => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
            // SAFETY: no preconditions.
            unsafe { libc::_exit(code) }
        }
        pid if pid > 0 => Pid::from_raw(pid).ok_or_else(|| io::Error::other("fork returned no process id")),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number of threads of this process, from `/proc/self/task`.
pub fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// The most that this process may raise one of its limits to (`RLIMIT_*`, getrlimit(2)); `None`: no limit.
pub fn hard_limit(resource: u32) -> Option<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: libc::RLIM64_INFINITY };
    // SAFETY: `limit` is a place for the result; an unknown number is an error and leaves it as it is.
    unsafe { libc::prlimit64(0, resource as _, std::ptr::null(), &raw mut limit) };
    (limit.rlim_max != libc::RLIM64_INFINITY).then_some(limit.rlim_max)
}

/// Starts a new session.
pub fn setsid() -> io::Result<()> {
    Ok(rustix::process::setsid().map(drop)?)
}

/// Children that end are reaped by the kernel; nobody waits for them.
pub fn ignore_children() {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Default disposition of SIGCHLD again, so that children can be waited for.
pub fn reap_children() {
    // SAFETY: SIG_DFL is a valid disposition.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Writing to a closed pipe or socket is an error, not death.
pub fn ignore_sigpipe() {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Default dispositions and no blocked signals, whatever was inherited; SIGPIPE is ignored.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; the call fails for signals that cannot be caught.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    ignore_sigpipe();
    // SAFETY: an emptied set is initialised; the old mask is not asked for.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Closes every descriptor from 3 on but `keep`.
pub fn close_others(keep: &[RawFd]) {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd >= 3).collect();
    keep.sort_unstable();
    let mut first: u32 = 3;
    for fd in keep {
        let fd = fd as u32;
        if fd > first {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    // SAFETY: integers only; callers own no descriptor in the range that they still use.
    let r = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if r != 0 {
        // Before kernel 5.9.
        for fd in first..=last.min(65536) {
            // SAFETY: as above.
            unsafe { libc::close(fd as RawFd) };
        }
    }
}

/// Puts `/dev/null` in the place of the standard streams.
pub fn detach_stdio() -> io::Result<()> {
    let null = rustix::fs::open(
        c"/dev/null",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// A copy of `fd` numbered `min` or above, closed on exec.
pub fn duplicate_above(fd: BorrowedFd<'_>, min: RawFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, min)?)
}

/// `setns` for this process, which must have one thread.
pub fn set_namespace(fd: BorrowedFd<'_>, kinds: u32) -> io::Result<()> {
    // SAFETY: integers only.
    let r = unsafe { libc::setns(fd.as_raw_fd(), kinds as libc::c_int) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A mount namespace of its own for this process, which must have one thread.
pub fn unshare_mounts() -> rustix::io::Result<()> {
    // SAFETY: integers only.
    let r = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    if r < 0 { Err(crate::mount::last_errno()) } else { Ok(()) }
}

/// Sends any signal, real-time ones included, to the process a pidfd stands for.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), rustix::io::Errno> {
    let none = std::ptr::null::<u8>();
    // SAFETY: integers and a null pointer.
    let r = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    if r < 0 { Err(crate::mount::last_errno()) } else { Ok(()) }
}

/// Sends any signal to one process, `pid` > 0.
pub fn kill(pid: i32, signal: i32) -> Result<(), rustix::io::Errno> {
    if pid <= 0 {
        return Err(rustix::io::Errno::INVAL);
    }
    // SAFETY: integers only.
    let r = unsafe { libc::kill(pid, signal) };
    if r < 0 { Err(crate::mount::last_errno()) } else { Ok(()) }
}

/// `CLONE_NEW*` kinds.
pub const CLONE_NEWNS: u32 = libc::CLONE_NEWNS as u32;
pub const CLONE_NEWCGROUP: u32 = libc::CLONE_NEWCGROUP as u32;
pub const CLONE_NEWUTS: u32 = libc::CLONE_NEWUTS as u32;
pub const CLONE_NEWIPC: u32 = libc::CLONE_NEWIPC as u32;
pub const CLONE_NEWPID: u32 = libc::CLONE_NEWPID as u32;
pub const CLONE_NEWNET: u32 = libc::CLONE_NEWNET as u32;

/// Sets what `ps` shows of this process: the name (15 bytes count) and the command line. The latter overwrites
/// the program's arguments and environment in place and is cut to their length; needs `/proc`.
pub fn set_title(name: &CStr, title: &str, area: Option<ArgumentArea>) {
    let _ = rustix::thread::set_name(name);
    if let Some(area) = area {
        area.write(std::iter::once(title.as_bytes()));
    }
}

/// Where the arguments and the environment of this program lie in memory.
#[derive(Clone, Copy, Debug)]
pub struct ArgumentArea {
    start: usize,
    /// Bytes of the arguments.
    len: usize,
    /// Bytes of the arguments and of the environment right behind them.
    room: usize,
}

impl ArgumentArea {
    /// Looks the place up in `/proc/self/stat` (fields 48 to 51, proc(5)).
    pub fn find() -> Option<ArgumentArea> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name (field 2) is in parentheses and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |n: usize| fields.get(n - 3)?.parse::<usize>().ok();
        let (start, end) = (field(48)?, field(49)?);
        let room = match (field(50)?, field(51)?) {
            (environment, last) if environment == end && last > end => last - start,
            _ => end.checked_sub(start)?,
        };
        (start != 0 && end > start).then_some(ArgumentArea { start, len: end - start, room })
    }

    /// Writes words with a space between them, as far as there is room. Neither allocates nor panics. Where they are
    /// longer than the arguments were, the kernel shows what stands there up to the first NUL, as for setproctitle(3).
    pub(crate) fn write<'a>(self, words: impl Iterator<Item = &'a [u8]>) {
        // SAFETY: the kernel put the arguments and the environment of this process at `start..start+room`, in its
        // writable stack memory, where they stay for its life. Nothing in this (forked, one-threaded) process reads
        // them any more.
        let area = unsafe { std::slice::from_raw_parts_mut(self.start as *mut u8, self.room) };
        let text = words.enumerate().flat_map(|(i, word)| (i > 0).then_some(&b' ').into_iter().chain(word));
        let mut written = 0;
        for (place, byte) in area.iter_mut().take(self.room.saturating_sub(1)).zip(text) {
            *place = *byte;
            written += 1;
        }
        area.iter_mut().take(self.len.max(written + 1)).skip(written).for_each(|place| *place = 0);
    }
}

/// Takes over a descriptor known by number only, such as one a parent process has left open for us.
///
/// The number must not be owned by anything else in this process; an unknown number is an error.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and by contract ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_ends_with_its_code() {
        let pid = fork(|| 7).unwrap();
        let (_, status) = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(7));
    }

    #[test]
    fn the_argument_area_holds_our_command_line() {
        let area = ArgumentArea::find().unwrap();
        let line = std::fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(area.len, line.len());
    }

    #[test]
    fn a_command_line_may_be_longer_than_the_arguments_were() {
        let area = ArgumentArea::find().unwrap();
        let long = "x".repeat(area.len);
        for words in [vec!["short"], vec!["two", "words"], vec!["longer", &long, "end"]] {
            let expected = words.join(" ");
            let pid = fork(|| {
                area.write(words.iter().map(|w| w.as_bytes()));
                let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
                i32::from(String::from_utf8_lossy(&line).trim_end_matches('\0') != expected)
            })
            .unwrap();
            let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
            assert_eq!(status.unwrap().1.exit_status(), Some(0), "{expected}");
        }
    }
}
