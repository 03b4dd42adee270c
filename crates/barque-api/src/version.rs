//! API versions and their negotiation.

use std::fmt;
use std::str::FromStr;

/// A version of the Engine API, `1.43`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    pub major: u16,
    pub minor: u16,
}

impl ApiVersion {
    /// The oldest version spoken.
    pub const MIN: ApiVersion = ApiVersion::new(1, 24);
    /// The newest version spoken, and the one used when a path names none.
    pub const MAX: ApiVersion = ApiVersion::new(1, 56);

    pub const fn new(major: u16, minor: u16) -> Self {
        ApiVersion { major, minor }
    }

    /// True for `1.minor` and newer.
    pub const fn at_least(self, minor: u16) -> bool {
        self.major > 1 || (self.major == 1 && self.minor >= minor)
    }

    /// True for versions older than `1.minor`.
    pub const fn before(self, minor: u16) -> bool {
        !self.at_least(minor)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The text is not `major.minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidVersion;

impl fmt::Display for InvalidVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid API version: expected major.minor, such as 1.43")
    }
}

impl std::error::Error for InvalidVersion {}

impl FromStr for ApiVersion {
    type Err = InvalidVersion;

    /// Accepts `1.43` and `v1.43`.
    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (major, minor) = text.split_once('.').ok_or(InvalidVersion)?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            if plain { digits.parse().map_err(|_| InvalidVersion) } else { Err(InvalidVersion) }
        };
        Ok(ApiVersion { major: number(major)?, minor: number(minor)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_orders() {
        let v: ApiVersion = "v1.43".parse().unwrap();
        assert_eq!(v, ApiVersion::new(1, 43));
        assert!(v > ApiVersion::MIN && v.at_least(43) && v.before(44));
        assert_eq!(v.to_string(), "1.43");
        for bad in ["", "1", "1.", ".4", "1.+4", "1.4.4", "x1.4", "1.99999"] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }
}
