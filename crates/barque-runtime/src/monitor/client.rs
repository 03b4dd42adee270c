//! Connections to a monitor: questions, or attached streams.

use std::os::fd::{AsFd, OwnedFd};

use barque_sys::fdpass;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::protocol::Message;
use crate::task::Attach;

/// Bytes kept for a client that reads slowly; beyond it the task's output waits in its pipe.
pub(super) const QUEUE_MAX: usize = 256 << 10;

/// Bytes of an empty queue's buffer kept for the next time.
const QUEUE_KEEP: usize = 16 << 10;

/// Bytes on their way to a descriptor.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn front(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.is_empty() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(QUEUE_KEEP);
        self.start = 0;
    }
}

/// What a connection is for.
#[derive(Debug)]
pub(super) enum Role {
    Questions {
        input: Vec<u8>,
        waits: bool,
    },
    Attached {
        streams: Attach,
        queue: Queue,
        input_open: bool,
    },
    /// To be forgotten.
    Dropped,
}

#[derive(Debug)]
pub(super) struct Client {
    pub fd: OwnedFd,
    pub role: Role,
    /// It takes nothing any more; what it has typed is still to be read.
    pub deaf: bool,
}

/// What came of reading from a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The client has ended its half.
    End,
    /// The connection is broken.
    Gone,
}

impl Client {
    pub(super) fn asking(fd: OwnedFd) -> Client {
        Client { fd, role: Role::Questions { input: Vec::new(), waits: false }, deaf: false }
    }

    /// A connection that only waits for the end of the task.
    pub(super) fn waiting(fd: OwnedFd) -> Client {
        Client { fd, role: Role::Questions { input: Vec::new(), waits: true }, deaf: false }
    }

    pub(super) fn attached(fd: OwnedFd, streams: Attach) -> Client {
        let role = Role::Attached { streams, queue: Queue::default(), input_open: streams.stdin };
        Client { fd, role, deaf: false }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> Input {
        match rustix::net::recv(&self.fd, buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Input::End,
            Ok((n, _)) => Input::Bytes(n),
            Err(Errno::AGAIN | Errno::INTR) => Input::Nothing,
            Err(_) => Input::Gone,
        }
    }

    /// Sends as much as the socket takes; how much, or `None` if it is broken.
    fn send(&self, bytes: &[u8]) -> Option<usize> {
        match rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(n) => Some(n),
            Err(Errno::AGAIN | Errno::INTR) => Some(0),
            Err(_) => None,
        }
    }

    /// Gives an attached client `bytes`: at once as far as it takes them, the rest later. False if it is gone.
    pub(super) fn deliver(&mut self, bytes: &[u8]) -> bool {
        let direct = match &self.role {
            Role::Attached { queue, .. } if queue.is_empty() => self.send(bytes),
            _ => Some(0),
        };
        match (direct, &mut self.role) {
            (Some(n), Role::Attached { queue, .. }) => {
                queue.push(&bytes[n..]);
                true
            }
            _ => false,
        }
    }

    /// The client has gone. True if there may be input that it sent before.
    pub(super) fn leaves_input(&mut self) -> bool {
        let Role::Attached { streams, queue, input_open: true } = &mut self.role else { return false };
        (streams.stdout, streams.stderr) = (false, false);
        queue.clear();
        self.deaf = true;
        true
    }

    /// Sends what is waiting; how many bytes went, or `None` if the client is gone.
    pub(super) fn flush(&mut self) -> Option<usize> {
        let sent = match &self.role {
            Role::Attached { queue, .. } => self.send(queue.front())?,
            Role::Questions { .. } | Role::Dropped => 0,
        };
        if let Role::Attached { queue, .. } = &mut self.role {
            queue.consume(sent);
        }
        Some(sent)
    }

    /// Answers a question. A client that does not take its answers is not waited for: false.
    pub(super) fn answer(&self, message: &Message, pass: Option<&OwnedFd>) -> bool {
        let bytes = message.encode();
        let fds: Vec<_> = pass.iter().map(AsFd::as_fd).collect();
        fdpass::send(&self.fd, &bytes, &fds).is_ok_and(|n| n == bytes.len())
    }

    pub(super) fn queued(&self) -> usize {
        match &self.role {
            Role::Attached { queue, .. } => queue.len(),
            Role::Questions { .. } | Role::Dropped => 0,
        }
    }

    /// Whether it is attached to output stream 0 (stdout) or 1 (stderr).
    pub(super) fn takes(&self, stream: usize) -> bool {
        match &self.role {
            Role::Attached { streams, .. } => {
                if stream == 0 {
                    streams.stdout
                } else {
                    streams.stderr
                }
            }
            Role::Questions { .. } | Role::Dropped => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_a_slow_client_does_not_take_is_kept_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::attached(ours.into(), Attach { stdin: false, stdout: true, stderr: false });
        let chunk: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut sent = 0;
        while client.queued() == 0 {
            assert!(client.deliver(&chunk));
            sent += chunk.len();
        }
        assert!(client.deliver(b"end"));
        let mut got = Vec::new();
        let mut buffer = vec![0; 65536];
        while got.len() < sent + 3 {
            let n = theirs.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..n]);
            assert!(client.flush().is_some());
        }
        assert!(got.ends_with(b"end"));
        assert!(got[..sent].chunks(chunk.len()).all(|c| c == chunk));
        drop(theirs);
        assert!(!client.deliver(b"x"), "a closed client is noticed");
    }
}
