//! Carries what reaches the reserved sockets to the container: connections to `[::1]`, IPv6 to a
//! container without, everything on a machine whose packet filter is not ours to use.

mod tcp;
mod udp;

use std::net::{IpAddr, SocketAddr};

use tokio::runtime::Handle;

use super::reserve::Held;
use super::{Proto, Target};
use crate::io::Tasks;

/// The relay of one endpoint's ports.
pub(crate) struct Relay {
    _tasks: Tasks,
    /// Sockets of protocols that cannot be relayed stay here, to hold the port.
    _idle: Vec<Held>,
}

impl Relay {
    pub(crate) fn start(io: Handle, sockets: Vec<Held>, target: Target) -> Relay {
        let (mut tasks, mut idle) = (Tasks::new(io), Vec::new());
        for held in sockets {
            let Some(to) = reachable(&target, held.v6, held.container_port) else {
                idle.push(held);
                continue;
            };
            match held.proto {
                Proto::Tcp => tasks.spawn(move |guard| tcp::serve(held.socket, to, guard)),
                Proto::Udp => tasks.spawn(move |guard| udp::serve(held.socket, held.v6, to, guard)),
                Proto::Sctp => idle.push(held),
            }
        }
        Relay { _tasks: tasks, _idle: idle }
    }
}

/// The container's address for a client of a family, preferring the same one.
fn reachable(target: &Target, v6: bool, port: u16) -> Option<SocketAddr> {
    let (v4, six) = (target.v4.map(IpAddr::V4), target.v6.map(IpAddr::V6));
    let ip = if v6 { six.or(v4) } else { v4.or(six) };
    ip.map(|ip| SocketAddr::new(ip, port))
}
