//! Exec.

use barque_api::ApiVersion;
use barque_api::exec::{ExecCreateRequest, ExecInspect, ExecStartRequest, ProcessConfig};
use barque_engine::container::ExecStart;
use barque_engine::container::request::{ExecSpec, ExecView};
use barque_engine::container::spec::ProcessSpec;
use barque_model::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::wording;

fn console_size(size: Option<[u32; 2]>) -> Option<(u16, u16)> {
    let [rows, columns] = size?;
    let cell = |n: u32| u16::try_from(n).ok().filter(|n| *n > 0);
    cell(rows).zip(cell(columns))
}

/// # Errors
/// No command; malformed detach keys.
pub(crate) fn create(wire: ExecCreateRequest, version: ApiVersion) -> Result<ExecSpec> {
    let cmd = wire.cmd.unwrap_or_default();
    if cmd.is_empty() {
        return Err(Error::invalid(wording::NO_EXEC_COMMAND));
    }
    crate::detach::parse(&wire.detach_keys)?;
    Ok(ExecSpec {
        process: ProcessSpec {
            cmd: Some(cmd),
            env: wire.env.unwrap_or_default(),
            working_dir: wire.working_dir,
            user: wire.user,
            tty: wire.tty,
            open_stdin: wire.attach_stdin,
            attach_stdin: wire.attach_stdin,
            attach_stdout: wire.attach_stdout,
            attach_stderr: wire.attach_stderr,
            console_size: console_size(wire.console_size.filter(|_| version.at_least(42))),
            ..ProcessSpec::default()
        },
        privileged: wire.privileged,
        detach_keys: Some(wire.detach_keys).filter(|keys| !keys.is_empty()),
    })
}

pub(crate) fn start(wire: &ExecStartRequest, version: ApiVersion) -> ExecStart {
    ExecStart {
        detach: wire.detach,
        // The one given at the creation counts, as in Docker.
        tty: None,
        console_size: console_size(wire.console_size.filter(|_| version.at_least(42) && wire.tty)),
    }
}

pub(crate) fn inspect(view: &ExecView) -> ExecInspect {
    let process = &view.spec.process;
    let argv = process.argv();
    let (entrypoint, arguments) =
        argv.split_first().map_or((String::new(), Vec::new()), |(path, rest)| (path.clone(), rest.to_vec()));
    let keys = view.spec.detach_keys.as_deref().and_then(|keys| crate::detach::parse(keys).ok()).unwrap_or_default();
    ExecInspect {
        id: view.id.to_string(),
        running: view.running,
        exit_code: view.exit_code.map(i64::from),
        process_config: ProcessConfig {
            tty: process.tty,
            entrypoint,
            arguments,
            privileged: Some(view.spec.privileged),
            user: process.user.clone(),
        },
        open_stdin: process.attach_stdin,
        open_stderr: process.attach_stderr,
        open_stdout: process.attach_stdout,
        can_remove: view.can_remove,
        container_id: view.container_id.to_string(),
        detach_keys: Some(STANDARD.encode(keys)),
        pid: i64::from(view.pid),
    }
}
