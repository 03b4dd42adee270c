//! Several trees in long form → one, by the rules of the Compose specification.

use super::diag::{Diag, Loaded, Span};
use super::node::{Map, Node, Tag, Value};

/// How two values at one path become one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Mappings by key, lists appended, scalars replaced.
    Usual,
    /// The later one replaces the earlier one, even by null.
    Replace,
    /// Lists appended without repeats.
    AppendUnique,
    /// Mappings by key if both have the same driver, else replaced.
    Logging,
    /// Address pools by subnet.
    Pools,
}

fn rule(path: &[String]) -> Rule {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["services", _, "command" | "entrypoint"]
        | ["services", _, "healthcheck", "test"]
        | ["services", _, "ulimits", _]
        | ["services", _, "build", "ulimits", _] => Rule::Replace,
        ["services", _, "extra_hosts"] | ["services", _, "build", "extra_hosts"] => Rule::AppendUnique,
        ["services", _, "logging"] => Rule::Logging,
        ["networks", _, "ipam", "config"] => Rule::Pools,
        _ => Rule::Usual,
    }
}

/// Merges `over` onto `base`. `path` is where they stand.
///
/// # Errors
/// Values that cannot be merged, such as a list onto a mapping.
pub fn merge(base: Node, over: Node, path: &mut Vec<String>) -> Loaded<Node> {
    if over.tag == Tag::Override {
        return Ok(replaced(&base, Node { tag: Tag::None, ..over }));
    }
    match rule(path) {
        Rule::Replace => return Ok(replaced(&base, over)),
        Rule::AppendUnique => return append_unique(base, over, path),
        Rule::Logging => {
            let driver = |n: &Node| n.at(&["driver"]).and_then(|d| d.as_str().map(str::to_owned));
            if let (Some(a), Some(b)) = (driver(&base), driver(&over))
                && a != b
            {
                return Ok(replaced(&base, over));
            }
        }
        Rule::Pools => return pools(base, over, path),
        Rule::Usual => {}
    }
    if over.is_null() {
        return Ok(base);
    }
    if base.is_null() {
        return Ok(over);
    }
    match (base.value, over.value) {
        (Value::Map(a), Value::Map(b)) => {
            let map = mappings(a, b, path)?;
            Ok(Node { value: Value::Map(map), span: base.span, tag: Tag::None, origin: base.origin })
        }
        (Value::Seq(mut a), Value::Seq(b)) => {
            a.extend(b);
            Ok(Node { value: Value::Seq(a), span: base.span, tag: Tag::None, origin: base.origin })
        }
        (Value::Map(_) | Value::Seq(_), other) | (other, Value::Map(_) | Value::Seq(_)) => {
            let _ = other;
            Err(Diag::at(over.span, format!("cannot override {}", path.join(".")))
                .hint("the earlier file has another kind of value here; add !override to replace it"))
        }
        (a, b) => {
            let base = Node { value: a, span: base.span, tag: base.tag, origin: base.origin };
            Ok(replaced(&base, Node { value: b, span: over.span, tag: over.tag, origin: over.origin }))
        }
    }
}

/// `over`, remembering what it replaced.
fn replaced(base: &Node, mut over: Node) -> Node {
    if !base.span.is_synthetic() && base.span != over.span && !matches!(over.value, Value::Map(_) | Value::Seq(_)) {
        let mut earlier = base.origin.as_ref().map(|o| o.replaced.clone()).unwrap_or_default();
        earlier.push(base.span);
        over.origin_mut().replaced.splice(0..0, earlier);
    }
    over
}

/// Merges mappings by key; `!reset` removes.
///
/// # Errors
/// As [`merge`].
pub fn mappings(mut base: Map, over: Map, path: &mut Vec<String>) -> Loaded<Map> {
    for (key, entry) in over.into_entries() {
        if entry.node.tag == Tag::Reset {
            base.remove(&key);
            continue;
        }
        match base.remove(&key) {
            None => base.insert(key, entry.key, untagged(entry.node)),
            Some(old) => {
                path.push(key.clone());
                let merged = merge(old, entry.node, path)?;
                path.pop();
                base.insert(key, entry.key, merged);
            }
        }
    }
    Ok(base)
}

/// Removes the items of lists that `!reset` marks, and tells where they stood. Docker Compose leaves them out of their
/// own file's list; it has no way to remove an item of an earlier file's.
pub fn without_reset_items(node: &mut Node) -> Vec<Span> {
    let mut places = Vec::new();
    match &mut node.value {
        Value::Map(map) => places.extend(map.iter_mut().flat_map(|(_, child)| without_reset_items(child))),
        Value::Seq(items) => {
            places.extend(items.iter().filter(|n| n.tag == Tag::Reset).map(|n| n.span));
            items.retain(|n| n.tag != Tag::Reset);
            places.extend(items.iter_mut().flat_map(without_reset_items));
        }
        _ => {}
    }
    places
}

/// Removes what `!reset` marks and forgets the tags.
pub fn untagged(mut node: Node) -> Node {
    node.tag = Tag::None;
    match &mut node.value {
        Value::Map(map) => {
            map.retain(|_, n| n.tag != Tag::Reset);
            for (_, child) in map.iter_mut() {
                let taken = std::mem::replace(child, Node::null(child.span));
                *child = untagged(taken);
            }
        }
        Value::Seq(items) => {
            items.retain(|n| n.tag != Tag::Reset);
            for child in items {
                let taken = std::mem::replace(child, Node::null(child.span));
                *child = untagged(taken);
            }
        }
        _ => {}
    }
    node
}

fn append_unique(base: Node, over: Node, path: &[String]) -> Loaded<Node> {
    if over.is_null() || base.is_null() {
        return Ok(if over.is_null() { base } else { over });
    }
    match (base.value, over.value) {
        (Value::Seq(mut a), Value::Seq(b)) => {
            for item in b {
                if !a.iter().any(|x| x.value == item.value) {
                    a.push(item);
                }
            }
            a.sort_by(|x, y| x.as_str().cmp(&y.as_str()));
            Ok(Node { value: Value::Seq(a), span: base.span, tag: Tag::None, origin: base.origin })
        }
        _ => Err(Diag::at(over.span, format!("cannot override {}", path.join(".")))),
    }
}

/// A pool of the same subnet is merged, another is added.
fn pools(base: Node, over: Node, path: &mut Vec<String>) -> Loaded<Node> {
    let (Value::Seq(mut a), Value::Seq(b)) = (base.value.clone(), over.value.clone()) else {
        return Ok(if over.is_null() { base } else { over });
    };
    for pool in b {
        let subnet = pool.at(&["subnet"]).and_then(Node::scalar_text);
        match a.iter().position(|p| p.at(&["subnet"]).and_then(Node::scalar_text) == subnet) {
            Some(i) => {
                let old = a.remove(i);
                path.push("[]".to_owned());
                let merged = merge(old, pool, path)?;
                path.pop();
                a.insert(i, merged);
            }
            None => a.push(pool),
        }
    }
    Ok(Node { value: Value::Seq(a), span: base.span, tag: Tag::None, origin: base.origin })
}

/// Of the entries of a list that name the same thing, keeps the last, at the place of the first.
pub fn unique(node: &mut Node, path: &mut Vec<String>) {
    match &mut node.value {
        Value::Map(map) => {
            for (key, child) in map.iter_mut() {
                path.push(key.to_owned());
                unique(child, path);
                path.pop();
            }
        }
        Value::Seq(items) => {
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            let Some(key_of) = identity(&parts) else { return };
            let mut kept: Vec<Node> = Vec::with_capacity(items.len());
            let mut keys: Vec<String> = Vec::new();
            for item in items.drain(..) {
                let key = key_of(&item);
                match keys.iter().position(|k| *k == key) {
                    Some(i) => kept[i] = item,
                    None => {
                        keys.push(key);
                        kept.push(item);
                    }
                }
            }
            *items = kept;
        }
        _ => {}
    }
}

type Identity = fn(&Node) -> String;

fn identity(path: &[&str]) -> Option<Identity> {
    match path {
        ["services", _, key] => match *key {
            "cap_add"
            | "cap_drop"
            | "dns"
            | "dns_opt"
            | "dns_search"
            | "expose"
            | "links"
            | "profiles"
            | "tmpfs"
            | "group_add"
            | "security_opt"
            | "label_file"
            | "external_links"
            | "volumes_from"
            | "device_cgroup_rules" => Some(text),
            "volumes" | "devices" => Some(target),
            "configs" => Some(|n| mount_target(n, "")),
            "secrets" => Some(|n| mount_target(n, "/run/secrets")),
            "env_file" => Some(|n| field(n, "path")),
            "ports" => Some(port),
            _ => None,
        },
        ["services", _, "build", "tags" | "platforms" | "cache_from" | "cache_to"] => Some(text),
        ["services", _, "build", "secrets"] => Some(|n| mount_target(n, "/run/secrets")),
        ["services", _, "networks", _, "aliases" | "link_local_ips"] => Some(text),
        _ => None,
    }
}

fn text(node: &Node) -> String {
    node.scalar_text().unwrap_or_default()
}

fn field(node: &Node, key: &str) -> String {
    node.at(&[key]).and_then(Node::scalar_text).unwrap_or_default()
}

fn target(node: &Node) -> String {
    let target = field(node, "target");
    if target.is_empty() { text(node) } else { target }
}

fn mount_target(node: &Node, base: &str) -> String {
    match field(node, "target") {
        target if !target.is_empty() => target,
        _ => format!("{base}/{}", field(node, "source")),
    }
}

fn port(node: &Node) -> String {
    let or = |value: String, default: &str| if value.is_empty() { default.to_owned() } else { value };
    format!(
        "{}:{}:{}/{}",
        or(field(node, "host_ip"), "0.0.0.0"),
        field(node, "published"),
        field(node, "target"),
        or(field(node, "protocol"), "tcp")
    )
}
