//! `barque daemon`: configuration, spawner, engine, API, signals.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use barque_daemon::config::{help, merge};
use barque_daemon::{Daemon, DaemonConfig, Defaults, Flags, Pidfile, Product, Settings};
use barque_engine::Engine;
use barque_model::{Context, Error, ErrorKind, Result};
use barque_runtime::Spawner;
use barque_runtime::spawner::SpawnerOptions;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What stands above the list of options.
const HELP: &str = "\
Usage:  barque daemon [OPTIONS]

Run the engine in the foreground. Options may also stand in /etc/barque/daemon.json.

Options:
";
/// Where settings are looked for unless `--config-file` says otherwise.
const CONFIG_FILE: &str = "/etc/barque/daemon.json";
/// The largest configuration file or seccomp profile read.
const CONFIG_MAX: u64 = 4 << 20;
/// Threads for requests; blocking work has its own pool.
const WORKERS: usize = 2;
/// Blocking threads; each costs some memory only while it is busy. Slow clients that send archives hold one each.
const BLOCKING_MAX: usize = 512;

pub fn run(words: &[String]) -> Result<()> {
    let flags = Flags::parse(words)?;
    if flags.help {
        crate::say(&format!("{HELP}{}", help().trim_end()));
        return Ok(());
    }
    if flags.version {
        crate::say(&format!("Barque version {}", env!("CARGO_PKG_VERSION")));
        return Ok(());
    }
    // Who starts the engine may have a stricter one: users of containers are to read /etc/hosts all the same.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let settings = settings(&flags)?;
    if flags.validate {
        crate::say("configuration OK");
        return Ok(());
    }
    let log_level = start_logging(&settings)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    for dir in [&settings.data_root, &settings.exec_root] {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    let _pidfile = Pidfile::write(&settings.pidfile)?;
    barque_sys::memory::share_heaps();
    // Forked while there is only one thread: a fork of many threads is a fork of their locks.
    let spawner = Spawner::start_with(SpawnerOptions { is_init: true, ..SpawnerOptions::default() })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_MAX)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(serve(settings, flags, log_level, spawner));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    served
}

pub(crate) fn defaults() -> Defaults {
    Defaults {
        data_root: PathBuf::from("/var/lib/barque"),
        exec_root: PathBuf::from("/run/barque"),
        pidfile: PathBuf::from("/run/barque.pid"),
        hosts: vec!["unix:///run/barque/barque.sock".into()],
        cert_dir: PathBuf::from("/etc/barque"),
    }
}

pub(crate) fn settings(flags: &Flags) -> Result<Settings> {
    let (path, required) = match &flags.config_file {
        Some(path) => (path.as_str(), true),
        None => (CONFIG_FILE, false),
    };
    let text = match read_capped(path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == ErrorKind::NotFound && !required => None,
        Err(mut e) => {
            if required {
                e = e.with_hint("--config-file names it; without, /etc/barque/daemon.json is read if there");
            }
            return Err(e.context(format!("unable to configure the daemon with file {path}")));
        }
    };
    let named = |e: Error| e.context(format!("unable to configure the daemon with file {path}"));
    let settings = merge(&flags.values, text.as_deref(), &defaults());
    if text.is_some() { settings.map_err(named) } else { settings }
}

fn read_capped(path: &str) -> Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    file.take(CONFIG_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Sets what is logged from now on.
type LogLevel = Box<dyn Fn(&Settings) -> Result<()> + Send>;

fn log_filter(settings: &Settings) -> Result<EnvFilter> {
    let level = if settings.debug { "debug" } else { settings.log_level.as_str() };
    let level = if level == "fatal" { "error" } else { level };
    EnvFilter::try_new(level).map_err(|e| Error::invalid(format!("invalid log level '{level}': {e}")))
}

fn start_logging(settings: &Settings) -> Result<LogLevel> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(log_filter(settings)?)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(!settings.raw_logs && rustix::termios::isatty(rustix::stdio::stderr()))
        .with_filter_reloading();
    let filter = log.reload_handle();
    log.init();
    Ok(Box::new(move |settings| {
        let new = log_filter(settings)?;
        filter.reload(new).map_err(|e| Error::internal("cannot change the log level").with_source(e))
    }))
}

async fn serve(settings: Settings, flags: Flags, log_level: LogLevel, spawner: Spawner) -> Result<()> {
    let mut config = settings.engine_config();
    config.seccomp_profile = match settings.seccomp_file() {
        Some(path) => Some(read_capped(path).with_context(|| format!("cannot read the seccomp profile {path}"))?),
        None => settings.seccomp_profile.clone().filter(|p| p == "unconfined"),
    };
    proxies_from_environment(&mut config.registry);
    let hosts = settings.hosts.join(", ");
    let product = Product::default();
    let daemon = Daemon::bind(DaemonConfig { settings, product, activated: activated_sockets()? })?;
    // Those of systemd too: a container that mounts one of them read-only gets one that only reads.
    config.sockets = daemon.unix_paths();
    let engine = Engine::open(config, spawner).await?;
    let handle = daemon.handle();
    let mut terminate = signal(SignalKind::terminate()).context("cannot take signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot take signals")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot take signals")?;
    let stopper = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => reload(&stopper, &flags, &log_level),
            }
        }
        crate::notify::tell("STOPPING=1");
        stopper.shutdown();
    });
    tracing::info!("listening on {hosts}");
    crate::notify::tell("READY=1");
    daemon.serve(engine).await
}

fn reload(handle: &barque_daemon::Handle, flags: &Flags, log_level: &LogLevel) {
    match settings(flags).and_then(|new| handle.reload(&new).and_then(|()| log_level(&new))) {
        Ok(()) => tracing::info!("configuration reloaded"),
        Err(e) => tracing::error!("the configuration was not reloaded: {}", e.chain()),
    }
}

/// Proxies as other programs take them, where the configuration names none.
pub(crate) fn proxies_from_environment(registry: &mut barque_engine::config::RegistrySettings) {
    let variable = |upper: &str, lower: &str| {
        let value = std::env::var(upper).or_else(|_| std::env::var(lower)).ok();
        value.filter(|v| !v.is_empty())
    };
    let fill = |setting: &mut Option<String>, upper: &str, lower: &str| {
        if setting.is_none() {
            *setting = variable(upper, lower);
        }
    };
    fill(&mut registry.http_proxy, "HTTP_PROXY", "http_proxy");
    fill(&mut registry.https_proxy, "HTTPS_PROXY", "https_proxy");
    fill(&mut registry.no_proxy, "NO_PROXY", "no_proxy");
}

/// Sockets that systemd opened for us (sd_listen_fds(3)): descriptors 3, 4, …
fn activated_sockets() -> Result<Vec<OwnedFd>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    let (Some(pid), Some(count)) = (number("LISTEN_PID"), number("LISTEN_FDS")) else { return Ok(Vec::new()) };
    if pid != std::process::id() {
        return Ok(Vec::new());
    }
    (3..3 + i32::try_from(count).unwrap_or(0))
        .map(|fd| barque_sys::process::adopt(fd).with_context(|| format!("descriptor {fd} of systemd")))
        .collect()
}
