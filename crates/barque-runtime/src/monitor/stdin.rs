//! Standard input of a task: bytes of any client, bounded, closed when it is to end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::client::Queue;

/// Bytes kept for a task that reads slowly; then clients wait.
const QUEUE_MAX: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Stdin {
    fd: Option<OwnedFd>,
    queue: Queue,
    closing: bool,
    /// A terminal cannot be closed from this side.
    tty: bool,
}

impl Stdin {
    /// `None`: the task has no input; what clients send is thrown away.
    pub(super) fn new(fd: Option<OwnedFd>, tty: bool) -> Stdin {
        Stdin { fd, queue: Queue::default(), closing: false, tty }
    }

    pub(super) fn accepts_more(&self) -> bool {
        self.queue.len() < QUEUE_MAX
    }

    /// The descriptor to wait for, while there is something to be written.
    pub(super) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        if self.queue.is_empty() { None } else { self.fd.as_ref().map(AsFd::as_fd) }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.fd.is_some() && !self.closing {
            self.queue.push(bytes);
            self.flush();
        }
    }

    /// Ends the input once all of it has been written.
    pub(super) fn close(&mut self) {
        if !self.tty {
            self.closing = true;
            self.flush();
        }
    }

    pub(super) fn flush(&mut self) {
        while let (Some(fd), false) = (&self.fd, self.queue.is_empty()) {
            match rustix::io::write(fd, self.queue.front()) {
                Ok(n) => self.queue.consume(n),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    // The task has closed its input: nobody will read this.
                    self.fd = None;
                    self.queue.clear();
                }
            }
        }
        if self.closing {
            self.fd = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn input_ends_after_all_was_written() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let mut stdin = Stdin::new(Some(writer.into()), false);
        let mut pushed = 0;
        while stdin.accepts_more() {
            stdin.push(&[7; 10_000]);
            pushed += 10_000;
        }
        stdin.close();
        stdin.push(b"too late");
        let mut got = vec![0; 20_000];
        let mut total = 0;
        while total < pushed {
            total += reader.read(&mut got).unwrap();
            stdin.flush();
        }
        assert_eq!((total, reader.read(&mut got).unwrap()), (pushed, 0));
    }

    #[test]
    fn a_task_that_closes_its_input_is_no_trouble() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut stdin = Stdin::new(Some(writer.into()), false);
        drop(reader);
        stdin.push(b"x");
        assert!(stdin.waits_for().is_none() && stdin.accepts_more());
    }
}
