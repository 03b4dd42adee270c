//! The end of a build: its image, and the one that carries the cache to other machines (`--cache-to`).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use barque_model::{DiffId, ImageId, Result};

use super::BuildOutcome;
use super::definition::Definitions;
use super::finish::{self, LayerFact};
use super::prepare::Internal;
use super::solver::{Done, Shared};
use crate::cache::{CONFIG_KEY, CacheRecord, exported};
use crate::config::{History, ImageConfig};
use crate::event::{BuildEvent, LogStream, VertexId};
use crate::graph::{FsRef, Op};
use crate::worker::{FinishSpec, Layer, SnapshotId, Worker};

fn with_definition(vertex: VertexId, record: &CacheRecord, definitions: &Definitions) -> CacheRecord {
    CacheRecord { definition: definitions.get(vertex.0 as usize).copied().flatten(), ..record.clone() }
}

impl<W: Worker> Shared<W> {
    /// Puts the target's layers and configuration together.
    pub(super) async fn finish(&self, next_internal: u32) -> Result<BuildOutcome> {
        let mut layers = Vec::new();
        let mut records = Vec::new();
        let options = &self.request.options;
        let definitions = match options.inline_cache || options.export_cache {
            true => self.definitions(),
            false => Definitions::new(),
        };
        let mut facts: HashMap<VertexId, LayerFact> = HashMap::new();
        let snapshot = self.snapshot(&self.graph.target).await?;
        let mut at = self.graph.target.vertex();
        while let Some(vertex) = at.and_then(|id| self.graph.vertex(id)) {
            match (self.done(vertex.id).await?, &vertex.op) {
                (Done::Step { layers: own, created, record }, _) => {
                    let changed: Vec<Layer> = own.into_iter().filter(|l| !l.empty).collect();
                    facts.insert(vertex.id, LayerFact { layers: changed.len(), created });
                    records.push(with_definition(vertex.id, &record, &definitions));
                    layers.extend(changed.into_iter().rev());
                }
                (_, Op::Base(image)) => layers.extend(image.layers.iter().rev().cloned()),
                _ => {}
            }
            at = vertex.op.parent().and_then(FsRef::vertex);
        }
        layers.reverse();
        records.reverse();
        let mut config = self.graph.config.clone();
        finish::complete(&mut config, &self.graph.history, |id| facts.get(&id).copied(), self.graph.epoch);
        // What the base says of its own steps is not this image's.
        config.other.remove(CONFIG_KEY);
        let cache_image = match options.export_cache {
            true => Some(self.cache_image(&config, &layers, snapshot.as_ref(), (&records, &definitions)).await?),
            false => None,
        };
        if options.inline_cache {
            config.other.insert(CONFIG_KEY.to_owned(), exported(&records, self.graph.epoch));
        }
        let image = self.store(&config, &layers, snapshot.as_ref(), next_internal).await?;
        Ok(BuildOutcome {
            image,
            cache_image,
            config,
            layers,
            epoch: self.graph.epoch,
            snapshot,
            warnings: self.graph.warnings.clone(),
            unused_build_args: self.graph.unused_build_args.clone(),
            records,
        })
    }

    fn finish_spec(&self, config: &ImageConfig, layers: &[Layer], snapshot: Option<&SnapshotId>) -> FinishSpec {
        let (config, layers, snapshot) = (config.clone(), layers.to_vec(), snapshot.cloned());
        FinishSpec { config, layers, snapshot, epoch: self.graph.epoch }
    }

    async fn store(
        &self,
        config: &ImageConfig,
        layers: &[Layer],
        snapshot: Option<&SnapshotId>,
        next_internal: u32,
    ) -> Result<Option<ImageId>> {
        self.ensure(&self.graph.target).await?;
        if !self.request.options.make_image {
            return Ok(None);
        }
        let export = Internal::start(&self.events, next_internal, "exporting to image".into());
        let spec = self.finish_spec(config, layers, snapshot);
        let image = self.worker.finish(&spec).await;
        if let Ok(image) = &image {
            let line = format!("writing image {} done\n", image);
            self.events.send(BuildEvent::Log {
                vertex: export.vertex(),
                stream: LogStream::Stdout,
                data: line.into_bytes(),
                elapsed: Duration::ZERO,
            });
        }
        export.done(&image);
        let image = image?;
        self.events.send(BuildEvent::Finished { image });
        Ok(Some(image))
    }

    /// An image of the result's layers with `records` in its configuration; with `mode=max` also of those of all
    /// other stages, on top of them: whoever imports it lays each on its own parent again.
    pub(super) async fn cache_image(
        &self,
        config: &ImageConfig,
        layers: &[Layer],
        snapshot: Option<&SnapshotId>,
        (records, definitions): (&[CacheRecord], &Definitions),
    ) -> Result<ImageId> {
        let (mut config, mut layers, mut records) = (config.clone(), layers.to_vec(), records.to_vec());
        let mut top = snapshot.cloned();
        let mut known: HashSet<DiffId> = layers.iter().filter_map(|l| l.diff_id).collect();
        let steps = self.graph.vertices.iter().filter(|v| self.request.options.cache_all && v.op.parent().is_some());
        for vertex in steps {
            // Some may not have been needed.
            let Some(Done::Step { layers: own, created, record }) = self.made_already(vertex.id) else { continue };
            if !records.iter().any(|r| r.key == record.key) {
                records.push(with_definition(vertex.id, &record, definitions));
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
