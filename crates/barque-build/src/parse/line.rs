//! One logical line: instruction name, flags, words, JSON form.

use super::text::{Text, Word};
use crate::span::Diagnostic;

/// The characters Docker splits plain argument lists at.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Splits a line into instruction name, `--flags` and the rest.
pub(super) fn split(line: &Text, escape: char) -> (Word, Vec<Word>, Text) {
    let line = line.trimmed();
    let text = line.as_str();
    let end = text.find(is_blank).unwrap_or(text.len());
    let keyword = line.part(0..end).word();
    let start = end + text[end..].find(|c| !is_blank(c)).unwrap_or(text.len() - end);
    let (flags, rest) = flags(&line, start, escape);
    (keyword, flags, line.part(rest..text.len()).trimmed())
}

/// Reads leading `--name[=value]` words from `start`, removing quotes and escapes; returns where they end.
fn flags(line: &Text, start: usize, escape: char) -> (Vec<Word>, usize) {
    let text = line.as_str();
    let mut flags = Vec::new();
    let mut at = start;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        if !text[at..].starts_with("--") {
            return (flags, at);
        }
        let (word, end) = flag_word(text, at, escape);
        if word == "--" {
            return (flags, end);
        }
        flags.push(Word { text: word, span: line.span_of(at..end) });
        at = end;
    }
}

fn flag_word(text: &str, start: usize, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text[start..].char_indices();
    while let Some((offset, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return (word, start + offset),
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if q == c => quote = None,
            _ if c == escape => word.extend(chars.next().map(|(_, c)| c)),
            _ => word.push(c),
        }
    }
    (word, text.len())
}

/// Splits at blanks, as for `FROM`, `COPY` and `EXPOSE`.
pub(crate) fn words(text: &Text) -> Vec<Word> {
    let s = text.as_str();
    let mut words = Vec::new();
    let mut start = None;
    for (i, c) in s.char_indices().chain([(s.len(), ' ')]) {
        match (is_blank(c), start) {
            (true, Some(from)) => {
                words.push(text.part(from..i).word());
                start = None;
            }
            (false, None) => start = Some(i),
            _ => {}
        }
    }
    words
}

/// Splits at unquoted white space, keeping quotes and escapes, as for `ENV`, `LABEL` and `ARG`.
pub(crate) fn quoted_words(text: &Text, escape: char) -> Vec<Word> {
    let s = text.as_str();
    let mut words = Vec::new();
    let mut current: Option<(usize, String)> = None;
    let mut quote = None;
    let mut chars = s.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            if let Some((from, word)) = current.take().filter(|(_, w)| !w.is_empty()) {
                words.push(Word { text: word, span: text.span_of(from..i) });
            }
            continue;
        }
        let (_, word) = current.get_or_insert_with(|| (i, String::new()));
        match quote {
            Some(q) if q == c => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => {}
        }
        if c == escape && quote != Some('\'') {
            // An escape character at the very end of the line is dropped.
            if let Some((_, next)) = chars.next() {
                word.push(c);
                word.push(next);
            }
            continue;
        }
        word.push(c);
    }
    if let Some((from, word)) = current.filter(|(_, w)| !w.is_empty()) {
        words.push(Word { text: word, span: text.span_of(from..s.len()) });
    }
    words
}

/// The elements of a JSON array of strings; `None` if the text is no JSON array (then it is the shell form).
/// An array of anything else is an error.
pub(crate) fn json(text: &Text) -> Result<Option<Vec<String>>, Diagnostic> {
    let s = text.as_str().trim_start();
    if !s.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(s) else { return Ok(None) };
    let strings = values.into_iter().map(|v| match v {
        serde_json::Value::String(s) => Ok(s),
        other => Err(other),
    });
    strings.collect::<Result<Vec<_>, _>>().map(Some).map_err(|other| {
        Diagnostic::new(text.span(), "when using JSON array syntax, arrays must be comprised of strings only")
            .with_hint(format!("put {other} in double quotes"))
    })
}
