//! Subnets for networks whose user named none, and the check of those he named.

use barque_model::{Error, ErrorKind, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{AddressPool, NAMED, Taken, address, number};

/// Docker's pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in pieces of /20.
pub fn default_pools() -> Vec<AddressPool> {
    let v4 = |a, b, prefix, size| {
        let base = Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, 0, 0), prefix);
        AddressPool { base: base.into(), size }
    };
    let mut pools: Vec<AddressPool> = (17..=31).map(|b| v4(172, b, 16, 16)).collect();
    pools.push(v4(192, 168, 16, 20));
    pools
}

/// The first free subnet of `pools`.
///
/// Errors: [`ErrorKind::Unavailable`] with Docker's text when all are taken, naming the takers.
pub fn choose_subnet(pools: &[AddressPool], taken: &[Taken]) -> Result<IpNet> {
    if let Some(subnet) = pools.iter().find_map(|pool| first_free(pool, taken)) {
        return Ok(subnet);
    }
    let takers: Vec<String> = taken
        .iter()
        .filter(|t| pools.iter().any(|p| overlaps(&p.base, &t.subnet)))
        .map(|t| format!("{} ({})", t.subnet, t.by))
        .collect();
    let more = takers.len().saturating_sub(NAMED);
    let named = takers.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    Err(Error::unavailable("all predefined address pools have been fully subnetted").with_hint(format!(
        "taken: {named}{rest}; remove unused networks (network prune), name a --subnet, or add --default-address-pool"
    )))
}

/// A /64 from the unique local /48 that belongs to this engine (RFC 4193); the same for the same seed.
pub fn choose_subnet_v6(seed: &[u8], taken: &[Taken]) -> Result<IpNet> {
    // FNV-1a: the 40 bits of a site need to be spread, not secret.
    let hash = seed.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    let site = u128::from(hash >> 24);
    let base = std::net::Ipv6Addr::from(0xfd << 120 | site << 80);
    let base = Ipv6Net::new(base, 48).map_err(|e| Error::internal("no IPv6 site").with_source(e))?;
    choose_subnet(&[AddressPool { base: base.into(), size: 64 }], taken)
}

fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn first_free(pool: &AddressPool, taken: &[Taken]) -> Option<IpNet> {
    let base = pool.base.trunc();
    if pool.size < base.prefix_len() || pool.size > base.max_prefix_len() {
        return None;
    }
    let v6 = base.addr().is_ipv6();
    let step = 1u128.checked_shl(u32::from(base.max_prefix_len() - pool.size))?;
    let end = number(base.broadcast());
    let mut at = number(base.network());
    loop {
        let candidate = IpNet::new(address(at, v6), pool.size).ok()?;
        let blocker = taken.iter().map(|t| &t.subnet).find(|t| overlaps(&candidate, t));
        let Some(blocker) = blocker else { return Some(candidate) };
        // On behind what is in the way; every turn leaves at least one taker behind.
        let past = number(blocker.broadcast()).max(number(candidate.broadcast())).checked_add(1)?;
        at = past.checked_add(step - 1)? / step * step;
        if at > end {
            return None;
        }
    }
}

/// Refuses a subnet asked for by the user that overlaps another network's.
///
/// Errors: [`ErrorKind::Forbidden`] `Pool overlaps with other one on this address space` naming it.
pub fn check_subnet(wanted: IpNet, networks: &[Taken]) -> Result<()> {
    let Some(other) = networks.iter().find(|t| overlaps(&wanted.trunc(), &t.subnet.trunc())) else { return Ok(()) };
    let message = "invalid pool request: Pool overlaps with other one on this address space";
    Err(Error::new(ErrorKind::Forbidden, format!("{message}: {} of {}", other.subnet, other.by))
        .with_hint("choose another --subnet, or remove that network"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(list: &[&str]) -> Vec<Taken> {
        list.iter().map(|s| Taken { subnet: s.parse().unwrap(), by: format!("network of {s}") }).collect()
    }

    fn choose(list: &[&str]) -> String {
        choose_subnet(&default_pools(), &taken(list)).unwrap().to_string()
    }

    #[test]
    fn dockers_order_is_kept() {
        assert_eq!(choose(&[]), "172.17.0.0/16");
        assert_eq!(choose(&["172.17.0.0/16"]), "172.18.0.0/16");
        assert_eq!(choose(&["172.17.0.0/16", "172.18.0.0/16", "172.20.0.0/16"]), "172.19.0.0/16");
        assert_eq!(choose(&["172.16.0.0/12"]), "192.168.0.0/20");
        assert_eq!(choose(&["172.16.0.0/12", "192.168.0.0/20"]), "192.168.16.0/20");
    }

    #[test]
    fn what_the_machine_uses_is_left_alone() {
        // A home router's network, a VPN's host route in the middle of a pool, an address.
        assert_eq!(choose(&["172.16.0.0/12", "192.168.1.0/24"]), "192.168.16.0/20");
        assert_eq!(choose(&["172.17.200.1/32", "172.18.3.0/30"]), "172.19.0.0/16");
    }

    #[test]
    fn exhaustion_names_the_takers_and_the_cure() {
        let error = choose_subnet(&default_pools(), &taken(&["172.16.0.0/12", "192.168.0.0/16"])).unwrap_err();
        assert_eq!(error.message(), "all predefined address pools have been fully subnetted");
        let hint = error.hint().unwrap();
        assert!(hint.contains("192.168.0.0/16 (network of 192.168.0.0/16)") && hint.contains("prune"), "{hint}");
    }

    #[test]
    fn large_pools_are_searched_in_jumps() {
        let pools = [AddressPool { base: "fd00::/8".parse().unwrap(), size: 64 }];
        let free = choose_subnet(&pools, &taken(&["fd00::/9"])).unwrap();
        assert_eq!(free.to_string(), "fd80::/64");
        let pools = [AddressPool { base: "10.0.0.0/8".parse().unwrap(), size: 24 }];
        let many: Vec<Taken> = (0..=255u8)
            .map(|b| Taken { subnet: format!("10.0.{b}.0/24").parse().unwrap(), by: String::new() })
            .collect();
        assert_eq!(choose_subnet(&pools, &many).unwrap().to_string(), "10.1.0.0/24");
    }

    #[test]
    fn senseless_pools_yield_nothing() {
        for (base, size) in [("10.0.0.0/24", 16), ("10.0.0.0/24", 33), ("::/0", 0)] {
            let pools = [AddressPool { base: base.parse().unwrap(), size }];
            assert!(choose_subnet(&pools, &[]).is_err(), "{base} {size}");
        }
    }

    #[test]
    fn an_engine_has_its_own_site() {
        let a = choose_subnet_v6(b"engine one", &[]).unwrap();
        assert_eq!(a, choose_subnet_v6(b"engine one", &[]).unwrap());
        assert_ne!(a, choose_subnet_v6(b"engine two", &[]).unwrap());
        assert!(a.to_string().starts_with("fd") && a.prefix_len() == 64);
        let next = choose_subnet_v6(b"engine one", &[Taken { subnet: a, by: String::new() }]).unwrap();
        assert_ne!(a, next);
    }

    #[test]
    fn overlaps_name_the_other_network() {
        let error = check_subnet("10.1.0.0/16".parse().unwrap(), &taken(&["10.1.2.0/24"])).unwrap_err();
        assert!(error.message().contains("Pool overlaps with other one on this address space"));
        assert!(error.message().contains("network of 10.1.2.0/24"));
        check_subnet("10.2.0.0/16".parse().unwrap(), &taken(&["10.1.2.0/24"])).unwrap();
    }
}
