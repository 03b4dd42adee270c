//! Paths in fixed buffers, for code that may not allocate.

use std::ffi::CStr;

use rustix::io::Errno;

/// `PATH_MAX` of Linux, the terminating NUL included.
const CAPACITY: usize = 4096;

/// Longest file name.
const NAME_MAX: usize = 255;

/// A path; empty stands for `/` where a C string is wanted.
pub(super) struct PathBuffer {
    bytes: [u8; CAPACITY],
    len: usize,
}

/// A single component.
pub(super) struct Name {
    bytes: [u8; NAME_MAX],
    len: usize,
}

impl Name {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl PathBuffer {
    pub(super) fn new() -> PathBuffer {
        PathBuffer { bytes: [0; CAPACITY], len: 0 }
    }

    pub(super) fn from(path: &[u8]) -> rustix::io::Result<PathBuffer> {
        let mut buffer = PathBuffer::new();
        buffer.append(path)?;
        Ok(buffer)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn as_cstr(&self) -> &CStr {
        if self.len == 0 {
            return c"/";
        }
        // `append` keeps a NUL behind the contents; an inner one would only shorten the path.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"/")
    }

    /// Appends `bytes` as they are.
    pub(super) fn append(&mut self, bytes: &[u8]) -> rustix::io::Result<()> {
        let end = self.len + bytes.len();
        if end >= CAPACITY {
            return Err(Errno::NAMETOOLONG);
        }
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.bytes[end] = 0;
        self.len = end;
        Ok(())
    }

    /// Appends `/` and a component.
    pub(super) fn push(&mut self, name: &[u8]) -> rustix::io::Result<()> {
        self.append(b"/")?;
        self.append(name)
    }

    /// Removes the last component.
    pub(super) fn pop(&mut self) {
        self.truncate(self.as_slice().iter().rposition(|b| *b == b'/').unwrap_or(0));
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.bytes[self.len] = 0;
    }

    pub(super) fn prefix(&self, len: usize) -> rustix::io::Result<PathBuffer> {
        PathBuffer::from(&self.bytes[..self.len.min(len)])
    }

    pub(super) fn last_component(&self) -> &CStr {
        let start = self.as_slice().iter().rposition(|b| *b == b'/').map_or(0, |i| i + 1);
        CStr::from_bytes_until_nul(&self.bytes[start..]).unwrap_or(c"")
    }

    /// Whether no component is left.
    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().iter().all(|b| *b == b'/')
    }

    /// Takes the first component away; components too long for a file name are cut, which then fails to open.
    pub(super) fn pop_front(&mut self) -> Option<Name> {
        let start = self.as_slice().iter().position(|b| *b != b'/')?;
        let end = self.bytes[start..self.len].iter().position(|b| *b == b'/').map_or(self.len, |i| start + i);
        let mut name = Name { bytes: [0; NAME_MAX], len: (end - start).min(NAME_MAX) };
        name.bytes[..name.len].copy_from_slice(&self.bytes[start..start + name.len]);
        self.bytes.copy_within(end..self.len, 0);
        self.len -= end;
        self.bytes[self.len] = 0;
        Some(name)
    }

    /// Puts `path` before what is left.
    pub(super) fn put_in_front(&mut self, path: &[u8]) -> rustix::io::Result<()> {
        let mut joined = PathBuffer::from(path)?;
        joined.append(b"/")?;
        joined.append(self.as_slice())?;
        *self = joined;
        Ok(())
    }

    /// The whole buffer but the place of the NUL, to be filled before `set_len`.
    pub(super) fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[..CAPACITY - 1]
    }

    pub(super) fn set_len(&mut self, len: usize) -> rustix::io::Result<()> {
        if len >= CAPACITY - 1 {
            return Err(Errno::NAMETOOLONG);
        }
        self.len = len;
        self.bytes[len] = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_come_off_the_front_and_go_on_the_back() {
        let mut p = PathBuffer::from(b"//a/bc///d").unwrap();
        let mut names = Vec::new();
        while let Some(name) = p.pop_front() {
            names.push(name.as_slice().to_vec());
        }
        assert_eq!(names, [b"a".to_vec(), b"bc".to_vec(), b"d".to_vec()]);
        p.push(b"x").unwrap();
        p.push(b"y").unwrap();
        assert_eq!((p.as_cstr(), p.last_component()), (c"/x/y", c"y"));
        p.pop();
        assert_eq!(p.as_cstr(), c"/x");
        p.pop();
        p.pop();
        assert_eq!(p.as_cstr(), c"/");
        p.put_in_front(b"l/m").unwrap();
        assert_eq!(p.pop_front().unwrap().as_slice(), b"l");
        assert!(p.append(&[b'z'; 4096]).is_err());
    }
}
