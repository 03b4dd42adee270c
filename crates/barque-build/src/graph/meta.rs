//! Instructions that change the configuration, and `WORKDIR`, which also makes a directory.

use std::time::Duration;

use barque_model::strconv::quote;
use barque_model::{Signal, duration};

use super::eval::{Build, Stage, at, history};
use super::run::{absolute, with_shell};
use super::text::{plain_list, quoted_list, upper_first_word};
use super::{MkdirOp, Op, ports};
use crate::config::{Empty, Healthcheck, ImageConfig};
use crate::instructions::{ArgDefault, Command, HealthcheckSpec, Instruction, Pair};
use crate::lint::Rule;
use crate::options::BuildOptions;
use crate::parse::Word;
use crate::shell::Expanded;
use crate::span::{Diagnostic, Span};
use crate::suggest;
use crate::worker::BaseRequest;

/// Ports shown in an `EXPOSE` history entry.
const MAX_PORTS_SHOWN: usize = 100;

impl Build<'_> {
    pub(super) fn env(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        pairs: &[Pair],
    ) -> Result<(), Diagnostic> {
        // All values see the environment before this instruction.
        let pairs = self.pairs(stage, instruction, pairs, "ENV")?;
        let mut text = String::from("ENV");
        for (name, value) in pairs {
            self.lint_secret("ENV", instruction, &name);
            text.push_str(&format!(" {name}={value}"));
            stage.vars.set(&name, &value);
            stage.config.set_env(&name, &value);
        }
        history(stage, text, None);
        Ok(())
    }

    pub(super) fn label(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        pairs: &[Pair],
    ) -> Result<(), Diagnostic> {
        let pairs = self.pairs(stage, instruction, pairs, "LABEL")?;
        let mut text = String::from("LABEL");
        for (name, value) in pairs {
            text.push_str(&format!(" {name}={value}"));
            stage.config.config.labels.insert(name, value);
        }
        history(stage, text, None);
        Ok(())
    }

    fn pairs(
        &mut self,
        stage: &Stage,
        instruction: &Instruction,
        pairs: &[Pair],
        verb: &str,
    ) -> Result<Vec<(String, String)>, Diagnostic> {
        let mut out = Vec::new();
        for pair in pairs {
            if pair.legacy {
                let message =
                    format!("\"{verb} key=value\" should be used instead of legacy \"{verb} key value\" format");
                self.planner.warn(Rule::LegacyKeyValueFormat, instruction.span, &instruction.comments, message);
            }
            let name = self.expand(stage, instruction, &pair.name)?;
            if name.is_empty() {
                let message = format!("{verb} names can not be blank");
                return Err(Diagnostic::new(at(instruction, pair.name.span), message));
            }
            out.push((name, self.expand(stage, instruction, &pair.value)?));
        }
        Ok(out)
    }

    pub(super) fn arg(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        list: &[ArgDefault],
    ) -> Result<(), Diagnostic> {
        let mut texts = Vec::new();
        for arg in list {
            let name = arg.name.text.clone();
            self.lint_secret("ARG", instruction, &name);
            self.planner.declared.insert(name.clone());
            let given = self.planner.options.build_args.get(&name).cloned().flatten();
            let value = match (given, &arg.default) {
                (Some(value), _) => Some(value),
                (None, Some(default)) => Some(self.expand(stage, instruction, default)?),
                (None, None) => self.planner.globals.value(&name).map(str::to_owned),
            };
            if let Some(value) = &value {
                stage.vars.set(&name, value);
            }
            texts.push(value.as_ref().map_or_else(|| name.clone(), |v| format!("{name}={v}")));
            stage.args.push((name, value));
        }
        history(stage, format!("ARG {}", texts.join(" ")), None);
        Ok(())
    }

    pub(super) fn workdir(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        word: &Word,
    ) -> Result<(), Diagnostic> {
        let path = self.expand(stage, instruction, word)?;
        if !stage.workdir_set && !path.starts_with('/') {
            let message =
                format!("Relative workdir {} can have unexpected results if the base image changes", quote(&path));
            self.planner.warn(Rule::WorkdirRelativePath, instruction.span, &instruction.comments, message);
        }
        stage.workdir_set = true;
        let path = absolute(stage, &path);
        stage.config.config.working_dir = path.clone();
        let created_by = format!("WORKDIR {path}");
        if path == "/" {
            stage.counted += 1;
            history(stage, created_by, None);
            return Ok(());
        }
        let shown = upper_first_word(&self.shown(stage, &instruction.original, self.planner.lexer, &[]));
        let op = MkdirOp { parent: stage.fs.clone(), path, user: stage.config.config.user.clone() };
        let id = self.step(stage, Op::Mkdir(op), &shown, shown.clone(), instruction.span, instruction.trigger);
        history(stage, created_by, Some(id));
        Ok(())
    }

    pub(super) fn expose(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        words: &[Word],
    ) -> Result<(), Diagnostic> {
        let mut list = Vec::new();
        for word in words {
            for raw in self.expand_words(stage, instruction, word)? {
                let exposed = ports::parse(&raw).map_err(|e| Diagnostic::new(at(instruction, word.span), e))?;
                if exposed.odd_case {
                    let message = format!("Defined protocol '{raw}' in EXPOSE instruction should be lowercase");
                    self.planner.warn(Rule::ExposeProtoCasing, instruction.span, &instruction.comments, message);
                }
                if exposed.mapped {
                    let message = format!(
                        "EXPOSE instruction should not define an IP address or host-port mapping, found '{raw}'"
                    );
                    self.planner.warn(Rule::ExposeInvalidFormat, instruction.span, &instruction.comments, message);
                }
                for port in exposed.ports {
                    stage.config.config.exposed_ports.insert(port.clone(), Empty {});
                    if list.len() < MAX_PORTS_SHOWN {
                        list.push(port);
                    }
                }
            }
        }
        history(stage, format!("EXPOSE {}", plain_list(&list)), None);
        Ok(())
    }

    pub(super) fn volume(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        words: &[Word],
    ) -> Result<(), Diagnostic> {
        let mut list = Vec::new();
        for word in words {
            let path = self.expand(stage, instruction, word)?;
            if path.is_empty() {
                let message = "VOLUME specified can not be an empty string";
                return Err(Diagnostic::new(at(instruction, word.span), message));
            }
            stage.config.config.volumes.insert(path.clone(), Empty {});
            list.push(path);
        }
        history(stage, format!("VOLUME {}", plain_list(&list)), None);
        Ok(())
    }

    pub(super) fn stop_signal(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        word: &Word,
    ) -> Result<(), Diagnostic> {
        let signal = self.expand(stage, instruction, word)?;
        if signal.parse::<Signal>().is_err() {
            let message = format!("invalid signal: {signal}");
            return Err(Diagnostic::new(at(instruction, word.span), message)
                .with_hint("write a name such as SIGTERM, or a number"));
        }
        history(stage, format!("STOPSIGNAL {signal}"), None);
        stage.config.config.stop_signal = signal;
        Ok(())
    }

    fn command(&mut self, stage: &Stage, instruction: &Instruction, verb: &str, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(args) => args.clone(),
            Command::Shell(text) => {
                if stage.config.config.shell.as_ref().is_none_or(Vec::is_empty) {
                    let message = format!(
                        "JSON arguments recommended for {verb} to prevent unintended behavior related to OS signals"
                    );
                    self.planner.warn(Rule::JSONArgsRecommended, instruction.span, &instruction.comments, message);
                }
                with_shell(stage, text.clone())
            }
        }
    }

    /// Only the last of its kind counts: names the one before.
    fn once(&mut self, instruction: &Instruction, before: Option<Span>, verb: &str) {
        if let Some(span) = before {
            let message = format!(
                "Multiple {verb} instructions should not be used in the same stage because only the last one will be used"
            );
            self.planner.warn(Rule::MultipleInstructionsDisallowed, span, &instruction.comments, message);
        }
    }

    pub(super) fn cmd(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        command: &Command,
    ) -> Result<(), Diagnostic> {
        self.once(instruction, stage.cmd_set.replace(instruction.span), "CMD");
        let args = self.command(stage, instruction, "CMD", command);
        history(stage, format!("CMD {}", quoted_list(&args)), None);
        stage.config.config.cmd = Some(args).filter(|a| !a.is_empty());
        Ok(())
    }

    pub(super) fn entrypoint(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        command: &Command,
    ) -> Result<(), Diagnostic> {
        self.once(instruction, stage.entrypoint_set.replace(instruction.span), "ENTRYPOINT");
        let args = self.command(stage, instruction, "ENTRYPOINT", command);
        history(stage, format!("ENTRYPOINT {}", quoted_list(&args)), None);
        stage.config.config.entrypoint = Some(args).filter(|a| !a.is_empty());
        // The base's CMD was meant for the base's ENTRYPOINT.
        if stage.cmd_set.is_none() {
            stage.config.config.cmd = None;
        }
        Ok(())
    }

    pub(super) fn healthcheck(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        spec: &HealthcheckSpec,
    ) -> Result<(), Diagnostic> {
        self.once(instruction, stage.healthcheck_set.replace(instruction.span), "HEALTHCHECK");
        let test = match &spec.command {
            None => vec!["NONE".to_owned()],
            Some(Command::Exec(args)) => std::iter::once("CMD".to_owned()).chain(args.iter().cloned()).collect(),
            Some(Command::Shell(text)) => vec!["CMD-SHELL".to_owned(), text.clone()],
        };
        let nanos = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        let text = format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            plain_list(&test),
            duration::go(spec.interval),
            duration::go(spec.timeout),
            duration::go(spec.start_period),
            duration::go(spec.start_interval),
            spec.retries
        );
        stage.config.config.healthcheck = Some(Healthcheck {
            test,
            interval: nanos(spec.interval),
            timeout: nanos(spec.timeout),
            start_period: nanos(spec.start_period),
            start_interval: nanos(spec.start_interval),
            retries: i64::from(spec.retries),
        });
        history(stage, text, None);
        Ok(())
    }

    fn lint_secret(&mut self, verb: &str, instruction: &Instruction, name: &str) {
        const SECRET: [&str; 10] =
            ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
        const HARMLESS: [&str; 3] = ["public", "file", "version"];
        let lower = name.to_lowercase();
        let has = |list: &[&str]| lower.split('_').any(|part| list.contains(&part));
        if has(&SECRET) && !has(&HARMLESS) {
            let message = format!("Do not use ARG or ENV instructions for sensitive data ({verb} {})", quote(name));
            self.planner.warn(Rule::SecretsUsedInArgOrEnv, instruction.span, &instruction.comments, message);
        }
    }

    pub(super) fn lint_base_platform(&mut self, request: &BaseRequest, config: &ImageConfig, index: usize) {
        let wanted = &request.platform;
        if wanted.os == config.os && wanted.architecture == config.architecture {
            return;
        }
        let stage = &self.planner.file.stages[index];
        let actual = format!("{}/{}", config.os, config.architecture);
        let message = format!(
            "Base image {} was pulled with platform {actual:?}, expected {:?} for current build",
            request.reference,
            wanted.to_string()
        );
        self.planner.warn(Rule::InvalidBaseImagePlatform, stage.span, &stage.comments, message);
    }
}

/// Lints of the file as a whole and of `FROM` lines.
impl super::Planner<'_> {
    pub(super) fn lint_file(&mut self) {
        let file = self.file;
        for span in &file.empty_continuations {
            self.warn(Rule::NoEmptyContinuation, *span, &[], "Empty continuation line".into());
        }
        let mut seen = Vec::new();
        for stage in &file.stages {
            if let (Some(name), Some(written)) = (&stage.name, &stage.written_name) {
                if written.text != *name {
                    let message = format!("Stage name '{}' should be lowercase", written.text);
                    self.warn(Rule::StageNameCasing, stage.span, &stage.comments, message);
                }
                if matches!(name.as_str(), "context" | "scratch") {
                    let message = format!("Stage name should not use the same name as reserved stage {name:?}");
                    self.warn(Rule::ReservedStageName, stage.span, &stage.comments, message);
                }
                if seen.contains(&name) {
                    let message = format!("Duplicate stage name {name:?}, stage names should be unique");
                    self.warn(Rule::DuplicateStageName, stage.span, &stage.comments, message);
                }
                seen.push(name);
            }
            if let Some(keyword) = &stage.as_keyword {
                let lower = stage.keyword == stage.keyword.to_lowercase();
                let upper = stage.keyword == stage.keyword.to_uppercase();
                let fits = if lower { *keyword == keyword.to_lowercase() } else { *keyword == keyword.to_uppercase() };
                if (lower || upper) && !fits {
                    let message = format!("'{keyword}' and '{}' keywords' casing do not match", stage.keyword);
                    self.warn(Rule::FromAsCasing, stage.span, &stage.comments, message);
                }
            }
        }
        self.lint_casing();
    }

    fn lint_casing(&mut self) {
        let file = self.file;
        let of_stage = |s: &crate::instructions::Stage| {
            let own = std::iter::once((s.keyword.clone(), s.span, s.comments.clone()));
            let rest = s.instructions.iter().map(|i| (i.keyword.clone(), i.span, i.comments.clone()));
            own.chain(rest).collect::<Vec<_>>()
        };
        let all: Vec<_> = file.stages.iter().flat_map(of_stage).collect();
        let lower = all.iter().filter(|(k, ..)| *k == k.to_lowercase()).count();
        let upper = all.iter().filter(|(k, ..)| *k == k.to_uppercase()).count();
        let (right, casing): (fn(&str) -> String, _) = match lower > upper {
            true => (str::to_lowercase, "lowercase"),
            false => (str::to_uppercase, "uppercase"),
        };
        for (keyword, span, comments) in all {
            if keyword != right(&keyword) {
                let message = format!("Command '{keyword}' should match the case of the command majority ({casing})");
                self.warn(Rule::ConsistentInstructionCasing, span, &comments, message);
            }
        }
    }

    pub(super) fn lint_from(&mut self, index: usize, unset: &std::collections::BTreeSet<String>) {
        let stage = &self.file.stages[index];
        for name in unset.iter().filter(|n| !self.declared.contains(*n)).cloned().collect::<Vec<_>>() {
            let known: Vec<String> = self.globals.names().map(str::to_owned).collect();
            let message = format!("FROM argument '{name}' is not declared");
            let message = suggest::with(message, &name, known.iter().map(String::as_str));
            self.warn(Rule::UndefinedArgInFrom, stage.span, &stage.comments, message);
        }
    }

    pub(super) fn lint_platform(&mut self, index: usize, done: &Expanded) {
        let stage = &self.file.stages[index];
        let Some(word) = &stage.platform else { return };
        let only_target = done.used.len() == 1 && done.used.contains("TARGETPLATFORM") && done.unset.is_empty();
        if only_target && Some(done.text.as_str()) == self.globals.value("TARGETPLATFORM") {
            let message = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                word.text
            );
            self.warn(Rule::RedundantTargetPlatform, stage.span, &stage.comments, message);
        }
        if !done.used.is_empty() || !done.unset.is_empty() {
            return;
        }
        let Ok(platform) = done.text.parse::<barque_model::Platform>() else { return };
        let name = stage.name.as_deref().unwrap_or("");
        if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
            let message = format!("FROM --platform flag should not use constant value {:?}", done.text);
            self.warn(Rule::FromPlatformFlagConstDisallowed, stage.span, &stage.comments, message);
        }
    }
}

/// Docker refuses these before anything else.
pub(crate) fn check_options(options: &BuildOptions) -> Result<(), barque_model::Error> {
    if options.squash {
        return Err(barque_model::Error::not_implemented("build --squash")
            .with_hint("use a multi-stage build, which keeps only what the last stage needs"));
    }
    Ok(())
}
