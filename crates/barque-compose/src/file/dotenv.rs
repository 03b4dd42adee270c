//! Env files: `KEY=value` lines with quotes, escapes, comments, `export` and interpolation.

use std::collections::BTreeMap;

use super::interp;

/// Variables by name.
pub type Env = BTreeMap<String, String>;

/// A variable of an env file and where its name stands; lines and columns count from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// Its value.
    pub value: String,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// Characters of the name.
    pub length: usize,
}

/// What is wrong with an env file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Characters.
    pub length: usize,
    /// A sentence.
    pub why: String,
}

impl std::fmt::Display for EnvError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// Reads an env file.
///
/// Values in double quotes and without quotes are interpolated from what the file defined so far, then from `lookup`;
/// a name without `=` takes the value `lookup` has for it.
///
/// # Errors
/// The first place that is not well formed.
pub fn parse(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Env, EnvError> {
    Ok(located(text, lookup)?.into_iter().map(|(name, found)| (name, found.value)).collect())
}

/// As [`parse`], with the place of each variable.
///
/// # Errors
/// As [`parse`].
pub fn located(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<BTreeMap<String, Assigned>, EnvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser { text, rest: text, line: 1, out: BTreeMap::new(), lookup };
    while parser.statement()? {}
    Ok(parser.out)
}

/// Reads an env file of the format `raw`: values are taken as they are, quotes and dollars included.
///
/// # Errors
/// The first place that is not well formed.
pub fn located_raw(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, Assigned>, EnvError> {
    let mut out = BTreeMap::new();
    for (index, whole) in text.lines().enumerate() {
        let line = whole.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let column = whole[..whole.len() - line.len()].chars().count() + 1;
        let (key, value) = match line.split_once('=') {
            Some((key, value)) if !key.is_empty() && !key.contains(char::is_whitespace) => {
                (key, Some(value.to_owned()))
            }
            None if !line.contains(char::is_whitespace) => (line, lookup(line)),
            _ => {
                let (length, why) = (line.chars().count(), format!("invalid variable name in {line:?}"));
                return Err(EnvError { line: index + 1, column, length, why });
            }
        };
        if let Some(value) = value {
            let found = Assigned { value, line: index + 1, column, length: key.chars().count() };
            out.insert(key.to_owned(), found);
        }
    }
    Ok(out)
}

struct Parser<'a> {
    text: &'a str,
    rest: &'a str,
    line: usize,
    out: BTreeMap<String, Assigned>,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

fn is_blank(c: char) -> bool {
    c != '\n' && c.is_whitespace()
}

impl Parser<'_> {
    fn advance(&mut self, bytes: usize) {
        self.line += self.rest[..bytes].matches('\n').count();
        self.rest = &self.rest[bytes..];
    }

    /// Column of what is `skip` bytes ahead on this line.
    fn column(&self, skip: usize) -> usize {
        let before = &self.text[..self.text.len() - self.rest.len() + skip];
        before.rsplit('\n').next().unwrap_or_default().chars().count() + 1
    }

    /// An error about `length` characters, `skip` bytes ahead on this line.
    fn error(&self, skip: usize, length: usize, why: String) -> EnvError {
        EnvError { line: self.line, column: self.column(skip), length: length.max(1), why }
    }

    /// Reads one statement; false at the end of the file.
    fn statement(&mut self) -> Result<bool, EnvError> {
        loop {
            let skip = self.rest.len() - self.rest.trim_start().len();
            self.advance(skip);
            if !self.rest.starts_with('#') {
                break;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.advance(end);
        }
        if self.rest.is_empty() {
            return Ok(false);
        }
        if let Some(after) = self.rest.strip_prefix("export").filter(|r| r.starts_with(is_blank)) {
            self.rest = after.trim_start_matches(is_blank);
        }
        let (line, column) = (self.line, self.column(0));
        let (key, assigned) = self.key()?;
        let value = if assigned { Some(self.value()?) } else { (self.lookup)(&key) };
        if let Some(value) = value {
            let length = key.chars().count();
            self.out.insert(key, Assigned { value, line, column, length });
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<(String, bool), EnvError> {
        let rest = self.rest;
        let end = rest.find(['=', ':', '\n']).unwrap_or(rest.len());
        let raw = &rest[..end];
        for (at, c) in raw.char_indices() {
            if !(is_blank(c) || c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']')) {
                let first = rest.lines().next().unwrap_or_default();
                let why = format!("unexpected character {:?} in variable name {first:?}", c.to_string());
                return Err(self.error(at, 1, why));
            }
        }
        let key = raw.trim_end().to_owned();
        if key.contains(is_blank) {
            return Err(self.error(0, key.chars().count(), "key cannot contain a space".to_owned()));
        }
        let assigned = rest[end..].starts_with(['=', ':']);
        self.advance(end + usize::from(end < rest.len()));
        if assigned {
            let skip = self.rest.len() - self.rest.trim_start_matches(is_blank).len();
            self.advance(skip);
        }
        Ok((key, assigned))
    }

    fn value(&mut self) -> Result<String, EnvError> {
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            _ => {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                let raw = &self.rest[..end];
                let raw = raw.split(" #").next().unwrap_or_default().trim_end();
                let raw = if raw.starts_with('#') { "" } else { raw };
                let value = self.expand(raw)?;
                self.advance(end);
                Ok(value)
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, EnvError> {
        let mut text = String::new();
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            if c != quote {
                if !escaped && c == '\\' {
                    escaped = true;
                    continue;
                }
                if escaped {
                    text.push('\\');
                    escaped = false;
                }
                text.push(c);
                continue;
            }
            if escaped {
                escaped = false;
                text.push(c);
                continue;
            }
            let value = if quote == '"' { self.expand(&unescape(&text))? } else { text };
            self.advance(at + 1);
            return Ok(value);
        }
        let first = self.rest.lines().next().unwrap_or_default();
        Err(self.error(0, first.chars().count(), format!("unterminated quoted value {first}")))
    }

    fn expand(&self, text: &str) -> Result<String, EnvError> {
        let lookup = |name: &str| self.out.get(name).map(|a| a.value.clone()).or_else(|| (self.lookup)(name));
        let length = self.rest.lines().next().unwrap_or_default().chars().count();
        interp::substitute(text, &lookup).map_err(|e| self.error(0, length, e.to_string()))
    }
}

/// The escapes of double quotes; `\$` becomes `$$`, which interpolation turns into a dollar.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.peek().copied() {
            Some('a') => out.push('\u{7}'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some('"') => out.push('"'),
            Some('\\') => out.push('\\'),
            Some('$') => out.push_str("$$"),
            _ => {
                out.push('\\');
                continue;
            }
        }
        chars.next();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Env {
        parse(text, &|name| (name == "HOST").then(|| "outer".to_owned())).unwrap()
    }

    #[test]
    fn reads_the_usual_forms() {
        let env = read(
            "# c\nA=1\nexport B = two # comment\nC='$HOST #x'\nD=\"a\\n$HOST\"\nE=\nHOST\nF=a#b\nG: yaml\n\nH=${A}x\n",
        );
        assert_eq!(env["A"], "1");
        assert_eq!(env["B"], "two");
        assert_eq!(env["C"], "$HOST #x");
        assert_eq!(env["D"], "a\nouter");
        assert_eq!(env["E"], "");
        assert_eq!(env["HOST"], "outer");
        assert_eq!(env["F"], "a#b");
        assert_eq!(env["G"], "yaml");
        assert_eq!(env["H"], "1x");
    }

    #[test]
    fn reads_several_lines_in_quotes_and_escapes() {
        let env = read("A=\"one\ntwo\"\nB=\"\\$x \\\"q\\\"\"\nC='it\\'s'\n");
        assert_eq!(env["A"], "one\ntwo");
        assert_eq!(env["B"], "$x \"q\"");
        assert_eq!(env["C"], "it's");
    }

    #[test]
    fn errors_name_the_line() {
        let none = |_: &str| None;
        let of = |text: &str| parse(text, &none).unwrap_err();
        let place = |e: &EnvError| (e.line, e.column, e.length);
        let open = of("A=1\nB='x\n");
        assert_eq!((open.to_string().as_str(), place(&open)), ("line 2: unterminated quoted value 'x", (2, 3, 2)));
        assert!(of("a b=1\n").to_string().contains("line 1: key cannot contain a space"));
        let odd = of("#c\n export ä?=1\n");
        assert_eq!((odd.why.contains("unexpected character"), place(&odd)), (true, (2, 10, 1)));
        assert_eq!(place(&of("A=1\nBB=${x\n")), (2, 4, 3));
        let found = located("A=1\n  export BÄ='2\n3'\nC=4", &none).unwrap();
        let at = |name: &str| (found[name].line, found[name].column, found[name].length);
        assert_eq!((at("A"), at("BÄ"), at("C")), ((1, 1, 1), (2, 10, 2), (4, 1, 1)));
    }

    #[test]
    fn raw_keeps_everything() {
        let env = located_raw("A='$x' #y\n#c\n HOST\n", &|_| Some("v".into())).unwrap();
        assert_eq!(env["A"].value, "'$x' #y");
        assert_eq!((env["HOST"].value.as_str(), env["HOST"].line, env["HOST"].column), ("v", 3, 2));
    }
}
