//! Standard input and output for the event loop.
//!
//! The descriptors may be shared with other programs, so they stay in blocking mode: readiness is awaited, and
//! never more is read or written than cannot block. No thread is left behind in a read when the program ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A pipe takes this much at least when it takes anything.
const WRITE_AT_ONCE: usize = 4096;

/// A descriptor and, where the kernel can tell, its readiness. Files and `/dev/null` are always ready.
enum Descriptor {
    Polled(AsyncFd<OwnedFd>),
    Ready(OwnedFd),
}

impl Descriptor {
    fn new(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<Descriptor> {
        let own = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
        // epoll refuses files; a terminal, a pipe or a socket is taken.
        #[expect(deprecated, reason = "sound for an OwnedFd; its successor is unsafe")]
        match AsyncFd::try_with_interest(own, interest) {
            Ok(polled) => Ok(Descriptor::Polled(polled)),
            Err(refused) => Ok(Descriptor::Ready(refused.into_parts().0)),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Descriptor::Polled(polled) => polled.get_ref().as_fd(),
            Descriptor::Ready(own) => own.as_fd(),
        }
    }

    /// Waits until one read or write will not block.
    async fn ready(&self, interest: Interest) -> io::Result<()> {
        let Descriptor::Polled(polled) = self else { return Ok(()) };
        let wanted = if interest.is_readable() { PollFlags::IN } else { PollFlags::OUT };
        loop {
            let mut guard = polled.ready(interest).await?;
            // The event loop is told of changes only; ask what holds now.
            let mut fds = [PollFd::new(polled.get_ref(), wanted)];
            if poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0 {
                return Ok(());
            }
            guard.clear_ready();
        }
    }
}

/// Standard input.
pub(crate) struct Input(Descriptor);

impl Input {
    pub(crate) fn open() -> io::Result<Input> {
        Descriptor::new(rustix::stdio::stdin(), Interest::READABLE).map(Input)
    }

    /// What is there, at most `buffer.len()` bytes; nothing at the end.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.0.ready(Interest::READABLE).await?;
            match rustix::io::read(self.0.fd(), &mut *buffer) {
                Ok(count) => return Ok(count),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // A terminal that was hung up has ended.
                Err(rustix::io::Errno::IO) => return Ok(0),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// Standard output or standard error.
pub(crate) struct Output(Descriptor);

impl Output {
    pub(crate) fn stdout() -> io::Result<Output> {
        Descriptor::new(rustix::stdio::stdout(), Interest::WRITABLE).map(Output)
    }

    pub(crate) fn stderr() -> io::Result<Output> {
        Descriptor::new(rustix::stdio::stderr(), Interest::WRITABLE).map(Output)
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.ready(Interest::WRITABLE).await?;
            let part = match self.0 {
                Descriptor::Polled(_) => &bytes[..bytes.len().min(WRITE_AT_ONCE)],
                Descriptor::Ready(_) => bytes,
            };
            match rustix::io::write(self.0.fd(), part) {
                Ok(count) => bytes = &bytes[count..],
                Err(rustix::io::Errno::INTR) => {}
                // Somebody else put the descriptor into non-blocking mode.
                Err(rustix::io::Errno::AGAIN) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}
