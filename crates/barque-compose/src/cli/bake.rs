//! `build --print`: what would be built, as a file for Buildx' `bake`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::apply::images::{self, BuildWish};
use crate::file::model::{Build, Texts};
use crate::file::paths;
use crate::file::project::{Project, Service};

/// A bake file: <https://docs.docker.com/build/bake/reference/>.
#[derive(Debug, Serialize)]
pub(super) struct Bake {
    group: BTreeMap<&'static str, Group>,
    target: BTreeMap<String, Target>,
}

#[derive(Debug, Serialize)]
struct Group {
    targets: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Target {
    context: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    contexts: Texts,
    #[serde(skip_serializing_if = "String::is_empty")]
    dockerfile: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dockerfile_inline: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    args: Texts,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: Texts,
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache_from: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache_to: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    target: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secret: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pull: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_cache: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    no_cache_filter: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    network: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    shm_size: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ulimits: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entitlements: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra_hosts: Texts,
    #[serde(skip_serializing_if = "String::is_empty")]
    call: String,
    output: Vec<String>,
}

/// The builds of these services.
pub(super) fn bake(project: &Project, names: &[String], wish: &BuildWish, push: bool) -> Bake {
    let services = names.iter().filter_map(|name| project.services.get(name));
    let targets: BTreeMap<String, Target> = services
        .filter_map(|s| Some((s.name.clone(), target(project, s, s.spec.build.as_ref()?, wish, push))))
        .collect();
    let group = Group { targets: targets.keys().cloned().collect() };
    Bake { group: BTreeMap::from([("default", group)]), target: targets }
}

fn target(project: &Project, service: &Service, build: &Build, wish: &BuildWish, push: bool) -> Target {
    // What is sent to the engine, and what only Buildx has words for.
    let platforms = images::platforms(project, service, build, wish).unwrap_or_else(|_| build.platforms.clone());
    let query = images::query(project, service, build, wish, &platforms);
    let mut entitlements = build.entitlements.clone();
    if build.privileged {
        entitlements.push("security.insecure".to_owned());
    }
    let context = |(name, value): (&String, &String)| {
        // Another service is another target.
        let value = match value.strip_prefix("service:") {
            Some(service) => format!("target:{service}"),
            None => value.clone(),
        };
        (name.clone(), value)
    };
    let host = |host: &String| host.split_once(':').map(|(name, address)| (name.to_owned(), address.to_owned()));
    let ulimits = query.ulimits.0.iter();
    Target {
        context: build.context.clone(),
        contexts: build.additional_contexts.iter().map(context).collect(),
        dockerfile: if build.dockerfile_inline.is_empty() { dockerfile(build) } else { String::new() },
        dockerfile_inline: build.dockerfile_inline.clone(),
        args: query.build_args.0.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
        labels: query.labels.0,
        tags: query.tags,
        cache_from: build.cache_from.clone(),
        cache_to: build.cache_to.clone(),
        target: query.target,
        secret: build.secrets.iter().filter_map(|s| secret(project, &s.source, &s.target)).collect(),
        ssh: build.ssh.iter().chain(&wish.ssh).cloned().collect(),
        platforms,
        pull: !query.pull.is_empty(),
        no_cache: query.no_cache,
        no_cache_filter: build.no_cache_filter.clone(),
        network: query.network_mode,
        shm_size: if query.shm_size > 0 { query.shm_size.to_string() } else { String::new() },
        ulimits: ulimits.map(|u| format!("{}={}:{}", u.name, u.soft, u.hard)).collect(),
        entitlements,
        extra_hosts: query.extra_hosts.iter().filter_map(host).collect(),
        call: if wish.check { "lint".to_owned() } else { String::new() },
        output: vec![if push { "type=registry" } else { "type=docker" }.to_owned()],
    }
}

/// The path as Buildx takes it: from where it is called, so absolute, unless the context is elsewhere.
fn dockerfile(build: &Build) -> String {
    match paths::is_remote_context(&build.context) {
        true => build.dockerfile.clone(),
        false => paths::absolute(&build.dockerfile, std::path::Path::new(&build.context), None),
    }
}

fn secret(project: &Project, source: &str, target: &str) -> Option<String> {
    let object = project.secrets.get(source)?;
    let id = if target.is_empty() { source } else { target };
    Some(match object.environment.as_str() {
        "" => format!("id={id},type=file,src={}", object.file),
        variable => format!("id={id},type=env,env={variable}"),
    })
}
