//! `ps`.

use barque_api::container::ContainerListQuery;

use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::opts::filter;
use crate::output::listing;
use crate::output::rows::containers;
use crate::template::Template;

pub(crate) async fn ls(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let quiet = flags.is("quiet");
    if flags.given("format") && quiet {
        inv.cli.err("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let format = listing::choose(flags.text("format"), Some(inv.cli.config().text("psFormat")), false);
    if flags.given("format") {
        Template::parse(flags.text("format")).map_err(|e| Failure::new(format!("failed to parse template: {e}")))?;
    }
    // The size is dear: it is asked for only where it is shown.
    let shown = !quiet && !flags.given("size") && uses_size(format);
    let size = flags.is("size") || shown;
    let last = flags.int("last").unwrap_or(-1);
    let limit = if flags.is("latest") && last == -1 { 1 } else { last };
    let query = ContainerListQuery {
        all: flags.is("all"),
        limit: limit.max(0),
        size,
        filters: filter::collect(flags.all("filter")),
        ..ContainerListQuery::default()
    };
    let found = inv.client().await?.container_list(&query).await?;
    let trunc = !flags.is("no-trunc");
    let rows: Vec<_> = found.iter().map(|c| containers::row(c, trunc)).collect();
    let format = containers::format(format, quiet, flags.is("size"));
    inv.cli.out(&listing::render(&format, containers::TITLES, &rows)?)?;
    Ok(0)
}

/// Whether a template shows the size of containers.
fn uses_size(format: &str) -> bool {
    format.contains(".Size") || format == "json" || format.contains("json .}}")
}
