//! Writes tar streams: ustar headers, with pax records only where ustar cannot say it. The same entries give the
//! same bytes, always.

use std::io::Write;

use barque_model::Result;
use barque_sys::rootdir::TimeSpec;

use super::header::{Entry, Kind};
use super::{BLOCK, bad, show};
use crate::error;

/// Largest number that eleven octal digits hold.
const OCTAL_11: u64 = (1 << 33) - 1;
/// Largest number that seven octal digits hold.
const OCTAL_7: u64 = (1 << 21) - 1;

/// Writes entries to a stream.
pub struct Writer<W> {
    out: W,
    /// Data of the current entry still to be written.
    remaining: u64,
    padding: usize,
    written: u64,
    /// Write fractions of seconds.
    nanos: bool,
}

impl<W: Write> Writer<W> {
    /// A writer of whole seconds.
    pub fn new(out: W) -> Self {
        Writer { out, remaining: 0, padding: 0, written: 0, nanos: false }
    }

    /// Also writes fractions of seconds, at the price of a pax header for nearly every entry.
    #[must_use]
    pub fn with_nanos(mut self, nanos: bool) -> Self {
        self.nanos = nanos;
        self
    }

    /// Writes the header of an entry. For a regular file, exactly [`Entry::size`] bytes of [`Writer::data`] must
    /// follow. Sparse files are written with their holes as zeros.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.finish_entry()?;
        let mut pax = Vec::new();
        let header = self.header(entry, &mut pax)?;
        if !pax.is_empty() {
            let mut extended = self.block(b"PaxHeaders.0", b'x', pax.len() as u64);
            seal(&mut extended);
            self.put(&extended)?;
            let padding = pax.len().wrapping_neg() % BLOCK;
            pax.resize(pax.len() + padding, 0);
            self.put(&pax)?;
        }
        self.put(&header)?;
        if entry.kind == Kind::Regular {
            self.remaining = entry.size;
            self.padding = (entry.size.wrapping_neg() % BLOCK as u64) as usize;
        }
        Ok(())
    }

    /// Writes data of the current file.
    ///
    /// Errors: InvalidArgument if it is more than announced.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let n = bytes.len() as u64;
        self.remaining = self.remaining.checked_sub(n).ok_or_else(|| bad("more data than a tar entry announced"))?;
        self.put(bytes)
    }

    /// Bytes the current file still lacks.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Writes the end mark and gives the output back.
    pub fn finish(mut self) -> Result<(W, u64)> {
        self.finish_entry()?;
        self.put(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(error::from_io)?;
        Ok((self.out, self.written))
    }

    fn finish_entry(&mut self) -> Result<()> {
        if self.remaining > 0 {
            return Err(bad(format!("a file shrank by {} bytes while it was archived", self.remaining)));
        }
        let padding = std::mem::take(&mut self.padding);
        self.put(&[0; BLOCK][..padding])
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(error::from_io)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn header(&self, e: &Entry, pax: &mut Vec<u8>) -> Result<[u8; BLOCK]> {
        if e.path.contains(&0) || e.link.contains(&0) {
            return Err(bad(format!("name with a NUL byte: {}", show(&e.path))));
        }
        let (prefix, name) = split_name(&e.path);
        if name.len() > 100 || !e.path.is_ascii() {
            record(pax, b"path", &e.path);
        }
        if e.link.len() > 100 || !e.link.is_ascii() {
            record(pax, b"linkpath", &e.link);
        }
        let size = if e.kind == Kind::Regular { e.size } else { 0 };
        let flag = match e.kind {
            Kind::Regular => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::CharDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        let mut block = self.block(name, flag, size);
        put_octal(&mut block[100..108], u64::from(e.mode & 0o7777));
        for (at, key, id) in [(108, &b"uid"[..], e.uid), (116, b"gid", e.gid)] {
            if u64::from(id) > OCTAL_7 {
                record(pax, key, id.to_string().as_bytes());
            }
            put_octal(&mut block[at..at + 8], u64::from(id).min(OCTAL_7));
        }
        if size > OCTAL_11 {
            record(pax, b"size", size.to_string().as_bytes());
        }
        self.time(&mut block, e.mtime, pax);
        put_text(&mut block[157..257], &e.link);
        if matches!(e.kind, Kind::CharDevice | Kind::BlockDevice) {
            put_octal(&mut block[329..337], u64::from(e.device.0));
            put_octal(&mut block[337..345], u64::from(e.device.1));
        }
        put_text(&mut block[345..500], prefix);
        for (key, value) in &e.xattrs {
            record(pax, &[super::pax::XATTR, key].concat(), value);
        }
        seal(&mut block);
        Ok(block)
    }

    fn time(&self, block: &mut [u8; BLOCK], time: TimeSpec, pax: &mut Vec<u8>) {
        let seconds = u64::try_from(time.seconds).ok().filter(|s| *s <= OCTAL_11);
        put_octal(&mut block[136..148], seconds.unwrap_or(0));
        let nanos = if self.nanos { time.nanos } else { 0 };
        if seconds.is_some() && nanos == 0 {
            return;
        }
        let text = match (time.seconds, nanos) {
            (s, 0) => s.to_string(),
            (s @ 0.., n) => format!("{s}.{n:09}"),
            // Below the epoch the fraction counts downwards.
            (-1, n) => format!("-0.{:09}", 1_000_000_000 - n),
            (s, n) => format!("{}.{:09}", s + 1, 1_000_000_000 - n),
        };
        record(pax, b"mtime", text.as_bytes());
    }

    fn block(&self, name: &[u8], flag: u8, size: u64) -> [u8; BLOCK] {
        let mut block = [0u8; BLOCK];
        put_text(&mut block[..100], name);
        put_octal(&mut block[100..108], 0);
        put_octal(&mut block[108..116], 0);
        put_octal(&mut block[116..124], 0);
        put_octal(&mut block[124..136], size.min(OCTAL_11));
        put_octal(&mut block[136..148], 0);
        block[156] = flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        block
    }
}

/// ustar's two fields for a path: at most 155 bytes, a slash, at most 100 bytes. A name that does not fit comes
/// back whole and needs a pax record.
fn split_name(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= 100 {
        return (b"", path);
    }
    let body = path.strip_suffix(b"/").unwrap_or(path);
    let from = path.len().saturating_sub(101);
    let cut = (from..body.len().min(156)).find(|i| path[*i] == b'/' && *i > 0);
    match cut {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let n = text.len().min(field.len());
    field[..n].copy_from_slice(&text[..n]);
}

/// Octal digits that fill the field but for a final NUL.
fn put_octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for place in field[..digits].iter_mut().rev() {
        *place = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    field[digits] = 0;
}

/// Fills in the checksum.
fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    put_octal(&mut block[148..155], sum);
}

/// Appends a pax record, whose length counts its own digits.
fn record(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length = body + length.to_string().len();
    }
    pax.extend_from_slice(length.to_string().as_bytes());
    pax.push(b' ');
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}
