//! `kill`, `stop`, `restart`, `pause`, `unpause`, `rm`, `wait`, `rename`.

use barque_api::container::{RemoveQuery, StopQuery};

use crate::cli::Invocation;
use crate::commands::{Faults, each};
use crate::error::{CliResult, Failure};

pub(crate) async fn kill(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    let signal = inv.flags.text("signal");
    each(inv.cli, &inv.operands, |name| async move { Ok(client.container_kill(name, signal).await?) }).await
}

fn stop_query(inv: &Invocation<'_>) -> StopQuery {
    let timeout = inv.flags.int("timeout").or_else(|| inv.flags.int("time"));
    StopQuery { signal: inv.flags.text("signal").to_owned(), timeout }
}

pub(crate) async fn stop(inv: &Invocation<'_>) -> CliResult<u8> {
    let (client, query) = (inv.client().await?, &stop_query(inv));
    each(inv.cli, &inv.operands, |name| async move { Ok(client.container_stop(name, query).await?) }).await
}

pub(crate) async fn restart(inv: &Invocation<'_>) -> CliResult<u8> {
    let (client, query) = (inv.client().await?, &stop_query(inv));
    each(inv.cli, &inv.operands, |name| async move { Ok(client.container_restart(name, query).await?) }).await
}

pub(crate) async fn pause(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    each(inv.cli, &inv.operands, |name| async move { Ok(client.container_pause(name).await?) }).await
}

pub(crate) async fn unpause(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    each(inv.cli, &inv.operands, |name| async move { Ok(client.container_unpause(name).await?) }).await
}

pub(crate) async fn rm(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    let force = inv.flags.is("force");
    let query = &RemoveQuery { volumes: inv.flags.is("volumes"), force, link: inv.flags.is("link") };
    let remove = |name: String| async move {
        let name = name.trim_matches('/');
        if name.is_empty() {
            return Err(Failure::new("container name cannot be empty"));
        }
        Ok(client.container_remove(name, query).await?)
    };
    let mut faults = Faults::default();
    let tasks = inv.operands.iter().map(|name| remove(name.clone()));
    for (name, result) in inv.operands.iter().zip(futures_util::future::join_all(tasks).await) {
        match result {
            Ok(()) => inv.cli.line(name)?,
            // With --force, what is gone is as wished; it is said all the same.
            Err(failure) if force && failure.is_not_found() => inv.cli.err(&failure.message),
            Err(failure) => faults.add(failure),
        }
    }
    faults.finish()
}

pub(crate) async fn wait(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    let mut faults = Faults::default();
    for name in &inv.operands {
        let result = match client.container_wait(name, "").await {
            Ok(handle) => handle.finish().await,
            Err(e) => Err(e),
        };
        match result {
            Ok(reply) => inv.cli.line(&reply.status_code.to_string())?,
            Err(e) => faults.add(e.into()),
        }
    }
    faults.finish()
}

pub(crate) async fn rename(inv: &Invocation<'_>) -> CliResult<u8> {
    let (old, new) = (inv.operand(0).trim(), inv.operand(1).trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::new("Error: Neither old nor new names may be empty"));
    }
    if let Err(e) = inv.client().await?.container_rename(old, new).await {
        let failure = Failure::from(e);
        let text = format!("{}\nError: failed to rename container named {old}", failure.message);
        return Err(Failure { message: text, ..failure });
    }
    Ok(0)
}
