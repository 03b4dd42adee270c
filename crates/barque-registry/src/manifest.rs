//! Manifests and indexes as typed values (OCI image-spec "Image Manifest" and "Image Index"; Docker schema 2).
//!
//! The bytes are what a digest names, so they travel beside the parsed value and are never written anew.

use std::collections::BTreeMap;

use barque_model::{Digest, Error, Platform, Result};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use crate::media;

/// The largest manifest or index that is read, in bytes (distribution-spec 1.1 asks for at least 4 MiB).
pub const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A pointer to content (OCI image-spec, "Descriptor").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// Digest of the content.
    pub digest: Digest,
    /// Size of the content in bytes.
    pub size: u64,
    /// Other places to fetch the content from.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form notes.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What the content runs on; only in an index.
    #[serde(default, deserialize_with = "lenient_platform", skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Type of artifact when the content is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor without optional fields.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// The descriptor of `content`.
    pub fn of(media_type: impl Into<String>, content: &[u8]) -> Self {
        Self::new(media_type, Digest::of(content), content.len() as u64)
    }
}

/// One image's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`media::OCI_MANIFEST`] or [`media::DOCKER_MANIFEST`].
    #[serde(default)]
    pub media_type: String,
    /// Type of artifact when this is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The manifest this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form notes.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, one per platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`media::OCI_INDEX`] or [`media::DOCKER_LIST`].
    #[serde(default)]
    pub media_type: String,
    /// Type of artifact when this is not a list of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests in the author's order of preference.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form notes.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// The entry that serves `wanted` best; among equals the first. Attestations (`unknown/unknown`) never match.
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        let mut best: Option<(u8, &Descriptor)> = None;
        for entry in self.manifests.iter().filter(|entry| media::is_manifest(&entry.media_type)) {
            let score = match &entry.platform {
                Some(offered) => wanted.score(offered),
                // An entry that names no platform is a last resort.
                None => Some(0),
            };
            if let Some(score) = score
                && best.is_none_or(|(top, _)| score > top)
            {
                best = Some((score, entry));
            }
        }
        best.map(|(_, entry)| entry)
    }

    /// The platforms on offer, for error messages.
    pub fn platforms(&self) -> Vec<String> {
        let known = self.manifests.iter().filter_map(|entry| entry.platform.as_ref());
        known.filter(|platform| platform.os != "unknown").map(ToString::to_string).collect()
    }
}

/// A manifest of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and callers match on it")]
pub enum Document {
    /// One image.
    Image(Manifest),
    /// A list of images.
    Index(Index),
}

/// A manifest's exact bytes with their verified digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawManifest {
    /// Media type, from the `Content-Type` header or the document itself.
    pub media_type: String,
    /// Digest of `bytes`.
    pub digest: Digest,
    /// What the registry sent, byte for byte.
    pub bytes: Bytes,
}

impl RawManifest {
    /// Wraps `bytes`, computing their digest.
    pub fn new(media_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { media_type: media_type.into(), digest: Digest::of(&bytes), bytes }
    }

    /// A descriptor pointing here.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.bytes.len() as u64)
    }

    /// Parses the bytes; see [`parse`].
    ///
    /// # Errors
    /// As [`parse`].
    pub fn parse(&self) -> Result<Document> {
        parse(&self.bytes, &self.media_type).map(|(_, document)| document)
    }
}

/// The fields that tell the kinds of document apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sniff {
    #[serde(default)]
    schema_version: serde_json::Value,
    media_type: Option<String>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    manifests: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// Parses a manifest or index; `content_type` is what the transport said (may be empty). Returns the media type in force
/// and the document, whose `media_type` is filled in.
///
/// # Errors
/// `InvalidArgument` when the bytes are not a manifest, contradict `content_type` or themselves (a document that reads
/// both as image and as index can be signed as one and used as the other), or are of the withdrawn schema 1.
pub fn parse(bytes: &[u8], content_type: &str) -> Result<(String, Document)> {
    if bytes.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(Error::invalid(format!("manifest is larger than {MANIFEST_BYTES_MAX} bytes")));
    }
    let sniff: Sniff = serde_json::from_slice(bytes).map_err(malformed)?;
    let media_type = media_type_in_force(&sniff, &media::essence(content_type))?;
    if media::is_index(&media_type) {
        let mut index: Index = serde_json::from_slice(bytes).map_err(malformed)?;
        index.media_type.clone_from(&media_type);
        return Ok((media_type, Document::Index(index)));
    }
    let mut manifest: Manifest = serde_json::from_slice(bytes).map_err(malformed)?;
    manifest.media_type.clone_from(&media_type);
    Ok((media_type, Document::Image(manifest)))
}

fn media_type_in_force(sniff: &Sniff, said: &str) -> Result<String> {
    let schema1 = media::is_schema1(said) || sniff.fs_layers.is_some();
    if schema1 || sniff.schema_version.as_u64() == Some(1) {
        return Err(Error::invalid(
            "manifest is of Docker image format version 2, schema 1, which was withdrawn in 2019 and is not supported",
        )
        .with_hint("ask the image's author to push it again with a current tool, or copy it with `skopeo copy`"));
    }
    if sniff.schema_version.as_u64() != Some(2) {
        return Err(Error::invalid("malformed manifest: schemaVersion is not 2"));
    }
    let list_like = sniff.manifests.is_some();
    let image_like = sniff.config.is_some() || sniff.layers.is_some();
    if list_like && image_like {
        return Err(Error::invalid("malformed manifest: it is an image and an index at the same time"));
    }
    let known = |name: &str| media::is_index(name) || media::is_manifest(name);
    let inside = sniff.media_type.as_deref().filter(|name| !name.is_empty());
    if let (Some(inside), true) = (inside, known(said))
        && inside != said
    {
        return Err(Error::invalid(format!(
            "malformed manifest: the registry calls it {said}, the document calls itself {inside}"
        )));
    }
    let media_type = match inside {
        Some(inside) => inside,
        None if known(said) => said,
        None if list_like => media::OCI_INDEX,
        None if image_like => media::OCI_MANIFEST,
        None => return Err(Error::invalid("malformed manifest: neither an image nor an index")),
    };
    if !known(media_type) {
        return Err(Error::invalid(format!("unsupported manifest media type {media_type}")));
    }
    if media::is_index(media_type) == image_like {
        return Err(Error::invalid(format!("malformed manifest: the fields do not fit its media type {media_type}")));
    }
    Ok(media_type.to_owned())
}

fn malformed(error: serde_json::Error) -> Error {
    Error::invalid(format!("malformed manifest: {error}"))
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

/// Some writers leave `platform` half empty; that says no more than leaving it out.
fn lenient_platform<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Platform>, D::Error> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        variant: Option<String>,
    }
    let raw = Option::<Raw>::deserialize(input)?;
    Ok(raw.filter(|raw| !raw.os.is_empty() && !raw.architecture.is_empty()).map(|raw| Platform {
        os: raw.os,
        architecture: raw.architecture,
        variant: raw.variant.filter(|variant| !variant.is_empty()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn image(media_type: Option<&str>) -> String {
        let mut value = serde_json::json!({
            "schemaVersion": 2,
            "config": {"mediaType": media::OCI_CONFIG, "digest": digest("c"), "size": 2},
            "layers": [{"mediaType": media::OCI_LAYER_GZIP, "digest": digest("l"), "size": 9, "annotations": null}],
        });
        if let Some(name) = media_type {
            value["mediaType"] = name.into();
        }
        value.to_string()
    }

    fn index() -> Index {
        let entry = |name: &str, platform: serde_json::Value| serde_json::json!({"mediaType": media::OCI_MANIFEST, "digest": digest(name), "size": 1, "platform": platform});
        let text = serde_json::json!({"schemaVersion": 2, "manifests": [
            entry("att", serde_json::json!({"os": "unknown", "architecture": "unknown"})),
            entry("amd64", serde_json::json!({"os": "linux", "architecture": "amd64"})),
            entry("v6", serde_json::json!({"os": "linux", "architecture": "arm", "variant": "v6"})),
            entry("v7", serde_json::json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
            entry("arm64", serde_json::json!({"os": "linux", "architecture": "arm64", "variant": "v8"})),
        ]})
        .to_string();
        match parse(text.as_bytes(), "").unwrap() {
            (name, Document::Index(index)) => {
                assert_eq!(name, media::OCI_INDEX);
                index
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn image_with_and_without_media_type() {
        for (inside, said, expected) in [
            (None, "", media::OCI_MANIFEST),
            (None, "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8", media::DOCKER_MANIFEST),
            (Some(media::OCI_MANIFEST), "text/plain", media::OCI_MANIFEST),
            (Some(media::DOCKER_MANIFEST), media::DOCKER_MANIFEST, media::DOCKER_MANIFEST),
        ] {
            let (name, document) = parse(image(inside).as_bytes(), said).unwrap();
            assert_eq!(name, expected);
            assert!(matches!(document, Document::Image(m) if m.layers.len() == 1 && m.media_type == expected));
        }
    }

    #[test]
    fn platform_selection() {
        let index = index();
        let pick = |text: &str| index.select(&text.parse().unwrap()).map(|d| d.digest);
        assert_eq!(pick("linux/amd64"), Some(digest("amd64")));
        assert_eq!(pick("linux/arm/v7"), Some(digest("v7")));
        assert_eq!(pick("linux/arm/v6"), Some(digest("v6")));
        assert_eq!(pick("linux/arm64"), Some(digest("arm64")));
        assert_eq!(pick("linux/s390x"), None);
        assert_eq!(index.platforms(), ["linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8"]);
    }

    #[test]
    fn refusals_name_the_reason() {
        let both = image(None).replacen('{', "{\"manifests\":[],", 1);
        let negative = image(None).replace("\"size\":2", "\"size\":-2");
        let sha1 = image(None).replace("sha256:", "sha1:");
        for (text, said, expected) in [
            ("", "", "malformed manifest: "),
            ("[]", "", "malformed manifest: "),
            ("{\"schemaVersion\":2}", "", "neither an image nor an index"),
            ("{\"schemaVersion\":1,\"fsLayers\":[]}", "", "schema 1"),
            ("{\"schemaVersion\":2}", media::DOCKER_SCHEMA1_SIGNED, "schema 1"),
            (&both, "", "at the same time"),
            (&image(None), media::OCI_INDEX, "do not fit"),
            (&image(Some(media::OCI_INDEX)), "", "do not fit"),
            (&image(Some(media::OCI_MANIFEST)), media::DOCKER_MANIFEST, "calls itself"),
            (&image(Some("application/x-evil")), "", "unsupported manifest media type"),
            (&negative, "", "malformed manifest: "),
            (&sha1, "", "invalid digest"),
        ] {
            let error = parse(text.as_bytes(), said).unwrap_err();
            assert!(error.message().contains(expected), "{expected}: {error}");
        }
        let huge = vec![b' '; MANIFEST_BYTES_MAX as usize + 1];
        assert!(parse(&huge, "").unwrap_err().message().contains("larger than"));
    }
}
