//! The cgroups of a container that runs (or has just ended), as the daemon handles them: by path.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barque_model::{Error, ErrorKind, Result, Signal};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::stats::{self, Stats};
use super::{Layout, dir, plan};
use crate::spec::Resources;

/// How long a freeze may take: processes in uninterruptible sleep delay it.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

/// How long removal waits for the kernel to let go.
const REMOVE_PATIENCE: Duration = Duration::from_secs(5);

/// The groups of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub v2: bool,
    pub dirs: Vec<GroupDir>,
}

/// Its group in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDir {
    pub path: PathBuf,
    pub controllers: Vec<String>,
}

impl Group {
    /// The directory that knows `controller`.
    pub fn dir_of(&self, controller: &str) -> Option<&Path> {
        let found = self.dirs.iter().find(|d| self.v2 || d.controllers.iter().any(|c| c == controller));
        found.map(|d| d.path.as_path())
    }

    fn open(&self, controller: &str) -> Result<OwnedFd> {
        let path = self.dir_of(controller).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("this machine has no {controller} cgroup controller"))
        })?;
        dir::open(path).map_err(|e| gone(path, e))
    }

    /// Any of its directories: all have the same processes.
    fn open_any(&self) -> Result<OwnedFd> {
        let preferred = ["freezer", "pids", "memory"].iter().find_map(|c| self.dir_of(c));
        let path = preferred
            .or_else(|| self.dirs.first().map(|d| d.path.as_path()))
            .ok_or_else(|| Error::internal("the container has no cgroup"))?;
        dir::open(path).map_err(|e| gone(path, e))
    }

    pub fn pids(&self) -> Result<Vec<i32>> {
        let group = self.open_any()?;
        dir::processes(group.as_fd()).map_err(|e| failed("list the processes of", e))
    }

    /// Signals every process. SIGKILL is repeated until none is left (v1) or given to the kernel (v2).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let group = self.open_any()?;
        if signal == Signal::KILL {
            return dir::kill_everything(group.as_fd(), REMOVE_PATIENCE).map_err(|e| failed("kill", e));
        }
        dir::signal_all(group.as_fd(), signal.number()).map(drop).map_err(|e| failed("signal", e))
    }

    pub fn freeze(&self) -> Result<()> {
        self.set_frozen(true)
    }

    pub fn thaw(&self) -> Result<()> {
        self.set_frozen(false)
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        let group = self.open("freezer")?;
        let what = if frozen { "freeze" } else { "thaw" };
        let end = Instant::now() + FREEZE_PATIENCE;
        let mut pause = Duration::from_micros(100);
        loop {
            // v1 wants the write repeated: processes forked during a freeze can keep it from completing.
            if set_freezer(&group, self.v2, frozen).map_err(|e| failed(what, e))? {
                return Ok(());
            }
            if Instant::now() >= end {
                let _ = set_freezer(&group, self.v2, !frozen);
                return Err(Error::unavailable(format!("cannot {what} the container: its processes do not respond")));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    pub fn stats(&self) -> Result<Stats> {
        stats::read(self)
    }

    /// Applies the limits that are given; what is refused is an error naming the file.
    pub fn update(&self, resources: &Resources) -> Result<()> {
        let layout = if self.v2 { Layout::V2(PathBuf::new()) } else { Layout::V1(Vec::new()) };
        let mut writes = plan::writes(&layout, resources).0;
        if let (true, Some(wanted)) = (self.v2, resources.memory) {
            self.refuse_below_usage(wanted)?;
        }
        // Memory may not exceed memory and swap together at any moment, so the order depends on the direction.
        if !self.v2 && self.raises_memory(resources)? {
            writes.sort_by_key(|w| w.file != "memory.memsw.limit_in_bytes");
        }
        for write in writes {
            let group = self.open(write.controller)?;
            match dir::write(&group, &write.file, &write.value) {
                Err(_) if write.optional => {}
                other => other.map_err(|e| write_failed(&write, e))?,
            }
        }
        Ok(())
    }

    /// v1 refuses a limit below what is used; v2 would take it and kill the container.
    fn refuse_below_usage(&self, wanted: u64) -> Result<()> {
        let used = dir::read_number(self.open("memory")?, "memory.current").unwrap_or(0);
        if wanted >= used {
            return Ok(());
        }
        Err(Error::conflict(format!("unable to set memory limit to {wanted} (current usage: {used})"))
            .with_hint("the kernel would kill the container to enforce it"))
    }

    fn raises_memory(&self, resources: &Resources) -> Result<bool> {
        let Some(wanted) = resources.memory else { return Ok(false) };
        let group = self.open("memory")?;
        Ok(dir::read_number(&group, "memory.memsw.limit_in_bytes").is_some_and(|now| wanted > now))
    }

    /// Whether the kernel has killed for want of memory.
    pub fn oom_killed(&self) -> bool {
        let (file, key) = oom_counter(self.v2);
        self.open("memory").ok().and_then(|d| dir::read_key(&d, file, key)).is_some_and(|n| n > 0)
    }

    /// Kills what is left and removes the groups.
    pub fn remove(&self) -> Result<()> {
        let _ = self.signal(Signal::KILL);
        let mut first_error = Ok(());
        for d in &self.dirs {
            let (Some(parent), Some(name)) = (d.path.parent(), d.path.file_name()) else { continue };
            let result = match dir::open(parent) {
                Ok(parent) => dir::remove(parent.as_fd(), &name.to_string_lossy(), REMOVE_PATIENCE),
                Err(Errno::NOENT) => Ok(()),
                Err(e) => Err(e),
            };
            if let Err(e) = result {
                first_error = first_error.and(Err(failed(&format!("remove {}", d.path.display()), e)));
            }
        }
        first_error
    }
}

/// File and key that count the kernel's kills.
pub fn oom_counter(v2: bool) -> (&'static str, &'static str) {
    if v2 { ("memory.events", "oom_kill") } else { ("memory.oom_control", "oom_kill") }
}

/// Asks for a state; whether it holds already.
fn set_freezer(group: &OwnedFd, v2: bool, frozen: bool) -> Result<bool, Errno> {
    if v2 {
        dir::write(group, "cgroup.freeze", if frozen { "1" } else { "0" })?;
        let now = dir::read_key(group, "cgroup.events", "frozen");
        Ok(now == Some(u64::from(frozen)))
    } else {
        let state = if frozen { "FROZEN" } else { "THAWED" };
        dir::write(group, "freezer.state", state)?;
        Ok(dir::read(group, "freezer.state")?.trim() == state)
    }
}

fn gone(path: &Path, e: Errno) -> Error {
    match e {
        Errno::NOENT => Error::not_found(format!("no such cgroup: {}", path.display())),
        e => Error::internal(format!("open cgroup {}", path.display())).with_source(e),
    }
}

fn failed(what: &str, e: Errno) -> Error {
    Error::internal(format!("cannot {what} the container's cgroup")).with_source(e)
}

/// A limit the kernel refuses.
pub fn write_failed(write: &plan::Write, e: Errno) -> Error {
    let error = Error::invalid(format!("failed to write \"{}\" to {}", write.value, write.file)).with_source(e);
    match e {
        Errno::BUSY if write.file.starts_with("memory") => {
            error.with_hint("the container uses more memory than that already")
        }
        Errno::INVAL => error.with_hint("the kernel refuses this value for the limit"),
        _ => error,
    }
}
