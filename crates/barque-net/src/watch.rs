//! Notices when somebody deletes the engine's table (`nft flush ruleset`, a firewall's restart) and writes it again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use barque_sys::netlink::nft::NftSocket;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::host::Host;

/// Whoever flushed may be about to load rules in several steps.
const SETTLE: Duration = Duration::from_millis(50);

/// Starts watching, if the packet filter is ours to use.
pub(crate) fn start(io: &Handle, host: &Arc<Host>) {
    if !host.filter().is_enabled() {
        return;
    }
    // Without notifications the next change of ours still finds and repairs the damage.
    let Ok(socket) = NftSocket::monitor() else { return };
    io.spawn(watch(socket, Arc::downgrade(host)));
}

async fn watch(socket: NftSocket, host: Weak<Host>) {
    let Some(table) = host.upgrade().map(|h| h.names.table.clone()) else { return };
    if rustix::io::ioctl_fionbio(&socket, true).is_err() {
        return;
    }
    // Sound: the socket owns its descriptor. The replacement is an unsafe function, for types that do not.
    #[expect(deprecated)]
    let Ok(mut socket) = AsyncFd::with_interest(socket, Interest::READABLE) else { return };
    loop {
        let event = socket
            .async_io_mut(Interest::READABLE, |s| match s.next_change(&table) {
                Err(e) if e.errno == Errno::AGAIN => Err(std::io::ErrorKind::WouldBlock.into()),
                // Notifications were lost: look for ourselves.
                Err(e) if e.errno == Errno::NOBUFS => Ok(true),
                Err(e) => Err(e.errno.into()),
                Ok(deleted) => Ok(deleted),
            })
            .await;
        let Ok(deleted) = event else { return };
        if !deleted {
            continue;
        }
        tokio::time::sleep(SETTLE).await;
        let Some(host) = host.upgrade() else { return };
        match host.filter().repair() {
            Ok(true) => tracing::warn!("the packet-filter table {table} was deleted by someone; written again"),
            Ok(false) => {}
            Err(error) => tracing::warn!(error = error.chain(), "cannot write the packet-filter table {table} again"),
        }
    }
}
