//! Where an engine listens: `unix://`, `tcp://`, `ssh://`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::tls::TlsFiles;

/// The address of an engine.
#[derive(Clone, Debug)]
pub enum Host {
    Unix(PathBuf),
    Tcp {
        /// Name or address, without brackets.
        host: String,
        port: u16,
        /// Path prefix of the API, usually empty.
        base: String,
    },
    Tls {
        host: String,
        port: u16,
        base: String,
        config: Arc<rustls::ClientConfig>,
    },
    /// `barque system dial-stdio` (or docker's) on another machine.
    Ssh(SshHost),
}

/// The parts of `ssh://[user@]host[:port][/socket/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshHost {
    pub user: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    /// Socket on the other side; unset is its default.
    pub socket: Option<String>,
}

impl Host {
    /// Parses a host without TLS. `unix:///path`, `tcp://host:port`, `http://…`, `ssh://user@host`.
    ///
    /// # Errors
    /// An unknown scheme, a missing path or port, an ssh host that could be taken for an option.
    pub fn parse(text: &str) -> Result<Host> {
        let bad = |why: &str| Error::argument(format!("unable to parse docker host `{text}`: {why}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(Error::argument(format!("unable to parse docker host `{text}`")));
        };
        match scheme {
            "unix" if rest.is_empty() => Err(bad("the socket's path is missing")),
            "unix" => Ok(Host::Unix(PathBuf::from(rest))),
            "tcp" | "http" => {
                let (host, port, base) = split_address(rest, 2375).ok_or_else(|| bad("invalid address"))?;
                Ok(Host::Tcp { host, port, base })
            }
            "ssh" => parse_ssh(rest).map(Host::Ssh).map_err(bad),
            "fd" => Err(bad("fd:// is only for the daemon")),
            "npipe" => Err(bad("named pipes exist on Windows only")),
            other => Err(bad(&format!("unknown scheme {other}"))),
        }
    }

    /// Parses a host; a `tcp://` one is reached by TLS with these files.
    ///
    /// # Errors
    /// As [`Host::parse`]; a file that is missing or malformed.
    pub fn parse_tls(text: &str, files: &TlsFiles) -> Result<Host> {
        let text = text.strip_prefix("https://").map_or_else(|| text.to_owned(), |rest| format!("tcp://{rest}"));
        match Host::parse(&text)? {
            Host::Tcp { host, port, base } => {
                let explicit = text.rsplit(['/', ']']).next().is_some_and(|tail| tail.contains(':'));
                let port = if explicit || port != 2375 { port } else { 2376 };
                Ok(Host::Tls { host, port, base, config: files.client_config()? })
            }
            other => Ok(other),
        }
    }

    /// The address as the user would write it, for messages.
    pub fn display(&self) -> String {
        match self {
            Host::Unix(path) => format!("unix://{}", path.display()),
            Host::Tcp { host, port, base } | Host::Tls { host, port, base, .. } => {
                let brackets = if host.contains(':') { ("[", "]") } else { ("", "") };
                format!("tcp://{}{host}{}:{port}{base}", brackets.0, brackets.1)
            }
            Host::Ssh(ssh) => {
                let user = ssh.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let port = ssh.port.map(|port| format!(":{port}")).unwrap_or_default();
                format!("ssh://{user}{}{port}{}", ssh.host, ssh.socket.as_deref().unwrap_or_default())
            }
        }
    }

    /// Path prefix of every request.
    pub(crate) fn base(&self) -> &str {
        match self {
            Host::Tcp { base, .. } | Host::Tls { base, .. } => base,
            _ => "",
        }
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> String {
        match self {
            Host::Tcp { host, port, .. } | Host::Tls { host, port, .. } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            Host::Tcp { host, port, .. } | Host::Tls { host, port, .. } => format!("{host}:{port}"),
            _ => "api.moby.localhost".to_owned(),
        }
    }
}

/// `host[:port][/base]` with `[v6]` in brackets; an empty host is 127.0.0.1.
fn split_address(text: &str, default_port: u16) -> Option<(String, u16, String)> {
    let (address, base) = match text.find('/') {
        Some(slash) => (&text[..slash], text[slash..].trim_end_matches('/')),
        None => (text, ""),
    };
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, tail) = rest.split_once(']')?;
            (host, if tail.is_empty() { None } else { Some(tail.strip_prefix(':')?) })
        }
        None if address.matches(':').count() > 1 => return None,
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = match port {
        None | Some("") => default_port,
        Some(port) => port.parse().ok()?,
    };
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    Some((host.to_owned(), port, base.to_owned()))
}

fn parse_ssh(text: &str) -> Result<SshHost, &'static str> {
    if text.contains('?') {
        return Err("query parameters are not allowed after an ssh address");
    }
    let (address, socket) = match text.find('/') {
        Some(slash) => (&text[..slash], Some(&text[slash..]).filter(|path| path.len() > 1)),
        None => (text, None),
    };
    let (user, address) = match address.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, address),
    };
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, tail)) => (host, tail.strip_prefix(':')),
        None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(str::parse).transpose().map_err(|_| "invalid port of an ssh address")?;
    // ssh would read a leading dash as an option; a password in the URL would show in `ps`.
    let plain = |word: &str| !word.is_empty() && !word.starts_with('-') && !word.contains(char::is_whitespace);
    if host.is_empty() {
        return Err("the hostname is empty");
    }
    if user.is_some_and(|user| user.contains(':')) {
        return Err("plain-text password is not supported: let ssh use a key");
    }
    if !plain(host) || user.is_some_and(|user| !plain(user)) {
        return Err("invalid ssh address");
    }
    Ok(SshHost { user: user.map(str::to_owned), host: host.to_owned(), port, socket: socket.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        for (text, shown) in [
            ("unix:///run/a.sock", "unix:///run/a.sock"),
            ("tcp://10.0.0.1:2375", "tcp://10.0.0.1:2375"),
            ("tcp://example", "tcp://example:2375"),
            ("tcp://:99/base/", "tcp://127.0.0.1:99/base"),
            ("tcp://[::1]:5", "tcp://[::1]:5"),
            ("ssh://me@box:22", "ssh://me@box:22"),
            ("ssh://box/run/x.sock", "ssh://box/run/x.sock"),
        ] {
            assert_eq!(Host::parse(text).unwrap().display(), shown);
        }
    }

    #[test]
    fn refuses_nonsense() {
        let bad = ["", "x", "unix://", "ftp://x", "tcp://::1:5", "tcp://a:b", "ssh://-oProxyCommand=x", "ssh://a:p@b"];
        for text in bad {
            let error = Host::parse(text).map(|host| host.display()).unwrap_err();
            assert!(error.to_string().contains("unable to parse docker host"), "{text}: {error}");
        }
    }
}
