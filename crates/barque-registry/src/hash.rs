//! sha256 over streams. ring's is twice as fast as sha2's on processors without SHA extensions, and hashing is most of
//! what serving a push costs there.

use barque_model::Digest;
use ring::digest::{Context, SHA256};

/// Hashes a stream.
#[derive(Clone)]
pub(crate) struct Hasher(Context);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest::from_bytes(bytes)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_the_model() {
        for text in ["", "a", &"long".repeat(1000)] {
            let mut hasher = super::Hasher::new();
            hasher.update(text.as_bytes());
            assert_eq!(hasher.finish(), barque_model::Digest::of(text.as_bytes()));
        }
    }
}
