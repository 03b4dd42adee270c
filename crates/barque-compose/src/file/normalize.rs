//! The merged tree → the tree Compose works with: defaults, implied dependencies and networks, names.

use super::diag::Span;
use super::load::EnvSet;
use super::node::{Map, Node, Value};
use barque_model::path::clean;

/// Sets what the long forms leave out.
pub fn defaults(root: &mut Node) {
    let Some(services) = section_mut(root, "services") else { return };
    for (_, service) in services.iter_mut() {
        let Some(map) = service.as_map_mut() else { continue };
        for item in seq_mut(map, "ports") {
            put(item, "protocol", Value::Str("tcp".into()));
            put(item, "mode", Value::Str("ingress".into()));
        }
        for item in seq_mut(map, "env_file") {
            put(item, "required", Value::Bool(true));
        }
        for item in seq_mut(map, "secrets") {
            let source = text(item, "source");
            put(item, "target", Value::Str(format!("/run/secrets/{source}")));
        }
        for item in seq_mut(map, "gpus") {
            device_count(item);
        }
        for item in seq_mut(map, "volumes") {
            if let Some(bind) = item.as_map_mut().and_then(|m| m.get_mut("bind")) {
                put(bind, "create_host_path", Value::Bool(true));
            }
        }
        if let Some(depends) = map.get_mut("depends_on").and_then(Node::as_map_mut) {
            for (_, dependency) in depends.iter_mut() {
                put(dependency, "required", Value::Bool(true));
            }
        }
        let devices = ["deploy", "resources", "reservations"]
            .iter()
            .try_fold(map, |map, key| map.get_mut(key).and_then(Node::as_map_mut));
        for item in devices.into_iter().flat_map(|m| seq_mut(m, "devices")) {
            device_count(item);
        }
    }
}

fn device_count(item: &mut Node) {
    if item.at(&["device_ids"]).is_none() {
        put(item, "count", Value::Int(-1));
    }
}

fn section_mut<'a>(root: &'a mut Node, key: &str) -> Option<&'a mut Map> {
    root.as_map_mut()?.get_mut(key)?.as_map_mut()
}

fn seq_mut<'a>(map: &'a mut Map, key: &str) -> impl Iterator<Item = &'a mut Node> {
    map.get_mut(key).and_then(Node::as_seq_mut).into_iter().flatten()
}

fn text(node: &Node, key: &str) -> String {
    node.at(&[key]).and_then(Node::scalar_text).unwrap_or_default()
}

/// A place in the same file that no line holds, so that `config --explain` says "default".
fn made(span: Span) -> Span {
    Span { line: 0, ..span }
}

fn put(node: &mut Node, key: &str, value: Value) {
    let span = made(node.span);
    if let Some(map) = node.as_map_mut() {
        map.set_default(key, Node::new(value, span));
    }
}

/// Gives `environment` names without a value the value of the variable, if it is set.
pub(super) fn resolve_environment(root: &mut Node, env: &EnvSet) {
    let Some(services) = section_mut(root, "services") else { return };
    for (_, service) in services.iter_mut() {
        if let Some(map) = service.as_map_mut().and_then(|m| m.get_mut("environment")).and_then(Node::as_map_mut) {
            fill(map, env);
        }
    }
}

fn fill(map: &mut Map, env: &EnvSet) {
    for (name, node) in map.iter_mut() {
        if let (Value::Null, Some(value)) = (&node.value, env.env.get(name)) {
            node.value = Value::Str(value.clone());
            node.origin_mut().notes.push(format!("variable {name} from {}", env.source(name)));
        }
    }
}

/// Adds what Compose implies: networks, dependencies, build defaults, resource names.
pub(super) fn normalize(root: &mut Node, project: &str, env: &EnvSet) {
    networks(root);
    let Some(services) = section_mut(root, "services") else { return names(root, project) };
    for (_, service) in services.iter_mut() {
        let Some(map) = service.as_map_mut() else { continue };
        if map.get("pull_policy").and_then(Node::as_str) == Some("if_not_present") {
            let span = map.get("pull_policy").map_or(Span::default(), |n| n.span);
            map.set("pull_policy", Node::str("missing", span));
        }
        build(map, env);
        if let Some(environment) = map.get_mut("environment").and_then(Node::as_map_mut) {
            fill(environment, env);
        }
        implied_dependencies(map);
        for volume in seq_mut(map, "volumes") {
            if let Some(target) = volume.as_map_mut().and_then(|m| m.get_mut("target"))
                && let Value::Str(path) = &mut target.value
            {
                *path = clean(path);
            }
        }
        if let Some(image) = map.get("image").cloned() {
            for hook in seq_mut(map, "pre_start") {
                put(hook, "image", image.value.clone());
            }
        }
    }
    names(root, project);
}

/// A build without a context has the directory of its project, or of the file that is included.
pub fn default_context(service: &mut Map) {
    let Some(node) = service.get_mut("build").filter(|n| !n.is_null()) else { return };
    let span = node.span;
    if let Some(build) = node.as_map_mut() {
        build.set_default("context", Node::str(".", made(span)));
    }
}

fn build(service: &mut Map, env: &EnvSet) {
    default_context(service);
    let Some(node) = service.get_mut("build").filter(|n| !n.is_null()) else { return };
    let span = node.span;
    let Some(build) = node.as_map_mut() else { return };
    if build.get_some("dockerfile").is_none() && build.get_some("dockerfile_inline").is_none() {
        build.set("dockerfile", Node::str("Dockerfile", made(span)));
    }
    if let Some(args) = build.get_mut("args").and_then(Node::as_map_mut) {
        fill(args, env);
        args.retain(|_, n| !n.is_null());
    }
}

/// `links`, `volumes_from` and shared namespaces imply `depends_on`.
fn implied_dependencies(service: &mut Map) {
    let mut implied: Vec<(String, bool, Span)> = Vec::new();
    let texts = |key: &str| -> Vec<(String, Span)> {
        let items = service.get(key).and_then(Node::as_seq).unwrap_or_default();
        items.iter().filter_map(|n| n.as_str().map(|s| (s.to_owned(), n.span))).collect()
    };
    for (link, span) in texts("links") {
        implied.push((link.split(':').next().unwrap_or_default().to_owned(), true, span));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(node) = service.get(key)
            && let Some(name) = node.as_str().and_then(|s| s.strip_prefix("service:"))
        {
            implied.push((name.to_owned(), true, node.span));
        }
    }
    for (from, span) in texts("volumes_from") {
        if !from.starts_with("container:") {
            implied.push((from.split(':').next().unwrap_or_default().to_owned(), false, span));
        }
    }
    if implied.is_empty() {
        return;
    }
    let mut depends = service.get("depends_on").and_then(Node::as_map).cloned().unwrap_or_default();
    for (name, restart, span) in implied {
        if depends.contains(&name) {
            continue;
        }
        let mut map = Map::default();
        map.set("condition", Node::str("service_started", made(span)));
        map.set("restart", Node::bool(restart, made(span)));
        map.set("required", Node::bool(true, made(span)));
        depends.insert(name, span, Node::map(map, made(span)));
    }
    let span = service.get("depends_on").map_or(Span::default(), |n| n.span);
    service.set("depends_on", Node::map(depends, span));
}

fn networks(root: &mut Node) {
    let mut default_used = false;
    if let Some(services) = section_mut(root, "services") {
        for (_, service) in services.iter_mut() {
            let span = service.span;
            let Some(map) = service.as_map_mut() else { continue };
            if map.get_some("provider").is_some() || map.get_some("network_mode").is_some() {
                continue;
            }
            let own = map.get("networks").and_then(Node::as_map);
            if own.is_none_or(Map::is_empty) {
                let mut networks = Map::default();
                networks.set("default", Node::null(made(span)));
                map.set("networks", Node::map(networks, made(span)));
                default_used = true;
            } else if own.is_some_and(|m| m.contains("default")) {
                default_used = true;
            }
        }
    }
    if !default_used {
        return;
    }
    let span = made(root.span);
    let Some(map) = root.as_map_mut() else { return };
    if map.get("networks").is_none_or(|n| n.as_map().is_none()) {
        map.set("networks", Node::map(Map::default(), span));
    }
    if let Some(networks) = map.get_mut("networks").and_then(Node::as_map_mut) {
        networks.set_default("default", Node::null(span));
    }
}

/// Resources without a name are called `PROJECT_KEY`, external ones by their key.
fn names(root: &mut Node, project: &str) {
    for section in ["networks", "volumes", "configs", "secrets"] {
        let Some(items) = section_mut(root, section) else { continue };
        for (key, item) in items.iter_mut() {
            if key.starts_with("x-") {
                continue;
            }
            if item.is_null() {
                item.value = Value::Map(Map::default());
            }
            let external = item.at(&["external"]).and_then(Node::as_bool).unwrap_or(false);
            let name = if external { key.to_owned() } else { format!("{project}_{key}") };
            if item.at(&["name"]).is_none_or(Node::is_null) {
                let span = made(item.span);
                if let Some(map) = item.as_map_mut() {
                    map.set("name", Node::str(name, span));
                }
            }
        }
    }
}
