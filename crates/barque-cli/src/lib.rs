//! The command line of Barque: commands and flags, tables, progress, exit statuses.
//!
//! It behaves as the `docker` client does, down to the bytes of its tables, and reaches the engine through
//! `barque-client` only. Called by the name `docker`, it names itself so.
#![forbid(unsafe_code)]

mod auth;
mod cli;
mod cmdline;
mod commands;
mod config;
mod contexts;
mod error;
mod hints;
mod lower;
mod natural;
mod opts;
mod output;
mod probe;
mod reference;
mod save;
mod start;
mod tables;
mod target;
mod term;
mod when;

pub use probe::{Probe, Silence, probe};

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line `args` (without the program's name) under the name `program` and gives the exit status.
///
/// Blocks until the command is done. The event loop has one thread: the whole life of a short command is its own
/// few system calls.
pub fn main_entry(args: Vec<OsString>, program: &str) -> ExitCode {
    if args.first().is_some_and(|word| word == start::DETACHED) {
        barque_client::tell(&start::become_engine().to_string());
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            barque_client::tell(&format!("{program}: cannot start: {e}"));
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(run(args, program));
    term::restore();
    // A thread that waits for input must not hold up the end.
    runtime.shutdown_background();
    ExitCode::from(status)
}

/// As [`main_entry`], inside an event loop of the caller.
pub async fn run(args: Vec<OsString>, program: &str) -> u8 {
    let words: Vec<String> = args.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    cli::run(&words, program).await
}
