//! The release binary: built, checked to be static, run in a root that holds nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds `barque` and puts it into `target/dist/`.
pub fn run(root: &Path) -> Result<PathBuf> {
    let built = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--release", "--package", "barque", "--target", TARGET, "--locked"])
        .status()?;
    if !built.success() {
        bail!("the release build failed");
    }
    let target = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root.join("target"), PathBuf::from);
    let binary = target.join(TARGET).join("release/barque");
    check_static(&binary)?;
    let dist = target.join("dist");
    std::fs::create_dir_all(&dist)?;
    let out = dist.join("barque");
    std::fs::copy(&binary, &out).with_context(|| binary.display().to_string())?;
    let size = std::fs::metadata(&out)?.len();
    println!("{}: {:.1} MB, statically linked", out.display(), size as f64 / 1e6);
    Ok(out)
}

/// An ELF file without an interpreter and without needed libraries.
fn check_static(binary: &Path) -> Result<()> {
    let bytes = std::fs::read(binary).with_context(|| binary.display().to_string())?;
    let word = |at: usize, n: usize| -> u64 {
        bytes.get(at..at + n).map_or(0, |b| b.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (word(32, 8), word(54, 2), word(56, 2));
    const INTERPRETER: u64 = 3;
    for header in 0..count {
        let at = usize::try_from(table + header * size)?;
        if word(at, 4) == INTERPRETER {
            bail!("{} asks for a dynamic loader: it is not static", binary.display());
        }
    }
    Ok(())
}
