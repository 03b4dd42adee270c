//! Snapshots as diffs, changes and layers, and blobs made from them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use barque_model::{Digest, ErrorKind, Id};
use barque_sys::rootdir::{Dir, RootDir};

use super::changes::ChangeKind;
use super::*;
use crate::testing::{Scratch, Tar, gzip, read};

/// A base layer and a snapshot on it that changes something of every kind.
fn changed(scratch: &Scratch, lease: &Lease) -> Id {
    let base = Tar::new()
        .dir("etc/")
        .file("etc/keep", "same")
        .file("etc/edit", "old")
        .file("etc/drop", "bye")
        .dir("tree/")
        .file("tree/x", "1")
        .file("tree/y", "2")
        .dir("still/")
        .file("still/f", "3")
        .done();
    let top = scratch.chain(lease, &[gzip(&base)]);
    let id = Id::random();
    let dirs = scratch.store.create_snapshot(id, Some(top)).unwrap();
    let upper = &dirs.upper;
    let marks = scratch.store.inner.marks;
    // As overlayfs leaves it: directories copied up with their time, whiteouts, an opaque directory.
    std::fs::create_dir(upper.join("etc")).unwrap();
    std::fs::write(upper.join("etc/edit"), "new!").unwrap();
    marks.whiteout(&Dir::open(upper.join("etc")).unwrap(), "drop".as_ref()).unwrap();
    std::fs::create_dir(upper.join("tree")).unwrap();
    std::fs::write(upper.join("tree/y"), "again").unwrap();
    marks.set_opaque(&Dir::open(upper.join("tree")).unwrap()).unwrap();
    std::fs::create_dir(upper.join("still")).unwrap();
    std::fs::set_permissions(upper.join("still"), PermissionsExt::from_mode(0o755)).unwrap();
    let root = RootDir::open(upper).unwrap();
    root.set_times("still", None, Some(barque_sys::rootdir::TimeSpec::new(1_600_000_000, 0))).unwrap();
    std::fs::create_dir(upper.join("fresh")).unwrap();
    std::fs::write(upper.join("fresh/a"), "a").unwrap();
    std::fs::hard_link(upper.join("fresh/a"), upper.join("fresh/b")).unwrap();
    id
}

#[test]
fn changes_are_listed_as_docker_diff_does() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let id = changed(&scratch, &lease);
    let found = scratch.store.changes(&id).unwrap();
    let lines: Vec<String> = found
        .iter()
        .map(|c| {
            let letter = match c.kind {
                ChangeKind::Added => 'A',
                ChangeKind::Modified => 'C',
                ChangeKind::Deleted => 'D',
            };
            format!("{letter} {}", c.path.display())
        })
        .collect();
    let expected = [
        "C /etc",
        "D /etc/drop",
        "C /etc/edit",
        "A /fresh",
        "A /fresh/a",
        "A /fresh/b",
        "C /tree",
        "D /tree/x",
        "C /tree/y",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_diff_says_in_oci_terms_what_overlayfs_marked() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let id = changed(&scratch, &lease);
    let mut bytes = Vec::new();
    let summary = scratch.store.diff_snapshot(&id, DiffOptions::default(), &mut bytes).unwrap();
    assert_eq!(summary.diff_id.0, Digest::of(&bytes));
    assert_eq!(summary.tar_size, bytes.len() as u64);
    let mut archive = tar::Archive::new(&bytes[..]);
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|e| {
            let e = e.unwrap();
            format!("{} {:?}", e.path().unwrap().display(), e.header().entry_type())
        })
        .collect();
    let expected = [
        "etc/ Directory",
        "etc/.wh.drop Regular",
        "etc/edit Regular",
        "fresh/ Directory",
        "fresh/a Regular",
        "fresh/b Link",
        "still/ Directory",
        "tree/ Directory",
        "tree/.wh..wh..opq Regular",
        "tree/y Regular",
    ];
    assert_eq!(names, expected);
}

#[test]
fn committed_layers_equal_their_diff_and_make_stable_blobs() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let id = changed(&scratch, &lease);
    let mut bytes = Vec::new();
    let summary = scratch.store.diff_snapshot(&id, DiffOptions::default(), &mut bytes).unwrap();
    let copied = scratch.store.commit_snapshot(&lease, &id, CommitMode::Copy, DiffOptions::default()).unwrap();
    assert_eq!(copied.diff_id, summary.diff_id);
    assert_eq!(copied.size, 4 + 5 + 1);
    let moved = scratch.store.commit_snapshot(&lease, &id, CommitMode::Move, DiffOptions::default()).unwrap();
    assert_eq!(moved, copied);
    assert!(scratch.store.snapshot_dirs(&id).is_err());
    let mut tar = Vec::new();
    scratch.store.layer_tar(&moved.chain_id, &mut tar).unwrap();
    assert!(tar == bytes);
    let blob = scratch.store.layer_blob(&lease, &moved.chain_id).unwrap();
    assert_eq!(blob.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(scratch.store.layer_blob(&lease, &moved.chain_id).unwrap(), blob);
    // The same layer elsewhere gives the same blob, and unpacks to the same directory.
    let other = Scratch::new();
    let lease = other.lease();
    let base = scratch.store.read(|r| r.layer_chain(&moved.chain_id)).unwrap()[1].clone();
    let mut below = Vec::new();
    scratch.store.layer_tar(&base.chain_id, &mut below).unwrap();
    let top = other.chain(&lease, &[below, tar]);
    assert_eq!(top, moved.chain_id);
    assert_eq!(other.store.layer_blob(&lease, &top).unwrap().blob, blob.blob);
    let mut again = Vec::new();
    let dir = other.layer_path(&top);
    super::diff::diff(&dir, DiffOptions::default(), &mut again).unwrap();
    assert!(again == bytes);
}

#[test]
fn times_are_clamped_in_the_files_themselves() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let id = changed(&scratch, &lease);
    let options = DiffOptions { clamp_mtime: Some(1_650_000_000) };
    let layer = scratch.store.commit_snapshot(&lease, &id, CommitMode::Move, options).unwrap();
    let dir = scratch.store.layer_dir(&layer);
    for (name, time) in [("fresh", 1_650_000_000), ("fresh/a", 1_650_000_000), ("still", 1_600_000_000)] {
        assert_eq!(std::fs::metadata(dir.join(name)).unwrap().mtime(), time, "{name}");
    }
    scratch.store.layer_tar(&layer.chain_id, &mut std::io::sink()).unwrap();
}

#[test]
fn a_snapshot_that_cannot_be_moved_stays_as_it_was() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let id = changed(&scratch, &lease);
    let container = crate::Container {
        id,
        name: "box".into(),
        image: None,
        image_ref: String::new(),
        snapshot: Some(id),
        created_at: barque_model::Timestamp::now(),
        spec: String::new(),
        document: String::new(),
        state: String::new(),
    };
    scratch.store.write(|tx| tx.container_insert(&container)).unwrap();
    let error = scratch.store.commit_snapshot(&lease, &id, CommitMode::Move, DiffOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.chain());
    assert_eq!(read(scratch.store.snapshot_dirs(&id).unwrap().upper.join("fresh/a")), "a");
    assert_eq!(scratch.store.changes(&id).unwrap().len(), 9);
    assert_eq!(scratch.store.read(|r| r.layers()).unwrap().len(), 1);
}

#[test]
fn names_that_mean_deletion_cannot_be_committed() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let id = Id::random();
    let dirs = scratch.store.create_snapshot(id, None).unwrap();
    std::fs::write(dirs.upper.join(".wh.sneaky"), "x").unwrap();
    let error = scratch.store.commit_snapshot(&lease, &id, CommitMode::Copy, DiffOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains(".wh.sneaky"), "{error}");
}

#[test]
fn a_layer_whose_files_were_tampered_with_is_not_pushed() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let id = changed(&scratch, &lease);
    let layer = scratch.store.commit_snapshot(&lease, &id, CommitMode::Move, DiffOptions::default()).unwrap();
    std::fs::write(scratch.store.layer_dir(&layer).join("fresh/a"), "?").unwrap();
    let error = scratch.store.layer_blob(&lease, &layer.chain_id).unwrap_err();
    assert!(error.to_string().contains("are not what they were"), "{error}");
}

#[test]
fn the_host_is_a_layer_but_not_one_to_share() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let diff = DiffId(Digest::of(b"this machine"));
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("f"), "host").unwrap();
    let layer = scratch.store.add_host_layer(&lease, diff, host.path()).unwrap();
    let dirs = scratch.store.create_snapshot(Id::random(), Some(layer.chain_id)).unwrap();
    assert_eq!(dirs.lowers, [host.path()]);
    assert_eq!(scratch.store.layer_blob(&lease, &layer.chain_id).unwrap_err().kind(), ErrorKind::Unsupported);
    drop(lease);
    let scratch = scratch.reopen();
    assert_eq!(scratch.store.recovery().lost, Vec::<String>::new());
    assert_eq!(read(host.path().join("f")), "host");
}

#[test]
fn snapshots_look_like_the_root_of_their_image_and_go_to_the_trash() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let mut root = Tar::header(tar::EntryType::Directory, "./", "", 0);
    root.set_mode(0o711);
    root.set_cksum();
    let top = scratch.chain(&lease, &[Tar::new().raw(&root, b"").file("f", "x").done()]);
    let id = Id::random();
    let dirs = scratch.store.create_snapshot(id, Some(top)).unwrap();
    assert_eq!(std::fs::metadata(&dirs.upper).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(scratch.store.prepare_snapshot(&id).unwrap(), dirs, "again is fine");
    std::fs::write(dirs.upper.join("big"), vec![1; 100_000]).unwrap();
    assert!(scratch.store.snapshot_size(&id).unwrap() >= 100_000);
    scratch.store.remove_snapshot(&id).unwrap();
    assert!(!dirs.upper.exists());
    scratch.store.flush();
    assert_eq!(std::fs::read_dir(scratch.store.root().join("trash")).unwrap().count(), 0);
    scratch.store.discard_dir(Path::new("/nonexistent/nothing")).unwrap();
}
