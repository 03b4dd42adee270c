//! What callers ask of volumes and see of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use barque_model::{Id, Timestamp};

#[derive(Clone, Debug, Default)]
pub struct CreateVolume {
    /// `None`: a random name.
    pub name: Option<String>,
    /// Empty is `local`.
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct VolumeView {
    pub name: String,
    pub driver: String,
    pub created_at: Timestamp,
    pub mountpoint: PathBuf,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub anonymous: bool,
    /// Containers that use it, running or not.
    pub used_by: Vec<Id>,
}
