//! Random 256-bit ids of containers, networks, execs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A random id; printed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; 32]);

impl Id {
    /// A fresh id. Its first 12 digits are never all decimal, so that a short id is
    /// not mistaken for a number where it serves as a host name.
    pub fn random() -> Id {
        loop {
            let mut bytes = [0u8; 32];
            fill_random(&mut bytes);
            let id = Id(bytes);
            if !id.short().bytes().all(|b| b.is_ascii_digit()) {
                return id;
            }
        }
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Id {
        Id(bytes)
    }

    /// The first 12 hexadecimal digits.
    pub fn short(&self) -> String {
        to_hex(&self.0[..6])
    }
}

/// Fills `bytes` from the kernel's random source.
pub fn fill_random(bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        // getrandom(2) fails only for EINTR once the pool is initialised.
        if let Ok(n) = rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
            done += n;
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Id> {
        from_hex(text)
            .map(Id)
            .ok_or_else(|| Error::invalid(format!("invalid id '{text}': expected 64 hexadecimal digits")))
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for b in bytes {
        out.push(DIGITS[usize::from(b >> 4)] as char);
        out.push(DIGITS[usize::from(b & 15)] as char);
    }
    out
}

/// 32 bytes of 64 lower-case hexadecimal digits.
pub fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let value = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0u8; 32];
    for (i, pair) in digits.chunks_exact(2).enumerate() {
        out[i] = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_round_trip() {
        let a = Id::random();
        assert_ne!(a, Id::random());
        assert_eq!(a.to_string().parse::<Id>().unwrap(), a);
        assert_eq!(a.short().len(), 12);
        assert!("xyz".parse::<Id>().is_err());
    }
}
