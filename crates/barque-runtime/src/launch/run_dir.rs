//! The run directory of a task: held by whoever serves the task, cleared again if the launch fails.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barque_model::{Context, Error, Result};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::task::{RECORD, Record, SOCKET};

/// The record while it is written.
const UNFINISHED: &str = "task.json.new";

/// How long the former monitor of a directory may take to clean up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A run directory under lock. Dropped, it is cleared; see [`RunDir::keep`].
pub(super) struct RunDir {
    path: PathBuf,
    dir: OwnedFd,
    made: bool,
    kept: bool,
}

impl RunDir {
    /// Makes or opens the directory and waits until no monitor holds it.
    pub(super) fn acquire(path: &Path) -> Result<RunDir> {
        if !path.is_absolute() {
            return Err(Error::invalid(format!("the run directory must be absolute: {}", path.display())));
        }
        let existed = path.is_dir();
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| format!("create {}", path.display()))?;
        let dir = open(path)?;
        let end = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(1);
        loop {
            match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < end => std::thread::sleep(pause),
                Err(Errno::AGAIN) => {
                    return Err(
                        Error::conflict(format!("a task still runs in {}", path.display())).with_hint("stop it first")
                    );
                }
                Err(e) => return Err(Error::internal(format!("lock {}", path.display())).with_source(e)),
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        let run_dir = RunDir { path: path.to_path_buf(), dir, made: !existed, kept: false };
        run_dir.clear();
        Ok(run_dir)
    }

    /// A descriptor for the monitor, which holds the lock too.
    pub(super) fn share(&self) -> Result<OwnedFd> {
        self.dir.try_clone().context("duplicate a descriptor")
    }

    /// The monitor's socket. Bound by way of the descriptor: the path may be longer than a socket's name.
    pub(super) fn listen(&self) -> Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}/{SOCKET}", self.dir.as_raw_fd());
        let listener = UnixListener::bind(path).with_context(|| format!("listen in {}", self.path.display()))?;
        Ok(listener.into())
    }

    /// Notes what a later daemon must know to clean up after a monitor that was killed. The record is whole or
    /// absent: a daemon killed while it writes leaves none that is cut short.
    pub(super) fn write_record(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).context("encode the task's record")?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.dir, UNFINISHED, flags, Mode::from_raw_mode(0o600));
        let written = fd.map_err(std::io::Error::from).and_then(|fd| std::fs::File::from(fd).write_all(&text));
        let named = written.and_then(|()| Ok(rustix::fs::renameat(&self.dir, UNFINISHED, &self.dir, RECORD)?));
        named.with_context(|| format!("write {RECORD} in {}", self.path.display()))
    }

    /// The launch has succeeded: from now on the directory is the monitor's.
    pub(super) fn keep(mut self) -> PathBuf {
        self.kept = true;
        std::mem::take(&mut self.path)
    }

    fn clear(&self) {
        for name in [SOCKET, RECORD, UNFINISHED, crate::monitor::EXIT_FILE] {
            let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if !self.kept {
            self.clear();
            if self.made {
                let _ = std::fs::remove_dir(&self.path);
            }
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Group;

    #[test]
    fn a_failed_launch_leaves_nothing_and_a_good_one_all() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("deep/er").join("x".repeat(120));
        let dir = RunDir::acquire(&path).unwrap();
        dir.write_record(&Record::exec("x", Group::default())).unwrap();
        dir.listen().unwrap();
        drop(dir);
        assert!(!path.exists());
        let dir = RunDir::acquire(&path).unwrap();
        dir.listen().unwrap();
        assert!(dir.keep().join(SOCKET).exists());
    }

    #[test]
    fn relative_directories_are_refused() {
        assert!(RunDir::acquire(Path::new("run")).is_err());
    }
}
