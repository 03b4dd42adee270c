//! Filters of volumes.

use barque_api::{ApiVersion, Filters};
use barque_engine::volume::types::VolumeView;
use barque_model::{Error, Result, Timestamp};

use super::Patterns;

/// Keys of `GET /volumes`.
const LIST_KEYS: &[&str] = &["dangling", "driver", "label", "name"];

/// Keys of `POST /volumes/prune`.
const PRUNE_KEYS: &[&str] = &["all", "label", "label!", "until"];

/// # Errors
/// Unknown keys and malformed values.
pub(crate) fn list(filters: Filters) -> Result<impl Fn(&VolumeView) -> bool> {
    super::check(&filters, LIST_KEYS)?;
    let dangling = super::boolean(&filters, "dangling")?;
    let names = Patterns::new(&filters, "name");
    Ok(move |view: &VolumeView| {
        let any = |key: &str, test: &dyn Fn(&str) -> bool| !filters.contains(key) || filters.get(key).any(test);
        names.match_any(&[&view.name])
            && super::labels(&filters, &view.labels)
            && any("driver", &|wanted| wanted == view.driver)
            && dangling.is_none_or(|wanted| view.used_by.is_empty() == wanted)
    })
}

/// Which unused volumes a prune removes: until 1.41 all, since then the anonymous ones unless `all` is given.
///
/// # Errors
/// Unknown keys and malformed values.
pub(crate) fn prune(
    filters: Filters,
    version: ApiVersion,
    now: Timestamp,
) -> Result<impl Fn(&VolumeView) -> bool + Send + Sync + 'static> {
    super::check(&filters, PRUNE_KEYS)?;
    if version.before(42) && filters.contains("all") {
        return Err(Error::invalid("invalid filter 'all'"));
    }
    let all = version.before(42) || super::boolean(&filters, "all")? == Some(true);
    let until = super::until(&filters, now)?;
    Ok(move |view: &VolumeView| {
        (all || view.anonymous)
            && super::labels(&filters, &view.labels)
            && until.is_none_or(|until| view.created_at < until)
    })
}
