//! Development tasks: `cargo xtask tidy | priv | bench | dist | docs`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for those who watch it")]

mod bench;
mod bench_build;
mod bench_images;
mod bench_net;
mod conformance;
mod dist;
mod engines;
mod privileged;
mod table;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
Usage: cargo xtask TASK [ARGS]

  tidy            check the tree's own rules: layering, file and function length, module docs
  priv [FILTER]   run the privileged tests (root, own namespaces and scratch directories)
  bench [ARGS]    measure Barque beside Docker, interleaved; --check asserts the targets (bench --help)
  bench-build     measure builds beside Docker (bench-build --help)
  bench-images    measure pulls and loads of a 500 MB image beside Docker (bench-images --help)
  bench-net       measure networks, copies and throughput beside Docker (bench-net --help)
  conformance-build  build the corpus of Dockerfiles on both engines and compare
  dist            build the release binary, statically linked, and check that it is
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((task, rest)) = args.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    match task.as_str() {
        "tidy" => tidy::run(&root()),
        "priv" => privileged::run(&root(), rest),
        "bench" => bench::run(&root(), rest),
        "bench-build" => bench_build::run(&root(), rest),
        "bench-net" => bench_net::run(&root(), rest),
        bench_net::SINK => bench_net::sink(),
        bench_net::SOURCE => bench_net::source(rest.first().map_or("", String::as_str)),
        "bench-images" => bench_images::run(&root(), rest),
        "conformance-build" => conformance::run(&root(), rest),
        "dist" => dist::run(&root()).map(|_| ()),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => bail!("unknown task '{other}': see cargo xtask help"),
    }
}

/// The workspace's directory.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}
