//! Instructions that only change the image's configuration.

use std::time::Duration;

use barque_model::duration;

use super::flags::{Flags, Takes};
use super::run::{Command, command};
use crate::parse::line::{json, quoted_words, words};
use crate::parse::{Node, Word};
use crate::span::Diagnostic;

/// `name=value` of `ENV` and `LABEL`, quotes still in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub name: Word,
    pub value: Word,
    /// The old form `ENV name value`.
    pub legacy: bool,
}

/// One variable of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgDefault {
    pub name: Word,
    /// Quotes still in place.
    pub default: Option<Word>,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthcheckSpec {
    /// `None` is `HEALTHCHECK NONE`.
    pub command: Option<Command>,
    /// Zero is "not given".
    pub interval: Duration,
    pub timeout: Duration,
    pub start_period: Duration,
    pub start_interval: Duration,
    pub retries: u32,
}

fn fail<T>(node: &Node, message: impl Into<String>) -> Result<T, Diagnostic> {
    Err(Diagnostic::new(node.span, message))
}

pub(super) fn at_least_one<T>(node: &Node) -> Result<T, Diagnostic> {
    fail(node, format!("{} requires at least one argument", node.name()))
}

fn no_flags(node: &Node) -> Result<(), Diagnostic> {
    Flags::parse(node, &[]).map(drop)
}

/// The whole rest as one argument.
pub(super) fn single(node: &Node) -> Result<Word, Diagnostic> {
    no_flags(node)?;
    if node.rest.is_empty() {
        return fail(node, format!("{} requires exactly one argument", node.name()));
    }
    Ok(node.rest.word())
}

pub(super) fn pairs(node: &Node, escape: char) -> Result<Vec<Pair>, Diagnostic> {
    no_flags(node)?;
    let name = node.name();
    let list = quoted_words(&node.rest, escape);
    let Some(first) = list.first() else { return at_least_one(node) };
    let blank = |w: &Word| w.text.is_empty();
    if !first.text.contains('=') {
        let text = node.rest.as_str();
        let end = text.find(crate::parse::line::is_blank).unwrap_or(text.len());
        let value = node.rest.part(end..text.len()).trimmed();
        if end == text.len() {
            return Err(Diagnostic::new(node.span, format!("{name} must have two arguments"))
                .with_hint(format!("write {name} {text}=VALUE")));
        }
        return Ok(vec![Pair { name: node.rest.part(0..end).word(), value: value.word(), legacy: true }]);
    }
    let pair = |word: &Word| {
        let Some((name, value)) = word.text.split_once('=') else {
            let message = format!("Syntax error - can't find = in {:?}. Must be of the form: name=value", word.text);
            return Err(Diagnostic::new(word.span, message).with_hint("put values with spaces in double quotes"));
        };
        let part = |text: &str| Word { text: text.to_owned(), span: word.span };
        Ok(Pair { name: part(name), value: part(value), legacy: false })
    };
    let pairs = list.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    match pairs.iter().find(|p| blank(&p.name)) {
        Some(p) => Err(Diagnostic::new(p.name.span, format!("{name} names can not be blank"))),
        None => Ok(pairs),
    }
}

pub(super) fn arg(node: &Node, escape: char) -> Result<Vec<ArgDefault>, Diagnostic> {
    no_flags(node)?;
    let list = quoted_words(&node.rest, escape);
    if list.is_empty() {
        return at_least_one(node);
    }
    let one = |word: &Word| {
        let part = |text: &str| Word { text: text.to_owned(), span: word.span };
        match word.text.split_once('=') {
            Some(("", _)) => Err(Diagnostic::new(word.span, "ARG names can not be blank")),
            Some((name, value)) => Ok(ArgDefault { name: part(name), default: Some(part(value)) }),
            None => Ok(ArgDefault { name: word.clone(), default: None }),
        }
    };
    list.iter().map(one).collect()
}

pub(super) fn expose(node: &Node) -> Result<Vec<Word>, Diagnostic> {
    no_flags(node)?;
    let mut ports = words(&node.rest);
    if ports.is_empty() {
        return at_least_one(node);
    }
    ports.sort_by(|a, b| a.text.cmp(&b.text));
    Ok(ports)
}

pub(super) fn volume(node: &Node) -> Result<Vec<Word>, Diagnostic> {
    no_flags(node)?;
    let list = match json(&node.rest)? {
        Some(strings) => {
            let word = |s: String| Word { text: s.trim().to_owned(), span: node.rest.span() };
            strings.into_iter().map(word).collect()
        }
        None => words(&node.rest),
    };
    if list.is_empty() {
        return at_least_one(node);
    }
    if list.iter().any(|v| v.text.is_empty()) {
        return fail(node, "VOLUME specified can not be an empty string");
    }
    Ok(list)
}

/// `CMD` and `ENTRYPOINT`.
pub(super) fn default_command(node: &Node) -> Result<Command, Diagnostic> {
    no_flags(node)?;
    command(node)
}

pub(super) fn shell(node: &Node) -> Result<Vec<String>, Diagnostic> {
    no_flags(node)?;
    match json(&node.rest)? {
        Some(list) if list.is_empty() => at_least_one(node),
        Some(list) => Ok(list),
        None if node.rest.is_empty() => at_least_one(node),
        None => {
            let message = "SHELL requires the arguments to be in JSON form";
            Err(Diagnostic::new(node.span, message).with_hint("write SHELL [\"/bin/bash\", \"-c\"]"))
        }
    }
}

pub(super) fn healthcheck(node: &Node) -> Result<HealthcheckSpec, Diagnostic> {
    let text = node.rest.as_str();
    if text.is_empty() {
        return at_least_one(node);
    }
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let rest = node.rest.part(end..text.len()).trimmed();
    let mut spec = HealthcheckSpec {
        command: None,
        interval: Duration::ZERO,
        timeout: Duration::ZERO,
        start_period: Duration::ZERO,
        start_interval: Duration::ZERO,
        retries: 0,
    };
    match text[..end].to_uppercase().as_str() {
        "NONE" if rest.is_empty() => return Ok(spec),
        "NONE" => return fail(node, "HEALTHCHECK NONE takes no arguments"),
        "CMD" => {}
        other => {
            let message = format!("Unknown type {other:?} in HEALTHCHECK (try CMD)");
            return Err(Diagnostic::new(node.rest.span_of(0..end), message));
        }
    }
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let flags = Flags::parse(node, &names.map(|n| (n, Takes::Text)))?;
    spec.command = Some(match json(&rest)? {
        Some(args) if args.is_empty() => return fail(node, "Missing command after HEALTHCHECK CMD"),
        Some(args) => Command::Exec(args),
        None if rest.is_empty() => return fail(node, "Missing command after HEALTHCHECK CMD"),
        None => Command::Shell(rest.as_str().to_owned()),
    });
    spec.interval = interval(&flags, "interval")?;
    spec.timeout = interval(&flags, "timeout")?;
    spec.start_period = interval(&flags, "start-period")?;
    spec.start_interval = interval(&flags, "start-interval")?;
    if let Some(word) = flags.get("retries").filter(|w| !w.text.is_empty()) {
        spec.retries = match word.text.parse::<i32>() {
            Ok(n) if n < 0 => {
                return Err(Diagnostic::new(word.span, format!("--retries cannot be negative ({n})")));
            }
            Ok(n) => n as u32,
            Err(_) => {
                let message = format!("strconv.ParseInt: parsing {:?}: invalid syntax", word.text);
                return Err(Diagnostic::new(word.span, message).with_hint("--retries takes a number"));
            }
        };
    }
    Ok(spec)
}

fn interval(flags: &Flags, name: &str) -> Result<Duration, Diagnostic> {
    let Some(word) = flags.get(name).filter(|w| !w.text.is_empty()) else { return Ok(Duration::ZERO) };
    // Less than nothing is a time, too.
    let (text, below) = word.text.strip_prefix('-').map_or((word.text.as_str(), false), |text| (text, true));
    let value = duration::parse(text)
        .map_err(|e| Diagnostic::new(word.span, e.message()).with_hint("times look like 30s, 1m30s or 500ms"))?;
    if !value.is_zero() && (below || value < Duration::from_millis(1)) {
        return Err(Diagnostic::new(word.span, format!("Interval {name:?} cannot be less than 1ms")));
    }
    Ok(value)
}
