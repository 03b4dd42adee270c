//! dockerd's command line.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use barque_model::strconv::parse_bool;
use barque_model::{Error, Result};

use super::options::{self, Kind, Opt};
use super::values::{Value, Values};

/// What a command line asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    pub values: Values,
    /// `--config-file`; the default one may be missing, this one not.
    pub config_file: Option<String>,
    /// `--validate`: check the configuration and end.
    pub validate: bool,
    /// `--help` or `-h`.
    pub help: bool,
    /// `--version` or `-v`.
    pub version: bool,
}

impl Flags {
    /// Parses the words after the command's name.
    ///
    /// # Errors
    /// An unknown flag (with the likely one), a missing or malformed value, words that are no flags.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Flags> {
        let mut flags = Flags::default();
        let mut words = words.iter().map(AsRef::as_ref);
        while let Some(word) = words.next() {
            match word {
                "--help" | "-h" => flags.help = true,
                "--version" | "-v" => flags.version = true,
                _ => {
                    let (name, opt, value) = split(word)?;
                    let value = match value {
                        Some(value) => value,
                        None if opt.kind == Kind::Bool => "true".to_owned(),
                        None => words
                            .next()
                            .map(str::to_owned)
                            .ok_or_else(|| Error::invalid(format!("flag needs an argument: {name}")))?,
                    };
                    flags.set(&name, opt, &value)?;
                }
            }
        }
        Ok(flags)
    }

    fn set(&mut self, name: &str, opt: &'static Opt, text: &str) -> Result<()> {
        let invalid = |why: &str| Error::invalid(format!("invalid argument {text:?} for \"{name}\" flag: {why}"));
        match opt.flag {
            "config-file" => {
                self.config_file = Some(text.to_owned());
                return Ok(());
            }
            "validate" => {
                self.validate = parse_bool(text).map_err(|_| invalid("it is not a boolean"))?;
                return Ok(());
            }
            _ => {}
        }
        let have = self.values.0.remove(opt.name());
        let value = match opt.kind {
            Kind::Bool => Value::Bool(parse_bool(text).map_err(|_| invalid("it is not a boolean"))?),
            Kind::Int => Value::Int(text.parse().map_err(|_| invalid("it is not a number"))?),
            Kind::Text => Value::Text(text.to_owned()),
            Kind::List => {
                let mut items = match have {
                    Some(Value::List(items)) => items,
                    _ => Vec::new(),
                };
                items.push(text.to_owned());
                Value::List(items)
            }
            Kind::Map => {
                let mut entries = match have {
                    Some(Value::Map(entries)) => entries,
                    _ => BTreeMap::new(),
                };
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                entries.insert(key.to_owned(), value.to_owned());
                Value::Map(entries)
            }
            Kind::Json => Value::Json(document(opt.flag, have, text).map_err(|why| invalid(&why))?),
        };
        self.values.0.insert(opt.name(), value);
        Ok(())
    }
}

/// Splits `--name=value`, `-nvalue`, `-n=value`.
fn split(word: &str) -> Result<(String, &'static Opt, Option<String>)> {
    if let Some(long) = word.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let opt = options::by_flag(name).ok_or_else(|| {
            let error = Error::invalid(format!("unknown flag: --{name}"));
            match options::likely(name, options::OPTIONS.iter().map(|opt| opt.flag)) {
                Some(likely) => error.with_hint(format!("did you mean --{likely}?")),
                None => error,
            }
        })?;
        return Ok((format!("--{name}"), opt, value));
    }
    let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
    let Some(letter) = letters.next() else {
        return Err(Error::invalid(format!("\"dockerd\" accepts no arguments: {word:?}")));
    };
    let opt = options::by_short(letter)
        .ok_or_else(|| Error::invalid(format!("unknown shorthand flag: '{letter}' in {word}")))?;
    let rest = letters.as_str();
    let value = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest).to_owned());
    Ok((format!("-{letter}, --{}", opt.flag), opt, value))
}

/// The document that a flag of a structured option adds to.
fn document(flag: &str, have: Option<Value>, text: &str) -> Result<serde_json::Value, String> {
    use serde_json::{Map, Value as Json, json};
    let have = match have {
        Some(Value::Json(have)) => Some(have),
        _ => None,
    };
    if flag == "default-address-pool" {
        let mut list = match have {
            Some(Json::Array(list)) => list,
            _ => Vec::new(),
        };
        let (mut base, mut size) = (None, None);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("base", value)) => base = Some(value.to_owned()),
                Some(("size", value)) => size = value.parse::<u8>().ok(),
                _ => return Err("expected base=SUBNET,size=LENGTH".into()),
            }
        }
        list.push(json!({"base": base.ok_or("base is missing")?, "size": size.ok_or("size is missing or no number")?}));
        return Ok(Json::Array(list));
    }
    let mut object = match have {
        Some(Json::Object(object)) => object,
        _ => Map::new(),
    };
    let (key, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    let value = match flag {
        "add-runtime" => json!({"path": value}),
        "feature" => Json::Bool(parse_bool(value).map_err(|_| "expected NAME=true or NAME=false")?),
        "default-ulimit" => {
            let (soft, hard) = value.split_once(':').unwrap_or((value, value));
            let number = |text: &str| text.parse::<i64>().map_err(|_| "expected NAME=SOFT[:HARD]".to_owned());
            json!({"Name": key, "Soft": number(soft)?, "Hard": number(hard)?})
        }
        "default-network-opt" => {
            let (name, value) = value.split_once('=').ok_or("expected DRIVER=NAME=VALUE")?;
            json!({name: value})
        }
        _ => Json::String(value.to_owned()),
    };
    object.insert(key.to_owned(), value);
    Ok(Json::Object(object))
}

/// The list of options for `--help`, one a line.
pub fn help() -> String {
    let mut out = String::new();
    for opt in options::OPTIONS.iter().filter(|opt| !opt.flag.is_empty()) {
        let short = opt.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
        let kind = match opt.kind {
            Kind::Bool => "",
            Kind::Int => " int",
            Kind::Text => " string",
            Kind::List => " list",
            Kind::Map | Kind::Json => " key=value",
        };
        let left = format!("  {short}--{}{kind}", opt.flag);
        let _infallible = writeln!(out, "{left:<44} {}", opt.help);
    }
    out
}
