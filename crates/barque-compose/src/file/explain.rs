//! `config --explain`: where each value came from.

use super::diag::SourceMap;
use super::node::{Node, Value};
use super::project::Project;

/// One line per value: `path = value  # place (why)`.
pub fn explain(project: &Project) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    if let Some(tree) = &project.tree {
        for section in ["services", "networks", "volumes", "secrets", "configs"] {
            let Some(map) = tree.at(&[section]).and_then(Node::as_map) else { continue };
            for (name, node) in map.iter() {
                let kept = match section {
                    "services" => project.services.contains_key(name),
                    "networks" => project.networks.contains_key(name),
                    "volumes" => project.volumes.contains_key(name),
                    "secrets" => project.secrets.contains_key(name),
                    _ => project.configs.contains_key(name),
                };
                if kept {
                    walk(node, &format!("{section}.{name}"), &project.sources, &mut rows);
                }
            }
        }
    }
    let width = rows.iter().map(|(left, _)| left.chars().count()).filter(|n| *n <= 72).max().unwrap_or(0);
    let mut out = String::new();
    for (left, right) in rows {
        out.push_str(&format!("{left:width$}  # {right}\n"));
    }
    out
}

fn walk(node: &Node, path: &str, sources: &SourceMap, rows: &mut Vec<(String, String)>) {
    match &node.value {
        Value::Map(map) if !map.is_empty() => {
            for (key, child) in map.iter() {
                walk(child, &format!("{path}.{key}"), sources, rows);
            }
        }
        Value::Seq(items) if !items.is_empty() => {
            for (i, child) in items.iter().enumerate() {
                walk(child, &format!("{path}[{i}]"), sources, rows);
            }
        }
        _ => {
            let value = match &node.value {
                Value::Str(s) => format!("{s:?}"),
                Value::Map(_) => "{}".to_owned(),
                Value::Seq(_) => "[]".to_owned(),
                Value::Null => "null".to_owned(),
                _ => node.scalar_text().unwrap_or_default(),
            };
            rows.push((format!("{path} = {value}"), source(node, sources)));
        }
    }
}

/// Where one value came from, in words.
fn source(node: &Node, sources: &SourceMap) -> String {
    let mut parts: Vec<String> = Vec::new();
    let notes = node.origin.as_ref().map(|o| o.notes.as_slice()).unwrap_or_default();
    match (node.span.is_synthetic(), notes.is_empty()) {
        (true, true) => parts.push("default".to_owned()),
        (true, false) => {}
        (false, _) => parts.push(sources.locate(node.span)),
    }
    parts.extend(notes.iter().cloned());
    if let Some(origin) = &node.origin {
        for variable in &origin.variables {
            let from = match variable.source.as_str() {
                "unset" => "not set".to_owned(),
                "default" => "its default".to_owned(),
                source => format!("from {source}"),
            };
            parts.push(format!("${{{}}} {from}", variable.name));
        }
        if let Some(last) = origin.replaced.last() {
            parts.push(format!("replaces {}", sources.locate(*last)));
        }
    }
    parts.join(", ")
}
