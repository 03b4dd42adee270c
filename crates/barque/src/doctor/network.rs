//! Network and firewall.

use std::net::IpAddr;

use barque_daemon::config::Settings;
use barque_sys::netlink::nft::{BaseChain, NftSocket};

use super::{Finding, read};

const NETWORK: &str = "Network";
const FIREWALL: &str = "Firewall";
/// NF_INET_FORWARD, linux/netfilter.h.
const FORWARD: u32 = 2;
/// The engine's own tables begin with this.
const OWN_TABLE: &str = "barque";

pub(super) fn check(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![forwarding(read("/proc/sys/net/ipv4/ip_forward").trim(), settings.ip_forward)];
    findings.extend(default_route(&read("/proc/net/route"), &read("/proc/net/ipv6_route")));
    findings.extend(name_servers(&read("/etc/resolv.conf"), settings.dns.is_empty()));
    if rustix::process::geteuid().is_root() {
        let chains = NftSocket::open().map_err(|e| e.to_string());
        let chains = chains.and_then(|mut socket| socket.base_chains().map_err(|e| e.to_string()));
        findings.extend(match &chains {
            Ok(chains) => forward_chains(chains),
            Err(why) => vec![no_nftables(why)],
        });
    }
    let runs = |service: &str| std::path::Path::new(&format!("/run/{service}")).exists();
    findings.extend(managers(read("/etc/ufw/ufw.conf").contains("ENABLED=yes"), runs("firewalld")));
    findings
}

fn forwarding(now: &str, wanted: Option<bool>) -> Finding {
    match (now, wanted) {
        ("1", _) => Finding::ok(NETWORK, "IPv4 packets are forwarded"),
        (_, Some(false)) => Finding::warning(
            NETWORK,
            "net.ipv4.ip_forward is 0 and the engine is told to leave it so: containers reach this machine only",
            "sysctl -w net.ipv4.ip_forward=1, or drop ip-forward=false from the engine's configuration",
        ),
        _ => Finding::ok(NETWORK, "IPv4 forwarding is off now; the engine switches it on when it starts"),
    }
}

/// proc(5): destination and flags are hexadecimal; 00000000 is the default route.
fn default_route(v4: &str, v6: &str) -> Option<Finding> {
    let v4 = v4.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (interface, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then(|| interface.to_owned())
    });
    let v6 = v6.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let zero = fields.first()?.bytes().all(|b| b == b'0') && *fields.get(1)? == "00";
        fields.last().filter(|name| zero && **name != "lo").map(|name| (*name).to_owned())
    });
    Some(match v4.or(v6) {
        Some(interface) => Finding::ok(NETWORK, format!("the way out is {interface}")),
        None => Finding::warning(
            NETWORK,
            "this machine has no default route: containers reach no other machine, and nothing can be pulled",
            "connect it, or work with barque/host and a registry here: barque registry serve",
        ),
    })
}

fn name_servers(resolv: &str, from_host: bool) -> Option<Finding> {
    if !from_host {
        return None;
    }
    let servers: Vec<IpAddr> = resolv
        .lines()
        .filter_map(|l| l.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().split('%').next()?.parse().ok())
        .collect();
    if servers.is_empty() {
        return Some(Finding::warning(
            NETWORK,
            "/etc/resolv.conf names no name server: names of other machines are not found",
            "name one there, or for containers alone: dns in /etc/barque/daemon.json",
        ));
    }
    let list: Vec<String> = servers.iter().map(ToString::to_string).collect();
    Some(Finding::ok(NETWORK, format!("names are asked of {}", list.join(", "))))
}

fn no_nftables(why: &str) -> Finding {
    Finding::fault(
        FIREWALL,
        format!("the kernel's nftables do not answer ({why}): ports cannot be published"),
        "use a kernel with CONFIG_NF_TABLES and CONFIG_NF_NAT; load them: modprobe nf_tables nft_chain_nat",
    )
}

/// Chains of others that drop what is forwarded: the last word is theirs, whatever the engine accepts.
fn forward_chains(chains: &[BaseChain]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = chains
        .iter()
        .filter(|c| c.hook == FORWARD && c.policy_drop && !c.table.starts_with(OWN_TABLE))
        .filter_map(|c| {
            let family = match c.family {
                1 => "inet",
                2 => "ip",
                10 => "ip6",
                _ => return None,
            };
            let (table, name) = (&c.table, &c.name);
            let cure = if table == "filter" && name == "FORWARD" {
                "where Docker runs: iptables -I DOCKER-USER -i barque0 -j ACCEPT; iptables -I DOCKER-USER -o barque0 \
                 -j ACCEPT\nelse: iptables -I FORWARD -i barque0 -j ACCEPT; iptables -I FORWARD -o barque0 -j \
                 ACCEPT\nand the same for the bridges of other networks (ip link show type bridge)"
                    .to_owned()
            } else {
                format!(
                    "nft insert rule {family} {table} {name} iifname \"barque0\" accept\nnft insert rule {family} \
                     {table} {name} oifname \"barque0\" accept\nand the same for br-*, the bridges of other networks"
                )
            };
            let text = format!(
                "chain {name} of table {family} {table} drops forwarded packets: containers may reach nothing, and \
                 published ports may not answer"
            );
            Some(Finding::warning(FIREWALL, text, cure))
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok(FIREWALL, "nftables answer, and no chain of others drops forwarded packets"));
    }
    findings
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

    fn chain(family: u8, table: &str, name: &str, hook: u32, policy_drop: bool) -> BaseChain {
        let (table, name) = (table.to_owned(), name.to_owned());
        BaseChain { family, table, name, kind: "filter".into(), hook, priority: 0, policy_drop }
    }

    #[test]
    fn chains_of_others_that_drop_are_named() {
        let found = forward_chains(&[
            chain(2, "filter", "FORWARD", FORWARD, true),
            chain(1, "mine", "fwd", FORWARD, true),
            chain(2, "filter", "INPUT", 1, true),
            chain(1, "barque", "forward", FORWARD, true),
        ]);
        assert_eq!(found.len(), 2);
        assert!(found[0].cure.contains("DOCKER-USER") && found[0].text.contains("ip filter"));
        assert!(found[1].cure.starts_with("nft insert rule inet mine fwd iifname"));
        assert_eq!(forward_chains(&[])[0].level, Level::Ok);
    }

    #[test]
    fn routes_and_name_servers() {
        let table = "Iface\tDestination\tGateway\neth0\t00000000\t0101A8C0\n";
        assert_eq!(default_route(table, "").unwrap().text, "the way out is eth0");
        let v6 = "00000000000000000000000000000000 00 0 00 fe80 0 0 0 0 eth1\n";
        assert_eq!(default_route("Iface\n", v6).unwrap().text, "the way out is eth1");
        let only_lo = "00000000000000000000000000000000 00 0 00 0 ffffffff 1 0 00200200 lo\n";
        assert_eq!(default_route("Iface\n", only_lo).unwrap().level, Level::Warning);
        assert!(
            name_servers("nameserver 10.0.0.1\nnameserver fe80::1%eth0\n", true)
                .unwrap()
                .text
                .ends_with("10.0.0.1, fe80::1")
        );
        assert_eq!(name_servers("search x\n", true).unwrap().level, Level::Warning);
        assert_eq!(name_servers("", false), None);
    }

    #[test]
    fn forwarding_is_the_engines_matter_unless_told_not_to() {
        assert_eq!(forwarding("0", None).level, Level::Ok);
        assert_eq!(forwarding("0", Some(false)).level, Level::Warning);
        assert_eq!(managers(true, true).len(), 2);
    }
}
