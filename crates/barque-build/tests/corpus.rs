//! The golden corpus: one feature or error for each directory of `tests/dockerfiles`.
//!
//! | file | what |
//! | --- | --- |
//! | `Dockerfile` | the input |
//! | `context/` | the build context |
//! | `case.json` | options, see [`Case`] |
//! | `graph.txt` | what is planned |
//! | `config.json` | the image's configuration, without times |
//! | `tree.txt` | what the build changed in the base's file system |
//! | `warnings.txt` | lints |
//! | `error.txt` | instead of all that: message, then hint |
//!
//! `BARQUE_BLESS=1` writes the expectations; read the diff before you keep it.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use barque_build::context::ContextDir;
use barque_build::event::EventSink;
use barque_build::graph::Planner;
use barque_build::options::{BuildOptions, BuildRequest, NamedContext, PullPolicy, Secret, SshAgent};
use barque_build::worker::{ProgressSink, Worker};
use barque_build::{build, instructions};
use barque_model::{Error, Timestamp};
use common::{FakeWorker, MemoryCache, listing, pretty};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Case {
    target: String,
    args: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
    ssh: Vec<String>,
    platform: Option<String>,
    epoch: Option<i64>,
    allow_insecure: bool,
    /// Name of the Dockerfile, for its own ignore file.
    dockerfile: Option<String>,
    /// Directories of the context git would not keep.
    dirs: Vec<String>,
    /// Modes of files of the context, in octal.
    modes: BTreeMap<String, String>,
    /// Answers of the web.
    urls: BTreeMap<String, String>,
    /// Archives to make in the context: name and `tar` options.
    archives: BTreeMap<String, Vec<String>>,
    /// `--build-context`: `image:REF` or `dir:SUBDIRECTORY`.
    contexts: BTreeMap<String, String>,
}

struct Result_ {
    files: BTreeMap<&'static str, String>,
}

const EXPECTED: [&str; 5] = ["graph.txt", "config.json", "tree.txt", "warnings.txt", "error.txt"];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dockerfiles")
}

/// A copy of the case's context with well-known modes.
fn context_of(dir: &Path, case: &Case) -> tempfile::TempDir {
    let context = tempfile::tempdir().unwrap();
    let source = dir.join("context");
    if source.exists() {
        let status = Command::new("cp").arg("-a").arg(source.join(".")).arg(context.path()).status().unwrap();
        assert!(status.success());
    }
    for sub in &case.dirs {
        fs::create_dir_all(context.path().join(sub)).unwrap();
    }
    fn normalize(path: &Path) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let mode = if meta.is_dir() || meta.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
            if !meta.is_symlink() {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
            if meta.is_dir() {
                normalize(&path);
            }
        }
    }
    normalize(context.path());
    for (path, mode) in &case.modes {
        let mode = u32::from_str_radix(mode, 8).unwrap();
        fs::set_permissions(context.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, options) in &case.archives {
        let mut tar = Command::new("tar");
        tar.current_dir(context.path()).args(["--owner=7", "--group=8", "--numeric-owner", "--sort=name", "-cf", name]);
        assert!(tar.args(options).status().unwrap().success());
    }
    context
}

fn options_of(case: &Case, scratch: &Path, context: &Path) -> BuildOptions {
    let mut options = BuildOptions::new(scratch.to_owned());
    options.target = case.target.clone();
    options.build_platform = "linux/amd64".parse().unwrap();
    options.build_args = case.args.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
    options.labels = case.labels.clone();
    options.platform = case.platform.as_ref().map(|p| p.parse().unwrap());
    options.source_date_epoch = case.epoch.map(Timestamp::from_secs);
    options.allow_insecure = case.allow_insecure;
    options.secrets = case.secrets.iter().map(|(k, v)| (k.clone(), Secret(v.as_bytes().into()))).collect();
    options.ssh = case.ssh.iter().map(|id| (id.clone(), SshAgent { socket: "/agent".into() })).collect();
    for (name, value) in &case.contexts {
        let (kind, value) = value.split_once(':').unwrap();
        let context = match kind {
            "image" => NamedContext::Image(value.to_owned()),
            _ => NamedContext::Directory(ContextDir::open(context.join(value), "").unwrap()),
        };
        options.named_contexts.insert(name.clone(), context);
    }
    options
}

async fn plan(
    worker: &FakeWorker,
    bytes: &[u8],
    options: &BuildOptions,
    context: &ContextDir,
) -> Result<String, Error> {
    let file = instructions::parse(bytes, "Dockerfile").map_err(|e| e.to_error())?;
    let fail = |d: barque_build::span::Diagnostic| d.to_plain_error(&file.source);
    let ignore = Some(context.ignore()).filter(|i| !i.is_empty());
    let mut planner = Planner::new(&file, options, ignore).map_err(fail)?;
    loop {
        let pending = planner.pending();
        if pending.is_empty() {
            break;
        }
        for (request, _) in pending {
            let image = worker.resolve(&request, PullPolicy::Missing, ProgressSink::new(|_| {})).await?;
            planner.provide(&request, image).map_err(fail)?;
        }
    }
    let graph = planner.finish().map_err(fail)?;
    let mut text = graph.dump();
    if !graph.unused_build_args.is_empty() {
        text.push_str(&format!("unused build arguments {}\n", graph.unused_build_args.join(" ")));
    }
    Ok(text)
}

async fn run(dir: &Path) -> Result_ {
    let case: Case = match fs::read(dir.join("case.json")) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", dir.display())),
        Err(_) => Case::default(),
    };
    let bytes = fs::read(dir.join("Dockerfile")).unwrap();
    let (context_dir, scratch) = (context_of(dir, &case), tempfile::tempdir().unwrap());
    let worker = FakeWorker::new();
    for (url, text) in &case.urls {
        worker.urls.lock().unwrap().insert(url.clone(), text.clone().into_bytes());
    }
    let mut files = BTreeMap::new();
    let error = |e: Error| {
        let text = format!("{}\n{}\n", e.message(), e.hint().map(|h| format!("--\n{h}")).unwrap_or_default());
        text.replace(&context_dir.path().display().to_string(), "CONTEXT").trim_end().to_owned() + "\n"
    };
    let name = case.dockerfile.clone().unwrap_or_else(|| "Dockerfile".into());
    let context = match ContextDir::open(context_dir.path().to_owned(), &name) {
        Ok(context) => context,
        Err(e) => {
            files.insert("error.txt", error(Error::invalid(e.chain())));
            return Result_ { files };
        }
    };
    let options = options_of(&case, scratch.path(), context_dir.path());
    if let Ok(graph) = plan(&worker, &bytes, &options, &context).await {
        files.insert("graph.txt", graph);
    }
    let request =
        BuildRequest { dockerfile: bytes, dockerfile_name: "Dockerfile".into(), context: Some(context), options };
    let cache = Arc::new(MemoryCache::default());
    let built = build(worker.clone(), cache, request, EventSink::discard(), CancellationToken::new()).await;
    let outcome = match built {
        Ok(outcome) => outcome,
        Err(failure) => {
            files.insert("error.txt", error(failure.error));
            return Result_ { files };
        }
    };
    let mut config = pretty(&outcome.config);
    if let Some(created) = outcome.config.created.as_ref().filter(|_| case.epoch.is_some()) {
        config.push_str(&format!("// created {created}\n"));
    }
    files.insert("config.json", config);
    files.insert("tree.txt", difference(&worker, &outcome.layers, outcome.snapshot.as_ref(), &outcome.config));
    if !outcome.warnings.is_empty() {
        files.insert("warnings.txt", outcome.warnings.iter().map(|w| w.summary() + "\n").collect());
    }
    Result_ { files }
}

/// What the build added to or changed in its base.
fn difference(
    worker: &FakeWorker,
    layers: &[barque_build::worker::Layer],
    snapshot: Option<&barque_build::worker::SnapshotId>,
    config: &barque_build::config::ImageConfig,
) -> String {
    let from_base = config.history.first().is_some_and(|h| h.created_by == "base");
    let base = layers.first().filter(|_| from_base).map(|l| listing(&worker.snapshot_path(&l.snapshot), true));
    let base: Vec<String> = base.unwrap_or_default().lines().map(str::to_owned).collect();
    let Some(snapshot) = snapshot else { return String::new() };
    let now = listing(&worker.snapshot_path(snapshot), true);
    let mut out: Vec<String> = now.lines().filter(|l| !base.iter().any(|b| b == l)).map(str::to_owned).collect();
    let path = |line: &str| line.split_whitespace().nth(2).unwrap_or("").to_owned();
    let paths: Vec<String> = now.lines().map(path).collect();
    out.extend(base.iter().filter(|b| !paths.contains(&path(b))).map(|b| format!("removed {b}")));
    out.iter().map(|l| format!("{l}\n")).collect()
}

/// Without privileges everything belongs to the caller: owners cannot be compared.
fn comparable(name: &str, text: &str) -> String {
    let root = rustix::process::geteuid().is_root();
    if name != "tree.txt" || root {
        return text.to_owned();
    }
    let strip = |line: &str| {
        let mut words: Vec<&str> = line.splitn(3, ' ').collect();
        if words.len() == 3 {
            words.remove(1);
        }
        words.join(" ") + "\n"
    };
    text.lines().map(strip).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_case_gives_what_it_gave() {
    let bless = std::env::var_os("BARQUE_BLESS").is_some();
    let only = std::env::var("BARQUE_CASE").unwrap_or_default();
    let mut dirs: Vec<PathBuf> =
        fs::read_dir(corpus()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    dirs.sort();
    dirs.retain(|d| d.display().to_string().contains(&only));
    let mut failures = Vec::new();
    for batch in dirs.chunks(8) {
        let runs: Vec<_> = batch.iter().cloned().map(|dir| tokio::spawn(async move { run(&dir).await })).collect();
        for (dir, result) in batch.iter().zip(runs) {
            let result = result.await.unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
            for name in EXPECTED {
                let path = dir.join(name);
                let (actual, expected) = (result.files.get(name), fs::read_to_string(&path).ok());
                if bless {
                    match actual {
                        Some(text) => fs::write(&path, text).unwrap(),
                        None => drop(fs::remove_file(&path)),
                    }
                    continue;
                }
                let same = actual.map(|t| comparable(name, t)) == expected.as_ref().map(|t| comparable(name, t));
                if !same {
                    let case = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    failures.push(format!(
                        "== {case}/{name}\n-- expected\n{}\n-- got\n{}",
                        expected.as_deref().unwrap_or("(nothing)"),
                        actual.map_or("(nothing)", String::as_str)
                    ));
                }
            }
        }
    }
    println!("{} cases", dirs.len());
    assert!(failures.is_empty(), "{} differences\n{}", failures.len(), failures.join("\n"));
    assert!(!only.is_empty() || dirs.len() >= 150, "the corpus has {} cases", dirs.len());
}
