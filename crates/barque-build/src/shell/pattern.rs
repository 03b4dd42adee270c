//! Shell patterns (`*`, `?`, `\`) of `${a#p}`, `${a%p}` and `${a/p/r}`, as regular expressions.

use regex::{Regex, RegexBuilder};

fn compile(glob: &str, greedy: bool, anchored: bool) -> Result<Regex, String> {
    let invalid = |why: String| format!("invalid pattern ({glob}) in substitution: {why}");
    let mut out = String::with_capacity(glob.len() + 8);
    if anchored {
        out.push('^');
    }
    let mut chars = glob.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(if greedy { ".*" } else { ".*?" }),
            '?' => out.push('.'),
            '\\' => match chars.next() {
                // `}` and `/` must be escaped inside `${}`; the escape is no part of the pattern.
                Some(c @ ('}' | '/' | '*' | '?' | '\\')) => out.push_str(&regex::escape(&c.to_string())),
                Some(c) => return Err(invalid(format!("invalid escape '\\{c}'"))),
                None => return Err(invalid("nothing follows the escape".into())),
            },
            c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    RegexBuilder::new(&out).size_limit(1 << 20).build().map_err(|_| invalid("it is too long".into()))
}

/// Removes the shortest or longest (`greedy`) match at the start.
pub(super) fn trim_prefix(glob: &str, value: &str, greedy: bool) -> Result<String, String> {
    let end = compile(glob, greedy, true)?.find(value).map_or(0, |m| m.end());
    Ok(value[end..].to_owned())
}

/// Removes the shortest or longest match at the end, by mirroring both.
pub(super) fn trim_suffix(glob: &str, value: &str, greedy: bool) -> Result<String, String> {
    let mirrored: String = value.chars().rev().collect();
    let trimmed = trim_prefix(&mirror(glob), &mirrored, greedy)?;
    Ok(trimmed.chars().rev().collect())
}

/// Replaces the first match, or all of them.
pub(super) fn replace(glob: &str, value: &str, with: &str, all: bool) -> Result<String, String> {
    let regex = compile(glob, true, false)?;
    let limit = usize::from(!all);
    Ok(regex.replacen(value, limit, regex::NoExpand(with)).into_owned())
}

/// The pattern backwards, with escaped characters kept together.
fn mirror(glob: &str) -> String {
    let mut units: Vec<String> = Vec::new();
    let mut chars = glob.chars();
    while let Some(c) = chars.next() {
        let mut unit = String::from(c);
        if c == '\\' {
            unit.extend(chars.next());
        }
        units.push(unit);
    }
    units.iter().rev().map(String::as_str).collect()
}
