//! The whole file: global `ARG`s, then stages.

use super::flags::{Flags, Takes};
use super::{Instruction, Kind, NAMES, files, meta, run};
use crate::parse::line::words;
use crate::parse::{self, Directive, Node, ParseError, Word};
use crate::span::{Diagnostic, Source, Span};
use crate::suggest;

/// A Dockerfile with typed instructions.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    pub source: Source,
    pub escape: char,
    pub directives: Vec<Directive>,
    /// `ARG`s before the first `FROM`.
    pub global_args: Vec<Instruction>,
    /// Never empty.
    pub stages: Vec<Stage>,
    /// Lines inside continuations which are empty.
    pub empty_continuations: Vec<Span>,
}

/// `FROM` and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Image, stage or `scratch`, before expansion.
    pub base: Word,
    /// `AS` name in lower case.
    pub name: Option<String>,
    /// The name as written.
    pub written_name: Option<Word>,
    /// `AS` as written.
    pub as_keyword: Option<String>,
    pub platform: Option<Word>,
    /// `FROM` as written.
    pub keyword: String,
    pub original: String,
    pub comments: Vec<String>,
    pub span: Span,
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// The name, or `stage-N`.
    pub fn label(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("stage-{index}"))
    }

    /// `FROM` in upper case and the rest as written.
    pub fn display(&self) -> String {
        format!("{}{}", self.keyword.to_uppercase(), self.original.get(self.keyword.len()..).unwrap_or(""))
    }
}

/// Parses a Dockerfile completely. `name` is shown in diagnostics.
pub fn parse(bytes: &[u8], name: &str) -> Result<Dockerfile, ParseError> {
    let tree = parse::parse(bytes, name)?;
    let fail = |diagnostic| ParseError { source: Box::new(tree.source.clone()), diagnostic };
    let mut global_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    for node in &tree.nodes {
        if node.name() == "FROM" {
            stages.push(from(node).map_err(fail)?);
            continue;
        }
        let instruction = instruction(node, tree.escape).map_err(fail)?;
        match (stages.last_mut(), &instruction.kind) {
            (Some(stage), _) => stage.instructions.push(instruction),
            (None, Kind::Arg(_)) => global_args.push(instruction),
            (None, _) => {
                let diagnostic = Diagnostic::new(node.span, "no build stage in current context")
                    .with_hint("a Dockerfile starts with FROM IMAGE; only ARG may stand before it");
                return Err(fail(diagnostic));
            }
        }
    }
    if stages.is_empty() {
        let span = tree.nodes.last().map_or(Span::default(), |n| n.span);
        let diagnostic = Diagnostic::new(span, "dockerfile contains no stages to build").with_hint("add FROM IMAGE");
        return Err(fail(diagnostic));
    }
    Ok(Dockerfile {
        source: tree.source,
        escape: tree.escape,
        directives: tree.directives,
        global_args,
        stages,
        empty_continuations: tree.empty_continuations,
    })
}

/// Parses one `ONBUILD` trigger of a base image. The instruction gets `span`, that of the `FROM` line.
pub fn parse_trigger(text: &str, span: Span) -> Result<Instruction, Diagnostic> {
    let at_from = |message: String| {
        Diagnostic::new(span, format!("{message} (in the base image's ONBUILD {})", text.lines().next().unwrap_or("")))
    };
    let tree = parse::parse(text.as_bytes(), "ONBUILD").map_err(|e| at_from(e.diagnostic.message))?;
    let [node] = tree.nodes.as_slice() else {
        return Err(at_from("onbuild trigger should be a single expression".into()));
    };
    let mut instruction = instruction(node, tree.escape).map_err(|d| at_from(d.message))?;
    instruction.span = span;
    instruction.trigger = true;
    Ok(instruction)
}

fn instruction(node: &Node, escape: char) -> Result<Instruction, Diagnostic> {
    let kind = match node.name().as_str() {
        "RUN" => Kind::Run(run::run(node)?),
        "COPY" => Kind::Copy(files::copy(node)?),
        "ADD" => Kind::Add(files::add(node)?),
        "ENV" => Kind::Env(meta::pairs(node, escape)?),
        "LABEL" => Kind::Label(meta::pairs(node, escape)?),
        "ARG" => Kind::Arg(meta::arg(node, escape)?),
        "WORKDIR" => Kind::Workdir(meta::single(node)?),
        "USER" => Kind::User(meta::single(node)?),
        "EXPOSE" => Kind::Expose(meta::expose(node)?),
        "VOLUME" => Kind::Volume(meta::volume(node)?),
        "ENTRYPOINT" => Kind::Entrypoint(meta::default_command(node)?),
        "CMD" => Kind::Cmd(meta::default_command(node)?),
        "HEALTHCHECK" => Kind::Healthcheck(meta::healthcheck(node)?),
        "STOPSIGNAL" => Kind::StopSignal(meta::single(node)?),
        "SHELL" => Kind::Shell(meta::shell(node)?),
        "MAINTAINER" => Kind::Maintainer(meta::single(node)?),
        "ONBUILD" => Kind::OnBuild(onbuild(node, escape)?),
        _ => return Err(unknown(node)),
    };
    Ok(Instruction {
        kind,
        keyword: node.keyword.text.clone(),
        original: node.original.clone(),
        comments: node.comments.clone(),
        span: node.span,
        trigger: false,
    })
}

fn unknown(node: &Node) -> Diagnostic {
    let word = &node.keyword.text;
    let message = suggest::with(format!("unknown instruction: {word}"), word, NAMES);
    let diagnostic = Diagnostic::new(node.keyword.span, message);
    let looks_like_shell = matches!(word.as_str(), "&&" | "||" | "|" | "then" | "fi" | "do" | "done");
    if looks_like_shell || word.starts_with("&&") {
        return diagnostic.with_hint("the line above needs a \\ at its end to continue here");
    }
    diagnostic
}

fn onbuild(node: &Node, escape: char) -> Result<String, Diagnostic> {
    Flags::parse(node, &[])?;
    if node.rest.is_empty() {
        return meta::at_least_one(node);
    }
    let inner = node.inner(escape);
    match inner.name().as_str() {
        "ONBUILD" => {
            return Err(Diagnostic::new(node.span, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
        }
        name @ ("MAINTAINER" | "FROM") => {
            return Err(Diagnostic::new(inner.keyword.span, format!("{name} isn't allowed as an ONBUILD trigger")));
        }
        _ => {}
    }
    let mut text = node.rest.as_str().to_owned();
    for heredoc in &node.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
        text.push_str(&heredoc.name);
    }
    Ok(text)
}

fn from(node: &Node) -> Result<Stage, Diagnostic> {
    let args = words(&node.rest);
    let wrong = || {
        Err(Diagnostic::new(node.span, "FROM requires either one or three arguments")
            .with_hint("write FROM IMAGE or FROM IMAGE AS NAME"))
    };
    let (base, named) = match args.as_slice() {
        [base] => (base, None),
        [base, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => (base, Some((keyword, name))),
        _ => return wrong(),
    };
    let flags = Flags::parse(node, &[("platform", Takes::Text)])?;
    if let Some((_, name)) = named {
        stage_name(name)?;
    }
    Ok(Stage {
        base: base.clone(),
        name: named.map(|(_, n)| n.text.to_lowercase()),
        written_name: named.map(|(_, n)| n.clone()),
        as_keyword: named.map(|(k, _)| k.text.clone()),
        platform: flags.take("platform"),
        keyword: node.keyword.text.clone(),
        original: node.original.clone(),
        comments: node.comments.clone(),
        span: node.span,
        instructions: Vec::new(),
    })
}

fn stage_name(name: &Word) -> Result<(), Diagnostic> {
    let lower = name.text.to_lowercase();
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if lower.starts_with(|c: char| c.is_ascii_lowercase()) && lower.chars().all(letter) {
        return Ok(());
    }
    let message =
        format!("invalid name for build stage: {:?}, name can't start with a number or contain symbols", name.text);
    Err(Diagnostic::new(name.span, message))
}
