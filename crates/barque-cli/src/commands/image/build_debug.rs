//! `build --debug`: a shell in the step that failed.

use std::process::Stdio;

use barque_api::build_extras::FailedStep;
use barque_api::image::ImageRemoveQuery;

use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::term;

/// Words that begin a build, after the program's own flags.
const COMMANDS: [&str; 4] = ["build", "buildx", "builder", "image"];

/// Opens a shell over what the step left, and takes it away afterwards.
pub(super) async fn shell(inv: &Invocation<'_>, step: &FailedStep) -> CliResult<()> {
    let result = run(inv, step).await;
    let query = ImageRemoveQuery { force: true, ..ImageRemoveQuery::default() };
    let removed = inv.client().await?.image_remove(&step.id, &query).await;
    result?;
    removed.map(drop).map_err(Failure::from)
}

async fn run(inv: &Invocation<'_>, step: &FailedStep) -> CliResult<()> {
    let command: Vec<String> = step.command.iter().map(|word| quoted(word)).collect();
    inv.cli.err(&format!(
        "{}\nThis is the file system of the failed step, without its mounts. It ran: {}\n\
         Leave the shell to end the build.",
        step.instruction,
        command.join(" ")
    ));
    let program = std::env::current_exe()?;
    let global = std::env::args_os().skip(1).take_while(|word| !COMMANDS.iter().any(|c| word == c));
    let mut shell = tokio::process::Command::new(program);
    shell.args(global).args(["run", "--rm", "--interactive"]);
    if term::is_terminal_in() && term::is_terminal_out() {
        shell.arg("--tty");
    }
    shell.args([step.id.as_str(), "/bin/sh"]).stdin(Stdio::inherit());
    // Ctrl-C is the shell's.
    let interrupted = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
    let _status = shell.status().await?;
    drop(interrupted);
    Ok(())
}

/// As one would type it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_must_be() {
        assert_eq!(quoted("/bin/sh"), "/bin/sh");
        assert_eq!(quoted("make it's"), "'make it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
