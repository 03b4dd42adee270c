//! Hostile archives: whatever they say, nothing appears outside of the layer, and nothing panics.

use std::os::unix::fs::symlink;

use barque_model::ErrorKind;
use tar::EntryType;

use crate::testing::{Scratch, Tar, gzip, is_root};
use crate::{Limits, Store, StoreOptions};

/// What is to become of an archive.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    Refused,
    /// Unpacked, with everything inside.
    Tamed,
}
use Fate::{Refused, Tamed};

fn raw(name: &str, kind: EntryType, link: &str, size: u64, change: impl Fn(&mut tar::Header)) -> tar::Header {
    let mut header = Tar::header(kind, name, link, size);
    change(&mut header);
    header.set_cksum();
    header
}

fn field(header: &mut tar::Header, range: std::ops::Range<usize>, bytes: &[u8]) {
    let all = header.as_mut_bytes();
    all[range.clone()].fill(0);
    all[range.start..range.start + bytes.len()].copy_from_slice(bytes);
}

fn gnu_long(kind: u8, name: &[u8]) -> Tar {
    let header = raw("././@LongLink", EntryType::new(kind), "", name.len() as u64, |_| {});
    Tar::new().raw(&header, name)
}

fn names() -> Vec<(&'static str, Fate, Vec<u8>)> {
    let up = "../".repeat(12);
    vec![
        ("dot dot", Refused, Tar::new().file("../escape", "x").done()),
        ("dot dot inside", Refused, Tar::new().file("a/../../escape", "x").done()),
        ("many dot dots", Refused, Tar::new().file(&format!("{up}escape"), "x").done()),
        ("directory dot dot", Refused, Tar::new().dir("..").done()),
        ("absolute", Tamed, Tar::new().file("/escape", "x").done()),
        ("absolute with dot dot", Refused, Tar::new().file("/../escape", "x").done()),
        ("empty name", Refused, Tar::new().file("", "x").done()),
        ("only slashes as a file", Refused, Tar::new().file("///", "x").done()),
        ("root as a link", Refused, Tar::new().symlink("./", "/etc").done()),
        ("component too long", Refused, gnu_long(b'L', &[b'x'; 300]).file("short", "x").done()),
        ("path too long", Refused, gnu_long(b'L', "d/".repeat(3000).as_bytes()).file("short", "x").done()),
        ("endless name", Refused, gnu_long(b'L', &vec![b'x'; 2 << 20]).file("short", "x").done()),
        ("long name dot dot", Refused, gnu_long(b'L', b"../../escape").file("short", "x").done()),
        ("pax path dot dot", Refused, Tar::new().pax(&[("path", b"../escape")]).file("f", "x").done()),
        ("pax path NUL", Refused, Tar::new().pax(&[("path", b"a\0b")]).file("f", "x").done()),
        ("pax linkpath", Refused, Tar::new().pax(&[("linkpath", b"../../outside")]).link("l", "f").done()),
        ("newline and bells", Tamed, Tar::new().file("a\nb\x07", "x").done()),
        ("reserved directory", Refused, Tar::new().file(".wh.d/x", "x").done()),
        ("whiteout of dot dot", Refused, Tar::new().file("a/.wh...", "").done()),
        ("whiteout of dot", Refused, Tar::new().file("a/.wh..", "").done()),
        ("whiteout of nothing", Refused, Tar::new().file(".wh.", "").done()),
        ("whiteout beyond", Refused, Tar::new().file("../.wh.outside", "").done()),
        ("opaque beyond", Refused, Tar::new().file("../.wh..wh..opq", "").done()),
    ]
}

fn links() -> Vec<(&'static str, Fate, Vec<u8>)> {
    vec![
        ("through a link up", Tamed, Tar::new().symlink("l", "../../..").file("l/escape", "x").done()),
        ("through an absolute link", Refused, Tar::new().symlink("l", "/nowhere").file("l/escape", "x").done()),
        ("through a chain", Tamed, Tar::new().symlink("a", "..").symlink("b", "a/..").file("b/escape", "x").done()),
        ("link to itself", Refused, Tar::new().symlink("l", "l").file("l/escape", "x").done()),
        ("link replaced while used", Tamed, {
            Tar::new().dir("d").file("d/a", "1").symlink("d", "..").file("d/escape", "2").done()
        }),
        ("file over a link", Tamed, Tar::new().symlink("l", "../../outside").file("l", "new").done()),
        ("directory over a link", Tamed, Tar::new().symlink("l", "../../..").dir("l").file("l/in", "x").done()),
        ("whiteout through a link", Tamed, Tar::new().symlink("l", "../../..").file("l/.wh.outside", "").done()),
        ("opaque through a link", Tamed, Tar::new().symlink("l", "../../..").file("l/.wh..wh..opq", "").done()),
        ("hard link up", Refused, Tar::new().link("h", "../../../outside").done()),
        ("hard link absolute", Refused, Tar::new().link("h", "/outside").done()),
        ("hard link through a link", Refused, Tar::new().symlink("l", "../../..").link("h", "l/outside").done()),
        ("hard link to a link", Tamed, Tar::new().symlink("l", "../../outside").link("h", "l").file("h", "n").done()),
        ("hard link to a directory", Refused, Tar::new().dir("d").link("h", "d").done()),
        ("hard link to the root", Refused, Tar::new().link("h", ".").done()),
        ("hard link to itself", Tamed, Tar::new().file("f", "x").link("f", "f").done()),
        ("hard link to nothing", Refused, Tar::new().link("h", "missing").done()),
        ("hard link to a whiteout", Refused, Tar::new().file(".wh.f", "").link("h", "f").done()),
        ("empty link", Refused, Tar::new().symlink("l", "").done()),
        ("below a file", Refused, Tar::new().file("f", "x").file("f/in", "y").done()),
        ("below a device", Refused, {
            Tar::new().raw(&raw("fifo", EntryType::Fifo, "", 0, |_| {}), b"").file("fifo/in", "y").done()
        }),
    ]
}

fn bombs() -> Vec<(&'static str, Fate, Vec<u8>)> {
    let sparse = |records: &[(&str, &[u8])]| Tar::new().pax(records).file("f", "data").done();
    vec![
        ("size beyond the end", Refused, {
            let mut tar = Tar::new().file("f", &"x".repeat(89)).done();
            tar.truncate(600);
            tar
        }),
        ("huge size", Refused, {
            let header = raw("f", EntryType::Regular, "", 0, |h| field(h, 124..136, b"\x80\0\0\0\x40\0\0\0\0\0\0\0"));
            header.as_bytes().to_vec()
        }),
        ("negative size", Refused, {
            let header = raw("f", EntryType::Regular, "", 0, |h| field(h, 124..136, &[0xff; 12]));
            header.as_bytes().to_vec()
        }),
        ("size that is no number", Refused, {
            raw("f", EntryType::Regular, "", 0, |h| field(h, 124..136, b"99xx")).as_bytes().to_vec()
        }),
        ("wrong checksum", Refused, {
            let mut tar = Tar::new().file("f", "x").done();
            tar[10] ^= 1;
            tar
        }),
        ("unknown type", Refused, Tar::new().raw(&raw("f", EntryType::new(b'Q'), "", 0, |_| {}), b"").done()),
        ("endless pax header", Refused, {
            raw("pax", EntryType::XHeader, "", u64::from(u32::MAX), |_| {}).as_bytes().to_vec()
        }),
        ("pax header of rubbish", Refused, {
            Tar::new().raw(&raw("pax", EntryType::XHeader, "", 7, |_| {}), b"rubbish").file("f", "x").done()
        }),
        ("pax record too long", Refused, {
            Tar::new().raw(&raw("pax", EntryType::XHeader, "", 9, |_| {}), b"999 a=bc\n").file("f", "x").done()
        }),
        ("pax size is no number", Refused, Tar::new().pax(&[("size", b"-1")]).file("f", "x").done()),
        ("pax time is no number", Refused, Tar::new().pax(&[("mtime", b"soon")]).file("f", "x").done()),
        ("headers without end", Refused, {
            (0..100).fold(Tar::new(), |t, _| t.pax(&[("comment", b"x")])).file("f", "x").done()
        }),
        ("pax size hides an entry", Refused, {
            // By the header the file is empty and an entry follows; by the pax record that entry is its data.
            let hidden = Tar::new().file("../escape", "x").done();
            let size = hidden.len().to_string();
            let header = raw("f", EntryType::Regular, "", 0, |_| {});
            let mut tar = Tar::new().pax(&[("size", size.as_bytes())]).raw(&header, b"").done();
            tar.truncate(tar.len() - 1024);
            tar.extend_from_slice(&hidden);
            tar.truncate(tar.len() - 512);
            tar
        }),
        ("sparse without a size", Refused, sparse(&[("GNU.sparse.map", b"0,4")])),
        ("sparse overlapping", Refused, sparse(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,2,1,2")])),
        ("sparse outside", Refused, sparse(&[("GNU.sparse.size", b"3"), ("GNU.sparse.map", b"0,4")])),
        ("sparse odd", Refused, sparse(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,4,5")])),
        ("sparse too little data", Refused, sparse(&[("GNU.sparse.size", b"99"), ("GNU.sparse.map", b"0,44")])),
        ("sparse bomb", Refused, {
            sparse(&[("GNU.sparse.size", b"9000000000000000000"), ("GNU.sparse.map", b"0,4")])
        }),
        ("sparse 1.0 with many parts", Refused, {
            let data = "99999999\n";
            let records: [(&str, &[u8]); 3] =
                [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
            Tar::new().pax(&records).file("f", data).done()
        }),
        ("sparse of the future", Refused, {
            sparse(&[("GNU.sparse.major", b"9"), ("GNU.sparse.size", b"4"), ("GNU.sparse.map", b"0,4")])
        }),
        ("data after the end", Refused, {
            let mut tar = Tar::new().done();
            tar.truncate(512);
            tar.extend_from_slice(&Tar::new().file("f", "x").done());
            tar
        }),
        ("more entries than allowed", Refused, {
            (0..2000).fold(Tar::new(), |t, i| t.file(&format!("f{i}"), "")).done()
        }),
        ("a bomb of zeros", Refused, gzip(&vec![0; 20 << 20])),
        ("a bomb in a file", Refused, gzip(&Tar::new().file("f", &"0".repeat(20 << 20)).done())),
        ("gzip cut short", Refused, {
            let tar = gzip(&Tar::new().file("f", &"text".repeat(9999)).done());
            tar[..tar.len() / 2].to_vec()
        }),
        ("gzip damaged", Refused, {
            let mut tar = gzip(&Tar::new().file("f", "x").done());
            let middle = tar.len() / 2;
            tar[middle] ^= 0xff;
            tar[middle + 1] ^= 0xff;
            tar
        }),
        ("zstd damaged", Refused, {
            let mut tar = zstd::encode_all(&Tar::new().file("f", &"xyz".repeat(999)).done()[..], 3).unwrap();
            tar.truncate(20);
            tar
        }),
        ("xz that wants 4 GiB", Refused, {
            // Stream header, then a block header whose LZMA2 dictionary is 4 GiB - 1 (RFC-less: the .xz file format).
            let mut xz = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46\x02\0\x21\x01\x28\0\0\0".to_vec();
            xz.resize(100, 0);
            xz
        }),
        ("no archive at all", Refused, b"hello".repeat(1000)),
        ("nothing", Tamed, Vec::new()),
    ]
}

fn privileges() -> Vec<(&'static str, Fate, Vec<u8>)> {
    let xattr =
        |name: &str, value: &[u8]| Tar::new().pax(&[(&format!("SCHILY.xattr.{name}"), value)]).file("f", "x").done();
    vec![
        ("redirect", Refused, xattr("trusted.overlay.redirect", b"/../../etc")),
        ("opaque by attribute", Refused, xattr("trusted.overlay.opaque", b"y")),
        ("opaque by user attribute", Refused, xattr("user.overlay.opaque", b"y")),
        ("metacopy", Refused, xattr("trusted.overlay.metacopy", b"")),
        ("other trusted", Refused, xattr("trusted.other", b"1")),
        ("nameless attribute", Refused, xattr("", b"1")),
        ("NUL in an attribute's name", Refused, xattr("user.a\0b", b"1")),
        ("impossible owner", Refused, Tar::new().pax(&[("uid", b"99999999999")]).file("f", "x").done()),
        ("many attributes", Refused, {
            let keys: Vec<String> = (0..1100).map(|i| format!("SCHILY.xattr.user.k{i}")).collect();
            let records: Vec<(&str, &[u8])> = keys.iter().map(|k| (k.as_str(), &b"v"[..])).collect();
            Tar::new().pax(&records).file("f", "x").done()
        }),
        ("a time no file system knows", Tamed, {
            Tar::new().pax(&[("mtime", b"99999999999999.5")]).file("f", "x").done()
        }),
        ("a time before time", Tamed, Tar::new().pax(&[("mtime", b"-9999999999.1")]).file("f", "x").done()),
        ("device whose numbers are negative", Refused, {
            let header = raw("dev", EntryType::Char, "", 0, |h| field(h, 329..337, &[0xff; 8]));
            header.as_bytes().to_vec()
        }),
    ]
}

#[test]
fn hostile_archives_stay_inside_or_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("outside"), "untouched").unwrap();
    symlink("outside", dir.path().join("link")).unwrap();
    let limits = Limits { layer_bytes: 10 << 20, layer_entries: 1000, ..Limits::default() };
    let store = Store::open(StoreOptions { root: dir.path().join("root"), limits }).unwrap();
    let scratch = Scratch { store, dir };
    let cases: Vec<_> = [names(), links(), bombs(), privileges()].concat();
    assert!(cases.len() >= 60, "{}", cases.len());
    for (what, fate, archive) in cases {
        for bytes in [archive.clone(), gzip(&archive)] {
            let lease = scratch.lease();
            let result =
                scratch.apply(&lease, &bytes).and_then(|applied| scratch.store.add_layer(&lease, applied, None));
            match (fate, &result) {
                (Tamed, Ok(_)) => {}
                (Refused, Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{what}: {}", error.chain());
                }
                (_, Ok(_)) => panic!("{what}: was accepted"),
                (_, Err(error)) => panic!("{what}: {}", error.chain()),
            }
            check(&scratch, what);
            drop(lease);
            scratch.store.collect().unwrap();
            scratch.store.flush();
            for place in ["tmp", "layers", "trash", "ingest"] {
                let left = std::fs::read_dir(scratch.store.root().join(place)).unwrap().count();
                assert_eq!(left, 0, "{what}: {place}");
            }
        }
    }
}

/// Nothing beside the data root has changed, nor beside the directories of the layers.
fn check(scratch: &Scratch, what: &str) {
    let names = |path: &std::path::Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(scratch.dir.path()), ["link", "outside", "root"], "{what}");
    assert_eq!(crate::testing::read(scratch.dir.path().join("outside")), "untouched", "{what}");
    let root = scratch.store.root();
    let known =
        ["barque.db", "barque.db-shm", "barque.db-wal", "blobs", "ingest", "layers", "lock", "reserve", "snapshots"];
    let strange: Vec<_> =
        names(root).into_iter().filter(|n| !known.contains(&n.as_str()) && n != "tmp" && n != "trash").collect();
    assert!(strange.is_empty(), "{what}: {strange:?}");
    for layer in names(&root.join("layers")) {
        assert_eq!(names(&root.join("layers").join(&layer)), ["diff"], "{what}");
    }
    assert!(!std::path::Path::new("/escape").exists(), "{what}");
}

#[test]
fn devices_need_root_and_are_otherwise_left_out() {
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let device = raw("null", EntryType::Char, "", 0, |h| {
        h.set_device_major(1).unwrap();
        h.set_device_minor(3).unwrap();
    });
    let top = scratch.chain(&lease, &[Tar::new().raw(&device, b"").done()]);
    let node = scratch.layer_path(&top).join("null");
    assert_eq!(node.exists(), is_root());
}

#[test]
fn setuid_and_capabilities_survive() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let lease = scratch.lease();
    let mut program = Tar::header(EntryType::Regular, "su", "", 1);
    program.set_mode(0o4755);
    program.set_uid(1);
    program.set_cksum();
    // struct vfs_cap_data, version 2: cap_net_bind_service, effective.
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::new().pax(&[("SCHILY.xattr.security.capability", capability)]).raw(&program, b"x").done();
    let path = scratch.layer_path(&scratch.chain(&lease, &[tar])).join("su");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o4755);
    if !is_root() {
        eprintln!("skipped: owners and capabilities need root");
        return;
    }
    assert_eq!(std::fs::metadata(&path).unwrap().uid(), 1);
    let root = barque_sys::rootdir::RootDir::open(path.parent().unwrap()).unwrap();
    assert_eq!(root.get_xattr("su", "security.capability").unwrap().as_deref(), Some(&capability[..]));
}
