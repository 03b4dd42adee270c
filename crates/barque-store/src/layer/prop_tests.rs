//! Any tree survives diff and apply: what a container left comes back the same elsewhere.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use barque_sys::rootdir::{Dir, FileKind, RootDir, TimeSpec};
use proptest::prelude::*;

use super::diff::diff;
use super::*;
use crate::testing::{Scratch, is_root};

#[derive(Clone, Debug)]
enum Node {
    Dir {
        opaque: bool,
        children: BTreeMap<String, (Node, Meta)>,
    },
    File(Vec<u8>),
    /// Another name of an earlier file, chosen by number.
    Link(usize),
    Symlink(String),
    Fifo,
    Whiteout,
}

#[derive(Clone, Debug)]
struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    attribute: Option<Vec<u8>>,
}

fn meta() -> impl Strategy<Value = Meta> {
    let attribute = prop::option::weighted(0.2, prop::collection::vec(any::<u8>(), 0..20));
    (0u32..0o10000, 0u32..70_000, 0u32..70_000, 0i64..2_000_000_000, attribute)
        .prop_map(|(mode, uid, gid, seconds, attribute)| Meta { mode, uid, gid, seconds, attribute })
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Node::File),
        1 => (0usize..20).prop_map(Node::Link),
        1 => "[a-z/.]{1,20}".prop_map(Node::Symlink),
        1 => Just(Node::Fifo),
        1 => Just(Node::Whiteout),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let children = prop::collection::btree_map("[a-zé.]{1,12}", (inner, meta()), 0..6);
        (any::<bool>(), children).prop_map(|(opaque, children)| Node::Dir { opaque, children })
    })
}

fn tree() -> impl Strategy<Value = BTreeMap<String, (Node, Meta)>> {
    prop::collection::btree_map("[a-z]{1,8}", (node(), meta()), 0..6)
}

fn build(marks: Marks, dir: &Path, children: &BTreeMap<String, (Node, Meta)>, files: &mut Vec<PathBuf>) {
    for (name, (node, meta)) in children {
        if matches!(name.as_str(), "." | "..") || name.starts_with(".wh.") {
            continue;
        }
        let path = dir.join(name);
        let parent = Dir::open(dir).unwrap();
        match node {
            Node::Dir { opaque, children } => {
                std::fs::create_dir(&path).unwrap();
                if *opaque {
                    marks.set_opaque(&Dir::open(&path).unwrap()).unwrap();
                }
                build(marks, &path, children, files);
            }
            Node::File(data) => {
                std::fs::write(&path, data).unwrap();
                files.push(path.clone());
            }
            Node::Link(number) if files.is_empty() || *number > 100 => continue,
            Node::Link(number) => {
                std::fs::hard_link(&files[number % files.len()], &path).unwrap();
                continue;
            }
            Node::Symlink(target) => symlink(target, &path).unwrap(),
            Node::Fifo => parent.mknod(name, FileKind::Fifo, 0o600, (0, 0)).unwrap(),
            Node::Whiteout => {
                marks.whiteout(&parent, name.as_ref()).unwrap();
                continue;
            }
        }
        if is_root() {
            parent.chown(name, meta.uid, meta.gid).unwrap();
        }
        if !matches!(node, Node::Symlink(_)) {
            let mode = if is_root() { meta.mode } else { meta.mode | 0o700 };
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            if let (Some(value), Node::File(_) | Node::Dir { .. }) = (&meta.attribute, node) {
                let _ = parent.set_xattr(name, "user.test", value);
            }
        }
        parent.set_times(name, None, Some(TimeSpec::new(meta.seconds, 0))).unwrap();
    }
}

/// Everything that a layer says about its files.
fn describe(dir: &Path) -> Vec<String> {
    fn walk(root: &RootDir, top: &Path, at: &Path, inodes: &mut BTreeMap<u64, PathBuf>, out: &mut Vec<String>) {
        let mut names: Vec<_> =
            std::fs::read_dir(top.join(at)).unwrap().map(|e| at.join(e.unwrap().file_name())).collect();
        names.sort();
        for name in names {
            let meta = std::fs::symlink_metadata(top.join(&name)).unwrap();
            let whiteout = root.lstat(&name).unwrap().is_whiteout();
            let first = inodes.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
            let body = if meta.is_file() {
                barque_model::Digest::of(&std::fs::read(top.join(&name)).unwrap()).short()
            } else {
                std::fs::read_link(top.join(&name)).map(|t| t.display().to_string()).unwrap_or_default()
            };
            let rest = if whiteout {
                String::new()
            } else {
                let attributes = root.xattrs(&name).unwrap();
                format!("{:o} {}:{} {} {attributes:?}", meta.mode(), meta.uid(), meta.gid(), meta.mtime())
            };
            out.push(format!("{} whiteout={whiteout} {body} {rest} as {}", name.display(), first.display()));
            if meta.is_dir() {
                walk(root, top, &name, inodes, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(&RootDir::open(dir).unwrap(), dir, Path::new(""), &mut BTreeMap::new(), &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_survives_diff_and_apply(tree in tree()) {
        let scratch = Scratch::new();
        let lease = scratch.lease();
        let upper = scratch.dir.path().join("upper");
        std::fs::create_dir(&upper).unwrap();
        build(scratch.store.inner.marks, &upper, &tree, &mut Vec::new());
        let mut bytes = Vec::new();
        let summary = diff(&upper, DiffOptions::default(), &mut bytes).unwrap();
        let applied = scratch.apply(&lease, &bytes).unwrap();
        prop_assert_eq!(applied.diff_id, summary.diff_id);
        prop_assert_eq!(applied.size, summary.size);
        let layer = scratch.store.add_layer(&lease, applied, None).unwrap();
        let dir = scratch.store.layer_dir(&layer);
        prop_assert_eq!(describe(&dir), describe(&upper));
        let mut again = Vec::new();
        diff(&dir, DiffOptions::default(), &mut again).unwrap();
        prop_assert!(again == bytes, "the diff of the copy differs");
    }
}
