//! Images whose layers are packed with zstd, as other tools push them: pulled, run, sent on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::io::Write as _;
use std::path::Path;

use barque_model::Digest;
use pair::{Engine, barque_registry, in_namespaces, sh};
use serde_json::json;

const REGISTRY: &str = "127.0.0.1:5073";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// Sends bytes to the registry.
fn send(dir: &Path, method: &str, path: &str, kind: &str, bytes: &[u8]) {
    let file = dir.join("body");
    std::fs::File::create(&file).unwrap().write_all(bytes).unwrap();
    sh(&format!(
        "curl -sf -X {method} -H 'Content-Type: {kind}' --data-binary @{} 'http://{REGISTRY}/v2/{path}'",
        file.display()
    ));
}

fn blob(dir: &Path, repository: &str, kind: &str, bytes: &[u8]) -> serde_json::Value {
    let digest = Digest::of(bytes).to_string();
    send(dir, "POST", &format!("{repository}/blobs/uploads/?digest={digest}"), "application/octet-stream", bytes);
    json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
}

/// Makes an OCI image of these layers by the registry's own API; gives its digest.
fn publish(dir: &Path, name: &str, layers: &[(Vec<u8>, Vec<u8>)]) -> String {
    let (repository, tag) = name.rsplit_once(':').unwrap();
    let diff_ids: Vec<String> = layers.iter().map(|(plain, _)| Digest::of(plain).to_string()).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "config": {"Env": ["PATH=/bin"], "Cmd": ["cat", "/added"]}, "created": "2024-01-02T03:04:05Z"});
    let config = blob(dir, repository, CONFIG, config.to_string().as_bytes());
    let layers: Vec<_> = layers.iter().map(|(_, packed)| blob(dir, repository, LAYER, packed)).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).to_string();
    send(dir, "PUT", &format!("{repository}/manifests/{tag}"), MANIFEST, manifest.as_bytes());
    Digest::of(manifest.as_bytes()).to_string()
}

/// A layer of busybox, and one that adds a file and takes one away.
fn layers(engine: &Engine) -> Vec<(Vec<u8>, Vec<u8>)> {
    engine.import_busybox("box", &[]);
    engine.ok(&["rmi", "box"]);
    let below = std::fs::read(engine.dir.join("busybox.tar")).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in [("added", "from the layer above\n"), ("data/.wh.seed", "")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    let above = tar.into_inner().unwrap();
    // The second begins with a frame to be skipped, as archives with an index have.
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    let (small, large) = (zstd::encode_all(&below[..], 19).unwrap(), zstd::encode_all(&above[..], 1).unwrap());
    vec![(below, small), (above, [skipped, large].concat())]
}

#[test]
fn priv_layers_of_zstd_are_pulled_run_and_sent_on() {
    in_namespaces("priv_layers_of_zstd_are_pulled_run_and_sent_on", |dir| {
        let _registry = barque_registry(dir, REGISTRY, &[]);
        let engine = Engine::barque(dir, &[]);
        let layers = layers(&engine);
        let digest = publish(dir, "team/packed:1", &layers);
        let name = format!("{REGISTRY}/team/packed:1");
        let said = engine.ok(&["pull", &name]);
        assert!(said.contains(&digest) && said.matches("Pull complete").count() == 2, "{said}");
        assert_eq!(engine.ok(&["run", "--rm", "--network", "none", &name]), "from the layer above");
        let look = "cat /data/sub/deep; ls /data; stat -c '%a %u:%g' /data/sub";
        let seen = engine.ok(&["run", "--rm", "--network", "none", &name, "sh", "-c", look]);
        assert_eq!(seen, "deep\nlink\nsub\n2750 0:0");
        let ids = engine.ok(&["image", "inspect", "-f", "{{range .RootFS.Layers}}{{println .}}{{end}}", &name]);
        let plain: Vec<String> = layers.iter().map(|(plain, _)| Digest::of(plain).to_string()).collect();
        assert_eq!(ids.lines().collect::<Vec<_>>(), plain);
        let digests = engine.ok(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &name]);
        assert!(digests.ends_with(&digest), "{digests}");
        // It goes out as the bytes that came.
        let other = format!("{REGISTRY}/other/packed:1");
        engine.ok(&["tag", &name, &other]);
        assert!(engine.ok(&["push", &other]).contains(&digest));
        let sent = sh(&format!("curl -sf -H 'Accept: {MANIFEST}' http://{REGISTRY}/v2/other/packed/manifests/1"));
        assert_eq!(Digest::of(sent.as_bytes()).to_string(), digest);
        // What was cut off, or is other than its digest of the plain bytes, leaves no image.
        let (plain, packed) = &layers[0];
        let half = packed[..packed.len() / 2].to_vec();
        for (tag, layer) in [("half", (plain.clone(), half)), ("wrong", (b"else".to_vec(), packed.clone()))] {
            publish(dir, &format!("team/broken:{tag}"), &[layer]);
            let broken = format!("{REGISTRY}/team/broken:{tag}");
            let why = engine.run(&["pull", &broken]).unwrap_err();
            assert!(!why.contains("internal") && engine.ok(&["images", "-q", &broken]).is_empty(), "{why}");
        }
    });
}
