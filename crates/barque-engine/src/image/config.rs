//! Image configurations made by the engine: commit, import, the machine's own root. Pure.

use std::collections::BTreeMap;

use barque_model::{DiffId, Digest, Error, Platform, Result, Timestamp};
use barque_store::{Image, Layer};

use super::types::{History, ImageConfig, ImageHealth, RootFs, RunConfig};
use crate::container::request::CommitOptions;
use crate::container::spec::{ContainerSpec, HealthTest};
use crate::container::view::ContainerView;

/// Reads a configuration.
pub fn parse(bytes: &[u8]) -> Result<ImageConfig> {
    serde_json::from_slice(bytes).map_err(|e| Error::invalid(format!("the image's configuration is broken: {e}")))
}

fn bytes(config: &ImageConfig) -> Result<Vec<u8>> {
    serde_json::to_vec(config).map_err(|e| Error::internal(e.to_string()))
}

/// The configuration of a committed container.
pub fn committed(
    view: &ContainerView,
    base: Option<&Image>,
    layer: &Layer,
    options: &CommitOptions,
    now: Timestamp,
) -> Result<Vec<u8>> {
    let base = base.map(|i| parse(&i.config)).transpose()?.unwrap_or_default();
    let mut config = run_config(&view.spec);
    config.on_build.clone_from(&base.config.on_build);
    let config = super::changes::apply(config, &options.changes)?;
    let mut diff_ids = base.rootfs.diff_ids.clone();
    // As Docker: what changed nothing adds no layer. An archive of nothing is two empty blocks (ustar, "end-of-archive").
    let empty_layer = layer.diff_id == DiffId(Digest::of(&[0; 1024]));
    if !empty_layer {
        diff_ids.push(layer.diff_id);
    }
    let mut history = base.history.clone();
    history.push(History {
        created: Some(now.to_string()),
        created_by: Some(view.argv.join(" ")),
        author: Some(options.author.clone()).filter(|a| !a.is_empty()),
        comment: Some(options.comment.clone()).filter(|c| !c.is_empty()),
        empty_layer,
    });
    let author = Some(options.author.clone()).filter(|a| !a.is_empty());
    finish(&base, config, diff_ids, history, author, now)
}

/// The configuration of an imported root file system.
pub fn imported(
    diff_id: DiffId,
    message: &str,
    changes: &[String],
    platform: &Platform,
    now: Timestamp,
) -> Result<Vec<u8>> {
    let base = ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        ..ImageConfig::default()
    };
    let config = super::changes::apply(RunConfig::default(), changes)?;
    let comment = if message.is_empty() { "Imported from -".to_owned() } else { message.to_owned() };
    let history = vec![History { created: Some(now.to_string()), comment: Some(comment), ..History::default() }];
    finish(&base, config, vec![diff_id], history, None, now)
}

/// The configuration of `barque/host`, whose root file system is of `created`.
pub fn host(diff_id: DiffId, created: Timestamp) -> Result<Vec<u8>> {
    let platform = Platform::host();
    let config = RunConfig {
        env: Some(vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()]),
        cmd: Some(vec!["/bin/sh".into()]),
        ..RunConfig::default()
    };
    let base = ImageConfig { architecture: platform.architecture, os: platform.os, ..ImageConfig::default() };
    let history = vec![History {
        created: Some(created.to_string()),
        comment: Some("the root file system of this machine".into()),
        created_by: Some("barque".into()),
        ..History::default()
    }];
    finish(&base, config, vec![diff_id], history, None, created)
}

fn finish(
    base: &ImageConfig,
    config: RunConfig,
    diff_ids: Vec<DiffId>,
    history: Vec<History>,
    author: Option<String>,
    now: Timestamp,
) -> Result<Vec<u8>> {
    let host = Platform::host();
    let or = |own: &str, other: String| if own.is_empty() { other } else { own.to_owned() };
    bytes(&ImageConfig {
        architecture: or(&base.architecture, host.architecture),
        variant: base.variant.clone(),
        os: or(&base.os, host.os),
        os_version: base.os_version.clone(),
        created: Some(now.to_string()),
        author: author.or_else(|| base.author.clone()),
        docker_version: None,
        config,
        rootfs: RootFs { kind: "layers".into(), diff_ids },
        history,
    })
}

/// The part of a container's definition that images have too.
fn run_config(spec: &ContainerSpec) -> RunConfig {
    let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    let empty = || serde_json::Value::Object(serde_json::Map::new());
    let ports: BTreeMap<_, _> = spec.exposed_ports.iter().map(|p| (p.to_string(), empty())).collect();
    let volumes: BTreeMap<_, _> = spec
        .mounts
        .iter()
        .filter(|m| matches!(&m.source, crate::container::spec::MountSource::Volume { anonymous: true, .. }))
        .map(|m| (m.target.clone(), empty()))
        .collect();
    RunConfig {
        user: some(&spec.process.user),
        exposed_ports: Some(ports).filter(|p| !p.is_empty()),
        env: Some(spec.process.env.clone()).filter(|e| !e.is_empty()),
        entrypoint: spec.process.entrypoint.clone(),
        cmd: spec.process.cmd.clone(),
        volumes: Some(volumes).filter(|v| !v.is_empty()),
        working_dir: some(&spec.process.working_dir),
        labels: Some(spec.labels.clone()).filter(|l| !l.is_empty()),
        stop_signal: spec.stop_signal.map(|s| s.to_string()),
        healthcheck: spec.healthcheck.as_ref().map(health),
        on_build: None,
        shell: spec.process.shell.clone(),
        args_escaped: None,
    }
}

fn health(spec: &crate::container::spec::HealthSpec) -> ImageHealth {
    let nanos = |d: Option<std::time::Duration>| d.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
    ImageHealth {
        test: match &spec.test {
            HealthTest::Inherit => Vec::new(),
            HealthTest::None => vec!["NONE".into()],
            HealthTest::Exec(argv) => std::iter::once("CMD".to_owned()).chain(argv.iter().cloned()).collect(),
            HealthTest::Shell(line) => vec!["CMD-SHELL".into(), line.clone()],
        },
        interval: nanos(spec.interval),
        timeout: nanos(spec.timeout),
        start_period: nanos(spec.start_period),
        start_interval: nanos(spec.start_interval),
        retries: spec.retries.map_or(0, i64::from),
    }
}
