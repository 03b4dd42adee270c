//! Go's `filepath.Match`: `*`, `?`, `[a-z]`, `[^a-z]`, `\c`; none of them crosses a `/` except a class.

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    literal: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Char(char),
    /// Any run without `/`.
    Star,
    /// One character but `/`.
    Any,
    Class(Class),
}

/// `[…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) negated: bool,
    pub(super) ranges: Vec<(char, char)>,
}

/// The pattern is malformed (Go: `syntax error in pattern`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPattern;

impl Glob {
    pub fn new(pattern: &str) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                '[' => Token::Class(class(&mut chars)?),
                '\\' => Token::Char(chars.next().ok_or(BadPattern)?),
                c => Token::Char(c),
            });
        }
        tokens.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
        let literal = tokens.iter().all(|t| matches!(t, Token::Char(_)));
        Ok(Glob { tokens, literal })
    }

    /// The text this pattern stands for if it has no wildcards.
    pub fn literal(&self) -> Option<String> {
        let char_of = |t: &Token| if let Token::Char(c) = t { Some(*c) } else { None };
        if self.literal { self.tokens.iter().map(char_of).collect() } else { None }
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        let (mut t, mut p) = (0, 0);
        // Where to go on if what follows the last star does not fit.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let fits = match (self.tokens.get(p), text.get(t)) {
                (None, None) => return true,
                (Some(Token::Star), _) => {
                    retry = Some((p, t));
                    p += 1;
                    continue;
                }
                (Some(Token::Char(c)), Some(have)) => c == have,
                (Some(Token::Any), Some(have)) => *have != '/',
                (Some(Token::Class(class)), Some(have)) => class.matches(*have),
                _ => false,
            };
            if fits {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            match retry {
                Some((star, from)) if from < text.len() && text[from] != '/' => {
                    retry = Some((star, from + 1));
                    (p, t) = (star + 1, from + 1);
                }
                _ => return false,
            }
        }
    }
}

/// Whether `text` has unescaped wildcards.
pub fn has_wildcards(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

impl Class {
    fn matches(&self, c: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != self.negated
    }
}

/// Reads a class after its `[`.
pub(super) fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Class, BadPattern> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if !ranges.is_empty() && chars.next_if_eq(&']').is_some() {
            return Ok(Class { negated, ranges });
        }
        let low = class_char(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { class_char(chars)? } else { low };
        ranges.push((low, high));
    }
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, BadPattern> {
    match chars.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern),
        Some(c) => Ok(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_like_go() {
        let cases = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[b-d]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[x\\-]", "-", true),
            ("*x", "xxx", true),
            ("**", "ab", true),
            ("", "", true),
            ("*", "", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Glob::new(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
        for bad in ["[]a]", "[-]", "[x-]", "[-x]", "a[", "[a-b-c]", "[^", "[^bc", "a\\", "[a"] {
            assert_eq!(Glob::new(bad), Err(BadPattern), "{bad}");
        }
        assert_eq!(Glob::new("a\\*b").unwrap().literal().as_deref(), Some("a*b"));
        assert!(has_wildcards("a?b") && !has_wildcards("a\\?b"));
    }

    #[test]
    fn hostile_patterns_take_no_time() {
        let glob = Glob::new(&"*a".repeat(200)).unwrap();
        assert!(!glob.matches(&"b".repeat(5000)));
    }
}
