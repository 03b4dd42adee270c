//! Splits a command's words into flags and operands.

use barque_model::strconv;

use super::spec::{Args, Cmd, Flag, Kind};
use super::validate;

/// The flags given, in order, and what they mean.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    given: Vec<(&'static str, String)>,
}

/// What the words ask for.
pub(crate) enum Outcome {
    /// Run with these flags and operands; the notes go to standard error first.
    Run { flags: Flags, operands: Vec<String>, notes: Vec<String> },
    /// Print the help.
    Help { notes: Vec<String> },
}

/// Parses `words` against `cmd`'s flags; the error is the sentence without the usage line.
pub(crate) fn parse(cmd: &Cmd, words: &[String]) -> Result<Outcome, String> {
    let mut state = Parser { cmd, flags: Flags::default(), operands: Vec::new(), notes: Vec::new(), help: false };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            state.operands.extend(rest.cloned());
            break;
        }
        if !word.starts_with('-') || word == "-" {
            state.operands.push(word.clone());
            if !cmd.interspersed {
                state.operands.extend(rest.cloned());
                break;
            }
            continue;
        }
        match word.strip_prefix("--") {
            Some(long) => state.long(word, long, &mut rest)?,
            None => state.letters(&word[1..], &mut rest)?,
        }
        if state.help {
            return Ok(Outcome::Help { notes: state.notes });
        }
    }
    Ok(Outcome::Run { flags: state.flags, operands: state.operands, notes: state.notes })
}

struct Parser<'a> {
    cmd: &'a Cmd,
    flags: Flags,
    operands: Vec<String>,
    notes: Vec<String>,
    help: bool,
}

type Rest<'a> = std::slice::Iter<'a, String>;

impl Parser<'_> {
    fn long(&mut self, word: &str, long: &str, rest: &mut Rest<'_>) -> Result<(), String> {
        if long.is_empty() || long.starts_with('-') || long.starts_with('=') {
            return Err(format!("bad flag syntax: {word}"));
        }
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let Some(flag) = self.cmd.all_flags().find(|f| f.name == name) else {
            if name == "help" {
                self.help = value.is_none_or(|v| strconv::parse_bool(v).unwrap_or(false));
                return Ok(());
            }
            return Err(format!("unknown flag: --{name}"));
        };
        let value = match (value, flag.kind) {
            (Some(value), _) => value.to_owned(),
            (None, Kind::Bool) => "true".to_owned(),
            (None, _) => rest.next().cloned().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
        };
        self.set(flag, value)
    }

    fn letters(&mut self, letters: &str, rest: &mut Rest<'_>) -> Result<(), String> {
        let mut left = letters;
        while let Some(letter) = left.chars().next() {
            let after = &left[letter.len_utf8()..];
            let Some(flag) = self.cmd.all_flags().find(|f| f.letter == letter) else {
                if letter == 'h' {
                    self.notes.push("Flag shorthand -h has been deprecated, use --help".into());
                    self.help = true;
                    return Ok(());
                }
                return Err(format!("unknown shorthand flag: {letter:?} in -{left}"));
            };
            if let Some(value) = after.strip_prefix('=') {
                return self.set(flag, value.to_owned());
            }
            if matches!(flag.kind, Kind::Bool) {
                self.set(flag, "true".to_owned())?;
                left = after;
                continue;
            }
            if !after.is_empty() {
                return self.set(flag, after.to_owned());
            }
            let value = rest.next().cloned();
            let value = value.ok_or_else(|| format!("flag needs an argument: {letter:?} in -{left}"))?;
            return self.set(flag, value);
        }
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, value: String) -> Result<(), String> {
        if let Err(reason) = validate::check(flag.kind, &value) {
            return Err(format!("invalid argument {value:?} for {:?} flag: {reason}", flag.label()));
        }
        if !flag.deprecated.is_empty() {
            self.notes.push(format!("Flag --{} has been deprecated, {}", flag.name, flag.deprecated));
        }
        if flag.name == "help" && matches!(flag.kind, Kind::Bool) {
            self.help = value == "true";
            return Ok(());
        }
        self.flags.given.push((flag.name, value));
        Ok(())
    }
}

impl Flags {
    /// The last value given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// The last value given, or the empty string.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Whether the flag was given at all.
    pub(crate) fn given(&self, name: &str) -> bool {
        self.given.iter().any(|(n, _)| *n == name)
    }

    /// Every value given, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.given.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// Every value of a flag or of its other name, in order.
    pub(crate) fn all_of(&self, names: &[&str]) -> Vec<&str> {
        self.given.iter().filter(|(n, _)| names.contains(n)).map(|(_, v)| v.as_str()).collect()
    }

    /// A yes-or-no flag, with its default.
    pub(crate) fn on(&self, name: &str, default: bool) -> bool {
        self.get(name).and_then(|v| strconv::parse_bool(v).ok()).unwrap_or(default)
    }

    /// A yes-or-no flag that is off by default.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.on(name, false)
    }

    /// A whole number, checked when it was parsed.
    pub(crate) fn int(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(|v| strconv::parse_int(v).ok())
    }

    /// A size in bytes; -1 for swap without limit.
    pub(crate) fn bytes(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(|v| if v == "-1" { Some(-1) } else { validate::parse_bytes(v).ok() })
    }

    /// A duration in nanoseconds.
    pub(crate) fn nanos(&self, name: &str) -> Option<i64> {
        let duration = barque_model::duration::parse(self.get(name)?).ok()?;
        i64::try_from(duration.as_nanos()).ok()
    }

    /// The values of a comma-separated list flag.
    pub(crate) fn strings(&self, name: &str) -> Vec<String> {
        self.all(name).iter().flat_map(|v| barque_model::csv::csv(v)).collect()
    }

    /// The names of the flags given.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.given.iter().map(|(n, _)| *n)
    }

    #[cfg(test)]
    pub(crate) fn from_pairs(pairs: &[(&'static str, &str)]) -> Flags {
        Flags { given: pairs.iter().map(|(n, v)| (*n, (*v).to_owned())).collect() }
    }
}

/// Checks the number of operands; the error is the whole message with usage and where to look.
pub(crate) fn check_args(cmd: &Cmd, program: &str, path: &str, count: usize) -> Result<(), String> {
    let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
    let (wants, look) = match cmd.args {
        Args::Any => return Ok(()),
        Args::None if count == 0 => return Ok(()),
        Args::None => ("accepts no arguments".to_owned(), "Run"),
        Args::Exactly(n) if count == n => return Ok(()),
        Args::Exactly(n) => (format!("requires {n} {}", plural(n)), "Run"),
        Args::AtLeast(n) if count >= n => return Ok(()),
        Args::AtLeast(n) => (format!("requires at least {n} {}", plural(n)), "See"),
        Args::AtMost(n) if count <= n => return Ok(()),
        Args::AtMost(n) => (format!("requires at most {n} {}", plural(n)), "Run"),
        Args::Between(low, high) if (low..=high).contains(&count) => return Ok(()),
        Args::Between(low, high) => (format!("requires at least {low} and at most {high} {}", plural(high)), "Run"),
    };
    let usage = super::usage_line(cmd, path);
    Err(format!("{program}: '{path}' {wants}\n\nUsage:  {usage}\n\n{look} '{path} --help' for more information"))
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Cmd, Flag, Kind, flag};
    use super::*;

    fn any(_: &str) -> Result<(), String> {
        Ok(())
    }

    static FLAGS: &[Flag] = &[
        flag("detach", Kind::Bool, "").letter('d'),
        flag("publish", Kind::List(any), "").letter('p'),
        flag("name", Kind::Str, ""),
        flag("last", Kind::Int, "").letter('n'),
    ];
    static RUN: Cmd = Cmd::group("run", "", &[]).flags(&[FLAGS]);

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn ok(text: &str) -> (Flags, Vec<String>) {
        match parse(&RUN, &words(text)) {
            Ok(Outcome::Run { flags, operands, .. }) => (flags, operands),
            Ok(Outcome::Help { .. }) => panic!("help"),
            Err(e) => panic!("{e}"),
        }
    }

    fn fault(text: &str) -> String {
        parse(&RUN, &words(text)).err().expect("an error")
    }

    #[test]
    fn letters_bundle_and_take_values() {
        let (flags, operands) = ok("-dp 5000:5000 -p=1 -p2 flask -x --name y");
        assert!(flags.is("detach"));
        assert_eq!(flags.all("publish"), ["5000:5000", "1", "2"]);
        assert_eq!(operands, ["flask", "-x", "--name", "y"]);
    }

    #[test]
    fn faults_are_named_as_docker_names_them() {
        assert_eq!(fault("--foo"), "unknown flag: --foo");
        assert_eq!(fault("-dQ"), "unknown shorthand flag: 'Q' in -Q");
        assert_eq!(fault("--name"), "flag needs an argument: --name");
        assert_eq!(fault("-dp"), "flag needs an argument: 'p' in -p");
        assert_eq!(fault("---x"), "bad flag syntax: ---x");
        assert_eq!(
            fault("-n x"),
            "invalid argument \"x\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            fault("--detach=x"),
            "invalid argument \"x\" for \"-d, --detach\" flag: strconv.ParseBool: parsing \"x\": invalid syntax"
        );
    }

    #[test]
    fn help_wins_and_short_help_is_deprecated() {
        assert!(matches!(parse(&RUN, &words("--help --foo")), Ok(Outcome::Help { .. })));
        let Ok(Outcome::Help { notes }) = parse(&RUN, &words("-h")) else { panic!("help") };
        assert_eq!(notes, ["Flag shorthand -h has been deprecated, use --help"]);
    }
}
