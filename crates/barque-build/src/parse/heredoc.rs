//! Heredocs: `<<EOF`, `<<-EOF`, `<<"EOF"`, `3<<EOF`, several to a line.

use crate::shell::{Lexer, NoEnv};
use crate::span::Span;

/// An inline document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The terminator, without quotes; for `COPY` the file's name.
    pub name: String,
    /// `3` in `3<<EOF`, else 0.
    pub descriptor: u32,
    /// Variables in the body are expanded: the terminator was not quoted.
    pub expand: bool,
    /// `<<-`: leading tabs of each line are not part of the body.
    pub chomp: bool,
    /// The lines up to the terminator, as written (tabs included).
    pub content: String,
    /// Where the body stands.
    pub span: Span,
}

impl Heredoc {
    /// The body as used: without leading tabs if `chomp`.
    pub fn body(&self) -> String {
        if !self.chomp {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }

    /// Reads one word such as `<<-"EOF"`; `None` if it opens no heredoc.
    pub fn from_word(word: &str) -> Option<Heredoc> {
        let digits = word.find(|c: char| !c.is_ascii_digit())?;
        let rest = word[digits..].strip_prefix("<<")?;
        let (chomp, rest) = match rest.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
        if rest.is_empty() || rest.contains('<') {
            return None;
        }
        let lexer = Lexer { keep_unset: true, ..Lexer::new('\\') };
        let words = lexer.expand(rest, &NoEnv).ok()?.words;
        let [name] = words.as_slice() else { return None };
        let raw = Lexer { raw_quotes: true, ..lexer }.expand(rest, &NoEnv).ok()?.text;
        let quotes = |s: &str| s.matches(['\'', '"']).count();
        Some(Heredoc {
            name: name.clone(),
            descriptor: word[..digits].parse().unwrap_or(0),
            // A quote that quote removal took away means that part of the terminator was quoted.
            expand: quotes(name) == quotes(&raw),
            chomp,
            content: String::new(),
            span: Span::default(),
        })
    }

    /// All heredocs a logical line opens, in order.
    pub(super) fn in_line(line: &str) -> Vec<Heredoc> {
        let lexer = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new('\\') };
        let words = lexer.expand(line, &NoEnv).map(|e| e.words).unwrap_or_default();
        words.iter().filter_map(|w| Heredoc::from_word(w)).collect()
    }
}
