//! With other people's programs: Debian's docker-registry and skopeo, where they are installed.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::Command;

use barque_model::Reference;
use barque_registry::{BytesSource, Credentials, PushBlob, Pushed, media};
use common::image::{Image, index};
use common::{Distribution, Server, client, installed, noise};

const ANON: Credentials = Credentials::Anonymous;

#[tokio::test]
async fn there_and_back_through_docker_registry() {
    let Some(registry) = Distribution::start("").await else { return };
    let client = client();
    let reference = |rest: &str| -> Reference { format!("{}/{rest}", registry.addr).parse().unwrap() };
    for (tag, image) in
        [("oci", Image::new(vec![noise(1, 5_000_000), Vec::new()])), ("docker", Image::docker(vec![noise(2, 100)]))]
    {
        let name = reference(&format!("team/app:{tag}"));
        image.push(&client, &name, &ANON).await;
        let resolved = client.resolve(&name, None, &ANON).await.unwrap();
        assert_eq!(resolved.manifest, image.manifest);
        for (descriptor, bytes) in image.blobs() {
            assert!(client.blob_bytes(&name, descriptor, 1 << 24, &ANON).await.unwrap() == bytes);
        }
        let layer = &image.layers[0].0;
        let source = BytesSource(bytes::Bytes::new());
        let other = reference(&format!("other/{tag}"));
        let from = ["team/app".to_owned()];
        let blob =
            PushBlob { reference: &other, descriptor: layer, source: &source, mount_from: &from, progress: None };
        assert_eq!(client.push_blob(blob, &ANON).await.unwrap(), Pushed::Mounted { from: "team/app".to_owned() });
    }
    let mut tags = client.tags(&reference("team/app"), &ANON).await.unwrap();
    tags.sort();
    assert_eq!(tags, ["docker", "oci"]);
    assert_eq!(
        client.catalog(&registry.addr.to_string(), &ANON).await.unwrap(),
        ["other/docker", "other/oci", "team/app"]
    );

    let error = client.resolve(&reference("team/app:none"), None, &ANON).await.unwrap_err();
    let expected =
        format!("manifest for {}/team/app:none not found: manifest unknown: manifest unknown", registry.addr);
    assert_eq!(error.message(), expected);
}

#[tokio::test]
async fn referrers_without_the_api_go_under_a_tag() {
    let Some(registry) = Distribution::start("").await else { return };
    let client = client();
    let name: Reference = format!("{}/signed:1", registry.addr).parse().unwrap();
    let image = Image::new(vec![noise(1, 10)]);
    image.push(&client, &name, &ANON).await;
    let subject = image.manifest.descriptor();
    for kind in ["x/a", "x/b"] {
        let artifact = Image::about(&subject, kind, kind.as_bytes());
        artifact.push(&client, &name.with_digest(artifact.manifest.digest), &ANON).await;
    }
    let found = client.referrers(&name, subject.digest, Some("x/b"), &ANON).await.unwrap().manifests;
    assert_eq!(found.len(), 1);
    assert_eq!(client.referrers(&name, subject.digest, None, &ANON).await.unwrap().manifests.len(), 2);
    let fallback = format!("sha256-{}", subject.digest.hex());
    assert!(client.tags(&name, &ANON).await.unwrap().contains(&fallback));
}

#[tokio::test]
async fn docker_registry_with_passwords() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("htpasswd");
    let hash = bcrypt::hash("secret", 4).unwrap().replace("$2b$", "$2y$");
    std::fs::write(&path, format!("pupil:{hash}\n")).unwrap();
    let extra = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
    let Some(registry) = Distribution::start(&extra).await else { return };
    let client = client();
    let name: Reference = format!("{}/pupil/app:1", registry.addr).parse().unwrap();
    let good = Credentials::basic("pupil", "secret");
    let image = Image::docker(vec![noise(1, 3_000_000)]);
    image.push(&client, &name, &good).await;
    assert_eq!(client.resolve(&name, None, &good).await.unwrap().manifest, image.manifest);
    assert!(client.resolve(&name, None, &ANON).await.unwrap_err().message().contains("no basic auth credentials"));
    assert_eq!(client.login(&registry.addr.to_string(), &good).await.unwrap().status, "Login Succeeded");
    assert!(client.login(&registry.addr.to_string(), &Credentials::basic("pupil", "x")).await.is_err());
}

fn skopeo(args: &[&str]) -> String {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy"]).args(args);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Writes an OCI layout holding an index of two images, as image tools do.
fn write_layout(dir: &Path, images: &[&Image], list: &barque_registry::RawManifest) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| std::fs::write(blobs.join(barque_model::Digest::of(bytes).hex()), bytes).unwrap();
    for image in images {
        image.blobs().for_each(|(_, bytes)| put(bytes));
        put(&image.manifest.bytes);
    }
    put(&list.bytes);
    std::fs::write(dir.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
    let mut entry = serde_json::to_value(list.descriptor()).unwrap();
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "all"});
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry]});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_in_and_out() {
    if !installed("skopeo") {
        return;
    }
    let server = Server::start().await;
    let client = client();
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Image::new(vec![noise(1, 2_000_000)]), Image::new(vec![noise(2, 10)]));
    let list = index(&[(&one.manifest, "linux/amd64"), (&two.manifest, "linux/arm64")]);
    write_layout(&dir.path().join("in"), &[&one, &two], &list);
    let host = server.host();
    let layout = |name: &str| format!("oci:{}:all", dir.path().join(name).display());

    let (source, target) = (layout("in"), format!("docker://{host}/skopeo/all:1"));
    let copy = ["copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"];
    tokio::task::block_in_place(|| skopeo(&[&copy[..], &[&source, &target]].concat()));
    let name: Reference = format!("{host}/skopeo/all:1").parse().unwrap();
    let resolved = client.resolve(&name, Some(&"linux/arm64".parse().unwrap()), &ANON).await.unwrap();
    assert_eq!((resolved.digest, resolved.manifest), (list.digest, two.manifest.clone()), "byte for byte");

    // From one repository to another, then out to a layout again.
    let second = format!("docker://{host}/skopeo/second:1");
    let back = layout("out");
    tokio::task::block_in_place(|| {
        skopeo(&[&copy[..], &[&target, &second]].concat());
        skopeo(&[&copy[..], &[&second, &back]].concat());
    });
    for digest in [list.digest, one.manifest.digest, one.layers[0].0.digest] {
        let blobs = |name: &str| std::fs::read(dir.path().join(name).join("blobs/sha256").join(digest.hex())).unwrap();
        assert!(blobs("in") == blobs("out"));
    }

    let docker = format!("docker://{host}/skopeo/docker:1");
    let only = ["copy", "--format", "v2s2", "--src-tls-verify=false", "--dest-tls-verify=false"];
    tokio::task::block_in_place(|| skopeo(&[&only[..], &[&second, &docker]].concat()));
    let name: Reference = format!("{host}/skopeo/docker:1").parse().unwrap();
    assert_eq!(client.resolve(&name, None, &ANON).await.unwrap().manifest.media_type, media::DOCKER_MANIFEST);

    let tags = tokio::task::block_in_place(|| {
        skopeo(&["list-tags", "--tls-verify=false", &format!("docker://{host}/skopeo/all")])
    });
    assert!(tags.contains("\"1\""), "{tags}");
    tokio::task::block_in_place(|| skopeo(&["delete", "--tls-verify=false", &docker]));
    assert!(client.resolve(&name, None, &ANON).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_with_a_password_over_tls() {
    if !installed("skopeo") {
        return;
    }
    // skopeo would take a key beside the authority for half a client certificate.
    let (files, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (files.path().join("ca.crt"), keys.path().join("key.pem"));
    std::fs::write(&cert, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let passwords = files.path().join("htpasswd");
    std::fs::write(&passwords, format!("pupil:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let server = Server::with(|config| {
        config.tls = Some(barque_registry::server::TlsFiles { cert, key });
        config.htpasswd = Some(passwords);
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let image = Image::new(vec![noise(1, 1_000_000)]);
    let list = index(&[(&image.manifest, "linux/amd64")]);
    write_layout(dir.path(), &[&image], &list);
    let source = format!("oci:{}:all", dir.path().display());
    let target = format!("docker://{}/secure/app:1", server.host());
    let certs = format!("--dest-cert-dir={}", files.path().display());
    let args = ["copy", "--all", "--preserve-digests", &certs, "--dest-creds", "pupil:secret", &source, &target];
    tokio::task::block_in_place(|| skopeo(&args));
    let name: Reference = format!("{}/secure/app:1", server.host()).parse().unwrap();
    let creds = Credentials::basic("pupil", "secret");
    assert_eq!(client().resolve(&name, None, &creds).await.unwrap().digest, list.digest);
}
