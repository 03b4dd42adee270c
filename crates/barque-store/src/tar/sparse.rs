//! Sparse files: GNU's old format and its three pax formats (0.0, 0.1, 1.0).

use barque_model::Result;

use super::header::{Raw, number};
use super::pax;
use super::{BLOCK, bad};

/// Parts of one sparse file.
const SEGMENTS_MAX: usize = 1 << 20;

/// A part of a sparse file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// The `GNU.sparse.*` records of a pax header.
#[derive(Default)]
pub(super) struct PaxSparse {
    major: Option<u64>,
    minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    real_size: Option<u64>,
    map: Vec<u64>,
    seen: bool,
}

/// What the pax header of a sparse file asks for.
pub(super) enum PaxMap {
    /// An ordinary file.
    None,
    /// The map was in the header: format 0.0 or 0.1.
    Header { real_size: u64, map: Vec<Segment> },
    /// The map is at the beginning of the data: format 1.0.
    Data { real_size: u64 },
}

impl PaxSparse {
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.seen = true;
        match key {
            b"major" => self.major = pax::number(value)?,
            b"minor" => self.minor = pax::number(value)?,
            b"name" => self.name = Some(value.to_vec()).filter(|v| !v.is_empty() && !v.contains(&0)),
            b"size" | b"realsize" => self.real_size = pax::number(value)?,
            b"offset" | b"numbytes" => {
                // 0.0 repeats these two keys by turns.
                if self.map.len().is_multiple_of(2) != (key == b"offset") {
                    return Err(bad("damaged map of a sparse file"));
                }
                self.map.push(pax::number(value)?.unwrap_or(0));
            }
            b"map" => {
                self.map.clear();
                for part in value.split(|b| *b == b',') {
                    self.map.push(pax::number(part)?.ok_or_else(|| bad("damaged map of a sparse file"))?);
                }
            }
            _ => {}
        }
        if self.map.len() > 2 * SEGMENTS_MAX {
            return Err(bad("a sparse file has too many parts"));
        }
        Ok(())
    }

    pub(super) fn map(&mut self) -> Result<PaxMap> {
        if !self.seen {
            return Ok(PaxMap::None);
        }
        let real_size = self.real_size.ok_or_else(|| bad("a sparse file does not tell its size"))?;
        match (self.major.unwrap_or(0), self.minor.unwrap_or(0)) {
            (0, 0 | 1) => Ok(PaxMap::Header { real_size, map: pairs(&std::mem::take(&mut self.map))? }),
            (1, 0) => Ok(PaxMap::Data { real_size }),
            (major, minor) => Err(bad(format!("sparse file of unknown format {major}.{minor}"))),
        }
    }
}

fn pairs(numbers: &[u64]) -> Result<Vec<Segment>> {
    if !numbers.len().is_multiple_of(2) {
        return Err(bad("damaged map of a sparse file"));
    }
    Ok(numbers.chunks_exact(2).map(|p| Segment { offset: p[0], length: p[1] }).collect())
}

/// Checks that the parts ascend without overlapping, end within the file and have `data` bytes in all.
pub(super) fn validate(map: &[Segment], real_size: u64, data: u64) -> Result<()> {
    let (mut end, mut total) = (0u64, 0u64);
    for part in map {
        let next = part.offset.checked_add(part.length).filter(|n| *n <= real_size && part.offset >= end);
        end = next.ok_or_else(|| bad("damaged map of a sparse file: parts overlap or lie outside"))?;
        total += part.length;
    }
    if total != data {
        return Err(bad(format!("sparse file with {data} bytes of data where its map has {total}")));
    }
    Ok(())
}

/// The map in an old GNU header: its four parts, whether extension blocks follow, and the real size.
pub(super) fn old_gnu(raw: &Raw<'_>) -> Result<(Vec<Segment>, bool, u64)> {
    let mut map = Vec::new();
    old_parts(&raw.0[386..482], &mut map)?;
    let real_size = u64::try_from(raw.number(483, 12)?).map_err(|_| bad("sparse file of negative size"))?;
    Ok((map, raw.0[482] != 0, real_size))
}

/// Adds the parts of an extension block; whether another one follows.
pub(super) fn old_gnu_extension(block: &[u8; BLOCK], map: &mut Vec<Segment>) -> Result<bool> {
    old_parts(&block[..504], map)?;
    if map.len() > SEGMENTS_MAX {
        return Err(bad("a sparse file has too many parts"));
    }
    Ok(block[504] != 0)
}

fn old_parts(bytes: &[u8], map: &mut Vec<Segment>) -> Result<()> {
    for part in bytes.chunks_exact(24) {
        if part[0] == 0 {
            break;
        }
        let positive = |n: i64| u64::try_from(n).map_err(|_| bad("damaged map of a sparse file"));
        map.push(Segment { offset: positive(number(&part[..12])?)?, length: positive(number(&part[12..])?)? });
    }
    Ok(())
}

/// Reads the decimal map at the beginning of a format 1.0 file through `line`, which yields one number.
pub(super) fn from_data(mut line: impl FnMut() -> Result<u64>) -> Result<Vec<Segment>> {
    let count = line()?;
    if count > SEGMENTS_MAX as u64 {
        return Err(bad("a sparse file has too many parts"));
    }
    let mut map = Vec::new();
    for _ in 0..count {
        map.push(Segment { offset: line()?, length: line()? });
    }
    Ok(map)
}
