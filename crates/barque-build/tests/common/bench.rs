//! Builds of a context with the fake worker, and what was told of them.

use std::fs;
use std::sync::{Arc, Mutex};

use barque_build::context::ContextDir;
use barque_build::event::{BuildEvent, EventSink, VertexId};
use barque_build::options::{BuildOptions, BuildRequest};
use barque_build::{BuildFailure, BuildOutcome, build};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::{FakeWorker, MemoryCache, write_files};

pub struct Bench {
    pub worker: Arc<FakeWorker>,
    pub cache: Arc<MemoryCache>,
    pub context: TempDir,
    pub scratch: TempDir,
    pub events: Arc<Mutex<Vec<BuildEvent>>>,
}

impl Bench {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let context = tempfile::tempdir().unwrap();
        let files: Vec<_> = files.iter().map(|(p, c)| ((*p).to_owned(), (*c).to_owned())).collect();
        write_files(context.path(), &files);
        Bench {
            worker: FakeWorker::new(),
            cache: Arc::default(),
            context,
            scratch: tempfile::tempdir().unwrap(),
            events: Arc::default(),
        }
    }

    pub fn options(&self) -> BuildOptions {
        BuildOptions::new(self.scratch.path().to_owned())
    }

    pub async fn with(
        &self,
        dockerfile: &str,
        options: BuildOptions,
        cancel: CancellationToken,
    ) -> Result<BuildOutcome, Box<BuildFailure<FakeWorker>>> {
        self.events.lock().unwrap().clear();
        self.worker.log.lock().unwrap().clear();
        let request = BuildRequest {
            dockerfile: dockerfile.as_bytes().to_vec(),
            dockerfile_name: "Dockerfile".into(),
            context: Some(ContextDir::open(self.context.path().to_owned(), "Dockerfile").unwrap()),
            options,
        };
        let events = self.events.clone();
        let sink = EventSink::new(move |e| events.lock().unwrap().push(e));
        build(self.worker.clone(), self.cache.clone(), request, sink, cancel).await
    }

    pub async fn build(&self, dockerfile: &str) -> BuildOutcome {
        self.with(dockerfile, self.options(), CancellationToken::new()).await.unwrap_or_else(|f| {
            panic!("{}\n{}", f.error.chain(), f.error.hint().unwrap_or(""));
        })
    }

    pub async fn fail(&self, dockerfile: &str) -> Box<BuildFailure<FakeWorker>> {
        self.with(dockerfile, self.options(), CancellationToken::new()).await.unwrap_err()
    }

    pub fn read(&self, outcome: &BuildOutcome, path: &str) -> String {
        let root = self.worker.snapshot_path(outcome.snapshot.as_ref().unwrap());
        fs::read_to_string(root.join(path)).unwrap()
    }

    pub fn count(&self, test: impl Fn(&BuildEvent) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|e| test(e)).count()
    }

    /// Steps that came from the cache; base images are none.
    pub fn cached(&self) -> usize {
        let events = self.events.lock().unwrap();
        let is_base = |id: &VertexId| {
            events.iter().any(|e| match e {
                BuildEvent::Planned { vertices, .. } => {
                    vertices.iter().any(|v| v.id == *id && v.name.contains("] FROM "))
                }
                _ => false,
            })
        };
        events.iter().filter(|e| matches!(e, BuildEvent::Cached { vertex, .. } if !is_base(vertex))).count()
    }

    pub fn logs(&self) -> String {
        let events = self.events.lock().unwrap();
        let text = events.iter().filter_map(|e| match e {
            BuildEvent::Log { data, vertex, .. } if vertex.0 < 1 << 24 => {
                Some(String::from_utf8_lossy(data).into_owned())
            }
            _ => None,
        });
        text.collect()
    }

    pub fn reasons(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .filter_map(|e| if let BuildEvent::Why { reasons, .. } = e { Some(reasons.join("; ")) } else { None })
            .collect()
    }
}
