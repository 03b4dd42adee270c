//! `search`.

use barque_api::image::SearchQuery;
use barque_model::Reference;

use crate::auth;
use crate::cli::Invocation;
use crate::error::CliResult;
use crate::opts::filter;
use crate::output::listing;
use crate::output::rows::misc;

pub(crate) async fn search(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let filters = filter::collect(flags.all("filter"));
    if filters.contains("is-automated") {
        inv.cli.err(
            "WARNING: the \"is-automated\" filter is deprecated, and searching for \"is-automated=true\" will not \
             yield any results in future.",
        );
    }
    let term = inv.operand(0);
    let auth = match term.parse::<Reference>() {
        Ok(reference) => auth::for_image(inv.cli.config(), &reference),
        Err(_) => None,
    };
    let query = SearchQuery { term: term.to_owned(), limit: flags.int("limit").unwrap_or(0), filters };
    let found = inv.client().await?.image_search(&query, auth.as_ref()).await?;
    let format = match listing::choose(flags.text("format"), None, false) {
        "table" => misc::SEARCH_TABLE,
        other => other,
    };
    let json = format.contains("json");
    let trunc = !flags.is("no-trunc");
    let rows: Vec<_> = found.iter().map(|r| misc::search_row(r, trunc, json)).collect();
    inv.cli.out(&listing::render(format, misc::SEARCH_TITLES, &rows)?)?;
    Ok(0)
}
