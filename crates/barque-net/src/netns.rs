//! A network namespace held by descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use barque_model::{Context, Error, Id, Result};
use barque_sys::netlink::route::{self, LinkChange, LinkRef, RouteSocket};
use barque_sys::netlink::{Batch, netns};
use rustix::fs::{Mode, OFlags};

use crate::apply::links::{refused, write_sysctl};

/// A network namespace. It lives as long as this value, a process or a socket in it does.
///
/// The engine drops it once the container's first process runs: nothing then keeps the
/// namespace alive but the container, and the kernel removes the interfaces with it.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    socket: Option<RouteSocket>,
    links: Option<Links>,
    prepared: Option<Prepared>,
}

/// The names taken in a namespace.
#[derive(Debug)]
pub(crate) struct Links {
    names: Vec<String>,
}

/// An interface made ahead, before it was known for whom.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) network: Id,
    pub(crate) ifname: String,
    pub(crate) ifindex: u32,
    pub(crate) host_ifname: String,
}

/// A namespace being worked on.
pub(crate) struct Inside<'a> {
    pub(crate) ns: BorrowedFd<'a>,
    pub(crate) socket: &'a mut RouteSocket,
    pub(crate) links: &'a mut Links,
    pub(crate) prepared: &'a mut Option<Prepared>,
}

impl Links {
    /// The lowest `PREFIX<n>` that is free.
    pub(crate) fn free_name(&self, prefix: &str) -> String {
        let name = |n: usize| format!("{prefix}{n}");
        (0..=self.names.len()).map(name).find(|n| !self.names.contains(n)).unwrap_or_else(|| name(self.names.len()))
    }

    pub(crate) fn is_taken(&self, name: &str) -> bool {
        self.names.iter().any(|n| n == name)
    }

    pub(crate) fn add(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        self.names.iter_mut().filter(|n| *n == from).for_each(|n| to.clone_into(n));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.names.retain(|n| n != name);
    }

    fn read(socket: &mut RouteSocket) -> Result<Links> {
        let links = socket.links().context("cannot list the interfaces of a network namespace")?;
        Ok(Links { names: links.into_iter().map(|l| l.name).collect() })
    }
}

impl NetNs {
    /// The namespace at `path`, such as `/proc/PID/ns/net` of a running container.
    pub fn open(path: &Path) -> Result<NetNs> {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map(NetNs::from_fd)
            .map_err(std::io::Error::from)
            .with_context(|| format!("cannot open network namespace {}", path.display()))
    }

    /// Takes over a descriptor of a namespace.
    pub fn from_fd(fd: OwnedFd) -> NetNs {
        NetNs { fd, inner: Mutex::default() }
    }

    /// Makes a namespace: loopback up, Docker's sysctls, IPv6 off on interfaces to come until one needs it.
    pub(crate) fn create(ipv6: bool) -> Result<NetNs> {
        let (fd, prepared) = netns::create(|| prepare(ipv6))
            .map_err(|e| Error::internal("cannot make a network namespace").with_source(e))?;
        let (socket, links) = prepared?;
        Ok(NetNs { fd, inner: Mutex::new(Inner { socket: Some(socket), links: Some(links), prepared: None }) })
    }

    /// Works on the namespace, one caller at a time, through a socket opened in it once.
    pub(crate) fn enter<T>(&self, work: impl FnOnce(Inside<'_>) -> Result<T>) -> Result<T> {
        let mut inner = self.lock();
        if inner.socket.is_none() {
            inner.socket = Some(open_socket(self.fd.as_fd())?);
        }
        let Inner { socket: Some(socket), links, prepared } = &mut *inner else {
            return Err(Error::internal("no socket in the network namespace"));
        };
        let links = match links {
            Some(links) => links,
            none => none.insert(Links::read(socket)?),
        };
        work(Inside { ns: self.fd.as_fd(), socket, links, prepared })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open_socket(ns: BorrowedFd<'_>) -> Result<RouteSocket> {
    netns::inside(ns, RouteSocket::open)
        .map_err(|e| Error::internal("cannot enter the container's network namespace").with_source(e))?
        .map_err(|e| refused("open a netlink socket in the container's network namespace", e))
}

/// Settings of a new namespace. Any group may ping, any user may bind low ports: the namespace is
/// the container's own. Neighbours learn of an address that has moved here when the interface
/// gets its MAC.
const SETTINGS: [(&str, &str); 3] = [
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/conf/default/arp_notify", "1"),
];
const SETTINGS_V6: [(&str, &str); 2] =
    [("net/ipv6/conf/default/ndisc_notify", "1"), ("net/ipv6/conf/default/disable_ipv6", "1")];

/// Runs inside the new namespace.
fn prepare(ipv6: bool) -> Result<(RouteSocket, Links)> {
    for (path, value) in SETTINGS.iter().chain(SETTINGS_V6.iter().filter(|_| ipv6)) {
        // An engine whose own /proc/sys is read-only runs containers all the same.
        if let Err(error) = write_sysctl(path, value) {
            tracing::debug!(error = error.chain(), "a container's network namespace lacks a setting");
        }
    }
    let mut socket = RouteSocket::open().map_err(|e| refused("open a netlink socket", e))?;
    let mut batch = Batch::new();
    route::set_link(&mut batch, LinkRef::Name("lo"), &LinkChange { up: Some(true), ..LinkChange::default() });
    socket.apply(&mut batch).map_err(|e| refused("ip link set lo up", e))?;
    let links = Links::read(&mut socket)?;
    Ok((socket, links))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_name_is_taken() {
        let mut links = Links { names: vec!["lo".into()] };
        assert_eq!(links.free_name("eth"), "eth0");
        links.add("eth0");
        links.add("eth2");
        assert_eq!(links.free_name("eth"), "eth1");
        links.remove("eth0");
        assert_eq!(links.free_name("eth"), "eth0");
        links.rename("eth2", "lan");
        assert!(links.is_taken("lan") && !links.is_taken("eth2"));
    }
}
