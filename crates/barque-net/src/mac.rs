//! Ethernet addresses, and the address that follows from an IPv4 address.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use barque_model::{Error, Result};
use serde::{Deserialize, Serialize};

/// A 48-bit Ethernet address; printed as `02:42:ac:11:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Docker's address for an endpoint: the locally administered prefix `02:42` and the IPv4 address.
    ///
    /// An address that follows from the IP keeps the neighbours' ARP caches right when
    /// an IP passes from one container to the next.
    pub fn from_ipv4(ip: Ipv4Addr) -> Mac {
        let [a, b, c, d] = ip.octets();
        Mac([0x02, 0x42, a, b, c, d])
    }

    /// A random, locally administered unicast address.
    pub fn random() -> Mac {
        let mut bytes = [0u8; 6];
        barque_model::id::fill_random(&mut bytes);
        bytes[0] = 0x02;
        bytes[1] = 0x42;
        Mac(bytes)
    }

    /// Whether a container may have this address: not a group address, not zero.
    pub fn is_usable(&self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = Error;

    /// Six pairs of hexadecimal digits with `:` or `-` between them.
    fn from_str(text: &str) -> Result<Mac> {
        parse(text).filter(Mac::is_usable).ok_or_else(|| {
            Error::invalid(format!("invalid MAC address: {text}"))
                .with_hint("write six pairs of hexadecimal digits, the first one even, such as 02:42:ac:11:00:02")
        })
    }
}

fn parse(text: &str) -> Option<Mac> {
    let mut bytes = [0u8; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(Mac(bytes))
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_from_the_address() {
        assert_eq!(Mac::from_ipv4(Ipv4Addr::new(172, 17, 0, 2)).to_string(), "02:42:ac:11:00:02");
    }

    #[test]
    fn parses_what_it_prints_and_refuses_the_rest() {
        assert_eq!("92-d0-c6-0a-29-33".parse::<Mac>().unwrap().to_string(), "92:d0:c6:0a:29:33");
        for bad in ["", "02:42", "02:42:ac:11:00:02:03", "0x:42:ac:11:00:02", "+2:42:ac:11:00:02", "01:00:5e:00:00:01"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        assert!("00:00:00:00:00:00".parse::<Mac>().is_err());
    }
}
