//! Points in time as the Engine API writes them: RFC 3339 with nanoseconds, Go's zero time for "never".

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How the Engine API writes a time that never was.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// Nanoseconds since the Unix epoch (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    pub fn from_nanos(nanos: i64) -> Timestamp {
        Timestamp(nanos)
    }

    pub fn from_secs(seconds: i64) -> Timestamp {
        Timestamp(seconds.saturating_mul(1_000_000_000))
    }

    pub fn nanos(self) -> i64 {
        self.0
    }

    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// Time from `earlier` to `self`; zero where it lies ahead.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `time`, or Go's zero time for `None`.
    pub fn or_zero(time: Option<Timestamp>) -> String {
        time.map_or_else(|| ZERO.to_owned(), |t| t.to_string())
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, d: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with as many decimals as needed, as Go's `RFC3339Nano`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => f.write_str(ZERO),
        }
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    /// Takes RFC 3339 with any offset. Go's zero time gives the epoch.
    fn from_str(text: &str) -> Result<Timestamp> {
        if text == ZERO {
            return Ok(Timestamp(0));
        }
        let parsed: jiff::Timestamp =
            text.parse().map_err(|_| Error::invalid(format!("invalid time '{text}': expected RFC 3339")))?;
        i64::try_from(parsed.as_nanosecond())
            .map(Timestamp)
            .map_err(|_| Error::invalid(format!("time '{text}' is out of range")))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_rfc3339() {
        let t = Timestamp::from_nanos(1_715_650_106_123_000_000);
        assert_eq!(t.to_string(), "2024-05-14T01:28:26.123Z");
        assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
        assert_eq!("2024-05-14T03:28:26.123+02:00".parse::<Timestamp>().unwrap(), t);
        assert_eq!(Timestamp::from_secs(1).to_string(), "1970-01-01T00:00:01Z");
        assert_eq!(Timestamp::or_zero(None), ZERO);
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
