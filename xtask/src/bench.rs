//! Measuring Barque beside Docker: both engines in one network namespace, calls interleaved, medians.

mod compose;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::engines::{self, Engine, Task, busybox_tar, interleaved, median};
use crate::table::{Bound, Table, Target};

const HELP: &str = "\
Usage: cargo xtask bench [--runs N] [--smoke] [--check] [--barque PATH]

Runs as root. Docker is measured where `dockerd` is installed; Barque alone otherwise.
  --runs N        calls of each kind (default 21; medians are printed)
  --smoke         one call of each kind: does it run at all?
  --check         fail where a figure is worse than the target of the project
  --barque PATH   measure this binary instead of a fresh `cargo xtask dist`
";

/// Containers started at once.
const PARALLEL: usize = 20;

const TARGETS: &[Target] = &[
    ("run --rm IMAGE true (bridge)", Bound::Times(20.0)),
    ("exec CONTAINER true", Bound::Times(10.0)),
    ("20 starts at once", Bound::Times(10.0)),
    ("compose up -d of 20 services", Bound::Times(6.0)),
    ("compose up -d, nothing to do", Bound::Below(60.0)),
    ("daemon at rest, PSS", Bound::Below(12.0)),
    ("monitor of a container, PSS", Bound::Below(0.3)),
];

/// Measures and prints one table.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    engines::task(&Task { name: "bench", help: HELP, runs: 21, targets: TARGETS }, root, args, measure)
}

fn measure(binary: &Path, runs: usize, scratch: &Path, table: &mut Table) -> Result<()> {
    let rootfs = busybox_tar(scratch, &[])?;
    let engines = engines::start(binary, scratch)?;
    for engine in &engines {
        engine.call(&["import", &rootfs, "bench"])?;
        engine.call(&["run", "-d", "--name", "sleeper", "bench", "/bin/sleep", "1000000"])?;
    }
    table.head(&format!("median of {runs} calls"));
    let kinds: [(&str, &[&str]); 4] = [
        ("run --rm IMAGE true (bridge)", &["run", "--rm", "bench", "/bin/true"]),
        ("run --rm --network none", &["run", "--rm", "--network", "none", "bench", "/bin/true"]),
        ("exec CONTAINER true", &["exec", "sleeper", "/bin/true"]),
        ("ps", &["ps"]),
    ];
    for (label, args) in kinds {
        table.row(label, &interleaved(&engines, (runs, runs), |engine| engine.timed(args))?, "ms");
    }
    let rates = engines.iter().map(|e| parallel(e, runs)).collect::<Result<Vec<_>>>()?;
    table.rate(&format!("{PARALLEL} starts at once"), &rates, "/s");
    compose::measure(&engines, scratch, runs, table)?;
    memory(&engines[0], table)
}

/// Containers per second, the median of rounds.
fn parallel(engine: &Engine, runs: usize) -> Result<f64> {
    let mut rounds = Vec::new();
    for _ in 0..runs.div_ceil(7) {
        let begin = Instant::now();
        let mut children = Vec::new();
        for _ in 0..PARALLEL {
            let mut command = engine.command(&["run", "--rm", "bench", "/bin/true"]);
            children.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        }
        for mut child in children {
            if !child.wait()?.success() {
                bail!("{}: one of {PARALLEL} parallel runs failed", engine.name);
            }
        }
        rounds.push(begin.elapsed());
    }
    Ok(PARALLEL as f64 / (median(rounds) / 1000.0))
}

/// Proportional set sizes of the daemon at rest and of one container's monitor.
fn memory(engine: &Engine, table: &mut Table) -> Result<()> {
    let pss = |pid: &str| -> Option<f64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let kilobytes: f64 =
            text.lines().find_map(|l| l.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse().ok())?;
        Some(kilobytes / 1024.0)
    };
    // At rest: an idle daemon gives memory back after five seconds.
    std::thread::sleep(Duration::from_secs(7));
    let daemon = pss(&engine.pid().to_string()).context("read the daemon's memory")?;
    let pid = engine.call(&["inspect", "-f", "{{.State.Pid}}", "sleeper"])?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap_or_default().trim().to_owned();
    table.row("daemon at rest, PSS", &[daemon], "MB");
    table.row("monitor of a container, PSS", &[pss(&parent).context("read a monitor's memory")?], "MB");
    Ok(())
}
