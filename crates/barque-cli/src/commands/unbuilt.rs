//! Commands that the help lists and that are not built yet.

use crate::cli::Invocation;
use crate::error::{CliResult, Failure};

pub(crate) async fn unbuilt(inv: &Invocation<'_>) -> CliResult<u8> {
    let what = inv.path.split_once(' ').map_or(inv.path.as_str(), |(_, rest)| rest);
    Err(Failure::unbuilt(what))
}
