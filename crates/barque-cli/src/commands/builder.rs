//! `builder …` and `buildx …`.

use barque_api::Filters;
use barque_api::build::{BuildCacheRecord, BuildPruneQuery};
use barque_api::system::DiskUsageQuery;

use super::prune as pruning;
use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
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
        without: Vec::new(),
    };
    if query.dry_run {
        let (lines, freed) = unused(inv, query).await?;
        return pruning::dry_run(inv, "Would delete build cache objects:", &lines, freed);
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

/// Records that a prune would remove, one line each, and the bytes that would free where the engine tells.
///
/// Only Barque's engine is asked by a prune that is a dry run: others do not know the word and delete. What those
/// would remove is told from the list of records.
pub(crate) async fn unused(inv: &Invocation<'_>, query: BuildPruneQuery) -> CliResult<(Vec<String>, Option<u64>)> {
    let client = inv.client().await?;
    let wanted = DiskUsageQuery { kinds: vec!["build-cache".into()], verbose: true };
    let records = super::system::completed(client.disk_usage(&wanted).await?).build_cache.unwrap_or_default();
    let line = |r: &BuildCacheRecord| format!("{} ({})", r.id, pruning::size(r.size));
    if client.is_barque().await? {
        let reply = client.build_prune(&BuildPruneQuery { dry_run: true, ..query }).await?;
        let ids = reply.caches_deleted.unwrap_or_default();
        let lines = ids.into_iter().map(|id| records.iter().find(|r| r.id == id).map_or(id, line)).collect();
        return Ok((lines, Some(reply.space_reclaimed)));
    }
    let limits = [query.keep_storage, query.reserved_space, query.max_used_space, query.min_free_space];
    if limits.iter().any(|bytes| *bytes > 0) {
        return Err(Failure::new(
            "this engine cannot tell what it would delete with --keep-storage, --reserved-space, --max-used-space or \
             --min-free-space\n\nhint: leave them out to see all that is unused",
        ));
    }
    let mut lines = Vec::new();
    for record in &records {
        if goes(record, query.all) && fits(record, &query.filters)? {
            lines.push(line(record));
        }
    }
    Ok((lines, None))
}

/// Whether Docker's engine removes the record when nothing else is asked for.
fn goes(record: &BuildCacheRecord, all: bool) -> bool {
    !record.in_use && (all || !record.shared && !matches!(record.kind.as_str(), "internal" | "frontend"))
}

/// Whether the record is one of those the filters of `POST /build/prune` ask for.
fn fits(record: &BuildCacheRecord, filters: &Filters) -> CliResult<bool> {
    // Docker's engine takes labels, for `system prune`, and does not look at them.
    let known =
        ["until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private", "label", "label!"];
    if let Some(key) = filters.unknown_key(&known) {
        return Err(Failure::new(format!("invalid filter '{key}'")));
    }
    let mut until = Filters::new();
    ["until", "unused-for"].iter().flat_map(|key| filters.get(key)).for_each(|value| until.add("until", value));
    let used = record.last_used_at.as_deref().unwrap_or(&record.created_at);
    let one_of = |key: &str, test: &dyn Fn(&str) -> bool| !filters.contains(key) || filters.get(key).any(test);
    let is = |key: &str, fact: bool| match filters.boolean(key) {
        Ok(wanted) => Ok(wanted.is_none_or(|wanted| wanted == fact)),
        Err(wrong) => Err(Failure::new(wrong.to_string())),
    };
    let parents = || record.parents.iter().flatten().chain(&record.parent);
    Ok(pruning::is_old_enough(&until, pruning::seconds(used))?
        && one_of("id", &|id| record.id.contains(id))
        && one_of("parent", &|id| parents().any(|parent| parent == id))
        && one_of("type", &|kind| record.kind == kind)
        && one_of("description", &|text| record.description.contains(text))
        && is("inuse", record.in_use)?
        && is("shared", record.shared)?
        && is("private", !record.shared)?)
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
