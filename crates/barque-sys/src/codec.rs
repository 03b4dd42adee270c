//! A flat byte encoding for what one Barque process hands to another of the same binary: little-endian
//! integers and length-prefixed strings, NUL-terminated so that the reader can use them in place.

use std::ffi::CStr;
use std::io;

/// Longest string or blob accepted (1 MiB: the kernel's limit for all arguments of an execve is 6 MiB,
/// for a single one 128 KiB).
const BLOB_MAX: usize = 1 << 20;

/// Appends values to a buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    pub fn u8(&mut self, v: u8) {
        self.0.push(v);
    }

    pub fn u16(&mut self, v: u16) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    pub fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    pub fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }

    pub fn bool(&mut self, v: bool) {
        self.u8(u8::from(v));
    }

    /// A string; the terminating NUL is added.
    pub fn cstr(&mut self, v: &CStr) {
        self.blob(v.to_bytes_with_nul());
    }

    pub fn blob(&mut self, v: &[u8]) {
        self.u32(u32::try_from(v.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(v);
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Takes values from a buffer, refusing rubbish.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

fn bad() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed message")
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, n: usize) -> io::Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n).ok_or_else(bad)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| bad())
    }

    pub fn u8(&mut self) -> io::Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn bool(&mut self) -> io::Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(bad()),
        }
    }

    pub fn cstr(&mut self) -> io::Result<&'a CStr> {
        CStr::from_bytes_with_nul(self.blob()?).map_err(|_| bad())
    }

    pub fn blob(&mut self) -> io::Result<&'a [u8]> {
        let len = self.u32()? as usize;
        if len > BLOB_MAX {
            return Err(bad());
        }
        self.take(len)
    }

    /// `count` items, each at least a byte long.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> io::Result<T>) -> io::Result<Vec<T>> {
        let count = self.u32()? as usize;
        if count > self.0.len() {
            return Err(bad());
        }
        (0..count).map(|_| item(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_rubbish_is_refused() {
        let mut w = Writer::new();
        w.u16(7);
        w.bool(true);
        w.cstr(c"path");
        w.u64(u64::MAX);
        let mut r = Reader::new(w.bytes());
        assert_eq!((r.u16().unwrap(), r.bool().unwrap()), (7, true));
        assert_eq!(r.cstr().unwrap(), c"path");
        assert_eq!(r.u64().unwrap(), u64::MAX);
        assert!(r.is_empty() && r.u8().is_err());
        assert!(Reader::new(&[2]).bool().is_err());
        assert!(Reader::new(&[255, 255, 255, 255, 0]).blob().is_err());
        assert!(Reader::new(&[1, 0, 0, 0, b'x']).cstr().is_err(), "no terminating NUL");
        assert!(Reader::new(&[255, 255, 255, 127]).list(Reader::u8).is_err());
    }
}
