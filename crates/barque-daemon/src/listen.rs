//! Listening: unix sockets, TCP, and sockets handed over by systemd.

use std::fs;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use barque_model::{Context, Error, Result};

use crate::config::TlsSettings;
use crate::tls;

/// Permissions of the unix socket: its group may use it.
const SOCKET_MODE: u32 = 0o660;

/// A socket that accepts connections.
pub(crate) enum Listener {
    Unix { socket: UnixListener, path: Option<SocketFile> },
    Tcp { socket: TcpListener, tls: Option<std::sync::Arc<rustls::ServerConfig>> },
}

impl Listener {
    /// Where in the file system the socket is; `None` for TCP and sockets without a name.
    pub(crate) fn unix_path(&self) -> Option<PathBuf> {
        match self {
            // It was bound under another name.
            Listener::Unix { path: Some(file), .. } => Some(file.path.clone()),
            Listener::Unix { socket, path: None } => socket.local_addr().ok()?.as_pathname().map(Path::to_owned),
            Listener::Tcp { .. } => None,
        }
    }
}

/// The file of a unix socket, removed at the end if it is still the same one.
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A newer daemon may have put its own socket there.
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _gone_already = fs::remove_file(&self.path);
        }
    }
}

/// Checks the form of an address without opening it.
pub(crate) fn check_address(address: &str) -> Result<()> {
    parse(address).map(|_| ())
}

/// Whether other machines reach the address: TCP, and not on the loopback alone.
pub(crate) fn is_remote(address: &str) -> bool {
    let Ok(Address::Tcp(address)) = parse(address) else { return false };
    let host = address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
    host != "localhost" && !host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

enum Address<'a> {
    Unix(&'a str),
    Tcp(String),
    Activated(&'a str),
}

fn parse(address: &str) -> Result<Address<'_>> {
    let invalid = |why: &str| Error::invalid(format!("invalid bind address ({address}): {why}"));
    let (scheme, rest) = address.split_once("://").unwrap_or(("tcp", address));
    match scheme {
        "unix" if rest.starts_with('/') => Ok(Address::Unix(rest)),
        "unix" => Err(invalid("the socket's path must be absolute")),
        "fd" => Ok(Address::Activated(rest)),
        "tcp" => {
            let rest = rest.trim_end_matches('/');
            if rest.contains('/') {
                return Err(invalid("should not contain a path element"));
            }
            let (host, port) = match rest.rsplit_once(':') {
                Some((host, port)) if !port.contains(']') => (host, port),
                _ => (rest, "2375"),
            };
            let port: u16 = port.parse().map_err(|_| invalid("the port is not a number"))?;
            let host = if host.is_empty() { "127.0.0.1" } else { host };
            Ok(Address::Tcp(format!("{host}:{port}")))
        }
        other => Err(invalid(&format!("invalid protocol {other}")).with_hint("unix://, tcp:// or fd://")),
    }
}

/// Opens an address. `activated` are the sockets systemd handed over, for `fd://`.
///
/// # Errors
/// An address in use, names that do not resolve, certificates that cannot be read.
pub(crate) fn open(
    address: &str,
    group: Option<&str>,
    tls: Option<&TlsSettings>,
    activated: &mut Vec<OwnedFd>,
) -> Result<Vec<Listener>> {
    match parse(address)? {
        Address::Unix(path) => Ok(vec![open_unix(Path::new(path), group)?]),
        Address::Tcp(address) => {
            let tls = tls.map(tls::server_config).transpose()?;
            open_tcp(&address, tls).map(|listener| vec![listener])
        }
        Address::Activated(which) => take_activated(which, activated),
    }
}

/// Opens a unix socket, in place of one that nobody serves any more.
pub(crate) fn open_unix(path: &Path, group: Option<&str>) -> Result<Listener> {
    remove_stale(path)?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    // Nobody may connect before the socket has its owner: it gets its name only then.
    let hidden = path.with_extension(format!("{}.new", std::process::id()));
    let _left_over = fs::remove_file(&hidden);
    let socket = UnixListener::bind(&hidden).with_context(|| format!("cannot listen on {}", path.display()))?;
    let ready = own(&hidden, group).and_then(|()| fs::rename(&hidden, path).context("cannot name the socket"));
    if let Err(error) = ready {
        let _gone_already = fs::remove_file(&hidden);
        return Err(error.context(format!("cannot listen on {}", path.display())));
    }
    socket.set_nonblocking(true)?;
    let inode = fs::symlink_metadata(path).map(|meta| meta.ino()).unwrap_or_default();
    Ok(Listener::Unix { socket, path: Some(SocketFile { path: path.to_owned(), inode }) })
}

/// Removes what a daemon that was killed left behind; refuses if one still listens there.
fn remove_stale(path: &Path) -> Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(_) => return Ok(()),
    };
    if !meta.file_type().is_socket() {
        return Err(Error::conflict(format!("cannot listen on {}: the file is not a socket", path.display()))
            .with_hint("choose another address with -H, or remove the file"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::conflict(format!("cannot listen on {}: a daemon listens there already", path.display()))
            .with_hint("stop it, or choose another address with -H")),
        Err(_) => fs::remove_file(path).with_context(|| format!("cannot remove the stale socket {}", path.display())),
    }
}

/// Gives the socket its mode, and its group where that exists and may be set.
fn own(path: &Path, group: Option<&str>) -> Result<()> {
    let candidates: &[&str] = match &group {
        Some(name) => &[name],
        None => &["barque", "docker"],
    };
    let file = fs::read_to_string("/etc/group").unwrap_or_default();
    let found = candidates.iter().find_map(|name| group_id(&file, name));
    match (found, group) {
        (Some(gid), _) => {
            if let Err(why) = chown(path, None, Some(gid)) {
                if group.is_some() {
                    return Err(Error::from(why).context(format!("cannot give the socket to group {gid}")));
                }
                tracing::debug!("cannot give the socket to group {gid}: {why}");
            }
        }
        (None, Some(name)) => {
            return Err(Error::invalid(format!(
                "could not change group {} to {name}: group {name} not found",
                path.display()
            ))
            .with_hint("make the group, or name another with --group"));
        }
        (None, None) => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE)).context("cannot set the socket's mode")
}

/// The number of a group: itself, or from the lines of `/etc/group`.
fn group_id(file: &str, name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    file.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

fn open_tcp(address: &str, tls: Option<std::sync::Arc<rustls::ServerConfig>>) -> Result<Listener> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let addresses = address.to_socket_addrs().with_context(|| format!("cannot listen on tcp://{address}"))?;
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(socket) => {
                socket.set_nonblocking(true)?;
                return Ok(Listener::Tcp { socket, tls });
            }
            Err(why) => last = why,
        }
    }
    Err(Error::from(last).context(format!("cannot listen on tcp://{address}")))
}

/// `fd://` takes all sockets of systemd, `fd://3` one by its number.
fn take_activated(which: &str, activated: &mut Vec<OwnedFd>) -> Result<Vec<Listener>> {
    let taken = match which {
        "" | "*" => std::mem::take(activated),
        number => {
            let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(3));
            match index {
                Some(index) if index < activated.len() => vec![activated.remove(index)],
                _ => return Err(Error::invalid(format!("failed to parse systemd fd address: {number}"))),
            }
        }
    };
    if taken.is_empty() {
        return Err(Error::unavailable(
            "no sockets found via socket activation: make sure the service was started by systemd",
        )
        .with_hint("-H unix:///run/barque.sock listens without systemd"));
    }
    taken.into_iter().map(adopt).collect()
}

/// A socket of systemd, unix or TCP.
fn adopt(fd: OwnedFd) -> Result<Listener> {
    let address = rustix::net::getsockname(&fd).map_err(|why| Error::from(io::Error::from(why)))?;
    if address.address_family() == rustix::net::AddressFamily::UNIX {
        let socket = UnixListener::from(fd);
        socket.set_nonblocking(true)?;
        return Ok(Listener::Unix { socket, path: None });
    }
    let socket = TcpListener::from(fd);
    socket.set_nonblocking(true)?;
    Ok(Listener::Tcp { socket, tls: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["unix:///a", "tcp://1.2.3.4:5", "tcp://", "tcp://[::1]:5", "fd://", "fd://4", "127.0.0.1:99"] {
            check_address(good).unwrap();
        }
        for bad in ["unix://a", "ftp://x", "tcp://x:y", "tcp://x:1/path", "tcp://x:99999"] {
            check_address(bad).unwrap_err();
        }
    }

    #[test]
    fn who_reaches_an_address() {
        for remote in ["tcp://0.0.0.0:2375", "tcp://[::]:1", "10.0.0.1:5", "tcp://127.0.0.1.example.org:5", "tcp://h"] {
            assert!(is_remote(remote), "{remote}");
        }
        for local in
            ["tcp://127.0.0.2:5", "tcp://[::1]:5", "tcp://localhost:5", "tcp://:5", "unix:///a", "fd://", "x://"]
        {
            assert!(!is_remote(local), "{local}");
        }
    }

    #[test]
    fn stale_sockets_are_replaced_and_live_ones_respected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/s");
        let address = format!("unix://{}", path.display());
        let mut none = Vec::new();
        let first = open(&address, None, None, &mut none).unwrap();
        let Err(error) = open(&address, None, None, &mut none) else { panic!("two daemons on one socket") };
        assert!(error.to_string().contains("listens there already"), "{error}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        // Killed: the file stays, nobody listens.
        let Some(Listener::Unix { socket, path: file }) = first.into_iter().next() else { panic!("a unix socket") };
        std::mem::forget(file);
        drop(socket);
        assert!(path.exists());
        let again = open(&address, None, None, &mut none).unwrap();
        drop(again);
        assert!(!path.exists());
    }

    #[test]
    fn other_files_are_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "x").unwrap();
        assert!(open(&format!("unix://{}", path.display()), None, None, &mut Vec::new()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
    }

    #[test]
    fn groups() {
        let file = "root:x:0:\ndocker:x:998:me,you\nbroken\n";
        assert_eq!(group_id(file, "docker"), Some(998));
        assert_eq!(group_id(file, "12"), Some(12));
        assert_eq!(group_id(file, "broken"), None);
        assert_eq!(group_id(file, "none"), None);
    }

    #[test]
    fn activation() {
        let missing = open("fd://", None, None, &mut Vec::new());
        assert!(missing.is_err_and(|error| error.to_string().contains("socket activation")));
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixListener::bind(dir.path().join("s")).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut handed = vec![OwnedFd::from(socket), OwnedFd::from(tcp)];
        let second = open("fd://4", None, None, &mut handed).unwrap();
        assert!(matches!(second[0], Listener::Tcp { .. }));
        assert!(matches!(open("fd://", None, None, &mut handed).unwrap()[0], Listener::Unix { .. }));
    }
}
