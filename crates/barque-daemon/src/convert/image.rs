//! Images.

use std::collections::BTreeMap;

use barque_api::ApiVersion;
use barque_api::container::{ContainerConfig, DriverData, HealthConfig};
use barque_api::distribution::DistributionInspect;
use barque_api::image as wire;
use barque_api::json::{Set, set};
use barque_engine::image::types::{Distribution, HistoryView, ImageRemoval, ImageView, RunConfig, SearchHit};
use barque_model::{Error, Platform, Result, Timestamp};
use serde_json::{Map, Value};

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// One row of the list.
pub(crate) fn summary(view: &ImageView, version: ApiVersion) -> wire::ImageSummary {
    let created: Option<Timestamp> = view.config.created.as_deref().and_then(|text| text.parse().ok());
    // Until 1.42 images without any name had one made of `<none>`.
    let nameless = view.tags.is_empty() && view.digests.is_empty() && version.before(43);
    let unnamed = |list: &[String], none: &str| match nameless {
        true => vec![none.to_owned()],
        false => list.to_vec(),
    };
    wire::ImageSummary {
        containers: if version.at_least(51) { i64::try_from(view.containers).unwrap_or(-1) } else { -1 },
        created: created.map_or(0, Timestamp::seconds),
        id: view.id.to_string(),
        labels: view.config.config.labels.clone(),
        parent_id: view.parent.map(|id| id.to_string()).unwrap_or_default(),
        descriptor: None,
        manifests: None,
        repo_digests: unnamed(&view.digests, "<none>@<none>"),
        repo_tags: unnamed(&view.tags, "<none>:<none>"),
        // Not known unless it was asked for.
        shared_size: view.unique_size.map_or(-1, |unique| signed(view.size.saturating_sub(unique))),
        size: signed(view.size),
        virtual_size: version.before(44).then(|| signed(view.size)),
    }
}

/// Everything about one image, as clients of `version` expect it.
pub(crate) fn inspect(view: &ImageView, version: ApiVersion) -> Result<Value> {
    let config = &view.config;
    let old = version.before(52);
    let comment = config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default();
    let always = |text: String| Some(text).filter(|text| old || !text.is_empty());
    let document = wire::ImageInspect {
        id: view.id.to_string(),
        repo_tags: view.tags.clone(),
        repo_digests: view.digests.clone(),
        parent: always(view.parent.map(|id| id.to_string()).unwrap_or_default()),
        comment: always(comment),
        created: match &config.created {
            Some(created) => created.clone(),
            None if version.before(44) => barque_model::time::ZERO.to_owned(),
            None => String::new(),
        },
        container: version.before(45).then(String::new),
        container_config: match version.before(45) {
            true => Some(serde_json::to_value(ContainerConfig::default()).unwrap_or_default()),
            false => None,
        },
        docker_version: always(config.docker_version.clone().unwrap_or_default()),
        author: always(config.author.clone().unwrap_or_default()),
        config: Some(image_config(&config.config)),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        os_version: config.os_version.clone().unwrap_or_default(),
        size: signed(view.size),
        virtual_size: version.before(44).then(|| signed(view.size)),
        graph_driver: Some(graph_driver(view)),
        root_fs: wire::RootFs {
            kind: "layers".into(),
            layers: Some(config.rootfs.diff_ids.iter().map(ToString::to_string).collect()),
        },
        metadata: wire::ImageMetadata { last_tag_time: Timestamp::or_zero(view.last_tagged) },
        descriptor: None,
        manifests: None,
    };
    let mut value =
        serde_json::to_value(&document).map_err(|why| Error::internal("cannot encode the image").with_source(why))?;
    if let Some(Value::Object(config)) = value.get_mut("Config") {
        old_config_keys(config, version);
    }
    Ok(value)
}

/// Keys of `Config` that older versions never left out.
fn old_config_keys(config: &mut Map<String, Value>, version: ApiVersion) {
    const UP_TO_51: &[(&str, Value)] = &[
        ("Cmd", Value::Null),
        ("Entrypoint", Value::Null),
        ("Env", Value::Null),
        ("Labels", Value::Null),
        ("OnBuild", Value::Null),
        ("User", Value::String(String::new())),
        ("Volumes", Value::Null),
        ("WorkingDir", Value::String(String::new())),
    ];
    const UP_TO_49: &[(&str, Value)] = &[
        ("Hostname", Value::String(String::new())),
        ("Domainname", Value::String(String::new())),
        ("AttachStdin", Value::Bool(false)),
        ("AttachStdout", Value::Bool(false)),
        ("AttachStderr", Value::Bool(false)),
        ("Tty", Value::Bool(false)),
        ("OpenStdin", Value::Bool(false)),
        ("StdinOnce", Value::Bool(false)),
        ("Image", Value::String(String::new())),
    ];
    let mut add = |keys: &[(&str, Value)]| {
        for (key, value) in keys {
            config.entry(*key).or_insert_with(|| value.clone());
        }
    };
    if version.before(52) {
        add(UP_TO_51);
    }
    if version.before(50) {
        add(UP_TO_49);
    }
}

fn image_config(config: &RunConfig) -> wire::ImageConfig {
    let keys =
        |map: &Option<BTreeMap<String, Value>>| -> Option<Set> { map.as_ref().map(|map| set(map.keys().cloned())) };
    wire::ImageConfig {
        user: config.user.clone().unwrap_or_default(),
        exposed_ports: keys(&config.exposed_ports),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: keys(&config.volumes),
        working_dir: config.working_dir.clone().unwrap_or_default(),
        labels: config.labels.clone(),
        stop_signal: config.stop_signal.clone().unwrap_or_default(),
        args_escaped: config.args_escaped.unwrap_or(false),
        healthcheck: config.healthcheck.as_ref().map(|health| HealthConfig {
            test: Some(health.test.clone()),
            interval: health.interval,
            timeout: health.timeout,
            start_period: health.start_period,
            start_interval: health.start_interval,
            retries: health.retries,
        }),
        on_build: config.on_build.clone(),
        shell: config.shell.clone(),
    }
}

fn graph_driver(view: &ImageView) -> DriverData {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut data = BTreeMap::new();
    if let Some((top, lower)) = view.layer_paths.split_last() {
        if !lower.is_empty() {
            let lower: Vec<String> = lower.iter().rev().map(|path| text(path)).collect();
            data.insert("LowerDir".to_owned(), lower.join(":"));
        }
        data.insert("UpperDir".to_owned(), text(top));
        if let Some(dir) = top.parent() {
            data.insert("MergedDir".to_owned(), text(&dir.join("merged")));
            data.insert("WorkDir".to_owned(), text(&dir.join("work")));
        }
    }
    DriverData { data: Some(data), name: "overlay2".into() }
}

pub(crate) fn history(view: &HistoryView) -> wire::HistoryItem {
    wire::HistoryItem {
        comment: view.comment.clone(),
        created: view.created,
        created_by: view.created_by.clone(),
        id: view.id.clone(),
        size: signed(view.size),
        tags: super::listed(view.tags.clone()),
    }
}

pub(crate) fn removal(removal: &ImageRemoval) -> wire::ImageDeleted {
    match removal {
        ImageRemoval::Untagged(name) => wire::ImageDeleted { untagged: name.clone(), deleted: String::new() },
        ImageRemoval::Deleted(id) => wire::ImageDeleted { deleted: id.clone(), untagged: String::new() },
    }
}

pub(crate) fn distribution(found: &Distribution) -> DistributionInspect {
    DistributionInspect {
        descriptor: wire::Descriptor {
            media_type: found.media_type.clone(),
            digest: found.digest.to_string(),
            size: signed(found.size),
            ..wire::Descriptor::default()
        },
        platforms: found
            .platforms
            .iter()
            .map(|p| wire::Platform {
                os: p.os.clone(),
                architecture: p.architecture.clone(),
                variant: p.variant.clone().unwrap_or_default(),
                ..wire::Platform::default()
            })
            .collect(),
    }
}

pub(crate) fn search_hit(hit: &SearchHit) -> wire::SearchResult {
    wire::SearchResult {
        star_count: hit.stars,
        is_official: hit.official,
        name: hit.name.clone(),
        is_automated: hit.automated,
        description: hit.description.clone(),
    }
}

/// A JSON `OCIPlatform`, as queries have it since 1.46; `os/arch` is taken as well.
///
/// # Errors
/// Malformed text.
pub(crate) fn platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.starts_with('{') {
        return text.parse().map(Some);
    }
    let wire: wire::Platform =
        barque_api::json::from_str(text).map_err(|why| Error::invalid(format!("failed to parse platform: {why}")))?;
    if wire.os.is_empty() || wire.architecture.is_empty() {
        return Err(Error::invalid("both OS and Architecture must be provided"));
    }
    Ok(Some(Platform::new(&wire.os, &wire.architecture, Some(wire.variant.as_str()).filter(|v| !v.is_empty()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        assert_eq!(platform("").unwrap(), None);
        let arm = platform(r#"{"os":"linux","architecture":"arm64"}"#).unwrap().unwrap();
        assert_eq!((arm.os.as_str(), arm.architecture.as_str()), ("linux", "arm64"));
        assert_eq!(platform("linux/arm64").unwrap().unwrap(), arm);
        assert!(platform(r#"{"os":"linux"}"#).is_err());
        assert!(platform("{").is_err());
    }

    #[test]
    fn old_keys_of_the_configuration() {
        let keys = |version| {
            let mut config = Map::new();
            old_config_keys(&mut config, version);
            config.len()
        };
        assert_eq!((keys(ApiVersion::MAX), keys(ApiVersion::new(1, 51)), keys(ApiVersion::new(1, 41))), (0, 8, 17));
    }
}
