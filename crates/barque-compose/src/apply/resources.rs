//! Networks and volumes of a project.

use std::collections::BTreeMap;

use barque_api::network::{Ipam, IpamConfig, NetworkCreateRequest};
use barque_api::volume::VolumeCreateRequest;
use barque_model::Error;

use super::body::model_error;
use super::engine::Engine;
use super::progress::{Progress, Status};
use crate::file::hash;
use crate::file::model::{Network, Volume};
use crate::file::project::{Project, Resource};
use crate::plan::labels;
use crate::plan::observed::Observed;

/// Checks that external networks and volumes are there.
///
/// # Errors
/// The first one that is not, in Docker Compose's words.
pub fn check_external(project: &Project, observed: &Observed) -> Result<(), Error> {
    for network in project.networks.values().filter(|n| n.spec.external) {
        let name = &network.spec.name;
        let by_id = || observed.networks.values().any(|n| n.id.starts_with(name.as_str()) && name.len() >= 12);
        if !observed.networks.contains_key(name) && !by_id() {
            return Err(Error::not_found(format!("network {name} declared as external, but could not be found"))
                .with_hint(format!("make it: docker network create {name}")));
        }
    }
    for volume in project.volumes.values().filter(|v| v.spec.external) {
        if !observed.volumes.contains_key(&volume.spec.name) {
            let name = &volume.spec.name;
            return Err(Error::not_found(format!("external volume {name:?} not found"))
                .with_hint(format!("make it: docker volume create {name}")));
        }
    }
    Ok(())
}

fn labels_of(
    own: &BTreeMap<String, String>,
    project: &Project,
    key: (&str, &str),
    (json, hash): (&serde_json::Value, String),
    version: &str,
) -> Option<BTreeMap<String, String>> {
    let mut out = own.clone();
    out.insert(key.0.to_owned(), key.1.to_owned());
    out.insert(labels::PROJECT.to_owned(), project.name.clone());
    out.insert(labels::VERSION.to_owned(), version.to_owned());
    out.insert(labels::HASH.to_owned(), hash);
    out.insert(labels::CONFIG.to_owned(), crate::file::gojson::to_string(json));
    Some(out)
}

/// The request that makes the network of a key.
pub fn network_request(
    project: &Project,
    key: &str,
    network: &Resource<Network>,
    version: &str,
) -> NetworkCreateRequest {
    let spec = &network.spec;
    let pools: Vec<IpamConfig> = spec
        .ipam
        .config
        .iter()
        .map(|p| IpamConfig {
            subnet: p.subnet.clone(),
            ip_range: p.ip_range.clone(),
            gateway: p.gateway.clone(),
            auxiliary_addresses: (!p.aux_addresses.is_empty()).then(|| p.aux_addresses.clone()),
        })
        .collect();
    let options = (!spec.ipam.options.is_empty()).then(|| spec.ipam.options.clone());
    let ipam = (!pools.is_empty() || !spec.ipam.driver.is_empty() || options.is_some()).then(|| Ipam {
        driver: if spec.ipam.driver.is_empty() { "default".to_owned() } else { spec.ipam.driver.clone() },
        options,
        config: Some(pools),
    });
    NetworkCreateRequest {
        name: spec.name.clone(),
        check_duplicate: true,
        driver: if spec.driver.is_empty() { "bridge".to_owned() } else { spec.driver.clone() },
        enable_ipv4: spec.enable_ipv4,
        enable_ipv6: spec.enable_ipv6,
        ipam,
        internal: spec.internal,
        attachable: spec.attachable,
        options: (!spec.driver_opts.is_empty()).then(|| spec.driver_opts.clone()),
        labels: labels_of(
            &spec.labels,
            project,
            (labels::NETWORK, key),
            (&network.json, hash::network(&network.json)),
            version,
        ),
        ..NetworkCreateRequest::default()
    }
}

/// Makes the network of a key.
///
/// # Errors
/// The engine's refusal.
pub async fn create_network(
    engine: &Engine,
    progress: &Progress,
    project: &Project,
    key: &str,
    version: &str,
) -> Result<(), Error> {
    let Some(network) = project.networks.get(key) else { return Ok(()) };
    let spec = &network.spec;
    let id = format!("Network {}", spec.name);
    progress.working(&id, "Creating");
    let request = network_request(project, key, network, version);
    match engine.create_network(&request).await {
        Ok(_) => {
            progress.done(&id, "Created");
            Ok(())
        }
        Err(e) => {
            progress.event(&id, "Error", Status::Error);
            Err(model_error(&e).context(format!("failed to create network {}", spec.name)))
        }
    }
}

/// The request that makes a network like one that is gone.
pub fn same_again(old: &barque_api::network::Network) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: old.name.clone(),
        check_duplicate: true,
        driver: old.driver.clone(),
        enable_ipv4: old.enable_ipv4,
        enable_ipv6: Some(old.enable_ipv6),
        ipam: Some(old.ipam.clone()),
        internal: old.internal,
        attachable: old.attachable,
        options: old.options.clone(),
        labels: old.labels.clone(),
        ..NetworkCreateRequest::default()
    }
}

/// The request that makes the volume of a key.
pub fn volume_request(project: &Project, key: &str, volume: &Resource<Volume>, version: &str) -> VolumeCreateRequest {
    let spec = &volume.spec;
    VolumeCreateRequest {
        name: spec.name.clone(),
        driver: spec.driver.clone(),
        driver_opts: (!spec.driver_opts.is_empty()).then(|| spec.driver_opts.clone()),
        labels: labels_of(
            &spec.labels,
            project,
            (labels::VOLUME, key),
            (&volume.json, hash::volume(&volume.json)),
            version,
        ),
        ..VolumeCreateRequest::default()
    }
}

/// Makes the volume of a key.
///
/// # Errors
/// The engine's refusal.
pub async fn create_volume(
    engine: &Engine,
    progress: &Progress,
    project: &Project,
    key: &str,
    version: &str,
) -> Result<(), Error> {
    let Some(volume) = project.volumes.get(key) else { return Ok(()) };
    let spec = &volume.spec;
    let id = format!("Volume {:?}", spec.name);
    progress.working(&id, "Creating");
    let request = volume_request(project, key, volume, version);
    match engine.create_volume(&request).await {
        Ok(()) => {
            progress.done(&id, "Created");
            Ok(())
        }
        Err(e) => {
            progress.event(&id, "Error", Status::Error);
            Err(model_error(&e).context(format!("failed to create volume {}", spec.name)))
        }
    }
}
