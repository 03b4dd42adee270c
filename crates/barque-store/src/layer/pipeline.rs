//! The threads that turn a layer's bytes into its diff id and an unpacked directory in one pass.
//!
//! ```text
//! caller ──bytes──▶ inflate ──┬──▶ hash (diff id)
//!                             └──▶ unpack (directory)
//! ```
//!
//! A layer that is not compressed skips the two hand-overs it does not need: its diff id is the digest of the
//! bytes the caller hashes anyway.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use barque_model::{DiffId, Error, Hasher, Result};

use super::apply::{Applied, Applier, ApplyOptions};
use super::decompress::{self, Compression};
use super::pipe::{BUFFER, Chunk, PipeReader, Pool, pipe};
use crate::tar;

/// Unpacking keeps few things on the stack; inflating needs some tables.
const STACK: usize = 512 * 1024;

/// A running pipeline.
pub(super) struct Pipeline {
    input: Option<SyncSender<Arc<Chunk>>>,
    pool: Pool,
    threads: Option<Threads>,
    unpacked: Arc<AtomicU64>,
    failure: Option<Error>,
}

struct Threads {
    inflate: JoinHandle<Result<Inflated>>,
    unpack: JoinHandle<Result<Applied>>,
}

struct Inflated {
    compression: Compression,
    /// `None` if the layer was not compressed.
    diff_id: Option<DiffId>,
}

/// What the threads found.
pub(super) struct Outcome {
    pub(super) compression: Compression,
    pub(super) diff_id: Option<DiffId>,
    pub(super) applied: Applied,
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<JoinHandle<Result<T>>> {
    let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(work);
    thread.map_err(|e| Error::from(e).context("start a thread to unpack a layer"))
}

impl Pipeline {
    /// Starts unpacking into the empty directory `target`.
    pub(super) fn start(target: PathBuf, options: ApplyOptions) -> Result<Pipeline> {
        let (input, compressed) = pipe();
        let (to_unpack, plain) = pipe();
        let unpacked = Arc::new(AtomicU64::new(0));
        let pool = Pool::default();
        let limit = options.max_bytes;
        let unpack = spawn("layer-unpack", move || unpack(plain, &target, options))?;
        let inflate = {
            let (pool, unpacked) = (pool.clone(), Arc::clone(&unpacked));
            spawn("layer-inflate", move || inflate(compressed, &to_unpack, &pool, &unpacked, limit))?
        };
        let threads = Some(Threads { inflate, unpack });
        Ok(Pipeline { input: Some(input), pool, threads, unpacked, failure: None })
    }

    /// Uncompressed bytes so far.
    pub(super) fn unpacked(&self) -> u64 {
        self.unpacked.load(Ordering::Relaxed)
    }

    /// Where the buffers come from that are handed over.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Hands bytes over, waiting while the threads lag behind. Errors: why the threads gave up.
    pub(super) fn push(&mut self, chunk: Arc<Chunk>) -> Result<()> {
        let gone = self.input.as_ref().is_none_or(|input| input.send(chunk).is_err());
        if gone { Err(self.fail()) } else { Ok(()) }
    }

    /// Why the threads gave up.
    fn fail(&mut self) -> Error {
        match self.join() {
            Err(error) => {
                self.failure = Some(Error::new(error.kind(), error.to_string()));
                error
            }
            Ok(_) => match &self.failure {
                Some(f) => Error::new(f.kind(), f.to_string()),
                None => Error::internal("a layer ended before its data"),
            },
        }
    }

    /// Waits for the threads.
    pub(super) fn finish(mut self) -> Result<Outcome> {
        self.join()?.ok_or_else(|| Error::internal("the threads of a layer have ended already"))
    }

    fn join(&mut self) -> Result<Option<Outcome>> {
        self.input = None;
        let Some(threads) = self.threads.take() else { return Ok(None) };
        let inflated = threads.inflate.join();
        let applied = threads.unpack.join();
        let panicked = |_| Error::internal("a thread that unpacked a layer has died of a bug");
        // A hostile archive makes both fail; the one who saw it says why. But what unpacking calls a truncated
        // archive is damaged compression if inflating failed.
        match (inflated.map_err(panicked)?, applied.map_err(panicked)?) {
            (Err(inflate), Err(unpack)) => Err(if inflate.message() == STOPPED { unpack } else { inflate }),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
            (Ok(Inflated { compression, diff_id }), Ok(applied)) => Ok(Some(Outcome { compression, diff_id, applied })),
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Nobody may still write below the directory that is about to be removed.
        let _ = self.join();
    }
}

/// What inflating says when unpacking has stopped, and knows why.
const STOPPED: &str = "unpacking stopped";

fn inflate(
    mut input: PipeReader,
    unpack: &SyncSender<Arc<Chunk>>,
    pool: &Pool,
    count: &AtomicU64,
    limit: u64,
) -> Result<Inflated> {
    let start = input.start().to_vec();
    let compression = Compression::detect(&start);
    let mut total = 0u64;
    let mut account = |n: usize| {
        total += n as u64;
        count.store(total, Ordering::Relaxed);
        if limit > 0 && total > limit { Err(too_large(limit)) } else { Ok(()) }
    };
    let stopped = |_| Error::internal(STOPPED);
    if compression == Compression::None {
        // The first buffer was only looked at.
        let mut next = input.take_current().or_else(|| input.chunk());
        while let Some(chunk) = next {
            account(chunk.bytes().len())?;
            unpack.send(chunk).map_err(stopped)?;
            next = input.chunk();
        }
        return Ok(Inflated { compression, diff_id: None });
    }
    let (to_hash, hashed) = pipe();
    let hash = spawn("layer-hash", move || Ok(hash(hashed)))?;
    let mut decoder = decompress::decoder(input, &start)?;
    loop {
        let buffer = fill(&mut decoder, pool.take()).map_err(|e| decompress::explain(e, compression))?;
        if buffer.is_empty() {
            break;
        }
        account(buffer.len())?;
        let chunk = Chunk::new(buffer, pool);
        to_hash.send(Arc::clone(&chunk)).map_err(stopped)?;
        unpack.send(chunk).map_err(stopped)?;
    }
    drop(to_hash);
    let diff_id = hash.join().map_err(|_| Error::internal("the thread that hashed a layer has died of a bug"))??;
    Ok(Inflated { compression, diff_id: Some(diff_id) })
}

/// Fills a buffer as far as the stream reaches; empty at its end.
pub(super) fn fill(input: &mut dyn Read, mut buffer: Vec<u8>) -> std::io::Result<Vec<u8>> {
    buffer.resize(BUFFER, 0);
    let mut filled = 0;
    while filled < BUFFER {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

fn hash(mut input: PipeReader) -> DiffId {
    let mut hash = Hasher::new();
    while let Some(chunk) = input.chunk() {
        hash.update(chunk.bytes());
    }
    DiffId(hash.finish())
}

fn unpack(input: PipeReader, target: &std::path::Path, options: ApplyOptions) -> Result<Applied> {
    let mut applier = Applier::new(target, options)?;
    let mut reader = tar::Reader::new(input);
    while let Some(entry) = reader.next()? {
        applier.apply(&entry, &mut reader)?;
    }
    let applied = applier.finish()?;
    // What follows the end mark belongs to the diff id and must not stop the others.
    let mut rest = reader.into_inner();
    while rest.chunk().is_some() {}
    Ok(applied)
}

pub(super) fn too_large(limit: u64) -> Error {
    Error::invalid(format!("the layer unpacks to more than {}", barque_model::size::human(limit)))
        .with_hint("it is damaged or made to fill the disk; nothing of it was kept")
}
