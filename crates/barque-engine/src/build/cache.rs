//! The build cache in the store: records as rows, derived data as files.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use barque_build::cache::{Cache, CacheRecord, StepIdentity};
use barque_model::{ChainId, Context, DiffId, Digest, Error, Result};
use barque_store::{CacheEntry, Lease};

use barque_build::event::{BuildEvent, EventSink, LogStream, VertexId, VertexInfo};
use barque_build::options::PullPolicy;
use barque_build::worker::{BaseRequest, ProgressSink, Worker};
use barque_model::Platform;

use super::worker::EngineWorker;
use crate::Engine;

/// Imports of caches are numbered from here, apart from the builder's own work.
const IMPORTS: u32 = 1 << 25;

/// Bytes of one piece of derived data.
const BLOB_MAX: usize = 64 << 20;

pub struct EngineCache {
    engine: Engine,
    /// The build's: results that were found stay until it ends.
    lease: Arc<Lease>,
    /// Records of other machines (`--cache-from`): they count for this build, and stay if they were of use.
    imported: HashMap<Digest, Imported>,
}

/// A record of another machine, and the layers that came with it.
#[derive(Clone)]
pub(super) struct Imported {
    record: CacheRecord,
    layers: Arc<HashMap<DiffId, ChainId>>,
}

impl EngineCache {
    pub fn new(engine: Engine, lease: Arc<Lease>, imported: HashMap<Digest, Imported>) -> Self {
        EngineCache { engine, lease, imported }
    }

    /// Keeps a record's result, with the layers below it, from being removed; `false` if it has been.
    fn hold(&self, record: &CacheRecord) -> Result<bool> {
        match Self::chain(record) {
            Some(chain) => self.engine.store().hold_layer(&self.lease, &chain),
            // Nothing on nothing.
            None => Ok(true),
        }
    }

    /// Lays the layers of an imported step on its own parent: they came in an image, in an order of that. `false` if
    /// the parent is not here.
    fn restore(&self, imported: &Imported) -> Result<bool> {
        let (store, record) = (self.engine.store(), &imported.record);
        let mut below: Option<ChainId> = record.parent().and_then(|p| p.parse().ok());
        for layer in record.layers().iter().filter(|l| !l.empty) {
            let (Some(diff), Ok(chain)) = (layer.diff_id, layer.snapshot.0.parse::<ChainId>()) else {
                return Ok(false);
            };
            if !store.hold_layer(&self.lease, &chain)? {
                let here = below.is_none_or(|b| store.hold_layer(&self.lease, &b).unwrap_or(false));
                match imported.layers.get(&diff).filter(|_| here && ChainId::on(below, diff) == chain) {
                    Some(of) => store.stack_layer(&self.lease, of, below)?,
                    None => return Ok(false),
                };
            }
            below = Some(chain);
        }
        self.hold(record)
    }

    fn blob_path(&self, name: &str) -> PathBuf {
        self.engine.build_data_dir().join(Digest::of(name.as_bytes()).hex())
    }

    fn chain(record: &CacheRecord) -> Option<ChainId> {
        record.layer.snapshot.parse().ok()
    }
}

/// A cache that cannot be written makes later builds slower, not this one wrong.
fn unneeded(result: Result<()>) {
    if let Err(e) = result {
        tracing::warn!("build cache: {}", e.chain());
    }
}

impl Cache for EngineCache {
    fn get(&self, key: &Digest) -> Result<Option<CacheRecord>> {
        let hex = key.hex();
        let Some(entry) = self.engine.store().read(|r| r.cache_get(&hex))? else {
            let Some(imported) = self.imported.get(key) else { return Ok(None) };
            if !self.restore(imported)? {
                return Ok(None);
            }
            unneeded(self.put(&imported.record));
            return Ok(Some(imported.record.clone()));
        };
        let Some(record) = CacheRecord::decode(entry.record.as_bytes()) else { return Ok(None) };
        if !self.hold(&record)? {
            return Ok(None);
        }
        unneeded(self.engine.store().write(|tx| tx.cache_touch(&hex)));
        Ok(Some(record))
    }

    fn imports(&self) -> bool {
        !self.imported.is_empty()
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

    fn has_blob(&self, name: &str) -> Result<bool> {
        Ok(self.blob_path(name).exists())
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

impl Engine {
    /// Files that only make builds faster ([`Cache::blob`]).
    pub(super) fn build_data_dir(&self) -> PathBuf {
        self.config().data_root.join("build-data")
    }

    /// Directories of `RUN --mount=type=cache`.
    pub(crate) fn cache_mounts_dir(&self) -> PathBuf {
        self.config().data_root.join("build-mounts")
    }

    /// Takes over what images know of steps. An image that cannot be had makes the build slow, not wrong.
    pub(super) async fn import_cache(
        &self,
        worker: &EngineWorker,
        names: &[String],
        platform: &Platform,
        events: &EventSink,
    ) -> HashMap<Digest, Imported> {
        let mut known = HashMap::new();
        for (number, name) in names.iter().enumerate() {
            let id = VertexId(IMPORTS + u32::try_from(number).unwrap_or(0));
            let started = std::time::Instant::now();
            let shown = format!("importing cache manifest from {name}");
            events.send(BuildEvent::Announced(VertexInfo { id, name: shown, inputs: Vec::new(), line: 0 }));
            events.send(BuildEvent::Started { vertex: id });
            let line = match self.import_from(worker, name, platform).await {
                Ok(records) => {
                    let count = records.len();
                    for imported in records {
                        let record = &imported.record;
                        for key in [Some(record.key), record.definition].into_iter().flatten() {
                            known.insert(key, imported.clone());
                        }
                    }
                    format!("{count} steps\n")
                }
                Err(e) => format!("nothing imported: {}\n", e.chain()),
            };
            let elapsed = started.elapsed();
            let (stream, data) = (LogStream::Stderr, line.into_bytes());
            events.send(BuildEvent::Log { vertex: id, stream, data, elapsed });
            events.send(BuildEvent::Completed { vertex: id, result: String::new(), elapsed });
        }
        known
    }

    async fn import_from(&self, worker: &EngineWorker, name: &str, platform: &Platform) -> Result<Vec<Imported>> {
        let was_here = worker.is_here(name).await?;
        let request = BaseRequest { reference: name.to_owned(), platform: platform.clone(), platform_explicit: false };
        let image = worker.resolve(&request, PullPolicy::Missing, ProgressSink::new(|_| {})).await?;
        let mut records = barque_build::cache::imported(&image.config);
        let mut layers = HashMap::new();
        for layer in &image.layers {
            let (Some(diff), Ok(chain)) = (layer.diff_id, layer.snapshot.0.parse::<ChainId>()) else { continue };
            // They stay here until the build ends.
            if self.store().hold_layer(&worker.lease, &chain)? {
                layers.insert(diff, chain);
            }
        }
        records.retain(|r| r.layers().iter().all(|l| l.empty || l.diff_id.is_some_and(|d| layers.contains_key(&d))));
        let layers = Arc::new(layers);
        let records = records.into_iter().map(|record| Imported { record, layers: layers.clone() }).collect();
        if !was_here {
            self.image_remove(name, false, false).await?;
        }
        Ok(records)
    }
}
