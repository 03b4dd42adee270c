//! Owners of files as a mount shows them: which ids of the file system appear as which others.

use std::fmt::Write;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The kernel takes 340 ranges, user_namespaces(7).
const RANGES_MAX: usize = 340;

/// `count` ids from `stored` on, as the file system keeps them, appear as those from `shown` on, and what the
/// latter create belongs to the former.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    pub stored: u32,
    pub shown: u32,
    pub count: u32,
}

/// How a mount maps owners. Ids that are in no range appear as the overflow id (`nobody`) and can create nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdMap {
    /// The owner of what is mounted appears as this user (`""`: the one the container runs as), its group as that
    /// user's group. Written as `--user` is.
    MatchUser(String),
    /// Users and groups, at least one range of one kind; a kind without a range is left as it is.
    Ranges { users: Vec<IdRange>, groups: Vec<IdRange> },
}

impl IdMap {
    /// Ranges the kernel will take.
    ///
    /// # Errors
    /// Invalid: none at all or too many, empty ones, ids beyond 32 bits, an id that is in two ranges.
    pub fn ranges(users: Vec<IdRange>, groups: Vec<IdRange>) -> Result<IdMap> {
        if users.is_empty() && groups.is_empty() {
            return Err(Error::invalid("an id mapping needs a range of users or groups"));
        }
        for (kind, ranges) in [("uids", &users), ("gids", &groups)] {
            check(ranges).map_err(|why| Error::invalid(format!("invalid id mapping of {kind}: {why}")))?;
        }
        Ok(IdMap::Ranges { users, groups })
    }
}

fn check(ranges: &[IdRange]) -> std::result::Result<(), String> {
    if ranges.len() > RANGES_MAX {
        return Err(format!("{} ranges, the kernel takes {RANGES_MAX}", ranges.len()));
    }
    // The last id, -1, means "no id" to the kernel.
    let end = |first: u32, count: u32| first.checked_add(count);
    for (i, range) in ranges.iter().enumerate() {
        let IdRange { stored, shown, count } = *range;
        let text = format!("{stored}-{shown}-{count}");
        let (Some(stored_end), Some(shown_end)) = (end(stored, count), end(shown, count)) else {
            return Err(format!("{text} goes beyond the largest id"));
        };
        if count == 0 {
            return Err(format!("{text} is empty"));
        }
        let overlaps = |other: &IdRange| {
            let apart = |a: u32, a_end: u32, b: u32| a_end <= b || b.saturating_add(other.count) <= a;
            !apart(stored, stored_end, other.stored) || !apart(shown, shown_end, other.shown)
        };
        if ranges.iter().take(i).any(overlaps) {
            return Err(format!("{text} overlaps another range"));
        }
    }
    Ok(())
}

/// What stands behind `idmap=`: nothing or `match-user[:USER]`, or ranges as Podman writes them,
/// `uids=STORED-SHOWN-COUNT[#…][;gids=…]`.
impl FromStr for IdMap {
    type Err = Error;

    fn from_str(text: &str) -> Result<IdMap> {
        let invalid = || {
            Error::invalid(format!("invalid id mapping '{text}'")).with_hint(
                "match-user, match-user:USER, or ranges of ids on the disk and in the container: \
                 uids=1000-0-1;gids=1000-0-1",
            )
        };
        match text.strip_prefix("match-user") {
            _ if text.is_empty() => return Ok(IdMap::MatchUser(String::new())),
            Some("") => return Ok(IdMap::MatchUser(String::new())),
            Some(rest) => {
                let user = rest.strip_prefix(':').filter(|user| !user.is_empty()).ok_or_else(invalid)?;
                return Ok(IdMap::MatchUser(user.to_owned()));
            }
            None => {}
        }
        if text == "userns" {
            return Err(own_namespace());
        }
        let (mut users, mut groups) = (Vec::new(), Vec::new());
        for part in text.split(';') {
            let (into, list) = match part.split_once('=') {
                Some(("uids", list)) => (&mut users, list),
                Some(("gids", list)) => (&mut groups, list),
                _ => return Err(invalid()),
            };
            for range in list.split('#') {
                if range.starts_with('@') {
                    return Err(own_namespace());
                }
                let numbers: Vec<u32> = range.split('-').map_while(|number| number.parse().ok()).collect();
                match (&numbers[..], range.matches('-').count()) {
                    ([stored, shown, count], 2) => into.push(IdRange { stored: *stored, shown: *shown, count: *count }),
                    _ => return Err(invalid()),
                }
            }
        }
        IdMap::ranges(users, groups)
    }
}

/// The refusal of mappings that follow a container's user namespace: none has one.
pub fn own_namespace() -> Error {
    Error::not_implemented("id mappings by a container's user namespace")
        .with_hint("idmap=match-user makes the owner of what is mounted the container's user")
}

/// Ranges as lines of `/proc/PID/uid_map`.
pub fn lines(ranges: &[IdRange]) -> String {
    let mut text = String::new();
    for IdRange { stored, shown, count } in ranges {
        let _infallible = writeln!(text, "{stored} {shown} {count}");
    }
    text
}

/// Every id as it is.
pub const IDENTITY: IdRange = IdRange { stored: 0, shown: 0, count: u32::MAX };

#[cfg(test)]
mod tests {
    use super::*;

    fn range(stored: u32, shown: u32, count: u32) -> IdRange {
        IdRange { stored, shown, count }
    }

    #[test]
    fn what_people_write() {
        let parse = |text: &str| text.parse::<IdMap>().unwrap();
        assert_eq!(parse(""), IdMap::MatchUser(String::new()));
        assert_eq!(parse("match-user"), IdMap::MatchUser(String::new()));
        assert_eq!(parse("match-user:app:staff"), IdMap::MatchUser("app:staff".into()));
        let wanted = IdMap::Ranges { users: vec![range(0, 1, 10), range(10, 11, 10)], groups: vec![range(0, 100, 10)] };
        assert_eq!(parse("uids=0-1-10#10-11-10;gids=0-100-10"), wanted);
        assert_eq!(parse("gids=5-6-1"), IdMap::Ranges { users: vec![], groups: vec![range(5, 6, 1)] });
    }

    #[test]
    fn nonsense_is_refused() {
        for (text, wanted) in [
            ("match-user:", "invalid id mapping"),
            ("match-users", "invalid id mapping"),
            ("uids", "invalid id mapping"),
            ("uids=", "invalid id mapping"),
            ("uids=1-2", "invalid id mapping"),
            ("uids=1-2-3-4", "invalid id mapping"),
            ("uids=1--2", "invalid id mapping"),
            ("uids=1-2-x", "invalid id mapping"),
            ("uids=1-2-3;", "invalid id mapping"),
            ("uids=1-2-3;pids=1-2-3", "invalid id mapping"),
            ("uids=1-2-99999999999", "invalid id mapping"),
            ("uids=1-2-0", "is empty"),
            ("uids=4294967295-0-1", "beyond the largest id"),
            ("uids=0-1-10#9-50-1", "overlaps"),
            ("uids=0-1-10#50-10-1", "overlaps"),
            ("userns", "not implemented yet"),
            ("uids=@0-1-1", "not implemented yet"),
        ] {
            let error = text.parse::<IdMap>().unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        let many = (0..341).map(|i| range(i, i, 1)).collect();
        assert!(IdMap::ranges(many, vec![]).unwrap_err().to_string().contains("341 ranges"));
    }

    #[test]
    fn lines_are_as_the_kernel_reads_them() {
        assert_eq!(lines(&[range(1000, 0, 1), IDENTITY]), "1000 0 1\n0 0 4294967295\n");
        assert!(check(&[IDENTITY]).is_ok());
    }
}
