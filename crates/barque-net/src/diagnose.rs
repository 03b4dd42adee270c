//! Looks for settings of others that stop container traffic. Nothing is changed.

use barque_model::Result;
use barque_sys::netlink::nft::{BaseChain, NftSocket};

use crate::apply::links::refused;
use crate::fabric::Finding;
use crate::host::{Host, OWN_TABLES};

const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;

pub(crate) fn diagnose(host: &Host) -> Result<Vec<Finding>> {
    let networks = host.networks();
    let bridges = || networks.iter().filter(|n| !n.internal).filter_map(|n| n.bridge());
    let mut findings = Vec::new();
    if let Ok(socket) = NftSocket::open() {
        findings.extend(drops(socket, HOOK_FORWARD, bridges().next().map_or("BRIDGE", |b| b.bridge.as_str()))?);
    }
    if bridges().next().is_some() && setting("net/ipv4/ip_forward").as_deref() == Some("0") {
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

/// Chains of others that drop what is forwarded: the last word is theirs, whatever an engine accepts. Cures name
/// `bridge`, one command a line.
///
/// # Errors
/// A kernel without nftables; no right to list them.
pub fn forward_policies(bridge: &str) -> Result<Vec<Finding>> {
    drops(NftSocket::open().map_err(|e| refused("open a packet-filter socket", e))?, HOOK_FORWARD, bridge)
}

/// Chains of others that drop what is for this machine: many servers have one, on purpose.
///
/// # Errors
/// As [`forward_policies`].
pub fn input_policies(bridge: &str) -> Result<Vec<Finding>> {
    drops(NftSocket::open().map_err(|e| refused("open a packet-filter socket", e))?, HOOK_INPUT, bridge)
}

fn drops(mut socket: NftSocket, hook: u32, bridge: &str) -> Result<Vec<Finding>> {
    let chains = socket.base_chains().map_err(|e| refused("list packet-filter chains", e))?;
    let mut findings = Vec::new();
    for chain in &chains {
        let Some(family) = foreign(chain, hook) else { continue };
        // A chain that has gone meanwhile drops nothing.
        if chain.policy_drop || socket.drops_the_rest(chain).unwrap_or(false) {
            findings.push(if hook == HOOK_INPUT {
                closed(chain, family, bridge)
            } else {
                dropping(chain, family, bridge)
            });
        }
    }
    Ok(findings)
}

/// The family of a chain of others at that hook.
fn foreign(chain: &BaseChain, hook: u32) -> Option<&'static str> {
    if chain.hook != hook || chain.table.starts_with(OWN_TABLES) {
        return None;
    }
    match chain.family {
        1 => Some("inet"),
        2 => Some("ip"),
        10 => Some("ip6"),
        // Bridges and devices have other hooks by that number.
        _ => None,
    }
}

fn dropping(chain: &BaseChain, family: &str, bridge: &str) -> Finding {
    // iptables-nft keeps its chains here; Docker leaves one for the user's rules.
    let (table, name) = (&chain.table, &chain.name);
    let cure = if table == "filter" && name == "FORWARD" {
        format!(
            "where Docker runs: iptables -I DOCKER-USER -i {bridge} -j ACCEPT; iptables -I DOCKER-USER -o {bridge} -j \
             ACCEPT\nelse: iptables -I FORWARD -i {bridge} -j ACCEPT; iptables -I FORWARD -o {bridge} -j ACCEPT"
        )
    } else {
        format!(
            "nft insert rule {family} {table} {name} iifname \"{bridge}\" accept\nnft insert rule {family} {table} \
             {name} oifname \"{bridge}\" accept"
        )
    };
    Finding {
        problem: format!(
            "chain {name} of table {family} {table} drops forwarded packets that no rule of its own accepts: containers \
             may reach nothing, and published ports may not answer"
        ),
        cure: format!("{cure}\nand the same for the bridges of other networks (ip link show type bridge)"),
    }
}

fn closed(chain: &BaseChain, family: &str, bridge: &str) -> Finding {
    let (table, name) = (&chain.table, &chain.name);
    let cure = if table == "filter" && name == "INPUT" {
        format!("iptables -I INPUT -i {bridge} -j ACCEPT")
    } else {
        format!("nft insert rule {family} {table} {name} iifname \"{bridge}\" accept")
    };
    Finding {
        problem: format!(
            "chain {name} of table {family} {table} lets in what it names only: containers reach services of this machine \
             (host.docker.internal) where it has a rule for them"
        ),
        cure,
    }
}

fn setting(path: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/{path}")).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_others_that_drop_are_named() {
        let judge = |family: u8, table: &str, name: &str, hook: u32| {
            let (table, name) = (table.to_owned(), name.to_owned());
            let chain = BaseChain { family, table, name, kind: "filter".into(), hook, priority: 0, policy_drop: true };
            foreign(&chain, HOOK_FORWARD).map(|family| dropping(&chain, family, "barque0"))
        };
        let docker = judge(2, "filter", "FORWARD", HOOK_FORWARD).unwrap();
        assert!(docker.cure.contains("-I DOCKER-USER -i barque0") && docker.problem.contains("ip filter"));
        let other = judge(1, "mine", "fwd", HOOK_FORWARD).unwrap();
        assert!(other.cure.starts_with("nft insert rule inet mine fwd iifname \"barque0\" accept\n"), "{}", other.cure);
        assert_eq!(judge(2, "filter", "INPUT", HOOK_INPUT), None);
        assert_eq!(judge(7, "bridge", "forward", HOOK_FORWARD), None);
        assert_eq!(judge(1, "barque-0123456789ab", "forward", HOOK_FORWARD), None, "of any engine");
    }
}
