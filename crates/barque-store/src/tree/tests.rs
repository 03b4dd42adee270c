//! Trees out as tar, back in, and copied.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use barque_model::ErrorKind;
use barque_sys::rootdir::{FileKind, RootDir};

use super::*;
use crate::testing::{Tar, gzip, is_root, read};

fn sample(dir: &Path) {
    std::fs::create_dir_all(dir.join("a/deep/er")).unwrap();
    std::fs::write(dir.join("a/file"), "contents").unwrap();
    std::fs::hard_link(dir.join("a/file"), dir.join("a/second")).unwrap();
    symlink("file", dir.join("a/link")).unwrap();
    symlink("/nowhere", dir.join("a/deep/dangling")).unwrap();
    std::fs::write(dir.join("a/deep/er/script"), "#!").unwrap();
    std::fs::set_permissions(dir.join("a/deep/er/script"), PermissionsExt::from_mode(0o4751)).unwrap();
    std::fs::set_permissions(dir.join("a/deep"), PermissionsExt::from_mode(0o1777)).unwrap();
    let root = RootDir::open(dir).unwrap();
    root.mknod("a/pipe", FileKind::Fifo, 0o640, (0, 0)).unwrap();
    root.chmod("a/pipe", 0o640).unwrap();
    if root.set_xattr("a/file", "user.note", b"kept\0bytes").is_err() {
        eprintln!("this file system has no user attributes");
    }
    let long = "n".repeat(150);
    std::fs::write(dir.join("a").join(&long), long.as_bytes()).unwrap();
    let sparse = std::fs::File::create(dir.join("a/sparse")).unwrap();
    sparse.set_len(10 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (10 << 20) - 3).unwrap();
    root.set_times("a/file", None, Some(barque_sys::rootdir::TimeSpec::new(1_234_567_890, 123_456_789))).unwrap();
    root.set_times("a", None, Some(barque_sys::rootdir::TimeSpec::new(-5, 500_000_000))).unwrap();
}

/// Everything that matters about a tree, but allocation.
fn describe(dir: &Path) -> Vec<String> {
    fn walk(root: &RootDir, dir: &Path, at: &Path, out: &mut Vec<String>) {
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(dir.join(at)).unwrap().map(|e| at.join(e.unwrap().file_name())).collect();
        names.sort();
        for name in names {
            let meta = std::fs::symlink_metadata(dir.join(&name)).unwrap();
            let body = match meta.is_file() {
                true => barque_model::Digest::of(&std::fs::read(dir.join(&name)).unwrap()).short(),
                false => std::fs::read_link(dir.join(&name)).map(|t| t.display().to_string()).unwrap_or_default(),
            };
            let links = if meta.is_dir() { 0 } else { meta.nlink() };
            out.push(format!(
                "{} {:o} {}:{} {} {}.{} {links} {body} {:?}",
                name.display(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                if meta.is_dir() { 0 } else { meta.len() },
                meta.mtime(),
                meta.mtime_nsec(),
                root.xattrs(&name).unwrap(),
            ));
            if meta.is_dir() {
                walk(root, dir, &name, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(&RootDir::open(dir).unwrap(), dir, Path::new(""), &mut out);
    out
}

fn keep() -> UntarOptions {
    UntarOptions { keep_owners: true, ..UntarOptions::default() }
}

#[test]
fn a_tree_survives_tar_and_back() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample(from.path());
    let mut bytes = Vec::new();
    let source = RootDir::open(from.path()).unwrap();
    let summary = tar_tree(&source, Path::new("/"), &TarTreeOptions::default(), &mut bytes).unwrap();
    assert!(summary.entries == 11, "{summary:?}");
    let target = RootDir::open(to.path()).unwrap();
    untar_into(&target, Path::new("/"), &mut &gzip(&bytes)[..], &keep()).unwrap();
    assert_eq!(describe(from.path()), describe(to.path()));
    let mut again = Vec::new();
    tar_tree(&target, Path::new("/"), &TarTreeOptions::default(), &mut again).unwrap();
    assert!(bytes == again, "the same tree gives other bytes");
}

#[test]
fn a_copy_is_faithful_and_keeps_holes() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    sample(from.path());
    let (source, target) = (RootDir::open(from.path()).unwrap(), RootDir::open(to.path()).unwrap());
    copy_tree(&source, Path::new("a"), &target, Path::new("new/place"), &CopyOptions::default()).unwrap();
    let place = to.path().join("new/place");
    assert_eq!(describe(&from.path().join("a")), describe(&place));
    let top = (std::fs::metadata(from.path().join("a")).unwrap(), std::fs::metadata(&place).unwrap());
    assert_eq!((top.0.mode(), top.0.mtime(), top.0.mtime_nsec()), (top.1.mode(), top.1.mtime(), top.1.mtime_nsec()));
    let blocks = std::fs::metadata(place.join("sparse")).unwrap().blocks();
    assert!(blocks * 512 < 1 << 20, "holes were filled: {blocks} blocks");
}

#[test]
fn single_files_are_renamed_as_asked() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let root = RootDir::open(dir.path()).unwrap();
    let names = |options: &TarTreeOptions, path: &str| {
        let mut bytes = Vec::new();
        tar_tree(&root, Path::new(path), options, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap();
        entries.map(|e| e.unwrap().path().unwrap().display().to_string()).collect::<Vec<_>>()
    };
    let rebase = |name: &str| TarTreeOptions { rebase: Some(name.into()), ..TarTreeOptions::default() };
    assert_eq!(names(&rebase("other"), "a/file"), ["other"]);
    assert_eq!(names(&TarTreeOptions::default(), "a/file"), ["file"]);
    assert_eq!(names(&rebase("x"), "a/deep")[..2], ["x/", "x/dangling"]);
    assert_eq!(names(&rebase("."), "a/deep")[..2], ["./", "./dangling"]);
    let follow = TarTreeOptions { follow_link: true, ..rebase("l") };
    assert_eq!(names(&follow, "a/link"), ["l"]);
    let missing = tar_tree(&root, Path::new("none"), &rebase("x"), &mut Vec::new()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn links_inside_the_root_are_followed_and_lead_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let root_path = dir.path().join("root");
    std::fs::create_dir_all(root_path.join("srv")).unwrap();
    symlink("/srv", root_path.join("data")).unwrap();
    symlink("../../../..", root_path.join("up")).unwrap();
    let root = RootDir::open(&root_path).unwrap();
    let tar = Tar::new().file("data/in", "1").file("up/out", "2").done();
    untar_into(&root, Path::new("/"), &mut &tar[..], &keep()).unwrap();
    assert_eq!(read(root_path.join("srv/in")), "1");
    assert_eq!(read(root_path.join("out")), "2");
    assert!(!dir.path().join("out").exists());
    untar_into(&root, Path::new("/data"), &mut &Tar::new().file("more", "3").done()[..], &keep()).unwrap();
    assert_eq!(read(root_path.join("srv/more")), "3");
}

#[test]
fn directories_and_files_replace_each_other_only_if_allowed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("d/sub")).unwrap();
    std::fs::write(dir.path().join("f"), "x").unwrap();
    let root = RootDir::open(dir.path()).unwrap();
    let careful = UntarOptions { no_overwrite_dir_non_dir: true, ..keep() };
    for tar in [Tar::new().file("d", "now a file").done(), Tar::new().dir("f").done()] {
        let error = untar_into(&root, Path::new("/"), &mut &tar[..], &careful).unwrap_err();
        assert!(error.chain().contains("cannot overwrite"), "{}", error.chain());
    }
    untar_into(&root, Path::new("/"), &mut &Tar::new().file("d", "now a file").dir("f").done()[..], &keep()).unwrap();
    assert_eq!(read(dir.path().join("d")), "now a file");
    assert!(dir.path().join("f").is_dir());
}

#[test]
fn owners_and_modes_can_be_given() {
    if !is_root() {
        eprintln!("skipped: owners need root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = RootDir::open(dir.path()).unwrap();
    let options = UntarOptions { chown: Some((5, 6)), chmod: Some(0o700), ..UntarOptions::default() };
    untar_into(&root, Path::new("/"), &mut &Tar::new().file("implied/f", "x").symlink("l", "f").done()[..], &options)
        .unwrap();
    for name in ["implied", "implied/f", "l"] {
        let meta = std::fs::symlink_metadata(dir.path().join(name)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (5, 6), "{name}");
    }
    assert_eq!(std::fs::metadata(dir.path().join("implied/f")).unwrap().mode() & 0o7777, 0o700);
}
