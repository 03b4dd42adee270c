//! Choice of subnets and addresses. Pure: callers bring what is used, the database holds the truth.

use std::net::IpAddr;

use barque_model::{Error, Result};
use ipnet::IpNet;

use crate::network::Pool;

/// Networks are cut from `base` in pieces of prefix length `size` (`--default-address-pool base=…,size=…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPool {
    pub base: IpNet,
    pub size: u8,
}

/// A subnet that is taken, and by whom ("network lan", "route via eth0").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub subnet: IpNet,
    pub by: String,
}

/// Docker's pools: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 in pieces of /20.
pub fn default_pools() -> Vec<AddressPool> {
    Vec::new()
}

/// The first free subnet of `pools`.
///
/// Errors: [`barque_model::ErrorKind::Unavailable`] with Docker's text when all are taken, naming the takers.
pub fn choose_subnet(pools: &[AddressPool], taken: &[Taken]) -> Result<IpNet> {
    let _ = (pools, taken);
    Err(Error::not_implemented(""))
}

/// A /64 from the unique local /48 that belongs to this engine (RFC 4193); the same for the same seed.
pub fn choose_subnet_v6(seed: &[u8], taken: &[Taken]) -> Result<IpNet> {
    let _ = (seed, taken);
    Err(Error::not_implemented(""))
}

/// Refuses a subnet asked for by the user that overlaps another network's.
///
/// Errors: [`barque_model::ErrorKind::Forbidden`] `Pool overlaps with other one on this address space` naming it.
pub fn check_subnet(wanted: IpNet, networks: &[Taken]) -> Result<()> {
    let _ = (wanted, networks);
    Err(Error::not_implemented(""))
}

/// The gateway of a pool whose user named none: the first address of the range or subnet that is free.
pub fn choose_gateway(pool: &Pool) -> Result<IpAddr> {
    let _ = pool;
    Err(Error::not_implemented(""))
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
    let _ = (network, pool, used, requested);
    Err(Error::not_implemented(""))
}
