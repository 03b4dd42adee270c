//! `exec`.

use std::time::Duration;

use barque_api::exec::{ExecCreateRequest, ExecInspect, ExecStartRequest};
use barque_client::Client;

use super::attach::{detach_keys, exit_status};
use super::start::watch_window;
use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::lower::Inputs;
use crate::opts::env;
use crate::term::hijack::{End, Plan, stream};
use crate::term::{self};

pub(crate) async fn exec(inv: &Invocation<'_>) -> CliResult<u8> {
    let (request, detach) = request(inv, &Inputs::real())?;
    let client = inv.client().await?;
    let container = inv.operand(0);
    if !detach && let Err(no_terminal) = term::check_tty(request.attach_stdin, request.tty) {
        // A container that is not there is said before a terminal that is not.
        client.container_inspect(container, false).await?;
        return Err(no_terminal);
    }
    let (height, width) = term::size_out();
    let console_size = (request.tty && height > 0).then_some([height, width]);
    let (tty, stdin) = (request.tty, request.attach_stdin);
    let keys = request.detach_keys.clone();
    let request = ExecCreateRequest { console_size, ..request };
    let id = client.exec_create(container, &request).await?;
    if id.is_empty() {
        return Err(Failure::new("exec ID empty"));
    }
    let start = ExecStartRequest { detach, tty, console_size };
    if detach {
        client.exec_start_detached(&id, &start).await?;
        return Ok(0);
    }
    let hijacked = client.exec_start(&id, &start).await?;
    if tty && term::is_terminal_in() {
        watch_window(client, &id, true);
    }
    let plan = Plan { stdin, stdout: true, stderr: true, tty, detach_keys: &keys, proxied: false };
    match stream(hijacked, plan).await? {
        End::Detached => return Err(Failure::new("read escape sequence")),
        End::Signal(number) => return Err(Failure::silent(128u8.saturating_add(number))),
        End::Output => {}
    }
    let exec = ended(client, &id).await?;
    // What never ran has no process, on Barque; why, the engine wrote where its output would be.
    let never_ran = exec.pid == 0 && client.is_barque().await?;
    let cure = match exec.exit_code.filter(|_| never_ran) {
        Some(127) => "the container has no such program, or no such directory as -w names",
        Some(126) => {
            "it cannot be run: it has to be a file with the right to (chmod +x), -u a user there, -w a directory"
        }
        _ => return exit_status(exec.exit_code.unwrap_or(0)),
    };
    let program = &inv.cli.program;
    inv.cli.err(&format!("\nhint: {cure}; look inside: {program} exec -it {container} sh"));
    exit_status(exec.exit_code.unwrap_or(0))
}

/// What became of a command whose output has ended, which other engines may tell a moment later.
async fn ended(client: &Client, id: &str) -> CliResult<ExecInspect> {
    let mut pause = Duration::from_millis(1);
    loop {
        let exec = client.exec_inspect(id).await?;
        if !exec.running {
            return Ok(exec);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// The request, and whether to leave the process to itself.
fn request(inv: &Invocation<'_>, inputs: &Inputs<'_>) -> CliResult<(ExecCreateRequest, bool)> {
    let flags = &inv.flags;
    let detach = flags.is("detach");
    let lookup = inputs.surroundings.variable;
    let mut variables = Vec::new();
    for path in flags.all("env-file") {
        variables.extend(env::file(path, &(inputs.read)(path)?, Some(lookup))?);
    }
    variables.extend(flags.all("env").iter().map(|e| env::resolve(e, lookup)));
    let request = ExecCreateRequest {
        user: flags.text("user").to_owned(),
        privileged: flags.is("privileged"),
        tty: flags.is("tty"),
        attach_stdin: !detach && flags.is("interactive"),
        attach_stdout: !detach,
        attach_stderr: !detach,
        detach_keys: detach_keys(inv),
        env: if variables.is_empty() { None } else { Some(variables) },
        working_dir: flags.text("workdir").to_owned(),
        cmd: Some(inv.operands[1..].to_vec()),
        ..ExecCreateRequest::default()
    };
    Ok((request, detach))
}
