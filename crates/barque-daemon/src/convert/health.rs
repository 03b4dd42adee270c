//! Health checks and their results.

use std::time::Duration;

use barque_api::container::{Health as WireHealth, HealthConfig, HealthSummary, HealthcheckResult};
use barque_engine::container::health::Health;
use barque_engine::container::spec::{HealthSpec, HealthTest};
use barque_model::{Error, Result};

/// The shortest time that is taken seriously.
const MINIMUM: i64 = 1_000_000;

/// # Errors
/// Times below 1 ms, negative retries, an unknown kind of test.
pub(crate) fn spec(wire: &HealthConfig) -> Result<HealthSpec> {
    let time = |name: &str, nanos: i64| match nanos {
        0 => Ok(None),
        nanos if nanos < MINIMUM => Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms"))),
        nanos => Ok(u64::try_from(nanos).ok().map(Duration::from_nanos)),
    };
    let words = wire.test.as_deref().unwrap_or_default();
    let test = match words.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        None | Some(("", _)) => HealthTest::Inherit,
        Some(("NONE", _)) => HealthTest::None,
        Some(("CMD", arguments)) => HealthTest::Exec(arguments.to_vec()),
        Some(("CMD-SHELL", command)) => HealthTest::Shell(command.join(" ")),
        Some((other, _)) => {
            return Err(Error::invalid(format!("Unknown healthcheck type '{other}' (expected 'CMD')")));
        }
    };
    let retries = match wire.retries {
        0 => None,
        retries => {
            Some(u32::try_from(retries).map_err(|_| Error::invalid("Retries in Healthcheck cannot be negative"))?)
        }
    };
    Ok(HealthSpec {
        test,
        interval: time("Interval", wire.interval)?,
        timeout: time("Timeout", wire.timeout)?,
        start_period: time("StartPeriod", wire.start_period)?,
        start_interval: time("StartInterval", wire.start_interval)?,
        retries,
    })
}

pub(crate) fn wire(spec: &HealthSpec) -> HealthConfig {
    let nanos = |time: Option<Duration>| time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    let words = |first: &str, rest: &[String]| Some([&[first.to_owned()], rest].concat());
    HealthConfig {
        test: match &spec.test {
            HealthTest::Inherit => None,
            HealthTest::None => words("NONE", &[]),
            HealthTest::Exec(arguments) => words("CMD", arguments),
            HealthTest::Shell(command) => words("CMD-SHELL", std::slice::from_ref(command)),
        },
        interval: nanos(spec.interval),
        timeout: nanos(spec.timeout),
        start_period: nanos(spec.start_period),
        start_interval: nanos(spec.start_interval),
        retries: spec.retries.map_or(0, i64::from),
    }
}

pub(crate) fn results(health: &Health) -> WireHealth {
    let result = |result: &barque_engine::container::health::HealthResult| HealthcheckResult {
        start: result.start.to_string(),
        end: result.end.to_string(),
        exit_code: i64::from(result.exit_code),
        output: result.output.clone(),
    };
    WireHealth {
        status: health.status.as_str().to_owned(),
        failing_streak: i64::from(health.failing_streak),
        log: Some(health.log.iter().map(result).collect()),
    }
}

pub(crate) fn summary(health: Option<&Health>) -> HealthSummary {
    match health {
        None => HealthSummary { status: "none".into(), failing_streak: 0 },
        Some(health) => HealthSummary {
            status: health.status.as_str().to_owned(),
            failing_streak: i64::from(health.failing_streak),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let config = HealthConfig {
            test: Some(vec!["CMD-SHELL".into(), "curl x".into()]),
            interval: 2_000_000_000,
            retries: 3,
            ..HealthConfig::default()
        };
        assert_eq!(wire(&spec(&config).unwrap()), config);
        assert_eq!(spec(&HealthConfig::default()).unwrap().test, HealthTest::Inherit);
    }

    #[test]
    fn refusals() {
        let of = |config: HealthConfig| spec(&config).unwrap_err().to_string();
        assert_eq!(
            of(HealthConfig { interval: 5, ..Default::default() }),
            "Interval in Healthcheck cannot be less than 1ms"
        );
        assert_eq!(of(HealthConfig { retries: -1, ..Default::default() }), "Retries in Healthcheck cannot be negative");
        let test = Some(vec!["FOO".into()]);
        assert_eq!(of(HealthConfig { test, ..Default::default() }), "Unknown healthcheck type 'FOO' (expected 'CMD')");
    }
}
