//! Unpacking: what archives may say and what comes of it.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use barque_model::{Digest, ErrorKind};

use crate::LayerSource;
use crate::testing::{Scratch, Tar, gzip, is_root, read};

#[test]
fn a_layer_is_unpacked_hashed_and_kept_in_one_pass() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let plain = Tar::new().dir("etc/").file("etc/hostname", "box\n").symlink("etc/link", "/etc/hostname").done();
    let packed = gzip(&plain);
    let applied = scratch.apply(&lease, &packed).unwrap();
    assert_eq!(applied.diff_id.0, Digest::of(&plain));
    assert_eq!(applied.blob.unwrap().digest, Digest::of(&packed));
    assert_eq!(applied.size, 4);
    assert_eq!(applied.entries, 3);
    let layer = scratch.store.add_layer(&lease, applied, None).unwrap();
    let dir = scratch.store.layer_dir(&layer);
    assert_eq!(read(dir.join("etc/hostname")), "box\n");
    assert_eq!(std::fs::read_link(dir.join("etc/link")).unwrap().to_str(), Some("/etc/hostname"));
    assert_eq!(std::fs::metadata(dir.join("etc")).unwrap().mtime(), 1_600_000_000);
    assert_eq!(std::fs::metadata(dir.join("etc/hostname")).unwrap().mode() & 0o7777, 0o644);
}

#[test]
fn every_compression_gives_the_same_layer() {
    use std::io::Write;
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let plain = Tar::new().file("a", &"text ".repeat(100_000)).done();
    let zstd = zstd::encode_all(&plain[..], 3).unwrap();
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&plain).unwrap();
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    xz.write_all(&plain).unwrap();
    for packed in [plain.clone(), gzip(&plain), zstd, bz.finish().unwrap(), xz.finish().unwrap()] {
        let applied = scratch.apply(&lease, &packed).unwrap();
        assert_eq!(applied.diff_id.0, Digest::of(&plain));
    }
}

#[test]
fn whiteouts_become_overlayfs_marks() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let tar = Tar::new().file("d/.wh.gone", "").dir("o/").file("o/.wh..wh..opq", "").file("o/new", "n").done();
    let dir = scratch.layer_path(&scratch.chain(&lease, &[tar]));
    let gone = std::fs::symlink_metadata(dir.join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let root = barque_sys::rootdir::RootDir::open(&dir).unwrap();
    assert!(super::is_opaque(&root.xattrs("o").unwrap()));
    assert!(!super::is_opaque(&root.xattrs("d").unwrap()));
}

#[test]
fn hard_links_reach_files_of_lower_layers() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let base = Tar::new().dir("real/").file("real/f", "content").symlink("way", "real").done();
    let top = Tar::new().link("copy", "way/f").link("again", "copy").done();
    let dir = scratch.layer_path(&scratch.chain(&lease, &[base, top]));
    assert_eq!(read(dir.join("copy")), "content");
    let inode = |name: &str| std::fs::metadata(dir.join(name)).unwrap().ino();
    assert_eq!(inode("copy"), inode("again"));
    assert_eq!(inode("copy"), inode("real/f"), "the target is copied up with its new name");
}

#[test]
fn a_hard_link_to_a_deleted_file_is_refused() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let parent = scratch.chain(&lease, &[Tar::new().file("f", "x").done(), Tar::new().file(".wh.f", "").done()]);
    let applied = scratch.apply(&lease, &Tar::new().link("g", "f").done()).unwrap();
    let error = scratch.store.add_layer(&lease, applied, Some(parent)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.chain().contains("which does not exist"), "{}", error.chain());
}

#[test]
fn directories_left_out_look_like_those_below() {
    if !is_root() {
        eprintln!("skipped: owners need root");
        return;
    }
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let mut home = Tar::header(tar::EntryType::Directory, "home/", "", 0);
    home.set_uid(1000);
    home.set_gid(1001);
    home.set_mode(0o2750);
    home.set_cksum();
    let top = Tar::new().file("home/f", "x").done();
    let dir = scratch.layer_path(&scratch.chain(&lease, &[Tar::new().raw(&home, b"").done(), top]));
    let meta = std::fs::metadata(dir.join("home")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (1000, 1001, 0o2750));
    assert_eq!(meta.mtime(), 1_600_000_000);
}

#[test]
fn kinds_may_change_within_an_archive() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let tar = Tar::new()
        .dir("d/")
        .file("d/inner", "x")
        .symlink("d", "elsewhere")
        .file("f", "old")
        .dir("f/")
        .file("f/inner", "y")
        .file("twice", "one")
        .file("twice", "two")
        .done();
    let dir = scratch.layer_path(&scratch.chain(&lease, &[tar]));
    assert!(std::fs::symlink_metadata(dir.join("d")).unwrap().is_symlink());
    assert_eq!(read(dir.join("f/inner")), "y");
    assert_eq!(read(dir.join("twice")), "two");
}

#[test]
fn a_wrong_digest_keeps_nothing() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let bytes = gzip(&Tar::new().file("a", "b").done());
    let wrong = Digest::of(b"something else");
    let source = LayerSource { digest: Some(wrong), size: Some(bytes.len() as u64), ..LayerSource::default() };
    let mut writer = scratch.store.layer_writer(&lease, source).unwrap();
    writer.push(&bytes).unwrap();
    let error = writer.finish().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("digest mismatch"), "{error}");
    assert!(scratch.store.blob(&wrong).unwrap().is_none());
    assert_eq!(std::fs::read_dir(scratch.store.root().join("ingest")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(scratch.store.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn an_interrupted_layer_is_resumed() {
    let mut scratch = Scratch::new();
    let bytes = gzip(&Tar::new().file("a", &"data".repeat(50_000)).file("b", "end").done());
    let source =
        LayerSource { digest: Some(Digest::of(&bytes)), size: Some(bytes.len() as u64), ..LayerSource::default() };
    let half = bytes.len() / 2;
    {
        let lease = scratch.lease();
        let mut writer = scratch.store.layer_writer(&lease, source.clone()).unwrap();
        writer.push(&bytes[..half]).unwrap();
        let error = writer.finish().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    scratch = scratch.reopen();
    let lease = scratch.lease();
    let mut writer = scratch.store.layer_writer(&lease, source).unwrap();
    assert_eq!(writer.offset(), half as u64);
    writer.push(&bytes[half..]).unwrap();
    let layer = scratch.store.add_layer(&lease, writer.finish().unwrap(), None).unwrap();
    assert_eq!(read(scratch.store.layer_dir(&layer).join("b")), "end");
}

#[test]
fn a_layer_lies_on_another_without_a_copy() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let base = scratch.chain(&lease, &[Tar::new().file("base", "b").done()]);
    let apart = scratch.chain(&lease, &[Tar::new().dir("d/").file("d/f", "text").done()]);
    let stacked = scratch.store.stack_layer(&lease, &apart, Some(base)).unwrap();
    assert_eq!(stacked.chain_id, barque_model::ChainId::on(Some(base), stacked.diff_id));
    assert_eq!(scratch.store.stack_layer(&lease, &apart, Some(base)).unwrap(), stacked, "again is the same");
    let dirs = scratch.store.lower_dirs(&stacked.chain_id).unwrap();
    assert_eq!(dirs, [scratch.layer_path(&apart), scratch.layer_path(&base)]);
    let mut tar = Vec::new();
    scratch.store.layer_tar(&stacked.chain_id, &mut tar).unwrap();
    assert_eq!(Digest::of(&tar), stacked.diff_id.0);
    // On top of itself: no directory twice.
    let twice = scratch.store.stack_layer(&lease, &apart, Some(stacked.chain_id)).unwrap();
    assert_eq!(scratch.store.lower_dirs(&twice.chain_id).unwrap().len(), 2);
    let snapshot = barque_model::Id::random();
    assert_eq!(scratch.store.create_snapshot(snapshot, Some(twice.chain_id)).unwrap().lowers, dirs);
    scratch.store.remove_snapshot(&snapshot).unwrap();
    // The files stay as long as somebody shares them.
    let holder = scratch.lease();
    assert!(scratch.store.hold_layer(&holder, &stacked.chain_id).unwrap());
    drop(lease);
    scratch.store.collect().unwrap();
    assert_eq!(read(dirs[0].join("d/f")), "text");
    drop(holder);
    scratch.store.collect().unwrap();
    assert!(!dirs[0].exists() && !dirs[1].exists());
}
