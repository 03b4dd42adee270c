//! Images: names, removal with Docker's words, history, collection of what they leave.

use barque_model::{ChainId, ErrorKind, Id, ImageId, Reference, Timestamp};

use super::*;
use crate::Gone;
use crate::db::{Container, Snapshot};
use crate::testing::{Scratch, Tar, gzip};

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn never(_: &Id) -> bool {
    false
}

pub(crate) struct Made {
    pub(crate) id: ImageId,
    pub(crate) top: ChainId,
}

/// An image of the given layers, each holding one file.
pub(crate) fn image(scratch: &Scratch, files: &[&str], names: &[&str], parent: Option<ImageId>) -> Made {
    let lease = scratch.lease();
    let archives: Vec<Vec<u8>> = files.iter().map(|f| gzip(&Tar::new().file(f, f).done())).collect();
    let top = scratch.chain(&lease, &archives);
    let chain = scratch.store.read(|r| r.layer_chain(&top)).unwrap();
    let diffs: Vec<String> = chain.iter().rev().map(|l| l.diff_id.to_string()).collect();
    let history: Vec<_> = files.iter().map(|f| serde_json::json!({"created_by": format!("COPY {f}")})).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
        "rootfs": {"type": "layers", "diff_ids": diffs}, "history": history,
    });
    let new = NewImage {
        config: serde_json::to_vec(&config).unwrap(),
        names: names.iter().map(|n| name(n)).collect(),
        parent,
        ..NewImage::default()
    };
    Made { id: scratch.store.put_image(&lease, new).unwrap().id, top }
}

pub(crate) fn container(scratch: &Scratch, image: &Made, label: &str) -> Id {
    let id = Id::random();
    let row = Container {
        id,
        name: label.into(),
        image: Some(image.id),
        image_ref: "x".into(),
        snapshot: Some(id),
        created_at: Timestamp::now(),
        spec: "{}".into(),
        document: "{}".into(),
        state: "{}".into(),
    };
    scratch
        .store
        .write(|tx| {
            tx.snapshot_insert(&Snapshot { id, parent: Some(image.top), created_at: Timestamp::now() })?;
            tx.container_insert(&row)
        })
        .unwrap();
    id
}

fn remove(scratch: &Scratch, text: &str, force: bool) -> Result<Vec<Deletion>> {
    let options = RemoveImage { force, ..RemoveImage::default() };
    scratch.store.remove_image(text, options, &never).map(|r| r.records)
}

fn untagged(text: &str) -> Deletion {
    Deletion::Untagged(text.into())
}

fn deleted(id: impl ToString) -> Deletion {
    Deletion::Deleted(id.to_string())
}

#[test]
fn names_lead_to_images_as_in_docker() {
    let scratch = Scratch::new();
    let made = image(&scratch, &["a"], &["python:3.7", "docker.io/library/python:latest"], None);
    let hex = made.id.0.hex();
    let digested = format!("python@{}", made.id);
    let with_digest = name("python").with_digest(made.id.0);
    scratch.store.tag_image(&made.id, &with_digest, None).unwrap();
    for text in ["python:3.7", "python", "library/python", "docker.io/library/python:3.7", &digested, &hex] {
        assert_eq!(scratch.store.resolve_image(text).unwrap().image.id, made.id, "{text}");
    }
    for text in [&hex[..12], &hex[..2], &format!("sha256:{hex}"), &format!("sha256:{}", &hex[..20])] {
        let found = scratch.store.resolve_image(text).unwrap();
        assert_eq!((found.image.id, found.name), (made.id, None), "{text}");
    }
    let error = scratch.store.resolve_image("ruby").unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, "No such image: ruby:latest"));
    let image = scratch.store.resolve_image("python").unwrap().image;
    assert_eq!(image.tags.iter().map(Reference::familiar).collect::<Vec<_>>(), ["python:3.7", "python:latest"]);
    assert_eq!(image.digests, [with_digest]);
    assert_eq!(image.platform.to_string(), "linux/amd64");
    assert_eq!(image.created_at.to_string(), "2024-01-02T03:04:05Z");
}

#[test]
fn a_prefix_of_two_ids_is_ambiguous() {
    let scratch = Scratch::new();
    let mut firsts = std::collections::HashSet::new();
    for i in 0..40 {
        let made = image(&scratch, &[&format!("f{i}")], &[], None);
        let digit = made.id.0.hex()[..1].to_owned();
        if !firsts.insert(digit.clone()) {
            let error = scratch.store.resolve_image(&digit).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains("multiple IDs found"), "{error}");
            return;
        }
    }
    panic!("forty ids with different first digits");
}

#[test]
fn tags_move_and_the_last_one_takes_the_image_along() {
    let scratch = Scratch::new();
    let old = image(&scratch, &["a", "b"], &["app:1", "app:2"], None);
    assert_eq!(remove(&scratch, "app:2", false).unwrap(), [untagged("app:2")]);
    let new = image(&scratch, &["a", "c"], &[], None);
    assert_eq!(scratch.store.tag_image(&new.id, &name("app:1"), None).unwrap(), Some(old.id));
    assert!(scratch.store.read(|r| r.image(&old.id)).unwrap().unwrap().is_dangling());
    let records = remove(&scratch, &old.id.0.hex()[..12], false).unwrap();
    assert_eq!(records, [deleted(old.id), deleted(old.top)], "the shared layer stays");
    let base = scratch.store.read(|r| r.layer_chain(&new.top)).unwrap()[1].chain_id;
    let records = remove(&scratch, "app:1", false).unwrap();
    assert_eq!(records, [untagged("app:1"), deleted(new.id), deleted(new.top), deleted(base)]);
    scratch.store.flush();
    assert_eq!(std::fs::read_dir(scratch.store.root().join("layers")).unwrap().count(), 0);
    assert!(scratch.store.read(|r| r.blobs()).unwrap().is_empty());
}

/// A manifest for an image whose one layer is `bytes`.
fn manifest(scratch: &Scratch, image: &ImageId, bytes: &[u8]) -> (String, Vec<u8>) {
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let config = scratch.store.read(|r| r.image(image)).unwrap().unwrap().config;
    let entry = |bytes: &[u8]| serde_json::json!({"mediaType": "x", "digest": Digest::of(bytes), "size": bytes.len()});
    let text = serde_json::json!({"schemaVersion": 2, "config": entry(&config), "layers": [entry(bytes)]});
    (kind.into(), serde_json::to_vec(&text).unwrap())
}

#[test]
fn a_name_goes_out_with_the_manifest_it_came_with() {
    let scratch = Scratch::new();
    let made = image(&scratch, &["a"], &["local:1"], None);
    let lease = scratch.lease();
    // The same layer in three packings.
    let plain = Tar::new().file("a", "a").done();
    let packed = [plain.clone(), gzip(&plain), [gzip(&plain), gzip(b"")].concat()];
    let names = ["r.example/app:1", "r.example/app:2", "r.example/app:3"];
    let mut came = Vec::new();
    for (bytes, tag) in packed.iter().zip(names) {
        assert_eq!(scratch.chain(&lease, std::slice::from_ref(bytes)), made.top);
        let (kind, text) = manifest(&scratch, &made.id, bytes);
        came.push(Digest::of(&text));
        let config = scratch.store.read(|r| r.image(&made.id)).unwrap().unwrap().config;
        let names = vec![name(tag), name("r.example/app").with_digest(Digest::of(&text))];
        let new = NewImage { config, manifest: Some((kind, text)), names, ..NewImage::default() };
        assert_eq!(scratch.store.put_image(&lease, new).unwrap().id, made.id);
    }
    let found = scratch.store.read(|r| r.image(&made.id)).unwrap().unwrap();
    let of = |tag: &str| scratch.store.image_manifest(&lease, &found, &[&name(tag)]).unwrap().digest;
    assert_eq!(names.map(of), came[..], "all of one repository");
    // Another name for one of them is of the same; one given by id has none of its own.
    scratch.store.tag_image(&made.id, &name("other:2"), Some(&name(names[1]))).unwrap();
    assert_eq!(of("other:2"), came[1]);
    assert_eq!(of("local:1"), came[0]);
    // A name that moves forgets what it came with.
    scratch.store.tag_image(&made.id, &name(names[2]), Some(&name(names[0]))).unwrap();
    assert_eq!(of(names[2]), came[0]);
}

#[test]
fn digests_go_with_the_last_tag_of_their_repository() {
    let scratch = Scratch::new();
    let made = image(&scratch, &["a"], &["web:1"], None);
    let digest = name("web").with_digest(made.id.0);
    scratch.store.tag_image(&made.id, &digest, None).unwrap();
    let records = remove(&scratch, "web:1", false).unwrap();
    assert_eq!(records[..2], [untagged("web:1"), untagged(&digest.familiar())]);
    assert_eq!(records[2], deleted(made.id));
}

#[test]
fn containers_hold_their_image() {
    let scratch = Scratch::new();
    let made = image(&scratch, &["a"], &["app"], None);
    let user = container(&scratch, &made, "box");
    let short = made.id.0.short();
    let error = remove(&scratch, "app", false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete app:latest (must be forced) - container {} is using its referenced image {short}",
            user.short()
        )
    );
    // Neither does a digest of the same repository, as pulled images have one, make it another image.
    let digest = name("app").with_digest(made.id.0);
    scratch.store.tag_image(&made.id, &digest, None).unwrap();
    assert_eq!(remove(&scratch, "app", false).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(remove(&scratch, &digest.familiar(), true).unwrap(), [untagged(&digest.familiar())]);
    let error = remove(&scratch, &short, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {}",
            user.short()
        )
    );
    let options = RemoveImage { force: true, ..RemoveImage::default() };
    let error = scratch.store.remove_image(&short, options, &|id| *id == user).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
            user.short()
        )
    );
    let records = remove(&scratch, &short, true).unwrap();
    assert_eq!(records, [untagged("app:latest"), deleted(made.id)], "the layer stays for the container");
    assert_eq!(scratch.store.read(|r| r.container(&user)).unwrap().unwrap().image, None);
    assert!(scratch.store.prepare_snapshot(&user).unwrap().lowers[0].join("a").exists());
    scratch.store.write(|tx| tx.container_delete(&user)).unwrap();
    assert_eq!(scratch.store.collect().unwrap().layers, [made.top]);
}

#[test]
fn children_and_other_names_are_obstacles() {
    let scratch = Scratch::new();
    let base = image(&scratch, &["a"], &["base"], None);
    let child = image(&scratch, &["a", "b"], &["one/x", "two/x"], Some(base.id));
    let short = base.id.0.short();
    let error = remove(&scratch, &short, true).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("conflict: unable to delete {short} (cannot be forced) - image has dependent child images")
    );
    let short = child.id.0.short();
    let error = remove(&scratch, &short, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories")
    );
    assert_eq!(remove(&scratch, "base", false).unwrap(), [untagged("base:latest")], "the child keeps it");
    let records = remove(&scratch, &short, true).unwrap();
    assert_eq!(
        records,
        [
            untagged("one/x:latest"),
            untagged("two/x:latest"),
            deleted(child.id),
            deleted(child.top),
            deleted(base.id),
            deleted(base.top)
        ],
        "the nameless parent goes too"
    );
}

#[test]
fn history_has_sizes_and_the_ids_that_are_known() {
    let scratch = Scratch::new();
    let base = image(&scratch, &["aa"], &[], None);
    let child = image(&scratch, &["aa", "bbb"], &["app"], Some(base.id));
    let lines = scratch.store.image_history(&child.id).unwrap();
    let short: Vec<_> = lines.iter().map(|l| (l.created_by.as_str(), l.size, l.id)).collect();
    assert_eq!(short, [("COPY bbb", 3, Some(child.id)), ("COPY aa", 2, Some(base.id))]);
    assert_eq!(lines[0].tags, ["app:latest"]);
}

#[test]
fn prune_takes_what_nobody_needs() {
    let scratch = Scratch::new();
    let dangling = image(&scratch, &["a"], &[], None);
    let named = image(&scratch, &["b"], &["named"], None);
    let used = image(&scratch, &["c"], &[], None);
    container(&scratch, &used, "box");
    let ids =
        |all| scratch.store.prunable_images(all, &Gone::default()).unwrap().iter().map(|i| i.id).collect::<Vec<_>>();
    assert_eq!(ids(false), [dangling.id]);
    assert_eq!(ids(true).len(), 2);
    let removal = scratch.store.prune_image(&dangling.id).unwrap();
    assert_eq!(removal.records, [deleted(dangling.id), deleted(dangling.top)]);
    assert!(removal.reclaimed > 0);
    assert!(scratch.store.prune_image(&used.id).unwrap().records.is_empty());
    assert!(scratch.store.prune_image(&named.id).unwrap().records.contains(&untagged("named:latest")));
}

#[test]
fn manifests_must_belong_to_their_configuration() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let bytes = gzip(&Tar::new().file("a", "a").done());
    let applied = scratch.apply(&lease, &bytes).unwrap();
    let (diff, blob) = (applied.diff_id, applied.blob.unwrap());
    scratch.store.add_layer(&lease, applied, None).unwrap();
    let config = format!(r#"{{"os":"linux","architecture":"arm64","rootfs":{{"diff_ids":["{diff}"]}}}}"#).into_bytes();
    let manifest = |config: barque_model::Digest| {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{config}"}},"layers":[{{"digest":"{}"}}]}}"#,
            blob.digest
        );
        Some(("application/vnd.oci.image.manifest.v1+json".to_owned(), text.into_bytes()))
    };
    let wrong = NewImage { config: config.clone(), manifest: manifest(blob.digest), ..NewImage::default() };
    assert_eq!(scratch.store.put_image(&lease, wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let id = barque_model::Digest::of(&config);
    let right = NewImage { config, manifest: manifest(id), names: vec![name("x")], ..NewImage::default() };
    let put = scratch.store.put_image(&lease, right.clone()).unwrap();
    assert!(!put.existed);
    assert!(scratch.store.put_image(&lease, right.clone()).unwrap().existed);
    drop(lease);
    assert!(scratch.store.collect().unwrap().blobs.is_empty(), "the manifest holds its blob");
    let kept = scratch.store.read(|r| r.image_manifests(&put.id)).unwrap();
    assert_eq!(kept[0].bytes, right.manifest.unwrap().1);
    assert_eq!(scratch.store.read_document(&kept[0].digest).unwrap(), kept[0].bytes);
    let missing = NewImage {
        config: format!(r#"{{"rootfs":{{"diff_ids":["{}"]}}}}"#, put.id).into_bytes(),
        ..NewImage::default()
    };
    assert_eq!(scratch.store.put_image(&scratch.lease(), missing).unwrap_err().kind(), ErrorKind::NotFound);
}
