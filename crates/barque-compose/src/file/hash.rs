//! Configuration hashes as Docker Compose v2 computes them, so that either tool knows the other's containers.

use barque_model::Digest;
use serde_json::Value;

use super::gojson;

/// The versions of the hash Docker Compose has used since its version 2.26. They differ in what is left out and in how
/// two values are written; the same file gives another hash in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Docker Compose 5: `create_host_path: true` is left out.
    V5,
    /// Docker Compose from 2.30 on: `create_host_path: true` is written.
    V2_30,
    /// Docker Compose 2.26: `depends_on` and `profiles` count, modes are numbers, a network's `priority` comes first.
    V2_26,
}

impl Form {
    /// The form of new containers where nothing else is known, and of `config --hash`: that of the version
    /// `compose version` tells.
    pub const WRITTEN: Form = Form::V2_30;

    /// The form in which these hashes of the service's containers are; none if they tell nothing.
    pub fn of<'a>(service: &Value, mut hashes: impl Iterator<Item = &'a str>) -> Option<Form> {
        let all = FORMS.map(|form| (form, self::service(service, form)));
        hashes.find_map(|hash| {
            let fits: Vec<Form> = all.iter().filter(|(_, own)| own == hash).map(|(form, _)| *form).collect();
            if fits.contains(&Form::WRITTEN) { None } else { fits.first().copied() }
        })
    }
}

/// All forms, newest first.
pub const FORMS: [Form; 3] = [Form::V5, Form::V2_30, Form::V2_26];

/// The part of a service the hash is taken over, as JSON.
pub fn hashed(service: &Value, form: Form) -> Value {
    let mut out = service.clone();
    let Some(map) = out.as_object_mut() else { return out };
    for key in ["build", "pull_policy", "scale"] {
        map.shift_remove(key);
    }
    if let Some(deploy) = map.get_mut("deploy").and_then(Value::as_object_mut) {
        deploy.shift_remove("replicas");
    }
    if form != Form::V2_26 {
        map.shift_remove("depends_on");
        map.shift_remove("profiles");
    }
    for mount in map.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(bind) = mount.get_mut("bind").and_then(Value::as_object_mut) else { continue };
        let create = bind.get("create_host_path") == Some(&Value::Bool(true));
        if create == (form == Form::V5) && bind.contains_key("create_host_path") {
            bind.shift_remove("create_host_path");
        }
    }
    if form == Form::V2_26 {
        older(map);
    }
    out
}

fn older(map: &mut serde_json::Map<String, Value>) {
    for (_, network) in map.get_mut("networks").and_then(Value::as_object_mut).into_iter().flatten() {
        let Some(network) = network.as_object_mut() else { continue };
        if let Some(priority) = network.shift_remove("priority") {
            network.shift_insert(0, "priority".to_owned(), priority);
        }
    }
    for key in ["configs", "secrets"] {
        for mount in map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(mode) = mount.get_mut("mode") else { continue };
            if let Some(Ok(number)) = mode.as_str().map(super::units::octal) {
                *mode = Value::from(number);
            }
        }
    }
}

/// The hash of a service's JSON.
pub fn service(service: &Value, form: Form) -> String {
    hex(&hashed(service, form))
}

/// The hash of a network's JSON.
pub fn network(network: &Value) -> String {
    hex(network)
}

/// The hash of a volume's JSON; a volume without a driver has the driver `local`.
pub fn volume(volume: &Value) -> String {
    let Some(map) = volume.as_object() else { return hex(volume) };
    if map.get("driver").and_then(Value::as_str).is_some_and(|d| !d.is_empty()) {
        return hex(volume);
    }
    let mut out = serde_json::Map::new();
    for (key, value) in map {
        out.insert(key.clone(), value.clone());
        if key == "name" {
            out.insert("driver".to_owned(), Value::from("local"));
        }
    }
    hex(&Value::Object(out))
}

fn hex(value: &Value) -> String {
    Digest::of(gojson::to_string(value).as_bytes()).hex()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_form_of_a_project_is_told_by_its_containers() {
        let plain = json!({"image": "x"});
        let hash = service(&plain, Form::V5);
        assert_eq!(hash, service(&plain, Form::V2_26), "most services have the same hash in each form");
        assert_eq!(Form::of(&plain, [hash.as_str()].into_iter()), None);
        let service = json!({"image": "x", "depends_on": {"a": {}},
            "volumes": [{"type": "bind", "bind": {"create_host_path": true}}]});
        for form in FORMS {
            let hashes = ["of another configuration".to_owned(), self::service(&service, form)];
            let told = Form::of(&service, hashes.iter().map(String::as_str));
            assert_eq!(told.unwrap_or(Form::WRITTEN), form);
        }
    }
}
