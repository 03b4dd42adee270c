//! The privileged lane: test binaries called `priv_*`, as root.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

/// Runs all privileged tests whose name contains one of `filters`.
pub fn run(root: &Path, filters: &[String]) -> Result<()> {
    let uid = Command::new("id").arg("-u").output()?;
    if String::from_utf8_lossy(&uid.stdout).trim() != "0" {
        bail!("the privileged tests need root: sudo cargo xtask priv");
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    cargo.args(["-E", "kind(test) & binary(/^priv_/)"]).args(filters);
    if !cargo.status()?.success() {
        bail!("privileged tests failed");
    }
    Ok(())
}
