//! One group, worked on through the descriptor of its directory: usable where its path is not.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Largest cgroup file read; `cgroup.procs` of a million processes fits.
const FILE_MAX: usize = 8 << 20;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

type Io<T = ()> = rustix::io::Result<T>;

/// Opens the directory of a group.
pub fn open(path: &Path) -> Io<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
}

/// Makes the group `name` below `parent` (one that exists is taken as it is) and opens it.
pub fn create(parent: impl AsFd, name: &str) -> Io<OwnedFd> {
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e),
    }
    open_at(parent, name)
}

pub fn open_at(parent: impl AsFd, name: &str) -> Io<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

/// Writes `value` to a file of the group in one call.
pub fn write(dir: impl AsFd, file: &str, value: &str) -> Io {
    let fd = rustix::fs::openat(dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&fd, value.as_bytes()).map(drop)
}

/// The text of a file of the group.
pub fn read(dir: impl AsFd, file: &str) -> Io<String> {
    let fd = rustix::fs::openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = vec![0; 4096];
    let mut len = 0;
    loop {
        match rustix::io::read(&fd, &mut bytes[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(e),
        }
        if len == bytes.len() {
            if len >= FILE_MAX {
                return Err(Errno::FBIG);
            }
            bytes.resize(len * 2, 0);
        }
    }
    bytes.truncate(len);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A number in a file of its own; `max` and what does not parse is `None`.
pub fn read_number(dir: impl AsFd, file: &str) -> Option<u64> {
    read(dir, file).ok()?.trim().parse().ok()
}

/// The number behind `key` in a file of lines `key number`.
pub fn read_key(dir: impl AsFd, file: &str, key: &str) -> Option<u64> {
    let text = read(dir, file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn subgroups(dir: BorrowedFd<'_>) -> Io<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The processes of the group and those below it.
pub fn processes(dir: BorrowedFd<'_>) -> Io<Vec<i32>> {
    let mut pids = Vec::new();
    collect_processes(dir, &mut pids)?;
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

fn collect_processes(dir: BorrowedFd<'_>, pids: &mut Vec<i32>) -> Io {
    match read(dir, "cgroup.procs") {
        Ok(text) => pids.extend(text.lines().filter_map(|l| l.trim().parse::<i32>().ok()).filter(|p| *p > 0)),
        // A threaded group has no list of its own.
        Err(Errno::OPNOTSUPP) => {}
        Err(e) => return Err(e),
    }
    for name in subgroups(dir)? {
        match rustix::fs::openat(dir, name.as_c_str(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(sub) => collect_processes(sub.as_fd(), pids)?,
            // Removed meanwhile.
            Err(Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Sends `signal` to all processes of the group and below; their number.
pub fn signal_all(dir: BorrowedFd<'_>, signal: i32) -> Io<usize> {
    let pids = processes(dir)?;
    for pid in &pids {
        match barque_sys::process::kill(*pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(pids.len())
}

/// Kills everything in the group: at once where the kernel can (`cgroup.kill`, 5.14), else until none is left
/// or `patience` is over.
pub fn kill_everything(dir: BorrowedFd<'_>, patience: Duration) -> Io {
    if write(dir, "cgroup.kill", "1").is_ok() {
        return Ok(());
    }
    let end = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    loop {
        match signal_all(dir, barque_model::Signal::KILL.number()) {
            // Removed by its monitor meanwhile: nothing is left.
            Ok(0) | Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(e),
        }
        // Frozen processes die when they thaw.
        let _ = write(dir, "freezer.state", "THAWED");
        if Instant::now() >= end {
            return Err(Errno::TIMEDOUT);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Removes the group `name` and all below it. Groups stay busy for a moment after their last process has
/// ended: tries again until `patience` is over.
pub fn remove(parent: BorrowedFd<'_>, name: &str, patience: Duration) -> Io {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    loop {
        let busy = match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(e) => e,
        };
        if let Ok(dir) = open_at(parent, name) {
            remove_below(dir.as_fd())?;
        }
        if Instant::now() >= end {
            return Err(busy);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn remove_below(dir: BorrowedFd<'_>) -> Io {
    for name in subgroups(dir)? {
        if let Ok(sub) = rustix::fs::openat(dir, name.as_c_str(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            remove_below(sub.as_fd())?;
        }
        match rustix::fs::unlinkat(dir, name.as_c_str(), AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::BUSY) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
