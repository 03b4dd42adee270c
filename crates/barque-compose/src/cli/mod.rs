//! The command line: `barque compose`, `docker compose`, `docker-compose`.

pub mod args;
pub mod args_services;
mod config;
mod context;
mod cp;
mod exec;
mod fetch;
mod follow;
mod image_of;
mod lifecycle;
mod logs;
mod run;
mod session;
mod show;
mod signals;
mod stream;
mod table;
mod template;
mod terminal;
mod up;
mod watch;
mod watch_events;

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command};
pub use context::{Ansi, Auth, Connect, Context, Failure, Host, Outcome};

/// The release of Docker Compose whose commands and flags these are, for programs that ask for a certain age.
pub const COMPOSE_RELEASE: &str = "2.40.3";

/// The command line as clap knows it, for help, man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The services of the project that these options before a command mean; none if it cannot be read.
pub fn service_names(globals: Vec<OsString>, host: Host) -> Vec<String> {
    let words = std::iter::once(OsString::from("compose")).chain(globals);
    let parsed = command().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    let Ok(cli) = parsed else { return Vec::new() };
    let options = Context { host, global: cli.global }.load_options(&[]);
    let project = crate::file::project::load(&options, &crate::file::load::Disk);
    project.map(|p| p.services.keys().cloned().collect()).unwrap_or_default()
}

/// Runs a command line and returns the exit status. `args` do not include the program's own name.
///
/// Builds a runtime of its own; inside one, use [`run`].
pub fn main(args: Vec<OsString>, host: Host) -> i32 {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(run(args, host));
            // what still waits for input must not hold us up
            runtime.shutdown_background();
            code
        }
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
    let args = help_words(args);
    let words = std::iter::once(OsString::from(name.clone())).chain(args);
    let parsed = command.try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let context = Context { host, global: cli.global };
    if context.global.version {
        context.print(&show::version_text(&context));
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

/// `help` and `help COMMAND` → `--help` and `COMMAND --help`.
fn help_words(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.first().is_some_and(|a| a == "help") {
        args.remove(0);
        args.truncate(1);
        args.push("--help".into());
    }
    args
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
        Command::Attach(args) => exec::attach(cx, args).await,
        Command::Build(args) => fetch::build(cx, args).await,
        Command::Commit(args) => image_of::commit(cx, args).await,
        Command::Config(args) | Command::Convert(args) => config::run(cx, args).await,
        Command::Cp(args) => cp::cp(cx, args).await,
        Command::Create(args) => up::create(cx, args).await,
        Command::Down(args) => lifecycle::down(cx, args).await,
        Command::Events(args) => watch_events::events(cx, args).await,
        Command::Exec(args) => exec::exec(cx, args).await,
        Command::Export(args) => image_of::export(cx, args).await,
        Command::Images(args) => show::images(cx, args).await,
        Command::Kill(args) => lifecycle::kill(cx, args).await,
        Command::Logs(args) => logs::logs(cx, args).await,
        Command::Ls(args) => show::ls(cx, args).await,
        Command::Pause(args) => lifecycle::pause(cx, args, true).await,
        Command::Plan(args) => up::plan(cx, args).await,
        Command::Port(args) => show::port(cx, args).await,
        Command::Ps(args) => show::ps(cx, args).await,
        Command::Pull(args) => fetch::pull(cx, args).await,
        Command::Push(args) => fetch::push(cx, args).await,
        Command::Restart(args) => lifecycle::restart(cx, args).await,
        Command::Rm(args) => lifecycle::rm(cx, args).await,
        Command::Run(args) => run::run(cx, args).await,
        Command::Scale(args) => up::scale(cx, args).await,
        Command::Start(args) => lifecycle::start(cx, args).await,
        Command::Stats(args) => watch_events::stats(cx, args).await,
        Command::Stop(args) => lifecycle::stop(cx, args).await,
        Command::Top(args) => show::top(cx, args).await,
        Command::Unpause(args) => lifecycle::pause(cx, args, false).await,
        Command::Up(args) => up::up(cx, *args).await,
        Command::Version(args) => show::version(cx, &args),
        Command::Volumes(args) => show::volumes(cx, args).await,
        Command::Wait(args) => lifecycle::wait(cx, args).await,
        Command::Watch(args) => watch::watch(cx, args).await,
    }
}
