//! What a file may say and nothing on one machine can do: named, so that nothing is left out silently.

use serde_json::Value as Json;

use crate::file::project::{Project, Service};

/// Keys of a service that only a cluster, or Windows, gives a meaning.
const ELSEWHERE: [&str; 13] = [
    "credential_spec",
    "deploy.endpoint_mode",
    "deploy.labels",
    "deploy.placement",
    "deploy.resources.limits.devices",
    "deploy.resources.limits.generic_resources",
    "deploy.resources.reservations.cpus",
    "deploy.resources.reservations.generic_resources",
    "deploy.resources.reservations.pids",
    "deploy.restart_policy.delay",
    "deploy.restart_policy.window",
    "deploy.rollback_config",
    "deploy.update_config",
];

/// Sentences that name what of a service is left out.
pub fn of_service(service: &Service) -> Vec<String> {
    let name = &service.name;
    let mut out: Vec<String> = Vec::new();
    let used: Vec<&str> = ELSEWHERE.into_iter().filter(|path| is_set(&service.json, path)).collect();
    if !used.is_empty() {
        let list = used.join(", ");
        out.push(format!("services.{name}: {list}: no effect on a single machine; left out"));
    }
    let mode = service.spec.deploy.as_ref().map(|d| d.mode.as_str()).unwrap_or_default();
    if !matches!(mode, "" | "replicated" | "global") {
        out.push(format!("services.{name}: deploy.mode {mode:?} is not known here; left out"));
    }
    if !service.spec.models.is_empty() {
        out.push(format!("not implemented yet: models (of service {name}); they are left out"));
    }
    out
}

/// Sentences that name what of the secrets and configs is left out.
pub fn of_files(project: &Project) -> Vec<String> {
    let mut out = Vec::new();
    for (section, objects) in [("secrets", &project.secrets), ("configs", &project.configs)] {
        for (name, object) in objects.iter().filter(|(_, object)| !object.external) {
            let keys = [("labels", !object.labels.is_empty()), ("driver_opts", !object.driver_opts.is_empty())];
            for (key, _) in keys.into_iter().filter(|(_, set)| *set) {
                out.push(format!("{section}.{name}: {key}: no effect without a store of {section}; left out"));
            }
        }
    }
    out
}

/// True if there is something at a dotted path.
fn is_set(json: &Json, path: &str) -> bool {
    let found = path.split('.').try_fold(json, |json, key| json.get(key));
    match found {
        None | Some(Json::Null) => false,
        Some(Json::Object(map)) => !map.is_empty(),
        Some(Json::Array(list)) => !list.is_empty(),
        Some(Json::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}
