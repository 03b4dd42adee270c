//! The user's terminal: raw mode, size, keys.

use std::io::{IsTerminal, Read};

use bytes::Bytes;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use tokio::sync::mpsc;

/// Raw mode, or only that of keys; the terminal is as it was when this is dropped.
#[derive(Debug)]
pub(super) struct RawMode(Option<Termios>);

impl RawMode {
    /// Turns raw mode on, if stdin is a terminal.
    pub(super) fn enter() -> RawMode {
        Self::with(Termios::make_raw)
    }

    /// Hands on each key at once and does not show it, if stdin is a terminal; Ctrl-C and its like remain signals.
    pub(super) fn keys() -> RawMode {
        Self::with(|modes| modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO))
    }

    /// Whether stdin is a terminal whose modes were changed.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn with(change: impl Fn(&mut Termios)) -> RawMode {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return RawMode(None);
        }
        let Ok(before) = termios::tcgetattr(&stdin) else { return RawMode(None) };
        let mut raw = before.clone();
        change(&mut raw);
        match termios::tcsetattr(&stdin, OptionalActions::Now, &raw) {
            Ok(()) => RawMode(Some(before)),
            Err(_) => RawMode(None),
        }
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Rows and columns of the terminal, if there is one.
pub(super) fn size() -> Option<(u32, u32)> {
    let size = termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_row > 0).then_some((u32::from(size.ws_row), u32::from(size.ws_col)))
}

/// What comes in on stdin. A thread of its own reads it: a read that waits for a key cannot be called back, and must
/// not keep the program from ending.
pub(super) fn input() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut buffer = vec![0u8; 32 << 10];
        let mut stdin = std::io::stdin().lock();
        while let Ok(count) = stdin.read(&mut buffer) {
            if count == 0 || sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Asks a question whose answer is yes or no.
pub(super) fn confirm(question: &str) -> bool {
    use std::io::Write;
    let mut err = std::io::stderr().lock();
    let _ = write!(err, "{question} [yN] ");
    let _ = err.flush();
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
}
