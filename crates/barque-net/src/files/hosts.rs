//! `/etc/hosts` and `/etc/hostname`.

use std::net::IpAddr;

use barque_model::Result;

/// What goes into a container's hosts file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostsPlan {
    /// Host name with the domain, if any.
    pub hostname: String,
    pub domainname: String,
    /// The container's own addresses, one line each.
    pub addresses: Vec<IpAddr>,
    /// `--add-host` and `host.docker.internal`: name, address.
    pub extra: Vec<(String, IpAddr)>,
    /// `--link` on the default bridge: address, names.
    pub links: Vec<(IpAddr, Vec<String>)>,
    /// Leaves out the IPv6 lines.
    pub ipv6: bool,
}

/// The text of `/etc/hosts`.
pub fn hosts(plan: &HostsPlan) -> String {
    plan.hostname.clone()
}

/// The text of `/etc/hostname`.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// Reads `name:address`, `name=address` or `name:host-gateway` (`--add-host`).
pub fn parse_extra_host(text: &str, host_gateway: &[IpAddr]) -> Result<Vec<(String, IpAddr)>> {
    let _ = host_gateway;
    Err(barque_model::Error::not_implemented(text))
}
