//! Plans as they print.

use std::collections::BTreeMap;

use barque_model::{ErrorKind, Id};

use super::endpoint::{self, Slot};
use super::network::{self, Surroundings};
use super::rules;
use crate::endpoint::EndpointDef;
use crate::network::{Driver, NetworkDef, Pool};
use crate::ports::{PortBinding, Proto, Target};

const AROUND: Surroundings<'_> = Surroundings { alias: "barque-x", mtu: 1400, ipv6: true, guarded: true };

fn id(byte: u8) -> Id {
    Id::from_bytes([byte; 32])
}

fn net(driver: &str, options: &[(&str, &str)], pools: &[(&str, &str)], internal: bool) -> NetworkDef {
    let options: BTreeMap<String, String> = options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    NetworkDef {
        id: id(0xaa),
        name: "lan".into(),
        driver: Driver::parse(driver, &id(0xaa), &options, internal).unwrap(),
        pools: pools
            .iter()
            .map(|(subnet, gateway)| Pool {
                subnet: subnet.parse().unwrap(),
                ip_range: None,
                gateway: gateway.parse().ok(),
                auxiliary: BTreeMap::new(),
            })
            .collect(),
        internal,
    }
}

const V4: (&str, &str) = ("172.18.0.0/16", "172.18.0.1");
const V6: (&str, &str) = ("fd00:1::/64", "fd00:1::1");

fn slot<'a>(prepared: Option<&'a str>) -> Slot<'a> {
    Slot {
        ifname: "eth0".into(),
        host_ifname: "bq000012345678".into(),
        prepared,
        mtu: 1400,
        ipv6: true,
        bridge_netfilter: false,
    }
}

fn wish() -> EndpointDef {
    EndpointDef::new(id(1), Some([172, 18, 0, 2].into()))
}

#[test]
fn a_bridge_network() {
    insta::assert_snapshot!(network::plan(&net("bridge", &[], &[V4], false), &AROUND), @r#"
    ip link add br-aaaaaaaaaaaa address 02:42:ac:12:00:01 mtu 1400 type bridge # barque-x
    sysctl net/ipv4/conf/br-aaaaaaaaaaaa/route_localnet=1
    sysctl net/ipv6/conf/br-aaaaaaaaaaaa/accept_ra=0
    sysctl net/ipv6/conf/br-aaaaaaaaaaaa/disable_ipv6=1
    ip address add 172.18.0.1/16 dev br-aaaaaaaaaaaa
    ip link set br-aaaaaaaaaaaa up
    chain into-br-aaaaaaaaaaaa {
      iifname "br-aaaaaaaaaaaa" accept
      ct status dnat accept
      drop
    }
    chain nat-br-aaaaaaaaaaaa {
      ip saddr 172.18.0.0/16 oifname != "br-aaaaaaaaaaaa" masquerade
    }
    chain hairpin-br-aaaaaaaaaaaa {
      ip saddr 172.18.0.0/16 masquerade
    }
    element bridges { "br-aaaaaaaaaaaa" }
    element into-bridge { "br-aaaaaaaaaaaa" : jump into-br-aaaaaaaaaaaa }
    element nat-bridge { "br-aaaaaaaaaaaa" : jump nat-br-aaaaaaaaaaaa }
    element hairpin-bridge { "br-aaaaaaaaaaaa" : jump hairpin-br-aaaaaaaaaaaa }
    "#);
}

#[test]
fn an_internal_network_without_direct_contact() {
    let options = [("com.docker.network.bridge.name", "in0"), ("com.docker.network.bridge.enable_icc", "false")];
    insta::assert_snapshot!(network::plan(&net("bridge", &options, &[V4, V6], true), &AROUND), @r#"
    ip link add in0 address 02:42:ac:12:00:01 mtu 1400 type bridge # barque-x
    sysctl net/ipv4/conf/in0/route_localnet=1
    sysctl net/ipv6/conf/in0/accept_ra=0
    sysctl net/ipv6/conf/in0/disable_ipv6=0
    ip address add 172.18.0.1/16 dev in0
    ip address add fd00:1::1/64 dev in0
    ip link set in0 up
    chain into-in0 {
      drop
    }
    chain from-in0 {
      oifname != "in0" drop
    }
    element bridges { "in0" }
    element into-bridge { "in0" : jump into-in0 }
    element from-bridge { "in0" : jump from-in0 }
    element relayed { "in0" }
    "#);
}

#[test]
fn the_frame() {
    let text: String = rules::frame(true).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(text, @r#"
    chain ports {
      ip6 daddr ::1/128 return
      meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @ports4
      meta nfproto ipv4 dnat ip to meta l4proto . th dport map @ports4-any
      meta nfproto ipv6 dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6
      meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @ports6-any
    }
    chain raw-prerouting {
      type filter hook prerouting priority -300; policy accept;
      iifname != "lo" ip daddr 127.0.0.0/8 drop
      iifname @bridges ip saddr 127.0.0.0/8 drop
    }
    chain prerouting {
      type nat hook prerouting priority -100; policy accept;
      iifname @relayed return
      fib daddr type local jump ports
    }
    chain output {
      type nat hook output priority -100; policy accept;
      fib daddr type local jump ports
    }
    chain forward {
      type filter hook forward priority 0; policy accept;
      ct state established,related accept
      iifname vmap @from-bridge
      oifname vmap @into-bridge
    }
    chain postrouting {
      type nat hook postrouting priority 100; policy accept;
      ip saddr 127.0.0.0/8 oifname @bridges masquerade
      iifname vmap @nat-bridge
      ct status dnat oifname vmap @hairpin-bridge
    }
    "#);
    let without: String = rules::frame(false)[0].to_string();
    assert!(without.contains("  ip daddr 127.0.0.0/8 return\n"), "{without}");
}

#[test]
fn an_endpoint_and_one_prepared_ahead() {
    let lan = net("bridge", &[], &[V4, V6], false);
    insta::assert_snapshot!(endpoint::plan(&lan, &wish(), &slot(None)).unwrap(), @r"
    ip link add bq000012345678 up master br-aaaaaaaaaaaa mtu 1400 type veth peer eth0 netns CONTAINER
    ip netns exec CONTAINER ip link set eth0 up
    ip netns exec CONTAINER ip address add 172.18.0.2/16 dev eth0
    ip netns exec CONTAINER ip link set eth0 address 02:42:ac:12:00:02
    ip netns exec CONTAINER ip route replace 0.0.0.0/0 via 172.18.0.1 dev eth0
    ");
    let mut both = wish();
    both.v6 = Some("fd00:1::2".parse().unwrap());
    both.mac = Some("02:00:00:00:00:09".parse().unwrap());
    insta::assert_snapshot!(endpoint::plan(&lan, &both, &slot(Some("eth0"))).unwrap(), @r"
    ip netns exec CONTAINER sysctl net/ipv6/conf/eth0/accept_ra=0
    ip netns exec CONTAINER sysctl net/ipv6/conf/eth0/disable_ipv6=0
    ip netns exec CONTAINER ip address add 172.18.0.2/16 dev eth0
    ip netns exec CONTAINER ip address add fd00:1::2/64 dev eth0
    ip netns exec CONTAINER ip link set eth0 address 02:00:00:00:00:09
    ip netns exec CONTAINER ip route replace 0.0.0.0/0 via 172.18.0.1 dev eth0
    ip netns exec CONTAINER ip route replace ::/0 via fd00:1::1 dev eth0
    ");
    let slot = Slot { ifname: "lan0".into(), ..slot(Some("eth0")) };
    let second = EndpointDef { default_gateway: false, ..wish() };
    insta::assert_snapshot!(endpoint::plan(&lan, &second, &slot).unwrap(), @r"
    ip netns exec CONTAINER ip link set eth0 down
    ip netns exec CONTAINER ip link set eth0 name lan0
    ip netns exec CONTAINER ip link set lan0 up
    ip netns exec CONTAINER ip address add 172.18.0.2/16 dev lan0
    ip netns exec CONTAINER ip link set lan0 address 02:42:ac:12:00:02
    ");
}

#[test]
fn bridge_ports_are_isolated_or_turn_frames_back() {
    let quiet = net("bridge", &[("com.docker.network.bridge.enable_icc", "0")], &[V4], false);
    let text = endpoint::plan(&quiet, &wish(), &slot(None)).unwrap().to_string();
    assert!(text.contains("bridge link set bq000012345678 isolated on"), "{text}");
    let filtered = Slot { bridge_netfilter: true, ..slot(None) };
    let text = endpoint::plan(&net("bridge", &[], &[V4], false), &wish(), &filtered).unwrap().to_string();
    assert!(text.contains("bridge link set bq000012345678 hairpin on"), "{text}");
}

#[test]
fn endpoints_on_a_parent() {
    let vlan = net("macvlan", &[("parent", "eth0.50"), ("macvlan_mode", "vepa")], &[V4], false);
    insta::assert_snapshot!(network::plan(&vlan, &AROUND), @"ip link add eth0.50 up link eth0 type vlan id 50 # barque-x");
    insta::assert_snapshot!(endpoint::plan(&vlan, &wish(), &slot(None)).unwrap(), @r"
    ip link add bq000012345678 netns CONTAINER address 02:42:ac:12:00:02 link eth0.50 type macvlan mode vepa
    ip netns exec CONTAINER ip link set bq000012345678 name eth0
    ip netns exec CONTAINER ip link set eth0 up
    ip netns exec CONTAINER ip address add 172.18.0.2/16 dev eth0
    ip netns exec CONTAINER ip route replace 0.0.0.0/0 via 172.18.0.1 dev eth0
    ");
    let three = net("ipvlan", &[("parent", "eth0"), ("ipvlan_mode", "l3")], &[V4], false);
    insta::assert_snapshot!(endpoint::plan(&three, &wish(), &slot(None)).unwrap(), @r"
    ip link add bq000012345678 netns CONTAINER link eth0 type ipvlan mode l3 bridge
    ip netns exec CONTAINER ip link set bq000012345678 name eth0
    ip netns exec CONTAINER ip link set eth0 up
    ip netns exec CONTAINER ip address add 172.18.0.2/16 dev eth0
    ip netns exec CONTAINER ip route replace 0.0.0.0/0 dev eth0
    ");
    insta::assert_snapshot!(network::plan(&net("macvlan", &[], &[V4], true), &AROUND), @"ip link add dm-aaaaaaaaaaaa up type dummy # barque-x");
}

#[test]
fn impossible_endpoints_are_refused() {
    let lan = net("bridge", &[], &[V4], false);
    let outside = EndpointDef::new(id(1), Some([10, 0, 0, 2].into()));
    assert_eq!(endpoint::plan(&lan, &outside, &slot(None)).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let six = EndpointDef { v6: Some("fd00:1::2".parse().unwrap()), ..wish() };
    let none = Slot { ipv6: false, ..slot(None) };
    let both = net("bridge", &[], &[V4, V6], false);
    assert_eq!(endpoint::plan(&both, &six, &none).unwrap_err().kind(), ErrorKind::Unavailable);
    let ipvlan = net("ipvlan", &[("parent", "eth0")], &[V4], false);
    let mac = EndpointDef { mac: Some("02:00:00:00:00:09".parse().unwrap()), ..wish() };
    assert!(endpoint::plan(&ipvlan, &mac, &slot(None)).unwrap_err().message().contains("MAC"));
    let host = NetworkDef { driver: Driver::Host, ..lan };
    assert!(endpoint::plan(&host, &wish(), &slot(None)).is_err());
}

fn opened(def: &NetworkDef, target: Target) -> String {
    let binding =
        |ip: &str, proto, host_port| PortBinding { container_port: 80, proto, host_ip: ip.parse().unwrap(), host_port };
    let bindings = [
        binding("0.0.0.0", Proto::Tcp, 8080),
        binding("::", Proto::Tcp, 8080),
        binding("127.0.0.1", Proto::Udp, 8081),
        binding("::1", Proto::Tcp, 8082),
        binding("2001:db8::1", Proto::Sctp, 8083),
    ];
    rules::ports(def, &bindings, &target).iter().map(|e| format!("{e}\n")).collect()
}

#[test]
fn a_port_is_one_element() {
    let both = Target { v4: Some([172, 18, 0, 2].into()), v6: Some("fd00:1::2".parse().unwrap()) };
    let four = Target { v6: None, ..both };
    let lan = net("bridge", &[], &[V4, V6], false);
    insta::assert_snapshot!(opened(&lan, both), @r"
    element ports4-any { tcp . 8080 : 172.18.0.2 . 80 }
    element ports6-any { tcp . 8080 : fd00:1::2 . 80 }
    element ports4 { 127.0.0.1 . udp . 8081 : 172.18.0.2 . 80 }
    element ports6 { 2001:db8::1 . sctp . 8083 : fd00:1::2 . 80 }
    ");
    insta::assert_snapshot!(opened(&lan, four), @r"
    element ports4-any { tcp . 8080 : 172.18.0.2 . 80 }
    element ports4 { 127.0.0.1 . udp . 8081 : 172.18.0.2 . 80 }
    ");
    let routed = net("bridge", &[("com.docker.network.bridge.gateway_mode_ipv4", "routed")], &[V4], false);
    insta::assert_snapshot!(opened(&routed, four), @r"
    element open4 { 172.18.0.2 . tcp . 80 }
    element open4 { 172.18.0.2 . udp . 80 }
    ");
    assert_eq!(opened(&net("bridge", &[], &[V4], true), both), "", "internal");
    assert_eq!(opened(&net("macvlan", &[], &[V4], false), both), "", "not ours to translate");
}
