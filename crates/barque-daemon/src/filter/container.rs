//! Filters of containers.

use barque_api::Filters;
use barque_engine::container::spec::PortProto;
use barque_engine::container::view::ContainerView;
use barque_model::strconv::parse_bool;
use barque_model::{Error, ImageId, Result, Timestamp};

use super::Patterns;
use crate::wording;

/// Keys of `GET /containers/json`.
pub(crate) const LIST_KEYS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// Keys of `POST /containers/prune`.
pub(crate) const PRUNE_KEYS: &[&str] = &["label", "label!", "until"];

const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// The filters of a list, checked and ready.
pub(crate) struct ListFilter {
    filters: Filters,
    names: Patterns,
    exited: Vec<i32>,
    ports: Vec<(bool, Vec<PortProto>)>,
    /// Creation times: only those before, only those after.
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    /// Images and their children, if `ancestor` was given.
    ancestors: Option<Vec<ImageId>>,
}

/// What the filters refer to, found by the caller.
#[derive(Default)]
pub(crate) struct References {
    pub(crate) before: Option<Timestamp>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) ancestors: Option<Vec<ImageId>>,
}

impl ListFilter {
    /// # Errors
    /// Unknown keys and malformed values.
    pub(crate) fn new(filters: Filters, references: References) -> Result<ListFilter> {
        super::check(&filters, LIST_KEYS)?;
        if let Some(bad) = filters.get("status").find(|status| !STATES.contains(status)) {
            return Err(wording::invalid_filter_value("status", bad));
        }
        let health = ["none", "starting", "healthy", "unhealthy"];
        if let Some(bad) = filters.get("health").find(|status| !health.contains(status)) {
            return Err(wording::invalid_filter_value("health", bad));
        }
        // Docker's words for a value are its list.
        if let Some(bad) = filters.get("is-task").find(|text| parse_bool(&text.to_ascii_lowercase()).is_err()) {
            return Err(Error::invalid(format!("invalid filter 'is-task=[{bad}]'")));
        }
        let code = |text: &str| text.parse().map_err(|_| wording::invalid_filter_value("exited", text));
        let exited = filters.get("exited").map(code).collect::<Result<_>>()?;
        let mut ports = Vec::new();
        for (key, published) in [("publish", true), ("expose", false)] {
            for text in filters.get(key) {
                let list = barque_engine::container::merge::parse_ports(text)
                    .map_err(|_| Error::invalid(format!("invalid port '{text}'")))?;
                ports.push((published, list));
            }
        }
        Ok(ListFilter {
            names: Patterns::new(&filters, "name"),
            exited,
            ports,
            before: references.before,
            since: references.since,
            ancestors: references.ancestors,
            filters,
        })
    }

    /// True if the filters ask for states other than running.
    pub(crate) fn wants_all(&self) -> bool {
        self.filters.contains("status") || !self.exited.is_empty()
    }

    pub(crate) fn matches(&self, view: &ContainerView) -> bool {
        let filters = &self.filters;
        let any = |key: &str, test: &dyn Fn(&str) -> bool| !filters.contains(key) || filters.get(key).any(test);
        let id = view.id.to_string();
        let slashed = format!("/{}", view.name);
        any("id", &|prefix| id.starts_with(prefix))
            && self.names.match_any(&[&view.name, &slashed])
            && super::labels(filters, &view.spec.labels)
            && any("status", &|status| view.state.status() == status)
            && any("health", &|status| view.health.as_ref().map_or("none", |h| h.status.as_str()) == status)
            && any("is-task", &|value| parse_bool(value) == Ok(false))
            && any("isolation", &|value| value == "default")
            && any("volume", &|wanted| uses_volume(view, wanted))
            && any("network", &|wanted| on_network(view, wanted))
            && self.exit_matches(view)
            && self.before.is_none_or(|before| view.created_at < before)
            && self.since.is_none_or(|since| view.created_at > since)
            && self.ancestors.as_ref().is_none_or(|ids| view.spec.image_id.is_some_and(|id| ids.contains(&id)))
            && self.ports_match(view)
    }

    fn exit_matches(&self, view: &ContainerView) -> bool {
        if self.exited.is_empty() {
            return true;
        }
        let exit = view.state.last_exit();
        view.state.status() == "exited" && exit.is_some_and(|exit| self.exited.contains(&exit.code))
    }

    /// One of the ports of each key, as alternatives.
    fn ports_match(&self, view: &ContainerView) -> bool {
        [true, false].into_iter().all(|published| {
            let mut wanted = self.ports.iter().filter(|(kind, _)| *kind == published).peekable();
            let has = |port: &PortProto| match published {
                true => view.ports.iter().any(|have| {
                    have.container == *port || (have.host_port == port.port && have.container.proto == port.proto)
                }),
                false => view.spec.exposed_ports.contains(port),
            };
            wanted.peek().is_none() || wanted.any(|(_, list)| list.iter().any(has))
        })
    }
}

fn uses_volume(view: &ContainerView, wanted: &str) -> bool {
    view.mounts.iter().any(|mount| {
        mount.name.as_deref() == Some(wanted) || mount.target == wanted || mount.source == std::path::Path::new(wanted)
    })
}

fn on_network(view: &ContainerView, wanted: &str) -> bool {
    view.endpoints.iter().any(|endpoint| {
        endpoint.network_name == wanted || (!wanted.is_empty() && endpoint.network_id.starts_with(wanted))
    })
}

/// Which stopped containers a prune removes.
///
/// # Errors
/// Unknown keys and malformed values.
pub(crate) fn prune(
    filters: Filters,
    now: Timestamp,
) -> Result<impl Fn(&ContainerView) -> bool + Send + Sync + 'static> {
    super::check(&filters, PRUNE_KEYS)?;
    let until = super::until(&filters, now)?;
    Ok(move |view: &ContainerView| {
        super::labels(&filters, &view.spec.labels) && until.is_none_or(|until| view.created_at < until)
    })
}
