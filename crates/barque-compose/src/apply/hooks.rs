//! Hooks: commands run inside a container after its start and before its stop.

use barque_api::exec::{ExecCreateRequest, ExecStartRequest};
use barque_api::stdcopy::Decoder;
use barque_model::Error;
use tokio::io::AsyncReadExt;

use super::body::model_error;
use super::engine::Engine;
use super::progress::Progress;
use crate::file::model::Hook;

/// Runs hooks one after another; their output is shown with the container's name before each line.
///
/// # Errors
/// A hook that ends with a status other than 0.
pub async fn run(
    engine: &Engine,
    progress: &Progress,
    hooks: &[Hook],
    id: &str,
    name: &str,
    kind: &str,
) -> Result<(), Error> {
    if engine.is_dry_run() {
        return Ok(());
    }
    for hook in hooks {
        one(engine, progress, hook, id, name, kind).await?;
    }
    Ok(())
}

async fn one(engine: &Engine, progress: &Progress, hook: &Hook, id: &str, name: &str, kind: &str) -> Result<(), Error> {
    let _turn = engine.turn().await;
    let client = engine.writer()?;
    let env = hook.environment.iter().map(|(k, v)| v.as_ref().map_or_else(|| k.clone(), |v| format!("{k}={v}")));
    let request = ExecCreateRequest {
        user: hook.user.clone(),
        privileged: hook.privileged,
        env: Some(env.collect()),
        working_dir: hook.working_dir.clone(),
        cmd: hook.command.clone(),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecCreateRequest::default()
    };
    let exec = client.exec_create(id, &request).await.map_err(|e| model_error(&e))?;
    let mut stream = client.exec_start(&exec, &ExecStartRequest::default()).await.map_err(|e| model_error(&e))?;
    let mut decoder = Decoder::new();
    let mut buffer = vec![0u8; 16 << 10];
    let mut pending = Vec::new();
    loop {
        let count = stream.reader.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        decoder.push(&buffer[..count]);
        while let Ok(Some((_, piece))) = decoder.next_piece() {
            pending.extend_from_slice(&piece);
        }
        print_lines(progress, name, kind, &mut pending, false);
    }
    print_lines(progress, name, kind, &mut pending, true);
    let code = loop {
        let exec = client.exec_inspect(&exec).await.map_err(|e| model_error(&e))?;
        if !exec.running {
            break exec.exit_code.unwrap_or(0);
        }
        // its output is at its end, and it is about to be
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    if code != 0 {
        return Err(Error::conflict(format!("{name} {kind} hook exited with status {code}")));
    }
    Ok(())
}

/// Prints the lines that are complete, or all.
pub(super) fn print_lines(progress: &Progress, name: &str, kind: &str, pending: &mut Vec<u8>, all: bool) {
    let print = |line: &[u8]| {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches(['\r', '\n']);
        progress.line(name, &format!("{name} ->{kind}  | {text}"), text);
    };
    while let Some(at) = pending.iter().position(|b| *b == b'\n') {
        print(&pending.drain(..=at).collect::<Vec<u8>>());
    }
    if all && !pending.is_empty() {
        print(&std::mem::take(pending));
    }
}
