//! Serving: sockets first, then the engine, then requests until the end.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use barque_engine::Engine;
use barque_model::{Error, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::WeakSender;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Settings;
use crate::http::{FirstLine, Token};
use crate::listen::{self, Listener, SocketFile};
use crate::router::{self, Link};
use crate::state::{Product, State};

/// How long requests in flight may take after a stop was asked for.
const GRACE: Duration = Duration::from_secs(2);
/// How long streams may take to end when their containers go on without the daemon.
const FAREWELL: Duration = Duration::from_millis(50);
/// How long a client may take to send the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(60);
/// The pause before and between probes of a quiet connection.
const PROBE: Duration = Duration::from_secs(15);
/// The wait after the machine ran out of descriptors or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a daemon needs.
#[derive(Debug)]
pub struct DaemonConfig {
    pub settings: Settings,
    pub product: Product,
    /// Sockets handed over by systemd, for `fd://`.
    pub activated: Vec<OwnedFd>,
}

/// A daemon whose sockets are open: clients may connect and wait for the engine.
pub struct Daemon {
    listeners: Vec<Listener>,
    settings: Arc<RwLock<Arc<Settings>>>,
    product: Product,
    stop: watch::Sender<bool>,
    engine: Arc<RwLock<Option<Engine>>>,
}

/// Stops and reloads a daemon from elsewhere, such as a signal handler's task.
#[derive(Clone)]
pub struct Handle {
    settings: Arc<RwLock<Arc<Settings>>>,
    stop: watch::Sender<bool>,
    engine: Arc<RwLock<Option<Engine>>>,
}

impl Handle {
    /// Begins a clean stop; [`Daemon::serve`] returns when it is done.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// Takes on those of the new settings that can change while running: debug, labels, live restore, limits of
    /// transfers, registries, features. The others stay as they are.
    ///
    /// # Errors
    /// Registry settings that cannot be used; then nothing was changed.
    pub fn reload(&self, new: &Settings) -> Result<()> {
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let merged = reloaded(&settings, new);
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(engine) = engine {
            let mut registry = merged.registry_settings();
            // Proxies may come from elsewhere than the settings, and do not change while running.
            let first = &engine.config().registry;
            registry.http_proxy.clone_from(&first.http_proxy);
            registry.https_proxy.clone_from(&first.https_proxy);
            registry.no_proxy.clone_from(&first.no_proxy);
            registry.certs_dirs.clone_from(&first.certs_dirs);
            registry.index_url.clone_from(&first.index_url);
            let live_restore = merged.live_restore.unwrap_or(engine.config().live_restore);
            engine.reload(&registry, live_restore, merged.shutdown_timeout)?;
            let attributes = [
                ("debug", merged.debug.to_string()),
                ("registry-mirrors", format!("{:?}", merged.registry_mirrors)),
                ("insecure-registries", format!("{:?}", merged.insecure_registries)),
            ];
            let id = engine.engine_id().to_owned();
            engine.events().emit("daemon", "reload", id, attributes);
        }
        *settings = Arc::new(merged);
        Ok(())
    }
}

/// The old settings with the reloadable ones of the new.
fn reloaded(old: &Settings, new: &Settings) -> Settings {
    Settings {
        debug: new.debug,
        log_level: new.log_level.clone(),
        labels: new.labels.clone(),
        features: new.features.clone(),
        live_restore: new.live_restore,
        shutdown_timeout: new.shutdown_timeout,
        default_runtime: new.default_runtime.clone(),
        runtimes: new.runtimes.clone(),
        registry_mirrors: new.registry_mirrors.clone(),
        insecure_registries: new.insecure_registries.clone(),
        max_concurrent_downloads: new.max_concurrent_downloads,
        max_concurrent_uploads: new.max_concurrent_uploads,
        ..old.clone()
    }
}

impl Daemon {
    /// Opens the sockets. Connections wait in the kernel's queue until [`Daemon::serve`].
    ///
    /// # Errors
    /// An address that is malformed, in use, or may not be opened; certificates that cannot be read.
    pub fn bind(config: DaemonConfig) -> Result<Daemon> {
        let DaemonConfig { settings, product, mut activated } = config;
        for host in settings.open_to_all() {
            tracing::warn!(
                "[DEPRECATION NOTICE]: API is accessible on {host} without encryption: access to the API is access to the \
                 host as root; use --tlsverify"
            );
        }
        let mut listeners = Vec::new();
        for host in &settings.hosts {
            listeners.extend(listen::open(host, settings.group.as_deref(), settings.tls.as_ref(), &mut activated)?);
        }
        Ok(Daemon {
            listeners,
            settings: Arc::new(RwLock::new(Arc::new(settings))),
            product,
            stop: watch::Sender::new(false),
            engine: Arc::default(),
        })
    }

    /// The files of the unix sockets, whoever opened them: what `EngineConfig::sockets` has to hold.
    pub fn unix_paths(&self) -> Vec<PathBuf> {
        self.listeners.iter().filter_map(Listener::unix_path).collect()
    }

    pub fn handle(&self) -> Handle {
        Handle { settings: self.settings.clone(), stop: self.stop.clone(), engine: self.engine.clone() }
    }

    /// Answers requests until [`Handle::shutdown`], then stops the engine.
    ///
    /// # Errors
    /// A socket that cannot be used.
    pub async fn serve(self, engine: Engine) -> Result<()> {
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(engine.clone());
        let state = Arc::new(State::new(engine.clone(), self.product, self.settings, self.stop.subscribe()));
        let mut accepting = JoinSet::new();
        // Nothing is ever sent: each channel closes when its last token is dropped.
        let (alive, mut all_closed) = tokio::sync::mpsc::channel::<()>(1);
        let (busy, mut all_answered) = tokio::sync::mpsc::channel::<()>(1);
        let mut files = Vec::new();
        let mut listeners: Vec<_> = self.listeners.into_iter().map(|listener| (listener, false)).collect();
        if let Some(path) = &engine.config().read_only_socket {
            match listen::open_unix(path, state.settings().group.as_deref()) {
                Ok(listener) => listeners.push((listener, true)),
                // Containers that want it are told when they start.
                Err(why) => tracing::warn!("no read-only socket for containers: {}", why.chain()),
            }
        }
        for (listener, read_only) in listeners {
            let (socket, file) = Socket::from_std(listener)?;
            files.push(file);
            let tokens = Tokens { alive: alive.clone(), busy: busy.downgrade(), read_only };
            accepting.spawn(accept(socket, state.clone(), self.stop.subscribe(), tokens));
        }
        drop(alive);
        let resting = state.clone();
        accepting.spawn(async move { crate::rest::watch(&resting.engine, &resting.activity).await });
        let mut stop = self.stop.subscribe();
        asked_to_stop(&mut stop).await;
        accepting.shutdown().await;
        drop((files, busy));
        let _in_time = tokio::time::timeout(GRACE, all_answered.recv()).await;
        // Attached clients stay connected while their containers stop, to see the end of the output.
        engine.shutdown().await;
        let patience = if engine.live_restore() { FAREWELL } else { GRACE };
        let _in_time = tokio::time::timeout(patience, all_closed.recv()).await;
        Ok(())
    }
}

/// A [`Listener`] of the runtime.
enum Socket {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener, Option<tokio_rustls::TlsAcceptor>),
}

impl Socket {
    fn from_std(listener: Listener) -> Result<(Socket, Option<SocketFile>)> {
        match listener {
            Listener::Unix { socket, path } => {
                let socket = tokio::net::UnixListener::from_std(socket).map_err(Error::from)?;
                Ok((Socket::Unix(socket), path))
            }
            Listener::Tcp { socket, tls } => {
                let socket = tokio::net::TcpListener::from_std(socket).map_err(Error::from)?;
                Ok((Socket::Tcp(socket, tls.map(tokio_rustls::TlsAcceptor::from)), None))
            }
        }
    }
}

/// What each connection holds until its end.
#[derive(Clone)]
struct Tokens {
    alive: Token,
    busy: WeakSender<()>,
    read_only: bool,
}

impl Tokens {
    fn link(self, local: bool) -> Link {
        Link { alive: self.alive, busy: self.busy, local, read_only: self.read_only }
    }
}

/// Takes connections for ever.
async fn accept(socket: Socket, state: Arc<State>, stop: watch::Receiver<bool>, tokens: Tokens) {
    loop {
        let (state, stop, tokens) = (state.clone(), stop.clone(), tokens.clone());
        let refused = match &socket {
            Socket::Unix(listener) => match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(async move {
                        converse(stream, state, tokens.link(true), stop).await;
                    });
                    continue;
                }
                Err(why) => why,
            },
            Socket::Tcp(listener, tls) => match listener.accept().await {
                Ok((stream, _)) => {
                    let _only_slower = stream.set_nodelay(true);
                    // Who has closed a connection refuses the probe: else it would last as long as its container.
                    let _forgotten_later = keep_alive(&stream);
                    let (tls, link) = (tls.clone(), tokens.link(false));
                    tokio::spawn(async move {
                        match tls {
                            None => converse(stream, state, link, stop).await,
                            Some(tls) => match tokio::time::timeout(HEAD_LIMIT, tls.accept(stream)).await {
                                Ok(Ok(stream)) => converse(stream, state, link, stop).await,
                                Ok(Err(why)) => tracing::debug!("TLS handshake failed: {why}"),
                                Err(_) => tracing::debug!("TLS handshake took too long"),
                            },
                        }
                    });
                    continue;
                }
                Err(why) => why,
            },
        };
        tracing::warn!("cannot accept a connection: {refused}");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Sends probes over a quiet connection.
fn keep_alive(stream: &tokio::net::TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE)?;
    sockopt::set_tcp_keepintvl(stream, PROBE)
}

/// Serves the requests of one connection.
async fn converse<S>(stream: S, state: Arc<State>, link: Link, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let (state, link) = (state.clone(), link.clone());
        async move { Ok::<_, std::convert::Infallible>(router::handle(state, link, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.title_case_headers(true).timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(256 << 10);
    let connection = builder.serve_connection(TokioIo::new(FirstLine::new(stream)), service).with_upgrades();
    tokio::pin!(connection);
    // The guard that `wait_for` gives back must not be held while waiting further.
    let first = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = asked_to_stop(&mut stop) => None,
    };
    let ended = match first {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(why) = ended {
        tracing::debug!("connection ended: {why}");
    }
}

async fn asked_to_stop(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the daemon: an error cannot happen before the end.
    let _asked = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::config::{Defaults, Flags, merge};

    #[tokio::test]
    async fn sockets_of_systemd_are_among_the_paths() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let own = format!("unix://{}", at("own").display());
        let words = ["-H", &own, "-H", "fd://", "-H", "tcp://127.0.0.1:0"].map(str::to_owned);
        let defaults = Defaults {
            data_root: at("data"),
            exec_root: at("exec"),
            pidfile: at("pid"),
            hosts: Vec::new(),
            cert_dir: at("certs"),
        };
        let settings = merge(&Flags::parse(&words).unwrap().values, None, &defaults).unwrap();
        let activated = vec![OwnedFd::from(UnixListener::bind(at("handed")).unwrap())];
        let daemon = Daemon::bind(DaemonConfig { settings, product: Product::default(), activated }).unwrap();
        assert_eq!(daemon.unix_paths(), [at("own"), at("handed")]);
    }
}
