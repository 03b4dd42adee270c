//! Docker's exact sentences, where users and scripts know them by heart.

use std::fmt::Write as _;

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
/// Everything that needs a swarm.
pub(crate) const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm \
     join\" to connect this node to swarm and try again.";
/// Status of a login.
pub(crate) const LOGIN_SUCCEEDED: &str = "Login Succeeded";
/// `POST /containers/{id}/start` with a body.
pub(crate) const START_BODY: &str =
    "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24";

pub(crate) fn version_too_old(version: ApiVersion, oldest: ApiVersion) -> String {
    format!(
        "client version {version} is too old. Minimum supported API version is {oldest}, \
         please upgrade your client to a newer version"
    )
}

pub(crate) fn version_too_new(version: ApiVersion) -> String {
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

pub(crate) fn invalid_condition(condition: &str) -> Error {
    Error::invalid(format!("invalid condition: {condition:?}"))
}

pub(crate) fn invalid_signal(signal: &str) -> Error {
    Error::invalid(format!("Invalid signal: {signal}"))
}

/// What `message` of an error document says: the sentence, its causes, and the cure on a line of its own.
pub(crate) fn sentence(error: &Error) -> String {
    let mut text = error.chain();
    if let Some(hint) = error.hint().filter(|hint| error.kind() != ErrorKind::NotFound && !text.contains(hint)) {
        let _infallible = write!(text, "\nhint: {hint}");
    }
    text
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
            NOT_A_MANAGER,
            "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."
        );
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
        assert_eq!(invalid_signal("FOO").to_string(), "Invalid signal: FOO");
    }

    #[test]
    fn hints_have_a_line_of_their_own() {
        let error = Error::conflict("the port is taken").with_hint("choose another");
        assert_eq!(sentence(&error), "the port is taken\nhint: choose another");
        let error = Error::not_found("No such container: x").with_hint("look at ps");
        assert_eq!(sentence(&error), "No such container: x");
    }
}
