//! Measuring builds: what a `RUN` costs, a build from the cache, a large context with one change.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::engines::{self, Engine, Task, busybox_tar, interleaved};
use crate::table::{Bound, Table, Target};

const HELP: &str = "\
Usage: cargo xtask bench-build [--runs N] [--smoke] [--check] [--barque PATH]

Runs as root; needs busybox-static. Docker's classic builder is measured where `dockerd` is installed.
  --runs N        builds of each kind (default 7; medians are printed; fewer of Docker's slow ones)
  --smoke         one build of each kind: does it run at all?
  --check         fail where a figure is worse than the target of the project
  --barque PATH   measure this binary instead of a fresh `cargo xtask dist`
";

/// `RUN` steps that do nothing.
const STEPS: usize = 20;
/// Steps of the build that the cache answers.
const CACHED: usize = 30;
/// Files of the large context, and in each of its directories.
const FILES: usize = 50_000;
const IN_DIRECTORY: usize = 250;

const TARGETS: &[Target] = &[
    ("build, 20 RUN steps that do nothing", Bound::Times(10.0)),
    ("build, 30 steps from the cache", Bound::Below(40.0)),
    ("build, 50000 files, one changed", Bound::Below(300.0)),
];

/// Measures and prints one table.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    engines::task(&Task { name: "bench-build", help: HELP, runs: 7, targets: TARGETS }, root, args, measure)
}

fn measure(binary: &Path, runs: usize, scratch: &Path, table: &mut Table) -> Result<()> {
    let engines = engines::start(binary, scratch)?;
    let rootfs = busybox_tar(scratch, &[])?;
    for engine in &engines {
        engine.call(&["import", &rootfs, "bench"])?;
    }
    builds(&engines, runs, scratch, table)
}

/// Prints a row for each kind of build.
fn builds(engines: &[Engine], runs: usize, scratch: &Path, table: &mut Table) -> Result<()> {
    table.head(&format!("median of {runs} builds"));
    let dir = scratch.join("contexts");
    let steps: String = (0..STEPS).map(|n| format!("RUN /bin/true {n}\n")).collect();
    let empty = context(&dir.join("steps"), &format!("FROM bench\n{steps}"))?;
    let fresh = |engine: &Engine| timed(engine, &empty, &["--no-cache"]);
    let label = format!("build, {STEPS} RUN steps that do nothing");
    table.row(&label, &interleaved(engines, (runs, runs.min(3)), fresh)?, "ms");

    let steps: String = (0..CACHED - 2).map(|n| format!("RUN echo {n} > /{n}\n")).collect();
    let cached = context(&dir.join("cached"), &format!("FROM bench\nCOPY Dockerfile /\n{steps}ENV A=b\n"))?;
    for engine in engines {
        timed(engine, &cached, &[])?;
    }
    let times = interleaved(engines, (runs, runs), |e| timed(e, &cached, &[]))?;
    table.row(&format!("build, {CACHED} steps from the cache"), &times, "ms");

    let large = context(&dir.join("large"), "FROM bench\nCOPY files /files\n")?;
    fill(&large.join("files"))?;
    timed(&engines[0], &large, &[])?;
    let mut change = 0;
    // Docker takes a minute each time, the first as well as any other.
    let times = interleaved(engines, (runs, 1), |engine| {
        change += 1;
        std::fs::write(large.join("files/7/7"), format!("change {change}"))?;
        timed(engine, &large, &[])
    })?;
    table.row(&format!("build, {FILES} files, one changed"), &times, "ms");
    Ok(())
}

/// A directory with a Dockerfile.
fn context(dir: &Path, dockerfile: &str) -> Result<std::path::PathBuf> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join("Dockerfile"), dockerfile)?;
    Ok(dir.to_owned())
}

fn fill(dir: &Path) -> Result<()> {
    for group in 0..FILES / IN_DIRECTORY {
        let sub = dir.join(group.to_string());
        std::fs::create_dir_all(&sub)?;
        for number in 0..IN_DIRECTORY {
            std::fs::write(sub.join(number.to_string()), format!("file {group} {number}\n"))?;
        }
    }
    Ok(())
}

/// Docker is asked for its own builder: BuildKit needs another program.
fn timed(engine: &Engine, context: &Path, options: &[&str]) -> Result<Duration> {
    let mut command = engine.command(&["build", "-t", "bench-result"]);
    command.args(options).arg(context);
    if engine.name == "docker" {
        command.env("DOCKER_BUILDKIT", "0");
    }
    let begin = Instant::now();
    let output = command.output().context("cannot run the client")?;
    let took = begin.elapsed();
    if !output.status.success() {
        bail!("{}: {}", engine.name, String::from_utf8_lossy(&output.stderr));
    }
    Ok(took)
}
