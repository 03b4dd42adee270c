//! What tests of builds begin with.

use std::path::Path;

use super::Engine;

/// An engine with the image `base:1`, a busybox.
pub fn engine(dir: &Path) -> Engine {
    let engine = Engine::barque(dir, &[]);
    engine.import_busybox("base:1", &["ENV PATH=/bin"]);
    engine
}

/// A directory with this Dockerfile, as the argument of a build.
pub fn context(dir: &Path, dockerfile: &str) -> String {
    let context = dir.join("context");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    context.display().to_string()
}
