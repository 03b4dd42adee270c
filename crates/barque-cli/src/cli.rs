//! From words to a running command: global flags, the way through the tree of commands, help and usage errors.

use std::cell::OnceCell;
use std::io::Write as _;

use barque_client::Client;

use crate::cmdline::{self, Category, Cmd, Flag, Flags, Outcome};
use crate::config::Config;
use crate::error::{CliResult, Failure};
use crate::tables::ROOT;
use crate::target::Target;

/// What a command may use: who was called, how to reach the engine, the user's configuration.
pub(crate) struct Cli {
    /// The name the program was called by: `barque` or `docker`.
    pub(crate) program: String,
    pub(crate) global: Flags,
    config: OnceCell<Config>,
    target: OnceCell<Target>,
    client: tokio::sync::OnceCell<Client>,
}

/// One command with its flags and operands.
pub(crate) struct Invocation<'a> {
    pub(crate) cli: &'a Cli,
    pub(crate) cmd: &'static Cmd,
    /// `docker container run`.
    pub(crate) path: String,
    pub(crate) flags: Flags,
    pub(crate) operands: Vec<String>,
}

impl Cli {
    pub(crate) fn new(program: &str, global: Flags) -> Cli {
        Cli {
            program: program.to_owned(),
            global,
            config: OnceCell::new(),
            target: OnceCell::new(),
            client: tokio::sync::OnceCell::new(),
        }
    }

    /// The user's configuration file, read once; an unreadable one is reported and counts as empty.
    pub(crate) fn config(&self) -> &Config {
        self.config.get_or_init(|| {
            let (config, warning) = Config::load(self.global.text("config"));
            if let Some(warning) = warning {
                self.err(&warning);
            }
            config
        })
    }

    /// Where the engine is.
    pub(crate) fn target(&self) -> CliResult<&Target> {
        if let Some(target) = self.target.get() {
            return Ok(target);
        }
        let target = Target::resolve(&self.global, self.config())?;
        Ok(self.target.get_or_init(|| target))
    }

    /// The client, connected; starts the engine where that is ours to do.
    pub(crate) async fn client(&self) -> CliResult<&Client> {
        self.client.get_or_try_init(|| async { self.target()?.connect(self.config()).await }).await
    }

    /// The client, if a command has connected already.
    pub(crate) fn connected(&self) -> Option<&Client> {
        self.client.get()
    }

    /// Prints data.
    pub(crate) fn out(&self, text: &str) -> CliResult<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }

    /// Prints a line of data.
    pub(crate) fn line(&self, text: &str) -> CliResult<()> {
        self.out(&format!("{text}\n"))
    }

    /// Prints a message.
    pub(crate) fn err(&self, text: &str) {
        barque_client::tell(text);
    }

    /// The platform to use where a command names none.
    pub(crate) fn platform(&self, flags: &Flags) -> String {
        match flags.get("platform") {
            Some(platform) => platform.to_owned(),
            None => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        }
    }

    /// Asks a yes-or-no question on standard error; anything but `y` is no.
    pub(crate) fn confirm(&self, question: &str) -> bool {
        let question = if question.is_empty() { "Are you sure you want to proceed?" } else { question };
        {
            // Docker asks on standard output.
            let mut stdout = std::io::stdout().lock();
            let _ = write!(stdout, "{question} [y/N] ");
            let _ = stdout.flush();
        }
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        answer.trim().eq_ignore_ascii_case("y")
    }
}

impl Invocation<'_> {
    /// The connected client.
    pub(crate) async fn client(&self) -> CliResult<&Client> {
        self.cli.client().await
    }

    /// The operand at `index`, or the empty string.
    pub(crate) fn operand(&self, index: usize) -> &str {
        self.operands.get(index).map(String::as_str).unwrap_or_default()
    }
}

/// Runs a whole command line and gives the exit status.
pub(crate) async fn run(words: &[String], program: &str) -> u8 {
    let failure = match dispatch(words, program).await {
        Ok(status) => return status,
        Err(failure) => failure,
    };
    if !failure.message.is_empty() {
        barque_client::tell(&failure.message);
    }
    failure.code
}

async fn dispatch(words: &[String], program: &str) -> CliResult<u8> {
    let (global, rest) = match cmdline::parse(&ROOT, words).map_err(|e| usage_failure(&ROOT, program, &e))? {
        Outcome::Run { flags, operands, .. } => (flags, operands),
        Outcome::Help { notes } => {
            let cli = Cli::new(program, Flags::default());
            notes.iter().for_each(|note| cli.err(note));
            cli.out(&help_text(&ROOT, program))?;
            return Ok(0);
        }
    };
    let cli = Cli::new(program, global);
    if cli.global.is("version") {
        cli.line(&crate::commands::version::short(program))?;
        return Ok(0);
    }
    let level = cli.global.text("log-level");
    if !["", "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace"]
        .contains(&level.to_ascii_lowercase().as_str())
    {
        return Err(Failure::new(format!("Unable to parse logging level: {level}")));
    }
    let Some((first, rest)) = rest.split_first() else {
        cli.err(help_text(&ROOT, program).trim_end());
        return Ok(0);
    };
    let Some(cmd) = ROOT.find(first) else {
        return Err(Failure::new(format!(
            "{program}: unknown command: {program} {first}\n\n{}Run '{program} --help' for more information",
            suggestions(&ROOT, first, program)
        )));
    };
    match descend(&cli, cmd, format!("{program} {}", cmd.name), rest).await {
        Err(failure) if !failure.message.is_empty() => {
            let message = crate::hints::with_cure(&cli, &failure.message).await;
            Err(Failure { message, ..failure })
        }
        done => done,
    }
}

/// Follows the words through groups to the command that runs.
async fn descend(cli: &Cli, cmd: &'static Cmd, path: String, words: &[String]) -> CliResult<u8> {
    let (mut cmd, mut path, mut words) = (cmd, path, words.to_vec());
    while cmd.run.is_none() {
        let operands = match cmdline::parse(cmd, &words).map_err(|e| usage_failure(cmd, &path, &e))? {
            Outcome::Run { operands, .. } => operands,
            Outcome::Help { notes } => return show_help(cli, cmd, &path, &notes),
        };
        let Some((first, rest)) = operands.split_first() else {
            cli.err(help_text(cmd, &path).trim_end());
            return Ok(0);
        };
        let Some(sub) = cmd.find(first) else {
            return Err(unknown(cli, &path, first));
        };
        (path, words, cmd) = (format!("{path} {}", sub.name), rest.to_vec(), sub);
    }
    let Some(run) = cmd.run else { return Err(Failure::unbuilt(&path)) };
    if cmd.raw {
        let invocation = Invocation { cli, cmd, path, flags: Flags::default(), operands: words };
        return run(&invocation).await;
    }
    let (flags, operands) = match cmdline::parse(cmd, &words).map_err(|e| usage_failure(cmd, &path, &e))? {
        Outcome::Run { flags, operands, notes } => {
            notes.iter().for_each(|note| cli.err(note));
            (flags, operands)
        }
        Outcome::Help { notes } => return show_help(cli, cmd, &path, &notes),
    };
    cmdline::check_args(cmd, &cli.program, &path, operands.len())?;
    let invocation = Invocation { cli, cmd, path, flags, operands };
    check_system(&invocation)?;
    check_versions(&invocation).await?;
    check_trust(&invocation)?;
    run(&invocation).await
}

/// Flags for engines on Windows, which are none of Linux.
fn check_system(invocation: &Invocation<'_>) -> CliResult<()> {
    let foreign = |flag: &&Flag| flag.usage.ends_with("(Windows only)") && invocation.flags.given(flag.name);
    let sentence = |flag: &Flag| {
        format!(
            "\"--{}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux",
            flag.name
        )
    };
    let lines: Vec<String> = invocation.cmd.flags.iter().copied().flatten().filter(foreign).map(sentence).collect();
    if lines.is_empty() { Ok(()) } else { Err(Failure::new(lines.join("\n"))) }
}

/// A word after a group's that the group does not have.
pub(crate) fn unknown(cli: &Cli, path: &str, word: &str) -> Failure {
    let program = &cli.program;
    let words: Vec<String> = path.split(' ').skip(1).map(str::to_owned).collect();
    let group = words.iter().try_fold(&ROOT, |cmd, word| cmd.find(word));
    let near = group.map(|group| suggestions(group, word, program)).unwrap_or_default();
    Failure::new(format!(
        "{program}: unknown command: {path} {word}\n\n{near}Usage:  {path}\n\nRun '{path} --help' for more information"
    ))
}

fn show_help(cli: &Cli, cmd: &Cmd, path: &str, notes: &[String]) -> CliResult<u8> {
    notes.iter().for_each(|note| cli.err(note));
    cli.out(&help_text(cmd, path))?;
    Ok(0)
}

/// The help of a command, as wide as the terminal.
pub(crate) fn help_text(cmd: &Cmd, path: &str) -> String {
    cmdline::help(cmd, path, cmdline::width_of_terminal())
}

/// A flag that cannot be: status 125, with the usage line.
fn usage_failure(cmd: &Cmd, path: &str, message: &str) -> Failure {
    let usage = cmdline::usage_line(cmd, path);
    Failure::new(format!("{message}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information")).code(125)
}

/// Who asks for images to be verified must not get them unverified.
fn check_trust(invocation: &Invocation<'_>) -> CliResult<()> {
    const FLAG: &str = "disable-content-trust";
    let Invocation { cmd, flags, .. } = invocation;
    if !cmd.all_flags().any(|flag| flag.name == FLAG) {
        return Ok(());
    }
    let wished = std::env::var("DOCKER_CONTENT_TRUST").is_ok_and(|text| matches!(text.as_str(), "1" | "true"));
    match flags.on(FLAG, !wished) {
        true => Ok(()),
        false => Err(Failure::unbuilt("content trust: an image's digest (NAME@sha256:…) says what it has to be")),
    }
}

/// Flags that are newer than the engine are refused by name.
async fn check_versions(invocation: &Invocation<'_>) -> CliResult<()> {
    let mut wanted = invocation.cmd.all_flags().filter(|f| !f.since.is_empty() && invocation.flags.given(f.name));
    let Some(first) = wanted.next() else { return Ok(()) };
    let used = invocation.client().await?.version_used().await?;
    let mut faults = Vec::new();
    for flag in std::iter::once(first).chain(wanted) {
        let since: barque_api::ApiVersion = flag.since.parse().unwrap_or(barque_api::ApiVersion::MIN);
        if used < since {
            faults.push(format!(
                "\"--{}\" requires API version {}, but the Docker daemon API version is {used}",
                flag.name, flag.since
            ));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Failure::new(faults.join("\n"))) }
}

/// Commands that the unknown word may have meant, as lines of text; empty if none is near.
fn suggestions(cmd: &Cmd, word: &str, program: &str) -> String {
    // In a short word one letter is much.
    let slips = if word.chars().count() <= 4 { 1 } else { 2 };
    let near = |c: &&&Cmd| {
        let similar = distance(c.name, word) <= slips || c.name.starts_with(word) || is_mixed(c.name, word);
        c.category != Category::Hidden && similar && word.len() > 1
    };
    let names: Vec<&str> = cmd.subs.iter().filter(near).map(|c| c.name).collect();
    if names.is_empty() || program == "docker" {
        return String::new();
    }
    format!("Did you mean: {}?\n\n", names.join(", "))
}

/// The same letters in another order.
fn is_mixed(a: &str, b: &str) -> bool {
    let sorted = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    sorted(a) == sorted(b)
}

/// How many letters must be added, removed or changed to make one word of the other.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_offered() {
        assert_eq!(distance("run", "rum"), 1);
        assert_eq!(distance("images", "image"), 1);
        assert_eq!(suggestions(&ROOT, "rum", "barque"), "Did you mean: run, rm?\n\n");
        assert_eq!(suggestions(&ROOT, "rnu", "barque"), "Did you mean: run?\n\n");
        assert_eq!(suggestions(&ROOT, "imgaes", "barque"), "Did you mean: images?\n\n");
        for far in ["foo", "bar", "list", "help2me"] {
            assert_eq!(suggestions(&ROOT, far, "barque"), "", "{far}");
        }
        assert_eq!(suggestions(&ROOT, "zzzz", "barque"), "");
    }
}
