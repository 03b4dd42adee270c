//! Stopping and removing, in the reverse order of dependencies.

use std::collections::{BTreeMap, BTreeSet};

use barque_model::Error;
use futures_util::future::try_join_all;

use super::body::model_error;
use super::engine::Engine;
use super::hooks;
use super::progress::{Progress, Status};
use crate::file::project::Project;
use crate::plan::labels;
use crate::plan::observed::{Container, Resource};

/// What is done with each container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Teardown {
    /// Stop it.
    pub stop: bool,
    /// Remove it.
    pub remove: bool,
    /// With it, its anonymous volumes.
    pub volumes: bool,
    /// `--timeout`, seconds.
    pub timeout: Option<i64>,
}

/// Containers in groups: what others depend on comes in a later group than those others.
pub fn layers(containers: &[Container], project: Option<&Project>) -> Vec<Vec<Container>> {
    let services: BTreeSet<&str> = containers.iter().map(|c| c.service.as_str()).collect();
    let mut needs: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for container in containers {
        let listed = container.labels.get(labels::DEPENDS).map(String::as_str).unwrap_or_default();
        let own = needs.entry(&container.service).or_default();
        own.extend(listed.split(',').filter_map(|d| d.split(':').next()).filter(|d| !d.is_empty()).map(str::to_owned));
        if let Some(service) = project.and_then(|p| p.services.get(&container.service)) {
            own.extend(service.spec.depends_on.keys().cloned());
        }
    }
    let mut left = services;
    let mut out = Vec::new();
    while !left.is_empty() {
        let free: Vec<&str> = left
            .iter()
            .copied()
            .filter(|s| !left.iter().any(|other| other != s && needs.get(other).is_some_and(|n| n.contains(*s))))
            .collect();
        // a cycle of old labels must not hang us
        let free = if free.is_empty() { left.iter().copied().collect() } else { free };
        out.push(containers.iter().filter(|c| free.contains(&c.service.as_str())).cloned().collect());
        left.retain(|s| !free.contains(s));
    }
    out
}

/// Stops and removes containers.
///
/// # Errors
/// The first refusal of the engine.
pub async fn containers(
    engine: &Engine,
    progress: &Progress,
    project: Option<&Project>,
    found: &[Container],
    how: Teardown,
) -> Result<(), Error> {
    for layer in layers(found, project) {
        try_join_all(layer.iter().map(|c| container(engine, progress, project, c, how))).await?;
    }
    Ok(())
}

async fn container(
    engine: &Engine,
    progress: &Progress,
    project: Option<&Project>,
    container: &Container,
    how: Teardown,
) -> Result<(), Error> {
    let shown = format!("Container {}", container.name);
    let fail = |e: Error| {
        progress.failed(&shown, e.message());
        e
    };
    if how.stop && (container.state.is_up() || !how.remove) {
        progress.working(&shown, "Stopping");
        if let Some(service) =
            project.and_then(|p| p.services.get(&container.service)).filter(|_| container.state.is_up())
        {
            hooks::run(engine, progress, &service.spec.pre_stop, &container.id, &container.log_name(), "pre_stop")
                .await
                .map_err(fail)?;
        }
        match engine.stop(&container.id, how.timeout).await {
            Err(e) if !e.is_not_found() => return Err(fail(model_error(&e))),
            _ => progress.done(&shown, "Stopped"),
        }
    } else if how.stop && how.remove {
        progress.working(&shown, "Stopping");
        progress.done(&shown, "Stopped");
    }
    if how.remove {
        progress.working(&shown, "Removing");
        engine.remove(&container.id, how.volumes).await.map_err(|e| fail(model_error(&e)))?;
        progress.done(&shown, "Removed");
    }
    Ok(())
}

/// Removes networks; those still in use are left, with a warning.
///
/// # Errors
/// Any other refusal of the engine.
pub async fn networks(engine: &Engine, progress: &Progress, found: &[Resource]) -> Result<(), Error> {
    try_join_all(found.iter().map(|network| async move {
        let shown = format!("Network {}", network.name);
        progress.working(&shown, "Removing");
        match engine.remove_network(&network.id).await {
            Ok(_) => progress.done(&shown, "Removed"),
            Err(e) if e.message().contains("active endpoints") || e.status() == Some(403) => {
                progress.event(&shown, "Resource is still in use", Status::Warning);
            }
            Err(e) => {
                let e = model_error(&e);
                progress.failed(&shown, e.message());
                return Err(e.context(format!("failed to remove network {}", network.name)));
            }
        }
        Ok(())
    }))
    .await?;
    Ok(())
}

/// Removes volumes; those still in use are left, with a warning.
///
/// # Errors
/// Any other refusal of the engine.
pub async fn volumes(engine: &Engine, progress: &Progress, names: &[String]) -> Result<(), Error> {
    try_join_all(names.iter().map(|name| async move {
        let shown = format!("Volume {name}");
        progress.working(&shown, "Removing");
        match engine.remove_volume(name).await {
            Ok(true) => progress.done(&shown, "Removed"),
            Ok(false) => progress.event(&shown, "Warning: No resource found to remove", Status::Warning),
            Err(e) if e.is_conflict() => progress.event(&shown, "Resource is still in use", Status::Warning),
            Err(e) => return Err(model_error(&e).context(format!("failed to remove volume {name}"))),
        }
        Ok(())
    }))
    .await?;
    Ok(())
}

/// Removes the anonymous volumes of removed containers that the engine did not: one that was handed on when its
/// container was made again is mounted by name, so the engine no longer takes it for anonymous.
pub async fn anonymous(engine: &Engine, removed: &[Container]) {
    let mounts = removed.iter().flat_map(|c| &c.mounts).filter(|m| m.kind == "volume" && is_anonymous(&m.name));
    let names: BTreeSet<&str> = mounts.map(|m| m.name.as_str()).collect();
    for name in names {
        // gone already, or used by another container: both are fine
        let _ = engine.remove_volume(name).await;
    }
}

fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Removes images; those still in use are left, with a warning.
///
/// # Errors
/// Any other refusal of the engine.
pub async fn images(engine: &Engine, progress: &Progress, names: &[String]) -> Result<(), Error> {
    for name in names {
        let shown = format!("Image {name}");
        progress.working(&shown, "Removing");
        match engine.remove_image(name).await {
            Ok(true) => progress.done(&shown, "Removed"),
            Ok(false) => progress.event(&shown, "Warning: No resource found to remove", Status::Warning),
            Err(e) if e.is_conflict() => progress.event(&shown, "Resource is still in use", Status::Warning),
            Err(e) => return Err(model_error(&e).context(format!("failed to remove image {name}"))),
        }
    }
    Ok(())
}
