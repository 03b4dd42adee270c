//! Registries that lie, flood and lead astray, against the whole engine: an error that says what is wrong, soon, and
//! nothing of theirs in the store.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;
#[path = "../../barque-registry/tests/common/script.rs"]
#[allow(dead_code, reason = "not every test uses everything")]
mod script;

use std::sync::Arc;

use barque_model::Digest;
use pair::{Engine, in_namespaces};
use script::{Say, Script, Seen};
use serde_json::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A small image: a layer that is good and one that may be otherwise.
#[derive(Clone)]
struct Image {
    layers: [Vec<u8>; 2],
    config: Vec<u8>,
    manifest: Vec<u8>,
}

fn layer(name: &str, length: usize) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(length as u64);
    header.set_mode(0o644);
    let content: Vec<u8> = (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    archive.append_data(&mut header, name, &content[..]).unwrap();
    archive.into_inner().unwrap()
}

fn image() -> Image {
    let layers = [layer("good", 50_000), layer("other", 400_000)];
    let diffs = layers.clone().map(|l| Digest::of(&l).to_string());
    let config =
        json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = config.to_string().into_bytes();
    let entry = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": Digest::of(bytes).to_string(), "size": bytes.len()});
    let list: Vec<_> = layers.iter().map(|l| entry(LAYER, l)).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": entry(CONFIG, &config), "layers": list});
    Image { layers, config, manifest: manifest.to_string().into_bytes() }
}

impl Image {
    /// What an honest registry says.
    fn honest(&self, seen: &Seen) -> Say {
        let is = |bytes: &[u8]| seen.path.ends_with(&Digest::of(bytes).to_string());
        if seen.path.contains("/manifests/") {
            let headers = [("Content-Type", MANIFEST)];
            return match seen.method.as_str() {
                "HEAD" => Say::head(self.manifest.len(), &headers),
                _ => Say::status(200, &headers, &self.manifest),
            };
        }
        match [&self.layers[0], &self.layers[1], &self.config].into_iter().find(|bytes| is(bytes)) {
            Some(bytes) => Say::ok(bytes),
            None if seen.path == "/v2/" => Say::ok("{}"),
            None => Say::status(404, &[], "{}"),
        }
    }

    /// The request for the second layer.
    fn asked(&self, seen: &Seen) -> bool {
        seen.path.ends_with(&Digest::of(&self.layers[1]).to_string())
    }
}

/// A registry that says what `lie` says, and else the truth.
async fn registry(lie: impl Fn(&Image, &Seen) -> Option<Say> + Send + Sync + 'static) -> Script {
    let image = image();
    Script::start(move |seen| lie(&image, seen).unwrap_or_else(|| image.honest(seen))).await
}

type Lie = Box<dyn Fn(&Image, &Seen) -> Option<Say> + Send + Sync>;

/// Lies about the second layer.
fn second(say: impl Fn(&Image) -> Say + Send + Sync + 'static) -> Lie {
    Box::new(move |image, seen| image.asked(seen).then(|| say(image)))
}

/// Lies about the manifest.
fn manifest(say: impl Fn(&Image) -> Say + Send + Sync + 'static) -> Lie {
    Box::new(move |image, seen| (seen.path.contains("/manifests/") && seen.method == "GET").then(|| say(image)))
}

fn of_manifest(bytes: impl AsRef<[u8]>) -> Say {
    Say::status(200, &[("Content-Type", MANIFEST)], bytes)
}

fn changed(image: &Image, change: impl Fn(&mut serde_json::Value)) -> Say {
    let mut document = serde_json::from_slice(&image.manifest).unwrap();
    change(&mut document);
    of_manifest(document.to_string())
}

/// What goes wrong, and a word of the error.
fn lies() -> Vec<(&'static str, &'static str, Lie)> {
    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65536));
    let blanks = format!("10000\r\n{}\r\n", " ".repeat(65536));
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Type: {MANIFEST}\r\nContent-Length: 99999999999\r\n\r\n");
    let hostile = layer("other", 10);
    vec![
        (
            "other bytes",
            "digest mismatch",
            second(|i| {
                let mut flipped = i.layers[1].clone();
                flipped[1000] ^= 1;
                Say::ok(flipped)
            }),
        ),
        ("too few bytes", "399", second(|i| Say::ok(&i.layers[1][..399_000]))),
        (
            "a body that breaks off, again and again",
            "",
            second(|i| {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", i.layers[1].len());
                Say::raw([head.as_bytes(), &i.layers[1][..100_000]].concat())
            }),
        ),
        (
            "a body without end",
            "larger",
            // First what belongs there, or it may be the archive that is wrong.
            second(move |i| {
                let first = format!("{endless}{:x}\r\n", i.layers[1].len());
                Say::endless([first.as_bytes(), &i.layers[1], b"\r\n"].concat(), &chunk)
            }),
        ),
        ("no such layer", "", second(|_| Say::status(404, &[], "{}"))),
        ("a manifest without end", "larger than 4194304", manifest(move |_| Say::endless(endless, &blanks))),
        ("a huge manifest", "larger than 4194304", manifest(move |_| Say::raw(&huge))),
        ("a manifest that is none", "malformed manifest", manifest(|_| of_manifest("<html>"))),
        (
            "a manifest of another digest",
            "verification failed",
            manifest(|i| {
                let other = Digest::of(b"other").to_string();
                Say::status(200, &[("Content-Type", MANIFEST), ("Docker-Content-Digest", &other)], &i.manifest)
            }),
        ),
        (
            "fewer layers than the configuration has",
            "layers",
            manifest(|i| changed(i, |m| drop(m["layers"].as_array_mut().unwrap().pop()))),
        ),
        (
            "layers in another order",
            "diff id mismatch",
            manifest(|i| changed(i, |m| m["layers"].as_array_mut().unwrap().swap(0, 1))),
        ),
        (
            "a layer that is not the configuration's",
            "diff id mismatch",
            Box::new(move |image, seen| {
                if seen.path.contains("/manifests/") && seen.method == "GET" {
                    return Some(changed(image, |m| {
                        m["layers"][1]["digest"] = Digest::of(&hostile).to_string().into();
                        m["layers"][1]["size"] = hostile.len().into();
                    }));
                }
                seen.path.ends_with(&Digest::of(&hostile).to_string()).then(|| Say::ok(&hostile))
            }),
        ),
    ]
}

#[test]
fn priv_lying_registries_leave_nothing_behind() {
    in_namespaces("priv_lying_registries_leave_nothing_behind", |dir| {
        let engine = Engine::barque(dir, &[]);
        engine.import_busybox("base:1", &[]);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let before = engine.stored();
        for (what, word, lie) in lies() {
            let script = runtime.block_on(registry(lie));
            let begin = std::time::Instant::now();
            let why = engine.run(&["pull", &format!("{}/evil/app:1", script.host())]).expect_err(what);
            assert!(why.contains(word), "{what}, in {:?}: {why}", begin.elapsed());
            println!(
                "{what}: {:?}: {}",
                begin.elapsed(),
                why.lines().filter(|l| !l.contains(": Pull")).collect::<Vec<_>>().join(" | ")
            );
            assert!(!why.contains("panic") && begin.elapsed().as_secs() < 60, "{what}: {:?}: {why}", begin.elapsed());
            if what.contains("breaks off") {
                // What has arrived of the right bytes is kept to go on from, until somebody wants the room.
                engine.ok(&["image", "prune", "-f"]);
            }
            assert_eq!(engine.stored(), before, "{what}: {why}");
        }
        // The same registry without a lie: the tests above tell something.
        let script = runtime.block_on(registry(|_, _| None));
        let name = format!("{}/good/app:1", script.host());
        engine.ok(&["pull", &name]);
        engine.ok(&["rmi", &name]);
        assert_eq!(engine.stored(), before);
    });
}

#[test]
fn priv_passwords_stay_with_the_registry_they_are_for() {
    in_namespaces("priv_passwords_stay_with_the_registry_they_are_for", |dir| {
        let engine = Engine::barque(dir, &[]);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let image = Arc::new(image());
        let content = image.clone();
        // Another port is another host: where the blobs are, and one that asks for a password of its own.
        let store = runtime.block_on(Script::start(move |seen| content.honest(seen)));
        let asking = [("WWW-Authenticate", "Basic realm=\"x\"")];
        let phish = runtime.block_on(Script::start(move |_| Say::status(401, &asking, "")));
        let (there, greedy) = (store.host(), phish.host());
        let script = runtime.block_on(Script::start(move |seen| {
            if seen.header("authorization").is_none() {
                return Say::status(401, &asking, "");
            }
            match seen.path.as_str() {
                path if !path.contains("/blobs/") => image.honest(seen),
                path if path.contains("/evil/") => {
                    Say::status(307, &[("Location", &format!("http://{greedy}{path}"))], "")
                }
                path => Say::status(307, &[("Location", &format!("http://{there}{path}"))], ""),
            }
        }));
        let host = script.host();
        engine.ok(&["login", "-u", "me", "-p", "hunter2", &host]);
        engine.ok(&["pull", &format!("{host}/good/app:1")]);
        assert!(store.count("/blobs/") >= 3, "{:?}", store.seen());
        engine.ok(&["rmi", &format!("{host}/good/app:1")]);
        let before = engine.stored();
        engine.run(&["pull", &format!("{host}/evil/app:1")]).unwrap_err();
        assert!(!phish.seen().is_empty());
        for seen in store.seen().iter().chain(&phish.seen()) {
            assert_eq!(seen.header("authorization"), None, "told another host the password: {seen:?}");
        }
        assert!(script.seen().iter().any(|seen| seen.header("authorization").is_some()));
        assert_eq!(engine.stored(), before);
    });
}
