//! Carries what reaches the reserved sockets to the container: connections to `[::1]`, IPv6 to a
//! container without, everything on a machine whose packet filter is not ours to use.

mod tcp;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::reserve::Held;
use super::{Proto, Target};
use crate::io::Io;

/// How long the sockets of a closed relay may take to go.
const CLOSING: Duration = Duration::from_secs(2);

/// The relay of one endpoint's ports.
pub(crate) struct Relay {
    tasks: Vec<AbortHandle>,
    /// Sockets of protocols that cannot be relayed stay here, to hold the port.
    _idle: Vec<Held>,
    /// Disconnected once every task, and with it every socket, is gone.
    gone: mpsc::Receiver<()>,
}

impl Relay {
    pub(crate) fn start(io: &Io, sockets: Vec<Held>, target: Target) -> Relay {
        let (alive, gone) = mpsc::channel();
        let (mut tasks, mut idle) = (Vec::new(), Vec::new());
        for held in sockets {
            let Some(to) = reachable(&target, held.v6, held.container_port) else {
                idle.push(held);
                continue;
            };
            let guard = Guard(alive.clone());
            match held.proto {
                Proto::Tcp => tasks.push(io.spawn(tcp::serve(held.socket, to, guard))),
                Proto::Udp => tasks.push(io.spawn(udp::serve(held.socket, held.v6, to, guard))),
                Proto::Sctp => idle.push(held),
            }
        }
        Relay { tasks, _idle: idle, gone }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        // The next container may want the port at once. Nothing is ever sent.
        let _ = self.gone.recv_timeout(CLOSING);
    }
}

/// Lives as long as a task's sockets.
#[derive(Clone)]
pub(super) struct Guard(#[expect(dead_code, reason = "held for its drop")] mpsc::Sender<()>);

/// The container's address for a client of a family, preferring the same one.
fn reachable(target: &Target, v6: bool, port: u16) -> Option<SocketAddr> {
    let (v4, six) = (target.v4.map(IpAddr::V4), target.v6.map(IpAddr::V6));
    let ip = if v6 { six.or(v4) } else { v4.or(six) };
    ip.map(|ip| SocketAddr::new(ip, port))
}
