//! BuildKit's plain progress: `#5 [2/4] WORKDIR /app`, `#5 0.123 output`, `#5 CACHED`, `#5 DONE 0.1s`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use barque_api::build_extras::{SolveStatus, Vertex, VertexLog, VertexStatus};
use barque_model::Timestamp;

use super::{printable, text};

/// Lines of another vertex held back so that two busy vertices do not alternate line by line.
const HELD: usize = 40;

/// Lines of a failed vertex repeated at the end.
const TAIL: usize = 15;

/// What the engine says of work that was stopped.
const CANCELED: &str = "context canceled";

/// Longest line kept whole.
const MAX_LINE: usize = 16 << 10;

/// Turns events into lines.
#[derive(Debug, Default)]
pub(super) struct Plain {
    vertices: HashMap<String, Shown>,
    /// The vertex whose lines are being printed.
    current: Option<String>,
    last_number: u32,
    /// Vertices that were named so far.
    order: u32,
    warnings: Vec<String>,
    failed: Option<String>,
}

#[derive(Debug, Default)]
struct Shown {
    name: String,
    /// Place among the vertices named.
    order: u32,
    started: Option<Timestamp>,
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
    /// The text to print for one document; often empty.
    pub(super) fn push(&mut self, status: &SolveStatus) -> String {
        let mut out = String::new();
        for warning in &status.warnings {
            self.warnings.push(String::from_utf8_lossy(&text(&warning.short)).into_owned());
        }
        for reasons in &status.reasons {
            if let Some(shown) = self.vertices.get_mut(&reasons.vertex) {
                shown.why.clone_from(&reasons.reasons);
            }
        }
        for vertex in &status.vertexes {
            self.vertex(vertex, &mut out);
        }
        for log in &status.logs {
            self.log(log, &mut out);
        }
        for progress in &status.statuses {
            self.progress(progress, &mut out);
        }
        out
    }

    fn vertex(&mut self, vertex: &Vertex, out: &mut String) {
        let id = &vertex.digest;
        self.order += 1;
        let order = self.order;
        let shown = self.vertices.entry(id.clone()).or_insert_with(|| Shown { order, ..Shown::default() });
        shown.name = printable(&vertex.name);
        if shown.ended {
            return;
        }
        let time = |text: &Option<String>| text.as_ref().and_then(|t| t.parse::<Timestamp>().ok());
        shown.started = time(&vertex.started);
        match (shown.started, time(&vertex.completed)) {
            (None, None) => {}
            (Some(_), None) => self.line(id, None, out),
            (_, Some(_)) if vertex.cached => self.end(id, "CACHED".into(), out),
            (_, Some(_)) if vertex.error == CANCELED => {
                // What was never shown need not be said to have stopped.
                if shown.number != 0 {
                    self.end(id, "CANCELED".into(), out);
                }
            }
            (_, Some(_)) if !vertex.error.is_empty() => {
                self.failed.get_or_insert_with(|| id.clone());
                self.end(id, format!("ERROR: {}", vertex.error), out);
            }
            (started, Some(completed)) => {
                for reason in std::mem::take(&mut shown.why) {
                    self.line(id, Some(format!("why: {reason}")), out);
                }
                let elapsed = completed.since(started.unwrap_or(completed));
                self.end(id, format!("DONE {}", seconds(elapsed)), out);
            }
        }
    }

    /// What follows after the last event: the failed step's last lines, then the warnings.
    pub(super) fn finish(&mut self) -> String {
        let mut out = String::new();
        if let Some(shown) = self.failed.as_ref().and_then(|id| self.vertices.get(id)) {
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
                let _ = writeln!(out, " - {warning}");
            }
        }
        out
    }

    /// Prints a line of `id`, or holds it back while another vertex has the word.
    fn line(&mut self, id: &str, text: Option<String>, out: &mut String) {
        let other = self.current.as_ref().filter(|c| *c != id);
        let busy = other.and_then(|c| self.vertices.get(c)).is_some_and(|s| !s.ended);
        let Some(shown) = self.vertices.get_mut(id) else { return };
        shown.held.extend(text);
        if busy && shown.held.len() < HELD {
            return;
        }
        self.flush(id, out);
    }

    fn flush(&mut self, id: &str, out: &mut String) {
        if self.current.as_deref() != Some(id) {
            if let Some(left) = self.current.as_ref().and_then(|c| self.vertices.get(c)).filter(|s| !s.ended) {
                let _ = writeln!(out, "#{} ...\n", left.number);
            }
            let Some(shown) = self.vertices.get_mut(id) else { return };
            if shown.number == 0 {
                self.last_number += 1;
                shown.number = self.last_number;
            }
            let _ = writeln!(out, "#{} {}", shown.number, shown.name);
            self.current = Some(id.to_owned());
        }
        let Some(shown) = self.vertices.get_mut(id) else { return };
        for line in shown.held.drain(..) {
            let _ = writeln!(out, "#{} {line}", shown.number);
        }
    }

    fn end(&mut self, id: &str, text: String, out: &mut String) {
        let Some(shown) = self.vertices.get_mut(id) else { return };
        if !shown.partial.is_empty() {
            let line = std::mem::take(&mut shown.partial);
            let line = printable(&String::from_utf8_lossy(&line));
            shown.held.push(line);
        }
        shown.held.push(text);
        self.flush(id, out);
        if let Some(shown) = self.vertices.get_mut(id) {
            shown.ended = true;
        }
        self.current = None;
        out.push('\n');
        // Others waited for this.
        let waiting = self.vertices.iter().filter(|(_, s)| !s.held.is_empty()).min_by_key(|(_, s)| s.order);
        if let Some(next) = waiting.map(|(id, _)| id.clone()) {
            self.flush(&next, out);
        }
    }

    fn log(&mut self, log: &VertexLog, out: &mut String) {
        let id = log.vertex.as_str();
        let Some(shown) = self.vertices.get_mut(id) else { return };
        let elapsed = match (log.timestamp.parse::<Timestamp>(), shown.started) {
            (Ok(at), Some(started)) => at.since(started),
            _ => Duration::ZERO,
        };
        shown.partial.extend_from_slice(&text(&log.data));
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
            if let Some(shown) = self.vertices.get_mut(id) {
                if shown.tail.len() == TAIL {
                    shown.tail.remove(0);
                }
                shown.tail.push(text.clone());
            }
            self.line(id, Some(text), out);
        }
    }

    /// One line when a transfer changes what it does, one when it ends.
    fn progress(&mut self, progress: &VertexStatus, out: &mut String) {
        let id = progress.vertex.as_str();
        let Some(shown) = self.vertices.get_mut(id) else { return };
        let done = progress.total > 0 && progress.current >= progress.total;
        let state = format!("{}{done}", progress.name);
        if shown.progress.insert(progress.id.clone(), state.clone()) == Some(state) {
            return;
        }
        let mut text = format!("{} {}", printable(&progress.id), progress.name);
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

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn time(millis: i64) -> String {
        Timestamp::from_nanos(millis * 1_000_000).to_string()
    }

    fn vertex(id: u32, started: Option<i64>, completed: Option<i64>) -> Vertex {
        let names = ["[1/2] FROM a", "[2/2] RUN make", "[b 1/1] RUN other"];
        Vertex {
            digest: id.to_string(),
            name: names[id as usize - 1].into(),
            started: started.map(time),
            completed: completed.map(time),
            ..Vertex::default()
        }
    }

    fn of(vertex: Vertex) -> SolveStatus {
        SolveStatus { vertexes: vec![vertex], ..SolveStatus::default() }
    }

    fn log(id: u32, millis: i64, text: &str) -> SolveStatus {
        let log = VertexLog { vertex: id.to_string(), stream: 1, data: STANDARD.encode(text), timestamp: time(millis) };
        SolveStatus { logs: vec![log], ..SolveStatus::default() }
    }

    fn render(documents: &[SolveStatus]) -> String {
        let mut plain = Plain::default();
        let known = SolveStatus {
            vertexes: vec![vertex(1, None, None), vertex(2, None, None), vertex(3, None, None)],
            ..SolveStatus::default()
        };
        let mut text = plain.push(&known);
        documents.iter().for_each(|d| text.push_str(&plain.push(d)));
        text + &plain.finish()
    }

    #[test]
    fn lines_read_like_buildkits() {
        let reasons = barque_api::build_extras::VertexReasons { vertex: "2".into(), reasons: vec!["it is new".into()] };
        let text = render(&[
            of(Vertex { cached: true, ..vertex(1, Some(0), Some(0)) }),
            of(vertex(2, Some(0), None)),
            log(2, 123, "hel"),
            log(2, 124, "lo\nbar 10%\rbar 100%\n"),
            SolveStatus { reasons: vec![reasons], ..SolveStatus::default() },
            of(vertex(2, Some(0), Some(140))),
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
        let mut documents = vec![of(vertex(2, Some(0), None)), of(vertex(3, Some(0), None))];
        for n in 0..5 {
            documents.push(log(2, n, "x\n"));
            documents.push(log(3, n, "y\n"));
        }
        documents.extend([of(vertex(2, Some(0), Some(9))), of(vertex(3, Some(0), Some(9)))]);
        let text = render(&documents);
        assert_eq!(text.matches("#1 [2/2]").count(), 1);
        assert_eq!(text.matches("#2 [b 1/1]").count(), 1);
        assert!(text.find("#1 DONE").unwrap() < text.find("#2 [b 1/1]").unwrap());
        let mut many = vec![of(vertex(2, Some(0), None)), log(2, 0, "x\n"), of(vertex(3, Some(0), None))];
        many.extend((0..60).map(|n| log(3, n, "y\n")));
        assert!(render(&many).contains("#1 ...\n\n#2 [b 1/1] RUN other\n"));
    }

    #[test]
    fn failures_end_with_their_last_lines() {
        let failed = Vertex { error: "exit 1".into(), ..vertex(2, Some(0), Some(6)) };
        let text = render(&[of(vertex(2, Some(0), None)), log(2, 5, "bad\u{7}\n"), of(failed)]);
        assert!(text.ends_with("#1 ERROR: exit 1\n\n------\n > [2/2] RUN make:\n0.005 bad \n------\n"), "{text}");
    }
}
