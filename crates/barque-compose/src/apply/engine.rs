//! The engine, split into what reads and what writes: a dry run has no writer, so it cannot change anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use barque_api::auth::AuthConfig;
use barque_api::container::{
    ContainerCreateQuery, ContainerCreateRequest, ContainerInspect, ContainerListQuery, ContainerSummary, CopyQuery,
    RemoveQuery, StartQuery, StopQuery,
};
use barque_api::filters::Filters;
use barque_api::image::{ImageInspect, ImageInspectQuery, ImageRemoveQuery};
use barque_api::network::{
    Network, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest, NetworkInspectQuery,
    NetworkListQuery,
};
use barque_api::volume::{Volume, VolumeCreateRequest, VolumeListQuery};
use barque_client::{Client, Error, Result, Upload};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::cli::Auth;
use crate::plan::labels;

/// Calls that change nothing.
#[derive(Clone, Debug)]
pub struct Reader(Client, Arc<Semaphore>);

/// An engine to read from and, unless this is a dry run, to write to.
#[derive(Clone)]
pub struct Engine {
    read: Reader,
    write: Option<Client>,
    auth: Auth,
    invented: Arc<AtomicUsize>,
    nearby: fn(&barque_client::Host) -> bool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("dry_run", &self.is_dry_run()).finish_non_exhaustive()
    }
}

impl Reader {
    /// Containers of a project, or of all projects if none is named.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn containers(&self, project: Option<&str>, all: bool) -> Result<Vec<ContainerSummary>> {
        let label = match project {
            Some(project) => format!("{}={project}", labels::PROJECT),
            None => labels::PROJECT.to_owned(),
        };
        let query = ContainerListQuery { all, filters: Filters::new().with("label", label), ..Default::default() };
        self.0.container_list(&query).await
    }

    /// One container.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn inspect(&self, id: &str) -> Result<ContainerInspect> {
        self.0.container_inspect(id, false).await
    }

    /// All networks.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn networks(&self) -> Result<Vec<Network>> {
        self.0.network_list(&NetworkListQuery::default()).await
    }

    /// One network, with what is in it.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn network(&self, id: &str) -> Result<Network> {
        self.0.network_inspect(id, &NetworkInspectQuery::default()).await
    }

    /// All volumes.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn volumes(&self) -> Result<Vec<Volume>> {
        Ok(self.0.volume_list(&VolumeListQuery::default()).await?.volumes)
    }

    /// One image, or nothing if the engine has none of that name.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn image(&self, name: &str) -> Result<Option<ImageInspect>> {
        let _turn = self.1.acquire().await;
        match self.0.image_inspect(name, &ImageInspectQuery::default()).await {
            Ok(image) => Ok(Some(image)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The client itself, for streams (logs, events, stats, archives). Callers only read.
    pub fn client(&self) -> &Client {
        &self.0
    }
}

impl Engine {
    /// An engine; with `dry_run` it has no writer.
    pub fn new(client: Client, auth: Auth, dry_run: bool) -> Self {
        let write = (!dry_run).then(|| client.clone());
        let read = Reader(client, Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)));
        Engine { read, write, auth, invented: Arc::new(AtomicUsize::new(0)), nearby: |_| false }
    }

    /// At most so many requests at once that change something or look at an image (`--parallel`); unlimited at first.
    /// Streams that only watch (events, output, waits) are not counted: they stay open until something else happens.
    #[must_use]
    pub fn with_parallel(mut self, limit: usize) -> Self {
        self.read.1 = Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
        self
    }

    /// Waits until one more request may be made; it counts until what this returns is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // none only if the semaphore were closed, which it never is
        self.read.1.acquire().await.ok()
    }

    /// Tells by `nearby` whether an engine at an address sees the same files as this process.
    #[must_use]
    pub fn with_nearby(mut self, nearby: fn(&barque_client::Host) -> bool) -> Self {
        self.nearby = nearby;
        self
    }

    /// Whether paths of this process mean the same to the engine.
    pub fn is_nearby(&self) -> bool {
        (self.nearby)(self.read.0.host())
    }

    /// What reads.
    pub fn read(&self) -> &Reader {
        &self.read
    }

    /// True if nothing can be written.
    pub fn is_dry_run(&self) -> bool {
        self.write.is_none()
    }

    /// What writes, or an error that says this is a dry run.
    ///
    /// # Errors
    /// In a dry run.
    pub fn writer(&self) -> Result<&Client, barque_model::Error> {
        self.write.as_ref().ok_or_else(|| barque_model::Error::invalid("a dry run changes nothing"))
    }

    /// Credentials for the registry of an image.
    pub fn auth_for(&self, image: &str) -> Option<AuthConfig> {
        let reference: barque_model::Reference = image.parse().ok()?;
        (self.auth)(reference.domain())
    }

    /// Credentials by registry host.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    fn invent(&self) -> String {
        format!("dry-run-{}", self.invented.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a container; returns its id and the engine's warnings.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn create(
        &self,
        name: &str,
        platform: &str,
        request: &ContainerCreateRequest,
    ) -> Result<(String, Vec<String>)> {
        let _turn = self.turn().await;
        let Some(client) = &self.write else { return Ok((self.invent(), Vec::new())) };
        let query = ContainerCreateQuery { name: name.to_owned(), platform: platform.to_owned() };
        let reply = client.container_create(&query, request).await?;
        Ok((reply.id, reply.warnings))
    }

    /// Starts a container.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn start(&self, id: &str) -> Result<()> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => client.container_start(id, &StartQuery::default()).await,
            None => Ok(()),
        }
    }

    /// Stops a container; `timeout` in seconds, the container's own if missing.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn stop(&self, id: &str, timeout: Option<i64>) -> Result<()> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => client.container_stop(id, &StopQuery { timeout, ..Default::default() }).await,
            None => Ok(()),
        }
    }

    /// Restarts a container.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn restart(&self, id: &str, timeout: Option<i64>) -> Result<()> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => client.container_restart(id, &StopQuery { timeout, ..Default::default() }).await,
            None => Ok(()),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn kill(&self, id: &str, signal: &str) -> Result<()> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => client.container_kill(id, signal).await,
            None => Ok(()),
        }
    }

    /// Freezes or thaws.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn pause(&self, id: &str, freeze: bool) -> Result<()> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) if freeze => client.container_pause(id).await,
            Some(client) => client.container_unpause(id).await,
            None => Ok(()),
        }
    }

    /// Removes a container, its anonymous volumes too if asked; one that is gone is fine.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn remove(&self, id: &str, volumes: bool) -> Result<()> {
        let _turn = self.turn().await;
        let Some(client) = &self.write else { return Ok(()) };
        let query = RemoveQuery { force: true, volumes, ..Default::default() };
        match client.container_remove(id, &query).await {
            // "removal … is already in progress"
            Err(e) if e.is_not_found() || (e.is_conflict() && e.message().contains("already in progress")) => Ok(()),
            other => other,
        }
    }

    /// Renames a container.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn rename(&self, id: &str, name: &str) -> Result<()> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => client.container_rename(id, name).await,
            None => Ok(()),
        }
    }

    /// Unpacks a tar archive in a container.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn put_archive(&self, id: &str, path: &str, owners: bool, content: Upload) -> Result<()> {
        let _turn = self.turn().await;
        let Some(client) = &self.write else { return Ok(()) };
        let query = CopyQuery { path: path.to_owned(), copy_uid_gid: owners, ..Default::default() };
        client.container_archive_put(id, &query, content).await
    }

    /// Makes a network; returns its id.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn create_network(&self, request: &NetworkCreateRequest) -> Result<String> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => Ok(client.network_create(request).await?.id),
            None => Ok(self.invent()),
        }
    }

    /// Removes a network; false if it was not there.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn remove_network(&self, id: &str) -> Result<bool> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => found(client.network_remove(id).await),
            None => Ok(true),
        }
    }

    /// Connects a container to a network.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn connect(&self, network: &str, request: &NetworkConnectRequest) -> Result<()> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => client.network_connect(network, request).await,
            None => Ok(()),
        }
    }

    /// Disconnects a container from a network.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        let _turn = self.turn().await;
        let Some(client) = &self.write else { return Ok(()) };
        let request = NetworkDisconnectRequest { container: container.to_owned(), force: true };
        client.network_disconnect(network, &request).await
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn create_volume(&self, request: &VolumeCreateRequest) -> Result<()> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => client.volume_create(request).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// Removes a volume; false if it was not there.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn remove_volume(&self, name: &str) -> Result<bool> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => found(client.volume_remove(name, true).await),
            None => Ok(true),
        }
    }

    /// Removes an image; false if it was not there.
    ///
    /// # Errors
    /// The engine's refusal.
    pub async fn remove_image(&self, name: &str) -> Result<bool> {
        let _turn = self.turn().await;
        match &self.write {
            Some(client) => found(client.image_remove(name, &ImageRemoveQuery::default()).await.map(|_| ())),
            None => Ok(true),
        }
    }
}

fn found(result: Result<(), Error>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if e.is_not_found() => Ok(false),
        Err(e) => Err(e),
    }
}
