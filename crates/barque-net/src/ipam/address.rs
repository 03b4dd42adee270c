//! Addresses of endpoints and gateways.

use std::collections::BTreeSet;
use std::net::IpAddr;

use barque_model::{Error, Result};

use super::{NAMED, address, number};
use crate::network::Pool;

/// The first and the last number containers may have: the range or subnet, without the
/// subnet's own address and, for IPv4, its broadcast address.
fn limits(pool: &Pool) -> (u128, u128) {
    let range = pool.ip_range.unwrap_or(pool.subnet);
    let (mut first, mut last) = (number(range.network()), number(range.broadcast()));
    first = first.max(number(pool.subnet.network()).saturating_add(1));
    if pool.subnet.addr().is_ipv4() {
        last = last.min(number(pool.subnet.broadcast()).saturating_sub(1));
    }
    (first, last)
}

/// The gateway of a pool whose user named none: the first address of the range or subnet that is
/// not one of the auxiliary ones.
pub fn choose_gateway(pool: &Pool) -> Result<IpAddr> {
    let reserved: BTreeSet<u128> = pool.auxiliary.values().map(|ip| number(*ip)).collect();
    let v6 = pool.subnet.addr().is_ipv6();
    lowest_free(pool, &reserved).map(|n| address(n, v6)).ok_or_else(|| {
        Error::invalid("failed to allocate gateway (): No available addresses on this pool")
            .with_hint(format!("{} is too small; choose a larger --subnet or --ip-range", pool.subnet))
    })
}

/// The lowest free address of a pool, or `requested` if that is free.
/// `used` holds the addresses of the network's endpoints and who has them.
///
/// Errors: [`barque_model::ErrorKind::Conflict`] `Address already in use`,
/// [`barque_model::ErrorKind::InvalidArgument`] outside the subnet,
/// [`barque_model::ErrorKind::Unavailable`] `no available IPv4 addresses on this network's address pools`.
pub fn choose_address(
    network: &str,
    pool: &Pool,
    used: &[(IpAddr, String)],
    requested: Option<IpAddr>,
) -> Result<IpAddr> {
    if let Some(wanted) = requested {
        return check_requested(network, pool, used, wanted);
    }
    let fixed = pool.gateway.iter().chain(pool.auxiliary.values());
    let reserved: BTreeSet<u128> = fixed.chain(used.iter().map(|(ip, _)| ip)).map(|ip| number(*ip)).collect();
    let v6 = pool.subnet.addr().is_ipv6();
    lowest_free(pool, &reserved).map(|n| address(n, v6)).ok_or_else(|| {
        let family = if v6 { "IPv6" } else { "IPv4" };
        let span = pool.ip_range.unwrap_or(pool.subnet);
        Error::unavailable(format!("no available {family} addresses on this network's address pools: {network}"))
            .with_hint(format!(
                "all of {span} is taken: {}; remove containers, or use a network with a larger subnet",
                holders(pool, used)
            ))
    })
}

/// Who has the addresses of a pool; the first ones by name.
fn holders(pool: &Pool, used: &[(IpAddr, String)]) -> String {
    let span = pool.ip_range.unwrap_or(pool.subnet);
    let gateway = pool.gateway.iter().map(|ip| (*ip, "the gateway"));
    let auxiliary = pool.auxiliary.iter().map(|(name, ip)| (*ip, name.as_str()));
    let all = gateway.chain(auxiliary).chain(used.iter().map(|(ip, by)| (*ip, by.as_str())));
    let all: Vec<String> = all.filter(|(ip, _)| span.contains(ip)).map(|(ip, by)| format!("{ip} ({by})")).collect();
    let more = all.len().saturating_sub(NAMED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "))
}

fn lowest_free(pool: &Pool, reserved: &BTreeSet<u128>) -> Option<u128> {
    let (first, last) = limits(pool);
    let mut at = first;
    for taken in reserved.range(first..) {
        if *taken > at {
            break;
        }
        at = at.checked_add(1)?;
    }
    (at <= last).then_some(at)
}

fn check_requested(network: &str, pool: &Pool, used: &[(IpAddr, String)], wanted: IpAddr) -> Result<IpAddr> {
    let subnet = pool.subnet;
    if !subnet.contains(&wanted) {
        return Err(Error::invalid(format!("no configured subnet contains IP address {wanted}"))
            .with_hint(format!("network {network} spans {subnet}")));
    }
    let in_use = |by: String| {
        Error::conflict(format!("Address already in use: {wanted} is {by}"))
            .with_hint(format!("choose another address of {subnet}, or leave the choice to the engine"))
    };
    if let Some((_, by)) = used.iter().find(|(ip, _)| *ip == wanted) {
        return Err(in_use(format!("held by {by}")));
    }
    if pool.gateway == Some(wanted) {
        return Err(in_use(format!("the gateway of network {network}")));
    }
    if let Some((name, _)) = pool.auxiliary.iter().find(|(_, ip)| **ip == wanted) {
        return Err(in_use(format!("the auxiliary address {name} of network {network}")));
    }
    if wanted == subnet.network() || (wanted.is_ipv4() && wanted == subnet.broadcast()) {
        return Err(in_use(format!("the network or broadcast address of {subnet}")));
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use barque_model::ErrorKind;

    fn pool(subnet: &str, range: Option<&str>, gateway: Option<&str>) -> Pool {
        Pool {
            subnet: subnet.parse().unwrap(),
            ip_range: range.map(|r| r.parse().unwrap()),
            gateway: gateway.map(|g| g.parse().unwrap()),
            auxiliary: [("router".to_owned(), "10.0.0.3".parse().unwrap())].into(),
        }
    }

    fn used(list: &[&str]) -> Vec<(IpAddr, String)> {
        list.iter().map(|ip| (ip.parse().unwrap(), format!("container of {ip}"))).collect()
    }

    fn next(pool: &Pool, taken: &[&str]) -> String {
        choose_address("lan", pool, &used(taken), None).map_or_else(|e| e.to_string(), |ip| ip.to_string())
    }

    #[test]
    fn the_lowest_free_address_is_taken() {
        let lan = pool("10.0.0.0/24", None, Some("10.0.0.1"));
        assert_eq!(next(&lan, &[]), "10.0.0.2");
        assert_eq!(next(&lan, &["10.0.0.2"]), "10.0.0.4");
        assert_eq!(next(&lan, &["10.0.0.4", "10.0.0.2", "10.0.0.5", "10.0.0.9"]), "10.0.0.6");
        // Given back, given out again.
        assert_eq!(next(&lan, &["10.0.0.4"]), "10.0.0.2");
    }

    #[test]
    fn a_range_is_kept_to() {
        let lan = pool("10.0.0.0/16", Some("10.0.5.0/30"), Some("10.0.5.0"));
        assert_eq!(next(&lan, &[]), "10.0.5.1");
        let full = next(&lan, &["10.0.5.1", "10.0.5.2", "10.0.5.3"]);
        assert_eq!(full, "no available IPv4 addresses on this network's address pools: lan");
    }

    #[test]
    fn network_and_broadcast_addresses_are_not_given_out() {
        let tiny = pool("10.1.0.0/30", None, Some("10.1.0.1"));
        assert_eq!(next(&tiny, &[]), "10.1.0.2");
        assert!(next(&tiny, &["10.1.0.2"]).starts_with("no available"));
        assert!(next(&pool("10.1.0.0/31", None, None), &[]).starts_with("no available"));
        assert!(next(&pool("10.1.0.0/32", None, None), &[]).starts_with("no available"));
        let edge = pool("255.255.255.0/24", None, None);
        assert_eq!(next(&edge, &[]), "255.255.255.1");
    }

    #[test]
    fn ipv6_counts_the_same_way() {
        let six = pool("fd00::/64", None, Some("fd00::1"));
        assert_eq!(next(&six, &["fd00::2"]), "fd00::3");
        assert_eq!(next(&pool("::/0", None, None), &[]), "::1");
    }

    #[test]
    fn gateways_come_first() {
        let of = |p: &Pool| choose_gateway(p).map(|ip| ip.to_string());
        assert_eq!(of(&pool("10.0.0.0/24", None, None)).unwrap(), "10.0.0.1");
        assert_eq!(of(&pool("10.0.0.0/16", Some("10.0.5.0/24"), None)).unwrap(), "10.0.5.0");
        assert!(of(&pool("10.0.0.0/31", None, None)).is_err());
    }

    #[test]
    fn wishes_are_granted_or_refused_with_the_reason() {
        let lan = pool("10.0.0.0/24", None, Some("10.0.0.1"));
        let ask = |ip: &str| choose_address("lan", &lan, &used(&["10.0.0.7"]), Some(ip.parse().unwrap()));
        assert_eq!(ask("10.0.0.9").unwrap().to_string(), "10.0.0.9");
        for (ip, kind, says) in [
            ("10.0.1.9", ErrorKind::InvalidArgument, "no configured subnet contains IP address 10.0.1.9"),
            ("10.0.0.7", ErrorKind::Conflict, "held by container of 10.0.0.7"),
            ("10.0.0.1", ErrorKind::Conflict, "gateway"),
            ("10.0.0.3", ErrorKind::Conflict, "router"),
            ("10.0.0.255", ErrorKind::Conflict, "broadcast"),
        ] {
            let error = ask(ip).unwrap_err();
            assert_eq!(error.kind(), kind, "{ip}");
            assert!(error.message().contains(says), "{error}");
            assert!(error.hint().is_some());
        }
    }
}
