//! The daemon's configuration: dockerd's flags and `daemon.json`, merged and typed. Nothing here does I/O.
//!
//! Flags and file are first read into [`Values`] by one table of options ([`options::OPTIONS`]), then compared
//! (the same option in both is an error, as Docker says), then turned into [`Settings`].

mod engine;
mod file;
mod flags;
pub mod options;
mod settings;
mod values;

pub use engine::CERTS_DIRS;
pub use file::parse_file;
pub use flags::{Flags, help};
pub use settings::{Defaults, Proxies, Settings, TlsSettings};
pub use values::{Value, Values};

use barque_model::{Error, Result};

/// Merges flags with the text of a configuration file.
///
/// # Errors
/// An unknown key (named, with the likely one), an option in both, a value of the wrong form.
pub fn merge(flags: &Values, file: Option<&str>, defaults: &Defaults) -> Result<Settings> {
    let from_file = match file {
        Some(text) => parse_file(text)?,
        None => Values::default(),
    };
    let both = from_file.conflicts_with(flags);
    if !both.is_empty() {
        return Err(Error::invalid(format!(
            "the following directives are specified both as a flag and in the configuration file: {}",
            both.join(", ")
        ))
        .with_hint("remove them from one of the two"));
    }
    Settings::from_values(&from_file.overlaid_by(flags), defaults)
}

#[cfg(test)]
mod tests;
