//! Shows the progress of pulls, pushes, loads and builds: a line per layer that moves on a terminal, plain lines
//! elsewhere.

use std::io::Write;

use barque_api::progress::{JsonMessage, ProgressDetail};
use barque_client::JsonStream;
use barque_model::time::Timestamp;

use crate::error::{CliResult, Failure};
use crate::term;

/// Where the lines go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    Stdout,
    Stderr,
    Silent,
}

/// Reads a stream that is not shown: its text, and the failure that ends it.
pub(crate) async fn gather(mut stream: JsonStream<JsonMessage>) -> (String, CliResult<()>) {
    let mut screen = Screen::new(false, 200);
    let mut whole = String::new();
    loop {
        match stream.next().await {
            Ok(None) => return (whole, Ok(())),
            Ok(Some(message)) if message.aux.is_some() => {}
            Ok(Some(message)) => {
                let (text, fault) = screen.text(&message);
                whole.push_str(&text);
                if let Some(fault) = fault {
                    return (whole, Err(fault));
                }
            }
            Err(e) => return (whole, Err(e.into())),
        }
    }
}

/// Shows the stream until its end; `aux` sees the data meant for programs. An error document is the failure.
pub(crate) async fn show(
    mut stream: JsonStream<JsonMessage>,
    sink: Sink,
    mut aux: impl FnMut(&serde_json::Value) -> CliResult<()>,
) -> CliResult<()> {
    let terminal = match sink {
        Sink::Stdout => term::is_terminal_out(),
        Sink::Stderr => term::is_terminal_err(),
        Sink::Silent => false,
    };
    let width = if terminal { usize::try_from(width(sink)).unwrap_or(200) } else { 200 };
    let mut screen = Screen::new(terminal, width);
    while let Some(message) = stream.next().await? {
        if let Some(value) = &message.aux {
            aux(value)?;
            continue;
        }
        let (text, fault) = screen.text(&message);
        print(sink, &text)?;
        if let Some(fault) = fault {
            return Err(fault);
        }
    }
    Ok(())
}

fn width(sink: Sink) -> u32 {
    let size = match sink {
        Sink::Stderr => rustix::termios::tcgetwinsize(rustix::stdio::stderr()),
        _ => rustix::termios::tcgetwinsize(rustix::stdio::stdout()),
    };
    size.map_or(200, |s| u32::from(s.ws_col))
}

/// Writes to the sink.
pub(crate) fn print(sink: Sink, text: &str) -> CliResult<()> {
    match sink {
        Sink::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
        Sink::Stderr => std::io::stderr().lock().write_all(text.as_bytes())?,
        Sink::Silent => {}
    }
    Ok(())
}

/// What stands on the terminal: which layer has which line.
pub(crate) struct Screen {
    terminal: bool,
    width: usize,
    lines: Vec<String>,
}

impl Screen {
    pub(crate) fn new(terminal: bool, width: usize) -> Screen {
        Screen { terminal, width, lines: Vec::new() }
    }

    /// The text that shows one message, and the failure it reports.
    pub(crate) fn text(&mut self, message: &JsonMessage) -> (String, Option<Failure>) {
        let mut out = String::new();
        let has_progress = message.progress_detail.is_some() || !message.progress.is_empty();
        let mut up = 0;
        if !message.id.is_empty() && has_progress {
            let line = match self.lines.iter().position(|id| *id == message.id) {
                Some(line) => line,
                None => {
                    self.lines.push(message.id.clone());
                    if self.terminal {
                        out.push('\n');
                    }
                    self.lines.len() - 1
                }
            };
            up = self.lines.len() - line;
            if self.terminal {
                out.push_str(&format!("\x1b[{up}A"));
            }
        } else {
            self.lines.clear();
        }
        let fault = message.error_message().map(str::to_owned);
        if fault.is_none() {
            self.body(message, &mut out);
        }
        if self.terminal && !message.id.is_empty() && up > 0 {
            out.push_str(&format!("\x1b[{up}B"));
        }
        (out, fault.map(|text| self.failure(message, text)))
    }

    fn failure(&self, message: &JsonMessage, text: String) -> Failure {
        let code = message.error_detail.as_ref().map_or(0, |e| e.code);
        let code = u8::try_from(code).ok().filter(|&c| c != 0).unwrap_or(1);
        Failure::new(text).code(code)
    }

    fn body(&self, message: &JsonMessage, out: &mut String) {
        let bar = message.progress_detail.as_ref().map(|p| bar(p, self.width)).unwrap_or_default();
        let detail = message.progress_detail.is_some();
        let end = if self.terminal && message.stream.is_empty() && detail {
            out.push_str("\x1b[2K\r");
            "\r"
        } else if !bar.is_empty() {
            // Without a terminal, only what is done is worth a line.
            return;
        } else {
            ""
        };
        if !message.id.is_empty() {
            out.push_str(&format!("{}: ", message.id));
        }
        if detail && self.terminal {
            out.push_str(&format!("{} {bar}{end}", message.status));
        } else if !message.progress.is_empty() {
            out.push_str(&format!("{} {}{end}", message.status, message.progress));
        } else if !message.stream.is_empty() {
            out.push_str(&format!("{}{end}", message.stream));
        } else {
            out.push_str(&format!("{}{end}\n", message.status));
        }
    }
}

/// `[=====>     ]  1.2MB/3.4MB`.
fn bar(progress: &ProgressDetail, width: usize) -> String {
    let (current, total) = (progress.current, progress.total);
    if current <= 0 && total <= 0 {
        return String::new();
    }
    let size = |n: i64| barque_model::size::human(u64::try_from(n).unwrap_or(0));
    let units = progress.units.as_str();
    if total <= 0 {
        return if units.is_empty() { format!("{:>8}", size(current)) } else { format!("{current} {units}") };
    }
    let half = (((current as f64 / total as f64) * 100.0) as usize / 2).min(50);
    let mut out = String::new();
    if width > 110 {
        out.push_str(&format!("[{}>{}] ", "=".repeat(half), " ".repeat(50 - half)));
    }
    if !progress.hide_counts {
        out.push_str(&match (units, current > total) {
            ("", true) => format!("{:>8}", size(current)),
            ("", false) => format!("{:>8}/{}", size(current), size(total)),
            (units, true) => format!("{current} {units}"),
            (units, false) => format!("{current}/{total} {units}"),
        });
    }
    if current > 0 && progress.start > 0 && half < 50 {
        let elapsed = Timestamp::now().seconds().saturating_sub(progress.start).max(0);
        let left = (total - current) as f64 * (elapsed as f64 / current as f64);
        let left = std::time::Duration::from_secs(left.round().clamp(0.0, 1e9) as u64);
        out.push_str(&format!(" {}", barque_model::duration::go(left)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> JsonMessage {
        barque_api::json::from_str(json).expect("parses")
    }

    const PROGRESS: &str = r#"{"status":"Downloading","progressDetail":{"current":500000,"total":1000000},"id":"abc"}"#;

    #[test]
    fn without_a_terminal_only_changes_of_state_are_shown() {
        let mut screen = Screen::new(false, 200);
        assert_eq!(
            screen.text(&message(r#"{"status":"Pulling fs layer","progressDetail":{},"id":"abc"}"#)).0,
            "abc: Pulling fs layer\n"
        );
        assert_eq!(screen.text(&message(PROGRESS)).0, "");
        assert_eq!(screen.text(&message(r#"{"status":"Digest: sha256:1"}"#)).0, "Digest: sha256:1\n");
        assert_eq!(screen.text(&message(r#"{"stream":"Step 1/2"}"#)).0, "Step 1/2");
    }

    #[test]
    fn on_a_terminal_each_layer_has_its_line() {
        let mut screen = Screen::new(true, 120);
        let first = screen.text(&message(PROGRESS)).0;
        let bar = format!("[{}>{}]    500kB/1MB", "=".repeat(25), " ".repeat(25));
        assert_eq!(first, format!("\n\x1b[1A\x1b[2K\rabc: Downloading {bar}\r\x1b[1B"));
        let second = screen.text(&message(r#"{"status":"Waiting","progressDetail":{},"id":"def"}"#)).0;
        assert_eq!(second, "\n\x1b[1A\x1b[2K\rdef: Waiting \r\x1b[1B");
        assert!(screen.text(&message(PROGRESS)).0.starts_with("\x1b[2A"));
    }

    #[test]
    fn errors_end_the_stream() {
        let mut screen = Screen::new(false, 80);
        let (text, fault) = screen.text(&message(r#"{"errorDetail":{"code":7,"message":"no"},"error":"no"}"#));
        assert_eq!((text.as_str(), fault.map(|f| (f.message, f.code))), ("", Some(("no".to_owned(), 7))));
    }
}
