//! What the caller of a build may choose, in the builder's own terms (not the wire's).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use barque_model::strconv::parse_bool;
use barque_model::{Platform, Timestamp};

use crate::context::ContextDir;

/// Name of the machine inside `RUN` steps, as in BuildKit.
pub(crate) const SANDBOX_HOSTNAME: &str = "buildkitsandbox";

/// Everything one build needs besides the worker, the cache and the event sink.
#[derive(Debug)]
pub struct BuildRequest {
    /// The text of the Dockerfile; never more than [`crate::parse::MAX_DOCKERFILE`] bytes.
    pub dockerfile: Vec<u8>,
    /// Name shown in diagnostics, usually `Dockerfile`.
    pub dockerfile_name: String,
    /// The main build context. `None`: every `COPY` from it fails as from an empty directory.
    pub context: Option<Arc<ContextDir>>,
    pub options: BuildOptions,
}

/// The options of `docker build` which change what is built.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// `--target`: stage name or number; empty means the last stage.
    pub target: String,
    /// `--build-arg`; `None` as value means "known, but unset".
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--no-cache`: run every step again.
    pub no_cache: bool,
    /// `--no-cache-filter`: run the steps of these stages again.
    pub no_cache_filter: Vec<String>,
    pub pull: PullPolicy,
    /// `--label`, appended to the target's labels.
    pub labels: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Secret>,
    pub ssh: BTreeMap<String, SshAgent>,
    /// `--add-host`: name and address (an address may be `host-gateway`, which the worker resolves).
    pub extra_hosts: Vec<(String, String)>,
    pub network: NetworkMode,
    /// Bytes of `/dev/shm`; `None` is the worker's default.
    pub shm_size: Option<u64>,
    pub ulimits: Vec<Ulimit>,
    pub resources: Resources,
    /// Platform built for; `None` is [`BuildOptions::build_platform`].
    pub platform: Option<Platform>,
    /// Platform building (`BUILDPLATFORM`).
    pub build_platform: Platform,
    /// `--build-context NAME=…`, already made present by the engine.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// `SOURCE_DATE_EPOCH`: clamps every time in the result. Defaults to the build argument of that name.
    pub source_date_epoch: Option<Timestamp>,
    /// Docker's `--squash`; refused, since no engine without it can tell what to drop.
    pub squash: bool,
    /// `--allow security.insecure` was given.
    pub allow_insecure: bool,
    /// `--allow network.host` was given, or the engine allows it to everyone (as Docker's does).
    pub allow_host_network: bool,
    /// Most steps executed at the same time; at least 1.
    pub parallelism: usize,
    /// A `COPY` of twice as many files or more is made of several layers, if the worker can stack them: a changed
    /// file then renews one of them.
    pub part_files: usize,
    /// Keeps a failed step's file system and command for a shell (`--debug`).
    pub keep_failed: bool,
    /// Explain for each step that ran why its cache did not hold (`--why`).
    pub explain: bool,
    /// Identity of "this build again": records of the same scope are compared first by `--why`. Usually the
    /// context's path plus the Dockerfile's.
    pub scope: String,
    /// Make an image at the end ([`crate::worker::Worker::finish`]); `false` for `-o type=local|tar`.
    pub make_image: bool,
    /// `docker build --check`: parse, plan and lint only.
    pub check_only: bool,
    /// Put the records of the result's steps into the image's configuration ([`crate::cache::CONFIG_KEY`]).
    pub inline_cache: bool,
    /// Make a second image with those records ([`crate::BuildOutcome::cache_image`]).
    pub export_cache: bool,
    /// That image also holds the steps of other stages than the target's (`mode=max`).
    pub cache_all: bool,
    /// Writable scratch directory for this build, private to it, on any file system. Removed by the engine.
    pub scratch: PathBuf,
}

impl BuildOptions {
    /// Docker's defaults for a build on this machine's platform.
    pub fn new(scratch: PathBuf) -> Self {
        BuildOptions {
            target: String::new(),
            build_args: BTreeMap::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            pull: PullPolicy::Missing,
            labels: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            extra_hosts: Vec::new(),
            network: NetworkMode::Default,
            shm_size: None,
            ulimits: Vec::new(),
            resources: Resources::default(),
            platform: None,
            build_platform: Platform::host(),
            named_contexts: BTreeMap::new(),
            source_date_epoch: None,
            squash: false,
            allow_insecure: false,
            allow_host_network: true,
            parallelism: 4,
            part_files: 1536,
            keep_failed: false,
            explain: false,
            scope: String::new(),
            make_image: true,
            check_only: false,
            inline_cache: false,
            export_cache: false,
            cache_all: false,
            scratch,
        }
    }

    /// The value of a build argument that has one.
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.build_args.get(name).and_then(Option::as_deref).filter(|value| !value.is_empty())
    }

    /// Name of the machine inside `RUN` steps.
    pub fn hostname(&self) -> &str {
        self.argument("BUILDKIT_SANDBOX_HOSTNAME").unwrap_or(SANDBOX_HOSTNAME)
    }

    /// Whether a build argument switches something on (`BUILDKIT_INLINE_CACHE=1`).
    pub fn flag(&self, name: &str) -> bool {
        self.argument(name).is_some_and(|value| parse_bool(value) == Ok(true))
    }

    /// The platform built for.
    pub fn target_platform(&self) -> &Platform {
        self.platform.as_ref().unwrap_or(&self.build_platform)
    }
}

/// When a base image is fetched although one of its name is present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Only when no local image has the name.
    Missing,
    /// `--pull`: always ask the registry.
    Always,
}

/// What a step's network looks like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NetworkMode {
    /// A sandboxed network with access to the outside.
    Default,
    /// Loopback only.
    None,
    /// The host's own network.
    Host,
    /// A named network or `container:ID`, from `--network`.
    Named(String),
}

impl NetworkMode {
    /// Reads `--network`'s value: "", `default`, `bridge`, `none`, `host` or a name.
    pub fn parse(text: &str) -> Self {
        match text {
            "" | "default" | "bridge" => NetworkMode::Default,
            "none" => NetworkMode::None,
            "host" => NetworkMode::Host,
            name => NetworkMode::Named(name.to_owned()),
        }
    }
}

/// Whether a step runs with all privileges (`RUN --security=insecure`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecurityMode {
    Sandbox,
    Insecure,
}

/// One `--ulimit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

/// Limits of the classic build API; zero or empty means unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes.
    pub memory: i64,
    /// Bytes of memory plus swap; -1 is unlimited.
    pub memory_swap: i64,
    pub cpu_shares: i64,
    /// Microseconds.
    pub cpu_period: i64,
    /// Microseconds.
    pub cpu_quota: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub cgroup_parent: String,
}

/// The value of one `--secret`. Never printed, never part of a cache key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// Where one `--ssh` agent listens on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAgent {
    /// Path of the agent's unix socket, as the engine sees it.
    pub socket: PathBuf,
}

/// What a `--build-context` name stands for.
#[derive(Debug, Clone)]
pub enum NamedContext {
    /// `docker-image://REF`, or a reference to an image in an OCI layout the engine has loaded.
    Image(String),
    /// A directory: local, or unpacked from a tarball or git by the engine.
    Directory(Arc<ContextDir>),
}
