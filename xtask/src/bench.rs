//! Measuring Barque beside Docker: both engines in one network namespace, calls interleaved, medians.

mod compose;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const HELP: &str = "\
Usage: cargo xtask bench [--runs N] [--smoke] [--barque PATH]

Runs as root. Docker is measured where `dockerd` is installed; Barque alone otherwise.
  --runs N        calls of each kind (default 21; medians are printed)
  --smoke         3 calls of each kind: does it run at all?
  --barque PATH   measure this binary instead of a fresh `cargo xtask dist`
";

/// Set in the copy of this program that runs inside the namespaces.
const INSIDE: &str = "BARQUE_BENCH_INSIDE";
/// Containers started at once.
const PARALLEL: usize = 20;

struct Options {
    runs: usize,
    barque: Option<PathBuf>,
}

/// Measures and prints one table.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    let Some(options) = parse(args)? else {
        print!("{HELP}");
        return Ok(());
    };
    let binary = match &options.barque {
        Some(path) => path.clone(),
        None => crate::dist::run(root)?,
    };
    if std::env::var_os(INSIDE).is_none() {
        return again_inside(&binary, options.runs);
    }
    measure(&binary, options.runs)
}

fn parse(args: &[String]) -> Result<Option<Options>> {
    let mut options = Options { runs: 21, barque: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--smoke" => options.runs = 3,
            "--runs" => options.runs = args.next().context("--runs needs a number")?.parse()?,
            "--barque" => options.barque = Some(args.next().context("--barque needs a path")?.into()),
            other => bail!("unknown option {other}: see cargo xtask bench --help"),
        }
    }
    Ok(Some(options))
}

/// Ports, bridges and mounts of both engines stay in namespaces that end with this program.
fn again_inside(binary: &Path, runs: usize) -> Result<()> {
    let me = std::env::current_exe()?;
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--fork", "--kill-child", "--"])
        .arg(me)
        .args(["bench", "--runs", &runs.to_string(), "--barque"])
        .arg(binary)
        .env(INSIDE, "1")
        .status()
        .context("unshare (util-linux) is needed")?;
    if !status.success() {
        bail!("the measurement failed");
    }
    Ok(())
}

/// An engine under measurement.
struct Engine {
    name: &'static str,
    /// Its client, ready for a subcommand.
    client: Vec<String>,
    daemon: Child,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Containers outlive the engine.
        let _never_started = self.command(&["rm", "-f", "sleeper"]).output();
        let pid = self.daemon.id().to_string();
        let _already_gone = Command::new("kill").arg(&pid).status();
        let _already_gone = self.daemon.wait();
    }
}

impl Engine {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.client[0]);
        command.args(&self.client[1..]).args(args).stdin(Stdio::null());
        command
    }

    fn call(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).output()?;
        if !output.status.success() {
            bail!("{} {}: {}", self.name, args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn timed(&self, args: &[&str]) -> Result<Duration> {
        let begin = Instant::now();
        self.call(args)?;
        Ok(begin.elapsed())
    }
}

fn measure(binary: &Path, runs: usize) -> Result<()> {
    shell("ip link set lo up && mount --make-rprivate /")?;
    let scratch = std::env::temp_dir().join(format!("barque-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let result = measure_in(binary, runs, &scratch);
    shell(&format!(
        "awk -v d={0}/ 'index($2, d) == 1 {{print $2}}' /proc/mounts | sort -r | xargs -r umount; rm -rf {0}",
        scratch.display()
    ))?;
    result
}

fn measure_in(binary: &Path, runs: usize, scratch: &Path) -> Result<()> {
    let rootfs = busybox_tar(scratch)?;
    let mut engines = vec![start_barque(binary, scratch)?];
    if Command::new("dockerd").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        engines.push(start_docker(scratch)?);
    }
    for engine in &engines {
        engine.call(&["import", &rootfs.display().to_string(), "bench"])?;
        engine.call(&["run", "-d", "--name", "sleeper", "bench", "/bin/sleep", "1000000"])?;
    }
    println!("{:<34} {:>12} {:>12} {:>8}", "median of calls", "barque", "docker", "ratio");
    let kinds: [(&str, &[&str]); 4] = [
        ("run --rm IMAGE true (bridge)", &["run", "--rm", "bench", "/bin/true"]),
        ("run --rm --network none", &["run", "--rm", "--network", "none", "bench", "/bin/true"]),
        ("exec CONTAINER true", &["exec", "sleeper", "/bin/true"]),
        ("ps", &["ps"]),
    ];
    for (label, args) in kinds {
        let mut times = vec![Vec::new(); engines.len()];
        for _ in 0..runs {
            for (engine, times) in engines.iter().zip(&mut times) {
                times.push(engine.timed(args)?);
            }
        }
        let medians: Vec<f64> = times.into_iter().map(median).collect();
        row(label, &medians, "ms");
    }
    let rates = engines.iter().map(|e| parallel(e, runs)).collect::<Result<Vec<_>>>()?;
    let docker = rates.get(1).map_or_else(String::new, |r| format!("{r:.1}/s"));
    let ratio = rates.get(1).map_or_else(String::new, |r| format!("{:.1}x", rates[0] / r));
    println!("{:<34} {:>10.1}/s {docker:>12} {ratio:>8}", format!("{PARALLEL} starts at once"), rates[0]);
    compose::measure(&engines, scratch, runs)?;
    memory(&engines[0])
}

fn row(label: &str, medians: &[f64], unit: &str) {
    let docker = medians.get(1).map_or_else(String::new, |m| format!("{m:.2} {unit}"));
    let ratio = medians.get(1).map_or_else(String::new, |m| format!("{:.1}x", m / medians[0]));
    println!("{label:<34} {:>12} {docker:>12} {ratio:>8}", format!("{:.2} {unit}", medians[0]));
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, |t| t.as_secs_f64() * 1000.0)
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
    let daemon = pss(&engine.daemon.id().to_string()).unwrap_or(0);
    let pid = engine.call(&["inspect", "-f", "{{.State.Pid}}", "sleeper"])?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|l| l.strip_prefix("PPid:")).unwrap_or_default().trim().to_owned();
    println!("{:<34} {:>9} kB", "daemon at rest, PSS", daemon);
    println!("{:<34} {:>9} kB", "monitor of a container, PSS", pss(&parent).unwrap_or(0));
    Ok(())
}

fn start_barque(binary: &Path, scratch: &Path) -> Result<Engine> {
    let dir = scratch.join("barque");
    std::fs::create_dir_all(&dir)?;
    let socket = format!("unix://{}/sock", dir.display());
    let daemon = Command::new(binary)
        .args(["daemon", "--data-root"])
        .arg(dir.join("data"))
        .arg("--exec-root")
        .arg(dir.join("exec"))
        .arg("--pidfile")
        .arg(dir.join("pid"))
        .args(["-H", &socket, "--bridge", "bqbench0", "--bip", "10.213.60.1/22"])
        .stderr(std::fs::File::create(scratch.join("barque.log"))?)
        .spawn()?;
    let client = vec![binary.display().to_string(), "-H".into(), socket];
    ready(Engine { name: "barque", client, daemon }, &scratch.join("barque.log"))
}

fn start_docker(scratch: &Path) -> Result<Engine> {
    let dir = scratch.join("docker");
    std::fs::create_dir_all(&dir)?;
    let socket = format!("unix://{}/sock", dir.display());
    let log = std::fs::File::create(scratch.join("docker.log"))?;
    let daemon = Command::new("dockerd")
        .arg("--data-root")
        .arg(dir.join("data"))
        .arg("--exec-root")
        .arg(dir.join("exec"))
        .arg("-p")
        .arg(dir.join("pid"))
        .args(["-H", &socket, "--bip", "10.213.64.1/22"])
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let client = ["/usr/bin/docker", "docker"].iter().find(|p| Path::new(p).exists()).unwrap_or(&"docker");
    let client = vec![(*client).to_owned(), "-H".into(), socket];
    ready(Engine { name: "docker", client, daemon }, &scratch.join("docker.log"))
}

fn ready(engine: Engine, log: &Path) -> Result<Engine> {
    for _ in 0..300 {
        if engine.command(&["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
            return Ok(engine);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = std::fs::read_to_string(log).unwrap_or_default();
    bail!("{} does not answer:\n{log}", engine.name)
}

/// A root file system of busybox-static.
fn busybox_tar(scratch: &Path) -> Result<PathBuf> {
    let tar = scratch.join("root.tar");
    shell(&format!(
        "set -e; r={0}/root; mkdir -p $r/bin $r/etc $r/proc $r/sys $r/dev $r/tmp; cp /bin/busybox $r/bin/; \
         for a in sh true sleep cat; do ln -s busybox $r/bin/$a; done; echo root:x:0:0::/:/bin/sh > $r/etc/passwd; \
         tar -C $r -cf {1} .",
        scratch.display(),
        tar.display()
    ))?;
    Ok(tar)
}

fn shell(script: &str) -> Result<()> {
    if !Command::new("sh").args(["-c", script]).status()?.success() {
        bail!("failed: {script}");
    }
    Ok(())
}
