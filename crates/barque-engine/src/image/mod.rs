//! Images: resolve, list, tag, remove, history; load, save, import; the machine's own root as an image.

mod changes;
pub mod config;
pub mod fetch;
mod mounted;
pub mod pull;
pub mod push;
pub mod types;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use barque_model::{ChainId, DiffId, Digest, Error, ErrorKind, ImageId, Platform, Reference, Result, Timestamp};
use barque_store::{Archive, Gone, Image, LoadEvent, NewImage, Removal, RemoveImage, SaveImage};

use crate::Engine;
use crate::container::files::{blocking_reader, tar_stream};
use crate::container::request::TarStream;
use types::{ArchiveInput, HistoryView, ImageConfig, ImageRemoval, ImageView, Progress, ProgressSink};

/// Labels by key.
type Labels = BTreeMap<String, String>;

/// The image that is this machine's own root file system.
pub const HOST_IMAGE: &str = "barque/host";

/// An image as containers need it.
#[derive(Clone, Debug)]
pub struct ImageInfo {
    pub id: ImageId,
    pub config: Arc<ImageConfig>,
    /// Directories, top-most first.
    pub layers: Vec<PathBuf>,
    pub chain: Option<ChainId>,
    pub platform: Platform,
}

impl Engine {
    /// The image a container is made from. Blocking.
    ///
    /// Errors: `NotFound` `No such image: X`.
    pub(crate) fn image_for_container(&self, name: &str, platform: Option<&Platform>) -> Result<ImageInfo> {
        let image = self.resolve_or_host(name)?;
        if let Some(wanted) = platform
            && wanted.score(&image.platform).is_none()
        {
            return Err(Error::not_found(format!(
                "No such image: {name} for platform {wanted}: the one here is for {}",
                image.platform
            ))
            .with_hint(format!("pull it: barque pull --platform {wanted} {name}")));
        }
        if let Some(info) = self.image_cache().lock().unwrap_or_else(PoisonError::into_inner).get(&image.id) {
            return Ok(info.clone());
        }
        let (chain, layers) = self.store().image_lower_dirs(&image.id)?;
        let info = ImageInfo {
            id: image.id,
            config: Arc::new(config::parse(&image.config)?),
            layers,
            chain,
            platform: image.platform,
        };
        self.image_cache().lock().unwrap_or_else(PoisonError::into_inner).insert(image.id, info.clone());
        Ok(info)
    }

    fn resolve_or_host(&self, name: &str) -> Result<Image> {
        match self.store().resolve_image(name) {
            Err(e) if e.kind() == ErrorKind::NotFound && is_host_image(name) => {
                self.make_host_image()?;
                Ok(self.store().resolve_image(name)?.image)
            }
            other => Ok(other?.image),
        }
    }

    /// Registers this machine's root as an image; nothing is copied.
    fn make_host_image(&self) -> Result<()> {
        // No tar of it exists whose digest this could be: the id of the engine stands in.
        let diff_id = DiffId(Digest::of(format!("barque/host of {}", self.engine_id()).as_bytes()));
        let lease = self.store().lease("barque/host")?;
        self.store().add_host_layer(&lease, diff_id, std::path::Path::new("/"))?;
        let name: Reference = HOST_IMAGE.parse()?;
        let image = NewImage {
            config: config::host(diff_id, root_created()?)?,
            manifest: None,
            index: None,
            names: vec![name.with_default_tag()],
            parent: None,
        };
        self.store().put_image(&lease, image)?;
        Ok(())
    }

    pub async fn image(&self, name: &str) -> Result<ImageView> {
        let (engine, name) = (self.clone(), name.to_owned());
        self.blocking(move || {
            let image = engine.resolve_or_host(&name)?;
            engine.image_view(image)
        })
        .await
    }

    /// All images, the newest first.
    pub async fn images(&self) -> Result<Vec<ImageView>> {
        let engine = self.clone();
        self.blocking(move || engine.store().images()?.into_iter().map(|i| engine.image_view(i)).collect()).await
    }

    /// As [`Engine::images`], with what only each of them holds.
    pub async fn images_with_unique(&self) -> Result<Vec<ImageView>> {
        let engine = self.clone();
        let sizes = self.blocking(move || engine.store().image_sizes()).await?;
        let mut images = self.images().await?;
        for image in &mut images {
            image.unique_size = sizes.get(&image.id).map(|(size, shared)| size.saturating_sub(*shared));
        }
        Ok(images)
    }

    fn image_view(&self, image: Image) -> Result<ImageView> {
        let containers = self.containers().iter().filter(|v| v.spec.image_id == Some(image.id)).count();
        let (_, mut layer_paths) = self.store().image_lower_dirs(&image.id)?;
        layer_paths.reverse();
        let (manifests, content) =
            self.store().read(|r| Ok((r.image_manifests(&image.id)?, r.image_content(&image.id)?)))?;
        let manifest_digest = manifests.iter().find(|m| !m.is_index).map(|m| m.digest.to_string());
        Ok(ImageView {
            id: image.id,
            tags: image.tags.iter().map(Reference::familiar).collect(),
            digests: image.digests.iter().map(Reference::familiar).collect(),
            parent: image.parent,
            config: config::parse(&image.config)?,
            size: image.size + content,
            layer_paths,
            unique_size: None,
            containers,
            last_tagged: Some(image.added_at),
            manifest_digest,
        })
    }

    /// The layers' story, the newest first. The image has to be for `platform`, where one is asked for.
    ///
    /// Errors: NotFound; Docker's sentence where the image is for another platform.
    pub async fn image_history(&self, name: &str, platform: Option<Platform>) -> Result<Vec<HistoryView>> {
        let (engine, name) = (self.clone(), name.to_owned());
        self.blocking(move || {
            let image = engine.resolve_or_host(&name)?;
            provides(&name, platform.as_slice(), &image.platform)?;
            let lines = engine.store().image_history(&image.id)?;
            Ok(lines
                .into_iter()
                .map(|l| HistoryView {
                    id: l.id.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
                    created: l.created_at.map_or(0, Timestamp::seconds),
                    created_by: l.created_by,
                    tags: l.tags,
                    size: l.size,
                    comment: l.comment,
                })
                .collect())
        })
        .await
    }

    pub async fn image_tag(&self, name: &str, new_name: &Reference) -> Result<()> {
        let (engine, name, new_name) = (self.clone(), name.to_owned(), new_name.clone().with_default_tag());
        if new_name.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        self.blocking(move || {
            let image = engine.resolve_or_host(&name)?;
            let of = name.parse::<Reference>().ok().map(Reference::with_default_tag);
            engine.store().tag_image(&image.id, &new_name, of.as_ref())?;
            engine.image_event("tag", &image.id.to_string(), &new_name.familiar());
            Ok(())
        })
        .await
    }

    pub async fn image_remove(&self, name: &str, force: bool, no_prune: bool) -> Result<Vec<ImageRemoval>> {
        let (engine, name) = (self.clone(), name.to_owned());
        self.blocking(move || {
            let running = |id: &barque_model::Id| engine.container(&id.to_string()).is_ok_and(|v| v.state.is_up());
            let options = RemoveImage { force, prune_parents: !no_prune };
            let found = engine.store().resolve_image(&name)?;
            if found.name.is_none() || found.image.tags.len() <= 1 {
                engine.check_unmounted(&found.image, &name, force)?;
            }
            let labels = engine.labels_of(&found.image.id.to_string());
            let removal = engine.store().remove_image(&name, options, &running)?;
            Ok(engine.removals(&found.image.id, &labels, found.name.is_some(), removal))
        })
        .await
    }

    /// Tells of a removal, as Docker does: the image is named by its id, and of what went only images are told.
    /// Digests that go along with a name that was asked for are told by nobody.
    fn removals(&self, image: &ImageId, labels: &Labels, by_name: bool, removal: Removal) -> Vec<ImageRemoval> {
        let mut removals = Vec::with_capacity(removal.records.len());
        for record in removal.records {
            match record {
                barque_store::Deletion::Untagged(name) => {
                    if !by_name || removals.is_empty() || !name.contains('@') {
                        self.labelled_event("untag", &image.to_string(), &image.to_string(), labels);
                    }
                    removals.push(ImageRemoval::Untagged(name));
                }
                barque_store::Deletion::Deleted(id) => {
                    if let Some(gone) = removal.images.iter().find(|i| i.to_string() == id) {
                        self.image_cache().lock().unwrap_or_else(PoisonError::into_inner).remove(gone);
                        self.image_event("delete", &id, &id);
                    }
                    removals.push(ImageRemoval::Deleted(id));
                }
            }
        }
        removals
    }

    /// Removes images nobody needs: dangling ones, or with `all` every one without a container. A `dry` run only tells
    /// what would go, once that is gone.
    pub async fn images_prune(
        &self,
        all: bool,
        wanted: impl Fn(&ImageView) -> bool + Send + Sync + 'static,
        dry: Option<Gone>,
    ) -> Result<(Vec<ImageRemoval>, u64)> {
        let engine = self.clone();
        self.blocking(move || {
            let (mut removals, mut bytes, mut going) = (Vec::new(), 0, HashSet::new());
            for image in engine.store().prunable_images(all, &dry.clone().unwrap_or_default())? {
                let id = image.id;
                let view = engine.image_view(image)?;
                if !wanted(&view) || engine.is_mounted(&id, false).is_some() {
                    continue;
                }
                if dry.is_some() {
                    removals.extend(view.tags.iter().cloned().map(ImageRemoval::Untagged));
                    removals.push(ImageRemoval::Deleted(id.to_string()));
                    going.insert(id);
                    continue;
                }
                let removal = engine.store().prune_image(&id)?;
                bytes += removal.reclaimed;
                let labels = view.config.config.labels.unwrap_or_default();
                removals.extend(engine.removals(&id, &labels, true, removal));
            }
            bytes += match &dry {
                Some(gone) => engine.store().images_would_free(&going, gone)?,
                None => engine.store().collect_interrupted()?.bytes,
            };
            Ok((removals, bytes))
        })
        .await
    }

    /// Images from an archive; gives Docker's `Loaded image: NAME` lines.
    pub async fn image_load(
        &self,
        archive: ArchiveInput,
        progress: ProgressSink,
        platforms: Vec<Platform>,
    ) -> Result<Vec<String>> {
        let engine = self.clone();
        self.blocking(move || {
            let mut report = |event: LoadEvent| {
                if let LoadEvent::Layer { name, current, total } = event {
                    let id = name.rsplit('/').find(|p| p.len() >= 12 && *p != "layer.tar").unwrap_or(&name);
                    let id: String = id.chars().take(12).collect();
                    let _reader_gone = progress.send(Progress::of(id, "Loading layer").at(current, total));
                }
            };
            let loaded = match archive {
                ArchiveInput::Stream(stream) => {
                    let mut input = blocking_reader(stream);
                    engine.store().load(Archive::Stream(&mut input), &platforms, &mut report)?
                }
                ArchiveInput::File(file) => engine.store().load(Archive::File(&*file), &platforms, &mut report)?,
            };
            let mut lines = Vec::new();
            for image in loaded {
                engine.image_event("load", &image.id.to_string(), &image.id.to_string());
                for (name, old) in &image.moved {
                    lines.push(format!(
                        "The image {} already exists, renaming the old one with ID {old} to empty string",
                        name.familiar()
                    ));
                }
                match image.names.is_empty() {
                    true => lines.push(format!("Loaded image ID: {}", image.id)),
                    false => lines.extend(image.names.iter().map(|n| format!("Loaded image: {}", n.familiar()))),
                }
            }
            Ok(lines)
        })
        .await
    }

    /// An archive of images. Each has to be for all of `platforms`: a name here stands for one image of one platform.
    ///
    /// Errors: NotFound; Docker's sentence where the image is for another platform.
    pub async fn image_save(&self, names: &[String], platforms: Vec<Platform>) -> Result<TarStream> {
        let (engine, names) = (self.clone(), names.to_vec());
        let images = self
            .blocking({
                let engine = self.clone();
                move || names.iter().map(|name| engine.save_item(name, &platforms)).collect::<Result<Vec<_>>>()
            })
            .await?;
        let images = images.into_iter().flatten().collect::<Vec<_>>();
        let lease = Arc::new(self.store().lease("save")?);
        for image in &images {
            self.image_event("save", &image.id.to_string(), &image.id.to_string());
        }
        tar_stream(move |out| engine.store().save(&lease, &images, out))
    }

    /// Errors: NotFound if the image is not for all of `platforms`, of which it can be for one.
    pub fn image_has_platforms(&self, name: &str, platforms: &[Platform]) -> Result<()> {
        if platforms.is_empty() {
            return Ok(());
        }
        provides(name, platforms, &self.store().resolve_image(name)?.image.platform)
    }

    /// A name without a tag stands for all its tags, as in `docker save`.
    fn save_item(&self, name: &str, platforms: &[Platform]) -> Result<Vec<SaveImage>> {
        if is_host_image(name) {
            return Err(Error::invalid(format!("{HOST_IMAGE} is this machine itself and cannot be saved"))
                .with_hint("export a container made from it: barque export CONTAINER"));
        }
        let found = self.store().resolve_image(name);
        let fits = |image: &Image| provides(name, platforms, &image.platform);
        if let Ok(reference) = name.parse::<Reference>()
            && reference.tag().is_none()
            && reference.digest().is_none()
        {
            let all = self.store().images()?.into_iter().filter_map(|image| {
                let names: Vec<_> = image.tags.iter().filter(|t| t.repository() == reference).cloned().collect();
                (!names.is_empty()).then(|| fits(&image).map(|()| SaveImage { id: image.id, names }))
            });
            let all = all.collect::<Result<Vec<_>>>()?;
            if !all.is_empty() {
                return Ok(all);
            }
            // No one tag is meant, so none is missed.
            found.as_ref().map_err(|e| match e.kind() {
                ErrorKind::NotFound => Error::not_found(format!("No such image: {name}")),
                kind => Error::new(kind, e.message()),
            })?;
        }
        let found = found?;
        fits(&found.image)?;
        let names = found.name.into_iter().filter(|n| n.tag().is_some()).collect();
        Ok(vec![SaveImage { id: found.image.id, names }])
    }

    /// Errors: InvalidArgument for a platform of another system than this one.
    pub async fn image_import(
        &self,
        archive: TarStream,
        name: Option<Reference>,
        message: String,
        changes: Vec<String>,
        platform: Option<Platform>,
    ) -> Result<ImageId> {
        let (engine, platform) = (self.clone(), platform.unwrap_or_else(Platform::host));
        if platform.os != Platform::host().os {
            return Err(Error::invalid("operating system is not supported"));
        }
        self.blocking(move || {
            let lease = engine.store().lease("import")?;
            let mut input = blocking_reader(archive);
            let root = engine.store().import_root(&lease, &mut input)?;
            let config = config::imported(root.layer.diff_id, &message, &changes, &platform, Timestamp::now())?;
            let names: Vec<Reference> = name.into_iter().map(Reference::with_default_tag).collect();
            let named = names.clone();
            let image = NewImage { config, manifest: None, index: None, names, parent: None };
            let put = engine.store().put_image(&lease, image)?;
            for name in named {
                engine.image_event("tag", &put.id.to_string(), &name.familiar());
            }
            engine.image_event("import", &put.id.to_string(), &put.id.to_string());
            Ok(put.id)
        })
        .await
    }

    /// Tells what happened to the image that `actor` names, with its labels unless it is gone.
    pub(crate) fn image_event(&self, action: &str, actor: &str, name: &str) {
        self.labelled_event(action, actor, name, &self.labels_of(actor));
    }

    fn labelled_event(&self, action: &str, actor: &str, name: &str, labels: &Labels) {
        let labels = labels.iter().map(|(key, value)| (key.as_str(), value.clone()));
        self.events().emit("image", action, actor, labels.chain([("name", name.to_owned())]));
    }

    fn labels_of(&self, image: &str) -> Labels {
        let found = self.store().resolve_image(image).and_then(|found| config::parse(&found.image.config));
        found.ok().and_then(|config| config.config.labels).unwrap_or_default()
    }
}

/// Errors: NotFound with Docker's sentence where an image for `has` is not for each of `wanted`.
fn provides(name: &str, wanted: &[Platform], has: &Platform) -> Result<()> {
    match wanted.iter().find(|p| p.score(has).is_none()) {
        Some(other) => Err(other_platform(name, other, has)),
        None => Ok(()),
    }
}

/// Docker's sentence for an image of another platform than asked for.
pub(crate) fn other_platform(name: &str, wanted: &Platform, has: &Platform) -> Error {
    Error::not_found(format!(
        "image with reference {name} was found but does not provide the specified platform ({wanted})"
    ))
    .with_hint(format!("it is for {has}; pull the other one: barque pull --platform {wanted} {name}"))
}

/// Whether a name means this machine's own root.
pub fn is_host_image(name: &str) -> bool {
    name.parse::<Reference>().is_ok_and(|r| r.with_default_tag().familiar() == "barque/host:latest")
}

/// When this machine's root file system was made; where it does not tell, when its root was last changed.
fn root_created() -> Result<Timestamp> {
    let root = std::fs::metadata("/")?;
    let seconds = |time: std::io::Result<std::time::SystemTime>| {
        let since = time.ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
        i64::try_from(since).ok().filter(|seconds| *seconds > 0)
    };
    let known = seconds(root.created()).or_else(|| seconds(root.modified()));
    Ok(known.map_or_else(Timestamp::now, Timestamp::from_secs))
}
