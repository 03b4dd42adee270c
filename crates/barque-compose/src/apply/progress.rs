//! Progress on stderr: ` ✔ Container x-web-1  Started  0.3s` on a terminal, one line per event elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use unicode_width::UnicodeWidthStr;

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Under way.
    Working,
    /// Done.
    Done,
    /// Done, but not as hoped.
    Warning,
    /// Failed.
    Error,
}

/// What stands before each line of a dry run.
pub const DRY_RUN: &str = " DRY-RUN MODE - ";

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Lines that are redrawn.
    Tty,
    /// A line per event.
    Plain,
    /// A JSON document per event.
    Json,
    /// Nothing.
    Quiet,
}

#[derive(Debug)]
struct Task {
    id: String,
    text: String,
    details: String,
    status: Status,
    started: Instant,
    ended: Option<Instant>,
}

#[derive(Debug)]
struct State {
    tasks: Vec<Task>,
    drawn: usize,
    ticks: usize,
    title: String,
    suspended: bool,
}

/// A view of what is going on; cheap to clone.
#[derive(Clone, Debug)]
pub struct Progress {
    mode: Mode,
    colour: bool,
    dry_run: bool,
    /// Lines that something wrote are shown although progress is not.
    aside: bool,
    state: Arc<Mutex<State>>,
}

const SPINNER: [&str; 8] = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠇", "⠏", "⠋"];

impl Progress {
    /// A view; `mode` is the word of `--progress`.
    pub fn new(mode: Option<&str>, ansi: bool, dry_run: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let mode = match mode {
            Some("quiet") => Mode::Quiet,
            Some("json") => Mode::Json,
            Some("plain") => Mode::Plain,
            Some("tty") => Mode::Tty,
            _ if terminal && ansi => Mode::Tty,
            _ => Mode::Plain,
        };
        let state = State { tasks: Vec::new(), drawn: 0, ticks: 0, title: "Running".to_owned(), suspended: false };
        Progress { mode, colour: ansi, dry_run, aside: false, state: Arc::new(Mutex::new(state)) }
    }

    /// A view that shows nothing.
    pub fn quiet() -> Self {
        Progress::new(Some("quiet"), false, false)
    }

    /// A view that shows only what hooks and builds write, for use beside the output of containers.
    pub fn lines_only() -> Self {
        Progress { aside: true, ..Progress::quiet() }
    }

    /// What stands before each line of a dry run.
    pub const DRY_RUN: &str = " DRY-RUN MODE - ";

    /// How progress is shown.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Sets the word in `[+] Running 3/3`.
    pub fn title(&self, title: &str) {
        title.clone_into(&mut self.lock().title);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is under way.
    pub fn working(&self, id: &str, text: &str) {
        self.event(id, text, Status::Working);
    }

    /// Something is done.
    pub fn done(&self, id: &str, text: &str) {
        self.event(id, text, Status::Done);
    }

    /// Something failed.
    pub fn failed(&self, id: &str, why: &str) {
        let first = why.lines().next().unwrap_or_default();
        let text = if first.starts_with("Error") { first.to_owned() } else { format!("Error {first}") };
        self.event(id, &text, Status::Error);
    }

    /// Reports an event.
    pub fn event(&self, id: &str, text: &str, status: Status) {
        self.detailed(id, text, "", status);
    }

    /// Reports an event with details.
    pub fn detailed(&self, id: &str, text: &str, details: &str, status: Status) {
        let mut state = self.lock();
        // several wait for the same thing; once is enough
        let known =
            state.tasks.iter().any(|t| t.id == id && t.text == text && t.details == details && t.status == status);
        if known && self.mode != Mode::Tty {
            return;
        }
        match self.mode {
            Mode::Quiet => return,
            Mode::Plain => {
                let prefix = if self.dry_run { DRY_RUN } else { "" };
                let line = format!("{prefix} {id}  {text} {details}");
                let _ = writeln!(std::io::stderr().lock(), "{}", line.trim_end());
            }
            Mode::Json => {
                let word = match status {
                    Status::Working => "Working",
                    Status::Done => "Done",
                    Status::Warning => "Warning",
                    Status::Error => "Error",
                };
                let _ = writeln!(std::io::stderr().lock(), "{}", self.document(id, word, text, details));
            }
            Mode::Tty => {}
        }
        let now = Instant::now();
        let ended = (status != Status::Working).then_some(now);
        match state.tasks.iter_mut().find(|t| t.id == id) {
            Some(task) => {
                text.clone_into(&mut task.text);
                details.clone_into(&mut task.details);
                task.status = status;
                task.ended = ended;
            }
            None => state.tasks.push(Task {
                id: id.to_owned(),
                text: text.to_owned(),
                details: details.to_owned(),
                status,
                started: now,
                ended,
            }),
        }
    }

    /// A document of `--progress json`: what is empty or false is left out.
    fn document(&self, id: &str, status: &str, text: &str, details: &str) -> serde_json::Value {
        let mut out = serde_json::Map::new();
        if self.dry_run {
            out.insert("dry-run".to_owned(), true.into());
        }
        for (key, value) in [("id", id), ("status", status), ("text", text), ("details", details)] {
            if !value.is_empty() {
                out.insert(key.to_owned(), value.into());
            }
        }
        out.into()
    }

    /// Shows a line that a hook or build wrote. `shown` is the whole line, `text` it without its origin.
    pub fn line(&self, origin: &str, shown: &str, text: &str) {
        let mut state = self.lock();
        let mut err = std::io::stderr().lock();
        let _ = match self.mode {
            Mode::Quiet if !self.aside => Ok(()),
            Mode::Json => writeln!(err, "{}", self.document(origin, "", text, "")),
            Mode::Tty if state.drawn > 0 => {
                // above what is redrawn
                let up = std::mem::take(&mut state.drawn);
                writeln!(err, "\u{1b}[{up}A\r\u{1b}[J{shown}")
            }
            _ => writeln!(err, "{shown}"),
        };
    }

    /// Redraws every tenth of a second while `work` runs, and once at its end.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        if self.mode != Mode::Tty {
            return work.await;
        }
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        let result = loop {
            tokio::select! {
                biased;
                result = &mut work => break result,
                _ = ticks.tick() => self.draw(),
            }
        };
        self.draw();
        self.forget();
        result
    }

    /// Stops redrawing, so that other output can take the screen; what was drawn stays.
    pub fn suspend(&self) {
        if self.mode == Mode::Tty {
            self.draw();
            let mut state = self.lock();
            state.suspended = true;
            state.drawn = 0;
        }
    }

    /// Goes on redrawing below whatever was printed meanwhile.
    pub fn resume(&self) {
        self.lock().suspended = false;
    }

    fn forget(&self) {
        let mut state = self.lock();
        state.tasks.clear();
        state.drawn = 0;
    }

    fn draw(&self) {
        let mut state = self.lock();
        if state.tasks.is_empty() || state.suspended {
            return;
        }
        state.ticks += 1;
        let (width, height) = screen();
        let text = self.render(&state, width, height);
        let lines = text.lines().count();
        let mut out = String::from("\u{1b}[?25l");
        if state.drawn > 0 {
            out.push_str(&format!("\u{1b}[{}A\r", state.drawn));
        }
        for line in text.lines() {
            out.push_str(line);
            out.push_str("\u{1b}[K\n");
        }
        out.push_str("\u{1b}[J\u{1b}[?25h");
        state.drawn = lines;
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(out.as_bytes());
        let _ = err.flush();
    }

    fn render(&self, state: &State, width: usize, height: usize) -> String {
        let done = state.tasks.iter().filter(|t| t.status != Status::Working).count();
        let mut out = format!("[+] {} {done}/{}\n", state.title, state.tasks.len());
        let room = height.saturating_sub(2).max(1);
        // with too little room, what is under way matters more than what is done
        let mut shown: Vec<&Task> = state.tasks.iter().collect();
        let hidden = shown.len().saturating_sub(room);
        if hidden > 0 {
            shown.sort_by_key(|t| t.status == Status::Done);
            shown.truncate(room.saturating_sub(1));
        }
        let column = shown.iter().map(|t| t.id.width()).max().unwrap_or(0);
        for task in &shown {
            out.push_str(&self.row(task, state.ticks, column, width));
        }
        if hidden > 0 {
            out.push_str(&format!(" ... {} more\n", state.tasks.len() - shown.len()));
        }
        out
    }

    fn row(&self, task: &Task, ticks: usize, column: usize, width: usize) -> String {
        let (mark, code) = match task.status {
            Status::Working => (SPINNER[ticks % SPINNER.len()], "33"),
            Status::Done => ("✔", "32"),
            Status::Warning => ("!", "33;1"),
            Status::Error => ("✘", "31;1"),
        };
        let paint = |text: &str, code: &str| {
            if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
        };
        let elapsed = task.ended.unwrap_or_else(Instant::now).duration_since(task.started).as_secs_f64();
        let timer = format!("{elapsed:.1}s");
        let prefix = if self.dry_run { DRY_RUN } else { "" };
        let space = width.saturating_sub(4 + prefix.len() + column + timer.len() + 2);
        let text = match task.details.as_str() {
            "" => task.text.clone(),
            details => format!("{} {details}", task.text),
        };
        let text = clip(&text, space);
        let gap = " ".repeat(space.saturating_sub(text.width()) + 1);
        let pad = " ".repeat(column - task.id.width());
        let text_code = if task.status == Status::Working { "0" } else { code };
        let (mark, text, timer) = (paint(mark, code), paint(&text, text_code), paint(&timer, "34"));
        format!(" {mark}{prefix} {}{pad} {text}{gap}{timer}\n", task.id)
    }
}

fn clip(text: &str, width: usize) -> String {
    let first = text.lines().next().unwrap_or_default();
    if first.width() <= width {
        return first.to_owned();
    }
    first.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Columns and rows of the terminal.
fn screen() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 => (usize::from(size.ws_col), usize::from(size.ws_row.max(4))),
        _ => (80, 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_line_up_and_fit() {
        let progress = Progress::new(Some("tty"), false, false);
        progress.done("Container x-web-1", "Started");
        progress.working("Network x_default", "Creating");
        progress.event("Container y", "Error", Status::Error);
        let text = progress.render(&progress.lock(), 60, 24);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "[+] Running 2/3");
        assert!(lines[1].starts_with(" ✔ Container x-web-1 Started "), "{text}");
        assert!(lines[2].contains(" Network x_default Creating "), "{text}");
        assert!(lines[3].starts_with(" ✘ Container y       Error"), "{text}");
        assert!(lines.iter().all(|l| l.width() <= 60));
    }

    #[test]
    fn documents_leave_out_what_is_empty() {
        let progress = Progress::new(Some("json"), false, false);
        let document = progress.document("Container x", "Working", "Creating", "");
        assert_eq!(document, serde_json::json!({"id": "Container x", "status": "Working", "text": "Creating"}));
        let dry = Progress::new(Some("json"), false, true);
        assert_eq!(dry.document("x", "", "line", "")["dry-run"], true);
    }

    #[test]
    fn little_room_shows_what_is_under_way() {
        let progress = Progress::new(Some("tty"), false, false);
        for i in 0..10 {
            progress.done(&format!("Container d{i}"), "Started");
        }
        progress.working("Container w", "Starting");
        let text = progress.render(&progress.lock(), 60, 6);
        assert_eq!(text.lines().count(), 5);
        assert!(text.contains("Container w") && text.contains("... 8 more"), "{text}");
    }
}
