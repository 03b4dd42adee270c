//! The key sequence that detaches: Ctrl-p Ctrl-q, or what `--detach-keys` says.

/// Docker's default, Ctrl-p Ctrl-q.
const DEFAULT: [u8; 2] = [16, 17];

/// Reads `ctrl-a,x` into bytes.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    text.split(',').map(key).collect()
}

fn key(word: &str) -> Result<u8, String> {
    let unknown = || format!("Unknown character: '{word}'");
    if let [byte] = word.as_bytes() {
        return Ok(*byte);
    }
    let control = word.strip_prefix("ctrl-").ok_or_else(unknown)?;
    match control.as_bytes() {
        [letter @ b'a'..=b'z'] => Ok(letter - b'a' + 1),
        [b'@'] => Ok(0),
        [b'['] => Ok(27),
        [b'\\'] => Ok(28),
        [b']'] => Ok(29),
        [b'^'] => Ok(30),
        [b'_'] => Ok(31),
        _ => Err(unknown()),
    }
}

/// The sequence to look for; a bad one is reported and replaced by the default.
pub(crate) fn keys(text: &str) -> (Vec<u8>, Option<String>) {
    match text {
        "" => (DEFAULT.to_vec(), None),
        text => match parse(text) {
            Ok(keys) => (keys, None),
            Err(e) => (DEFAULT.to_vec(), Some(format!("invalid detach escape keys, using default: {e}"))),
        },
    }
}

/// Looks for the sequence in what is typed, which may come in pieces of any size.
pub(crate) struct Watcher {
    keys: Vec<u8>,
    matched: usize,
}

/// What is left of a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// To be sent on: everything but the part that may yet become the sequence.
    pub(crate) forward: Vec<u8>,
    /// The sequence is complete.
    pub(crate) detached: bool,
}

impl Watcher {
    pub(crate) fn new(keys: Vec<u8>) -> Watcher {
        Watcher { keys, matched: 0 }
    }

    /// Takes in what was typed.
    pub(crate) fn see(&mut self, typed: &[u8]) -> Seen {
        let mut forward = Vec::with_capacity(typed.len());
        for &byte in typed {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return Seen { forward, detached: true };
                }
                continue;
            }
            forward.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if self.keys.first() == Some(&byte) {
                self.matched = 1;
                if self.keys.len() == 1 {
                    return Seen { forward, detached: true };
                }
            } else {
                forward.push(byte);
            }
        }
        Seen { forward, detached: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        assert_eq!(parse("ctrl-p,ctrl-q"), Ok(vec![16, 17]));
        assert_eq!(parse("a,ctrl-@,ctrl-_"), Ok(vec![97, 0, 31]));
        assert!(parse("ctrl-1").is_err());
        assert!(parse("foo").is_err());
        assert!(keys("foo").1.is_some());
    }

    #[test]
    fn a_sequence_is_found_across_pieces() {
        let mut watcher = Watcher::new(vec![16, 17]);
        assert_eq!(watcher.see(b"ab\x10"), Seen { forward: b"ab".to_vec(), detached: false });
        assert_eq!(watcher.see(b"\x11cd"), Seen { forward: Vec::new(), detached: true });
    }

    #[test]
    fn what_only_began_like_it_is_sent_on() {
        let mut watcher = Watcher::new(vec![16, 17]);
        assert_eq!(watcher.see(b"\x10x"), Seen { forward: b"\x10x".to_vec(), detached: false });
        assert_eq!(watcher.see(b"\x10\x10\x11"), Seen { forward: b"\x10".to_vec(), detached: true });
    }
}
