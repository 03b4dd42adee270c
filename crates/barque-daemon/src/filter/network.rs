//! Filters of networks.

use barque_api::Filters;
use barque_engine::network::types::NetworkView;
use barque_model::{Result, Timestamp};

use super::Patterns;
use crate::wording;

/// Keys of `GET /networks`.
const LIST_KEYS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// Keys of `POST /networks/prune`.
const PRUNE_KEYS: &[&str] = &["label", "label!", "until"];

/// # Errors
/// Unknown keys and malformed values.
pub(crate) fn list(filters: Filters) -> Result<impl Fn(&NetworkView) -> bool> {
    super::check(&filters, LIST_KEYS)?;
    let dangling = super::boolean(&filters, "dangling")?;
    if let Some(bad) = filters.get("type").find(|kind| !matches!(*kind, "builtin" | "custom")) {
        return Err(wording::invalid_filter_value("type", bad));
    }
    let (names, ids) = (Patterns::new(&filters, "name"), Patterns::new(&filters, "id"));
    Ok(move |view: &NetworkView| {
        let any = |key: &str, test: &dyn Fn(&str) -> bool| !filters.contains(key) || filters.get(key).any(test);
        let driver = if view.driver == "none" { "null" } else { &view.driver };
        names.match_any(&[&view.name])
            && ids.match_any(&[&view.id.to_string()])
            && super::labels(&filters, &view.labels)
            && any("driver", &|wanted| wanted == driver)
            && any("scope", &|wanted| wanted == "local")
            && any("type", &|wanted| (wanted == "builtin") == view.predefined)
            && dangling.is_none_or(|wanted| (!view.predefined && view.containers.is_empty()) == wanted)
    })
}

/// # Errors
/// Unknown keys and malformed values.
pub(crate) fn prune(filters: Filters, now: Timestamp) -> Result<impl Fn(&NetworkView) -> bool + Send + Sync + 'static> {
    super::check(&filters, PRUNE_KEYS)?;
    let until = super::until(&filters, now)?;
    Ok(move |view: &NetworkView| {
        super::labels(&filters, &view.labels) && until.is_none_or(|until| view.created_at < until)
    })
}
