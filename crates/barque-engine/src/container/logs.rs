//! Reading a container's json-file log: rotated files in order, the last lines only, from a time on,
//! and following what is appended.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use barque_model::{Context, Error, Result, Timestamp};
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{mpsc, watch};

use super::request::{LogOptions, LogRecord};

/// Records handed over at once.
const BATCH: usize = 256;
/// A line longer than this is no line of ours.
const LINE_MAX: u64 = 4 << 20;
/// Rotated files looked for.
const ROTATED_MAX: usize = 1000;
/// How often an end of file is looked at again.
const POLL: Duration = Duration::from_millis(50);

/// Streams a log. `running` tells whether more may come; a follower ends when it turns false.
pub fn read(
    path: PathBuf,
    options: LogOptions,
    running: watch::Receiver<bool>,
) -> impl Stream<Item = Result<LogRecord>> + Send + 'static {
    let (sender, mut receiver) = mpsc::channel::<Result<Vec<LogRecord>>>(4);
    tokio::spawn(pump(path, options, running, sender));
    let mut batch = VecDeque::new();
    futures_util::stream::poll_fn(move |cx| {
        loop {
            if let Some(record) = batch.pop_front() {
                return std::task::Poll::Ready(Some(Ok(record)));
            }
            match std::task::ready!(receiver.poll_recv(cx)) {
                Some(Ok(more)) => batch = more.into(),
                Some(Err(e)) => return std::task::Poll::Ready(Some(Err(e))),
                None => return std::task::Poll::Ready(None),
            }
        }
    })
}

async fn pump(
    path: PathBuf,
    options: LogOptions,
    mut running: watch::Receiver<bool>,
    sender: mpsc::Sender<Result<Vec<LogRecord>>>,
) {
    let follow = options.follow;
    let opened = tokio::task::spawn_blocking(move || Reader::open(&path, options)).await;
    let mut reader = match opened.map_err(|e| Error::internal(e.to_string())).and_then(|r| r) {
        Ok(reader) => reader,
        Err(e) => return drop(sender.send(Err(e)).await),
    };
    loop {
        // Asked before reading: what a process wrote before its end is in the file by then.
        let alive = *running.borrow_and_update();
        let (back, batch) = match tokio::task::spawn_blocking(move || {
            let batch = reader.batch();
            (reader, batch)
        })
        .await
        {
            Ok(pair) => pair,
            Err(_) => return,
        };
        reader = back;
        match batch {
            Ok(batch) if batch.is_empty() => {
                if !follow || !alive || reader.past_until {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    _ = running.changed() => {}
                    () = sender.closed() => return,
                }
            }
            Ok(batch) => {
                if sender.send(Ok(batch)).await.is_err() {
                    return;
                }
            }
            Err(e) => return drop(sender.send(Err(e)).await),
        }
    }
}

/// A position in a sequence of rotated files. Which file comes next is told by inodes: names change with each rotation.
struct Reader {
    path: PathBuf,
    current: Option<BufReader<File>>,
    /// What follows `current`, opened once that was seen to be rotated.
    next: Option<BufReader<File>>,
    /// The start of a line whose end was not yet written.
    partial: Vec<u8>,
    options: LogOptions,
    past_until: bool,
}

impl Reader {
    fn open(path: &Path, options: LogOptions) -> Result<Reader> {
        let files = rotated(path);
        let (oldest, start) = match options.tail {
            Some(lines) => tail_position(&files, lines)?,
            None => (files.len() - 1, 0),
        };
        let current = match File::open(&files[oldest]) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(start)).context("seek in the log")?;
                Some(BufReader::with_capacity(64 << 10, file))
            }
            Err(_) => None,
        };
        Ok(Reader { path: path.to_owned(), current, next: None, partial: Vec::new(), options, past_until: false })
    }

    /// The next records; empty at the end of what is there.
    fn batch(&mut self) -> Result<Vec<LogRecord>> {
        let mut records = Vec::new();
        while records.len() < BATCH && !self.past_until {
            let Some(line) = self.line()? else { break };
            if let Some(record) = parse(&line) {
                self.admit(record, &mut records);
            }
        }
        Ok(records)
    }

    fn admit(&mut self, record: LogRecord, records: &mut Vec<LogRecord>) {
        if self.options.until.is_some_and(|until| record.time > until) {
            self.past_until = true;
            return;
        }
        let wanted = if record.stderr { self.options.stderr } else { self.options.stdout };
        if wanted && self.options.since.is_none_or(|since| record.time >= since) {
            records.push(record);
        }
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let Some(file) = &mut self.current else {
                // Nothing was logged yet when the reader opened.
                match File::open(&self.path) {
                    Ok(f) => self.current = Some(BufReader::new(f)),
                    Err(_) => return Ok(None),
                }
                continue;
            };
            file.by_ref().take(LINE_MAX).read_until(b'\n', &mut self.partial).context("read the log")?;
            if self.partial.last() == Some(&b'\n') {
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
            if self.partial.len() as u64 >= LINE_MAX {
                self.partial.clear();
                continue;
            }
            if !self.next_file() {
                return Ok(None);
            }
        }
    }

    /// At the end of a file: goes on to a newer one, if there is one. Read once more before that: lines may have come
    /// between the end and the rotation.
    fn next_file(&mut self) -> bool {
        if let Some(next) = self.next.take() {
            self.current = Some(next);
            self.partial.clear();
            return true;
        }
        self.next = self.current.as_ref().and_then(|f| self.successor(f.get_ref())).map(BufReader::new);
        self.next.is_some()
    }

    /// The file that was begun after `file`; `None` if that is the newest.
    fn successor(&self, file: &File) -> Option<File> {
        let inode = file.metadata().ok()?.ino();
        let place = || rotated(&self.path).iter().position(|p| std::fs::metadata(p).is_ok_and(|m| m.ino() == inode));
        for _ in 0..100 {
            let before = place();
            let files = rotated(&self.path);
            let next = match before {
                Some(0) => return None,
                Some(n) => files.get(n - 1),
                // Deleted: all that is left is newer.
                None => files.last(),
            };
            let opened = next.and_then(|p| File::open(p).ok());
            // Still at the same place, so that what was opened was the next.
            if opened.is_some() && place() == before {
                return opened;
            }
        }
        None
    }
}

/// The log and its rotated predecessors, the newest first.
fn rotated(path: &Path) -> Vec<PathBuf> {
    let older = (1..ROTATED_MAX).map(|n| PathBuf::from(format!("{}.{n}", path.display())));
    std::iter::once(path.to_owned()).chain(older.take_while(|p| p.exists())).collect()
}

/// The file (index into `files`, newest first) and offset where the last `lines` lines begin.
fn tail_position(files: &[PathBuf], lines: usize) -> Result<(usize, u64)> {
    let mut missing = lines;
    let mut last = (0, 0);
    for (index, path) in files.iter().enumerate() {
        let Ok(mut file) = File::open(path) else { continue };
        let (offset, found) = last_lines(&mut file, missing)?;
        last = (index, offset);
        missing -= found;
        if missing == 0 {
            break;
        }
    }
    Ok(last)
}

/// Where the last `wanted` lines of `file` begin, and how many there are.
fn last_lines(file: &mut File, wanted: usize) -> Result<(u64, usize)> {
    let mut end = file.seek(SeekFrom::End(0)).context("seek in the log")?;
    if wanted == 0 {
        return Ok((end, 0));
    }
    let size = end;
    let mut found = 0;
    let mut block = vec![0u8; 64 << 10];
    while end > 0 {
        let length = end.min(block.len() as u64);
        let start = end - length;
        file.seek(SeekFrom::Start(start)).context("seek in the log")?;
        let part = &mut block[..usize::try_from(length).unwrap_or(0)];
        file.read_exact(part).context("read the log")?;
        for (i, byte) in part.iter().enumerate().rev() {
            let position = start + i as u64 + 1;
            if *byte == b'\n' && position < size {
                found += 1;
                if found == wanted {
                    return Ok((position, found));
                }
            }
        }
        end = start;
    }
    Ok((0, if size > 0 { found + 1 } else { 0 }))
}

/// One line of Docker's json-file format.
fn parse(line: &[u8]) -> Option<LogRecord> {
    #[derive(serde::Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        log: std::borrow::Cow<'a, str>,
        #[serde(borrow)]
        stream: std::borrow::Cow<'a, str>,
        time: Timestamp,
    }
    let parsed: Line = serde_json::from_slice(line).ok()?;
    Some(LogRecord {
        time: parsed.time,
        stderr: parsed.stream == "stderr",
        line: Bytes::from(parsed.log.into_owned().into_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use std::io::Write;

    use super::*;

    fn write(path: &Path, from: u32, to: u32) {
        let mut f = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        for n in from..to {
            let time = Timestamp::from_secs(i64::from(n));
            writeln!(f, r#"{{"log":"line {n}\n","stream":"stdout","time":"{time}"}}"#).unwrap();
        }
    }

    async fn lines(path: &Path, options: LogOptions) -> Vec<String> {
        let (_alive, running) = watch::channel(false);
        let options = LogOptions { stdout: true, stderr: true, ..options };
        read(path.to_owned(), options, running)
            .map(|r| String::from_utf8(r.unwrap().line.to_vec()).unwrap().trim_end().to_owned())
            .collect()
            .await
    }

    #[tokio::test]
    async fn reads_rotated_files_oldest_first_and_tails_across_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write(&dir.path().join("log.2"), 0, 2);
        write(&dir.path().join("log.1"), 2, 4);
        write(&path, 4, 6);
        let all = lines(&path, LogOptions::default()).await;
        assert_eq!(all, (0..6).map(|n| format!("line {n}")).collect::<Vec<_>>());
        assert_eq!(lines(&path, LogOptions { tail: Some(3), ..LogOptions::default() }).await, all[3..]);
        assert_eq!(lines(&path, LogOptions { tail: Some(99), ..LogOptions::default() }).await, all);
        assert!(lines(&path, LogOptions { tail: Some(0), ..LogOptions::default() }).await.is_empty());
        let since = LogOptions { since: Some(Timestamp::from_secs(2)), ..LogOptions::default() };
        let until = LogOptions { until: Some(Timestamp::from_secs(3)), ..since };
        assert_eq!(lines(&path, until).await, all[2..4]);
    }

    #[tokio::test]
    async fn follows_until_the_process_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        write(&path, 0, 1);
        let (alive, running) = watch::channel(true);
        let options = LogOptions { stdout: true, follow: true, ..LogOptions::default() };
        let mut stream = Box::pin(read(path.clone(), options, running));
        assert!(stream.next().await.is_some());
        write(&path, 1, 3);
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        write(&path, 3, 4);
        alive.send(false).unwrap();
        let rest: Vec<_> = stream.collect().await;
        assert_eq!(rest.len(), 3);
    }

    #[tokio::test]
    async fn no_line_is_lost_over_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let name = |n: u32| dir.path().join(format!("log.{n}"));
        write(&name(1), 0, 2);
        write(&path, 2, 4);
        let options = LogOptions { stdout: true, ..LogOptions::default() };
        let mut reader = Reader::open(&path, options).unwrap();
        assert!(reader.line().unwrap().is_some());
        // Rotated twice while its reader is slow, and written to between its end and the rotation.
        std::fs::rename(name(1), name(3)).unwrap();
        std::fs::rename(&path, name(2)).unwrap();
        write(&name(1), 4, 6);
        write(&path, 6, 8);
        let mut rest = 0;
        while reader.line().unwrap().is_some() {
            rest += 1;
        }
        assert_eq!(rest, 7);
        write(&path, 8, 9);
        std::fs::rename(&path, name(4)).unwrap();
        std::fs::rename(name(4), &path).unwrap();
        assert!(reader.line().unwrap().is_some());
        assert!(reader.line().unwrap().is_none());
    }

    #[test]
    fn rubbish_is_not_a_record() {
        assert!(parse(b"{").is_none());
        assert!(parse(b"{\"log\":\"x\"}\n").is_none());
    }
}
