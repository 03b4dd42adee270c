//! The functions a template may call: Go's own and those the `docker` client adds.

use std::fmt::Write as _;
use std::rc::Rc;

use super::Data;
use super::format::printf;

const GO: [&str; 18] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf",
    "println", "slice",
];
const DOCKER: [&str; 9] = ["json", "join", "lower", "pad", "split", "title", "truncate", "upper", "urlquery"];

/// Whether `name` is a function.
pub(crate) fn exists(name: &str) -> bool {
    GO.contains(&name) || DOCKER.contains(&name)
}

/// What a call gives: a value, or an error to be put after `error calling NAME: `, or one about the call itself.
pub(crate) enum Fault {
    Inside(String),
    Call(String),
}

type Given = Result<Data, Fault>;

fn inside<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Inside(text.into()))
}

/// Calls a function; `and` and `or` are handled by the interpreter, which may skip their arguments.
/// `titles`: the data are column titles, which keep their form.
pub(crate) fn call(name: &str, args: &[Data], titles: bool) -> Given {
    if titles && name != "pad" && DOCKER.contains(&name) && !args.is_empty() {
        return Ok(args[0].clone());
    }
    match (name, args) {
        ("not", [a]) => Ok(Data::Bool(!a.truth())),
        ("len", [a]) => len(a),
        ("index", [first, keys @ ..]) => keys.iter().try_fold(first.clone(), |value, key| index(&value, key)),
        ("slice", [first, bounds @ ..]) if bounds.len() <= 2 => slice(first, bounds),
        ("print", args) => Ok(Data::from(print(args))),
        ("println", args) => {
            let words: Vec<String> = args.iter().map(Data::print).collect();
            Ok(Data::from(words.join(" ") + "\n"))
        }
        ("printf", [format, rest @ ..]) => Ok(Data::from(printf(&string(format)?, rest))),
        ("html", args) => Ok(Data::from(html(&print(args)))),
        ("js", args) => Ok(Data::from(js(&print(args)))),
        ("urlquery", args) => Ok(Data::from(query_escape(&print(args)))),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => eq(first, rest),
        ("ne", [a, b]) => equal(a, b).map(|same| Data::Bool(!same)),
        ("lt", [a, b]) => less(a, b).map(Data::Bool),
        ("le", [a, b]) => Ok(Data::Bool(less(a, b)? || equal(a, b)?)),
        ("gt", [a, b]) => Ok(Data::Bool(!less(a, b)? && !equal(a, b)?)),
        ("ge", [a, b]) => Ok(Data::Bool(!less(a, b)?)),
        ("json", [a]) => Ok(Data::from(json(a))),
        ("lower", [a]) => Ok(Data::from(string(a)?.to_lowercase())),
        ("upper", [a]) => Ok(Data::from(string(a)?.to_uppercase())),
        ("title", [a]) => Ok(Data::from(title_case(&string(a)?))),
        ("split", [a, separator]) => split(&string(a)?, &string(separator)?),
        ("join", [list, separator]) => join(list, &string(separator)?),
        ("pad", [a, before, after]) => pad(&string(a)?, int(before)?, int(after)?),
        ("truncate", [a, length]) => truncate(&string(a)?, int(length)?),
        ("call", [Data::Method(method), rest @ ..]) => method(rest).map_err(Fault::Inside),
        ("call", [other, ..]) => inside(format!("non-function of type {}", other.type_name())),
        _ => Err(Fault::Call(wrong_number(name, args.len()))),
    }
}

fn wrong_number(name: &str, got: usize) -> String {
    let want = match name {
        "not" | "len" | "json" | "lower" | "upper" | "title" => "1",
        "split" | "join" | "truncate" | "ne" | "lt" | "le" | "gt" | "ge" => "2",
        "pad" => "3",
        "slice" if got > 0 => {
            return "error calling slice: too many slice indexes: ".to_owned() + &(got - 1).to_string();
        }
        _ => return format!("wrong number of args for {name}: want at least 1 got {got}"),
    };
    format!("wrong number of args for {name}: want {want} got {got}")
}

/// Go's `url.QueryEscape`: a blank is `+`, everything but letters, digits and `-_.~` is `%XX`.
pub fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// JSON on one line, `<`, `>` and `&` as they are.
pub(crate) fn json(value: &Data) -> String {
    let text = serde_json::to_string(&value.to_json()).unwrap_or_default();
    match value {
        // Docker's client writes the lines of its listings by Go's other rule.
        Data::Struct(fields) if fields.is_row => {
            text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
        }
        _ => text,
    }
}

fn string(value: &Data) -> Result<String, Fault> {
    match value {
        Data::Str(s) => Ok(s.to_string()),
        Data::Nil | Data::NoValue => Err(Fault::Call("invalid value; expected string".into())),
        other => Err(Fault::Call(format!("wrong type for value; expected string; got {}", other.type_name()))),
    }
}

fn int(value: &Data) -> Result<i64, Fault> {
    match value {
        Data::Int(i) => Ok(*i),
        other => Err(Fault::Call(format!("expected integer; found {}", other.print()))),
    }
}

fn len(value: &Data) -> Given {
    let length = match value {
        Data::Str(s) => s.len(),
        Data::List(items) => items.len(),
        Data::Map(map) => map.len(),
        Data::NilList | Data::NilMap => 0,
        Data::Nil | Data::NoValue => return inside("len of nil pointer"),
        other => return inside(format!("len of type {}", other.type_name())),
    };
    Ok(Data::Int(length as i64))
}

fn index(value: &Data, key: &Data) -> Given {
    match (value, key) {
        (Data::List(items), Data::Int(i)) => match usize::try_from(*i).ok().and_then(|i| items.get(i)) {
            Some(item) => Ok(item.clone()),
            None => inside(format!("index out of range: {i}")),
        },
        (Data::NilList, Data::Int(i)) => inside(format!("index out of range: {i}")),
        (Data::List(_) | Data::NilList, Data::Str(_)) => inside("cannot index slice/array with type string"),
        (Data::List(_) | Data::NilList, _) => inside("cannot index slice/array with nil"),
        (Data::Map(map), Data::Str(key)) => Ok(match map.get(&**key) {
            Some(found) => found.clone(),
            None => match map.values().next() {
                Some(Data::Str(_)) | None => Data::str(""),
                Some(_) => Data::Nil,
            },
        }),
        (Data::NilMap, Data::Str(_)) => Ok(Data::str("")),
        (Data::Map(_) | Data::NilMap, key) => inside(format!("value has type {}; should be string", key.type_name())),
        (Data::Str(s), Data::Int(i)) => match usize::try_from(*i).ok().and_then(|i| s.as_bytes().get(i)) {
            Some(byte) => Ok(Data::Int(i64::from(*byte))),
            None => inside(format!("index out of range: {i}")),
        },
        (Data::Nil | Data::NoValue, _) => inside("index of untyped nil"),
        (other, _) => inside(format!("can't index item of type {}", other.type_name())),
    }
}

fn slice(value: &Data, bounds: &[Data]) -> Given {
    let length = match value {
        Data::Str(s) => s.len(),
        Data::List(items) => items.len(),
        Data::NilList => 0,
        other => return inside(format!("can't slice item of type {}", other.type_name())),
    };
    let mut range = [0, length];
    for (place, bound) in range.iter_mut().zip(bounds) {
        let Data::Int(at) = bound else {
            return inside(format!("cannot index slice/array with type {}", bound.type_name()));
        };
        match usize::try_from(*at).ok().filter(|&at| at <= length) {
            Some(at) => *place = at,
            None => return inside(format!("index out of range: {at}")),
        }
    }
    let [from, to] = range;
    if from > to {
        return inside(format!("invalid slice index: {from} > {to}"));
    }
    match value {
        Data::Str(s) => Ok(Data::from(String::from_utf8_lossy(&s.as_bytes()[from..to]).into_owned())),
        Data::List(items) => Ok(Data::List(Rc::new(items[from..to].to_vec()))),
        _ => Ok(Data::NilList),
    }
}

/// Blanks stand between two operands when neither is a string.
fn print(args: &[Data]) -> String {
    let mut out = String::new();
    for (index, arg) in args.iter().enumerate() {
        let text = |d: &Data| matches!(d, Data::Str(_));
        if index > 0 && !text(arg) && !text(&args[index - 1]) {
            out.push(' ');
        }
        out.push_str(&arg.print());
    }
    out
}

fn eq(first: &Data, rest: &[Data]) -> Given {
    for other in rest {
        if equal(first, other)? {
            return Ok(Data::Bool(true));
        }
    }
    Ok(Data::Bool(false))
}

fn equal(a: &Data, b: &Data) -> Result<bool, Fault> {
    Ok(match (a, b) {
        (Data::Bool(a), Data::Bool(b)) => a == b,
        (Data::Int(a), Data::Int(b)) => a == b,
        (Data::Float(a), Data::Float(b)) => a == b,
        (Data::Str(a), Data::Str(b)) => a == b,
        (Data::Nil | Data::NoValue, Data::Nil | Data::NoValue) => true,
        (Data::Nil | Data::NoValue, _) | (_, Data::Nil | Data::NoValue) => false,
        (Data::List(_) | Data::Map(_) | Data::NilList | Data::NilMap, _) => {
            return inside(format!("non-comparable type {}: {}", a.print(), a.type_name()));
        }
        _ => return inside("incompatible types for comparison"),
    })
}

fn less(a: &Data, b: &Data) -> Result<bool, Fault> {
    Ok(match (a, b) {
        (Data::Int(a), Data::Int(b)) => a < b,
        (Data::Float(a), Data::Float(b)) => a < b,
        (Data::Str(a), Data::Str(b)) => a < b,
        (Data::Int(_) | Data::Float(_) | Data::Str(_), Data::Int(_) | Data::Float(_) | Data::Str(_)) => {
            return inside("incompatible types for comparison");
        }
        _ => return inside("invalid type for comparison"),
    })
}

fn split(text: &str, separator: &str) -> Given {
    let parts: Vec<Data> = if separator.is_empty() {
        text.chars().map(|c| Data::from(c.to_string())).collect()
    } else {
        text.split(separator).map(Data::str).collect()
    };
    Ok(Data::List(Rc::new(parts)))
}

fn join(list: &Data, separator: &str) -> Given {
    match list {
        Data::NilList => Ok(Data::str("")),
        Data::List(items) => {
            let words: Vec<String> = items.iter().map(Data::print).collect();
            Ok(Data::from(words.join(separator)))
        }
        Data::Str(_) => Ok(list.clone()),
        other => Err(Fault::Call(format!("wrong type for value; expected []string; got {}", other.type_name()))),
    }
}

fn pad(text: &str, before: i64, after: i64) -> Given {
    if text.is_empty() {
        return Ok(Data::str(""));
    }
    let blanks = |n: i64| " ".repeat(usize::try_from(n).unwrap_or(0).min(10_000));
    Ok(Data::from(format!("{}{text}{}", blanks(before), blanks(after))))
}

fn truncate(text: &str, length: i64) -> Given {
    let length = usize::try_from(length).unwrap_or(0);
    if text.len() < length {
        return Ok(Data::str(text));
    }
    Ok(Data::from(String::from_utf8_lossy(&text.as_bytes()[..length]).into_owned()))
}

/// The first letter of each word in upper case.
fn title_case(text: &str) -> String {
    let mut previous = ' ';
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let inside_word = previous.is_alphanumeric() || previous == '_' || previous == '\'';
        if inside_word {
            out.push(c)
        } else {
            out.extend(c.to_uppercase())
        }
        previous = c;
    }
    out
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('\'', "&#39;").replace('"', "&#34;").replace('<', "&lt;").replace('>', "&gt;")
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}
