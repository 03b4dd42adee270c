//! The `barque` binary: picks its role from the arguments.
//!
//! Executed as `/sbin/docker-init` in a container it is the init of that container.
//! `daemon` is the engine behind its API, `registry serve` the built-in registry; everything else is the
//! command line.
#![forbid(unsafe_code)]

mod daemon;
mod doctor;
mod notify;
mod registry;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// Exit status of a role that could not do its work, as Docker's.
const FAILED: u8 = 1;
/// Exit status of what is not built.
const NOT_BUILT: u8 = 125;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.first().is_some_and(|name| name.as_encoded_bytes() == barque_sys::init::PROGRAM.to_bytes()) {
        barque_sys::init::run();
    }
    let word = |n: usize| args.get(n).and_then(|a| a.to_str());
    let rest = |n: usize| -> Vec<String> { args.iter().skip(n).map(|a| a.to_string_lossy().into_owned()).collect() };
    if word(1) == Some("doctor") {
        return match doctor::run(&rest(2)) {
            Ok(status) => ExitCode::from(status),
            Err(e) => failure(&e),
        };
    }
    let result = match (word(1), word(2)) {
        (Some("daemon"), _) => daemon::run(&rest(2)),
        (Some("registry"), Some("serve")) => registry::run(&rest(3)),
        (Some("runtime"), Some("--help" | "-h" | "help")) => return command_line(args),
        (Some("runtime"), _) => Err(barque_model::Error::not_implemented("barque runtime")),
        _ => return command_line(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failure(&e),
    }
}

fn failure(e: &barque_model::Error) -> ExitCode {
    let hint = e.hint().map(|hint| format!("\nhint: {hint}\n")).unwrap_or_default();
    // Whoever read it may have left; the status still tells.
    let _nobody_reads = write!(std::io::stderr(), "barque: {}\n{hint}", e.chain());
    ExitCode::from(match e.kind() {
        barque_model::ErrorKind::Unsupported => NOT_BUILT,
        _ => FAILED,
    })
}

/// Called as `docker` it is the same command line under that name; as `docker-compose` it is its `compose`.
fn command_line(mut args: Vec<OsString>) -> ExitCode {
    let called = if args.is_empty() { OsString::new() } else { args.remove(0) };
    let name = std::path::Path::new(&called).file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let program = match name {
        "docker" => "docker",
        "docker-compose" => {
            args.insert(0, "compose".into());
            "docker"
        }
        _ => "barque",
    };
    barque_cli::main_entry(args, program)
}

/// A line on standard output; nobody reading it is no failure.
fn say(text: &str) {
    use std::io::Write;
    let _nobody_reads = writeln!(std::io::stdout(), "{text}");
}
