//! Pax extended headers (POSIX.1-2001): `LENGTH KEY=VALUE\n` records.

use barque_model::Result;
use barque_sys::rootdir::TimeSpec;

use super::header::Entry;
use super::sparse::PaxSparse;
use super::{bad, show};

/// Where extended attributes are, as star began it and Docker, GNU tar and bsdtar do it.
pub(super) const XATTR: &[u8] = b"SCHILY.xattr.";
/// Attributes of one entry.
const XATTRS_MAX: usize = 1024;

/// What one extended header says.
#[derive(Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    /// Bytes of data in the archive; overrides the header's.
    pub(super) size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<TimeSpec>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

impl Pax {
    pub(super) fn parse(mut rest: &[u8]) -> Result<Pax> {
        let mut pax = Pax::default();
        while !rest.is_empty() {
            // Some writers pad the records with NULs.
            if rest.iter().all(|b| *b == 0) {
                break;
            }
            let (key, value, after) = record(rest)?;
            pax.set(key, value)?;
            rest = after;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() || name.contains(&0) || self.xattrs.len() >= XATTRS_MAX {
                return Err(bad("damaged extended attribute in a pax header"));
            }
            self.xattrs.retain(|(n, _)| n != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.set(name, value);
        }
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?.map(id).transpose()?,
            b"gid" => self.gid = number(value)?.map(id).transpose()?,
            b"mtime" => self.mtime = time(value)?,
            // Access and change times, user names, comments and what is not known are of no use here.
            _ => {}
        }
        Ok(())
    }

    /// Overrides the fields of `entry`.
    pub(super) fn apply(self, entry: &mut Entry) {
        if let Some(path) = self.path {
            entry.path = path;
        }
        if let Some(link) = self.link {
            entry.link = link;
        }
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
        entry.xattrs = self.xattrs;
    }
}

/// Splits off the first record.
fn record(bytes: &[u8]) -> Result<(&[u8], &[u8], &[u8])> {
    let damaged = || bad("damaged pax header");
    let space = bytes.iter().take(20).position(|b| *b == b' ').ok_or_else(damaged)?;
    let length = std::str::from_utf8(&bytes[..space]).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    let length: usize = length.and_then(|t| t.parse().ok()).ok_or_else(damaged)?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return Err(damaged());
    }
    let body = &bytes[space + 1..length - 1];
    let equals = body.iter().position(|b| *b == b'=').filter(|e| *e > 0).ok_or_else(damaged)?;
    Ok((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

/// A path; an empty value takes an earlier one back.
fn name(value: &[u8]) -> Result<Option<Vec<u8>>> {
    if value.contains(&0) {
        return Err(bad(format!("name with a NUL byte in a pax header: {}", show(value))));
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

pub(super) fn number(value: &[u8]) -> Result<Option<u64>> {
    if value.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(value).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
    let number = text.and_then(|t| t.parse::<u64>().ok()).filter(|n| i64::try_from(*n).is_ok());
    number.map(Some).ok_or_else(|| bad(format!("damaged number in a pax header: {}", show(value))))
}

fn id(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| bad(format!("impossible user or group id {value} in a pax header")))
}

/// Seconds with an optional fraction; negative ones count back from the epoch.
fn time(value: &[u8]) -> Result<Option<TimeSpec>> {
    if value.is_empty() {
        return Ok(None);
    }
    let damaged = || bad(format!("damaged time in a pax header: {}", show(value)));
    let text = std::str::from_utf8(value).map_err(|_| damaged())?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().map_err(|_| damaged())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(damaged());
    }
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0u32, |n, d| n * 10 + u32::from(d - b'0'));
    Ok(Some(match (negative, nanos) {
        (true, 1..) => TimeSpec::new(seconds.saturating_sub(1), 1_000_000_000 - nanos),
        _ => TimeSpec::new(seconds, nanos),
    }))
}
