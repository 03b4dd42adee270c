//! The life of networks: engines side by side, restarts, repairs, and what is left behind.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use barque_model::{ErrorKind, Id};
use barque_net::{
    EndpointDef, Fabric, FabricConfig, Gateway, Hop, NetNs, PoolConfig, PortRequest, Proto, Publication, Reservation,
    Target,
};
use barque_sys::netlink::netns;
use barque_sys::netlink::nft::{NftSocket, Transaction};
use common::{Container, Machine, ask, bridge, check, fabric, on_machine, publish, serve};

fn lan(device: &str) -> barque_net::NetworkDef {
    bridge("lan", device, &[("172.17.0.0/16", "172.17.0.1")])
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} takes too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tables() -> Vec<String> {
    let chains = NftSocket::open().unwrap().base_chains().unwrap();
    let mut names: Vec<String> = chains.into_iter().map(|c| c.table).collect();
    names.dedup();
    names
}

#[test]
fn engines_do_not_touch_each_other() {
    on_machine(|machine| {
        let (a, b) = (fabric("a"), fabric("b"));
        let one = bridge("bridge", "barque0", &[("172.17.0.0/16", "172.17.0.1")]);
        let two = bridge("bridge", "barque1", &[("172.18.0.0/16", "172.18.0.1")]);
        a.ensure_network(&one).unwrap();
        b.ensure_network(&two).unwrap();
        let x = Container::start(&a, &one, Some("172.17.0.2"), None);
        let y = Container::start(&b, &two, Some("172.18.0.2"), None);
        serve(&x, "x", "0.0.0.0:80");
        serve(&y, "y", "0.0.0.0:80");
        publish(&a, &one, &x, None, &[(8080, 80)]);
        publish(&b, &two, &y, None, &[(8081, 80)]);
        check(&[
            ("a's port", ask(machine, "127.0.0.1:8080"), "x 172.17.0.1"),
            ("b's port", ask(machine, "127.0.0.1:8081"), "y 172.18.0.1"),
            ("a's port from b's container", ask(&y, "172.18.0.1:8080"), "x 172.17.0.1"),
            ("a's container from b's", ask(&y, "172.17.0.2:80"), "-"),
        ]);
        // A port of the other engine is taken by a process.
        let error = a.reserve("z", &one, &[wish(8081)]).unwrap_err();
        let me = format!("(by {}, process {})", comm(), std::process::id());
        assert_eq!(error.message(), format!("Bind for 0.0.0.0:8081 failed: port is already allocated {me}"));
        assert_eq!(tables(), ["barque-a", "barque-b"]);
        a.remove_all().unwrap();
        drop(a);
        assert_eq!(tables(), ["barque-b"]);
        assert!(!machine.links().contains(&"barque0".to_owned()));
        check(&[("b's port, without a", ask(machine, "127.0.0.1:8081"), "y 172.18.0.1")]);
    });
}

fn comm() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned()
}

fn wish(port: u16) -> PortRequest {
    PortRequest { container_port: 80, proto: Proto::Tcp, host_ip: None, host_ports: Some((port, port)) }
}

#[test]
fn two_hundred_containers_leave_nothing() {
    on_machine(|machine| {
        let config = FabricConfig { pool: PoolConfig { bare: 2, bridged: 4 }, ..FabricConfig::new("n") };
        let fabric = Fabric::open(config).unwrap();
        let (lan, other) = (lan("barque0"), bridge("other", "br-other", &[("172.18.0.0/16", "172.18.0.1")]));
        fabric.ensure_network(&lan).unwrap();
        fabric.ensure_network(&other).unwrap();
        fabric.set_pool_network(Some(&lan));
        for i in 0..200u32 {
            let ns = fabric.netns(Some(&lan)).unwrap();
            let ip = [172, 17, (i / 250) as u8, (2 + i % 250) as u8];
            let first = fabric.attach(&lan, &EndpointDef::new(Id::random(), Some(ip.into())), &ns).unwrap();
            let mut second = EndpointDef::new(Id::random(), Some([172, 18, 0, (2 + i % 250) as u8].into()));
            second.default_gateway = false;
            let second = fabric.attach(&other, &second, &ns).unwrap();
            let ports = fabric.reserve("c", &lan, &[wish(20_000 + i as u16)]).unwrap();
            let target = Target { v4: first.v4.map(|n| n.addr()), v6: None };
            fabric.publish(&lan, &first.endpoint, target, ports).unwrap();
            fabric.release(&first).unwrap();
            fabric.release(&second).unwrap();
        }
        fabric.set_pool_network(None);
        drop(fabric);
        eventually("the kernel's cleaning", || machine.links().len() == 3);
        let mut links = machine.links();
        links.sort();
        assert_eq!(links, ["barque0", "br-other", "lo"]);
        // Closed ports are free, and their sockets gone.
        let listening = std::fs::read_to_string("/proc/thread-self/net/tcp6").unwrap();
        assert_eq!(listening.lines().count(), 1, "{listening}");
        let again = common::fabric("n");
        again.ensure_network(&lan).unwrap();
        again.ensure_network(&other).unwrap();
        again.remove_all().unwrap();
        assert_eq!((machine.links(), tables()), (vec!["lo".to_owned()], vec![]));
    });
}

#[test]
fn an_engine_takes_up_its_predecessors_work() {
    on_machine(|machine| {
        let lan = bridge("lan", "barque0", &[("172.17.0.0/16", "172.17.0.1")]);
        let first = fabric("r");
        first.ensure_network(&lan).unwrap();
        let web = Container::start(&first, &lan, Some("172.17.0.2"), None);
        serve(&web, "web", "0.0.0.0:80");
        publish(&first, &lan, &web, None, &[(8080, 80)]);
        let bindings = first.reserve("probe", &lan, &[wish(8081)]).map(|r: Reservation| r.bindings().to_vec()).unwrap();
        drop(first);
        // The engine is gone: the packet filter goes on, the relay does not.
        check(&[
            ("orphan, 127.0.0.1", ask(machine, "127.0.0.1:8080"), "web 172.17.0.1"),
            ("orphan, ::1", ask(machine, "[::1]:8080"), "-"),
        ]);
        let ports = bindings.into_iter().flat_map(|b| {
            [Proto::Tcp, Proto::Udp].map(|proto| barque_net::PortBinding { proto, host_port: 8080, ..b.clone() })
        });
        let published = Publication {
            endpoint: web.attached.endpoint,
            network: lan.id,
            owner: "web".into(),
            bindings: ports.collect(),
            target: web.target(),
        };
        // Meanwhile somebody took one of the ports, if not on the address that matters.
        let thief = std::net::UdpSocket::bind("[::1]:8080").unwrap();
        let second = fabric("r");
        let failed = second.restore(from_ref(&lan), from_ref(&published)).unwrap();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].0, web.attached.endpoint);
        assert!(failed[0].1.message().contains("port is already allocated (by"), "{}", failed[0].1);
        check(&[("restored in spite of it, 127.0.0.1", ask(machine, "127.0.0.1:8080"), "web 172.17.0.1")]);
        drop((second, thief));
        let third = fabric("r");
        assert_eq!(third.restore(from_ref(&lan), &[published]).unwrap().len(), 0);
        check(&[
            ("restored, 127.0.0.1", ask(machine, "127.0.0.1:8080"), "web 172.17.0.1"),
            ("restored, ::1", ask(machine, "[::1]:8080"), "web 172.17.0.1"),
        ]);
        let error = third.reserve("other", &lan, &[wish(8080)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(error.message(), "Bind for 0.0.0.0:8080 failed: port is already allocated (by container web)");
        // A running container is found again by its namespace, and can be unplugged.
        let ns = NetNs::from_fd(web.as_fd().try_clone_to_owned().unwrap());
        third.disconnect(&web.attached, &ns).unwrap();
        assert_eq!(machine.links().len(), 2);
        check(&[("disconnected", ask(machine, "127.0.0.1:8080"), "-")]);
    });
}

#[test]
fn a_flushed_ruleset_is_written_again() {
    on_machine(|machine| {
        let (fabric, lan) = (fabric("f"), lan("barque0"));
        fabric.ensure_network(&lan).unwrap();
        let web = Container::start(&fabric, &lan, Some("172.17.0.2"), None);
        serve(&web, "web", "0.0.0.0:80");
        publish(&fabric, &lan, &web, Some("127.0.0.1"), &[(8080, 80)]);
        let mut flush = Transaction::new("barque-f");
        flush.delete_table();
        NftSocket::open().unwrap().commit(flush).unwrap();
        eventually("the repair", || tables() == ["barque-f"]);
        check(&[("repaired", ask(machine, "127.0.0.1:8080"), "web 172.17.0.1")]);
        // A bridge that was deleted comes back with the next container.
        let mut batch = barque_sys::netlink::Batch::new();
        use barque_sys::netlink::route::{LinkRef, delete_link};
        delete_link(&mut batch, LinkRef::Name("barque0"));
        machine.socket().apply(&mut batch).unwrap();
        let next = Container::start(&fabric, &lan, Some("172.17.0.3"), None);
        serve(&next, "next", "0.0.0.0:80");
        check(&[("after the bridge was deleted", ask(machine, "172.17.0.3:80"), "next 172.17.0.1")]);
    });
}

#[test]
fn running_containers_are_connected_and_disconnected() {
    on_machine(|_| {
        let fabric = fabric("c");
        let (one, two) = (lan("br-one"), bridge("two", "br-two", &[("172.18.0.0/16", "172.18.0.1")]));
        fabric.ensure_network(&one).unwrap();
        fabric.ensure_network(&two).unwrap();
        let web = Container::start(&fabric, &one, Some("172.17.0.2"), None);
        let far = Container::start(&fabric, &two, Some("172.18.0.9"), None);
        serve(&far, "far", "0.0.0.0:80");
        let ns = NetNs::from_fd(web.as_fd().try_clone_to_owned().unwrap());
        let mut second = EndpointDef::new(Id::random(), Some([172, 18, 0, 2].into()));
        second.default_gateway = false;
        second.mac = Some("02:00:00:00:00:77".parse().unwrap());
        let attached = fabric.attach(&two, &second, &ns).unwrap();
        assert_eq!((attached.ifname.as_str(), attached.mac.to_string().as_str()), ("eth1", "02:00:00:00:00:77"));
        check(&[("connected", ask(&web, "172.18.0.9:80"), "far 172.18.0.2")]);
        let stats = fabric.stats(&ns).unwrap();
        let names: Vec<&str> = stats.iter().map(|s| s.ifname.as_str()).collect();
        assert_eq!(names, ["eth0", "eth1"]);
        assert!(stats[1].rx_bytes > 0 && stats[1].tx_packets > 0);
        let hop = |via: [u8; 4], ifname: &str| Some(Hop { ifname: ifname.into(), via: Some(via.into()) });
        for gateway in [hop([172, 18, 0, 1], "eth1"), None, hop([172, 17, 0, 1], "eth0"), hop([172, 17, 0, 1], "eth0")]
        {
            fabric.set_gateway(&ns, &Gateway { v4: gateway.clone(), v6: None }).unwrap();
            assert_eq!(default_route(&web), gateway.and_then(|g| g.via).map(|ip| ip.to_string()));
        }
        fabric.disconnect(&attached, &ns).unwrap();
        fabric.disconnect(&attached, &ns).unwrap();
        let names: Vec<String> = fabric.stats(&ns).unwrap().into_iter().map(|s| s.ifname).collect();
        assert_eq!(names, ["eth0"]);
        // The name is free again.
        assert_eq!(fabric.attach(&two, &second, &ns).unwrap().ifname, "eth1");
    });
}

fn default_route(container: &Container) -> Option<String> {
    let mut socket = netns::inside(container.as_fd(), barque_sys::netlink::route::RouteSocket::open).unwrap().unwrap();
    let routes = socket.routes().unwrap();
    let default = routes.into_iter().find(|r| r.to.prefix_len() == 0);
    default.and_then(|r| r.via).map(|ip| ip.to_string())
}

#[test]
fn failures_leave_nothing_behind() {
    on_machine(|machine| {
        let (fabric, lan) = (fabric("e"), lan("barque0"));
        fabric.ensure_network(&lan).unwrap();
        let web = Container::start(&fabric, &lan, Some("172.17.0.2"), None);
        let before = machine.links();
        let mut twice = EndpointDef::new(Id::random(), Some([172, 17, 0, 3].into()));
        twice.ifname = Some("eth0".into());
        let error = fabric.attach(&lan, &twice, &web.ns).unwrap_err();
        assert!(error.chain().contains("eth0 is taken"), "{}", error.chain());
        let outside = EndpointDef::new(Id::random(), Some([10, 0, 0, 3].into()));
        assert_eq!(fabric.attach(&lan, &outside, &web.ns).unwrap_err().kind(), ErrorKind::InvalidArgument);
        // Refused half-way, by the kernel: the sysctl does not exist.
        let mut odd = EndpointDef::new(Id::random(), Some([172, 17, 0, 4].into()));
        odd.sysctls = vec![("net.ipv4.conf.IFNAME.no_such_key".into(), "1".into())];
        let error = fabric.attach(&lan, &odd, &web.ns).unwrap_err();
        assert!(error.chain().contains("no_such_key"), "{}", error.chain());
        eventually("the removal", || machine.links() == before);
        // Another interface has the bridge's name.
        let stolen = bridge("x", "lo", &[("172.19.0.0/16", "172.19.0.1")]);
        let error = fabric.ensure_network(&stolen).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("an interface of that name exists"), "{error}");
    });
}

#[test]
fn udp_clients_find_a_port_opened_while_they_send() {
    on_machine(|machine| {
        let outside = Machine::new();
        machine.cable("up0", &["192.0.2.1/24"], &outside, "eth0", &["192.0.2.9/24"]);
        let (fabric, lan) = (fabric("u"), lan("barque0"));
        fabric.ensure_network(&lan).unwrap();
        let one = Container::start(&fabric, &lan, Some("172.17.0.2"), None);
        let two = Container::start(&fabric, &lan, Some("172.17.0.3"), None);
        serve(&one, "one", "0.0.0.0:80");
        serve(&two, "two", "0.0.0.0:80");
        let client = netns::inside(outside.as_fd(), || UdpSocket::bind("0.0.0.0:5000").unwrap()).unwrap();
        client.connect("192.0.2.1:8080").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let ask = || {
            let mut buf = [0; 64];
            client
                .send(b"?")
                .and_then(|_| client.recv(&mut buf))
                .map(|n| String::from_utf8_lossy(&buf[..n]).into_owned())
        };
        // The flow is tracked from here on.
        assert!(ask().is_err());
        publish(&fabric, &lan, &one, None, &[(8080, 80)]);
        eventually("the first container", || ask().is_ok_and(|text| text == "one 192.0.2.9"));
        fabric.unpublish(&one.attached.endpoint).unwrap();
        publish(&fabric, &lan, &two, None, &[(8080, 80)]);
        eventually("the second container", || ask().is_ok_and(|text| text == "two 192.0.2.9"));
    });
}

#[test]
fn an_address_passed_on_is_reachable_at_once() {
    on_machine(|machine| {
        let config = FabricConfig { pool: PoolConfig { bare: 0, bridged: 3 }, ..FabricConfig::new("p") };
        let (fabric, lan) = (Fabric::open(config).unwrap(), lan("barque0"));
        fabric.ensure_network(&lan).unwrap();
        fabric.set_pool_network(Some(&lan));
        let neighbour = Container::start(&fabric, &lan, Some("172.17.0.9"), None);
        for round in 0..6 {
            // Every second one with another MAC address than the IP suggests.
            let ns = fabric.netns(Some(&lan)).unwrap();
            let mut endpoint = EndpointDef::new(Id::random(), Some([172, 17, 0, 2].into()));
            endpoint.mac = (round % 2 == 1).then(|| format!("02:00:00:00:00:0{round}").parse().unwrap());
            let attached = fabric.attach(&lan, &endpoint, &ns).unwrap();
            let name = format!("c{round}");
            serve(&ns, &name, "0.0.0.0:80");
            let start = Instant::now();
            assert_eq!(ask(machine, "172.17.0.2:80"), format!("{name} 172.17.0.1"));
            assert_eq!(ask(&neighbour, "172.17.0.2:80"), format!("{name} 172.17.0.9"));
            assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
            // The namespace lingers, as those of ended containers do: its server still lives.
            fabric.release(&attached).unwrap();
            std::mem::forget(ns);
        }
    });
}

#[test]
fn a_thousand_ports_are_one_transaction() {
    on_machine(|machine| {
        let (fabric, lan) = (fabric("t"), lan("barque0"));
        fabric.ensure_network(&lan).unwrap();
        let web = Container::start(&fabric, &lan, Some("172.17.0.2"), None);
        serve(&web, "web", "0.0.0.0:21999");
        let wishes: Vec<PortRequest> = (20_000..22_000)
            .map(|port| PortRequest {
                container_port: port,
                proto: Proto::Tcp,
                host_ip: Some([0, 0, 0, 0].into()),
                host_ports: Some((port, port)),
            })
            .collect();
        // The limit of open files may be lower than the number of ports; that has a cure.
        let ports = match fabric.reserve("web", &lan, &wishes) {
            Err(error) if error.hint().is_some_and(|h| h.contains("open files")) => {
                fabric.reserve("web", &lan, &wishes[1500..]).unwrap()
            }
            other => other.unwrap(),
        };
        fabric.publish(&lan, &web.attached.endpoint, web.target(), ports).unwrap();
        assert!(ask(machine, "127.0.0.1:21999").starts_with(r#"tcp Some("web 172.17.0.1")"#));
        fabric.unpublish(&web.attached.endpoint).unwrap();
        assert_eq!(ask(machine, "127.0.0.1:21999"), "-");
    });
}

#[test]
fn a_changed_definition_changes_the_bridge() {
    on_machine(|machine| {
        let before = lan("barque0");
        let first = fabric("g");
        first.ensure_network(&before).unwrap();
        drop(first);
        let mut after = bridge("lan", "barque0", &[("10.9.0.0/24", "10.9.0.1")]);
        after.id = before.id;
        if let barque_net::Driver::Bridge(options) = &mut after.driver {
            options.mtu = Some(1280);
        }
        let second = fabric("g");
        let removed = bridge("gone", "br-gone", &[("10.8.0.0/24", "10.8.0.1")]);
        second.ensure_network(&removed).unwrap();
        drop(second);
        // A device of another's is no business of ours, whatever its name.
        machine.cable("br-strange", &["10.7.0.1/24"], &Machine::new(), "x", &[]);
        let third = fabric("g");
        third.restore(&[after], &[]).unwrap();
        assert_eq!(third.device_addresses("barque0").unwrap().unwrap(), ["10.9.0.1/24".parse().unwrap()]);
        assert_eq!(machine.socket().link("barque0").unwrap().unwrap().mtu, 1280);
        eventually("the stray's removal", || !machine.links().contains(&"br-gone".to_owned()));
        assert_eq!(third.device_addresses("br-gone").unwrap(), None);
        assert!(third.host_subnets().unwrap().iter().all(|net| net.to_string() != "10.9.0.0/24"));
    });
}
