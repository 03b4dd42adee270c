//! Machines and containers as network namespaces, and small servers and clients in them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use barque_model::Id;
use barque_net::network::{BridgeOptions, Driver, Pool};
use barque_net::{
    Attached, EndpointDef, Fabric, FabricConfig, NetNs, NetworkDef, PoolConfig, PortRequest, Proto, Target,
};
use barque_sys::netlink::route::{self, LinkChange, LinkKind, LinkRef, NewLink, RouteSocket, VethPeer};
use barque_sys::netlink::{Batch, netns};

const PATIENCE: Duration = Duration::from_millis(700);

/// Runs a test body as the only inhabitant of a new "machine", or says why not.
pub fn on_machine(body: impl FnOnce(&Machine) + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    // The body runs on a thread of its own inside the namespace; everything it starts is born there.
    let (_ns, ()) = netns::create(|| {
        let machine = Machine { ns: netns::current().unwrap() };
        machine.up("lo");
        body(&machine);
    })
    .unwrap_or_else(|e| panic!("the machine's namespace, or the test in it, failed: {e}"));
}

/// A network namespace that plays a machine.
pub struct Machine {
    pub ns: OwnedFd,
}

impl Machine {
    pub fn new() -> Machine {
        let (ns, ()) = netns::create(|| ()).unwrap();
        let machine = Machine { ns };
        machine.up("lo");
        machine
    }

    pub fn socket(&self) -> RouteSocket {
        netns::inside(self.ns.as_fd(), || RouteSocket::open().unwrap()).unwrap()
    }

    pub fn up(&self, name: &str) {
        let mut batch = Batch::new();
        route::set_link(&mut batch, LinkRef::Name(name), &LinkChange { up: Some(true), ..LinkChange::default() });
        self.socket().apply(&mut batch).unwrap();
    }

    /// Takes 127.0.0.1 away, so that packets to it can be sent elsewhere.
    pub fn drop_loopback(&self) {
        let mut socket = self.socket();
        let index = socket.link("lo").unwrap().unwrap().index;
        let mut batch = Batch::new();
        route::delete_address(&mut batch, index, "127.0.0.1/8".parse().unwrap());
        socket.apply(&mut batch).unwrap();
    }

    pub fn address(&self, name: &str, address: &str) {
        let mut socket = self.socket();
        let index = socket.link(name).unwrap().unwrap().index;
        let mut batch = Batch::new();
        route::add_address(&mut batch, index, address.parse().unwrap());
        socket.apply(&mut batch).unwrap();
    }

    pub fn route(&self, to: &str, via: &str, name: &str) {
        let mut socket = self.socket();
        let link = socket.link(name).unwrap().unwrap().index;
        let mut batch = Batch::new();
        let route = route::Route { to: to.parse().unwrap(), via: Some(via.parse().unwrap()), link };
        route::set_route(&mut batch, &route);
        socket.apply(&mut batch).unwrap();
    }

    /// A cable to another machine, with addresses on both ends.
    pub fn cable(&self, name: &str, addresses: &[&str], other: &Machine, other_name: &str, other_addresses: &[&str]) {
        let peer = VethPeer { name: other_name, netns: Some(other.ns.as_fd()), index: None, mac: None, mtu: None };
        let mut batch = Batch::new();
        route::add_link(&mut batch, &NewLink { up: true, ..NewLink::new(name, LinkKind::Veth { peer }) });
        self.socket().apply(&mut batch).unwrap();
        other.up(other_name);
        addresses.iter().for_each(|a| self.address(name, a));
        other_addresses.iter().for_each(|a| other.address(other_name, a));
    }

    /// Sets `/proc/sys/net/PATH` of this machine.
    pub fn sysctl(&self, path: &str, value: &str) {
        let file = format!("/proc/sys/net/{path}");
        netns::inside(self.ns.as_fd(), || std::fs::write(&file, value).unwrap()).unwrap();
    }

    pub fn links(&self) -> Vec<String> {
        self.socket().links().unwrap().into_iter().map(|l| l.name).collect()
    }
}

impl AsFd for Machine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ns.as_fd()
    }
}

pub fn fabric(id: &str) -> Fabric {
    let config = FabricConfig { pool: PoolConfig { bare: 0, bridged: 0 }, ..FabricConfig::new(id) };
    Fabric::open(config).unwrap()
}

pub fn pool(subnet: &str, gateway: &str) -> Pool {
    Pool {
        subnet: subnet.parse().unwrap(),
        ip_range: None,
        gateway: Some(gateway.parse().unwrap()),
        auxiliary: Default::default(),
    }
}

/// A bridge network: `subnets` are pairs of subnet and gateway.
pub fn bridge(name: &str, device: &str, subnets: &[(&str, &str)]) -> NetworkDef {
    NetworkDef {
        id: Id::random(),
        name: name.into(),
        driver: Driver::Bridge(BridgeOptions::new(device)),
        pools: subnets.iter().map(|(s, g)| pool(s, g)).collect(),
        internal: false,
    }
}

/// A container: a namespace with one endpoint.
pub struct Container {
    pub ns: NetNs,
    pub attached: Attached,
}

impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ns.as_fd()
    }
}

impl Container {
    pub fn target(&self) -> Target {
        Target { v4: self.attached.v4.map(|net| net.addr()), v6: self.attached.v6.map(|net| net.addr()) }
    }

    pub fn start(fabric: &Fabric, def: &NetworkDef, v4: Option<&str>, v6: Option<&str>) -> Container {
        let ns = fabric.netns(Some(def)).unwrap();
        let mut endpoint = EndpointDef::new(Id::random(), v4.map(|ip| ip.parse().unwrap()));
        endpoint.v6 = v6.map(|ip| ip.parse().unwrap());
        let attached = fabric.attach(def, &endpoint, &ns).unwrap_or_else(|e| panic!("{}", e.chain()));
        Container { ns, attached }
    }
}

/// Publishes ports (host, container) of all protocols on `host_ip`, or everywhere.
pub fn publish(fabric: &Fabric, def: &NetworkDef, container: &Container, host_ip: Option<&str>, ports: &[(u16, u16)]) {
    let wish = |&(host, port): &(u16, u16)| {
        [Proto::Tcp, Proto::Udp].map(|proto| PortRequest {
            container_port: port,
            proto,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_ports: Some((host, host)),
        })
    };
    let wishes: Vec<PortRequest> = ports.iter().flat_map(wish).collect();
    let reserved = fabric.reserve("web", def, &wishes).unwrap_or_else(|e| panic!("{}", e.chain()));
    fabric.publish(def, &container.attached.endpoint, container.target(), reserved).unwrap();
}

/// Answers each TCP connection with `NAME PEER` and each datagram alike, for ever.
pub fn serve(ns: impl AsFd, name: &str, at: &str) {
    let (tcp, udp) =
        netns::inside(ns.as_fd(), || (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap())).unwrap();
    let label = name.to_owned();
    std::thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let mut stream = stream;
            let peer = stream.peer_addr().unwrap().ip().to_canonical();
            let _ = stream.write_all(format!("{label} {peer}").as_bytes());
        }
    });
    let label = name.to_owned();
    std::thread::spawn(move || {
        let mut buf = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buf) {
            let _ = udp.send_to(format!("{label} {}", peer.ip().to_canonical()).as_bytes(), peer);
        }
    });
}

fn tcp(ns: BorrowedFd<'_>, to: SocketAddr) -> Option<String> {
    let connect = move || TcpStream::connect_timeout(&to, PATIENCE).ok();
    let mut stream = netns::inside(ns, connect).unwrap()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok().filter(|_| !text.is_empty()).map(|_| text)
}

fn udp(ns: BorrowedFd<'_>, to: SocketAddr) -> Option<String> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = netns::inside(ns, move || UdpSocket::bind((any, 0)).unwrap()).unwrap();
    socket.connect(to).ok()?;
    socket.set_read_timeout(Some(PATIENCE / 3)).unwrap();
    let mut buf = [0; 64];
    for _ in 0..3 {
        if socket.send(b"?").is_ok()
            && let Ok(length) = socket.recv(&mut buf)
        {
            return Some(String::from_utf8_lossy(&buf[..length]).into_owned());
        }
    }
    None
}

/// Who answers at `to`, and as whom it saw us: `NAME PEER`, the same over TCP and UDP, or why not.
pub fn ask(ns: impl AsFd, to: &str) -> String {
    let to: SocketAddr = to.parse().unwrap();
    let ns = ns.as_fd();
    let (tcp, udp) = std::thread::scope(|scope| {
        let tcp = scope.spawn(move || tcp(ns, to));
        let udp = udp(ns, to);
        (tcp.join().unwrap(), udp)
    });
    match (tcp, udp) {
        (Some(a), Some(b)) if a == b => a,
        (None, None) => "-".into(),
        (a, b) => format!("tcp {a:?} udp {b:?}"),
    }
}

/// Rows of a reachability matrix: what, what came out, what should.
pub fn check(rows: &[(&str, String, &str)]) {
    let text = |pick: fn(&(&str, String, &str)) -> String| -> String {
        rows.iter().map(|row| format!("{}: {}\n", row.0, pick(row))).collect()
    };
    assert_eq!(text(|r| r.1.clone()), text(|r| r.2.to_owned()));
}
