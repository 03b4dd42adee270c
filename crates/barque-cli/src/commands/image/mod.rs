//! `image …`, and the same commands without the first word.

mod build;
mod build_debug;
mod build_extras;
mod build_options;
mod build_output;
mod context;
mod flatten;
mod list;
mod nearby;
mod transfer;
mod tree;

pub(crate) use build::build;
pub(crate) use list::{dangling, history, inspect, line, ls, prune, rm, tag};
pub(crate) use nearby::shares_files;
pub(crate) use transfer::{file, import, load, pull, push, save};

use barque_api::image::Platform;

use crate::error::{CliResult, Failure};
use crate::reference::parse as reference;

/// `os[/arch[/variant]]` as the JSON that queries carry; empty stays empty.
fn platform_json(text: &str) -> CliResult<String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let platform: barque_model::Platform =
        text.parse().map_err(|e: barque_model::Error| Failure::new(format!("invalid platform: {e}")))?;
    let wire = Platform {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone().unwrap_or_default(),
        ..Platform::default()
    };
    serde_json::to_string(&wire).map_err(|e| Failure::new(e.to_string()))
}
