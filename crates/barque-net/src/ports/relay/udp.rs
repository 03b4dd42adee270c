//! UDP: a socket per client, forgotten after a while of silence.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use barque_sys::netlink::pktinfo;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::io::Guard;

/// Clients of one port at a time.
const CLIENTS: usize = 1024;
/// Docker's lifetime of a silent client.
const SILENCE: Duration = Duration::from_secs(90);
const SWEEP: Duration = Duration::from_secs(10);
const DATAGRAM: usize = 64 << 10;

/// A client, and the address of ours it spoke to: answers come from there.
type Client = (SocketAddr, Option<IpAddr>);

struct Session {
    socket: Arc<UdpSocket>,
    answers: JoinHandle<()>,
    used: Instant,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

/// Owns the sockets; dropped in the order of its fields.
struct Port {
    sessions: HashMap<Client, Session>,
    socket: Arc<UdpSocket>,
    guard: Guard,
}

pub(super) async fn serve(socket: OwnedFd, v6: bool, to: SocketAddr, guard: Guard) {
    // Without the destination of a datagram answers still come from a likely address.
    let _ = pktinfo::enable(socket.as_fd(), v6);
    let Ok(socket) = UdpSocket::from_std(std::net::UdpSocket::from(socket)) else { return };
    let mut port = Port { sessions: HashMap::new(), socket: Arc::new(socket), guard };
    let mut buf = vec![0u8; DATAGRAM];
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let got = tokio::select! {
            _ = sweep.tick() => {
                port.sessions.retain(|_, s| s.used.elapsed() < SILENCE);
                continue;
            }
            got = receive(&port.socket, &mut buf) => got,
        };
        // An error here is an ICMP message about an earlier answer.
        let Ok(datagram) = got else { continue };
        if let Some(socket) = port.session((datagram.from, datagram.to), to).await {
            let _ = socket.send(&buf[..datagram.length.min(DATAGRAM)]).await;
        }
    }
}

async fn receive(socket: &UdpSocket, buf: &mut [u8]) -> std::io::Result<pktinfo::Datagram> {
    socket.async_io(Interest::READABLE, || pktinfo::receive(socket.as_fd(), buf)).await
}

impl Port {
    async fn session(&mut self, client: Client, to: SocketAddr) -> Option<Arc<UdpSocket>> {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.used = Instant::now();
            return Some(Arc::clone(&session.socket));
        }
        if self.sessions.len() >= CLIENTS {
            return None;
        }
        let any: SocketAddr =
            if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
        let socket = Arc::new(UdpSocket::bind(any).await.ok()?);
        socket.connect(to).await.ok()?;
        let answers =
            tokio::spawn(carry_back(self.guard.clone(), Arc::clone(&socket), Arc::clone(&self.socket), client));
        let session = Session { socket: Arc::clone(&socket), answers, used: Instant::now() };
        self.sessions.insert(client, session);
        Some(socket)
    }
}

/// `_guard` comes first: arguments are dropped last to first.
async fn carry_back(_guard: Guard, container: Arc<UdpSocket>, outside: Arc<UdpSocket>, client: Client) {
    let mut buf = vec![0u8; DATAGRAM];
    loop {
        // Connection refused: nobody listens in the container yet.
        let Ok(length) = container.recv(&mut buf).await else { continue };
        let send = || pktinfo::send(outside.as_fd(), &buf[..length], client.0, client.1);
        let _ = outside.async_io(Interest::WRITABLE, send).await;
    }
}
