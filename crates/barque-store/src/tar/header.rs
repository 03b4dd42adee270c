//! One 512-byte header block, and the entry that it and its extensions describe.

use barque_model::Result;
use barque_sys::rootdir::TimeSpec;

use super::sparse::Segment;
use super::{BLOCK, bad};

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Regular,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// An entry of an archive, with all extensions applied. Names are as written: not cleaned, not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of the file, holes included.
    pub size: u64,
    pub mtime: TimeSpec,
    /// (major, minor) of a device.
    pub device: (u32, u32),
    /// Extended attributes, in the order of the archive.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The parts of a sparse file that have data; `None` for an ordinary one.
    pub sparse: Option<Vec<Segment>>,
}

/// The fields of a header block.
pub(super) struct Raw<'a>(pub(super) &'a [u8; BLOCK]);

const MAGIC_POSIX: &[u8] = b"ustar\0";
const MAGIC_GNU: &[u8] = b"ustar  \0";

impl Raw<'_> {
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// Checks the checksum, computed with unsigned or, as some old programs did, signed bytes.
    pub(super) fn verify(&self) -> Result<()> {
        let expected = self.number(148, 8)?;
        let field = 148..156;
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (i, byte) in self.0.iter().enumerate() {
            let byte = if field.contains(&i) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte as i8);
        }
        if expected == unsigned || expected == signed {
            return Ok(());
        }
        Err(bad("damaged tar header: the checksum does not match"))
    }

    fn text(&self, at: usize, len: usize) -> &[u8] {
        let field = &self.0[at..at + len];
        let end = field.iter().position(|b| *b == 0).unwrap_or(len);
        &field[..end]
    }

    /// A number: octal digits, or base 256 where the first bit is set (GNU).
    pub(super) fn number(&self, at: usize, len: usize) -> Result<i64> {
        number(&self.0[at..at + len])
    }

    pub(super) fn flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn is_gnu(&self) -> bool {
        &self.0[257..265] == MAGIC_GNU
    }

    fn is_posix(&self) -> bool {
        &self.0[257..263] == MAGIC_POSIX
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        if !self.is_posix() {
            return name.to_vec();
        }
        // star keeps access and change time behind a shorter prefix and marks that at the end of the block.
        let prefix = if &self.0[508..512] == b"tar\0" { self.text(345, 131) } else { self.text(345, 155) };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    /// The entry as far as this block tells.
    pub(super) fn entry(&self) -> Result<(Entry, u64)> {
        let size = u64::try_from(self.number(124, 12)?).map_err(|_| bad("tar entry of negative size"))?;
        let kind = kind(self.flag())?;
        let id = |at, what| -> Result<u32> {
            u32::try_from(self.number(at, 8)?).map_err(|_| bad(format!("tar entry with an impossible {what}")))
        };
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => {
                let part = |at| -> Result<u32> {
                    u32::try_from(self.number(at, 8)?).map_err(|_| bad("tar entry with an impossible device number"))
                };
                (part(329)?, part(337)?)
            }
            _ => (0, 0),
        };
        let entry = Entry {
            link: self.link(),
            kind,
            mode: (self.number(100, 8)? & 0o7777) as u32,
            uid: id(108, "uid")?,
            gid: id(116, "gid")?,
            size,
            mtime: TimeSpec::new(self.number(136, 12)?, 0),
            device,
            xattrs: Vec::new(),
            sparse: None,
            path: self.path(),
        };
        Ok((entry, size))
    }
}

fn kind(flag: u8) -> Result<Kind> {
    Ok(match flag {
        0 | b'0' | b'7' | b'S' => Kind::Regular,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(bad(format!("tar entry of unknown type '{}'", (other as char).escape_debug()))),
    })
}

pub(super) fn number(field: &[u8]) -> Result<i64> {
    let too_big = || bad("number out of range in a tar header");
    let Some(&first) = field.first() else { return Ok(0) };
    if first & 0x80 != 0 {
        // Two's complement, big endian; the top bit only marks the encoding, the next one is the sign.
        let invert = if first & 0x40 != 0 { 0xff } else { 0 };
        let mut value: i64 = 0;
        for (i, byte) in field.iter().enumerate() {
            let byte = (byte ^ invert) & if i == 0 { 0x7f } else { 0xff };
            value = value.checked_mul(256).and_then(|v| v.checked_add(i64::from(byte))).ok_or_else(too_big)?;
        }
        return Ok(if invert == 0 { value } else { !value });
    }
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    let digits = field[..end].trim_ascii();
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err(bad("damaged number in a tar header"));
        }
        value = value.checked_mul(8).and_then(|v| v.checked_add(i64::from(digit - b'0'))).ok_or_else(too_big)?;
    }
    Ok(value)
}
