//! Steps known by what defines them instead of by what they read.
//!
//! A stage that gives other bytes each time it runs makes every copy from it another step. A cache from elsewhere
//! without that stage's own steps (inline, `mode=min`) would be of no use then: so its records also have a key that
//! names the instructions behind a copy. What is found by it needs none of those to be run.

use std::collections::HashSet;

use barque_model::{Digest, Result};

use super::keys::{self, Inputs};
use super::lookup::{Made, mount_name, source_name};
use super::solver::{Done, Failure, Shared};
use crate::cache::{NO_PARENT, PARENT};
use crate::event::{BuildEvent, VertexId};
use crate::graph::{CopySource, FsRef, Op, PlannedKind, Vertex};
use crate::worker::Worker;

/// Definitions of the graph's vertices, by number; `None` where there is none.
pub(super) type Definitions = Vec<Option<Digest>>;

/// The sources of a step that other vertices made: the ingredient of the key, and what is read of it.
fn sources(op: &Op) -> Vec<(String, VertexId, String)> {
    let of = |name: String, from: &FsRef, what: String| Some((name, from.vertex()?, what));
    match op {
        Op::Run(op) => {
            let mount = |m: &crate::graph::PlannedMount| match &m.kind {
                PlannedKind::Bind { from, path } | PlannedKind::Cache { from, path, .. } => {
                    of(mount_name(m), from, path.clone())
                }
                _ => None,
            };
            op.mounts.iter().filter_map(mount).collect()
        }
        Op::Copy(op) => {
            let source = |s: &CopySource| match s {
                CopySource::Path(p) => of(source_name(s), &p.from, format!("{} {}", p.pivot, p.pattern)),
                _ => None,
            };
            op.sources.iter().filter_map(source).collect()
        }
        _ => Vec::new(),
    }
}

/// The key of a step with definitions in the place of what other vertices made.
fn defined(vertex: &Vertex, mut inputs: Inputs, known: &Definitions) -> Option<Digest> {
    let definition = |id: VertexId| *known.get(id.0 as usize)?;
    let (parent, sources) = (vertex.op.parent().and_then(FsRef::vertex), sources(&vertex.op));
    for input in &mut inputs.0 {
        if let Some(parent) = parent.filter(|_| input.name == PARENT && input.value != NO_PARENT) {
            input.value = definition(parent)?.to_string();
        } else if let Some((_, from, what)) = sources.iter().find(|(name, ..)| *name == input.name) {
            input.value = format!("{} {what}", definition(*from)?);
        }
    }
    inputs.add("kind of key", "definition");
    Some(inputs.key())
}

fn of_base(vertex: &Vertex) -> Option<Digest> {
    let Op::Base(image) = &vertex.op else { return None };
    Some(Inputs::new("base", image.snapshot.as_ref().map_or(NO_PARENT, |s| &s.0)).key())
}

impl<W: Worker> Shared<W> {
    /// Definitions of what this build made, for the caches it exports.
    pub(super) fn definitions(&self) -> Definitions {
        let mut known = Definitions::new();
        for vertex in &self.graph.vertices {
            let number = known.len();
            known.push(match self.made_already(vertex.id) {
                Some(Done::Step { record, .. }) => defined(vertex, Inputs(record.inputs.clone()), &known),
                Some(Done::Base) => of_base(vertex),
                // Not needed, since what stands on it was found.
                _ => self.found.get().and_then(|found| *found.get(number)?),
            });
        }
        known
    }

    /// Takes over the steps that an imported cache knows by definition; gives the vertices still of use.
    pub(super) async fn take_over(self: &std::sync::Arc<Self>) -> Result<HashSet<VertexId>, Failure<W>> {
        let (mut known, mut taken) = (Definitions::new(), HashSet::new());
        for vertex in &self.graph.vertices {
            if vertex.op.parent().is_none() {
                self.clone().one(vertex.id).await?;
                known.push(of_base(vertex));
                continue;
            }
            // What is wrong with a step, it says itself when its turn comes.
            let inputs = if vertex.ignore_cache { None } else { self.without_vertices(vertex).await.ok() };
            let definition = inputs.and_then(|inputs| defined(vertex, inputs, &known));
            if let Some(definition) = definition
                && self.take(vertex, &definition).await?
            {
                taken.insert(vertex.id);
            }
            known.push(definition);
        }
        let mut needed = HashSet::new();
        let mut next: Vec<VertexId> = self.graph.target.vertex().into_iter().collect();
        while let Some(vertex) = next.pop().and_then(|id| self.graph.vertex(id)) {
            if needed.insert(vertex.id) {
                match taken.contains(&vertex.id) {
                    true => next.extend(vertex.op.parent().and_then(FsRef::vertex)),
                    false => next.extend(vertex.op.inputs()),
                }
            }
        }
        for (vertex, definition) in self.graph.vertices.iter().zip(&known) {
            let unheard = !needed.contains(&vertex.id) && !taken.contains(&vertex.id);
            if let Some(definition) = definition.filter(|_| unheard) {
                self.events.send(BuildEvent::Cached { vertex: vertex.id, result: definition.short() });
            }
        }
        let _first = self.found.set(known);
        Ok(needed)
    }

    /// The ingredients of a step's key, with nothing in the place of what other vertices made.
    async fn without_vertices(&self, vertex: &Vertex) -> Result<Inputs> {
        let parent = match self.is_apart(&vertex.op) || vertex.op.parent().and_then(FsRef::vertex).is_none() {
            true => NO_PARENT,
            false => "",
        };
        Ok(match &vertex.op {
            Op::Run(op) => self.run_inputs(op, parent, Made::IsLeftOut).await?.clamped(self.graph.epoch),
            Op::Copy(op) => {
                let mut inputs = keys::copy(op, parent).clamped(self.graph.epoch);
                for source in &op.sources {
                    let CopySource::Path(path) = source else {
                        inputs.add(source_name(source), self.fixed(source).await?.unwrap_or_default());
                        continue;
                    };
                    let content = match path.from {
                        FsRef::Vertex(_) => String::new(),
                        _ => self.digest(path.clone(), op.parents, &op.exclude, op.verb).await?.digest.to_string(),
                    };
                    inputs.add(source_name(source), content);
                    inputs.add("treatment", keys::treatment(path));
                }
                inputs
            }
            Op::Mkdir(op) => keys::mkdir(op, parent).clamped(self.graph.epoch),
            Op::Base(_) | Op::FetchUrl(_) | Op::FetchGit(_) => Inputs::default(),
        })
    }

    /// Whether the cache had that step, made on the same parent.
    async fn take(&self, vertex: &Vertex, definition: &Digest) -> Result<bool> {
        let parent = match vertex.op.parent() {
            Some(FsRef::Vertex(id)) if self.made_already(*id).is_none() => return Ok(false),
            Some(fs) => self.snapshot(fs).await?,
            None => None,
        };
        let apart = parent.as_ref().filter(|_| self.is_apart(&vertex.op));
        let below = parent.as_ref().filter(|_| apart.is_none()).map(|s| s.0.as_str());
        let Some(record) = self.cache.get(definition)?.filter(|record| record.parent() == below) else {
            return Ok(false);
        };
        let done = self.cached(vertex, apart, record).await?;
        self.set(vertex.id, Ok(done));
        Ok(true)
    }
}
