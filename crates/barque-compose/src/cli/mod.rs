//! The command line: `barque compose`, `docker compose`, `docker-compose`.

pub mod args;
pub mod args_services;
mod config;
mod context;
mod images;
mod table;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command};
pub use context::{Ansi, Auth, Connect, Context, Failure, Host, Outcome};

/// The command line as clap knows it, for help, man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs a command line and returns the exit status. `args` do not include the program's own name.
///
/// Builds a runtime of its own; inside one, use [`run`].
pub fn main(args: Vec<OsString>, host: Host) -> i32 {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(args, host)),
        Err(e) => {
            eprintln!("{e}");
            1
        }
    }
}

/// Runs a command line and returns the exit status. `args` do not include the program's own name.
pub async fn run(args: Vec<OsString>, host: Host) -> i32 {
    let name = host.program.clone();
    let command = command().bin_name(name.clone()).override_usage(format!("{name} [OPTIONS] COMMAND"));
    let words = std::iter::once(OsString::from(name.clone())).chain(args);
    let parsed = command.try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let context = Context { host, global: cli.global };
    if context.global.version {
        println!("Docker Compose version v{}", context.host.version);
        return 0;
    }
    let Some(command) = cli.command else {
        let _ = self::command().bin_name(name).print_help();
        return 0;
    };
    match dispatch(&context, command).await {
        Ok(code) => code,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("{}", failure.message);
            }
            if let Some(hint) = &failure.hint {
                eprintln!("hint: {hint}");
            }
            failure.code
        }
    }
}

fn usage(error: &clap::Error) -> i32 {
    let _ = error.print();
    match error.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => 0,
        _ => 16,
    }
}

async fn dispatch(cx: &Context, command: Command) -> Outcome {
    match command {
        Command::Config(args) | Command::Convert(args) => config::run(cx, args).await,
        _ => Err(Failure::not_implemented("this command")),
    }
}
