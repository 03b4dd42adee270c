//! What this program can be besides a command line: the engine, a registry, a runtime, a doctor.
//!
//! The program decides on its role by its first word, before this crate is asked. What arrives here asks for help, or
//! has the word in another place.

use crate::cli::{Invocation, help_text, unknown};
use crate::error::{CliResult, Failure};

pub(crate) async fn role(inv: &Invocation<'_>) -> CliResult<u8> {
    let (name, first) = (inv.cmd.name, inv.operands.first().map(String::as_str));
    let asks_for_help =
        inv.operands.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) || first == Some("help");
    match (name, first) {
        ("registry" | "runtime", None) => {}
        _ if asks_for_help => {}
        ("runtime", _) => return Err(Failure::unbuilt(name)),
        ("registry", Some(word)) if word != "serve" => return Err(unknown(inv.cli, &inv.path, word)),
        _ => {
            let program = &inv.cli.program;
            return Err(Failure::new(format!(
                "{program}: {name} has options of its own; put {name} first: {program} {name} {}\n\nRun '{program} {name} \
                 --help' for more information",
                inv.cmd.usage
            ))
            .code(125));
        }
    }
    inv.cli.out(&help_text(inv.cmd, &inv.path))?;
    Ok(0)
}
