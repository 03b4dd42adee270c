//! The pid file: refuses a second daemon, survives a crash of the first.

use std::fs;
use std::path::{Path, PathBuf};

use barque_model::{Context, Error, Result};

/// A written pid file, removed at the end.
#[derive(Debug)]
pub struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes this process's id.
    ///
    /// # Errors
    /// The file names another process that lives and is a daemon of the same program.
    pub fn write(path: &Path) -> Result<Pidfile> {
        if let Some(pid) = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok())
            && pid != std::process::id()
            && same_program(pid)
        {
            return Err(Error::conflict(format!("process with PID {pid} is still running"))
                .with_hint(format!("stop it, or name another file than {} with --pidfile", path.display())));
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        fs::write(path, std::process::id().to_string())
            .with_context(|| format!("cannot write the pid file {}", path.display()))?;
        Ok(Pidfile(path.to_owned()))
    }
}

/// True if the process lives and runs the same program: pids are given out again after a reboot.
fn same_program(pid: u32) -> bool {
    let other = living(&pid.to_string());
    other.is_some() && other == living("self")
}

/// The name of a process's program (proc(5), `stat`); `None` once it has ended, whether or not its parent has asked
/// how: where nobody adopts orphans nobody ever does.
fn living(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold some itself.
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
    (!rest.starts_with(['Z', 'X', 'x'])).then(|| name.to_owned())
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let ours = std::process::id().to_string();
        if fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == ours) {
            let _gone_already = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_holds_nothing_though_nobody_asked_how() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap()).arg("--list").spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        while !fs::read_to_string(&stat).unwrap().contains(") Z") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!same_program(child.id()));
        child.wait().unwrap();
        assert!(same_program(std::process::id()));
    }

    #[test]
    fn stale_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/pid");
        fs::create_dir(dir.path().join("run")).unwrap();
        // A pid that cannot exist, rubbish, and the pid of another program.
        for old in ["4294967295", "rubbish", "1"] {
            fs::write(&path, old).unwrap();
            let file = Pidfile::write(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_file_of_a_newer_daemon_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let file = Pidfile::write(&path).unwrap();
        fs::write(&path, "77").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "77");
    }
}
