//! `/.dockerenv`, by which programs know that they run in a container, and `/etc/mtab`, where some look for mounts. The
//! first lies in a layer of its own between the image and what the container writes, the second below the image, whose
//! own it leaves as it is: neither `diff` nor `commit` sees them.

use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use barque_model::{Context as _, Result};

use crate::Engine;

/// Directories of these layers in the data root.
const ABOVE: &str = "init";
const BELOW: &str = "base";

/// Makes the layers.
pub(crate) fn make(data_root: &Path) -> Result<()> {
    let etc = data_root.join(BELOW).join("etc");
    std::fs::create_dir_all(&etc).with_context(|| format!("cannot make {}", etc.display()))?;
    let link = etc.join("mtab");
    match std::os::unix::fs::symlink("/proc/mounts", &link) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", link.display()));
        }
        _ => {}
    }
    let dir = data_root.join(ABOVE);
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let file = dir.join(".dockerenv");
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(false).mode(0o755);
    options.open(&file).map(drop).with_context(|| format!("cannot make {}", file.display()))
}

impl Engine {
    /// The layers of an image, topmost first, with those that all containers have.
    pub(crate) fn with_common_layers(&self, image: &[PathBuf]) -> Vec<PathBuf> {
        let root = self.store().root();
        let mut layers = vec![root.join(ABOVE)];
        layers.extend_from_slice(image);
        // A layer may not lie inside one above it, as it would below this machine's own root, which has the file.
        if !image.iter().any(|layer| root.starts_with(layer)) {
            layers.push(root.join(BELOW));
        }
        layers
    }
}
