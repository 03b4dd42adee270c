//! Starts this machine's engine when none listens, so that the first command on a bare machine works.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use barque_client::Client;

use crate::error::{CliResult, Failure, path_error};

/// Where the engine keeps what lives as long as the machine runs.
const EXEC_ROOT: &str = "/run/barque";
/// Its messages, if it was started from here.
const LOG: &str = "/run/barque/daemon.log";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The hidden first word that makes this program a process of its own before it becomes the engine.
pub(crate) const DETACHED: &str = "__engine";

/// Starts the engine and waits until it answers; `refused` says why there was no connection.
pub(crate) async fn start_engine(refused: &barque_client::Error, probe: &Client) -> CliResult<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(without_rights(refused));
    }
    if refused.io_kind() == Some(std::io::ErrorKind::PermissionDenied) {
        return Err(Failure::new(refused.for_user()));
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(EXEC_ROOT)
        .map_err(|e| path_error("mkdir", EXEC_ROOT, &e))?;
    // Two commands at once must not start two engines.
    let lock = lock(Path::new(EXEC_ROOT).join("start.lock").as_path())?;
    if probe.ping().await.is_ok() {
        return Ok(());
    }
    let (mut child, log_start) = spawn()?;
    let pid = child.id();
    wait_until_ready(&mut child, log_start, probe).await?;
    drop(lock);
    barque_client::tell(&format!("Started the engine (barque daemon, pid {pid}); log: {LOG}"));
    Ok(())
}

fn without_rights(refused: &barque_client::Error) -> Failure {
    let socket = crate::target::DEFAULT_SOCKET;
    if refused.io_kind() == Some(std::io::ErrorKind::PermissionDenied) {
        return Failure::new(format!(
            "permission denied while trying to connect to the engine at unix://{socket}\n\nhint: join the group that \
             owns the socket (ls -l {socket} names it: sudo usermod -aG GROUP $USER, then log in again), or run this command as root"
        ));
    }
    Failure::new(format!(
        "Cannot connect to the Docker daemon at unix://{socket}. Is the docker daemon running?\n\nhint: no engine runs, \
         and only root may start one: run `sudo barque system install` once, or `sudo barque daemon`; or name another \
         engine with -H or DOCKER_HOST"
    ))
}

fn lock(path: &Path) -> CliResult<File> {
    let shown = path.display().to_string();
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|e| path_error("open", &shown, &e))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(std::io::Error::from)?;
    Ok(file)
}

/// The engine's process, and where its messages begin in the log.
fn spawn() -> CliResult<(Child, u64)> {
    let log = OpenOptions::new().create(true).append(true).open(LOG).map_err(|e| path_error("open", LOG, &e))?;
    let start = log.metadata()?.len();
    let again = log.try_clone()?;
    let own = std::env::current_exe().map_err(|e| path_error("readlink", "/proc/self/exe", &e))?;
    let child = Command::new(&own)
        .arg0("barque")
        .arg(DETACHED)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(again)
        .spawn()
        .map_err(|e| path_error("exec", &own.display().to_string(), &e))?;
    Ok((child, start))
}

/// Leaves the caller's session and becomes the engine. Returns only if that fails.
pub(crate) fn become_engine() -> Failure {
    // A terminal that closes must not take the engine with it.
    if let Err(e) = rustix::process::setsid() {
        return Failure::new(format!("setsid: {e}"));
    }
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(e) => return path_error("readlink", "/proc/self/exe", &e),
    };
    let error = Command::new(&own).arg0("barque").arg("daemon").exec();
    path_error("exec", &own.display().to_string(), &error)
}

async fn wait_until_ready(child: &mut Child, log_start: u64, probe: &Client) -> CliResult<()> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if probe.ping().await.is_ok() {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            return Err(Failure::new(format!(
                "the engine did not start ({status}): {}\n\nhint: run `barque daemon` to see its messages, or read \
                 {LOG}",
                last_words(log_start)
            )));
        }
        if begun.elapsed() > PATIENCE {
            let seconds = PATIENCE.as_secs();
            return Err(Failure::new(format!(
                "the engine (pid {}) runs, but has not answered for {seconds} seconds: {}\n\nhint: read {LOG}",
                child.id(),
                last_words(log_start)
            )));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// What the engine wrote last: its reason may have several lines, and a hint.
fn last_words(from: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut log = File::open(LOG)?;
        log.seek(SeekFrom::Start(from))?;
        let mut text = String::new();
        log.take(1 << 20).read_to_string(&mut text)?;
        Ok(text)
    };
    ending(&read().unwrap_or_default())
}

/// The lines behind the last one that only tells how things go; that one, where there is nothing behind it.
fn ending(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let told = lines.iter().rposition(|line| line.split_whitespace().nth(1) == Some("INFO"));
    let behind = lines.get(told.map_or(0, |at| at + 1)..).unwrap_or_default().join("\n");
    let shown = if behind.trim().is_empty() { told.map_or("it said nothing", |at| lines[at]) } else { behind.trim() };
    shown.strip_prefix("barque: ").unwrap_or(shown).to_owned()
}

#[cfg(test)]
mod tests {
    use super::ending;

    #[test]
    fn the_reason_is_told_whole() {
        let log = "2026-01-01T00:00:00Z  INFO begins\nbarque: cannot start: x\n\nhint: do y\n";
        assert_eq!(ending(log), "cannot start: x\n\nhint: do y");
        assert_eq!(ending("2026-01-01T00:00:00Z  INFO begins\n"), "2026-01-01T00:00:00Z  INFO begins");
        assert_eq!(ending(""), "it said nothing");
    }
}
