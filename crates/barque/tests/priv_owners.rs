//! Id-mapped binds from the command line to the owners of files.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on may panic")]

mod pair;

use std::os::unix::fs::{MetadataExt, chown};

use pair::{Engine, in_namespaces, sh};

#[test]
fn priv_owners_of_binds_are_mapped_by_every_form() {
    in_namespaces("priv_owners_of_binds_are_mapped_by_every_form", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let host = scratch.join("host");
        std::fs::create_dir(&host).unwrap();
        chown(&host, Some(4711), Some(4712)).unwrap();
        let at = host.display();
        let script = "touch /m/new && stat -c %u:%g /m /m/new && rm /m/new && touch /m/kept";
        let ranges = "idmap=uids=4711-33-1;gids=4712-33-1";
        let forms = [
            ["-v".to_owned(), format!("{at}:/m:idmap")],
            ["-v".to_owned(), format!("{at}:/m:rw,{ranges}")],
            ["--mount".to_owned(), format!("type=bind,src={at},dst=/m,idmap")],
            ["--mount".to_owned(), format!("type=bind,src={at},dst=/m,{ranges}")],
            ["--mount".to_owned(), format!("type=bind,src={at},dst=/m,bind-idmap=match-user:web")],
        ];
        for [flag, form] in &forms {
            let out = engine.ok(&["run", "--rm", "--user", "web", flag, form, "box", "sh", "-c", script]);
            assert_eq!(out, "33:33\n33:33", "{form}");
            let kept = host.join("kept").metadata().unwrap();
            assert_eq!((kept.uid(), kept.gid()), (4711, 4712), "{form}");
            std::fs::remove_file(host.join("kept")).unwrap();
        }
        let [flag, form] = &forms[4];
        engine.ok(&["create", "--name", "mapped", flag, form, "-v", &format!("{at}:/n:idmap"), "box", "true"]);
        let shown = engine.ok(&["inspect", "-f", "{{json .HostConfig.Mounts}} {{json .HostConfig.Binds}}", "mapped"]);
        assert!(shown.contains(r#""BindOptions":{"IDMapping":{"Source":"match-user","User":"web"}}"#), "{shown}");
        assert!(shown.contains(&format!(r#"["{at}:/n:idmap"]"#)), "{shown}");
        let overlay = ["run", "--rm", "-v", "/proc:/m:idmap", "box", "true"];
        let said = engine.fails(&overlay, "cannot map the owners of /proc: its file system (proc) cannot map owners");
        assert!(said.contains("--user \"$(stat -c %u:%g /proc)\""), "the cure: {said}");
        engine.fails(&["run", "--rm", "-v", "vol:/m:idmap", "box", "true"], "invalid mode: idmap");
    });
}

/// Copies see and give the owners that processes in the container would, whether there is one or not.
#[test]
fn priv_copies_through_mapped_binds_are_the_same_in_every_state() {
    in_namespaces("priv_copies_through_mapped_binds_are_the_same_in_every_state", |scratch| {
        let engine = Engine::barque(scratch, &[]);
        engine.import_busybox("box", &["ENV PATH=/bin"]);
        let (host, payload) = (scratch.join("host"), scratch.join("payload"));
        std::fs::create_dir(&host).unwrap();
        std::fs::write(host.join("kept"), "k").unwrap();
        std::fs::write(&payload, "p").unwrap();
        for path in [&host, &host.join("kept")] {
            chown(path, Some(4711), Some(4712)).unwrap();
        }
        let (at, payload) = (host.display(), payload.display().to_string());
        let owner = |archived: &str| {
            let tar = scratch.join("out.tar");
            let out = engine.call(&["cp", archived, "-"]);
            assert!(out.status.success(), "{archived}: {}", String::from_utf8_lossy(&out.stderr));
            std::fs::write(&tar, out.stdout).unwrap();
            let listed = sh(&format!("tar --numeric-owner -tvf {}", tar.display()));
            listed.split_whitespace().nth(1).unwrap_or_default().to_owned()
        };
        // To root something is mapped, or only to another user, who alone can create.
        for (form, user, shown) in [
            ("idmap=uids=4711-0-1;gids=4712-0-1", "", "0/0"),
            ("idmap", "", "0/0"),
            ("idmap", "web", "33/33"),
            ("bind-idmap=match-user:web", "", "33/33"),
        ] {
            let mount = format!("type=bind,src={at},dst=/m,{form}");
            let options = ["create", "--name", "mapped", "--network", "none", "--mount", &mount, "--user", user];
            engine.ok(&[&options[..], &["box", "sleep", "1000"]].concat());
            for state in ["created", "running", "stopped"] {
                match state {
                    "running" => drop(engine.ok(&["start", "mapped"])),
                    "stopped" => drop(engine.ok(&["stop", "-t", "0", "mapped"])),
                    _ => {}
                }
                assert_eq!(owner("mapped:/m/kept"), shown, "{form} {user}, {state}");
                let (put, target) = (host.join("put"), "mapped:/m/put");
                if shown != "0/0" {
                    engine.fails(&["cp", &payload, target], "cannot create /m/put: the mount there maps owners");
                    assert!(!put.exists(), "{form} {user}, {state}");
                    continue;
                }
                engine.ok(&["cp", &payload, target]);
                let meta = put.metadata().unwrap();
                assert_eq!((meta.uid(), meta.gid()), (4711, 4712), "{form}, {state}");
                std::fs::remove_file(&put).unwrap();
            }
            engine.ok(&["rm", "mapped"]);
        }
    });
}
