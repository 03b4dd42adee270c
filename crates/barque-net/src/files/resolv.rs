//! `/etc/resolv.conf`.

use std::net::{IpAddr, SocketAddr};

/// A resolver configuration file, as read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub nameservers: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Reads the file's text; unknown lines are skipped.
    pub fn parse(text: &str) -> ResolvConf {
        let _ = text;
        ResolvConf::default()
    }

    /// Whether only systemd-resolved's stub is named, so that the real servers are in
    /// `/run/systemd/resolve/resolv.conf`.
    pub fn is_resolved_stub(&self) -> bool {
        false
    }
}

/// What decides a container's resolver configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvPlan {
    /// The machine's own configuration.
    pub host: ResolvConf,
    /// `--dns`, `--dns-search`, `--dns-option`; empty takes the machine's.
    pub dns: Vec<IpAddr>,
    pub search: Vec<String>,
    pub options: Vec<String>,
    /// The embedded resolver serves this container (user-defined networks).
    pub embedded: bool,
    /// Shares the machine's namespace: its loopback servers are reachable.
    pub host_network: bool,
    pub ipv6: bool,
}

/// The text of the container's file.
pub fn resolv_conf(plan: &ResolvPlan) -> String {
    let _ = plan;
    String::new()
}

/// The servers the embedded resolver forwards to.
pub fn upstreams(plan: &ResolvPlan) -> Vec<SocketAddr> {
    let _ = plan;
    Vec::new()
}
