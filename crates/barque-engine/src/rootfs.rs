//! A look at a container's root file system without a process in it: a detached overlay mount that is
//! attached nowhere and goes with its descriptor.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use barque_model::{Context, Error, Result};
use barque_runtime::overlay::Layers;
use barque_store::RootDir;

/// A mounted view.
pub struct View {
    pub root: RootDir,
}

/// Layers (top-most first) read-only.
pub fn read_only(layers: &[PathBuf]) -> Result<View> {
    match layers {
        [] => Err(Error::invalid("the image has no layers")),
        [only] => Ok(View { root: RootDir::open(only).with_context(|| format!("cannot open {}", only.display()))? }),
        several => Ok(View { root: RootDir::from_fd(overlay(several, None)?) }),
    }
}

/// Layers with a writable one on top. Nobody else may have `upper` mounted.
pub fn writable(layers: &[PathBuf], upper: &Path, work: &Path) -> Result<View> {
    if layers.is_empty() {
        return Ok(View { root: RootDir::open(upper).context("cannot open the writable layer")? });
    }
    Ok(View { root: RootDir::from_fd(overlay(layers, Some((upper, work)))?) })
}

/// Layers and a writable one that is only read here, because something else may write to it.
pub fn with_upper_read_only(layers: &[PathBuf], upper: &Path) -> Result<View> {
    let mut all = vec![upper.to_owned()];
    all.extend_from_slice(layers);
    read_only(&all)
}

fn overlay(lower: &[PathBuf], upper: Option<(&Path, &Path)>) -> Result<OwnedFd> {
    barque_runtime::overlay::mount(&Layers { lower, upper, volatile: false }).context("cannot mount the layers")
}
