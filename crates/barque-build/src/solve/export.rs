//! The image that carries the cache to other machines (`--cache-to`).

use std::collections::HashSet;

use barque_model::{DiffId, ImageId, Result};

use super::solver::{Done, Shared};
use crate::cache::{CONFIG_KEY, CacheRecord, exported};
use crate::config::{History, ImageConfig};
use crate::worker::{Layer, SnapshotId, Worker};

impl<W: Worker> Shared<W> {
    /// An image of the result's layers with `records` in its configuration; with `mode=max` also of those of all
    /// other stages, on top of them: whoever imports it lays each on its own parent again.
    pub(super) async fn cache_image(
        &self,
        config: &ImageConfig,
        layers: &[Layer],
        snapshot: Option<&SnapshotId>,
        records: &[CacheRecord],
    ) -> Result<ImageId> {
        let (mut config, mut layers, mut records) = (config.clone(), layers.to_vec(), records.to_vec());
        let mut top = snapshot.cloned();
        let mut known: HashSet<DiffId> = layers.iter().filter_map(|l| l.diff_id).collect();
        let steps = self.graph.vertices.iter().filter(|v| self.request.options.cache_all && v.op.parent().is_some());
        for vertex in steps {
            let Done::Step { layers: own, created, record } = self.done(vertex.id).await? else { continue };
            if !records.iter().any(|r| r.key == record.key) {
                records.push((*record).clone());
            }
            for layer in own.iter().filter(|l| !l.empty && l.diff_id.is_some_and(|d| known.insert(d))) {
                // A result of no layers has nothing to carry others.
                let Some(below) = top.as_ref().filter(|_| self.worker.can_stack()) else { continue };
                let layer = self.worker.stack(below, layer).await?;
                top = Some(layer.snapshot.clone());
                layers.push(layer);
                let created = Some(self.graph.epoch.unwrap_or(created).to_string());
                let created_by = record.step.instruction.clone();
                config.history.push(History { created, created_by, ..History::default() });
            }
        }
        config.other.insert(CONFIG_KEY.to_owned(), exported(&records, self.graph.epoch));
        self.ensure(&self.graph.target).await?;
        self.worker.finish(&self.finish_spec(&config, &layers, top.as_ref())).await
    }
}
