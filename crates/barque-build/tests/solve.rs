//! The solver over a fake worker: caching, parallelism, failures, explanations.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use barque_build::BuildOutcome;
use barque_build::context::ContextDir;
use barque_build::event::{BuildEvent, LogStream, VertexId};
use barque_build::options::{BuildOptions, NamedContext, NetworkMode, Secret};
use barque_model::{ErrorKind, Timestamp};
use common::bench::Bench;
use common::listing;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_build_executes_nothing() {
    let bench = Bench::new(&[("a.txt", "a"), ("src/b", "b")]);
    let dockerfile = "FROM busybox\nWORKDIR /app\nCOPY a.txt .\nRUN echo hello > /out\nCOPY src /src\nCMD x\n";
    let first = bench.build(dockerfile).await;
    assert_eq!((bench.cached(), bench.worker.noted("commit").len()), (0, 4));
    assert_eq!(bench.read(&first, "out"), "hello\n");
    assert_eq!(bench.read(&first, "app/a.txt"), "a");
    let second = bench.build(dockerfile).await;
    assert_eq!((bench.cached(), bench.worker.noted("commit").len(), bench.worker.noted("prepare").len()), (4, 0, 0));
    assert_eq!(second.image, first.image, "times come from the cache as well");
    fs::write(bench.context.path().join("src/b"), "changed").unwrap();
    let third = bench.build(dockerfile).await;
    assert_eq!((bench.cached(), bench.worker.noted("commit").len()), (3, 1));
    assert_ne!(third.image, first.image);
    assert_eq!(third.records.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn touching_files_changes_nothing() {
    let bench = Bench::new(&[("a.txt", "a")]);
    let dockerfile = "FROM busybox\nCOPY . /x/\n";
    bench.build(dockerfile).await;
    fs::write(bench.context.path().join("a.txt"), "a").unwrap();
    bench.build(dockerfile).await;
    assert_eq!(bench.cached(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_files_are_taken_from_the_layer_before() {
    let names: Vec<String> = (0..100).map(|n| format!("f{n:03}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "same")).collect();
    let bench = Bench::new(&files);
    let file = "FROM scratch\nCOPY . /app/\n";
    let first = bench.build(file).await;
    fs::write(bench.context.path().join("f050"), "changed").unwrap();
    let own = |b: &Bench| b.worker.log.lock().unwrap().iter().filter(|l| l.starts_with("own files")).count();
    let mut options = bench.options();
    options.no_cache = true;
    bench.with(file, options, CancellationToken::new()).await.unwrap();
    assert_eq!(own(&bench), 0, "--no-cache takes nothing over");
    fs::write(bench.context.path().join("f050"), "changed again").unwrap();
    let second = bench.build(file).await;
    assert_eq!(own(&bench), 1);
    assert_eq!(bench.read(&second, "app/f050"), "changed again");
    assert_eq!(bench.read(&first, "app/f050"), "same");
    assert_eq!(bench.read(&second, "app/f051"), "same");
    assert!(bench.worker.log.lock().unwrap().contains(&"99 links".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_cache_and_its_filter_execute_again() {
    let bench = Bench::new(&[]);
    let dockerfile = "FROM busybox AS a\nRUN echo 1 > /1\nFROM busybox AS b\nRUN echo 2 > /2\nCOPY --from=a /1 /1\n";
    bench.build(dockerfile).await;
    let options = BuildOptions { no_cache: true, ..bench.options() };
    bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.cached(), 0);
    let options = BuildOptions { no_cache_filter: vec!["a".into()], ..bench.options() };
    bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.worker.noted("run"), ["run /bin/sh -c echo 1 > /1"]);
    // Stage a gave the same content, so what was copied from it still holds.
    assert_eq!(bench.cached(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_from_stages_hold_while_their_files_do() {
    let bench = Bench::new(&[("v", "1")]);
    let dockerfile = "FROM busybox AS a\nCOPY v /v\nRUN echo same > /out\nFROM scratch\nCOPY --from=a /out /out\n";
    bench.build(dockerfile).await;
    fs::write(bench.context.path().join("v"), "2").unwrap();
    bench.build(dockerfile).await;
    assert_eq!(bench.worker.noted("commit").len(), 2, "the stage ran again, the copy did not");
    bench.build(dockerfile).await;
    assert!(bench.worker.noted("view").is_empty(), "the second time no file is looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_run_in_parallel_and_only_if_needed() {
    let bench = Bench::new(&[]);
    let dockerfile = "FROM busybox AS a\nRUN sleep 300; echo a > /a\nFROM busybox AS b\nRUN sleep 300; echo b > /b\n\
                      FROM busybox AS unused\nRUN exit 1\n\
                      FROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
    let started = Instant::now();
    let outcome = bench.build(dockerfile).await;
    assert!(bench.worker.most.load(Ordering::SeqCst) == 2, "both stages at once");
    assert!(started.elapsed() < Duration::from_millis(2500));
    let root = bench.worker.snapshot_path(outcome.snapshot.as_ref().unwrap());
    assert_eq!(listing(&root, true).lines().count(), 2);
    let options = BuildOptions { parallelism: 1, no_cache: true, ..bench.options() };
    bench.worker.most.store(0, Ordering::SeqCst);
    bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.worker.most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_command_says_so_in_dockers_words() {
    let bench = Bench::new(&[]);
    let failure = bench.fail("FROM busybox\nRUN echo about to fail\nRUN echo x > /x && exit 3\nRUN true\n").await;
    assert_eq!(failure.error.to_string(), "The command '/bin/sh -c echo x > /x && exit 3' returned a non-zero code: 3");
    assert_eq!(failure.exit_code, Some(3));
    assert!(failure.failed_step.is_none());
    let hint = failure.error.hint().unwrap();
    assert!(hint.contains("   3 | >>> RUN echo x > /x && exit 3"), "{hint}");
    assert_eq!(bench.count(|e| matches!(e, BuildEvent::Failed { .. })), 1);
    assert_eq!(fs::read_dir(bench.worker.dir.path().join("active")).unwrap().count(), 0, "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_failure_can_be_entered() {
    let bench = Bench::new(&[]);
    let options = BuildOptions { keep_failed: true, ..bench.options() };
    let dockerfile = "FROM rich\nWORKDIR /w\nRUN echo partial > /w/file; exit 1\n";
    let failure = bench.with(dockerfile, options, CancellationToken::new()).await.unwrap_err();
    let step = failure.failed_step.unwrap();
    assert_eq!(fs::read_to_string(step.active.path.join("w/file")).unwrap(), "partial\n");
    assert_eq!((step.spec.cwd.as_str(), step.spec.user.as_str()), ("/w", "app"));
    assert_eq!(step.spec.args[0], "/bin/bash");
    // It is stored: secrets stay out.
    let mut options = BuildOptions { keep_failed: true, ..bench.options() };
    options.secrets.insert("token".into(), Secret(b"hunter2".to_vec().into()));
    let dockerfile = "FROM rich\nARG A=1\nRUN --mount=type=secret,id=token,env=TOKEN exit 1\n";
    let failure = bench.with(dockerfile, options, CancellationToken::new()).await.unwrap_err();
    let spec = failure.failed_step.unwrap().spec;
    assert!(bench.worker.noted("spec")[0].contains("TOKEN=hunter2"), "the command had it");
    assert!(spec.env.contains(&"A=1".to_owned()) && !spec.env.iter().any(|e| e.contains("hunter2")), "{:?}", spec.env);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_stops_the_other_stages() {
    let bench = Bench::new(&[]);
    let dockerfile = "FROM busybox AS slow\nRUN sleep 20000\nFROM busybox\nRUN exit 4\nCOPY --from=slow /x /x\n";
    let started = Instant::now();
    let failure = bench.fail(dockerfile).await;
    assert_eq!(failure.exit_code, Some(4));
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.count(|e| matches!(e, BuildEvent::Canceled { .. })), 1);
    assert_eq!(bench.worker.running.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_stops_cleanly() {
    let bench = Bench::new(&[]);
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        token.cancel();
    });
    let started = Instant::now();
    let failure = bench.with("FROM busybox\nRUN sleep 20000\n", bench.options(), cancel).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Canceled);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(fs::read_dir(bench.worker.dir.path().join("active")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_names_the_cause() {
    let bench = Bench::new(&[("src/a.py", "1"), ("src/b.py", "1")]);
    let dockerfile = "FROM busybox\nARG VERSION=1\nCOPY src /src\nRUN echo build\n";
    let options = || BuildOptions { explain: true, scope: "s".into(), ..bench.options() };
    bench.with(dockerfile, options(), CancellationToken::new()).await.unwrap();
    assert_eq!(bench.reasons(), ["this step never ran here before", "this step never ran here before"]);
    bench.with(dockerfile, options(), CancellationToken::new()).await.unwrap();
    assert!(bench.reasons().is_empty());
    fs::write(bench.context.path().join("src/b.py"), "2").unwrap();
    fs::write(bench.context.path().join("src/c.py"), "3").unwrap();
    bench.with(dockerfile, options(), CancellationToken::new()).await.unwrap();
    let reasons = bench.reasons();
    assert!(reasons[0].starts_with("file src/b.py changed from "), "{reasons:?}");
    assert!(reasons[0].ends_with("file src/c.py is new"), "{reasons:?}");
    assert_eq!(reasons[1], "the step before it gave another result: COPY src /src");
    let mut with_arg = options();
    with_arg.build_args.insert("VERSION".into(), Some("2".into()));
    bench.with(dockerfile, with_arg, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.reasons(), ["variable VERSION changed from \"1\" to \"2\""]);
    let mut again = options();
    again.build_args.insert("VERSION".into(), Some("2".into()));
    let changed = dockerfile.replace("echo build", "echo rebuild");
    bench.with(&changed, again, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.reasons(), ["the command changed from \"echo build\" to \"echo rebuild\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_reach_the_command_and_nothing_else() {
    let bench = Bench::new(&[]);
    let mut options = bench.options();
    options.secrets.insert("token".into(), Secret(b"hunter2".to_vec().into()));
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=token,required cat /run/secrets/token\n\
                      RUN --mount=type=secret,id=token,env=TOKEN env\n";
    let outcome = bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
    assert!(bench.logs().contains("hunter2") && bench.logs().contains("TOKEN=hunter2"));
    let shown = format!("{outcome:?} {:?}", bench.cache.records.lock().unwrap());
    assert!(!shown.contains("hunter2"));
    // Another value is no reason to run again, as in Docker.
    let mut options = bench.options();
    options.secrets.insert("token".into(), Secret(b"other".to_vec().into()));
    bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.cached(), 2);
    let failure = bench.fail("FROM busybox\nRUN --mount=type=secret,id=nope,required echo\n").await;
    assert_eq!(failure.error.to_string(), "secret nope: not found");
    assert!(
        bench
            .with("FROM busybox\nRUN --mount=type=secret,id=nope true\n", bench.options(), CancellationToken::new())
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_show_contexts_stages_and_caches() {
    let bench = Bench::new(&[("conf/x", "from context")]);
    let dockerfile = "FROM busybox AS a\nRUN echo made > /made\nFROM busybox\n\
                      RUN --mount=type=bind,source=conf,target=/c cat /c/x > /got1\n\
                      RUN --mount=from=a,source=/made,target=/m cat /m > /got2\n\
                      RUN --mount=type=cache,target=/cache echo kept > /cache/file\n\
                      RUN --mount=type=cache,target=/cache cat /cache/file > /got3\n";
    let outcome = bench.build(dockerfile).await;
    let got: Vec<String> = ["got1", "got2", "got3"].iter().map(|p| bench.read(&outcome, p)).collect();
    assert_eq!(got, ["from context", "made\n", "kept\n"]);
    fs::write(bench.context.path().join("conf/x"), "changed").unwrap();
    bench.build(dockerfile).await;
    assert_eq!(bench.worker.noted("run").len(), 4, "a mounted file counts");
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_are_made_once_and_pinned_ones_not_even_that() {
    let bench = Bench::new(&[]);
    bench.worker.urls.lock().unwrap().insert("http://h/f.txt".into(), b"data".to_vec());
    let plain = "FROM busybox\nADD http://h/f.txt /d/\n";
    let outcome = bench.build(plain).await;
    assert_eq!(bench.read(&outcome, "d/f.txt"), "data");
    bench.build(plain).await;
    assert_eq!((bench.cached(), bench.worker.noted("fetch").len()), (1, 1));
    let sum = barque_model::Digest::of(b"data");
    let pinned = format!("FROM busybox\nADD --checksum={sum} http://h/f.txt /d/\n");
    bench.build(&pinned).await;
    bench.build(&pinned).await;
    assert_eq!((bench.cached(), bench.worker.noted("fetch").len()), (1, 0));
    let failure = bench.fail(&pinned.replace("f.txt", "gone.txt")).await;
    assert_eq!(failure.error.to_string(), "http://h/gone.txt: no such host");
    assert_eq!(failure.error.hint().unwrap().matches("http://h/gone.txt").count(), 1, "{:?}", failure.error.hint());
    let git = bench.build("FROM scratch\nADD git@host:me/repo.git#v1 /src\n").await;
    assert_eq!(bench.read(&git, "src/README"), "git@host:me/repo.git v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_reproducible_with_an_epoch() {
    let dockerfile = "FROM busybox\nCOPY . /x\nRUN echo 1 > /1\nLABEL a=b\n";
    let mut images = Vec::new();
    for _ in 0..2 {
        let bench = Bench::new(&[("f", "1")]);
        let options = BuildOptions { source_date_epoch: Some(Timestamp::from_secs(1_700_000_000)), ..bench.options() };
        let outcome = bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
        assert_eq!(outcome.config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
        assert_eq!(outcome.config.history[0].created.as_deref(), Some("2020-01-01T00:00:00Z"), "the base stays");
        images.push(outcome.image);
    }
    assert_eq!(images[0], images[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_part_of_the_key() {
    let dockerfile = "FROM busybox\nWORKDIR /w\nCOPY . /x\nCOPY --from=alpine:3.19 /bin /b\nRUN echo 1 > /1\n";
    let bench = Bench::new(&[("f", "1")]);
    let with = |epoch: Option<i64>| {
        let options = BuildOptions { source_date_epoch: epoch.map(Timestamp::from_secs), ..bench.options() };
        bench.with(dockerfile, options, CancellationToken::new())
    };
    for epoch in [None, Some(1_700_000_000), Some(1_800_000_000)] {
        with(epoch).await.unwrap();
        assert_eq!(bench.cached(), 0, "{epoch:?}");
        with(epoch).await.unwrap();
        assert_eq!(bench.cached(), 4, "{epoch:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_layers_are_left_out() {
    let bench = Bench::new(&[]);
    let outcome = bench.build("FROM busybox\nRUN true\nWORKDIR /tmp\nRUN echo 1 > /1\nENV a=b\n").await;
    assert_eq!(outcome.layers.len(), 2);
    let empty: Vec<bool> = outcome.config.history.iter().map(|h| h.empty_layer).collect();
    assert_eq!(empty, [false, true, true, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn named_contexts_replace_images_and_stages() {
    let bench = Bench::new(&[]);
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("file"), "other").unwrap();
    let dir = NamedContext::Directory(ContextDir::open(other.path().to_owned(), "").unwrap());
    let mut options = bench.options();
    options.named_contexts.insert("extra".into(), dir.clone());
    options.named_contexts.insert("alpine:3.19".into(), NamedContext::Image("busybox".into()));
    let dockerfile = "FROM alpine:3.19\nCOPY --from=extra file /f\n";
    let outcome = bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.read(&outcome, "f"), "other");
    assert_eq!(bench.worker.noted("resolve"), ["resolve busybox Missing"]);
    let mut options = bench.options();
    options.named_contexts.insert("base".into(), dir);
    let dockerfile = "FROM busybox AS base\nRUN exit 1\nFROM base\nENV a=b\n";
    let outcome = bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
    // The stage named base is the directory, and nothing of what the file says about it.
    assert_eq!(bench.read(&outcome, "file"), "other");
    assert!(bench.worker.noted("run").is_empty() && bench.worker.noted("resolve").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_of_a_stage_bring_what_they_need() {
    let bench = Bench::new(&[]);
    let dockerfile = "FROM onbuild-from AS deep\nFROM alpine:3.19 AS parts\nCOPY --from=deep /from-trigger /deep\n\
                      FROM busybox AS base\nONBUILD COPY --from=parts /deep /from-parts\nFROM base\nENV a=b\n";
    let outcome = bench.build(dockerfile).await;
    assert_eq!(bench.read(&outcome, "from-parts"), "ID=fake\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_in_addresses_are_told_nobody() {
    let bench = Bench::new(&[]);
    let options = BuildOptions { explain: true, export_cache: true, ..bench.options() };
    let dockerfile = "FROM busybox\nADD https://me:hunter2@h/repo.git#v1 /src\n";
    let outcome = bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
    assert!(bench.worker.noted("git https://me:hunter2@h/").len() == 1, "the worker needs them");
    let events = format!("{:?}", bench.events.lock().unwrap());
    let specs = format!("{:?}", bench.worker.finished.lock().unwrap());
    for told in [format!("{outcome:?}"), events, specs, format!("{:?}", bench.cache.records.lock().unwrap())] {
        assert!(!told.contains("hunter2") && told.contains("xxxxx"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_gets_the_builds_surroundings() {
    let bench = Bench::new(&[]);
    let mut options = bench.options();
    options.network = NetworkMode::Named("net1".into());
    options.extra_hosts.push(("h".into(), "1.2.3.4".into()));
    options.build_args.insert("HTTP_PROXY".into(), Some("http://p".into()));
    options.shm_size = Some(1 << 20);
    let dockerfile = "FROM busybox\nRUN env\nRUN --network=none true\n";
    bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
    let specs = bench.worker.noted("spec");
    assert!(specs[0].contains("Named(\"net1\")") && specs[1].contains("network: None"), "{specs:?}");
    assert!(bench.logs().contains("http_proxy=http://p") && bench.logs().contains("HTTP_PROXY=http://p"));
    assert!(specs[0].contains("shm_size: Some(1048576)") && specs[0].contains("1.2.3.4"));
    let options = |address: &str, proxy: &str, network: &str| {
        let mut options = bench.options();
        options.network = NetworkMode::parse(network);
        options.extra_hosts.push(("h".into(), address.into()));
        options.build_args.insert("HTTP_PROXY".into(), Some(proxy.into()));
        options.shm_size = Some(1 << 20);
        options
    };
    // A proxy and an address are no part of the key; the network is one of the steps that use it, and so are names.
    for (options, cached) in [
        (options("5.6.7.8", "http://other", "net1"), 2),
        (options("5.6.7.8", "http://other", "net2"), 1),
        (bench.options(), 0),
    ] {
        bench.with(dockerfile, options, CancellationToken::new()).await.unwrap();
        assert_eq!(bench.cached(), cached);
    }
    let mut shared = bench.options();
    shared.shm_size = Some(2 << 20);
    bench.with(dockerfile, shared, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.cached(), 0);
    let mut named = bench.options();
    named.build_args.insert("BUILDKIT_SANDBOX_HOSTNAME".into(), Some("box".into()));
    bench.with(dockerfile, named, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.cached(), 0);
    assert!(bench.worker.noted("spec").iter().all(|spec| spec.contains("hostname: \"box\"")));
    let mut limited = bench.options();
    limited.ulimits.push(barque_build::options::Ulimit { name: "nofile".into(), soft: 5, hard: 6 });
    bench.with(dockerfile, limited, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.cached(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_namespace_of_cache_mounts_is_no_part_of_a_step() {
    let bench = Bench::new(&[]);
    let cached = async |mount: &str, space: &str| {
        let mut options = bench.options();
        options.build_args.insert("BUILDKIT_CACHE_MOUNT_NS".into(), Some(space.into()));
        let dockerfile = format!("FROM busybox\nRUN --mount=type=cache,target=/c{mount} echo x > /c/x\n");
        bench.with(&dockerfile, options, CancellationToken::new()).await.unwrap();
        bench.cached()
    };
    assert_eq!((cached("", "").await, cached("", "a").await, cached("", "b").await), (0, 1, 1));
    // A name that was given is one, as in BuildKit.
    assert_eq!((cached(",id=i", "").await, cached(",id=i", "a").await, cached(",id=i", "a").await), (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_arrives_while_it_is_made() {
    let bench = Bench::new(&[]);
    bench.build("FROM busybox\nRUN echo one; echo two\n").await;
    let events = bench.events.lock().unwrap();
    let position = |test: &dyn Fn(&BuildEvent) -> bool| events.iter().position(test).unwrap();
    let planned = position(&|e| matches!(e, BuildEvent::Planned { .. }));
    let started = position(&|e| matches!(e, BuildEvent::Started { vertex: VertexId(1) }));
    let log = position(&|e| matches!(e, BuildEvent::Log { stream: LogStream::Stdout, vertex: VertexId(1), .. }));
    let done = position(&|e| matches!(e, BuildEvent::Completed { vertex: VertexId(1), .. }));
    let finished = position(&|e| matches!(e, BuildEvent::Finished { .. }));
    assert!(planned < started && started < log && log < done && done < finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_for_export_need_no_image() {
    let bench = Bench::new(&[("a", "1")]);
    let options = BuildOptions { make_image: false, ..bench.options() };
    let outcome = bench.with("FROM scratch\nCOPY a /\n", options, CancellationToken::new()).await.unwrap();
    assert!(outcome.image.is_none() && bench.worker.finished.lock().unwrap().is_empty());
    assert_eq!(bench.read(&outcome, "a"), "1");
    let options = BuildOptions { check_only: true, ..bench.options() };
    let outcome = bench.with("FROM busybox\nRUN exit 1\nCMD x\n", options, CancellationToken::new()).await.unwrap();
    assert_eq!(outcome.warnings[0].rule, "JSONArgsRecommended");
    let options = BuildOptions { squash: true, ..bench.options() };
    let failure = bench.with("FROM busybox\n", options, CancellationToken::new()).await.unwrap_err();
    assert_eq!(failure.error.kind(), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_build_of_thirty_steps_takes_no_time() {
    let bench = Bench::new(&[("f", "1")]);
    let mut dockerfile = String::from("FROM busybox\nCOPY f /f\n");
    for n in 0..29 {
        dockerfile.push_str(&format!("RUN echo {n} > /n{n}\n"));
    }
    bench.build(&dockerfile).await;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        bench.build(&dockerfile).await;
        best = best.min(started.elapsed());
        eprintln!("cached build: {best:?}");
    }
    assert_eq!(bench.cached(), 30);
    println!("cached build of 30 steps: {best:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_copies_are_made_of_parts() {
    let bench = Bench::new(&[]);
    for d in 0..10 {
        let dir = bench.context.path().join(format!("d{d}"));
        fs::create_dir(&dir).unwrap();
        for f in 0..9 {
            fs::write(dir.join(format!("f{f}")), format!("{d} {f}")).unwrap();
        }
    }
    let dockerfile = "FROM busybox\nCOPY . /x\n";
    let plain = bench.build(dockerfile).await;
    let root = |o: &BuildOutcome| listing(&bench.worker.snapshot_path(o.snapshot.as_ref().unwrap()), true);
    assert_eq!(plain.layers.len(), 2);
    bench.worker.stacks.store(true, Ordering::SeqCst);
    let options = || BuildOptions { no_cache: true, part_files: 50, ..bench.options() };
    let parts = bench.with(dockerfile, options(), CancellationToken::new()).await.unwrap();
    assert_eq!((parts.layers.len(), bench.worker.noted("commit").len()), (3, 2));
    assert_eq!(root(&parts), root(&plain), "the same files");
    assert_eq!(parts.config.history.iter().filter(|h| !h.empty_layer).count(), 3);
    fs::write(bench.context.path().join("d7/f7"), "changed").unwrap();
    let cached = || BuildOptions { no_cache: false, ..options() };
    let changed = bench.with(dockerfile, cached(), CancellationToken::new()).await.unwrap();
    assert_eq!((changed.layers.len(), bench.worker.noted("commit").len()), (3, 1), "only one part is renewed");
    let file = bench.worker.snapshot_path(changed.snapshot.as_ref().unwrap()).join("x/d7/f7");
    assert_eq!(fs::read_to_string(file).unwrap(), "changed");
    let again = bench.with(dockerfile, cached(), CancellationToken::new()).await.unwrap();
    assert_eq!((bench.cached(), again.image), (1, changed.image));
}

#[tokio::test(flavor = "multi_thread")]
async fn linked_copies_survive_their_base() {
    let bench = Bench::new(&[("f", "1")]);
    bench.worker.stacks.store(true, Ordering::SeqCst);
    let dockerfile = "FROM busybox\nRUN echo one > /base\nCOPY --link f /x/\nRUN cat /base > /y\n";
    let first = bench.build(dockerfile).await;
    assert_eq!((bench.read(&first, "x/f"), bench.read(&first, "y")), ("1".into(), "one\n".into()));
    let second = bench.build(&dockerfile.replace("one", "two")).await;
    assert_eq!((bench.read(&second, "x/f"), bench.read(&second, "y")), ("1".into(), "two\n".into()));
    assert_eq!(bench.worker.noted("commit").len(), 2, "the copy was not made again");
    assert_eq!(second.layers.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_dockerfiles_cost_little() {
    let bench = Bench::new(&[]);
    let mut nested = String::from("FROM scratch AS s0\nCOPY <<a /f\nx\na\n");
    for n in 1..2000 {
        nested.push_str(&format!("FROM scratch AS s{n}\nCOPY --from=s{} /f /f\n", n - 1));
    }
    let started = Instant::now();
    bench.build(&nested).await;
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    let doubling: String = (0..64).map(|_| "ENV a=$a$a\n").collect();
    let failure = bench.fail(&format!("FROM busybox\nENV a=xxxxxxxx\n{doubling}")).await;
    assert!(failure.error.to_string().contains("longer than"), "{}", failure.error);
    assert!(Path::new(bench.scratch.path()).exists());
}
