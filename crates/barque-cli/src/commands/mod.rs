//! What each command does: one module per group, one function per command.

pub(crate) mod builder;
pub(crate) mod completion;
mod completion_compose;
mod completion_values;
pub(crate) mod compose;
pub(crate) mod container;
pub(crate) mod context;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod login;
pub(crate) mod network;
mod prune;
pub(crate) mod roles;
pub(crate) mod search;
pub(crate) mod system;
pub(crate) mod unbuilt;
pub(crate) mod version;
pub(crate) mod volume;

use std::future::Future;

use futures_util::StreamExt as _;

use crate::cli::Cli;
use crate::error::{CliResult, Failure};

/// Operations that run at once.
const PARALLEL: usize = 50;

/// Runs `operation` on every name, many at once, and prints the names that went well in their order. The failures
/// come together, one per line.
pub(crate) async fn each<'a, F, Fut>(cli: &Cli, names: &'a [String], operation: F) -> CliResult<u8>
where
    F: Fn(&'a str) -> Fut,
    Fut: Future<Output = CliResult<()>>,
{
    let mut faults = Faults::default();
    let operation = &operation;
    let tasks = names.iter().map(|name| async move { (name, operation(name).await) });
    let mut results = futures_util::stream::iter(tasks).buffered(PARALLEL);
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(()) => cli.line(name)?,
            Err(failure) => faults.add(failure),
        }
    }
    faults.finish()
}

/// Failures that are reported together at the end.
#[derive(Default)]
pub(crate) struct Faults {
    messages: Vec<String>,
    code: u8,
}

impl Faults {
    pub(crate) fn add(&mut self, failure: Failure) {
        self.messages.push(failure.message);
        self.code = self.code.max(failure.code);
    }

    /// Success if there was none.
    pub(crate) fn finish(self) -> CliResult<u8> {
        if self.messages.is_empty() { Ok(0) } else { Err(Failure::new(self.messages.join("\n")).code(self.code)) }
    }
}
