//! Docker's exact sentences, where users and scripts know them by heart.

use std::fmt::{Display, Write as _};

use barque_api::ApiVersion;
use barque_model::{Error, ErrorKind};

/// Any path or method that is no route.
pub(crate) const PAGE_NOT_FOUND: &str = "page not found";
/// `POST /containers/{id}/exec` without a command.
pub(crate) const NO_EXEC_COMMAND: &str = "No exec command specified";
/// `GET /containers/{id}/logs` with neither stream.
pub(crate) const LOGS_NEED_A_STREAM: &str = "must specify at least one of 'stdout' or 'stderr'";
/// `DELETE /images/` with spaces.
pub(crate) const BLANK_IMAGE_NAME: &str = "image name cannot be blank";
/// `POST /containers/create` without a configuration.
pub(crate) const EMPTY_CONFIG: &str = "config cannot be empty in order to create a container";
/// Status of a login.
pub(crate) const LOGIN_SUCCEEDED: &str = "Login Succeeded";
/// `POST /containers/{id}/start` with a body.
pub(crate) const START_BODY: &str =
    "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24";

pub(crate) fn version_too_old(version: impl Display, oldest: ApiVersion) -> String {
    format!(
        "client version {version} is too old. Minimum supported API version is {oldest}, \
         please upgrade your client to a newer version"
    )
}

pub(crate) fn version_too_new(version: impl Display) -> String {
    format!("client version {version} is too new. Maximum supported API version is {}", ApiVersion::MAX)
}

/// A filter key that the endpoint does not know.
pub(crate) fn invalid_filter(key: &str) -> Error {
    Error::invalid(format!("invalid filter '{key}'"))
}

/// A filter value that is not of the key's form.
pub(crate) fn invalid_filter_value(key: &str, value: &str) -> Error {
    Error::invalid(format!("invalid filter '{key}={value}'"))
}

/// `cannot kill container: NAME: container ID is not running`, whatever the engine put before the reason.
pub(crate) fn cannot_kill(name: &str, error: &Error) -> String {
    let text = error.to_string();
    let reason =
        text.strip_prefix("Cannot kill container: ").and_then(|rest| rest.split_once(": ")).map(|(_, why)| why);
    format!("cannot kill container: {name}: {}", reason.unwrap_or(&text))
}

pub(crate) fn invalid_condition(condition: &str) -> Error {
    Error::invalid(format!("invalid condition: {condition:?}"))
}

pub(crate) fn invalid_signal(signal: &str) -> Error {
    Error::invalid(format!("Invalid signal: {signal}"))
}

/// What `message` of an error document says: the sentence, its causes, and the cure on a line of its own.
///
/// Where the user has to change something, causes that only the daemon's author understands are left out: the
/// database's reason for "name taken" says nothing more.
pub(crate) fn sentence(error: &Error) -> String {
    let mut text = error.to_string();
    let internal = matches!(error.kind(), ErrorKind::Internal | ErrorKind::Unavailable);
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let plain = cause.is::<Error>() || cause.is::<std::io::Error>();
        let layer = barque_model::plain(cause.to_string());
        if (plain || internal) && !text.ends_with(&layer) {
            let _infallible = write!(text, ": {layer}");
        }
        next = cause.source();
    }
    if let Some(hint) = error.hint().filter(|hint| !is_plain_absence(error) && !text.contains(hint)) {
        // An excerpt of a file is no advice.
        let label = if hint.contains("\n----") { "" } else { "hint: " };
        let _infallible = write!(text, "\n{label}{hint}");
    }
    text
}

/// `No such container: x`: scripts compare the whole of it.
fn is_plain_absence(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound && error.message().starts_with("No such ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let old = version_too_old(ApiVersion::new(1, 12), ApiVersion::MIN);
        assert_eq!(
            old,
            "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
        );
        let new = version_too_new(ApiVersion::new(1, 99));
        assert_eq!(new, "client version 1.99 is too new. Maximum supported API version is 1.56");
    }

    #[test]
    fn fixed_sentences() {
        assert_eq!(PAGE_NOT_FOUND, "page not found");
        assert_eq!(NO_EXEC_COMMAND, "No exec command specified");
        assert_eq!(LOGS_NEED_A_STREAM, "must specify at least one of 'stdout' or 'stderr'");
        assert_eq!(BLANK_IMAGE_NAME, "image name cannot be blank");
        assert_eq!(EMPTY_CONFIG, "config cannot be empty in order to create a container");
        assert_eq!(LOGIN_SUCCEEDED, "Login Succeeded");
        assert_eq!(
            START_BODY,
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        );
    }

    #[test]
    fn filters_conditions_and_signals() {
        assert_eq!(invalid_filter("x").to_string(), "invalid filter 'x'");
        assert_eq!(invalid_filter_value("exited", "a").to_string(), "invalid filter 'exited=a'");
        assert_eq!(invalid_condition("x").to_string(), "invalid condition: \"x\"");
        let error = Error::conflict("Cannot kill container: abc: container abc is not running");
        assert_eq!(cannot_kill("web", &error), "cannot kill container: web: container abc is not running");
        assert_eq!(invalid_signal("FOO").to_string(), "Invalid signal: FOO");
    }

    #[test]
    fn causes_of_the_machinery_are_not_for_users() {
        let broken = || std::fmt::Error;
        assert_eq!(sentence(&Error::conflict("the name is taken").with_source(broken())), "the name is taken");
        let internal = sentence(&Error::internal("cannot store").with_source(broken()));
        assert!(internal.starts_with("cannot store: ") && internal.len() > 14, "{internal}");
        let layered = Error::conflict("port is taken").context("cannot join the network");
        assert_eq!(sentence(&layered), "cannot join the network: port is taken");
    }

    #[test]
    fn the_system_is_quoted_in_lower_case() {
        let io = std::io::Error::from_raw_os_error(2);
        assert_eq!(sentence(&Error::invalid("device").with_source(io)), "device: no such file or directory");
    }

    #[test]
    fn hints_have_a_line_of_their_own() {
        let error = Error::conflict("the port is taken").with_hint("choose another");
        assert_eq!(sentence(&error), "the port is taken\nhint: choose another");
        let error = Error::not_found("No such container: x").with_hint("look at ps");
        assert_eq!(sentence(&error), "No such container: x");
        let error = Error::not_found("plugin \"x\" not found").with_hint("use the driver local");
        assert_eq!(sentence(&error), "plugin \"x\" not found\nhint: use the driver local");
    }
}
