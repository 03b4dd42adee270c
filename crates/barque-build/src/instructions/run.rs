//! `RUN`, and the command forms it shares with `CMD` and `ENTRYPOINT`.

use super::flags::{Flags, Takes};
use super::mount;
use crate::options::{NetworkMode, SecurityMode};
use crate::parse::line::json;
use crate::parse::{Heredoc, Node, Word};
use crate::span::Diagnostic;
use crate::suggest;

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `["a", "b"]`: run as it is.
    Exec(Vec<String>),
    /// Given to the shell.
    Shell(String),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInstruction {
    pub command: Command,
    pub heredocs: Vec<Heredoc>,
    /// `--mount` values as written; read with [`super::parse_mount`] once variables have values.
    pub mounts: Vec<Word>,
    /// `None` if not written.
    pub network: Option<NetworkMode>,
    pub security: SecurityMode,
}

pub(super) fn command(node: &Node) -> Result<Command, Diagnostic> {
    Ok(match json(&node.rest)? {
        Some(args) => Command::Exec(args),
        None => Command::Shell(node.rest.as_str().to_owned()),
    })
}

pub(super) fn run(node: &Node) -> Result<RunInstruction, Diagnostic> {
    let known = [("mount", Takes::Many), ("network", Takes::Text), ("security", Takes::Text)];
    let flags = Flags::parse(node, &known)?;
    let mounts = flags.all("mount");
    for word in &mounts {
        mount::check(word)?;
    }
    let network = match flags.get("network") {
        None => None,
        Some(word) => Some(match word.text.as_str() {
            "default" => NetworkMode::Default,
            "none" => NetworkMode::None,
            "host" => NetworkMode::Host,
            other => {
                let message = format!("invalid network mode {other:?}");
                let message = suggest::with(message, other, ["default", "none", "host"]);
                return Err(Diagnostic::new(word.span, message).with_hint("use default, none or host"));
            }
        }),
    };
    let security = match flags.get("security") {
        None => SecurityMode::Sandbox,
        Some(word) => match word.text.as_str() {
            "sandbox" => SecurityMode::Sandbox,
            "insecure" => SecurityMode::Insecure,
            other => {
                let message = format!("security {other:?} is not valid");
                return Err(Diagnostic::new(word.span, message).with_hint("use sandbox or insecure"));
            }
        },
    };
    let command = command(node)?;
    if command == Command::Exec(Vec::new()) {
        return Err(Diagnostic::new(node.span, "RUN requires at least one argument"));
    }
    Ok(RunInstruction { command, heredocs: node.heredocs.clone(), mounts, network, security })
}

/// What the command line of a `RUN` with heredocs becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Script {
    /// Given to the shell.
    Shell(String),
    /// An executable file `/dev/pipes/NAME` with its own interpreter line.
    File {
        name: String,
        body: String,
    },
    Exec(Vec<String>),
}

impl RunInstruction {
    /// Resolves heredocs: a lone one is the script itself, others stay for the shell to read.
    pub fn script(&self) -> Script {
        let line = match &self.command {
            Command::Exec(args) => return Script::Exec(args.clone()),
            Command::Shell(line) => line,
        };
        let Some(first) = self.heredocs.first() else { return Script::Shell(line.clone()) };
        if Heredoc::from_word(line).is_some() {
            let body = first.body();
            return match body.starts_with("#!") {
                true => Script::File { name: first.name.clone(), body },
                false => Script::Shell(body),
            };
        }
        let mut text = line.clone();
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.content);
            text.push_str(&heredoc.name);
        }
        Script::Shell(text)
    }

    /// ` (first line...)` after the step's name, for a lone heredoc.
    pub fn summary(&self) -> String {
        let lone = matches!(&self.command, Command::Shell(line) if Heredoc::from_word(line).is_some());
        let Some(first) = self.heredocs.first().filter(|_| lone) else { return String::new() };
        let body = first.content.trim();
        let line = body.lines().next().unwrap_or("");
        let more = if body.lines().nth(1).is_some() { "..." } else { "" };
        format!(" ({line}{more})")
    }
}
