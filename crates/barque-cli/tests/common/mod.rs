//! The program under test and its output.

use std::path::PathBuf;

/// The example that is the command line alone; cargo builds it along with the tests.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    let target = test.ancestors().nth(2).expect("target directory");
    let program = target.join("examples/barque-cli");
    assert!(program.exists(), "{} is missing: cargo build -p barque-cli --example barque-cli", program.display());
    program
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}
