//! The engine and its configuration.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use barque_cli::Probe;
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
    findings.extend(settings.open_to_all().map(open_to_all));
    findings
}

/// This machine's engine, which commands talk to where nobody names another.
pub(super) fn check_own(settings: &Settings) -> Vec<Finding> {
    let sockets = settings.hosts.iter().filter_map(|host| Some((host, host.strip_prefix("unix://")?)));
    sockets.map(|(host, path)| judge(host, ping(path))).collect()
}

/// Whether this machine's engine answers.
pub(super) fn runs(settings: &Settings) -> bool {
    settings.hosts.iter().filter_map(|host| host.strip_prefix("unix://")).any(|path| ping(path).is_ok())
}

/// The engine that somebody named, or the fault in its name.
pub(super) fn check_named(named: Result<Option<Probe>, String>) -> Vec<Finding> {
    let probe = match named {
        Ok(None) => return Vec::new(),
        Ok(Some(probe)) => probe,
        Err(why) => {
            return vec![Finding::fault(
                ENGINE,
                why.lines().next().unwrap_or_default(),
                "name an engine that exists: barque context ls, barque context use NAME, -H or DOCKER_HOST",
            )];
        }
    };
    let mut findings = vec![judge_named(&probe)];
    if !probe.is_local {
        findings.push(Finding::ok(
            ENGINE,
            "it runs on another machine, so this one is not checked; run barque doctor there for its kernel, storage \
             and network",
        ));
    }
    findings
}

fn judge_named(probe: &Probe) -> Finding {
    let goes = format!("commands go to {} ({})", probe.address, probe.chosen_by);
    let silence = match &probe.answer {
        Ok(version) => return Finding::ok(ENGINE, format!("{goes}: version {version} answers")),
        Err(silence) => silence,
    };
    let text = format!("{goes}: {}", silence.why);
    if silence.is_forbidden {
        return Finding::fault(
            ENGINE,
            text,
            "join the group that owns the socket (ls -l names it): sudo usermod -aG GROUP $USER, then log in again",
        );
    }
    let back = match probe.chosen_by.as_str() {
        "-H" => "leave out -H".to_owned(),
        by if by.starts_with("context ") => "barque context use default".to_owned(),
        variable => format!("unset {variable}"),
    };
    Finding::fault(ENGINE, text, format!("start the engine there, or use this machine's own: {back}"))
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
                    "join the group that owns the socket (ls -l names it): sudo usermod -aG GROUP $USER, then log in again",
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
    fn an_engine_that_is_named_has_to_answer() {
        let probe = |chosen_by: &str, answer: Result<String, barque_cli::Silence>| Probe {
            address: "tcp://box:1".into(),
            chosen_by: chosen_by.into(),
            is_local: false,
            answer,
            data_root: None,
        };
        let silence = |is_forbidden| Err(barque_cli::Silence { why: "nobody".into(), is_forbidden });
        let well = judge_named(&probe("-H", Ok("1.2".into())));
        assert_eq!(well, Finding::ok(ENGINE, "commands go to tcp://box:1 (-H): version 1.2 answers"));
        for (by, cure) in [("DOCKER_HOST", "unset DOCKER_HOST"), ("context far", "barque context use default")] {
            let ill = judge_named(&probe(by, silence(false)));
            assert!(ill.level == Level::Fault && ill.text.contains(by) && ill.cure.ends_with(cure), "{ill:?}");
        }
        assert!(judge_named(&probe("-H", silence(true))).cure.contains("usermod"));
        assert_eq!(check_named(Err("no such context\n\nhint".into()))[0].text, "no such context");
        assert_eq!(check_named(Ok(Some(probe("-H", Ok(String::new()))))).len(), 2, "this machine is not checked");
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
