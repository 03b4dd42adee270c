//! Positions in a Dockerfile, and diagnostics that show the marked line.

use std::fmt::Write as _;

use barque_model::{Error, ErrorKind};

/// A half-open range of bytes in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { start: clamp(start), end: clamp(end.max(start)) }
    }

    /// The smallest span holding both.
    #[must_use]
    pub fn to(self, other: Span) -> Self {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A line and a column, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

/// A file's name and text with its line starts.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    text: String,
    starts: Vec<u32>,
}

impl Source {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(i, _)| i as u32 + 1)).collect();
        Source { name: name.into(), text, starts }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of `span`, or "" if it does not lie on character borders.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or("")
    }

    pub fn position(&self, offset: u32) -> Position {
        let line = self.starts.partition_point(|s| *s <= offset).max(1);
        let start = self.starts[line - 1];
        let before = self.text.get(start as usize..offset as usize).unwrap_or("");
        Position { line: line as u32, column: before.chars().count() as u32 + 1 }
    }

    /// First and last line of `span`, from 1.
    pub fn lines(&self, span: Span) -> (u32, u32) {
        let last = if span.end > span.start { span.end - 1 } else { span.start };
        (self.position(span.start).line, self.position(last).line)
    }

    /// The text of line `number` (from 1), without its line end.
    pub fn line(&self, number: u32) -> &str {
        let index = (number as usize).saturating_sub(1);
        let Some(start) = self.starts.get(index) else { return "" };
        let end = self.starts.get(index + 1).map_or(self.text.len(), |e| *e as usize);
        self.text.get(*start as usize..end).unwrap_or("").trim_end_matches(['\n', '\r'])
    }

    /// The lines around `span` in BuildKit's layout, `>>>` marking those it touches, and a caret line under
    /// it when it lies on one line.
    pub fn excerpt(&self, span: Span) -> String {
        const CONTEXT: u32 = 2;
        const MAX_MARKED: u32 = 12;
        let (first, last) = self.lines(span);
        let last_shown = last.min(first + MAX_MARKED - 1);
        let total = self.starts.len() as u32 - u32::from(self.text.ends_with('\n'));
        let from = first.saturating_sub(CONTEXT).max(1);
        let until = (last_shown + CONTEXT).min(total.max(1));
        let start = self.position(span.start);
        let mut out = format!("{}:{}\n--------------------\n", self.name, first);
        for number in from..=until {
            let mark = if (first..=last_shown).contains(&number) { ">>>" } else { "   " };
            let line = printable(self.line(number));
            let _ = writeln!(out, "{}", format!("{number:4} | {mark} {line}").trim_end());
            if number == first && first == last && span.end > span.start {
                let marked = self.slice(span).trim_end().chars().count().clamp(1, 200);
                let indent = " ".repeat((start.column - 1).min(400) as usize);
                let _ = writeln!(out, "     |     {indent}{}", "^".repeat(marked));
            }
        }
        out.push_str("--------------------");
        out
    }
}

/// Keeps control characters of a hostile file away from the terminal; cuts very long lines.
fn printable(line: &str) -> String {
    const MAX: usize = 400;
    let clean = line.chars().take(MAX).map(|c| {
        if c == '\t' {
            ' '
        } else if c.is_control() {
            '\u{fffd}'
        } else {
            c
        }
    });
    let mut text: String = clean.collect();
    if line.chars().nth(MAX).is_some() {
        text.push('…');
    }
    text
}

/// What is wrong, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub message: String,
    pub span: Span,
    pub hint: Option<String>,
}

impl Diagnostic {
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Diagnostic { message: message.into(), span, hint: None }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Docker's sentence: `dockerfile parse error on line N: MESSAGE`.
    pub fn docker_message(&self, source: &Source) -> String {
        format!("dockerfile parse error on line {}: {}", source.lines(self.span).0, self.message)
    }

    /// As an error whose message is Docker's sentence and whose hint holds the excerpt and the cure.
    pub fn to_error(&self, source: &Source) -> Error {
        self.error_with(source, self.docker_message(source))
    }

    /// As [`Diagnostic::to_error`], for failures that are not the parser's.
    pub fn to_plain_error(&self, source: &Source) -> Error {
        self.error_with(source, self.message.clone())
    }

    fn error_with(&self, source: &Source, message: String) -> Error {
        let mut hint = source.excerpt(self.span);
        if let Some(cure) = &self.hint {
            hint = format!("{cure}\n{hint}");
        }
        Error::new(ErrorKind::InvalidArgument, message).with_hint(hint)
    }
}
