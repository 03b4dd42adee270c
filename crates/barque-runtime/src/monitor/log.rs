//! The log of a task in Docker's json-file format: one JSON object a line, rotated by size.

use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::time::push_rfc3339;

/// Lines longer than this are written in pieces, as Docker does; only the last piece ends with a line end.
const PIECE: usize = 16 << 10;

/// Writer of one log.
pub(super) struct Log {
    dir: OwnedFd,
    name: String,
    file: Option<OwnedFd>,
    size: u64,
    max_size: Option<u64>,
    max_files: u32,
    /// Unfinished lines of standard output and standard error.
    partial: [Partial; 2],
    line: Vec<u8>,
}

#[derive(Default)]
struct Partial {
    bytes: Vec<u8>,
    /// Time of the first byte of the line, which all its pieces bear.
    since: Option<i64>,
}

impl Log {
    pub(super) fn open(dir: OwnedFd, name: String, max_size: Option<u64>, max_files: u32) -> rustix::io::Result<Log> {
        let max_files = max_files.max(1);
        let mut log =
            Log { dir, name, file: None, size: 0, max_size, max_files, partial: Default::default(), line: Vec::new() };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the file anew under its name.
    pub(super) fn reopen(&mut self) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.dir, self.name.as_str(), flags, Mode::from_raw_mode(0o640))?;
        self.size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        self.file = Some(file);
        Ok(())
    }

    /// Takes output of stream 0 (stdout) or 1 (stderr) at `now` (nanoseconds since the epoch).
    pub(super) fn write(&mut self, stream: usize, mut data: &[u8], now: i64) {
        while !data.is_empty() {
            let partial = &mut self.partial[stream];
            let room = PIECE - partial.bytes.len();
            let window = &data[..data.len().min(room)];
            let line_end = window.iter().position(|b| *b == b'\n');
            let taken = line_end.map_or(window.len(), |i| i + 1);
            // A whole line that starts here needs no copy.
            if line_end.is_some() && partial.bytes.is_empty() {
                let since = partial.since.take().unwrap_or(now);
                let line = &data[..taken];
                self.append(stream, line, since);
            } else {
                partial.bytes.extend_from_slice(&data[..taken]);
                let since = *partial.since.get_or_insert(now);
                if line_end.is_some() || partial.bytes.len() == PIECE {
                    let bytes = std::mem::take(&mut partial.bytes);
                    if line_end.is_some() {
                        partial.since = None;
                    }
                    self.append(stream, &bytes, since);
                    // Keeps the allocation.
                    self.partial[stream].bytes = bytes;
                    self.partial[stream].bytes.clear();
                }
            }
            data = &data[taken..];
        }
    }

    /// Writes what is left of unfinished lines.
    pub(super) fn finish(&mut self) {
        for stream in 0..2 {
            let partial = std::mem::take(&mut self.partial[stream]);
            if !partial.bytes.is_empty() {
                self.append(stream, &partial.bytes, partial.since.unwrap_or(0));
            }
        }
    }

    fn append(&mut self, stream: usize, text: &[u8], time: i64) {
        self.line.clear();
        self.line.extend_from_slice(b"{\"log\":\"");
        push_json(text, &mut self.line);
        let name: &[u8] = if stream == 0 { b"stdout" } else { b"stderr" };
        self.line.extend_from_slice(b"\",\"stream\":\"");
        self.line.extend_from_slice(name);
        self.line.extend_from_slice(b"\",\"time\":\"");
        push_rfc3339(time, &mut self.line);
        self.line.extend_from_slice(b"\"}\n");
        if self.max_size.is_some_and(|max| self.size >= max) {
            self.rotate();
        }
        if self.file.is_none() && self.reopen().is_err() {
            return;
        }
        self.put();
        // A huge line must not stay in memory for the life of the container.
        if self.line.capacity() > 4 * PIECE {
            self.line = Vec::new();
        }
    }

    /// Appends the line, or nothing of it: half a line would spoil the file for its readers.
    fn put(&mut self) {
        let Some(file) = &self.file else { return };
        let mut rest = self.line.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(file, rest) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(_) => {
                    // The disk is full: this line is lost, later ones may find room.
                    let _ = rustix::fs::ftruncate(file, self.size);
                    return;
                }
            }
        }
        self.size += self.line.len() as u64;
    }

    fn rotate(&mut self) {
        self.file = None;
        let name = |n: u32| if n == 0 { self.name.clone() } else { format!("{}.{n}", self.name) };
        if self.max_files == 1 {
            let _ = rustix::fs::unlinkat(&self.dir, self.name.as_str(), AtFlags::empty());
        }
        for n in (1..self.max_files).rev() {
            let _ = rustix::fs::renameat(&self.dir, name(n - 1), &self.dir, name(n));
        }
        self.size = 0;
    }
}

/// Appends `text` as the inside of a JSON string, with Docker's choice of escapes. What is no UTF-8 becomes the
/// replacement character.
fn push_json(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid();
        let mut start = 0;
        for (i, b) in valid.bytes().enumerate() {
            if (0x20..0x80).contains(&b) && !matches!(b, b'\\' | b'"' | b'<' | b'>' | b'&') || b >= 0x80 && b != 0xe2 {
                continue;
            }
            // U+2028 and U+2029 end lines in JavaScript.
            if b == 0xe2 && !matches!(valid.as_bytes().get(i + 1..i + 3), Some([0x80, 0xa8 | 0xa9])) {
                continue;
            }
            out.extend_from_slice(&valid.as_bytes()[start..i]);
            start = i + 1;
            match b {
                b'\\' | b'"' => out.extend_from_slice(&[b'\\', b]),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                0xe2 => {
                    let low = valid.as_bytes()[i + 2] & 0xf;
                    let _ = write!(out, "\\u202{low:x}");
                    start = i + 3;
                }
                b => {
                    let _ = write!(out, "\\u{b:04x}");
                }
            }
        }
        out.extend_from_slice(&valid.as_bytes()[start..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(tmp: &tempfile::TempDir, max_size: Option<u64>, max_files: u32) -> Log {
        let dir = std::fs::File::open(tmp.path()).unwrap();
        Log::open(dir.into(), "l".into(), max_size, max_files).unwrap()
    }

    fn read(tmp: &tempfile::TempDir, name: &str) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(tmp.path().join(name)).unwrap();
        let field = |v: &serde_json::Value, k: &str| v[k].as_str().unwrap().to_owned();
        text.lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
            .map(|v| (field(&v, "stream"), field(&v, "log")))
            .collect()
    }

    #[test]
    fn lines_are_put_together_and_streams_kept_apart() {
        let tmp = tempfile::tempdir().unwrap();
        let mut l = log(&tmp, None, 1);
        l.write(0, b"one\ntw", 1);
        l.write(1, b"err\n", 2);
        l.write(0, b"o\nthree", 3);
        l.finish();
        let want = [("stdout", "one\n"), ("stderr", "err\n"), ("stdout", "two\n"), ("stdout", "three")];
        assert_eq!(read(&tmp, "l"), want.map(|(s, t)| (s.to_owned(), t.to_owned())));
    }

    #[test]
    fn long_lines_come_in_pieces_with_one_time() {
        let tmp = tempfile::tempdir().unwrap();
        let mut l = log(&tmp, None, 1);
        let long = vec![b'x'; PIECE * 2 + 5];
        l.write(0, &long[..100], 1_000_000_000);
        l.write(0, &long[100..], 2_000_000_000);
        l.write(0, b"\nnext\n", 3_000_000_000);
        let lines = read(&tmp, "l");
        let lengths: Vec<usize> = lines.iter().map(|(_, t)| t.len()).collect();
        assert_eq!(lengths, [PIECE, PIECE, 6, 5]);
        let text = std::fs::read_to_string(tmp.path().join("l")).unwrap();
        assert_eq!(text.matches("00:00:01Z").count(), 3);
    }

    #[test]
    fn files_rotate_and_old_ones_go() {
        let tmp = tempfile::tempdir().unwrap();
        let mut l = log(&tmp, Some(100), 3);
        for i in 0..20 {
            l.write(0, format!("line {i}\n").as_bytes(), 0);
        }
        let mut names: Vec<String> =
            std::fs::read_dir(tmp.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["l", "l.1", "l.2"]);
        assert_eq!(read(&tmp, "l").last().unwrap().1, "line 19\n");
        let all: Vec<String> = ["l.2", "l.1", "l"].iter().flat_map(|n| read(&tmp, n)).map(|(_, t)| t).collect();
        let first: usize = all[0].trim().strip_prefix("line ").unwrap().parse().unwrap();
        let want: Vec<String> = (first..20).map(|i| format!("line {i}\n")).collect();
        assert_eq!(all, want, "no line is missing between the files");
    }

    #[test]
    fn an_existing_log_is_continued_and_a_moved_one_reopened() {
        let tmp = tempfile::tempdir().unwrap();
        log(&tmp, None, 1).write(0, b"a\n", 0);
        let mut l = log(&tmp, None, 1);
        l.write(0, b"b\n", 0);
        assert_eq!(read(&tmp, "l").len(), 2);
        std::fs::rename(tmp.path().join("l"), tmp.path().join("moved")).unwrap();
        l.reopen().unwrap();
        l.write(0, b"c\n", 0);
        assert_eq!((read(&tmp, "moved").len(), read(&tmp, "l").len()), (2, 1));
    }

    #[test]
    fn escapes_are_dockers() {
        let json = |text: &[u8]| {
            let mut out = Vec::new();
            push_json(text, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(json(b"a\t\"\\<&>\r\n\x1b"), r#"a\u0009\"\\\u003c\u0026\u003e\r\n\u001b"#);
        assert_eq!(json("ä€\u{2028}x\u{2029}".as_bytes()), "ä€\\u2028x\\u2029");
        assert_eq!(json(b"\xff\xc3"), "\\ufffd\\ufffd");
        assert_eq!(json(b"\x7f"), "\x7f");
    }
}
