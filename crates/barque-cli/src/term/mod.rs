//! The terminal: raw mode that is always undone, the window's size, detach keys, streams without threads.

pub(crate) mod detach;
pub(crate) mod hijack;
pub(crate) mod signals;
pub(crate) mod stdio;

use std::sync::Mutex;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The terminal's settings before raw mode; there is one terminal, so one place.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw mode, until dropped. A panic and a signal that ends the program undo it too.
pub(crate) struct Raw(());

impl Raw {
    /// Switches the terminal on standard input to raw mode; nothing where it is no terminal.
    pub(crate) fn enter() -> std::io::Result<Option<Raw>> {
        let stdin = rustix::stdio::stdin();
        if !is_terminal_in() {
            return Ok(None);
        }
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        let mut saved = SAVED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if saved.is_none() {
            *saved = Some(before);
            restore_on_panic();
        }
        Ok(Some(Raw(())))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was. Safe to call at any time.
pub(crate) fn restore() {
    let mut saved = SAVED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(before) = saved.take() {
        // If this fails, the terminal is gone.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
    }
}

fn restore_on_panic() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            next(info);
        }));
    });
}

/// Whether standard input is a terminal.
pub(crate) fn is_terminal_in() -> bool {
    rustix::termios::isatty(rustix::stdio::stdin())
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal_out() -> bool {
    rustix::termios::isatty(rustix::stdio::stdout())
}

/// Whether standard error is a terminal.
pub(crate) fn is_terminal_err() -> bool {
    rustix::termios::isatty(rustix::stdio::stderr())
}

/// Height and width of the window on standard output, zero where there is none.
pub(crate) fn size_out() -> (u32, u32) {
    match tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if is_terminal_out() => (u32::from(size.ws_row), u32::from(size.ws_col)),
        _ => (0, 0),
    }
}

/// A terminal for the process inside needs one outside when its input comes from here.
pub(crate) fn check_tty(attach_stdin: bool, tty: bool) -> Result<(), crate::error::Failure> {
    if attach_stdin && tty && !is_terminal_in() {
        return Err(crate::error::Failure::new("the input device is not a TTY"));
    }
    Ok(())
}
