//! Tokens to a tree.

use std::collections::BTreeMap;

use super::lex::{Fault, Kind, Token, is_keyword, lex};

/// A piece of the template.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Text(String),
    Action(Pipe),
    If { cond: Pipe, then: Vec<Node>, other: Vec<Node> },
    With { cond: Pipe, then: Vec<Node>, other: Vec<Node> },
    Range { over: Pipe, each: Vec<Node>, other: Vec<Node> },
    Template { at: usize, name: String, with: Option<Pipe> },
    Break,
    Continue,
}

/// `$x, $y := command | command`.
#[derive(Clone, Debug)]
pub(crate) struct Pipe {
    pub(crate) at: usize,
    pub(crate) variables: Vec<String>,
    /// `=` instead of `:=`.
    pub(crate) assign: bool,
    pub(crate) commands: Vec<Command>,
}

#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) at: usize,
    pub(crate) words: Vec<Word>,
}

/// An operand with the byte it is blamed at.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) at: usize,
    pub(crate) kind: WordKind,
}

#[derive(Clone, Debug)]
pub(crate) enum WordKind {
    Dot,
    Nil,
    Bool(bool),
    Int(i64, String),
    Float(f64, String),
    Char(char),
    Str(String, String),
    Function(String),
    /// `.A.B`.
    Field(Vec<String>),
    /// `$x.A.B`.
    Variable(Vec<String>),
    /// `(pipeline)` and fields of it.
    Group(Box<Pipe>, Vec<String>),
}

type Defined = BTreeMap<String, Vec<Node>>;

/// Parses a template; the error is in Go's form.
pub(crate) fn parse(name: &str, text: &str) -> Result<(Vec<Node>, Defined), String> {
    let place = |(at, message): Fault| {
        let line = 1 + text[..at.min(text.len())].matches('\n').count();
        format!("template: {name}:{line}: {message}")
    };
    let tokens = lex(text).map_err(place)?;
    let mut parser =
        Parser { tokens, at: 0, variables: vec!["$".into()], defined: BTreeMap::new(), loops: 0, depth: 0 };
    let root = parser.list(None).map_err(place)?.0;
    Ok((root, parser.defined))
}

/// How a list of nodes ended.
#[derive(Debug, PartialEq)]
enum End {
    Eof,
    Closed,
    Else,
    /// `{{else if` and `{{else with`: the rest of the action follows.
    ElseChain(String),
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    variables: Vec<String>,
    defined: Defined,
    loops: usize,
    depth: usize,
}

/// Deeper nesting is refused: the parser and the interpreter recurse.
const MAX_DEPTH: usize = 200;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.tokens[self.at].clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn next_non_space(&mut self) -> Token {
        self.skip_space();
        self.next()
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.next();
        }
    }

    fn unexpected<T>(&self, token: &Token, context: &str) -> Result<T, Fault> {
        Err((token.at, format!("unexpected {} in {context}", token.kind.quoted())))
    }

    /// Nodes up to `{{end}}` or `{{else}}`; `inside` names the construct, none at the top.
    fn list(&mut self, inside: Option<&str>) -> Result<(Vec<Node>, End), Fault> {
        let mut nodes = Vec::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::Text(text) => nodes.push(Node::Text(text)),
                Kind::Eof if inside.is_none() => return Ok((nodes, End::Eof)),
                Kind::Eof => return Err((token.at, "unexpected EOF".into())),
                Kind::Open => {
                    self.skip_space();
                    match self.control(inside)? {
                        Control::Node(node) => nodes.push(node),
                        Control::Nothing => {}
                        Control::End(end) => return Ok((nodes, end)),
                    }
                }
                _ => return self.unexpected(&token, "input"),
            }
        }
    }

    /// One action after its `{{`.
    fn control(&mut self, inside: Option<&str>) -> Result<Control, Fault> {
        let token = self.peek().clone();
        let Kind::Name(name) = &token.kind else { return self.action().map(Control::Node) };
        if !is_keyword(name) {
            return self.action().map(Control::Node);
        }
        self.next();
        match name.as_str() {
            "if" | "with" | "range" => self.branch(name).map(Control::Node),
            "end" if inside.is_some() => {
                self.expect_close("end")?;
                Ok(Control::End(End::Closed))
            }
            "else" if inside.is_some() => self.else_action().map(Control::End),
            "define" => self.define().map(|()| Control::Nothing),
            "block" => self.block().map(Control::Node),
            "template" => self.template().map(Control::Node),
            "break" | "continue" => {
                if self.loops == 0 {
                    return Err((token.at, format!("{{{{{name}}}}} outside {{{{range}}}}")));
                }
                self.expect_close(name)?;
                Ok(Control::Node(if name == "break" { Node::Break } else { Node::Continue }))
            }
            _ => Err((token.at, format!("unexpected {{{{{name}}}}}"))),
        }
    }

    fn expect_close(&mut self, context: &str) -> Result<(), Fault> {
        let token = self.next_non_space();
        if token.kind == Kind::Close { Ok(()) } else { self.unexpected(&token, context) }
    }

    fn else_action(&mut self) -> Result<End, Fault> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Close => Ok(End::Else),
            Kind::Name(name) if name == "if" || name == "with" => Ok(End::ElseChain(name)),
            _ => self.unexpected(&token, "else"),
        }
    }

    fn action(&mut self) -> Result<Node, Fault> {
        let pipe = self.pipe("command", false)?;
        Ok(Node::Action(pipe))
    }

    fn branch(&mut self, name: &str) -> Result<Node, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err((self.peek().at, "max expression depth exceeded".into()));
        }
        let outer = self.variables.len();
        let cond = self.pipe(name, name == "range")?;
        self.loops += usize::from(name == "range");
        let (then, end) = self.list(Some(name))?;
        self.loops -= usize::from(name == "range");
        let other = match end {
            End::ElseChain(chained) => vec![self.branch(&chained)?],
            End::Else => {
                let (other, end) = self.list(Some(name))?;
                if end != End::Closed {
                    return Err((self.peek().at, "expected end; found {{else}}".into()));
                }
                other
            }
            End::Closed | End::Eof => Vec::new(),
        };
        self.variables.truncate(outer);
        self.depth -= 1;
        Ok(match name {
            "if" => Node::If { cond, then, other },
            "with" => Node::With { cond, then, other },
            _ => Node::Range { over: cond, each: then, other },
        })
    }

    fn name_of_template(&mut self, context: &str) -> Result<(usize, String), Fault> {
        let token = self.next_non_space();
        match token.kind {
            Kind::Str(name, _) => Ok((token.at, name)),
            _ => self.unexpected(&token, context),
        }
    }

    fn define(&mut self) -> Result<(), Fault> {
        let (_, name) = self.name_of_template("define clause")?;
        self.expect_close("define clause")?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let (body, _) = self.list(Some("define"))?;
        self.variables = outer;
        self.defined.insert(name, body);
        Ok(())
    }

    fn block(&mut self) -> Result<Node, Fault> {
        let (at, name) = self.name_of_template("block clause")?;
        let with = self.pipe("block clause", false)?;
        let outer = std::mem::replace(&mut self.variables, vec!["$".into()]);
        let (body, _) = self.list(Some("block"))?;
        self.variables = outer;
        self.defined.entry(name.clone()).or_insert(body);
        Ok(Node::Template { at, name, with: Some(with) })
    }

    fn template(&mut self) -> Result<Node, Fault> {
        let (at, name) = self.name_of_template("template clause")?;
        self.skip_space();
        if self.peek().kind == Kind::Close {
            self.next();
            return Ok(Node::Template { at, name, with: None });
        }
        let with = self.pipe("template clause", false)?;
        Ok(Node::Template { at, name, with: Some(with) })
    }

    /// A pipeline up to and with `}}`.
    fn pipe(&mut self, context: &str, two: bool) -> Result<Pipe, Fault> {
        let pipe = self.pipe_until(context, two, &Kind::Close)?;
        Ok(pipe)
    }

    fn pipe_until(&mut self, context: &str, two: bool, close: &Kind) -> Result<Pipe, Fault> {
        self.skip_space();
        let mut pipe = Pipe { at: self.peek().at, variables: Vec::new(), assign: false, commands: Vec::new() };
        self.declaration(&mut pipe, context, two)?;
        loop {
            let token = self.next_non_space();
            if token.kind == *close {
                if pipe.commands.is_empty() {
                    return Err((token.at, format!("missing value for {context}")));
                }
                self.check_pipeline(&pipe, &token)?;
                return Ok(pipe);
            }
            if token.kind == Kind::Close || token.kind == Kind::RightParen {
                return self.unexpected(&token, context);
            }
            self.at -= 1;
            let command = self.command()?;
            pipe.commands.push(command);
        }
    }

    /// Only functions, methods and fields can take what the pipe brings.
    fn check_pipeline(&self, pipe: &Pipe, end: &Token) -> Result<(), Fault> {
        for (index, command) in pipe.commands.iter().enumerate().skip(1) {
            if let Some(Word { kind, .. }) = command.words.first()
                && matches!(
                    kind,
                    WordKind::Bool(_)
                        | WordKind::Dot
                        | WordKind::Nil
                        | WordKind::Int(..)
                        | WordKind::Float(..)
                        | WordKind::Str(..)
                        | WordKind::Char(_)
                )
            {
                return Err((end.at, format!("non executable command in pipeline stage {}", index + 1)));
            }
        }
        Ok(())
    }

    fn declaration(&mut self, pipe: &mut Pipe, context: &str, two: bool) -> Result<(), Fault> {
        let start = self.at;
        let mut names = Vec::new();
        loop {
            let token = self.next_non_space();
            let Kind::Variable(name) = token.kind else { break };
            names.push(name);
            let token = self.next_non_space();
            match token.kind {
                Kind::Declare | Kind::Assign => {
                    pipe.assign = token.kind == Kind::Assign;
                    if pipe.assign
                        && let Some(unknown) = names.iter().find(|n| !self.variables.contains(n))
                    {
                        return Err((token.at, format!("undefined variable {unknown:?}")));
                    }
                    self.variables.extend(names.iter().cloned());
                    pipe.variables = names;
                    return Ok(());
                }
                Kind::Comma if two && names.len() == 1 => {}
                Kind::Comma => return Err((token.at, format!("too many declarations in {context}"))),
                _ => break,
            }
        }
        self.at = start;
        Ok(())
    }

    fn command(&mut self) -> Result<Command, Fault> {
        self.skip_space();
        let mut command = Command { at: self.peek().at, words: Vec::new() };
        loop {
            self.skip_space();
            if let Some(word) = self.operand()? {
                command.words.push(word);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::Pipe => {
                    self.skip_space();
                    if matches!(self.peek().kind, Kind::Close | Kind::RightParen) {
                        return Err((token.at, "missing value for command".into()));
                    }
                }
                Kind::Close | Kind::RightParen => self.at -= 1,
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        if command.words.is_empty() {
            return Err((command.at, "empty command".into()));
        }
        Ok(command)
    }

    /// A word and the fields that follow it without a blank.
    fn operand(&mut self) -> Result<Option<Word>, Fault> {
        let Some(mut word) = self.term()? else { return Ok(None) };
        if !matches!(self.peek().kind, Kind::Field(_)) {
            return Ok(Some(word));
        }
        let at = self.peek().at;
        let mut names = Vec::new();
        while let Kind::Field(name) = &self.peek().kind {
            names.push(name.clone());
            self.next();
        }
        match &mut word.kind {
            WordKind::Field(fields) | WordKind::Variable(fields) | WordKind::Group(_, fields) => fields.extend(names),
            WordKind::Function(name) => return Err((at, format!("unexpected . after term {name:?}"))),
            WordKind::Dot => word.kind = WordKind::Field(names),
            _ => return Err((at, "unexpected . after term".into())),
        }
        word.at = at;
        Ok(Some(word))
    }

    fn term(&mut self) -> Result<Option<Word>, Fault> {
        let token = self.next();
        let kind = match token.kind.clone() {
            Kind::Dot => WordKind::Dot,
            Kind::Field(name) => WordKind::Field(vec![name]),
            Kind::Variable(name) => {
                if !self.variables.contains(&name) {
                    return Err((token.at, format!("undefined variable {name:?}")));
                }
                WordKind::Variable(vec![name])
            }
            Kind::Str(value, written) => WordKind::Str(value, written),
            Kind::Char(c) => WordKind::Char(c),
            Kind::Number(text) => number(&text).ok_or((token.at, format!("bad number syntax: {text:?}")))?,
            Kind::Name(name) => match name.as_str() {
                "true" => WordKind::Bool(true),
                "false" => WordKind::Bool(false),
                "nil" => WordKind::Nil,
                _ if super::funcs::exists(&name) => WordKind::Function(name),
                _ if is_keyword(&name) => return self.unexpected(&token, "operand"),
                _ => return Err((token.at, format!("function {name:?} not defined"))),
            },
            Kind::LeftParen => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err((token.at, "max expression depth exceeded".into()));
                }
                let pipe = self.pipe_until("parenthesized pipeline", false, &Kind::RightParen)?;
                self.depth -= 1;
                WordKind::Group(Box::new(pipe), Vec::new())
            }
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        };
        Ok(Some(Word { at: token.at, kind }))
    }
}

enum Control {
    Node(Node),
    Nothing,
    End(End),
}

fn number(text: &str) -> Option<WordKind> {
    let plain = text.replace('_', "");
    if let Ok(int) = barque_model::strconv::parse_int(&plain) {
        return Some(WordKind::Int(int, text.to_owned()));
    }
    plain.parse::<f64>().ok().map(|f| WordKind::Float(f, text.to_owned()))
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            WordKind::Dot => f.write_str("."),
            WordKind::Nil => f.write_str("nil"),
            WordKind::Bool(b) => write!(f, "{b}"),
            WordKind::Int(_, text) | WordKind::Float(_, text) | WordKind::Str(_, text) => f.write_str(text),
            WordKind::Char(c) => write!(f, "{c:?}"),
            WordKind::Function(name) => f.write_str(name),
            WordKind::Field(names) => names.iter().try_for_each(|n| write!(f, ".{n}")),
            WordKind::Variable(names) => f.write_str(&names.join(".")),
            WordKind::Group(pipe, names) => {
                write!(f, "({pipe})")?;
                names.iter().try_for_each(|n| write!(f, ".{n}"))
            }
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, word) in self.words.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{word}")?;
        }
        Ok(())
    }
}

impl std::fmt::Display for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.variables.is_empty() {
            write!(f, "{} {} ", self.variables.join(", "), if self.assign { "=" } else { ":=" })?;
        }
        for (index, command) in self.commands.iter().enumerate() {
            if index > 0 {
                f.write_str(" | ")?;
            }
            write!(f, "{command}")?;
        }
        Ok(())
    }
}
