//! The one builder there is.

use barque_model::Error;

/// Accepts `--builder` where it names the engine itself; empty is no choice.
///
/// # Errors
/// Another name, in buildx's words.
pub fn check(name: &str) -> Result<(), Error> {
    match name {
        "" | "default" => Ok(()),
        other => Err(Error::not_found(format!("no builder \"{other}\" found")).with_hint(
            "images are built by the engine itself, the builder \"default\"; -H and --context name another engine",
        )),
    }
}
