//! Names of images as users type them.

use barque_model::Reference;

use crate::error::{CliResult, Failure};

/// Reads a name; the error says what Docker's client says.
pub(crate) fn parse(text: &str) -> CliResult<Reference> {
    text.parse().map_err(|e: barque_model::Error| Failure::new(explain(text, e.message())))
}

/// Names the repository that is not in lower case.
fn explain(text: &str, message: &str) -> String {
    if !message.ends_with("repository name must be lowercase") {
        return message.to_owned();
    }
    let path = match text.split_once('/') {
        Some((domain, path)) if domain.contains(['.', ':']) || domain == "localhost" => path.to_owned(),
        Some(_) => text.to_owned(),
        None => format!("library/{text}"),
    };
    let path = path.split(':').next().unwrap_or(&path);
    message.replace("repository name must", &format!("repository name ({path}) must"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_name_is_named() {
        let fault = |text| parse(text).expect_err("bad").message;
        assert_eq!(fault("BAD"), "invalid reference format: repository name (library/BAD) must be lowercase");
        assert_eq!(fault("x.y/a/BAD:1"), "invalid reference format: repository name (a/BAD) must be lowercase");
        assert_eq!(fault("BAD:x:y"), "invalid reference format: repository name (library/BAD) must be lowercase");
        assert!(parse("python:3.7").is_ok());
    }
}
