//! Network and firewall.

use barque_daemon::config::Settings;
use barque_engine::network::{DEFAULT_BRIDGE, plug::host_resolv_conf};
use barque_net::files::resolv::ResolvConf;
use barque_sys::netlink::route::{LinkInfo, RouteInfo, RouteSocket};

use super::{Finding, read};

const NETWORK: &str = "Network";
const FIREWALL: &str = "Firewall";

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![forwarding(
        read("/proc/sys/net/ipv4/ip_forward").trim(),
        settings.ip_forward,
        super::engine::runs(settings),
    )];
    if let Ok(mut socket) = RouteSocket::open()
        && let (Ok(routes), Ok(links)) = (socket.routes(), socket.links())
    {
        findings.push(default_route(&routes, &links));
    }
    findings.extend(settings.dns.is_empty().then(|| name_servers(&host_resolv_conf())));
    if rustix::process::geteuid().is_root() {
        let bridge = settings.bridge.as_deref().unwrap_or(DEFAULT_BRIDGE);
        findings.extend(match barque_net::forward_policies(bridge) {
            Ok(found) if found.is_empty() => {
                vec![Finding::ok(FIREWALL, "nftables answer, and no forward chain of others there drops all packets")]
            }
            Ok(found) => found.into_iter().map(|f| Finding::warning(FIREWALL, f.problem, f.cure)).collect(),
            Err(why) => vec![no_nftables(&why.chain().to_string())],
        });
        // What a server is meant to be is no fault; who misses host.docker.internal finds it here.
        let closed = barque_net::input_policies(bridge).unwrap_or_default();
        findings.extend(closed.iter().map(|f| Finding::ok(FIREWALL, format!("{}; for all: {}", f.problem, f.cure))));
    }
    let runs = |service: &str| std::path::Path::new(&format!("/run/{service}")).exists();
    findings.extend(managers(read("/etc/ufw/ufw.conf").contains("ENABLED=yes"), runs("firewalld")));
    findings
}

fn forwarding(now: &str, wanted: Option<bool>, engine_runs: bool) -> Finding {
    match (now, wanted) {
        ("1", _) => Finding::ok(NETWORK, "IPv4 packets are forwarded"),
        (_, Some(false)) => Finding::warning(
            NETWORK,
            "net.ipv4.ip_forward is 0 and the engine is told to leave it so: containers reach this machine only",
            "sysctl -w net.ipv4.ip_forward=1, or drop ip-forward=false from the engine's configuration",
        ),
        _ if engine_runs => Finding::fault(
            NETWORK,
            "net.ipv4.ip_forward is 0, though an engine runs: something switched it off, containers reach this machine only",
            "sysctl -w net.ipv4.ip_forward=1, and see what sets it to 0 (/etc/sysctl.conf, /etc/sysctl.d)",
        ),
        _ => Finding::ok(NETWORK, "IPv4 forwarding is off now; the engine switches it on when it starts"),
    }
}

fn default_route(routes: &[RouteInfo], links: &[LinkInfo]) -> Finding {
    let mut ways: Vec<&RouteInfo> = routes.iter().filter(|r| r.to.prefix_len() == 0).collect();
    ways.sort_by_key(|r| (r.to.addr().is_ipv6(), r.priority));
    let name = |route: &&RouteInfo| links.iter().find(|l| Some(l.index) == route.link).map(|l| l.name.clone());
    match ways.iter().find_map(name) {
        Some(interface) => Finding::ok(NETWORK, format!("the way out is {interface}")),
        None => Finding::warning(
            NETWORK,
            "this machine has no default route: containers reach no other machine, and nothing can be pulled",
            "connect it, or work with barque/host and a registry here: barque registry serve",
        ),
    }
}

fn name_servers(conf: &ResolvConf) -> Finding {
    if conf.nameservers.is_empty() {
        return Finding::warning(
            NETWORK,
            "/etc/resolv.conf names no name server: names of other machines are not found",
            "name one there, or for containers alone: dns in /etc/barque/daemon.json",
        );
    }
    let list: Vec<String> = conf.nameservers.iter().map(ToString::to_string).collect();
    Finding::ok(NETWORK, format!("names are asked of {}", list.join(", ")))
}

fn no_nftables(why: &str) -> Finding {
    Finding::fault(
        FIREWALL,
        format!("the kernel's nftables do not answer ({why}): ports cannot be published"),
        "use a kernel with CONFIG_NF_TABLES and CONFIG_NF_NAT; load them: modprobe nf_tables nft_chain_nat",
    )
}

fn managers(ufw: bool, firewalld: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if ufw {
        findings.push(Finding::warning(
            FIREWALL,
            "ufw is on: it decides about forwarded packets, those of containers too",
            "ufw route allow in on barque0; ufw route allow out on barque0",
        ));
    }
    if firewalld {
        findings.push(Finding::warning(
            FIREWALL,
            "firewalld is on: it decides about forwarded packets, those of containers too",
            "firewall-cmd --permanent --zone=trusted --add-interface=barque0 && firewall-cmd --reload",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn the_way_out_is_the_preferred_default_route() {
        let mut socket = RouteSocket::open().unwrap();
        let lo = socket.links().unwrap().into_iter().find(|l| l.loopback).unwrap();
        let link = |index: u32, name: &str| LinkInfo { index, name: name.into(), ..lo.clone() };
        let links = [link(2, "eth0"), link(3, "wlan0")];
        let route = |to: &str, link: u32, priority: u32| RouteInfo {
            to: to.parse().unwrap(),
            via: None,
            link: Some(link),
            priority,
            table: 254,
        };
        let both = [route("::/0", 3, 1), route("0.0.0.0/0", 3, 600), route("0.0.0.0/0", 2, 100)];
        assert_eq!(default_route(&both, &links).text, "the way out is eth0");
        assert_eq!(default_route(&both[..1], &links).text, "the way out is wlan0");
        // Half of all addresses is no default route, though it begins with zero too.
        assert_eq!(default_route(&[route("0.0.0.0/1", 2, 0)], &links).level, Level::Warning);
    }

    #[test]
    fn name_servers_that_containers_can_ask() {
        let judge = |text: &str| name_servers(&ResolvConf::parse(text));
        assert!(judge("nameserver 10.0.0.1\nnameserver fd00::1\n").text.ends_with("10.0.0.1, fd00::1"));
        assert_eq!(judge("search x\n").level, Level::Warning);
    }

    #[test]
    fn forwarding_is_the_engines_matter_unless_told_not_to() {
        assert_eq!(forwarding("0", None, false).level, Level::Ok);
        assert_eq!(forwarding("0", None, true).level, Level::Fault);
        assert_eq!(forwarding("0", Some(false), true).level, Level::Warning);
        assert_eq!(managers(true, true).len(), 2);
    }
}
