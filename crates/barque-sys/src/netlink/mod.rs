//! Netlink sockets: links, addresses and routes ([`route`]), the packet filter ([`nft`]),
//! connection tracking ([`conntrack`]), and network namespaces ([`netns`]).
//!
//! One socket belongs to the network namespace it was opened in, wherever it is used from:
//! a thread that once entered a namespace to open a socket leaves the handle to everyone.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

pub mod conntrack;
mod dump;
pub mod netns;
pub mod nft;
mod nft_expr;
pub mod pktinfo;
pub mod route;
mod wire;

pub use wire::Batch;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const DUMP_INTERRUPTED: u16 = 0x10;
/// The kernel sends no dump datagram larger than this.
const RECEIVE_BYTES: usize = 64 << 10;
/// No acknowledgement is larger: an explanation is a line of text.
const ACK_BYTES: usize = 8 << 10;
/// Attempts at a dump that changes keep interrupting.
const DUMP_ATTEMPTS: usize = 8;

/// The kernel's refusal of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetlinkError {
    pub errno: Errno,
    /// Which message of the batch was refused, from 0; `None` if the exchange itself failed.
    pub index: Option<usize>,
    /// The kernel's own explanation.
    pub detail: Option<String>,
}

impl NetlinkError {
    fn exchange(errno: Errno) -> NetlinkError {
        NetlinkError { errno, index: None, detail: None }
    }
}

impl From<Errno> for NetlinkError {
    fn from(errno: Errno) -> Self {
        NetlinkError::exchange(errno)
    }
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The io::Error text ends in "(os error N)", which tells a user nothing.
        let text = std::io::Error::from(self.errno).to_string();
        f.write_str(text.split(" (os error").next().unwrap_or(&text))?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NetlinkError {}

/// A result whose error is the kernel's refusal.
pub type Result<T> = std::result::Result<T, NetlinkError>;

/// A blocking netlink socket of one protocol.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
    send_limit: usize,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Socket {
    /// Opens a socket of `protocol` in the calling thread's network namespace, joined to
    /// the multicast groups `groups` (a bit each).
    fn open(protocol: Option<rustix::net::Protocol>, groups: u32) -> Result<Socket> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&fd, &rustix::net::netlink::SocketAddrNetlink::new(0, groups))?;
        netns::want_extended_errors(fd.as_fd());
        Ok(Socket { fd, seq: 0, send_limit: 200 << 10 })
    }

    /// Sends all messages at once and waits for the acknowledgements they ask for.
    ///
    /// Errors: the first refusal, with the index of its message. Messages of the route
    /// family take effect one by one, so those before it (and after it) have been carried out;
    /// a packet-filter transaction takes effect as a whole or not at all.
    pub fn transact(&mut self, batch: &mut Batch) -> Result<()> {
        self.transact_all(batch)?.into_iter().next().map_or(Ok(()), Err)
    }

    /// As [`Socket::transact`], but returns every refusal, in order.
    pub fn transact_all(&mut self, batch: &mut Batch) -> Result<Vec<NetlinkError>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let first = self.send(batch)?;
        let every = batch.acks().iter().all(|a| *a);
        let mut pending = batch.acks().iter().filter(|a| **a).count();
        let mut refusals = Vec::new();
        let mut buf = [0u8; ACK_BYTES];
        while pending > 0 {
            let length = self.receive(&mut buf)?;
            for message in wire::messages(&buf[..length]) {
                let index = message.seq.wrapping_sub(first) as usize;
                if message.kind != NLMSG_ERROR || index >= batch.len() {
                    continue;
                }
                let error = wire::error_of(&message);
                // A refused transaction answers messages that asked for nothing, and not all that did.
                let aborted = error.is_some() && !every;
                pending = if aborted { 0 } else { pending.saturating_sub(usize::from(batch.acks()[index])) };
                refusals.extend(error.map(|(errno, detail)| NetlinkError { errno, index: Some(index), detail }));
            }
        }
        Ok(refusals)
    }

    /// Sends the batch's single request and hands its one answer to `each`: message type and body.
    fn exchange(&mut self, batch: &mut Batch, each: &mut impl FnMut(u16, &[u8])) -> Result<()> {
        let first = self.send(batch)?;
        let mut buf = vec![0u8; RECEIVE_BYTES];
        loop {
            let length = self.receive(&mut buf)?;
            let Some(message) = wire::messages(&buf[..length]).find(|m| m.seq == first) else { continue };
            if message.kind != NLMSG_ERROR {
                each(message.kind, message.body);
                return Ok(());
            }
            return match wire::error_of(&message) {
                Some((errno, detail)) => Err(NetlinkError { errno, index: Some(0), detail }),
                None => Ok(()),
            };
        }
    }

    /// Sends the batch's single dump request and hands each answer to `each`: message type and body.
    ///
    /// A dump that a concurrent change interrupted is repeated; `each` then sees `restart` first.
    fn dump(&mut self, batch: &mut Batch, mut each: impl FnMut(Reply<'_>)) -> Result<()> {
        for _ in 0..DUMP_ATTEMPTS {
            each(Reply::Start);
            if self.dump_once(batch, &mut each)? {
                return Ok(());
            }
        }
        Err(NetlinkError::exchange(Errno::INTR))
    }

    fn dump_once(&mut self, batch: &mut Batch, each: &mut impl FnMut(Reply<'_>)) -> Result<bool> {
        let first = self.send(batch)?;
        let mut buf = vec![0u8; RECEIVE_BYTES];
        let mut consistent = true;
        loop {
            let length = self.receive(&mut buf)?;
            for message in wire::messages(&buf[..length]) {
                if message.seq != first {
                    continue;
                }
                consistent &= message.flags & DUMP_INTERRUPTED == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(consistent),
                    NLMSG_ERROR => {
                        return match wire::error_of(&message) {
                            Some((errno, detail)) => Err(NetlinkError { errno, index: Some(0), detail }),
                            None => Ok(consistent),
                        };
                    }
                    kind => each(Reply::Message(kind, message.body)),
                }
            }
        }
    }

    /// Waits for the next multicast notification and hands its messages (type, body) to `each`.
    ///
    /// Errors: `ENOBUFS` when notifications were lost.
    fn notifications(&mut self, mut each: impl FnMut(u16, &[u8])) -> Result<()> {
        let mut buf = vec![0u8; RECEIVE_BYTES];
        let length = self.receive(&mut buf)?;
        wire::messages(&buf[..length]).for_each(|m| each(m.kind, m.body));
        Ok(())
    }

    fn send(&mut self, batch: &mut Batch) -> Result<u32> {
        let first = self.seq.wrapping_add(1);
        self.seq = self.seq.wrapping_add(batch.len() as u32);
        batch.number(first);
        self.make_room(batch.bytes().len());
        let to = rustix::net::netlink::SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.fd, batch.bytes(), SendFlags::empty(), &to)?;
        Ok(first)
    }

    /// A transaction must arrive as one datagram, which the default buffer may not hold;
    /// the acknowledgements of a long one need room as well.
    fn make_room(&mut self, bytes: usize) {
        if bytes <= self.send_limit {
            return;
        }
        let size = bytes.saturating_mul(2);
        // Without the privilege the kernel answers EMSGSIZE to the send, which names the problem.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, size);
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.fd, size);
        self.send_limit = bytes;
    }

    fn receive(&self, buf: &mut [u8]) -> Result<usize> {
        loop {
            match rustix::net::recv(&self.fd, &mut *buf, RecvFlags::TRUNC) {
                Ok((_, length)) if length > buf.len() => return Err(NetlinkError::exchange(Errno::MSGSIZE)),
                Ok((_, length)) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// What a dump yields.
enum Reply<'a> {
    /// Forget what came before.
    Start,
    /// Type and body of one answer.
    Message(u16, &'a [u8]),
}
