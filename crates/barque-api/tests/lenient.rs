//! Decoding with Go's rules: null, missing, unknown and differently cased keys.

use barque_api::container::{ContainerCreateRequest, ContainerInspect, ContainerUpdateRequest, HostConfig, Ulimit};
use barque_api::json::{from_slice, from_str};

#[test]
fn null_is_the_default_everywhere() {
    let text = r#"{"Hostname":null,"Tty":null,"Cmd":null,"Env":null,"ExposedPorts":{"80/tcp":null},
        "HostConfig":{"Memory":null,"Binds":null,"PortBindings":{"80/tcp":null,"81/tcp":[{"HostPort":null}]},
        "RestartPolicy":null,"LogConfig":{"Type":null},"Ulimits":[null,{"Name":"nofile","Soft":1}]},
        "NetworkingConfig":{"EndpointsConfig":{"a":null}}}"#;
    let request: ContainerCreateRequest = from_str(text).unwrap();
    assert_eq!(request.config.hostname, "");
    assert!(request.config.exposed_ports.unwrap().contains_key("80/tcp"));
    let host = request.host_config.unwrap();
    assert_eq!(host.resources.memory, 0);
    let ports = host.port_bindings.unwrap();
    assert_eq!(ports["80/tcp"], None);
    assert_eq!(ports["81/tcp"].as_ref().unwrap()[0].host_port, "");
    let nofile = Ulimit { name: "nofile".into(), soft: 1, hard: 0 };
    assert_eq!(host.resources.ulimits.unwrap(), [Ulimit::default(), nofile]);
    let endpoints = request.networking_config.unwrap().endpoints_config.unwrap();
    assert_eq!(endpoints["a"], None);
}

#[test]
fn keys_match_regardless_of_case_and_unknown_ones_are_ignored() {
    let text = r#"{"image":"a","HOSTCONFIG":{"memory":5,"autoremove":true,"New":{"x":[1]}},"Whatever":1}"#;
    let request: ContainerCreateRequest = from_str(text).unwrap();
    assert_eq!(request.config.image, "a");
    let host = request.host_config.unwrap();
    assert_eq!((host.resources.memory, host.auto_remove), (5, true));
}

#[test]
fn a_command_may_be_one_string() {
    let request: ContainerCreateRequest = from_str(r#"{"Cmd":"ls","Entrypoint":[]}"#).unwrap();
    assert_eq!(request.config.cmd.unwrap(), ["ls"]);
    assert_eq!(request.config.entrypoint.unwrap(), Vec::<String>::new());
}

#[test]
fn wrong_types_are_errors_that_name_the_type() {
    let error = from_str::<ContainerCreateRequest>(r#"{"Tty":"yes"}"#).unwrap_err().to_string();
    assert!(error.contains("boolean"), "{error}");
    assert!(from_str::<ContainerCreateRequest>(r#"{"HostConfig":{"Memory":"1g"}}"#).is_err());
    assert!(from_str::<ContainerCreateRequest>("[]").is_err());
    assert!(from_slice::<ContainerCreateRequest>(b"{\"Image\":\"\xff\"}").is_err());
}

#[test]
fn flattened_documents_survive_a_round_trip() {
    let mut host = HostConfig { network_mode: "host".into(), ..HostConfig::default() };
    host.resources.pids_limit = Some(7);
    host.resources.cpuset_cpus = "0-1".into();
    let request = ContainerCreateRequest { host_config: Some(host), ..Default::default() };
    let text = serde_json::to_string(&request).unwrap();
    assert!(text.contains(r#""CpusetCpus":"0-1""#) && !text.contains("resources"), "{text}");
    assert_eq!(from_str::<ContainerCreateRequest>(&text).unwrap(), request);

    let update = ContainerUpdateRequest::default();
    let text = serde_json::to_string(&update).unwrap();
    assert_eq!(from_str::<ContainerUpdateRequest>(&text).unwrap(), update);
    let inspect = ContainerInspect::default();
    let text = serde_json::to_string(&inspect).unwrap();
    assert_eq!(from_str::<ContainerInspect>(&text).unwrap(), inspect);
}

#[test]
fn deep_nesting_is_refused() {
    let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(from_str::<ContainerCreateRequest>(&text).is_err());
}
