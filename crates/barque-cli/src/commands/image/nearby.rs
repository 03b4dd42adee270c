//! Whether the engine sees the same files as this program.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use barque_client::Host;
use rustix::net::sockopt::socket_peercred;

/// Where an engine that systemd started notes its process.
const PIDFILE: &str = "/run/barque.pid";

/// The first process, which listens for engines that are started on demand.
const INIT: i32 = 1;

/// True if the process behind the socket lives in this mount namespace and under this root, so that a path means the
/// same to both. A container with the engine's socket inside does not, nor does another machine.
pub(crate) fn shares_files(host: &Host) -> bool {
    let Host::Unix(socket) = host else { return false };
    let Some(mut pid) = listener(socket) else { return false };
    if pid == INIT {
        let Some(daemon) = fs::read_to_string(PIDFILE).ok().and_then(|text| text.trim().parse().ok()) else {
            return false;
        };
        pid = daemon;
    }
    ["ns/mnt", "root"].iter().all(|what| same(pid, what))
}

/// The process that listens; zero is one of another pid namespace.
fn listener(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).ok()?;
    let pid = socket_peercred(&stream).ok()?.pid.as_raw_nonzero().get();
    (pid > 0).then_some(pid)
}

fn same(pid: i32, what: &str) -> bool {
    let identity = |process: &str| {
        let metadata = fs::metadata(format!("/proc/{process}/{what}")).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let own = identity("self");
    own.is_some() && own == identity(&pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_shares_its_files() {
        let dir = tempfile::tempdir().expect("tempdir");
        let socket = dir.path().join("s");
        assert!(!shares_files(&Host::Unix(socket.clone())));
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
        assert!(shares_files(&Host::Unix(socket)));
        assert!(!shares_files(&Host::parse("tcp://127.0.0.1:1").expect("parses")));
    }
}
