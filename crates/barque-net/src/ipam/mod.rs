//! Choice of subnets and addresses. Pure: callers bring what is used, the database holds the truth.

mod address;
mod subnet;

use ipnet::IpNet;

pub use address::{choose_address, choose_gateway};
pub use subnet::{check_subnet, choose_subnet, choose_subnet_v6, default_pools};

/// Takers named in a hint.
const NAMED: usize = 8;

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

/// An address as a number, so that there is a next one.
fn number(ip: std::net::IpAddr) -> u128 {
    match ip {
        std::net::IpAddr::V4(ip) => u128::from(u32::from(ip)),
        std::net::IpAddr::V6(ip) => u128::from(ip),
    }
}

/// The address of a number; `v6` tells the family.
fn address(number: u128, v6: bool) -> std::net::IpAddr {
    if v6 {
        std::net::Ipv6Addr::from(number).into()
    } else {
        // Callers stay within a subnet of 32 bits.
        std::net::Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into()
    }
}
