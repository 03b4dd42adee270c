//! Measuring Barque beside Docker: both engines in one network namespace, calls interleaved, medians.

mod compose;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::engines::{self, Engine, busybox_tar, head, interleaved, median, row};

const HELP: &str = "\
Usage: cargo xtask bench [--runs N] [--smoke] [--barque PATH]

Runs as root. Docker is measured where `dockerd` is installed; Barque alone otherwise.
  --runs N        calls of each kind (default 21; medians are printed)
  --smoke         one call of each kind: does it run at all?
  --barque PATH   measure this binary instead of a fresh `cargo xtask dist`
";

/// Containers started at once.
const PARALLEL: usize = 20;

/// Measures and prints one table.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    engines::task(("bench", HELP, 21), root, args, measure)
}

fn measure(binary: &Path, runs: usize, scratch: &Path) -> Result<()> {
    let rootfs = busybox_tar(scratch, &[])?;
    let engines = engines::start(binary, scratch)?;
    for engine in &engines {
        engine.call(&["import", &rootfs, "bench"])?;
        engine.call(&["run", "-d", "--name", "sleeper", "bench", "/bin/sleep", "1000000"])?;
    }
    head(&format!("median of {runs} calls"));
    let kinds: [(&str, &[&str]); 4] = [
        ("run --rm IMAGE true (bridge)", &["run", "--rm", "bench", "/bin/true"]),
        ("run --rm --network none", &["run", "--rm", "--network", "none", "bench", "/bin/true"]),
        ("exec CONTAINER true", &["exec", "sleeper", "/bin/true"]),
        ("ps", &["ps"]),
    ];
    for (label, args) in kinds {
        row(label, &interleaved(&engines, (runs, runs), |engine| engine.timed(args))?, "ms");
    }
    let rates = engines.iter().map(|e| parallel(e, runs)).collect::<Result<Vec<_>>>()?;
    let docker = rates.get(1).map_or_else(String::new, |r| format!("{r:.1}/s"));
    let ratio = rates.get(1).map_or_else(String::new, |r| format!("{:.1}x", rates[0] / r));
    println!("{:<38} {:>10.1}/s {docker:>12} {ratio:>8}", format!("{PARALLEL} starts at once"), rates[0]);
    compose::measure(&engines, scratch, runs)?;
    memory(&engines[0])
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
fn memory(engine: &Engine) -> Result<()> {
    let pss = |pid: &str| -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        text.lines().find_map(|l| l.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
    };
    // At rest: an idle daemon gives memory back after five seconds.
    std::thread::sleep(Duration::from_secs(7));
    let daemon = pss(&engine.pid().to_string()).unwrap_or(0);
    let pid = engine.call(&["inspect", "-f", "{{.State.Pid}}", "sleeper"])?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap_or_default().trim().to_owned();
    println!("{:<38} {:>9} kB", "daemon at rest, PSS", daemon);
    println!("{:<38} {:>9} kB", "monitor of a container, PSS", pss(&parent).unwrap_or(0));
    Ok(())
}
