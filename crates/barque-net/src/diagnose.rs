//! Looks for settings of others that stop container traffic. Nothing is changed.

use barque_model::Result;
use barque_sys::netlink::nft::{BaseChain, NftSocket};

use crate::apply::links::refused;
use crate::fabric::Finding;
use crate::host::Host;

const HOOK_FORWARD: u32 = 2;

pub(crate) fn diagnose(host: &Host) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if let Ok(mut socket) = NftSocket::open() {
        let chains = socket.base_chains().map_err(|e| refused("list packet-filter chains", e))?;
        findings.extend(chains.iter().filter_map(|c| forward_policy(c, &host.names.table)));
    }
    let bridged = host.networks().iter().any(|n| n.bridge().is_some() && !n.internal);
    if bridged && setting("net/ipv4/ip_forward").as_deref() == Some("0") {
        findings.push(Finding {
            problem: "net.ipv4.ip_forward is 0: containers reach neither other machines nor are they reached".into(),
            cure: "sysctl -w net.ipv4.ip_forward=1".into(),
        });
    }
    let v6 = host.networks().iter().any(|n| n.has_ipv6());
    if v6 && setting("net/ipv6/conf/all/forwarding").as_deref() == Some("0") {
        findings.push(Finding {
            problem: "net.ipv6.conf.all.forwarding is 0: containers' IPv6 ends at this machine".into(),
            cure: "sysctl -w net.ipv6.conf.all.forwarding=1".into(),
        });
    }
    Ok(findings)
}

fn forward_policy(chain: &BaseChain, own: &str) -> Option<Finding> {
    if chain.hook != HOOK_FORWARD || !chain.policy_drop || chain.table == own {
        return None;
    }
    let family = match chain.family {
        1 => "inet",
        2 => "ip",
        10 => "ip6",
        // Bridges and devices have other hooks by that number.
        _ => return None,
    };
    // iptables-nft keeps its chains here; Docker leaves one for the user's rules.
    let (table, name) = (&chain.table, &chain.name);
    let cure = if table == "filter" && name == "FORWARD" {
        "iptables -I DOCKER-USER -j ACCEPT where Docker made it so, else iptables -I FORWARD … -j ACCEPT \
         for the bridges that `ip link show type bridge` lists"
            .to_owned()
    } else {
        format!("nft insert rule {family} {table} {name} iifname \"br-*\" accept, and the same for oifname")
    };
    Some(Finding {
        problem: format!(
            "chain {name} of table {family} {table} drops forwarded packets that no rule of its own accepts"
        ),
        cure,
    })
}

fn setting(path: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/{path}")).ok().map(|text| text.trim().to_owned())
}
