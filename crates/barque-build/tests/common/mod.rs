//! A worker and a cache in memory and temporary directories: no root, no network, no real commands.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod bench;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use barque_build::cache::{Cache, CacheRecord, StepIdentity};
use barque_build::config::ImageConfig;
use barque_build::event::LogStream;
use barque_build::options::PullPolicy;
use barque_build::worker::{
    BaseImage, BaseRequest, ExitStatus, FetchedGit, FetchedUrl, FinishSpec, GitRequest, Layer, LogSink, MountSource,
    ProgressSink, Root, RunMountKind, RunSpec, SnapshotId, UrlRequest, Worker,
};
use barque_model::{DiffId, Digest, Error, Hasher, ImageId, Result, Timestamp};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Snapshots are directories named by their content.
pub struct FakeWorker {
    pub dir: TempDir,
    pub images: Mutex<HashMap<String, FakeImage>>,
    pub urls: Mutex<HashMap<String, Vec<u8>>>,
    /// What was done, in order.
    pub log: Mutex<Vec<String>>,
    /// Commands running now, and the most there ever were.
    pub running: AtomicUsize,
    pub most: AtomicUsize,
    pub finished: Mutex<Vec<FinishSpec>>,
    /// Layers can be stacked.
    pub stacks: AtomicBool,
    counter: AtomicUsize,
}

#[derive(Clone)]
pub struct FakeImage {
    pub config: String,
    /// Path and content; a path ending in `/` is a directory, `a -> b` a link.
    pub files: Vec<(String, String)>,
}

pub struct Active {
    pub path: PathBuf,
    parent: Option<SnapshotId>,
}

impl Drop for Active {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub fn image(config: &str, files: &[(&str, &str)]) -> FakeImage {
    FakeImage {
        config: config.to_owned(),
        files: files.iter().map(|(p, c)| ((*p).to_owned(), (*c).to_owned())).collect(),
    }
}

/// The base images of all tests.
pub fn images() -> HashMap<String, FakeImage> {
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:app:/home/app:/bin/sh\n";
    let group = "root:x:0:\napp:x:1001:\nstaff:x:50:\n";
    let base = [
        ("bin/sh", "shell"),
        ("etc/passwd", passwd),
        ("etc/group", group),
        ("etc/os-release", "ID=fake\n"),
        ("root/", ""),
        ("tmp/", ""),
        ("usr/lib/", ""),
        ("lib -> usr/lib", ""),
        ("srv/data/keep", "kept\n"),
        ("srv/link -> /srv/data", ""),
    ];
    let history = r#""history":[{"created":"2020-01-01T00:00:00Z","created_by":"base"}]"#;
    let json = |config: &str| {
        format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2020-01-01T00:00:00Z","config":{config},{history}}}"#
        )
    };
    let plain = json(r#"{"Env":["PATH=/usr/local/bin:/usr/bin:/bin"],"Cmd":["sh"]}"#);
    let rich = json(
        r#"{"Env":["PATH=/usr/bin:/bin","FROM_BASE=yes","VERSION=1"],"Cmd":["serve"],"Entrypoint":["/entry"],
            "WorkingDir":"/srv","User":"app","ExposedPorts":{"80/tcp":{}},"Volumes":{"/data":{}},
            "Labels":{"a":"base","b":"base"},"StopSignal":"SIGQUIT","Shell":["/bin/bash","-c"],
            "Healthcheck":{"Test":["CMD","true"],"Interval":1000000000}}"#,
    );
    let onbuild = json(
        r#"{"Env":["PATH=/bin"],"OnBuild":["COPY app.txt /app/","RUN echo triggered > /trigger","ENV TRIGGERED=1"]}"#,
    );
    let onbuild_from = json(r#"{"Env":["PATH=/bin"],"OnBuild":["COPY --from=busybox /etc/os-release /from-trigger"]}"#);
    let bad = json(r#"{"Env":["PATH=/bin"],"OnBuild":["FOO bar"]}"#);
    let arm = plain.replace("amd64", "arm64");
    [
        ("busybox", image(&plain, &base)),
        ("busybox:1.36", image(&plain, &base)),
        ("alpine:3.19", image(&plain, &[("bin/sh", "ash"), ("etc/alpine-release", "3.19.0\n")])),
        ("rich", image(&rich, &base)),
        ("onbuild", image(&onbuild, &base)),
        ("onbuild-from", image(&onbuild_from, &base)),
        ("onbuild-bad", image(&bad, &base)),
        ("arm", image(&arm, &base)),
        ("nopath", image(&json(r#"{"Env":null}"#), &base)),
        (
            "empty",
            image(r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#, &[]),
        ),
    ]
    .into_iter()
    .map(|(name, image)| (name.to_owned(), image))
    .collect()
}

pub fn write_files(root: &Path, files: &[(String, String)]) {
    for (name, content) in files {
        if let Some((link, target)) = name.split_once(" -> ") {
            let link = root.join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, link).unwrap();
            continue;
        }
        let path = root.join(name.trim_end_matches('/'));
        fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
        if !name.ends_with('/') {
            fs::write(&path, content).unwrap();
        }
    }
}

/// `mode uid:gid path content`, one line for each entry, sorted.
pub fn listing(root: &Path, contents: bool) -> String {
    fn walk(root: &Path, dir: &Path, contents: bool, out: &mut Vec<String>) {
        let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let meta = fs::symlink_metadata(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let owner = format!("{}:{}", meta.uid(), meta.gid());
            let mode = meta.permissions().mode() & 0o7777;
            if meta.is_symlink() {
                out.push(format!("link {owner} /{name} -> {}", fs::read_link(&path).unwrap().display()));
            } else if meta.is_dir() {
                out.push(format!("{mode:04o} {owner} /{name}/"));
                walk(root, &path, contents, out);
            } else {
                let text = if !contents {
                    String::new()
                } else {
                    match fs::read(&path) {
                        Ok(bytes) if bytes.len() <= 200 => format!(" {:?}", String::from_utf8_lossy(&bytes)),
                        Ok(bytes) => format!(" {}", Digest::of(&bytes)),
                        Err(_) => String::new(),
                    }
                };
                out.push(format!("{mode:04o} {owner} /{name}{text}"));
            }
        }
    }
    let mut out = Vec::new();
    walk(root, root, contents, &mut out);
    out.join("\n") + "\n"
}

/// Files below `dir` that have another name elsewhere.
fn links(dir: &Path) -> usize {
    let entry = |e: io::Result<fs::DirEntry>| {
        let (path, meta) = e.map(|e| (e.path(), e.metadata().unwrap())).unwrap();
        if meta.is_dir() { links(&path) } else { usize::from(meta.is_file() && meta.nlink() > 1) }
    };
    fs::read_dir(dir).unwrap().map(entry).sum()
}

fn copy_tree(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg("--").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

impl FakeWorker {
    pub fn new() -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["snapshots", "active", "fetched"] {
            fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Arc::new(FakeWorker {
            dir,
            images: Mutex::new(images()),
            urls: Mutex::new(HashMap::new()),
            log: Mutex::new(Vec::new()),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            finished: Mutex::new(Vec::new()),
            stacks: AtomicBool::new(false),
            counter: AtomicUsize::new(0),
        })
    }

    pub fn note(&self, line: impl Into<String>) {
        self.log.lock().unwrap().push(line.into());
    }

    /// Lines of the log that start with `prefix`.
    pub fn noted(&self, prefix: &str) -> Vec<String> {
        self.log.lock().unwrap().iter().filter(|l| l.starts_with(prefix)).cloned().collect()
    }

    pub fn snapshot_path(&self, id: &SnapshotId) -> PathBuf {
        self.dir.path().join("snapshots").join(&id.0)
    }

    fn fresh(&self, kind: &str) -> PathBuf {
        let number = self.counter.fetch_add(1, Ordering::SeqCst);
        self.dir.path().join(kind).join(number.to_string())
    }

    fn store(&self, path: &Path) -> SnapshotId {
        let id = SnapshotId(Digest::of(listing(path, true).as_bytes()).hex()[..16].to_owned());
        let place = self.snapshot_path(&id);
        if !place.exists() {
            copy_tree(path, &place);
        }
        id
    }

    fn mount_path(&self, spec: &RunSpec, path: &str) -> Option<PathBuf> {
        let mount = spec.mounts.iter().find(|m| path.starts_with(&m.target))?;
        let rest = path[mount.target.len()..].trim_start_matches('/');
        match &mount.kind {
            RunMountKind::Bind { source, path } => {
                let root = match source {
                    MountSource::Snapshot(id) => self.snapshot_path(id),
                    MountSource::Context(context) => context.path().to_owned(),
                    MountSource::Empty => return None,
                };
                let place = root.join(path);
                Some(if rest.is_empty() { place } else { place.join(rest) })
            }
            RunMountKind::Cache { id, .. } => {
                let path = self.dir.path().join("caches").join(id.replace('/', "_"));
                fs::create_dir_all(&path).unwrap();
                Some(path.join(rest))
            }
            _ => None,
        }
    }

    /// A shell that knows a handful of words.
    fn script(&self, active: &Active, spec: &RunSpec, text: &str, log: &LogSink, cancel: &CancellationToken) -> i32 {
        let inside = |path: &str| {
            self.mount_path(spec, path).unwrap_or_else(|| {
                let path = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", spec.cwd) };
                active.path.join(path.trim_start_matches('/'))
            })
        };
        if text.contains("<<") {
            // Heredocs the shell itself reads are beyond this one.
            return 0;
        }
        for line in text.split(['\n', ';']).flat_map(|l| l.split("&&")).map(str::trim).filter(|l| !l.is_empty()) {
            let (command, target) = line.split_once('>').map_or((line, None), |(c, t)| (c.trim(), Some(t.trim())));
            let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
            let output = match word {
                "echo" => format!("{rest}\n"),
                "cat" => match spec.mounts.iter().find(|m| m.target == rest).map(|m| &m.kind) {
                    Some(RunMountKind::Secret { value, .. }) => String::from_utf8_lossy(&value.0).into_owned(),
                    _ => match fs::read_to_string(inside(rest)) {
                        Ok(text) => text,
                        Err(_) => {
                            log.write(LogStream::Stderr, format!("cat: {rest}: No such file\n").as_bytes());
                            return 1;
                        }
                    },
                },
                "env" => spec.env.iter().map(|e| format!("{e}\n")).collect(),
                "exit" => return rest.parse().unwrap_or(1),
                "sleep" => {
                    let until = std::time::Instant::now() + Duration::from_millis(rest.parse().unwrap_or(0));
                    while std::time::Instant::now() < until && !cancel.is_cancelled() {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    String::new()
                }
                "random" => format!("{}\n", self.counter.fetch_add(1, Ordering::SeqCst)),
                "true" => String::new(),
                word if spec.mounts.iter().any(|m| m.target == word) => format!("ran {word}\n"),
                _ => return 127,
            };
            match target {
                Some(path) => {
                    let path = inside(path);
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, output).unwrap();
                }
                None => log.write(LogStream::Stdout, output.as_bytes()),
            }
        }
        0
    }
}

impl Worker for FakeWorker {
    type Active = Active;

    async fn resolve(&self, request: &BaseRequest, pull: PullPolicy, _: ProgressSink) -> Result<BaseImage> {
        self.note(format!("resolve {} {pull:?}", request.reference));
        let found = self.images.lock().unwrap().get(request.reference.as_str()).cloned();
        let Some(image) = found else {
            return Err(Error::not_found(format!("{}: not found", request.reference)));
        };
        let mut layers = Vec::new();
        if !image.files.is_empty() {
            let place = self.fresh("fetched");
            fs::create_dir(&place).unwrap();
            write_files(&place, &image.files);
            let snapshot = self.store(&place);
            let diff_id = Some(DiffId(Digest::of(snapshot.0.as_bytes())));
            layers.push(Layer { snapshot, diff_id, size: 1, empty: false });
        }
        Ok(BaseImage {
            name: request.reference.parse::<barque_model::Reference>()?.with_default_tag().to_string(),
            id: ImageId(Digest::of(image.config.as_bytes())),
            config: image.config.into_bytes(),
            snapshot: layers.last().map(|l| l.snapshot.clone()),
            layers,
        })
    }

    async fn ensure(&self, base: &BaseImage, _: ProgressSink) -> Result<()> {
        self.note(format!("ensure {}", base.name));
        Ok(())
    }

    async fn prepare(&self, parent: Option<&SnapshotId>) -> Result<Active> {
        let path = self.fresh("active");
        match parent {
            Some(parent) => copy_tree(&self.snapshot_path(parent), &path),
            None => fs::create_dir(&path).unwrap(),
        }
        Ok(Active { path, parent: parent.cloned() })
    }

    async fn root(&self, active: &Active) -> Result<Root> {
        Ok(Root::new(active.path.clone()))
    }

    async fn view(&self, snapshot: &SnapshotId) -> Result<Root> {
        self.note(format!("view {snapshot}"));
        Ok(Root::new(self.snapshot_path(snapshot)))
    }

    async fn own_files(&self, active: &Active, earlier: &SnapshotId) -> Result<Option<(Root, Root)>> {
        self.note(format!("own files of {earlier}"));
        Ok(Some((Root::new(self.snapshot_path(earlier)), Root::new(active.path.clone()))))
    }

    async fn run(
        &self,
        active: &Active,
        spec: &RunSpec,
        log: LogSink,
        cancel: CancellationToken,
    ) -> Result<ExitStatus> {
        self.note(format!("run {}", spec.args.join(" ")));
        self.note(format!("spec {spec:?}"));
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let text = match spec.args.as_slice() {
            [shell, .., flag, text] if shell.ends_with("sh") && flag == "-c" => text.clone(),
            args => args.join(" "),
        };
        let code = tokio::task::block_in_place(|| self.script(active, spec, &text, &log, &cancel));
        self.running.fetch_sub(1, Ordering::SeqCst);
        if cancel.is_cancelled() {
            return Err(Error::canceled("killed"));
        }
        Ok(ExitStatus { code, oom_killed: false })
    }

    async fn commit(&self, active: Active, _: Option<Timestamp>) -> Result<Layer> {
        self.note(format!("{} links", links(&active.path)));
        let snapshot = self.store(&active.path);
        let empty = active.parent.as_ref() == Some(&snapshot);
        self.note(format!("commit{}", if empty { " empty" } else { "" }));
        let diff_id = Some(DiffId(Digest::of(snapshot.0.as_bytes())));
        Ok(Layer { snapshot, diff_id, size: 1, empty })
    }

    fn can_stack(&self) -> bool {
        self.stacks.load(Ordering::SeqCst)
    }

    async fn stack(&self, parent: &SnapshotId, layer: &Layer) -> Result<Layer> {
        self.note("stack");
        let path = self.fresh("fetched");
        copy_tree(&self.snapshot_path(parent), &path);
        let from = self.snapshot_path(&layer.snapshot).join(".");
        assert!(Command::new("cp").arg("-a").arg(from).arg(&path).status().unwrap().success());
        Ok(Layer { snapshot: self.store(&path), ..layer.clone() })
    }

    async fn fetch_url(&self, request: &UrlRequest, _: ProgressSink) -> Result<FetchedUrl> {
        self.note(format!("fetch {}", request.url));
        let bytes = self.urls.lock().unwrap().get(&request.url).cloned();
        let bytes = bytes.ok_or_else(|| Error::unavailable(format!("{}: no such host", request.url)))?;
        let digest = Digest::of(&bytes);
        if let Some(wanted) = request.checksum.filter(|c| *c != digest) {
            return Err(Error::invalid(format!("digest mismatch {digest}: {wanted}")));
        }
        let place = self.fresh("fetched");
        fs::create_dir(&place).unwrap();
        let file_name = request.url.rsplit('/').next().unwrap_or("").to_owned();
        fs::write(place.join(if file_name.is_empty() { "__unnamed__" } else { &file_name }), bytes).unwrap();
        let modified = Some(Timestamp::from_secs(1_000_000));
        Ok(FetchedUrl { root: Root::new(place), file_name, modified, digest })
    }

    async fn fetch_git(&self, request: &GitRequest, _: ProgressSink) -> Result<FetchedGit> {
        self.note(format!("git {}", request.url));
        let place = self.fresh("fetched");
        fs::create_dir(&place).unwrap();
        let reference = request.reference.clone().unwrap_or_default();
        write_files(
            &place,
            &[("README".into(), format!("{} {reference}", request.url)), ("src/main".into(), "m".into())],
        );
        Ok(FetchedGit { root: Root::new(place), commit: "c".repeat(40) })
    }

    async fn finish(&self, spec: &FinishSpec) -> Result<ImageId> {
        let diff_ids: Vec<DiffId> = spec.layers.iter().filter_map(|l| l.diff_id).collect();
        let json = spec.config.to_json(&diff_ids)?;
        self.finished.lock().unwrap().push(spec.clone());
        Ok(ImageId(Digest::of(&json)))
    }
}

/// A cache in memory. Records of pruned snapshots can be dropped with `forget`.
#[derive(Default)]
pub struct MemoryCache {
    pub records: Mutex<BTreeMap<String, (usize, CacheRecord)>>,
    blobs: Mutex<HashMap<String, Vec<u8>>>,
    age: AtomicUsize,
    /// Some records came from elsewhere.
    pub imports: AtomicBool,
}

impl Cache for MemoryCache {
    fn get(&self, key: &Digest) -> Result<Option<CacheRecord>> {
        Ok(self.records.lock().unwrap().get(&key.to_string()).map(|(_, r)| r.clone()))
    }

    fn imports(&self) -> bool {
        self.imports.load(Ordering::SeqCst)
    }

    fn put(&self, record: &CacheRecord) -> Result<()> {
        let age = self.age.fetch_add(1, Ordering::SeqCst);
        let encoded = CacheRecord::decode(&record.encode()).expect("records survive");
        self.records.lock().unwrap().insert(record.key.to_string(), (age, encoded));
        Ok(())
    }

    fn nearest(&self, step: &StepIdentity) -> Result<Option<CacheRecord>> {
        let records = self.records.lock().unwrap();
        let rank = |r: &CacheRecord| {
            let place = r.step.scope == step.scope && r.step.stage == step.stage;
            match (place, r.step.instruction == step.instruction, r.step.ordinal == step.ordinal) {
                (true, true, _) => 3,
                (true, false, true) => 2,
                (false, true, _) => 1,
                _ => 0,
            }
        };
        let best = records.values().filter(|(_, r)| rank(r) > 0).max_by_key(|(age, r)| (rank(r), *age));
        Ok(best.map(|(_, r)| r.clone()))
    }

    fn blob(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.blobs.lock().unwrap().get(name).cloned())
    }

    fn put_blob(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.blobs.lock().unwrap().insert(name.to_owned(), bytes.to_owned());
        Ok(())
    }
}

/// Hash of the whole thing, for comparing results.
pub fn digest_of(parts: &[&str]) -> String {
    let mut hasher = Hasher::new();
    parts.iter().for_each(|p| hasher.update(p.as_bytes()));
    hasher.finish().short()
}

/// A configuration as the tests show it: pretty, without times.
pub fn pretty(config: &ImageConfig) -> String {
    let mut config = config.clone();
    config.created = None;
    for entry in &mut config.history {
        entry.created = None;
        entry.comment = String::new();
    }
    serde_json::to_string_pretty(&config).unwrap() + "\n"
}
