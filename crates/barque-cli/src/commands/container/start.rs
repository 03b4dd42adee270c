//! `start`, and what it shares with `run` and `exec`: the window's size, the wait for the end.

use std::time::Duration;

use barque_api::container::{AttachQuery, StartQuery};
use barque_client::{Client, WaitHandle};
use tokio::signal::unix::{SignalKind, signal};

use super::attach::{detach_keys, exit_status, with_signals};
use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::term::hijack::{End, Plan, stream};
use crate::term::signals::Caught;
use crate::term::{self};

pub(crate) async fn start(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let (attach, interactive) = (flags.is("attach"), flags.is("interactive"));
    if attach || interactive {
        if inv.operands.len() > 1 {
            return Err(Failure::new("you cannot start and attach multiple containers at once"));
        }
        return start_attached(inv, interactive).await;
    }
    let query = start_query(inv);
    if !query.checkpoint.is_empty() && inv.operands.len() > 1 {
        return Err(Failure::new("you cannot restore multiple containers at once"));
    }
    let client = inv.client().await?;
    let mut failed = Vec::new();
    for name in &inv.operands {
        match client.container_start(name, &query).await {
            Ok(()) => inv.cli.line(name)?,
            Err(e) => {
                let message = Failure::from(e).message;
                inv.cli.err(&crate::hints::with_cure(inv.cli, &message).await);
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(0);
    }
    Err(Failure::new(format!("Error: failed to start containers: {}", failed.join(", "))))
}

fn start_query(inv: &Invocation<'_>) -> StartQuery {
    StartQuery {
        checkpoint: inv.flags.text("checkpoint").to_owned(),
        checkpoint_dir: inv.flags.text("checkpoint-dir").to_owned(),
        ..StartQuery::default()
    }
}

async fn start_attached(inv: &Invocation<'_>, interactive: bool) -> CliResult<u8> {
    let client = inv.client().await?;
    let container = client.container_inspect(inv.operand(0), false).await?;
    let (id, tty) = (container.id.as_str(), container.config.tty);
    let keys = detach_keys(inv);
    let query = AttachQuery {
        detach_keys: keys.clone(),
        stream: true,
        stdin: interactive && container.config.open_stdin,
        stdout: true,
        stderr: true,
        ..AttachQuery::default()
    };
    let caught = (!tty).then(|| Caught::all(false));
    let hijacked = client.container_attach(id, &query).await?;
    let removed = container.host_config.auto_remove;
    let wait = wait_for_end(client, id, removed).await?;
    if let Err(e) = client.container_start(id, &start_query(inv)).await {
        if removed {
            let _ = wait.finish().await;
        }
        return Err(e.into());
    }
    if tty && term::is_terminal_out() {
        watch_window(client, id, false);
    }
    let plan =
        Plan { stdin: query.stdin, stdout: true, stderr: true, tty, detach_keys: &keys, proxied: caught.is_some() };
    match with_signals(client, id, caught, stream(hijacked, plan)).await? {
        End::Detached => Ok(0),
        End::Signal(number) => Err(Failure::silent(128u8.saturating_add(number))),
        End::Output => status(wait).await,
    }
}

/// Begins to wait for the end of a container that is about to start.
pub(super) async fn wait_for_end(client: &Client, id: &str, removed: bool) -> CliResult<WaitHandle> {
    Ok(client.container_wait(id, if removed { "removed" } else { "next-exit" }).await?)
}

/// The status with which a container ended.
pub(super) async fn status(wait: WaitHandle) -> CliResult<u8> {
    match wait.finish().await {
        Ok(reply) => match reply.error {
            Some(error) if !error.message.is_empty() => {
                Err(Failure::new(format!("Error waiting for container: {}", error.message)).code(125))
            }
            _ => exit_status(reply.status_code),
        },
        Err(e) => Err(Failure::new(format!("error waiting for container: {}", e.for_user())).code(125)),
    }
}

/// Tells the process inside how large the window is, now and whenever it changes.
pub(super) fn watch_window(client: &Client, id: &str, exec: bool) {
    let (client, id) = (client.clone(), id.to_owned());
    tokio::spawn(async move {
        // The process may take a moment to be there.
        for pause in [0u64, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if resize(&client, &id, exec).await {
                break;
            }
        }
        let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
        while changed.recv().await.is_some() {
            resize(&client, &id, exec).await;
        }
    });
}

async fn resize(client: &Client, id: &str, exec: bool) -> bool {
    let (height, width) = term::size_out();
    if height == 0 && width == 0 {
        return true;
    }
    match exec {
        true => client.exec_resize(id, height, width).await.is_ok(),
        false => client.container_resize(id, height, width).await.is_ok(),
    }
}
