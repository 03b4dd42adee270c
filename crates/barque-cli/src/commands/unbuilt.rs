//! Commands that the help lists and that are not built yet.

use crate::cli::{Invocation, help_text};
use crate::error::{CliResult, Failure};

pub(crate) async fn unbuilt(inv: &Invocation<'_>) -> CliResult<u8> {
    if inv.operands.iter().take_while(|word| *word != "--").any(|word| word == "--help") {
        inv.cli.out(&help_text(inv.cmd, &inv.path))?;
        return Ok(0);
    }
    let what = inv.path.split_once(' ').map_or(inv.path.as_str(), |(_, rest)| rest);
    Err(Failure::unbuilt(what))
}
