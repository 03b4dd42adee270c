//! Connecting clients to a container's streams, its log and its processes.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use barque_model::{Context, Error, Result};
use barque_runtime::Stats;
use barque_runtime::task::{Attach, Attachment};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use rustix::event::{PollFd, PollFlags};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio_util::io::StreamReader;

use super::driver::Handle;
use super::request::{AttachOptions, AttachStream, LogOptions, LogRecord, ProcessTable};
use super::state::State;
use crate::Engine;

/// A reading of what a container has used.
#[derive(Clone, Debug, Default)]
pub struct ContainerStats {
    pub cgroup: Stats,
    pub interfaces: Vec<barque_net::InterfaceStats>,
    /// CPUs of the machine.
    pub online_cpus: usize,
    /// Nanoseconds of CPU time of the whole machine, all CPUs together.
    pub system_cpu: u64,
}

impl Engine {
    /// Connects to the streams; before the start too, and then gets everything from the first byte.
    pub async fn container_attach(&self, name: &str, options: AttachOptions) -> Result<AttachStream> {
        let handle = self.find(name)?;
        let tty = handle.view().spec.process.tty;
        if !options.stream {
            let output: Pin<Box<dyn AsyncRead + Send>> = match options.logs {
                true => Box::pin(self.logged(&handle, options, tty)?),
                false => Box::pin(tokio::io::empty()),
            };
            return Ok(AttachStream { output, input: Box::pin(tokio::io::sink()), tty });
        }
        let streams = Attach { stdin: options.stdin, stdout: options.stdout, stderr: options.stderr };
        let socket = self.connect(&handle, streams).await?;
        let (output, input) = split(socket)?;
        // The log up to here, read once connected: nothing is missing between the two.
        let output: Pin<Box<dyn AsyncRead + Send>> = match options.logs {
            true => Box::pin(self.logged(&handle, options, tty)?.chain(output)),
            false => Box::pin(output),
        };
        Ok(AttachStream { output, input: Box::pin(input), tty })
    }

    async fn connect(&self, handle: &Arc<Handle>, streams: Attach) -> Result<StdUnixStream> {
        let core = handle.lock().await;
        match (&core.state, &core.task) {
            (State::Running(r), _) if r.paused => {
                Err(Error::conflict(format!("container {} is paused, unpause the container before attach", handle.id)))
            }
            (State::Running(_), Some(task)) => {
                let task = task.clone();
                drop(core);
                let socket = self.blocking(move || task.attach(streams)).await?;
                self.container_event(&*handle.lock().await, "attach", []);
                Ok(socket)
            }
            (State::Restarting { .. }, _) => Err(Error::conflict(format!(
                "container {} is restarting, wait until the container is running",
                handle.id
            ))),
            (State::Removing { .. } | State::Dead { .. }, _) => {
                Err(Error::conflict(format!("container {} is marked for removal", handle.id)))
            }
            _ => {
                let (ours, theirs) = StdUnixStream::pair().context("cannot make a socket pair")?;
                let attachment = Attachment { socket: theirs.into(), streams };
                let mut waiting = handle.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.retain(|a| !has_hung_up(&a.socket));
                waiting.push(attachment);
                drop(waiting);
                self.container_event(&core, "attach", []);
                Ok(ours)
            }
        }
    }

    /// What was logged so far, framed as an attached client expects it.
    fn logged(&self, handle: &Arc<Handle>, options: AttachOptions, tty: bool) -> Result<impl AsyncRead + Send + use<>> {
        let until = Some(barque_model::Timestamp::now());
        let wanted = LogOptions { stdout: options.stdout, stderr: options.stderr, until, ..LogOptions::default() };
        let framed = move |record: Result<LogRecord>| {
            let record = record.map_err(std::io::Error::other)?;
            let mut bytes = Vec::with_capacity(record.line.len() + 8);
            if !tty {
                bytes.extend_from_slice(&frame_header(record.stderr, record.line.len()));
            }
            bytes.extend_from_slice(&record.line);
            Ok::<_, std::io::Error>(std::io::Cursor::new(bytes))
        };
        Ok(StreamReader::new(self.log_stream(handle, wanted)?.map(framed).boxed()))
    }

    /// The log, from the oldest record kept.
    pub async fn container_logs(
        &self,
        name: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Result<LogRecord>>> {
        Ok(self.log_stream(&self.find(name)?, options)?.boxed())
    }

    fn log_stream(
        &self,
        handle: &Arc<Handle>,
        options: LogOptions,
    ) -> Result<impl Stream<Item = Result<LogRecord>> + Send + use<>> {
        let view = handle.view();
        let log = view.spec.log.as_ref().unwrap_or(&self.config().default_log);
        if log.driver == "none" {
            return Err(Error::new(
                barque_model::ErrorKind::Unsupported,
                "configured logging driver does not support reading",
            )
            .with_hint("the container was made with --log-driver none: nothing was kept"));
        }
        Ok(super::logs::read(view.log_path.clone(), options, handle.running()))
    }

    /// The processes of a running container (`ps` on this machine, without a `ps`).
    pub async fn container_top(&self, name: &str, ps_args: &[String]) -> Result<ProcessTable> {
        let handle = self.find(name)?;
        let task = handle.lock().await.running_task()?;
        let args = ps_args.to_vec();
        let table = self.blocking(move || super::top::table(&task.pids()?, &args)).await?;
        self.container_event(&*handle.lock().await, "top", []);
        Ok(table)
    }

    /// One reading; zeros where it does not run.
    pub async fn container_stats(&self, name: &str) -> Result<ContainerStats> {
        let handle = self.find(name)?;
        let task = handle.lock().await.task.clone();
        let Some(task) = task else { return Ok(ContainerStats::default()) };
        let engine = self.clone();
        self.blocking(move || {
            let path = format!("/proc/{}/ns/net", task.pid());
            let interfaces = match is_own_network(&path) {
                // The machine's interfaces count for everybody on it.
                true => Vec::new(),
                false => barque_net::NetNs::open(std::path::Path::new(&path))
                    .and_then(|ns| engine.fabric().stats(&ns))
                    .unwrap_or_default(),
            };
            Ok(ContainerStats {
                cgroup: task.stats()?,
                interfaces,
                online_cpus: std::thread::available_parallelism().map_or(1, usize::from),
                system_cpu: system_cpu_time(),
            })
        })
        .await
    }
}

/// Halves of a socket to a monitor.
pub fn split(socket: StdUnixStream) -> Result<(tokio::net::unix::OwnedReadHalf, tokio::net::unix::OwnedWriteHalf)> {
    socket.set_nonblocking(true).context("cannot use a socket")?;
    Ok(UnixStream::from_std(socket).context("cannot use a socket")?.into_split())
}

/// Whether it is the network namespace of the engine.
fn is_own_network(path: &str) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let number = |path: &str| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    number(path).is_some_and(|theirs| number("/proc/thread-self/ns/net") == Some(theirs))
}

/// Whether the client of a container that has not started yet went away.
fn has_hung_up(socket: &std::os::fd::OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

/// Docker's frame before each piece of output without a terminal.
pub fn frame_header(stderr: bool, length: usize) -> [u8; 8] {
    let mut header = [0u8; 8];
    header[0] = if stderr { 2 } else { 1 };
    header[4..].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    header
}

/// From the first line of `/proc/stat`, in nanoseconds (its unit is 1/100 s on Linux).
fn system_cpu_time() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = text.lines().next().into_iter().flat_map(|l| l.split_whitespace().skip(1).take(7));
    ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>() * 10_000_000
}
