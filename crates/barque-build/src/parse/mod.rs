//! Bytes to a syntax tree: directives, logical lines, flags, heredocs, each with its span.

mod directive;
mod heredoc;
pub(crate) mod line;
mod text;

use std::ops::Range;

pub use directive::Directive;
pub use heredoc::Heredoc;
pub use text::{Text, Word};

use crate::span::{Diagnostic, Source, Span};

/// Largest Dockerfile read, in bytes.
pub const MAX_DOCKERFILE: usize = 4 << 20;

/// Longest physical line, in bytes (Docker's limit).
pub const MAX_LINE: usize = 65_535;

/// A file's syntax tree.
#[derive(Debug, Clone)]
pub struct Tree {
    pub source: Source,
    /// `\` or a backtick.
    pub escape: char,
    pub directives: Vec<Directive>,
    pub nodes: Vec<Node>,
    /// Logical lines with an empty line inside a continuation.
    pub empty_continuations: Vec<Span>,
}

/// One instruction, before it has a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The instruction's name as written.
    pub keyword: Word,
    /// `--name=value` words after it, without quotes.
    pub flags: Vec<Word>,
    /// What follows the flags, trimmed.
    pub rest: Text,
    /// The whole logical line, trimmed: what Docker shows as the step.
    pub original: String,
    pub heredocs: Vec<Heredoc>,
    /// Comment lines directly before, without `#`.
    pub comments: Vec<String>,
    /// From the name to the end of the last heredoc.
    pub span: Span,
}

/// A file that could not be parsed, with its text for the excerpt.
#[derive(Debug, Clone)]
pub struct ParseError {
    pub source: Box<Source>,
    pub diagnostic: Diagnostic,
}

impl ParseError {
    /// Docker's sentence with the excerpt as hint.
    pub fn to_error(&self) -> barque_model::Error {
        self.diagnostic.to_error(&self.source)
    }
}

impl Node {
    /// `ONBUILD`'s instruction as a node of its own.
    pub fn inner(&self, escape: char) -> Node {
        let (keyword, flags, rest) = line::split(&self.rest, escape);
        Node {
            keyword,
            flags,
            rest,
            original: self.rest.as_str().to_owned(),
            heredocs: self.heredocs.clone(),
            comments: Vec::new(),
            span: self.span,
        }
    }

    /// The instruction's name in upper case.
    pub fn name(&self) -> String {
        self.keyword.text.to_uppercase()
    }

    fn may_have_heredocs(&self, escape: char) -> bool {
        match self.name().as_str() {
            "ADD" | "COPY" | "RUN" => !matches!(line::json(&self.rest), Ok(Some(_))),
            "ONBUILD" => {
                let inner = self.inner(escape);
                inner.name() != "ONBUILD" && inner.may_have_heredocs(escape)
            }
            _ => false,
        }
    }
}

/// Parses a Dockerfile. `name` is shown in diagnostics.
pub fn parse(bytes: &[u8], name: &str) -> Result<Tree, ParseError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_DOCKERFILE)]);
    let valid = std::str::from_utf8(bytes).is_ok();
    let source = Source::new(name, text);
    let fail = |source: Source, diagnostic| ParseError { source: Box::new(source), diagnostic };
    if bytes.len() > MAX_DOCKERFILE {
        let message = format!("the file is larger than {MAX_DOCKERFILE} bytes");
        return Err(fail(source, Diagnostic::new(Span::default(), message)));
    }
    let mut parser = Parser::new(&source);
    match parser.run().and_then(|()| parser.check(valid)) {
        Ok(()) => {
            let Parser { escape, directives, nodes, empty_continuations, .. } = parser;
            Ok(Tree { escape, directives: directives.found, nodes, empty_continuations, source })
        }
        Err(diagnostic) => Err(fail(source, diagnostic)),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    escape: char,
    directives: directive::Reader,
    comments: Vec<String>,
    nodes: Vec<Node>,
    empty_continuations: Vec<Span>,
}

impl<'a> Parser<'a> {
    fn new(source: &'a Source) -> Self {
        Parser {
            text: source.text(),
            at: 0,
            escape: '\\',
            directives: directive::Reader::default(),
            comments: Vec::new(),
            nodes: Vec::new(),
            empty_continuations: Vec::new(),
        }
    }

    /// The next physical line without its line end.
    fn line(&mut self) -> Result<Option<Range<usize>>, Diagnostic> {
        let start = self.at;
        if start >= self.text.len() {
            return Ok(None);
        }
        let end = self.text[start..].find('\n').map_or(self.text.len(), |i| start + i);
        self.at = (end + 1).min(self.text.len());
        if end - start > MAX_LINE {
            let message = format!("dockerfile line greater than max allowed size of {MAX_LINE}");
            return Err(Diagnostic::new(Span::new(start, start + 1), message)
                .with_hint("break the line with a continuation, or use a heredoc"));
        }
        let trimmed = self.text[start..end].trim_end_matches('\r').len();
        Ok(Some(start..start + trimmed))
    }

    fn run(&mut self) -> Result<(), Diagnostic> {
        while let Some(range) = self.line()? {
            let line = &self.text[range.clone()];
            let stripped = line.trim_start();
            let start = range.end - stripped.len();
            if self.directives.read(stripped, start)? {
                self.escape = self.directives.escape()?;
                continue;
            }
            if let Some(comment) = stripped.strip_prefix('#') {
                match comment.trim() {
                    "" => self.comments.clear(),
                    text => self.comments.push(text.to_owned()),
                }
                continue;
            }
            if stripped.is_empty() {
                continue;
            }
            let logical = self.continued(start..range.end)?;
            if !logical.as_str().trim().is_empty() {
                self.instruction(&logical)?;
            }
        }
        Ok(())
    }

    /// Joins the line `first` with its continuation lines.
    fn continued(&mut self, first: Range<usize>) -> Result<Text, Diagnostic> {
        let mut logical = Text::default();
        let mut empty = None;
        let mut range = first;
        loop {
            let (content, more) = self.without_continuation(range.clone());
            logical.push(&self.text[content.clone()], content.start);
            if !more {
                break;
            }
            range = loop {
                let Some(next) = self.line()? else { return Ok(self.ended(logical, empty)) };
                let line = self.text[next.clone()].trim_start();
                if line.is_empty() {
                    empty = Some(Span::new(next.start, next.end));
                } else if !line.starts_with('#') {
                    break next;
                }
            };
        }
        Ok(self.ended(logical, empty))
    }

    fn ended(&mut self, logical: Text, empty: Option<Span>) -> Text {
        self.empty_continuations.extend(empty);
        logical
    }

    /// Cuts a continuation character: one escape character at the end which is not itself escaped, with
    /// blanks after it.
    fn without_continuation(&self, range: Range<usize>) -> (Range<usize>, bool) {
        let line = self.text[range.clone()].trim_end_matches([' ', '\t']);
        match line.strip_suffix(self.escape) {
            Some(rest) if !rest.ends_with(self.escape) => (range.start..range.start + rest.len(), true),
            _ => (range, false),
        }
    }

    fn instruction(&mut self, logical: &Text) -> Result<(), Diagnostic> {
        let (keyword, flags, rest) = line::split(logical, self.escape);
        let trimmed = logical.trimmed();
        let mut node = Node {
            keyword,
            flags,
            rest,
            original: trimmed.as_str().to_owned(),
            heredocs: Vec::new(),
            comments: std::mem::take(&mut self.comments),
            span: trimmed.span(),
        };
        if trimmed.as_str().contains("<<") && node.may_have_heredocs(self.escape) {
            for mut heredoc in Heredoc::in_line(trimmed.as_str()) {
                self.body(&mut heredoc, node.span)?;
                node.span = node.span.to(heredoc.span);
                node.heredocs.push(heredoc);
            }
        }
        self.nodes.push(node);
        Ok(())
    }

    /// Reads lines up to the terminator.
    fn body(&mut self, heredoc: &mut Heredoc, opened: Span) -> Result<(), Diagnostic> {
        let start = self.at;
        while let Some(range) = self.line()? {
            let mut line = &self.text[range.clone()];
            if heredoc.chomp {
                line = line.trim_start_matches('\t');
            }
            if line == heredoc.name {
                heredoc.content = self.text[start..range.start].to_owned();
                heredoc.span = Span::new(start, range.end);
                return Ok(());
            }
        }
        Err(Diagnostic::new(opened, "unterminated heredoc")
            .with_hint(format!("end it with a line that holds only {}", heredoc.name)))
    }

    fn check(&self, valid_utf8: bool) -> Result<(), Diagnostic> {
        if self.nodes.is_empty() {
            let last = self.text.trim_end().len();
            return Err(Diagnostic::new(Span::new(last, last), "file with no instructions")
                .with_hint("a Dockerfile starts with FROM IMAGE"));
        }
        if valid_utf8 {
            return Ok(());
        }
        let bad = |node: &&Node| {
            let range = node.span.start as usize..node.span.end as usize;
            self.text[range].contains('\u{fffd}')
        };
        match self.nodes.iter().find(bad) {
            None => Ok(()),
            Some(node) => Err(Diagnostic::new(node.span, "the instruction contains bytes that are not UTF-8")
                .with_hint("convert the file, for example with: iconv -f latin1 -t utf-8")),
        }
    }
}

#[cfg(test)]
mod tests;
