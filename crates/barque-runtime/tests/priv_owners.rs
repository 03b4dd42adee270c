//! Id-mapped binds: who owns files in the container, and on the host after the container wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod common;

use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use barque_model::IdMap;
use barque_runtime::Spec;
use barque_runtime::spec::{Mount, MountOptions, MountSource};
use common::{Lab, refused};

fn owner(path: &Path) -> (u32, u32) {
    let meta = path.symlink_metadata().unwrap();
    (meta.uid(), meta.gid())
}

/// A directory of 1234:5678 with a file of the same, and one of root's.
fn directory(lab: &Lab, name: &str) -> PathBuf {
    let dir = lab.path(name);
    std::fs::create_dir(&dir).unwrap();
    for (file, uid, gid) in [("theirs", 1234, 5678), ("roots", 0, 0)] {
        std::fs::write(dir.join(file), "x\n").unwrap();
        chown(dir.join(file), Some(uid), Some(gid)).unwrap();
    }
    chown(&dir, Some(1234), Some(5678)).unwrap();
    dir
}

fn spec(lab: &Lab, dir: &Path, map: &str, user: &str, script: &str) -> Spec {
    let owners = Some(map.parse::<IdMap>().unwrap());
    let source = MountSource::Bind { path: dir.to_owned(), subpath: None, recursive: true, owners };
    let mut spec = lab.spec(&["sh", "-c", script]);
    spec.process.user = user.to_owned();
    spec.mounts.push(Mount { target: "/m".into(), source, options: MountOptions::default() });
    spec
}

#[test]
fn the_owner_of_a_bind_appears_as_the_containers_user() {
    needs_root!();
    let lab = Lab::new();
    let script = "cd /m; stat -c '%n %u:%g' . theirs roots; id -u; echo new > made && stat -c %u:%g made; mkdir dir";
    for (map, user, seen) in
        [("match-user", "bob", "1000:1000"), ("", "7:8", "7:8"), ("match-user:bob", "", "1000:1000")]
    {
        let dir = directory(&lab, &format!("host-{user}"));
        let (exit, out, err) = lab.run(&spec(&lab, &dir, map, user, script));
        let expected = format!(". {seen}\ntheirs {seen}\nroots 65534:65534\n");
        assert!(out.starts_with(&expected), "{map} as {user}: {exit:?} {out} {err}");
        if map != "match-user:bob" {
            assert!(out.ends_with(&format!("{seen}\n")), "{map} as {user}: {out} {err}");
            assert_eq!((owner(&dir.join("made")), owner(&dir.join("dir"))), ((1234, 5678), (1234, 5678)));
        } else {
            // The process is root, who is nobody to this mount.
            assert!(!dir.join("made").exists(), "{err}");
        }
        assert_eq!(owner(&dir.join("theirs")), (1234, 5678), "nothing changed on the host");
    }
}

#[test]
fn ranges_map_what_they_name() {
    needs_root!();
    let lab = Lab::new();
    let dir = directory(&lab, "host");
    let script = "cd /m; stat -c '%n %u:%g' theirs roots; touch made; touch other && chown 3:0 other; chown 9:0 other";
    let mut one = spec(&lab, &dir, "uids=1234-0-1#0-3-1", "0:0", &script.replace("chown", "busybox chown"));
    let (exit, out, err) = lab.run(&one);
    // Groups without a range are as they are.
    assert_eq!(out, "theirs 0:5678\nroots 3:0\n", "{exit:?} {err}");
    assert_eq!(owner(&dir.join("made")), (1234, 0), "{err}");
    assert_eq!(owner(&dir.join("other")), (0, 0), "{err}");
    assert!(err.contains("Value too large"), "an id without a range cannot be stored: {err}");
    one = spec(&lab, &dir, "uids=1234-0-1;gids=5678-0-1", "", "cat /m/theirs; touch /m/ro");
    one.mounts.last_mut().unwrap().options.readonly = barque_runtime::spec::ReadOnly::Yes;
    let (_, out, err) = lab.run(&one);
    assert!(out == "x\n" && err.contains("Read-only file system"), "{out} {err}");
}

#[test]
fn what_cannot_be_mapped_says_why_and_what_to_do() {
    needs_root!();
    let lab = Lab::new();
    let (_, text) = refused(&lab, &spec(&lab, Path::new("/proc"), "uids=0-1-1", "", "true"));
    assert!(text.contains("cannot map the owners of /proc: its file system (proc) cannot map owners"), "{text}");
    let (kind, text) = refused(&lab, &spec(&lab, &directory(&lab, "d"), "match-user:nobody-here", "", "true"));
    assert!(text.contains("unable to find user nobody-here"), "{kind:?} {text}");
    // A mount below that cannot be mapped.
    let dir = directory(&lab, "above");
    std::fs::create_dir(dir.join("below")).unwrap();
    let text = barque_sys::mount::in_private_mounts(|| {
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("p", dir.join("below"), "proc", flags, c"")?;
        Ok(refused(&lab, &spec(&lab, &dir, "", "", "true")).1)
    });
    let text = text.unwrap();
    assert!(text.contains("a file system mounted below it cannot map owners"), "{text}");
}
