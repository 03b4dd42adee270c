//! Parser directives: `# syntax=`, `# escape=`, `# check=` before anything else in the file.

use super::text::Word;
use crate::span::{Diagnostic, Span};

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Lower case: `syntax`, `escape` or `check`.
    pub name: String,
    pub value: Word,
}

/// Reads directives line by line until the first line that is none.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) found: Vec<Directive>,
    done: bool,
}

impl Reader {
    /// `true` if `line` (left-trimmed, at source offset `at`) was a directive.
    pub(super) fn read(&mut self, line: &str, at: usize) -> Result<bool, Diagnostic> {
        if self.done {
            return Ok(false);
        }
        let Some((name, value, value_at)) = split(line) else {
            self.done = true;
            return Ok(false);
        };
        let span = Span::new(at, at + line.trim_end().len());
        if self.found.iter().any(|d| d.name == name) {
            let message = format!("only one {name} parser directive can be used");
            return Err(Diagnostic::new(span, message).with_hint("remove this line"));
        }
        let value_span = Span::new(at + value_at, at + value_at + value.len());
        let value = Word { text: value.to_owned(), span: value_span };
        self.found.push(Directive { name, value });
        Ok(true)
    }

    /// The escape character in force.
    pub(super) fn escape(&self) -> Result<char, Diagnostic> {
        let Some(directive) = self.found.iter().find(|d| d.name == "escape") else { return Ok('\\') };
        match directive.value.text.as_str() {
            "\\" => Ok('\\'),
            "`" => Ok('`'),
            other => {
                let message = format!("invalid escape token '{other}' does not match ` or \\");
                Err(Diagnostic::new(directive.value.span, message).with_hint("write # escape=` or # escape=\\"))
            }
        }
    }
}

/// `# name = value` with a name Docker knows.
fn split(line: &str) -> Option<(String, &str, usize)> {
    let rest = line.strip_prefix('#')?.trim_start();
    let (name, value) = rest.split_once('=')?;
    let name = name.trim_end();
    let mut chars = name.chars();
    let valid = chars.next()?.is_ascii_alphabetic() && chars.all(|c| c.is_ascii_alphanumeric());
    let name = name.to_ascii_lowercase();
    if !valid || !matches!(name.as_str(), "syntax" | "escape" | "check") {
        return None;
    }
    let value_at = line.len() - value.trim_start().len();
    let value = value.trim();
    (!value.is_empty()).then_some((name, value, value_at))
}
