//! The command line: `barque compose`, `docker compose`, `docker-compose`.

pub mod args;
pub mod args_services;
mod bake;
mod config;
mod context;
mod cp;
mod exec;
mod fetch;
mod follow;
mod image_of;
mod lifecycle;
mod logs;
mod logs_follow;
mod menu;
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

use clap::{ArgAction, CommandFactory, FromArgMatches};

use args::{Cli, Command};
pub use context::{Ansi, Auth, Connect, Context, Failure, Host, Outcome};

/// The release of Docker Compose whose commands and flags these are, for programs that ask for a certain age.
pub const COMPOSE_RELEASE: &str = "2.40.3";

/// The command line as clap knows it, for help, man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// What can be named of a project, for completions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Services of the profiles that are switched on.
    pub services: Vec<String>,
    /// Profiles of all services.
    pub profiles: Vec<String>,
}

/// The names in the project that these options before a command mean; none if it cannot be read.
pub fn names(globals: Vec<OsString>, host: Host) -> Names {
    let words = std::iter::once(OsString::from("compose")).chain(globals);
    let parsed = command().try_get_matches_from(words).and_then(|matches| Cli::from_arg_matches(&matches));
    let Ok(cli) = parsed else { return Names::default() };
    let options = Context { host, global: cli.global }.load_options(&[]);
    let Ok(project) = crate::file::project::load(&options, &crate::file::load::Disk) else { return Names::default() };
    Names { services: project.services.keys().cloned().collect(), profiles: project.all_profiles() }
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
            barque_client::tell(&e.to_string());
            1
        }
    }
}

/// Runs a command line and returns the exit status. `args` do not include the program's own name.
pub async fn run(args: Vec<OsString>, host: Host) -> i32 {
    let name = host.program.clone();
    let command = command().bin_name(name.clone()).override_usage(format!("{name} [OPTIONS] COMMAND"));
    let words: Vec<OsString> = std::iter::once(OsString::from(name.clone())).chain(help_words(args)).collect();
    let cli = match parse(command, words.clone()) {
        Ok(cli) => cli,
        Err(e) => return usage(&e, &words),
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
                barque_client::tell(&failure.message);
            }
            if let Some(hint) = failure.hint.or_else(|| (context.host.cure)(&failure.message)) {
                barque_client::tell(&format!("hint: {hint}"));
            }
            failure.code
        }
    }
}

fn parse(command: clap::Command, words: Vec<OsString>) -> Result<Cli, clap::Error> {
    let lenient = with_boolean_values(command.clone());
    let parsed = lenient.try_get_matches_from(&words).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|e| match e.kind() {
        // the help of the flags as they are written
        clap::error::ErrorKind::DisplayHelp => command.try_get_matches_from(words).err().unwrap_or(e),
        _ => e,
    })
}

/// Flags that are true or false take a value behind `=` too, as Docker's do: `--detach`, `--detach=false`.
fn with_boolean_values(command: clap::Command) -> clap::Command {
    let with_value = |arg: clap::Arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .value_parser(barque_model::strconv::parse_bool),
        _ => arg,
    };
    command.mut_args(with_value).mut_subcommands(with_boolean_values)
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

/// Prints what is wrong with the words; the exit status is that of Docker Compose: 16 for flags, 1 for operands that
/// are missing and for values out of a list.
fn usage(error: &clap::Error, words: &[OsString]) -> i32 {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        // `plan` promises one status for all that goes wrong.
        _ if is_plan(words) => 1,
        ErrorKind::MissingRequiredArgument => 1,
        ErrorKind::InvalidValue => match error.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(text)) if !text.is_empty() => 1,
            _ => 16,
        },
        _ => 16,
    }
}

fn is_plan(words: &[OsString]) -> bool {
    let read = command().ignore_errors(true).try_get_matches_from(words);
    read.is_ok_and(|matches| matches.subcommand_name() == Some("plan"))
}

async fn dispatch(cx: &Context, command: Command) -> Outcome {
    cx.check_progress()?;
    cx.warn_ignored(&[(cx.global.verbose, "verbose")]);
    match command {
        Command::Alpha(args) => {
            let sub = args.words.iter().find(|w| !w.starts_with('-')).map(|w| format!(" {w}")).unwrap_or_default();
            Err(Failure::not_implemented(format!("compose alpha{sub}")))
        }
        Command::Bridge(_) => Err(Failure::not_implemented("compose bridge")),
        Command::Publish(_) => Err(Failure::not_implemented("compose publish")),
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
        Command::Run(args) => Box::pin(run::run(cx, args)).await,
        Command::Scale(args) => up::scale(cx, args).await,
        Command::Start(args) => lifecycle::start(cx, args).await,
        Command::Stats(args) => watch_events::stats(cx, args).await,
        Command::Stop(args) => lifecycle::stop(cx, args).await,
        Command::Top(args) => show::top(cx, args).await,
        Command::Unpause(args) => lifecycle::pause(cx, args, false).await,
        Command::Up(args) => Box::pin(up::up(cx, *args)).await,
        Command::Version(args) => show::version(cx, &args),
        Command::Volumes(args) => show::volumes(cx, args).await,
        Command::Wait(args) => lifecycle::wait(cx, args).await,
        Command::Watch(args) => watch::watch(cx, args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::file::load::Options;

    fn context() -> Context {
        let host = Host {
            program: "docker compose".into(),
            version: "0".into(),
            environment: Default::default(),
            cwd: "/".into(),
            home: None,
            connect: std::sync::Arc::new(|| Box::pin(async { Err(barque_model::Error::unavailable("no engine")) })),
            auth: std::sync::Arc::new(|_| None),
            logins: std::sync::Arc::new(String::new),
            nearby: |_| false,
            render: |_, _| Err(String::new()),
            cure: std::sync::Arc::new(|_| None),
        };
        Context { host, global: Default::default() }
    }

    #[test]
    fn exit_statuses_of_the_words() {
        let status = |words: &str| {
            let words: Vec<OsString> = std::iter::once("compose").chain(words.split(' ')).map(OsString::from).collect();
            usage(&command().try_get_matches_from(&words).expect_err("wrong words"), &words)
        };
        for words in ["up --nosuch", "nosuch", "up --scale", "logs --index x", "stop -t x", "-z ps"] {
            assert_eq!(status(words), 16, "{words}");
        }
        for words in ["scale", "run", "attach", "port app", "up --pull foo", "--progress foo ps", "down --rmi foo"] {
            assert_eq!(status(words), 1, "{words}");
        }
        assert_eq!(status("up --help"), 0);
        assert_eq!(status("plan --nosuch"), 1);
        assert_eq!(status("-p x plan --pull foo --nosuch"), 1);
    }

    #[test]
    fn flags_take_true_and_false_as_values() {
        let cli = |words: &str| {
            let words = std::iter::once("compose").chain(words.split(' ')).map(OsString::from).collect();
            parse(command(), words)
        };
        let up = |words: &str| match cli(words).expect(words).command {
            Some(Command::Up(args)) => *args,
            _ => panic!("{words}"),
        };
        assert!(up("up --detach").detach && up("up --detach=true").detach && up("up -d=1").detach);
        assert!(!up("up --detach=false").detach && !up("up -d=F").detach && !up("up").detach);
        let args = up("up -dV web");
        assert!(args.detach && args.renew_anon_volumes && args.services == ["web"], "several letters, and an operand");
        assert!(cli("--dry-run=true up").expect("parses").global.dry_run);
        let orphans = |words: &str| match cli(words).expect(words).command {
            Some(Command::Ps(args)) => args.orphans,
            _ => panic!("{words}"),
        };
        assert!(orphans("ps") && orphans("ps --orphans=T") && !orphans("ps --orphans=0"));
        assert!(!cli("--dry-run=false up").expect("parses").global.dry_run);
        assert!(matches!(cli("exec --no-TTY=true -d a sh -c x=true").expect("parses").command, Some(Command::Exec(_))));
        let wrong = cli("up --detach=maybe").expect_err("no boolean");
        assert_eq!(usage(&wrong, &[]), 16);
        let help = cli("up --help").expect_err("help");
        assert!(help.to_string().contains("-d, --detach ") && !help.to_string().contains("[="), "{help}");
    }

    #[test]
    fn services_that_are_not_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("compose.yaml"), "services: {a: {image: x}}").expect("write");
        let options = Options { cwd: dir.path().into(), services: vec!["b".into()], ..Options::default() };
        let failure = context().load_with(&options).expect_err("no such service");
        assert_eq!((failure.code, failure.message.starts_with("no such service: b")), (1, true));
    }

    #[tokio::test]
    async fn files_from_elsewhere_are_not_built() {
        for file in ["oci://example.com/x/y:1", "https://example.com/x/y.git"] {
            let failure =
                context().load_with(&Options { files: vec![file.into()], cwd: "/".into(), ..Options::default() });
            let failure = failure.expect_err("remote");
            assert_eq!((failure.code, failure.message.contains("not implemented yet")), (125, true), "{failure:?}");
        }
    }

    #[tokio::test]
    async fn commands_that_are_not_built_say_so() {
        let context = context();
        for words in
            [&["publish", "x/y"][..], &["bridge", "convert", "-o", "x"], &["alpha", "viz", "--ports"], &["alpha"]]
        {
            let cli = Cli::try_parse_from(["compose"].iter().chain(words)).expect("parses");
            let failure = dispatch(&context, cli.command.expect("a command")).await.expect_err("not built");
            assert_eq!(failure.code, 125);
            assert!(failure.message.starts_with("not implemented yet: compose "), "{}", failure.message);
        }
    }
}
