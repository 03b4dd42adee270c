//! `up --menu`: keys that do something while the output of containers is shown.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::args::Up;
use super::context::Context;
use super::terminal::{self, RawMode};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Watch the files of the project, or no longer.
    Watch,
    /// Leave everything running.
    Detach,
}

/// The keys of a terminal; its modes are as before when this is dropped. Signals of the keyboard stay signals.
#[derive(Debug)]
pub(super) struct Menu {
    keys: mpsc::Receiver<Bytes>,
    _mode: RawMode,
}

impl Menu {
    /// Says what the keys do, where the user wants a menu and has a terminal.
    pub(super) fn open(cx: &Context, args: &Up) -> Option<Menu> {
        let wanted = || cx.host.environment.get("COMPOSE_MENU").is_some_and(|v| matches!(v.as_str(), "1" | "true"));
        let mode = (args.menu || wanted()).then(RawMode::keys).filter(RawMode::is_on)?;
        let watch = if args.watch { "Disable" } else { "Enable" };
        cx.print(&format!("\nw {watch} Watch   d Detach\n\n"));
        Some(Menu { keys: terminal::input(), _mode: mode })
    }

    /// What the next key that means something asks for; never, once the terminal is gone.
    pub(super) async fn next(menu: &mut Option<Menu>) -> Asked {
        if let Some(menu) = menu {
            while let Some(pressed) = menu.keys.recv().await {
                if let Some(asked) = pressed.iter().find_map(|key| asked_by(*key)) {
                    return asked;
                }
            }
        }
        std::future::pending().await
    }
}

fn asked_by(key: u8) -> Option<Asked> {
    match key.to_ascii_lowercase() {
        b'w' => Some(Asked::Watch),
        b'd' => Some(Asked::Detach),
        _ => None,
    }
}
