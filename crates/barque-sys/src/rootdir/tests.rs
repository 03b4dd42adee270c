//! Confinement, and the operations themselves.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn scratch() -> (tempfile::TempDir, RootDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    std::fs::write(dir.path().join("secret"), "outside").unwrap();
    let root = RootDir::open(dir.path().join("root")).unwrap();
    (dir, root)
}

#[test]
fn no_path_or_link_leads_outside() {
    let (dir, root) = scratch();
    let base = dir.path().join("root");
    symlink("..", base.join("up")).unwrap();
    symlink("/", base.join("abs")).unwrap();
    symlink("../../../../../../../../etc", base.join("far")).unwrap();
    symlink(dir.path().join("secret"), base.join("direct")).unwrap();
    for path in ["../secret", "/../secret", "up/secret", "up/up/secret", "abs/secret", "direct", "far/passwd"] {
        assert_eq!(root.read(path).unwrap_err().kind(), io::ErrorKind::NotFound, "{path}");
    }
    root.mkdir_all("up/made/here", 0o755).unwrap();
    assert!(base.join("made/here").is_dir());
    root.create_new("abs/file", 0o644).unwrap();
    assert!(base.join("file").is_file());
    assert!(root.remove_all("../secret").is_ok());
    assert!(dir.path().join("secret").is_file());
    assert!(root.rename("file", "../../escaped").is_ok());
    assert!(base.join("escaped").is_file());
}

#[test]
fn magic_links_are_refused() {
    let (_dir, _) = scratch();
    let root = RootDir::open("/proc/self").unwrap();
    assert!(root.read("exe").is_err());
    assert!(root.open_dir("root").is_err());
}

#[test]
fn a_process_that_swaps_directories_gains_nothing() {
    let (dir, root) = scratch();
    let base = dir.path().join("root");
    std::fs::create_dir(base.join("a")).unwrap();
    std::fs::create_dir(base.join("b")).unwrap();
    symlink("../..", base.join("link")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = std::fs::rename(base.join("a"), base.join("t"));
                let _ = std::fs::rename(base.join("link"), base.join("a"));
                let _ = std::fs::rename(base.join("a"), base.join("link"));
                let _ = std::fs::rename(base.join("t"), base.join("a"));
            }
        });
        for i in 0..3000 {
            let _ = root.mkdir(format!("a/dir{i}"), 0o755);
            let _ = root.create_new(format!("a/../a/file{i}"), 0o644);
            let _ = root.read("a/secret").map(|_| panic!("reached the file outside"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let outside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside.len(), 2, "{outside:?}");
}

#[test]
fn the_last_link_is_not_followed() {
    let (dir, root) = scratch();
    let base = dir.path().join("root");
    std::fs::write(base.join("target"), "x").unwrap();
    std::fs::set_permissions(base.join("target"), PermissionsExt::from_mode(0o600)).unwrap();
    symlink("target", base.join("link")).unwrap();
    assert_eq!(root.lstat("link").unwrap().kind, FileKind::Symlink);
    assert_eq!(root.stat("link").unwrap().kind, FileKind::Regular);
    assert_eq!(root.readlink("link").unwrap(), "target");
    assert!(root.chmod("link", 0o777).is_err());
    root.set_times("link", None, Some(TimeSpec::new(77, 5))).unwrap();
    assert_eq!(std::fs::symlink_metadata(base.join("link")).unwrap().mtime(), 77);
    assert_ne!(std::fs::metadata(base.join("target")).unwrap().mtime(), 77);
    assert!(root.create_new("link", 0o644).is_err());
    root.unlink("link").unwrap();
    assert_eq!(std::fs::metadata(base.join("target")).unwrap().mode() & 0o777, 0o600);
    assert_eq!(root.canonicalize("./target").unwrap(), Path::new("/target"));
}

#[test]
fn deep_and_unreadable_trees_are_removed() {
    let (dir, root) = scratch();
    let mut current = root.mkdir_all("deep", 0o755).unwrap();
    for _ in 0..1500 {
        current.mkdir("d", 0o755).unwrap();
        current.create_new("f", 0o644).unwrap();
        current = current.subdir("d").unwrap();
    }
    current.set_own_mode(0).unwrap();
    root.remove_all("deep").unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("root")).unwrap().count(), 0);
    root.remove_all("deep").unwrap();
    root.remove_all("no/such/parent").unwrap();
}

#[test]
fn removal_does_not_follow_links() {
    let (dir, root) = scratch();
    let base = dir.path().join("root");
    std::fs::create_dir(base.join("gone")).unwrap();
    symlink(dir.path(), base.join("gone/link")).unwrap();
    root.remove_all("gone").unwrap();
    assert!(dir.path().join("secret").exists());
}

#[test]
fn mount_points_are_told_from_other_names() {
    let (dir, _) = scratch();
    assert!(Dir::open("/").unwrap().is_mount("proc").unwrap());
    assert!(!Dir::open(dir.path()).unwrap().is_mount("secret").unwrap());
    assert!(Dir::open(dir.path()).unwrap().is_mount("none").is_err());
}

#[test]
fn attributes_and_names_come_sorted() {
    let (_dir, root) = scratch();
    root.create_new("f", 0o644).unwrap();
    if root.set_xattr("f", "user.b", b"2").is_err() {
        eprintln!("skipped: no user attributes on this file system");
        return;
    }
    root.set_xattr("f", "user.a", &[7; 3000]).unwrap();
    let names: Vec<_> = root.xattrs("f").unwrap().into_iter().filter(|(n, _)| n != "security.selinux").collect();
    assert_eq!(names, [("user.a".into(), vec![7; 3000]), ("user.b".into(), b"2".to_vec())]);
    assert_eq!(root.get_xattr("f", "user.none").unwrap(), None);
    root.remove_xattr("f", "user.a").unwrap();
    assert_eq!(root.get_xattr("f", "user.a").unwrap(), None);
    for name in ["z", "b", "a"] {
        root.mkdir(name, 0o755).unwrap();
    }
    let listed: Vec<_> = root.dir().entries().unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(listed, ["a", "b", "f", "z"]);
}

#[test]
fn names_of_a_directory_are_single_components() {
    let (_dir, root) = scratch();
    for name in ["", ".", "..", "a/b", "/"] {
        assert!(root.dir().mkdir(name, 0o755).is_err(), "{name}");
        assert!(root.dir().lstat(name).is_err(), "{name}");
        assert!(root.dir().open_path(name).is_err(), "{name}");
    }
    assert!(root.mkdir("a/..", 0o755).is_err());
    assert!(root.lstat("/").unwrap().is_dir());
    assert!(root.lstat("").unwrap().is_dir());
}
