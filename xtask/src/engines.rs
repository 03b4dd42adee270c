//! Barque and Docker side by side for measurements: both in one network namespace, on scratch directories.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::table::{Table, Target};

/// Set in the copy of this program that runs inside the namespaces, to its scratch directory.
const INSIDE: &str = "BARQUE_BENCH_INSIDE";
/// Runs the words after the scratch directory in namespaces of their own and removes the directory, after Ctrl-C too:
/// the first process of the process namespace is a shell that ends then, and all others end with it.
const OUTSIDE: &str = r#"
scratch=$1; shift; trap : INT TERM
unshare --net --mount --pid --mount-proc --fork --kill-child -- \
  sh -c 'trap "exit 130" INT TERM; "$@" & wait $!' sh "$@"
status=$?; rm -rf "$scratch"; exit $status
"#;

/// A task that measures.
pub(crate) struct Task {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// Calls of each kind, if not said.
    pub(crate) runs: usize,
    /// What `--check` asserts.
    pub(crate) targets: &'static [Target],
}

/// Runs `body` (binary, runs, scratch directory, table to fill) with the arguments `--runs N --smoke --barque PATH
/// --check`. All happens in a child in namespaces that end with it: ports, bridges, mounts and processes meet nobody's.
pub(crate) fn task(
    task: &Task,
    root: &Path,
    args: &[String],
    body: impl FnOnce(&Path, usize, &Path, &mut Table) -> Result<()>,
) -> Result<()> {
    let Task { name, help, runs, targets } = *task;
    let Some(options) = options(args, runs, help)? else { return Ok(()) };
    // Absolute: measurements call it from directories of their own.
    let binary = std::path::absolute(match options.barque {
        Some(path) => path,
        None => crate::dist::run(root)?,
    })?;
    if let Some(scratch) = std::env::var_os(INSIDE) {
        shell("ip link set lo up && mount --make-rprivate /")?;
        let mut table = Table::default();
        body(&binary, options.runs, Path::new(&scratch), &mut table)?;
        return if options.check { table.check(targets) } else { Ok(()) };
    }
    let scratch = std::env::temp_dir().join(format!("barque-bench-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let status = Command::new("sh")
        .args(["-c", OUTSIDE, "sh"])
        .arg(&scratch)
        .arg(std::env::current_exe()?)
        .args([name, "--runs", &options.runs.to_string(), "--barque"])
        .arg(binary)
        .args(options.check.then_some("--check"))
        .env(INSIDE, &scratch)
        .status()
        .context("sh and unshare (util-linux) are needed")?;
    if !status.success() {
        bail!("{name} failed");
    }
    Ok(())
}

struct Options {
    runs: usize,
    barque: Option<PathBuf>,
    check: bool,
}

/// `None` after printing `help`.
fn options(args: &[String], runs: usize, help: &str) -> Result<Option<Options>> {
    let mut options = Options { runs, barque: None, check: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" | "-h" => {
                print!("{help}");
                return Ok(None);
            }
            "--smoke" => options.runs = 1,
            "--check" => options.check = true,
            "--runs" => options.runs = args.next().context("--runs needs a number")?.parse()?,
            "--barque" => options.barque = Some(args.next().context("--barque needs a path")?.into()),
            other => bail!("unknown option {other}: see --help"),
        }
    }
    Ok(Some(options))
}

/// An engine under measurement.
pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// Its client, ready for a subcommand; the last word is the socket.
    pub(crate) client: Vec<String>,
    daemon: Child,
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Containers outlive the engine.
        for id in self.call(&["ps", "-aq"]).unwrap_or_default().lines() {
            let _best_effort = self.command(&["rm", "-f", id]).output();
        }
        let pid = self.daemon.id().to_string();
        let _already_gone = Command::new("kill").arg(&pid).status();
        let _already_gone = self.daemon.wait();
    }
}

impl Engine {
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.client[0]);
        command.args(&self.client[1..]).args(args).stdin(Stdio::null());
        command
    }

    pub(crate) fn call(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).output()?;
        if !output.status.success() {
            bail!("{} {}: {}", self.name, args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub(crate) fn timed(&self, args: &[&str]) -> Result<Duration> {
        let begin = Instant::now();
        self.call(args)?;
        Ok(begin.elapsed())
    }

    /// Process id of the daemon.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Forgets the daemon's highest resident set so far.
    pub(crate) fn reset_peak(&self) -> Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.daemon.id()), "5").context("reset the peak")
    }

    /// Seconds of processor time that the daemon and its ended children have taken so far.
    pub(crate) fn cpu(&self) -> f64 {
        const TICKS_PER_SECOND: f64 = 100.0;
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.daemon.id())).unwrap_or_default();
        let after = text.rsplit(')').next().unwrap_or_default();
        let ticks: f64 = after.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<f64>().ok()).sum();
        ticks / TICKS_PER_SECOND
    }

    /// Kilobytes of the daemon's highest resident set since [`Engine::reset_peak`].
    pub(crate) fn peak(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
    }
}

/// Barque, and Docker where it is installed.
pub(crate) fn start(binary: &Path, scratch: &Path) -> Result<Vec<Engine>> {
    let roots = |name: &str| -> Result<(PathBuf, String)> {
        let dir = scratch.join(name);
        std::fs::create_dir_all(&dir)?;
        let socket = format!("unix://{}/sock", dir.display());
        Ok((dir, socket))
    };
    let (dir, socket) = roots("barque")?;
    let mut barque = Command::new(binary);
    barque.arg("daemon").args(["-H", &socket, "--bridge", "bqbench0", "--bip", "10.213.60.1/22"]);
    let docker_client = ["/usr/bin/docker", "docker"].iter().find(|p| Path::new(p).exists()).unwrap_or(&"docker");
    let client = vec![binary.display().to_string(), "-H".into(), socket];
    let mut engines = vec![spawn("barque", barque, client, &dir, "--pidfile")?];
    if Command::new("dockerd").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        let (dir, socket) = roots("docker")?;
        let mut docker = Command::new("dockerd");
        docker.args(["-H", &socket, "--bip", "10.213.64.1/22"]);
        let client = vec![(*docker_client).to_owned(), "-H".into(), socket];
        engines.push(spawn("docker", docker, client, &dir, "-p")?);
    }
    Ok(engines)
}

fn spawn(name: &'static str, mut daemon: Command, client: Vec<String>, dir: &Path, pid: &str) -> Result<Engine> {
    let path = dir.join("log");
    let log = std::fs::File::create(&path)?;
    daemon.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
    daemon.arg(pid).arg(dir.join("pid")).stdout(log.try_clone()?).stderr(log).stdin(Stdio::null());
    let engine = Engine { name, client, daemon: daemon.spawn().with_context(|| format!("start {name}"))? };
    for _ in 0..300 {
        if engine.command(&["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
            return Ok(engine);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("{name} does not answer:\n{}", std::fs::read_to_string(path).unwrap_or_default())
}

/// A root file system of busybox-static as an archive; `programs` are copied to its root under these names.
pub(crate) fn busybox_tar(scratch: &Path, programs: &[(&str, &Path)]) -> Result<String> {
    let (root, tar) = (scratch.join("root"), scratch.join("root.tar").display().to_string());
    shell(&format!(
        "set -e; r={}; mkdir -p $r/bin $r/etc $r/proc $r/sys $r/dev $r/tmp; cp /bin/busybox $r/bin/; \
         for a in sh true sleep cat ls; do ln -s busybox $r/bin/$a; done; echo root:x:0:0::/:/bin/sh > $r/etc/passwd",
        root.display()
    ))?;
    for (name, program) in programs {
        std::fs::copy(program, root.join(name))?;
    }
    shell(&format!("tar -C {} -cf {tar} .", root.display()))?;
    Ok(tar)
}

/// Medians of `once` by engine, called in turn, so that a change of the machine's mood meets all alike. `runs`: of
/// Barque, and of Docker where that is slow; its own come last, since what it deletes meanwhile slows ext4 down for
/// minutes (inodes freed just now are passed over when new ones are looked for).
pub(crate) fn interleaved(
    engines: &[Engine],
    runs: (usize, usize),
    mut once: impl FnMut(&Engine) -> Result<Duration>,
) -> Result<Vec<f64>> {
    let mut times = vec![Vec::new(); engines.len()];
    for run in 0..runs.0 {
        for (index, (engine, times)) in engines.iter().zip(&mut times).enumerate() {
            if index == 0 || run + runs.1 >= runs.0 {
                times.push(once(engine)?);
            }
        }
    }
    Ok(times.into_iter().map(median).collect())
}

/// The median in milliseconds.
pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, |t| t.as_secs_f64() * 1000.0)
}

pub(crate) fn shell(script: &str) -> Result<()> {
    if !Command::new("sh").args(["-c", script]).status()?.success() {
        bail!("failed: {script}");
    }
    Ok(())
}
