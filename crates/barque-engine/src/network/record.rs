//! A network's definition as it is stored.

use std::collections::BTreeMap;

use barque_model::{Error, Result, Timestamp};
use barque_net::{Driver, NetworkDef};
use serde::{Deserialize, Serialize};

use super::types::PoolWish;

/// Names of the networks that are always there.
pub const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// The `definition` column of a network's row, with the row's own columns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkRecord {
    pub def: NetworkDef,
    /// What a network of this configuration asks for; only with `config_only`.
    #[serde(default)]
    pub wishes: Vec<PoolWish>,
    #[serde(default)]
    pub config_only: bool,
    #[serde(default)]
    pub config_from: Option<String>,
    #[serde(default)]
    pub attachable: bool,
    #[serde(default)]
    pub enable_ipv4: bool,
    #[serde(default)]
    pub enable_ipv6: bool,
    #[serde(default)]
    pub ipam_options: BTreeMap<String, String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub created_at: Timestamp,
}

impl NetworkRecord {
    pub fn predefined(&self) -> bool {
        PREDEFINED.contains(&self.def.name.as_str())
    }

    /// Whether the embedded resolver knows its containers: user-defined networks only.
    pub fn serves_names(&self) -> bool {
        !self.predefined() && !matches!(self.def.driver, Driver::Host | Driver::None)
    }

    pub fn to_row(&self) -> Result<barque_store::Network> {
        Ok(barque_store::Network {
            id: self.def.id,
            name: self.def.name.clone(),
            driver: self.def.driver.name().to_owned(),
            created_at: self.created_at,
            definition: serde_json::to_string(self).map_err(|e| Error::internal(e.to_string()))?,
        })
    }

    pub fn from_row(row: &barque_store::Network) -> Result<NetworkRecord> {
        serde_json::from_str(&row.definition)
            .map_err(|e| Error::internal(format!("the stored definition of network {} is broken: {e}", row.name)))
    }
}
