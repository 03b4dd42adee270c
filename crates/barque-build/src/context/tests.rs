//! Contexts on disk: selection, digests, hostile trees and archives.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Mutex;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cache::{CacheRecord, StepIdentity};
use crate::graph::FsRef;

/// Keeps blobs only.
#[derive(Default)]
struct Blobs(Mutex<BTreeMap<String, Vec<u8>>>);

impl Cache for Blobs {
    fn get(&self, _: &Digest) -> Result<Option<CacheRecord>> {
        Ok(None)
    }

    fn put(&self, _: &CacheRecord) -> Result<()> {
        Ok(())
    }

    fn nearest(&self, _: &StepIdentity) -> Result<Option<CacheRecord>> {
        Ok(None)
    }

    fn blob(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(name).cloned())
    }

    fn put_blob(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.0.lock().unwrap().insert(name.to_owned(), bytes.to_owned());
        Ok(())
    }
}

/// Makes `path → content`; a path ending in `/` is a directory, `a -> b` a link.
fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let (name, content) = file.split_once('=').unwrap_or((file, ""));
        if let Some((link, target)) = name.split_once(" -> ") {
            symlink(target, dir.path().join(link)).unwrap();
            continue;
        }
        let path = dir.path().join(name.trim_end_matches('/'));
        fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
        if !name.ends_with('/') {
            fs::write(path, content).unwrap();
        }
    }
    dir
}

fn source(pattern: &str) -> PathSource {
    PathSource {
        from: FsRef::Context(String::new()),
        pattern: pattern.to_owned(),
        pivot: String::new(),
        written: pattern.to_owned(),
        origin: "build context".to_owned(),
        unpack: false,
    }
}

fn digest_of(context: &ContextDir, pattern: &str) -> Result<Digested> {
    context.digest(&Blobs::default(), &source(pattern), false, &Ignore::default(), "COPY")
}

fn names(done: &Digested) -> Vec<String> {
    let of = |s: &Selected| s.entries.iter().map(|e| s.relative(e).display().to_string()).collect::<Vec<_>>();
    done.selected.iter().flat_map(of).collect()
}

fn open(dir: &tempfile::TempDir) -> Arc<ContextDir> {
    ContextDir::open(dir.path().to_owned(), "Dockerfile").unwrap()
}

#[test]
fn directories_files_and_globs_are_selected() {
    let dir = tree(&["a.txt=1", "b.txt=2", "sub/c.txt=3", "sub/deep/d.md=4", "link -> sub", "[x]=5"]);
    let context = open(&dir);
    let select = |p: &str| names(&digest_of(&context, p).unwrap());
    assert_eq!(select("sub"), ["c.txt", "deep", "deep/d.md"]);
    assert_eq!(select("link"), ["c.txt", "deep", "deep/d.md"]);
    assert_eq!(select("*.txt"), ["a.txt", "b.txt"]);
    assert_eq!(select("*/c.txt"), ["c.txt", "c.txt"], "through the link as well");
    assert_eq!(select("sub/deep/*"), ["d.md"]);
    assert_eq!(select("\\[x\\]"), ["[x]"]);
    assert_eq!(select("nothing*"), Vec::<String>::new());
    assert_eq!(select("").len(), 8);
}

#[test]
fn what_is_ignored_does_not_exist() {
    let dir = tree(&["a/keep=1", "a/drop=2", "b/x=3", ".dockerignore=a\n!a/keep\nb\n", "c=4"]);
    let context = open(&dir);
    assert_eq!(names(&digest_of(&context, "").unwrap()), [".dockerignore", "a", "a/keep", "c"]);
    assert_eq!(names(&digest_of(&context, "a").unwrap()), ["keep"]);
    for gone in ["b", "b/x", "a/drop", "missing"] {
        let e = digest_of(&context, gone).unwrap_err();
        let expected = format!(
            "COPY failed: file not found in build context or excluded by .dockerignore: stat {gone}: file does not exist"
        );
        assert_eq!(e.to_string(), expected);
    }
}

#[test]
fn the_dockerfiles_own_ignore_file_wins() {
    let dir = tree(&["a=1", "b=2", ".dockerignore=a\n", "dev.Dockerfile.dockerignore=b\n"]);
    let context = ContextDir::open(dir.path().to_owned(), "dev.Dockerfile").unwrap();
    assert!(digest_of(&context, "a").is_ok() && digest_of(&context, "b").is_err());
    let bad = tree(&[".dockerignore=["]);
    let e = ContextDir::open(bad.path().to_owned(), "Dockerfile").unwrap_err();
    assert!(e.chain().contains("syntax error in pattern"), "{}", e.chain());
}

#[test]
fn missing_files_have_suggestions() {
    let dir = tree(&["src/package.json=1"]);
    let e = digest_of(&open(&dir), "src/pakage.json").unwrap_err();
    assert_eq!(e.hint(), Some("did you mean src/package.json?"));
}

#[test]
fn links_never_lead_out() {
    let outside = tree(&["secret=s"]);
    let out = outside.path().display().to_string();
    let up = "../".repeat(20);
    let dir = tree(&[
        "a=1",
        &format!("abs -> {out}"),
        &format!("rel -> {up}{}", out.trim_start_matches('/')),
        "loop -> loop",
    ]);
    let context = open(&dir);
    for path in ["abs/secret", "rel/secret", "abs", "loop", "abs/*", "../../etc/passwd"] {
        let found = digest_of(&context, path);
        assert!(found.is_err() || names(&found.unwrap()).is_empty(), "{path} must not be found");
    }
    // As entries they are copied as the links they are.
    let all = digest_of(&context, "").unwrap();
    let entry = all.selected[0].entries.iter().find(|e| e.name() == "abs").unwrap();
    assert_eq!((entry.kind, entry.link.as_deref()), (Kind::Symlink, Some(outside.path().as_os_str())));
}

#[test]
fn the_digest_minds_content_and_mode_but_no_times() {
    let dir = tree(&["a=1", "sub/b=2", "l -> a"]);
    let first = digest_of(&open(&dir), "").unwrap().digest;
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    fs::File::options().write(true).open(dir.path().join("a")).unwrap().set_modified(old).unwrap();
    assert_eq!(digest_of(&open(&dir), "").unwrap().digest, first);
    fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    let mode = digest_of(&open(&dir), "").unwrap().digest;
    assert_ne!(mode, first);
    fs::write(dir.path().join("sub/b"), "3").unwrap();
    let content = digest_of(&open(&dir), "").unwrap().digest;
    assert_ne!(content, mode);
    fs::remove_file(dir.path().join("l")).unwrap();
    symlink("b", dir.path().join("l")).unwrap();
    assert_ne!(digest_of(&open(&dir), "").unwrap().digest, content);
    fs::rename(dir.path().join("sub"), dir.path().join("sub2")).unwrap();
    let one = digest_of(&open(&dir), "sub2").unwrap().digest;
    fs::rename(dir.path().join("sub2"), dir.path().join("sub3")).unwrap();
    assert_eq!(digest_of(&open(&dir), "sub3").unwrap().digest, one, "the source's own name does not matter");
}

#[test]
fn stat_data_saves_reading_again() {
    let dir = tree(&["a=1", "b=2"]);
    std::thread::sleep(std::time::Duration::from_millis(150));
    let blobs = Blobs::default();
    let run = || {
        let context = open(&dir);
        let done = context.digest(&blobs, &source(""), false, &Ignore::default(), "COPY").unwrap();
        context.save_stats(&blobs).unwrap();
        (done.digest, blobs.0.lock().unwrap().values().next().map(Vec::len))
    };
    let first = run();
    assert!(first.1.is_some_and(|n| n > 100));
    assert_eq!(run(), first);
    // The proof that bytes are not read again: a stamp that lies is believed.
    let mut entries = vec![open(&dir).tree().entry(Path::new("a")).unwrap()];
    let stats = StatCache::decode(blobs.0.lock().unwrap().values().next().unwrap().clone());
    assert_eq!(digest::contents(open(&dir).tree(), Some(&stats), &mut entries).unwrap(), [Some(Digest::of(b"1"))]);
    fs::write(dir.path().join("a"), "changed").unwrap();
    assert_ne!(run().0, first.0);
}

#[test]
fn odd_names_and_kinds_are_kept() {
    let dir = tree(&["plain=1"]);
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9\n*");
    fs::write(dir.path().join(odd), "x").unwrap();
    let fifo = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let done = digest_of(&open(&dir), "").unwrap();
    let kinds: Vec<_> = done.selected[0].entries.iter().map(|e| (e.name().to_owned(), e.kind)).collect();
    assert_eq!(kinds, [(odd.to_owned(), Kind::File), ("pipe".into(), Kind::Fifo), ("plain".into(), Kind::File)]);
    assert!(open(&dir).read(Path::new("pipe"), 10).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn parents_keep_paths_from_the_pivot() {
    let dir = tree(&["a/b/c.txt=1", "a/b/d.md=2", "a/x.txt=3", "e.txt=4"]);
    let context = open(&dir);
    let with = |pivot: &str, pattern: &str| {
        let source = PathSource { pivot: pivot.to_owned(), ..source(pattern) };
        context.digest(&Blobs::default(), &source, true, &Ignore::default(), "COPY").map(|d| names(&d))
    };
    assert_eq!(with("", "a/b/c.txt").unwrap(), ["a", "a/b", "a/b/c.txt"]);
    assert_eq!(with("", "**/*.txt").unwrap(), ["a", "a/b", "a/b/c.txt", "a/x.txt", "e.txt"]);
    assert_eq!(with("a", "b").unwrap(), ["b", "b/c.txt", "b/d.md"]);
    assert_eq!(with("", "z/*").unwrap(), Vec::<String>::new());
    assert!(with("", "a/missing").is_err() && with("nope", "x").is_err());
}

#[test]
fn excludes_are_relative_to_the_source() {
    let dir = tree(&["d/a.png=1", "d/b.txt=2", "d/e/c.png=3", "f.png=4", "f.txt=5"]);
    let context = open(&dir);
    let with = |pattern: &str, exclude: &[&str]| {
        let exclude = Ignore::new(exclude).unwrap();
        names(&context.digest(&Blobs::default(), &source(pattern), false, &exclude, "COPY").unwrap())
    };
    assert_eq!(with("d", &["*.png"]), ["b.txt", "e", "e/c.png"]);
    assert_eq!(with("d", &["**/*.png"]), ["b.txt", "e"]);
    assert_eq!(with("f*", &["*.png"]), ["f.txt"]);
    assert_eq!(with("d", &["*", "!e/c.png"]), ["e", "e/c.png"]);
}

#[test]
fn large_trees_are_walked_by_several_threads() {
    let dir = tempfile::tempdir().unwrap();
    for d in 0..60 {
        let sub = dir.path().join(format!("d{d:02}"));
        fs::create_dir(&sub).unwrap();
        for f in 0..60 {
            fs::write(sub.join(format!("f{f}")), format!("{d} {f}")).unwrap();
        }
    }
    let done = digest_of(&open(&dir), "").unwrap();
    assert_eq!(done.selected[0].entries.len(), 60 * 61);
    assert!(done.selected[0].entries.is_sorted_by(|a, b| a.path < b.path));
    assert_eq!(done.digest, digest_of(&open(&dir), "").unwrap().digest);
}

/// 50,000 files in 500 directories: `cargo test -- --ignored --nocapture speed`.
#[test]
#[ignore = "a measurement"]
fn speed_of_a_large_context() {
    let dir = tempfile::tempdir().unwrap();
    for d in 0..500 {
        let sub = dir.path().join(format!("d{d:03}"));
        fs::create_dir(&sub).unwrap();
        for f in 0..100 {
            fs::write(sub.join(format!("file-{f:03}.txt")), format!("{d} {f} ").repeat(100)).unwrap();
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    let blobs = Blobs::default();
    let cpu = || {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        t.tv_sec * 1000 + t.tv_nsec / 1_000_000
    };
    let run = |what: &str| {
        let (started, before) = (std::time::Instant::now(), cpu());
        let context = open(&dir);
        let done = context.digest(&blobs, &source(""), false, &Ignore::default(), "COPY").unwrap();
        let digested = started.elapsed();
        context.save_stats(&blobs).unwrap();
        println!("{what}: digest {digested:?}, with saving {:?}, cpu {} ms", started.elapsed(), cpu() - before);
        done
    };
    run("first");
    run("unchanged");
    fs::write(dir.path().join("d250/file-050.txt"), "changed").unwrap();
    let done = run("one change");
    let target = tempfile::tempdir().unwrap();
    let tree = Tree::open(Root::new(target.path().to_owned())).unwrap();
    let context = open(&dir);
    let (started, before) = (std::time::Instant::now(), cpu());
    let cancel = CancellationToken::new();
    let item =
        crate::copy::Item::Files { tree: context.tree(), selected: &done.selected, keep_owner: false, unpack: false };
    let job = crate::copy::Job {
        verb: "COPY",
        destination: "/x",
        items: vec![item],
        chown: None,
        chmod: None,
        now: barque_model::Timestamp::now(),
        cancel: &cancel,
        earlier: None,
    };
    crate::copy::apply(&tree, &job).unwrap();
    println!("copy: {:?}, cpu {} ms", started.elapsed(), cpu() - before);
}

fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    build(&mut builder);
    builder.into_inner().unwrap()
}

fn header(name: &[u8], kind: tar::EntryType, size: u64, link: &str) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(if kind.is_dir() { 0o750 } else { 0o640 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000);
    if !link.is_empty() {
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_cksum();
    header
}

fn unpack_to(bytes: &[u8], limit: u64) -> Result<tempfile::TempDir> {
    let outer = tempfile::tempdir().unwrap();
    fs::create_dir(outer.path().join("in")).unwrap();
    let options = UnpackOptions::context(limit, CancellationToken::new());
    unpack_tar(bytes, outer.path().join("in"), &options)?;
    let names: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["in"], "nothing may be written beside the directory");
    Ok(outer)
}

#[test]
fn archives_of_every_compression_unpack() {
    let plain = archive(|b| {
        b.append(&header(b"d/", tar::EntryType::Directory, 0, ""), &b""[..]).unwrap();
        b.append(&header(b"d/f", tar::EntryType::Regular, 3, ""), &b"abc"[..]).unwrap();
        b.append(&header(b"d/h", tar::EntryType::Link, 0, "d/f"), &b""[..]).unwrap();
        b.append(&header(b"s", tar::EntryType::Symlink, 0, "d/f"), &b""[..]).unwrap();
    });
    let gzip = {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut e, &plain).unwrap();
        e.finish().unwrap()
    };
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    let bzip2 = {
        let mut e = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        std::io::Write::write_all(&mut e, &plain).unwrap();
        e.finish().unwrap()
    };
    let xz = {
        let mut e = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        std::io::Write::write_all(&mut e, &plain).unwrap();
        e.finish().unwrap()
    };
    for bytes in [plain, gzip, zstd, bzip2, xz] {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
        assert!(is_archive(&mut file).unwrap());
        let dir = unpack_to(&bytes, 1 << 20).unwrap();
        let root = dir.path().join("in");
        assert_eq!(fs::read(root.join("s")).unwrap(), b"abc");
        assert_eq!(fs::read(root.join("d/h")).unwrap(), b"abc");
        let meta = fs::metadata(root.join("d/f")).unwrap();
        assert_eq!(
            (meta.permissions().mode() & 0o7777, meta.modified().unwrap().elapsed().unwrap().as_secs() > 1000),
            (0o640, true)
        );
    }
}

#[test]
fn hostile_archives_stay_inside() {
    use tar::EntryType as T;
    let evil: Vec<(&str, Vec<u8>)> = vec![
        ("dotdot", archive(|b| b.append(&header(b"../evil", T::Regular, 1, ""), &b"x"[..]).unwrap())),
        ("inner dotdot", archive(|b| b.append(&header(b"a/../../evil", T::Regular, 1, ""), &b"x"[..]).unwrap())),
        (
            "link out",
            archive(|b| {
                b.append(&header(b"l", T::Symlink, 0, "../"), &b""[..]).unwrap();
                b.append(&header(b"l/evil", T::Regular, 1, ""), &b"x"[..]).unwrap();
            }),
        ),
        (
            "absolute link",
            archive(|b| {
                b.append(&header(b"l", T::Symlink, 0, "/tmp"), &b""[..]).unwrap();
                b.append(&header(b"l/barque-evil", T::Regular, 1, ""), &b"x"[..]).unwrap();
            }),
        ),
        ("hard link out", archive(|b| b.append(&header(b"h", T::Link, 0, "../../etc/passwd"), &b""[..]).unwrap())),
        (
            "hard link by symlink",
            archive(|b| {
                b.append(&header(b"l", T::Symlink, 0, "/etc"), &b""[..]).unwrap();
                b.append(&header(b"h", T::Link, 0, "l/passwd"), &b""[..]).unwrap();
            }),
        ),
        ("device", archive(|b| b.append(&header(b"null", T::Char, 0, ""), &b""[..]).unwrap())),
        (
            "truncated",
            archive(|b| b.append(&header(b"f", T::Regular, 4000, ""), &vec![1u8; 4000][..]).unwrap())[..1500].to_vec(),
        ),
        ("bomb", archive(|b| b.append(&header(b"f", T::Regular, 5000, ""), &vec![0u8; 5000][..]).unwrap())),
        (
            "loop",
            archive(|b| {
                b.append(&header(b"l", T::Symlink, 0, "l"), &b""[..]).unwrap();
                b.append(&header(b"l/x", T::Regular, 1, ""), &b"x"[..]).unwrap();
            }),
        ),
    ];
    for (name, bytes) in evil {
        match unpack_to(&bytes, 4500) {
            Ok(dir) => {
                // Links were followed inside the root.
                assert!(matches!(name, "link out" | "absolute link"), "{name} should be refused");
                drop(dir);
            }
            Err(e) => assert!(!matches!(name, "link out" | "absolute link"), "{name}: {}", e.chain()),
        }
    }
    assert!(!Path::new("/tmp/barque-evil").exists());
}

/// An extended header with one field of `size` bytes.
fn extended(key: &str, size: usize) -> Vec<u8> {
    let rest = format!(" {key}=").len() + size + 1;
    let length = (1..).find(|n: &usize| n.to_string().len() + rest == *n).unwrap();
    let mut record = format!("{length} {key}=").into_bytes();
    record.resize(length - 1, b'x');
    record.push(b'\n');
    record
}

#[test]
fn headers_that_would_fill_the_memory_are_refused() {
    use tar::EntryType as T;
    let with = |kind: T, content: &[u8]| {
        archive(|b| {
            b.append(&header(b"ext", kind, content.len() as u64, ""), content).unwrap();
            b.append(&header(b"f", T::Regular, 3, ""), &b"abc"[..]).unwrap();
        })
    };
    let long = vec![b'x'; 3 << 20];
    for bytes in
        [with(T::GNULongName, &long), with(T::GNULongLink, &long), with(T::XHeader, &extended("comment", 3 << 20))]
    {
        let e = unpack_to(&bytes, 1 << 30).unwrap_err();
        assert!(e.chain().contains("headers of an entry are longer than"), "{}", e.chain());
    }
    // Long ones that make sense, content that is passed over, and large files are fine.
    let fine = archive(|b| {
        let record = extended("comment", 500_000);
        for kind in [T::XGlobalHeader, T::XHeader] {
            b.append(&header(b"ext", kind, record.len() as u64, ""), &record[..]).unwrap();
        }
        b.append(&header(b"d/", T::Directory, 2 << 20, ""), &long[..2 << 20]).unwrap();
        b.append(&header(b"f", T::Regular, 3 << 20, ""), &long[..]).unwrap();
        b.append(&header(b"g", T::Regular, 3, ""), &b"abc"[..]).unwrap();
    });
    let dir = unpack_to(&fine, 1 << 30).unwrap();
    assert_eq!(fs::metadata(dir.path().join("in/f")).unwrap().len(), 3 << 20);
    assert_eq!(fs::read(dir.path().join("in/g")).unwrap(), b"abc");
}

#[test]
fn capabilities_of_unpacked_files_stay() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    // cap_net_bind_service, permitted and effective (linux/capability.h, VFS_CAP_REVISION_2).
    let value = [1u8, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let key = b" SCHILY.xattr.security.capability=";
    let length = 2 + key.len() + value.len() + 1;
    let record = [length.to_string().as_bytes(), key, &value, b"\n"].concat();
    let bytes = archive(|b| {
        b.append(&header(b"x", tar::EntryType::XHeader, record.len() as u64, ""), &record[..]).unwrap();
        b.append(&header(b"f", tar::EntryType::Regular, 3, ""), &b"abc"[..]).unwrap();
    });
    let dir = tempfile::tempdir().unwrap();
    let options =
        UnpackOptions { owner: Owner::Set(33, 33), ..UnpackOptions::context(1 << 20, CancellationToken::new()) };
    unpack_tar(&bytes[..], dir.path().to_owned(), &options).unwrap();
    let found = xattr::of_fd(fs::File::open(dir.path().join("f")).unwrap()).unwrap();
    assert_eq!(found, [(c"security.capability".to_owned(), value.to_vec())]);
}

#[test]
fn what_is_excluded_is_named_by_its_highest_path() {
    let files = ["a/keep=1", "a/drop=2", "b/x=", "b/y/z=", "c/d/in=", "c/d/out=", "c/e/out=", "f="];
    let dir = tree(&[&files[..], &[".dockerignore=a/drop\nb\nc\n!c/d/in\n"]].concat());
    let excluded: Vec<String> = open(&dir).excluded().unwrap().iter().map(|p| p.display().to_string()).collect();
    assert_eq!(excluded, ["a/drop", "b", "c/d/out", "c/e"]);
    fs::remove_file(dir.path().join(".dockerignore")).unwrap();
    assert!(open(&dir).excluded().unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_unpack_or_fail(mut bytes in prop::collection::vec(any::<u8>(), 0..1500), magic in 0usize..6) {
        let magics: [&[u8]; 6] = [b"", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"x"];
        bytes.splice(0..0, magics[magic].iter().copied());
        let _ = unpack_to(&bytes, 1 << 20);
    }

    #[test]
    fn damaged_archives_unpack_or_fail(at in 0usize..1024, value in any::<u8>()) {
        let mut bytes = archive(|b| {
            b.append(&header(b"d/f", tar::EntryType::Regular, 3, ""), &b"abc"[..]).unwrap();
            b.append(&header(b"s", tar::EntryType::Symlink, 0, "d/f"), &b""[..]).unwrap();
        });
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = unpack_to(&bytes, 1 << 20);
    }
}
