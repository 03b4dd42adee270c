//! `/.dockerenv`, by which programs know that they run in a container. It lies in a layer of its own between the image
//! and what the container writes: neither `diff` nor `commit` sees it.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use barque_model::{Context as _, Result};

use crate::Engine;

/// Directory of that layer in the data root.
const LAYER: &str = "init";

/// Makes the layer.
pub(crate) fn make(data_root: &Path) -> Result<()> {
    let dir = data_root.join(LAYER);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let file = dir.join(".dockerenv");
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(false).mode(0o755);
    options.open(&file).map(drop).with_context(|| format!("cannot make {}", file.display()))
}

impl Engine {
    pub(crate) fn marker_layer(&self) -> PathBuf {
        self.store().root().join(LAYER)
    }
}
