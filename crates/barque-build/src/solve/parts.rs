//! Copies made of several layers, and copies laid on a parent they were not made on.
//!
//! Both need a worker that can [stack](crate::worker::Worker::stack) layers.

use std::sync::Arc;

use barque_model::Result;

use super::keys;
use super::lookup::source_name;
use super::prepare::join_all;
use super::solver::{Failure, Shared, blocking};
use crate::cache::StepIdentity;
use crate::context::{Digested, Part};
use crate::graph::{CopyOp, CopySource, FsRef, Op, Vertex};
use crate::worker::{Layer, SnapshotId, Worker};

/// Parts made at the same time: one copies while another is committed.
const AT_ONCE: usize = 2;

impl<W: Worker> Shared<W> {
    /// `COPY --link`, where it can be made without its parent: names of owners could not be looked up.
    pub(super) fn is_apart(&self, op: &Op) -> bool {
        let Op::Copy(op) = op else { return false };
        let numeric = |text: &String| text.chars().all(|c| c.is_ascii_digit() || c == ':');
        op.link && self.worker.can_stack() && op.chown.as_ref().is_none_or(numeric)
    }

    /// `layers` on top of `parent`, if they were made apart from it.
    pub(super) async fn laid_on(&self, parent: Option<&SnapshotId>, layers: Vec<Layer>) -> Result<Vec<Layer>> {
        let Some(mut below) = parent.cloned() else { return Ok(layers) };
        let mut stacked = Vec::with_capacity(layers.len());
        for layer in layers {
            let layer = match layer.empty {
                true => Layer { snapshot: below.clone(), ..layer },
                false => self.worker.stack(&below, &layer).await?,
            };
            below = layer.snapshot.clone();
            stacked.push(layer);
        }
        Ok(stacked)
    }

    /// Executes a step on `below`; its layers, bottom first.
    pub(super) async fn made(
        self: Arc<Self>,
        vertex: &Vertex,
        below: Option<&SnapshotId>,
        parent_text: &str,
        files: &[Option<Arc<Digested>>],
    ) -> Result<Vec<Layer>, Failure<W>> {
        if let (Op::Copy(op), true, [Some(done)]) = (&vertex.op, self.worker.can_stack(), files)
            && let [CopySource::Path(path)] = op.sources.as_slice()
            && matches!(path.from, FsRef::Context(_))
            && !op.parents
        {
            let (whole, size) = (done.clone(), self.request.options.part_files);
            if let Some(parts) = blocking(move || Ok(whole.split(size))).await? {
                return self.in_parts(vertex, op, below, parent_text, (done, parts)).await;
            }
        }
        Ok(vec![self.execute(vertex, below, files).await?])
    }

    async fn in_parts(
        self: Arc<Self>,
        vertex: &Vertex,
        op: &CopyOp,
        below: Option<&SnapshotId>,
        parent_text: &str,
        (whole, parts): (&Digested, Vec<Part>),
    ) -> Result<Vec<Layer>, Failure<W>> {
        let gate = tokio::sync::Semaphore::new(AT_ONCE);
        let count = parts.len();
        let make = |(number, part): (usize, Part)| {
            let (shared, gate) = (self.clone(), &gate);
            async move {
                let mut inputs = keys::copy(op, parent_text).clamped(shared.graph.epoch);
                for source in &op.sources {
                    inputs.add(source_name(source), part.digest.to_string());
                    if let CopySource::Path(path) = source {
                        inputs.add("treatment", keys::treatment(path));
                    }
                }
                inputs.add("part", format!("{} of {count}", number + 1));
                if let Some(record) = shared.recorded(vertex, &inputs)? {
                    return Ok(Layer::from(&record.layer));
                }
                let _turn = gate.acquire().await;
                let files = Arc::new(whole.part(&part));
                let layer = shared.clone().execute(vertex, below, &[Some(files)]).await?;
                let step = shared.identity(vertex);
                let instruction = format!("{} (part {} of {count})", step.instruction, number + 1);
                // Not the step itself: `--why` compares whole steps.
                let identity = StepIdentity { instruction, ordinal: 0, ..step };
                let record = shared.record(inputs.key(), identity, inputs.0, std::slice::from_ref(&layer));
                shared.keep(&record, None, &[]);
                Ok(layer)
            }
        };
        let made = join_all(parts.into_iter().enumerate().map(make).collect()).await;
        let made = made.into_iter().collect::<Result<Vec<Layer>, Failure<W>>>()?;
        let (mut empty, mut layers): (Vec<Layer>, Vec<Layer>) = made.into_iter().partition(|l| l.empty);
        if layers.is_empty() {
            // Everything was there already.
            empty.truncate(1);
            return Ok(empty);
        }
        let rest = layers.split_off(1);
        let first = layers.last().map(|l| l.snapshot.clone());
        layers.extend(self.laid_on(first.as_ref(), rest).await?);
        Ok(layers)
    }
}
