//! Volumes.

use barque_api::volume::{Volume, VolumeCreateRequest, VolumeUsage};
use barque_engine::volume::types::{CreateVolume, VolumeView};
use barque_model::{Error, Result, Timestamp};

/// # Errors
/// Cluster volumes.
pub(crate) fn create(wire: VolumeCreateRequest) -> Result<CreateVolume> {
    if wire.cluster_volume_spec.is_some() {
        return Err(Error::not_implemented("cluster volumes"));
    }
    Ok(CreateVolume {
        name: Some(wire.name).filter(|name| !name.is_empty()),
        driver: wire.driver,
        options: wire.driver_opts.unwrap_or_default(),
        labels: wire.labels.unwrap_or_default(),
    })
}

/// A volume, with its size in bytes if that was computed.
pub(crate) fn volume(view: &VolumeView, size: Option<u64>) -> Volume {
    let present = |map: &std::collections::BTreeMap<String, String>| Some(map.clone()).filter(|map| !map.is_empty());
    let mut labels = present(&view.labels);
    if view.anonymous {
        // The mark that `volume prune` looks for, shown since 23.0.
        labels.get_or_insert_default().entry("com.docker.volume.anonymous".into()).or_default();
    }
    Volume {
        created_at: Timestamp::from_secs(view.created_at.seconds()).to_string(),
        driver: view.driver.clone(),
        labels,
        mountpoint: view.mountpoint.to_string_lossy().into_owned(),
        name: view.name.clone(),
        options: present(&view.options),
        scope: "local".into(),
        status: None,
        usage_data: size.map(|size| VolumeUsage {
            ref_count: i64::try_from(view.used_by.len()).unwrap_or(i64::MAX),
            size: i64::try_from(size).unwrap_or(i64::MAX),
        }),
    }
}
