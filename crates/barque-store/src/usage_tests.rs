//! What `system df` says against what lies on the disk.

use std::collections::HashSet;
use std::path::Path;

use barque_model::{ChainId, Digest, ImageId, Timestamp};
use serde_json::json;

use crate::db::CacheEntry;
use crate::image::tests::{container, image};
use crate::testing::{Scratch, Tar, gzip};
use crate::usage::Gone;

/// Bytes of the regular files below a directory of the data root.
fn walked(scratch: &Scratch, place: &str) -> u64 {
    fn walk(dir: &Path) -> u64 {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
        let size = |e: std::fs::DirEntry| match e.file_type().unwrap().is_dir() {
            true => walk(&e.path()),
            false => e.metadata().unwrap().len(),
        };
        entries.map(size).sum()
    }
    scratch.store.flush();
    walk(&scratch.store.root().join(place))
}

fn on_disk(scratch: &Scratch) -> u64 {
    walked(scratch, "layers") + walked(scratch, "blobs")
}

fn record(scratch: &Scratch, key: &str, layer: ChainId, size: u64, used: i64) {
    let entry = CacheEntry {
        key: key.into(),
        record: String::new(),
        layer: Some(layer),
        size,
        created_at: Timestamp::from_secs(used),
        last_used: Timestamp::from_secs(used),
        uses: 1,
    };
    scratch.store.write(|tx| tx.cache_put(&entry)).unwrap();
}

fn text(letter: &str, count: usize) -> String {
    letter.repeat(count)
}

#[test]
fn images_count_layers_and_content_once_and_say_what_goes() {
    let scratch = Scratch::new();
    // Names of files are their content here.
    let (a, b, c) = (text("a", 40), text("b", 50), text("c", 60));
    let used = image(&scratch, &[&a, &b], &["used:1"], None);
    let unused = image(&scratch, &[&a, &c], &["unused:1"], None);
    container(&scratch, &used, "busy");
    let usage = scratch.store.disk_usage().unwrap();
    assert_eq!(usage.layers, 40 + 50 + 60);
    assert_eq!((usage.layers, usage.blobs), (walked(&scratch, "layers"), walked(&scratch, "blobs")));
    let of = |id| usage.images.iter().find(|(i, _)| *i == id).unwrap().1;
    let (first, second) = (of(used.id), of(unused.id));
    assert_eq!(first.shared, second.shared);
    assert!(first.shared > 40, "the common layer with its blob: {}", first.shared);
    let unique = |u: crate::usage::ImageUsage| u.size - u.shared;
    assert_eq!(first.shared + unique(first) + unique(second), on_disk(&scratch));
    assert_eq!((first.containers, second.containers), (1, 0));
    // What is said to be free is what goes.
    assert_eq!(usage.unused, unique(second));
    let (before, said) =
        (on_disk(&scratch), scratch.store.images_would_free(&HashSet::from([unused.id]), &Gone::default()).unwrap());
    let removal = scratch.store.prune_image(&unused.id).unwrap();
    assert_eq!((removal.reclaimed, said), (usage.unused, usage.unused));
    assert_eq!(before - on_disk(&scratch), removal.reclaimed);
    let left = scratch.store.disk_usage().unwrap();
    assert_eq!((left.layers + left.blobs, left.unused), (on_disk(&scratch), 0));
}

#[test]
fn what_only_the_build_cache_holds_counts_there() {
    let scratch = Scratch::new();
    let (a, b, c) = (text("a", 40), text("b", 50), text("c", 60));
    let base = image(&scratch, &[&a], &["base:1"], None);
    let made = image(&scratch, &[&a, &b, &c], &["made:1"], None);
    let chain = scratch.store.read(|r| r.layer_chain(&made.top)).unwrap();
    record(&scratch, "b", chain[1].chain_id, 50, 1);
    record(&scratch, "old key of c", made.top, 60, 2);
    record(&scratch, "c", made.top, 60, 3);
    record(&scratch, "an ENV after it", made.top, 0, 4);
    let usage = scratch.store.cache_usage(&Gone::default()).unwrap();
    assert!(usage.values().all(|u| u.shared), "the image has them too: {usage:?}");
    let all = scratch.store.disk_usage().unwrap();
    assert_eq!((all.layers + all.blobs, all.build_cache), (on_disk(&scratch), 0));
    let everything = on_disk(&scratch);
    let without = Gone { images: HashSet::from([made.id, base.id]), ..Gone::default() };
    let foretold = scratch.store.cache_usage(&without).unwrap();
    for gone in [made.id, base.id] {
        assert_eq!(scratch.store.prune_image(&gone).unwrap().reclaimed, 0, "the cache still holds all of it");
    }
    let usage = scratch.store.cache_usage(&Gone::default()).unwrap();
    assert_eq!(usage, foretold, "what is foretold without the images");
    let size = |key: &str| usage[key].size;
    let blob = |letter: &str| gzip(&Tar::new().file(letter, letter).done()).len() as u64;
    assert_eq!((size("b"), size("old key of c"), size("c")), (50 + blob(&b), 0, 60 + blob(&c)));
    assert_eq!(size("an ENV after it"), 40 + blob(&a), "the base, which has no record, at the one used last");
    assert!(usage.values().all(|u| !u.shared));
    let all = scratch.store.disk_usage().unwrap();
    assert_eq!((all.layers + all.blobs, all.build_cache, all.unused), (0, everything, 0));
    assert_eq!(on_disk(&scratch), everything);
    scratch.store.write(|tx| usage.keys().try_for_each(|key| tx.cache_delete(key))).unwrap();
    assert_eq!(scratch.store.collect().unwrap().bytes, everything);
    assert_eq!(on_disk(&scratch), 0);
}

#[test]
fn files_that_two_layers_share_count_once() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let (a, b) = (text("a", 40), text("b", 50));
    let lower = scratch.chain(&lease, &[gzip(&Tar::new().file(&a, &a).done())]);
    let other = scratch.chain(&lease, &[gzip(&Tar::new().file(&b, &b).done())]);
    let stacked = scratch.store.stack_layer(&lease, &lower, Some(other)).unwrap();
    record(&scratch, "stacked", stacked.chain_id, 40, 1);
    drop(lease);
    let usage = scratch.store.cache_usage(&Gone::default()).unwrap();
    assert_eq!((usage["stacked"].size, usage["stacked"].shared), (on_disk(&scratch), false));
    scratch.store.write(|tx| tx.cache_delete("stacked")).unwrap();
    assert_eq!(scratch.store.collect().unwrap().bytes, usage["stacked"].size);
    assert_eq!(on_disk(&scratch), 0);
}

/// An image of one layer as an archive: an OCI layout with its layer in `blob`, or as `docker save` once wrote it.
fn archive(plain: &[u8], blob: Option<&[u8]>, name: &str) -> Vec<u8> {
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": [Digest::of(plain)]}});
    let config = serde_json::to_vec(&config).unwrap();
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let entry = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": Digest::of(bytes), "size": bytes.len()});
    let member = |tar: Tar, name: &str, bytes: &[u8]| {
        tar.raw(&Tar::header(tar::EntryType::Regular, name, "", bytes.len() as u64), bytes)
    };
    let Some(blob) = blob else {
        let list = json!([{"Config": "c.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        let tar = member(member(Tar::new(), "c.json", &config), "layer.tar", plain);
        return member(tar, "manifest.json", &serde_json::to_vec(&list).unwrap()).done();
    };
    let kind = if blob == plain { "layer.v1.tar" } else { "layer.v1.tar+gzip" };
    let manifest =
        json!({"schemaVersion": 2, "config": entry("config.v1+json", &config), "layers": [entry(kind, blob)]});
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let mut listed = entry("manifest.v1+json", &manifest);
    listed["annotations"] = json!({"org.opencontainers.image.ref.name": format!("docker.io/library/{name}")});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [listed]})).unwrap();
    let parts = [&config[..], &manifest, blob];
    let tar = parts.iter().fold(Tar::new(), |tar, bytes| member(tar, &path(bytes), bytes));
    member(tar, "index.json", &index).done()
}

/// However often an image comes, and however packed, what is kept of it is what a name of it needs.
#[test]
fn an_image_that_comes_in_many_packings_is_kept_in_those_its_names_came_with() {
    use std::io::Write as _;
    let scratch = Scratch::new();
    let plain = Tar::new().file("a", &"a".repeat(5000)).done();
    let pack = |level| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    let (fast, best) = (pack(1), pack(9));
    assert_ne!(fast, best);
    let load = |blob: Option<&[u8]>, name: &str| {
        let bytes = archive(&plain, blob, name);
        let loaded = scratch.store.load(crate::Archive::Stream(&mut &bytes[..]), &[], &mut |_| {}).unwrap();
        scratch.store.flush();
        loaded[0].id
    };
    let blobs = || {
        let mut kept: Vec<Digest> = scratch.store.read(|r| r.blobs()).unwrap().iter().map(|b| b.digest).collect();
        kept.sort();
        kept
    };
    let of = |list: &[&[u8]]| {
        let mut wanted: Vec<Digest> = list.iter().map(|b| Digest::of(b)).collect();
        wanted.sort();
        wanted
    };
    let agrees = |id: ImageId| {
        let image = scratch.store.read(|r| r.image(&id)).unwrap().unwrap();
        let content = scratch.store.read(|r| r.image_content(&id)).unwrap();
        let usage = scratch.store.disk_usage().unwrap().images[0].1;
        assert_eq!((usage.size, usage.files), (image.size + content, image.size), "as every list says it");
        assert_eq!(usage.size, on_disk(&scratch));
    };
    let id = load(None, "app:1");
    assert_eq!(blobs(), of(&[&plain]), "the bytes from which the layer can be sent again");
    agrees(id);
    // The name comes with a manifest now, and that with its blob.
    for blob in [&fast, &best, &plain, &best] {
        assert_eq!(load(Some(blob), "app:1"), id);
        assert_eq!(blobs(), of(&[blob]));
        agrees(id);
    }
    assert_eq!(load(None, "app:1"), id);
    assert_eq!(blobs(), of(&[&best]), "what is packed stays rather than what is not");
    // Two names that came differently need both.
    load(Some(&fast), "app:1");
    load(Some(&best), "other:1");
    assert_eq!(blobs(), of(&[&fast, &best]));
    agrees(id);
    scratch.store.remove_image("other:1", crate::RemoveImage::default(), &|_| false).unwrap();
    assert_eq!(blobs(), of(&[&fast]), "it went with its name");
    agrees(id);
    scratch.store.remove_image("app:1", crate::RemoveImage::default(), &|_| false).unwrap();
    assert_eq!((blobs(), on_disk(&scratch)), (Vec::new(), 0));
}
