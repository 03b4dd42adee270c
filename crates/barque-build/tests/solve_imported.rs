//! The solver with caches of other machines.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use barque_build::BuildOutcome;
use barque_build::cache::Cache as _;
use barque_build::options::BuildOptions;
use common::bench::Bench;
use tokio_util::sync::CancellationToken;

/// Builds with a cache in the image, takes that cache to another machine, and builds there.
async fn elsewhere(dockerfile: &str, options: impl Fn(&Bench) -> BuildOptions) -> (Bench, BuildOutcome, BuildOutcome) {
    let bench = Bench::new(&[("v", "1")]);
    let exporting = BuildOptions { inline_cache: true, ..bench.options() };
    let first = bench.with(dockerfile, exporting, CancellationToken::new()).await.unwrap();
    let config = first.config.to_json(&[]).unwrap();
    let other = Bench { cache: Arc::default(), ..bench };
    other.cache.imports.store(true, Ordering::SeqCst);
    for record in barque_build::cache::imported(&config) {
        other
            .cache
            .put(&barque_build::cache::CacheRecord { key: record.definition.unwrap(), ..record.clone() })
            .unwrap();
        other.cache.put(&record).unwrap();
    }
    let second = other.with(dockerfile, options(&other), CancellationToken::new()).await.unwrap();
    (other, first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inline_cache_holds_although_a_stage_gives_other_bytes_each_time() {
    let dockerfile = "FROM busybox AS a\nCOPY v /v\nRUN random > /out\nFROM busybox AS b\nRUN random > /b\n\
                      FROM busybox\nRUN echo 1 > /1\nCOPY --from=a /out /out\n\
                      RUN --mount=from=b,source=/b,target=/b cat /b > /2\nWORKDIR /w\nCOPY --link --from=a /v /l\n";
    let (bench, first, second) = elsewhere(dockerfile, Bench::options).await;
    assert_eq!(bench.worker.noted("run"), Vec::<String>::new(), "the stages are not needed");
    assert_eq!(bench.cached(), 8, "all are told");
    assert_eq!(first.snapshot, second.snapshot);
    // What is exported again holds as well.
    let again = BuildOptions { inline_cache: true, export_cache: true, cache_all: true, ..bench.options() };
    let again = bench.with(dockerfile, again, CancellationToken::new()).await.unwrap();
    let definitions = |outcome: &BuildOutcome| outcome.records.iter().map(|r| r.definition).collect::<Vec<_>>();
    assert_eq!(definitions(&again), definitions(&first));
    // Another input of the stage is another step.
    fs::write(bench.context.path().join("v"), "2").unwrap();
    let third = bench.build(dockerfile).await;
    assert_eq!(bench.worker.noted("run").len(), 3, "{:?}", bench.worker.noted("run"));
    assert_ne!(bench.read(&first, "out"), bench.read(&third, "out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_run_again_runs_although_an_imported_cache_knows_it() {
    let dockerfile = "FROM busybox AS a\nRUN random > /out\nFROM busybox\nCOPY --from=a /out /out\n";
    let refresh = |bench: &Bench| BuildOptions { no_cache_filter: vec!["a".into()], ..bench.options() };
    let (bench, first, second) = elsewhere(dockerfile, refresh).await;
    assert_eq!(bench.worker.noted("run").len(), 1);
    assert_ne!(bench.read(&first, "out"), bench.read(&second, "out"));
    // A step of the target below one that was found is made as long as it is not found itself.
    let (bench, ..) = elsewhere("FROM busybox\nRUN random > /1\nRUN random > /2\n", |bench| BuildOptions {
        no_cache: true,
        ..bench.options()
    })
    .await;
    assert_eq!(bench.worker.noted("run").len(), 2);
}
