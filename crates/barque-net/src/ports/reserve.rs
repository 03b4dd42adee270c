//! Holds host ports by binding them, so that a conflict shows at once and nobody takes them later.
//!
//! The sockets listen, or an unrelated program with SO_REUSEADDR could bind beside them. Packets that
//! the packet filter translates never reach them; the rest (`[::1]`, IPv6 to a container
//! without, a machine without the filter) is relayed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use barque_model::{Context, Error, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{PortBinding, PortRequest, Proto, holder};

/// Connections that wait for the relay.
const BACKLOG: i32 = 128;
/// Where Docker takes free ports from if the kernel names no range.
const EPHEMERAL: (u16, u16) = (49153, 65535);
/// Ports tried to propose a free one.
const PROPOSALS: u16 = 64;

/// Host ports held open for one container. Dropping it frees them.
#[derive(Debug)]
pub struct Reservation {
    pub(crate) sockets: Vec<Held>,
    pub(crate) lease: Lease,
}

impl Reservation {
    /// What was reserved, with the ports chosen.
    pub fn bindings(&self) -> &[PortBinding] {
        &self.lease.bindings
    }
}

/// A bound socket and the container port it stands for.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) socket: OwnedFd,
    pub(crate) proto: Proto,
    pub(crate) v6: bool,
    pub(crate) container_port: u16,
}

/// Entries in the ledger; dropping it strikes them out.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) bindings: Vec<PortBinding>,
    owner: Arc<str>,
    ledger: Arc<Ledger>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut taken = self.ledger.lock();
        for binding in &self.bindings {
            let key = (binding.proto, binding.host_port);
            let Some(entries) = taken.get_mut(&key) else { continue };
            if let Some(at) =
                entries.iter().position(|(ip, owner)| *ip == binding.host_ip && Arc::ptr_eq(owner, &self.owner))
            {
                entries.swap_remove(at);
            }
            if entries.is_empty() {
                taken.remove(&key);
            }
        }
    }
}

type Taken = BTreeMap<(Proto, u16), Vec<(IpAddr, Arc<str>)>>;

/// Which container has which port.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    taken: Mutex<Taken>,
    /// The free port to try next.
    next: Mutex<u16>,
}

/// Both are the same address, or one of them is all of its family.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owner(&self, proto: Proto, ip: IpAddr, port: u16) -> Option<String> {
        let taken = self.lock();
        let entry = taken.get(&(proto, port))?.iter().find(|(other, _)| overlap(*other, ip))?;
        Some(entry.1.to_string())
    }

    fn enter(&self, binding: &PortBinding, owner: &Arc<str>) {
        let mut taken = self.lock();
        taken.entry((binding.proto, binding.host_port)).or_default().push((binding.host_ip, Arc::clone(owner)));
    }

    /// All ports of the range once, beginning where the last search ended.
    fn candidates(&self) -> impl Iterator<Item = u16> + use<> {
        let (first, last) = ephemeral_range();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if *next < first || *next > last {
            *next = first;
        }
        let start = *next;
        *next = if start == last { first } else { start + 1 };
        (start..=last).chain(first..start)
    }

    fn remember(&self, port: u16) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = port.saturating_add(1);
    }
}

fn ephemeral_range() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|n| n.parse::<u16>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if first > 0 && first <= last => (first, last),
        _ => EPHEMERAL,
    }
}

/// Reserves all of `wishes` or nothing. `default_ip` serves wishes without an address; `ipv6`
/// tells whether the machine has it.
pub(crate) fn reserve(
    ledger: &Arc<Ledger>,
    owner: &str,
    wishes: &[PortRequest],
    default_ip: Option<IpAddr>,
    ipv6: bool,
) -> Result<Reservation> {
    let lease = Lease { bindings: Vec::new(), owner: Arc::from(owner), ledger: Arc::clone(ledger) };
    let mut out = Reservation { sockets: Vec::new(), lease };
    let mut seen: Vec<&PortRequest> = Vec::with_capacity(wishes.len());
    for wish in wishes {
        if seen.contains(&wish) {
            continue;
        }
        seen.push(wish);
        let addresses = match wish.host_ip.or(default_ip) {
            Some(ip) => vec![ip],
            None if ipv6 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            None => vec![Ipv4Addr::UNSPECIFIED.into()],
        };
        reserve_one(&mut out, wish, &addresses)?;
    }
    Ok(out)
}

fn reserve_one(out: &mut Reservation, wish: &PortRequest, addresses: &[IpAddr]) -> Result<()> {
    let ledger = Arc::clone(&out.lease.ledger);
    let (candidates, single): (Box<dyn Iterator<Item = u16>>, bool) = match wish.host_ports {
        Some((first, last)) => (Box::new(first..=last), first == last),
        None => (Box::new(ledger.candidates()), false),
    };
    let mut refusal = None;
    for port in candidates {
        match bind_all(&ledger, wish.proto, addresses, port) {
            Ok(sockets) => {
                if wish.host_ports.is_none() {
                    ledger.remember(port);
                }
                take(out, wish, addresses, port, sockets);
                return Ok(());
            }
            Err(Refusal::Taken(ip)) if single => return Err(taken(&ledger, wish.proto, ip, port)),
            Err(Refusal::Taken(ip)) => refusal = Some((ip, port)),
            Err(Refusal::Other(error)) => return Err(error),
        }
    }
    Err(exhausted(&ledger, wish, refusal))
}

fn take(out: &mut Reservation, wish: &PortRequest, addresses: &[IpAddr], port: u16, sockets: Vec<(OwnedFd, bool)>) {
    let held = |(socket, v6)| Held { socket, proto: wish.proto, v6, container_port: wish.container_port };
    out.sockets.extend(sockets.into_iter().map(held));
    for host_ip in addresses {
        let binding =
            PortBinding { container_port: wish.container_port, proto: wish.proto, host_ip: *host_ip, host_port: port };
        out.lease.ledger.enter(&binding, &out.lease.owner);
        out.lease.bindings.push(binding);
    }
}

enum Refusal {
    Taken(IpAddr),
    Other(Error),
}

/// Binds the port on all addresses: sockets, and whether each is of family IPv6.
fn bind_all(
    ledger: &Ledger,
    proto: Proto,
    addresses: &[IpAddr],
    port: u16,
) -> std::result::Result<Vec<(OwnedFd, bool)>, Refusal> {
    if let Some(ip) = addresses.iter().find(|ip| ledger.owner(proto, **ip, port).is_some()) {
        return Err(Refusal::Taken(*ip));
    }
    // One socket serves both families where every address is meant.
    let both = addresses.len() == 2 && addresses.iter().all(IpAddr::is_unspecified);
    let list = if both { &addresses[1..] } else { addresses };
    let mut sockets = Vec::with_capacity(list.len());
    for ip in list {
        match bind(proto, *ip, port, both) {
            Ok(Some(socket)) => sockets.push((socket, ip.is_ipv6())),
            Ok(None) => {}
            Err(Errno::ADDRINUSE) => return Err(Refusal::Taken(if both { addresses[0] } else { *ip })),
            Err(errno) => return Err(Refusal::Other(refused(*ip, port, errno))),
        }
    }
    Ok(sockets)
}

/// Binds one socket; `None` where the kernel does not know the protocol (SCTP without its module),
/// so that nobody on this machine can take the port either.
fn bind(proto: Proto, ip: IpAddr, port: u16, both_families: bool) -> rustix::io::Result<Option<OwnedFd>> {
    let family = if ip.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let (kind, protocol) = match proto {
        Proto::Tcp => (SocketType::STREAM, rustix::net::ipproto::TCP),
        Proto::Udp => (SocketType::DGRAM, rustix::net::ipproto::UDP),
        Proto::Sctp => (SocketType::STREAM, rustix::net::ipproto::SCTP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = match rustix::net::socket_with(family, kind, flags, Some(protocol)) {
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if proto == Proto::Sctp => return Ok(None),
        other => other?,
    };
    if ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !both_families)?;
    }
    if proto != Proto::Udp {
        // Connections of a former owner that linger must not be in the way.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(ip, port))?;
    if proto != Proto::Udp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(Some(socket))
}

fn with_port(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

fn refused(ip: IpAddr, port: u16, errno: Errno) -> Error {
    let what = format!("cannot bind {}", with_port(ip, port));
    let error = Err::<(), _>(std::io::Error::from(errno)).context(what).err();
    let error = error.unwrap_or_else(|| Error::internal("cannot bind"));
    match errno {
        Errno::ADDRNOTAVAIL => {
            Error::invalid(format!("listen {}: bind: cannot assign requested address", with_port(ip, port)))
                .with_hint(format!("{ip} is no address of this machine; `ip address` lists them"))
        }
        Errno::ACCESS => error.with_hint("ports below 1024 take CAP_NET_BIND_SERVICE"),
        Errno::MFILE | Errno::NFILE => {
            error.with_hint("publish fewer ports, or raise the engine's limit of open files")
        }
        _ => error,
    }
}

/// Docker's sentence, then who has the port and what can be done.
fn taken(ledger: &Ledger, proto: Proto, ip: IpAddr, port: u16) -> Error {
    let at = with_port(ip, port);
    let by = match ledger.owner(proto, ip, port) {
        Some(owner) => format!(" (by container {owner})"),
        None => holder::of(proto, ip, port).map(|h| format!(" (by {h})")).unwrap_or_default(),
    };
    let free = (1..=PROPOSALS).filter_map(|n| port.checked_add(n)).find(|p| bind_all(ledger, proto, &[ip], *p).is_ok());
    let cure = match free {
        Some(free) => format!("stop it, or publish another host port; {free} is free"),
        None => "stop it, or publish another host port".to_owned(),
    };
    Error::conflict(format!("Bind for {at} failed: port is already allocated{by}")).with_hint(cure)
}

fn exhausted(ledger: &Ledger, wish: &PortRequest, last: Option<(IpAddr, u16)>) -> Error {
    let Some((first, end)) = wish.host_ports else {
        return Error::unavailable("all ports are allocated")
            .with_hint("stop containers that publish ports, or widen net.ipv4.ip_local_port_range");
    };
    match last {
        Some((ip, port)) => {
            let one = taken(ledger, wish.proto, ip, port);
            Error::conflict(format!("all ports from {first} to {end} are allocated; the last: {one}"))
                .with_hint("stop their containers, or publish another range")
        }
        None => Error::invalid(format!("invalid port range {first}-{end}")).with_hint("write the lower port first"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barque_model::ErrorKind;

    fn wish(ip: &str, ports: Option<(u16, u16)>) -> PortRequest {
        PortRequest { container_port: 80, proto: Proto::Tcp, host_ip: Some(ip.parse().unwrap()), host_ports: ports }
    }

    fn local(ledger: &Arc<Ledger>, owner: &str, ports: Option<(u16, u16)>) -> Result<Reservation> {
        reserve(ledger, owner, &[wish("127.0.0.1", ports)], None, false)
    }

    #[test]
    fn a_port_is_held_until_the_reservation_goes() {
        let ledger = Arc::new(Ledger::default());
        let first = local(&ledger, "web", None).unwrap();
        let port = first.bindings()[0].host_port;
        let error = local(&ledger, "other", Some((port, port))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(
            error.message(),
            format!("Bind for 127.0.0.1:{port} failed: port is already allocated (by container web)")
        );
        assert!(error.hint().unwrap().starts_with("stop it, or publish another host port"));
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err());
        drop(first);
        local(&ledger, "other", Some((port, port))).unwrap();
        assert!(ledger.lock().is_empty());
    }

    #[test]
    fn a_process_that_holds_the_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = local(&Arc::default(), "web", Some((port, port))).unwrap_err();
        let me = format!("process {}", std::process::id());
        assert!(error.message().contains(&me), "{error}");
    }

    #[test]
    fn a_range_yields_its_first_free_port() {
        let ledger = Arc::new(Ledger::default());
        let base = local(&ledger, "probe", None).unwrap().bindings()[0].host_port.min(65000);
        let range = Some((base, base + 40));
        let a = local(&ledger, "a", range).unwrap();
        let b = local(&ledger, "b", range).unwrap();
        assert!(a.bindings()[0].host_port < b.bindings()[0].host_port);
        let error = local(&ledger, "c", Some((9, 8))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn all_or_nothing() {
        let ledger = Arc::new(Ledger::default());
        let held = local(&ledger, "web", None).unwrap();
        let port = held.bindings()[0].host_port;
        let wishes = [wish("127.0.0.1", None), wish("127.0.0.1", Some((port, port)))];
        assert!(reserve(&ledger, "x", &wishes, None, false).is_err());
        assert_eq!(ledger.lock().len(), 1);
    }

    #[test]
    fn the_same_port_on_other_addresses_is_free() {
        let ledger = Arc::new(Ledger::default());
        let held = local(&ledger, "web", None).unwrap();
        let port = held.bindings()[0].host_port;
        reserve(&ledger, "x", &[wish("127.0.0.2", Some((port, port)))], None, false).unwrap();
        assert!(reserve(&ledger, "y", &[wish("0.0.0.0", Some((port, port)))], None, false).is_err());
    }

    #[test]
    fn an_address_of_another_machine_is_refused_with_a_cure() {
        let error = reserve(&Arc::default(), "x", &[wish("192.0.2.77", None)], None, false).unwrap_err();
        assert!(error.message().contains("cannot assign requested address"), "{error}");
        assert!(error.hint().unwrap().contains("192.0.2.77"));
    }

    #[test]
    fn udp_ports_are_apart_from_tcp() {
        let ledger = Arc::new(Ledger::default());
        let held = local(&ledger, "web", None).unwrap();
        let port = held.bindings()[0].host_port;
        let udp = PortRequest { proto: Proto::Udp, ..wish("127.0.0.1", Some((port, port))) };
        let udp = reserve(&ledger, "dns", &[udp], None, false).unwrap();
        assert_eq!(udp.bindings()[0].proto, Proto::Udp);
    }
}
