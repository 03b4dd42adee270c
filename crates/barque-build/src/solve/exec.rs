//! Executes a step that no cache answers.

use std::sync::Arc;
use std::time::Instant;

use barque_model::{Error, Result, Timestamp};

use super::FailedStep;
use super::solver::{Failure, Fetched, Shared, blocking};
use crate::context::{Digested, Entry, Selected, SelectedKind, Tree};
use crate::copy::earlier::Earlier;
use crate::copy::{Item, Job, apply, make_workdir};
use crate::event::BuildEvent;
use crate::graph::{CopyOp, CopySource, FsRef, Op, PlannedKind, PlannedMount, RunOp, Vertex};
use crate::options::NetworkMode;
use crate::worker::{Layer, LogSink, MountSource, RunMount, RunMountKind, RunSpec, SnapshotId, Worker};

/// Exit status of a process the kernel killed (128 + SIGKILL).
const KILLED: i32 = 137;

impl<W: Worker> Shared<W> {
    pub(super) async fn execute(
        self: Arc<Self>,
        vertex: &Vertex,
        parent: Option<&SnapshotId>,
        files: &[Option<Arc<Digested>>],
        earlier: Option<&SnapshotId>,
    ) -> Result<Layer, Failure<W>> {
        let active = self.worker.prepare(parent).await?;
        let active = match &vertex.op {
            Op::Run(op) => self.run(vertex, op, active).await?,
            Op::Copy(op) => {
                self.copy(op, &active, files, earlier).await?;
                active
            }
            Op::Mkdir(op) => {
                let root = self.worker.root(&active).await?;
                let (path, user) = (op.path.clone(), op.user.clone());
                blocking(move || make_workdir(&Tree::open(root)?, &path, &user)).await?;
                active
            }
            _ => return Err(Error::internal("not a step").into()),
        };
        if self.cancel.is_cancelled() {
            return Err(Error::canceled("the build stopped").into());
        }
        Ok(self.worker.commit(active, self.graph.epoch).await?)
    }

    async fn run(&self, vertex: &Vertex, op: &RunOp, active: W::Active) -> Result<W::Active, Failure<W>> {
        let spec = self.run_spec(vertex, op).await?;
        let started = Instant::now();
        let (events, id) = (self.events.clone(), vertex.id);
        let log = LogSink::new(move |stream, data| {
            let elapsed = started.elapsed();
            events.send(BuildEvent::Log { vertex: id, stream, data: data.to_vec(), elapsed });
        });
        let status = self.worker.run(&active, &spec, log, self.cancel.clone()).await?;
        if status.code == 0 {
            return Ok(active);
        }
        if self.cancel.is_cancelled() {
            return Err(Error::canceled("the build stopped").into());
        }
        let message = format!("The command '{}' returned a non-zero code: {}", op.command, status.code);
        let mut error = Error::invalid(message);
        if status.oom_killed {
            error = error.with_hint("it ran out of memory and was killed; give the build more with --memory");
        } else if status.code == KILLED {
            error = error.with_hint("it was killed (SIGKILL), often because memory ran out");
        } else if status.code == 127 {
            error = error.with_hint("127 means that a program of the command was not found in the image");
        }
        let keep = self.request.options.keep_failed;
        // Without what secrets, agents and proxies added: the step is stored as an image.
        let spec = RunSpec { env: op.env.clone(), ..spec };
        let failed_step = keep.then(|| FailedStep { active, spec, instruction: vertex.instruction.clone() });
        Err(Failure { error, exit_code: Some(status.code), failed_step })
    }

    async fn run_spec(&self, vertex: &Vertex, op: &RunOp) -> Result<RunSpec> {
        let options = &self.request.options;
        let mut env = op.env.clone();
        env.extend(
            op.proxy_env
                .iter()
                .filter(|pair| {
                    let name = pair.split('=').next().unwrap_or("");
                    !op.env.iter().any(|e| e.split('=').next() == Some(name))
                })
                .cloned(),
        );
        let mut mounts = Vec::new();
        for mount in &op.mounts {
            mounts.extend(self.mount(mount, &mut env).await?);
        }
        let network = match &op.network {
            // RUN --network=default is the build's own.
            None | Some(NetworkMode::Default) => options.network.clone(),
            Some(own) => own.clone(),
        };
        Ok(RunSpec {
            args: op.args.clone(),
            env,
            cwd: op.cwd.clone(),
            user: op.user.clone(),
            mounts,
            network,
            hostname: options.hostname().to_owned(),
            security: op.security,
            extra_hosts: options.extra_hosts.clone(),
            shm_size: options.shm_size,
            ulimits: options.ulimits.clone(),
            resources: options.resources.clone(),
            platform: options.target_platform().clone(),
            location: self.location(vertex),
        })
    }

    async fn mount_source(&self, from: &FsRef) -> Result<MountSource> {
        Ok(match from {
            FsRef::Scratch => MountSource::Empty,
            FsRef::Context(name) => MountSource::Context(self.context(name)?),
            FsRef::Vertex(_) => self.snapshot(from).await?.map_or(MountSource::Empty, MountSource::Snapshot),
        })
    }

    /// `None` for a mount that is not there and need not be.
    async fn mount(&self, mount: &PlannedMount, env: &mut Vec<String>) -> Result<Option<RunMount>> {
        let options = &self.request.options;
        let kind = match &mount.kind {
            PlannedKind::Bind { from, path } => {
                RunMountKind::Bind { source: self.mount_source(from).await?, path: path.clone() }
            }
            PlannedKind::Cache { id, sharing, from, path, mode, uid, gid } => RunMountKind::Cache {
                id: id.clone(),
                sharing: *sharing,
                source: self.mount_source(from).await?,
                path: path.clone(),
                mode: *mode,
                uid: *uid,
                gid: *gid,
            },
            PlannedKind::Tmpfs { size } => RunMountKind::Tmpfs { size: *size },
            PlannedKind::File { content, mode } => RunMountKind::File { content: content.clone(), mode: *mode },
            PlannedKind::Secret { id, env: variable, required, mode, uid, gid } => {
                let Some(value) = options.secrets.get(id) else {
                    if *required {
                        return Err(Error::invalid(format!("secret {id}: not found"))
                            .with_hint(format!("build with --secret id={id},src=FILE")));
                    }
                    return Ok(None);
                };
                if let Some(name) = variable {
                    let text = std::str::from_utf8(&value.0)
                        .map_err(|_| Error::invalid(format!("secret {id} is not text, so it cannot be a variable")))?;
                    crate::config::set_env(env, name, text);
                    if mount.target.is_empty() {
                        return Ok(None);
                    }
                }
                RunMountKind::Secret { id: id.clone(), value: value.clone(), mode: *mode, uid: *uid, gid: *gid }
            }
            PlannedKind::Ssh { id, required, mode, uid, gid } => {
                let Some(agent) = options.ssh.get(id) else {
                    if *required {
                        return Err(Error::invalid(format!("unset ssh forward key {id}"))
                            .with_hint(format!("build with --ssh {id}")));
                    }
                    return Ok(None);
                };
                if !env.iter().any(|e| e.starts_with("SSH_AUTH_SOCK=")) {
                    env.push(format!("SSH_AUTH_SOCK={}", mount.target));
                }
                RunMountKind::Ssh { id: id.clone(), agent: agent.clone(), mode: *mode, uid: *uid, gid: *gid }
            }
        };
        Ok(Some(RunMount { target: mount.target.clone(), read_only: mount.read_only, kind }))
    }

    /// `earlier` is the layer that the same copy made on the same parent before.
    async fn copy(
        &self,
        op: &CopyOp,
        active: &W::Active,
        files: &[Option<Arc<Digested>>],
        earlier: Option<&SnapshotId>,
    ) -> Result<()> {
        let mut sources = Vec::new();
        for (index, source) in op.sources.iter().enumerate() {
            sources.push(match source {
                CopySource::Path(path) => {
                    let tree = match &path.from {
                        FsRef::Context(name) => From::Context(self.context(name)?),
                        fs => From::Tree(self.view(fs).await?),
                    };
                    let files = files.get(index).cloned().flatten();
                    Ready::Files { tree, files, unpack: path.unpack }
                }
                CopySource::Inline { name, content } => Ready::Inline { name: name.clone(), content: content.clone() },
                CopySource::Url { vertex, unpack } => match self.fetched(*vertex).await? {
                    Fetched::Url(file) => Ready::Url { file, unpack: *unpack },
                    Fetched::Git(_) => return Err(Error::internal("a download is missing")),
                },
                CopySource::Git { vertex } => match self.fetched(*vertex).await? {
                    Fetched::Git(tree) => Ready::Git(Tree::open(tree.root.clone())?),
                    Fetched::Url(_) => return Err(Error::internal("a checkout is missing")),
                },
            });
        }
        let now = self.graph.epoch.unwrap_or_else(Timestamp::now);
        let work = Arc::new(Work { op: op.clone(), sources, now, cancel: self.cancel.clone() });
        if let Some(earlier) = earlier
            && let Some((own, upper)) = self.worker.own_files(active, earlier).await?
        {
            let (root, work) = (self.worker.root(active).await?, work.clone());
            let epoch = self.graph.epoch;
            let linked = blocking(move || {
                let earlier = Earlier::open(own, epoch)?;
                work.write(&Tree::open(root)?, Some(&earlier))?;
                earlier.link(&Tree::open(upper)?)
            });
            if linked.await? {
                return Ok(());
            }
        }
        let root = self.worker.root(active).await?;
        blocking(move || work.write(&Tree::open(root)?, None)).await
    }
}

enum From {
    Context(Arc<crate::context::ContextDir>),
    Tree(Tree),
}

impl From {
    fn tree(&self) -> &Tree {
        match self {
            From::Context(context) => context.tree(),
            From::Tree(tree) => tree,
        }
    }
}

/// A source whose bytes are there.
enum Ready {
    Files { tree: From, files: Option<Arc<Digested>>, unpack: bool },
    Inline { name: String, content: Arc<[u8]> },
    Url { file: Arc<crate::worker::FetchedUrl>, unpack: bool },
    Git(Tree),
}

/// A copy whose sources are there.
struct Work {
    op: CopyOp,
    sources: Vec<Ready>,
    now: Timestamp,
    cancel: tokio_util::sync::CancellationToken,
}

impl Work {
    /// Blocking. Files that `earlier` has are left for it to link.
    fn write(&self, target: &Tree, earlier: Option<&Earlier>) -> Result<()> {
        // Opened first, so that the items can borrow them.
        let mut downloads: Vec<(Tree, Entry)> = Vec::new();
        let mut checkouts: Vec<Vec<Selected>> = Vec::new();
        for source in &self.sources {
            match source {
                Ready::Url { file, .. } => {
                    let tree = Tree::open(file.root.clone())?;
                    let entry = tree.entry(std::path::Path::new(file.stored_name()))?;
                    downloads.push((tree, entry));
                }
                Ready::Git(tree) => checkouts.push(whole(tree, &self.op.exclude)?),
                _ => {}
            }
        }
        let (mut downloads, mut checkouts) = (downloads.iter(), checkouts.iter());
        let mut items = Vec::new();
        for source in &self.sources {
            match source {
                Ready::Files { tree, files, unpack } => {
                    let keep_owner = matches!(tree, From::Tree(_));
                    let selected = files.as_ref().map_or(&[][..], |f| &f.selected);
                    items.push(Item::Files { tree: tree.tree(), selected, keep_owner, unpack: *unpack });
                }
                Ready::Inline { name, content } => items.push(Item::Inline { name, content }),
                Ready::Url { file, unpack } => {
                    if let Some((tree, entry)) = downloads.next() {
                        let (name, modified) = (file.file_name.as_str(), file.modified);
                        items.push(Item::Download { tree, entry, name, modified, unpack: *unpack });
                    }
                }
                Ready::Git(tree) => {
                    if let Some(selected) = checkouts.next() {
                        items.push(Item::Files { tree, selected, keep_owner: false, unpack: false });
                    }
                }
            }
        }
        let job = Job {
            verb: self.op.verb,
            destination: &self.op.destination,
            items,
            chown: self.op.chown.as_deref(),
            chmod: self.op.chmod.as_ref(),
            now: self.now,
            cancel: &self.cancel,
            earlier,
        };
        apply(target, &job)
    }
}

/// Everything in a checkout.
fn whole(tree: &Tree, exclude: &[String]) -> Result<Vec<Selected>> {
    let exclude = crate::ignore::Ignore::new(exclude).map_err(|e| Error::invalid(e.to_string()))?;
    let entries = crate::context::list(tree, &exclude)?;
    Ok(vec![Selected { kind: SelectedKind::Contents { root: std::path::PathBuf::new() }, entries }])
}
