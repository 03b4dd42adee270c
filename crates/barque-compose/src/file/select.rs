//! Which services are on: profiles, and the services named on the command line.

use std::collections::{BTreeMap, BTreeSet};

use super::diag::{Diag, Loaded, suggest};
use super::node::{Map, Node};

/// The outcome of a selection.
#[derive(Debug, Default)]
pub struct Selection {
    /// Services whose profiles are on.
    pub enabled: BTreeSet<String>,
    /// Of these, the ones named on the command line and what they need; all if none was named.
    pub kept: BTreeSet<String>,
}

fn profiles_of(service: &Node) -> Vec<&str> {
    let list = service.at(&["profiles"]).and_then(Node::as_seq).unwrap_or_default();
    list.iter().filter_map(Node::as_str).collect()
}

fn has_profile(service: &Node, on: &[String]) -> bool {
    let own = profiles_of(service);
    own.is_empty() || on.iter().any(|p| p == "*" || own.contains(&p.as_str()))
}

/// Chooses services. Naming a service switches its profiles on.
///
/// # Errors
/// A name no service has.
pub fn select(services: &Map, profiles: &[String], named: &[String], no_deps: bool) -> Loaded<Selection> {
    let mut on = profiles.to_vec();
    for name in named {
        let Some(service) = services.get(name) else {
            let diag = Diag::new(format!("no such service: {name}")).of_command_line();
            return Err(match suggest(name, services.keys()) {
                Some(near) => diag.hint(format!("did you mean {near:?}?")),
                None => diag,
            });
        };
        if !has_profile(service, &on) {
            on.extend(profiles_of(service).into_iter().map(str::to_owned));
        }
    }
    let enabled: BTreeSet<String> =
        services.iter().filter(|(_, s)| has_profile(s, &on)).map(|(k, _)| k.to_owned()).collect();
    if named.is_empty() {
        return Ok(Selection { kept: enabled.clone(), enabled });
    }
    let mut kept = BTreeSet::new();
    let mut queue: Vec<String> = named.to_vec();
    while let Some(name) = queue.pop() {
        if !enabled.contains(&name) || !kept.insert(name.clone()) || no_deps {
            continue;
        }
        let depends = services.get(&name).and_then(|s| s.at(&["depends_on"])).and_then(Node::as_map);
        queue.extend(depends.into_iter().flat_map(Map::keys).map(str::to_owned));
    }
    Ok(Selection { enabled, kept })
}

/// Forgets dependencies on services that are not there.
pub fn drop_dependencies(tree: &mut Node, selection: &Selection) {
    let services = tree.as_map_mut().and_then(|m| m.get_mut("services")).and_then(Node::as_map_mut);
    for (name, service) in services.into_iter().flat_map(Map::iter_mut) {
        if !selection.kept.contains(name) {
            continue;
        }
        let depends = service.as_map_mut().and_then(|m| m.get_mut("depends_on")).and_then(Node::as_map_mut);
        if let Some(depends) = depends {
            depends.retain(|key, _| selection.kept.contains(key));
        }
    }
}

/// Service → those it depends on that a program provides.
pub fn provided(services: &Map) -> BTreeMap<String, BTreeSet<String>> {
    let is_provided =
        |name: &&str| services.get(name).is_some_and(|s| s.at(&["provider"]).is_some_and(|p| !p.is_null()));
    let of = |service: &Node| -> BTreeSet<String> {
        let depends = service.at(&["depends_on"]).and_then(Node::as_map);
        depends.into_iter().flat_map(Map::keys).filter(is_provided).map(str::to_owned).collect()
    };
    services.iter().map(|(name, service)| (name.to_owned(), of(service))).filter(|(_, set)| !set.is_empty()).collect()
}
