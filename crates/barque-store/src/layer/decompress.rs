//! Recognises compression by the first bytes and undoes it.

use std::io::{self, BufRead, Read};

use barque_model::{Error, Result};

use crate::error;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

/// Largest window a zstd stream may ask for, as a power of two (zstd's own default limit).
const ZSTD_WINDOW_LOG: u32 = 27;
/// Largest dictionary an xz stream may ask for, as xz encodes it: 128 MiB (`xz -9` asks for 64).
const XZ_DICTIONARY: u8 = 30;
/// How many bytes at the beginning [`Compression::detect`] and [`decoder`] want to see.
pub(crate) const START: usize = 64;

impl Compression {
    /// By the magic number; anything else counts as not compressed.
    pub fn detect(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame, which zstd:chunked archives may begin with.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', ..] => Compression::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            _ => Compression::None,
        }
    }

    /// Media type of a layer so compressed (OCI image-spec, "Layer"; bzip2 and xz have none of their own).
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Compression::None | Compression::Bzip2 | Compression::Xz => "application/vnd.oci.image.layer.v1.tar",
        }
    }
}

/// The uncompressed bytes of `input`, which begins with `start`.
pub(crate) fn decoder<'a, R: BufRead + 'a>(input: R, start: &[u8]) -> Result<Box<dyn Read + 'a>> {
    Ok(match Compression::detect(start) {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(error::from_io)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(error::from_io)?;
            Box::new(decoder)
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Xz => {
            if xz_dictionary(start).is_some_and(|size| size > XZ_DICTIONARY) {
                return Err(Error::invalid("the xz data asks for more than 128 MiB of memory"));
            }
            Box::new(lzma_rust2::XzReader::new(input, true))
        }
    })
}

/// The dictionary size in the header of the first block: after the stream header (12 bytes) come the size of the
/// block header, its flags, two optional numbers, and the filters; the last filter is LZMA2 (id 0x21).
fn xz_dictionary(start: &[u8]) -> Option<u8> {
    let flags = *start.get(13)?;
    let mut at = 14;
    for bit in [0x40, 0x80] {
        if flags & bit != 0 {
            while *start.get(at)? & 0x80 != 0 {
                at += 1;
            }
            at += 1;
        }
    }
    for _ in 0..=(flags & 3) {
        let (id, length) = (*start.get(at)?, usize::from(*start.get(at + 1)?));
        if id == 0x21 && length == 1 {
            return start.get(at + 2).copied();
        }
        at += 2 + length;
    }
    None
}

/// At least `want` bytes of the beginning of `input`, fewer only if it is shorter, without consuming them.
pub(crate) fn peek<R: Read>(input: &mut R, want: usize) -> io::Result<Vec<u8>> {
    let mut start = vec![0u8; want];
    let mut filled = 0;
    while filled < want {
        match input.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    start.truncate(filled);
    Ok(start)
}

/// `input` with its compression undone, whichever it is.
pub(crate) fn auto<'a, R: Read + 'a>(mut input: R) -> Result<Box<dyn Read + 'a>> {
    let start = peek(&mut input, START).map_err(error::from_io)?;
    decoder(io::BufReader::with_capacity(64 * 1024, io::Cursor::new(start.clone()).chain(input)), &start)
}

/// Explains an error of a decoder.
pub(crate) fn explain(e: io::Error, kind: Compression) -> Error {
    if e.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        return error::from_io(e);
    }
    let name = match kind {
        Compression::None => return Error::from(e),
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
        Compression::Bzip2 => "bzip2",
        Compression::Xz => "xz",
    };
    let what = if e.kind() == io::ErrorKind::UnexpectedEof { "truncated" } else { "damaged" };
    Error::invalid(format!("{what} {name} data")).with_source(e)
}
