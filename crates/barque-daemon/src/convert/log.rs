//! Logging drivers: what their options may be, and what they add to each line (`GET /containers/{id}/logs?details=1`).

use std::collections::BTreeMap;

use barque_api::container::LogConfig;
use barque_engine::container::spec::{ContainerSpec, LogSpec};
use barque_engine::container::view::ContainerView;
use barque_model::strconv::parse_bool;
use barque_model::{Error, Result, size};
use barque_template::{Data, Missing, Struct, Template, query_escape};
use regex::Regex;

/// Drivers of Docker that send logs elsewhere.
const ELSEWHERE: &[&str] = &["syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "gcplogs", "logentries"];

/// What all drivers that keep logs here take. The first two are how Docker hands lines over, and `compress` is for
/// files that were rotated: here they change nothing that can be seen.
const COMMON: &[&str] = &["mode", "max-buffer-size", "compress", "max-size", "max-file"];

/// What `json-file` takes besides: what each line is marked with.
const ATTRIBUTES: &[&str] = &["labels", "labels-regex", "env", "env-regex", "tag"];

/// Checks everything when a container is made; Docker notices some of it at the start only.
///
/// # Errors
/// An option that does not exist, or whose value cannot be; a driver that does not exist, or is not built.
pub(crate) fn spec(wire: &LogConfig) -> Result<LogSpec> {
    let options = wire.config.clone().unwrap_or_default();
    // Docker calls either in its own way.
    let (known, called) = match wire.kind.as_str() {
        "json-file" => ([COMMON, ATTRIBUTES].concat(), "json-file log driver"),
        "local" => (COMMON.to_vec(), "log driver local"),
        "none" => return Ok(LogSpec { driver: wire.kind.clone(), options }),
        other if ELSEWHERE.contains(&other) => {
            return Err(Error::not_implemented(format!("the log driver {other}"))
                .with_hint("json-file, local and none are there"));
        }
        other => {
            let why = format!("error looking up logging plugin {other}: plugin {other:?} not found");
            return Err(Error::invalid(why));
        }
    };
    if let Some(unknown) = options.keys().find(|o| !known.contains(&o.as_str())) {
        return Err(Error::invalid(format!("unknown log opt '{unknown}' for {called}"))
            .with_hint(format!("known are {}", known.join(", "))));
    }
    let log = LogSpec { driver: wire.kind.clone(), options };
    check_hand_over(&log)?;
    check_values(&log).map_err(|error| error.context("failed to initialize logging driver"))?;
    Ok(log)
}

fn check_hand_over(log: &LogSpec) -> Result<()> {
    let option = |key: &str| log.options.get(key).map(String::as_str);
    let mode = option("mode").unwrap_or_default();
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return Err(Error::invalid(format!("logger: logging mode not supported: {mode}"))
            .with_hint("modes are blocking and non-blocking"));
    }
    match option("max-buffer-size") {
        None => Ok(()),
        Some(_) if mode != "non-blocking" => {
            Err(Error::invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'"))
        }
        Some(text) => size::parse_binary(text).map(drop).map_err(|_| {
            Error::invalid(format!("error parsing option max-buffer-size: invalid size: '{text}'"))
                .with_hint("sizes are numbers with a unit: 4m")
        }),
    }
}

fn check_values(log: &LogSpec) -> Result<()> {
    let (max_size, max_files) = log.limits()?;
    let option = |key: &str| log.options.get(key).map(String::as_str);
    if let Some(text) = option("compress") {
        let compress = parse_bool(text).map_err(Error::invalid)?;
        if compress && (max_size.is_none() || max_files < 2) {
            return Err(Error::invalid("compress cannot be true when max-file is less than 2 or max-size is not set"));
        }
    }
    for key in ["labels-regex", "env-regex"] {
        pattern(option(key))?;
    }
    if let Some(text) = option("tag") {
        tag(text, &TagOf::default()).map_err(Error::invalid)?;
    }
    Ok(())
}

fn pattern(text: Option<&str>) -> Result<Option<Regex>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let regex = Regex::new(text).map_err(|why| {
        let why = why.to_string();
        let reason = why.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Error::invalid(format!("error parsing regexp: {reason}: `{text}`"))
    })?;
    Ok(Some(regex))
}

/// What a tag may name.
#[derive(Default)]
struct TagOf<'a> {
    id: String,
    name: &'a str,
    image: String,
    image_name: &'a str,
    hostname: &'a str,
    argv: &'a [String],
}

/// A tag by its template, over what Docker gives it (`{{.Name}}`, `{{.ImageName}}` …).
fn tag(template: &str, of: &TagOf<'_>) -> Result<String, String> {
    let short = |id: &str| id.chars().take(12).collect::<String>();
    let words = |argv: &[String]| Data::from(argv.join(" "));
    let fields = vec![
        ("ID", Data::from(short(&of.id))),
        ("FullID", Data::str(&of.id)),
        ("Name", Data::str(of.name)),
        ("ImageID", Data::from(short(&of.image))),
        ("ImageFullID", Data::str(&of.image)),
        ("ImageName", Data::str(of.image_name)),
        ("Command", words(of.argv)),
        ("Hostname", Data::str(of.hostname)),
        ("DaemonName", Data::str("docker")),
        ("ContainerID", Data::str(&of.id)),
        ("ContainerName", Data::from(format!("/{}", of.name))),
        ("ContainerImageID", Data::str(&of.image)),
        ("ContainerImageName", Data::str(of.image_name)),
        ("ContainerEntrypoint", Data::str(of.argv.first().map_or("", String::as_str))),
        ("ContainerArgs", words(of.argv.get(1..).unwrap_or_default())),
    ];
    Template::named("log-tag", template)?.execute(&Struct::shown("*logger.Info", fields), Missing::NoValue)
}

/// What the options add to each line, as Docker writes it: `a=1,b=2`, escaped as in a query.
pub(crate) fn details(view: &ContainerView) -> String {
    let pairs = attributes(view);
    let pairs = pairs.iter().map(|(key, value)| format!("{}={}", query_escape(key), query_escape(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn attributes(view: &ContainerView) -> BTreeMap<String, String> {
    let spec: &ContainerSpec = &view.spec;
    let Some(log) = &spec.log else { return BTreeMap::new() };
    let option = |key: &str| log.options.get(key).map(String::as_str);
    let chosen = |names: &str, regex: &str| {
        let names: Vec<&str> = option(names).map(|text| text.split(',').collect()).unwrap_or_default();
        let regex = pattern(option(regex)).ok().flatten();
        move |name: &str| names.contains(&name) || regex.as_ref().is_some_and(|regex| regex.is_match(name))
    };
    let (of_labels, of_env) = (chosen("labels", "labels-regex"), chosen("env", "env-regex"));
    let labels = spec.labels.iter().filter(|(name, _)| of_labels(name)).map(|(k, v)| (k.clone(), v.clone()));
    let env = spec.process.env.iter().filter_map(|entry| entry.split_once('=')).filter(|(name, _)| of_env(name));
    let mut pairs: BTreeMap<String, String> = labels.collect();
    pairs.extend(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(template) = option("tag").filter(|text| !text.is_empty()) {
        let of = TagOf {
            id: view.id.to_string(),
            name: &view.name,
            image: spec.image_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            image_name: &spec.image_ref,
            hostname: &spec.hostname,
            argv: &view.argv,
        };
        if let Ok(tag) = tag(template, &of) {
            pairs.insert("tag".into(), tag);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(kind: &str, options: &[(&str, &str)]) -> Result<LogSpec> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        spec(&LogConfig { kind: kind.into(), config: Some(options) })
    }

    #[test]
    fn drivers() {
        let of = |kind: &str| spec(&LogConfig { kind: kind.into(), config: None });
        assert_eq!(of("local").unwrap().driver, "local");
        assert_eq!(of("foo").unwrap_err().to_string(), "error looking up logging plugin foo: plugin \"foo\" not found");
        let typo = with("json-file", &[("max-sise", "1m")]);
        assert_eq!(typo.unwrap_err().message(), "unknown log opt 'max-sise' for json-file log driver");
        let typo = with("local", &[("labels", "a")]);
        assert_eq!(typo.unwrap_err().message(), "unknown log opt 'labels' for log driver local");
        assert!(of("syslog").unwrap_err().to_string().starts_with("not implemented yet: "));
    }

    #[test]
    fn values_are_checked_before_there_is_a_container() {
        const START: &str = "failed to initialize logging driver: ";
        let fault = |options: &[(&str, &str)]| with("json-file", options).unwrap_err().chain();
        assert_eq!(fault(&[("mode", "foo")]), "logger: logging mode not supported: foo");
        let buffer = fault(&[("max-buffer-size", "1m")]);
        assert_eq!(buffer, "logger: max-buffer-size option is only supported with 'mode=non-blocking'");
        let size = fault(&[("mode", "non-blocking"), ("max-buffer-size", "foo")]);
        assert_eq!(size, "error parsing option max-buffer-size: invalid size: 'foo'");
        for (options, why) in [
            (&[("max-size", "foo")][..], "invalid size: 'foo'"),
            (&[("max-file", "0")], "max-file cannot be less than 1"),
            (&[("compress", "foo")], "strconv.ParseBool: parsing \"foo\": invalid syntax"),
            (
                &[("compress", "true"), ("max-file", "1")],
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
            (&[("tag", "{{")], "template: log-tag:1: unclosed action"),
            (
                &[("tag", "{{.Nope}}")],
                "template: log-tag:1:2: executing \"log-tag\" at <.Nope>: can't evaluate field Nope in type *logger.Info",
            ),
        ] {
            assert_eq!(fault(options), format!("{START}{why}"));
        }
        let regex = fault(&[("env-regex", "(")]);
        assert!(regex.starts_with(&format!("{START}error parsing regexp: ")) && regex.ends_with(": `(`"), "{regex}");
        assert!(with("json-file", &[("compress", "true"), ("tag", "{{.ID}}/{{.Name}}")]).is_ok());
        assert!(with("none", &[("foo", "bar")]).is_ok());
    }

    #[test]
    fn tags_are_templates() {
        let of = TagOf { id: "0123456789abcdef".into(), name: "web", image_name: "nginx:1", ..TagOf::default() };
        assert_eq!(
            tag("{{.ID}}-{{.Name}}-{{.ImageName}}-{{.DaemonName}}", &of).unwrap(),
            "0123456789ab-web-nginx:1-docker"
        );
    }
}
