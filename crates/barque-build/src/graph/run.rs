//! `RUN` into an operation.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_model::path::{clean, rooted};

use super::args::CACHE_MOUNT_NS;
use super::eval::{Build, Stage, StageResult, at, history};
use super::planner::Source;
use super::text::upper_first_word;
use super::{FsRef, Op, PlannedKind, PlannedMount, RunOp};
use crate::instructions::{Instruction, Mount, MountKind, RunInstruction, Script, parse_mount};
use crate::options::{NetworkMode, SecurityMode};
use crate::parse::Word;
use crate::shell::Lexer;
use crate::span::Diagnostic;
use crate::worker::{BaseRequest, CacheSharing};

impl Build<'_> {
    pub(super) fn run(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        run: &RunInstruction,
        done: &BTreeMap<usize, StageResult>,
    ) -> Result<(), Diagnostic> {
        let mut mounts = Vec::new();
        let mut masked = Vec::new();
        for word in &run.mounts {
            let mount = self.mount(stage, instruction, word)?;
            masked.extend(mount.env.clone());
            mounts.push(self.planned(stage, instruction, word, &mount, done)?);
        }
        let args = match run.script() {
            Script::Exec(args) => args,
            Script::Shell(text) => with_shell(stage, text),
            Script::File { name, body } => {
                let target = format!("/dev/pipes/{name}");
                let content: Arc<[u8]> = body.into_bytes().into();
                let kind = PlannedKind::File { content, mode: 0o755 };
                mounts.push(PlannedMount { target: target.clone(), read_only: true, kind });
                // As in Docker, the script goes through the shell, which honours SHELL.
                with_shell(stage, target)
            }
        };
        self.check_allowed(instruction, run)?;
        let lexer = Lexer { raw_quotes: true, keep_unset: true, ..self.planner.lexer };
        let text = format!("{}{}", instruction.original, run.summary());
        let shown = upper_first_word(&self.shown(stage, &text, lexer, &masked));
        let created_by = format!("RUN {} # buildkit", command_with_args(stage, &args));
        let op = RunOp {
            parent: stage.fs.clone(),
            command: args.join(" "),
            args,
            env: stage.vars.pairs(),
            proxy_env: self.proxy_env.clone(),
            cwd: workdir(stage),
            user: stage.config.config.user.clone(),
            mounts,
            network: run.network.clone(),
            security: run.security,
        };
        let id = self.step(stage, Op::Run(Box::new(op)), &shown, shown.clone(), instruction.span, instruction.trigger);
        history(stage, created_by, Some(id));
        Ok(())
    }

    fn check_allowed(&self, instruction: &Instruction, run: &RunInstruction) -> Result<(), Diagnostic> {
        let options = self.planner.options;
        if run.security == SecurityMode::Insecure && !options.allow_insecure {
            return Err(Diagnostic::new(instruction.span, "security.insecure is not allowed")
                .with_hint("build with --allow security.insecure"));
        }
        if run.network == Some(NetworkMode::Host) && !options.allow_host_network {
            return Err(Diagnostic::new(instruction.span, "network.host is not allowed")
                .with_hint("build with --allow network.host"));
        }
        Ok(())
    }

    fn mount(&mut self, stage: &Stage, instruction: &Instruction, word: &Word) -> Result<Mount, Diagnostic> {
        let mut unset = std::collections::BTreeSet::new();
        let lexer = self.planner.lexer;
        let mut expand = |value: &str| {
            let done = lexer.expand(value, &stage.vars)?;
            unset.extend(done.unset);
            Ok(done.text)
        };
        let mount = parse_mount(&word.text, &mut expand);
        let mount = mount.map_err(|e| Diagnostic::new(at(instruction, word.span), e))?;
        self.lint_unset(stage, instruction, unset);
        Ok(mount)
    }

    /// Builds of another `BUILDKIT_CACHE_MOUNT_NS` have caches of their own.
    fn cache_id(&self, id: String) -> String {
        let space = self.planner.options.argument(CACHE_MOUNT_NS);
        space.map_or(id.clone(), |space| format!("{space}/{id}"))
    }

    fn planned(
        &mut self,
        stage: &Stage,
        instruction: &Instruction,
        word: &Word,
        mount: &Mount,
        done: &BTreeMap<usize, StageResult>,
    ) -> Result<PlannedMount, Diagnostic> {
        let fail = |message: String| Diagnostic::new(at(instruction, word.span), message);
        let (mode, uid, gid) = (mount.mode, mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        let base = |text: &str| text.rsplit('/').find(|p| !p.is_empty()).unwrap_or("").to_owned();
        let mut target = if mount.target.is_empty() { String::new() } else { absolute(stage, &mount.target) };
        let path = rooted(&mount.source).trim_start_matches('/').to_owned();
        let kind = match mount.kind {
            MountKind::Bind => {
                let from = self.mount_source(stage, instruction, mount, done).map_err(fail)?;
                PlannedKind::Bind { from: from.unwrap_or(FsRef::Context(String::new())), path }
            }
            MountKind::Cache => {
                let from = self.mount_source(stage, instruction, mount, done).map_err(fail)?;
                PlannedKind::Cache {
                    id: self.cache_id(mount.id.clone().unwrap_or_else(|| clean(&mount.target))),
                    sharing: mount.sharing.unwrap_or(CacheSharing::Shared),
                    from: from.unwrap_or(FsRef::Scratch),
                    path,
                    mode: mode.unwrap_or(0o755),
                    uid,
                    gid,
                }
            }
            MountKind::Tmpfs => PlannedKind::Tmpfs { size: mount.size },
            MountKind::Secret => {
                let id = mount.id.clone().filter(|i| !i.is_empty()).unwrap_or_else(|| base(&mount.target));
                if id.is_empty() {
                    return Err(fail("one of source, target required".into()));
                }
                if target.is_empty() && mount.env.is_none() {
                    target = format!("/run/secrets/{}", base(&id));
                }
                let mode = mode.unwrap_or(0o400);
                PlannedKind::Secret { id, env: mount.env.clone(), required: mount.required, mode, uid, gid }
            }
            MountKind::Ssh => {
                if target.is_empty() {
                    target = "/run/buildkit/ssh_agent.0".into();
                }
                let id = mount.id.clone().filter(|i| !i.is_empty()).unwrap_or_else(|| "default".into());
                PlannedKind::Ssh { id, required: mount.required, mode: mode.unwrap_or(0o600), uid, gid }
            }
        };
        if target == "/" {
            return Err(fail(format!("invalid mount target {target:?}")));
        }
        Ok(PlannedMount { target, read_only: mount.read_only, kind })
    }

    fn mount_source(
        &mut self,
        stage: &Stage,
        instruction: &Instruction,
        mount: &Mount,
        done: &BTreeMap<usize, StageResult>,
    ) -> Result<Option<FsRef>, String> {
        let Some(from) = &mount.from else { return Ok(None) };
        let source = self.planner.source(stage.index, from, false)?;
        Ok(Some(self.source_fs(&source, stage.index, instruction, done)))
    }

    pub(super) fn source_fs(
        &mut self,
        source: &Source,
        index: usize,
        instruction: &Instruction,
        done: &BTreeMap<usize, StageResult>,
    ) -> FsRef {
        source.fs(done, |request: &BaseRequest| self.source_image(request, index, instruction.span))
    }
}

/// The shell in force and the text.
pub(super) fn with_shell(stage: &Stage, text: String) -> Vec<String> {
    let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
    let mut args = stage.config.config.shell.clone().filter(|s| !s.is_empty()).unwrap_or_else(default);
    args.push(text);
    args
}

/// The working directory in force, absolute.
pub(super) fn workdir(stage: &Stage) -> String {
    rooted(&stage.config.config.working_dir)
}

/// `path` from the working directory, clean.
pub(super) fn absolute(stage: &Stage, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("{}/{path}", workdir(stage))) }
}

/// `|2 A=1 B=2 /bin/sh -c …`: the declared arguments go before the command in the history.
fn command_with_args(stage: &Stage, args: &[String]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in &stage.args {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let value = |name: &str| {
        let declared = || stage.args.iter().rev().find(|(n, _)| n == name).and_then(|(_, v)| v.as_deref());
        stage.vars.value(name).or_else(declared).unwrap_or("").to_owned()
    };
    let mut words = Vec::new();
    if !names.is_empty() {
        words.push(format!("|{}", names.len()));
        words.extend(names.iter().map(|n| format!("{n}={}", value(n))));
    }
    words.extend(args.iter().cloned());
    words.join(" ")
}
