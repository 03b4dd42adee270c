//! Measuring networks and copies beside Docker: making and removing a network, copying many small files in and out,
//! bytes per second through a published port and across a bridge.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::engines::{self, Engine, Task, busybox_tar, interleaved, median, shell};
use crate::table::{Bound, Table, Target};

const HELP: &str = "\
Usage: cargo xtask bench-net [--runs N] [--smoke] [--check] [--barque PATH]

Runs as root. Docker is measured where `dockerd` is installed; Barque alone otherwise.
  --runs N        calls of each kind (default 11; a quarter of them for copies; medians are printed)
  --smoke         one call of each kind: does it run at all?
  --check         fail where a figure is worse than the target of the project
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

const TARGETS: &[Target] = &[
    ("network create and rm", Bound::Times(5.0)),
    ("cp of 20000 files", Bound::Times(3.0)),
    // Not below Docker's: a tenth is what two equal runs differ by.
    ("through a published port", Bound::Times(0.9)),
    ("across the bridge", Bound::Times(0.9)),
];

/// Measures and prints one table.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    engines::task(&Task { name: "bench-net", help: HELP, runs: 11, targets: TARGETS }, root, args, measure)
}

fn measure(binary: &Path, runs: usize, scratch: &Path, table: &mut Table) -> Result<()> {
    // In memory: what others do on the disk meanwhile would be most of what a copy is measured to take.
    shell(&format!("mount -t tmpfs -o size=4g tmpfs {}", scratch.display()))?;
    let tar = busybox_tar(scratch, &[("bench", &std::env::current_exe()?)])?;
    let engines = engines::start(binary, scratch)?;
    for engine in &engines {
        engine.call(&["import", &tar, "bench"])?;
        engine.call(&["run", "-d", "--name", "box", "bench", "/bin/sleep", "1000000"])?;
    }
    table.head(&format!("median of {runs}"));
    networks(&engines, runs, table)?;
    copies(&engines, runs.div_ceil(4), scratch, table)?;
    throughput(&engines, runs, table)
}

fn networks(engines: &[Engine], runs: usize, table: &mut Table) -> Result<()> {
    let both = interleaved(engines, (runs, runs), |engine| {
        let begin = Instant::now();
        engine.call(&["network", "create", "bench-net"])?;
        engine.call(&["network", "rm", "bench-net"])?;
        Ok(begin.elapsed())
    })?;
    table.row("network create and rm", &both, "ms");
    Ok(())
}

fn copies(engines: &[Engine], runs: usize, scratch: &Path, table: &mut Table) -> Result<()> {
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
    table.row(&format!("cp of {FILES} files into a container"), &columns(into), "ms");
    table.row(&format!("cp of {FILES} files out of it"), &columns(out), "ms");
    Ok(())
}

/// Medians by engine of rows by run.
fn columns(rows: Vec<Vec<f64>>) -> Vec<f64> {
    let engines = rows.first().map_or(0, Vec::len);
    (0..engines)
        .map(|i| median(rows.iter().filter_map(|r| r.get(i)).map(|ms| Duration::from_secs_f64(ms / 1000.0)).collect()))
        .collect()
}

fn throughput(engines: &[Engine], runs: usize, table: &mut Table) -> Result<()> {
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
    let medians = |all: Vec<Vec<Duration>>| all.into_iter().map(|v| median(v) / 1000.0).collect::<Vec<f64>>();
    table.rate("through a published port", &medians(published), "GB/s");
    table.rate("across the bridge", &medians(bridge), "GB/s");
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
