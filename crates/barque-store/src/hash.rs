//! sha256 over streams. ring's is twice as fast as sha2's on processors without SHA extensions, and hashing is
//! most of what a pull costs there.

use barque_model::Digest;
use ring::digest::{Context, SHA256};

/// Hashes a stream and counts its bytes.
#[derive(Clone)]
pub(crate) struct Sha256 {
    context: Context,
    bytes: u64,
}

impl Sha256 {
    pub(crate) fn new() -> Self {
        Sha256 { context: Context::new(&SHA256), bytes: 0 }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn finish(self) -> Digest {
        let mut out = [0u8; 32];
        out.copy_from_slice(self.context.finish().as_ref());
        Digest::from_bytes(out)
    }

    pub(crate) fn of(bytes: &[u8]) -> Digest {
        let mut hash = Self::new();
        hash.update(bytes);
        hash.finish()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_the_model() {
        for text in ["", "a", &"long".repeat(1000)] {
            assert_eq!(super::Sha256::of(text.as_bytes()), barque_model::Digest::of(text.as_bytes()));
        }
    }
}
