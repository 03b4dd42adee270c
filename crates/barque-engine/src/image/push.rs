//! Pushing: the manifest an image came with, byte for byte, or one made for an image made here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use barque_model::{DiffId, Error, ErrorKind, Platform, Reference, Result};
use barque_registry::{BytesSource, Client, Credentials, Descriptor, FileSource, PushBlob, Pushed, RawManifest};
use barque_store::{Image, Lease};
use bytes::Bytes;

use super::types::{Progress, ProgressSink, RegistryAuth};
use crate::Engine;

/// Blobs on their way at once, where the configuration does not say.
const CONCURRENT: usize = 5;
/// Repositories a registry is asked to link one blob from before it is sent.
const MOUNTS_MAX: usize = 4;

/// A blob to be sent.
struct Part {
    descriptor: Descriptor,
    source: Source,
    /// As shown to the user; the configuration is not.
    label: Option<String>,
    /// Other repositories of the registry that are known to have it.
    mount_from: Vec<String>,
}

impl Part {
    fn layer(descriptor: Descriptor, label: String, file: std::path::PathBuf, mount_from: Vec<String>) -> Part {
        let label = Some(label);
        Part { descriptor, source: Source::File(FileSource(file)), label, mount_from }
    }
}

enum Source {
    File(FileSource),
    Bytes(BytesSource),
}

/// Everything one image needs at the registry.
struct Package {
    manifest: RawManifest,
    parts: Vec<Part>,
}

impl Engine {
    /// `POST /images/{name}/push`.
    pub async fn image_push(
        &self,
        reference: Reference,
        all_tags: bool,
        platform: Option<Platform>,
        auth: RegistryAuth,
        progress: ProgressSink,
    ) -> Result<()> {
        let credentials = super::pull::credentials(&auth);
        let say = |p: Progress| drop(progress.send(p));
        say(Progress::status(format!("The push refers to repository [{}]", reference.name())));
        let (told, references) = match all_tags {
            true => (reference.clone(), self.local_tags(&reference)?),
            false => (reference.clone().with_default_tag(), vec![reference.with_default_tag()]),
        };
        let client = self.registry();
        for reference in references {
            if let Some(platform) = &platform {
                self.image_has_platforms(&reference.familiar(), std::slice::from_ref(platform))?;
            }
            let tag = reference.tag().unwrap_or_default().to_owned();
            let (engine, named) = (self.clone(), reference.clone());
            let lease = self.blocking({
                let store = self.store().clone();
                move || store.lease("push")
            });
            let lease = Arc::new(lease.await?);
            let held = lease.clone();
            let package = self.blocking(move || engine.package(&held, &named)).await?;
            for part in &package.parts {
                if let Some(label) = &part.label {
                    say(Progress::of(label, "Preparing"));
                }
            }
            self.push_parts(&client, &reference, &package, &credentials, &progress).await?;
            let digest = client.put_manifest(&reference, &package.manifest, &credentials).await?;
            let size = package.manifest.bytes.len();
            say(Progress::status(format!("{tag}: digest: {digest} size: {size}")));
            let aux = format!(r#"{{"Tag":"{tag}","Digest":"{digest}","Size":{size}}}"#);
            say(Progress { aux: Some(aux), ..Progress::status("") });
            self.remember_digest(&reference, digest)?;
        }
        self.image_event("push", &told.familiar(), &told.familiar_name());
        Ok(())
    }

    fn local_tags(&self, reference: &Reference) -> Result<Vec<Reference>> {
        let images = self.store().images()?;
        let tags = images.into_iter().flat_map(|i| i.tags).filter(|t| t.repository() == reference.repository());
        let mut tags: Vec<Reference> = tags.collect();
        tags.sort();
        match tags.is_empty() {
            true => Err(missing(reference)),
            false => Ok(tags),
        }
    }

    fn package(&self, lease: &Lease, reference: &Reference) -> Result<Package> {
        if super::is_host_image(&reference.familiar()) {
            return Err(Error::invalid("barque/host is this machine itself and cannot be pushed"));
        }
        let image = self.store().resolve_image(&reference.familiar()).map_err(|e| match e.kind() {
            ErrorKind::NotFound => match self.local_tags(reference) {
                Ok(_) => Error::not_found(format!("tag does not exist: {}", reference.familiar())),
                Err(none) => none,
            },
            _ => e,
        })?;
        let image = image.image;
        let neighbours = self.neighbours(reference)?;
        let manifest = self.store().image_manifest(lease, &image, &[reference])?;
        let raw = RawManifest::new(manifest.media_type, manifest.bytes);
        let barque_registry::Document::Image(parsed) = raw.parse()? else {
            return Err(Error::internal("a stored manifest is an index"));
        };
        let mut parts = Vec::new();
        // As Docker: the top one first, by the ids of what they hold.
        for (layer, own) in parsed.layers.iter().zip(&image.layers).rev() {
            let path = self.store().blob_path(&layer.digest);
            parts.push(Part::layer(layer.clone(), own.diff_id.0.short(), path, neighbours.having(own)));
        }
        parts.push(config_part(parsed.config.clone(), &image));
        Ok(Package { manifest: raw, parts: each_once(parts) })
    }

    /// What other repositories of the same registry are known to have: those that images here came from or went to.
    fn neighbours(&self, reference: &Reference) -> Result<Neighbours> {
        let mut found = Neighbours::default();
        for image in self.store().images()? {
            let elsewhere = |d: &&Reference| d.domain() == reference.domain() && d.path() != reference.path();
            for other in image.digests.iter().filter(elsewhere) {
                for layer in &image.layers {
                    found.0.entry(layer.diff_id).or_default().push(other.path().to_owned());
                }
            }
        }
        Ok(found)
    }

    async fn push_parts(
        &self,
        client: &Client,
        reference: &Reference,
        package: &Package,
        credentials: &Credentials,
        progress: &ProgressSink,
    ) -> Result<()> {
        let limit = self.max_uploads().unwrap_or(CONCURRENT).max(1);
        let slots = tokio::sync::Semaphore::new(limit);
        let pushes = package.parts.iter().map(async |part| {
            let _slot = slots.acquire().await.map_err(|_| Error::canceled("the push was cancelled"))?;
            push_part(client, reference, part, credentials, progress).await
        });
        futures_util::future::try_join_all(pushes).await.map(|_| ())
    }

    fn remember_digest(&self, reference: &Reference, digest: barque_model::Digest) -> Result<()> {
        let image = self.store().resolve_image(&reference.familiar())?.image;
        let name = reference.repository().with_digest(digest);
        self.store().write_durable(|tx| tx.image_name_set(&name, &image.id, Some(digest)).map(|_| ()))
    }
}

/// Repositories by the layers they have. That their blob is the same one is likely, not certain: the registry is asked.
#[derive(Default)]
struct Neighbours(HashMap<DiffId, Vec<String>>);

impl Neighbours {
    fn having(&self, layer: &barque_store::ImageLayer) -> Vec<String> {
        self.0.get(&layer.diff_id).into_iter().flatten().take(MOUNTS_MAX).cloned().collect()
    }
}

/// A blob that several layers share is sent, and spoken of, once.
fn each_once(mut parts: Vec<Part>) -> Vec<Part> {
    let mut seen = HashSet::new();
    parts.retain(|part| seen.insert(part.descriptor.digest));
    parts
}

async fn push_part(
    client: &Client,
    reference: &Reference,
    part: &Part,
    credentials: &Credentials,
    progress: &ProgressSink,
) -> Result<()> {
    let size = part.descriptor.size;
    let report = |done: u64| {
        if let Some(label) = &part.label {
            let _reader_gone = progress.send(Progress::of(label, "Pushing").at(done, size));
        }
    };
    let blob = PushBlob {
        reference,
        descriptor: &part.descriptor,
        source: match &part.source {
            Source::File(file) => file,
            Source::Bytes(bytes) => bytes,
        },
        mount_from: &part.mount_from,
        progress: Some(&report),
    };
    let pushed = client.push_blob(blob, credentials).await?;
    if let Some(label) = &part.label {
        let status = match pushed {
            Pushed::Exists => "Layer already exists".to_owned(),
            Pushed::Mounted { from } => format!("Mounted from {from}"),
            Pushed::Uploaded => "Pushed".to_owned(),
        };
        let _reader_gone = progress.send(Progress::of(label, status));
    }
    Ok(())
}

fn config_part(descriptor: Descriptor, image: &Image) -> Part {
    Part {
        label: None,
        source: Source::Bytes(BytesSource(Bytes::from(image.config.clone()))),
        descriptor,
        mount_from: Vec::new(),
    }
}

fn missing(reference: &Reference) -> Error {
    Error::not_found(format!("An image does not exist locally with the tag: {}", reference.familiar_name()))
}

#[cfg(test)]
mod tests {
    use barque_model::Digest;

    use super::*;

    #[test]
    fn equal_layers_are_one_part() {
        let part = |text: &str| {
            let descriptor = Descriptor::new("x", Digest::of(text.as_bytes()), text.len() as u64);
            Part::layer(descriptor, text.to_owned(), "/x".into(), Vec::new())
        };
        let parts = each_once(vec![part("a"), part("b"), part("a"), part("a")]);
        let digests: Vec<_> = parts.iter().map(|p| p.descriptor.digest).collect();
        assert_eq!(digests, [Digest::of(b"a"), Digest::of(b"b")]);
    }
}
