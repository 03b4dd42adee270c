//! What needs root: real overlay mounts, full disks. Each test runs itself again in a mount namespace of its own,
//! so that nothing it mounts is seen or left.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use barque_model::{ChainId, Digest, ErrorKind, Id, Result};
use barque_store::{
    ChangeKind, CommitMode, DiffOptions, LayerSource, Lease, RootDir, Store, StoreOptions, TarTreeOptions,
};
use rustix::mount::{MountFlags, UnmountFlags};

const INSIDE: &str = "BARQUE_STORE_TEST_INSIDE";

/// Runs `body` as root in a mount namespace of its own; says so if it cannot.
fn isolated(name: &str, body: impl FnOnce(&Path)) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: {name} needs root");
        return;
    }
    if std::env::var_os(INSIDE).is_some() {
        let dir = tempfile::tempdir().unwrap();
        body(dir.path());
        return;
    }
    let status = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    match status {
        Ok(status) => assert!(status.success(), "{name} failed in its namespace"),
        Err(e) => eprintln!("skipped: {name} needs unshare(1): {e}"),
    }
}

struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn tmpfs(at: &Path, size: &str) -> Mounted {
    std::fs::create_dir_all(at).unwrap();
    let options = std::ffi::CString::new(format!("size={size}")).unwrap();
    rustix::mount::mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(options.as_c_str())).unwrap();
    Mounted(at.to_owned())
}

fn overlay(store: &Store, id: &Id, at: &Path) -> Mounted {
    let dirs = store.snapshot_dirs(id).unwrap();
    let lowers: Vec<String> = dirs.lowers.iter().map(|d| d.display().to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
        lowers.join(":"),
        dirs.upper.display(),
        dirs.work.display()
    );
    let options = std::ffi::CString::new(options).unwrap();
    std::fs::create_dir_all(at).unwrap();
    rustix::mount::mount("overlay", at, "overlay", MountFlags::empty(), Some(options.as_c_str())).unwrap();
    Mounted(at.to_owned())
}

fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn file(builder: &mut tar::Builder<Vec<u8>>, name: &str, data: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_600_000_000);
    builder.append_data(&mut header, name, data).unwrap();
}

fn dir(builder: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(mode);
    header.set_mtime(1_600_000_000);
    builder.append_data(&mut header, name, &[][..]).unwrap();
}

fn take(store: &Store, lease: &Lease, bytes: &[u8]) -> Result<barque_store::AppliedLayer> {
    let source = LayerSource { size: Some(bytes.len() as u64), ..LayerSource::default() };
    let mut writer = store.layer_writer(lease, source)?;
    writer.push(bytes)?;
    writer.finish()
}

fn chain(store: &Store, lease: &Lease, archives: &[Vec<u8>]) -> ChainId {
    let mut parent = None;
    for bytes in archives {
        let applied = take(store, lease, bytes).unwrap();
        parent = Some(store.add_layer(lease, applied, parent).unwrap().chain_id);
    }
    parent.unwrap()
}

fn exported(root: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    let options = TarTreeOptions { whole_seconds: true, ..TarTreeOptions::default() };
    barque_store::tree::tar_tree(&RootDir::open(root).unwrap(), Path::new("/"), &options, &mut bytes).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let lines = archive.entries().unwrap().map(|e| {
        let mut e = e.unwrap();
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut e, &mut data).unwrap();
        let h = e.header();
        format!(
            "{} {:?} {:o} {}:{} {:?} {}",
            e.path().unwrap().display(),
            h.entry_type(),
            h.mode().unwrap(),
            h.uid().unwrap(),
            h.gid().unwrap(),
            e.link_name().unwrap(),
            Digest::of(&data).short(),
        )
    });
    lines.collect()
}

#[test]
fn priv_overlay_sees_what_archives_say_and_commits_give_it_back() {
    isolated("priv_overlay_sees_what_archives_say_and_commits_give_it_back", |scratch| {
        let store = Store::open(StoreOptions::new(scratch.join("root"))).unwrap();
        let lease = store.lease("test").unwrap();
        let base = archive(|b| {
            dir(b, "./", 0o755);
            for name in ["keep", "gone", "hidden", "deep", "deep/er"] {
                dir(b, name, 0o750);
            }
            for name in ["keep/a", "keep/b", "gone/x", "hidden/1", "hidden/2", "deep/er/f", "top"] {
                file(b, name, name.as_bytes());
            }
        });
        let second = archive(|b| {
            file(b, ".wh.gone", b"");
            file(b, "keep/.wh.b", b"");
            file(b, "hidden/.wh..wh..opq", b"");
            file(b, "hidden/3", b"3");
            file(b, "deep/er/g", b"g");
        });
        let top = chain(&store, &lease, &[base, second]);
        let id = Id::random();
        store.create_snapshot(id, Some(top)).unwrap();
        let merged = scratch.join("merged");
        let mounted = overlay(&store, &id, &merged);
        let names = |d: &str| {
            let mut names: Vec<_> = std::fs::read_dir(merged.join(d))
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names(""), ["deep", "hidden", "keep", "top"]);
        assert_eq!(names("keep"), ["a"]);
        assert_eq!(names("hidden"), ["3"]);
        assert_eq!(names("deep/er"), ["f", "g"]);
        let deep = std::fs::metadata(merged.join("deep/er")).unwrap();
        assert_eq!(deep.permissions().mode() & 0o7777, 0o750, "a directory left out keeps its mode");

        std::fs::remove_dir_all(merged.join("deep")).unwrap();
        std::fs::create_dir(merged.join("deep")).unwrap();
        std::fs::write(merged.join("deep/new"), "n").unwrap();
        std::fs::remove_file(merged.join("top")).unwrap();
        std::fs::write(merged.join("keep/a"), "changed").unwrap();
        std::fs::hard_link(merged.join("keep/a"), merged.join("keep/c")).unwrap();
        symlink("../top", merged.join("hidden/link")).unwrap();
        std::os::unix::fs::chown(merged.join("hidden/3"), Some(12), Some(34)).unwrap();
        std::fs::set_permissions(merged.join("hidden/3"), PermissionsExt::from_mode(0o4711)).unwrap();

        let changes: Vec<String> = store
            .changes(&id)
            .unwrap()
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
            "C /deep",
            "D /deep/er",
            "A /deep/new",
            "C /hidden",
            "C /hidden/3",
            "A /hidden/link",
            "C /keep",
            "C /keep/a",
            "A /keep/c",
            "D /top",
        ];
        assert_eq!(changes, expected);

        let before = exported(&merged);
        let copied = store.commit_snapshot(&lease, &id, CommitMode::Copy, DiffOptions::default()).unwrap();
        let mut tar = Vec::new();
        store.layer_tar(&copied.chain_id, &mut tar).unwrap();
        drop(mounted);
        let moved = store.commit_snapshot(&lease, &id, CommitMode::Move, DiffOptions::default()).unwrap();
        assert_eq!(moved, copied);
        // On the layer itself, and on what its archive unpacks to elsewhere, a container sees the same tree.
        let view = |store: &Store, top: ChainId, at: &str| {
            let id = Id::random();
            store.create_snapshot(id, Some(top)).unwrap();
            let mounted = overlay(store, &id, &scratch.join(at));
            let seen = exported(&mounted.0);
            drop(mounted);
            seen
        };
        assert_eq!(view(&store, moved.chain_id, "again"), before);
        let other = Store::open(StoreOptions::new(scratch.join("other"))).unwrap();
        let lease = other.lease("test").unwrap();
        let below = store.read(|r| r.layer_chain(&top)).unwrap();
        let mut archives = Vec::new();
        for layer in below.iter().rev() {
            let mut bytes = Vec::new();
            store.layer_tar(&layer.chain_id, &mut bytes).unwrap();
            archives.push(bytes);
        }
        archives.push(tar);
        let there = chain(&other, &lease, &archives);
        assert_eq!(there, moved.chain_id);
        assert_eq!(view(&other, there, "elsewhere"), before);
    });
}

#[test]
fn priv_a_full_disk_says_what_is_missing_and_leaves_the_store_whole() {
    isolated("priv_a_full_disk_says_what_is_missing_and_leaves_the_store_whole", |scratch| {
        let mounted = tmpfs(&scratch.join("small"), "16m");
        let root = mounted.0.join("root");
        let store = Store::open(StoreOptions::new(&root)).unwrap();
        let good = archive(|b| file(b, "small", b"fits"));
        let kept = chain(&store, &store.lease("first").unwrap(), &[good]);
        let config = store.layer(&kept).unwrap().unwrap();
        let document = format!(r#"{{"rootfs":{{"diff_ids":["{}"]}}}}"#, config.diff_id).into_bytes();
        let lease = store.lease("test").unwrap();
        let new = barque_store::NewImage {
            config: document,
            names: vec!["kept".parse().unwrap()],
            ..barque_store::NewImage::default()
        };
        store.put_image(&lease, new).unwrap();
        drop(lease);
        let mut noise = vec![0u8; 12 << 20];
        let mut state = 1u32;
        for byte in &mut noise {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        let big = archive(|b| file(b, "big", &noise));
        let lease = store.lease("too much").unwrap();
        let error = take(&store, &lease, &big).err().expect("24 MB on a disk of 16");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        assert!(error.chain().contains("no space left on device ("), "{}", error.chain());
        assert!(error.chain().contains("missing") || error.chain().contains("free"), "{}", error.chain());
        drop(lease);
        store.collect().unwrap();
        store.flush();
        assert_eq!(store.images().unwrap().len(), 1);
        assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(root.join("ingest")).unwrap().count(), 0);
        let free = |p: &Path| rustix::fs::statvfs(p).map(|s| s.f_bavail * s.f_frsize).unwrap();
        assert!(free(&root) > 14 << 20, "{}", free(&root));
        drop(store);
        let store = Store::open(StoreOptions::new(&root)).unwrap();
        assert!(store.recovery().lost.is_empty());
        assert!(store.lower_dirs(&kept).unwrap()[0].join("small").exists());

        // A commit that does not fit.
        let id = Id::random();
        let dirs = store.create_snapshot(id, Some(kept)).unwrap();
        std::fs::File::create(dirs.upper.join("noise")).unwrap().write_all(&noise[..9 << 20]).unwrap();
        let lease = store.lease("commit").unwrap();
        let error = store.commit_snapshot(&lease, &id, CommitMode::Copy, DiffOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        assert_eq!(store.read(|r| r.layers()).unwrap().len(), 1);
        store.flush();
        let moved = store.commit_snapshot(&lease, &id, CommitMode::Move, DiffOptions::default()).unwrap();
        assert!(store.layer_dir(&moved).join("noise").exists(), "moving needs no room");
    });
}

#[test]
fn priv_devices_and_attributes_survive_commit() {
    isolated("priv_devices_and_attributes_survive_commit", |scratch| {
        let store = Store::open(StoreOptions::new(scratch.join("root"))).unwrap();
        let lease = store.lease("test").unwrap();
        let id = Id::random();
        let upper = store.create_snapshot(id, None).unwrap().upper;
        let root = RootDir::open(&upper).unwrap();
        root.mknod("null", barque_sys::rootdir::FileKind::CharDevice, 0o666, (1, 3)).unwrap();
        std::fs::write(upper.join("ping"), "x").unwrap();
        let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        root.set_xattr("ping", "security.capability", capability).unwrap();
        let layer = store.commit_snapshot(&lease, &id, CommitMode::Copy, DiffOptions::default()).unwrap();
        let dir = store.layer_dir(&layer);
        let node = std::fs::metadata(dir.join("null")).unwrap();
        assert!(node.file_type().is_char_device() && node.rdev() == rustix::fs::makedev(1, 3));
        let copy = RootDir::open(&dir).unwrap();
        assert_eq!(copy.get_xattr("ping", "security.capability").unwrap().as_deref(), Some(&capability[..]));
    });
}
