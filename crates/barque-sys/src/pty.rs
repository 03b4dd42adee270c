//! Pseudo-terminals of a devpts instance.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::termios::Winsize;

/// Opens a new terminal's master through the `ptmx` of the devpts mount `devpts` (detached or not).
pub fn open_master(devpts: impl AsFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(devpts, c"ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    Ok(master)
}

/// Opens the slave of `master` without going through a path.
pub fn open_slave(master: impl AsFd) -> io::Result<OwnedFd> {
    use rustix::pty::OpenptFlags;
    Ok(rustix::pty::ioctl_tiocgptpeer(master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?)
}

/// Sets the size of the terminal, which signals its foreground processes.
pub fn set_size(terminal: impl AsFd, rows: u16, cols: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Bytes waiting to be read.
pub fn readable_bytes(fd: impl AsFd) -> io::Result<usize> {
    queued(fd.as_fd(), libc::FIONREAD)
}

/// Bytes written to a socket or terminal that the other side has not taken: of a socket of this machine, not read; of a
/// TCP connection, not acknowledged (unix(7), tcp(7): `SIOCOUTQ`).
pub fn untaken_bytes(fd: impl AsFd) -> io::Result<usize> {
    queued(fd.as_fd(), libc::TIOCOUTQ)
}

/// The length of a queue: `request` is FIONREAD or TIOCOUTQ, which is SIOCOUTQ.
fn queued(fd: BorrowedFd<'_>, request: libc::c_ulong) -> io::Result<usize> {
    let mut n: libc::c_int = 0;
    // SAFETY: both requests store an int.
    let r = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut n) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(usize::try_from(n).unwrap_or(0)) }
}
