//! Disk usage by kind, for `system df`.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use barque_model::{ChainId, DiffId, Digest, Id, ImageId, Result};
use barque_sys::rootdir::{Dir, FileKind};

use crate::Store;
use crate::db::{Blob, CacheEntry, Image, Layer, Read};
use crate::error::IoContext;
use crate::gc::blocks_below;

/// Bytes by kind. What lies on the disk counts once: at the images, or at the build cache where only that holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Files of the layers of images and of containers whose image is gone.
    pub layers: u64,
    /// Blobs: the layers again as they were sent or are going to be, and what has arrived of those under way.
    pub blobs: u64,
    /// What of `layers` and `blobs` goes with the images that no container uses.
    pub unused: u64,
    /// Per image: all of its layers and blobs, and those that other images have too.
    pub images: Vec<(ImageId, ImageUsage)>,
    /// Per container: its own files.
    pub containers: Vec<(Id, u64)>,
    /// Per volume: its files, where the mount point can be read.
    pub volumes: Vec<(String, u64)>,
    /// Layers that only the build cache holds, and their blobs.
    pub build_cache: u64,
}

/// Bytes of one image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageUsage {
    pub size: u64,
    /// What of `size` are files.
    pub files: u64,
    pub shared: u64,
    /// Containers made from it.
    pub containers: u64,
}

/// Bytes of one record of the build cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheUsage {
    pub size: u64,
    /// Its result belongs to an image or a container too: nothing is freed with the record.
    pub shared: bool,
}

/// What is taken for gone already when something is asked that depends on it.
#[derive(Clone, Debug, Default)]
pub struct Gone {
    pub containers: HashSet<Id>,
    pub images: HashSet<ImageId>,
}

/// What keeps layers and blobs, read at one moment.
struct Holdings {
    images: Vec<Image>,
    layers: HashMap<ChainId, Layer>,
    /// Layers that containers and steps under way stand on.
    snapshots: Vec<ChainId>,
    caches: Vec<CacheEntry>,
    blobs: Vec<Blob>,
    /// By blob: what it unpacks to.
    unpacked: HashMap<Digest, HashSet<DiffId>>,
    /// By blob: the images that came with a manifest which names it.
    named: HashMap<Digest, HashSet<ImageId>>,
}

impl Holdings {
    fn read(r: &Read<'_>, gone: &Gone) -> Result<Holdings> {
        let containers = if gone.containers.is_empty() { Vec::new() } else { r.containers()? };
        let freed: HashSet<Id> =
            containers.iter().filter(|c| gone.containers.contains(&c.id)).filter_map(|c| c.snapshot).collect();
        let (mut unpacked, mut named) = (HashMap::new(), HashMap::new());
        for (digest, diff) in r.blob_diffs()? {
            unpacked.entry(digest).or_insert_with(HashSet::new).insert(diff);
        }
        for (digest, image) in r.blob_images()?.into_iter().filter(|(_, image)| !gone.images.contains(image)) {
            named.entry(digest).or_insert_with(HashSet::new).insert(image);
        }
        Ok(Holdings {
            images: r.images()?.into_iter().filter(|image| !gone.images.contains(&image.id)).collect(),
            layers: r.layers()?.into_iter().map(|l| (l.chain_id, l)).collect(),
            snapshots: r.snapshots()?.into_iter().filter(|s| !freed.contains(&s.id)).filter_map(|s| s.parent).collect(),
            caches: r.cache_entries()?,
            blobs: r.blobs()?,
            unpacked,
            named,
        })
    }

    /// The layer whose directory has the files; `None` for this machine's own.
    fn owner(&self, chain: &ChainId) -> Option<ChainId> {
        let layer = self.layers.get(chain)?;
        let Some(path) = &layer.path else { return Some(*chain) };
        let hex = path.strip_prefix("layers").ok()?.parent()?.to_str()?;
        barque_model::id::from_hex(hex).map(|bytes| ChainId(Digest::from_bytes(bytes)))
    }

    /// All layers that stay as long as `tops` do.
    fn below(&self, tops: impl IntoIterator<Item = ChainId>) -> HashSet<ChainId> {
        let mut found = HashSet::new();
        let mut next: Vec<ChainId> = tops.into_iter().collect();
        while let Some(chain) = next.pop() {
            if let Some(layer) = self.layers.get(&chain)
                && found.insert(chain)
            {
                next.extend(layer.parent.into_iter().chain(self.owner(&chain)));
            }
        }
        found
    }

    fn tops(&self, images: impl Fn(&Image) -> bool) -> Vec<ChainId> {
        self.images.iter().filter(|i| images(i)).filter_map(Image::top).chain(self.snapshots.iter().copied()).collect()
    }

    fn cache_tops(&self) -> impl Iterator<Item = ChainId> {
        self.caches.iter().filter_map(|c| c.layer)
    }

    /// Layers that nothing but the build cache holds.
    fn cached(&self) -> HashSet<ChainId> {
        let others = self.below(self.tops(|_| true));
        let mut cached = self.below(self.cache_tops());
        cached.retain(|chain| !others.contains(chain));
        cached
    }

    /// Bytes of the files in the layer's own directory.
    fn files(&self, chain: &ChainId) -> u64 {
        self.layers.get(chain).filter(|l| l.path.is_none()).map_or(0, |l| l.size)
    }

    /// Whether one of `layers` keeps the blob.
    fn is_of(&self, blob: &Blob, layers: &HashSet<DiffId>) -> bool {
        self.unpacked.get(&blob.digest).is_some_and(|diffs| !diffs.is_disjoint(layers))
    }

    fn diffs<'a>(&self, chains: impl IntoIterator<Item = &'a ChainId>) -> HashSet<DiffId> {
        chains.into_iter().filter_map(|c| self.layers.get(c)).map(|l| l.diff_id).collect()
    }

    /// Bytes of each directory that only the build cache holds, with the blobs of its layer.
    fn cached_bytes(&self) -> HashMap<ChainId, u64> {
        let cached = self.cached();
        let others = self.diffs(self.layers.keys().filter(|c| !cached.contains(*c)));
        let own: Vec<ChainId> = cached.into_iter().filter(|c| self.owner(c) == Some(*c)).collect();
        let mut bytes: HashMap<ChainId, u64> = own.iter().map(|c| (*c, self.files(c))).collect();
        let mut by_diff = HashMap::new();
        for chain in &own {
            by_diff.extend(self.layers.get(chain).map(|l| (l.diff_id, *chain)));
        }
        for blob in self.blobs.iter().filter(|b| !self.named.contains_key(&b.digest) && !self.is_of(b, &others)) {
            let diffs = self.unpacked.get(&blob.digest).into_iter().flatten();
            if let Some(entry) = diffs.filter_map(|d| by_diff.get(d)).next().and_then(|c| bytes.get_mut(c)) {
                *entry += blob.size;
            }
        }
        bytes
    }

    /// Bytes of layers and blobs that go when the images do which `gone` says.
    fn freed(&self, gone: impl Fn(&Image) -> bool) -> u64 {
        let kept = self.below(self.tops(|i| !gone(i)).into_iter().chain(self.cache_tops()));
        let diffs = self.diffs(&kept);
        let staying: HashSet<ImageId> = self.images.iter().filter(|i| !gone(i)).map(|i| i.id).collect();
        let named = |b: &Blob| self.named.get(&b.digest).is_some_and(|images| !images.is_disjoint(&staying));
        let layers: u64 = self.layers.keys().filter(|c| !kept.contains(c)).map(|c| self.files(c)).sum();
        let blobs = self.blobs.iter().filter(|b| !named(b) && !self.is_of(b, &diffs));
        layers + blobs.map(|b| b.size).sum::<u64>()
    }

    /// Size and what of it other images have too.
    fn image_sizes(&self) -> HashMap<ImageId, (u64, u64)> {
        let mut parts: Vec<(ImageId, HashMap<String, u64>)> = Vec::new();
        for image in &self.images {
            let diffs = image.layers.iter().map(|l| l.diff_id).collect();
            let named = |b: &Blob| self.named.get(&b.digest).is_some_and(|images| images.contains(&image.id));
            let mut own: HashMap<String, u64> = image.layers.iter().map(|l| (l.chain_id.to_string(), l.size)).collect();
            let blobs = self.blobs.iter().filter(|b| named(b) || self.is_of(b, &diffs));
            own.extend(blobs.map(|b| (format!("blob {}", b.digest), b.size)));
            parts.push((image.id, own));
        }
        let mut owners: HashMap<String, u32> = HashMap::new();
        for key in parts.iter().flat_map(|(_, own)| own.keys()) {
            *owners.entry(key.clone()).or_default() += 1;
        }
        let shared = |(key, size): (&String, &u64)| if owners.get(key).is_some_and(|n| *n > 1) { *size } else { 0 };
        parts.iter().map(|(id, own)| (*id, (own.values().sum(), own.iter().map(shared).sum()))).collect()
    }
}

impl Store {
    /// Walks snapshots and volumes: slow on big ones.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let (holdings, containers, volumes) =
            self.read(|r| Ok((Holdings::read(r, &Gone::default())?, r.containers()?, r.volumes()?)))?;
        let sizes = holdings.image_sizes();
        let used: HashSet<ImageId> = containers.iter().filter_map(|c| c.image).collect();
        let images = holdings.images.iter().map(|image| {
            let (size, shared) = sizes.get(&image.id).copied().unwrap_or_default();
            let containers = containers.iter().filter(|c| c.image == Some(image.id)).count() as u64;
            (image.id, ImageUsage { size, files: image.size, shared, containers })
        });
        let size_rw = |snapshot: Option<Id>| snapshot.map_or(Ok(0), |s| self.snapshot_size(&s));
        let build_cache: u64 = holdings.cached_bytes().values().sum();
        let cached_files: u64 = holdings.cached().iter().map(|c| holdings.files(c)).sum();
        let files: u64 = holdings.layers.keys().map(|c| holdings.files(c)).sum();
        let blobs: u64 = holdings.blobs.iter().map(|b| b.size).sum();
        let arriving = blocks_below(&self.inner.paths.ingests());
        Ok(DiskUsage {
            layers: files.saturating_sub(cached_files),
            blobs: (blobs + arriving).saturating_sub(build_cache.saturating_sub(cached_files)),
            unused: holdings.freed(|image| !used.contains(&image.id)) + arriving,
            images: images.collect(),
            containers: containers
                .iter()
                .map(|c| size_rw(c.snapshot).map(|size| (c.id, size)))
                .collect::<Result<_>>()?,
            volumes: volumes.iter().map(|v| (v.name.clone(), directory_size(&v.mountpoint).unwrap_or(0))).collect(),
            build_cache,
        })
    }

    /// Bytes of all layers and blobs of each image, and what of them other images have too.
    pub fn image_sizes(&self) -> Result<HashMap<ImageId, (u64, u64)>> {
        Ok(self.read(|r| Holdings::read(r, &Gone::default()))?.image_sizes())
    }

    /// Bytes that are freed when these images go, and nothing else does but what is `gone` already.
    pub fn images_would_free(&self, images: &HashSet<ImageId>, gone: &Gone) -> Result<u64> {
        Ok(self.read(|r| Holdings::read(r, gone))?.freed(|image| images.contains(&image.id)))
    }

    /// Bytes of each record of the build cache, by its key. Where several records have one result, it counts at the one
    /// used last, which is the one that keeps it; and so does a layer below that nothing has a record of.
    pub fn cache_usage(&self, gone: &Gone) -> Result<HashMap<String, CacheUsage>> {
        let holdings = self.read(|r| Holdings::read(r, gone))?;
        Ok(cache_usage(&holdings))
    }
}

fn cache_usage(holdings: &Holdings) -> HashMap<String, CacheUsage> {
    let mut left = holdings.cached_bytes();
    let mine: HashSet<ChainId> = left.keys().copied().collect();
    let mut usage = HashMap::new();
    for entry in holdings.caches.iter().rev() {
        let owner = entry.layer.and_then(|chain| holdings.owner(&chain));
        let shared = entry.layer.is_some() && !owner.is_some_and(|o| mine.contains(&o));
        let size = match owner {
            // A step that made nothing names the layer of the one before.
            Some(owner) if !shared && entry.size > 0 => left.remove(&owner).unwrap_or(0),
            _ if shared => entry.size,
            _ => 0,
        };
        usage.insert(entry.key.clone(), CacheUsage { size, shared });
    }
    for entry in holdings.caches.iter().rev() {
        if left.is_empty() {
            break;
        }
        let more: u64 = holdings.below(entry.layer).iter().filter_map(|c| left.remove(c)).sum();
        if let Some(usage) = usage.get_mut(&entry.key).filter(|_| more > 0) {
            usage.size += more;
        }
    }
    usage
}

/// Bytes in all files below `path`, as Docker counts them: directories have none, holes count, and a file with several
/// names counts once. Names that vanish meanwhile are passed over, and nothing there is 0.
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
                    // Each waiting directory costs a descriptor; deep trees are walked depth first.
                    if let Ok(sub) = dir.subdir(&entry.name) {
                        stack.push(sub);
                    }
                }
                FileKind::Regular if stat.links > 1 && !seen.insert((stat.device, stat.inode)) => {}
                _ => total += stat.size,
            }
        }
    }
    Ok(total)
}
