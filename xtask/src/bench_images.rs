//! Measuring images: a 500 MB image of 8 layers pulled from one registry and loaded from one archive, by both engines.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::engines::{self, Engine, Task, median, shell};
use crate::table::{Bound, Table, Target};

const HELP: &str = "\
Usage: cargo xtask bench-images [--runs N] [--smoke] [--check] [--barque PATH]

Runs as root; needs docker-registry, skopeo, tar, gzip. Docker is measured where `dockerd` is installed.
  --runs N        calls of each kind (default 5; medians are printed)
  --smoke         one call of each kind: does it run at all?
  --check         fail where a figure is worse than the target of the project
  --barque PATH   measure this binary instead of a fresh `cargo xtask dist`
The image is made once and kept in target/bench-images.
";

/// Megabytes of the layers, unpacked.
const LAYERS: [usize; 8] = [160, 120, 80, 60, 40, 20, 15, 5];
const REGISTRY: &str = "127.0.0.1:5055";
const IMAGE: &str = "127.0.0.1:5055/bench/app:1";
const ARCHIVE_IMAGE: &str = "bench/app:1";

const TARGETS: &[Target] = &[
    ("pull and unpack", Bound::Times(2.5)),
    ("load", Bound::Times(2.0)),
    ("daemon's highest memory", Bound::Below(80.0)),
];

/// Measures and prints one table.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    let image = root.join("target/bench-images");
    let task = Task { name: "bench-images", help: HELP, runs: 5, targets: TARGETS };
    engines::task(&task, root, args, |binary, runs, scratch, table| {
        if !image.join("layout/index.json").exists() {
            generate(&image)?;
        }
        measure(binary, runs, &image, scratch, table)
    })
}

struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _already_gone = self.0.wait();
    }
}

fn measure(binary: &Path, runs: usize, image: &Path, scratch: &Path, table: &mut Table) -> Result<()> {
    let _registry = registry(scratch)?;
    let layout = image.join("layout");
    shell(&format!(
        "skopeo copy -q --dest-tls-verify=false oci:{}:1 docker://{IMAGE} && rm -f {2} && \
         skopeo copy -q oci:{0}:1 docker-archive:{2}:{1}",
        layout.display(),
        ARCHIVE_IMAGE,
        image.join("archive.tar").display()
    ))?;
    let engines = engines::start(binary, scratch)?;
    table.head(&format!("{} MB in {} layers, median of {runs}", LAYERS.iter().sum::<usize>(), LAYERS.len()));
    let (pulls, cpu, peaks) = interleaved(&engines, runs, &["pull", "-q", IMAGE], IMAGE)?;
    table.row("pull and unpack", &pulls, "ms");
    table.row("  processor time of the daemon", &cpu, "ms");
    let archive = image.join("archive.tar").display().to_string();
    let (loads, load_cpu, load_peaks) = interleaved(&engines, runs, &["load", "-q", "-i", &archive], ARCHIVE_IMAGE)?;
    table.row("load", &loads, "ms");
    table.row("  processor time of the daemon", &load_cpu, "ms");
    table.row("daemon's highest memory, pull", &peaks, "MB");
    table.row("daemon's highest memory, load", &load_peaks, "MB");
    Ok(())
}

/// Medians of the times and of the processor time in milliseconds, and the highest peaks in megabytes.
#[allow(clippy::type_complexity, reason = "three columns of one table")]
fn interleaved(engines: &[Engine], runs: usize, args: &[&str], name: &str) -> Result<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    let mut times = vec![Vec::new(); engines.len()];
    let mut cpu = vec![Vec::new(); engines.len()];
    let mut peaks = vec![0f64; engines.len()];
    for _ in 0..runs {
        for (((engine, times), cpu), peak) in engines.iter().zip(&mut times).zip(&mut cpu).zip(&mut peaks) {
            engine.reset_peak()?;
            let before = engine.cpu();
            times.push(engine.timed(args)?);
            cpu.push(Duration::from_secs_f64((engine.cpu() - before).max(0.0)));
            *peak = peak.max(engine.peak() as f64 / 1000.0);
            engine.call(&["rmi", name])?;
            // What the removal still deletes is not the next one's work. ext4 searches long for an inode in the
            // first five seconds after a deletion, which no user's pull meets.
            shell("sync")?;
            std::thread::sleep(Duration::from_secs(6));
        }
    }
    let medians = |all: Vec<Vec<Duration>>| all.into_iter().map(median).collect();
    Ok((medians(times), medians(cpu), peaks))
}

/// Debian's registry on loopback, on files of its own.
fn registry(scratch: &Path) -> Result<Registry> {
    let dir = scratch.join("registry");
    std::fs::create_dir_all(&dir)?;
    let config = dir.join("config.yml");
    std::fs::write(
        &config,
        format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\n\
             http: {{addr: '{REGISTRY}'}}\n",
            dir.display()
        ),
    )?;
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("docker-registry is needed")?;
    let registry = Registry(child);
    for _ in 0..100 {
        if std::net::TcpStream::connect(REGISTRY).is_ok() {
            return Ok(registry);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("docker-registry does not answer")
}

/// Makes an OCI layout: program-like files of several sizes, a third of them not very compressible.
fn generate(dir: &Path) -> Result<()> {
    println!("making the image in {} (once)", dir.display());
    let (layout, blobs) = (dir.join("layout"), dir.join("layout/blobs/sha256"));
    std::fs::create_dir_all(&blobs)?;
    let (mut layers, mut diffs) = (Vec::new(), Vec::new());
    for (index, megabytes) in LAYERS.iter().enumerate() {
        let tree = dir.join("tree");
        let _was_not_there = std::fs::remove_dir_all(&tree);
        fill(&tree.join(format!("layer{index}")), *megabytes, index as u64 + 1)?;
        let (tar, packed) = (dir.join("layer.tar"), dir.join("layer.tar.gz"));
        shell(&format!(
            "tar --sort=name --mtime=@1700000000 --owner=0 --group=0 -C {} -cf {} . && gzip -n -6 -c {1} > {}",
            tree.display(),
            tar.display(),
            packed.display()
        ))?;
        diffs.push(format!("sha256:{}", digest(&tar)?));
        layers.push(blob(&packed, &blobs, "application/vnd.oci.image.layer.v1.tar+gzip")?);
        std::fs::remove_dir_all(&tree)?;
        std::fs::remove_file(&tar)?;
    }
    let write = |name: &str, value: &serde_json::Value| -> Result<PathBuf> {
        let path = dir.join(name);
        std::fs::write(&path, serde_json::to_vec(value)?)?;
        Ok(path)
    };
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": diffs},
    });
    let config = blob(&write("config", &config)?, &blobs, "application/vnd.oci.image.config.v1+json")?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
    let mut entry = blob(&write("manifest", &manifest)?, &blobs, kind)?;
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "1"});
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(layout.join("index.json"), serde_json::to_vec(&index)?)?;
    Ok(())
}

/// Moves a file among the blobs; gives its descriptor.
fn blob(path: &Path, blobs: &Path, kind: &str) -> Result<serde_json::Value> {
    let (digest, size) = (digest(path)?, std::fs::metadata(path)?.len());
    std::fs::rename(path, blobs.join(&digest))?;
    Ok(serde_json::json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size}))
}

fn digest(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(path).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().next().context("sha256sum")?.to_owned())
}

/// Fills a directory: many small files, some of a megabyte and more, as in a distribution's `/usr`.
fn fill(dir: &Path, megabytes: usize, seed: u64) -> Result<()> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let words: Vec<String> = (0..4000).map(|_| random.word()).collect();
    let (mut left, mut number) = (megabytes * 1_000_000, 0usize);
    while left > 0 {
        let wanted = match random.below(100) {
            0..=79 => 200 + random.below(16_000),
            80..=97 => 16_000 + random.below(200_000),
            _ => 1_000_000 + random.below(4_000_000),
        };
        let size = wanted.min(left);
        let sub = dir.join(format!("d{}", number / 60)).join(format!("s{}", number % 7));
        std::fs::create_dir_all(&sub)?;
        let mut file = BufWriter::new(std::fs::File::create(sub.join(format!("file{number}")))?);
        let mut written = 0;
        while written < size {
            // Code compresses to a half, text to a quarter or less, pictures not at all.
            let piece: Vec<u8> = match number % 6 {
                0 => random.next().to_le_bytes().to_vec(),
                1 | 2 => vec![random.below(40) as u8, 0x48, random.below(256) as u8, 0, random.below(16) as u8, 0x8b],
                _ => format!("{} ", words[random.below(words.len()).min(random.below(words.len()))]).into_bytes(),
            };
            let piece = &piece[..piece.len().min(size - written)];
            file.write_all(piece)?;
            written += piece.len();
        }
        file.flush()?;
        left -= size;
        number += 1;
    }
    Ok(())
}

/// Numbers that are the same on every machine (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn word(&mut self) -> String {
        (0..3 + self.below(8)).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }
}
