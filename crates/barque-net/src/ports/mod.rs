//! Published ports: what is asked for, what is held, and who holds what is taken.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use barque_model::{Error, Result};
use serde::{Deserialize, Serialize};

mod holder;
pub(crate) mod relay;
pub(crate) mod reserve;

pub use reserve::Reservation;

/// Transport protocol of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    Tcp,
    Udp,
    Sctp,
}

impl Proto {
    pub fn as_str(self) -> &'static str {
        match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Sctp => "sctp",
        }
    }

    /// IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Proto::Tcp => 6,
            Proto::Udp => 17,
            Proto::Sctp => 132,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Proto {
    type Err = Error;

    fn from_str(text: &str) -> Result<Proto> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Proto::Tcp),
            "udp" => Ok(Proto::Udp),
            "sctp" => Ok(Proto::Sctp),
            _ => Err(Error::invalid(format!("invalid proto: {text}")).with_hint("protocols are tcp, udp and sctp")),
        }
    }
}

/// A wish to publish `container_port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRequest {
    pub container_port: u16,
    pub proto: Proto,
    /// `None` is every address of the machine, IPv4 and IPv6.
    pub host_ip: Option<IpAddr>,
    /// First and last acceptable host port; `None` is any free one.
    pub host_ports: Option<(u16, u16)>,
}

/// A port of the machine that belongs to a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortBinding {
    pub container_port: u16,
    pub proto: Proto,
    /// `0.0.0.0` and `::` stand for every address of the family.
    pub host_ip: IpAddr,
    pub host_port: u16,
}

/// Where published ports lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub v4: Option<Ipv4Addr>,
    pub v6: Option<Ipv6Addr>,
}
