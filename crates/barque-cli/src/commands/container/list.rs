//! `ps`.

use std::cell::Cell;
use std::rc::Rc;

use barque_api::container::{ContainerListQuery, ContainerSummary};
use barque_template::{Data, Missing, Template};

use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::opts::filter;
use crate::output::listing;
use crate::output::rows::containers;

pub(crate) async fn ls(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let quiet = flags.is("quiet");
    if flags.given("format") && quiet {
        inv.cli.err("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let format = listing::choose(flags.text("format"), Some(inv.cli.config().text("psFormat")), false);
    let mut shows_size = false;
    if !format.is_empty() && format != "table" {
        shows_size = try_format(format)?;
    }
    // The size is dear: it is asked for only where it is shown.
    let size = flags.is("size") || (!quiet && !flags.given("size") && shows_size);
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

/// Runs a template on a container without content: a bad one is found before the engine is asked. Gives whether it
/// shows the container's size.
fn try_format(format: &str) -> CliResult<bool> {
    let template = Template::parse(format).map_err(|e| Failure::new(format!("failed to parse template: {e}")))?;
    let used = Rc::new(Cell::new(false));
    let seen = used.clone();
    let row = containers::with_size(
        &ContainerSummary::default(),
        Data::lazy(move || {
            seen.set(true);
            Data::str("")
        }),
    );
    let tried = template.execute(&row, Missing::NoValue);
    tried.map_err(|e| Failure::new(format!("failed to execute template: {e}")))?;
    Ok(used.get())
}
