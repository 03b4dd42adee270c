//! Disk usage by kind, for `system df`.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use barque_model::{ChainId, Id, ImageId, Result};
use barque_sys::rootdir::{Dir, FileKind};

use crate::Store;
use crate::error::IoContext;

/// Bytes by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Files of all layers.
    pub layers: u64,
    /// Compressed blobs.
    pub blobs: u64,
    /// Per image: all of its layers, and those of its layers that other images have too.
    pub images: Vec<(ImageId, ImageUsage)>,
    /// Per container: its own files.
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
        let (images, layers, blobs, containers, volumes, caches) = self
            .read(|r| Ok((r.images()?, r.layers()?, r.blobs()?, r.containers()?, r.volumes()?, r.cache_entries()?)))?;
        let mut owners: HashMap<ChainId, u32> = HashMap::new();
        for image in &images {
            let distinct: HashSet<ChainId> = image.layers.iter().map(|l| l.chain_id).collect();
            for chain in distinct {
                *owners.entry(chain).or_default() += 1;
            }
        }
        let shared = |chain: &ChainId| owners.get(chain).is_some_and(|n| *n > 1);
        let images = images.iter().map(|image| {
            let usage = ImageUsage {
                size: image.layers.iter().map(|l| l.size).sum(),
                shared: image.layers.iter().filter(|l| shared(&l.chain_id)).map(|l| l.size).sum(),
                containers: containers.iter().filter(|c| c.image == Some(image.id)).count() as u64,
            };
            (image.id, usage)
        });
        let parents: HashMap<ChainId, Option<ChainId>> = layers.iter().map(|l| (l.chain_id, l.parent)).collect();
        let cached = cached_only(caches.iter().filter_map(|c| c.layer), &parents, &owners);
        let size_rw = |snapshot: Option<Id>| snapshot.map_or(Ok(0), |s| self.snapshot_size(&s));
        Ok(DiskUsage {
            layers: layers.iter().filter(|l| l.path.is_none()).map(|l| l.size).sum(),
            blobs: blobs.iter().map(|b| b.size).sum(),
            images: images.collect(),
            containers: containers
                .iter()
                .map(|c| size_rw(c.snapshot).map(|size| (c.id, size)))
                .collect::<Result<_>>()?,
            volumes: volumes.iter().map(|v| (v.name.clone(), directory_size(&v.mountpoint).unwrap_or(0))).collect(),
            build_cache: layers.iter().filter(|l| cached.contains(&l.chain_id)).map(|l| l.size).sum(),
        })
    }
}

/// The layers that cache records hold, with those below, but no image does.
fn cached_only(
    tops: impl Iterator<Item = ChainId>,
    parents: &HashMap<ChainId, Option<ChainId>>,
    owners: &HashMap<ChainId, u32>,
) -> HashSet<ChainId> {
    let mut found = HashSet::new();
    for top in tops {
        let mut next = Some(top);
        while let Some(chain) = next.filter(|c| !owners.contains_key(c)) {
            if !found.insert(chain) {
                break;
            }
            next = parents.get(&chain).copied().flatten();
        }
    }
    found
}

/// Bytes on disk of all files below `path`; a file with several names counts once. Names that vanish meanwhile
/// are passed over, and nothing there is 0.
pub fn directory_size(path: &Path) -> Result<u64> {
    let dir = match Dir::open(path) {
        Ok(dir) => dir,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e).at("open", path),
    };
    let mut total = 0u64;
    let mut seen = HashSet::new();
    let mut stack = vec![dir];
    while let Some(dir) = stack.pop() {
        for entry in dir.entries().at("list", path)? {
            let Ok(stat) = dir.lstat(&entry.name) else { continue };
            match stat.kind {
                FileKind::Directory => {
                    total += stat.allocated;
                    // Each waiting directory costs a descriptor; deep trees are walked depth first.
                    if let Ok(sub) = dir.subdir(&entry.name) {
                        stack.push(sub);
                    }
                }
                FileKind::Regular if stat.links > 1 && !seen.insert((stat.device, stat.inode)) => {}
                _ => total += stat.allocated,
            }
        }
    }
    Ok(total)
}
