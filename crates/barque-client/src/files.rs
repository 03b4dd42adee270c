//! Small files of a build's context, which may come from anybody.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The longest ignore file, bytes (the engine's limit).
pub const IGNORE_MAX: u64 = 1 << 20;

/// The text of a regular file, links followed. A fifo is not waited for, and a device not read.
///
/// Errors: as `open(2)`; `InvalidInput` for what is no regular file or longer than `limit` bytes; `InvalidData` for
/// what is no UTF-8.
pub fn small_text(path: &Path, limit: u64) -> io::Result<String> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblock).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(wrong("it is not a regular file".into()));
    }
    let mut text = String::new();
    if file.take(limit + 1).read_to_string(&mut text)? as u64 > limit {
        return Err(wrong(format!("it is larger than {limit} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_regular_files_are_read() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("f");
        std::fs::write(&path, "text").expect("writes");
        assert_eq!(small_text(&path, 4).expect("four bytes"), "text");
        assert!(small_text(&path, 3).expect_err("too long").to_string().contains("larger than 3"));
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a fifo");
        let endless = dir.path().join("endless");
        std::os::unix::fs::symlink("/dev/zero", &endless).expect("a link");
        for path in [&fifo, &endless] {
            assert!(small_text(path, 10).expect_err("no file").to_string().contains("not a regular file"));
        }
        assert_eq!(small_text(&dir.path().join("none"), 1).expect_err("none").kind(), io::ErrorKind::NotFound);
    }
}
