//! `/etc/hosts` and `/etc/hostname`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use barque_model::{Error, Result};

/// What goes into a container's hosts file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostsPlan {
    /// Without the domain.
    pub hostname: String,
    /// Empty for none.
    pub domainname: String,
    /// The container's own addresses, one line each.
    pub addresses: Vec<IpAddr>,
    /// `--add-host` and `host.docker.internal`: name, address.
    pub extra: Vec<(String, IpAddr)>,
    /// `--link` on the default bridge: address, names.
    pub links: Vec<(IpAddr, Vec<String>)>,
    /// The container has IPv6 (loopback at least).
    pub ipv6: bool,
}

/// The text of `/etc/hosts`, in Docker's order.
pub fn hosts(plan: &HostsPlan) -> String {
    let mut text = String::from("127.0.0.1\tlocalhost\n");
    if plan.ipv6 {
        text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n");
        text.push_str("ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
    }
    // Writing to a String cannot fail.
    for (name, ip) in &plan.extra {
        let _ = writeln!(text, "{ip}\t{name}");
    }
    for (ip, names) in &plan.links {
        let _ = writeln!(text, "{ip}\t{}", names.join(" "));
    }
    for ip in &plan.addresses {
        own_line(&mut text, ip, &plan.hostname, &plan.domainname);
    }
    text
}

fn own_line(text: &mut String, ip: &IpAddr, hostname: &str, domainname: &str) {
    let _ = match (hostname, domainname) {
        ("", _) => Ok(()),
        // A name with dots is one with its domain.
        (host, "") => match host.split_once('.') {
            Some((short, _)) => writeln!(text, "{ip}\t{host} {short}"),
            None => writeln!(text, "{ip}\t{host}"),
        },
        (host, domain) => writeln!(text, "{ip}\t{host}.{domain} {host}"),
    };
}

/// The text of a hosts file after the container's own addresses have changed: the lines of those it has no more go,
/// those of new ones come at the end, all others stay as they are.
pub fn move_own(
    text: &str,
    hostname: &str,
    domainname: &str,
    before: &BTreeSet<IpAddr>,
    after: &BTreeSet<IpAddr>,
) -> String {
    let mut gone = String::new();
    before.difference(after).for_each(|ip| own_line(&mut gone, ip, hostname, domainname));
    let mut out = String::with_capacity(text.len());
    for line in text.lines().filter(|line| !gone.lines().any(|g| g == *line)) {
        out.push_str(line);
        out.push('\n');
    }
    after.difference(before).for_each(|ip| own_line(&mut out, ip, hostname, domainname));
    out
}

/// The text of `/etc/hostname`.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// Reads `name:address`, `name=address` or `name:host-gateway` (`--add-host`).
/// `host_gateway` holds the machine's addresses as containers reach it; each yields an entry.
pub fn parse_extra_host(text: &str, host_gateway: &[IpAddr]) -> Result<Vec<(String, IpAddr)>> {
    // The sign that comes first divides: IPv6 addresses are full of colons.
    let divided = text.find(['=', ':']).map(|at| (&text[..at], &text[at + 1..]));
    let Some((name, value)) = divided.filter(|(name, value)| is_name(name) && !value.is_empty()) else {
        return Err(Error::invalid(format!("bad format for add-host: \"{text}\""))
            .with_hint("write NAME:ADDRESS or NAME:host-gateway"));
    };
    if value == "host-gateway" {
        if host_gateway.is_empty() {
            return Err(Error::invalid("unable to derive the IP value for host-gateway")
                .with_hint("set host-gateway-ip in the engine's configuration"));
        }
        return Ok(host_gateway.iter().map(|ip| (name.to_owned(), *ip)).collect());
    }
    let bare = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or(value);
    match bare.parse() {
        Ok(ip) => Ok(vec![(name.to_owned(), ip)]),
        Err(_) => Err(Error::invalid(format!("invalid IP address in add-host: \"{value}\""))
            .with_hint("write an IPv4 or IPv6 address, or host-gateway")),
    }
}

/// A blank or a line end would make further entries of it.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control() || b == b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn own_lines_follow_the_addresses() {
        let set = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<BTreeSet<IpAddr>>();
        let text = "127.0.0.1\tlocalhost\n10.0.0.2\tbox.lan box\n10.0.0.2\tmine\n# note";
        let moved = move_own(text, "box", "lan", &set(&["10.0.0.2"]), &set(&["10.0.1.3", "fd00::3"]));
        let expected = "127.0.0.1\tlocalhost\n10.0.0.2\tmine\n# note\n10.0.1.3\tbox.lan box\nfd00::3\tbox.lan box\n";
        assert_eq!(moved, expected);
        assert_eq!(move_own("a\n", "", "", &set(&[]), &set(&["10.0.1.3"])), "a\n");
    }

    #[test]
    fn the_file_has_dockers_order() {
        let plan = HostsPlan {
            hostname: "web".into(),
            domainname: "example.com".into(),
            addresses: vec![ip("172.17.0.2"), ip("fd00::2")],
            extra: vec![("host.docker.internal".into(), ip("172.17.0.1"))],
            links: vec![(ip("172.17.0.3"), vec!["db".into(), "0123456789ab".into(), "mysql".into()])],
            ipv6: true,
        };
        insta::assert_snapshot!(hosts(&plan), @r"
        127.0.0.1	localhost
        ::1	localhost ip6-localhost ip6-loopback
        fe00::0	ip6-localnet
        ff00::0	ip6-mcastprefix
        ff02::1	ip6-allnodes
        ff02::2	ip6-allrouters
        172.17.0.1	host.docker.internal
        172.17.0.3	db 0123456789ab mysql
        172.17.0.2	web.example.com web
        fd00::2	web.example.com web
        ");
    }

    #[test]
    fn without_ipv6_or_network_little_is_left() {
        let plan = HostsPlan { hostname: "x".into(), ..HostsPlan::default() };
        assert_eq!(hosts(&plan), "127.0.0.1\tlocalhost\n");
    }

    #[test]
    fn extra_hosts_come_in_all_forms() {
        let gateway = [ip("172.17.0.1"), ip("fd00::1")];
        let read = |text| parse_extra_host(text, &gateway).unwrap();
        assert_eq!(read("a:10.0.0.1"), [("a".into(), ip("10.0.0.1"))]);
        assert_eq!(read("a=10.0.0.1"), [("a".into(), ip("10.0.0.1"))]);
        assert_eq!(read("a:::1"), [("a".into(), ip("::1"))]);
        assert_eq!(read("a:[2001:db8::1]"), [("a".into(), ip("2001:db8::1"))]);
        assert_eq!(read("h:host-gateway").len(), 2);
        for bad in ["", "a", "a:", ":1.2.3.4", "a b:1.2.3.4", "a\nb:1.2.3.4", "a:1.2.3", "a:b"] {
            assert!(parse_extra_host(bad, &gateway).is_err(), "{bad:?}");
        }
        assert!(parse_extra_host("h:host-gateway", &[]).is_err());
    }
}
