//! The parts of image documents that the store needs: configuration, manifest, index.

use barque_model::{DiffId, Digest, Error, Platform, Result, Timestamp};
use serde::Deserialize;

/// An image configuration (OCI image-spec, "Image Configuration"), as far as the store cares.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    created: Option<String>,
    rootfs: RootFs,
    #[serde(default)]
    pub(crate) history: Option<Vec<HistoryItem>>,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<DiffId>>,
}

/// One entry of a configuration's history.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct HistoryItem {
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    pub(crate) created_by: Option<String>,
    #[serde(default)]
    pub(crate) comment: Option<String>,
    #[serde(default)]
    pub(crate) empty_layer: Option<bool>,
}

impl HistoryItem {
    pub(crate) fn created_at(&self) -> Option<Timestamp> {
        self.created.as_deref().and_then(|t| t.parse().ok())
    }
}

/// Most layers an image may have: what overlayfs can stack.
const LAYERS_MAX: usize = 500;

impl Config {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Config> {
        let config: Config = serde_json::from_slice(bytes)
            .map_err(|e| Error::invalid("the image's configuration makes no sense").with_source(e))?;
        if config.diff_ids().len() > LAYERS_MAX {
            return Err(Error::invalid(format!("the image has more than {LAYERS_MAX} layers")));
        }
        Ok(config)
    }

    /// The lowest first.
    pub(crate) fn diff_ids(&self) -> &[DiffId] {
        self.rootfs.diff_ids.as_deref().unwrap_or_default()
    }

    pub(crate) fn platform(&self) -> Platform {
        if self.os.is_empty() && self.architecture.is_empty() {
            return Platform::host();
        }
        Platform::new(&self.os, &self.architecture, self.variant.as_deref().filter(|v| !v.is_empty()))
    }

    /// The epoch if it does not say.
    pub(crate) fn created_at(&self) -> Timestamp {
        self.created.as_deref().and_then(|t| t.parse().ok()).unwrap_or_default()
    }
}

/// A reference to content by digest (OCI image-spec, "Content Descriptors").
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// A manifest of one image (Docker schema 2 or OCI).
#[derive(Debug, Deserialize)]
pub(crate) struct ImageManifest {
    #[serde(rename = "mediaType", default)]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

/// An index (Docker manifest list or OCI).
#[derive(Debug, Deserialize)]
pub(crate) struct Index {
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

impl ImageManifest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<ImageManifest> {
        serde_json::from_slice(bytes).map_err(|e| Error::invalid("the image's manifest makes no sense").with_source(e))
    }
}

impl Index {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Index> {
        serde_json::from_slice(bytes).map_err(|e| Error::invalid("the image index makes no sense").with_source(e))
    }
}

/// Whether a media type is that of an index.
pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}
