//! `GET /distribution/{name}/json`: what a registry says of an image.

use serde::{Deserialize, Serialize};

use crate::image::{Descriptor, Platform};

/// Definition `DistributionInspect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DistributionInspect {
    pub descriptor: Descriptor,
    pub platforms: Vec<Platform>,
}
