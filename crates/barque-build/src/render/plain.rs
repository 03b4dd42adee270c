//! BuildKit's plain progress: `#5 [2/4] WORKDIR /app`, `#5 0.123 output`, `#5 CACHED`, `#5 DONE 0.1s`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::event::{BuildEvent, Progress, VertexId, VertexInfo};
use crate::lint::Warning;

/// Lines of another vertex held back so that two busy vertices do not alternate line by line.
const HELD: usize = 40;

/// Lines of a failed vertex repeated at the end.
const TAIL: usize = 15;

/// Longest line kept whole.
const MAX_LINE: usize = 16 << 10;

/// Turns events into lines.
#[derive(Debug, Default)]
pub struct Plain {
    vertices: HashMap<VertexId, Shown>,
    /// The vertex whose lines are being printed.
    current: Option<VertexId>,
    last_number: u32,
    warnings: Vec<Warning>,
    failed: Option<VertexId>,
}

#[derive(Debug, Default)]
struct Shown {
    name: String,
    /// 0 until it is first shown.
    number: u32,
    ended: bool,
    /// Output without its line end yet.
    partial: Vec<u8>,
    held: Vec<String>,
    tail: Vec<String>,
    progress: HashMap<String, String>,
    why: Vec<String>,
}

impl Plain {
    pub fn new() -> Self {
        Plain::default()
    }

    /// The text to print for one event; often empty.
    pub fn push(&mut self, event: &BuildEvent) -> String {
        let mut out = String::new();
        match event {
            BuildEvent::Announced(info) => self.know(info),
            BuildEvent::Planned { vertices, .. } => vertices.iter().for_each(|v| self.know(v)),
            BuildEvent::Warning(warning) => self.warnings.push(warning.clone()),
            BuildEvent::Started { vertex } => self.line(*vertex, None, &mut out),
            BuildEvent::Log { vertex, data, elapsed, .. } => self.log(*vertex, data, *elapsed, &mut out),
            BuildEvent::Progress { vertex, progress } => self.progress(*vertex, progress, &mut out),
            BuildEvent::Cached { vertex, .. } => self.end(*vertex, "CACHED".into(), &mut out),
            BuildEvent::Completed { vertex, elapsed, .. } => {
                let why = self.vertices.get_mut(vertex).map(|s| std::mem::take(&mut s.why)).unwrap_or_default();
                for reason in why {
                    self.line(*vertex, Some(format!("why: {reason}")), &mut out);
                }
                self.end(*vertex, format!("DONE {}", seconds(*elapsed)), &mut out);
            }
            BuildEvent::Failed { vertex, message, .. } => {
                self.failed.get_or_insert(*vertex);
                self.end(*vertex, format!("ERROR: {message}"), &mut out);
            }
            BuildEvent::Canceled { vertex } => {
                // What was never shown need not be said to have stopped.
                if self.vertices.get(vertex).is_some_and(|s| s.number != 0) {
                    self.end(*vertex, "CANCELED".into(), &mut out);
                }
            }
            BuildEvent::Why { vertex, reasons } => {
                if let Some(shown) = self.vertices.get_mut(vertex) {
                    shown.why.clone_from(reasons);
                }
            }
            BuildEvent::Finished { .. } => {}
        }
        out
    }

    /// What follows after the last event: the failed step's last lines, then the warnings.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        if let Some(shown) = self.failed.and_then(|id| self.vertices.get(&id)) {
            let _ = writeln!(out, "------\n > {}:", shown.name);
            for line in &shown.tail {
                let _ = writeln!(out, "{line}");
            }
            out.push_str("------\n");
        }
        if !self.warnings.is_empty() {
            let plural = if self.warnings.len() == 1 { "" } else { "s" };
            let _ = writeln!(out, "\n {} warning{plural} found:", self.warnings.len());
            for warning in &self.warnings {
                let _ = writeln!(out, " - {}", warning.summary());
            }
        }
        out
    }

    fn know(&mut self, info: &VertexInfo) {
        self.vertices.entry(info.id).or_default().name = printable(&info.name);
    }

    /// Prints a line of `id`, or holds it back while another vertex has the word.
    fn line(&mut self, id: VertexId, text: Option<String>, out: &mut String) {
        let busy = self.current.filter(|c| *c != id).and_then(|c| self.vertices.get(&c)).is_some_and(|s| !s.ended);
        let Some(shown) = self.vertices.get_mut(&id) else { return };
        shown.held.extend(text);
        if busy && shown.held.len() < HELD {
            return;
        }
        self.flush(id, out);
    }

    fn flush(&mut self, id: VertexId, out: &mut String) {
        if self.current != Some(id) {
            if let Some(left) = self.current.and_then(|c| self.vertices.get(&c)).filter(|s| !s.ended) {
                let _ = writeln!(out, "#{} ...\n", left.number);
            }
            let Some(shown) = self.vertices.get_mut(&id) else { return };
            if shown.number == 0 {
                self.last_number += 1;
                shown.number = self.last_number;
            }
            let _ = writeln!(out, "#{} {}", shown.number, shown.name);
            self.current = Some(id);
        }
        let Some(shown) = self.vertices.get_mut(&id) else { return };
        for line in shown.held.drain(..) {
            let _ = writeln!(out, "#{} {line}", shown.number);
        }
    }

    fn end(&mut self, id: VertexId, text: String, out: &mut String) {
        let Some(shown) = self.vertices.get_mut(&id) else { return };
        if !shown.partial.is_empty() {
            let line = std::mem::take(&mut shown.partial);
            let line = printable(&String::from_utf8_lossy(&line));
            shown.held.push(line);
        }
        shown.held.push(text);
        self.flush(id, out);
        if let Some(shown) = self.vertices.get_mut(&id) {
            shown.ended = true;
        }
        self.current = None;
        out.push('\n');
        // Others waited for this.
        let mut waiting: Vec<VertexId> =
            self.vertices.iter().filter(|(_, s)| !s.held.is_empty()).map(|(id, _)| *id).collect();
        waiting.sort_unstable();
        if let Some(next) = waiting.first() {
            self.flush(*next, out);
        }
    }

    fn log(&mut self, id: VertexId, data: &[u8], elapsed: Duration, out: &mut String) {
        let Some(shown) = self.vertices.get_mut(&id) else { return };
        shown.partial.extend_from_slice(data);
        let mut lines = Vec::new();
        while let Some(end) = shown.partial.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = shown.partial.drain(..=end).collect();
            lines.push(line);
        }
        if shown.partial.len() > MAX_LINE {
            lines.push(std::mem::take(&mut shown.partial));
        }
        for line in lines {
            let text = String::from_utf8_lossy(&line);
            // A progress bar redraws its line: the last state is what counts.
            let text = text.trim_end_matches(['\n', '\r']).rsplit('\r').next().unwrap_or("").to_owned();
            let text = format!("{:.3} {}", elapsed.as_secs_f64(), printable(&text));
            if let Some(shown) = self.vertices.get_mut(&id) {
                if shown.tail.len() == TAIL {
                    shown.tail.remove(0);
                }
                shown.tail.push(text.clone());
            }
            self.line(id, Some(text), out);
        }
    }

    /// One line when a transfer changes what it does, one when it ends.
    fn progress(&mut self, id: VertexId, progress: &Progress, out: &mut String) {
        let Some(shown) = self.vertices.get_mut(&id) else { return };
        let done = progress.total > 0 && progress.current >= progress.total;
        let state = format!("{}{done}", progress.action);
        if shown.progress.insert(progress.id.clone(), state.clone()) == Some(state) {
            return;
        }
        let mut text = format!("{} {}", printable(&progress.id), progress.action);
        if progress.total > 0 {
            let size = barque_model::size::human;
            let _ = write!(text, " {} / {}", size(progress.current), size(progress.total));
        }
        if done {
            text.push_str(" done");
        }
        self.line(id, Some(text), out);
    }
}

/// `0.1s`, as BuildKit prints it.
fn seconds(elapsed: Duration) -> String {
    format!("{:.1}s", elapsed.as_secs_f64())
}

/// Keeps line breaks and other control characters (but tabs and colours) out of the log.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' && c != '\u{1b}' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::LogStream;

    fn info(id: u32, name: &str) -> VertexInfo {
        VertexInfo { id: VertexId(id), name: name.into(), inputs: Vec::new(), line: 0 }
    }

    fn render(events: &[BuildEvent]) -> String {
        let mut plain = Plain::new();
        let vertices = [info(1, "[1/2] FROM a"), info(2, "[2/2] RUN make"), info(3, "[b 1/1] RUN other")];
        let mut text = plain.push(&BuildEvent::Planned { vertices: vertices.into(), steps: Arc::new([]) });
        events.iter().for_each(|e| text.push_str(&plain.push(e)));
        text + &plain.finish()
    }

    fn log(id: u32, millis: u64, text: &str) -> BuildEvent {
        let elapsed = Duration::from_millis(millis);
        BuildEvent::Log { vertex: VertexId(id), stream: LogStream::Stdout, data: text.into(), elapsed }
    }

    fn done(id: u32) -> BuildEvent {
        BuildEvent::Completed { vertex: VertexId(id), result: String::new(), elapsed: Duration::from_millis(140) }
    }

    #[test]
    fn lines_read_like_buildkits() {
        let text = render(&[
            BuildEvent::Cached { vertex: VertexId(1), result: String::new() },
            BuildEvent::Started { vertex: VertexId(2) },
            log(2, 123, "hel"),
            log(2, 124, "lo\nbar 10%\rbar 100%\n"),
            BuildEvent::Why { vertex: VertexId(2), reasons: vec!["it is new".into()] },
            done(2),
        ]);
        let expected = "\
#1 [1/2] FROM a
#1 CACHED

#2 [2/2] RUN make
#2 0.124 hello
#2 0.124 bar 100%
#2 why: it is new
#2 DONE 0.1s

";
        assert_eq!(text, expected);
    }

    #[test]
    fn parallel_vertices_do_not_alternate() {
        let mut events = vec![BuildEvent::Started { vertex: VertexId(2) }, BuildEvent::Started { vertex: VertexId(3) }];
        for n in 0..5 {
            events.push(log(2, n, "x\n"));
            events.push(log(3, n, "y\n"));
        }
        events.extend([done(2), done(3)]);
        let text = render(&events);
        assert_eq!(text.matches("#1 [2/2]").count(), 1);
        assert_eq!(text.matches("#2 [b 1/1]").count(), 1);
        assert!(text.find("#1 DONE").unwrap() < text.find("#2 [b 1/1]").unwrap());
        let mut many = vec![BuildEvent::Started { vertex: VertexId(2) }, log(2, 0, "x\n")];
        many.extend((0..60).map(|n| log(3, n, "y\n")));
        assert!(render(&many).contains("#1 ...\n\n#2 [b 1/1] RUN other\n"));
    }

    #[test]
    fn failures_end_with_their_last_lines() {
        let failed = BuildEvent::Failed { vertex: VertexId(2), message: "exit 1".into(), elapsed: Duration::ZERO };
        let text = render(&[BuildEvent::Started { vertex: VertexId(2) }, log(2, 5, "bad\u{7}\n"), failed]);
        assert!(text.ends_with("#1 ERROR: exit 1\n\n------\n > [2/2] RUN make:\n0.005 bad \n------\n"), "{text}");
    }
}
