//! TCP: one task per listening socket, one per connection.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::io::Guard;

/// Connections of one port at a time; further ones wait in the backlog.
const CONNECTIONS: usize = 4096;
const CONNECT: Duration = Duration::from_secs(10);
/// Pause after the process ran out of descriptors.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Owns the socket; dropped in the order of its fields.
struct Port {
    listener: TcpListener,
    connections: JoinSet<()>,
    _guard: Guard,
}

pub(super) async fn serve(socket: OwnedFd, to: SocketAddr, guard: Guard) {
    let Ok(listener) = TcpListener::from_std(std::net::TcpListener::from(socket)) else { return };
    let mut port = Port { listener, connections: JoinSet::new(), _guard: guard };
    loop {
        if port.connections.len() >= CONNECTIONS {
            port.connections.join_next().await;
        }
        match port.listener.accept().await {
            Ok((client, _)) => {
                port.connections.spawn(carry(client, to));
            }
            Err(_) => tokio::time::sleep(EXHAUSTED).await,
        }
        while port.connections.try_join_next().is_some() {}
    }
}

async fn carry(mut client: TcpStream, to: SocketAddr) {
    let Ok(Ok(mut container)) = tokio::time::timeout(CONNECT, TcpStream::connect(to)).await else {
        // A reset, not an orderly end: the client must not take it for an empty answer.
        let _ = client.set_zero_linger();
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = container.set_nodelay(true);
    // Either side may break off at any time; the other one then learns by the close.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut container).await;
}
