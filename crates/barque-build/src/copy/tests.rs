//! Writing into a root: never out of it, whatever links it holds; and what takes whose place.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::context::ContextDir;
use crate::ignore::Ignore;
use crate::worker::Root;

struct Scene {
    outer: tempfile::TempDir,
    context: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Scene { outer: tempfile::tempdir().unwrap(), context: tempfile::tempdir().unwrap() };
        fs::create_dir(scene.outer.path().join("root")).unwrap();
        fs::create_dir(scene.outer.path().join("outside")).unwrap();
        scene
    }

    fn root(&self) -> std::path::PathBuf {
        self.outer.path().join("root")
    }

    /// Copies `source` of the context to `destination` of the root.
    fn copy(&self, source: &str, destination: &str) -> Result<()> {
        let context = ContextDir::open(self.context.path().to_owned(), "Dockerfile").unwrap();
        let source = crate::graph::PathSource {
            from: crate::graph::FsRef::Context(String::new()),
            pattern: source.into(),
            pivot: String::new(),
            written: source.into(),
            origin: "build context".into(),
            unpack: true,
        };
        let done = context.digest(&NoCache, &source, false, &Ignore::default(), "COPY")?;
        self.put(&context, &done.selected, destination, None)
    }

    fn put(&self, context: &ContextDir, selected: &[Selected], destination: &str, chown: Option<&str>) -> Result<()> {
        self.put_on(context, selected, destination, chown, None)
    }

    fn put_on(
        &self,
        context: &ContextDir,
        selected: &[Selected],
        destination: &str,
        chown: Option<&str>,
        earlier: Option<&Earlier>,
    ) -> Result<()> {
        let tree = Tree::open(Root::new(self.root())).unwrap();
        let cancel = CancellationToken::new();
        let items = vec![Item::Files { tree: context.tree(), selected, keep_owner: false, unpack: true }];
        let now = Timestamp::from_secs(1);
        apply(&tree, &Job { verb: "COPY", destination, items, chown, chmod: None, now, cancel: &cancel, earlier })
    }

    fn outside_is_empty(&self) -> bool {
        fs::read_dir(self.outer.path().join("outside")).unwrap().next().is_none()
            && fs::read_dir(self.outer.path()).unwrap().count() == 2
    }
}

struct NoCache;

impl crate::cache::Cache for NoCache {
    fn get(&self, _: &barque_model::Digest) -> Result<Option<crate::cache::CacheRecord>> {
        Ok(None)
    }

    fn put(&self, _: &crate::cache::CacheRecord) -> Result<()> {
        Ok(())
    }

    fn nearest(&self, _: &crate::cache::StepIdentity) -> Result<Option<crate::cache::CacheRecord>> {
        Ok(None)
    }

    fn blob(&self, _: &str) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn put_blob(&self, _: &str, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

#[test]
fn links_in_the_root_stay_in_the_root() {
    let scene = Scene::new();
    let (root, outside) = (scene.root(), scene.outer.path().join("outside"));
    fs::write(scene.context.path().join("f"), "x").unwrap();
    fs::create_dir(scene.context.path().join("d")).unwrap();
    fs::write(scene.context.path().join("d/g"), "y").unwrap();
    symlink(&outside, root.join("abs")).unwrap();
    symlink("../outside", root.join("up")).unwrap();
    symlink("../../../../../../tmp", root.join("far")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    for destination in ["/abs/", "/abs", "/up/", "/up/deep/f", "/far/x/", "/abs/new/"] {
        scene.copy("f", destination).unwrap();
        scene.copy("d", destination).ok();
        assert!(scene.outside_is_empty(), "{destination}");
    }
    assert!(scene.copy("f", "/loop/").is_err() && scene.copy("d", "/loop").is_err());
    // Absolute links mean the root's own paths.
    let inside = root.join(outside.strip_prefix("/").unwrap());
    assert!(inside.exists());
    make_workdir(&Tree::open(Root::new(root.clone())).unwrap(), "/up/work/dir", "").unwrap();
    assert!(root.join("outside/work/dir").is_dir() && scene.outside_is_empty());
}

#[test]
fn metadata_is_kept() {
    let scene = Scene::new();
    let context = scene.context.path();
    fs::create_dir_all(context.join("d/sub")).unwrap();
    fs::write(context.join("d/tool"), "x").unwrap();
    fs::set_permissions(context.join("d/tool"), fs::Permissions::from_mode(0o4750)).unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000, 5);
    fs::File::open(context.join("d/tool")).unwrap().set_modified(old).unwrap();
    fs::File::open(context.join("d/sub")).unwrap().set_modified(old).unwrap();
    fs::write(context.join("big"), vec![7u8; 300_000]).unwrap();
    scene.copy("d", "/x").unwrap();
    scene.copy("big", "/x/").unwrap();
    let meta = |p: &str| fs::metadata(scene.root().join(p)).unwrap();
    assert_eq!((meta("x/tool").permissions().mode() & 0o7777, meta("x/tool").mtime_nsec()), (0o4750, 5));
    assert_eq!(meta("x/sub").modified().unwrap(), old);
    assert_eq!(fs::read(scene.root().join("x/big")).unwrap(), vec![7u8; 300_000]);
}

#[test]
fn sparse_files_stay_sparse() {
    let scene = Scene::new();
    let file = fs::File::create(scene.context.path().join("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", (1 << 30) - 3).unwrap();
    let tree = Tree::open(Root::new(scene.context.path().to_owned())).unwrap();
    let entry = tree.entry(Path::new("sparse")).unwrap();
    let selected = vec![Selected { kind: SelectedKind::File { name: "sparse".into() }, entries: vec![entry] }];
    let context = ContextDir::open(scene.context.path().to_owned(), "").unwrap();
    scene.put(&context, &selected, "/s", None).unwrap();
    let meta = fs::metadata(scene.root().join("s")).unwrap();
    assert_eq!(meta.len(), 1 << 30);
    assert!(meta.blocks() < 1 << 12, "{} blocks", meta.blocks());
}

#[test]
fn files_that_changed_since_they_were_listed_are_refused() {
    let scene = Scene::new();
    let file = scene.context.path().join("f");
    fs::write(&file, "before").unwrap();
    let context = ContextDir::open(scene.context.path().to_owned(), "").unwrap();
    let entry = context.tree().entry(Path::new("f")).unwrap();
    let selected = vec![Selected { kind: SelectedKind::File { name: "f".into() }, entries: vec![entry] }];
    fs::write(&file, "after, and longer").unwrap();
    let e = scene.put(&context, &selected, "/f", None).unwrap_err();
    assert!(e.to_string().contains("changed while it was being read"), "{}", e.chain());
    fs::remove_file(&file).unwrap();
    symlink("/etc/passwd", &file).unwrap();
    assert!(scene.put(&context, &selected, "/f", None).is_err(), "a link in its place is not followed");
    fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    assert!(scene.put(&context, &selected, "/f", None).is_err(), "a fifo in its place is not waited for");
}

#[test]
fn owners_are_looked_up_in_the_root() {
    let scene = Scene::new();
    let tree = || Tree::open(Root::new(scene.root())).unwrap();
    fs::create_dir(scene.root().join("etc")).unwrap();
    fs::write(scene.root().join("etc/passwd"), "root:x:0:0::/:\nbroken\napp:x:12:34::/:\n").unwrap();
    fs::write(scene.root().join("etc/group"), "root:x:0:\nstaff:x:50:\n").unwrap();
    let lookup = |text: &str| owner::lookup(&tree(), text).map_err(|e| e.to_string());
    assert_eq!(lookup("app"), Ok((12, 34)));
    assert_eq!(lookup("app:staff"), Ok((12, 50)));
    assert_eq!(lookup("5"), Ok((5, 5)));
    assert_eq!(lookup("5:6"), Ok((5, 6)));
    assert_eq!(lookup(":staff"), Ok((0, 50)));
    assert!(lookup("nobody").unwrap_err().contains("no matching entries in passwd file"));
    assert!(lookup("app:nobody").unwrap_err().contains("no matching entries in group file"));
    fs::remove_file(scene.root().join("etc/passwd")).unwrap();
    symlink("/etc/shadow-of-the-host", scene.root().join("etc/passwd")).unwrap();
    assert!(lookup("app").is_err());
}

#[test]
fn sockets_are_left_out_and_fifos_kept() {
    let scene = Scene::new();
    let context = scene.context.path();
    let _listener = std::os::unix::net::UnixListener::bind(context.join("sock")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        context.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    scene.copy("", "/x").unwrap();
    let names: Vec<_> = fs::read_dir(scene.root().join("x")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["pipe"]);
}

/// What a copy on top of the layer of an earlier one leaves: whether all could be linked, and the root.
fn copied_again(change: impl FnOnce(&Path), spoil: impl FnOnce(&Path)) -> (bool, Scene, Scene) {
    let (old, new) = (Scene::new(), Scene::new());
    for name in ["a/one", "a/two", "b/three", "four"] {
        let path = old.context.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("content of {name}")).unwrap();
    }
    let select = || {
        let context = ContextDir::open(old.context.path().to_owned(), "Dockerfile").unwrap();
        let entries = crate::context::list(context.tree(), &Ignore::default()).unwrap();
        let selected = vec![Selected { kind: SelectedKind::Contents { root: "".into() }, entries }];
        (context, selected)
    };
    let (context, selected) = select();
    old.put(&context, &selected, "/app", None).unwrap();
    change(old.context.path());
    let (context, selected) = select();
    let earlier = Earlier::open(Root::new(old.root()), None).unwrap();
    new.put_on(&context, &selected, "/app", None, Some(&earlier)).unwrap();
    spoil(&new.root());
    let upper = Tree::open(Root::new(new.root())).unwrap();
    (earlier.link(&upper).unwrap(), old, new)
}

#[test]
fn unchanged_files_are_links_to_those_of_the_earlier_layer() {
    let change = |context: &Path| {
        // Of the same length and time.
        let time = fs::metadata(context.join("a/one")).unwrap().modified().unwrap();
        fs::write(context.join("a/one"), "CONTENT of a/one").unwrap();
        fs::File::open(context.join("a/one")).unwrap().set_modified(time).unwrap();
        fs::set_permissions(context.join("b/three"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(context.join("five"), "new").unwrap();
        let past = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        fs::File::open(context.join("a")).unwrap().set_modified(past).unwrap();
    };
    let (linked, old, new) = copied_again(change, |_| {});
    assert!(linked);
    let inode = |scene: &Scene, name: &str| fs::metadata(scene.root().join("app").join(name)).unwrap().ino();
    for (name, same) in [("a/one", false), ("a/two", true), ("b/three", false), ("four", true)] {
        assert_eq!(inode(&old, name) == inode(&new, name), same, "{name}");
        assert_eq!(
            fs::read(new.root().join("app").join(name)).unwrap(),
            fs::read(old.context.path().join(name)).unwrap(),
            "{name}"
        );
    }
    assert_eq!(fs::read_to_string(old.root().join("app/a/one")).unwrap(), "content of a/one");
    assert_eq!(fs::metadata(new.root().join("app/b/three")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::read_to_string(new.root().join("app/five")).unwrap(), "new");
    assert_eq!(fs::metadata(new.root().join("app/a")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn what_cannot_be_linked_is_said() {
    let missing = |root: &Path| fs::remove_dir_all(root.join("app/a")).unwrap();
    assert!(!copied_again(|_| {}, missing).0);
    let taken = |root: &Path| fs::write(root.join("app/four"), "another source's").unwrap();
    assert!(!copied_again(|_| {}, taken).0);
    let led_away = |root: &Path| {
        fs::remove_dir_all(root.join("app/a")).unwrap();
        symlink("../../outside", root.join("app/a")).unwrap();
    };
    let (linked, _, scene) = copied_again(|_| {}, led_away);
    assert!(!linked && scene.outside_is_empty());
}
