//! Archives in and out.

use barque_model::{Digest, ErrorKind, Id};
use serde_json::json;

use super::*;
use crate::image::NewImage;
use crate::layer::{CommitMode, DiffOptions};
use crate::testing::{Scratch, Tar, gzip, read};

/// Loads it as a stream, and into another store as a file: the same comes of both.
fn load(scratch: &Scratch, bytes: &[u8]) -> Result<Vec<LoadedImage>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let other = Scratch::new();
    let by_file = other.store.load(Archive::File(&file), &[], &mut |_| {});
    let loaded = scratch.store.load(Archive::Stream(&mut &bytes[..]), &[], &mut |_| {});
    let seen = |images: &[LoadedImage]| images.iter().map(|i| (i.id, i.names.clone())).collect::<Vec<_>>();
    match (&by_file, &loaded) {
        (Ok(one), Ok(two)) => assert_eq!(seen(one), seen(two)),
        (Err(one), Err(two)) => assert_eq!(one.kind(), two.kind(), "{one} {two}"),
        other => panic!("{other:?}"),
    }
    if by_file.is_err() {
        assert_eq!(other.store.read(|r| r.blobs()).unwrap().len(), 0);
    }
    loaded
}

fn save(scratch: &Scratch, images: &[(&str, &[&str])]) -> Vec<u8> {
    let images: Vec<SaveImage> = images
        .iter()
        .map(|(text, names)| SaveImage {
            id: scratch.store.resolve_image(text).unwrap().image.id,
            names: names.iter().map(|n| n.parse().unwrap()).collect(),
        })
        .collect();
    let mut out = Vec::new();
    scratch.store.save(&scratch.lease(), &images, &mut out).unwrap();
    out
}

/// Puts an image as a pull would: compressed layers and a manifest.
fn pulled(scratch: &Scratch, name: &str) -> ImageId {
    let lease = scratch.lease();
    let layers = [gzip(&Tar::new().file("a", "first").done()), gzip(&Tar::new().file("b", name).done())];
    let (mut parent, mut diffs, mut descriptors) = (None, Vec::new(), Vec::new());
    for bytes in &layers {
        let applied = scratch.apply(&lease, bytes).unwrap();
        diffs.push(applied.diff_id);
        descriptors.push(json!({
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "size": bytes.len(), "digest": Digest::of(bytes),
        }));
        parent = Some(scratch.store.add_layer(&lease, applied, parent).unwrap().chain_id);
    }
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(),
                   "digest": Digest::of(&config)},
        "layers": descriptors,
    });
    let manifest = serde_json::to_vec_pretty(&manifest).unwrap();
    let new = NewImage {
        config,
        manifest: Some(("application/vnd.docker.distribution.manifest.v2+json".into(), manifest)),
        names: vec![name.parse().unwrap()],
        ..NewImage::default()
    };
    scratch.store.put_image(&lease, new).unwrap().id
}

#[test]
fn save_and_load_reproduce_every_digest() {
    let (from, to) = (Scratch::new(), Scratch::new());
    let id = pulled(&from, "app:1");
    pulled(&from, "other:2");
    let bytes = save(&from, &[("app:1", &["app:1", "also:x"]), ("other:2", &["other:2"])]);
    let reordered = save(&from, &[("app:1", &["also:x", "app:1"]), ("other:2", &["other:2"])]);
    assert!(bytes == reordered, "the order of names makes other bytes");
    let loaded = load(&to, &bytes).unwrap();
    assert_eq!(loaded[0].id, id);
    let manifests = |s: &Scratch| s.store.read(|r| r.image_manifests(&id)).unwrap();
    assert_eq!(manifests(&to), manifests(&from));
    let names = to.store.read(|r| r.image_names(&id)).unwrap();
    assert_eq!(names.iter().map(Reference::familiar).collect::<Vec<_>>(), ["also:x", "app:1"]);
    assert!(save(&to, &[("app:1", &["app:1", "also:x"]), ("other:2", &["other:2"])]) == bytes);
    let (_, lowers) = to.store.image_lower_dirs(&id).unwrap();
    assert_eq!(read(lowers[1].join("a")), "first");
    assert_eq!(load(&to, &gzip(&bytes)).unwrap(), loaded, "again, compressed");
}

#[test]
fn images_made_here_survive_too() {
    let (from, to) = (Scratch::new(), Scratch::new());
    let lease = from.lease();
    let snapshot = Id::random();
    let dirs = from.store.create_snapshot(snapshot, None).unwrap();
    std::fs::write(dirs.upper.join("file"), "made here").unwrap();
    let layer = from.store.commit_snapshot(&lease, &snapshot, CommitMode::Move, DiffOptions::default()).unwrap();
    let config = format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"diff_ids":["{}"]}}}}"#, layer.diff_id);
    let names = vec!["made:1".parse().unwrap()];
    let new = NewImage { config: config.into_bytes(), names, ..NewImage::default() };
    let id = from.store.put_image(&lease, new).unwrap().id;
    let loaded = load(&to, &save(&from, &[("made:1", &["made:1"])])).unwrap();
    assert_eq!(loaded[0].id, id);
    let (_, lowers) = to.store.image_lower_dirs(&id).unwrap();
    assert_eq!(read(lowers[0].join("file")), "made here");
}

fn legacy_config(diffs: &[&[u8]]) -> Vec<u8> {
    let diffs: Vec<_> = diffs.iter().map(|d| Digest::of(d)).collect();
    serde_json::to_vec(&json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": diffs}})).unwrap()
}

fn bytes(tar: Tar, name: &str, data: &[u8]) -> Tar {
    let header = Tar::header(tar::EntryType::Regular, name, "", data.len() as u64);
    tar.raw(&header, data)
}

#[test]
fn archives_of_older_dockers_load() {
    let (a, b) = (Tar::new().file("a", "1").done(), Tar::new().file("b", "2").done());
    let config = legacy_config(&[&a, &b, &a]);
    let manifest =
        br#"[{"Config":"c.json","RepoTags":["old:1"],"Layers":["x/layer.tar","y/layer.tar","z/layer.tar"]}]"#;
    let archive = bytes(Tar::new(), "x/layer.tar", &a).file("x/VERSION", "1.0");
    let archive = bytes(bytes(archive, "y/layer.tar", &b).symlink("z/layer.tar", "../x/layer.tar"), "c.json", &config);
    let archive = bytes(archive, "manifest.json", manifest).done();
    let scratch = Scratch::new();
    let loaded = load(&scratch, &archive).unwrap();
    assert_eq!(loaded[0].id.0, Digest::of(&config));
    assert_eq!(loaded[0].names[0].familiar(), "old:1");
    let image = scratch.store.resolve_image("old:1").unwrap().image;
    assert_eq!(image.layers.len(), 3);
    let mut tar = Vec::new();
    scratch.store.layer_tar(&image.layers[1].chain_id, &mut tar).unwrap();
    assert!(tar == b, "what was loaded is not given back byte for byte");
}

#[test]
fn archives_of_the_first_dockers_load() {
    let (a, b) = (Tar::new().file("a", "1").done(), Tar::new().file("b", "2").done());
    let tar = bytes(Tar::new(), "one/layer.tar", &a);
    let tar = bytes(tar, "one/json", br#"{"id":"one","os":"linux","architecture":"amd64"}"#);
    let tar = bytes(
        bytes(tar, "two/layer.tar", &b),
        "two/json",
        br#"{"id":"two","parent":"one","os":"linux",
        "architecture":"amd64","config":{"Cmd":["sh"]},"container_config":{"Cmd":["/bin/sh","-c","make"]}}"#,
    );
    let tar = bytes(tar, "repositories", br#"{"ancient":{"1":"two","latest":"two"}}"#).done();
    let scratch = Scratch::new();
    let loaded = load(&scratch, &tar).unwrap();
    assert_eq!((loaded.len(), loaded[0].names.len()), (1, 2));
    let history = scratch.store.image_history(&loaded[0].id).unwrap();
    assert_eq!(history[0].created_by, "/bin/sh -c make");
    let circle = bytes(Tar::new(), "repositories", br#"{"a":{"1":"x"}}"#);
    let circle = bytes(circle, "x/json", br#"{"parent":"x"}"#).done();
    assert_eq!(load(&scratch, &circle).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// An OCI layout with one image per platform.
fn layout(platforms: &[(&str, &str)], reference: &str) -> (Vec<u8>, Vec<Digest>) {
    let mut tar = bytes(Tar::new(), "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    let (mut manifests, mut configs) = (Vec::new(), Vec::new());
    for (architecture, content) in platforms {
        let layer = gzip(&Tar::new().file("f", content).done());
        let plain = Tar::new().file("f", content).done();
        let config = serde_json::to_vec(&json!({
            "os": "linux", "architecture": architecture, "rootfs": {"diff_ids": [Digest::of(&plain)]}
        }))
        .unwrap();
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2, "config": {"digest": Digest::of(&config)}, "layers": [{"digest": Digest::of(&layer)}]
        }))
        .unwrap();
        for blob in [&layer, &config, &manifest] {
            tar = bytes(tar, &format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
        }
        configs.push(Digest::of(&config));
        manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::of(&manifest),
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": manifests})).unwrap();
    let tar = bytes(tar, &format!("blobs/sha256/{}", Digest::of(&index).hex()), &index);
    let top = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": Digest::of(&index),
        "annotations": {"org.opencontainers.image.ref.name": reference},
    }]});
    (bytes(tar, "index.json", &serde_json::to_vec(&top).unwrap()).done(), configs)
}

#[test]
fn the_platform_decides_within_an_index() {
    let (archive, configs) = layout(&[("amd64", "pc"), ("arm64", "phone")], "demo/app:9");
    let scratch = Scratch::new();
    let arm = "linux/arm64".parse().unwrap();
    let loaded =
        scratch.store.load(Archive::Stream(&mut &archive[..]), std::slice::from_ref(&arm), &mut |_| {}).unwrap();
    assert_eq!(loaded[0].id.0, configs[1]);
    assert_eq!(loaded[0].names[0].familiar(), "demo/app:9");
    let kept = scratch.store.read(|r| r.image_manifests(&loaded[0].id)).unwrap();
    assert_eq!(kept.iter().map(|m| m.is_index).collect::<Vec<_>>(), [false, true]);
    let mips = "linux/mips64le".parse().unwrap();
    assert!(scratch.store.load(Archive::Stream(&mut &archive[..]), std::slice::from_ref(&mips), &mut |_| {}).is_err());
    let (plain, _) = layout(&[("amd64", "x")], "latest");
    let loaded = load(&scratch, &plain).unwrap();
    assert!(loaded[0].names.is_empty(), "a mere tag is no name");
}

#[test]
fn progress_is_told() {
    let from = Scratch::new();
    pulled(&from, "app:1");
    let bytes = save(&from, &[("app:1", &["app:1"])]);
    let to = Scratch::new();
    let (mut layers, mut images) = (0, 0);
    to.store
        .load(Archive::Stream(&mut &bytes[..]), &[], &mut |event| match event {
            LoadEvent::Layer { current, total, .. } => {
                assert!(current <= total);
                layers += usize::from(current == total);
            }
            LoadEvent::Image(_) => images += 1,
        })
        .unwrap();
    assert_eq!((layers, images), (2, 1));
}

#[test]
fn an_import_can_be_pushed_without_keeping_it_twice() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let root = gzip(&Tar::new().dir("bin/").file("bin/sh", "#!").link("bin/ash", "bin/sh").done());
    let layer = scratch.store.import_root(&lease, &mut &root[..]).unwrap().layer;
    assert!(scratch.store.read(|r| r.blobs()).unwrap().is_empty());
    assert_eq!(read(scratch.layer_path(&layer.chain_id).join("bin/ash")), "#!");
    scratch.store.layer_blob(&lease, &layer.chain_id).unwrap();
}

#[test]
fn bad_archives_leave_nothing() {
    let a = Tar::new().file("a", "1").done();
    let other = Tar::new().file("b", "2").done();
    let config = legacy_config(&[&a]);
    let manifest = br#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]"#;
    let good = || bytes(bytes(Tar::new(), "c.json", &config), "manifest.json", manifest);
    let hostile = Tar::new().file("../../escape", "x").done();
    let wrong_name = format!("blobs/sha256/{}", Digest::of(b"other").hex());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no tar", b"garbage".repeat(200)),
        ("empty", Vec::new()),
        ("no manifest", bytes(Tar::new(), "l.tar", &a).done()),
        ("no layer", good().done()),
        ("wrong layer", bytes(good(), "l.tar", &other).done()),
        ("hostile layer", bytes(good(), "l.tar", &hostile).done()),
        ("layer is cut short", bytes(good(), "l.tar", &a[..700]).done()),
        ("archive is cut short", bytes(good(), "l.tar", &a).done()[..3000].to_vec()),
        ("blob is cut short", {
            let blob = format!("blobs/sha256/{}", Digest::of(&a).hex());
            bytes(Tar::new(), &blob, &a).done()[..1024].to_vec()
        }),
        ("no config", bytes(bytes(Tar::new(), "manifest.json", manifest), "l.tar", &a).done()),
        ("too many layers", {
            let many = br#"[{"Config":"c.json","Layers":["l.tar","l.tar"]}]"#;
            bytes(bytes(bytes(Tar::new(), "c.json", &config), "manifest.json", many), "l.tar", &a).done()
        }),
        ("manifest is no list", bytes(Tar::new(), "manifest.json", b"{\"a\":1}").done()),
        ("bad name", {
            let bad = br#"[{"Config":"c.json","RepoTags":["UPPER CASE"],"Layers":["l.tar"]}]"#;
            bytes(bytes(bytes(Tar::new(), "c.json", &config), "manifest.json", bad), "l.tar", &a).done()
        }),
        ("escaping member", bytes(good(), "../l.tar", &a).done()),
        ("link circle", good().symlink("l.tar", "m.tar").symlink("m.tar", "l.tar").done()),
        ("wrong digest of a document", bytes(good(), &wrong_name, b"{\"some\":\"json\"}").done()),
        ("wrong digest of a layer", bytes(good(), &wrong_name, &a).done()),
        ("device", {
            let header = Tar::header(tar::EntryType::Char, "l.tar", "", 0);
            good().raw(&header, b"").done()
        }),
        ("deep json", bytes(Tar::new(), "manifest.json", "[".repeat(100_000).as_bytes()).done()),
    ];
    let scratch = Scratch::new();
    for (what, archive) in cases {
        let error = load(&scratch, &archive).err().unwrap_or_else(|| panic!("{what}: was accepted"));
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{what}: {}", error.chain());
        assert!(scratch.store.images().unwrap().is_empty(), "{what}");
        assert!(scratch.store.read(|r| r.layers()).unwrap().is_empty(), "{what}");
        assert!(scratch.store.read(|r| r.blobs()).unwrap().is_empty(), "{what}");
        assert!(scratch.store.read(|r| r.leases()).unwrap().is_empty(), "{what}: a lease stays");
        scratch.store.flush();
        for dir in ["tmp", "ingest", "layers", "trash"] {
            assert_eq!(std::fs::read_dir(scratch.store.root().join(dir)).unwrap().count(), 0, "{what}: {dir}");
        }
    }
}
