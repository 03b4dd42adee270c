//! `COPY` and `ADD` into operations.

use std::collections::BTreeMap;

use barque_model::path::{clean, rooted};

use super::eval::{Build, Stage, StageResult, at, history};
use super::planner::Source;
use super::run::workdir;
use super::text::upper_first_word;
use super::{CopyOp, CopySource, FsRef, Op, PathSource};
use crate::git::{GitRef, redacted};
use crate::instructions::{Files, Instruction, parse_chmod};
use crate::lint::Rule;
use crate::parse::Word;
use crate::span::Diagnostic;
use crate::worker::UrlRequest;

impl Build<'_> {
    pub(super) fn copy(
        &mut self,
        stage: &mut Stage,
        instruction: &Instruction,
        files: &Files,
        add: bool,
        done: &BTreeMap<usize, StageResult>,
    ) -> Result<(), Diagnostic> {
        let verb = if add { "ADD" } else { "COPY" };
        let mut written = Vec::new();
        for source in &files.sources {
            written.push(self.expand(stage, instruction, source)?);
        }
        let destination = self.expand(stage, instruction, &files.destination)?;
        let chown = self.optional(stage, instruction, files.flags.chown.as_ref())?;
        let chmod = self.optional(stage, instruction, files.flags.chmod.as_ref())?;
        let checksum = self.optional(stage, instruction, files.flags.checksum.as_ref())?;
        let flag_error = |word: &Option<Word>, message: String| {
            Diagnostic::new(at(instruction, word.as_ref().map_or(instruction.span, |w| w.span)), message)
        };
        let mode = match chmod.as_deref().filter(|m| !m.is_empty()) {
            Some(text) => Some(parse_chmod(text).map_err(|e| flag_error(&files.flags.chmod, e))?),
            None => None,
        };
        if checksum.is_some() {
            check_checksum(&written).map_err(|e| flag_error(&files.flags.checksum, e.into()))?;
        }
        let (from, origin) = self.copy_from(stage, instruction, files, done)?;
        let shown = upper_first_word(&self.shown(stage, &instruction.original, self.planner.lexer, &[]));
        let shown = redacted(&shown);
        let mut sources = Vec::new();
        for (text, word) in written.iter().zip(&files.sources) {
            let from = (&from, origin.as_str());
            let source = self.source_of(stage, instruction, files, text, checksum.as_deref(), from, add, &shown);
            sources.push(source.map_err(|e| Diagnostic::new(at(instruction, word.span), e))?);
        }
        for inline in &files.inline {
            let content = match inline.expand {
                true => self.expand_body(stage, instruction, &inline.content)?,
                false => inline.content.clone(),
            };
            let content = content.into_bytes().into();
            sources.push(CopySource::Inline { name: inline.name.clone(), content });
        }
        let created_by = created_by(verb, files, &written, &destination, chown.as_deref(), chmod.as_deref());
        let op = CopyOp {
            parent: stage.fs.clone(),
            verb,
            sources,
            destination: resolve_destination(stage, &destination),
            chown: chown.filter(|c| !c.is_empty()),
            chmod: mode,
            parents: files.flags.parents,
            link: files.flags.link,
            exclude: files.flags.exclude.iter().map(|w| w.text.clone()).collect(),
        };
        if let Err(e) = crate::ignore::Ignore::new(&op.exclude) {
            let span = files.flags.exclude.first().map_or(instruction.span, |w| w.span);
            return Err(Diagnostic::new(at(instruction, span), e.to_string()));
        }
        let id = self.step(stage, Op::Copy(Box::new(op)), &shown, shown.clone(), instruction.span, instruction.trigger);
        history(stage, created_by, Some(id));
        Ok(())
    }

    fn optional(
        &mut self,
        stage: &Stage,
        instruction: &Instruction,
        word: Option<&Word>,
    ) -> Result<Option<String>, Diagnostic> {
        word.map(|w| self.expand(stage, instruction, w)).transpose()
    }

    fn copy_from(
        &mut self,
        stage: &Stage,
        instruction: &Instruction,
        files: &Files,
        done: &BTreeMap<usize, StageResult>,
    ) -> Result<(FsRef, String), Diagnostic> {
        let Some(from) = files.flags.from.as_ref().filter(|f| !f.text.is_empty()) else {
            return Ok((FsRef::Context(String::new()), "build context".to_owned()));
        };
        let source = self.planner.source(stage.index, &from.text, true);
        let source = source.map_err(|e| Diagnostic::new(at(instruction, from.span), e))?;
        let origin = match &source {
            Source::Stage(index) => format!("stage {}", self.planner.label(*index)),
            Source::Image(request) => format!("image {}", request.reference),
            Source::Directory(name) => format!("build context {name}"),
            Source::Scratch => "empty image".to_owned(),
        };
        Ok((self.source_fs(&source, stage.index, instruction, done), origin))
    }

    #[allow(clippy::too_many_arguments)]
    fn source_of(
        &mut self,
        stage: &Stage,
        instruction: &Instruction,
        files: &Files,
        text: &str,
        checksum: Option<&str>,
        (from, origin): (&FsRef, &str),
        add: bool,
        shown: &str,
    ) -> Result<CopySource, String> {
        let flags = &files.flags;
        if let Some(git) = GitRef::parse(text).filter(|g| !matches!(g, Ok(g) if g.looks_local)) {
            if !add {
                return Err("source can't be a git ref for COPY".into());
            }
            let git = git?;
            if let (Some(flag), Some(query)) = (flags.keep_git_dir, git.keep_git_dir)
                && flag != query
            {
                return Err("inconsistent keep-git-dir configuration".into());
            }
            if let (Some(flag), Some(query)) = (checksum, &git.checksum)
                && flag != query
            {
                return Err(format!("checksum mismatch {flag:?} != {query:?}"));
            }
            let mut request = git.request();
            request.keep_git_dir |= flags.keep_git_dir.unwrap_or(false);
            request.checksum = request.checksum.or(checksum.map(str::to_owned));
            let vertex = self.auxiliary(stage, Op::FetchGit(request), shown, instruction.span);
            return Ok(CopySource::Git { vertex });
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            if !add {
                return Err("source can't be a URL for COPY".into());
            }
            let sum = checksum.map(|c| c.parse().map_err(|_| format!("invalid checksum digest format: {c}")));
            let request = UrlRequest { url: text.to_owned(), checksum: sum.transpose()? };
            let vertex = self.auxiliary(stage, Op::FetchUrl(request), shown, instruction.span);
            return Ok(CopySource::Url { vertex, unpack: flags.unpack.unwrap_or(false) });
        }
        if *from == FsRef::Context(String::new()) {
            self.lint_ignored(instruction, text, add);
        }
        let relative = |path: &str| rooted(path).trim_start_matches('/').to_owned();
        let (pivot, pattern) = match text.split_once("/./").filter(|_| flags.parents) {
            Some((before, after)) => (relative(before), relative(after)),
            None => (String::new(), relative(text)),
        };
        Ok(CopySource::Path(PathSource {
            from: from.clone(),
            pattern,
            pivot,
            written: text.to_owned(),
            origin: origin.to_owned(),
            unpack: flags.unpack.unwrap_or(add),
        }))
    }

    fn lint_ignored(&mut self, instruction: &Instruction, text: &str, add: bool) {
        let Some(ignore) = self.planner.ignore.filter(|i| !i.has_exclusions()) else { return };
        let path = clean(text.trim_start_matches('/'));
        let ignored = if path == "." { ignore.ignores_all() } else { ignore.matches(&path) };
        if ignored {
            let verb = if add { "Add" } else { "Copy" };
            let message = format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
            self.planner.warn(Rule::CopyIgnoredFile, instruction.span, &instruction.comments, message);
        }
    }
}

fn check_checksum(sources: &[String]) -> Result<(), &'static str> {
    let [source] = sources else { return Err("checksum can't be specified for multiple sources") };
    let remote = source.starts_with("http://") || source.starts_with("https://");
    if remote || matches!(GitRef::parse(source), Some(Ok(git)) if !git.looks_local) {
        return Ok(());
    }
    Err("checksum requires HTTP(S) or Git sources")
}

/// Absolute and clean; a `/` at the end says "a directory".
fn resolve_destination(stage: &Stage, written: &str) -> String {
    let is_dir = written.is_empty() || written == "." || written.ends_with('/') || written.ends_with("/.");
    let path = if written.starts_with('/') { clean(written) } else { clean(&format!("{}/{written}", workdir(stage))) };
    if is_dir && path != "/" { format!("{path}/") } else { path }
}

fn created_by(
    verb: &str,
    files: &Files,
    sources: &[String],
    destination: &str,
    chown: Option<&str>,
    chmod: Option<&str>,
) -> String {
    let mut words = vec![verb.to_owned()];
    words.extend(files.flags.parents.then(|| "--parents".to_owned()));
    words.extend(chown.filter(|c| !c.is_empty()).map(|c| format!("--chown={c}")));
    words.extend(chmod.filter(|c| !c.is_empty()).map(|c| format!("--chmod={c}")));
    words.extend(sources.iter().map(|s| redacted(s)));
    words.extend(files.inline.iter().map(|f| format!("<<{}", f.name)));
    words.push(destination.to_owned());
    words.push("# buildkit".to_owned());
    words.join(" ")
}
