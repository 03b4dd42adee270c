//! The engine on scratch roots in a network namespace of its own: run, exec, copy, stop, volumes, networks, restore.

mod common;

use std::path::Path;

use barque_engine::container::request::{AttachOptions, CreateContainer, ExecSpec, RemoveOptions, StopOptions};
use barque_engine::container::request::{WaitCondition, WaitResult};
use barque_engine::container::spec::{ContainerSpec, MountSource, MountSpec, NetworkMode};
use barque_engine::container::{CopyInOptions, ExecStart};
use barque_engine::network::types::CreateNetwork;
use barque_engine::{Engine, EngineConfig};
use common::{cgroup_parent, on_machine, spawner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn open(dir: &Path) -> Engine {
    let mut config = EngineConfig::new(dir.join("data"), dir.join("exec"));
    config.cgroup_parent = Some(format!("/{}", cgroup_parent()));
    let engine = Engine::open(config, spawner()).await.unwrap();
    if engine.image("busybox").await.is_err() {
        let name = Some("busybox".parse().unwrap());
        let archive = Box::pin(std::io::Cursor::new(busybox_root()));
        engine.image_import(archive, name, String::new(), vec!["CMD [\"sh\"]".into()], None).await.unwrap();
    }
    engine
}

/// The tar of a root file system with busybox and a user.
fn busybox_root() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, mode: u32, kind: tar::EntryType, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        header.set_mtime(1_700_000_000);
        tar.append_data(&mut header, path, bytes).unwrap();
    };
    for dir in ["bin/", "etc/", "tmp/", "data/", "proc/", "sys/", "dev/"] {
        add(dir, 0o755, tar::EntryType::Directory, b"");
    }
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    add("bin/busybox", 0o755, tar::EntryType::Regular, &busybox);
    add("etc/passwd", 0o644, tar::EntryType::Regular, b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/:/bin/sh\n");
    add("etc/group", 0o644, tar::EntryType::Regular, b"root:x:0:\nweb:x:33:\n");
    add("data/seed", 0o640, tar::EntryType::Regular, b"seed");
    for name in ["sh", "true", "cat", "echo", "sleep", "id", "env", "ls", "touch", "wc", "hostname", "nslookup", "ip"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").unwrap();
    }
    tar.into_inner().unwrap()
}

fn spec(args: &[&str]) -> ContainerSpec {
    let mut spec = ContainerSpec { image_ref: "busybox".into(), ..ContainerSpec::default() };
    spec.process.cmd = Some(args.iter().map(|s| (*s).to_owned()).collect());
    spec.process.attach_stdout = true;
    spec.process.attach_stderr = true;
    spec
}

async fn create(engine: &Engine, name: &str, spec: ContainerSpec) -> String {
    let request = CreateContainer { name: Some(name.into()), spec, ..CreateContainer::default() };
    engine.container_create(request).await.unwrap().id.to_string()
}

/// Runs to the end; gives exit status and what was printed, without frames.
async fn run(engine: &Engine, name: &str, spec: ContainerSpec) -> (WaitResult, String) {
    let id = create(engine, name, spec).await;
    let options = AttachOptions { stdout: true, stderr: true, stream: true, ..AttachOptions::default() };
    let mut stream = engine.container_attach(&id, options).await.unwrap();
    let wait = engine.container_wait(&id, WaitCondition::NextExit).await.unwrap();
    engine.container_start(&id).await.unwrap();
    let mut bytes = Vec::new();
    stream.output.read_to_end(&mut bytes).await.unwrap();
    (wait.await.unwrap(), unframed(&bytes))
}

fn unframed(mut bytes: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((header, rest)) = bytes.split_at_checked(8) {
        let length = u32::from_be_bytes(header[4..].try_into().unwrap()) as usize;
        text.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    String::from_utf8(text).unwrap()
}

async fn exec(engine: &Engine, container: &str, args: &[&str]) -> (i32, String) {
    let mut exec = ExecSpec::default();
    exec.process.cmd = Some(args.iter().map(|s| (*s).to_owned()).collect());
    exec.process.attach_stdout = true;
    exec.process.attach_stderr = true;
    let id = engine.exec_create(container, exec).await.unwrap().to_string();
    let mut stream = engine.exec_start(&id, ExecStart::default()).await.unwrap().unwrap();
    let mut bytes = Vec::new();
    stream.output.read_to_end(&mut bytes).await.unwrap();
    for _ in 0..200 {
        if let Some(code) = engine.exec_inspect(&id).await.unwrap().exit_code {
            return (code, unframed(&bytes));
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the exec never ended");
}

#[test]
fn a_container_runs_and_is_logged() {
    on_machine(async |dir| {
        let engine = open(dir).await;
        let (exit, out) = run(&engine, "hello", spec(&["sh", "-c", "echo hi; hostname; exit 7"])).await;
        assert_eq!(exit.code, 7);
        let view = engine.container("hello").unwrap();
        assert_eq!(out, format!("hi\n{}\n", view.id.short()));
        assert_eq!(view.state.status(), "exited");
        let log = std::fs::read_to_string(&view.log_path).unwrap();
        assert!(log.contains(r#""log":"hi\n""#), "{log}");
        let missing = create(&engine, "missing", spec(&["nonsense"])).await;
        let error = engine.container_start(&missing).await.unwrap_err();
        assert!(error.to_string().contains("executable file not found in $PATH"), "{error}");
        engine.container_remove("hello", RemoveOptions::default()).await.unwrap();
        assert!(engine.container("hello").is_err());
    });
}

#[test]
fn exec_copy_and_stop_work_on_a_running_container() {
    on_machine(async |dir| {
        let engine = open(dir).await;
        let mut sleeper = spec(&["sleep", "1000"]);
        sleeper.stop_signal = Some(barque_model::Signal::KILL);
        let id = create(&engine, "sleeper", sleeper).await;
        engine.container_start(&id).await.unwrap();
        assert_eq!(exec(&engine, "sleeper", &["sh", "-c", "echo in; exit 3"]).await, (3, "in\n".into()));
        let (stat, mut stream) = engine.container_copy_out("sleeper", "/etc/passwd").await.unwrap();
        assert_eq!(stat.name, "passwd");
        let mut tar_bytes = Vec::new();
        stream.read_to_end(&mut tar_bytes).await.unwrap();
        let archive = Box::pin(std::io::Cursor::new(tar_bytes));
        engine.container_copy_in("sleeper", "/tmp", archive, CopyInOptions::default()).await.unwrap();
        let (code, text) = exec(&engine, "sleeper", &["cat", "/tmp/passwd"]).await;
        assert!(code == 0 && text.starts_with("root:"), "{text}");
        let changes = engine.container_changes("sleeper").await.unwrap();
        assert!(changes.iter().any(|c| c.path == "/tmp/passwd"), "{changes:?}");
        engine.container_stop("sleeper", StopOptions::default()).await.unwrap();
        let view = engine.container("sleeper").unwrap();
        assert_eq!(view.state.last_exit().unwrap().code, 137);
        // Its files can be had while it is stopped, too.
        assert!(engine.container_stat_path("sleeper", "/tmp/passwd").await.is_ok());
        engine.container_remove("sleeper", RemoveOptions::default()).await.unwrap();
    });
}

#[test]
fn standard_input_reaches_the_process() {
    on_machine(async |dir| {
        let engine = open(dir).await;
        let mut counting = spec(&["wc", "-c"]);
        counting.process.open_stdin = true;
        counting.process.stdin_once = true;
        let id = create(&engine, "count", counting).await;
        let options =
            AttachOptions { stdin: true, stdout: true, stderr: true, stream: true, ..AttachOptions::default() };
        let stream = engine.container_attach(&id, options).await.unwrap();
        engine.container_start(&id).await.unwrap();
        let (mut input, mut output) = (stream.input, stream.output);
        let feed = tokio::spawn(async move {
            input.write_all(&vec![b'x'; 3 << 20]).await.unwrap();
            input.shutdown().await.unwrap();
        });
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).await.unwrap();
        feed.await.unwrap();
        assert_eq!(unframed(&bytes).trim(), (3 << 20).to_string());
        engine.container_remove(&id, RemoveOptions { force: true, volumes: true }).await.unwrap();
    });
}

#[test]
fn volumes_are_filled_from_the_image_and_outlive_containers() {
    on_machine(async |dir| {
        let engine = open(dir).await;
        let with_volume = |args: &[&str]| {
            let mut spec = spec(args);
            spec.mounts.push(MountSpec {
                target: "/data".into(),
                source: MountSource::Volume {
                    name: Some("keep".into()),
                    anonymous: false,
                    driver: String::new(),
                    labels: Default::default(),
                    options: Default::default(),
                    no_copy: false,
                    subpath: None,
                },
                read_only: false,
                recursive_read_only: false,
                top_read_only: false,
                propagation: None,
                mode: String::new(),
            });
            spec
        };
        let (exit, out) =
            run(&engine, "one", with_volume(&["sh", "-c", "cat /data/seed; echo more > /data/more"])).await;
        assert_eq!((exit.code, out.as_str()), (0, "seed"));
        let (_, out) = run(&engine, "two", with_volume(&["cat", "/data/more"])).await;
        assert_eq!(out, "more\n");
        let error = engine.volume_remove("keep", false).await.unwrap_err();
        assert!(error.to_string().contains("volume is in use"), "{error}");
        for name in ["one", "two"] {
            engine.container_remove(name, RemoveOptions::default()).await.unwrap();
        }
        engine.volume_remove("keep", false).await.unwrap();
    });
}

#[test]
fn names_resolve_on_networks_of_the_user() {
    on_machine(async |dir| {
        let engine = open(dir).await;
        engine.network_create(CreateNetwork { name: "lan".into(), ..CreateNetwork::default() }).await.unwrap();
        let on_lan = |args: &[&str]| {
            let mut spec = spec(args);
            spec.network.mode = NetworkMode::Named("lan".into());
            spec
        };
        let id = create(&engine, "server", on_lan(&["sleep", "1000"])).await;
        engine.container_start(&id).await.unwrap();
        let address = engine.container("server").unwrap().endpoints[0].ipv4.unwrap().to_string();
        let (exit, out) = run(&engine, "client", on_lan(&["nslookup", "server"])).await;
        assert!(exit.code == 0 && out.contains(&address), "{out}");
        let error = engine.network_remove("lan").await.unwrap_err();
        assert!(error.to_string().contains("active endpoints"), "{error}");
        for name in ["server", "client"] {
            engine.container_remove(name, RemoveOptions { force: true, volumes: false }).await.unwrap();
        }
        engine.network_remove("lan").await.unwrap();
    });
}

#[test]
fn networks_made_at_once_get_different_subnets() {
    on_machine(async |dir| {
        let engine = open(dir).await;
        let made = (0..8).map(|n| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let request = CreateNetwork { name: format!("lan{n}"), ..CreateNetwork::default() };
                engine.network_create(request).await.unwrap();
            })
        });
        for task in made.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let subnets: std::collections::BTreeSet<_> =
            engine.networks().await.unwrap().iter().flat_map(|n| n.pools.clone()).filter_map(|p| p.subnet).collect();
        assert_eq!(subnets.len(), 9, "{subnets:?}");
        for n in 0..8 {
            engine.network_remove(&format!("lan{n}")).await.unwrap();
        }
    });
}

#[test]
fn containers_outlive_the_engine() {
    on_machine(async |dir| {
        let engine = open(dir).await;
        let id = create(&engine, "survivor", spec(&["sh", "-c", "sleep 1; echo late; exit 5"])).await;
        engine.container_start(&id).await.unwrap();
        let pid = engine.container("survivor").unwrap().state.running().unwrap().pid;
        engine.shutdown().await;
        drop(engine);
        // What a killed engine holds open goes with its tasks.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let engine = loop {
            // The store's lock is held until the last task of the former engine has ended.
            if let Ok(lock) = std::fs::File::open(dir.join("data/lock"))
                && lock.try_lock().is_ok()
            {
                drop(lock);
                break open(dir).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        let view = engine.container("survivor").unwrap();
        match view.state.running() {
            Some(running) => assert_eq!(running.pid, pid),
            None => assert_eq!(view.state.last_exit().unwrap().code, 5),
        }
        let wait = engine.container_wait("survivor", WaitCondition::NotRunning).await.unwrap();
        assert_eq!(wait.await.unwrap().code, 5);
        let log = std::fs::read_to_string(&view.log_path).unwrap();
        assert!(log.contains("late"), "{log}");
        engine.container_remove("survivor", RemoveOptions::default()).await.unwrap();
    });
}
