//! `up -d` of many services, and an `up` that has nothing to do, beside docker-compose.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::engines::{Engine, median};
use crate::table::Table;

/// Services of the project.
const SERVICES: usize = 20;
/// Most whole rounds of up and down: each takes docker-compose most of a minute.
const ROUNDS_MAX: usize = 5;

/// Prints three rows. `engines` are Barque and, where there is one, Docker with `docker-compose`.
pub(super) fn measure(engines: &[Engine], scratch: &Path, runs: usize, table: &mut Table) -> Result<()> {
    let dir = scratch.join("compose");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("docker-compose.yml"), project())?;
    let tools: Vec<(&Engine, Vec<String>)> = engines.iter().filter_map(|e| Some((e, tool(e)?))).collect();
    let (mut up, mut idle, mut down) =
        (vec![Vec::new(); tools.len()], vec![Vec::new(); tools.len()], vec![Vec::new(); tools.len()]);
    for _ in 0..runs.clamp(1, ROUNDS_MAX) {
        for (i, (engine, tool)) in tools.iter().enumerate() {
            up[i].push(timed(engine, tool, &dir, &["up", "-d"])?);
            let running = engine.call(&["ps", "-q", "--filter", "label=com.docker.compose.project=bench20"])?;
            if running.lines().count() != SERVICES {
                bail!("{}: {} of {SERVICES} services run", engine.name, running.lines().count());
            }
            for _ in 0..3 {
                idle[i].push(timed(engine, tool, &dir, &["up", "-d"])?);
            }
            down[i].push(timed(engine, tool, &dir, &["down", "-t", "0"])?);
        }
    }
    for (label, times) in [
        ("compose up -d of 20 services", up),
        ("compose up -d, nothing to do", idle),
        ("compose down of 20 services", down),
    ] {
        let medians: Vec<f64> = times.into_iter().map(median).collect();
        table.row(label, &medians, "ms");
    }
    Ok(())
}

fn project() -> String {
    let mut text = String::from("version: \"3.8\"\nservices:\n");
    for n in 1..=SERVICES {
        let _ = writeln!(text, "  s{n}:\n    image: bench\n    command: [\"/bin/sleep\", \"1000000\"]");
    }
    text
}

/// The program that brings projects up on this engine.
fn tool(engine: &Engine) -> Option<Vec<String>> {
    if engine.name == "barque" {
        return Some(engine.client.iter().cloned().chain(["compose".to_owned()]).collect());
    }
    let there = Command::new("docker-compose").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    there.is_ok_and(|s| s.success()).then(|| vec!["docker-compose".to_owned()])
}

fn timed(engine: &Engine, tool: &[String], dir: &Path, args: &[&str]) -> Result<Duration> {
    let socket = engine.client.last().cloned().unwrap_or_default();
    let mut command = Command::new(&tool[0]);
    command.args(&tool[1..]).args(["-p", "bench20"]).args(args).current_dir(dir).env("DOCKER_HOST", socket);
    command.stdin(Stdio::null());
    let begin = Instant::now();
    // Docker 20.10 at times says that a network it just emptied has endpoints; a second call goes through.
    let tries = if args.first() == Some(&"down") { 3 } else { 1 };
    for attempt in 1..=tries {
        let output = command.output()?;
        if output.status.success() {
            return Ok(begin.elapsed());
        }
        if attempt == tries {
            bail!("{} compose {}: {}", engine.name, args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(begin.elapsed())
}
