//! What is fetched without becoming an image as it is: root file systems behind URLs, what a registry has.

use barque_model::{Error, ImageId, Platform, Reference, Result};
use barque_registry::{Descriptor, Document};
use futures_util::TryStreamExt;
use tokio_util::io::StreamReader;

use super::pull::credentials;
use super::types::{Distribution, Progress, ProgressSink, RegistryAuth};
use crate::Engine;

/// Bytes of an image's configuration, which alone says what a single manifest is for.
const CONFIG_MAX: u64 = 8 << 20;
/// Bytes between two reports of progress.
const REPORT_EVERY: u64 = 512 << 10;

impl Engine {
    /// Imports the root file system behind `url`, fetched with the proxies and certificates of registries.
    ///
    /// Errors: InvalidArgument for an address that is none; what the server says; what is wrong with the archive.
    pub async fn image_import_url(
        &self,
        url: &str,
        name: Option<Reference>,
        message: String,
        changes: Vec<String>,
        platform: Option<Platform>,
        progress: ProgressSink,
    ) -> Result<ImageId> {
        // As Docker: an address without a scheme is one of http.
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let _reader_gone = progress.send(Progress::status(format!("Downloading from {url}")));
        let download = self.registry().download(&url).await?;
        let total = download.size().unwrap_or(0);
        let (mut done, mut told) = (0u64, 0u64);
        let counted = download.inspect_ok(move |chunk| {
            done += chunk.len() as u64;
            if done - told >= REPORT_EVERY || done == total {
                told = done;
                let _reader_gone = progress.send(Progress::of("", "Importing").at(done, total));
            }
        });
        self.image_import(Box::pin(StreamReader::new(counted)), name, message, changes, platform).await
    }

    /// What the registry has under a name (`GET /distribution/{name}/json`).
    pub async fn image_distribution(&self, reference: &Reference, auth: &RegistryAuth) -> Result<Distribution> {
        let (client, credentials) = (self.registry(), credentials(auth));
        let reference = match reference.digest() {
            Some(_) => reference.clone(),
            None => reference.clone().with_default_tag(),
        };
        let (raw, document) = client.manifest(&reference, &credentials).await?;
        let platforms = match document {
            Document::Index(index) => index.manifests.into_iter().filter_map(|entry| entry.platform).collect(),
            Document::Image(image) => self.offered(&reference, &image.config, &credentials).await?,
        };
        Ok(Distribution { media_type: raw.media_type, digest: raw.digest, size: raw.bytes.len() as u64, platforms })
    }

    async fn offered(
        &self,
        reference: &Reference,
        config: &Descriptor,
        credentials: &barque_registry::Credentials,
    ) -> Result<Vec<Platform>> {
        let bytes = self.registry().blob_bytes(reference, config, CONFIG_MAX, credentials).await?;
        // An artifact's configuration may be anything.
        let Ok(config) = super::config::parse(&bytes) else { return Ok(Vec::new()) };
        if config.os.is_empty() || config.architecture.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Platform::new(&config.os, &config.architecture, config.variant.as_deref())])
    }
}

/// Docker's warning where a registry has one image only, and that for another platform.
pub(super) fn mismatch(reference: &Reference, wanted: &Platform, config: &super::types::ImageConfig) -> Option<String> {
    let has = Platform::new(&config.os, &config.architecture, config.variant.as_deref());
    wanted.score(&has).is_none().then(|| {
        format!(
            "WARNING: image with reference {} was found but does not match the specified platform: wanted {wanted}, \
             actual: {has}",
            reference.familiar_name()
        )
    })
}

/// The reference of a distribution request. As Docker: an id names nothing in a registry.
pub fn distribution_reference(name: &str) -> Result<Reference> {
    name.parse::<Reference>().map_err(|e| Error::invalid(format!("invalid reference format: {name}")).with_source(e))
}
