//! One stage after the other: variables, file-system steps, configuration.

use std::collections::{BTreeMap, HashMap};

use super::args::{Vars, proxy_env};
use super::planner::{Planner, StageBase};
use super::text::plain_list;
use super::{CopyOp, CopySource, FsRef, Op, PathSource, Vertex};
use crate::config::{DEFAULT_PATH, History, ImageConfig};
use crate::event::{StepInfo, StepKind, VertexId};
use crate::instructions::{Instruction, Kind};
use crate::lint::Rule;
use crate::parse::Word;
use crate::shell::{Env, Lexer};
use crate::span::{Diagnostic, Span};
use crate::suggest;
use crate::worker::BaseRequest;

/// Docker's comment on history entries of Dockerfile builds.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Longest `created_by` kept.
const MAX_CREATED_BY: usize = 64 << 10;

/// Bytes of all variables of a stage together.
const MAX_ENV: usize = 8 << 20;

/// The graph being made.
pub(super) struct Build<'a> {
    pub(super) planner: Planner<'a>,
    pub(super) vertices: Vec<Vertex>,
    pub(super) steps: Vec<StepInfo>,
    /// Index into `steps` of each stage's first step.
    first_step: BTreeMap<usize, usize>,
    bases: HashMap<BaseRequest, FsRef>,
    pub(super) proxy_env: Vec<String>,
}

/// A finished stage.
#[derive(Debug, Clone)]
pub(super) struct StageResult {
    pub(super) fs: FsRef,
    pub(super) config: ImageConfig,
    pub(super) history: Vec<Option<VertexId>>,
    vars: Vars,
    args: Vec<(String, Option<String>)>,
    workdir_set: bool,
}

/// A stage in the making.
pub(super) struct Stage {
    pub(super) index: usize,
    pub(super) fs: FsRef,
    pub(super) config: ImageConfig,
    pub(super) history: Vec<Option<VertexId>>,
    /// `ENV` and `ARG` as `RUN` sees them.
    pub(super) vars: Vars,
    /// Declared arguments, in order, for the history.
    pub(super) args: Vec<(String, Option<String>)>,
    pub(super) workdir_set: bool,
    pub(super) cmd_set: Option<Span>,
    pub(super) entrypoint_set: Option<Span>,
    pub(super) healthcheck_set: Option<Span>,
    /// Steps of BuildKit's `[n/total]`.
    total: usize,
    pub(super) counted: usize,
    ordinal: u32,
}

impl<'a> Build<'a> {
    pub(super) fn new(planner: Planner<'a>) -> Self {
        let proxy_env = proxy_env(planner.options);
        Build {
            planner,
            vertices: Vec::new(),
            steps: Vec::new(),
            first_step: BTreeMap::new(),
            bases: HashMap::new(),
            proxy_env,
        }
    }

    /// The classic builder's numbers: global arguments, then each stage's `FROM` and instructions.
    pub(super) fn number_steps(&mut self, needed: &[usize]) {
        let mut steps: Vec<StepInfo> = Vec::new();
        let mut push = |text: &str, kind, stage: usize, trigger: bool| {
            let number = steps.last().map_or(0, |s| s.number) + u32::from(!trigger);
            let text = text.to_owned();
            steps.push(StepInfo { number, text, kind, vertex: None, stage: stage as u32, trigger });
            steps.len() - 1
        };
        for instruction in &self.planner.file.global_args {
            push(&instruction.original, StepKind::GlobalArg, 0, false);
        }
        for &index in needed {
            let kind = match &self.planner.stages[index].base {
                StageBase::Image(request) => {
                    StepKind::FromImage(self.planner.image(request).map_or_else(String::new, |i| i.id.digest().short()))
                }
                StageBase::Stage(base) => StepKind::FromStage(*base as u32),
                StageBase::Scratch | StageBase::Directory(_) => StepKind::FromScratch,
            };
            let first = push(&self.planner.file.stages[index].original, kind, index, false);
            self.first_step.insert(index, first);
            for instruction in &self.planner.stages[index].instructions {
                let kind = match instruction.kind {
                    Kind::Copy(_) | Kind::Add(_) => StepKind::Copy,
                    _ => StepKind::Container,
                };
                push(&crate::git::redacted(&instruction.original), kind, index, instruction.trigger);
            }
        }
        if let (Some(target), labels) = (needed.last(), &self.planner.options.labels)
            && !labels.is_empty()
        {
            let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            push(&format!("LABEL {}", labels.join(" ")), StepKind::Container, *target, false);
        }
        self.steps = steps;
    }

    pub(super) fn stage(
        &mut self,
        index: usize,
        done: &BTreeMap<usize, StageResult>,
    ) -> Result<StageResult, Diagnostic> {
        let mut stage = self.start(index, done)?;
        let instructions = self.planner.stages[index].instructions.clone();
        let first = self.first_step.get(&index).copied().unwrap_or(0);
        for (i, instruction) in instructions.iter().enumerate() {
            let before = self.vertices.len();
            self.instruction(&mut stage, instruction, done)?;
            let made = self.vertices.get(before..).unwrap_or_default().iter().rfind(|v| v.op.parent().is_some());
            if let (Some(vertex), Some(step)) = (made.map(|v| v.id), self.steps.get_mut(first + 1 + i)) {
                step.vertex = Some(vertex);
            }
            if stage.vars.pairs().iter().map(String::len).sum::<usize>() > MAX_ENV {
                let message = format!("the variables of this stage are longer than {MAX_ENV} bytes");
                return Err(Diagnostic::new(instruction.span, message));
            }
        }
        let Stage { fs, config, history, vars, args, workdir_set, .. } = stage;
        Ok(StageResult { fs, config, history, vars, args, workdir_set })
    }

    fn start(&mut self, index: usize, done: &BTreeMap<usize, StageResult>) -> Result<Stage, Diagnostic> {
        let (base, platform) = (self.planner.stages[index].base.clone(), self.planner.stages[index].platform.clone());
        let span = self.planner.stages[index].span;
        let counts =
            |i: &&Instruction| matches!(i.kind, Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_));
        let steps = self.planner.stages[index].instructions.iter().filter(counts).count();
        let mut stage = Stage {
            index,
            fs: FsRef::Scratch,
            config: ImageConfig::scratch(&platform),
            history: Vec::new(),
            vars: Vars::default(),
            args: Vec::new(),
            workdir_set: false,
            cmd_set: None,
            entrypoint_set: None,
            healthcheck_set: None,
            total: steps + usize::from(matches!(base, StageBase::Image(_) | StageBase::Directory(_))),
            counted: 0,
            ordinal: 0,
        };
        match &base {
            StageBase::Scratch => {}
            StageBase::Directory(name) => self.start_from_directory(&mut stage, name, span),
            StageBase::Image(request) => {
                stage.fs = self.base(request, Some(&mut stage.counted), stage.total, index, span);
                if let Some(image) = self.planner.image(request).cloned() {
                    stage.config = self.planner.config_of(&image, span)?;
                    self.lint_base_platform(request, &stage.config, index);
                }
                stage.config.created = None;
            }
            StageBase::Stage(base) => {
                if let Some(parent) = done.get(base) {
                    stage.fs = parent.fs.clone();
                    stage.config = parent.config.clone();
                    stage.history = parent.history.clone();
                    stage.vars = parent.vars.clone();
                    stage.args = parent.args.clone();
                    stage.workdir_set = parent.workdir_set;
                }
            }
        }
        if let Some(vertex) = stage.fs.vertex()
            && let Some(step) = self.first_step.get(&index).and_then(|s| self.steps.get_mut(*s))
            && matches!(base, StageBase::Image(_))
        {
            step.vertex = Some(vertex);
        }
        stage.history.resize(stage.config.history.len(), None);
        stage.config.config.on_build.clear();
        if stage.config.env("PATH").is_none() {
            stage.config.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        for pair in stage.config.config.env.clone() {
            let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
            stage.vars.set(name, value);
        }
        Ok(stage)
    }

    /// The vertex of an image, made once.
    fn base(
        &mut self,
        request: &BaseRequest,
        counted: Option<&mut usize>,
        total: usize,
        index: usize,
        span: Span,
    ) -> FsRef {
        let prefix = match counted {
            Some(counted) => {
                *counted += 1;
                prefix(&self.planner.shown_label(index), *counted, total, false)
            }
            None => String::new(),
        };
        if let Some(fs) = self.bases.get(request) {
            return fs.clone();
        }
        let Some(image) = self.planner.image(request).cloned() else { return FsRef::Scratch };
        let fs = match image.snapshot {
            None => FsRef::Scratch,
            Some(_) => {
                let text = format!("FROM {}", image.name);
                let name = format!("{prefix}{text}");
                FsRef::Vertex(self.push(Op::Base(image), name, text, index, 0, span))
            }
        };
        self.bases.insert(request.clone(), fs.clone());
        fs
    }

    /// An image named by `--from`.
    pub(super) fn source_image(&mut self, request: &BaseRequest, index: usize, span: Span) -> FsRef {
        self.base(request, None, 0, index, span)
    }

    /// `FROM` a `--build-context` directory: an image of its files.
    fn start_from_directory(&mut self, stage: &mut Stage, name: &str, span: Span) {
        let source = PathSource {
            from: FsRef::Context(name.to_owned()),
            pattern: String::new(),
            pivot: String::new(),
            written: ".".into(),
            origin: format!("build context {name}"),
            unpack: false,
        };
        let op = CopyOp {
            parent: FsRef::Scratch,
            verb: "COPY",
            sources: vec![CopySource::Path(source)],
            destination: "/".into(),
            chown: None,
            chmod: None,
            parents: false,
            link: false,
            exclude: Vec::new(),
        };
        let text = format!("FROM {name}");
        let id = self.step(stage, Op::Copy(Box::new(op)), &text, text.clone(), span, false);
        history(stage, text, Some(id));
    }

    fn push(&mut self, op: Op, name: String, instruction: String, index: usize, ordinal: u32, span: Span) -> VertexId {
        let id = VertexId(self.vertices.len() as u32);
        let options = self.planner.options;
        let stage_name = self.planner.file.stages[index].name.clone().unwrap_or_else(|| index.to_string());
        self.vertices.push(Vertex {
            id,
            name,
            op,
            ordinal,
            instruction,
            span,
            line: self.planner.file.source.lines(span).0,
            ignore_cache: options.no_cache
                || options.no_cache_filter.iter().any(|f| f.eq_ignore_ascii_case(&stage_name)),
            stage: stage_name,
        });
        id
    }

    /// Adds a step of the stage; its result is the stage's file system from now on.
    pub(super) fn step(
        &mut self,
        stage: &mut Stage,
        op: Op,
        shown: &str,
        instruction: String,
        span: Span,
        trigger: bool,
    ) -> VertexId {
        stage.counted += 1;
        stage.ordinal += 1;
        let label = self.planner.shown_label(stage.index);
        let name = format!("{}{shown}", prefix(&label, stage.counted, stage.total, trigger));
        let id = self.push(op, name, instruction, stage.index, stage.ordinal, span);
        stage.fs = FsRef::Vertex(id);
        id
    }

    /// Adds work that is no step of its own, such as a download.
    pub(super) fn auxiliary(&mut self, stage: &Stage, op: Op, shown: &str, span: Span) -> VertexId {
        let label = self.planner.shown_label(stage.index);
        let name = format!("{}{shown}", prefix(&label, stage.counted + 1, stage.total, false));
        self.push(op, name, shown.to_owned(), stage.index, stage.ordinal, span)
    }

    /// Expands one word.
    pub(super) fn expand(
        &mut self,
        stage: &Stage,
        instruction: &Instruction,
        word: &Word,
    ) -> Result<String, Diagnostic> {
        let done = self.planner.lexer.expand(&word.text, &stage.vars);
        let done = done.map_err(|e| Diagnostic::new(at(instruction, word.span), e))?;
        self.lint_unset(stage, instruction, done.unset);
        Ok(done.text)
    }

    /// Expands a word that may become several.
    pub(super) fn expand_words(
        &mut self,
        stage: &Stage,
        instruction: &Instruction,
        word: &Word,
    ) -> Result<Vec<String>, Diagnostic> {
        let done = self.planner.lexer.expand(&word.text, &stage.vars);
        let done = done.map_err(|e| Diagnostic::new(at(instruction, word.span), e))?;
        self.lint_unset(stage, instruction, done.unset);
        Ok(done.words)
    }

    /// Expands text in which quotes mean nothing (a heredoc's body).
    pub(super) fn expand_body(
        &mut self,
        stage: &Stage,
        instruction: &Instruction,
        text: &str,
    ) -> Result<String, Diagnostic> {
        let lexer = Lexer { ignore_quotes: true, ..Lexer::new('\\') };
        let done = lexer.expand(text, &stage.vars).map_err(|e| Diagnostic::new(instruction.span, e))?;
        self.lint_unset(stage, instruction, done.unset);
        Ok(done.text)
    }

    pub(super) fn lint_unset(
        &mut self,
        stage: &Stage,
        instruction: &Instruction,
        unset: std::collections::BTreeSet<String>,
    ) {
        for name in unset {
            if stage.args.iter().any(|(n, _)| *n == name) {
                continue;
            }
            let close = suggest::closest(&name, stage.vars.names());
            let hint = close.map(|c| format!(" (did you mean ${c}?)")).unwrap_or_default();
            let message = format!("Usage of undefined variable '${name}'{hint}");
            self.planner.warn(Rule::UndefinedVar, instruction.span, &instruction.comments, message);
        }
    }

    /// The step's name with variables put in; as written if that fails.
    pub(super) fn shown(&self, stage: &Stage, text: &str, lexer: Lexer, mask: &[String]) -> String {
        struct Masked<'e>(&'e Vars, &'e [String]);
        impl Env for Masked<'_> {
            fn get(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
                if self.1.iter().any(|m| m == name) { Some("****".into()) } else { self.0.get(name) }
            }
        }
        let expanded = lexer.expand(text, &Masked(&stage.vars, mask)).map(|e| e.text);
        expanded.unwrap_or_else(|_| text.to_owned())
    }

    fn instruction(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        done: &BTreeMap<usize, StageResult>,
    ) -> Result<(), Diagnostic> {
        match &instruction.kind {
            Kind::Run(run) => self.run(stage, instruction, run, done),
            Kind::Copy(files) => self.copy(stage, instruction, files, false, done),
            Kind::Add(files) => self.copy(stage, instruction, files, true, done),
            Kind::Env(pairs) => self.env(stage, instruction, pairs),
            Kind::Label(pairs) => self.label(stage, instruction, pairs),
            Kind::Arg(list) => self.arg(stage, instruction, list),
            Kind::Workdir(path) => self.workdir(stage, instruction, path),
            Kind::User(user) => {
                let user = self.expand(stage, instruction, user)?;
                history(stage, format!("USER {user}"), None);
                stage.config.config.user = user;
                Ok(())
            }
            Kind::Expose(ports) => self.expose(stage, instruction, ports),
            Kind::Volume(list) => self.volume(stage, instruction, list),
            Kind::Entrypoint(command) => self.entrypoint(stage, instruction, command),
            Kind::Cmd(command) => self.cmd(stage, instruction, command),
            Kind::Healthcheck(spec) => self.healthcheck(stage, instruction, spec),
            Kind::StopSignal(signal) => self.stop_signal(stage, instruction, signal),
            Kind::Shell(shell) => {
                history(stage, format!("SHELL {}", plain_list(shell)), None);
                stage.config.config.shell = Some(shell.clone());
                Ok(())
            }
            Kind::OnBuild(text) => {
                stage.config.config.on_build.push(text.clone());
                Ok(())
            }
            Kind::Maintainer(name) => {
                let message = "Maintainer instruction is deprecated in favor of using label".to_owned();
                self.planner.warn(Rule::MaintainerDeprecated, instruction.span, &instruction.comments, message);
                stage.config.author = name.text.clone();
                history(stage, format!("MAINTAINER {}", name.text), None);
                Ok(())
            }
        }
    }
}

/// Words of a base image's trigger stand nowhere in this file: mark the `FROM` line instead.
pub(super) fn at(instruction: &Instruction, span: Span) -> Span {
    if instruction.trigger { instruction.span } else { span }
}

/// Appends a history entry; `vertex` is the one whose layer it describes.
pub(super) fn history(stage: &mut Stage, mut created_by: String, vertex: Option<VertexId>) {
    if created_by.len() > MAX_CREATED_BY {
        let mut end = MAX_CREATED_BY;
        while !created_by.is_char_boundary(end) {
            end -= 1;
        }
        created_by.truncate(end);
        created_by.push('…');
    }
    stage.config.history.push(History {
        created_by,
        comment: COMMENT.to_owned(),
        empty_layer: vertex.is_none(),
        ..History::default()
    });
    stage.history.push(vertex);
}

/// BuildKit's `[stage 2/5] `.
fn prefix(label: &str, number: usize, total: usize, trigger: bool) -> String {
    let width = total.max(1).to_string().len();
    let label = if label.is_empty() { String::new() } else { format!("{label} ") };
    let trigger = if trigger { "ONBUILD " } else { "" };
    format!("[{label}{number:>width$}/{total}] {trigger}")
}
