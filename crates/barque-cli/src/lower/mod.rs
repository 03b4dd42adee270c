//! What was typed becomes what is meant: flags of `run`, `create` and `update` to the engine's requests.
//!
//! Pure: files and variables come in through [`Inputs`], so that every rule is tested without an engine.

mod container;
mod network;
mod options;
mod update;

pub(crate) use container::{Launch, launch};
pub(crate) use update::update;

use crate::opts::Surroundings;

/// What lowering may look at besides the flags.
pub(crate) struct Inputs<'a> {
    pub(crate) surroundings: Surroundings<'a>,
    /// Reads a file; the error is the reason in words.
    pub(crate) read: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
    /// Variables that the configuration adds to every container (proxies).
    pub(crate) proxies: std::collections::BTreeMap<String, String>,
}

impl Inputs<'_> {
    /// The process's own directory, variables and files.
    pub(crate) fn real() -> Inputs<'static> {
        Inputs {
            surroundings: Surroundings {
                directory: std::env::current_dir().unwrap_or_else(|_| "/".into()),
                variable: &|name| std::env::var(name).ok(),
            },
            read: &|path| {
                std::fs::read(path).map_err(|e| format!("open {path}: {}", barque_client::archive::plain_io(&e)))
            },
            proxies: std::collections::BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests;
