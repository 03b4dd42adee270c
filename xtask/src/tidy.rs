//! The tree's own rules, also run as a test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Lines of a file, and of a function outside of tests (tables of cases are long).
const FILE_MAX: usize = 600;
const FUNCTION_MAX: usize = 70;

/// Who may depend on whom (INV-1). Siblings never import one another; arrows point down only.
const LAYERS: [(&str, &[&str]); 15] = [
    ("barque-model", &[]),
    ("barque-template", &["barque-model"]),
    ("barque-sys", &["barque-model"]),
    ("barque-runtime", &["barque-model", "barque-sys"]),
    ("barque-net", &["barque-model", "barque-sys"]),
    ("barque-store", &["barque-model", "barque-sys"]),
    ("barque-registry", &["barque-model"]),
    ("barque-build", &["barque-model"]),
    ("barque-api", &["barque-model"]),
    ("barque-client", &["barque-api", "barque-model"]),
    (
        "barque-engine",
        &[
            "barque-model",
            "barque-sys",
            "barque-runtime",
            "barque-net",
            "barque-store",
            "barque-registry",
            "barque-build",
        ],
    ),
    (
        "barque-daemon",
        &["barque-api", "barque-model", "barque-engine", "barque-registry", "barque-build", "barque-template"],
    ),
    ("barque-compose", &["barque-api", "barque-client", "barque-model"]),
    ("barque-cli", &["barque-api", "barque-client", "barque-compose", "barque-model", "barque-template"]),
    (
        "barque",
        &[
            "barque-cli",
            "barque-daemon",
            "barque-engine",
            "barque-runtime",
            "barque-net",
            "barque-registry",
            "barque-model",
            "barque-sys",
        ],
    ),
];

/// Checks everything; the error lists every breach.
pub fn run(root: &Path) -> Result<()> {
    let mut breaches = Vec::new();
    layering(root, &mut breaches)?;
    for file in rust_files(root)? {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        module_doc(&shown, &text, &mut breaches);
        lengths(&shown, &text, &mut breaches);
        unsafe_fence(&shown, &text, &mut breaches);
    }
    invariants(root, &mut breaches)?;
    if breaches.is_empty() {
        println!("tidy: all rules hold");
        return Ok(());
    }
    bail!("{} breaches:\n  {}", breaches.len(), breaches.join("\n  "))
}

fn layering(root: &Path, breaches: &mut Vec<String>) -> Result<()> {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        LAYERS.iter().map(|(name, deps)| (*name, deps.iter().copied().collect())).collect();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let manifest = entry?.path().join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        let Some(name) = text.lines().find_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"')) else { continue };
        let Some(may) = allowed.get(name) else {
            breaches.push(format!("crate {name} is not in the table of layers (xtask/src/tidy.rs)"));
            continue;
        };
        let mut section = "";
        for line in text.lines() {
            if let Some(s) = line.strip_prefix('[') {
                section = s.trim_end_matches(']');
            }
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if section == "dependencies" && dependency.starts_with("barque") && !may.contains(dependency) {
                breaches.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    Ok(())
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![root.join("crates"), root.join("xtask")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn module_doc(shown: &str, text: &str, breaches: &mut Vec<String>) {
    if !text.lines().next().unwrap_or_default().starts_with("//!") {
        breaches.push(format!("{shown}: begins without a //! line"));
    }
}

fn lengths(shown: &str, text: &str, breaches: &mut Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > FILE_MAX {
        breaches.push(format!("{shown}: {} lines, at most {FILE_MAX}", lines.len()));
    }
    let tests = shown.contains("/tests/") || shown.ends_with("tests.rs");
    let mut open: Option<(usize, usize, String)> = None;
    for (number, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        match &open {
            None if is_function(line) && !line.trim_end().ends_with('}') && !line.trim_end().ends_with(';') => {
                open = Some((number, indent, line.trim().chars().take(60).collect()));
            }
            Some((start, depth, name)) if indent == *depth && line.trim_start().starts_with('}') => {
                let length = number - start + 1;
                if length > FUNCTION_MAX && !tests {
                    breaches.push(format!("{shown}:{}: {length} lines in `{name}`", start + 1));
                }
                open = None;
            }
            // A declaration without a body, in a trait.
            Some((_, depth, _)) if indent == *depth && line.trim_end().ends_with(';') => open = None,
            _ => {}
        }
    }
}

fn is_function(line: &str) -> bool {
    let line = line.trim_start();
    let words = ["pub ", "pub(crate) ", "pub(super) ", "async ", "const ", "unsafe ", "extern \"C\" "];
    let mut rest = line;
    while let Some(next) = words.iter().find_map(|w| rest.strip_prefix(w)) {
        rest = next;
    }
    rest.starts_with("fn ")
}

/// INV-2: `unsafe` stays in `barque-sys`.
fn unsafe_fence(shown: &str, text: &str, breaches: &mut Vec<String>) {
    let root_file = shown.ends_with("src/lib.rs") || shown.ends_with("src/main.rs");
    let fenced = !shown.starts_with("crates/barque-sys") && shown.starts_with("crates/");
    if root_file && fenced && !text.contains("#![forbid(unsafe_code)]") {
        breaches.push(format!("{shown}: lacks #![forbid(unsafe_code)]"));
    }
}

/// Every invariant of ARCHITECTURE.md names a test that exists.
fn invariants(root: &Path, breaches: &mut Vec<String>) -> Result<()> {
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let mut sources = String::new();
    for file in rust_files(root)? {
        sources.push_str(&std::fs::read_to_string(file)?);
    }
    for line in text.lines().filter(|l| l.starts_with("- **INV-")) {
        let tests: Vec<&str> = line.split('`').skip(1).step_by(2).filter(|w| w.contains('_')).collect();
        let known = |t: &&str| sources.contains(&format!("fn {t}("));
        if !tests.iter().any(known) {
            breaches.push(format!("ARCHITECTURE.md: no test of this name exists: {line}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        run(&crate::root()).unwrap();
    }

    #[test]
    fn long_functions_are_found() {
        let text = format!("//! x\nfn f() {{\n{}}}\n", "    a();\n".repeat(FUNCTION_MAX));
        let mut breaches = Vec::new();
        lengths("x.rs", &text, &mut breaches);
        assert_eq!(breaches.len(), 1);
    }
}
