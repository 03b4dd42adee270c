//! Interpolation: `$NAME`, `${NAME}`, `${NAME:-x}`, `-`, `:?`, `?`, `:+`, `+`, nested, and `$$` for a dollar.

use super::diag::{Diag, Loaded, Span};
use super::node::{Node, Value, VariableUse};

/// Deepest nesting of `${A:-${B:-…}}`.
const MAX_NESTING: usize = 64;

/// Where variables come from.
pub trait Variables {
    /// The value and the name of its source (`environment`, a file).
    fn get(&self, name: &str) -> Option<(String, String)>;
    /// Told of each variable that is not set and has no default.
    fn unset(&self, name: &str);
    /// Where a piece of a text stands, if the text stands at `span`.
    fn place_of(&self, _piece: &str, span: Span) -> Span {
        span
    }
}

/// Why a text could not be interpolated.
#[derive(Debug, PartialEq, Eq)]
pub enum InterpError {
    /// The text is not well formed.
    Invalid,
    /// `${NAME:?why}` without a value.
    Required {
        /// The variable.
        name: String,
        /// The text after the `?`.
        why: String,
    },
}

impl std::fmt::Display for InterpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InterpError::Invalid => f.write_str("invalid interpolation format"),
            InterpError::Required { name, why } if why.is_empty() => {
                write!(f, "required variable {name} is missing a value")
            }
            InterpError::Required { name, why } => write!(f, "required variable {name} is missing a value: {why}"),
        }
    }
}

struct Closure<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables for Closure<'_> {
    fn get(&self, name: &str) -> Option<(String, String)> {
        (self.0)(name).map(|value| (value, String::new()))
    }

    fn unset(&self, _: &str) {}
}

/// Interpolates with a plain lookup; what is not set becomes empty.
///
/// # Errors
/// See [`InterpError`].
pub fn substitute(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, InterpError> {
    expand(text, &Closure(lookup), &mut Vec::new(), 0)
}

/// Interpolates every text of a tree, noting which variables made which value.
///
/// # Errors
/// A text that is not well formed or asks for a variable that is not set, with its place.
pub fn tree(node: &mut Node, variables: &dyn Variables, path: &mut Vec<String>) -> Loaded<()> {
    match &mut node.value {
        Value::Str(text) if text.contains('$') => {
            let mut used = Vec::new();
            let result = expand(text, variables, &mut used, 0);
            let new = match result {
                Ok(new) => new,
                Err(e) => {
                    let span = variables.place_of(culprit(&e, text), node.span);
                    return Err(explain(&e, text, span, path));
                }
            };
            *text = new;
            if !used.is_empty() {
                node.origin_mut().variables.extend(used);
            }
            Ok(())
        }
        Value::Seq(items) => items.iter_mut().enumerate().try_for_each(|(i, item)| {
            path.push(format!("[{i}]"));
            let done = tree(item, variables, path);
            path.pop();
            done
        }),
        Value::Map(map) => map.iter_mut().try_for_each(|(key, item)| {
            path.push(key.to_owned());
            let done = tree(item, variables, path);
            path.pop();
            done
        }),
        _ => Ok(()),
    }
}

/// The piece of a text that could not be interpolated.
fn culprit<'a>(error: &InterpError, text: &'a str) -> &'a str {
    for (at, _) in text.match_indices('$') {
        let after = &text[at + 1..];
        let end = match closing(after) {
            Some(end) if after.starts_with('{') => end,
            // never closed
            None if after.starts_with('{') => return text[at..].split_whitespace().next().unwrap_or_default(),
            _ => continue,
        };
        let found = braced(&after[1..end], &Closure(&|_| None), &mut Vec::new(), 0).err();
        let same = match (&found, error) {
            (Some(InterpError::Required { name: a, .. }), InterpError::Required { name: b, .. }) => a == b,
            (found, error) => found.as_ref() == Some(error),
        };
        if same {
            return &text[at..=at + 1 + end];
        }
    }
    ""
}

fn explain(error: &InterpError, text: &str, span: Span, path: &[String]) -> Diag {
    let path = path.join(".").replace(".[", "[");
    match error {
        InterpError::Invalid => Diag::at(span, format!("invalid interpolation format for {path}: {text:?}"))
            .hint("write $$ for a dollar sign, and close every ${ with }"),
        InterpError::Required { name, .. } => Diag::at(span, format!("error while interpolating {path}: {error}"))
            .hint(format!("set {name} in the environment or in .env")),
    }
}

fn expand(text: &str, vars: &dyn Variables, used: &mut Vec<VariableUse>, depth: usize) -> Result<String, InterpError> {
    if depth > MAX_NESTING {
        return Err(InterpError::Invalid);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        match after.chars().next() {
            Some('$') => {
                out.push('$');
                rest = &after[1..];
            }
            Some('{') => {
                let end = closing(after).ok_or(InterpError::Invalid)?;
                out.push_str(&braced(&after[1..end], vars, used, depth)?);
                rest = &after[end + 1..];
            }
            Some(c) if c == '_' || c.is_ascii_alphabetic() => {
                let end = name_end(after);
                out.push_str(&plain(&after[..end], vars, used));
                rest = &after[end..];
            }
            // a dollar before anything else stands for itself
            _ => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn name_end(text: &str) -> usize {
    text.find(|c: char| !(c == '_' || c.is_ascii_alphanumeric())).unwrap_or(text.len())
}

/// Index of the `}` that closes the `{` at index 0. A default may hold braces of its own (`${A:-{}}`); only where
/// those do not balance do just the `${` count.
fn closing(text: &str) -> Option<usize> {
    balanced(text, false).or_else(|| balanced(text, true))
}

fn balanced(text: &str, only_variables: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    for (i, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if i == 0 || !only_variables || bytes[i - 1] == b'$' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

fn note(name: &str, source: &str, used: &mut Vec<VariableUse>) {
    if !used.iter().any(|u| u.name == name) {
        used.push(VariableUse { name: name.to_owned(), source: source.to_owned() });
    }
}

fn plain(name: &str, vars: &dyn Variables, used: &mut Vec<VariableUse>) -> String {
    match vars.get(name) {
        Some((value, source)) => {
            note(name, &source, used);
            value
        }
        None => {
            vars.unset(name);
            note(name, "unset", used);
            String::new()
        }
    }
}

fn braced(body: &str, vars: &dyn Variables, used: &mut Vec<VariableUse>, depth: usize) -> Result<String, InterpError> {
    let first = body.chars().next().ok_or(InterpError::Invalid)?;
    if !(first == '_' || first.is_ascii_alphabetic()) {
        return Err(InterpError::Invalid);
    }
    let end = name_end(body);
    let (name, rest) = body.split_at(end);
    if rest.is_empty() {
        return Ok(plain(name, vars, used));
    }
    let (colon, rest) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let operator = rest.chars().next().ok_or(InterpError::Invalid)?;
    let word = &rest[operator.len_utf8()..];
    let found = vars.get(name);
    let present = found.as_ref().is_some_and(|(value, _)| !(colon && value.is_empty()));
    match operator {
        '-' if present => Ok(take(name, found, used)),
        '-' => {
            note(name, "default", used);
            expand(word, vars, used, depth + 1)
        }
        '+' if present => {
            note(name, &found.map(|(_, source)| source).unwrap_or_default(), used);
            expand(word, vars, used, depth + 1)
        }
        '+' => {
            note(name, "unset", used);
            Ok(String::new())
        }
        '?' if present => Ok(take(name, found, used)),
        '?' => {
            let why = expand(word, vars, used, depth + 1)?;
            Err(InterpError::Required { name: name.to_owned(), why })
        }
        _ => Err(InterpError::Invalid),
    }
}

fn take(name: &str, found: Option<(String, String)>, used: &mut Vec<VariableUse>) -> String {
    let (value, source) = found.unwrap_or_default();
    note(name, &source, used);
    value
}

/// A variable mentioned in a text, for `config --variables`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mention {
    /// The name.
    pub name: String,
    /// True with `?` or `:?`.
    pub required: bool,
    /// The text after `-` or `:-`.
    pub default: String,
    /// The text after `+` or `:+`.
    pub alternate: String,
}

/// The variables a text mentions, nested ones too.
pub fn mentions(text: &str) -> Vec<Mention> {
    let mut out = Vec::new();
    collect(text, &mut out, 0);
    out
}

fn collect(text: &str, out: &mut Vec<Mention>, depth: usize) {
    let mut rest = text;
    while let Some(at) = rest.find('$').filter(|_| depth <= MAX_NESTING) {
        let after = &rest[at + 1..];
        rest = after;
        match after.chars().next() {
            Some('$') => rest = &after[1..],
            Some('{') => {
                let Some(end) = closing(after) else { return };
                let body = &after[1..end];
                rest = &after[end + 1..];
                let (name, tail) = body.split_at(name_end(body));
                let tail = tail.strip_prefix(':').unwrap_or(tail);
                let mut mention = Mention { name: name.to_owned(), ..Mention::default() };
                match tail.chars().next() {
                    Some('-') => tail[1..].clone_into(&mut mention.default),
                    Some('+') => tail[1..].clone_into(&mut mention.alternate),
                    Some('?') => mention.required = true,
                    _ => {}
                }
                out.push(mention);
                if tail.len() > 1 {
                    collect(&tail[1..], out, depth + 1);
                }
            }
            Some(c) if c == '_' || c.is_ascii_alphabetic() => {
                let end = name_end(after);
                out.push(Mention { name: after[..end].to_owned(), ..Mention::default() });
                rest = &after[end..];
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(text: &str) -> Result<String, InterpError> {
        substitute(text, &|name| match name {
            "A" => Some("a".into()),
            "EMPTY" => Some(String::new()),
            "_x1" => Some("under".into()),
            _ => None,
        })
    }

    #[test]
    fn the_piece_that_fails_is_found() {
        let of = |text: &'static str| culprit(&sub(text).unwrap_err(), text);
        assert_eq!(of("a $A ${B:-x} ${C:?why} ${D?}"), "${C:?why}");
        assert_eq!(of("one\ntwo ${1x} $$"), "${1x}");
        assert_eq!(of("one ${A\nthree"), "${A");
    }

    #[test]
    fn every_form() {
        for (text, want) in [
            ("$A", "a"),
            ("${A}b", "ab"),
            ("$$A $$", "$A $"),
            ("$_x1-", "under-"),
            ("[$NO]", "[]"),
            ("${NO:-d}", "d"),
            ("${NO-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${A:+yes}", "yes"),
            ("${EMPTY:+yes}", ""),
            ("${EMPTY+yes}", "yes"),
            ("${NO+yes}", ""),
            ("${NO:-${A}}", "a"),
            ("${NO:-${ALSO:-deep}}/x", "deep/x"),
            ("${NO:-a:b?c-d}", "a:b?c-d"),
            ("${A?never}", "a"),
            ("$(pwd) $1 $", "$(pwd) $1 $"),
            ("${NO:-{\"x\": 1}}", "{\"x\": 1}"),
            ("${A:-{\"x\": 1}}", "a"),
            ("${NO:-{}", "{"),
        ] {
            assert_eq!(sub(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn errors() {
        assert_eq!(sub("${A"), Err(InterpError::Invalid));
        assert_eq!(sub("${}"), Err(InterpError::Invalid));
        assert_eq!(sub("${1A}"), Err(InterpError::Invalid));
        assert_eq!(sub("${A!x}"), Err(InterpError::Invalid));
        assert_eq!(sub("${NO:?set $A}").unwrap_err().to_string(), "required variable NO is missing a value: set a");
        assert_eq!(sub("${EMPTY?x}").as_deref(), Ok(""));
        assert!(sub(&"${A:-".repeat(2000)).is_err());
    }

    #[test]
    fn mentions_are_found() {
        let found = mentions("${A:-x}$B${C:?why ${D:+e}}$$E");
        let names: Vec<_> = found.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["A", "B", "C", "D"]);
        assert!(found[2].required);
        assert_eq!(found[0].default, "x");
    }
}
