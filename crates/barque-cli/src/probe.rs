//! Which engine the commands would talk to, and whether it answers: for `doctor`. Nothing is started.

use std::time::Duration;

use barque_client::{Client, ClientOptions, Host};

use crate::cmdline::{self, Outcome};
use crate::config::Config;
use crate::error::{CliResult, Failure};
use crate::tables::ROOT;
use crate::target::Target;

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// An engine that somebody named, and what it answers.
#[derive(Debug)]
pub struct Probe {
    /// `tcp://box:2375` and the like.
    pub address: String,
    /// What names it: `-H`, a variable, a context.
    pub chosen_by: String,
    /// It runs on this machine.
    pub is_local: bool,
    /// Its version, or why there is none.
    pub answer: Result<String, Silence>,
    /// Where it says its data are.
    pub data_root: Option<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Silence {
    pub why: String,
    /// It is there, but not for this user.
    pub is_forbidden: bool,
}

/// Asks the engine that `-H HOST` or `--context NAME`, a variable or the current context names. `None` where nothing
/// names one: then it is this machine's own, which the first command starts. Blocks for at most five seconds.
///
/// # Errors
/// What names the engine is malformed, or the context does not exist: the sentence for the user.
pub fn probe(host: Option<&str>, context: Option<&str>) -> Result<Option<Probe>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let asked = runtime.block_on(ask(host, context)).map_err(|f| f.message);
    runtime.shutdown_background();
    asked
}

async fn ask(host: Option<&str>, context: Option<&str>) -> CliResult<Option<Probe>> {
    let words = [("--host", host), ("--context", context)];
    let words: Vec<String> = words.iter().filter_map(|(flag, value)| value.map(|v| format!("{flag}={v}"))).collect();
    let Ok(Outcome::Run { flags, .. }) = cmdline::parse(&ROOT, &words) else {
        return Err(Failure::new("-H takes an address, --context a name"));
    };
    let (config, _) = Config::load("");
    let target = Target::resolve(&flags, &config)?;
    if target.is_default {
        return Ok(None);
    }
    let chosen_by = target.chosen_by();
    let is_local = is_local(&target.host);
    let headers = config.map("HttpHeaders").into_iter().collect();
    let client = Client::with_options(target.host.clone(), ClientOptions { headers, ..ClientOptions::default() });
    let answer = version(&client).await;
    let data_root = match answer {
        Ok(_) => {
            tokio::time::timeout(PATIENCE, client.info()).await.ok().and_then(|info| Some(info.ok()?.docker_root_dir))
        }
        Err(_) => None,
    };
    Ok(Some(Probe { address: target.address, chosen_by, is_local, answer, data_root }))
}

async fn version(client: &Client) -> Result<String, Silence> {
    match tokio::time::timeout(PATIENCE, client.version()).await {
        Ok(Ok(version)) => Ok(version.version),
        Ok(Err(e)) => {
            let is_forbidden = e.io_kind() == Some(std::io::ErrorKind::PermissionDenied);
            let text = Failure::from(e).message;
            Err(Silence { why: text.lines().next().unwrap_or_default().to_owned(), is_forbidden })
        }
        Err(_) => Err(Silence { why: format!("no answer within {} s", PATIENCE.as_secs()), is_forbidden: false }),
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp { host, .. } | Host::Tls { host, .. } => {
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback() || a.is_unspecified())
        }
        Host::Ssh(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_named_is_asked_and_not_started() {
        let probe = probe(Some("unix:///nonexistent/sock"), None).expect("well-formed").expect("named");
        assert_eq!((probe.address.as_str(), probe.chosen_by.as_str()), ("unix:///nonexistent/sock", "-H"));
        let silence = probe.answer.expect_err("nobody there");
        assert!(silence.why.starts_with("Cannot connect") && !silence.is_forbidden, "{silence:?}");
        assert!(super::probe(Some("foo://x"), None).is_err());
        assert!(super::probe(None, Some("no-such-context")).is_err());
    }

    #[test]
    fn this_machine_and_others() {
        let local = |text: &str| is_local(&Host::parse(text).expect(text));
        assert!(
            local("unix:///x") && local("tcp://127.0.0.1:1") && local("tcp://localhost:1") && local("tcp://[::1]:1")
        );
        assert!(!local("tcp://192.0.2.1:1") && !local("ssh://box") && !local("tcp://localhost.example:1"));
    }
}
