//! Logging drivers.

use barque_api::container::LogConfig;
use barque_engine::container::spec::LogSpec;
use barque_model::{Error, Result};

/// Drivers of Docker that send logs elsewhere.
const ELSEWHERE: &[&str] = &["syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "gcplogs", "logentries"];

/// # Errors
/// A driver that does not exist, or is not built.
pub(crate) fn spec(wire: &LogConfig) -> Result<LogSpec> {
    match wire.kind.as_str() {
        "json-file" | "local" | "none" => {
            Ok(LogSpec { driver: wire.kind.clone(), options: wire.config.clone().unwrap_or_default() })
        }
        other if ELSEWHERE.contains(&other) => {
            Err(Error::not_implemented(format!("the log driver {other}"))
                .with_hint("json-file, local and none are there"))
        }
        other => Err(Error::invalid(format!("error looking up logging plugin {other}: plugin {other:?} not found"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers() {
        let of = |kind: &str| spec(&LogConfig { kind: kind.into(), config: None });
        assert_eq!(of("local").unwrap().driver, "local");
        assert_eq!(of("foo").unwrap_err().to_string(), "error looking up logging plugin foo: plugin \"foo\" not found");
        assert!(of("syslog").unwrap_err().to_string().starts_with("not implemented yet: "));
    }
}
