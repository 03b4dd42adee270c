//! How a task ended, as a file in its run directory that outlives everybody.

use std::io::{self, Write};
use std::os::fd::AsFd;

use barque_model::Timestamp;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::task::Exit;

/// Name of the record.
pub(crate) const FILE: &str = "exit.json";
const TEMPORARY: &str = ".exit.json.new";

#[derive(Serialize, Deserialize)]
struct Record {
    code: i32,
    signal: Option<i32>,
    oom_killed: bool,
    /// Nanoseconds since the epoch.
    finished_at: i64,
    #[serde(default)]
    lost: bool,
}

/// Writes the record in one step: it is there whole or not at all.
pub(crate) fn write(run_dir: impl AsFd, exit: &Exit) -> io::Result<()> {
    let record = Record {
        code: exit.code,
        signal: exit.signal,
        oom_killed: exit.oom_killed,
        finished_at: exit.finished_at.nanos(),
        lost: exit.lost,
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::openat(&run_dir, TEMPORARY, flags, Mode::from_raw_mode(0o600))?;
    std::fs::File::from(fd).write_all(&serde_json::to_vec(&record)?)?;
    rustix::fs::renameat(&run_dir, TEMPORARY, &run_dir, FILE)?;
    Ok(())
}

/// Reads the record; `None` if there is none.
pub(crate) fn read(run_dir: impl AsFd) -> io::Result<Option<Exit>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = match rustix::fs::openat(run_dir, FILE, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        other => std::fs::File::from(other?),
    };
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, 4096), &mut text)?;
    let r: Record = serde_json::from_str(&text)?;
    Ok(Some(Exit {
        code: r.code,
        signal: r.signal,
        oom_killed: r.oom_killed,
        finished_at: Timestamp::from_nanos(r.finished_at),
        lost: r.lost,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(tmp.path()).unwrap();
        assert_eq!(read(&dir).unwrap(), None);
        let exit =
            Exit { code: 139, signal: Some(11), oom_killed: false, finished_at: Timestamp::from_nanos(5), lost: false };
        write(&dir, &exit).unwrap();
        assert_eq!(read(&dir).unwrap(), Some(exit));
        std::fs::write(tmp.path().join(FILE), "{").unwrap();
        assert!(read(&dir).is_err());
    }
}
