//! Typed instructions: what each line of a Dockerfile means, before variables have values.

mod files;
mod flags;
mod meta;
mod mount;
mod run;
mod stage;

pub use files::{Chmod, CopyFlags, Files, InlineFile, parse_chmod};
pub use meta::{ArgDefault, HealthcheckSpec, Pair};
pub use mount::{Mount, MountKind, mount_from, parse_mount};
pub use run::{Command, RunInstruction, Script};
pub use stage::{Dockerfile, Stage, parse, parse_trigger};

use crate::parse::Word;
use crate::span::Span;

/// Every instruction's name.
pub const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    pub kind: Kind,
    /// The name as written.
    pub keyword: String,
    /// The logical line, as Docker shows it.
    pub original: String,
    /// Comment lines directly before.
    pub comments: Vec<String>,
    pub span: Span,
    /// Comes from the base image's `ONBUILD`.
    pub trigger: bool,
}

impl Instruction {
    /// The name in upper case, then the rest as written.
    pub fn display(&self) -> String {
        let rest = self.original.get(self.keyword.len()..).unwrap_or("");
        format!("{}{rest}", self.keyword.to_uppercase())
    }
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Run(RunInstruction),
    Copy(Files),
    Add(Files),
    Env(Vec<Pair>),
    Label(Vec<Pair>),
    Arg(Vec<ArgDefault>),
    Workdir(Word),
    User(Word),
    Expose(Vec<Word>),
    Volume(Vec<Word>),
    Entrypoint(Command),
    Cmd(Command),
    Healthcheck(HealthcheckSpec),
    StopSignal(Word),
    Shell(Vec<String>),
    /// The trigger's text, heredocs included.
    OnBuild(String),
    Maintainer(Word),
}

#[cfg(test)]
mod tests;
