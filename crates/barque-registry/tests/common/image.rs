//! Small images to push and pull.

use barque_model::{Digest, Platform, Reference};
use barque_registry::{BytesSource, Client, Credentials, Descriptor, PushBlob, Pushed, RawManifest, media};
use bytes::Bytes;

/// An image in memory.
#[derive(Clone)]
pub struct Image {
    pub manifest: RawManifest,
    pub config: (Descriptor, Bytes),
    pub layers: Vec<(Descriptor, Bytes)>,
}

impl Image {
    /// An OCI image with these layers.
    pub fn new(layers: Vec<Vec<u8>>) -> Self {
        Self::of_type(layers, media::OCI_MANIFEST, media::OCI_CONFIG, media::OCI_LAYER, serde_json::json!({}))
    }

    /// A Docker schema 2 image with these layers.
    pub fn docker(layers: Vec<Vec<u8>>) -> Self {
        let (manifest, config, layer) = (media::DOCKER_MANIFEST, media::DOCKER_CONFIG, media::DOCKER_LAYER);
        Self::of_type(layers, manifest, config, layer, serde_json::json!({}))
    }

    /// An artifact that says something about `subject`.
    pub fn about(subject: &Descriptor, artifact_type: &str, content: &[u8]) -> Self {
        let extra = serde_json::json!({ "subject": subject, "artifactType": artifact_type, "annotations": {"k": "v"} });
        Self::of_type(vec![content.to_vec()], media::OCI_MANIFEST, media::OCI_EMPTY, "text/plain", extra)
    }

    fn of_type(
        layers: Vec<Vec<u8>>,
        manifest_type: &str,
        config_type: &str,
        layer_type: &str,
        extra: serde_json::Value,
    ) -> Self {
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = match config_type {
            media::OCI_EMPTY => Bytes::from_static(b"{}"),
            _ => serde_json::json!({"architecture": "amd64", "os": "linux", "config": {},
                "rootfs": {"type": "layers", "diff_ids": diff_ids}})
            .to_string()
            .into(),
        };
        let describe = |kind: &str, bytes: Bytes| (Descriptor::of(kind, &bytes), bytes);
        let config = describe(config_type, config);
        let layers: Vec<_> = layers.into_iter().map(|layer| describe(layer_type, layer.into())).collect();
        let mut document = serde_json::json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config.0,
            "layers": layers.iter().map(|(descriptor, _)| descriptor).collect::<Vec<_>>()});
        for (key, value) in extra.as_object().unwrap() {
            document[key] = value.clone();
        }
        let manifest = RawManifest::new(manifest_type, serde_json::to_string_pretty(&document).unwrap());
        Self { manifest, config, layers }
    }

    /// Everything but the manifest.
    pub fn blobs(&self) -> impl Iterator<Item = &(Descriptor, Bytes)> {
        std::iter::once(&self.config).chain(&self.layers)
    }

    /// Pushes all of it.
    pub async fn push(&self, client: &Client, reference: &Reference, credentials: &Credentials) {
        for (descriptor, bytes) in self.blobs() {
            push_bytes(client, reference, descriptor, bytes, credentials).await.unwrap();
        }
        let digest = client.put_manifest(reference, &self.manifest, credentials).await.unwrap();
        assert_eq!(digest, self.manifest.digest);
    }
}

/// Pushes one blob.
pub async fn push_bytes(
    client: &Client,
    reference: &Reference,
    descriptor: &Descriptor,
    bytes: &Bytes,
    credentials: &Credentials,
) -> barque_model::Result<Pushed> {
    let source = BytesSource(bytes.clone());
    let blob = PushBlob { reference, descriptor, source: &source, mount_from: &[], progress: None };
    client.push_blob(blob, credentials).await
}

/// An index of images for platforms.
pub fn index(entries: &[(&RawManifest, &str)]) -> RawManifest {
    let manifests: Vec<_> = entries
        .iter()
        .map(|(manifest, platform)| {
            let mut descriptor = manifest.descriptor();
            descriptor.platform = Some(platform.parse::<Platform>().unwrap());
            descriptor
        })
        .collect();
    let document = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": manifests});
    RawManifest::new(media::OCI_INDEX, document.to_string())
}
