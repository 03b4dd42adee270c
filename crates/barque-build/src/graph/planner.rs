//! Which stages and images the target needs, and in which order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use barque_model::{Platform, Reference, Timestamp};

use super::args::{self, Vars};
use super::eval::{Build, StageResult};
use super::{BuildGraph, FsRef};
use crate::config::ImageConfig;
use crate::ignore::Ignore;
use crate::instructions::{Dockerfile, Instruction, Kind, parse_trigger};
use crate::lint::{Linter, Rule};
use crate::options::{BuildOptions, NamedContext};
use crate::shell::{Env, Lexer};
use crate::span::{Diagnostic, Span};
use crate::suggest;
use crate::worker::{BaseImage, BaseRequest};

/// More instructions in one file are refused.
const MAX_INSTRUCTIONS: usize = 20_000;

/// Plans one build. See the module's description for the order of calls.
pub struct Planner<'a> {
    pub(super) file: &'a Dockerfile,
    pub(super) options: &'a BuildOptions,
    pub(super) ignore: Option<&'a Ignore>,
    pub(super) globals: Vars,
    /// Arguments declared somewhere, for the list of unused ones.
    pub(super) declared: BTreeSet<String>,
    pub(super) lexer: Lexer,
    pub(super) linter: Linter,
    pub(super) stages: Vec<StagePlan>,
    images: HashMap<BaseRequest, Arc<BaseImage>>,
    target: usize,
}

/// A stage with its base found.
#[derive(Debug)]
pub(super) struct StagePlan {
    pub(super) base: StageBase,
    pub(super) platform: Platform,
    /// Own instructions, after the base's triggers once those are known.
    pub(super) instructions: Vec<Instruction>,
    triggers_known: bool,
    pub(super) span: Span,
}

/// What `FROM` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StageBase {
    Scratch,
    Stage(usize),
    Image(BaseRequest),
    /// A directory given by `--build-context`.
    Directory(String),
}

/// What `--from` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Scratch,
    Stage(usize),
    Image(BaseRequest),
    Directory(String),
}

impl<'a> Planner<'a> {
    /// Evaluates global arguments and every `FROM`. `ignore` is the main context's ignore file, for a lint.
    pub fn new(
        file: &'a Dockerfile,
        options: &'a BuildOptions,
        ignore: Option<&'a Ignore>,
    ) -> Result<Self, Diagnostic> {
        let linter = Linter::new(&file.directives, options.argument("BUILDKIT_DOCKERFILE_CHECK"))
            .map_err(|(span, e)| Diagnostic::new(span, e))?;
        let last_name = file.stages.last().and_then(|s| s.name.clone()).unwrap_or_default();
        let target_name = if options.target.is_empty() { last_name } else { options.target.clone() };
        let mut planner = Planner {
            file,
            options,
            ignore,
            globals: args::platform_vars(options, &target_name),
            declared: BTreeSet::new(),
            lexer: Lexer::new(file.escape),
            linter,
            stages: Vec::new(),
            images: HashMap::new(),
            target: 0,
        };
        let count: usize = file.stages.iter().map(|s| s.instructions.len() + 1).sum();
        if count > MAX_INSTRUCTIONS {
            let message = format!("the file has more than {MAX_INSTRUCTIONS} instructions");
            return Err(Diagnostic::new(file.stages[0].span, message));
        }
        planner.lint_file();
        planner.global_args()?;
        for index in 0..file.stages.len() {
            let stage = planner.stage(index)?;
            planner.stages.push(stage);
        }
        planner.check_sources()?;
        planner.target = planner.find_target()?;
        // Those of other stages are known already, and may need further stages and images.
        planner.add_triggers()?;
        Ok(planner)
    }

    pub(super) fn warn(&mut self, rule: Rule, span: Span, comments: &[String], message: String) {
        self.linter.warn(&self.file.source, rule, span, comments, message);
    }

    fn global_args(&mut self) -> Result<(), Diagnostic> {
        let file = self.file;
        let mut defaults = self.globals.clone();
        for instruction in &file.global_args {
            let Kind::Arg(list) = &instruction.kind else { continue };
            for arg in list {
                self.declared.insert(arg.name.text.clone());
                let expand = |vars: &Vars| match &arg.default {
                    Some(word) => self.lexer.expand(&word.text, vars).map(|e| Some(e.text)),
                    None => Ok(None),
                };
                let fail = |e| Diagnostic::new(arg.name.span, e);
                if let Some(value) = expand(&defaults).map_err(fail)? {
                    defaults.set(&arg.name.text, &value);
                }
                let given = self.options.build_args.get(&arg.name.text).cloned().flatten();
                let value = match given {
                    Some(value) => Some(value),
                    None => expand(&self.globals).map_err(fail)?,
                };
                if let Some(value) = value {
                    self.globals.set(&arg.name.text, &value);
                }
            }
        }
        self.lint_default_bases(&defaults);
        Ok(())
    }

    /// A base that only works with `--build-arg` is worth a warning.
    fn lint_default_bases(&mut self, defaults: &Vars) {
        let file = self.file;
        for stage in &file.stages {
            let Ok(done) = self.lexer.expand(&stage.base.text, defaults) else { return };
            if done.text.parse::<Reference>().is_err() {
                let message =
                    format!("Default value for ARG {} results in empty or invalid base image name", stage.base.text);
                self.warn(Rule::InvalidDefaultArgInFrom, stage.span, &stage.comments, message);
            }
        }
    }

    fn stage(&mut self, index: usize) -> Result<StagePlan, Diagnostic> {
        let written = &self.file.stages[index];
        let expanded = self.lexer.expand(&written.base.text, &self.globals);
        let done = expanded.map_err(|e| Diagnostic::new(written.base.span, e))?;
        self.lint_from(index, &done.unset);
        if done.text.is_empty() {
            let message = format!("base name ({}) should not be blank", written.base.text);
            let unset: Vec<&str> = done.unset.iter().map(String::as_str).collect();
            let hint = format!("give {} a default with ARG before FROM, or use --build-arg", unset.join(", "));
            return Err(Diagnostic::new(written.base.span, message).with_hint(hint));
        }
        let (platform, explicit) = self.platform(index)?;
        let base = self.stage_base(index, &done.text, &platform, explicit)?;
        // A stage built on another inherits its platform.
        let platform = match &base {
            StageBase::Stage(i) => self.stages[*i].platform.clone(),
            _ => platform,
        };
        // A stage that --build-context replaces is that, whatever the file says about it.
        let replaced = written.name.as_deref().and_then(|name| self.named_context(name)).is_some();
        let instructions = if replaced { Vec::new() } else { written.instructions.clone() };
        Ok(StagePlan { base, platform, instructions, triggers_known: replaced, span: written.span })
    }

    fn platform(&mut self, index: usize) -> Result<(Platform, bool), Diagnostic> {
        let stage = &self.file.stages[index];
        // A platform asked for by --platform is as binding as one in the file: an image of another is not taken for it.
        let asked = self.options.platform.is_some();
        let Some(word) = &stage.platform else { return Ok((self.options.target_platform().clone(), asked)) };
        let fail = |message: String| Diagnostic::new(word.span, message);
        let done = self.lexer.expand(&word.text, &self.globals).map_err(fail)?;
        self.lint_from(index, &done.unset);
        self.lint_platform(index, &done);
        if done.text.is_empty() {
            let message = format!("empty platform value from expression {}", word.text);
            let known: Vec<String> = self.globals.names().map(str::to_owned).collect();
            let close = done.unset.iter().find_map(|u| suggest::closest(u, known.iter().map(String::as_str)));
            let message = match close {
                Some(close) => format!("{message} (did you mean {close}?)"),
                None => message,
            };
            return Err(fail(message));
        }
        let platform = done.text.parse().map_err(|e: barque_model::Error| {
            fail(format!("failed to parse platform {}: {}", word.text, e.message())).with_hint("write linux/amd64")
        })?;
        Ok((platform, true))
    }

    fn stage_base(
        &self,
        index: usize,
        name: &str,
        platform: &Platform,
        explicit: bool,
    ) -> Result<StageBase, Diagnostic> {
        let stage = &self.file.stages[index];
        let image = |reference: &str| {
            let request = BaseRequest {
                reference: reference.to_owned(),
                platform: platform.clone(),
                platform_explicit: explicit,
            };
            StageBase::Image(request)
        };
        let named = |name: &str| match self.named_context(name)? {
            (_, NamedContext::Image(reference)) => Some(image(reference)),
            (key, NamedContext::Directory(_)) => Some(StageBase::Directory(key.to_owned())),
        };
        if let Some(base) = stage.name.as_deref().and_then(named) {
            return Ok(base);
        }
        if let Some(earlier) = self.stage_named(&name.to_lowercase(), index) {
            return Ok(StageBase::Stage(earlier));
        }
        if name == "scratch" {
            return Ok(StageBase::Scratch);
        }
        if let Some(base) = named(name) {
            return Ok(base);
        }
        match name.parse::<Reference>() {
            Ok(_) => Ok(image(name)),
            Err(e) => {
                let message = format!("failed to parse stage name {name:?}: {}", e.message());
                Err(Diagnostic::new(stage.base.span, message))
            }
        }
    }

    /// The last stage before `before` of that name.
    fn stage_named(&self, name: &str, before: usize) -> Option<usize> {
        self.file.stages[..before].iter().rposition(|s| s.name.as_deref() == Some(name))
    }

    /// A `--build-context` that replaces `name`.
    fn named_context(&self, name: &str) -> Option<(&str, &NamedContext)> {
        if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return None;
        }
        let contexts = &self.options.named_contexts;
        let familiar = |text: &str| {
            let reference: Reference = text.parse().ok()?;
            Some(reference.familiar().trim_end_matches(":latest").to_owned())
        };
        let exact = contexts.get_key_value(name);
        let found = exact.or_else(|| {
            let wanted = familiar(name)?;
            contexts.iter().find(|(key, _)| familiar(key).as_ref() == Some(&wanted))
        });
        found.map(|(key, context)| (key.as_str(), context))
    }

    /// What `--from=NAME` means in stage `index`.
    pub(super) fn source(&self, index: usize, name: &str, numbers: bool) -> Result<Source, String> {
        if numbers && let Ok(number) = name.parse::<i64>() {
            return match usize::try_from(number) {
                Ok(n) if n < index => Ok(Source::Stage(n)),
                Ok(n) if n == index => Err(format!("circular dependency detected on stage: {}", self.label(index))),
                Ok(n) if n < self.file.stages.len() => Err(self.later(name, index)),
                _ => Err(format!("invalid stage index {number}")),
            };
        }
        let lower = name.to_lowercase();
        if let Some(stage) = self.stage_named(&lower, index) {
            return Ok(Source::Stage(stage));
        }
        if lower == "scratch" {
            return Ok(Source::Scratch);
        }
        if self.file.stages[index].name.as_deref() == Some(&lower) {
            return Err(format!("circular dependency detected on stage: {}", self.label(index)));
        }
        if self.file.stages[index..].iter().any(|s| s.name.as_deref() == Some(&lower)) {
            return Err(self.later(name, index));
        }
        let request = |reference: &str| BaseRequest {
            reference: reference.to_owned(),
            platform: self.options.target_platform().clone(),
            platform_explicit: self.options.platform.is_some(),
        };
        match self.named_context(name) {
            Some((_, NamedContext::Image(reference))) => Ok(Source::Image(request(reference))),
            Some((key, NamedContext::Directory(_))) => Ok(Source::Directory(key.to_owned())),
            None => match name.parse::<Reference>() {
                Ok(_) => Ok(Source::Image(request(name))),
                Err(e) => Err(format!("failed to parse stage name {name:?}: {}", e.message())),
            },
        }
    }

    fn later(&self, name: &str, index: usize) -> String {
        let current = self.label(index);
        format!("cannot copy from stage {name:?}, it needs to be defined before current stage {current:?}")
    }

    pub(super) fn label(&self, index: usize) -> String {
        self.file.stages[index].label(index)
    }

    /// The name in step names: nothing if there is only one stage.
    pub(super) fn shown_label(&self, index: usize) -> String {
        if self.file.stages.len() == 1 { String::new() } else { self.label(index) }
    }

    /// Sources must be right even in stages the target does not need, as in Docker.
    fn check_sources(&self) -> Result<(), Diagnostic> {
        for index in 0..self.stages.len() {
            for instruction in &self.stages[index].instructions {
                self.sources_of(index, instruction)?;
            }
        }
        Ok(())
    }

    /// Every stage and image an instruction reads.
    pub(super) fn sources_of(&self, index: usize, instruction: &Instruction) -> Result<Vec<Source>, Diagnostic> {
        let names: Vec<(String, bool, Span)> = match &instruction.kind {
            Kind::Copy(files) => {
                let Some(from) = &files.flags.from else { return Ok(Vec::new()) };
                let expanded = self.lexer.expand(&from.text, &crate::shell::NoEnv);
                if expanded.map_err(|e| Diagnostic::new(from.span, e))?.text != from.text {
                    let message = "variable expansion is not supported for --from, define a new stage with FROM \
                                   using ARG from global scope as a workaround";
                    return Err(Diagnostic::new(from.span, message)
                        .with_hint("write FROM IMAGE:$VAR AS name above, and --from=name here"));
                }
                vec![(from.text.clone(), true, from.span)]
            }
            Kind::Run(run) => {
                let from = |w: &crate::parse::Word| Some((crate::instructions::mount_from(&w.text)?, false, w.span));
                run.mounts.iter().filter_map(from).collect()
            }
            _ => return Ok(Vec::new()),
        };
        let span_of = |span: Span| if instruction.trigger { instruction.span } else { span };
        let source = |(name, numbers, span): (String, bool, Span)| {
            self.source(index, &name, numbers).map_err(|e| Diagnostic::new(span_of(span), e))
        };
        names.into_iter().map(source).collect()
    }

    fn find_target(&self) -> Result<usize, Diagnostic> {
        let wanted = &self.options.target;
        let stages = &self.file.stages;
        if wanted.is_empty() {
            return Ok(stages.len() - 1);
        }
        let lower = wanted.to_lowercase();
        if let Some(index) = self.stage_named(&lower, stages.len()) {
            return Ok(index);
        }
        if let Some(index) = wanted.parse::<usize>().ok().filter(|i| *i < stages.len()) {
            return Ok(index);
        }
        let names: Vec<&str> = stages.iter().filter_map(|s| s.name.as_deref()).collect();
        let message = format!("target stage {wanted:?} could not be found");
        let message = suggest::with(message, wanted, names.iter().copied());
        let hint = match names.is_empty() {
            true => "no stage has a name; write FROM IMAGE AS NAME".to_owned(),
            false => format!("stages: {}", names.join(", ")),
        };
        Err(Diagnostic::new(stages[stages.len() - 1].span, message).with_hint(hint))
    }

    /// Stages the target needs, ascending.
    pub(super) fn needed(&self) -> Vec<usize> {
        let mut needed = BTreeSet::new();
        let mut todo = vec![self.target];
        while let Some(index) = todo.pop() {
            if !needed.insert(index) {
                continue;
            }
            if let StageBase::Stage(base) = self.stages[index].base {
                todo.push(base);
            }
            for source in self.stage_sources(index) {
                if let Source::Stage(stage) = source {
                    todo.push(stage);
                }
            }
        }
        needed.into_iter().collect()
    }

    fn stage_sources(&self, index: usize) -> Vec<Source> {
        let instructions = &self.stages[index].instructions;
        instructions.iter().flat_map(|i| self.sources_of(index, i).unwrap_or_default()).collect()
    }

    /// Images to look up before planning can go on, with where they are named. Empty: call
    /// [`Planner::finish`].
    pub fn pending(&self) -> Vec<(BaseRequest, Span)> {
        let mut pending = BTreeMap::new();
        for index in self.needed() {
            let stage = &self.stages[index];
            if let StageBase::Image(request) = &stage.base {
                pending
                    .insert((request.reference.clone(), request.platform.to_string()), (request.clone(), stage.span));
            }
            for instruction in &stage.instructions {
                for source in self.sources_of(index, instruction).unwrap_or_default() {
                    if let Source::Image(request) = source {
                        let key = (request.reference.clone(), request.platform.to_string());
                        pending.entry(key).or_insert((request, instruction.span));
                    }
                }
            }
        }
        pending.into_values().filter(|(r, _)| !self.images.contains_key(r)).collect()
    }

    /// Takes an image asked for. Once all are there, triggers of base images are added to their stages, which
    /// may make [`Planner::pending`] ask for more.
    pub fn provide(&mut self, request: &BaseRequest, image: BaseImage) -> Result<(), Diagnostic> {
        self.images.insert(request.clone(), Arc::new(image));
        self.add_triggers()
    }

    pub(super) fn image(&self, request: &BaseRequest) -> Option<&Arc<BaseImage>> {
        self.images.get(request)
    }

    /// Puts triggers before the instructions of the stages they belong to, as far as bases are known. A trigger may
    /// need a further stage, which may have triggers itself.
    fn add_triggers(&mut self) -> Result<(), Diagnostic> {
        while self.add_triggers_once()? {}
        Ok(())
    }

    /// Whether some were found.
    fn add_triggers_once(&mut self) -> Result<bool, Diagnostic> {
        let mut found = false;
        for index in self.needed() {
            if self.stages[index].triggers_known {
                continue;
            }
            let span = self.stages[index].span;
            let texts: Vec<String> = match &self.stages[index].base {
                StageBase::Scratch | StageBase::Directory(_) => Vec::new(),
                StageBase::Image(request) => match self.images.get(request) {
                    None => continue,
                    Some(image) => self.config_of(image, span)?.config.on_build,
                },
                StageBase::Stage(base) => {
                    let own = self.stages[*base].instructions.iter();
                    let text = |i: &Instruction| if let Kind::OnBuild(t) = &i.kind { Some(t.clone()) } else { None };
                    own.filter_map(text).collect()
                }
            };
            let triggers: Vec<Instruction> = texts.iter().map(|t| parse_trigger(t, span)).collect::<Result<_, _>>()?;
            for trigger in &triggers {
                self.sources_of(index, trigger)?;
            }
            let stage = &mut self.stages[index];
            found |= !triggers.is_empty();
            stage.instructions.splice(0..0, triggers);
            stage.triggers_known = true;
        }
        Ok(found)
    }

    pub(super) fn config_of(&self, image: &BaseImage, span: Span) -> Result<ImageConfig, Diagnostic> {
        ImageConfig::from_json(&image.config).map_err(|e| Diagnostic::new(span, e.chain()))
    }

    /// The graph. Call it when nothing is pending.
    pub fn finish(mut self) -> Result<BuildGraph, Diagnostic> {
        self.add_triggers()?;
        let epoch = self.epoch()?;
        let needed = self.needed();
        let mut build = Build::new(self);
        build.number_steps(&needed);
        let mut results: BTreeMap<usize, StageResult> = BTreeMap::new();
        for index in needed {
            let result = build.stage(index, &results)?;
            results.insert(index, result);
        }
        let target = build.planner.target;
        let Some(mut result) = results.remove(&target) else {
            return Err(Diagnostic::new(Span::default(), "the target stage was not planned"));
        };
        for (name, value) in &build.planner.options.labels {
            result.config.config.labels.insert(name.clone(), value.clone());
        }
        if let Some(platform) = &build.planner.options.platform {
            // What is built for a platform is for it, even on a base of the building machine's.
            let Platform { os, architecture, variant } = platform.clone();
            (result.config.os, result.config.architecture, result.config.variant) = (os, architecture, variant);
        }
        let Build { planner, vertices, steps, .. } = build;
        let unused = planner.options.build_args.keys();
        let unused = unused.filter(|n| !planner.declared.contains(*n) && !args::is_predefined(n)).cloned().collect();
        let (warnings, lint_error) = planner.linter.finish();
        Ok(BuildGraph {
            vertices,
            steps,
            target: result.fs,
            config: result.config,
            history: result.history,
            warnings,
            lint_error,
            unused_build_args: unused,
            epoch,
        })
    }

    fn epoch(&self) -> Result<Option<Timestamp>, Diagnostic> {
        if let Some(epoch) = self.options.source_date_epoch {
            return Ok(Some(epoch));
        }
        let given = self.options.build_args.get("SOURCE_DATE_EPOCH").cloned().flatten();
        let text = given.or_else(|| self.globals.get("SOURCE_DATE_EPOCH").map(|v| v.into_owned()));
        let Some(text) = text.filter(|t| !t.is_empty()) else { return Ok(None) };
        // Seconds beyond this year 9999 do not fit the image format's times.
        let seconds = text.parse::<i64>().ok().filter(|s| (0..=253_402_300_799).contains(s));
        match seconds.filter(|s| s.checked_mul(1_000_000_000).is_some()) {
            Some(seconds) => Ok(Some(Timestamp::from_secs(seconds))),
            None => {
                let message = format!("invalid SOURCE_DATE_EPOCH: {text}");
                Err(Diagnostic::new(Span::default(), message).with_hint("it is a number of seconds since 1970"))
            }
        }
    }
}

impl Source {
    /// The file system it stands for, given the stages built so far and a way to add image vertices.
    pub(super) fn fs(&self, stages: &BTreeMap<usize, StageResult>, image: impl FnOnce(&BaseRequest) -> FsRef) -> FsRef {
        match self {
            Source::Scratch => FsRef::Scratch,
            Source::Stage(index) => stages.get(index).map_or(FsRef::Scratch, |s| s.fs.clone()),
            Source::Image(request) => image(request),
            Source::Directory(name) => FsRef::Context(name.clone()),
        }
    }
}
