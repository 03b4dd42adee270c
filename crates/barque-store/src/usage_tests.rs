//! What `system df` says against what lies on the disk.

use std::collections::HashSet;
use std::path::Path;

use barque_model::{ChainId, Timestamp};

use crate::db::CacheEntry;
use crate::image::tests::{container, image};
use crate::testing::{Scratch, Tar, gzip};

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
    let (before, said) = (on_disk(&scratch), scratch.store.images_would_free(&HashSet::from([unused.id])).unwrap());
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
    let usage = scratch.store.cache_usage().unwrap();
    assert!(usage.values().all(|u| u.shared), "the image has them too: {usage:?}");
    let all = scratch.store.disk_usage().unwrap();
    assert_eq!((all.layers + all.blobs, all.build_cache), (on_disk(&scratch), 0));
    let everything = on_disk(&scratch);
    for gone in [made.id, base.id] {
        assert_eq!(scratch.store.prune_image(&gone).unwrap().reclaimed, 0, "the cache still holds all of it");
    }
    let usage = scratch.store.cache_usage().unwrap();
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
    let usage = scratch.store.cache_usage().unwrap();
    assert_eq!((usage["stacked"].size, usage["stacked"].shared), (on_disk(&scratch), false));
    scratch.store.write(|tx| tx.cache_delete("stacked")).unwrap();
    assert_eq!(scratch.store.collect().unwrap().bytes, usage["stacked"].size);
    assert_eq!(on_disk(&scratch), 0);
}
