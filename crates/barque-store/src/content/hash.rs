//! The digest of a stream while it is written, on the writer's thread or on one of its own.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use barque_model::{Digest, Error, Hasher, Result};

use crate::layer::{Chunk, Pool, pipe};

/// Hashing needs next to nothing of it.
const STACK: usize = 128 * 1024;

/// A digest in the making.
pub(super) enum Hash {
    Here(Hasher),
    Apart(Apart),
}

pub(super) struct Apart {
    pieces: SyncSender<Arc<Chunk>>,
    thread: JoinHandle<Hasher>,
    /// Bytes so far, handed over or hashed.
    bytes: u64,
}

impl Default for Hash {
    fn default() -> Self {
        Hash::Here(Hasher::new())
    }
}

impl Hash {
    /// Goes on with it on a thread of its own.
    pub(super) fn apart(self) -> Result<Hash> {
        let Hash::Here(mut hasher) = self else { return Ok(self) };
        let bytes = hasher.bytes();
        let (pieces, mut received) = pipe();
        let work = move || {
            while let Some(piece) = received.chunk() {
                hasher.update(piece.bytes());
            }
            hasher
        };
        let thread = std::thread::Builder::new().name("blob-hash".into()).stack_size(STACK).spawn(work);
        let thread = thread.map_err(|e| Error::from(e).context("start a thread to hash a blob"))?;
        Ok(Hash::Apart(Apart { pieces, thread, bytes }))
    }

    pub(super) fn bytes(&self) -> u64 {
        match self {
            Hash::Here(hasher) => hasher.bytes(),
            Hash::Apart(apart) => apart.bytes,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Hash::Here(hasher) => {
                hasher.update(bytes);
                Ok(())
            }
            Hash::Apart(_) => self.share(&Chunk::new(bytes.to_vec(), &Pool::default())),
        }
    }

    /// As `update`, of bytes that another thread may read without a copy.
    pub(super) fn share(&mut self, chunk: &Arc<Chunk>) -> Result<()> {
        match self {
            Hash::Here(hasher) => {
                hasher.update(chunk.bytes());
                Ok(())
            }
            Hash::Apart(apart) => {
                apart.bytes += chunk.bytes().len() as u64;
                apart.pieces.send(Arc::clone(chunk)).map_err(|_| died())
            }
        }
    }

    /// The digest of all bytes.
    pub(super) fn finish(self) -> Result<Digest> {
        match self {
            Hash::Here(hasher) => Ok(hasher.finish()),
            Hash::Apart(Apart { pieces, thread, .. }) => {
                drop(pieces);
                thread.join().map(Hasher::finish).map_err(|_| died())
            }
        }
    }
}

fn died() -> Error {
    Error::internal("the thread that hashed a blob has died of a bug")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_same_on_any_thread() {
        let data: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        let (head, rest) = data.split_at(1_000);
        let mut hash = Hash::default();
        hash.update(head).unwrap();
        let mut hash = hash.apart().unwrap();
        assert_eq!(hash.bytes(), 1_000);
        for piece in rest.chunks(300_001) {
            hash.update(piece).unwrap();
            hash.share(&Chunk::new(piece.to_vec(), &Pool::default())).unwrap();
        }
        assert_eq!(hash.bytes(), 1_000 + 2 * 999_000);
        let twice = rest.chunks(300_001).flat_map(|piece| [piece, piece]);
        let all: Vec<u8> = std::iter::once(head).chain(twice).flatten().copied().collect();
        assert_eq!(hash.finish().unwrap(), Digest::of(&all));
    }
}
