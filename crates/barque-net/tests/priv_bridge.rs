//! Bridge networks on machines made of namespaces: who reaches whom, and as whom.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use barque_net::network::GatewayMode;
use barque_net::{BridgeOptions, Driver, NetworkDef};
use barque_sys::netlink::netns;
use common::{Container, Machine, ask, bridge, check, fabric, on_machine, publish, serve};

fn with(def: NetworkDef, change: impl FnOnce(&mut BridgeOptions)) -> NetworkDef {
    let mut def = def;
    if let Driver::Bridge(options) = &mut def.driver {
        change(options);
    }
    def
}

fn lan() -> NetworkDef {
    bridge("bridge", "barque0", &[("172.17.0.0/16", "172.17.0.1")])
}

fn other() -> NetworkDef {
    bridge("other", "br-other", &[("172.18.0.0/16", "172.18.0.1")])
}

/// Runs a test twice: where br_netfilter is at work, bridges redirect frames by themselves, and
/// the outcome must not differ.
fn with_and_without_br_netfilter(test: fn(&Machine)) {
    for on in ["0", "1"] {
        on_machine(|machine| {
            for family in ["iptables", "ip6tables"] {
                let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), on);
            }
            test(machine);
        });
    }
}

#[test]
fn published_ports_are_reachable_from_everywhere() {
    with_and_without_br_netfilter(|machine| {
        let outside = Machine::new();
        machine.cable("up0", &["192.0.2.1/24"], &outside, "eth0", &["192.0.2.9/24"]);
        let (fabric, lan, other) = (fabric("a"), lan(), other());
        fabric.ensure_network(&lan).unwrap();
        fabric.ensure_network(&other).unwrap();
        let web = Container::start(&fabric, &lan, Some("172.17.0.2"), None);
        let neighbour = Container::start(&fabric, &lan, Some("172.17.0.3"), None);
        let stranger = Container::start(&fabric, &other, Some("172.18.0.2"), None);
        serve(&web, "web", "0.0.0.0:80");
        publish(&fabric, &lan, &web, None, &[(8080, 80)]);
        check(&[
            ("machine, 127.0.0.1", ask(machine, "127.0.0.1:8080"), "web 172.17.0.1"),
            ("machine, ::1", ask(machine, "[::1]:8080"), "web 172.17.0.1"),
            ("machine, own address", ask(machine, "192.0.2.1:8080"), "web 192.0.2.1"),
            ("machine, container's address", ask(machine, "172.17.0.2:80"), "web 172.17.0.1"),
            ("outside, machine's address", ask(&outside, "192.0.2.1:8080"), "web 192.0.2.9"),
            ("neighbour, container's address", ask(&neighbour, "172.17.0.2:80"), "web 172.17.0.3"),
            ("neighbour, gateway", ask(&neighbour, "172.17.0.1:8080"), "web 172.17.0.1"),
            ("neighbour, machine's address", ask(&neighbour, "192.0.2.1:8080"), "web 172.17.0.1"),
            ("itself, machine's address", ask(&web, "192.0.2.1:8080"), "web 172.17.0.1"),
            ("other network, machine's address", ask(&stranger, "192.0.2.1:8080"), "web 172.17.0.1"),
            ("other network, its gateway", ask(&stranger, "172.18.0.1:8080"), "web 172.17.0.1"),
            ("other network, container's address", ask(&stranger, "172.17.0.2:80"), "-"),
        ]);
        fabric.unpublish(&web.attached.endpoint).unwrap();
        check(&[
            ("closed, machine", ask(machine, "127.0.0.1:8080"), "-"),
            ("closed, ::1", ask(machine, "[::1]:8080"), "-"),
            ("closed, outside", ask(&outside, "192.0.2.1:8080"), "-"),
        ]);
    });
}

#[test]
fn published_ports_are_reachable_over_ipv6() {
    with_and_without_br_netfilter(|machine| {
        let outside = Machine::new();
        machine.cable("up0", &["2001:db8::1/64"], &outside, "eth0", &["2001:db8::9/64"]);
        let fabric = fabric("a");
        let lan = bridge("lan", "br-lan", &[("172.18.0.0/16", "172.18.0.1"), ("fd00:1::/64", "fd00:1::1")]);
        let other = bridge("other", "br-other", &[("fd00:2::/64", "fd00:2::1")]);
        let four = bridge("four", "br-four", &[("172.19.0.0/16", "172.19.0.1")]);
        [&lan, &other, &four].iter().for_each(|def| fabric.ensure_network(def).unwrap());
        let web = Container::start(&fabric, &lan, Some("172.18.0.2"), Some("fd00:1::2"));
        let neighbour = Container::start(&fabric, &lan, Some("172.18.0.3"), Some("fd00:1::3"));
        let stranger = Container::start(&fabric, &other, None, Some("fd00:2::2"));
        let old = Container::start(&fabric, &four, Some("172.19.0.2"), None);
        serve(&web, "web", "[::]:80");
        serve(&old, "old", "0.0.0.0:80");
        publish(&fabric, &lan, &web, None, &[(8080, 80)]);
        publish(&fabric, &four, &old, None, &[(8081, 80)]);
        check(&[
            ("machine, 127.0.0.1", ask(machine, "127.0.0.1:8080"), "web 172.18.0.1"),
            ("machine, ::1", ask(machine, "[::1]:8080"), "web fd00:1::1"),
            ("machine, own address", ask(machine, "[2001:db8::1]:8080"), "web 2001:db8::1"),
            ("machine, container's address", ask(machine, "[fd00:1::2]:80"), "web fd00:1::1"),
            ("outside, machine's address", ask(&outside, "[2001:db8::1]:8080"), "web 2001:db8::9"),
            ("neighbour, container's address", ask(&neighbour, "[fd00:1::2]:80"), "web fd00:1::3"),
            ("neighbour, machine's address", ask(&neighbour, "[2001:db8::1]:8080"), "web fd00:1::1"),
            ("itself, machine's address", ask(&web, "[2001:db8::1]:8080"), "web fd00:1::1"),
            ("other network, machine's address", ask(&stranger, "[2001:db8::1]:8080"), "web fd00:1::1"),
            ("other network, container's address", ask(&stranger, "[fd00:1::2]:80"), "-"),
            ("outside, container without IPv6", ask(&outside, "[2001:db8::1]:8081"), "old 172.19.0.1"),
            ("machine, container without IPv6", ask(machine, "[::1]:8081"), "old 172.19.0.1"),
        ]);
    });
}

#[test]
fn networks_are_isolated() {
    with_and_without_br_netfilter(|machine| {
        let outside = Machine::new();
        machine.cable("up0", &["192.0.2.1/24"], &outside, "eth0", &["192.0.2.9/24"]);
        serve(&outside, "outside", "0.0.0.0:80");
        serve(machine, "machine", "0.0.0.0:81");
        let (fabric, lan) = (fabric("a"), lan());
        let internal = NetworkDef { internal: true, ..other() };
        let quiet = bridge("quiet", "br-quiet", &[("172.19.0.0/16", "172.19.0.1")]);
        let quiet = with(quiet, |b| b.icc = false);
        [&lan, &internal, &quiet].iter().for_each(|def| fabric.ensure_network(def).unwrap());
        let a = Container::start(&fabric, &lan, Some("172.17.0.2"), None);
        let (i, j) = (
            Container::start(&fabric, &internal, Some("172.18.0.2"), None),
            Container::start(&fabric, &internal, Some("172.18.0.3"), None),
        );
        let (q, r) = (
            Container::start(&fabric, &quiet, Some("172.19.0.2"), None),
            Container::start(&fabric, &quiet, Some("172.19.0.3"), None),
        );
        for (container, name) in [(&a, "a"), (&i, "i"), (&j, "j"), (&q, "q")] {
            serve(container, name, "0.0.0.0:80");
        }
        publish(&fabric, &lan, &a, None, &[(8080, 80)]);
        publish(&fabric, &quiet, &q, None, &[(8081, 80)]);
        publish(&fabric, &internal, &i, None, &[(8082, 80)]);
        check(&[
            ("plain to outside", ask(&a, "192.0.2.9:80"), "outside 192.0.2.1"),
            ("plain to machine", ask(&a, "172.17.0.1:81"), "machine 172.17.0.2"),
            ("internal to itself", ask(&i, "172.18.0.3:80"), "j 172.18.0.2"),
            ("internal to machine", ask(&i, "172.18.0.1:81"), "machine 172.18.0.2"),
            ("machine to internal", ask(machine, "172.18.0.2:80"), "i 172.18.0.1"),
            ("internal to outside", ask(&i, "192.0.2.9:80"), "-"),
            ("internal to plain", ask(&i, "172.17.0.2:80"), "-"),
            ("internal to published", ask(&i, "172.18.0.1:8080"), "-"),
            ("plain to internal", ask(&a, "172.18.0.2:80"), "-"),
            ("outside to internal's port", ask(&outside, "192.0.2.1:8082"), "-"),
            ("machine to internal's port", ask(machine, "127.0.0.1:8082"), "-"),
            ("icc off, to the neighbour", ask(&r, "172.19.0.2:80"), "-"),
            ("icc off, to outside", ask(&r, "192.0.2.9:80"), "outside 192.0.2.1"),
            ("icc off, to published", ask(&r, "192.0.2.1:8081"), "q 172.19.0.1"),
            ("icc off, from machine", ask(machine, "127.0.0.1:8081"), "q 172.19.0.1"),
            ("icc off, from outside", ask(&outside, "192.0.2.1:8081"), "q 192.0.2.9"),
        ]);
        // Even with a route, an internal network has no way out.
        let gateway = barque_net::Hop { ifname: "eth0".into(), via: Some("172.18.0.1".parse().unwrap()) };
        fabric.set_gateway(&i.ns, &barque_net::Gateway { v4: Some(gateway), v6: None }).unwrap();
        check(&[
            ("internal with a route, to outside", ask(&i, "192.0.2.9:80"), "-"),
            ("internal with a route, to plain", ask(&i, "172.17.0.2:80"), "-"),
            ("internal with a route, to published", ask(&i, "192.0.2.1:8080"), "-"),
        ]);
    });
}

#[test]
fn containers_are_out_of_reach_for_those_who_route_around() {
    on_machine(|machine| {
        let outside = Machine::new();
        machine.cable("up0", &["192.0.2.1/24"], &outside, "eth0", &["192.0.2.9/24"]);
        let fabric = fabric("a");
        let nets = [
            (GatewayMode::Nat, "br-nat", "172.17.0"),
            (GatewayMode::NatUnprotected, "br-open", "172.18.0"),
            (GatewayMode::Routed, "br-routed", "172.19.0"),
        ];
        serve(&outside, "outside", "0.0.0.0:1000");
        let mut rows = Vec::new();
        for (mode, device, base) in nets {
            let net = bridge(device, device, &[(&format!("{base}.0/24"), &format!("{base}.1"))]);
            let net = with(net, |b| b.gateway_mode_v4 = mode);
            fabric.ensure_network(&net).unwrap();
            let web = Container::start(&fabric, &net, Some(&format!("{base}.2")), None);
            serve(&web, "web", "0.0.0.0:80");
            serve(&web, "web", "0.0.0.0:81");
            publish(&fabric, &net, &web, None, &[(8080, 80)]);
            outside.route(&format!("{base}.0/24"), "192.0.2.1", "eth0");
            rows.push(format!(
                "{mode:?}: published {}, direct {}, unpublished {}",
                ask(&outside, "192.0.2.1:8080"),
                ask(&outside, &format!("{base}.2:80")),
                ask(&outside, &format!("{base}.2:81")),
            ));
            fabric.release(&web.attached).unwrap();
            drop(web);
            let inside = Container::start(&fabric, &net, Some(&format!("{base}.3")), None);
            rows.push(format!("{mode:?}: outgoing {}", ask(&inside, "192.0.2.9:1000")));
            fabric.remove_network(&net).unwrap();
        }
        assert_eq!(
            rows,
            [
                "Nat: published web 192.0.2.9, direct -, unpublished -",
                "Nat: outgoing outside 192.0.2.1",
                "NatUnprotected: published web 192.0.2.9, direct web 192.0.2.9, unpublished web 192.0.2.9",
                "NatUnprotected: outgoing outside 192.0.2.1",
                // The relay serves the machine's own address.
                "Routed: published web 172.19.0.1, direct web 192.0.2.9, unpublished -",
                "Routed: outgoing outside 172.19.0.3",
            ]
        );
    });
}

#[test]
fn loopback_stays_out_of_reach() {
    on_machine(|machine| {
        let outside = Machine::new();
        machine.cable("up0", &["192.0.2.1/24"], &outside, "eth0", &["192.0.2.9/24"]);
        let (fabric, lan) = (fabric("a"), lan());
        fabric.ensure_network(&lan).unwrap();
        let web = Container::start(&fabric, &lan, Some("172.17.0.2"), None);
        let evil = Container::start(&fabric, &lan, Some("172.17.0.3"), None);
        let secret = listen(machine, "127.0.0.1:99");
        let service = listen(&web, "0.0.0.0:80");
        publish(&fabric, &lan, &web, Some("127.0.0.1"), &[(8080, 80)]);
        // Attackers that send packets for 127.0.0.1 out of their interface, and a machine that would take them.
        machine.sysctl("ipv4/conf/up0/route_localnet", "1");
        let evil = Machine { ns: evil.as_fd().try_clone_to_owned().unwrap() };
        for (attacker, router) in [(&outside, "192.0.2.1"), (&evil, "172.17.0.1")] {
            attacker.sysctl("ipv4/conf/eth0/route_localnet", "1");
            attacker.drop_loopback();
            attacker.route("127.0.0.0/8", router, "eth0");
            assert!(!arrives(attacker, "127.0.0.1:99", &secret));
            assert!(!arrives(attacker, "127.0.0.1:8080", &service));
            assert!(!arrives(attacker, &format!("{router}:8080"), &service));
        }
        assert!(arrives(machine, "127.0.0.1:8080", &service));
        // Without the table they would get in: the attack is sound, and the guard is what stops it.
        fabric.remove_all().unwrap();
        assert!(arrives(&outside, "127.0.0.1:99", &secret));
    });
}

fn listen(ns: impl AsFd, at: &str) -> UdpSocket {
    let socket = netns::inside(ns.as_fd(), || UdpSocket::bind(at).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

fn arrives(from: impl AsFd, to: &str, at: &UdpSocket) -> bool {
    let socket = netns::inside(from.as_fd(), || UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    let _ = socket.send_to(b"hello", to);
    at.recv(&mut [0; 8]).is_ok()
}

#[test]
fn without_the_packet_filter_ports_are_relayed() {
    on_machine(|machine| {
        let outside = Machine::new();
        machine.cable("up0", &["192.0.2.1/24", "192.0.2.2/24"], &outside, "eth0", &["192.0.2.9/24"]);
        let mut config = barque_net::FabricConfig::new("nofilter");
        config.firewall = false;
        let (fabric, lan) = (barque_net::Fabric::open(config).unwrap(), lan());
        fabric.ensure_network(&lan).unwrap();
        let web = Container::start(&fabric, &lan, Some("172.17.0.2"), None);
        serve(&web, "web", "0.0.0.0:80");
        publish(&fabric, &lan, &web, None, &[(8080, 80)]);
        check(&[
            ("machine, 127.0.0.1", ask(machine, "127.0.0.1:8080"), "web 172.17.0.1"),
            ("machine, 127.0.0.5", ask(machine, "127.0.0.5:8080"), "web 172.17.0.1"),
            ("outside", ask(&outside, "192.0.2.1:8080"), "web 172.17.0.1"),
            ("outside, second address", ask(&outside, "192.0.2.2:8080"), "web 172.17.0.1"),
        ]);
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/conf/barque0/route_localnet").unwrap().trim(), "0");
    });
}
