//! The engine and its configuration.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use barque_daemon::config::Settings;

use super::Finding;

const ENGINE: &str = "Engine";
/// How long an engine may take to answer a ping.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings: Vec<Finding> = settings
        .warnings
        .iter()
        .map(|w| Finding::warning(ENGINE, w.clone(), "leave the option out, or see docs/coming-from-docker.md"))
        .collect();
    for host in &settings.hosts {
        if let Some(path) = host.strip_prefix("unix://") {
            findings.push(judge(host, ping(path)));
        }
    }
    findings.extend(settings.open_to_all().map(open_to_all));
    findings
}

/// What an engine says of itself, or the kind of error.
fn ping(path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /version HTTP/1.0\r\nHost: doctor\r\n\r\n")?;
    let mut reply = String::new();
    stream.take(64 << 10).read_to_string(&mut reply)?;
    Ok(reply)
}

fn judge(host: &str, reply: std::io::Result<String>) -> Finding {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, TimedOut, WouldBlock};
    let reply = match reply {
        Ok(reply) => reply,
        Err(e) => {
            return match e.kind() {
                NotFound | ConnectionRefused => Finding::ok(
                    ENGINE,
                    format!(
                        "no engine runs at {host}; the first command as root starts it (or: barque system install)"
                    ),
                ),
                PermissionDenied => Finding::warning(
                    ENGINE,
                    format!("you may not use the engine at {host}"),
                    "join the group that owns the socket: sudo usermod -aG barque $USER, then log in again",
                ),
                TimedOut | WouldBlock => Finding::fault(
                    ENGINE,
                    format!("the engine at {host} does not answer within {} s", PATIENCE.as_secs()),
                    "read its log (journalctl -u barque, or /run/barque/daemon.log) and start it again; containers \
                     go on running",
                ),
                _ => Finding::fault(ENGINE, format!("{host}: {e}"), "read /run/barque/daemon.log"),
            };
        }
    };
    let version = reply
        .split_once("\r\n\r\n")
        .and_then(|(_, body)| serde_json::from_str::<serde_json::Value>(body.trim()).ok())
        .and_then(|v| v["Version"].as_str().map(str::to_owned));
    match version {
        Some(version) => Finding::ok(ENGINE, format!("version {version} answers at {host}")),
        None => Finding::fault(
            ENGINE,
            format!("what listens at {host} is no engine"),
            "stop that program, or give the engine another address with -H",
        ),
    }
}

fn open_to_all(host: &str) -> Finding {
    Finding::fault(
        ENGINE,
        format!("{host} lets everybody who reaches it be root on this machine"),
        "ask for certificates (tlsverify, see docs/security.md), or use ssh:// instead",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn answers_of_an_engine() {
        let good = "HTTP/1.0 200 OK\r\n\r\n{\"Version\":\"0.1.0\"}";
        assert_eq!(judge("unix:///s", Ok(good.into())), Finding::ok(ENGINE, "version 0.1.0 answers at unix:///s"));
        assert_eq!(judge("unix:///s", Ok("SSH-2.0-x".into())).level, Level::Fault);
        let level = |kind: std::io::ErrorKind| judge("unix:///s", Err(kind.into())).level;
        assert_eq!(level(std::io::ErrorKind::NotFound), Level::Ok);
        assert_eq!(level(std::io::ErrorKind::PermissionDenied), Level::Warning);
        assert_eq!(level(std::io::ErrorKind::TimedOut), Level::Fault);
    }

    #[test]
    fn an_open_port_is_a_fault() {
        let settings = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            crate::daemon::settings(&barque_daemon::Flags::parse(&words).unwrap()).unwrap()
        };
        let faults = |words: &[&str]| check(&settings(words)).into_iter().filter(|f| f.level == Level::Fault).count();
        let none = "--config-file=/dev/null";
        assert_eq!(faults(&[none, "-H", "tcp://0.0.0.0:2375"]), 1);
        assert_eq!(faults(&[none, "-H", "tcp://0.0.0.0:2376", "--tls"]), 1);
        assert_eq!(faults(&[none, "-H", "tcp://0.0.0.0:2376", "--tlsverify"]), 0);
        assert_eq!(faults(&[none, "-H", "tcp://127.0.0.1:2375"]), 0);
    }
}
