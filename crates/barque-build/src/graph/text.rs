//! Texts: Docker's names of steps, Go's notation of lists, and the graph's dump.

use std::fmt::Write as _;

use barque_model::strconv::quote;

use super::{BuildGraph, CopySource, Op, PlannedKind};

/// Go's `%q` of a list: `["a" "b"]`.
pub(super) fn quoted_list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|i| quote(i)).collect();
    format!("[{}]", items.join(" "))
}

/// Go's `%v` of a list: `[a b]`.
pub(super) fn plain_list<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    format!("[{}]", items.join(" "))
}

/// First word in upper case.
pub(super) fn upper_first_word(text: &str) -> String {
    match text.split_once(' ') {
        Some((word, rest)) => format!("{} {rest}", word.to_uppercase()),
        None => text.to_uppercase(),
    }
}

pub(super) fn dump(graph: &BuildGraph) -> String {
    let mut out = String::new();
    for vertex in &graph.vertices {
        let _ = writeln!(out, "#{} {}", vertex.id.0, vertex.name.replace('\n', "\\n"));
        match &vertex.op {
            Op::Base(base) => {
                let _ = writeln!(out, "  base {}", base.name);
            }
            Op::Run(op) => dump_run(&mut out, op),
            Op::Copy(op) => dump_copy(&mut out, op),
            Op::Mkdir(op) => {
                let user = if op.user.is_empty() { String::new() } else { format!(" user={}", op.user) };
                let _ = writeln!(out, "  mkdir on {} {}{user}", op.parent, op.path);
            }
            Op::FetchUrl(request) => {
                let sum = request.checksum.map(|c| format!(" checksum={c}")).unwrap_or_default();
                let _ = writeln!(out, "  fetch {}{sum}", request.url);
            }
            Op::FetchGit(r) => {
                let reference = r.reference.as_deref().unwrap_or("HEAD");
                let keep = if r.keep_git_dir { " keep-git-dir" } else { "" };
                let _ = writeln!(out, "  git {} {reference} subdir={:?}{keep}", r.url, r.subdir);
            }
        }
    }
    let _ = writeln!(out, "target {}", graph.target);
    out
}

fn dump_run(out: &mut String, op: &super::RunOp) {
    let _ = writeln!(out, "  run on {} {}", op.parent, quoted_list(&op.args));
    let _ = writeln!(out, "  env {}", quoted_list(&op.env));
    let user = if op.user.is_empty() { "root" } else { &op.user };
    let _ = writeln!(out, "  cwd {} user {user}", op.cwd);
    if let Some(network) = &op.network {
        let _ = writeln!(out, "  network {network:?}");
    }
    if op.security != crate::options::SecurityMode::Sandbox {
        let _ = writeln!(out, "  security {:?}", op.security);
    }
    for mount in &op.mounts {
        let ro = if mount.read_only { "ro" } else { "rw" };
        let _ = writeln!(out, "  mount {} {ro} {}", mount.target, mount_text(&mount.kind));
    }
}

/// A mount in one line; also its part of the cache key, so it names no secret's value.
pub(crate) fn mount_text(kind: &PlannedKind) -> String {
    match kind {
        PlannedKind::Bind { from, path } => format!("bind {from}:{path}"),
        PlannedKind::Cache { id, sharing, from, path, mode, uid, gid } => {
            format!("cache id={id} {sharing:?} {from}:{path} {mode:o} {uid}:{gid}")
        }
        PlannedKind::Tmpfs { size } => format!("tmpfs size={size}"),
        PlannedKind::Secret { id, env, required, mode, uid, gid } => {
            let env = env.as_deref().map(|e| format!(" env={e}")).unwrap_or_default();
            format!("secret id={id}{env} required={required} {mode:o} {uid}:{gid}")
        }
        PlannedKind::Ssh { id, required, mode, uid, gid } => {
            format!("ssh id={id} required={required} {mode:o} {uid}:{gid}")
        }
        PlannedKind::File { content, mode } => {
            format!("file {} {mode:o}", barque_model::Digest::of(content))
        }
    }
}

fn dump_copy(out: &mut String, op: &super::CopyOp) {
    let _ = writeln!(out, "  {} on {} to {}", op.verb.to_lowercase(), op.parent, op.destination);
    for source in &op.sources {
        let _ = match source {
            CopySource::Path(p) => {
                let pivot = if op.parents { format!(" pivot=/{}", p.pivot) } else { String::new() };
                let unpack = if p.unpack { " unpack" } else { "" };
                writeln!(out, "  from {} /{}{pivot}{unpack}", p.from, p.pattern)
            }
            CopySource::Url { vertex, unpack } => {
                writeln!(out, "  from url #{}{}", vertex.0, if *unpack { " unpack" } else { "" })
            }
            CopySource::Git { vertex } => writeln!(out, "  from git #{}", vertex.0),
            CopySource::Inline { name, content } => {
                writeln!(out, "  inline {name} {:?}", String::from_utf8_lossy(content))
            }
        };
    }
    let mut options = Vec::new();
    options.extend(op.chown.as_ref().map(|c| format!("chown={c}")));
    options.extend(op.chmod.as_ref().map(|c| match c {
        crate::instructions::Chmod::Octal(mode) => format!("chmod={mode:o}"),
        crate::instructions::Chmod::Symbolic(_) => "chmod=symbolic".to_owned(),
    }));
    options.extend(op.parents.then(|| "parents".to_owned()));
    options.extend(op.link.then(|| "link".to_owned()));
    options.extend(op.exclude.iter().map(|e| format!("exclude={e}")));
    if !options.is_empty() {
        let _ = writeln!(out, "  {}", options.join(" "));
    }
}
