//! Runs a parsed template.

use super::Template;
use super::data::Data;
use super::funcs::{self, Fault};
use super::parse::{Command, Node, Pipe, Word, WordKind};

/// What a missing key of a map is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Shown as `<no value>`.
    NoValue,
    /// An error.
    Error,
}

/// Runs `template` over `data`.
pub(crate) fn execute(template: &Template, data: &Data, missing: Missing) -> Result<String, String> {
    run(template, data, missing, false)
}

/// Runs `template` over column titles.
pub(crate) fn execute_titles(template: &Template, titles: &Data) -> Result<String, String> {
    run(template, titles, Missing::NoValue, true)
}

fn run(template: &Template, data: &Data, missing: Missing, titles: bool) -> Result<String, String> {
    let variables = vec![("$".to_owned(), data.clone())];
    let mut machine = Machine {
        template,
        missing,
        titles,
        variables,
        out: String::new(),
        depth: 0,
        work: MAX_WORK,
        name: template.name.clone(),
    };
    machine.nodes(&template.root, data)?;
    Ok(machine.out)
}

struct Machine<'a> {
    template: &'a Template,
    missing: Missing,
    titles: bool,
    variables: Vec<(String, Data)>,
    out: String,
    depth: usize,
    /// What is left of [`MAX_WORK`].
    work: usize,
    /// The template that runs: this one, or one of its `{{define}}`s.
    name: String,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// Blocks and templates inside one another deeper than this are stopped: each takes room on the stack, of which a
/// worker of the daemon has two megabytes.
const MAX_DEPTH: usize = 250;

/// What a template may cost: each byte of text that goes in or out of a function or is written one, each step [`STEP`].
const MAX_WORK: usize = 64 << 20;
const STEP: usize = 32;

/// Bytes of a text; other values are the caller's, or made of texts that were paid for.
fn length(value: &Data) -> usize {
    if let Data::Str(text) = value { text.len() } else { 0 }
}

impl Machine<'_> {
    fn fault<T>(&self, at: usize, node: &dyn std::fmt::Display, message: &str) -> Result<T, String> {
        let text = &self.template.text[..at.min(self.template.text.len())];
        let line = 1 + text.matches('\n').count();
        let column = text.rfind('\n').map_or(text.len(), |newline| text.len() - newline - 1);
        Err(format!(
            "template: {}:{line}:{column}: executing \"{}\" at <{node}>: {message}",
            self.template.name, self.name
        ))
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Data) -> Result<Flow, String> {
        if self.depth >= MAX_DEPTH {
            return Err(self.stopped(&format!("exceeded maximum template depth ({MAX_DEPTH})")));
        }
        self.depth += 1;
        let mut flow = Flow::On;
        for node in nodes {
            self.pay(STEP)?;
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.depth -= 1;
        Ok(flow)
    }

    /// Takes that much of [`MAX_WORK`].
    fn pay(&mut self, work: usize) -> Result<(), String> {
        self.work = self.work.checked_sub(work).ok_or_else(|| self.stopped("too much to execute"))?;
        Ok(())
    }

    fn stopped(&self, why: &str) -> String {
        format!("template: {}: {why}", self.template.name)
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        self.pay(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Data) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.write(&value.print())?;
                }
            }
            Node::If { cond, then, other } => {
                let mark = self.variables.len();
                let branch = if self.pipe(cond, dot)?.truth() { then } else { other };
                let flow = self.nodes(branch, dot)?;
                self.variables.truncate(mark);
                return Ok(flow);
            }
            Node::With { cond, then, other } => {
                let mark = self.variables.len();
                let value = self.pipe(cond, dot)?;
                let flow = if value.truth() { self.nodes(then, &value)? } else { self.nodes(other, dot)? };
                self.variables.truncate(mark);
                return Ok(flow);
            }
            Node::Range { over, each, other } => return self.range(over, each, other, dot),
            Node::Template { at, name, with } => self.template(*at, name, with.as_ref(), dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn template(&mut self, at: usize, name: &str, with: Option<&Pipe>, dot: &Data) -> Result<(), String> {
        let shown = format!("{{{{template {name:?}}}}}");
        let Some(body) = self.template.defined.get(name) else {
            return self.fault(at, &shown, &format!("template {name:?} not defined"));
        };
        let value = match with {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Data::NoValue,
        };
        let outer = std::mem::replace(&mut self.variables, vec![("$".into(), value.clone())]);
        let outer_name = std::mem::replace(&mut self.name, name.to_owned());
        self.nodes(body, &value)?;
        self.name = outer_name;
        self.variables = outer;
        Ok(())
    }

    fn range(&mut self, over: &Pipe, each: &[Node], other: &[Node], dot: &Data) -> Result<Flow, String> {
        let mark = self.variables.len();
        let value = self.pipe_value(over, dot)?;
        let items: Vec<(Data, Data)> = match &value {
            Data::List(items) => items.iter().enumerate().map(|(i, v)| (Data::Int(i as i64), v.clone())).collect(),
            Data::Map(map) => map.iter().map(|(k, v)| (Data::str(k), v.clone())).collect(),
            Data::Int(count) => (0..*count).map(|i| (Data::Int(i), Data::Int(i))).collect(),
            Data::Nil | Data::NilList | Data::NilMap | Data::NoValue => Vec::new(),
            other => return self.fault(over.at, over, &format!("range can't iterate over {}", other.print())),
        };
        if items.is_empty() {
            let flow = self.nodes(other, dot)?;
            self.variables.truncate(mark);
            return Ok(flow);
        }
        for (key, item) in items {
            let inner = self.variables.len();
            match &over.variables[..] {
                [] => {}
                [one] => self.bind(one, over.assign, item.clone()),
                [first, second, ..] => {
                    self.bind(first, over.assign, key);
                    self.bind(second, over.assign, item.clone());
                }
            }
            let flow = self.nodes(each, &item)?;
            self.variables.truncate(inner);
            if flow == Flow::Break {
                break;
            }
        }
        self.variables.truncate(mark);
        Ok(Flow::On)
    }

    fn bind(&mut self, name: &str, assign: bool, value: Data) {
        if assign && let Some(slot) = self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            slot.1 = value;
            return;
        }
        self.variables.push((name.to_owned(), value));
    }

    /// A pipeline's value, bound to its variables.
    fn pipe(&mut self, pipe: &Pipe, dot: &Data) -> Result<Data, String> {
        let value = self.pipe_value(pipe, dot)?;
        for name in &pipe.variables {
            self.bind(name, pipe.assign, value.clone());
        }
        Ok(value)
    }

    fn pipe_value(&mut self, pipe: &Pipe, dot: &Data) -> Result<Data, String> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        Ok(value.unwrap_or(Data::NoValue))
    }

    fn command(&mut self, command: &Command, dot: &Data, last: Option<Data>) -> Result<Data, String> {
        let Some(first) = command.words.first() else { return Ok(Data::NoValue) };
        let rest = &command.words[1..];
        match &first.kind {
            WordKind::Function(name) => self.function(name, command, rest, dot, last),
            WordKind::Field(_) | WordKind::Variable(_) | WordKind::Group(..) => {
                let value = self.word(first, dot)?;
                if let Data::Method(method) = &value {
                    let mut args = Vec::new();
                    for word in rest {
                        args.push(self.word(word, dot)?);
                    }
                    args.extend(last);
                    return method(&args).or_else(|message| self.fault(first.at, first, &message));
                }
                if !rest.is_empty() || last.is_some() {
                    return self.fault(first.at, first, &no_function(first));
                }
                Ok(value)
            }
            WordKind::Nil => self.fault(first.at, first, "nil is not a command"),
            _ if !rest.is_empty() || last.is_some() => {
                self.fault(first.at, first, &format!("can't give argument to non-function {first}"))
            }
            _ => self.word(first, dot),
        }
    }

    fn function(
        &mut self,
        name: &str,
        command: &Command,
        rest: &[Word],
        dot: &Data,
        last: Option<Data>,
    ) -> Result<Data, String> {
        if name == "and" || name == "or" {
            return self.and_or(name, command, rest, dot, last);
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for word in rest {
            args.push(self.word(word, dot)?);
        }
        args.extend(last);
        self.pay(STEP + args.iter().map(length).sum::<usize>())?;
        let given = funcs::call(name, &args, self.titles);
        self.pay(given.as_ref().map_or(0, length))?;
        given.or_else(|fault| match fault {
            Fault::Inside(reason) => self.fault(command.at, command, &format!("error calling {name}: {reason}")),
            Fault::Call(reason) if reason.starts_with("wrong number") => self.fault(command.at, &name, &reason),
            Fault::Call(reason) if self.missing == Missing::Error && reason.ends_with("; got int") => {
                let reason = reason.replace("; got int", "; got json.Number");
                let word = rest.first().map_or(command.at, |w| w.at);
                match rest.first() {
                    Some(first) => self.fault(word, first, &reason),
                    None => self.fault(word, command, &reason),
                }
            }
            Fault::Call(reason) => match rest.iter().zip(&args).find(|(_, value)| !matches!(value, Data::Str(_))) {
                Some((word, _)) => self.fault(word.at, word, &reason),
                None => self.fault(command.at, command, &reason),
            },
        })
    }

    /// The first argument that decides; those after it are not looked at.
    fn and_or(
        &mut self,
        name: &str,
        command: &Command,
        rest: &[Word],
        dot: &Data,
        last: Option<Data>,
    ) -> Result<Data, String> {
        let mut value = None;
        for word in rest {
            let given = self.word(word, dot)?;
            let decides = given.truth() == (name == "or");
            value = Some(given);
            if decides {
                return Ok(value.unwrap_or(Data::NoValue));
            }
        }
        match last.or(value) {
            Some(value) => Ok(value),
            None => {
                let message = format!("wrong number of args for {name}: want at least 1 got 0");
                self.fault(command.at, &name, &message)
            }
        }
    }

    fn word(&mut self, word: &Word, dot: &Data) -> Result<Data, String> {
        match &word.kind {
            WordKind::Dot => Ok(dot.clone()),
            WordKind::Nil => Ok(Data::Nil),
            WordKind::Bool(b) => Ok(Data::Bool(*b)),
            WordKind::Int(i, _) => Ok(Data::Int(*i)),
            WordKind::Float(f, _) => Ok(Data::Float(*f)),
            WordKind::Char(c) => Ok(Data::Int(i64::from(u32::from(*c)))),
            WordKind::Str(value, _) => Ok(Data::str(value)),
            WordKind::Function(name) => {
                let command = Command { at: word.at, words: vec![word.clone()] };
                self.function(name, &command, &[], dot, None)
            }
            WordKind::Field(names) => self.fields(word, dot.clone(), names),
            WordKind::Variable(names) => {
                let value = self.variables.iter().rev().find(|(n, _)| *n == names[0]).map(|(_, v)| v.clone());
                self.fields(word, value.unwrap_or(Data::NoValue), &names[1..])
            }
            WordKind::Group(pipe, names) => {
                let value = self.pipe(pipe, dot)?;
                self.fields(word, value, names)
            }
        }
    }

    fn fields(&mut self, word: &Word, start: Data, names: &[String]) -> Result<Data, String> {
        names.iter().try_fold(start, |value, name| {
            let value = match value {
                Data::Method(method) => method(&[]).or_else(|message| self.fault(word.at, word, &message))?,
                value => value,
            };
            self.field(word, &value, name)
        })
    }

    fn field(&self, word: &Word, value: &Data, name: &str) -> Result<Data, String> {
        let missing = || match self.missing {
            Missing::NoValue => Ok(Data::NoValue),
            Missing::Error => self.fault(word.at, word, &format!("map has no entry for key {name:?}")),
        };
        match value {
            Data::Map(map) => map.get(name).map_or_else(missing, |found| Ok(found.clone())),
            Data::NilMap => missing(),
            Data::Struct(fields) => match fields.get(name) {
                Some(found) => Ok(found.clone().force()),
                None => {
                    let message = format!("can't evaluate field {name} in type {}", fields.type_name);
                    self.fault(word.at, word, &message)
                }
            },
            Data::NoValue => match self.missing {
                Missing::NoValue => Ok(Data::NoValue),
                Missing::Error => self.fault(word.at, word, &format!("nil data; no entry for key {name:?}")),
            },
            Data::Nil => self.fault(word.at, word, &format!("nil pointer evaluating interface {{}}.{name}")),
            other => {
                // In a document without types, everything is of this one.
                let kind = match self.missing {
                    Missing::Error => "interface {}".to_owned(),
                    Missing::NoValue => other.type_name(),
                };
                let message = format!("can't evaluate field {name} in type {kind}");
                self.fault(word.at, word, &message)
            }
        }
    }
}

fn no_function(word: &Word) -> String {
    match &word.kind {
        WordKind::Field(names) | WordKind::Group(_, names) => {
            let name = names.last().map(String::as_str).unwrap_or_default();
            format!("{name} has arguments but cannot be invoked as function")
        }
        _ => format!("can't give argument to non-function {word}"),
    }
}
