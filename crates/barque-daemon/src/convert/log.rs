//! Logging drivers.

use barque_api::container::LogConfig;
use barque_engine::container::spec::LogSpec;
use barque_model::{Error, Result};

/// Drivers of Docker that send logs elsewhere.
const ELSEWHERE: &[&str] = &["syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "gcplogs", "logentries"];

/// What the drivers that keep logs here take. Those that only add to each line, or compress what was rotated, are
/// taken and have no effect on what is read back.
const OPTIONS: &[&str] = &[
    "max-size",
    "max-file",
    "compress",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
    "mode",
    "max-buffer-size",
];

/// # Errors
/// An option that does not exist; a driver that does not exist, or is not built.
pub(crate) fn spec(wire: &LogConfig) -> Result<LogSpec> {
    match wire.kind.as_str() {
        "json-file" | "local" | "none" => {
            let options = wire.config.clone().unwrap_or_default();
            if let Some(unknown) = options.keys().find(|o| !OPTIONS.contains(&o.as_str())) {
                let driver = &wire.kind;
                return Err(Error::invalid(format!("unknown log opt '{unknown}' for {driver} log driver"))
                    .with_hint(format!("known are {}", OPTIONS.join(", "))));
            }
            Ok(LogSpec { driver: wire.kind.clone(), options })
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
        let options = [("max-sise".to_owned(), "1m".to_owned())];
        let typo = spec(&LogConfig { kind: "json-file".into(), config: Some(options.into_iter().collect()) });
        assert_eq!(typo.unwrap_err().message(), "unknown log opt 'max-sise' for json-file log driver");
        assert!(of("syslog").unwrap_err().to_string().starts_with("not implemented yet: "));
    }
}
