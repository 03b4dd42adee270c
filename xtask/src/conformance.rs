//! The golden corpus of Dockerfiles on two engines: Barque, and Docker's classic builder for what it supports.
//!
//! Compared are whether a build succeeds, the image's configuration, and its file tree with owners, modes and
//! content. Times are not. What only BuildKit can is listed as skipped, with Docker's own words.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::engines::{self, Engine, Task, shell};

const HELP: &str = "\
Usage: cargo xtask conformance-build [--barque PATH]

Runs as root; needs dockerd and busybox-static. Builds every case of crates/barque-build/tests/dockerfiles that
Docker's classic builder supports on both engines and compares what comes of it.
";

/// Options of a case that the classic API has no place for.
const NOT_CLASSIC: [&str; 7] = ["secrets", "ssh", "contexts", "allow_insecure", "epoch", "urls", "dockerfile"];
/// Cases in which Barque follows BuildKit where it differs from the classic builder, and how.
const BUILDKIT: &[(&str, &str)] = &[
    ("add-tar-chown", "--chown counts for unpacked archives too"),
    ("arg-after-env", "an ARG after an ENV of that name counts"),
    ("arg-check", "BUILDKIT_DOCKERFILE_CHECK means something"),
    ("arg-check-invalid", "BUILDKIT_DOCKERFILE_CHECK means something"),
    ("arg-inherited", "a stage has the arguments of the stage it is made from"),
    ("arg-platforms", "TARGETPLATFORM and the like are set"),
    ("arg-proxy", "proxy arguments are variables in both cases of letters"),
    ("arg-syntax-other", "BUILDKIT_SYNTAX means something"),
    ("copy-dir-in-file-way", "a file in the way of a directory is an error"),
    ("copy-file-over-dir", "a file in the place of a directory is an error"),
    ("copy-glob", "a pattern that ends with a slash matches directories"),
    ("epoch-invalid", "SOURCE_DATE_EPOCH means something"),
    ("healthcheck-none", "HEALTHCHECK NONE leaves nothing of the base's check"),
    ("run-exec-empty", "RUN [] is an error"),
    ("syntax-check-error", "# check= means something"),
    ("syntax-check-invalid", "# check= means something"),
    ("syntax-other", "# syntax= means something"),
    ("syntax-not-utf8", "bytes that are no text are an error"),
    ("workdir-relative-to-base", "WORKDIR belongs to USER"),
    ("workdir-user", "WORKDIR belongs to USER"),
];
/// Paths that `create` makes in a container.
const OF_CONTAINERS: [&str; 8] =
    [".dockerenv", "dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"];
/// The base images of the corpus, as Dockerfiles on `raw`.
const BASES: [(&str, &str); 6] = [
    ("busybox", "ENV PATH=/usr/local/bin:/usr/bin:/bin\nCMD [\"sh\"]\n"),
    ("alpine:3.19", "ENV PATH=/usr/local/bin:/usr/bin:/bin\nRUN echo 3.19.0 > /etc/alpine-release\nCMD [\"sh\"]\n"),
    (
        "rich",
        "ENV PATH=/usr/bin:/bin FROM_BASE=yes VERSION=1\nCMD [\"serve\"]\nENTRYPOINT [\"/entry\"]\nWORKDIR /srv\n\
         USER app\nEXPOSE 80\nVOLUME /data\nLABEL a=base b=base\nSTOPSIGNAL SIGQUIT\nSHELL [\"/bin/bash\", \"-c\"]\n\
         HEALTHCHECK --interval=1s CMD [\"true\"]\n",
    ),
    (
        "onbuild",
        "ENV PATH=/bin\nONBUILD COPY app.txt /app/\nONBUILD RUN echo triggered > /trigger\nONBUILD ENV TRIGGERED=1\n",
    ),
    ("onbuild-from", "ENV PATH=/bin\nONBUILD COPY --from=busybox /etc/os-release /from-trigger\n"),
    ("nopath", ""),
];

/// Compares and prints; an error if anything differs that should not.
pub fn run(root: &Path, args: &[String]) -> Result<()> {
    let task = Task { name: "conformance-build", help: HELP, runs: 1, targets: &[] };
    engines::task(&task, root, args, |binary, _, scratch, _| compare_all(binary, root, scratch))
}

fn compare_all(binary: &Path, root: &Path, scratch: &Path) -> Result<()> {
    let engines = engines::start(binary, scratch)?;
    let [barque, docker] = &engines[..] else { bail!("dockerd is not installed: nothing to compare with") };
    for engine in &engines {
        bases(engine, scratch)?;
    }
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root.join("crates/barque-build/tests/dockerfiles"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    cases.sort();
    let (mut same, mut refused, mut skipped, mut different) = (0, 0, 0, Vec::new());
    for case in &cases {
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match one(barque, docker, case, scratch).with_context(|| name.clone())? {
            Verdict::Same => same += 1,
            Verdict::Refused => refused += 1,
            Verdict::Skipped(why) => {
                skipped += 1;
                println!("skipped   {name}: {why}");
            }
            Verdict::Different(what) => match BUILDKIT.iter().find(|(known, _)| *known == name) {
                Some((_, why)) => {
                    skipped += 1;
                    println!("skipped   {name}: {why}");
                }
                None => {
                    println!("different {name}: {what}");
                    different.push(name);
                }
            },
        }
    }
    println!(
        "{} cases: {same} the same image, {refused} refused by both, {skipped} skipped, {} different",
        cases.len(),
        different.len()
    );
    if different.is_empty() { Ok(()) } else { bail!("different: {}", different.join(" ")) }
}

fn bases(engine: &Engine, scratch: &Path) -> Result<()> {
    let tar = scratch.join("raw.tar");
    shell(&format!(
        "set -e; r={0}/raw; rm -rf $r; mkdir -p $r/bin $r/etc $r/root $r/tmp $r/usr/lib $r/srv/data; \
         cp /bin/busybox $r/bin/; for a in sh bash ash true cat echo env sleep ls id; do ln -s busybox $r/bin/$a; done; \
         printf 'root:x:0:0:root:/root:/bin/sh\\napp:x:1000:1001:app:/home/app:/bin/sh\\n' > $r/etc/passwd; \
         printf 'root:x:0:\\napp:x:1001:\\nstaff:x:50:\\n' > $r/etc/group; echo ID=fake > $r/etc/os-release; \
         ln -s usr/lib $r/lib; echo kept > $r/srv/data/keep; ln -s /srv/data $r/srv/link; tar -C $r -cf {1} .",
        scratch.display(),
        tar.display()
    ))?;
    engine.call(&["import", &tar.display().to_string(), "raw"])?;
    let dir = scratch.join("base");
    std::fs::create_dir_all(&dir)?;
    for (name, text) in BASES {
        std::fs::write(dir.join("Dockerfile"), format!("FROM raw\n{text}"))?;
        let output = build(engine, &["-t", name], &dir)?;
        if !output.status.success() {
            bail!("{}: {name}: {}", engine.name, String::from_utf8_lossy(&output.stderr));
        }
    }
    engine.call(&["tag", "busybox", "busybox:1.36"])?;
    Ok(())
}

fn build(engine: &Engine, options: &[&str], context: &Path) -> Result<Output> {
    let mut command = engine.command(&["build"]);
    command.args(options).arg(context).env("DOCKER_BUILDKIT", "0").stdin(Stdio::null());
    command.output().context("cannot run the client")
}

enum Verdict {
    Same,
    Refused,
    Skipped(String),
    Different(String),
}

fn one(barque: &Engine, docker: &Engine, case: &Path, scratch: &Path) -> Result<Verdict> {
    let document = std::fs::read(case.join("case.json")).unwrap_or_else(|_| b"{}".to_vec());
    let options: BTreeMap<String, Value> = serde_json::from_slice(&document)?;
    if let Some(option) = NOT_CLASSIC.iter().find(|o| options.contains_key(**o)) {
        return Ok(Verdict::Skipped(format!("needs {option}, which the classic API does not have")));
    }
    let context = prepare(case, &options, &scratch.join("case"))?;
    let mut args: Vec<String> = vec!["-t".into(), "result".into()];
    for (flag, key) in [("--build-arg", "args"), ("--label", "labels")] {
        for (name, value) in options.get(key).and_then(Value::as_object).into_iter().flatten() {
            args.extend([flag.to_owned(), format!("{name}={}", value.as_str().unwrap_or_default())]);
        }
    }
    for (flag, key) in [("--target", "target"), ("--platform", "platform")] {
        if let Some(value) = options.get(key).and_then(Value::as_str) {
            args.extend([flag.to_owned(), value.to_owned()]);
        }
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (ours, theirs) = (build(barque, &args, &context)?, build(docker, &args, &context)?);
    let words = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().filter(|l| !l.starts_with("DEPRECATED") && !l.trim().is_empty()).take(3);
        last.collect::<Vec<_>>().join(" / ")
    };
    match (ours.status.success(), theirs.status.success()) {
        (false, false) => Ok(Verdict::Refused),
        (true, false) => Ok(Verdict::Skipped(format!("the classic builder refuses it: {}", words(&theirs)))),
        (false, true) => Ok(Verdict::Different(format!("only Barque refuses it: {}", words(&ours)))),
        (true, true) => {
            let (ours, theirs) = (look(barque, scratch)?, look(docker, scratch)?);
            let lines = |text: &str, other: &str| {
                let missing = text.lines().filter(|l| !other.lines().any(|o| o == *l));
                missing.take(4).map(str::to_owned).collect::<Vec<_>>().join(" | ")
            };
            if ours == theirs {
                return Ok(Verdict::Same);
            }
            Ok(Verdict::Different(format!("barque: {} -- docker: {}", lines(&ours, &theirs), lines(&theirs, &ours))))
        }
    }
}

/// A copy of the case's context with the modes that the corpus has.
fn prepare(case: &Path, options: &BTreeMap<String, Value>, dir: &Path) -> Result<PathBuf> {
    let _first_time = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir)?;
    let source = case.join("context");
    if source.exists() {
        shell(&format!("cp -a {}/. {1}/ && chmod -R u=rwX,go=rX {1}", source.display(), dir.display()))?;
    }
    std::fs::copy(case.join("Dockerfile"), dir.join("Dockerfile"))?;
    for sub in options.get("dirs").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        std::fs::create_dir_all(dir.join(sub))?;
    }
    for (path, mode) in options.get("modes").and_then(Value::as_object).into_iter().flatten() {
        let mode = u32::from_str_radix(mode.as_str().unwrap_or_default(), 8)?;
        std::fs::set_permissions(dir.join(path), std::fs::Permissions::from_mode(mode))?;
    }
    for (name, words) in options.get("archives").and_then(Value::as_object).into_iter().flatten() {
        let mut tar = Command::new("tar");
        tar.current_dir(dir).args(["--owner=7", "--group=8", "--numeric-owner", "--sort=name", "-cf", name]);
        tar.args(words.as_array().into_iter().flatten().filter_map(Value::as_str));
        if !tar.status()?.success() {
            bail!("cannot make {name}");
        }
    }
    Ok(dir.to_owned())
}

/// Configuration and tree of the image `result`, one fact a line; the image is removed.
fn look(engine: &Engine, scratch: &Path) -> Result<String> {
    let config = engine.call(&["image", "inspect", "-f", "{{json .Config}}", "result"])?;
    let config: BTreeMap<String, Value> = serde_json::from_str(&config)?;
    let mut out = String::new();
    for (key, value) in &config {
        // What runs the classic builder's containers is no part of an image; empty is as good as absent.
        let own = matches!(key.as_str(), "Hostname" | "Domainname" | "Image" | "AttachStdin" | "Tty");
        let empty = match value {
            Value::Null | Value::Bool(false) => true,
            // The root is where one is anyway.
            Value::String(text) => text.is_empty() || key == "WorkingDir" && text == "/",
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if !own && !empty {
            out.push_str(&format!("{key}={value}\n"));
        }
    }
    let container = engine.call(&["create", "--entrypoint", "/x", "result", "/x"])?;
    let dir = scratch.join("tree");
    let _first_time = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;
    let tar = scratch.join("tree.tar").display().to_string();
    engine.call(&["export", "-o", &tar, &container])?;
    shell(&format!("tar -xpf {tar} --numeric-owner -C {}", dir.display()))?;
    engine.call(&["rm", "-v", &container])?;
    engine.call(&["rmi", "-f", "result"])?;
    let mut lines = Vec::new();
    walk(&dir, &dir, &mut lines)?;
    Ok(out + &lines.join("\n"))
}

fn walk(root: &Path, dir: &Path, out: &mut Vec<String>) -> Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    entries.sort();
    for path in entries {
        let name = path.strip_prefix(root)?.display().to_string();
        if OF_CONTAINERS.contains(&name.as_str()) {
            continue;
        }
        let meta = std::fs::symlink_metadata(&path)?;
        let (mode, owner) = (meta.mode() & 0o7777, format!("{}:{}", meta.uid(), meta.gid()));
        if meta.is_symlink() {
            out.push(format!("link {owner} /{name} -> {}", std::fs::read_link(&path)?.display()));
        } else if meta.is_dir() {
            // `create` makes it for its own files where the image has none.
            if name != "etc" {
                out.push(format!("{mode:04o} {owner} /{name}/"));
            }
            walk(root, &path, out)?;
        } else if meta.file_type().is_fifo() || meta.file_type().is_char_device() {
            out.push(format!("{mode:04o} {owner} /{name} special"));
        } else {
            let bytes = without_hostname(std::fs::read(&path)?);
            out.push(format!("{mode:04o} {owner} /{name} {}", content(&bytes)));
        }
    }
    Ok(())
}

/// A file's content on one line: short ones as they are, long ones by length and hash.
fn content(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=200 => format!("{:?}", String::from_utf8_lossy(bytes)),
        long => {
            let mut hash = std::hash::DefaultHasher::new();
            hash.write(bytes);
            format!("{long} bytes, {:016x}", hash.finish())
        }
    }
}

/// What `env` printed in a container of the classic builder, without the container's name.
fn without_hostname(bytes: Vec<u8>) -> Vec<u8> {
    match bytes.windows(9).position(|part| part == b"HOSTNAME=") {
        Some(start) => {
            let end = bytes[start..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| start + n + 1);
            [&bytes[..start], &bytes[end..]].concat()
        }
        None => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::content;

    #[test]
    fn long_files_of_one_length_differ() {
        assert_eq!(content(b"a\n"), "\"a\\n\"");
        let (a, b) = (content(&[b'a'; 300]), content(&[b'b'; 300]));
        assert!(a != b && a.starts_with("300 bytes, "), "{a} {b}");
    }
}
