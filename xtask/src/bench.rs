//! Measuring Barque beside Docker.

use std::path::Path;

use anyhow::{Result, bail};

/// Runs the measurements.
pub fn run(_root: &Path, _args: &[String]) -> Result<()> {
    bail!("not implemented yet: bench")
}
