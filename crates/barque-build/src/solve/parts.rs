//! Copies made of several layers, and copies laid on a parent they were not made on.
//!
//! Both need a worker that can [stack](crate::worker::Worker::stack) layers.

use std::sync::Arc;

use barque_model::Result;

use super::keys::{self, Inputs};
use super::lookup::source_name;
use super::prepare::join_all;
use super::solver::{Failure, Shared, blocking};
use crate::cache::StepIdentity;
use crate::context::{Digested, Part};
use crate::graph::{CopyOp, CopySource, FsRef, Op, Vertex};
use crate::worker::{Layer, SnapshotId, Worker};

/// Parts made at the same time: one copies while another is committed.
const AT_ONCE: usize = 2;

/// Copies of fewer files are quicker made than looked up.
const WORTH_LINKING: usize = 64;

/// Where the newest layer of a copy stands in the cache, whatever its files were.
struct Newest {
    place: Inputs,
    part: String,
    layer: Option<SnapshotId>,
}

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
        let newest = self.newest(vertex, parent_text, "1 of 1", files)?;
        let earlier = newest.as_ref().and_then(|n| n.layer.as_ref());
        let layer = self.clone().execute(vertex, below, files, earlier).await?;
        self.keep_newest(vertex, newest, &layer);
        Ok(vec![layer])
    }

    /// The newest layer that this copy (or part of it) made on the same parent; `None` if links to its files are
    /// not worth while.
    fn newest(
        &self,
        vertex: &Vertex,
        parent_text: &str,
        part: &str,
        files: &[Option<Arc<Digested>>],
    ) -> Result<Option<Newest>> {
        let Op::Copy(op) = &vertex.op else { return Ok(None) };
        let from_context =
            |s: &CopySource| matches!(s, CopySource::Path(path) if matches!(path.from, FsRef::Context(_)));
        let count: usize = files.iter().flatten().flat_map(|f| &f.selected).map(|s| s.entries.len()).sum();
        if count < WORTH_LINKING || !op.sources.iter().all(from_context) {
            return Ok(None);
        }
        let mut place = keys::copy(op, parent_text).clamped(self.graph.epoch);
        place.add("newest of", &self.request.options.scope);
        for source in &op.sources {
            place.add("source", source_name(source));
        }
        place.add("part", part);
        let record = self.recorded(vertex, &place)?.filter(|r| !r.layer.empty);
        let layer = record.map(|r| SnapshotId(r.layer.snapshot));
        Ok(Some(Newest { place, part: part.to_owned(), layer }))
    }

    fn keep_newest(&self, vertex: &Vertex, newest: Option<Newest>, layer: &Layer) {
        if let Some(Newest { place, part, .. }) = newest.filter(|_| !layer.empty) {
            let identity = self.part_identity(vertex, &part);
            self.keep(&self.record(place.key(), identity, place.0, std::slice::from_ref(layer)), None, &[]);
        }
    }

    /// Not that of the step itself: `--why` compares whole steps.
    fn part_identity(&self, vertex: &Vertex, part: &str) -> StepIdentity {
        let step = self.identity(vertex);
        StepIdentity { instruction: format!("{} (part {part})", step.instruction), ordinal: 0, ..step }
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
                let (files, part) = ([Some(files)], format!("{} of {count}", number + 1));
                let newest = shared.newest(vertex, parent_text, &part, &files)?;
                let earlier = newest.as_ref().and_then(|n| n.layer.as_ref());
                let layer = shared.clone().execute(vertex, below, &files, earlier).await?;
                shared.keep_newest(vertex, newest, &layer);
                let identity = shared.part_identity(vertex, &part);
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
