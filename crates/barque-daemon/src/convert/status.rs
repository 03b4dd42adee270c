//! A build's events in BuildKit's form.

use std::collections::HashMap;

use barque_api::build_extras::{SolveStatus, Vertex, VertexLog, VertexReasons, VertexStatus, VertexWarning};
use barque_build::event::{BuildEvent, LogStream, VertexId, VertexInfo};
use barque_build::lint::Warning;
use barque_model::{Digest, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Remembers what later documents say again: BuildKit's vertices are whole each time.
#[derive(Default)]
pub(crate) struct Status {
    vertices: HashMap<VertexId, Vertex>,
}

fn digest(id: VertexId) -> String {
    Digest::of(format!("vertex {}", id.0).as_bytes()).to_string()
}

impl Status {
    /// The document for an event; `None` if it says nothing here.
    pub(crate) fn push(&mut self, event: &BuildEvent) -> Option<SolveStatus> {
        let now = Timestamp::now();
        let vertexes = match event {
            BuildEvent::Announced(info) => vec![self.know(info)],
            BuildEvent::Planned { vertices, .. } => vertices.iter().map(|info| self.know(info)).collect(),
            BuildEvent::Warning(warning) => {
                return Some(SolveStatus { warnings: vec![lint(warning)], ..SolveStatus::default() });
            }
            BuildEvent::Started { vertex } => vec![self.change(*vertex, |v| v.started = Some(now.to_string()))],
            BuildEvent::Cached { vertex, .. } => vec![self.change(*vertex, |v| {
                v.cached = true;
                v.started = Some(now.to_string());
                v.completed = Some(now.to_string());
            })],
            BuildEvent::Completed { vertex, .. } => {
                vec![self.change(*vertex, |v| v.completed = Some(now.to_string()))]
            }
            BuildEvent::Failed { vertex, message, .. } => vec![self.change(*vertex, |v| {
                v.completed = Some(now.to_string());
                v.error.clone_from(message);
            })],
            BuildEvent::Canceled { vertex } => vec![self.change(*vertex, |v| {
                v.completed = Some(now.to_string());
                "context canceled".clone_into(&mut v.error);
            })],
            BuildEvent::Log { vertex, stream, data, .. } => {
                let stream = if *stream == LogStream::Stdout { 1 } else { 2 };
                let log = VertexLog {
                    vertex: digest(*vertex),
                    stream,
                    data: STANDARD.encode(data),
                    timestamp: now.to_string(),
                };
                return Some(SolveStatus { logs: vec![log], ..SolveStatus::default() });
            }
            BuildEvent::Progress { vertex, progress } => {
                let done = progress.total > 0 && progress.current >= progress.total;
                let status = VertexStatus {
                    id: progress.id.clone(),
                    vertex: digest(*vertex),
                    name: progress.action.clone(),
                    total: progress.total,
                    current: progress.current,
                    timestamp: now.to_string(),
                    completed: done.then(|| now.to_string()),
                };
                return Some(SolveStatus { statuses: vec![status], ..SolveStatus::default() });
            }
            BuildEvent::Why { vertex, reasons } => {
                let reasons = VertexReasons { vertex: digest(*vertex), reasons: reasons.clone() };
                return Some(SolveStatus { reasons: vec![reasons], ..SolveStatus::default() });
            }
            BuildEvent::Finished { .. } => return None,
        };
        Some(SolveStatus { vertexes, ..SolveStatus::default() })
    }

    fn know(&mut self, info: &VertexInfo) -> Vertex {
        let vertex = Vertex {
            digest: digest(info.id),
            inputs: info.inputs.iter().map(|id| digest(*id)).collect(),
            name: info.name.clone(),
            ..Vertex::default()
        };
        self.vertices.insert(info.id, vertex.clone());
        vertex
    }

    fn change(&mut self, id: VertexId, change: impl FnOnce(&mut Vertex)) -> Vertex {
        let vertex = self.vertices.entry(id).or_insert_with(|| Vertex { digest: digest(id), ..Vertex::default() });
        change(vertex);
        vertex.clone()
    }
}

/// A warning that belongs to no line of the Dockerfile.
pub(crate) fn warned(text: &str) -> SolveStatus {
    let warning = VertexWarning { level: 1, short: STANDARD.encode(text), ..VertexWarning::default() };
    SolveStatus { warnings: vec![warning], ..SolveStatus::default() }
}

fn lint(warning: &Warning) -> VertexWarning {
    VertexWarning {
        vertex: String::new(),
        level: 1,
        short: STANDARD.encode(warning.summary()),
        detail: vec![STANDARD.encode(warning.detail)],
        url: warning.url(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_vertex_is_told_whole_each_time() {
        let mut status = Status::default();
        let id = VertexId(3);
        let info = VertexInfo { id, name: "[2/2] RUN make".into(), inputs: vec![VertexId(1)], line: 2 };
        let first = status.push(&BuildEvent::Announced(info)).unwrap();
        assert_eq!(first.vertexes[0].started, None);
        status.push(&BuildEvent::Started { vertex: id }).unwrap();
        let failed = BuildEvent::Failed { vertex: id, message: "no".into(), elapsed: Duration::ZERO };
        let last = status.push(&failed).unwrap().vertexes.remove(0);
        assert_eq!((last.name.as_str(), last.error.as_str()), ("[2/2] RUN make", "no"));
        assert!(last.started.is_some() && last.completed.is_some() && last.inputs == first.vertexes[0].inputs);
        let log =
            BuildEvent::Log { vertex: id, stream: LogStream::Stderr, data: b"hi".to_vec(), elapsed: Duration::ZERO };
        let log = status.push(&log).unwrap().logs.remove(0);
        assert_eq!((log.stream, log.data.as_str(), log.vertex), (2, "aGk=", last.digest));
    }
}
