//! Bridge networks on machines made of namespaces: who reaches whom, and as whom.

mod common;

use barque_net::{PortRequest, Proto, Target};
use common::{Container, Machine, ask, bridge, check, fabric, on_machine, serve};

fn publish(ports: &[(u16, u16)]) -> Vec<PortRequest> {
    let both = |&(host, container): &(u16, u16)| {
        [Proto::Tcp, Proto::Udp].map(|proto| PortRequest {
            container_port: container,
            proto,
            host_ip: None,
            host_ports: Some((host, host)),
        })
    };
    ports.iter().flat_map(both).collect()
}

#[test]
fn published_ports_are_reachable_from_everywhere() {
    // Where br_netfilter is loaded, bridges redirect frames by themselves; the outcome must not differ.
    for bridged_filter in ["0", "1"] {
        on_machine(|machine| published(machine, bridged_filter));
    }
}

fn published(machine: &Machine, bridged_filter: &str) {
    {
        let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", bridged_filter);
        let outside = Machine::new();
        machine.cable("up0", &["192.0.2.1/24"], &outside, "eth0", &["192.0.2.9/24"]);
        let fabric = fabric("a");
        let lan = bridge("bridge", "barque0", &[("172.17.0.0/16", "172.17.0.1")]);
        let other = bridge("other", "br-other", &[("172.18.0.0/16", "172.18.0.1")]);
        fabric.ensure_network(&lan).unwrap();
        fabric.ensure_network(&other).unwrap();
        let web = Container::start(&fabric, &lan, Some("172.17.0.2"), None);
        let neighbour = Container::start(&fabric, &lan, Some("172.17.0.3"), None);
        let stranger = Container::start(&fabric, &other, Some("172.18.0.2"), None);
        serve(&web, "web", "0.0.0.0:80");
        let ports = fabric.reserve("web", &lan, &publish(&[(8080, 80)])).unwrap();
        let target = Target { v4: Some("172.17.0.2".parse().unwrap()), v6: None };
        fabric.publish(&lan, &web.attached.endpoint, target, ports).unwrap();

        let rows = [
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
        ];
        check(&rows);
    }
}
