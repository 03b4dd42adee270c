//! Builds: options in, messages out.

use barque_api::auth::AuthConfigs;
use barque_api::build::{BuildCacheRecord, BuildQuery};
use barque_api::progress::{JsonMessage, ProgressDetail};
use barque_build::options::{BuildOptions, NetworkMode, PullPolicy, Resources, Ulimit};
use barque_build::render::classic::Message;
use barque_engine::image::types::RegistryAuth;
use barque_engine::system::BuildCacheEntry;
use barque_model::{Error, Reference, Result};

use super::limits::Machine;

/// # Errors
/// What makes no sense; what only BuildKit can.
pub(crate) fn options(query: &BuildQuery, machine: &Machine) -> Result<BuildOptions> {
    if query.version == "2" || query.remote == "client-session" {
        return Err(Error::not_implemented("BuildKit's own protocol (/session)")
            .with_hint("DOCKER_BUILDKIT=0 docker build, or barque build: same Dockerfiles, same cache"));
    }
    if !matches!(query.version.as_str(), "" | "1") {
        return Err(Error::invalid(format!("invalid version {:?}", query.version)));
    }
    if !query.outputs.is_empty() && query.outputs != "null" && query.outputs != "[]" {
        return Err(Error::not_implemented("build outputs (-o) over the classic API"));
    }
    if !query.security_opt.0.is_empty() {
        return Err(Error::invalid("The daemon on this platform does not support setting security options on build")
            .with_hint("RUN --security=insecure with build --allow security.insecure lifts the limits of one step"));
    }
    if !matches!(query.isolation.to_ascii_lowercase().as_str(), "" | "default") {
        return Err(Error::invalid(format!("Unsupported isolation: {:?}", query.isolation)));
    }
    if query.squash {
        return Err(Error::invalid("squash is only supported with experimental mode"));
    }
    limits(query, machine)?;
    let natural = |name: &str, value: i64| match u64::try_from(value) {
        Ok(value) => Ok(value),
        Err(_) => Err(Error::invalid(format!("invalid {name}: {value}: it must not be negative"))),
    };
    let mut options = BuildOptions::new(std::path::PathBuf::new());
    options.target.clone_from(&query.target);
    options.build_args = query.build_args.0.clone();
    options.inline_cache = options.flag("BUILDKIT_INLINE_CACHE");
    options.no_cache = query.no_cache;
    let pull = !matches!(query.pull.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none");
    options.pull = if pull { PullPolicy::Always } else { PullPolicy::Missing };
    options.labels = query.labels.0.clone();
    options.extra_hosts = extra_hosts(&query.extra_hosts)?;
    options.network = NetworkMode::parse(&query.network_mode);
    options.shm_size = Some(natural("shmsize", query.shm_size)?).filter(|size| *size > 0);
    options.ulimits = query
        .ulimits
        .0
        .iter()
        .map(|limit| Ulimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard })
        .collect();
    options.resources = Resources {
        memory: query.memory,
        memory_swap: query.memory_swap,
        cpu_shares: query.cpu_shares,
        cpu_period: query.cpu_period,
        cpu_quota: query.cpu_quota,
        cpuset_cpus: query.cpuset_cpus.clone(),
        cpuset_mems: query.cpuset_mems.clone(),
        cgroup_parent: query.cgroup_parent.clone(),
    };
    options.platform = super::create::platform(&query.platform)?;
    Ok(options)
}

/// Those of containers, and shares that the kernel would not take as they are.
fn limits(query: &BuildQuery, machine: &Machine) -> Result<()> {
    const SHARES: std::ops::RangeInclusive<i64> = 2..=262_144;
    let limits = barque_api::container::Resources {
        memory: query.memory,
        memory_swap: query.memory_swap,
        cpu_period: query.cpu_period,
        cpu_quota: query.cpu_quota,
        cpuset_cpus: query.cpuset_cpus.clone(),
        cpuset_mems: query.cpuset_mems.clone(),
        ..Default::default()
    };
    let _none_of_these = super::limits::check(&limits, 0, machine)?;
    if query.cpu_shares != 0 && !SHARES.contains(&query.cpu_shares) {
        let text =
            format!("--cpu-shares {}: it must be between {} and {}", query.cpu_shares, SHARES.start(), SHARES.end());
        return Err(Error::invalid(text));
    }
    Ok(())
}

/// `name:address`, one or several, comma-separated.
fn extra_hosts(list: &[String]) -> Result<Vec<(String, String)>> {
    let pair = |entry: &str| match entry.split_once([':', '=']) {
        Some((name, address)) if !name.is_empty() => Ok((name.to_owned(), address.to_owned())),
        _ => Err(Error::invalid(format!("bad format for add-host: {entry:?}"))),
    };
    list.iter().flat_map(|text| text.split(',')).filter(|entry| !entry.is_empty()).map(pair).collect()
}

/// # Errors
/// Malformed names.
pub(crate) fn tags(list: &[String]) -> Result<Vec<Reference>> {
    let mut tags: Vec<Reference> = Vec::new();
    for text in list.iter().filter(|text| !text.is_empty()) {
        let reference: Reference = text.parse()?;
        if reference.digest().is_some() {
            return Err(Error::invalid("build tag cannot contain a digest"));
        }
        let reference = reference.with_default_tag();
        if !tags.contains(&reference) {
            tags.push(reference);
        }
    }
    Ok(tags)
}

pub(crate) fn credentials(configs: AuthConfigs) -> Vec<(String, RegistryAuth)> {
    let host = |key: &str| match key {
        // The name that configuration files have for the public registry.
        "https://index.docker.io/v1/" | "index.docker.io" => "docker.io".to_owned(),
        other => other.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/').to_owned(),
    };
    configs.into_iter().map(|(key, wire)| (host(&key), super::auth::credentials(wire))).collect()
}

pub(crate) fn record(entry: &BuildCacheEntry) -> BuildCacheRecord {
    BuildCacheRecord {
        id: entry.id.clone(),
        parents: None,
        parent: None,
        kind: entry.kind.clone(),
        description: entry.description.clone(),
        in_use: entry.in_use,
        shared: entry.shared,
        size: i64::try_from(entry.size).unwrap_or(i64::MAX),
        created_at: entry.created_at.to_string(),
        last_used_at: entry.last_used_at.map(|time| time.to_string()),
        usage_count: i64::try_from(entry.usage_count).unwrap_or(i64::MAX),
    }
}

/// A message of the builder on the wire.
pub(crate) fn message(message: Message) -> JsonMessage {
    match message {
        Message::Stream(text) => JsonMessage::stream(text),
        Message::Aux(image) => JsonMessage::aux(serde_json::json!({ "ID": image.to_string() })),
        Message::Progress(progress) => {
            let mut message = JsonMessage::status(progress.id, progress.action);
            message.progress_detail = Some(ProgressDetail {
                current: i64::try_from(progress.current).unwrap_or(i64::MAX),
                total: i64::try_from(progress.total).unwrap_or(i64::MAX),
                ..ProgressDetail::default()
            });
            message
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_query() {
        let params = barque_api::query::Params::parse(
            "buildargs={\"A\":\"1\",\"B\":null}&extrahosts=a:1.2.3.4,b:5.6.7.8&extrahosts=c:9.9.9.9&pull=1&nocache=1&shmsize=5&networkmode=host",
        );
        let query = BuildQuery::from_params(&params).unwrap();
        let options = options(&query, &Machine::with_two_cpus()).unwrap();
        assert_eq!(options.build_args["A"].as_deref(), Some("1"));
        assert_eq!(options.build_args["B"], None);
        assert_eq!((options.extra_hosts.len(), options.shm_size), (3, Some(5)));
        assert_eq!((options.pull, options.network), (PullPolicy::Always, NetworkMode::Host));
        assert!(!options.inline_cache);
        let query =
            BuildQuery { security_opt: barque_api::query::JsonParam(vec!["x".into()]), ..BuildQuery::default() };
        assert!(
            super::options(&query, &Machine::with_two_cpus()).unwrap_err().to_string().contains("security options")
        );
        for (text, error) in [
            ("version=3", "invalid version \"3\""),
            ("isolation=hyperv", "Unsupported isolation: \"hyperv\""),
            ("squash=1", "squash is only supported with experimental mode"),
            ("memory=1", "Minimum memory limit allowed is 6MB"),
            ("memory=52428800&memswap=10", "Minimum memoryswap limit should be larger"),
            ("memswap=10", "You should always set the Memory limit"),
            ("cpusetcpus=9", "Requested CPUs are not available"),
            ("cpuperiod=1", "CPU cfs period can not be less than 1ms"),
            ("cpushares=1", "between 2 and 262144"),
        ] {
            let query = BuildQuery::from_params(&barque_api::query::Params::parse(text)).unwrap();
            assert!(
                super::options(&query, &Machine::with_two_cpus()).unwrap_err().to_string().contains(error),
                "{text}"
            );
        }
        let params = barque_api::query::Params::parse("buildargs={\"BUILDKIT_INLINE_CACHE\":\"1\"}");
        assert!(
            super::options(&BuildQuery::from_params(&params).unwrap(), &Machine::with_two_cpus()).unwrap().inline_cache
        );
        let query = BuildQuery { version: "2".into(), ..BuildQuery::default() };
        assert!(
            super::options(&query, &Machine::with_two_cpus())
                .unwrap_err()
                .to_string()
                .starts_with("not implemented yet: ")
        );
    }

    #[test]
    fn names() {
        let list = ["a".to_owned(), "a:latest".into(), String::new(), "b:1".into()];
        let tags: Vec<String> = tags(&list).unwrap().iter().map(Reference::familiar).collect();
        assert_eq!(tags, ["a:latest", "b:1"]);
        assert!(super::tags(&[format!("a@sha256:{}", "0".repeat(64))]).is_err());
        assert!(super::tags(&["UPPER".into()]).is_err());
    }
}
