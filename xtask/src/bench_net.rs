//! Measuring networks and copies beside Docker: making and removing a network, copying many small files in and out,
//! bytes per second through a published port and across a bridge.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::engines::{self, Engine, busybox_tar, head, interleaved, median, row, shell};

const HELP: &str = "\
Usage: cargo xtask bench-net [--runs N] [--smoke] [--barque PATH]

Runs as root. Docker is measured where `dockerd` is installed; Barque alone otherwise.
  --runs N        calls of each kind (default 11; a quarter of them for copies; medians are printed)
  --smoke         one call of each kind: does it run at all?
  --barque PATH   measure this binary instead of a fresh `cargo xtask dist`
";

/// Files of the tree that is copied.
const FILES: usize = 20_000;
/// Bytes sent in one measurement of throughput.
const BYTES: u64 = 2_000_000_000;
const PORT: u16 = 7100;
/// The role of this program in a container: takes bytes, or sends them to the address that follows.
pub const SINK: &str = "bench-net-sink";
pub const SOURCE: &str = "bench-net-source";

/// Measures and prints one table.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    engines::task(("bench-net", HELP, 11), root, args, measure)
}

fn measure(binary: &Path, runs: usize, scratch: &Path) -> Result<()> {
    // In memory: what others do on the disk meanwhile would be most of what a copy is measured to take.
    shell(&format!("mount -t tmpfs -o size=4g tmpfs {}", scratch.display()))?;
    let tar = busybox_tar(scratch, &[("bench", &std::env::current_exe()?)])?;
    let engines = engines::start(binary, scratch)?;
    for engine in &engines {
        engine.call(&["import", &tar, "bench"])?;
        engine.call(&["run", "-d", "--name", "box", "bench", "/bin/sleep", "1000000"])?;
    }
    head(&format!("median of {runs}"));
    networks(&engines, runs)?;
    copies(&engines, runs.div_ceil(4), scratch)?;
    throughput(&engines, runs)
}

fn networks(engines: &[Engine], runs: usize) -> Result<()> {
    let both = interleaved(engines, (runs, runs), |engine| {
        let begin = Instant::now();
        engine.call(&["network", "create", "bench-net"])?;
        engine.call(&["network", "rm", "bench-net"])?;
        Ok(begin.elapsed())
    })?;
    row("network create and rm", &both, "ms");
    Ok(())
}

fn copies(engines: &[Engine], runs: usize, scratch: &Path) -> Result<()> {
    let tree = scratch.join("tree");
    for number in 0..FILES {
        let dir = tree.join(format!("d{}", number / 100));
        if number % 100 == 0 {
            std::fs::create_dir_all(&dir)?;
        }
        std::fs::write(dir.join(format!("f{number}")), vec![b'x'; 100 + number % 3900])?;
    }
    let source = tree.display().to_string();
    let (mut into, mut out) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        into.push(interleaved(engines, (1, 1), |engine| engine.timed(&["cp", &source, "box:/tmp/tree"]))?);
        out.push(interleaved(engines, (1, 1), |engine| {
            let target = scratch.join(format!("out-{}", engine.name));
            let time = engine.timed(&["cp", "box:/tmp/tree", &target.display().to_string()])?;
            let found = std::fs::read_dir(&target)?.count();
            if found != FILES / 100 {
                bail!("{}: {found} directories came out", engine.name);
            }
            std::fs::remove_dir_all(&target)?;
            Ok(time)
        })?);
        for engine in engines {
            engine.call(&["exec", "box", "/bin/busybox", "rm", "-rf", "/tmp/tree"])?;
        }
    }
    row(&format!("cp of {FILES} files into a container"), &columns(into), "ms");
    row(&format!("cp of {FILES} files out of it"), &columns(out), "ms");
    Ok(())
}

/// Medians by engine of rows by run.
fn columns(rows: Vec<Vec<f64>>) -> Vec<f64> {
    let engines = rows.first().map_or(0, Vec::len);
    (0..engines)
        .map(|i| median(rows.iter().filter_map(|r| r.get(i)).map(|ms| Duration::from_secs_f64(ms / 1000.0)).collect()))
        .collect()
}

fn throughput(engines: &[Engine], runs: usize) -> Result<()> {
    for (index, engine) in engines.iter().enumerate() {
        let port = format!("{}:{PORT}", 7101 + index);
        engine.call(&["run", "-d", "--name", "sink", "-p", &port, "bench", "/bench", SINK])?;
    }
    let rate = |time: Duration| Duration::from_secs_f64(BYTES as f64 / time.as_secs_f64() / 1e9);
    let mut number = 0;
    let mut published = vec![Vec::new(); engines.len()];
    let mut bridge = vec![Vec::new(); engines.len()];
    for _ in 0..runs {
        for (index, engine) in engines.iter().enumerate() {
            let address = host_address()?;
            published[index].push(rate(send(&format!("{address}:{}", 7101 + index))?));
            let sink = engine.call(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "sink"])?;
            number += 1;
            let name = format!("source{number}");
            let said =
                engine.call(&["run", "--rm", "--name", &name, "bench", "/bench", SOURCE, &format!("{sink}:{PORT}")])?;
            bridge[index].push(rate(Duration::from_secs_f64(said.trim().parse()?)));
        }
    }
    // Medians of rates: more is better, so the ratio is turned around.
    let medians = |all: Vec<Vec<Duration>>| all.into_iter().map(|v| median(v) / 1000.0).collect::<Vec<f64>>();
    for (label, rates) in [("through a published port", medians(published)), ("across the bridge", medians(bridge))] {
        let docker = rates.get(1).map_or_else(String::new, |r| format!("{r:.2} GB/s"));
        let ratio = rates.get(1).map_or_else(String::new, |r| format!("{:.2}x", rates[0] / r));
        println!("{label:<38} {:>12} {docker:>12} {ratio:>8}", format!("{:.2} GB/s", rates[0]));
    }
    Ok(())
}

/// An address of this machine that is not the loopback: what other machines would use.
fn host_address() -> Result<String> {
    shell(
        "ip link show bench-host > /dev/null 2>&1 || { ip link add bench-host type veth peer name bench-peer; ip addr add 10.213.70.1/24 dev bench-host; ip link set bench-host up; ip link set bench-peer up; }",
    )?;
    Ok("10.213.70.1".into())
}

fn send(address: &str) -> Result<Duration> {
    let mut stream = (0..50)
        .find_map(|_| TcpStream::connect(address).map_err(|_| std::thread::sleep(Duration::from_millis(100))).ok())
        .with_context(|| format!("nobody answers at {address}"))?;
    let block = vec![7u8; 256 << 10];
    let begin = Instant::now();
    let mut left = BYTES;
    while left > 0 {
        let n = left.min(block.len() as u64) as usize;
        stream.write_all(&block[..n])?;
        left -= n as u64;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // The other side says when it has everything.
    stream.read_to_end(&mut Vec::new())?;
    Ok(begin.elapsed())
}

/// In a container: takes everything and closes.
pub fn sink() -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    let mut buffer = vec![0u8; 256 << 10];
    for stream in listener.incoming() {
        let mut stream = stream?;
        while stream.read(&mut buffer)? > 0 {}
    }
    Ok(())
}

/// In a container: sends to `address` and prints the seconds it took.
pub fn source(address: &str) -> Result<()> {
    println!("{}", send(address)?.as_secs_f64());
    Ok(())
}
