//! The reader against the `tar` crate's writer, the writer against its reader, and both against rubbish.

use barque_sys::rootdir::TimeSpec;
use proptest::prelude::*;

use super::*;
use crate::testing::Tar;

fn entries(bytes: &[u8]) -> barque_model::Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(bytes);
    let mut found = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut data = Vec::new();
        while reader.data(u64::MAX, |part| {
            data.extend_from_slice(part);
            Ok(())
        })? > 0
        {}
        found.push((entry, data));
    }
    Ok(found)
}

fn write(list: &[(Entry, Vec<u8>)], nanos: bool) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).with_nanos(nanos);
    for (entry, data) in list {
        writer.entry(entry).unwrap();
        writer.data(data).unwrap();
    }
    let (bytes, size) = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, size);
    bytes
}

#[test]
fn sparse_files_of_every_format_are_read() {
    let expected = vec![Segment { offset: 0, length: 3 }, Segment { offset: 1000, length: 2 }];
    let v00 = Tar::new()
        .pax(&[
            ("GNU.sparse.size", b"2000"),
            ("GNU.sparse.numblocks", b"2"),
            ("GNU.sparse.offset", b"0"),
            ("GNU.sparse.numbytes", b"3"),
            ("GNU.sparse.offset", b"1000"),
            ("GNU.sparse.numbytes", b"2"),
        ])
        .file("GNUSparseFile.0/f", "abcde");
    let v01 = Tar::new()
        .pax(&[("GNU.sparse.size", b"2000"), ("GNU.sparse.name", b"f"), ("GNU.sparse.map", b"0,3,1000,2")])
        .file("GNUSparseFile.0/f", "abcde");
    let mut body = "2\n0\n3\n1000\n2\n".to_owned();
    body.push_str(&"\0".repeat(512 - body.len()));
    body.push_str("abcde");
    let v10 = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"f"),
            ("GNU.sparse.realsize", b"2000"),
        ])
        .file("GNUSparseFile.0/f", &body);
    let mut old = tar::Header::new_gnu();
    old.set_entry_type(tar::EntryType::GNUSparse);
    old.set_size(5);
    {
        let gnu = old.as_gnu_mut().unwrap();
        gnu.name[0] = b'f';
        gnu.set_real_size(2000);
        gnu.sparse[0].set_offset(0);
        gnu.sparse[0].set_length(3);
        gnu.sparse[1].set_offset(1000);
        gnu.sparse[1].set_length(2);
    }
    for field in [100..108, 108..116, 116..124, 136..148] {
        old.as_mut_bytes()[field].fill(b'0');
    }
    old.set_cksum();
    let v_old = Tar::new().raw(&old, b"abcde");
    for (what, tar) in [("0.0", v00), ("0.1", v01), ("1.0", v10), ("old", v_old)] {
        let found = entries(&tar.file("after", "x").done()).unwrap_or_else(|e| panic!("{what}: {}", e.chain()));
        let (entry, data) = &found[0];
        assert_eq!((entry.size, data.as_slice()), (2000, &b"abcde"[..]), "{what}");
        assert_eq!(entry.sparse.as_ref(), Some(&expected), "{what}");
        assert!(entry.path.ends_with(b"f"), "{what}");
        assert_eq!(found[1].0.path, b"after", "{what}");
    }
}

#[test]
fn long_names_and_large_numbers_are_read() {
    let long = "d/".repeat(120) + "file";
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o600);
    header.set_uid(3_000_000_000);
    header.set_gid(7);
    header.set_mtime(1 << 35);
    builder.append_data(&mut header, &long, &b"x"[..]).unwrap();
    let found = entries(&builder.into_inner().unwrap()).unwrap();
    let (entry, data) = &found[0];
    assert_eq!(entry.path, long.as_bytes());
    assert_eq!((entry.uid, entry.gid, entry.mtime.seconds), (3_000_000_000, 7, 1 << 35));
    assert_eq!(data, b"x");
    let negative = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe];
    assert_eq!(super::header::number(&negative).unwrap(), -2);
    assert_eq!(super::header::number(b"0000644\0").unwrap(), 0o644);
    assert_eq!(super::header::number(b"  644 \0\0").unwrap(), 0o644);
    assert!(super::header::number(&[0x80, 0, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
}

#[test]
fn directories_of_old_formats_are_recognised() {
    let mut old = Tar::header(tar::EntryType::Regular, "dir/", "", 0);
    old.as_mut_bytes()[156] = 0;
    old.set_cksum();
    let found = entries(&Tar::new().raw(&old, b"").done()).unwrap();
    assert_eq!(found[0].0.kind, Kind::Directory);
}

#[test]
fn a_shrinking_or_growing_file_is_an_error_of_the_writer() {
    let (entry, _) = entries(&Tar::new().file("f", "12345").done()).unwrap().remove(0);
    let mut writer = Writer::new(Vec::new());
    writer.entry(&entry).unwrap();
    assert!(writer.data(b"123456").is_err());
    writer.data(b"123").unwrap();
    assert!(writer.finish().is_err());
}

prop_compose! {
    fn name()(parts in prop::collection::vec("[a-zA-Z0-9._é\u{1F600} -]{1,60}", 1..8)) -> Vec<u8> {
        let path = parts.join("/");
        path.into_bytes()
    }
}

prop_compose! {
    fn entry()(
        path in name(),
        link in name(),
        kind in prop::sample::select(vec![
            Kind::Regular, Kind::HardLink, Kind::Symlink, Kind::CharDevice, Kind::BlockDevice, Kind::Directory,
            Kind::Fifo,
        ]),
        mode in 0u32..0o10000,
        uid: u32,
        gid: u32,
        seconds in -(1i64 << 40)..(1i64 << 40),
        nanos in 0u32..1_000_000_000,
        device in (0u32..4096, 0u32..1_000_000),
        xattrs in prop::collection::btree_map("user\\.[a-z]{1,10}", prop::collection::vec(any::<u8>(), 0..50), 0..3),
        data in prop::collection::vec(any::<u8>(), 0..2000),
    ) -> (Entry, Vec<u8>) {
        let regular = kind == Kind::Regular;
        let linked = matches!(kind, Kind::HardLink | Kind::Symlink);
        let node = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let data = if regular { data } else { Vec::new() };
        let mut path = path;
        if kind == Kind::Directory {
            path.push(b'/');
        }
        let entry = Entry {
            path, kind, mode, uid, gid,
            link: if linked { link } else { Vec::new() },
            size: data.len() as u64,
            mtime: TimeSpec::new(seconds, nanos),
            device: if node { device } else { (0, 0) },
            xattrs: xattrs.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect(),
            sparse: None,
        };
        (entry, data)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(list in prop::collection::vec(entry(), 0..8)) {
        prop_assert_eq!(&entries(&write(&list, true)).unwrap(), &list);
        let whole: Vec<_> = list.iter().cloned().map(|(mut e, d)| {
            e.mtime.nanos = 0;
            (e, d)
        }).collect();
        prop_assert_eq!(entries(&write(&list, false)).unwrap(), whole);
    }

    #[test]
    fn another_reader_sees_the_same(list in prop::collection::vec(entry(), 0..8)) {
        let bytes = write(&list, true);
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut seen = Vec::new();
        for e in archive.entries().unwrap() {
            let mut e = e.unwrap();
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut e, &mut data).unwrap();
            seen.push((e.path_bytes().into_owned(), data));
        }
        let own: Vec<_> = list.into_iter().map(|(e, d)| (e.path, d)).collect();
        prop_assert_eq!(seen, own);
    }

    #[test]
    fn rubbish_is_an_error_and_nothing_worse(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = entries(&bytes);
    }

    #[test]
    fn damaged_archives_are_an_error_and_nothing_worse(
        list in prop::collection::vec(entry(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = write(&list, true);
        for (at, value) in &damage {
            let at = at.index(bytes.len());
            bytes[at] = *value;
            // Make the checksum right again, or nothing beyond it would ever be tried.
            let start = at / BLOCK * BLOCK;
            if start + BLOCK <= bytes.len() {
                let block = &mut bytes[start..start + BLOCK];
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = entries(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = entries(&bytes);
    }
}
