//! `POST /containers/create`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{ContainerConfig, HostConfig};
use crate::json;
use crate::network::NetworkingConfig;

/// Body of `POST /containers/create`: a [`ContainerConfig`] with two more keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ContainerCreateRequest {
    #[serde(flatten)]
    pub config: ContainerConfig,
    #[serde(rename = "HostConfig", skip_serializing_if = "Option::is_none")]
    pub host_config: Option<HostConfig>,
    #[serde(rename = "NetworkingConfig", skip_serializing_if = "Option::is_none")]
    pub networking_config: Option<NetworkingConfig>,
}

impl<'de> Deserialize<'de> for ContainerCreateRequest {
    // In two passes: serde's `flatten` would bypass the lenient rules.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "PascalCase")]
        struct Rest {
            host_config: Option<HostConfig>,
            networking_config: Option<NetworkingConfig>,
        }
        let value = serde_json::Value::deserialize(deserializer)?;
        let config = json::from_value(&value).map_err(D::Error::custom)?;
        let rest: Rest = json::from_value(&value).map_err(D::Error::custom)?;
        Ok(ContainerCreateRequest { config, host_config: rest.host_config, networking_config: rest.networking_config })
    }
}

/// Reply of `POST /containers/create`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerCreateResponse {
    pub id: String,
    /// Always a list.
    pub warnings: Vec<String>,
}

crate::query! {
    /// Query of `POST /containers/create`.
    pub struct ContainerCreateQuery {
        /// The container's name.
        name: String => "name",
        /// `os/arch[/variant]` (1.41).
        platform: String => "platform",
    }
}
