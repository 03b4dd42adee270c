//! What `system df` says against what lies in the data root, and what removals free of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::{Engine, barque_registry, in_namespaces, sh};
use serde_json::Value;

const REGISTRY: &str = "127.0.0.1:5072";
/// Bytes for directories and the ends of blocks: each thing that could be forgotten here is larger by far.
const SLACK: i64 = 400_000;

/// Bytes on disk of some directories of the data root.
fn on_disk(engine: &Engine, places: &[&str]) -> i64 {
    let dirs: Vec<String> = places.iter().map(|p| format!("{}/data/{p}", engine.dir.display())).collect();
    // What was removed is deleted in the background.
    for _ in 0..100 {
        if sh(&format!("ls -A {}/data/trash | wc -l", engine.dir.display())) == "0" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let (mut total, list) = (0, dirs.join(" "));
    for line in sh(&format!("mkdir -p {list} && du -s --block-size=1 {list}")).lines() {
        total += line.split_whitespace().next().unwrap().parse::<i64>().unwrap();
    }
    total
}

fn ask(engine: &Engine, path: &str) -> Value {
    ask_by("GET", engine, path)
}

fn ask_by(method: &str, engine: &Engine, path: &str) -> Value {
    let text = sh(&format!("curl -sfg -X {method} --unix-socket {}/sock 'http://d{path}'", engine.dir.display()));
    serde_json::from_str(&text).unwrap()
}

fn number(document: &Value, path: &str) -> i64 {
    document.pointer(path).and_then(Value::as_i64).unwrap_or(0)
}

fn near(found: i64, wanted: i64, what: &str) {
    assert!((found - wanted).abs() <= SLACK, "{what}: {found} is said, {wanted} it is");
}

/// Every kind's figure against the directories that hold it; gives the images' size and what of it can go.
fn compare(engine: &Engine, when: &str) -> (i64, i64) {
    let usage = ask(engine, "/v1.52/system/df");
    let size = |kind: &str| number(&usage, &format!("/{kind}/TotalSize"));
    let kept = on_disk(engine, &["layers", "blobs", "ingest"]);
    near(size("ImageUsage") + size("BuildCacheUsage"), kept, &format!("{when}: images and build cache"));
    near(size("ContainerUsage"), on_disk(engine, &["snapshots"]), &format!("{when}: containers"));
    near(size("VolumeUsage"), on_disk(engine, &["volumes"]), &format!("{when}: volumes"));
    let old = ask(engine, "/v1.43/system/df");
    assert_eq!(number(&old, "/LayersSize"), size("ImageUsage"), "{when}: as clients before 1.52 see it");
    (size("ImageUsage"), number(&usage, "/ImageUsage/Reclaimable"))
}

/// What a prune says to have freed.
fn reclaimed(said: &str) -> i64 {
    let text = said.lines().find_map(|l| l.strip_prefix("Total reclaimed space: ")).unwrap_or_else(|| panic!("{said}"));
    let at = text.find(|c: char| c.is_alphabetic()).unwrap();
    let factor = match &text[at..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        unit => panic!("{unit}"),
    };
    (text[..at].parse::<f64>().unwrap() * factor) as i64
}

/// A container that writes so many incompressible bytes, committed under `name`.
fn grown(engine: &Engine, base: &str, bytes: u32, name: &str) {
    let script = format!("head -c {bytes} /dev/urandom > /noise-{bytes}");
    engine.ok(&["run", "--name", "maker", "--network", "none", base, "sh", "-c", &script]);
    engine.ok(&["commit", "maker", name]);
    engine.ok(&["rm", "maker"]);
}

#[test]
fn priv_what_df_says_is_what_lies_there_and_prunes_free_it() {
    in_namespaces("priv_what_df_says_is_what_lies_there_and_prunes_free_it", |dir| {
        let _registry = barque_registry(dir, REGISTRY, &[]);
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("base:1", &["ENV PATH=/bin"]);
        grown(&engine, "base:1", 8_000_000, "big:1");
        let (plain, _) = compare(&engine, "after a commit");
        // A push packs the layers and keeps what it sent.
        let name = format!("{REGISTRY}/big/app:1");
        engine.ok(&["tag", "big:1", &name]);
        engine.ok(&["push", "-q", &name]);
        let (pushed, free) = compare(&engine, "after a push");
        assert!(pushed > plain + 8_000_000, "{pushed} after, {plain} before");
        assert_eq!(free, pushed, "no container uses anything");
        // An image has one size, wherever it is told.
        let sizes = |list: &Value| {
            let row = |i: &Value| (i["Id"].as_str().unwrap().to_owned(), number(i, "/Size"), number(i, "/SharedSize"));
            list.as_array().unwrap().iter().map(row).collect::<Vec<_>>()
        };
        let (listed, used) = (ask(&engine, "/images/json?shared-size=1"), ask(&engine, "/v1.43/system/df"));
        assert_eq!(sizes(&listed), sizes(&used["Images"]));
        let largest = sizes(&listed).into_iter().max_by_key(|(_, size, _)| *size).unwrap();
        near(largest.1, pushed, "the image that stands on the other");
        assert!((1_000_000..8_000_000).contains(&largest.2), "what it shares with the other: {}", largest.2);
        assert_eq!(number(&ask(&engine, "/images/big:1/json"), "/Size"), largest.1);
        assert_eq!(number(&ask(&engine, "/images/json"), "/0/SharedSize"), -1, "nobody has asked");
        // Everything else there is: other images, containers, volumes, layers that only the cache has.
        grown(&engine, "big:1", 4_000_000, "more:1");
        let volume = "head -c 2000000 /dev/urandom > /v/x; head -c 3000000 /dev/urandom > /own; sleep 1000";
        engine.ok(&["run", "-d", "--name", "user", "--network", "none", "-v", "vol:/v", "big:1", "sh", "-c", volume]);
        let context = dir.join("context");
        std::fs::create_dir(&context).unwrap();
        sh(&format!("head -c 5000000 /dev/urandom > {}/blob", context.display()));
        std::fs::write(
            context.join("Dockerfile"),
            "FROM base:1\nCOPY blob /blob\nRUN head -c 6000000 /dev/urandom > /r\n",
        )
        .unwrap();
        let built = format!("{REGISTRY}/built/app:1");
        engine.ok(&["build", "-q", "-t", &built, &context.display().to_string()]);
        engine.ok(&["push", "-q", &built]);
        compare(&engine, "with all there is");
        engine.ok(&["rmi", &built]);
        let (before, free) = compare(&engine, "with layers of the cache");
        let cache = number(&ask(&engine, "/v1.52/system/df"), "/BuildCacheUsage/TotalSize");
        assert!((21_500_000..23_500_000).contains(&cache), "two layers, and what was pushed of them: {cache}");
        // What df promises is what the prune says, and what is gone.
        let kept = on_disk(&engine, &["layers", "blobs", "ingest"]);
        let all = "filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D";
        let dry = number(&ask_by("POST", &engine, &format!("/images/prune?dry-run=1&{all}")), "/SpaceReclaimed");
        let said = reclaimed(&engine.ok(&["image", "prune", "-a", "-f"]));
        let gone = kept - on_disk(&engine, &["layers", "blobs", "ingest"]);
        near(said, free, "df promised");
        near(dry, free, "the dry run");
        near(gone, said, "gone from the disk");
        assert!(said > 3_900_000, "the unused image: {said}");
        let (after, free) = compare(&engine, "after the prune");
        near(before - after, said, "df, before and after");
        assert_eq!(free, 0, "a container uses what is left");
        // And the rest.
        engine.ok(&["rm", "-f", "-v", "user"]);
        // The newest first: a parent stays as long as its children do.
        let listed = engine.ok(&["images", "-q", "--no-trunc"]);
        let mut images: Vec<&str> = listed.lines().collect();
        images.dedup();
        for image in images {
            engine.ok(&["rmi", "-f", image]);
        }
        let kept = on_disk(&engine, &["layers", "blobs", "ingest"]);
        let said = reclaimed(&engine.ok(&["builder", "prune", "-a", "-f"]));
        near(kept - on_disk(&engine, &["layers", "blobs", "ingest"]), said, "what the cache held");
        compare(&engine, "when all is gone");
        let left = format!("find {0}/data/layers {0}/data/blobs {0}/data/ingest -type f", engine.dir.display());
        assert_eq!(sh(&left), "");
    });
}
