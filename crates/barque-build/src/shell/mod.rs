//! Variable expansion and quote removal in Dockerfile words, by BuildKit's rules.
//!
//! `$a`, `${a}`, `${a-w}`, `${a:-w}`, `${a+w}`, `${a:+w}`, `${a?m}`, `${a:?m}`, `${a#p}`, `${a##p}`, `${a%p}`,
//! `${a%%p}`, `${a/p/r}`, `${a//p/r}`; words may nest. Patterns know `*`, `?` and `\`.

mod pattern;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Words longer than this after expansion are refused: `ENV a=$a$a` doubles at every line.
pub const MAX_EXPANDED: usize = 1 << 20;

/// `${a:-${b:-…}}` deeper than this is refused.
const MAX_DEPTH: usize = 64;

/// Where values come from.
pub trait Env {
    /// The value of `name`; `None` if it is not set (which differs from empty).
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// No variable is set.
#[derive(Debug, Clone, Copy)]
pub struct NoEnv;

impl Env for NoEnv {
    fn get(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

impl Env for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        BTreeMap::get(self, name).map(|v| Cow::Borrowed(v.as_str()))
    }
}

/// How to read words.
#[derive(Debug, Clone, Copy)]
pub struct Lexer {
    /// `\` or, after `# escape=`, a backtick.
    pub escape: char,
    /// Keep quotes in the result.
    pub raw_quotes: bool,
    /// Keep escape characters in the result.
    pub raw_escapes: bool,
    /// Quotes are ordinary characters (heredoc bodies).
    pub ignore_quotes: bool,
    /// Leave `$name` alone where `name` is not set.
    pub keep_unset: bool,
}

/// An expanded word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// `text` split at unquoted white space, after expansion.
    pub words: Vec<String>,
    /// Variables that were set.
    pub used: BTreeSet<String>,
    /// Variables that were not.
    pub unset: BTreeSet<String>,
}

impl Lexer {
    pub fn new(escape: char) -> Self {
        Lexer { escape, raw_quotes: false, raw_escapes: false, ignore_quotes: false, keep_unset: false }
    }

    /// Expands `word`. Errors are Docker's sentences, such as `missing '}'`.
    pub fn expand(&self, word: &str, env: &dyn Env) -> Result<Expanded, String> {
        let mut run = Run {
            lexer: *self,
            input: word,
            at: 0,
            env,
            raw_escapes: self.raw_escapes,
            depth: 0,
            used: BTreeSet::new(),
            unset: BTreeSet::new(),
        };
        let (text, words) = run.until(None).map_err(|e| format!("failed to process {word:?}: {e}"))?;
        Ok(Expanded { text, words, used: run.used, unset: run.unset })
    }
}

/// Splits while expanding.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    fn push(&mut self, c: char) {
        if !c.is_whitespace() {
            self.current.push(c);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

struct Run<'a> {
    lexer: Lexer,
    input: &'a str,
    at: usize,
    env: &'a dyn Env,
    raw_escapes: bool,
    depth: usize,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
}

impl Run<'_> {
    fn peek(&self) -> Option<char> {
        self.input[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Reads to the end, or past the unquoted character `stop`.
    fn until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("substitutions are nested too deeply".into());
        }
        let mut text = String::new();
        let mut words = Words::default();
        while let Some(c) = self.peek() {
            if text.len() > MAX_EXPANDED {
                return Err(format!("the expanded word is longer than {MAX_EXPANDED} bytes"));
            }
            if Some(c) == stop {
                self.next();
                self.depth -= 1;
                return Ok((text, words.finish()));
            }
            match c {
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.push(c));
                    text.push_str(&value);
                }
                '\'' | '"' if !self.lexer.ignore_quotes => {
                    let value = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.current.push_str(&value);
                    text.push_str(&value);
                }
                '<' => {
                    let value = self.angle();
                    words.current.push_str(&value);
                    text.push_str(&value);
                }
                _ => self.plain(&mut text, &mut words),
            }
        }
        self.depth -= 1;
        match stop {
            Some(c) => Err(format!("unexpected end of statement while looking for matching {c}")),
            None => Ok((text, words.finish())),
        }
    }

    fn plain(&mut self, text: &mut String, words: &mut Words) {
        let Some(c) = self.next() else { return };
        if c != self.lexer.escape {
            words.push(c);
            text.push(c);
            return;
        }
        if self.raw_escapes {
            words.current.push(c);
            text.push(c);
        }
        // An escape character at the very end vanishes.
        if let Some(escaped) = self.next() {
            words.current.push(escaped);
            text.push(escaped);
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let mut text = String::new();
        self.next();
        let rest = &self.input[self.at..];
        let Some(end) = rest.find('\'') else {
            self.at = self.input.len();
            return Err("unexpected end of statement while looking for matching single-quote".into());
        };
        if self.lexer.raw_quotes {
            text.push('\'');
        }
        text.push_str(&rest[..end]);
        if self.lexer.raw_quotes {
            text.push('\'');
        }
        self.at += end + 1;
        Ok(text)
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        let escape = self.lexer.escape;
        let mut text = String::new();
        self.next();
        if self.lexer.raw_quotes {
            text.push('"');
        }
        loop {
            match self.peek() {
                None => return Err("unexpected end of statement while looking for matching double-quote".into()),
                Some('"') => {
                    self.next();
                    if self.lexer.raw_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == escape => {
                    self.next();
                    if self.raw_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        // Only these can be escaped inside double quotes.
                        Some(n) if n == '"' || n == '$' || n == escape => {
                            self.next();
                            text.push(n);
                        }
                        Some(_) => text.push(c),
                    }
                }
                Some(c) => {
                    self.next();
                    text.push(c);
                }
            }
            if text.len() > MAX_EXPANDED {
                return Err(format!("the expanded word is longer than {MAX_EXPANDED} bytes"));
            }
        }
    }

    /// `<`, or `<<` with the white space after it, which must not split a heredoc word from its name.
    fn angle(&mut self) -> String {
        self.next();
        if self.peek() != Some('<') {
            return "<".into();
        }
        self.next();
        let mut text = String::from("<<");
        while let Some(c @ ('\t' | '\r' | ' ')) = self.peek() {
            self.next();
            text.push(c);
        }
        text
    }

    fn lookup(&mut self, name: &str) -> Option<String> {
        match self.env.get(name) {
            Some(value) => {
                self.used.insert(name.to_owned());
                Some(value.into_owned())
            }
            None => {
                self.unset.insert(name.to_owned());
                None
            }
        }
    }

    fn dollar(&mut self) -> Result<String, String> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.lookup(&name) {
                Some(value) => value,
                None if self.lexer.keep_unset => format!("${name}"),
                None => String::new(),
            });
        }
        self.next();
        match self.peek() {
            None => return Err("syntax error: missing '}'".into()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".into()),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => Err("syntax error: missing '}'".into()),
            Some('}') => Ok(match self.lookup(&name) {
                Some(value) => value,
                None if self.lexer.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some(':') => match self.next() {
                Some(c @ ('-' | '+' | '?')) => self.conditional(&name, c, true),
                Some(c) => Err(format!("unsupported modifier (:{c}) in substitution")),
                None => Err("syntax error: missing '}'".into()),
            },
            Some(c @ ('-' | '+' | '?')) => self.conditional(&name, c, false),
            Some(c @ ('#' | '%')) => self.trim(&name, c),
            Some('/') => self.replace(&name),
            Some(c) => Err(format!("unsupported modifier ({c}) in substitution")),
        }
    }

    /// Reads up to `stop` with escapes kept or not, turning "ran out" into Docker's sentence.
    fn operand(&mut self, stop: char, raw_escapes: bool, missing: &str) -> Result<String, String> {
        let before = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until(Some(stop));
        self.raw_escapes = before;
        match result {
            Ok((text, _)) => Ok(text),
            Err(_) if self.peek().is_none() => Err(missing.to_owned()),
            Err(e) => Err(e),
        }
    }

    fn conditional(&mut self, name: &str, operator: char, colon: bool) -> Result<String, String> {
        let word = self.operand('}', false, "syntax error: missing '}'")?;
        let value = self.lookup(name);
        if value.is_none() && self.lexer.keep_unset {
            let colon = if colon { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{operator}{word}}}"));
        }
        let present = value.filter(|v| !(colon && v.is_empty()));
        match (operator, present) {
            ('-', Some(value)) | ('?', Some(value)) => Ok(value),
            ('-', None) => Ok(word),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, _) if !word.is_empty() => Err(format!("{name}: {word}")),
            _ if self.unset.contains(name) => Err(format!("{name}: is not allowed to be unset")),
            _ => Err(format!("{name}: is not allowed to be empty")),
        }
    }

    fn trim(&mut self, name: &str, side: char) -> Result<String, String> {
        let word = self.operand('}', true, "syntax error: missing '}'")?;
        let Some(value) = self.lookup(name) else {
            return Ok(if self.lexer.keep_unset { format!("${{{name}{side}{word}}}") } else { String::new() });
        };
        let (greedy, glob) = match word.strip_prefix(side) {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        if side == '#' {
            pattern::trim_prefix(glob, &value, greedy)
        } else {
            pattern::trim_suffix(glob, &value, greedy)
        }
    }

    fn replace(&mut self, name: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let glob = self.operand('/', true, "syntax error: missing '/' in ${}")?;
        let with = self.operand('}', true, "syntax error: missing '}'")?;
        match self.lookup(name) {
            Some(value) => pattern::replace(&glob, &value, &with, all),
            None if self.lexer.keep_unset => Ok(format!("${{{name}/{glob}/{with}}}")),
            None => Ok(String::new()),
        }
    }

    /// A name (letters, digits, `_`), a number, or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let rest = &self.input[self.at..];
        let Some(first) = rest.chars().next() else { return String::new() };
        let length = if first.is_ascii_digit() {
            rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())
        } else if matches!(first, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
            1
        } else {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
        };
        self.at += length;
        rest[..length].to_owned()
    }
}

#[cfg(test)]
mod tests;
