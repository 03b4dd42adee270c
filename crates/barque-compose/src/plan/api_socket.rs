//! `use_api_socket`: the engine's socket and the user's logins inside a service's containers.
//!
//! As Docker Compose does it, by keys a file could have too: a bind of the socket, a config with the logins, and the
//! variable that names the config's directory. The service's JSON gets Docker Compose's own words, so that its hash
//! stays the same with an engine that listens elsewhere.

use serde_json::{Value, json};

use super::super::file::model::{FileMount, FileObject, Mount};
use super::super::file::project::{Project, Service};
use super::super::file::schema;

/// Where the engine's socket is, to Docker Compose, and where containers find it.
pub const SOCKET: &str = "/var/run/docker.sock";
/// The name of the config with the logins; no file can have it, since `#` begins a comment.
pub const CONFIG: &str = "#apisocket";
/// The directory of the container that is `DOCKER_CONFIG`.
const DIRECTORY: &str = "/run/secrets/docker";

/// True if a service of the project asks for the socket.
pub fn is_asked(project: &Project) -> bool {
    project.services.values().any(|s| s.spec.use_api_socket)
}

/// Gives the services that ask for it the socket at `socket` and the configuration file `logins`.
pub fn give(project: &mut Project, socket: &str, logins: String) {
    let config = FileObject { name: CONFIG.to_owned(), content: logins, ..FileObject::default() };
    project.configs.insert(CONFIG.to_owned(), config);
    for service in project.services.values_mut().filter(|s| s.spec.use_api_socket) {
        give_one(service, socket);
    }
}

fn give_one(service: &mut Service, socket: &str) {
    let spec = &mut service.spec;
    spec.volumes.push(Mount {
        kind: "bind".to_owned(),
        source: socket.to_owned(),
        target: SOCKET.to_owned(),
        ..Mount::default()
    });
    push(&mut service.json, "volumes", json!({"type": "bind", "source": SOCKET, "target": SOCKET}));
    // who sets the variable knows what they do
    if !spec.environment.contains_key("DOCKER_CONFIG") {
        spec.environment.insert("DOCKER_CONFIG".to_owned(), Some(DIRECTORY.to_owned()));
        set_variable(&mut service.json, "DOCKER_CONFIG", DIRECTORY);
    }
    let target = format!("{DIRECTORY}/config.json");
    push(&mut service.json, "configs", json!({"source": CONFIG, "target": &target}));
    spec.configs.push(FileMount { source: CONFIG.to_owned(), target, ..FileMount::default() });
}

/// Appends to a list of the service, which comes where Docker Compose writes it.
fn push(service: &mut Value, key: &str, item: Value) {
    if let Value::Array(list) = at(service, key, json!([])) {
        list.push(item);
    }
}

/// Adds a variable; Go writes maps by key.
fn set_variable(service: &mut Value, name: &str, value: &str) {
    if let Value::Object(map) = at(service, "environment", json!({})) {
        let index = map.keys().take_while(|key| key.as_str() < name).count();
        map.shift_insert(index, name.to_owned(), value.into());
    }
}

/// The value of a key of the service, `empty` if it had none.
fn at<'a>(service: &'a mut Value, key: &str, empty: Value) -> &'a mut Value {
    let Value::Object(map) = service else { return service };
    let order = |key: &str| schema::SERVICE.fields.iter().position(|f| f.key == key);
    let index = map.keys().take_while(|known| order(known) < order(key)).count();
    if map.get(key).is_none_or(Value::is_null) {
        map.shift_remove(key);
        map.shift_insert(index, key.to_owned(), empty);
    }
    &mut map[key]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_the_logins_and_the_variable_are_given() {
        let mut project = Project::default();
        for (name, asks, environment) in [("a", true, json!({"Z": "1", "A": "1"})), ("b", false, json!({}))] {
            let json = json!({"command": null, "environment": environment, "image": "x", "use_api_socket": asks});
            let mut spec: crate::file::model::ServiceSpec = serde_json::from_value(json.clone()).expect("a service");
            spec.command = None;
            project.services.insert(name.to_owned(), Service { name: name.to_owned(), json, spec });
        }
        assert!(is_asked(&project));
        give(&mut project, "/run/barque/barque.sock", "{}".to_owned());
        let service = &project.services["a"];
        assert_eq!(service.spec.volumes[0].source, "/run/barque/barque.sock");
        assert_eq!(service.spec.environment["DOCKER_CONFIG"].as_deref(), Some("/run/secrets/docker"));
        assert_eq!(project.configs[&service.spec.configs[0].source].content, "{}");
        assert_eq!(
            service.json.to_string(),
            r##"{"command":null,"configs":[{"source":"#apisocket","target":"/run/secrets/docker/config.json"}],"environment":{"DOCKER_CONFIG":"/run/secrets/docker","Z":"1","A":"1"},"image":"x","use_api_socket":true,"volumes":[{"type":"bind","source":"/var/run/docker.sock","target":"/var/run/docker.sock"}]}"##
        );
        assert!(project.services["b"].spec.volumes.is_empty());
    }

    #[test]
    fn a_variable_that_is_set_stays() {
        let mut project = Project::default();
        let json = json!({"environment": {"DOCKER_CONFIG": "/mine"}, "use_api_socket": true});
        let spec = serde_json::from_value(json.clone()).expect("a service");
        project.services.insert("a".to_owned(), Service { name: "a".to_owned(), json, spec });
        give(&mut project, SOCKET, String::new());
        assert_eq!(project.services["a"].spec.environment["DOCKER_CONFIG"].as_deref(), Some("/mine"));
    }
}
