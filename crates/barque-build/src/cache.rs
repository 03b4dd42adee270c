//! The build cache's interface, its records, and the diff behind `--why`.

use barque_model::{DiffId, Digest, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::worker::{Layer, SnapshotId};

/// Where an image's configuration keeps the records of its steps (`--cache-to`).
pub const CONFIG_KEY: &str = "barque.build.cache";

/// The ingredient of a key that names the snapshot below a step.
pub(crate) const PARENT: &str = "parent";

/// Its value where there is none.
pub(crate) const NO_PARENT: &str = "scratch";

/// Records as a value for [`CONFIG_KEY`]; who reads them elsewhere has no use for this machine's paths.
pub(crate) fn exported(records: &[CacheRecord], created: Option<Timestamp>) -> serde_json::Value {
    let portable = |record: &CacheRecord| {
        let step = StepIdentity { scope: String::new(), ..record.step.clone() };
        CacheRecord { step, created: created.unwrap_or(record.created), ..record.clone() }
    };
    serde_json::to_value(records.iter().map(portable).collect::<Vec<_>>()).unwrap_or_default()
}

/// The records in an image's configuration; none if there are none, or of another version.
pub fn imported(config: &[u8]) -> Vec<CacheRecord> {
    let config: Option<serde_json::Value> = serde_json::from_slice(config).ok();
    let records = config.and_then(|mut c| c.get_mut(CONFIG_KEY).map(serde_json::Value::take));
    records.and_then(|r| serde_json::from_value(r).ok()).unwrap_or_default()
}

/// Persistence of the build cache. Called from async code: answers should come from memory or an indexed
/// table within microseconds.
///
/// `get` and `nearest` must only return records whose snapshot still exists (a foreign key does it).
pub trait Cache: Send + Sync + 'static {
    /// The record of exactly this key.
    fn get(&self, key: &Digest) -> Result<Option<CacheRecord>>;

    /// Whether `get` also answers for records of other machines, by their [`CacheRecord::definition`] too.
    fn imports(&self) -> bool {
        false
    }

    /// Stores a record, replacing one of the same key.
    fn put(&self, record: &CacheRecord) -> Result<()>;

    /// The youngest record that looks like an earlier run of `step`: same scope, stage and instruction text;
    /// else same scope, stage and ordinal; else same instruction text in any scope; else `None`.
    fn nearest(&self, step: &StepIdentity) -> Result<Option<CacheRecord>>;

    /// A named piece of derived data (stat caches of contexts, file lists for `--why`). May be dropped at will.
    fn blob(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Whether [`Cache::blob`] would give something.
    fn has_blob(&self, name: &str) -> Result<bool> {
        Ok(self.blob(name)?.is_some())
    }

    /// Stores derived data under `name`, replacing what was there.
    fn put_blob(&self, name: &str, bytes: &[u8]) -> Result<()>;
}

/// What makes a step "the same step as last time", for explanations only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StepIdentity {
    /// [`crate::options::BuildOptions::scope`].
    pub scope: String,
    /// Stage name, or its number.
    pub stage: String,
    /// Position among the file-system steps of its stage, from 1.
    pub ordinal: u32,
    /// The instruction after expansion, such as `RUN make`.
    pub instruction: String,
}

/// The result of one executed step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRecord {
    pub key: Digest,
    pub step: StepIdentity,
    /// What the key was made of, in order.
    pub inputs: Vec<KeyInput>,
    /// The step's (last) layer.
    pub layer: LayerRecord,
    /// Layers of the same step below that one, bottom first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<LayerRecord>,
    pub created: Timestamp,
    /// A second key for other machines, of instructions where the first is of files that stages made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Digest>,
}

impl CacheRecord {
    /// All layers of the step, bottom first.
    pub fn layers(&self) -> Vec<Layer> {
        self.parts.iter().chain([&self.layer]).map(Layer::from).collect()
    }

    /// The snapshot it was made on; `None` for nothing.
    pub fn parent(&self) -> Option<&str> {
        let input = self.inputs.iter().find(|i| i.name == PARENT)?;
        Some(input.value.as_str()).filter(|value| *value != NO_PARENT)
    }

    /// Bytes for a column or file; [`CacheRecord::decode`] reads them back.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None` for bytes of another version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// A [`Layer`] at rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    pub snapshot: String,
    pub diff_id: Option<DiffId>,
    pub size: u64,
    pub empty: bool,
}

impl From<&Layer> for LayerRecord {
    fn from(layer: &Layer) -> Self {
        LayerRecord { snapshot: layer.snapshot.0.clone(), diff_id: layer.diff_id, size: layer.size, empty: layer.empty }
    }
}

impl From<&LayerRecord> for Layer {
    fn from(record: &LayerRecord) -> Self {
        Layer {
            snapshot: SnapshotId(record.snapshot.clone()),
            diff_id: record.diff_id,
            size: record.size,
            empty: record.empty,
        }
    }
}

/// One ingredient of a cache key: `("parent", chain id)`, `("arg VERSION", "3.7")`, `("files", digest)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInput {
    pub name: String,
    pub value: String,
}
