//! Creating a container: image, names, volumes, writable layer, row, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_model::path::rooted;
use barque_model::{Context, Error, ErrorKind, Id, Platform, Result, Timestamp};
use barque_net::Driver;

use super::driver::{Core, Fixed, Handle, StoredState};
use super::merge::merge_image;
use super::names;
use super::request::{ContainerPaths, CreateContainer, CreatedContainer};
use super::spec::{ContainerSpec, MountSource, MountSpec, NetworkMode};
use super::view::{EndpointView, MountView};
use crate::Engine;
use crate::network::plug::idle_endpoint;

const NAME_ATTEMPTS: u32 = 20;

impl Engine {
    /// Makes a container without starting it (`POST /containers/create`).
    ///
    /// Errors: `NotFound` beginning `No such image` where the image is not here.
    pub async fn container_create(&self, request: CreateContainer) -> Result<CreatedContainer> {
        let engine = self.clone();
        self.blocking(move || engine.create_blocking(request)).await
    }

    fn create_blocking(&self, request: CreateContainer) -> Result<CreatedContainer> {
        let CreateContainer { name, mut spec, document, platform } = request;
        let image = self.image_for_container(&spec.image_ref, platform.as_ref())?;
        spec.image_id = Some(image.id);
        merge_image(&mut spec, &image.config.config)?;
        let mut warnings = Vec::new();
        let host = Platform::host();
        if platform.is_none() && host.score(&image.platform).is_none() {
            warnings.push(format!(
                "The requested image's platform ({}) does not match the detected host platform ({host}) and no specific \
                 platform was requested",
                image.platform
            ));
        }
        self.check(&mut spec, &mut warnings)?;
        self.take_over_volumes(&mut spec)?;
        self.pin_mounted_images(&mut spec);
        self.resolve_links(&mut spec)?;
        let id = Id::random();
        if spec.hostname.is_empty() {
            spec.hostname = self.default_hostname(&spec, &id);
        }
        let name = match name.as_deref().filter(|n| !n.is_empty()) {
            Some(given) => Some(names::checked(given)?.to_owned()),
            None => None,
        };
        let mut new_volumes = Vec::new();
        let made = self.insert(id, name, spec, document, &image, &mut new_volumes);
        let filled = made.and_then(|handle| self.fill_new_volumes(&handle).map(|()| handle));
        let handle = filled.inspect_err(|_| self.undo_create(&id, &new_volumes))?;
        let view = handle.view();
        self.register(handle.clone());
        for volume in &new_volumes {
            self.events().emit("volume", "create", &volume.name, [("driver", volume.driver.clone())]);
        }
        self.events().publish(crate::events::Event {
            kind: "container",
            action: "create".into(),
            actor: id.to_string(),
            attributes: event_attributes(&view.spec, &view.name),
            time: Timestamp::now(),
        });
        Ok(CreatedContainer { id, warnings })
    }

    fn default_hostname(&self, spec: &ContainerSpec, id: &Id) -> String {
        if spec.network.mode == NetworkMode::Host || spec.namespaces.uts == super::spec::NamespaceMode::Host {
            return crate::system::hostname();
        }
        id.short()
    }

    /// What no kernel needs to be asked for.
    fn check(&self, spec: &mut ContainerSpec, warnings: &mut Vec<String>) -> Result<()> {
        if spec.network.mode == NetworkMode::Host && (!spec.network.ports.is_empty() || spec.network.publish_all) {
            warnings.push("Published ports are discarded when using host network mode".into());
            spec.network.ports.clear();
            spec.network.publish_all = false;
        }
        warnings.extend(super::limits::ignored_weights(&spec.resources.block_devices));
        warnings.extend(self.unprotected_sockets(&spec.mounts));
        if spec.auto_remove && !matches!(spec.restart, super::spec::RestartPolicy::No) {
            return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
        }
        if !spec.process.working_dir.is_empty() && !spec.process.working_dir.starts_with('/') {
            return Err(Error::invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                spec.process.working_dir
            )));
        }
        if spec.security.apparmor.is_none() && !spec.security.privileged {
            spec.security.apparmor = self.apparmor().map(str::to_owned);
        }
        let s = &spec.security;
        let _valid = barque_runtime::defaults::capabilities_with(&s.cap_add, &s.cap_drop, s.privileged)?;
        let mut targets = std::collections::BTreeSet::new();
        for mount in &spec.mounts {
            let target = rooted(&mount.target);
            if !mount.target.starts_with('/') {
                return Err(Error::invalid(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.target
                )));
            }
            if target == "/" {
                return Err(Error::invalid("invalid specification: destination can't be '/'"));
            }
            if !targets.insert(target.clone()) {
                return Err(Error::invalid(format!("Duplicate mount point: {target}")));
            }
            self.check_bind(mount)?;
        }
        if let NetworkMode::Named(name) = &spec.network.mode {
            // The predefined networks may be named by their ids.
            match self.network_record(name).and_then(Engine::joinable).map(|r| r.def) {
                Err(e) if e.kind() == ErrorKind::Forbidden => return Err(e),
                Ok(def) if matches!(def.driver, Driver::Host) => spec.network.mode = NetworkMode::Host,
                Ok(def) if matches!(def.driver, Driver::None) => spec.network.mode = NetworkMode::None,
                Ok(def) if def.name == "bridge" => spec.network.mode = NetworkMode::Default,
                _ => {}
            }
        }
        for wish in &spec.network.endpoints {
            crate::network::endpoint::check_options(wish)?;
        }
        match self.wished_networks(spec) {
            // As with Docker a network need not exist before the start: programs make it in between.
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e.context("cannot join the network")),
            _ => Ok(()),
        }
    }

    fn check_bind(&self, mount: &MountSpec) -> Result<()> {
        let MountSource::Bind { path, create_missing, .. } = &mount.source else { return Ok(()) };
        if !path.is_absolute() {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": invalid mount path: '{}' mount path must be absolute",
                path.display()
            )));
        }
        if path.symlink_metadata().is_err() && !create_missing {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                path.display()
            ))
            .with_hint("create it first, or use -v, which makes missing directories"));
        }
        Ok(())
    }

    /// `--volumes-from`: mounts of other containers, where this one has none at that place.
    fn take_over_volumes(&self, spec: &mut ContainerSpec) -> Result<()> {
        for from in spec.volumes_from.clone() {
            let (name, modes) = from.split_once(':').unwrap_or((&from, "rw"));
            if !modes.split(',').all(|mode| matches!(mode, "ro" | "rw" | "z" | "Z")) {
                return Err(Error::invalid(format!("invalid mode: {modes}")));
            }
            let read_only = modes.split(',').any(|mode| mode == "ro");
            let source = self.container(name)?;
            // A tmpfs is nothing to share.
            let shared = |m: &&MountSpec| !matches!(m.source, MountSource::Tmpfs { .. });
            for mount in source.spec.mounts.iter().filter(shared) {
                let target = rooted(&mount.target);
                if spec.mounts.iter().any(|m| rooted(&m.target) == target && !is_image_volume(m)) {
                    continue;
                }
                spec.mounts.retain(|m| rooted(&m.target) != target);
                let mut mount = mount.clone();
                mount.read_only |= read_only;
                if let MountSource::Volume { no_copy, .. } = &mut mount.source {
                    // What the other container has made of the volume is what is wanted, be it nothing.
                    *no_copy = true;
                }
                spec.mounts.push(mount);
            }
        }
        Ok(())
    }

    fn insert(
        &self,
        id: Id,
        name: Option<String>,
        mut spec: ContainerSpec,
        document: String,
        image: &crate::image::ImageInfo,
        new_volumes: &mut Vec<barque_store::Volume>,
    ) -> Result<Arc<Handle>> {
        let paths = self.container_paths(&id);
        for mount in &mut spec.mounts {
            self.name_volume(mount, new_volumes)?;
        }
        let now = Timestamp::now();
        let stored = StoredState::created();
        let mut row = barque_store::Container {
            id,
            name: String::new(),
            image: Some(image.id),
            image_ref: spec.image_ref.clone(),
            snapshot: Some(id),
            created_at: now,
            spec: serde_json::to_string(&spec).map_err(|e| Error::internal(e.to_string()))?,
            document: document.clone(),
            state: serde_json::to_string(&stored).map_err(|e| Error::internal(e.to_string()))?,
        };
        let chain = image.chain;
        let mut present = Vec::new();
        self.store().write(|tx| {
            tx.snapshot_insert(&barque_store::Snapshot { id, parent: chain, created_at: now })?;
            insert_named(tx, &mut row, name.as_deref())?;
            present.clear();
            for volume in new_volumes.iter() {
                present.extend(crate::volume::insert(tx, volume)?.map(|row| row.name));
            }
            for mount in &spec.mounts {
                if let MountSource::Volume { name: Some(volume), .. } = &mount.source {
                    tx.volume_use_insert(&id, volume)?;
                }
            }
            Ok(())
        })?;
        new_volumes.retain(|volume| !present.contains(&volume.name));
        let dirs = self.store().prepare_snapshot(&id)?;
        std::fs::create_dir_all(&paths.dir).with_context(|| format!("cannot make {}", paths.dir.display()))?;
        let fixed = Arc::new(Fixed {
            id,
            created_at: now,
            paths,
            layers: image.layers.clone(),
            upper: dirs.upper,
            work: dirs.work,
            platform: "linux".into(),
            image_manifest: None,
        });
        Ok(Handle::new(self.new_core(fixed, row.name, spec, document, stored)))
    }

    /// Takes back what a creation that failed has made. Nobody knows of the container yet: its rows would hold the
    /// image and the volumes for ever.
    fn undo_create(&self, id: &Id, new_volumes: &[barque_store::Volume]) {
        let _undo = self.store().write(|tx| tx.container_delete(id));
        let _undo = self.store().discard_snapshot(id);
        let _undo = self.store().discard_dir(&self.container_paths(id).dir);
        for volume in new_volumes {
            let ours = |v: &barque_store::Volume| v.created_at == volume.created_at;
            match self.store().read(|r| r.volume(&volume.name)) {
                Ok(Some(row)) if ours(&row) => drop(self.volume_remove_blocking(&volume.name)),
                // Only what is empty: files that lay there already are somebody's.
                Ok(None) => {
                    let _kept = std::fs::remove_dir(&volume.mountpoint);
                    let _kept = volume.mountpoint.parent().map(std::fs::remove_dir);
                }
                _ => {}
            }
        }
    }

    /// The live part of a stored container.
    pub(crate) fn new_core(
        &self,
        fixed: Arc<Fixed>,
        name: String,
        spec: ContainerSpec,
        document: String,
        stored: StoredState,
    ) -> Core {
        Core {
            mounts: self.mount_views(&spec),
            endpoints: self.idle_endpoints(&spec),
            name,
            spec: Arc::new(spec),
            document: document.into(),
            state: stored.state,
            restarts: stored.restarts,
            backoff: None,
            task: None,
            plugged: None,
            link_env: Vec::new(),
            health: stored.health,
            execs: BTreeMap::new(),
            ports: Vec::new(),
            error: stored.error,
            ended_from_outside: stored.ended_from_outside,
            restart_timer: None,
            health_task: None,
            fixed,
        }
    }

    pub(crate) fn idle_endpoints(&self, spec: &ContainerSpec) -> Vec<EndpointView> {
        let wishes = self.wished_networks(spec).unwrap_or_default();
        let mut idle: Vec<EndpointView> = wishes.iter().map(|(r, w)| idle_endpoint(r, w)).collect();
        if idle.is_empty() {
            let name = match spec.network.mode {
                NetworkMode::Host => "host",
                NetworkMode::None => "none",
                _ => return idle,
            };
            if let Ok(record) = self.network_record(name) {
                idle.push(idle_endpoint(&record, &Default::default()));
            }
        }
        idle
    }

    /// Mounts as `inspect` shows them.
    pub(crate) fn mount_views(&self, spec: &ContainerSpec) -> Vec<MountView> {
        let mut views: Vec<MountView> = spec.mounts.iter().map(|m| self.mount_view(m)).collect();
        views.sort_by(|a, b| a.target.cmp(&b.target));
        views
    }

    fn mount_view(&self, mount: &MountSpec) -> MountView {
        let mut view = MountView {
            kind: "bind".into(),
            name: None,
            source: Default::default(),
            target: rooted(&mount.target),
            driver: None,
            mode: mount.mode.clone(),
            read_write: !mount.read_only,
            propagation: String::new(),
            anonymous: false,
        };
        match &mount.source {
            MountSource::Bind { path, .. } => {
                view.source.clone_from(path);
                view.propagation = mount.propagation.clone().unwrap_or_else(|| "rprivate".into());
            }
            MountSource::Volume { name, driver, anonymous, .. } => {
                view.kind = "volume".into();
                view.source = self.volume_dir(name.as_deref().unwrap_or_default());
                view.name.clone_from(name);
                view.driver = Some(driver.clone());
                view.anonymous = *anonymous;
            }
            MountSource::Tmpfs { .. } => view.kind = "tmpfs".into(),
            MountSource::Image { reference, .. } => {
                view.kind = "image".into();
                // Always, whatever is asked for.
                view.read_write = false;
                view.source = reference.into();
            }
        }
        view
    }

    pub(crate) fn container_paths(&self, id: &Id) -> ContainerPaths {
        ContainerPaths {
            dir: self.config().data_root.join("containers").join(id.to_string()),
            run_dir: self.config().exec_root.join("containers").join(id.to_string()),
        }
    }
}

fn is_image_volume(mount: &MountSpec) -> bool {
    matches!(mount.source, MountSource::Volume { anonymous: true, .. })
}

fn insert_named(tx: &barque_store::Tx<'_>, row: &mut barque_store::Container, name: Option<&str>) -> Result<()> {
    if let Some(name) = name {
        row.name = name.to_owned();
        return tx.container_insert(row);
    }
    for attempt in 0..NAME_ATTEMPTS {
        row.name = names::made_up(attempt);
        if tx.container_by_name(&row.name)?.is_none() {
            return tx.container_insert(row);
        }
    }
    row.name = format!("{}_{}", names::made_up(0), row.id.short());
    tx.container_insert(row)
}

/// Labels, image and name: what every event of a container carries.
pub fn event_attributes(spec: &ContainerSpec, name: &str) -> BTreeMap<String, String> {
    let mut attributes = spec.labels.clone();
    attributes.insert("image".into(), spec.image_ref.clone());
    attributes.insert("name".into(), name.to_owned());
    attributes
}

/// Checks a platform against what an image is for.
pub fn platform_fits(wanted: Option<&Platform>, has: &Platform) -> bool {
    wanted.is_none_or(|w| w.score(has).is_some())
}
