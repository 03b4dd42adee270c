//! `.dockerignore`: Docker's pattern matching, without any I/O.
//!
//! Patterns are cleaned paths relative to the context. `*` and `?` stay within a path element, `**` crosses
//! them, `[a-z]` is a class, `\` escapes, `!` re-includes; the last pattern that matches a path or one of its
//! parents decides.

pub mod glob;

use std::fmt;

use barque_model::path::clean;
use glob::{BadPattern, Glob};
use regex::Regex;

/// Largest ignore file read, in bytes.
pub const MAX_FILE: usize = 1 << 20;

/// Most patterns taken.
const MAX_PATTERNS: usize = 10_000;

/// A list of patterns, in order.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    patterns: Vec<Pattern>,
    exclusions: bool,
    /// Some exclusion could re-include a path below any directory.
    deep_exclusions: bool,
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    exclusion: bool,
    kind: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    Exact,
    /// `dir/**`
    Prefix,
    /// `**/name` without other wildcards
    Suffix,
    Regex(Regex),
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidPattern {
    pub pattern: String,
    pub reason: &'static str,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid pattern {:?}: {}", self.pattern, self.reason)
    }
}

impl std::error::Error for InvalidPattern {}

/// Which patterns matched a directory; its children start from there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirMatch(Vec<bool>);

impl Ignore {
    /// Reads an ignore file: one pattern a line, `#` comments, a byte order mark.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPattern> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.len() > MAX_FILE {
            return Err(InvalidPattern { pattern: String::new(), reason: "the ignore file is larger than 1 MiB" });
        }
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines().filter(|l| !l.starts_with('#')).map(str::trim).filter(|l| !l.is_empty());
        let relative = |line: &str| {
            let (mark, pattern) = match line.strip_prefix('!') {
                Some(rest) => ("!", rest.trim()),
                None => ("", line),
            };
            let mut cleaned = if pattern.is_empty() { String::new() } else { clean(pattern) };
            if cleaned.len() > 1 && cleaned.starts_with('/') {
                cleaned.remove(0);
            }
            format!("{mark}{cleaned}")
        };
        Self::new(lines.map(relative))
    }

    /// Takes patterns as `--exclude` does: cleaned, but a leading `/` stays.
    pub fn new(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, InvalidPattern> {
        let mut ignore = Ignore::default();
        for pattern in patterns {
            let written = pattern.as_ref().trim();
            if written.is_empty() {
                continue;
            }
            let fail = |reason| Err(InvalidPattern { pattern: written.to_owned(), reason });
            let cleaned = clean(written);
            let (exclusion, text) = match cleaned.strip_prefix('!') {
                Some("") => return fail("illegal exclusion pattern: \"!\""),
                Some(rest) => (true, rest.to_owned()),
                None => (false, cleaned),
            };
            if Glob::new(&text).is_err() {
                return fail("syntax error in pattern");
            }
            if ignore.patterns.len() >= MAX_PATTERNS {
                return fail("there are more than 10000 patterns");
            }
            let Ok(kind) = compile(&text) else { return fail("syntax error in pattern") };
            ignore.exclusions |= exclusion;
            ignore.deep_exclusions |= exclusion && glob::has_wildcards(without_trailing_glob(&text));
            ignore.patterns.push(Pattern { text, exclusion, kind });
        }
        Ok(ignore)
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Some pattern starts with `!`.
    pub fn has_exclusions(&self) -> bool {
        self.exclusions
    }

    /// Some pattern ignores everything (`*`, `**`, `**/*`).
    pub fn ignores_all(&self) -> bool {
        self.patterns.iter().any(|p| !p.exclusion && matches!(p.text.as_str(), "*" | "**" | "**/*"))
    }

    /// Whether the slash-separated relative `path` is ignored, by itself or by a parent.
    pub fn matches(&self, path: &str) -> bool {
        let mut ignored = false;
        for pattern in &self.patterns {
            if pattern.exclusion == ignored && pattern.matches_or_parent(path) {
                ignored = !pattern.exclusion;
            }
        }
        ignored
    }

    /// As [`Ignore::matches`] during a walk: `parent` is what this gave for the directory of `path`.
    ///
    /// This is what decides in Docker. It differs from [`Ignore::matches`] where an exclusion names a parent
    /// that was not ignored itself (`*/x` with `!a` on `a/x`): here that exclusion does not count.
    pub fn matches_in(&self, path: &str, parent: &DirMatch) -> (bool, DirMatch) {
        let mut ignored = false;
        let mut matched = vec![false; self.patterns.len()];
        for (i, pattern) in self.patterns.iter().enumerate() {
            let mut hit = parent.0.get(i).copied().unwrap_or(false);
            if !hit {
                if pattern.exclusion != ignored {
                    continue;
                }
                hit = if parent.0.is_empty() { pattern.matches_or_parent(path) } else { pattern.matches(path) };
            }
            matched[i] = hit;
            if hit {
                ignored = !pattern.exclusion;
            }
        }
        (ignored, DirMatch(matched))
    }

    /// Whether something below the ignored directory `dir` may be re-included, so that it must be walked.
    pub fn may_include_below(&self, dir: &str) -> bool {
        if !self.exclusions || self.deep_exclusions {
            return self.exclusions;
        }
        let slash = format!("{dir}/");
        self.patterns.iter().any(|p| p.exclusion && format!("{}/", without_trailing_glob(&p.text)).starts_with(&slash))
    }
}

/// The pattern without a last `/*` or `/**`.
fn without_trailing_glob(text: &str) -> &str {
    text.strip_suffix("/**").or_else(|| text.strip_suffix("/*")).unwrap_or(text)
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        match &self.kind {
            Matcher::Exact => path == self.text,
            Matcher::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            Matcher::Suffix => {
                let suffix = &self.text[2..];
                path.ends_with(suffix) || suffix.strip_prefix('/').is_some_and(|name| name == path)
            }
            Matcher::Regex(regex) => regex.is_match(path),
        }
    }

    fn matches_or_parent(&self, path: &str) -> bool {
        self.matches(path) || path.match_indices('/').any(|(i, _)| self.matches(&path[..i]))
    }
}

/// Turns a cleaned pattern into the cheapest matcher.
fn compile(text: &str) -> Result<Matcher, BadPattern> {
    let mut regex = String::from("^");
    let mut kind = Matcher::Exact;
    let mut wild = false;
    let mut chars = text.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_some() {
                    regex.push_str("(.*/)?");
                    wild = true;
                } else if wild || !matches!(kind, Matcher::Exact) {
                    regex.push_str(".*");
                    wild = true;
                } else {
                    kind = Matcher::Prefix;
                }
                if first {
                    (kind, wild) = (Matcher::Suffix, false);
                }
            }
            '*' => {
                regex.push_str("[^/]*");
                wild = true;
            }
            '?' => {
                regex.push_str("[^/]");
                wild = true;
            }
            '[' => {
                push_class(&mut regex, &glob::class(&mut chars)?);
                wild = true;
            }
            '\\' => {
                let escaped = chars.next().ok_or(BadPattern)?;
                push_char(&mut regex, escaped);
                wild = true;
            }
            c => push_char(&mut regex, c),
        }
        first = false;
    }
    if !wild {
        return Ok(kind);
    }
    regex.push('$');
    let built = regex::RegexBuilder::new(&regex).dot_matches_new_line(true).size_limit(4 << 20).build();
    built.map(Matcher::Regex).map_err(|_| BadPattern)
}

fn push_char(regex: &mut String, c: char) {
    regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
}

fn push_class(regex: &mut String, class: &glob::Class) {
    regex.push_str(if class.negated { "[^" } else { "[" });
    let before = regex.len();
    for (low, high) in class.ranges.iter().filter(|(low, high)| low <= high) {
        regex.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(*low), u32::from(*high)));
    }
    if regex.len() == before {
        // Only empty ranges, such as [z-a]: nothing is in the class.
        regex.truncate(before - 1 - usize::from(class.negated));
        regex.push_str(if class.negated { "(?s:.)" } else { "[^\\x{0}-\\x{10ffff}]" });
        return;
    }
    regex.push(']');
}

#[cfg(test)]
mod tests;
