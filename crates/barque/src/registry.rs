//! `barque registry serve`: the built-in registry.

use std::path::PathBuf;

use barque_daemon::config::CERTS_DIRS;
use barque_engine::config::RegistrySettings;
use barque_model::{Context, Error, Result};
use barque_registry::Credentials;
use barque_registry::server::{MirrorConfig, ServerConfig, TlsFiles, open};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
Usage:  barque registry serve [OPTIONS]

Serve images from a directory (OCI distribution-spec 1.1)

Options:
      --listen list         Address to listen on (default 127.0.0.1:5000)
      --root string         Directory of the registry (default \"/var/lib/barque-registry\")
      --htpasswd string     File with users and bcrypt hashes; everybody may enter without it
      --tls-cert string     Certificate (PEM)
      --tls-key string      Its key (PEM)
      --mirror-of string    Be a pull-through cache of this registry: [http[s]://][user:password@]host[:port];
                            proxies as in HTTPS_PROXY and NO_PROXY, authorities in /etc/barque/certs.d/HOST
      --no-delete           Refuse to delete
      --gc-untagged         Collect manifests that no tag names
";

struct Options {
    listen: Vec<String>,
    config: ServerConfig,
}

pub fn run(words: &[String]) -> Result<()> {
    let Some(options) = parse(words)? else {
        crate::say(HELP.trim_end());
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(listen(options))
}

async fn listen(options: Options) -> Result<()> {
    let registry = open(options.config).await?;
    let mut listeners = Vec::new();
    for address in &options.listen {
        let listener =
            tokio::net::TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let local = listener.local_addr().context("cannot ask for the address")?;
        crate::say(&format!("registry listening on {local}"));
        listeners.push(listener);
    }
    let mut terminate = signal(SignalKind::terminate()).context("cannot take signals")?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    registry.serve(listeners, stop).await;
    Ok(())
}

/// How the upstream is reached: as the engine reaches registries, with the login that stands in the address.
fn mirror(address: &str) -> MirrorConfig {
    let mut settings = RegistrySettings { certs_dirs: CERTS_DIRS.map(Into::into).to_vec(), ..Default::default() };
    crate::daemon::proxies_from_environment(&mut settings);
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let (login, host) = rest.rsplit_once('@').map_or((None, rest), |(login, host)| (Some(login), host));
    let credentials = match login.map(|l| l.split_once(':').unwrap_or((l, ""))) {
        Some((username, password)) => Credentials::Basic { username: username.into(), password: password.into() },
        None => Credentials::Anonymous,
    };
    let upstream = if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") };
    MirrorConfig { upstream, credentials, client: settings.client_config() }
}

/// `None` where help is asked for.
fn parse(words: &[String]) -> Result<Option<Options>> {
    let mut options = Options { listen: Vec::new(), config: ServerConfig::new("/var/lib/barque-registry") };
    let (mut cert, mut key) = (None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (flag, inline) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || {
            let given = inline.clone().or_else(|| words.next().cloned());
            given.ok_or_else(|| Error::invalid(format!("flag needs an argument: {flag}")))
        };
        match flag {
            "--help" | "-h" => return Ok(None),
            "--listen" => options.listen.push(value()?),
            "--root" => options.config.root = PathBuf::from(value()?),
            "--htpasswd" => options.config.htpasswd = Some(PathBuf::from(value()?)),
            "--tls-cert" => cert = Some(PathBuf::from(value()?)),
            "--tls-key" => key = Some(PathBuf::from(value()?)),
            "--mirror-of" => {
                options.config.mirror = Some(mirror(&value()?));
            }
            "--no-delete" => options.config.allow_delete = false,
            "--gc-untagged" => options.config.gc_untagged = true,
            other => {
                return Err(
                    Error::invalid(format!("unknown flag: {other}")).with_hint("see barque registry serve --help")
                );
            }
        }
    }
    options.config.tls = match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
        (None, None) => None,
        _ => return Err(Error::invalid("--tls-cert and --tls-key belong together")),
    };
    if options.listen.is_empty() {
        options.listen.push("127.0.0.1:5000".into());
    }
    Ok(Some(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_in_both_forms() {
        let o = parse(&words("--listen 127.0.0.1:0 --root=/r --no-delete")).unwrap().unwrap();
        assert_eq!((o.listen[0].as_str(), o.config.root.to_str()), ("127.0.0.1:0", Some("/r")));
        assert!(!o.config.allow_delete);
        assert!(parse(&words("--help")).unwrap().is_none());
        assert!(parse(&words("--tls-cert x")).is_err());
        assert!(parse(&words("--nonsense")).is_err());
        assert!(parse(&words("--root")).is_err());
        let upstream = |address: &str| {
            let mirror = parse(&words(&format!("--mirror-of {address}"))).unwrap().unwrap().config.mirror.unwrap();
            assert!(!mirror.client.certs_dirs.is_empty());
            (mirror.upstream, mirror.credentials)
        };
        assert!(matches!(upstream("hub.example"), (host, Credentials::Anonymous) if host == "hub.example"));
        let (host, credentials) = upstream("https://me:p@ss@hub.example:5000");
        assert_eq!(host, "https://hub.example:5000");
        assert!(
            matches!(credentials, Credentials::Basic { username, password } if username == "me" && password == "p@ss")
        );
    }
}
