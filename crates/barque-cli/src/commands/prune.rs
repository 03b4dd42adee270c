//! What all prunes share: filters of the configuration, the question, the report, the dry run.

use barque_api::Filters;
use barque_api::container::{ContainerSummary, PruneQuery};
use barque_model::time::Timestamp;

use crate::cli::Invocation;
use crate::error::CliResult;
use crate::opts::filter;
use crate::output::human;

/// What a dry run says that finds nothing.
pub(crate) const NOTHING: &str = "Nothing to delete.";

/// The flags' filters, and the configuration's `pruneFilters` unless a flag says otherwise.
pub(crate) fn filters(inv: &Invocation<'_>) -> Filters {
    let mut filters = filter::collect(inv.flags.all("filter"));
    let configured = inv.cli.config().values.get("pruneFilters").and_then(serde_json::Value::as_array);
    for text in configured.into_iter().flatten().filter_map(serde_json::Value::as_str) {
        let Some((key, value)) = text.split_once('=') else { continue };
        // A label that is asked for is not left out, and the other way round.
        let opposite = if key == "label" { "label!" } else { "label" };
        if key.starts_with("label") && filters.has(opposite, value) {
            continue;
        }
        filters.add(key, value);
    }
    filters
}

/// Asks before something is deleted, unless `--force` was given. A no ends the command without a word.
pub(crate) fn confirm(inv: &Invocation<'_>, question: &str) -> bool {
    inv.flags.is("force") || inv.cli.confirm(question)
}

/// What was deleted and what that gave; what interrupted pulls had left has no name.
pub(crate) fn report(inv: &Invocation<'_>, title: &str, deleted: &[String], reclaimed: u64) -> CliResult<u8> {
    if !deleted.is_empty() {
        inv.cli.line(&format!("{title}\n{}\n", deleted.join("\n")))?;
    }
    inv.cli.line(&format!("Total reclaimed space: {}", barque_model::size::human(reclaimed)))?;
    Ok(0)
}

/// What would be deleted, and what that would free where the engine tells.
pub(crate) fn dry_run(inv: &Invocation<'_>, title: &str, lines: &[String], freed: Option<u64>) -> CliResult<u8> {
    match lines {
        [] => inv.cli.line(NOTHING)?,
        lines => inv.cli.line(&format!("{title}\n{}{}", lines.join("\n"), total(freed)))?,
    }
    Ok(0)
}

/// The last line of a dry run. It is less than the sum of what stands above where something else keeps a part.
pub(crate) fn total(freed: Option<u64>) -> String {
    freed.map(|bytes| format!("\n\nWould free: {}", barque_model::size::human(bytes))).unwrap_or_default()
}

/// What a dry run of the engine's own is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Containers,
    Volumes,
    /// The filters name `dangling`.
    Images,
}

/// Bytes that such a prune frees once the containers `gone` are removed; nothing of an engine that knows no dry runs,
/// because it deletes.
pub(crate) async fn would_free(
    inv: &Invocation<'_>,
    kind: Kind,
    filters: &Filters,
    gone: &[ContainerSummary],
) -> CliResult<Option<u64>> {
    let client = inv.client().await?;
    if !client.is_barque().await? {
        return Ok(None);
    }
    let without = gone.iter().map(|container| container.id.clone()).collect();
    let query = PruneQuery { filters: filters.clone(), dry_run: true, without };
    Ok(Some(match kind {
        Kind::Containers => client.container_prune(&query).await?.space_reclaimed,
        Kind::Volumes => client.volume_prune(&query).await?.space_reclaimed,
        Kind::Images => client.image_prune(&query).await?.space_reclaimed,
    }))
}

/// Whether something made at `created` (Unix seconds) is before the `until` filter.
pub(crate) fn is_old_enough(filters: &Filters, created: i64) -> CliResult<bool> {
    for until in filters.get("until") {
        let until = crate::when::timestamp(until, "until")?;
        let seconds: i64 = until.split('.').next().and_then(|s| s.parse().ok()).unwrap_or(i64::MAX);
        if created >= seconds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Unix seconds of a time as the engine writes it; now if it cannot be read.
pub(crate) fn seconds(time: &str) -> i64 {
    time.parse::<Timestamp>().unwrap_or_else(|_| Timestamp::now()).seconds()
}

/// A size for a line of a dry run.
pub(crate) fn size(bytes: i64) -> String {
    human::size(bytes)
}
