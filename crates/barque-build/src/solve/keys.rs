//! Cache keys: everything a step's result depends on, as named ingredients that `--why` can compare.

use barque_model::{Digest, Hasher, Timestamp};

use crate::cache::{KeyInput, PARENT};
use crate::graph::{CopyOp, FsRef, MkdirOp, PathSource, PlannedKind, RunOp, mount_text};
use crate::instructions::Chmod;
use crate::options::{BuildOptions, NetworkMode, SANDBOX_HOSTNAME};
use crate::worker::CacheSharing;

/// Changes whenever the meaning of a key does.
const VERSION: &str = "barque.build.v1";

/// Ingredients of one key, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Inputs(pub(super) Vec<KeyInput>);

impl Inputs {
    pub(super) fn new(kind: &str, parent: &str) -> Self {
        let mut inputs = Inputs::default();
        inputs.add("kind", kind);
        inputs.add(PARENT, parent);
        inputs
    }

    pub(super) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push(KeyInput { name: name.into(), value: value.into() });
    }

    /// With a time to which those of the step's files are cut down: they are another result then.
    pub(super) fn clamped(mut self, epoch: Option<Timestamp>) -> Self {
        if let Some(epoch) = epoch {
            self.add("SOURCE_DATE_EPOCH", epoch.seconds().to_string());
        }
        self
    }

    pub(super) fn key(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.update(VERSION.as_bytes());
        for input in &self.0 {
            for part in [&input.name, &input.value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        hasher.finish()
    }
}

/// `RUN` without its mounts' content.
pub(super) fn run(op: &RunOp, parent: &str, options: &BuildOptions) -> Inputs {
    let mut inputs = Inputs::new("run", parent);
    inputs.add("command", serde_json::to_string(&op.args).unwrap_or_default());
    for pair in &op.env {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        inputs.add(format!("variable {name}"), value);
    }
    inputs.add("working directory", &op.cwd);
    inputs.add("user", &op.user);
    inputs.add("network", op.network.as_ref().map_or_else(String::new, |n| format!("{n:?}")));
    inputs.add("security", format!("{:?}", op.security));
    surroundings(&mut inputs, op, options);
    for mount in &op.mounts {
        let text = match &mount.kind {
            // Where files come from is told by their digest, added by the caller.
            PlannedKind::Bind { path, .. } => format!("bind {path}"),
            PlannedKind::Cache { id, sharing, .. } if is_default_cache(id, *sharing, &mount.target) => {
                "cache".to_owned()
            }
            PlannedKind::Cache { id, sharing, .. } => format!("cache {id} {sharing:?}"),
            kind => mount_text(kind),
        };
        let access = if mount.read_only { "ro" } else { "rw" };
        inputs.add(format!("mount {}", mount.target), format!("{text} {access}"));
    }
    inputs
}

/// A cache mount without a name of its own, in whatever namespace: as in BuildKit, that is no part of the key.
fn is_default_cache(id: &str, sharing: CacheSharing, target: &str) -> bool {
    let without_namespace = id.split_once('/').map(|(_, rest)| rest);
    sharing == CacheSharing::Shared && (id == target || without_namespace == Some(target))
}

/// What the build's options mean for a command. Only what was asked for, so that plain builds share their results.
fn surroundings(inputs: &mut Inputs, op: &RunOp, options: &BuildOptions) {
    if matches!(op.network, None | Some(NetworkMode::Default)) && options.network != NetworkMode::Default {
        inputs.add("network of the build", format!("{:?}", options.network));
    }
    if options.hostname() != SANDBOX_HOSTNAME {
        inputs.add("hostname", options.hostname());
    }
    // As in BuildKit, the names count and the addresses do not.
    let mut hosts: Vec<&str> = options.extra_hosts.iter().map(|(name, _)| name.as_str()).collect();
    if !hosts.is_empty() {
        hosts.sort_unstable();
        inputs.add("extra hosts", hosts.join(" "));
    }
    if let Some(size) = options.shm_size {
        inputs.add("size of /dev/shm", size.to_string());
    }
    for limit in &options.ulimits {
        inputs.add(format!("ulimit {}", limit.name), format!("{}:{}", limit.soft, limit.hard));
    }
}

/// `COPY` without its files.
pub(super) fn copy(op: &CopyOp, parent: &str) -> Inputs {
    let mut inputs = Inputs::new("copy", parent);
    inputs.add("destination", &op.destination);
    inputs.add("owner", op.chown.clone().unwrap_or_default());
    inputs.add("mode", op.chmod.as_ref().map_or_else(String::new, chmod_text));
    inputs.add("options", format!("parents={} exclude={:?}", op.parents, op.exclude));
    inputs
}

/// How files of a source are copied.
pub(super) fn treatment(path: &PathSource) -> String {
    let owners = if matches!(path.from, FsRef::Context(_)) { "root's" } else { "kept" };
    format!("owners {owners}, unpack {}", path.unpack)
}

fn chmod_text(chmod: &Chmod) -> String {
    format!("{chmod:?}")
}

/// `WORKDIR`.
pub(super) fn mkdir(op: &MkdirOp, parent: &str) -> Inputs {
    let mut inputs = Inputs::new("workdir", parent);
    inputs.add("path", &op.path);
    inputs.add("user", &op.user);
    inputs
}
