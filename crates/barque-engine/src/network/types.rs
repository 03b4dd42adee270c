//! What callers ask of networks and see of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use barque_model::{Id, Timestamp};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::container::view::EndpointView;

#[derive(Clone, Debug, Default)]
pub struct CreateNetwork {
    pub name: String,
    /// Empty is `bridge`.
    pub driver: String,
    pub internal: bool,
    pub attachable: bool,
    pub ingress: bool,
    /// Nothing but a configuration for others.
    pub config_only: bool,
    /// The network whose configuration this one has.
    pub config_from: Option<String>,
    pub enable_ipv4: Option<bool>,
    pub enable_ipv6: Option<bool>,
    pub pools: Vec<PoolWish>,
    pub ipam_driver: String,
    pub ipam_options: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolWish {
    pub subnet: Option<IpNet>,
    pub ip_range: Option<IpNet>,
    pub gateway: Option<IpAddr>,
    /// Addresses not to give out, by name.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

#[derive(Clone, Debug)]
pub struct NetworkView {
    pub id: Id,
    pub name: String,
    pub created_at: Timestamp,
    pub driver: String,
    pub config_only: bool,
    pub config_from: Option<String>,
    pub internal: bool,
    pub attachable: bool,
    pub enable_ipv4: bool,
    pub enable_ipv6: bool,
    pub pools: Vec<PoolWish>,
    pub ipam_options: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// bridge, host and none, which are always there.
    pub predefined: bool,
    /// Endpoints of running containers: id, name, endpoint.
    pub containers: Vec<(Id, String, EndpointView)>,
}
