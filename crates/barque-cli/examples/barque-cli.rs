//! The command line alone, for tests against other engines: named by its first argument's file name.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().and_then(|p| p.to_str().map(|s| s.rsplit('/').next().unwrap_or(s).to_owned()));
    let program = match program.as_deref() {
        Some("docker") => "docker",
        _ => "barque",
    };
    barque_cli::main_entry(args.collect(), program)
}
