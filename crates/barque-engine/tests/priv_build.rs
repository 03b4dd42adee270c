//! Builds on real engines: mounts, shared layers, failures that are kept, caches that travel, hostile contexts, the
//! same digest twice.

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use barque_build::event::{BuildEvent, EventSink};
use barque_build::options::{BuildOptions, Secret};
use barque_engine::build::{
    BuildError, BuildJob, BuildResult, ContextSource, DockerfileSource, NamedSource, PruneOptions,
};
use barque_engine::container::request::TarStream;
use barque_engine::image::types::ArchiveInput;
use barque_engine::{Engine, EngineConfig};
use barque_model::Timestamp;
use common::{cgroup_parent, on_machine, spawner};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

async fn open(dir: &Path) -> Engine {
    let mut config = EngineConfig::new(dir.join("data"), dir.join("exec"));
    config.cgroup_parent = Some(format!("/{}", cgroup_parent()));
    if dir.ends_with(SECOND) {
        // Beside the first, which has the default network's usual bridge.
        config.network.bridge = Some("second0".into());
        config.network.bip = Some("10.98.7.1/24".parse().unwrap());
    }
    Engine::open(config, spawner()).await.unwrap()
}

/// The directory of a second engine.
const SECOND: &str = "second";

/// A context with busybox in it, and the lines that make it a base.
fn context(dir: &Path) -> PathBuf {
    let context = dir.join("context");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::copy("/bin/busybox", context.join("busybox")).expect("busybox-static is installed");
    std::fs::write(context.join("passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/home/web:/bin/sh\n").unwrap();
    context
}

const BASE: &str = "FROM scratch AS base\nCOPY busybox /bin/busybox\nCOPY passwd /etc/passwd\n\
                    RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\nENV PATH=/bin\nFROM base\n";

struct Built {
    result: Result<BuildResult, BuildError>,
    /// Names of vertices the cache answered.
    cached: Vec<String>,
    log: String,
}

impl Built {
    fn ok(self) -> BuildResult {
        self.result.unwrap_or_else(|e| panic!("{}\n{}", e.error.chain(), self.log))
    }

    fn is_cached(&self, text: &str) -> bool {
        self.cached.iter().any(|name| name.contains(text))
    }
}

async fn build(engine: &Engine, context: &Path, text: &str, change: impl FnOnce(&mut BuildJob)) -> Built {
    let mut job = BuildJob {
        context: ContextSource::Directory(context.to_owned()),
        dockerfile: DockerfileSource::Inline(text.as_bytes().to_vec(), "Dockerfile".into()),
        options: BuildOptions::new(PathBuf::new()),
        ignore: None,
        contexts: Vec::new(),
        archive: None,
        cache_from: Vec::new(),
        tags: Vec::new(),
        auth: Vec::new(),
        export: false,
    };
    change(&mut job);
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let events = events.clone();
        EventSink::new(move |e| events.lock().unwrap().push(e))
    };
    let result = engine.build(job, sink, CancellationToken::new()).await;
    let (mut names, mut cached, mut log) = (std::collections::HashMap::new(), Vec::new(), String::new());
    for event in events.lock().unwrap().iter() {
        match event {
            BuildEvent::Planned { vertices, .. } => names.extend(vertices.iter().map(|v| (v.id, v.name.clone()))),
            BuildEvent::Cached { vertex, .. } => cached.extend(names.get(vertex).cloned()),
            BuildEvent::Log { data, .. } => log.push_str(&String::from_utf8_lossy(data)),
            _ => {}
        }
    }
    Built { result, cached, log }
}

/// The files of a result, unpacked below `dir`.
async fn files(result: BuildResult, dir: &Path) -> PathBuf {
    let mut bytes = Vec::new();
    result.files.expect("files were asked for").read_to_end(&mut bytes).await.unwrap();
    let out = dir.join(format!("out-{}", barque_model::Id::random().short()));
    let tar = out.with_extension("tar");
    std::fs::write(&tar, &bytes).unwrap();
    std::fs::create_dir(&out).unwrap();
    let status = std::process::Command::new("tar").arg("-xpf").arg(&tar).arg("-C").arg(&out).status().unwrap();
    assert!(status.success());
    out
}

async fn load(engine: &Engine, archive: Vec<u8>) {
    let (progress, _nobody) = tokio::sync::mpsc::unbounded_channel();
    engine
        .image_load(ArchiveInput::Stream(Box::pin(std::io::Cursor::new(archive))), progress, Vec::new())
        .await
        .unwrap();
}

fn exported(job: &mut BuildJob) {
    job.export = true;
    job.options.make_image = false;
}

#[test]
fn mounts_of_every_kind() {
    on_machine(async |dir| {
        let (engine, context) = (open(dir).await, context(dir));
        let text = format!(
            "{}{}",
            "FROM scratch AS parts\nCOPY passwd /a/b/one\nCOPY passwd /a/b/two\n",
            BASE.to_owned()
                + "RUN --mount=type=bind,rw,target=/mnt echo new > /mnt/new && ls /mnt > /seen && mkdir /mnt/sub\n\
                   RUN --mount=from=parts,source=/a/b,target=/x ls /x > /parts\n\
                   RUN --mount=from=parts,source=/a/b/two,target=/f wc -l < /f > /file\n\
                   RUN --mount=type=secret,id=s,mode=0400,uid=33 ls -ln /run/secrets/s > /ls && cat /run/secrets/s > /s\n\
                   RUN --mount=type=cache,target=/c,from=parts,source=/a,sharing=locked ls /c > /cache && echo 1 >> /c/n\n\
                   RUN --mount=type=cache,target=/c,sharing=locked cat /c/n > /kept\n\
                   RUN --mount=type=tmpfs,target=/t echo x > /t/x\n\
                   RUN echo $HOME > /home-of-root\nUSER web\nRUN echo $HOME > /tmp/h 2>/dev/null || echo \"$HOME\"\n"
        );
        let built = build(&engine, &context, &text, |job| {
            exported(job);
            job.options.secrets.insert("s".into(), Secret(b"word".as_slice().into()));
        })
        .await;
        assert!(built.log.contains("/home/web\n"), "{}", built.log);
        let out = files(built.ok(), dir).await;
        let private = std::fs::metadata(dir.join("exec/build")).unwrap().permissions().mode() & 0o7777;
        assert_eq!(private, 0o700, "secrets lay there");
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(read("seen"), "busybox\nnew\npasswd\n");
        assert!(!context.join("new").exists() && !context.join("sub").exists(), "the context is not written to");
        assert_eq!((read("parts").as_str(), read("file").trim()), ("one\ntwo\n", "2"));
        assert!(read("ls").starts_with("-r--------    1 33"), "{}", read("ls"));
        assert_eq!((read("s").as_str(), read("cache").as_str(), read("kept").as_str()), ("word", "b\n", "1\n"));
        assert_eq!(read("home-of-root"), "/root\n");
        for mount_point in ["mnt", "x", "f", "c", "t", "run"] {
            assert!(!out.join(mount_point).exists(), "/{mount_point} stays in the layer");
        }
    });
}

#[test]
fn mounts_hide_what_the_ignore_file_excludes() {
    on_machine(async |dir| {
        let (engine, context) = (open(dir).await, context(dir));
        for name in ["src/main", "src/secret", "deep/only/hidden", "modules/a/b"] {
            std::fs::create_dir_all(context.join(name).parent().unwrap()).unwrap();
            std::fs::write(context.join(name), name).unwrap();
        }
        std::fs::set_permissions(context.join("src"), std::fs::Permissions::from_mode(0o750)).unwrap();
        std::fs::write(context.join(".dockerignore"), "**/secret\ndeep/only\nmodules\n!modules/a/b\n").unwrap();
        let text = format!(
            "{BASE}RUN --mount=type=bind,target=/mnt cd /mnt && find . -type f | sort > /all && stat -c %a src > /mode\n\
             RUN --mount=type=bind,rw,source=src,target=/w echo new > /w/new && ls /w > /writable\n"
        );
        let run = async |wanted: bool| {
            let built = build(&engine, &context, &text, exported).await;
            assert_eq!(built.is_cached("--mount=type=bind,target"), wanted, "{:?}", built.cached);
            built.ok()
        };
        let out = files(run(false).await, dir).await;
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(read("all"), "./.dockerignore\n./busybox\n./modules/a/b\n./passwd\n./src/main\n");
        assert_eq!((read("mode").as_str(), read("writable").as_str()), ("750\n", "main\nnew\n"));
        // What is not seen does not count.
        std::fs::write(context.join("src/secret"), "another").unwrap();
        run(true).await;
        std::fs::write(context.join("src/main"), "another").unwrap();
        run(false).await;
    });
}

#[test]
fn linked_copies_survive_their_base() {
    on_machine(async |dir| {
        let (engine, context) = (open(dir).await, context(dir));
        let text = |n: u32| {
            format!("{BASE}RUN echo {n} > /n\nCOPY --link passwd /deep/er/passwd\nRUN cat /n /deep/er/passwd\n")
        };
        build(&engine, &context, &text(1), |_| {}).await.ok();
        let again = build(&engine, &context, &text(2), |_| {}).await;
        assert!(again.is_cached("COPY --link"), "{:?}", again.cached);
        assert!(again.log.starts_with("2\nroot:"), "{}", again.log);
        // Twice the same copy: the same files twice below a step.
        let twice = text(3).replace("RUN cat", "COPY --link passwd /deep/er/passwd\nRUN cat");
        let built = build(&engine, &context, &twice, |_| {}).await;
        assert!(built.log.starts_with("3\nroot:"), "{}", built.log);
        built.ok();
        let image = again.ok().image.unwrap().to_string();
        let mut saved = Vec::new();
        engine
            .image_save(std::slice::from_ref(&image), Vec::new())
            .await
            .unwrap()
            .read_to_end(&mut saved)
            .await
            .unwrap();
        let second = open(&dir.join(SECOND)).await;
        load(&second, saved).await;
        assert_eq!(second.image(&image).await.unwrap().id.to_string(), image);
    });
}

#[test]
fn pruning_takes_nothing_from_a_build_that_goes_on() {
    on_machine(async |dir| {
        let (engine, context) = (open(dir).await, context(dir));
        let known = format!("{BASE}RUN echo kept > /k\n");
        build(&engine, &context, &known, exported).await.ok();
        let text = format!("{} AS known\nRUN echo kept > /k\nFROM base\n", BASE.trim_end())
            + "RUN sleep 3\nCOPY --from=known /k /k\nRUN cat /k\n";
        let prune = async {
            tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
            let options = PruneOptions { all: true, ..PruneOptions::default() };
            engine.build_prune(options, |_| true).await.unwrap()
        };
        let (built, (pruned, _)) = tokio::join!(build(&engine, &context, &text, exported), prune);
        assert!(built.is_cached("RUN echo kept") && !pruned.is_empty(), "{:?} {pruned:?}", built.cached);
        assert_eq!(built.log, "kept\n", "{:?}", built.result.as_ref().err());
        built.ok();
        engine.build_prune(PruneOptions { all: true, ..PruneOptions::default() }, |_| true).await.unwrap();
        assert_eq!(std::fs::read_dir(dir.join("data/build-data")).unwrap().count(), 0);
    });
}

/// What an engine that was killed in the middle of a build leaves.
#[test]
fn nothing_stays_of_builds_that_were_interrupted() {
    on_machine(async |dir| {
        let engine = open(dir).await;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&dir.join("data")), 0o710);
        engine.shutdown().await;
        drop(engine);
        let left = ["data/build/x/context", "exec/build/y", "exec/steps/z", "data/build-mounts/.half"];
        for path in left {
            std::fs::create_dir_all(dir.join(path)).unwrap();
        }
        std::fs::create_dir_all(dir.join("data/build-mounts/whole")).unwrap();
        std::fs::set_permissions(dir.join("data"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let snapshot = barque_model::Id::random();
        {
            let store = barque_store::Store::open(barque_store::StoreOptions::new(dir.join("data"))).unwrap();
            store.create_snapshot(snapshot, None).unwrap();
            store.close().unwrap();
        }
        let engine = open(dir).await;
        assert_eq!(mode(&dir.join("data")), 0o710);
        for path in ["data/build/x", "exec/build/y", "exec/steps/z", "data/build-mounts/.half"] {
            assert!(!dir.join(path).exists(), "{path} stays");
        }
        assert!(dir.join("data/build-mounts/whole").exists());
        assert!(!dir.join("data/snapshots").join(snapshot.to_string()).exists());
        engine.shutdown().await;
    });
}

fn tar(files: &Path) -> TarStream {
    let output = std::process::Command::new("tar").arg("-cC").arg(files).arg(".").output().unwrap();
    assert!(output.status.success());
    Box::pin(std::io::Cursor::new(output.stdout))
}

#[test]
fn contexts_that_are_sent_aside() {
    on_machine(async |dir| {
        let (engine, context) = (open(dir).await, context(dir));
        let secret = dir.join("secret");
        std::fs::create_dir(&secret).unwrap();
        std::fs::write(secret.join("key"), "private").unwrap();
        let place = |top: &Path| top.join(".barque-contexts").join(barque_model::Digest::of(b"lib").hex());
        let sent = dir.join("sent");
        std::fs::create_dir_all(place(&sent)).unwrap();
        std::fs::write(place(&sent).join("key"), "of lib").unwrap();
        let text = "FROM scratch\nCOPY --from=lib key /key\n";
        let with = |context: ContextSource, archive: Option<TarStream>| {
            build(&engine, &secret, text, |job| {
                exported(job);
                job.context = context;
                job.archive = archive;
                job.contexts = vec![("lib".to_owned(), NamedSource::Archive)];
            })
        };
        for (context, archive) in [
            (ContextSource::Tar(tar(&sent)), None),
            (ContextSource::Empty, Some(tar(&sent))),
            (ContextSource::Directory(context.clone()), Some(tar(&sent))),
        ] {
            let out = files(with(context, archive).await.ok(), dir).await;
            assert_eq!(std::fs::read_to_string(out.join("key")).unwrap(), "of lib");
        }
        // A context of this machine, or an archive, that says what its neighbours are.
        let evil = dir.join("evil");
        std::fs::create_dir_all(place(&evil).parent().unwrap()).unwrap();
        symlink(&secret, place(&evil)).unwrap();
        let whole = dir.join("whole");
        std::fs::create_dir(&whole).unwrap();
        symlink(dir, whole.join(".barque-contexts")).unwrap();
        for (context, archive) in [
            (ContextSource::Directory(evil.clone()), None),
            (ContextSource::Tar(tar(&evil)), None),
            (ContextSource::Tar(tar(&whole)), None),
            (ContextSource::Empty, Some(tar(&evil))),
            (ContextSource::Directory(evil.clone()), Some(tar(&whole))),
        ] {
            let e = with(context, archive).await.result.err().expect("must be refused").error;
            assert!(e.to_string().contains("build context"), "{}", e.chain());
        }
        assert!(place(&evil).symlink_metadata().is_ok(), "the directory of this machine is left alone");
    });
}

#[test]
fn a_failed_step_keeps_its_status_and_its_files() {
    on_machine(async |dir| {
        let (engine, context) = (open(dir).await, context(dir));
        let text = format!("{BASE}WORKDIR /w\nENV A=b\nRUN echo made > made; exit 42\n");
        let failure = build(&engine, &context, &text, |job| job.options.keep_failed = true).await.result.err().unwrap();
        assert_eq!(failure.exit_code, Some(42));
        let kept = failure.kept.unwrap();
        let image = engine.image(&kept.image.to_string()).await.unwrap();
        assert!(
            kept.instruction.starts_with("RUN echo made") && image.config.config.working_dir.as_deref() == Some("/w")
        );
        let top = image.layer_paths.last().unwrap();
        assert_eq!(std::fs::read_to_string(top.join("w/made")).unwrap(), "made\n");
        engine.image_remove(&kept.image.to_string(), true, false).await.unwrap();
    });
}

#[test]
fn the_same_context_and_base_give_the_same_digest() {
    on_machine(async |dir| {
        let context = context(dir);
        std::fs::create_dir_all(context.join("tree/sub")).unwrap();
        for n in 0..50 {
            std::fs::write(context.join(format!("tree/sub/{n}")), n.to_string()).unwrap();
        }
        let text =
            format!("{BASE}COPY tree /tree\nRUN echo built > /built && mkdir -p /x/y\nWORKDIR /new\nLABEL a=b\n");
        let mut ids = Vec::new();
        for name in ["one", "two"] {
            let engine = open(&dir.join(name)).await;
            let epoch = |job: &mut BuildJob| job.options.source_date_epoch = Some(Timestamp::from_secs(1_000_000_000));
            let built = build(&engine, &context, &text, epoch).await.ok();
            ids.push(built.image.unwrap());
            std::thread::sleep(std::time::Duration::from_millis(1100));
            // Times in the context do not count.
            std::fs::write(context.join("tree/sub/7"), "7").unwrap();
        }
        assert_eq!(ids[0], ids[1]);
    });
}

/// The files of a layer below the store, with their inodes, by name.
fn inodes(dir: &Path, into: &mut std::collections::HashMap<String, Vec<u64>>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            inodes(&entry.path(), into);
        } else {
            into.entry(entry.file_name().to_string_lossy().into_owned()).or_default().push(meta.ino());
        }
    }
}

#[test]
fn a_layer_of_links_is_the_layer_that_copies_make() {
    on_machine(async |dir| {
        let engine = open(dir).await;
        let context = context(dir);
        let app = context.join("app");
        for n in 0..200 {
            let dir = app.join(format!("d{}", n % 7));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(format!("f{n}")), format!("content {n}")).unwrap();
        }
        symlink("d1/f1", app.join("link")).unwrap();
        std::fs::hard_link(app.join("d1/f1"), app.join("d2/hard")).unwrap();
        // On a directory that the base has, with a file in the way of one, and owners and modes of its own.
        let text = format!(
            "{BASE}RUN mkdir -p /srv/d3 && echo below > /srv/d3/f3 && chmod 750 /srv/d3\n\
                            COPY --chown=web app /srv/\n"
        );
        let epoch = |job: &mut BuildJob| job.options.source_date_epoch = Some(Timestamp::from_secs(1_000_000_000));
        build(&engine, &context, &text, epoch).await.ok();
        std::fs::write(app.join("d3/f3"), "changed").unwrap();
        std::fs::write(app.join("d3/new"), "new").unwrap();
        std::fs::remove_file(app.join("d4/f4")).unwrap();
        std::fs::set_permissions(app.join("d5/f5"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let linked = build(&engine, &context, &text, epoch).await.ok();
        let mut found = std::collections::HashMap::new();
        inodes(&dir.join("data"), &mut found);
        let distinct = |name: &str| found[name].iter().collect::<std::collections::HashSet<_>>().len();
        // The layer before and the new one.
        assert_eq!((found["f100"].len(), distinct("f100")), (2, 1), "linked");
        assert!(distinct("f3") > 1 && distinct("f5") == 2, "changed ones are copies");

        let copied = build(&engine, &context, &text, |job| {
            epoch(job);
            job.options.no_cache = true;
        });
        assert_eq!(copied.await.ok().image, linked.image);
    });
}

#[test]
fn a_cache_travels_in_an_image() {
    on_machine(async |dir| {
        let (first, context) = (open(&dir.join("one")).await, context(dir));
        let text = format!("{BASE}RUN echo built > /built\nCOPY passwd /copied\n");
        let result = build(&first, &context, &text, |job| job.options.export_cache = true).await.ok();
        let (image, cache) = (result.image.unwrap(), result.cache_image.unwrap());
        assert_ne!(image, cache);
        let mut saved = Vec::new();
        let name = cache.to_string();
        first.image_save(std::slice::from_ref(&name), Vec::new()).await.unwrap().read_to_end(&mut saved).await.unwrap();
        let second = open(&dir.join(SECOND)).await;
        load(&second, saved).await;
        let again = build(&second, &context, &text, |job| job.cache_from = vec![name.clone()]).await;
        assert!(again.is_cached("RUN echo built") && again.is_cached("COPY passwd /copied"), "{:?}", again.cached);
        again.ok();
        // Once it was of use it stays; and what is not used by an image can be pruned by size.
        second.image_remove(&name, true, false).await.unwrap();
        assert!(build(&second, &context, &text, |_| {}).await.is_cached("RUN echo built"));
        let all = PruneOptions { all: true, ..PruneOptions::default() };
        let (keys, _) = second
            .build_prune(PruneOptions { dry: Some(barque_store::Gone::default()), ..all.clone() }, |_| true)
            .await
            .unwrap();
        assert!(!keys.is_empty());
        let (again, _) = second.build_prune(all, |_| true).await.unwrap();
        assert_eq!(keys.len(), again.len());
        assert!(!build(&second, &context, &text, |_| {}).await.is_cached("RUN echo built"));
    });
}

/// Builds several stages, takes the cache to another engine and builds there; with `all` it knows every stage.
fn cache_travels(all: bool) {
    on_machine(async move |dir| {
        let (first, context) = (open(&dir.join("one")).await, context(dir));
        let text = format!(
            "{BASE}RUN echo tool > /tool\nFROM scratch AS data\nCOPY passwd /data\n\
             FROM base\nCOPY --from=1 /tool /tool\nCOPY --from=data /data /data\nCOPY --link passwd /copied\n"
        );
        // What is exported comes from the cache itself, where a copy was found by its fast key.
        build(&first, &context, &text, |_| {}).await.ok();
        let export = |job: &mut BuildJob| (job.options.export_cache, job.options.cache_all) = (true, all);
        let cache = build(&first, &context, &text, export).await.ok().cache_image.unwrap().to_string();
        let mut saved = Vec::new();
        let names = std::slice::from_ref(&cache);
        first.image_save(names, Vec::new()).await.unwrap().read_to_end(&mut saved).await.unwrap();
        let second = open(&dir.join(SECOND)).await;
        load(&second, saved).await;
        let again = build(&second, &context, &text, |job| job.cache_from = vec![cache.clone()]).await;
        // Stages of which nothing is needed are told as cached, known or not.
        for step in ["RUN echo tool", "COPY passwd /data", "COPY --from=1", "COPY --link passwd"] {
            assert!(again.is_cached(step), "{step}: {:?}", again.cached);
        }
        again.ok();
        let stage = |job: &mut BuildJob| {
            job.cache_from = vec![cache.clone()];
            job.options.target = "data".into();
        };
        assert_eq!(build(&second, &context, &text, stage).await.is_cached("COPY passwd /data"), all);
        let out = files(build(&second, &context, &text, exported).await.ok(), dir).await;
        assert_eq!(std::fs::read_to_string(out.join("tool")).unwrap(), "tool\n");
        assert_eq!(std::fs::read(out.join("copied")).unwrap(), std::fs::read(context.join("passwd")).unwrap());
    });
}

#[test]
fn the_cache_of_all_stages_travels_if_asked() {
    cache_travels(false);
    cache_travels(true);
}

#[test]
fn hostile_contexts_stay_inside() {
    on_machine(async |dir| {
        let (engine, context) = (open(dir).await, context(dir));
        std::fs::create_dir(context.join("odd")).unwrap();
        let odd = OsStr::from_bytes(b"not \xff utf-8");
        std::fs::write(context.join("odd").join(odd), "odd").unwrap();
        symlink("/etc/hostname", context.join("odd/out")).unwrap();
        symlink("../../../../../../etc", context.join("up")).unwrap();
        symlink("loop", context.join("loop")).unwrap();
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, &context.join("odd/pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let device = rustix::fs::makedev(1, 3);
        mknodat(CWD, &context.join("odd/null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), device).unwrap();
        let out = files(build(&engine, &context, "FROM scratch\nCOPY odd /odd\n", exported).await.ok(), dir).await;
        assert_eq!(std::fs::read(out.join("odd").join(odd)).unwrap(), b"odd");
        assert_eq!(std::fs::read_link(out.join("odd/out")).unwrap(), Path::new("/etc/hostname"), "copied as a link");
        assert!(std::fs::symlink_metadata(out.join("odd/pipe")).unwrap().file_type().is_fifo());
        let null = std::fs::symlink_metadata(out.join("odd/null")).unwrap();
        assert!(null.file_type().is_char_device() && null.rdev() == device, "a device is a device, never its content");
        for escape in ["up/passwd", "up/hostname", "../../etc/passwd", "loop", "odd/out/x"] {
            let text = format!("FROM scratch\nCOPY {escape} /got\n");
            let built = build(&engine, &context, &text, exported).await;
            if let Ok(result) = built.result {
                let out = files(result, dir).await;
                let got = std::fs::symlink_metadata(out.join("got")).map(|m| m.is_file() && m.len() > 0);
                let inside = std::fs::read(context.join("passwd")).unwrap();
                let leaked = got.unwrap_or(false) && std::fs::read(out.join("got")).unwrap() != inside;
                assert!(!leaked, "COPY {escape} read outside of the context");
            }
        }
        // A file that cannot be waited for is no content of a Dockerfile, and modes survive.
        std::fs::set_permissions(context.join("odd").join(odd), std::fs::Permissions::from_mode(0o4711)).unwrap();
        let out = files(build(&engine, &context, "FROM scratch\nCOPY odd /odd\n", exported).await.ok(), dir).await;
        assert_eq!(std::fs::metadata(out.join("odd").join(odd)).unwrap().mode() & 0o7777, 0o4711);
    });
}

#[test]
fn files_that_change_while_they_are_read() {
    on_machine(async |dir| {
        let (engine, context) = (open(dir).await, context(dir));
        let place = context.join("moving");
        std::fs::create_dir(&place).unwrap();
        for n in 0..200 {
            std::fs::write(place.join(n.to_string()), vec![b'a'; 4096]).unwrap();
        }
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writer = {
            let (place, stop) = (place.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut round = 0u32;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    round += 1;
                    let name = (round % 200).to_string();
                    let _ = std::fs::write(place.join(&name), vec![b'b'; (round % 9000) as usize]);
                    let _ = std::fs::remove_file(place.join(((round * 7) % 200).to_string()));
                    let _ = symlink("/etc/shadow", place.join(((round * 7) % 200).to_string()));
                    let _ = std::fs::remove_file(place.join(((round * 7) % 200).to_string()));
                }
            })
        };
        for _ in 0..20 {
            // Either a copy of what was there at some moment, or an error that says so.
            let built = build(&engine, &context, "FROM scratch\nCOPY moving /moving\n", |job| {
                exported(job);
                job.options.no_cache = true;
            })
            .await;
            match built.result {
                Ok(result) => {
                    let out = files(result, dir).await;
                    for entry in std::fs::read_dir(out.join("moving")).unwrap() {
                        let entry = entry.unwrap();
                        if entry.file_type().unwrap().is_file() {
                            let bytes = std::fs::read(entry.path()).unwrap();
                            assert!(bytes.iter().all(|b| matches!(b, b'a' | b'b')), "{:?}", entry.path());
                        }
                    }
                    std::fs::remove_dir_all(out).unwrap();
                }
                Err(e) => {
                    let text = e.error.chain();
                    assert!(text.contains("moving") || text.contains("chang"), "{text}");
                }
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().unwrap();
    });
}
