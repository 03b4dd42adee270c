//! Env files: `KEY=value` lines with quotes, escapes, comments, `export` and interpolation.

use std::collections::BTreeMap;

use super::interp;

/// Variables by name.
pub type Env = BTreeMap<String, String>;

/// Reads an env file.
///
/// Values in double quotes and without quotes are interpolated from what the file defined so far, then from `lookup`;
/// a name without `=` takes the value `lookup` has for it.
///
/// # Errors
/// A sentence that starts with `line N:`.
pub fn parse(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Env, String> {
    let mut parser = Parser { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1, out: Env::new(), lookup };
    while parser.statement()? {}
    Ok(parser.out)
}

/// Reads an env file of the format `raw`: values are taken as they are, quotes and dollars included.
///
/// # Errors
/// A sentence that starts with `line N:`.
pub fn parse_raw(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Env, String> {
    let mut out = Env::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            Some((key, value)) if !key.is_empty() && !key.contains(char::is_whitespace) => {
                out.insert(key.to_owned(), value.to_owned());
            }
            None if !line.contains(char::is_whitespace) => {
                if let Some(value) = lookup(line) {
                    out.insert(line.to_owned(), value);
                }
            }
            _ => return Err(format!("line {}: invalid variable name in {line:?}", index + 1)),
        }
    }
    Ok(out)
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    out: Env,
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

    /// Reads one statement; false at the end of the file.
    fn statement(&mut self) -> Result<bool, String> {
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
        let (key, assigned) = self.key()?;
        if assigned {
            let value = self.value()?;
            self.out.insert(key, value);
        } else if let Some(value) = (self.lookup)(&key) {
            self.out.insert(key, value);
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<(String, bool), String> {
        let rest = self.rest;
        let end = rest.find(['=', ':', '\n']).unwrap_or(rest.len());
        let raw = &rest[..end];
        for c in raw.chars() {
            if !(is_blank(c) || c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']')) {
                let first = rest.lines().next().unwrap_or_default();
                return Err(format!(
                    "line {}: unexpected character {:?} in variable name {first:?}",
                    self.line,
                    c.to_string()
                ));
            }
        }
        let key = raw.trim_end().to_owned();
        if key.contains(is_blank) {
            return Err(format!("line {}: key cannot contain a space", self.line));
        }
        let assigned = rest[end..].starts_with(['=', ':']);
        self.advance(end + usize::from(end < rest.len()));
        if assigned {
            let skip = self.rest.len() - self.rest.trim_start_matches(is_blank).len();
            self.advance(skip);
        }
        Ok((key, assigned))
    }

    fn value(&mut self) -> Result<String, String> {
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

    fn quoted(&mut self, quote: char) -> Result<String, String> {
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
        Err(format!("line {}: unterminated quoted value {first}", self.line))
    }

    fn expand(&self, text: &str) -> Result<String, String> {
        let lookup = |name: &str| self.out.get(name).cloned().or_else(|| (self.lookup)(name));
        interp::substitute(text, &lookup).map_err(|e| format!("line {}: {e}", self.line))
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
        assert_eq!(parse("A=1\nB='x\n", &none).unwrap_err(), "line 2: unterminated quoted value 'x");
        assert!(parse("a b=1\n", &none).unwrap_err().contains("line 1: key cannot contain a space"));
        assert!(parse("a?=1\n", &none).unwrap_err().contains("unexpected character"));
    }

    #[test]
    fn raw_keeps_everything() {
        let env = parse_raw("A='$x' #y\n#c\nHOST\n", &|_| Some("v".into())).unwrap();
        assert_eq!(env["A"], "'$x' #y");
        assert_eq!(env["HOST"], "v");
    }
}
