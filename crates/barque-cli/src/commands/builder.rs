//! `builder …` and `buildx …`.

use barque_api::build::BuildPruneQuery;

use super::prune as pruning;
use crate::cli::Invocation;
use crate::error::CliResult;
use crate::output::tabwriter;

pub(crate) async fn prune(inv: &Invocation<'_>) -> CliResult<u8> {
    let all = inv.flags.is("all");
    let filters = pruning::filters(inv);
    let client = inv.client().await?;
    let bytes = |name: &str| inv.flags.bytes(name).unwrap_or(0);
    let query = BuildPruneQuery {
        all,
        filters,
        keep_storage: bytes("keep-storage"),
        reserved_space: bytes("reserved-space"),
        max_used_space: bytes("max-used-space"),
        min_free_space: bytes("min-free-space"),
        dry_run: inv.flags.is("dry-run"),
    };
    if query.dry_run {
        let deleted = client.build_prune(&query).await?.caches_deleted.unwrap_or_default();
        return pruning::dry_run(inv, "Would delete build cache objects:", &deleted);
    }
    let what = if all { "all build cache" } else { "all dangling build cache" };
    if !pruning::confirm(inv, &format!("WARNING! This will remove {what}. Are you sure you want to continue?")) {
        return Ok(0);
    }
    let reply = client.build_prune(&query).await?;
    let deleted = reply.caches_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        inv.cli.line(&format!("Deleted build cache objects:\n{}\n", deleted.join("\n")))?;
    }
    inv.cli.line(&format!("Total reclaimed space: {}", barque_model::size::human(reply.space_reclaimed)))?;
    Ok(0)
}

/// The one builder there is: the engine's.
pub(crate) async fn ls(inv: &Invocation<'_>) -> CliResult<u8> {
    let platform = barque_model::Platform::host();
    let text = format!(
        "NAME/NODE\tDRIVER/ENDPOINT\tSTATUS\tBUILDKIT\tPLATFORMS\ndefault*\tbarque\t\t\t\n \\_ default\t \\_ default\t\
         running\t{}\t{platform}\n",
        env!("CARGO_PKG_VERSION")
    );
    inv.cli.out(&tabwriter::align(&text, tabwriter::TABLE))?;
    Ok(0)
}

pub(crate) async fn version(inv: &Invocation<'_>) -> CliResult<u8> {
    inv.cli.line(&format!("barque/buildx v{}", env!("CARGO_PKG_VERSION")))?;
    Ok(0)
}
