//! `network ls`, `volume ls`, `search`, `diff`, `context ls`.

use barque_api::container::Change;
use barque_api::image::SearchResult;
use barque_api::network::Network;
use barque_api::volume::Volume;
use barque_template::{Data, Struct};

use super::{label_method, labels};
use crate::output::human;
use crate::output::listing::Titles;

pub(crate) const NETWORK_TITLES: Titles = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

/// The template of a named format.
pub(crate) fn network_format(source: &str, quiet: bool) -> &str {
    match (source, quiet) {
        ("table", true) => "{{.ID}}",
        ("table", false) => "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
        ("raw", true) => "network_id: {{.ID}}",
        ("raw", false) => "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
        (source, _) => source,
    }
}

/// One network.
pub(crate) fn network_row(n: &Network, trunc: bool) -> Data {
    let found = n.labels.clone().unwrap_or_default();
    Struct::row(
        "*network.networkContext",
        vec![
            ("ID", Data::str(if trunc { human::short_id(&n.id) } else { &n.id })),
            ("Name", Data::str(&n.name)),
            ("Driver", Data::str(&n.driver)),
            ("Scope", Data::str(&n.scope)),
            ("IPv4", Data::from(n.enable_ipv4.unwrap_or(false).to_string())),
            ("IPv6", Data::from(n.enable_ipv6.to_string())),
            ("Internal", Data::from(n.internal.to_string())),
            ("Labels", Data::from(labels(&found))),
            ("Label", label_method(found)),
            ("CreatedAt", Data::from(human::go_time(&n.created))),
        ],
    )
}

pub(crate) const VOLUME_TITLES: Titles = &[
    ("ID", "ID"),
    ("Name", "VOLUME NAME"),
    ("Group", "GROUP"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Availability", "AVAILABILITY"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Status", "STATUS"),
];

/// The template of a named format.
pub(crate) fn volume_format(source: &str, quiet: bool) -> &str {
    match (source, quiet) {
        ("table", true) => "{{.Name}}",
        ("table", false) => "table {{.Driver}}\t{{.Name}}",
        ("raw", true) => "name: {{.Name}}",
        ("raw", false) => "name: {{.Name}}\ndriver: {{.Driver}}\n",
        (source, _) => source,
    }
}

/// One volume.
pub(crate) fn volume_row(v: &Volume) -> Data {
    let found = v.labels.clone().unwrap_or_default();
    let usage = v.usage_data.as_ref();
    let unknown = || Data::str("N/A");
    Struct::row(
        "*formatter.volumeContext",
        vec![
            ("Name", Data::str(&v.name)),
            ("Driver", Data::str(&v.driver)),
            ("Scope", Data::str(&v.scope)),
            ("Mountpoint", Data::str(&v.mountpoint)),
            ("Labels", Data::from(labels(&found))),
            ("Label", label_method(found)),
            ("Links", usage.map_or_else(unknown, |u| Data::from(u.ref_count.to_string()))),
            ("Size", usage.map_or_else(unknown, |u| Data::from(human::size(u.size)))),
            ("Group", unknown()),
            ("Availability", unknown()),
            ("Status", unknown()),
        ],
    )
}

pub(crate) const SEARCH_TITLES: Titles =
    &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("StarCount", "STARS"), ("IsOfficial", "OFFICIAL")];

/// The table of `search`.
pub(crate) const SEARCH_TABLE: &str = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

/// One image of a registry. `json`: yes-or-no values are words.
pub(crate) fn search_row(r: &SearchResult, trunc: bool, json: bool) -> Data {
    let text = r.description.replace(['\n', '\r'], " ");
    let official = match (r.is_official, json) {
        (true, true) => "true",
        (true, false) => "[OK]",
        (false, true) => "false",
        (false, false) => "",
    };
    Struct::row(
        "*registry.searchContext",
        vec![
            ("Name", Data::str(&r.name)),
            ("Description", Data::from(if trunc { human::ellipsis(&text, 45) } else { text })),
            ("StarCount", Data::from(r.star_count.to_string())),
            ("IsOfficial", Data::str(official)),
        ],
    )
}

/// `C`, `A` or `D` of a changed path.
pub(crate) fn change_letter(change: &Change) -> &'static str {
    match change.kind {
        0 => "C",
        1 => "A",
        2 => "D",
        _ => "",
    }
}

pub(crate) const CONTEXT_TITLES: Titles =
    &[("Name", "NAME"), ("Description", "DESCRIPTION"), ("DockerEndpoint", "DOCKER ENDPOINT"), ("Error", "ERROR")];

/// The table of `context ls`.
pub(crate) const CONTEXT_TABLE: &str =
    "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}";

/// One context.
pub(crate) fn context_row(name: &str, current: bool, description: &str, endpoint: &str, error: &str) -> Data {
    Struct::row(
        "*formatter.clientContextContext",
        vec![
            ("Name", Data::str(name)),
            ("Current", Data::Bool(current)),
            ("Description", Data::str(description)),
            ("DockerEndpoint", Data::str(endpoint)),
            ("Error", Data::from(human::ellipsis(error, 45))),
        ],
    )
}
