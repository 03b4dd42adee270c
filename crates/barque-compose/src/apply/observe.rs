//! Looks at what the engine has of a project: one list of each kind, all at once.

use std::collections::{BTreeMap, BTreeSet};

use barque_client::Result;
use futures_util::future::{join_all, try_join3};

use super::engine::Reader;
use crate::file::project::Project;
use crate::plan::observed::{self, Container, Image, Observed};

/// Everything `up` decides on.
///
/// # Errors
/// The engine's refusal.
pub async fn project(reader: &Reader, project: &Project) -> Result<Observed> {
    let names: BTreeSet<String> = project.services.values().map(|s| s.image(&project.name)).collect();
    let resources =
        try_join3(reader.containers(Some(&project.name), true), reader.networks(), volumes(reader, project));
    let (resources, images) = futures_util::future::join(resources, images(reader, names)).await;
    let (containers, networks, volumes) = resources?;
    Ok(Observed {
        containers: containers.into_iter().map(Container::new).collect(),
        networks: networks.into_iter().map(|n| (n.name.clone(), observed::network(n))).collect(),
        volumes,
        images: images?,
    })
}

async fn volumes(reader: &Reader, project: &Project) -> Result<BTreeMap<String, observed::Resource>> {
    // without volumes there is nothing to compare, and machines may have thousands of them
    if project.volumes.is_empty() {
        return Ok(BTreeMap::new());
    }
    Ok(reader.volumes().await?.into_iter().map(|v| (v.name.clone(), observed::volume(v))).collect())
}

/// Images by name; missing ones are left out.
///
/// # Errors
/// The engine's refusal.
pub async fn images(reader: &Reader, names: BTreeSet<String>) -> Result<BTreeMap<String, Image>> {
    let found = join_all(names.into_iter().map(|name| async move {
        let image = reader.image(&name).await?;
        Ok(image.map(|image| (name, Image::new(image))))
    }))
    .await;
    found.into_iter().filter_map(Result::transpose).collect()
}

/// The containers of a project.
///
/// # Errors
/// The engine's refusal.
pub async fn containers(reader: &Reader, project: &str, all: bool) -> Result<Vec<Container>> {
    let mut found: Vec<Container> =
        reader.containers(Some(project), all).await?.into_iter().map(Container::new).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
