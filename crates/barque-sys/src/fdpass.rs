//! Passing descriptors over unix sockets (SCM_RIGHTS, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

/// Descriptors in one message; the kernel's limit is 253.
pub const BATCH: usize = 200;

/// Sends `bytes` (at least one) with up to [`BATCH`] descriptors; how many bytes went out.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors in one message"));
    }
    loop {
        let data = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(socket.as_fd(), &data, &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Receives bytes, and appends the descriptors that came along (closed on exec) to `fds`. 0 bytes: the end.
pub fn receive(socket: impl AsFd, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let n = loop {
        let mut data = [IoSliceMut::new(bytes)];
        match rustix::net::recvmsg(socket.as_fd(), &mut data, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?.bytes,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(n)
}

/// Sends all of `bytes` and `fds` over a stream socket. The receiver must know both numbers beforehand.
pub fn send_all(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let (mut rest, mut batches) = (bytes, fds.chunks(BATCH).peekable());
    while !rest.is_empty() || batches.peek().is_some() {
        let batch = batches.next().unwrap_or_default();
        // All but the last batch go with one byte each, so that none is left without a byte to go with.
        let n = if batches.peek().is_some() { 1.min(rest.len()) } else { rest.len() };
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more descriptors than bytes"));
        }
        let sent = send(socket.as_fd(), &rest[..n], batch)?;
        rest = &rest[sent..];
    }
    Ok(())
}

/// Fills `bytes` from a stream socket; descriptors met on the way are appended to `fds`.
pub fn receive_all(socket: impl AsFd, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match receive(socket.as_fd(), &mut bytes[done..], fds)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => done += n,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn many_descriptors_and_bytes_arrive() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let fds: Vec<BorrowedFd<'_>> = std::iter::repeat_n(writer.as_fd(), 450).collect();
        let bytes = vec![42u8; 100_000];
        let sender = std::thread::scope(|scope| {
            let handle = scope.spawn(|| send_all(&a, &bytes, &fds));
            let (mut got, mut received) = (vec![0; bytes.len()], Vec::new());
            receive_all(&b, &mut got, &mut received).unwrap();
            assert_eq!(got, bytes);
            assert_eq!(received.len(), 450);
            let last: std::fs::File = received.pop().unwrap().into();
            (&last).write_all(b"x").unwrap();
            handle.join().unwrap()
        });
        sender.unwrap();
        let mut byte = [0];
        reader.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn the_end_is_an_error_for_receive_all() {
        let (a, b) = UnixStream::pair().unwrap();
        drop(a);
        assert!(receive_all(&b, &mut [0; 1], &mut Vec::new()).is_err());
    }
}
