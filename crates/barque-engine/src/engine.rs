//! The handle: what an engine owns, how it opens, how it stops.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use barque_model::{Context, Error, ErrorKind, Id, Result};
use barque_net::{Fabric, FabricConfig};
use barque_registry::Client;
use barque_runtime::Spawner;
use barque_store::{Store, StoreOptions};
use tokio::sync::Semaphore;

use crate::config::{EngineConfig, RegistrySettings};
use crate::container::driver::Handle;
use crate::container::exec::ExecEntry;
use crate::container::state::State;
use crate::container::view::ContainerView;
use crate::events::Events;
use crate::image::ImageInfo;
use crate::network::Networks;
use crate::volume::device::VolumeMounts;

/// Key of the engine's own id among the store's settings.
const ENGINE_ID: &str = "engine.id";
/// Layers fetched at once unless the configuration says otherwise.
const CONCURRENT_DOWNLOADS: usize = 4;

/// An engine; cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    config: EngineConfig,
    id: String,
    store: Store,
    fabric: Fabric,
    spawner: Spawner,
    events: Events,
    registry: RwLock<Client>,
    containers: RwLock<Containers>,
    execs: RwLock<HashMap<Id, Arc<ExecEntry>>>,
    networks: Networks,
    volume_mounts: VolumeMounts,
    /// Images as containers need them, by id; they never change.
    images: Mutex<HashMap<barque_model::ImageId, ImageInfo>>,
    /// The default AppArmor profile, where the kernel has it.
    apparmor: Option<&'static str>,
    /// Set once: nothing is started any more.
    stopping: AtomicBool,
    reloadable: RwLock<Reloadable>,
}

/// What a reload of the configuration changes.
struct Reloadable {
    /// Layers of all pulls together that are fetched at the same time.
    downloads: Arc<Semaphore>,
    uploads: Option<usize>,
    live_restore: bool,
    shutdown_timeout_secs: u64,
}

impl Reloadable {
    fn new(registry: &RegistrySettings, live_restore: bool, shutdown_timeout_secs: u64) -> Reloadable {
        let downloads = registry.max_concurrent_downloads.unwrap_or(CONCURRENT_DOWNLOADS).max(1);
        Reloadable {
            downloads: Arc::new(Semaphore::new(downloads)),
            uploads: registry.max_concurrent_uploads,
            live_restore,
            shutdown_timeout_secs,
        }
    }
}

#[derive(Default)]
struct Containers {
    by_id: BTreeMap<Id, Arc<Handle>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "engine {}", self.0.id)
    }
}

impl Engine {
    /// Opens the roots, takes up what a former engine left running, and starts what should run.
    pub async fn open(config: EngineConfig, spawner: Spawner) -> Result<Engine> {
        let engine = tokio::task::spawn_blocking(move || Engine::open_blocking(config, spawner))
            .await
            .map_err(|e| Error::internal(format!("opening the engine broke off: {e}")))??;
        engine.restore().await?;
        Ok(engine)
    }

    fn open_blocking(config: EngineConfig, spawner: Spawner) -> Result<Engine> {
        for dir in [&config.data_root, &config.exec_root] {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        // Layers hold programs that run as their owner: nobody else of this machine is to reach them (as in Docker).
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o710);
        std::fs::set_permissions(&config.data_root, private)
            .with_context(|| format!("cannot close {} to other users", config.data_root.display()))?;
        let store = Store::open(StoreOptions::new(&config.data_root))?;
        crate::container::marker::make(&config.data_root)?;
        for sentence in &store.recovery().lost {
            tracing::error!("{sentence}");
        }
        let id = engine_id(&store)?;
        let mut fabric = FabricConfig::new(fabric_id(&id));
        fabric.mtu = config.network.mtu;
        fabric.firewall = config.network.firewall.unwrap_or(true);
        fabric.ip_forward = config.network.ip_forward.unwrap_or(true);
        fabric.relay = config.network.userland_proxy.unwrap_or(fabric.relay);
        fabric.host_ip = config.network.default_ip;
        let reloadable = Reloadable::new(&config.registry, config.live_restore, config.shutdown_timeout_secs);
        let engine = Engine(Arc::new(Inner {
            id,
            store,
            fabric: Fabric::open(fabric)?,
            spawner,
            events: Events::default(),
            registry: RwLock::new(Client::new(config.registry.client_config())?),
            containers: RwLock::default(),
            execs: RwLock::default(),
            networks: Networks::default(),
            volume_mounts: VolumeMounts::default(),
            images: Mutex::default(),
            apparmor: crate::apparmor::load(),
            stopping: AtomicBool::new(false),
            reloadable: RwLock::new(reloadable),
            config,
        }));
        engine.load_networks()?;
        engine.discard_builds();
        Ok(engine)
    }

    /// The AppArmor profile of containers that ask for none; nothing where the kernel has no AppArmor.
    pub fn apparmor(&self) -> Option<&'static str> {
        self.0.apparmor
    }

    pub fn config(&self) -> &EngineConfig {
        &self.0.config
    }

    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// A UUID that stays the same for one data root.
    pub fn engine_id(&self) -> &str {
        &self.0.id
    }

    /// To be called before something is removed, so that a full disk does not forbid it.
    pub fn make_room(&self) {
        self.store().make_room();
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn fabric(&self) -> &Fabric {
        &self.0.fabric
    }

    pub(crate) fn download_slots(&self) -> Arc<Semaphore> {
        self.0.reloadable.read().unwrap_or_else(PoisonError::into_inner).downloads.clone()
    }

    /// Whether containers run on when the engine stops.
    pub fn live_restore(&self) -> bool {
        self.0.reloadable.read().unwrap_or_else(PoisonError::into_inner).live_restore
    }

    /// Blobs of one push on their way at once, where the configuration says.
    pub(crate) fn max_uploads(&self) -> Option<usize> {
        self.0.reloadable.read().unwrap_or_else(PoisonError::into_inner).uploads
    }

    pub(crate) fn spawner(&self) -> &Spawner {
        &self.0.spawner
    }

    pub(crate) fn networks_state(&self) -> &Networks {
        &self.0.networks
    }

    pub(crate) fn volume_mounts(&self) -> &VolumeMounts {
        &self.0.volume_mounts
    }

    pub(crate) fn registry(&self) -> Client {
        self.0.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes on new settings: of registries and transfers, and what a stop of the engine does. Work that goes on
    /// keeps its own.
    ///
    /// Errors: registry settings that cannot be used; then nothing was changed.
    pub fn reload(&self, registry: &RegistrySettings, live_restore: bool, shutdown_timeout_secs: u64) -> Result<()> {
        let client = Client::new(registry.client_config())?;
        *self.0.registry.write().unwrap_or_else(PoisonError::into_inner) = client;
        *self.0.reloadable.write().unwrap_or_else(PoisonError::into_inner) =
            Reloadable::new(registry, live_restore, shutdown_timeout_secs);
        Ok(())
    }

    pub(crate) fn image_cache(&self) -> &Mutex<HashMap<barque_model::ImageId, ImageInfo>> {
        &self.0.images
    }

    /// Runs blocking work off the reactor's threads.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(e) => Err(Error::internal(format!("an operation broke off: {e}"))),
        }
    }

    pub(crate) fn register(&self, handle: Arc<Handle>) {
        self.write_containers().by_id.insert(handle.id, handle);
    }

    pub(crate) fn unregister(&self, id: &Id) {
        self.write_containers().by_id.remove(id);
    }

    fn write_containers(&self) -> std::sync::RwLockWriteGuard<'_, Containers> {
        self.0.containers.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn handles(&self) -> Vec<Arc<Handle>> {
        self.0.containers.read().unwrap_or_else(PoisonError::into_inner).by_id.values().cloned().collect()
    }

    /// A container by full id, name, or unique prefix of its id.
    ///
    /// Errors: `NotFound` `No such container: X`; `InvalidArgument` for a prefix of several.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<Handle>> {
        let bare = text.strip_prefix('/').unwrap_or(text);
        let containers = self.0.containers.read().unwrap_or_else(PoisonError::into_inner);
        if let Ok(id) = bare.parse::<Id>()
            && let Some(handle) = containers.by_id.get(&id)
        {
            return Ok(handle.clone());
        }
        if let Some(handle) = containers.by_id.values().find(|h| h.view().name == bare) {
            return Ok(handle.clone());
        }
        let prefix = |h: &&Arc<Handle>| !bare.is_empty() && h.id.to_string().starts_with(bare);
        let mut matches = containers.by_id.values().filter(prefix);
        match (matches.next(), matches.next()) {
            (Some(handle), None) => Ok(handle.clone()),
            (Some(_), Some(_)) => Err(Error::invalid(format!("Multiple IDs found with provided prefix: {bare}"))
                .with_hint("give more of the id, or the container's name")),
            _ => Err(Error::not_found(format!("No such container: {text}"))),
        }
    }

    /// As of now. Errors as Docker's `No such container: X`.
    pub fn container(&self, text: &str) -> Result<Arc<ContainerView>> {
        Ok(self.find(text)?.view())
    }

    /// All containers, the newest first.
    pub fn containers(&self) -> Vec<Arc<ContainerView>> {
        let mut views: Vec<_> = self.handles().iter().map(|h| h.view()).collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.created_at));
        views
    }

    pub(crate) fn container_name(&self, id: &Id) -> String {
        let containers = self.0.containers.read().unwrap_or_else(PoisonError::into_inner);
        containers.by_id.get(id).map_or_else(|| id.short(), |h| h.view().name.clone())
    }

    pub(crate) fn exec_entry(&self, text: &str) -> Result<Arc<ExecEntry>> {
        let execs = self.0.execs.read().unwrap_or_else(PoisonError::into_inner);
        let found = text.parse::<Id>().ok().and_then(|id| execs.get(&id).cloned());
        found.ok_or_else(|| Error::not_found(format!("No such exec instance: {text}")))
    }

    pub(crate) fn put_exec(&self, entry: Arc<ExecEntry>) {
        self.0.execs.write().unwrap_or_else(PoisonError::into_inner).insert(entry.id, entry);
    }

    pub(crate) fn drop_exec(&self, id: &Id) {
        self.0.execs.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Stops: containers too, unless they are to outlive the engine.
    pub async fn shutdown(&self) {
        self.0.stopping.store(true, Ordering::Release);
        if !self.live_restore() {
            self.stop_all().await;
        }
        let store = self.0.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close()).await;
        if let Ok(Err(e)) = closed {
            tracing::error!("cannot close the store: {}", e.chain());
        }
    }

    /// Whether [`Engine::shutdown`] has begun.
    pub(crate) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    async fn stop_all(&self) {
        let secs = self.0.reloadable.read().unwrap_or_else(PoisonError::into_inner).shutdown_timeout_secs;
        let limit = i64::try_from(secs).unwrap_or(15);
        let up = |h: &Arc<Handle>| matches!(h.view().state, State::Running(_) | State::Starting { .. });
        let stops = self.handles().into_iter().filter(up).map(|handle| {
            let engine = self.clone();
            tokio::spawn(async move {
                let own = handle.view().spec.stop_timeout_secs.unwrap_or(10).min(limit);
                engine.stop_for_shutdown(&handle, own).await
            })
        });
        for stop in stops.collect::<Vec<_>>() {
            if let Ok(Err(e)) = stop.await
                && e.kind() != ErrorKind::NotModified
            {
                tracing::warn!("a container did not stop: {}", e.chain());
            }
        }
    }
}

fn engine_id(store: &Store) -> Result<String> {
    if let Some(id) = store.read(|r| r.kv(ENGINE_ID))? {
        return Ok(id);
    }
    let hex = Id::random().to_string();
    let id = format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]);
    store.write_durable(|tx| tx.kv_set(ENGINE_ID, &id))?;
    Ok(id)
}

/// Short and of the characters a packet-filter table may have.
fn fabric_id(engine_id: &str) -> String {
    engine_id.chars().filter(char::is_ascii_alphanumeric).take(12).collect()
}
