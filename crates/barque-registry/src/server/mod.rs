//! A registry: distribution-spec 1.1 over a directory, and a pull-through cache.
//!
//! [`serve`] takes bound listeners, so that the caller decides where it listens and learns a port it left open. The
//! directory's layout is described in `storage/mod.rs`.

mod app;
mod auth;
mod blobs;
mod gc;
mod lists;
mod manifests;
mod mirror;
mod respond;
mod route;
mod storage;
mod uploads;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use barque_model::{Context as _, Error, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use app::App;

use crate::{ClientConfig, Credentials};

/// Settings of a registry.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Directory of the registry; made when missing.
    pub root: PathBuf,
    /// `htpasswd` file with bcrypt hashes (`htpasswd -B`); nobody needs to log in when `None`. Read again when changed.
    pub htpasswd: Option<PathBuf>,
    /// Realm named in the challenge.
    pub realm: String,
    /// Certificate and key; plain HTTP when `None`.
    pub tls: Option<TlsFiles>,
    /// Be a pull-through cache of another registry; pushes are then refused.
    pub mirror: Option<MirrorConfig>,
    /// Whether clients may delete manifests, tags and blobs.
    pub allow_delete: bool,
    /// Largest manifest accepted, in bytes.
    pub manifest_bytes_max: u64,
    /// How often garbage is collected; never when `None`.
    pub gc_interval: Option<Duration>,
    /// How long unreferenced content is kept.
    pub gc_grace: Duration,
    /// Whether manifests that no tag, index or subject keeps are garbage too.
    pub gc_untagged: bool,
    /// Whether content is forced to disk before it is acknowledged.
    pub durable: bool,
}

impl ServerConfig {
    /// The defaults for a directory: open to all, plain HTTP, deletion allowed, garbage collected daily.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            htpasswd: None,
            realm: "barque registry".to_owned(),
            tls: None,
            mirror: None,
            allow_delete: true,
            manifest_bytes_max: crate::manifest::MANIFEST_BYTES_MAX,
            gc_interval: Some(Duration::from_secs(24 * 3600)),
            gc_grace: Duration::from_secs(3600),
            gc_untagged: false,
            durable: true,
        }
    }
}

/// PEM files for TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// What a pull-through cache stands in front of.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// The registry: URL or `host[:port]`; `docker.io` and `https://registry-1.docker.io` mean Docker Hub.
    pub upstream: String,
    /// Credentials for it.
    pub credentials: Credentials,
    /// How to reach it.
    pub client: ClientConfig,
}

/// What a collection removed (or would remove).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Manifests removed.
    pub manifests: usize,
    /// Blobs removed.
    pub blobs: usize,
    /// Abandoned uploads removed.
    pub uploads: usize,
    /// Bytes freed.
    pub bytes: u64,
}

/// How long requests in flight may take after `shutdown`.
const DRAIN: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;

/// A registry whose directory, certificate and password file are in order.
pub struct Registry {
    app: Arc<App>,
    tls: Option<TlsAcceptor>,
}

/// Opens the directory and the files that the configuration names.
///
/// # Errors
/// When the directory, certificate or htpasswd file cannot be used.
pub async fn open(config: ServerConfig) -> Result<Registry> {
    let tls = match &config.tls {
        None => None,
        Some(files) => Some(acceptor(files).await?),
    };
    let opened = tokio::task::spawn_blocking(move || App::new(config)).await;
    let app = Arc::new(opened.map_err(|error| Error::internal(error.to_string()))??);
    Ok(Registry { app, tls })
}

/// Opens and serves.
///
/// # Errors
/// As [`open`].
pub async fn serve<S>(config: ServerConfig, listeners: Vec<TcpListener>, shutdown: S) -> Result<()>
where
    S: Future<Output = ()> + Send + 'static,
{
    open(config).await?.serve(listeners, shutdown).await;
    Ok(())
}

impl Registry {
    /// Serves until `shutdown` completes, then lets requests in flight finish for a moment.
    pub async fn serve<S>(self, listeners: Vec<TcpListener>, shutdown: S)
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let Registry { app, tls } = self;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(accept(app.clone(), listener, tls.clone(), stopped.clone()));
        }
        if let Some(interval) = app.config.gc_interval {
            tasks.spawn(collect_regularly(app.clone(), interval, stopped));
        }
        shutdown.await;
        let _ = stop.send(true);
        // Whoever needs longer is cut off: uploads can be resumed.
        let _ = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    }
}

/// Collects garbage in a directory that no registry serves at the moment; one that does collects by itself.
///
/// # Errors
/// `Conflict` while a registry serves the directory; when it cannot be read.
pub async fn collect_garbage(config: &ServerConfig, dry_run: bool) -> Result<GcReport> {
    let (root, durable) = (config.root.clone(), config.durable);
    let plan = gc::Plan { grace: config.gc_grace, untagged: config.gc_untagged, dry_run };
    let work = move || -> Result<GcReport> {
        let storage = storage::Storage::open(&root, durable)?;
        gc::collect(&storage, None, plan).context(format!("cannot collect garbage in {}", root.display()))
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error.to_string()))?
}

async fn collect_regularly(app: Arc<App>, interval: Duration, mut stopped: watch::Receiver<bool>) {
    let plan = gc::Plan { grace: app.config.gc_grace, untagged: app.config.gc_untagged, dry_run: false };
    loop {
        tokio::select! {
            () = told(&mut stopped) => return,
            () = tokio::time::sleep(interval) => {}
        }
        let app = app.clone();
        let work = tokio::task::spawn_blocking(move || gc::collect(&app.storage, Some(&app.sessions), plan));
        match work.await {
            Ok(Ok(report)) => tracing::info!(?report, "registry garbage collected"),
            Ok(Err(error)) => tracing::warn!(%error, "registry garbage collection failed"),
            Err(error) => tracing::warn!(%error, "registry garbage collection failed"),
        }
    }
}

async fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let (chain, key) =
        crate::client::load_identity(&files.cert, &files.key).await.context("cannot use the TLS files")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.context("cannot use the TLS certificate and key")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(app: Arc<App>, listener: TcpListener, tls: Option<TlsAcceptor>, stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        tokio::select! {
            () = told(&mut stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection(app.clone(), stream, tls.clone(), stopped.clone()));
                }
                Err(error) => {
                    // Out of descriptors, mostly: wait for some to come back.
                    tracing::warn!(%error, "registry cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Completes when the server is to stop. (The guard that a watch returns must not live across an await.)
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn connection(app: Arc<App>, stream: TcpStream, tls: Option<TlsAcceptor>, stopped: watch::Receiver<bool>) {
    match tls {
        None => speak(app, stream, stopped).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => speak(app, stream, stopped).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
    }
}

async fn speak<T>(app: Arc<App>, stream: T, mut stopped: watch::Receiver<bool>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, std::convert::Infallible>(app.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "registry connection");
    }
}
