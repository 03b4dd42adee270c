//! Images as an archive: an OCI layout that older readers take for a docker-archive.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use barque_model::{Digest, Error, Reference, Result};
use barque_sys::rootdir::TimeSpec;
use serde_json::{Value, json};

use super::SaveImage;
use super::members::blob_path;
use crate::db::{Image, Manifest};
use crate::error::{self, IoContext};
use crate::image::config::ImageManifest;
use crate::tar::{Entry, Kind, Writer};
use crate::{Lease, Store};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Where the bytes of a blob come from.
enum Source {
    Bytes(Vec<u8>),
    File(PathBuf, u64),
}

/// What the archive is going to hold.
#[derive(Default)]
struct Contents {
    /// In the order of their digests, so that the archive is the same every time.
    blobs: BTreeMap<String, Source>,
    index: Vec<Value>,
    docker: Vec<Value>,
}

/// See [`Store::save`].
pub(super) fn save(store: &Store, lease: &Lease, images: &[SaveImage], out: &mut dyn Write) -> Result<()> {
    let mut contents = Contents::default();
    for wanted in images {
        let found = store.read(|r| r.image(&wanted.id))?;
        let image = found.ok_or_else(|| Error::not_found(format!("No such image: {}", wanted.id)))?;
        contents.add(store, lease, &image, &wanted.names)?;
    }
    contents.write(out)
}

impl Store {
    /// The manifest under which an image is pushed and saved: one it came with if all its blobs are here, first that
    /// of one of `names`, then those of their repositories; else one made now of its layers' blobs, which are made where they are missing and
    /// held by `lease`.
    pub fn image_manifest(&self, lease: &Lease, image: &Image, names: &[&Reference]) -> Result<Manifest> {
        let (mut known, named) = self.read(|r| {
            let named = names.iter().map(|n| r.image_name_manifest(n)).collect::<Result<Vec<_>>>()?;
            Ok((r.image_manifests(&image.id)?, named))
        })?;
        known.retain(|m| !m.is_index);
        // An image may have come under several, which differ in how its layers are compressed.
        let own = |m: &Manifest| {
            let called = |d: &&Reference| d.digest() == Some(m.digest);
            image.digests.iter().filter(called).any(|d| names.iter().any(|n| n.repository() == d.repository()))
        };
        known.sort_by_key(|m| (!named.contains(&Some(m.digest)), !own(m)));
        for kept in known {
            let parsed = ImageManifest::parse(&kept.bytes)?;
            let mut complete = true;
            for layer in &parsed.layers {
                complete = complete && self.hold_blob(lease, &layer.digest)?;
            }
            if complete {
                return Ok(kept);
            }
        }
        let mut layers = Vec::new();
        for layer in &image.layers {
            let made = self.layer_blob(lease, &layer.chain_id)?;
            let media_type = made.media_type.replace(
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            );
            layers.push(descriptor(&media_type, &made.blob.digest, made.blob.size));
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, &image.id.0, image.config.len() as u64),
            "layers": layers,
        });
        let bytes = to_json(&manifest)?;
        let digest = barque_model::Digest::of(&bytes);
        Ok(Manifest { digest, media_type: OCI_MANIFEST.to_owned(), bytes, is_index: false })
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}

fn to_json(value: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::internal("cannot write JSON").with_source(e))
}

impl Contents {
    fn add(&mut self, store: &Store, lease: &Lease, image: &Image, names: &[Reference]) -> Result<()> {
        let manifest = store.image_manifest(lease, image, &names.iter().collect::<Vec<_>>())?;
        let parsed = ImageManifest::parse(&manifest.bytes)?;
        let mut layers = Vec::new();
        for layer in &parsed.layers {
            let missing = || Error::not_found(format!("blob {} not found", layer.digest));
            let blob = store.blob(&layer.digest)?.ok_or_else(missing)?;
            layers.push(blob_path(&layer.digest));
            self.blobs.insert(layer.digest.hex(), Source::File(store.blob_path(&layer.digest), blob.size));
        }
        let mut entry = descriptor(&manifest.media_type, &manifest.digest, manifest.bytes.len() as u64);
        entry["platform"] = json!({"architecture": image.platform.architecture, "os": image.platform.os});
        if let Some(variant) = &image.platform.variant {
            entry["platform"]["variant"] = json!(variant);
        }
        self.blobs.insert(manifest.digest.hex(), Source::Bytes(manifest.bytes));
        self.blobs.insert(image.id.0.hex(), Source::Bytes(image.config.clone()));
        let mut names: Vec<&Reference> = names.iter().filter(|n| n.tag().is_some()).collect();
        names.sort();
        for name in &names {
            let mut named = entry.clone();
            named["annotations"] = json!({
                "io.containerd.image.name": name.to_string(),
                "org.opencontainers.image.ref.name": name.tag().unwrap_or_default(),
            });
            self.index.push(named);
        }
        if names.is_empty() {
            self.index.push(entry);
        }
        let tags: Vec<String> = names.iter().map(|n| n.familiar()).collect();
        self.docker.push(json!({
            "Config": blob_path(&image.id.0),
            "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
            "Layers": layers,
        }));
        Ok(())
    }

    fn write(self, out: &mut dyn Write) -> Result<()> {
        let buffered = io::BufWriter::with_capacity(crate::tree::BUFFER, out);
        let mut writer = Writer::new(buffered);
        for dir in ["blobs/", "blobs/sha256/"] {
            writer.entry(&entry(dir, Kind::Directory, 0))?;
        }
        for (hex, source) in &self.blobs {
            let name = format!("blobs/sha256/{hex}");
            match source {
                Source::Bytes(bytes) => member(&mut writer, &name, bytes)?,
                Source::File(path, size) => {
                    let mut file = std::fs::File::open(path).at("open", path)?;
                    writer.entry(&entry(&name, Kind::Regular, *size))?;
                    let mut buffer = vec![0u8; crate::tree::BUFFER];
                    loop {
                        match file.read(&mut buffer).at("read", path)? {
                            0 => break,
                            n => writer.data(&buffer[..n])?,
                        }
                    }
                }
            }
        }
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.index});
        member(&mut writer, "index.json", &to_json(&index)?)?;
        member(&mut writer, "manifest.json", &to_json(&Value::Array(self.docker))?)?;
        member(&mut writer, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let (mut out, _) = writer.finish()?;
        out.flush().map_err(error::from_io)
    }
}

fn member<W: Write>(writer: &mut Writer<W>, name: &str, bytes: &[u8]) -> Result<()> {
    writer.entry(&entry(name, Kind::Regular, bytes.len() as u64))?;
    writer.data(bytes)
}

/// A member that belongs to root and to no time.
fn entry(name: &str, kind: Kind, size: u64) -> Entry {
    Entry {
        path: name.as_bytes().to_vec(),
        link: Vec::new(),
        kind,
        mode: if kind == Kind::Directory { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        size,
        mtime: TimeSpec::new(0, 0),
        device: (0, 0),
        xattrs: Vec::new(),
        sparse: None,
    }
}
