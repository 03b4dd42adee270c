//! Tells systemd how the engine is (sd_notify(3)), where systemd asks to be told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends `state`, such as `READY=1`, to the socket that `NOTIFY_SOCKET` names. Nothing happens without one.
pub fn tell(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = address(path.as_bytes())
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop));
    if let Err(why) = sent {
        tracing::warn!("cannot tell systemd {state} at {}: {why}", path.display());
    }
}

/// A path, or a name in the abstract namespace after an `@`.
fn address(name: &[u8]) -> std::io::Result<SocketAddr> {
    match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_names_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("@{}", path.display());
        for name in [path.as_os_str().as_bytes(), abstract_name.as_bytes()] {
            let socket = UnixDatagram::bind_addr(&address(name).unwrap()).unwrap();
            UnixDatagram::unbound().unwrap().send_to_addr(b"READY=1", &address(name).unwrap()).unwrap();
            let mut buffer = [0; 16];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
    }
}
