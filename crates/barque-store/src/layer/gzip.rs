//! Deterministic gzip on several threads.
//!
//! The input is cut into blocks of fixed size, each deflated by itself and ended on a byte boundary; together they
//! are one ordinary gzip member. The output depends on the bytes alone: not on how they were handed over (which
//! matters to deflate itself), nor on the number of threads.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes deflated by themselves: large enough to lose little, small enough to share the work.
const BLOCK: usize = 1 << 20;
/// Effort, as gzip's and Docker's default.
const LEVEL: u32 = 6;
/// Threads used at most.
const THREADS_MAX: usize = 4;
/// Header without name and time: deflate, unknown operating system (RFC 1952, 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

type Job = (Vec<u8>, Sender<io::Result<Vec<u8>>>);

/// Compresses what is written to it.
pub(super) struct GzipWriter<W: Write> {
    out: W,
    block: Vec<u8>,
    crc: Crc,
    started: bool,
    pool: Option<Pool>,
    /// Blocks being deflated, in order.
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
}

struct Pool {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    fn start() -> io::Result<Pool> {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let mut threads = Vec::new();
        for _ in 0..count {
            let queue = Arc::clone(&queue);
            let work = move || {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((block, done)) = job else { return };
                    let _ = done.send(deflate(&block, FlushCompress::Sync));
                }
            };
            threads.push(std::thread::Builder::new().name("layer-gzip".into()).stack_size(512 * 1024).spawn(work)?);
        }
        Ok(Pool { jobs: Some(jobs), threads })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Deflates one block; `Sync` ends it on a byte boundary, `Finish` ends the stream.
fn deflate(block: &[u8], flush: FlushCompress) -> io::Result<Vec<u8>> {
    let mut state = Compress::new(Compression::new(LEVEL), false);
    let mut out = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let consumed = usize::try_from(state.total_in()).unwrap_or(block.len());
        let before = out.len();
        let status = state.compress_vec(&block[consumed..], &mut out, flush).map_err(io::Error::other)?;
        let all_in = usize::try_from(state.total_in()).unwrap_or(block.len()) == block.len();
        let room = out.len() < out.capacity();
        if status == Status::StreamEnd || (flush == FlushCompress::Sync && all_in && room) {
            return Ok(out);
        }
        if !room || out.len() == before {
            out.reserve(64 * 1024);
        }
    }
}

impl<W: Write> GzipWriter<W> {
    pub(super) fn new(out: W) -> Self {
        GzipWriter {
            out,
            block: Vec::with_capacity(BLOCK),
            crc: Crc::new(),
            started: false,
            pool: None,
            pending: VecDeque::new(),
        }
    }

    fn start(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.started, true) {
            self.out.write_all(&HEADER)?;
        }
        Ok(())
    }

    /// Hands a full block to the threads, and writes out what is ready if enough is under way.
    fn submit(&mut self) -> io::Result<()> {
        self.start()?;
        if self.pool.is_none() {
            self.pool = Some(Pool::start()?);
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let (done, wait) = channel();
        let Some(pool) = &self.pool else { return Err(io::Error::other("no threads")) };
        let sent = pool.jobs.as_ref().is_some_and(|jobs| jobs.send((block, done)).is_ok());
        if !sent {
            return Err(io::Error::other("the threads that compress have ended"));
        }
        let ahead = 2 * pool.threads.len();
        self.pending.push_back(wait);
        while self.pending.len() > ahead {
            self.collect()?;
        }
        Ok(())
    }

    fn collect(&mut self) -> io::Result<()> {
        let Some(wait) = self.pending.pop_front() else { return Ok(()) };
        let block = wait.recv().map_err(|_| io::Error::other("a thread that compresses has died of a bug"))??;
        self.out.write_all(&block)
    }

    /// Writes the end and gives the output back.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.start()?;
        while !self.pending.is_empty() {
            self.collect()?;
        }
        let last = deflate(&self.block, FlushCompress::Finish)?;
        self.out.write_all(&last)?;
        self.out.write_all(&self.crc.sum().to_le_bytes())?;
        self.out.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.out)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        self.crc.update(&bytes[..n]);
        if self.block.len() == BLOCK {
            self.submit()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pack(data: &[u8], step: usize) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new());
        for part in data.chunks(step.max(1)) {
            writer.write_all(part).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn the_same_bytes_give_the_same_gzip_however_they_come() {
        let data: Vec<u8> = (0..5_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
        for size in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, data.len()] {
            let whole = pack(&data[..size], usize::MAX);
            for step in [1000, 65_536, BLOCK + 7] {
                assert!(pack(&data[..size], step) == whole, "{size} by {step}");
            }
            let mut back = Vec::new();
            // A decoder for one member only: all blocks are one stream.
            flate2::read::GzDecoder::new(&whole[..]).read_to_end(&mut back).unwrap();
            assert!(back == data[..size], "{size}");
        }
    }
}
