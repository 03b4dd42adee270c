//! From the members of an archive to images.

use std::io::{BufRead as _, BufReader, Read};

use barque_model::{ChainId, DiffId, Digest, Error, Platform, Reference, Result};
use serde::Deserialize;

use super::members::{Found, Members, blob_path, not_an_archive};
use super::positioned::Positioned;
use super::{Archive, LoadEvent, LoadedImage, legacy};
use crate::db::Layer;
use crate::image::NewImage;
use crate::image::config::{Config, Descriptor, ImageManifest, Index, is_index};
use crate::layer::{Compression, LayerSource, decompress_auto};
use crate::tar::bad;
use crate::{Lease, Store};

/// Indexes within indexes.
const DEPTH_MAX: usize = 4;
/// Images in one archive.
const IMAGES_MAX: usize = 1000;

/// An image to be made of the members.
pub(super) struct Plan {
    pub(super) config: Vec<u8>,
    /// Names of the members that are its layers, the lowest first.
    pub(super) layers: Vec<String>,
    pub(super) names: Vec<Reference>,
    pub(super) manifest: Option<(String, Vec<u8>)>,
    pub(super) index: Option<(String, Vec<u8>)>,
}

/// One image of `manifest.json`.
#[derive(Deserialize)]
struct DockerManifest {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Option<Vec<String>>,
}

/// See [`Store::load`].
pub(super) fn load(
    store: &Store,
    archive: Archive<'_>,
    platforms: &[Platform],
    events: &mut (dyn FnMut(LoadEvent) + Send),
) -> Result<Vec<LoadedImage>> {
    let lease = store.lease("load an archive")?;
    let result = load_leased(store, &lease, archive, platforms, events);
    // What no image refers to then goes: layers of others in the archive, or those here once more, packed otherwise.
    lease.end();
    if result.is_err() {
        // Nothing of a bad archive is kept, not even for another try, nor of one for which there was no room.
        drop(lease);
        let _ = store.collect();
    }
    result
}

fn load_leased(
    store: &Store,
    lease: &Lease,
    archive: Archive<'_>,
    platforms: &[Platform],
    events: &mut (dyn FnMut(LoadEvent) + Send),
) -> Result<Vec<LoadedImage>> {
    let plain = |input| decompress_auto(input).map(|plain| BufReader::with_capacity(crate::tree::BUFFER, plain));
    let mut members = match archive {
        Archive::Stream(input) => Members::read(store, lease, plain(input)?, events)?,
        Archive::File(file) => {
            let mut input = Positioned::new(file, 0);
            match Compression::detect(input.fill_buf().map_err(crate::error::from_io)?) {
                Compression::None => Members::read_at(store, lease, file, events)?,
                _ => Members::read(store, lease, plain(&mut input)?, events)?,
            }
        }
    };
    let plans = plan(&members, platforms)?;
    let mut loaded = Vec::new();
    for plan in plans {
        let image = put(store, lease, &mut members, plan)?;
        events(LoadEvent::Image(image.clone()));
        loaded.push(image);
    }
    Ok(loaded)
}

/// What images the members make, without touching anything.
fn plan(members: &Members, platforms: &[Platform]) -> Result<Vec<Plan>> {
    let mut oci = Vec::new();
    if let Some(bytes) = members.find_document("index.json") {
        from_index(members, bytes, platforms, None, &mut oci, DEPTH_MAX)?;
    }
    if let Some(bytes) = members.find_document("manifest.json") {
        let mut plans = from_docker(members, bytes, &oci)?;
        let (any, count) = (plans.is_empty(), plans.len());
        plans.retain(|p| platforms.is_empty() || offered(&p.config).is_none_or(|has| fits(platforms, &has)));
        return if any || !plans.is_empty() { Ok(plans) } else { Err(none_for(platforms, count)) };
    }
    if !oci.is_empty() {
        return Ok(oci);
    }
    match members.find_document("repositories") {
        None if !platforms.is_empty() && members.find_document("index.json").is_some() => Err(none_for(platforms, 1)),
        Some(bytes) => legacy::plan(members, bytes),
        None => Err(not_an_archive()),
    }
}

fn from_docker(members: &Members, bytes: &[u8], oci: &[Plan]) -> Result<Vec<Plan>> {
    let images: Vec<DockerManifest> =
        serde_json::from_slice(bytes).map_err(|e| bad("the archive's manifest.json makes no sense").with_source(e))?;
    if images.len() > IMAGES_MAX {
        return Err(bad(format!("the archive has more than {IMAGES_MAX} images")));
    }
    let mut plans = Vec::new();
    for image in images {
        let config = members.need_document(&image.config)?.to_vec();
        let mut names = Vec::new();
        for tag in image.repo_tags.unwrap_or_default() {
            names
                .push(tag.parse::<Reference>().map_err(|e| e.context(format!("invalid name '{tag}' in the archive")))?);
        }
        // Where the archive is an OCI layout too, its manifest is kept, so that digests stay what they were.
        let twin = oci.iter().find(|p| p.config == config);
        plans.push(Plan {
            layers: image.layers.unwrap_or_default(),
            names,
            manifest: twin.and_then(|t| t.manifest.clone()),
            index: twin.and_then(|t| t.index.clone()),
            config,
        });
    }
    Ok(plans)
}

/// Collects the images of an index and of those within.
fn from_index(
    members: &Members,
    bytes: &[u8],
    platforms: &[Platform],
    name: Option<&Reference>,
    plans: &mut Vec<Plan>,
    depth: usize,
) -> Result<()> {
    let index = Index::parse(bytes)?;
    let top = depth == DEPTH_MAX;
    let chosen: Vec<&Descriptor> =
        if top { index.manifests.iter().collect() } else { choose(&index, platforms).into_iter().collect() };
    for descriptor in chosen {
        if plans.len() >= IMAGES_MAX {
            return Err(bad(format!("the archive has more than {IMAGES_MAX} images")));
        }
        let own = annotated_name(descriptor);
        let name = own.as_ref().or(name);
        let Some(document) = members.find_document(&blob_path(&descriptor.digest)) else {
            // Archives of one platform may list manifests of others that they do not hold.
            continue;
        };
        if is_index(&descriptor.media_type) {
            if depth == 0 {
                return Err(bad("indexes are nested too deeply in the archive"));
            }
            let before = plans.len();
            from_index(members, document, platforms, name, plans, depth - 1)?;
            for plan in &mut plans[before..] {
                plan.index.get_or_insert_with(|| (descriptor.media_type.clone(), document.to_vec()));
            }
            continue;
        }
        add(members, document, descriptor, name, plans)?;
    }
    Ok(())
}

fn add(
    members: &Members,
    document: &[u8],
    descriptor: &Descriptor,
    name: Option<&Reference>,
    plans: &mut Vec<Plan>,
) -> Result<()> {
    if let Some(same) = plans.iter_mut().find(|p| p.manifest.as_ref().is_some_and(|(_, m)| m == document)) {
        same.names.extend(name.cloned());
        return Ok(());
    }
    let manifest = ImageManifest::parse(document)?;
    let config = members.need_blob(&manifest.config.digest)?.to_vec();
    let media_type = manifest.media_type.clone().unwrap_or_else(|| descriptor.media_type.clone());
    plans.push(Plan {
        config,
        layers: manifest.layers.iter().map(|l| blob_path(&l.digest)).collect(),
        names: name.cloned().into_iter().collect(),
        manifest: Some((media_type, document.to_vec())),
        index: None,
    });
    Ok(())
}

/// What the configuration of an image says it is for.
fn offered(config: &[u8]) -> Option<Platform> {
    #[derive(Deserialize)]
    struct Offered {
        os: String,
        architecture: String,
        variant: Option<String>,
    }
    let found: Offered = serde_json::from_slice(config).ok()?;
    Some(Platform::new(&found.os, &found.architecture, found.variant.as_deref()))
}

fn fits(platforms: &[Platform], has: &Platform) -> bool {
    platforms.iter().any(|wanted| wanted.score(has).is_some())
}

fn none_for(platforms: &[Platform], count: usize) -> Error {
    let list: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    Error::not_found(format!("requested platform ({}) not found in the archive", list.join(", ")))
        .with_hint(format!("the archive has {count} image(s) for other platforms: load it without --platform"))
}

/// The manifest of an index for the first of `platforms` that it has, or for this machine.
fn choose<'a>(index: &'a Index, platforms: &[Platform]) -> Option<&'a Descriptor> {
    let host = [Platform::host()];
    let wishes = if platforms.is_empty() { &host[..] } else { platforms };
    let best = |wanted: &Platform| {
        let score = |d: &&'a Descriptor| d.platform.as_ref().and_then(|p| wanted.score(p));
        index.manifests.iter().filter(|d| score(d).is_some()).max_by_key(score)
    };
    let fits = wishes.iter().find_map(best);
    // Without a platform in the index, or a wish, the first is as good as any.
    let known = |d: &&Descriptor| d.platform.as_ref().is_none_or(|p| p.architecture != "unknown");
    fits.or_else(|| if platforms.is_empty() { index.manifests.iter().find(known) } else { None })
}

/// The name in the annotations of containerd, or of the OCI image layout where that is a whole name.
fn annotated_name(descriptor: &Descriptor) -> Option<Reference> {
    let annotations = descriptor.annotations.as_ref()?;
    if let Some(name) = annotations.get("io.containerd.image.name") {
        return name.parse().ok();
    }
    let name = annotations.get("org.opencontainers.image.ref.name")?;
    if name.contains(['/', ':']) { name.parse().ok() } else { None }
}

/// Adds the layers and puts the image.
fn put(store: &Store, lease: &Lease, members: &mut Members, plan: Plan) -> Result<LoadedImage> {
    let config = Config::parse(&plan.config)?;
    let diffs = config.diff_ids();
    if diffs.len() != plan.layers.len() {
        return Err(bad(format!("the archive has {} layers for an image of {}", plan.layers.len(), diffs.len())));
    }
    for (diff, name) in diffs.iter().zip(&plan.layers) {
        let found = members.need_layer(name)?.diff_id();
        if found != *diff {
            return Err(bad(format!("the archive's layer '{name}' is {found}, but the image wants {diff}")));
        }
    }
    let mut parent = None;
    for (diff, name) in diffs.iter().zip(&plan.layers) {
        let found = members.take_layer(name)?;
        parent = Some(add_layer(store, lease, found, *diff, parent)?);
    }
    let new = NewImage {
        config: plan.config,
        manifest: plan.manifest,
        index: plan.index,
        names: plan.names.clone(),
        parent: None,
    };
    let put = store.put_image(lease, new)?;
    Ok(LoadedImage { id: put.id, names: plan.names, moved: put.moved })
}

fn add_layer(store: &Store, lease: &Lease, found: Found, diff_id: DiffId, parent: Option<ChainId>) -> Result<ChainId> {
    let chain = ChainId::on(parent, diff_id);
    let applied = match found {
        Found::Applied(layer) => *layer,
        Found::Known(..) if store.hold_layer(lease, &chain)? => return Ok(chain),
        Found::Known(digest, diff_id) => unpack_known(store, lease, digest, diff_id)?,
    };
    store.add_layer(lease, applied, parent).map(|l| l.chain_id)
}

fn unpack_known(store: &Store, lease: &Lease, digest: Digest, diff_id: DiffId) -> Result<crate::AppliedLayer> {
    let source = LayerSource { digest: Some(digest), diff_id: Some(diff_id), ..LayerSource::default() };
    store.unpack_blob(lease, source)
}

/// See [`Store::import_root`]. The bytes are not kept: the layer's identity is that of the archive which its files
/// make, so that it can be pushed without keeping everything twice.
pub(super) fn import_root(store: &Store, lease: &Lease, input: &mut dyn Read) -> Result<Layer> {
    let mut writer = store.layer_writer(lease, LayerSource { discard_blob: true, ..LayerSource::default() })?;
    let mut buffer = vec![0u8; crate::tree::BUFFER];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => writer.push(&buffer[..n])?,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(crate::error::from_io(e)),
        }
    }
    let applied = writer.finish()?;
    store.add_rewritten(lease, applied)
}
