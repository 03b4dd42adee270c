//! A network namespace held by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use barque_model::{Error, Result};

/// A network namespace. It lives as long as this value, a process or a socket in it does.
///
/// The engine drops it once the container's first process runs: nothing then keeps the
/// namespace alive but the container, and the kernel removes the interfaces with it.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
}

impl NetNs {
    /// The namespace at `path`, such as `/proc/PID/ns/net` of a running container.
    pub fn open(path: &Path) -> Result<NetNs> {
        Err(Error::not_implemented(path.display()))
    }

    /// Takes over a descriptor of a namespace.
    pub fn from_fd(fd: OwnedFd) -> NetNs {
        NetNs { fd }
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
