//! `attach`.

use barque_api::container::{AttachQuery, ContainerInspect};
use barque_client::Client;

use super::start::watch_window;
use crate::cli::{Cli, Invocation};
use crate::error::{CliResult, Failure};
use crate::term::hijack::{End, Plan, stream};
use crate::term::signals::Caught;
use crate::term::{self};

pub(crate) async fn attach(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    let name = inv.operand(0);
    // Waiting begins before anything else: the end of the container cannot be missed.
    let wait = client.container_wait(name, "").await;
    let container = running(client, name).await?;
    let (tty, no_stdin) = (container.config.tty, inv.flags.is("no-stdin"));
    term::check_tty(!no_stdin, tty)?;
    let keys = detach_keys(inv);
    let query = AttachQuery {
        detach_keys: keys.clone(),
        stream: true,
        stdin: !no_stdin && container.config.open_stdin,
        stdout: true,
        stderr: true,
        ..AttachQuery::default()
    };
    let caught = (inv.flags.on("sig-proxy", true) && !tty).then(|| Caught::all(false));
    let hijacked = client.container_attach(name, &query).await?;
    // It may have ended in between; then nothing would ever come.
    running(client, name).await?;
    if tty && term::is_terminal_out() {
        nudge(client, name).await;
        watch_window(client, name, false);
    }
    let plan =
        Plan { stdin: query.stdin, stdout: true, stderr: true, tty, detach_keys: &keys, proxied: caught.is_some() };
    let end = with_signals(client, name, caught, stream(hijacked, plan)).await?;
    match end {
        End::Signal(number) => return Err(Failure::silent(128u8.saturating_add(number))),
        End::Detached => return Err(Failure::new("read escape sequence")),
        End::Output => {}
    }
    let reply = wait?.finish().await?;
    match reply.error {
        Some(error) if !error.message.is_empty() => Err(Failure::new(error.message)),
        _ => exit_status(reply.status_code),
    }
}

/// The status of a process as ours.
pub(super) fn exit_status(code: i64) -> CliResult<u8> {
    Ok((code & 0xff) as u8)
}

/// The detach keys of the flag, or of the configuration.
pub(super) fn detach_keys(inv: &Invocation<'_>) -> String {
    match inv.flags.text("detach-keys") {
        "" => configured_keys(inv.cli),
        keys => keys.to_owned(),
    }
}

fn configured_keys(cli: &Cli) -> String {
    cli.config().text("detachKeys").to_owned()
}

/// Forwards signals while `work` runs.
pub(super) async fn with_signals<T>(
    client: &Client,
    container: &str,
    caught: Option<Caught>,
    work: impl Future<Output = T>,
) -> T {
    let Some(caught) = caught else { return work.await };
    tokio::select! {
        done = work => done,
        () = caught.forward(client, container) => std::future::pending().await,
    }
}

async fn running(client: &Client, name: &str) -> CliResult<ContainerInspect> {
    let container = client.container_inspect(name, false).await?;
    let state = &container.state;
    let fault = match (state.running, state.paused, state.restarting) {
        (false, ..) => "You cannot attach to a stopped container, start it first",
        (_, true, _) => "You cannot attach to a paused container, unpause it first",
        (.., true) => "You cannot attach to a restarting container, wait until it is running",
        _ => return Ok(container),
    };
    Err(Failure::new(fault))
}

/// A size that is off by one makes the program inside draw itself anew when the right one follows.
async fn nudge(client: &Client, name: &str) {
    let (height, width) = term::size_out();
    if height > 0 {
        let _ = client.container_resize(name, height + 1, width + 1).await;
    }
}
