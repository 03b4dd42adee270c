//! Volumes as objects where it hurts: copies of volumes that are mounts, and changes at once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use pair::{Engine, in_namespaces};

#[test]
fn priv_a_clone_is_a_copy_whatever_the_volume_is() {
    in_namespaces("priv_a_clone_is_a_copy_whatever_the_volume_is", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let host = scratch.join("host");
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("file"), "before\n").unwrap();
        let device = format!("device={}", host.display());
        engine.ok(&["volume", "create", "--label", "a=b", "-o", "type=none", "-o", "o=bind", "-o", &device, "bound"]);
        engine.ok(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory"]);
        let fill = "echo before > /d/file; sleep 1000";
        engine.ok(&["run", "-d", "--name", "holds", "-v", "memory:/d", "box", "sh", "-c", fill]);
        for name in ["bound", "memory"] {
            let copy = format!("{name}-copy");
            engine.ok(&["volume", "clone", name, &copy]);
            engine.ok(&["run", "--rm", "-v", &format!("{name}:/d"), "box", "sh", "-c", "echo after > /d/file"]);
            let read = ["run", "--rm", "-v", &format!("{copy}:/d"), "box", "cat", "/d/file"];
            assert_eq!(engine.ok(&read), "before", "{name}");
        }
        assert_eq!(engine.ok(&["volume", "inspect", "-f", "{{json .Labels}}", "bound-copy"]), r#"{"a":"b"}"#);
        engine.fails(&["volume", "clone", "bound", "memory"], "a volume named memory already exists");
        assert_eq!(std::fs::read(host.join("file")).unwrap(), b"after\n");
        engine.fails(&["volume", "rename", "memory", "other"], "volume memory is in use by container holds");
    });
}

#[test]
fn priv_volumes_made_and_removed_at_once_are_whole_or_not_there() {
    in_namespaces("priv_volumes_made_and_removed_at_once_are_whole_or_not_there", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        for round in 0..12 {
            let commands: [&[&str]; 5] = [
                &["volume", "create", "contested"],
                &["volume", "rm", "contested"],
                &["create", "--name", "holder", "-v", "contested:/d", "box", "true"],
                &["volume", "create", "contested"],
                &["volume", "rm", "-f", "contested"],
            ];
            let mut children: Vec<_> = commands.iter().map(|c| engine.command(c).spawn().unwrap()).collect();
            let done: Vec<bool> = children.iter_mut().map(|c| c.wait().unwrap().success()).collect();
            assert!(done[0] && done[2] && done[3], "round {round}: creating never fails: {done:?}");
            let dir = engine.dir.join("data/volumes/contested/_data");
            assert!(dir.is_dir(), "round {round}: a volume in use has its directory");
            engine.ok(&["start", "-a", "holder"]);
            engine.ok(&["rm", "holder"]);
            engine.ok(&["volume", "rm", "contested"]);
            assert!(!dir.exists(), "round {round}: a removed volume has none");
        }
    });
}

#[test]
fn priv_volumes_travel_as_archives() {
    in_namespaces("priv_volumes_travel_as_archives", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let fill = "cd /d; mkdir -m 2750 sub; echo deep > sub/file; chown 33:44 sub/file; ln -s sub/file link; \
                    ln sub/file hard; mkfifo pipe; echo gone > other; rm other";
        engine.ok(&["run", "--rm", "-v", "from:/d", "box", "sh", "-c", fill]);
        let look = |volume: &str| {
            let script = "cd /d && find . | sort | xargs stat -c '%N %F %a %u:%g %s %h %Y'";
            engine.ok(&["run", "--rm", "-v", &format!("{volume}:/d:ro"), "box", "sh", "-c", script])
        };
        let file = scratch.join("volume.tar").display().to_string();
        engine.ok(&["volume", "export", "-o", &file, "from"]);
        let exported = engine.call(&["volume", "export", "from"]);
        assert!(exported.status.success() && exported.stdout == std::fs::read(&file).unwrap());
        // From a file and from standard input, into one that is made for it and into one that is there.
        engine.ok(&["volume", "create", "there"]);
        engine.ok(&["volume", "import", "there", &file]);
        engine.ok(&["volume", "create", "piped"]);
        let input = std::fs::File::open(&file).unwrap();
        assert!(engine.command(&["volume", "import", "piped", "-"]).stdin(input).status().unwrap().success());
        for copy in ["there", "piped"] {
            assert_eq!(look(copy), look("from"), "{copy}");
        }
        engine.fails(&["volume", "export", "nosuch"], "no such volume");
        std::fs::write(&file, "no archive").unwrap();
        engine.fails(&["volume", "import", "there", &file], "");
        assert_eq!(look("there"), look("from"), "what cannot be read changes nothing");
    });
}
