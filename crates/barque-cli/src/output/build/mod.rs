//! Shows how a build goes on: steps that move on a terminal, plain lines elsewhere, documents for programs.

mod plain;
mod tty;

use std::io::Write as _;
use std::time::Duration;

use barque_api::build_extras::{self, FailedStep, SolveStatus};
use barque_api::progress::JsonMessage;
use barque_client::JsonStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{CliResult, Failure};
use crate::term;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    Tty,
    RawJson,
    /// Nothing but the failure.
    Quiet,
}

/// Between two pictures on a terminal.
const FRAME: Duration = Duration::from_millis(100);

/// What a build came to.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The image, if one was made.
    pub(crate) image: String,
    /// The image that holds the cache.
    pub(crate) cache: String,
    pub(crate) failed: Option<FailedStep>,
    /// Lints, each a sentence.
    pub(crate) warnings: Vec<String>,
}

impl Mode {
    /// The value of `--progress`.
    pub(crate) fn parse(text: &str) -> CliResult<Mode> {
        Ok(match text {
            "auto" | "" if term::is_terminal_err() => Mode::Tty,
            "auto" | "" | "plain" => Mode::Plain,
            "tty" => Mode::Tty,
            "rawjson" => Mode::RawJson,
            "quiet" | "none" => Mode::Quiet,
            other => return Err(Failure::new(format!("invalid progress mode {other:?}"))),
        })
    }
}

/// The text of base64; what is none is empty.
fn text(base64: &str) -> Vec<u8> {
    STANDARD.decode(base64).unwrap_or_default()
}

/// Keeps line breaks and other control characters (but tabs and colours) out of the log.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' && c != '\u{1b}' { ' ' } else { c }).collect()
}

enum View {
    Plain(plain::Plain),
    Tty(tty::Tty),
    Raw,
    None,
}

impl View {
    fn push(&mut self, status: &SolveStatus) -> CliResult<()> {
        let text = match self {
            View::Plain(plain) => plain.push(status),
            View::Raw => serde_json::to_string(status).unwrap_or_default() + "\n",
            View::Tty(tty) => {
                tty.push(status);
                return Ok(());
            }
            View::None => return Ok(()),
        };
        Ok(std::io::stderr().lock().write_all(text.as_bytes())?)
    }

    fn note(&mut self, text: &str) -> CliResult<()> {
        match self {
            View::Plain(_) => Ok(std::io::stderr().lock().write_all(text.as_bytes())?),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> CliResult<()> {
        let text = match self {
            View::Plain(plain) => plain.finish(),
            View::Tty(tty) => tty.finish(),
            View::Raw | View::None => return Ok(()),
        };
        Ok(std::io::stderr().lock().write_all(text.as_bytes())?)
    }
}

/// Reads the stream up to its last document. The failure that ends it is in the second value, next to what was
/// told before.
pub(crate) async fn show(stream: &mut JsonStream<JsonMessage>, mode: Mode) -> (Told, CliResult<()>) {
    let mut view = match mode {
        Mode::Plain => View::Plain(plain::Plain::default()),
        Mode::Tty => View::Tty(tty::Tty::start()),
        Mode::RawJson => View::Raw,
        Mode::Quiet => View::None,
    };
    let mut told = Told::default();
    let result = follow(stream, &mut view, &mut told).await;
    let ended = view.end();
    (told, result.and(ended))
}

async fn follow(stream: &mut JsonStream<JsonMessage>, view: &mut View, told: &mut Told) -> CliResult<()> {
    let mut frames = tokio::time::interval(FRAME);
    loop {
        let message = tokio::select! {
            biased;
            message = stream.next() => message?,
            _ = frames.tick(), if matches!(view, View::Tty(_)) => {
                if let View::Tty(tty) = view {
                    tty.draw()?;
                }
                continue;
            }
        };
        let Some(message) = message else { return Ok(()) };
        if let Some(text) = message.error_message() {
            let code = message.error_detail.as_ref().map_or(0, |e| e.code);
            let code = u8::try_from(code).ok().filter(|&c| c != 0).unwrap_or(1);
            return Err(Failure::new(text.to_owned()).code(code));
        }
        let Some(aux) = &message.aux else {
            view.note(&message.stream)?;
            continue;
        };
        let id = || aux.get("ID").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        match message.id.as_str() {
            build_extras::STATUS => {
                let Ok(status) = serde_json::from_value::<SolveStatus>(aux.clone()) else { continue };
                let short = |w: &build_extras::VertexWarning| String::from_utf8_lossy(&text(&w.short)).into_owned();
                told.warnings.extend(status.warnings.iter().map(short));
                view.push(&status)?;
            }
            build_extras::FAILED => told.failed = serde_json::from_value(aux.clone()).ok(),
            build_extras::CACHE => told.cache = id(),
            build_extras::FILES => return Ok(()),
            _ => told.image = id(),
        }
    }
}
