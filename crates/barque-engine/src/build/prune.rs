//! The build cache as a list, and what is removed of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use barque_build::cache::CacheRecord;
use barque_model::{Result, Timestamp};
use barque_store::{CacheEntry, CacheUsage, Gone};

use crate::Engine;
use crate::system::BuildCacheEntry;

/// Type of the directories of `RUN --mount=type=cache`.
const CACHE_MOUNT: &str = "exec.cachemount";

/// Age from which data that only makes builds faster is removed.
const DATA_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What to remove, and down to which size. Sizes in bytes; 0 is no wish.
#[derive(Clone, Debug, Default)]
pub struct PruneOptions {
    /// Only say what would go, once that is gone.
    pub dry: Option<Gone>,
    /// Records too whose layers images use: removing them frees nothing.
    pub all: bool,
    /// Keep at least this much, the most recently used.
    pub reserved_space: u64,
    /// Remove the least recently used until no more than this is used.
    pub max_used_space: u64,
    /// Remove the least recently used until the disk has this much free.
    pub min_free_space: u64,
}

impl PruneOptions {
    /// Bytes that may stay, of `used`, with `free` on the disk.
    fn keep(&self, used: u64, free: u64) -> u64 {
        if self.max_used_space == 0 && self.min_free_space == 0 {
            return self.reserved_space;
        }
        let mut keep = if self.max_used_space > 0 { self.max_used_space } else { used };
        if self.min_free_space > free {
            keep = keep.min(used.saturating_sub(self.min_free_space - free));
        }
        keep.max(self.reserved_space)
    }
}

/// Those of `entries` that go so that no more than `keep` of `used` bytes stay, the least recently used first.
fn chosen(mut entries: Vec<BuildCacheEntry>, used: u64, keep: u64) -> Vec<BuildCacheEntry> {
    if keep == 0 {
        return entries;
    }
    entries.sort_by_key(|e| e.last_used_at);
    let mut left = used;
    let enough = |e: &BuildCacheEntry| {
        if left <= keep {
            return false;
        }
        if !e.shared {
            left = left.saturating_sub(e.size);
        }
        true
    };
    entries
        .into_iter()
        .map_while({
            let mut enough = enough;
            move |e| enough(&e).then_some(e)
        })
        .collect()
}

impl Engine {
    /// All records of the build cache and its mounts. Blocking: mounts are walked for their sizes.
    pub(crate) fn build_cache_entries(&self, gone: &Gone) -> Result<Vec<BuildCacheEntry>> {
        let entries = self.store().read(|r| r.cache_entries())?;
        let usage = self.store().cache_usage(gone)?;
        let mut out: Vec<_> =
            entries.into_iter().map(|e| (usage.get(&e.key).copied().unwrap_or_default(), e)).map(record).collect();
        out.extend(self.cache_mounts()?);
        Ok(out)
    }

    fn cache_mounts(&self) -> Result<Vec<BuildCacheEntry>> {
        let mut out = Vec::new();
        let Ok(dir) = std::fs::read_dir(self.cache_mounts_dir()) else { return Ok(out) };
        for entry in dir.flatten().filter(|entry| !super::mounts::is_unfinished(&entry.path())) {
            let time = |t: std::io::Result<std::time::SystemTime>| {
                let since = t.ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
                i64::try_from(since.as_secs()).ok().map(Timestamp::from_secs)
            };
            let meta = entry.metadata().ok();
            out.push(BuildCacheEntry {
                id: entry.file_name().to_string_lossy().into_owned(),
                kind: CACHE_MOUNT.into(),
                description: "cached mount of RUN --mount=type=cache".into(),
                in_use: super::mounts::is_busy(&entry.path()),
                shared: false,
                size: barque_store::directory_size(&entry.path()).unwrap_or(0),
                created_at: meta.as_ref().and_then(|m| time(m.created())).unwrap_or_default(),
                last_used_at: meta.as_ref().and_then(|m| time(m.accessed())),
                usage_count: 1,
            });
        }
        Ok(out)
    }

    /// Data that made builds faster, of which no build has written anew for long, and its bytes: all of it once there
    /// are no records left.
    fn build_data(&self, all: bool) -> Vec<(PathBuf, u64)> {
        let keep = if all { Duration::ZERO } else { DATA_AGE };
        let Ok(dir) = std::fs::read_dir(self.build_data_dir()) else { return Vec::new() };
        let limit = SystemTime::now() - keep;
        let old = dir.flatten().map(|entry| entry.path()).filter(|path| is_older(path, limit));
        let sized = |path: PathBuf| {
            let size = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            (path, size)
        };
        old.map(sized).collect()
    }

    /// Removes that data; gives its bytes.
    fn discard_build_data(&self) -> Result<u64> {
        let mut bytes = 0;
        for (file, size) in self.build_data(self.store().read(|r| r.cache_entries())?.is_empty()) {
            match std::fs::remove_file(&file) {
                Ok(()) => bytes += size,
                Err(e) => tracing::warn!("cannot remove {}: {e}", file.display()),
            }
        }
        Ok(bytes)
    }

    /// Removes records of the build cache for which `wanted` says so; gives keys and bytes.
    pub async fn build_prune(
        &self,
        options: PruneOptions,
        wanted: impl Fn(&BuildCacheEntry) -> bool + Send + 'static,
    ) -> Result<(Vec<String>, u64)> {
        let engine = self.clone();
        self.blocking(move || {
            let entries = engine.build_cache_entries(&options.dry.clone().unwrap_or_default())?;
            let all = entries.len();
            let used = entries.iter().filter(|e| !e.shared).map(|e| e.size).sum();
            let stat = rustix::fs::statvfs(&engine.config().data_root);
            let free = stat.map_or(u64::MAX, |s| s.f_bavail.saturating_mul(s.f_frsize));
            let fits = |e: &BuildCacheEntry| !e.in_use && (options.all || !e.shared) && wanted(e);
            let fitting = entries.into_iter().filter(fits).collect();
            let chosen = chosen(fitting, used, options.keep(used, free));
            if options.dry.is_some() {
                let bytes: u64 = chosen.iter().filter(|e| !e.shared).map(|e| e.size).sum();
                let data = engine.build_data(chosen.len() == all).iter().map(|(_, size)| size).sum::<u64>();
                return Ok((chosen.into_iter().map(|e| e.id).collect(), bytes + data));
            }
            let mut bytes = 0;
            let (mounts, records): (Vec<_>, Vec<_>) = chosen.iter().partition(|e| e.kind == CACHE_MOUNT);
            engine.store().write(|tx| records.iter().try_for_each(|e| tx.cache_delete(&e.id)))?;
            for mount in mounts {
                let dir = engine.cache_mounts_dir().join(&mount.id);
                // A step may have come to use it meanwhile.
                if let Some(_claimed) = super::mounts::claim(&dir) {
                    engine.store().discard_dir(&dir)?;
                    bytes += mount.size;
                }
            }
            bytes += engine.discard_build_data()?;
            // What a build still uses goes with that, and is not gone now.
            bytes += engine.store().collect()?.bytes;
            Ok((chosen.into_iter().map(|e| e.id).collect(), bytes))
        })
        .await
    }
}

/// Whether a file was last written before `time`; `false` if that cannot be told.
fn is_older(path: &Path, time: SystemTime) -> bool {
    std::fs::metadata(path).and_then(|meta| meta.modified()).is_ok_and(|written| written < time)
}

fn record((usage, entry): (CacheUsage, CacheEntry)) -> BuildCacheEntry {
    let record = CacheRecord::decode(entry.record.as_bytes());
    BuildCacheEntry {
        description: record.map(|r| r.step.instruction).unwrap_or_default(),
        id: entry.key,
        kind: "regular".into(),
        in_use: false,
        shared: usage.shared,
        size: usage.size,
        created_at: entry.created_at,
        last_used_at: Some(entry.last_used),
        usage_count: entry.uses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, size: u64, used: i64, shared: bool) -> BuildCacheEntry {
        let last_used_at = Some(Timestamp::from_secs(used));
        BuildCacheEntry { id: id.into(), size, last_used_at, shared, ..BuildCacheEntry::default() }
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let entries = vec![entry("new", 30, 3, false), entry("old", 10, 1, false), entry("mid", 20, 2, false)];
        let ids = |keep| chosen(entries.clone(), 60, keep).into_iter().map(|e| e.id).collect::<Vec<_>>();
        assert_eq!(ids(0).len(), 3);
        assert_eq!(ids(50), ["old"]);
        assert_eq!(ids(45), ["old", "mid"]);
        assert!(ids(60).is_empty());
    }

    #[test]
    fn sizes_to_keep() {
        let keep = |reserved, max, free| {
            let options = PruneOptions {
                reserved_space: reserved,
                max_used_space: max,
                min_free_space: free,
                ..Default::default()
            };
            options.keep(100, 50)
        };
        assert_eq!(keep(0, 0, 0), 0);
        assert_eq!(keep(40, 0, 0), 40);
        assert_eq!(keep(0, 70, 0), 70);
        assert_eq!(keep(80, 70, 0), 80);
        assert_eq!(keep(0, 0, 60), 90);
        assert_eq!(keep(0, 0, 40), 100);
    }
}
