//! Bounded pipes of buffers between the threads of a layer's pipeline.
//!
//! Buffers are shared by all readers of a pipe and go back to a pool when the last has let go: a layer in flight
//! costs the same few buffers whatever its size.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a buffer. Large enough to make hand-overs rare, below what an allocator maps anew each time.
pub(super) const BUFFER: usize = 112 * 1024;
/// Buffers that wait in a pipe.
pub(super) const DEPTH: usize = 4;

/// Buffers to be used again.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// A buffer with a capacity of [`BUFFER`] bytes and any content.
    pub(crate) fn take(&self) -> Vec<u8> {
        let used = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        used.unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }
}

/// A filled buffer.
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    pool: Pool,
}

impl Chunk {
    pub(crate) fn new(bytes: Vec<u8>, pool: &Pool) -> Arc<Chunk> {
        Arc::new(Chunk { bytes, pool: pool.clone() })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut pool = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < 3 * DEPTH {
            pool.push(bytes);
        }
    }
}

/// The reading end of a pipe.
pub(crate) struct PipeReader {
    chunks: Receiver<Arc<Chunk>>,
    current: Option<Arc<Chunk>>,
    position: usize,
}

pub(crate) fn pipe() -> (SyncSender<Arc<Chunk>>, PipeReader) {
    let (sender, chunks) = sync_channel(DEPTH);
    (sender, PipeReader { chunks, current: None, position: 0 })
}

impl PipeReader {
    /// The next buffer whole; `None` when the writer has gone.
    pub(crate) fn chunk(&mut self) -> Option<Arc<Chunk>> {
        self.chunks.recv().ok()
    }

    /// The buffer that was begun, whole, if none of it was consumed.
    pub(super) fn take_current(&mut self) -> Option<Arc<Chunk>> {
        if self.position == 0 { self.current.take() } else { None }
    }

    /// Waits for the first buffer and shows the beginning of the stream.
    pub(super) fn start(&mut self) -> &[u8] {
        self.fill_buf().unwrap_or_default()
    }
}

impl BufRead for PipeReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let length = |c: &Option<Arc<Chunk>>| c.as_ref().map_or(0, |c| c.bytes().len());
        while self.position >= length(&self.current) {
            match self.chunks.recv() {
                Ok(chunk) => {
                    self.current = Some(chunk);
                    self.position = 0;
                }
                Err(_) => return Ok(&[]),
            }
        }
        Ok(self.current.as_ref().map_or(&[][..], |c| &c.bytes()[self.position..]))
    }

    fn consume(&mut self, n: usize) {
        self.position += n;
    }
}

impl Read for PipeReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let n = bytes.len().min(out.len());
        out[..n].copy_from_slice(&bytes[..n]);
        self.consume(n);
        Ok(n)
    }
}
