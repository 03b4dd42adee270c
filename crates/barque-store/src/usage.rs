//! Disk usage by kind, for `system df`.

use barque_model::{Error, Id, ImageId, Result};

use crate::Store;

/// Bytes by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Files of all layers.
    pub layers: u64,
    /// Compressed blobs and kept documents.
    pub blobs: u64,
    /// Per image: all of its layers, and those of its layers that other images have too.
    pub images: Vec<(ImageId, ImageUsage)>,
    /// Per container snapshot: its own files.
    pub containers: Vec<(Id, u64)>,
    /// Per volume: its files, where the mount point can be read.
    pub volumes: Vec<(String, u64)>,
    /// Layers that only the build cache holds.
    pub build_cache: u64,
}

/// Bytes of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageUsage {
    pub size: u64,
    pub shared: u64,
    /// Containers made from it.
    pub containers: u64,
}

impl Store {
    /// Walks snapshots and volumes: slow on big ones.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        Err(Error::not_implemented("disk_usage"))
    }
}
