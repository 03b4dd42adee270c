//! `RUN`: a command in a build step's snapshot, by the same runtime as containers.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_build::event::LogStream;
use barque_build::options::{NetworkMode as BuildNetwork, SecurityMode};
use barque_build::worker::{ExitStatus, LogSink, RunSpec};
use barque_model::{Context, Error, Id, Result, Signal};
use barque_runtime::spec as rs;
use barque_runtime::task::{Attach, Attachment};
use barque_runtime::{Task, defaults};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::mounts::{self, bind};
use super::worker::{Active, EngineWorker};
use crate::container::request::ContainerPaths;
use crate::container::spec::{ContainerSpec, NetworkMode};
use crate::network::plug::{PlugRequest, Plugged};
use barque_model::path::rooted;

/// Files of the engine's own in every step.
const OWN_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// A running step; what it uses is given back when it ends, however it ends.
struct Step {
    engine: crate::Engine,
    id: Id,
    paths: ContainerPaths,
    plugged: Plugged,
    mounts: mounts::Prepared,
    task: Option<Arc<Task>>,
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            let _already_gone = task.kill_all(Signal::KILL);
            let _already_gone = task.wait();
        }
        self.engine.unplug_blocking(&self.id, &mut self.plugged);
        for dir in [&self.paths.dir, &self.paths.run_dir] {
            let _already_gone = std::fs::remove_dir_all(dir);
        }
    }
}

impl EngineWorker {
    pub(super) async fn run_command(
        &self,
        active: &Active,
        spec: &RunSpec,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<ExitStatus> {
        let absent = self.absent_targets(active, spec)?;
        let (ours, theirs) = StdUnixStream::pair().context("cannot make a socket pair")?;
        let id = Id::random();
        let paths = ContainerPaths {
            dir: self.engine.config().exec_root.join("build").join(id.to_string()),
            run_dir: self.engine.config().exec_root.join("steps").join(id.to_string()),
        };
        // Secrets and agents' sockets lie there.
        if let Some(all) = paths.dir.parent() {
            super::private_dir(all)?;
        }
        super::private_dir(&paths.dir)?;
        let mut step = Step {
            engine: self.engine.clone(),
            id,
            paths,
            plugged: Plugged::default(),
            mounts: mounts::Prepared::default(),
            task: None,
        };
        step.mounts = tokio::select! {
            mounts = mounts::prepare(&self.engine, &spec.mounts, &step.paths.dir, &self.scratch) => mounts?,
            () = cancel.cancelled() => return Err(Error::canceled("the build was cancelled")),
        };
        let launched = {
            let streams = Attach { stdin: false, stdout: true, stderr: true };
            let attach = vec![Attachment { socket: theirs.into(), streams }];
            let scratch = self.scratch.clone();
            let (dirs, spec) = (active.dirs.clone(), spec.clone());
            self.engine.blocking(move || start(step, &scratch, &dirs, &spec, attach))
        };
        let step = launched.await?;
        let result = follow(&step, ours, &log, &cancel).await;
        // Taken down before the snapshot is looked at: the mounts must be gone.
        let ended = tokio::task::spawn_blocking(move || {
            let gone = match &step.task {
                Some(task) => task.wait_gone(std::time::Duration::from_secs(30)),
                None => Ok(()),
            };
            drop(step);
            gone
        });
        ended.await.map_err(|e| Error::internal(format!("a build step broke off: {e}")))??;
        remove_mount_points(&active.dirs.upper, &absent)?;
        result
    }

    /// Mount points that the snapshot does not have: they must not stay in the layer.
    fn absent_targets(&self, active: &Active, spec: &RunSpec) -> Result<Vec<PathBuf>> {
        let view = crate::rootfs::with_upper_read_only(&active.dirs.lowers, &active.dirs.upper)?;
        let own = OWN_FILES.iter().map(|t| (*t).to_owned());
        let targets = spec.mounts.iter().map(|m| rooted(&m.target)).chain(own);
        let mut absent = Vec::new();
        for target in targets {
            let mut path = PathBuf::from(target);
            while path.parent().is_some() && view.root.lstat(&path).is_err() {
                absent.push(path.clone());
                if !path.pop() {
                    break;
                }
            }
        }
        absent.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
        absent.dedup();
        Ok(absent)
    }
}

fn start(
    mut step: Step,
    scratch: &Path,
    dirs: &barque_store::SnapshotDirs,
    spec: &RunSpec,
    attach: Vec<Attachment>,
) -> Result<Step> {
    let engine = step.engine.clone();
    let network = network_spec(spec);
    step.plugged = engine.plug(&PlugRequest {
        id: step.id,
        name: "build",
        spec: &network,
        paths: &step.paths,
        hostname: &spec.hostname,
        links: Vec::new(),
        transient: true,
    })?;
    // Names and servers are those of the container whose network it is.
    let files = match &network.network.mode {
        NetworkMode::Container(name) => engine.find(name)?.view().hosts_path.parent().map(PathBuf::from),
        _ => None,
    };
    let files = files.unwrap_or_else(|| step.paths.dir.clone());
    let mut runtime = runtime_spec(&engine, scratch, dirs, spec, &step, &files)?;
    runtime.namespaces.net = match (&spec.network, engine.joins(&network)?.net, step.plugged.ns.take()) {
        (BuildNetwork::Host, ..) => rs::Namespace::Host,
        (_, Some(container), _) => crate::container::launch::joined(container),
        (_, _, Some(ns)) => {
            let fd = ns.as_fd().try_clone_to_owned().context("cannot hold the network namespace")?;
            rs::Namespace::Join(rs::Join::Fd(Arc::new(fd)))
        }
        _ => rs::Namespace::Private,
    };
    let task = engine.spawner().launch(&runtime, attach).map_err(|e| {
        Error::invalid(format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc \
             create failed: unable to start container process: {}: unknown",
            e.error.chain()
        ))
    })?;
    step.task = Some(Arc::new(task));
    Ok(step)
}

fn network_spec(spec: &RunSpec) -> ContainerSpec {
    let mut out = ContainerSpec::default();
    out.network.mode = match &spec.network {
        BuildNetwork::Default => NetworkMode::Default,
        BuildNetwork::None => NetworkMode::None,
        BuildNetwork::Host => NetworkMode::Host,
        BuildNetwork::Named(name) => match name.strip_prefix("container:") {
            Some(container) => NetworkMode::Container(container.to_owned()),
            None => NetworkMode::Named(name.clone()),
        },
    };
    out.network.extra_hosts = spec.extra_hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect();
    out
}

fn runtime_spec(
    engine: &crate::Engine,
    scratch: &Path,
    dirs: &barque_store::SnapshotDirs,
    spec: &RunSpec,
    step: &Step,
    files: &Path,
) -> Result<rs::Spec> {
    let lower = if dirs.lowers.is_empty() { vec![empty_dir(scratch)?] } else { dirs.lowers.clone() };
    let mut rootfs = rs::Rootfs::overlay(lower, &dirs.upper, &dirs.work);
    if let rs::RootfsSource::Overlay { volatile, .. } = &mut rootfs.source {
        // A step that a power cut tears is built again: nothing refers to it before its commit.
        *volatile = true;
    }
    let mut out = rs::Spec::new(format!("build-{}", step.id), step.paths.run_dir.clone(), rootfs, spec.args.clone());
    out.hostname = Some(spec.hostname.clone());
    out.process.env.clone_from(&spec.env);
    out.process.cwd.clone_from(&spec.cwd);
    out.process.user.clone_from(&spec.user);
    out.process.rlimits = spec
        .ulimits
        .iter()
        .map(|u| rs::Rlimit {
            name: u.name.clone(),
            soft: u64::try_from(u.soft).unwrap_or(u64::MAX),
            hard: u64::try_from(u.hard).unwrap_or(u64::MAX),
        })
        .collect();
    out.cgroup.parent =
        Some(spec.resources.cgroup_parent.clone()).filter(|p| !p.is_empty()).or(engine.config().cgroup_parent.clone());
    out.cgroup.resources = resources(&spec.resources);
    let mut mounts = step.mounts.mounts.clone();
    for target in OWN_FILES {
        let name = target.trim_start_matches("/etc/");
        mounts.push(bind(target, files.join(name), None, true));
    }
    let shm = spec.shm_size.unwrap_or(engine.config().default_shm_size);
    out.mounts = defaults::merge_mounts(defaults::mounts(Some(shm)), mounts);
    if spec.security == SecurityMode::Insecure {
        defaults::make_privileged(&mut out)?;
    }
    Ok(out)
}

fn resources(r: &barque_build::options::Resources) -> rs::Resources {
    let positive = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
    rs::Resources {
        memory: positive(r.memory),
        memory_swap: (r.memory_swap != 0).then_some(r.memory_swap),
        cpu_shares: positive(r.cpu_shares),
        cpu_period: positive(r.cpu_period),
        cpu_quota: (r.cpu_quota != 0).then_some(r.cpu_quota),
        cpuset_cpus: Some(r.cpuset_cpus.clone()).filter(|s| !s.is_empty()),
        cpuset_mems: Some(r.cpuset_mems.clone()).filter(|s| !s.is_empty()),
        ..rs::Resources::default()
    }
}

fn empty_dir(scratch: &Path) -> Result<PathBuf> {
    let dir = scratch.join("empty");
    std::fs::create_dir_all(&dir).context("cannot make an empty layer")?;
    Ok(dir)
}

/// Hands output on until the command ends or somebody wants no more.
async fn follow(step: &Step, socket: StdUnixStream, log: &LogSink, cancel: &CancellationToken) -> Result<ExitStatus> {
    let Some(task) = &step.task else { return Err(Error::internal("a build step without a process")) };
    let (mut output, _input) = crate::container::attach::split(socket)?;
    let reading = async {
        let mut header = [0u8; 8];
        let mut bytes = Vec::new();
        while output.read_exact(&mut header).await.is_ok() {
            let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            bytes.resize(usize::try_from(length).unwrap_or(0), 0);
            if output.read_exact(&mut bytes).await.is_err() {
                break;
            }
            let stream = if header[0] == 2 { LogStream::Stderr } else { LogStream::Stdout };
            log.write(stream, &bytes);
        }
    };
    tokio::select! {
        () = reading => {}
        () = cancel.cancelled() => return Err(Error::canceled("the build was cancelled")),
    }
    tokio::select! {
        exit = crate::container::exit_of(task) => Ok(ExitStatus { code: exit.code, oom_killed: exit.oom_killed }),
        () = cancel.cancelled() => Err(Error::canceled("the build was cancelled")),
    }
}

/// Takes away what was made only to mount something on.
fn remove_mount_points(upper: &Path, absent: &[PathBuf]) -> Result<()> {
    let root = barque_store::RootDir::open(upper).context("cannot open the step's layer")?;
    for path in absent {
        // A mount point that got contents of its own stays.
        match root.lstat(path).map(|s| (s.kind, s.size)) {
            Ok((barque_sys::rootdir::FileKind::Directory, _)) => drop(root.rmdir(path)),
            Ok((barque_sys::rootdir::FileKind::Regular, 0)) => drop(root.unlink(path)),
            _ => {}
        }
    }
    Ok(())
}
