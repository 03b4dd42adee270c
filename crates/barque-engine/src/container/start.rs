//! Starting: everything a launch needs, gathered in parallel-safe, blocking code; undone on failure.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use barque_model::{Context, Error, ErrorKind, Id, Result};
use barque_runtime::spec as rs;
use barque_runtime::task::Attachment;
use barque_runtime::{LaunchError, Task};

use super::driver::{Core, Handle};
use super::launch::{Prepared, ResolvedMount, joined, runtime_spec};
use super::spec::{ContainerSpec, DeviceSpec, MountSource, MountSpec, NamespaceMode, NetworkMode};
use super::view::EndpointView;
use crate::Engine;
use crate::network::links::Link;
use crate::network::plug::{PlugRequest, Plugged};

/// What one launch gave.
struct Launched {
    task: Arc<Task>,
    plugged: Plugged,
    link_env: Vec<String>,
}

/// What of a core a launch has to know, by value for the blocking thread.
struct LaunchInput {
    id: Id,
    name: String,
    spec: Arc<ContainerSpec>,
    fixed: Arc<super::driver::Fixed>,
    waiting: Vec<Attachment>,
    net_of: Option<Arc<Handle>>,
    joins: Joins,
    links: Vec<Link>,
}

/// Processes whose namespaces are shared.
#[derive(Default)]
pub(crate) struct Joins {
    pub(crate) net: Option<std::os::fd::OwnedFd>,
    pid: Option<std::os::fd::OwnedFd>,
    ipc: Option<std::os::fd::OwnedFd>,
}

impl Engine {
    /// Launches a container whose core is in `Starting`; puts what was plugged in into the core.
    pub(crate) async fn launch(&self, handle: &Arc<Handle>, core: &mut Core) -> Result<Arc<Task>, LaunchError> {
        let joins = self.joins(&core.spec)?;
        let links = self.links_of(core)?;
        let net_of = match &core.spec.network.mode {
            NetworkMode::Container(name) => Some(self.find(name)?),
            _ => None,
        };
        if let Some(other) = &net_of {
            self.take_over_names(core, &other.view().spec)?;
        }
        let input = LaunchInput {
            id: handle.id,
            name: core.name.clone(),
            spec: core.spec.clone(),
            fixed: core.fixed.clone(),
            waiting: std::mem::take(&mut *handle.waiting.lock().unwrap_or_else(PoisonError::into_inner)),
            net_of,
            joins,
            links,
        };
        let engine = self.clone();
        let launched = tokio::task::spawn_blocking(move || engine.launch_blocking(input))
            .await
            .map_err(|e| LaunchError::from(Error::internal(format!("the launch broke off: {e}"))))??;
        core.endpoints = match launched.plugged.endpoints.is_empty() {
            // host and none have an endpoint, too, if only by name.
            true => {
                let idle = self.idle_endpoints(&core.spec).into_iter();
                idle.map(|e| EndpointView { endpoint_id: Id::random().to_string(), ..e }).collect()
            }
            false => launched.plugged.endpoints.clone(),
        };
        core.ports.clone_from(&launched.plugged.ports);
        core.plugged = Some(launched.plugged);
        core.link_env = launched.link_env;
        self.tell_networks(core, "connect", &core.endpoints);
        self.tell_volumes(core, "mount");
        self.tell_linkers(core);
        Ok(launched.task)
    }

    /// An event of each network about this container.
    pub(crate) fn tell_networks(&self, core: &Core, action: &str, endpoints: &[EndpointView]) {
        for record in endpoints.iter().filter_map(|e| self.network_record(&e.network_id).ok()) {
            self.network_event(&record, action, [("container", core.fixed.id.to_string())]);
        }
    }

    /// An event of each volume about this container.
    pub(crate) fn tell_volumes(&self, core: &Core, action: &str) {
        for mount in core.mounts.iter().filter(|m| m.kind == "volume") {
            let mut more =
                vec![("container", core.fixed.id.to_string()), ("driver", mount.driver.clone().unwrap_or_default())];
            if action == "mount" {
                more.push(("destination", mount.target.clone()));
                more.push(("propagation", mount.propagation.clone()));
                more.push(("read/write", mount.read_write.to_string()));
            }
            self.events().emit("volume", action, mount.name.clone().unwrap_or_default(), more);
        }
    }

    /// A container in another's network answers to the other's names: its host name and domain are that one's, from
    /// each start on.
    fn take_over_names(&self, core: &mut Core, other: &ContainerSpec) -> Result<()> {
        if (&core.spec.hostname, &core.spec.domainname) == (&other.hostname, &other.domainname) {
            return Ok(());
        }
        let mut spec = ContainerSpec::clone(&core.spec);
        spec.hostname.clone_from(&other.hostname);
        spec.domainname.clone_from(&other.domainname);
        core.spec = Arc::new(spec);
        self.save_spec(core)
    }

    fn launch_blocking(&self, mut input: LaunchInput) -> Result<Launched, LaunchError> {
        self.store().prepare_snapshot(&input.id)?;
        let mut plugged = match input.net_of {
            None => self.plug(&PlugRequest {
                id: input.id,
                name: &input.name,
                spec: &input.spec,
                paths: &input.fixed.paths,
                hostname: &input.spec.hostname,
                links: input.links.iter().map(Link::hosts_line).collect(),
                transient: false,
            })?,
            Some(_) => Plugged::default(),
        };
        let link_env: Vec<String> = input.links.iter().flat_map(|l| l.environment(&input.name)).collect();
        let result = self.run_spawner(&mut input, &mut plugged, &link_env);
        match result {
            Ok(task) => {
                // The process keeps its namespace from here on.
                plugged.ns = None;
                if let Err(e) = self.remember_plugged(&input.fixed.paths.run_dir, &plugged) {
                    tracing::error!(container = %input.id, "a later engine will not know its network: {}", e.chain());
                }
                Ok(Launched { task: Arc::new(task), plugged, link_env })
            }
            Err(e) => {
                self.unplug_blocking(&input.id, &mut plugged);
                self.unmount_volumes(&input.id);
                Err(e)
            }
        }
    }

    fn run_spawner(
        &self,
        input: &mut LaunchInput,
        plugged: &mut Plugged,
        link_env: &[String],
    ) -> Result<Task, LaunchError> {
        let spec = &input.spec;
        let net = match (&spec.network.mode, input.joins.net.take()) {
            (NetworkMode::Host, _) => rs::Namespace::Host,
            (_, Some(pidfd)) => joined(pidfd),
            _ => match plugged.ns.take() {
                Some(ns) => {
                    let fd = ns.as_fd().try_clone_to_owned().context("cannot hold the network namespace")?;
                    rs::Namespace::Join(rs::Join::Fd(Arc::new(fd)))
                }
                None => rs::Namespace::Private,
            },
        };
        let files_dir = match &input.net_of {
            Some(other) => other.view().hosts_path.parent().map(PathBuf::from),
            None => None,
        };
        let mut paths = input.fixed.paths.clone();
        let own_dir = paths.dir.clone();
        if let Some(dir) = files_dir {
            paths.dir = dir;
        }
        let prepared = Prepared {
            id: input.id.to_string(),
            paths,
            lower: self.with_common_layers(&input.fixed.layers),
            upper: input.fixed.upper.clone(),
            work: input.fixed.work.clone(),
            volatile: spec.auto_remove,
            net,
            pid: namespace(&spec.namespaces.pid, input.joins.pid.take()),
            ipc: namespace(&spec.namespaces.ipc, input.joins.ipc.take()),
            mounts: self.resolve_mounts(spec, input.id)?,
            devices: devices(&spec.devices)?,
            env: environment(spec, link_env),
            hostname: spec.hostname.clone(),
        };
        let host_root = prepared.lower.iter().any(|l| l == std::path::Path::new("/"));
        let mut runtime = runtime_spec(spec, prepared, self.config())?;
        if host_root {
            runtime.mounts.push(self.mask_own_files());
        }
        if let Some(log) = &mut runtime.io.log {
            log.path = own_dir.join(log.path.file_name().unwrap_or_default());
        }
        let task = self.spawner().launch(&runtime, std::mem::take(&mut input.waiting))?;
        for warning in task.warnings() {
            tracing::warn!(container = %input.id, "{warning}");
        }
        Ok(task)
    }

    /// In a copy of this machine the engine's own files are out of sight: layers, volumes, other containers.
    fn mask_own_files(&self) -> rs::Mount {
        rs::Mount {
            target: self.config().data_root.to_string_lossy().into_owned(),
            source: rs::MountSource::Tmpfs { size: None, mode: Some(0o700), options: Vec::new() },
            options: rs::MountOptions { readonly: rs::ReadOnly::Yes, ..rs::MountOptions::default() },
        }
    }

    /// The processes whose namespaces the definition wants to share.
    pub(crate) fn joins(&self, spec: &ContainerSpec) -> Result<Joins> {
        let pidfd = |name: &str, what: &str| -> Result<std::os::fd::OwnedFd> {
            let other = self.find(name)?;
            let view = other.view();
            let Some(running) = view.state.running() else {
                return Err(Error::conflict(format!(
                    "cannot join {what} of a non running container: {} is {}",
                    name,
                    view.state.status()
                ))
                .with_hint(format!("start it first: barque start {name}")));
            };
            pidfd_of(running.pid)
        };
        let mut joins = Joins::default();
        if let NetworkMode::Container(name) = &spec.network.mode {
            joins.net = Some(pidfd(name, "network")?);
        }
        if let NamespaceMode::Container(name) = &spec.namespaces.pid {
            joins.pid = Some(pidfd(name, "PID")?);
        }
        if let NamespaceMode::Container(name) = &spec.namespaces.ipc {
            if matches!(self.find(name)?.view().spec.namespaces.ipc, NamespaceMode::Private | NamespaceMode::None) {
                return Err(Error::conflict(format!("cannot join IPC of container {name}: non-shareable IPC"))
                    .with_hint("make that container with --ipc shareable"));
            }
            joins.ipc = Some(pidfd(name, "IPC")?);
        }
        Ok(joins)
    }

    fn resolve_mounts(&self, spec: &ContainerSpec, id: Id) -> Result<Vec<ResolvedMount>> {
        let mut mounts = Vec::with_capacity(spec.mounts.len());
        for mount in &spec.mounts {
            let mut resolved = ResolvedMount { spec: mount.clone(), source: None, layers: Vec::new() };
            match &mount.source {
                MountSource::Bind { path, create_missing, .. } => {
                    if *create_missing && path.symlink_metadata().is_err() {
                        std::fs::create_dir_all(path)
                            .with_context(|| format!("error while creating mount source path '{}'", path.display()))?;
                    }
                    super::propagation::check(mount, path)?;
                    resolved.source = Some(self.reading_socket(mount, path).unwrap_or_else(|| path.clone()));
                }
                MountSource::Volume { name, .. } => {
                    let name = name.as_deref().unwrap_or_default();
                    let row = self.store().read(|r| r.volume(name))?;
                    let row = row.ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))?;
                    self.mount_volume(&row, id)?;
                    resolved.source = Some(row.mountpoint);
                }
                MountSource::Image { reference, image, .. } => {
                    let name = image.map_or_else(|| reference.clone(), |id| id.to_string());
                    resolved.layers = self.image_for_container(&name, None)?.layers;
                }
                MountSource::Tmpfs { .. } => {}
            }
            mounts.push(resolved);
        }
        // Outer mounts before those inside them.
        mounts.sort_by_key(|m| barque_model::path::rooted(&m.spec.target).matches('/').count());
        Ok(mounts)
    }

    /// A read-only mount makes no difference to a socket: one of the engine's own is replaced by one that only reads.
    fn reading_socket(&self, mount: &MountSpec, path: &std::path::Path) -> Option<PathBuf> {
        let config = self.config();
        let own = config.read_only_socket.as_ref().filter(|_| mount.read_only && !config.sockets.is_empty())?;
        let wanted = std::fs::canonicalize(path).ok()?;
        let is_one = config.sockets.iter().any(|s| std::fs::canonicalize(s).is_ok_and(|s| s == wanted));
        is_one.then(|| own.clone())
    }

    /// Directories that are mounted read-only with a socket of the engine in them: that one keeps all its rights.
    /// Covering it would last until the engine's next start makes a new socket, and no longer.
    pub(super) fn unprotected_sockets(&self, mounts: &[MountSpec]) -> Vec<String> {
        let sockets: Vec<PathBuf> = self.config().sockets.iter().flat_map(std::fs::canonicalize).collect();
        let within = |mount: &MountSpec| {
            let MountSource::Bind { path, .. } = &mount.source else { return None };
            let dir = std::fs::canonicalize(path).ok().filter(|_| mount.read_only)?;
            let socket = sockets.iter().find(|s| s.starts_with(&dir) && **s != dir)?;
            Some(format!(
                "{} is mounted read-only with the engine's socket {} in it, which takes every request all the same: mount \
                 the socket itself with :ro for an API that only reads",
                path.display(),
                socket.display()
            ))
        };
        mounts.iter().filter_map(within).collect()
    }

    /// Everything the engine holds for a process that has ended.
    pub(crate) async fn unplug(&self, core: &mut Core) {
        let Some(mut plugged) = core.plugged.take() else { return };
        let (engine, id) = (self.clone(), core.fixed.id);
        let done = tokio::task::spawn_blocking(move || {
            engine.unplug_blocking(&id, &mut plugged);
            engine.unmount_volumes(&id);
        });
        let done = done.await;
        if done.is_err() {
            tracing::error!(container = %id, "leaving the networks broke off");
        }
        core.endpoints = self.idle_endpoints(&core.spec);
        core.ports.clear();
        core.link_env.clear();
    }
}

fn pidfd_of(pid: i32) -> Result<std::os::fd::OwnedFd> {
    let gone = || Error::conflict(format!("process {pid} has ended"));
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(gone)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).map_err(|_| gone())
}

fn namespace(mode: &NamespaceMode, pidfd: Option<std::os::fd::OwnedFd>) -> rs::Namespace {
    match (mode, pidfd) {
        (_, Some(fd)) => joined(fd),
        (NamespaceMode::Host, None) => rs::Namespace::Host,
        _ => rs::Namespace::Private,
    }
}

/// Variables in Docker's order: host name, terminal, the definition's own, links.
pub(super) fn environment(spec: &ContainerSpec, link_env: &[String]) -> Vec<String> {
    let has = |key: &str| spec.process.env.iter().any(|e| e.starts_with(key));
    let mut env = Vec::with_capacity(spec.process.env.len() + link_env.len() + 2);
    let (path, own): (Vec<_>, Vec<_>) = spec.process.env.iter().cloned().partition(|e| e.starts_with("PATH="));
    env.extend(path);
    if !has("HOSTNAME=") && !spec.hostname.is_empty() {
        env.push(format!("HOSTNAME={}", spec.hostname));
    }
    if spec.process.tty && !has("TERM=") {
        env.push("TERM=xterm".into());
    }
    env.extend(link_env.iter().filter(|l| !own.iter().any(|o| key(o) == key(l))).cloned());
    env.extend(own);
    env
}

fn key(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// Nodes for `--device`: one device, or all in a directory.
fn devices(wishes: &[DeviceSpec]) -> Result<Vec<(rs::Device, String)>> {
    let mut found = Vec::new();
    for wish in wishes {
        let kind = std::fs::metadata(&wish.host_path).map_err(|e| {
            Error::from(e).with_kind(ErrorKind::InvalidArgument).context(format!(
                "error gathering device information while adding custom device \"{}\"",
                wish.host_path.display()
            ))
        })?;
        let mut nodes = vec![(wish.host_path.clone(), wish.container_path.clone())];
        if kind.is_dir() {
            nodes.clear();
            let entries = std::fs::read_dir(&wish.host_path).context("read the device directory")?;
            for entry in entries.flatten() {
                nodes.push((entry.path(), wish.container_path.join(entry.file_name())));
            }
        }
        for (host, inside) in nodes {
            match barque_runtime::defaults::device_at(&host, &inside.to_string_lossy()) {
                Ok(device) => found.push((device, wish.permissions.clone())),
                Err(e) if !kind.is_dir() => return Err(e),
                Err(_) => {}
            }
        }
    }
    Ok(found)
}
