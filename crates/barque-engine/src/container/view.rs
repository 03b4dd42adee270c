//! What readers see of a container: an immutable snapshot, replaced as a whole at every change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use barque_model::{Id, Timestamp};
use serde::{Deserialize, Serialize};

use super::health::Health;
use super::spec::{ContainerSpec, PortProto};
use super::state::State;

/// A container as of one moment.
#[derive(Clone, Debug)]
pub struct ContainerView {
    pub id: Id,
    /// Without the leading slash.
    pub name: String,
    pub created_at: Timestamp,
    pub spec: Arc<ContainerSpec>,
    /// The front end's own document, kept as it was given.
    pub document: Arc<str>,
    pub state: State,
    pub restart_count: u32,
    pub health: Option<Health>,
    /// Addresses by network; present while attached, reserved ones also while stopped.
    pub endpoints: Vec<EndpointView>,
    /// Published ports in force.
    pub ports: Vec<PublishedPort>,
    /// Mounts in force, in the order of their targets.
    pub mounts: Vec<MountView>,
    pub exec_ids: Vec<Id>,
    /// Lower layers (top first), upper and work directory.
    pub layers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub log_path: PathBuf,
    pub hostname_path: PathBuf,
    pub hosts_path: PathBuf,
    pub resolv_conf_path: PathBuf,
    /// Argument vector of the first process.
    pub argv: Vec<String>,
    pub platform: String,
    pub image_manifest: Option<String>,
    /// The last failure of a start.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointView {
    pub network_id: String,
    pub network_name: String,
    pub endpoint_id: String,
    pub gateway: Option<IpAddr>,
    pub gateway6: Option<IpAddr>,
    pub ipv4: Option<IpAddr>,
    pub prefix4: u8,
    pub ipv6: Option<IpAddr>,
    pub prefix6: u8,
    pub mac: String,
    /// As asked for by the user.
    pub wanted_ipv4: Option<IpAddr>,
    pub wanted_ipv6: Option<IpAddr>,
    #[serde(default)]
    pub wanted_link_local: Vec<IpAddr>,
    pub aliases: Vec<String>,
    /// All names the container answers to on this network.
    pub dns_names: Vec<String>,
    pub links: Vec<String>,
    pub driver_opts: BTreeMap<String, String>,
    pub gw_priority: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    pub container: PortProto,
    pub host_ip: IpAddr,
    pub host_port: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountView {
    /// `bind`, `volume`, `tmpfs`, `image`.
    pub kind: String,
    /// Volume name.
    pub name: Option<String>,
    /// Host path.
    pub source: PathBuf,
    pub target: String,
    pub driver: Option<String>,
    pub mode: String,
    pub read_write: bool,
    pub propagation: String,
    pub anonymous: bool,
}
