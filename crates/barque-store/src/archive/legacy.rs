//! Archives of Docker before 1.10: `repositories`, and a directory per layer with `json` and `layer.tar`.

use std::collections::{BTreeMap, HashSet};

use barque_model::{Reference, Result};
use serde_json::{Map, Value, json};

use super::load::Plan;
use super::members::Members;
use crate::tar::bad;

/// Layers of one image.
const LAYERS_MAX: usize = 500;

/// The images that `repositories` names.
pub(super) fn plan(members: &Members, repositories: &[u8]) -> Result<Vec<Plan>> {
    let names: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(repositories)
        .map_err(|e| bad("the archive's repositories file makes no sense").with_source(e))?;
    let mut plans: Vec<(String, Plan)> = Vec::new();
    for (repository, tags) in names {
        for (tag, id) in tags {
            let name: Reference = format!("{repository}:{tag}").parse()?;
            if let Some((_, plan)) = plans.iter_mut().find(|(other, _)| *other == id) {
                plan.names.push(name);
                continue;
            }
            let plan = image(members, &id, name)?;
            plans.push((id, plan));
        }
    }
    Ok(plans.into_iter().map(|(_, plan)| plan).collect())
}

fn image(members: &Members, top: &str, name: Reference) -> Result<Plan> {
    let mut chain = Vec::new();
    let mut seen = HashSet::new();
    let mut next = Some(top.to_owned());
    while let Some(id) = next {
        if !seen.insert(id.clone()) || seen.len() > LAYERS_MAX {
            return Err(bad("the archive's layers go in a circle, or are too many"));
        }
        let bytes = members.need_document(&format!("{id}/json"))?;
        let document: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|e| bad(format!("the archive's '{id}/json' makes no sense")).with_source(e))?;
        next = document.get("parent").and_then(Value::as_str).filter(|p| !p.is_empty()).map(str::to_owned);
        chain.push((id, document));
    }
    chain.reverse();
    let mut config = Map::new();
    if let Some((_, document)) = chain.last() {
        for key in ["architecture", "os", "variant", "config", "created", "author", "docker_version"] {
            if let Some(value) = document.get(key) {
                config.insert(key.into(), value.clone());
            }
        }
    }
    let mut diffs = Vec::new();
    for (id, _) in &chain {
        diffs.push(members.need_layer(&format!("{id}/layer.tar"))?.diff_id().to_string());
    }
    config.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diffs}));
    config.insert("history".into(), Value::Array(chain.iter().map(|(_, d)| history(d)).collect()));
    let config = serde_json::to_vec(&config).map_err(|e| bad("the archive makes no configuration").with_source(e))?;
    let layers = chain.iter().map(|(id, _)| format!("{id}/layer.tar")).collect();
    Ok(Plan { config, layers, names: vec![name], manifest: None, index: None })
}

fn history(document: &Map<String, Value>) -> Value {
    let words = |v: &Value| -> Vec<String> {
        v.as_array().map(|a| a.iter().filter_map(Value::as_str).map(str::to_owned).collect()).unwrap_or_default()
    };
    let command = document.get("container_config").and_then(|c| c.get("Cmd")).map(words).unwrap_or_default();
    let mut item = Map::new();
    item.insert("created_by".into(), command.join(" ").into());
    for key in ["created", "author", "comment"] {
        if let Some(value) = document.get(key) {
            item.insert(key.into(), value.clone());
        }
    }
    Value::Object(item)
}
