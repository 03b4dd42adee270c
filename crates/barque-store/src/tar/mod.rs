//! Tar streams (POSIX.1-2001 pax, ustar, GNU): a reader that trusts nothing, and a deterministic writer.

mod header;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod tests;
mod writer;

pub use header::{Entry, Kind};
pub use reader::Reader;
pub(crate) use reader::truncated;
pub use sparse::Segment;
pub use writer::Writer;

/// Bytes of a block; headers and data are padded to it.
pub(crate) const BLOCK: usize = 512;

/// Pax records and GNU's long names may have this many bytes.
pub(crate) const META_MAX: u64 = 1 << 20;

/// An archive that is not one, is damaged, or tries something.
pub(crate) fn bad(message: impl Into<String>) -> barque_model::Error {
    barque_model::Error::invalid(message)
}

/// Whether a block is a header with the right checksum.
pub(crate) fn is_header(block: &[u8]) -> bool {
    block.try_into().is_ok_and(|block| {
        let raw = header::Raw(block);
        !raw.is_zero() && raw.verify().is_ok()
    })
}

/// A name for people, with what is not text replaced.
pub(crate) fn show(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    if text.chars().count() <= 200 {
        return text.escape_debug().to_string();
    }
    let start: String = text.chars().take(100).collect();
    format!("{}… ({} bytes)", start.escape_debug(), name.len())
}
