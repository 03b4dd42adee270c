//! Documents of a real dockerd (20.10, API 1.41) decode and encode back to what they were.
//!
//! Ids and paths in `fixtures/` are made up; keys, types, `null`s and omissions are the daemon's.

use std::path::Path;

use barque_api::container::*;
use barque_api::{error, event, exec, image, json, network, system, volume};
use serde_json::Value;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// Lists where two documents differ, as JSON pointers.
fn differences(path: &str, want: &Value, have: &Value, out: &mut Vec<String>) {
    match (want, have) {
        (Value::Object(want), Value::Object(have)) => {
            for (key, value) in want {
                match have.get(key) {
                    Some(other) => differences(&format!("{path}/{key}"), value, other, out),
                    None => out.push(format!("{path}/{key} missing, was {value}")),
                }
            }
            for key in have.keys().filter(|key| !want.contains_key(*key)) {
                out.push(format!("{path}/{key} added"));
            }
        }
        (Value::Array(want), Value::Array(have)) if want.len() == have.len() => {
            for (i, (want, have)) in want.iter().zip(have).enumerate() {
                differences(&format!("{path}/{i}"), want, have, out);
            }
        }
        _ if want == have => {}
        _ => out.push(format!("{path} is {have}, was {want}")),
    }
}

/// Decodes, encodes and compares; `gone` are keys of old API versions that are deliberately dropped.
fn round_trip<T: serde::de::DeserializeOwned + serde::Serialize>(text: &str, gone: &[&str]) -> T {
    let decoded: T = json::from_str(text).unwrap();
    let want: Value = serde_json::from_str(text).unwrap();
    let mut found = Vec::new();
    differences("", &want, &serde_json::to_value(&decoded).unwrap(), &mut found);
    found.retain(|line| !gone.iter().any(|key| line.contains(&format!("/{key} "))));
    assert!(found.is_empty(), "{found:#?}");
    decoded
}

/// Zero values and nulls that newer daemons leave out and older clients take for absent, and a key newer ones add.
const GONE: &[&str] =
    &["KernelMemory", "KernelMemoryTCP", "SecondaryIPAddresses", "SecondaryIPv6Addresses", "DNSNames"];

#[test]
fn inspected_containers() {
    let running: ContainerInspect = round_trip(&fixture("container-inspect-running.json"), GONE);
    assert_eq!(running.host_config.resources.nano_cpus, 1_500_000_000);
    assert_eq!(running.state.health.unwrap().status, "healthy");
    assert_eq!(running.network_settings.networks["mynet"].as_ref().unwrap().ip_address, "10.77.0.9");
    let created: ContainerInspect = round_trip(&fixture("container-inspect-created.json"), GONE);
    assert_eq!(created.state.started_at, barque_api::time::ZERO);
    let exited: ContainerInspect = round_trip(&fixture("container-inspect-exited.json"), GONE);
    assert_eq!((exited.state.status.as_str(), exited.state.exit_code), ("exited", 1));
}

#[test]
fn listed_containers() {
    let list: Vec<ContainerSummary> = round_trip(&fixture("container-list.json"), GONE);
    assert_eq!(list.len(), 3);
    round_trip::<Vec<ContainerSummary>>(&fixture("container-list-size.json"), GONE);
}

#[test]
fn small_container_documents() {
    let stats: ContainerStats = round_trip(&fixture("container-stats.json"), &[]);
    assert!(stats.cpu_stats.cpu_usage.total_usage > 0 && stats.networks.unwrap().contains_key("eth0"));
    round_trip::<ContainerStats>(&fixture("container-stats-stopped.json"), &[]);
    round_trip::<TopResponse>(&fixture("container-top.json"), &[]);
    let changes: Option<Vec<Change>> = round_trip(&fixture("container-changes.json"), &[]);
    assert!(!changes.unwrap().is_empty());
    assert_eq!(round_trip::<Option<Vec<Change>>>(&fixture("container-changes-none.json"), &[]), None);
    round_trip::<error::ErrorResponse>(&fixture("error-404.json"), &[]);
}

#[test]
fn execs() {
    round_trip::<exec::ExecCreateResponse>(&fixture("exec-create.json"), &[]);
    let inspect: exec::ExecInspect = round_trip(&fixture("exec-inspect.json"), &[]);
    assert_eq!((inspect.exit_code, inspect.running), (Some(0), false));
    let new: exec::ExecInspect = round_trip(&fixture("exec-inspect-new.json"), &[]);
    assert_eq!(new.exit_code, None);
}

#[test]
fn images() {
    // A list since 1.44, empty instead of null.
    round_trip::<Vec<image::ImageSummary>>(&fixture("image-list.json"), &["RepoDigests"]);
    round_trip::<Vec<image::HistoryItem>>(&fixture("image-history.json"), &[]);
    // `Config` repeats container fields in old versions; the daemon adds those (see ImageConfig).
    let container_fields = [
        "Hostname",
        "Domainname",
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "OpenStdin",
        "StdinOnce",
        "Image",
        "User",
        "WorkingDir",
        "Volumes",
        "Entrypoint",
        "OnBuild",
    ];
    let inspect: image::ImageInspect = round_trip(&fixture("image-inspect.json"), &container_fields);
    assert_eq!(inspect.config.unwrap().cmd.unwrap(), ["sh"]);
}

#[test]
fn networks_and_volumes() {
    round_trip::<Vec<network::Network>>(&fixture("network-list.json"), &[]);
    let inspect: network::Network = round_trip(&fixture("network-inspect.json"), &[]);
    assert_eq!(inspect.ipam.config.unwrap()[0].gateway, "10.77.0.1");
    round_trip::<network::Network>(&fixture("network-bridge.json"), &[]);
    round_trip::<volume::VolumeListResponse>(&fixture("volume-list.json"), &[]);
    round_trip::<volume::VolumeListResponse>(&fixture("volume-list-empty.json"), &[]);
    round_trip::<volume::Volume>(&fixture("volume-inspect.json"), &[]);
}

#[test]
fn the_system() {
    let gone = ["KernelMemoryTCP", "CDISpecDirs"];
    let info: system::Info = round_trip(&fixture("info.json"), &gone);
    assert_eq!((info.ncpu, info.os_type.as_str()), (2, "linux"));
    let version: system::Version = round_trip(&fixture("version.json"), &[]);
    assert_eq!((version.api_version.as_str(), version.min_api_version.as_str()), ("1.41", "1.12"));
    round_trip::<system::DiskUsage>(&fixture("system-df.json"), &["DNSNames", "RepoDigests", "BuildCache"]);
}

#[test]
fn events() {
    let text = fixture("events.json");
    for line in text.lines() {
        round_trip::<event::EventMessage>(line, &[]);
    }
    assert!(text.lines().count() > 15);
}
