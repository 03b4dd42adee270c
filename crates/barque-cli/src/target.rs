//! Which engine to talk to: flags, variables, contexts, and the engine of this machine, which is started at need.

use barque_api::ApiVersion;
use barque_client::{Client, ClientOptions, Host, TlsFiles};

use crate::cmdline::Flags;
use crate::config::Config;
use crate::contexts::{self, Store};
use crate::error::{CliResult, Failure};
use crate::start;

/// The socket of this machine's engine.
pub(crate) const DEFAULT_SOCKET: &str = "/run/barque/barque.sock";

/// The newest version spoken. From 1.52 on, replies lack fields that scripts read by template
/// (`.NetworkSettings.IPAddress`), so the client stays below.
const NEWEST: ApiVersion = ApiVersion::new(1, 51);

/// An engine and how it was chosen.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The context in use.
    pub(crate) context: String,
    pub(crate) host: Host,
    /// The address as given or by default, for templates of contexts.
    pub(crate) address: String,
    /// Nobody chose an engine: this machine's own is meant, and may be started.
    pub(crate) is_default: bool,
    /// `-H` names it.
    pub(crate) by_flag: bool,
}

impl Target {
    /// Chooses the engine.
    pub(crate) fn resolve(global: &Flags, config: &Config) -> CliResult<Target> {
        let context = current_context(global, config)?;
        Self::of(context, global, config)
            .map_err(|f| f.prefixed("Failed to initialize: unable to resolve docker endpoint: "))
    }

    fn of(context: String, global: &Flags, config: &Config) -> CliResult<Target> {
        if context != contexts::DEFAULT {
            return Self::of_context(&context, config);
        }
        let hosts = global.all("host");
        if hosts.len() > 1 {
            return Err(Failure::new("Specify only one -H"));
        }
        let given = hosts.first().map(|h| (*h).to_owned()).or_else(|| host_variable().map(|(_, value)| value));
        let tls = tls_files(global, config);
        let Some(given) = given else {
            let address = format!("unix://{DEFAULT_SOCKET}");
            let host = Host::parse(&address)?;
            return Ok(Target { context, host, address, is_default: true, by_flag: false });
        };
        let address = normalize(&given, tls.is_some())?;
        let host = match &tls {
            Some(files) => Host::parse_tls(&address, files)?,
            None => Host::parse(&address)?,
        };
        let is_default = address == format!("unix://{DEFAULT_SOCKET}");
        Ok(Target { context, host, address, is_default, by_flag: !hosts.is_empty() })
    }

    fn of_context(name: &str, config: &Config) -> CliResult<Target> {
        let store = Store::new(&config.directory);
        let context = store.get(name)?;
        let address = match context.host() {
            "" => format!("unix://{DEFAULT_SOCKET}"),
            host => host.to_owned(),
        };
        let host = match store.tls_files(&context) {
            Some(files) => Host::parse_tls(&address, &files)?,
            None => Host::parse(&address)?,
        };
        Ok(Target { context: name.to_owned(), host, address, is_default: false, by_flag: false })
    }

    /// Connects, and settles the version.
    pub(crate) async fn connect(&self, config: &Config) -> CliResult<Client> {
        let headers: Vec<(String, String)> = config.map("HttpHeaders").into_iter().collect();
        let fixed = match non_empty_variable("DOCKER_API_VERSION") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                Failure::new(format!("invalid API version {text:?} in DOCKER_API_VERSION: versions are like 1.45"))
            })?),
        };
        let client = |version| {
            let options = ClientOptions { version, headers: headers.clone(), ..ClientOptions::default() };
            Client::with_options(self.host.clone(), options)
        };
        if let Some(version) = fixed {
            return Ok(client(Some(version)));
        }
        let probe = client(None);
        let theirs = match probe.version_used().await {
            Ok(version) => version,
            Err(e) if e.is_connect() && self.is_default => {
                start::start_engine(&e, &probe).await?;
                probe.version_used().await?
            }
            Err(e) => return Err(self.unreachable(e)),
        };
        if theirs <= NEWEST { Ok(probe) } else { Ok(client(Some(NEWEST))) }
    }
}

impl Target {
    /// The failure of a connection to an engine that somebody named, with what named it and how to mend it.
    fn unreachable(&self, error: barque_client::Error) -> Failure {
        let cure = self.cure(&error);
        let mut failure = Failure::from(error);
        if let Some(cure) = cure {
            failure.message = format!("{}\n\nhint: {cure}", failure.message);
        }
        failure
    }

    fn cure(&self, error: &barque_client::Error) -> Option<String> {
        let named = self.chosen_by();
        if error.io_kind() == Some(std::io::ErrorKind::PermissionDenied) {
            return Some(format!(
                "{named} names that engine; join the group that owns its socket (ls -l names it: sudo usermod -aG GROUP \
                 $USER, then log in again), or run this command as root"
            ));
        }
        if let Some(cure) = crate::hints::of_handshake(&error.chain()) {
            return Some(cure.to_owned());
        }
        match self.host {
            Host::Ssh(_) if error.is_connect() => {
                Some("install the client of ssh: apt install openssh-client, or dnf install openssh-clients".to_owned())
            }
            _ if error.is_connect() => Some(format!(
                "{named} names that engine: start it, or correct the name; without {named} this machine's own is used"
            )),
            // A server of TLS ends a conversation that begins in plain words.
            Host::Tcp { .. } if error.status().is_none() => Some(crate::hints::tls("barque")),
            Host::Ssh(_) if error.status().is_none() => Some(format!(
                "{named} names that engine; ssh must get there without a question, and find barque or docker there: try \
                 `ssh HOST barque version`"
            )),
            _ => None,
        }
    }

    /// What names the engine: `-H`, a variable or a context.
    pub(crate) fn chosen_by(&self) -> String {
        match (self.context.as_str(), host_variable()) {
            _ if self.by_flag => "-H".to_owned(),
            (contexts::DEFAULT, Some((variable, _))) => variable.to_owned(),
            (context, _) => format!("context {context}"),
        }
    }
}

/// The name of the context in use.
pub(crate) fn current_context(global: &Flags, config: &Config) -> CliResult<String> {
    let (context, host) = (global.text("context"), global.given("host"));
    if !context.is_empty() && host {
        return Err(Failure::new("conflicting options: cannot specify both --host and --context"));
    }
    if !context.is_empty() {
        return Ok(context.to_owned());
    }
    if host || host_variable().is_some() {
        return Ok(contexts::DEFAULT.into());
    }
    if let Some(name) = non_empty_variable("DOCKER_CONTEXT") {
        return Ok(name);
    }
    Ok(match config.text("currentContext") {
        "" => contexts::DEFAULT.into(),
        name => name.to_owned(),
    })
}

/// The variable that names an engine, and its value.
pub(crate) fn host_variable() -> Option<(&'static str, String)> {
    ["BARQUE_HOST", "DOCKER_HOST"].into_iter().find_map(|name| Some((name, non_empty_variable(name)?)))
}

fn non_empty_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The certificates of the flags and variables, if TLS is asked for.
fn tls_files(global: &Flags, config: &Config) -> Option<TlsFiles> {
    let verify = match global.get("tlsverify") {
        Some(_) => global.is("tlsverify"),
        None => non_empty_variable("DOCKER_TLS_VERIFY").is_some(),
    };
    let wanted = verify || global.is("tls") || non_empty_variable("DOCKER_TLS").is_some();
    if !wanted {
        return None;
    }
    let directory = non_empty_variable("DOCKER_CERT_PATH").map_or_else(|| config.directory.clone(), Into::into);
    let mut files = TlsFiles::in_dir(&directory, verify);
    let given = |name: &str| global.get(name).map(std::path::PathBuf::from);
    // Docker's command line insists on the file here; the system's authorities are for contexts without one.
    files.ca = given("tlscacert").or_else(|| Some(directory.join("ca.pem")));
    files.cert = given("tlscert").or(files.cert);
    files.key = given("tlskey").or(files.key);
    Some(files)
}

/// A host as the user may write it, with its scheme and port filled in.
pub(crate) fn normalize(text: &str, tls: bool) -> CliResult<String> {
    let text = text.trim();
    let port = if tls { "2376" } else { "2375" };
    let bad = || Failure::new(format!("invalid bind address format: {text}"));
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        // A path is plainly a socket; anything else is a name or an address.
        None if text.starts_with('/') => ("unix", text),
        None => ("tcp", text),
    };
    match scheme {
        // A variable that is not set, in a script.
        "tcp" if text.is_empty() => Ok(format!("unix://{DEFAULT_SOCKET}")),
        "unix" if rest.is_empty() => Ok(format!("unix://{DEFAULT_SOCKET}")),
        "tcp" if rest.is_empty() => Ok(format!("tcp://localhost:{port}")),
        "unix" | "ssh" | "fd" | "http" | "https" => Ok(format!("{scheme}://{rest}")),
        "tcp" => {
            let (address, path) = match rest.find('/') {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            };
            let has_port = address.rsplit(']').next().is_some_and(|tail| tail.contains(':'));
            let address = if has_port { address.to_owned() } else { format!("{address}:{port}") };
            let address = if address.starts_with(':') { format!("localhost{address}") } else { address };
            Ok(format!("tcp://{address}{path}"))
        }
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_completed() {
        let ok = |text| normalize(text, false).expect(text);
        assert_eq!(ok("unix:///x.sock"), "unix:///x.sock");
        assert_eq!(ok("/x.sock"), "unix:///x.sock");
        assert_eq!(ok(""), format!("unix://{DEFAULT_SOCKET}"));
        assert_eq!(ok("box"), "tcp://box:2375");
        assert_eq!(ok("tcp://box:99"), "tcp://box:99");
        assert_eq!(ok("tcp://[::1]"), "tcp://[::1]:2375");
        assert_eq!(ok(":5555"), "tcp://localhost:5555");
        assert_eq!(normalize("box", true).expect("tls"), "tcp://box:2376");
        assert_eq!(normalize("foo://x", false).expect_err("bad").message, "invalid bind address format: foo://x");
    }

    #[test]
    fn a_context_and_a_host_exclude_each_other() {
        let both = Flags::from_pairs(&[("host", "x"), ("context", "y")]);
        let fault = current_context(&both, &Config::default()).expect_err("conflict").message;
        assert_eq!(fault, "conflicting options: cannot specify both --host and --context");
        let config = Config {
            values: serde_json::json!({"currentContext": "c"}).as_object().cloned().expect("object"),
            ..Config::default()
        };
        let flag = Flags::from_pairs(&[("context", "y")]);
        assert_eq!(current_context(&flag, &config).expect("flag"), "y");
    }
}
