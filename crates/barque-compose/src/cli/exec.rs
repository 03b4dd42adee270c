//! `exec` and `attach`.

use std::io::IsTerminal;

use barque_api::container::AttachQuery;
use barque_api::exec::{ExecCreateRequest, ExecStartRequest};

use super::args::{Attach, Exec};
use super::context::{Context, Failure, Outcome};
use super::session::Session;
use super::{stream, terminal};

/// Runs `exec`.
pub(super) async fn exec(cx: &Context, args: Exec) -> Outcome {
    let (service, command) = args.words.split_first().ok_or_else(|| Failure::new("a service is missing"))?;
    if command.is_empty() {
        return Err(Failure::new("requires at least 2 arg(s), only received 1"));
    }
    let session = Session::open(cx, "Running").await?;
    let container = session.one(service, args.index).await?;
    let client = session.engine.writer()?;
    // as Docker Compose: a terminal unless output goes elsewhere
    let tty = !args.no_tty && !args.detach && std::io::stdout().is_terminal();
    let stdin = !args.detach;
    if tty && !std::io::stdin().is_terminal() {
        return Err(Failure::new("the input device is not a TTY").with_hint("use -T to run without a terminal"));
    }
    let console = tty.then(terminal::size).flatten().map(|(rows, columns)| [rows, columns]);
    let request = ExecCreateRequest {
        user: args.user.clone().unwrap_or_default(),
        privileged: args.privileged,
        tty,
        console_size: console,
        attach_stdin: stdin,
        attach_stdout: !args.detach,
        attach_stderr: !args.detach,
        env: Some(resolve_env(cx, &args.env)),
        working_dir: args.workdir.clone().unwrap_or_default(),
        cmd: Some(command.to_vec()),
        ..ExecCreateRequest::default()
    };
    let id = client.exec_create(&container.id, &request).await?;
    let start = ExecStartRequest { tty, console_size: console, ..ExecStartRequest::default() };
    if args.detach {
        client.exec_start_detached(&id, &start).await?;
        return Ok(0);
    }
    let connection = client.exec_start(&id, &start).await?;
    let raw = tty.then(terminal::RawMode::enter);
    if let Some((rows, columns)) = tty.then(terminal::size).flatten() {
        let _ = client.exec_resize(&id, rows, columns).await;
    }
    let resize = |rows, columns| {
        let id = id.clone();
        async move {
            let _ = client.exec_resize(&id, rows, columns).await;
        }
    };
    let copied = stream::copy(connection, tty, stdin, resize).await;
    drop(raw);
    copied?;
    let mut done = client.exec_inspect(&id).await?;
    let deadline = tokio::time::Instant::now() + SOON;
    while done.running && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        done = client.exec_inspect(&id).await?;
    }
    Ok(i32::try_from(done.exit_code.unwrap_or(0)).unwrap_or(1))
}

/// So long after its output a process may take to be counted as ended.
const SOON: std::time::Duration = std::time::Duration::from_secs(1);

/// `-e NAME` takes the value from the environment.
pub(super) fn resolve_env(cx: &Context, flags: &[String]) -> Vec<String> {
    flags
        .iter()
        .filter_map(|flag| match flag.contains('=') {
            true => Some(flag.clone()),
            false => cx.host.environment.get(flag).map(|v| format!("{flag}={v}")),
        })
        .collect()
}

/// Runs `attach`.
pub(super) async fn attach(cx: &Context, args: Attach) -> Outcome {
    let session = Session::open(cx, "Running").await?;
    let container = session.one(&args.service, args.index).await?;
    let client = session.engine.read().client();
    let inspected = session.engine.read().inspect(&container.id).await?;
    let tty = inspected.config.tty;
    let stdin = !args.no_stdin && inspected.config.open_stdin;
    let query = AttachQuery {
        detach_keys: args.detach_keys.clone().unwrap_or_default(),
        stream: true,
        stdin,
        stdout: true,
        stderr: true,
        ..AttachQuery::default()
    };
    let waiting = client.container_wait(&container.id, "not-running").await?;
    let connection = client.container_attach(&container.id, &query).await?;
    let raw = (tty && stdin).then(terminal::RawMode::enter);
    let resize = |rows, columns| {
        let id = container.id.clone();
        async move {
            let _ = client.container_resize(&id, rows, columns).await;
        }
    };
    if let Some((rows, columns)) = tty.then(terminal::size).flatten() {
        resize(rows, columns).await;
    }
    let proxy = super::signals::Proxy::start(client.clone(), container.id.clone(), args.sig_proxy && !tty);
    let copied = stream::copy(connection, tty, stdin, resize).await;
    drop((raw, proxy));
    copied?;
    // the output may be at its end a moment before the container is; one that goes on was detached from
    match tokio::time::timeout(SOON, waiting.finish()).await {
        Ok(ended) => Ok(i32::try_from(ended?.status_code).unwrap_or(1)),
        Err(_) if session.engine.read().inspect(&container.id).await.is_ok_and(|c| c.state.running) => Ok(0),
        Err(_) => {
            let state = session.engine.read().inspect(&container.id).await?.state;
            Ok(i32::try_from(state.exit_code).unwrap_or(1))
        }
    }
}
