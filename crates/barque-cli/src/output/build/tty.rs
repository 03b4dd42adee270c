//! A build on a terminal: one line for each step with its time, the last lines of those that run.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;

use barque_api::build_extras::{SolveStatus, Vertex, VertexStatus};
use barque_model::Timestamp;

use super::{printable, text};
use crate::error::CliResult;

/// Lines of a running step's output.
const TAIL: usize = 6;
/// Lines kept of a step, for the case that it fails.
const KEPT: usize = 30;
/// Longest line kept whole, bytes.
const MAX_LINE: usize = 16 << 10;
/// A window of unknown size.
const USUAL: (usize, usize) = (24, 80);

#[derive(Debug, Default)]
struct Step {
    name: String,
    started: Option<Timestamp>,
    completed: Option<Timestamp>,
    cached: bool,
    error: String,
    partial: Vec<u8>,
    tail: VecDeque<String>,
    transfers: Vec<VertexStatus>,
    why: Vec<String>,
}

/// What is known of the build, and how much of it stands on the terminal.
pub(super) struct Tty {
    begun: Timestamp,
    steps: HashMap<String, Step>,
    /// In the order in which they began.
    order: Vec<String>,
    named: usize,
    warnings: Vec<String>,
    drawn: usize,
    finished: bool,
}

impl Tty {
    /// Hides the cursor until the end.
    pub(super) fn start() -> Tty {
        let _terminal_gone = std::io::stderr().lock().write_all(b"\x1b[?25l");
        Tty::new(Timestamp::now())
    }

    fn new(begun: Timestamp) -> Tty {
        Tty {
            begun,
            steps: HashMap::new(),
            order: Vec::new(),
            named: 0,
            warnings: Vec::new(),
            drawn: 0,
            finished: false,
        }
    }

    pub(super) fn push(&mut self, status: &SolveStatus) {
        for vertex in &status.vertexes {
            self.vertex(vertex);
        }
        for log in &status.logs {
            if let Some(step) = self.steps.get_mut(&log.vertex) {
                step.log(&text(&log.data));
            }
        }
        for transfer in &status.statuses {
            let Some(step) = self.steps.get_mut(&transfer.vertex) else { continue };
            match step.transfers.iter_mut().find(|t| t.id == transfer.id) {
                Some(known) => known.clone_from(transfer),
                None => step.transfers.push(transfer.clone()),
            }
        }
        for reasons in &status.reasons {
            if let Some(step) = self.steps.get_mut(&reasons.vertex) {
                step.why.clone_from(&reasons.reasons);
            }
        }
        self.warnings.extend(status.warnings.iter().map(|w| String::from_utf8_lossy(&text(&w.short)).into_owned()));
    }

    fn vertex(&mut self, vertex: &Vertex) {
        let time = |text: &Option<String>| text.as_ref().and_then(|t| t.parse::<Timestamp>().ok());
        let known = self.steps.len();
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        let (had, has) = (step.started.is_some(), vertex.started.is_some());
        step.name = printable(&vertex.name);
        step.started = time(&vertex.started);
        step.completed = time(&vertex.completed);
        step.cached = vertex.cached;
        step.error.clone_from(&vertex.error);
        self.named = self.named.max(known + 1);
        if has && !had {
            self.order.push(vertex.digest.clone());
        }
    }

    /// Draws the present state over the last one.
    pub(super) fn draw(&mut self) -> CliResult<()> {
        let (rows, columns) = window();
        let text = self.picture(rows, columns, Timestamp::now());
        Ok(std::io::stderr().lock().write_all(text.as_bytes())?)
    }

    fn picture(&mut self, rows: usize, columns: usize, now: Timestamp) -> String {
        let lines = self.lines(rows.saturating_sub(1).max(2), columns, now);
        let mut out = String::new();
        if self.drawn > 0 {
            out.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for line in &lines {
            out.push_str(&format!("\r{line}\x1b[K\n"));
        }
        out.push_str("\x1b[J");
        self.drawn = lines.len();
        out
    }

    /// At most `rows` lines of `columns` characters.
    fn lines(&self, rows: usize, columns: usize, now: Timestamp) -> Vec<String> {
        let steps: Vec<&Step> = self.order.iter().filter_map(|id| self.steps.get(id)).collect();
        let done = steps.iter().filter(|s| s.completed.is_some()).count();
        let total = self.steps.len();
        let word = if self.finished && done == total { " FINISHED" } else { "" };
        let head = format!("[+] Building {} ({done}/{total}){word}", seconds(self.begun, now));
        let running = steps.iter().filter(|s| s.completed.is_none()).count();
        let room = rows.saturating_sub(1 + steps.len());
        let tail = if self.finished || running == 0 { 0 } else { (room / running).min(TAIL) };
        let mut body = Vec::new();
        for step in steps {
            step.lines(columns, now, tail, &mut body);
        }
        // What began last is what one wants to see.
        let skip = body.len().saturating_sub(rows - 1);
        let mut lines = vec![fit(&head, columns)];
        lines.extend(body.into_iter().skip(if self.finished { 0 } else { skip }));
        lines
    }

    /// The last picture, then what failed and the warnings.
    pub(super) fn finish(&mut self) -> String {
        self.finished = true;
        let (_, columns) = window();
        // What scrolled out of the window stays; the rest is drawn anew.
        let mut out = self.picture(usize::MAX, columns, Timestamp::now());
        for step in self.order.iter().filter_map(|id| self.steps.get(id)) {
            if step.error.is_empty() || step.error == "context canceled" {
                continue;
            }
            out.push_str(&format!("------\n > {}:\n", step.name));
            step.tail.iter().for_each(|line| out.push_str(&format!("{line}\n")));
            out.push_str("------\n");
        }
        if !self.warnings.is_empty() {
            let plural = if self.warnings.len() == 1 { "" } else { "s" };
            out.push_str(&format!("\n {} warning{plural} found:\n", self.warnings.len()));
            self.warnings.iter().for_each(|w| out.push_str(&format!(" - {w}\n")));
        }
        out + "\x1b[?25h"
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        if !self.finished {
            let _terminal_gone = std::io::stderr().lock().write_all(b"\x1b[?25h");
        }
    }
}

impl Step {
    fn log(&mut self, data: &[u8]) {
        self.partial.extend_from_slice(data);
        while let Some(end) = self.partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            self.keep(&line);
        }
        if self.partial.len() > MAX_LINE {
            let line = std::mem::take(&mut self.partial);
            self.keep(&line);
        }
    }

    fn keep(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        // A progress bar redraws its line: the last state is what counts.
        let text = text.trim_end_matches(['\n', '\r']).rsplit('\r').next().unwrap_or("").to_owned();
        if self.tail.len() == KEPT {
            self.tail.pop_front();
        }
        self.tail.push_back(printable(&text).replace('\t', "    "));
    }

    fn lines(&self, columns: usize, now: Timestamp, tail: usize, out: &mut Vec<String>) {
        let mark = match (self.cached, self.error.as_str()) {
            (true, _) => "CACHED ",
            (_, "") => "",
            (_, "context canceled") => "CANCELED ",
            _ => "ERROR ",
        };
        let started = self.started.unwrap_or(now);
        let time = seconds(started, self.completed.unwrap_or(now));
        let room = columns.saturating_sub(time.len() + 1);
        let name = fit(&format!(" => {mark}{}", self.name), room);
        let pad = room.saturating_sub(name.chars().count());
        out.push(format!("{name}{} {time}", " ".repeat(pad)));
        if self.completed.is_some() {
            out.extend(self.why.iter().map(|reason| fit(&format!(" => => why: {reason}"), columns)));
            return;
        }
        for transfer in &self.transfers {
            let size = barque_model::size::human;
            let amount = match (transfer.current, transfer.total) {
                (0, 0) => String::new(),
                (current, 0) => size(current),
                (current, total) => format!("{} / {}", size(current), size(total)),
            };
            out.push(fit(&format!(" => => {} {} {amount}", transfer.id, transfer.name), columns));
        }
        let lines = self.tail.iter().skip(self.tail.len().saturating_sub(tail));
        out.extend(lines.map(|line| fit(&format!(" => => # {line}"), columns)));
    }
}

/// Rows and columns.
fn window() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
    let (rows, columns) = size.map_or((0, 0), |s| (usize::from(s.ws_row), usize::from(s.ws_col)));
    (if rows == 0 { USUAL.0 } else { rows }, if columns == 0 { USUAL.1 } else { columns })
}

/// `1.2s`.
fn seconds(from: Timestamp, to: Timestamp) -> String {
    format!("{:.1}s", to.since(from).as_secs_f64())
}

/// The first `columns` characters, without colours, which could be cut in half.
fn fit(text: &str, columns: usize) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        if chars.peek() == Some(&'[') {
            chars.next();
            for end in chars.by_ref() {
                if ('@'..='~').contains(&end) {
                    break;
                }
            }
        }
    }
    plain.chars().take(columns).collect()
}

#[cfg(test)]
mod tests {
    use barque_api::build_extras::VertexLog;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn vertex(id: &str, started: Option<i64>, completed: Option<i64>) -> SolveStatus {
        let vertex = Vertex {
            digest: id.into(),
            name: format!("[{id}] RUN make"),
            started: started.map(|s| at(s).to_string()),
            completed: completed.map(|s| at(s).to_string()),
            ..Vertex::default()
        };
        SolveStatus { vertexes: vec![vertex], ..SolveStatus::default() }
    }

    fn log(id: &str, text: &str) -> SolveStatus {
        let log = VertexLog { vertex: id.into(), stream: 1, data: STANDARD.encode(text), timestamp: String::new() };
        SolveStatus { logs: vec![log], ..SolveStatus::default() }
    }

    #[test]
    fn parallel_steps_with_their_times_and_last_lines() {
        let mut tty = Tty::new(at(0));
        for id in ["a", "b", "c"] {
            tty.push(&vertex(id, None, None));
        }
        tty.push(&vertex("a", Some(1), None));
        tty.push(&vertex("b", Some(2), None));
        tty.push(&log("a", "one\ntwo\n10%\r20%\nunfinished"));
        tty.push(&log("b", "\x1b[31mred\x1b[0m\n"));
        let lines = tty.lines(24, 40, at(4));
        let expected = [
            "[+] Building 4.0s (0/3)",
            " => [a] RUN make                    3.0s",
            " => => # one",
            " => => # two",
            " => => # 20%",
            " => [b] RUN make                    2.0s",
            " => => # red",
        ];
        assert_eq!(lines, expected);
        tty.push(&vertex("a", Some(1), Some(3)));
        assert_eq!(tty.lines(24, 40, at(9))[1], " => [a] RUN make                    2.0s");
        assert_eq!(tty.lines(3, 20, at(9)).len(), 3, "no more than the window holds");
        assert!(tty.lines(3, 20, at(9)).iter().all(|l| l.chars().count() <= 20));
        tty.finished = true;
    }

    #[test]
    fn a_picture_is_drawn_over_the_last() {
        let mut tty = Tty::new(at(0));
        tty.push(&vertex("a", Some(0), None));
        assert!(!tty.picture(10, 40, at(1)).contains("\x1b[2A"));
        assert!(tty.picture(10, 40, at(1)).starts_with("\x1b[2A\r[+] Building"));
        tty.finished = true;
    }
}
