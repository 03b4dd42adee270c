//! An engine that was started without systemd: it holds the pid file and the data that systemd's engine needs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{CliResult, Failure};

/// Where each engine notes its process, unless `--pidfile` says otherwise.
const PIDFILE: &str = "/run/barque.pid";
/// How long an engine may take to end: it lets builds and transfers come to a stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// The engine that a command or a person started, if one runs.
pub(super) fn engine_by_hand() -> Option<i32> {
    by_hand(Path::new(PIDFILE), Path::new("/proc"))
}

fn by_hand(pidfile: &Path, proc: &Path) -> Option<i32> {
    let pid: i32 = fs::read_to_string(pidfile).ok()?.trim().parse().ok()?;
    let process = proc.join(pid.to_string());
    // A pid file may outlive its engine, and pids are given out again.
    let words = fs::read(process.join("cmdline")).ok()?;
    let mut words = words.split(|b| *b == 0);
    let engine = words.next()?.ends_with(b"barque") && words.next() == Some(b"daemon");
    let cgroups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let of_systemd = cgroups.lines().any(|line| line.ends_with("/barque.service"));
    (engine && !of_systemd).then_some(pid)
}

/// Asks the process to end and waits until it has; false if it was gone already.
pub(super) fn stop(pid: i32) -> CliResult<bool> {
    let failed = |what: &str, e: rustix::io::Errno| {
        Failure::new(format!("cannot {what} the engine (pid {pid}): {}", barque_client::archive::plain_io(&e.into())))
    };
    let Some(number) = Pid::from_raw(pid) else { return Ok(false) };
    let process = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(e) => return Err(failed("find", e)),
    };
    match pidfd_send_signal(&process, Signal::TERM) {
        Ok(()) => {}
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(e) => return Err(failed("stop", e)),
    }
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    // A process's descriptor is readable once it has ended.
    match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)) {
        Ok(0) => Err(Failure::new(format!(
            "the engine (pid {pid}) was asked to end and still runs after {} seconds\n\nhint: end it (kill -9 {pid}; \
             containers go on running), then repeat this command",
            PATIENCE.as_secs()
        ))),
        Ok(_) => Ok(true),
        Err(e) => Err(failed("wait for", e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_of_systemd_and_a_stale_pid_file_are_left_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (pidfile, proc) = (dir.path().join("pid"), dir.path().join("proc"));
        let process = proc.join("77");
        fs::create_dir_all(&process).expect("mkdir");
        assert_eq!(by_hand(&pidfile, &proc), None, "no pid file");
        fs::write(&pidfile, "77").expect("write");
        assert_eq!(by_hand(&pidfile, &proc), None, "no process");
        let runs = |cmdline: &str, cgroup: &str| {
            fs::write(process.join("cmdline"), cmdline).expect("write");
            fs::write(process.join("cgroup"), cgroup).expect("write");
            by_hand(&pidfile, &proc)
        };
        assert_eq!(runs("barque\0daemon\0", "0::/user.slice/user-0.slice/session-1.scope\n"), Some(77));
        assert_eq!(runs("/x/barque\0daemon\0--debug\0", "1:cpu:/\n0::/\n"), Some(77));
        assert_eq!(runs("barque\0daemon\0-H\0fd://\0", "0::/system.slice/barque.service\n"), None);
        assert_eq!(runs("barque\0ps\0", "0::/\n"), None);
        assert_eq!(runs("sleep\0daemon\0", "0::/\n"), None);
    }

    #[test]
    fn a_process_is_asked_to_end_and_waited_for() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("sleep");
        let pid = i32::try_from(child.id()).expect("pid");
        assert!(stop(pid).expect("stops"));
        let status = child.wait().expect("wait");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
        assert!(!stop(pid).expect("gone"));
    }
}
