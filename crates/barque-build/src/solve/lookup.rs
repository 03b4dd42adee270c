//! What the cache knows about a step: its key, made of content, and the record under it.

use std::sync::Arc;

use barque_model::{Digest, Error, Result};

use super::keys::{self, Inputs};
use super::solver::{Fetched, Shared, blocking};
use crate::cache::CacheRecord;
use crate::context::{ContextDir, Digested, Tree, digest_tree};
use crate::event::VertexId;
use crate::git::redacted;
use crate::graph::{CopyOp, CopySource, FsRef, Op, PathSource, PlannedKind, PlannedMount, RunOp, Vertex};
use crate::ignore::Ignore;
use crate::options::NamedContext;
use crate::worker::{Root, Worker};

/// A step's key.
pub(super) struct Keyed {
    pub(super) key: Digest,
    pub(super) hit: Option<CacheRecord>,
    pub(super) inputs: Inputs,
    /// A second key under which the result is found without looking at files.
    pub(super) fast_key: Option<Digest>,
    /// For a copy: what each path source selects.
    pub(super) files: Vec<Option<Arc<Digested>>>,
}

/// Whether what other vertices made is part of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Made {
    Counts,
    IsLeftOut,
}

/// Where the list of files behind a content digest is kept for `--why`.
pub(super) fn files_name(digest: &str) -> String {
    format!("files/{digest}")
}

pub(super) fn mount_name(mount: &PlannedMount) -> String {
    format!("files of mount {}", mount.target)
}

pub(super) fn source_name(source: &CopySource) -> String {
    match source {
        CopySource::Path(path) => format!("files of {}", path.written),
        CopySource::Inline { name, .. } => format!("inline file {name}"),
        CopySource::Url { .. } => "download".to_owned(),
        CopySource::Git { .. } => "git".to_owned(),
    }
}

impl<W: Worker> Shared<W> {
    /// The key of a step and what the cache holds for it.
    pub(super) async fn keyed(&self, vertex: &Vertex, parent: &str) -> Result<Keyed> {
        let inputs = match &vertex.op {
            Op::Run(op) => self.run_inputs(op, parent, Made::Counts).await?,
            Op::Mkdir(op) => keys::mkdir(op, parent),
            Op::Copy(op) => {
                let inputs = keys::copy(op, parent).clamped(self.graph.epoch);
                return self.keyed_copy(vertex, op, inputs).await;
            }
            Op::Base(_) | Op::FetchUrl(_) | Op::FetchGit(_) => return Err(Error::internal("not a step")),
        };
        let inputs = inputs.clamped(self.graph.epoch);
        let hit = self.recorded(vertex, &inputs)?;
        Ok(Keyed { key: inputs.key(), hit, inputs, fast_key: None, files: Vec::new() })
    }

    /// The ingredients of a RUN's key.
    pub(super) async fn run_inputs(&self, op: &RunOp, parent: &str, made: Made) -> Result<Inputs> {
        let mut inputs = keys::run(op, parent, &self.request.options);
        for mount in &op.mounts {
            if let PlannedKind::Bind { from, path } | PlannedKind::Cache { from, path, .. } = &mount.kind {
                let content = match (made, from) {
                    (Made::IsLeftOut, FsRef::Vertex(_)) => String::new(),
                    _ => self.mounted(from, path).await?,
                };
                inputs.add(mount_name(mount), content);
            }
        }
        Ok(inputs)
    }

    pub(super) fn recorded(&self, vertex: &Vertex, inputs: &Inputs) -> Result<Option<CacheRecord>> {
        if vertex.ignore_cache { Ok(None) } else { self.cache.get(&inputs.key()) }
    }

    /// What identifies the files of a mount.
    pub(super) async fn mounted(&self, from: &FsRef, path: &str) -> Result<String> {
        let FsRef::Context(context) = from else {
            return Ok(self.snapshot(from).await?.map_or_else(String::new, |s| format!("{s} {path}")));
        };
        let source = PathSource {
            from: from.clone(),
            pattern: path.to_owned(),
            pivot: String::new(),
            written: path.to_owned(),
            origin: "build context".to_owned(),
            unpack: false,
        };
        let (context, cache) = (self.context(context)?, self.cache.clone());
        let digest = move || {
            let done = context.digest(&*cache, &source, false, &Ignore::default(), "RUN")?;
            let name = files_name(&done.digest.to_string());
            let kept = match cache.has_blob(&name) {
                Ok(true) => Ok(()),
                _ => cache.put_blob(&name, &done.manifest()),
            };
            if let Err(e) = kept {
                tracing::warn!("build cache: {}", e.chain());
            }
            Ok(done.digest.to_string())
        };
        blocking(digest).await
    }

    async fn keyed_copy(&self, vertex: &Vertex, op: &CopyOp, base: Inputs) -> Result<Keyed> {
        let mut fast = base.clone();
        let mut fixed = Vec::new();
        for source in &op.sources {
            let value = self.fixed(source).await?;
            fast.add(source_name(source), value.clone().unwrap_or_default());
            fixed.push(value);
        }
        fast.add("kind of key", "fast");
        // Images and stages do not change: the answer may be known without looking at their files.
        let has_paths = op.sources.iter().any(|s| matches!(s, CopySource::Path(_)));
        let fast_key = (has_paths && fixed.iter().all(Option::is_some)).then(|| fast.key());
        if fast_key.is_some()
            && let Some(record) = self.recorded(vertex, &fast)?
        {
            let inputs = Inputs(record.inputs.clone());
            // The record's own key: the one it was found by is worth nothing elsewhere.
            let key = inputs.key();
            let hit = Some(CacheRecord { key, ..record });
            return Ok(Keyed { key, hit, inputs, fast_key: None, files: Vec::new() });
        }
        let mut inputs = base;
        let mut files = Vec::new();
        for (source, value) in op.sources.iter().zip(fixed) {
            let CopySource::Path(path) = source else {
                inputs.add(source_name(source), value.unwrap_or_default());
                files.push(None);
                continue;
            };
            let done = self.digest(path.clone(), op.parents, &op.exclude, op.verb).await?;
            inputs.add(source_name(source), done.digest.to_string());
            inputs.add("treatment", keys::treatment(path));
            files.push(Some(Arc::new(done)));
        }
        let hit = self.recorded(vertex, &inputs)?;
        if let (Some(record), Some(key)) = (&hit, fast_key)
            && let Err(e) = self.cache.put(&CacheRecord { key, ..record.clone() })
        {
            tracing::warn!("build cache: {}", e.chain());
        }
        Ok(Keyed { key: inputs.key(), hit, inputs, fast_key, files })
    }

    /// What identifies a source without reading its files; `None` if they must be read.
    pub(super) async fn fixed(&self, source: &CopySource) -> Result<Option<String>> {
        Ok(match source {
            CopySource::Path(path) => {
                let snapshot = self.snapshot(&path.from).await?;
                snapshot.map(|s| format!("{s} {} {} {}", path.pivot, path.pattern, path.unpack))
            }
            CopySource::Inline { name, content } => Some(format!("{name} {}", Digest::of(content))),
            CopySource::Url { vertex, unpack } => Some(format!("{} {unpack}", self.url_identity(*vertex).await?)),
            CopySource::Git { vertex } => Some(self.git_identity(*vertex).await?),
        })
    }

    async fn url_identity(&self, id: VertexId) -> Result<String> {
        self.done(id).await?;
        match self.graph.vertex(id).map(|v| &v.op) {
            Some(Op::FetchUrl(r)) if r.checksum.is_some() => {
                Ok(format!("{} {}", redacted(&r.url), r.checksum.map(|c| c.to_string()).unwrap_or_default()))
            }
            _ => match self.fetched(id).await? {
                Fetched::Url(file) => Ok(format!("{} {}", file.file_name, file.digest)),
                Fetched::Git(_) => Err(Error::internal("not a download")),
            },
        }
    }

    async fn git_identity(&self, id: VertexId) -> Result<String> {
        self.done(id).await?;
        let Some(Op::FetchGit(r)) = self.graph.vertex(id).map(|v| &v.op) else {
            return Err(Error::internal("not a checkout"));
        };
        let commit = match (super::solver::pinned_commit(r), self.fetched(id)) {
            (Some(commit), _) => commit.to_owned(),
            (None, fetch) => match fetch.await? {
                Fetched::Git(tree) => tree.commit.clone(),
                Fetched::Url(_) => return Err(Error::internal("not a checkout")),
            },
        };
        Ok(format!("{} {commit} {} {} {}", redacted(&r.url), r.subdir, r.keep_git_dir, r.submodules))
    }

    /// The content of a path in a context or snapshot.
    pub(super) async fn digest(
        &self,
        path: PathSource,
        parents: bool,
        exclude: &[String],
        verb: &'static str,
    ) -> Result<Digested> {
        let exclude = Ignore::new(exclude).map_err(|e| Error::invalid(e.to_string()))?;
        if let FsRef::Context(name) = &path.from {
            let context = self.context(name)?;
            let cache = self.cache.clone();
            return blocking(move || context.digest(&*cache, &path, parents, &exclude, verb)).await;
        }
        self.ensure(&path.from).await?;
        let tree = self.view(&path.from).await?;
        blocking(move || digest_tree(&tree, &path, parents, &exclude, verb)).await
    }

    /// A readable tree of what `fs` stands for.
    pub(super) async fn view(&self, fs: &FsRef) -> Result<Tree> {
        match self.snapshot(fs).await? {
            Some(snapshot) => Tree::open(self.worker.view(&snapshot).await?),
            None => Tree::open(Root::new(self.empty_dir()?)),
        }
    }

    /// The context of that name; one that was not given is empty.
    pub(super) fn context(&self, name: &str) -> Result<Arc<ContextDir>> {
        let found = match self.request.options.named_contexts.get(name) {
            Some(NamedContext::Directory(dir)) => Some(dir.clone()),
            _ if name.is_empty() => self.request.context.clone(),
            _ => None,
        };
        match found {
            Some(context) => Ok(context),
            None => ContextDir::with_ignore(Root::new(self.empty_dir()?), Ignore::default()),
        }
    }

    fn empty_dir(&self) -> Result<std::path::PathBuf> {
        let path = self.request.options.scratch.join("empty");
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}
