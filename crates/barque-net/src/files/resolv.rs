//! `/etc/resolv.conf`.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::dns::RESOLVER;

/// Servers for those whose machine names none that a container could reach (Docker's choice).
const FALLBACK_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];
const FALLBACK_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888),
    Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844),
];
/// The local stub of systemd-resolved.
const STUB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53));
const DNS_PORT: u16 = 53;

/// A resolver configuration file, as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub nameservers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads the file's text (resolv.conf(5)); unknown lines are skipped.
    pub fn parse(text: &str) -> ResolvConf {
        let mut out = ResolvConf::default();
        for line in text.lines().filter(|l| !l.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                // A zone (fe80::1%eth0) means nothing in another namespace.
                Some("nameserver") => out.nameservers.extend(words.next().and_then(|w| w.parse::<IpAddr>().ok())),
                // The last one counts.
                Some("search" | "domain") => out.search = words.map(str::to_owned).collect(),
                Some("options") => out.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        out
    }

    /// Whether only systemd-resolved's stub is named, so that the real servers are in
    /// `/run/systemd/resolve/resolv.conf`.
    pub fn is_resolved_stub(&self) -> bool {
        self.nameservers == [STUB]
    }
}

/// What decides a container's resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvPlan {
    /// The machine's own configuration.
    pub host: ResolvConf,
    /// `--dns`, `--dns-search`, `--dns-option`; empty takes the machine's.
    pub dns: Vec<IpAddr>,
    /// A single `.` searches nowhere.
    pub search: Vec<String>,
    pub options: Vec<String>,
    /// The embedded resolver serves this container (user-defined networks).
    pub embedded: bool,
    /// Shares the machine's namespace: its loopback servers are reachable.
    pub host_network: bool,
    /// The container reaches IPv6 servers.
    pub ipv6: bool,
}

/// The text of the container's file.
///
/// Docker's rules: on user-defined networks the embedded resolver and `ndots:0`; else the servers
/// given, else the machine's that can be reached from a container, else public ones.
pub fn resolv_conf(plan: &ResolvPlan) -> String {
    let nameservers = if plan.embedded { vec![IpAddr::V4(RESOLVER)] } else { direct_servers(plan) };
    let search = if plan.search.is_empty() { &plan.host.search } else { &plan.search };
    let mut options = if plan.options.is_empty() { plan.host.options.clone() } else { plan.options.clone() };
    if plan.embedded && !options.iter().any(|o| o.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    let mut text = String::from("# Written by Barque for this container.\n");
    // Writing to a String cannot fail.
    for server in nameservers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() && search.as_slice() != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

fn direct_servers(plan: &ResolvPlan) -> Vec<IpAddr> {
    if !plan.dns.is_empty() {
        return plan.dns.clone();
    }
    if plan.host_network {
        return plan.host.nameservers.clone();
    }
    let reachable = |ip: &IpAddr| !ip.is_loopback() && (ip.is_ipv4() || plan.ipv6);
    let servers: Vec<IpAddr> = plan.host.nameservers.iter().copied().filter(reachable).collect();
    if servers.is_empty() { fallback(plan.ipv6) } else { servers }
}

fn fallback(ipv6: bool) -> Vec<IpAddr> {
    let six = FALLBACK_V6.into_iter().filter(|_| ipv6).map(IpAddr::V6);
    FALLBACK_V4.into_iter().map(IpAddr::V4).chain(six).collect()
}

/// The servers the embedded resolver forwards to, from the machine's own namespace: those given,
/// else the machine's, its loopback ones too, else public ones.
pub fn upstreams(plan: &ResolvPlan) -> Vec<SocketAddr> {
    let servers = match (plan.dns.is_empty(), plan.host.nameservers.is_empty()) {
        (false, _) => plan.dns.clone(),
        (true, false) => plan.host.nameservers.clone(),
        (true, true) => fallback(false),
    };
    servers.into_iter().map(|ip| SocketAddr::new(ip, DNS_PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fd00::53\n\
        search corp.example lan\noptions edns0 trust-ad\nnameserver nonsense\nsortlist 1.2.3.4\n";

    fn plan() -> ResolvPlan {
        ResolvPlan { host: ResolvConf::parse(HOST), ..ResolvPlan::default() }
    }

    fn lines(plan: &ResolvPlan) -> Vec<String> {
        resolv_conf(plan).lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn the_default_bridge_gets_the_reachable_servers() {
        assert_eq!(lines(&plan()), ["nameserver 10.0.0.2", "search corp.example lan", "options edns0 trust-ad"]);
        assert_eq!(lines(&ResolvPlan { ipv6: true, ..plan() })[..2], ["nameserver 10.0.0.2", "nameserver fd00::53"]);
    }

    #[test]
    fn without_a_reachable_server_public_ones_serve() {
        let stub = ResolvConf::parse("nameserver 127.0.0.53\n");
        assert!(stub.is_resolved_stub());
        let out = lines(&ResolvPlan { host: stub, ..ResolvPlan::default() });
        assert_eq!(out, ["nameserver 8.8.8.8", "nameserver 8.8.4.4"]);
    }

    #[test]
    fn user_networks_get_the_embedded_resolver() {
        let own = ResolvPlan { embedded: true, ..plan() };
        assert_eq!(lines(&own), ["nameserver 127.0.0.11", "search corp.example lan", "options edns0 trust-ad ndots:0"]);
        let given = ResolvPlan { dns: vec!["9.9.9.9".parse().unwrap()], options: vec!["ndots:3".into()], ..own };
        assert_eq!(lines(&given)[0], "nameserver 127.0.0.11");
        assert_eq!(lines(&given)[2], "options ndots:3");
        assert_eq!(upstreams(&given), ["9.9.9.9:53".parse().unwrap()]);
    }

    #[test]
    fn loopback_servers_are_asked_by_the_embedded_resolver() {
        let servers: Vec<String> = upstreams(&plan()).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.53:53", "10.0.0.2:53", "[fd00::53]:53"]);
        assert_eq!(upstreams(&ResolvPlan::default()).len(), 2);
    }

    #[test]
    fn settings_override_the_machine() {
        let set = ResolvPlan {
            dns: vec!["1.1.1.1".parse().unwrap()],
            search: vec![".".into()],
            options: vec!["timeout:1".into()],
            ..plan()
        };
        assert_eq!(lines(&set), ["nameserver 1.1.1.1", "options timeout:1"]);
        let host = ResolvPlan { host_network: true, ..plan() };
        assert_eq!(lines(&host)[0], "nameserver 127.0.0.53");
    }
}
