//! Which process holds a port: by the socket tables and descriptors in /proc.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Proto;

/// A process with a socket on the port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Holder {
    name: String,
    pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, process {}", self.name, self.pid)
    }
}

/// The process in the way of binding `ip:port`; `None` if it cannot be seen.
pub(super) fn of(proto: Proto, ip: IpAddr, port: u16) -> Option<Holder> {
    let tables = match proto {
        Proto::Tcp => ["tcp", "tcp6"],
        Proto::Udp => ["udp", "udp6"],
        // Its table has another shape, and hardly anybody listens on it.
        Proto::Sctp => return None,
    };
    let inode = tables.iter().find_map(|table| {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        find_inode(&text, proto, ip, port)
    })?;
    find_process(inode)
}

/// The inode of the first socket in the way. TCP sockets count only if they listen.
fn find_inode(table: &str, proto: Proto, ip: IpAddr, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let (address, number) = local.split_once(':')?;
        if u16::from_str_radix(number, 16).ok()? != port || (proto == Proto::Tcp && state != LISTEN) {
            return None;
        }
        let address = parse_address(address)?;
        let in_the_way = address == ip || address.is_unspecified() || ip.is_unspecified();
        fields.nth(5)?.parse().ok().filter(|_| in_the_way)
    })
}

/// Words of four bytes in host order, in hexadecimal.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |i: usize| text.get(i * 8..i * 8 + 8).and_then(|w| u32::from_str_radix(w, 16).ok());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into()),
        32 => {
            let mut bytes = [0u8; 16];
            for i in 0..4 {
                bytes[i * 4..i * 4 + 4].copy_from_slice(&word(i)?.to_ne_bytes());
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

fn find_process(inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        // Processes of others, and those that just ended, cannot be read.
        let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds =
            descriptors.flatten().any(|d| std::fs::read_link(d.path()).is_ok_and(|l| l.as_os_str() == wanted.as_str()));
        if holds {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(Holder { name: name.trim().to_owned(), pid });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F91 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0
";

    #[test]
    fn listening_sockets_on_the_same_or_every_address_are_in_the_way() {
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        assert_eq!(find_inode(TABLE, Proto::Tcp, ip("127.0.0.1"), 8080), Some(4711));
        assert_eq!(find_inode(TABLE, Proto::Tcp, ip("0.0.0.0"), 8080), Some(4711));
        assert_eq!(find_inode(TABLE, Proto::Tcp, ip("10.0.0.1"), 8080), None);
        assert_eq!(find_inode(TABLE, Proto::Tcp, ip("127.0.0.1"), 8081), None);
        assert_eq!(find_inode(TABLE, Proto::Udp, ip("127.0.0.1"), 8081), Some(4712));
        assert_eq!(find_inode("x\ngarbage\n0: z:z\n", Proto::Tcp, ip("::"), 1), None);
    }

    #[test]
    fn mapped_addresses_are_read_as_what_they_are() {
        assert_eq!(parse_address("0000000000000000FFFF00000100007F"), Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(parse_address("00000000000000000000000001000000"), Some(Ipv6Addr::LOCALHOST.into()));
    }
}
