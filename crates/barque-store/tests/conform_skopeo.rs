//! Archives against skopeo, where it is installed: it reads what is saved here in both formats, and what it writes
//! is loaded here, with the same configuration digest throughout.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

#[path = "../../barque-registry/tests/common/tools.rs"]
mod tools;

use std::path::Path;
use std::process::Command;

use barque_model::{Digest, ImageId, Reference};
use barque_store::{LayerSource, Lease, NewImage, SaveImage, Store, StoreOptions};

fn open(dir: &Path) -> (Store, Lease) {
    let store = Store::open(StoreOptions::new(dir)).unwrap();
    let lease = store.lease("test").unwrap();
    (store, lease)
}

fn layer(name: &str, data: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, data).unwrap();
    builder.into_inner().unwrap()
}

/// Two layers of a gzip of their own, as a registry would serve them.
fn image(store: &Store, lease: &Lease, name: &Reference) -> ImageId {
    let (mut parent, mut diffs, mut descriptors) = (None, Vec::new(), Vec::new());
    for (file, data) in [("one", &b"first"[..]), ("two", b"second")] {
        let plain = layer(file, data);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &plain).unwrap();
        let packed = encoder.finish().unwrap();
        let source = LayerSource { digest: Some(Digest::of(&packed)), ..LayerSource::default() };
        let mut writer = store.layer_writer(lease, source).unwrap();
        writer.push(&packed).unwrap();
        let applied = writer.finish().unwrap();
        diffs.push(applied.diff_id);
        descriptors.push(serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": Digest::of(&packed), "size": packed.len(),
        }));
        parent = Some(store.add_layer(lease, applied, parent).unwrap().chain_id);
    }
    let config = serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/one"]},
        "rootfs": {"type": "layers", "diff_ids": diffs},
        "history": [{"created_by": "a"}, {"created_by": "b"}],
    }))
    .unwrap();
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config),
                   "size": config.len()},
        "layers": descriptors,
    }))
    .unwrap();
    let new = NewImage {
        config,
        manifest: Some(("application/vnd.oci.image.manifest.v1+json".into(), manifest)),
        names: vec![name.clone()],
        ..NewImage::default()
    };
    store.put_image(lease, new).unwrap().id
}

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").args(["--insecure-policy"]).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn skopeo_reads_and_writes_the_same_archives() {
    if !tools::installed("skopeo") {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name).display().to_string();
    let (store, lease) = open(&scratch.path().join("one"));
    let name: Reference = "docker.io/demo/app:1".parse().unwrap();
    let id = image(&store, &lease, &name);
    let saved = SaveImage { id, names: vec![name.clone()] };
    let mut file = std::fs::File::create(at("saved.tar")).unwrap();
    store.save(&lease, &[saved], &mut file).unwrap();

    // The digests that skopeo sees are those of the original manifest.
    let manifest = store.read(|r| r.image_manifests(&id)).unwrap().remove(0);
    let seen = skopeo(&["inspect", "--raw", &format!("oci-archive:{}", at("saved.tar"))]);
    assert_eq!(Digest::of(seen.as_bytes()), manifest.digest);
    let seen = skopeo(&["inspect", "--config", "--raw", &format!("docker-archive:{}", at("saved.tar"))]);
    assert_eq!(Digest::of(seen.as_bytes()), id.0);

    let from = format!("oci-archive:{}", at("saved.tar"));
    let targets = [
        ("docker-archive", format!("docker-archive:{}:demo/app:1", at("docker.tar")), at("docker.tar")),
        ("oci-archive", format!("oci-archive:{}:demo/app:1", at("oci.tar")), at("oci.tar")),
    ];
    for (what, target, file) in targets {
        skopeo(&["copy", &from, &target]);
        let (other, lease) = open(&scratch.path().join(what));
        let mut input = std::fs::File::open(file).unwrap();
        let loaded = other.load(barque_store::Archive::Stream(&mut input), &[], &mut |_| {}).unwrap();
        assert_eq!(loaded.len(), 1, "{what}");
        assert_eq!(loaded[0].id, id, "{what}");
        assert_eq!(loaded[0].names, [name.clone()], "{what}");
        let (_, lowers) = other.image_lower_dirs(&id).unwrap();
        assert_eq!(std::fs::read(lowers[0].join("two")).unwrap(), b"second", "{what}");
        // And back: what came from a docker-archive is saved with blobs made here, which skopeo verifies.
        let again = format!("{}/{what}.again", scratch.path().display());
        let saved = SaveImage { id, names: vec![name.clone()] };
        other.save(&lease, &[saved], &mut std::fs::File::create(&again).unwrap()).unwrap();
        skopeo(&["copy", &format!("oci-archive:{again}"), &format!("dir:{again}.dir")]);
        skopeo(&["copy", &format!("docker-archive:{again}"), &format!("dir:{again}.dir2")]);
    }
}
