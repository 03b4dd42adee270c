//! Options with a language or a rule of their own.

use std::collections::BTreeMap;

use barque_api::container::{HealthConfig, LogConfig, RestartPolicy};

use super::Inputs;
use crate::cmdline::Flags;
use crate::opts;

/// `text` if it is one of `allowed`.
pub(super) fn one_of(text: &str, allowed: &[&str], fault: &str) -> Result<String, String> {
    if allowed.contains(&text) { Ok(text.to_owned()) } else { Err(fault.to_owned()) }
}

/// `host` or `container:NAME`.
pub(super) fn pid_mode(text: &str) -> Result<String, String> {
    match text.strip_prefix("container:") {
        Some(name) if !name.is_empty() => Ok(text.to_owned()),
        _ => one_of(text, &["", "host"], "--pid: invalid PID mode"),
    }
}

/// `no`, `always`, `unless-stopped`, `on-failure[:TIMES]`; the engine checks the name.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy, String> {
    let text = if text.is_empty() { "no" } else { text };
    let (name, times) = text.split_once(':').unwrap_or((text, ""));
    if name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".into());
    }
    let maximum_retry_count = match times {
        "" => 0,
        times => times
            .parse()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

pub(super) fn logging(flags: &Flags) -> Result<LogConfig, String> {
    let driver = flags.text("log-driver");
    let options = flags.all("log-opt");
    if driver == "none" && !options.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(LogConfig { kind: driver.to_owned(), config: Some(opts::map(options)) })
}

pub(super) fn storage(options: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let pair = |text: &&str| {
        let (key, value) = text.split_once('=').ok_or("invalid storage option")?;
        Ok((key.to_owned(), value.to_owned()))
    };
    options.iter().map(pair).collect::<Result<_, &str>>().map_err(str::to_owned)
}

/// Security options as the engine takes them (a seccomp profile's text in place of its file's name), and
/// whether the system's paths are to stay visible.
pub(super) fn security(options: &[&str], inputs: &Inputs<'_>) -> Result<(Vec<String>, bool), String> {
    let (mut found, mut systempaths) = (Vec::new(), false);
    for option in options {
        let split = option.split_once('=').or_else(|| option.split_once(':'));
        let (key, value) = split.unwrap_or((option, ""));
        if key != "no-new-privileges" && value.is_empty() {
            return Err(format!("Invalid --security-opt: {option:?}"));
        }
        match (key, value) {
            ("systempaths", "unconfined") => systempaths = true,
            ("seccomp", "unconfined" | "builtin") => found.push((*option).to_owned()),
            ("seccomp", path) => found.push(format!("seccomp={}", seccomp_profile(path, inputs)?)),
            _ => found.push((*option).to_owned()),
        }
    }
    Ok((found, systempaths))
}

fn seccomp_profile(path: &str, inputs: &Inputs<'_>) -> Result<String, String> {
    let bytes = (inputs.read)(path).map_err(|e| format!("opening seccomp profile ({path}) failed: {e}"))?;
    let fault = |e: String| format!("compacting json for seccomp profile ({path}) failed: {e}");
    let text = String::from_utf8(bytes).map_err(|e| fault(e.to_string()))?;
    let _: serde_json::Value = serde_json::from_str(&text).map_err(|e| fault(e.to_string()))?;
    Ok(crate::output::json::compact(&text))
}

/// The health check of the `--health-…` flags, if any was given.
pub(super) fn health(flags: &Flags) -> Result<Option<HealthConfig>, String> {
    let command = flags.text("health-cmd");
    let time = |name: &str| -> Result<i64, String> {
        if flags.text(name).starts_with('-') {
            return Err(format!("--{name} cannot be negative"));
        }
        Ok(flags.nanos(name).unwrap_or(0))
    };
    let retries = flags.int("health-retries").unwrap_or(0);
    let config = HealthConfig {
        test: if command.is_empty() { None } else { Some(vec!["CMD-SHELL".into(), command.to_owned()]) },
        interval: time("health-interval")?,
        timeout: time("health-timeout")?,
        start_period: time("health-start-period")?,
        start_interval: time("health-start-interval")?,
        retries,
    };
    let given = config != HealthConfig::default();
    if flags.is("no-healthcheck") {
        if given {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        return Ok(Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }));
    }
    if retries < 0 {
        return Err("--health-retries cannot be negative".into());
    }
    Ok(given.then_some(config))
}
