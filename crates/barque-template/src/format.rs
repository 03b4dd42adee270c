//! `printf` of Go's `fmt`, for the verbs and flags that make sense for template data.

use std::fmt::Write as _;

use barque_model::strconv::quote;

use super::Data;

/// A float as `%v` shows it.
pub(crate) fn float_g(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let exponent = value.abs().log10().floor();
    if !(-4.0..21.0).contains(&exponent) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or_default();
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

/// The flags, width and precision of one verb.
#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    zero: bool,
    space: bool,
    sharp: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Wider fields are cut to this, so that a template cannot ask for memory without end.
const MAX_WIDTH: usize = 1_000_000;

/// Formats `args` by `format`.
pub(crate) fn printf(format: &str, args: &[Data]) -> String {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(&flag) = chars.peek() {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '0' => spec.zero = true,
                ' ' => spec.space = true,
                '#' => spec.sharp = true,
                _ => break,
            }
            chars.next();
        }
        spec.width = number(&mut chars, args, &mut next);
        if chars.peek() == Some(&'.') {
            chars.next();
            spec.precision = Some(number(&mut chars, args, &mut next).unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.get(next) {
                Some(arg) => {
                    next += 1;
                    out.push_str(&one(&spec, verb, arg));
                }
                None => {
                    let _ = write!(out, "%!{verb}(MISSING)");
                }
            },
        }
    }
    if next < args.len() {
        let extra: Vec<String> = args[next..].iter().map(|a| format!("{}={}", a.type_name(), a.print())).collect();
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    out
}

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, args: &[Data], next: &mut usize) -> Option<usize> {
    if chars.peek() == Some(&'*') {
        chars.next();
        let value = args.get(*next).cloned();
        *next += 1;
        return match value {
            Some(Data::Int(width)) => usize::try_from(width).ok().map(|w| w.min(MAX_WIDTH)),
            _ => None,
        };
    }
    let mut digits = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    if digits.is_empty() { None } else { Some(digits.parse().unwrap_or(MAX_WIDTH).min(MAX_WIDTH)) }
}

fn one(spec: &Spec, verb: char, arg: &Data) -> String {
    let numeric = matches!(arg, Data::Int(_) | Data::Float(_)) && !matches!(verb, 's' | 'q' | 'T');
    let body = match (verb, arg) {
        ('v', Data::Int(i)) => signed(spec, *i, &i.unsigned_abs().to_string()),
        ('v', arg) if spec.sharp => sharp(arg),
        ('v', arg) => arg.print(),
        ('T', arg) => arg.type_name(),
        ('t', Data::Bool(b)) => b.to_string(),
        ('d', Data::Int(i)) => signed(spec, *i, &i.unsigned_abs().to_string()),
        ('b', Data::Int(i)) => signed(spec, *i, &format!("{:b}", i.unsigned_abs())),
        ('o', Data::Int(i)) => signed(spec, *i, &format!("{:o}", i.unsigned_abs())),
        ('x', Data::Int(i)) => signed(spec, *i, &prefixed(spec, "0x", format!("{:x}", i.unsigned_abs()))),
        ('X', Data::Int(i)) => signed(spec, *i, &prefixed(spec, "0X", format!("{:X}", i.unsigned_abs()))),
        ('c', Data::Int(i)) => u32::try_from(*i).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
        ('f' | 'F', Data::Float(f)) => format!("{f:.*}", spec.precision.unwrap_or(6)),
        ('g', Data::Float(f)) => float_g(*f),
        ('e', Data::Float(f)) => exponent(*f, spec.precision.unwrap_or(6)),
        ('s', Data::Str(s)) => cut(spec, s),
        ('s', Data::List(_) | Data::Map(_) | Data::Struct(_) | Data::NilList | Data::NilMap) => arg.print(),
        ('q', Data::Str(s)) => quote(s),
        ('q', Data::List(items)) => {
            let items: Vec<String> = items.iter().map(|i| one(&Spec::default(), 'q', i)).collect();
            format!("[{}]", items.join(" "))
        }
        ('x', Data::Str(s)) => s.bytes().map(|b| format!("{b:02x}")).collect(),
        ('X', Data::Str(s)) => s.bytes().map(|b| format!("{b:02X}")).collect(),
        ('d', Data::List(items)) => {
            let items: Vec<String> = items.iter().map(|i| one(&Spec::default(), 'd', i)).collect();
            format!("[{}]", items.join(" "))
        }
        (verb, Data::Nil) => format!("%!{verb}(<nil>)"),
        (verb, arg) => format!("%!{verb}({}={})", arg.type_name(), arg.print()),
    };
    pad(spec, body, numeric)
}

fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn signed(spec: &Spec, value: i64, digits: &str) -> String {
    let sign = match (value < 0, spec.plus, spec.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    format!("{sign}{digits}")
}

fn prefixed(spec: &Spec, prefix: &str, digits: String) -> String {
    if spec.sharp { format!("{prefix}{digits}") } else { digits }
}

fn cut(spec: &Spec, text: &str) -> String {
    match spec.precision {
        Some(precision) => text.chars().take(precision).collect(),
        None => text.to_owned(),
    }
}

fn sharp(arg: &Data) -> String {
    match arg {
        Data::Str(s) => quote(s),
        Data::List(items) => {
            let items: Vec<String> = items.iter().map(sharp).collect();
            format!("{}{{{}}}", arg.type_name(), items.join(", "))
        }
        Data::Map(map) => {
            let items: Vec<String> = map.iter().map(|(k, v)| format!("{}:{}", quote(k), sharp(v))).collect();
            format!("{}{{{}}}", arg.type_name(), items.join(", "))
        }
        other => other.print(),
    }
}

fn pad(spec: &Spec, body: String, numeric: bool) -> String {
    let Some(width) = spec.width else { return body };
    let length = body.chars().count();
    if length >= width {
        return body;
    }
    let fill = width - length;
    if spec.minus {
        return body + &" ".repeat(fill);
    }
    if spec.zero && numeric {
        let (sign, digits) = match body.strip_prefix(['-', '+']) {
            Some(digits) => (&body[..1], digits),
            None => ("", body.as_str()),
        };
        return format!("{sign}{}{digits}", "0".repeat(fill));
    }
    let filler = if spec.zero { "0" } else { " " };
    filler.repeat(fill) + &body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_and_flags() {
        let s = |t: &str| Data::str(t);
        assert_eq!(printf("%-5s|%5s|", &[s("ab"), s("cd")]), "ab   |   cd|");
        assert_eq!(printf("%05d %x %+d", &[Data::Int(42), Data::Int(255), Data::Int(1)]), "00042 ff +1");
        assert_eq!(printf("%.2f %v", &[Data::Float(1.239), Data::Float(0.5)]), "1.24 0.5");
        assert_eq!(printf("%q %.3s", &[s("a\"b\n"), s("abcdef")]), "\"a\\\"b\\n\" abc");
        assert_eq!(printf("%d", &[s("x")]), "%!d(string=x)");
        assert_eq!(printf("%s %s", &[s("x")]), "x %!s(MISSING)");
        assert_eq!(printf("a", &[s("x")]), "a%!(EXTRA string=x)");
        assert_eq!(printf("100%%", &[]), "100%");
        assert_eq!(printf("%t %v", &[Data::Bool(true), Data::Nil]), "true <nil>");
    }

    #[test]
    fn floats_in_general_form() {
        assert_eq!(float_g(1.0), "1");
        assert_eq!(float_g(1e21), "1e+21");
        assert_eq!(float_g(0.00001), "1e-05");
    }
}
