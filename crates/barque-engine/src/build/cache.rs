//! The build cache in the store: records as rows, derived data as files.

use std::path::PathBuf;

use barque_build::cache::{Cache, CacheRecord, StepIdentity};
use barque_model::{ChainId, Context, Digest, Error, Result};
use barque_store::CacheEntry;

use crate::Engine;

/// Bytes of one piece of derived data.
const BLOB_MAX: usize = 64 << 20;

pub struct EngineCache {
    engine: Engine,
}

impl EngineCache {
    pub fn new(engine: Engine) -> Self {
        EngineCache { engine }
    }

    fn blob_path(&self, name: &str) -> PathBuf {
        let hex = Digest::of(name.as_bytes()).hex();
        self.engine.config().data_root.join("build-data").join(hex)
    }

    fn chain(record: &CacheRecord) -> Option<ChainId> {
        record.layer.snapshot.parse().ok()
    }
}

impl Cache for EngineCache {
    fn get(&self, key: &Digest) -> Result<Option<CacheRecord>> {
        let hex = key.hex();
        let Some(entry) = self.engine.store().read(|r| r.cache_get(&hex))? else { return Ok(None) };
        let record = CacheRecord::decode(entry.record.as_bytes());
        if record.is_some() {
            self.engine.store().write(|tx| tx.cache_touch(&hex))?;
        }
        Ok(record)
    }

    fn put(&self, record: &CacheRecord) -> Result<()> {
        let text =
            String::from_utf8(record.encode()).map_err(|_| Error::internal("a build cache record is not text"))?;
        let entry = CacheEntry {
            key: record.key.hex(),
            record: text,
            layer: Self::chain(record),
            size: record.layer.size,
            created_at: record.created,
            last_used: record.created,
            uses: 1,
        };
        self.engine.store().write(|tx| tx.cache_put(&entry))
    }

    fn nearest(&self, step: &StepIdentity) -> Result<Option<CacheRecord>> {
        let entries = self.engine.store().read(|r| r.cache_entries())?;
        let records = entries.iter().filter_map(|e| CacheRecord::decode(e.record.as_bytes()));
        let likeness = |r: &CacheRecord| {
            let place = r.step.scope == step.scope && r.step.stage == step.stage;
            match () {
                () if place && r.step.instruction == step.instruction => 3,
                () if place && r.step.ordinal == step.ordinal => 2,
                () if r.step.instruction == step.instruction => 1,
                () => 0,
            }
        };
        Ok(records.filter(|r| likeness(r) > 0).max_by_key(|r| (likeness(r), r.created)))
    }

    fn blob(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match std::fs::read(self.blob_path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::from(e).context("cannot read the build's data")),
        }
    }

    fn put_blob(&self, name: &str, bytes: &[u8]) -> Result<()> {
        if bytes.len() > BLOB_MAX {
            return Ok(());
        }
        let path = self.blob_path(name);
        let dir = path.parent().map_or_else(PathBuf::new, PathBuf::from);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // A name of its own, so that two builds at once never see half a file.
        let fresh = dir.join(format!(".{}", barque_model::Id::random()));
        std::fs::write(&fresh, bytes).context("cannot write the build's data")?;
        std::fs::rename(&fresh, &path).context("cannot write the build's data")
    }
}
