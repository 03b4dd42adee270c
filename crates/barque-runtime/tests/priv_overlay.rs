//! Layers that are mounted, wherever they lie.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use barque_runtime::overlay::{Layers, mount};
use rustix::fs::{CWD, FileType, Mode, StatVfsMountFlags};

/// Through its descriptor: the mount is attached nowhere.
fn at(root: &OwnedFd, path: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{path}", root.as_raw_fd()))
}

#[test]
fn layers_inside_one_another() {
    needs_root!();
    let scratch = tempfile::tempdir().unwrap();
    // As containers of the machine's own root: all of it is the last layer, and the others are directories in it.
    let outer = scratch.path().join("machine");
    let data = outer.join("var/data");
    let layer = |name: &str| {
        let dir = data.join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    };
    let (middle, upper, work) = (layer("middle"), layer("upper"), layer("work"));
    fs::write(outer.join("both"), "outer").unwrap();
    fs::write(outer.join("own"), "outer").unwrap();
    fs::write(outer.join("gone"), "outer").unwrap();
    fs::write(middle.join("both"), "middle").unwrap();
    rustix::fs::mknodat(CWD, middle.join("gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    let lower = [middle.clone(), outer.clone()];

    let writable = mount(&Layers { lower: &lower, upper: Some((&upper, &work)), volatile: true }).unwrap();
    let text = |root: &OwnedFd, name: &str| fs::read_to_string(at(root, name)).unwrap();
    assert_eq!((text(&writable, "both"), text(&writable, "own")), ("middle".into(), "outer".into()));
    assert!(!at(&writable, "gone").exists());
    fs::write(at(&writable, "own"), "changed").unwrap();
    assert_eq!(fs::read_to_string(upper.join("own")).unwrap(), "changed");
    assert_eq!(fs::read_to_string(outer.join("own")).unwrap(), "outer");

    // The upper one is looked at beside that, and is not mounted twice for writing.
    let all = [&[upper], &lower[..]].concat();
    let view = mount(&Layers { lower: &all, upper: None, volatile: false }).unwrap();
    assert_eq!((text(&view, "both"), text(&view, "own")), ("middle".into(), "changed".into()));
    assert!(rustix::fs::fstatvfs(&view).unwrap().f_flag.contains(StatVfsMountFlags::RDONLY));
    drop((view, writable));
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(scratch.path().to_str().unwrap()));
}
