//! Reads a tar stream entry by entry.
//!
//! Memory is bounded whatever the stream says: names and pax records by [`META_MAX`], maps of sparse files by the
//! number of their parts. Where sizes in different headers disagree, the pax record wins, as POSIX has it and
//! every other reader does, so that none of them sees other entries than this one.

use std::io::{self, BufRead};

use barque_model::{Error, Result};

use super::header::{Entry, Kind, Raw};
use super::pax::Pax;
use super::sparse::{self, PaxMap, Segment};
use super::{BLOCK, META_MAX, bad};
use crate::error;

/// Headers that describe the next entry may follow each other this often.
const META_RUN: usize = 32;

/// Reads entries from a stream.
pub struct Reader<R> {
    input: R,
    /// Data of the current entry that was not read yet.
    remaining: u64,
    /// Padding after it.
    padding: u64,
    done: bool,
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Self {
        Reader { input, remaining: 0, padding: 0, done: false }
    }

    /// The next entry; what is left of the one before is skipped. `None` at the end of the archive.
    ///
    /// Errors: InvalidArgument for a damaged or truncated archive.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        if self.done {
            return Ok(None);
        }
        let (mut long_name, mut long_link) = (None, None);
        let mut pax = Pax::default();
        for _ in 0..META_RUN {
            self.skip()?;
            let Some(block) = self.block()? else { return self.end(&long_name, &long_link) };
            let raw = Raw(&block);
            if raw.is_zero() {
                self.expect_end()?;
                return self.end(&long_name, &long_link);
            }
            raw.verify()?;
            match raw.flag() {
                b'x' | b'X' => pax = Pax::parse(&self.meta(&raw)?)?,
                // A global header holds for what follows; the engines ignore it, except for its syntax.
                b'g' => drop(Pax::parse(&self.meta(&raw)?)?),
                b'L' => long_name = Some(trim(self.meta(&raw)?)),
                b'K' => long_link = Some(trim(self.meta(&raw)?)),
                b'V' => self.meta(&raw).map(drop)?,
                _ => return self.entry(&raw, long_name, long_link, pax).map(Some),
            }
        }
        Err(bad("too many tar headers without an entry"))
    }

    fn end(&mut self, name: &Option<Vec<u8>>, link: &Option<Vec<u8>>) -> Result<Option<Entry>> {
        if name.is_some() || link.is_some() {
            return Err(truncated());
        }
        self.done = true;
        Ok(None)
    }

    fn entry(
        &mut self,
        raw: &Raw<'_>,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        mut pax: Pax,
    ) -> Result<Entry> {
        // GNU's directory dumps: a directory whose data lists its names.
        if raw.flag() == b'D' {
            let mut block = *raw.0;
            block[156] = b'5';
            let header = u64::try_from(raw.number(124, 12)?).map_err(|_| bad("tar entry of negative size"))?;
            let size = pax.size.unwrap_or(header);
            let entry = self.entry(&Raw(&block), long_name, long_link, pax)?;
            self.set_data(size);
            return Ok(entry);
        }
        let (mut entry, mut data) = raw.entry()?;
        entry.path = long_name.unwrap_or(entry.path);
        entry.link = long_link.unwrap_or(entry.link);
        data = pax.size.unwrap_or(data);
        let name = pax.path.as_ref().unwrap_or(&entry.path);
        if raw.flag() == 0 && name.ends_with(b"/") {
            // Before ustar a directory was a file whose name ended in a slash.
            entry.kind = Kind::Directory;
        }
        if entry.kind != Kind::Regular {
            // Links to files may announce the size of the file, but have no data.
            data = 0;
        }
        entry.size = data;
        let map = pax.sparse.map()?;
        if let (PaxMap::Header { .. } | PaxMap::Data { .. }, Some(name)) = (&map, pax.sparse.name.take()) {
            pax.path = Some(name);
        }
        pax.apply(&mut entry);
        self.set_data(data);
        self.set_sparse(raw, &mut entry, map)?;
        if entry.path.is_empty() {
            return Err(bad("tar entry without a name"));
        }
        Ok(entry)
    }

    fn set_data(&mut self, data: u64) {
        self.remaining = data;
        self.padding = data.wrapping_neg() % BLOCK as u64;
    }

    fn set_sparse(&mut self, raw: &Raw<'_>, entry: &mut Entry, map: PaxMap) -> Result<()> {
        let (segments, real_size) = match map {
            _ if entry.kind != Kind::Regular => return Ok(()),
            PaxMap::Header { real_size, map } => (map, real_size),
            PaxMap::Data { real_size } => (self.sparse_map_in_data()?, real_size),
            PaxMap::None if raw.flag() == b'S' && raw.is_gnu() => {
                let (mut segments, mut more, real_size) = sparse::old_gnu(raw)?;
                while more {
                    let block = self.block()?.ok_or_else(truncated)?;
                    more = sparse::old_gnu_extension(&block, &mut segments)?;
                }
                (segments, real_size)
            }
            PaxMap::None => return Ok(()),
        };
        sparse::validate(&segments, real_size, self.remaining)?;
        entry.size = real_size;
        entry.sparse = Some(segments);
        Ok(())
    }

    /// Format 1.0 begins its data with decimal numbers, one a line, padded to a block.
    fn sparse_map_in_data(&mut self) -> Result<Vec<Segment>> {
        let mut consumed = 0u64;
        let map = {
            let mut next = || -> Result<u64> {
                let mut value = 0u64;
                for position in 0..21 {
                    let mut byte = [0u8];
                    self.read_exact(&mut byte)?;
                    consumed += 1;
                    match byte[0] {
                        b'\n' if position > 0 => return Ok(value),
                        digit @ b'0'..=b'9' => {
                            let more = value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0')));
                            value = more.ok_or_else(|| bad("damaged map of a sparse file"))?;
                        }
                        _ => break,
                    }
                }
                Err(bad("damaged map of a sparse file"))
            };
            sparse::from_data(&mut next)?
        };
        let mut rest = consumed.wrapping_neg() % BLOCK as u64;
        while rest > 0 {
            let n = self.data(rest, |_| Ok(()))?;
            if n == 0 {
                return Err(truncated());
            }
            rest -= n;
        }
        Ok(map)
    }

    fn read_exact(&mut self, out: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < out.len() {
            let want = (out.len() - filled) as u64;
            let n = self.data(want, |bytes| {
                out[filled..filled + bytes.len()].copy_from_slice(bytes);
                Ok(())
            })?;
            if n == 0 {
                return Err(truncated());
            }
            filled += n as usize;
        }
        Ok(())
    }

    /// Gives `sink` the next bytes of the entry's data, at most `max`; how many they were, 0 at the end.
    /// For a sparse file these are its segments, one after the other.
    pub fn data(&mut self, max: u64, sink: impl FnOnce(&[u8]) -> Result<()>) -> Result<u64> {
        let want = max.min(self.remaining);
        if want == 0 {
            return Ok(0);
        }
        let bytes = fill(&mut self.input)?;
        if bytes.is_empty() {
            return Err(truncated());
        }
        let n = bytes.len().min(usize::try_from(want).unwrap_or(usize::MAX));
        sink(&bytes[..n])?;
        self.input.consume(n);
        self.remaining -= n as u64;
        Ok(n as u64)
    }

    fn skip(&mut self) -> Result<()> {
        let padding = self.padding;
        let mut rest = self.remaining + padding;
        self.remaining = 0;
        self.padding = 0;
        while rest > 0 {
            let bytes = fill(&mut self.input)?;
            if bytes.is_empty() {
                // Docker's client leaves out what fills the last block, and the end mark.
                return if rest <= padding { Ok(()) } else { Err(truncated()) };
            }
            let n = bytes.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            self.input.consume(n);
            rest -= n as u64;
        }
        Ok(())
    }

    /// Reads the data of a header that describes the next entry.
    fn meta(&mut self, raw: &Raw<'_>) -> Result<Vec<u8>> {
        let size = u64::try_from(raw.number(124, 12)?).map_err(|_| bad("tar header of negative size"))?;
        if size > META_MAX {
            return Err(bad(format!("tar header of {size} bytes, more than {META_MAX} are not taken")));
        }
        self.set_data(size);
        let mut bytes = Vec::new();
        while self.data(u64::MAX, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })? > 0
        {}
        Ok(bytes)
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0u8; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let bytes = fill(&mut self.input)?;
            if bytes.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(truncated()) };
            }
            let n = bytes.len().min(BLOCK - filled);
            block[filled..filled + n].copy_from_slice(&bytes[..n]);
            self.input.consume(n);
            filled += n;
        }
        Ok(Some(block))
    }

    /// After a block of zeros another one must follow, or nothing.
    fn expect_end(&mut self) -> Result<()> {
        match self.block()? {
            Some(block) if !Raw(&block).is_zero() => Err(bad("damaged tar archive: data after the end mark")),
            _ => Ok(()),
        }
    }

    /// Where the data of the last entry comes from.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// Ends with the last entry, by an input that can leave out the bytes that are left of it without reading them.
    pub fn leave_out(&mut self, pass_over: impl FnOnce(&mut R, u64)) {
        pass_over(&mut self.input, self.remaining);
        self.remaining = 0;
    }

    /// Gives the input back, positioned after the end mark or wherever reading stopped.
    pub fn into_inner(self) -> R {
        self.input
    }
}

fn fill<R: BufRead>(input: &mut R) -> Result<&[u8]> {
    loop {
        // A second borrow is needed because the first would live as long as the result.
        match input.fill_buf() {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(error::from_io(e)),
        }
    }
    input.fill_buf().map_err(error::from_io)
}

pub(crate) fn truncated() -> Error {
    bad("truncated tar archive: it ends in the middle of an entry")
}

/// GNU's long names end in a NUL.
fn trim(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}
