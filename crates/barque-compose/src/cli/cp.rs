//! `cp`: files between a service's containers and this machine.

use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use barque_client::Upload;

use super::args::Cp;
use super::context::{Context, Failure, Outcome};
use super::session::Session;
use super::terminal;
use crate::apply::engine::Engine;
use crate::plan::observed::Container;

/// One end of a copy.
enum End {
    Service { name: String, path: String },
    Local(String),
}

fn end(text: &str) -> End {
    // a local path with a colon is written ./a:b or /a:b
    match text.split_once(':') {
        Some((name, path)) if !text.starts_with(['.', '/']) && !name.is_empty() => {
            End::Service { name: name.to_owned(), path: path.to_owned() }
        }
        _ => End::Local(text.to_owned()),
    }
}

/// Runs `cp`.
pub(super) async fn cp(cx: &Context, args: Cp) -> Outcome {
    let (source, target) = (end(&args.source), end(&args.target));
    let session = Session::open(cx, "Copying").await?;
    match (source, target) {
        (End::Service { name, path }, End::Local(local)) => {
            let container = choose(&session, &name, &args).await?.remove(0);
            from_container(cx, &session.engine, &container, &path, &local, &args).await?;
            if local != "-" {
                eprintln!("{} {} copy {}:{path} to {local} Copied", prefix(cx), container.name, container.name);
            }
        }
        (End::Local(local), End::Service { name, path }) => {
            let tar = match local.as_str() {
                "-" => read_stdin().await?,
                local => {
                    let container = choose(&session, &name, &args).await?.remove(0);
                    let (dir, base) = place(&session.engine, &container, &path, local).await?;
                    let tar = pack(&cx.host.cwd.join(local), local, &base, &args)?;
                    for container in choose(&session, &name, &args).await? {
                        let shown = format!("copy {local} to {}:{path}", container.name);
                        session
                            .engine
                            .put_archive(&container.id, &dir, args.archive, Upload::bytes(tar.clone()))
                            .await?;
                        eprintln!("{} {} {shown} Copied", prefix(cx), container.name);
                    }
                    return Ok(0);
                }
            };
            for container in choose(&session, &name, &args).await? {
                session.engine.put_archive(&container.id, &path, args.archive, Upload::bytes(tar.clone())).await?;
            }
        }
        (End::Service { .. }, End::Service { .. }) => {
            return Err(Failure::new("copying between services is not supported"));
        }
        (End::Local(_), End::Local(_)) => {
            return Err(Failure::new("must specify at least one container source").with_hint("write SERVICE:PATH"));
        }
    }
    Ok(0)
}

/// What stands before each line of a dry run.
fn prefix(cx: &Context) -> &'static str {
    if cx.global.dry_run { crate::apply::progress::DRY_RUN } else { "" }
}

async fn choose(session: &Session, service: &str, args: &Cp) -> Result<Vec<Container>, Failure> {
    let found = session.containers(&[service.to_owned()], true, args.all).await?;
    let mut found: Vec<Container> = found.into_iter().filter(|c| args.index == 0 || c.number == args.index).collect();
    found.sort_by_key(|c| (c.oneoff, c.number));
    if found.is_empty() {
        return Err(Failure::new(format!("no container found for service {service:?}")));
    }
    Ok(found)
}

async fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut input = terminal::input();
    let mut out = Vec::new();
    while let Some(piece) = input.recv().await {
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

/// The directory of the container to unpack in, and the name the source gets there.
async fn place(engine: &Engine, container: &Container, path: &str, local: &str) -> Result<(String, String), Failure> {
    let client = engine.read().client();
    let name = Path::new(local).file_name().map(|n| n.to_string_lossy().into_owned());
    let contents = local.ends_with("/.") || local == ".";
    let mut target = path.to_owned();
    let mut stat = client.container_archive_stat(&container.id, &target).await;
    if let Some(link) = stat.as_ref().ok().filter(|s| s.is_symlink()).map(|s| s.link_target.clone()) {
        target = link;
        stat = client.container_archive_stat(&container.id, &target).await;
    }
    match stat {
        Ok(stat) if stat.is_dir() => {
            let base = if contents { ".".to_owned() } else { name.unwrap_or_else(|| ".".to_owned()) };
            Ok((target, base))
        }
        Ok(_) => Ok(split(&target)),
        Err(e) if e.is_not_found() && !path.ends_with('/') => Ok(split(&target)),
        Err(e) => Err(e.into()),
    }
}

/// `/a/b` → `/a` and `b`.
fn split(path: &str) -> (String, String) {
    match path.trim_end_matches('/').rsplit_once('/') {
        Some(("", base)) => ("/".to_owned(), base.to_owned()),
        Some((dir, base)) => (dir.to_owned(), base.to_owned()),
        None => ("/".to_owned(), path.to_owned()),
    }
}

fn pack(path: &Path, shown: &str, base: &str, args: &Cp) -> Result<Vec<u8>, Failure> {
    let fail = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Failure::new(format!("stat {shown}: no such file or directory")),
        _ => Failure::new(format!("{shown}: {e}")),
    };
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(args.follow_link);
    let meta = if args.follow_link { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
    let meta = meta.map_err(fail)?;
    if meta.is_dir() {
        builder.append_dir_all(base, path).map_err(fail)?;
    } else {
        builder.append_path_with_name(path, base).map_err(fail)?;
    }
    builder.into_inner().map_err(fail)
}

async fn from_container(
    cx: &Context,
    engine: &Engine,
    container: &Container,
    path: &str,
    local: &str,
    args: &Cp,
) -> Result<(), Failure> {
    let client = engine.read().client();
    let mut source = path.to_owned();
    if args.follow_link {
        let stat = client.container_archive_stat(&container.id, &source).await?;
        if stat.is_symlink() {
            source = stat.link_target;
        }
    }
    let mut archive = client.container_archive_get(&container.id, &source).await?;
    if local == "-" {
        let mut out = io::stdout();
        while let Some(piece) = archive.content.next().await? {
            out.write_all(&piece).map_err(|e| Failure::new(e.to_string()))?;
        }
        return Ok(());
    }
    if engine.is_dry_run() {
        return Ok(());
    }
    let target = cx.host.cwd.join(local);
    let contents = path.ends_with("/.");
    let (dir, base) = if target.is_dir() {
        let base = if contents { String::new() } else { archive.stat.name.clone() };
        (target, base)
    } else if local.ends_with('/') && !archive.stat.is_dir() {
        return Err(Failure::new(format!("no such directory: {local}")));
    } else {
        let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let dir = target.parent().unwrap_or(Path::new("/")).to_path_buf();
        if !dir.is_dir() {
            return Err(Failure::new(format!(
                "invalid output path: directory {:?} does not exist",
                dir.display().to_string()
            )));
        }
        (dir, name)
    };
    // the stream is read on this thread and unpacked on another, so that neither holds it all
    let (sender, receiver) = std::sync::mpsc::sync_channel::<bytes::Bytes>(16);
    let (old, owners) = (archive.stat.name.clone(), args.archive);
    let unpacking = tokio::task::spawn_blocking(move || {
        unpack(Pieces { receiver, piece: bytes::Bytes::new() }, &dir, &old, &base, owners)
    });
    while let Some(piece) = archive.content.next().await? {
        if sender.send(piece).is_err() {
            break;
        }
    }
    drop(sender);
    unpacking.await.map_err(|e| Failure::new(e.to_string()))?.map_err(|e| Failure::new(format!("{local}: {e}")))
}

struct Pieces {
    receiver: std::sync::mpsc::Receiver<bytes::Bytes>,
    piece: bytes::Bytes,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.recv() {
                Ok(piece) => self.piece = piece,
                Err(_) => return Ok(0),
            }
        }
        let count = out.len().min(self.piece.len());
        out[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// Unpacks below `dir`, the first part of each name (`old`) replaced by `base`. What a container made is not trusted:
/// nothing is written outside of `dir` or through a link.
fn unpack(stream: impl Read, dir: &Path, old: &str, base: &str, owners: bool) -> io::Result<()> {
    let mut archive = tar::Archive::new(stream);
    let mut dirs: Vec<(PathBuf, u32)> = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        let Some(relative) = renamed(&name, old, base) else {
            return Err(io::Error::other(format!("the archive holds the unsafe name {}", name.display())));
        };
        let path = dir.join(&relative);
        through_links(dir, &relative)?;
        let mode = entry.header().mode()? & 0o7777;
        match entry.header().entry_type() {
            tar::EntryType::Directory => match std::fs::create_dir(&path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => dirs.push((path.clone(), mode)),
            },
            tar::EntryType::Symlink => {
                let target = entry.link_name()?.ok_or_else(|| io::Error::other("a link without a target"))?;
                let _ = std::fs::remove_file(&path);
                std::os::unix::fs::symlink(target, &path)?;
            }
            tar::EntryType::Link => {
                let target = entry.link_name()?.ok_or_else(|| io::Error::other("a link without a target"))?;
                let source = renamed(&target, old, base).ok_or_else(|| io::Error::other("an unsafe link"))?;
                through_links(dir, &source)?;
                let _ = std::fs::remove_file(&path);
                std::fs::hard_link(dir.join(source), &path)?;
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let _ =
                    std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_symlink()).then(|| std::fs::remove_file(&path));
                let mut options = std::fs::OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(mode);
                let mut file = options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(&path)?;
                io::copy(&mut entry, &mut file)?;
                file.set_permissions(std::fs::Permissions::from_mode(mode))?;
            }
            other => {
                return Err(io::Error::other(format!(
                    "{}: entries of the kind {other:?} cannot be copied",
                    name.display()
                )));
            }
        }
        if owners {
            let (uid, gid) = (entry.header().uid()?, entry.header().gid()?);
            let (uid, gid) = (u32::try_from(uid).ok(), u32::try_from(gid).ok());
            std::os::unix::fs::lchown(&path, uid, gid)?;
        }
    }
    // last, since a directory may forbid writing into it
    for (path, mode) in dirs.into_iter().rev() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// The name below the target, or nothing if it would lead elsewhere.
fn renamed(name: &Path, old: &str, base: &str) -> Option<PathBuf> {
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    if parts.first().is_some_and(|p| p.to_str() == Some(old)) {
        parts.remove(0);
    }
    // joining nothing would add a slash, and so ask for a directory
    if parts.is_empty() {
        return Some(PathBuf::from(base));
    }
    Some(Path::new(base).join(parts.iter().collect::<PathBuf>()))
}

/// Refuses a path one of whose directories is a link.
fn through_links(dir: &Path, relative: &Path) -> io::Result<()> {
    let mut path = dir.to_path_buf();
    for part in relative.parent().into_iter().flat_map(Path::components) {
        path.push(part);
        if std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_symlink() && m.nlink() > 0) {
            return Err(io::Error::other(format!("{} is a link", path.display())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(if kind.is_file() { content.len() as u64 } else { 0 });
            if kind.is_symlink() {
                header.set_link_name(content).unwrap();
            }
            let bytes = name.as_bytes();
            header.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
            header.set_cksum();
            builder.append(&header, if kind.is_file() { content.as_bytes() } else { b"" }).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn unpacks_under_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let tar = archive(&[("src", tar::EntryType::Directory, ""), ("src/a", tar::EntryType::Regular, "x")]);
        unpack(&tar[..], dir.path(), "src", "dst", false).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("dst/a")).unwrap(), "x");
    }

    #[test]
    fn hostile_archives_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        let up = archive(&[("src/../../evil", tar::EntryType::Regular, "x")]);
        assert!(unpack(&up[..], &inside, "src", "src", false).is_err());
        let link = archive(&[("l", tar::EntryType::Symlink, ".."), ("l/evil", tar::EntryType::Regular, "x")]);
        assert!(unpack(&link[..], &inside, "none", "", false).is_err());
        let over = archive(&[("f", tar::EntryType::Symlink, "../evil"), ("f", tar::EntryType::Regular, "x")]);
        unpack(&over[..], &inside, "none", "", false).unwrap();
        assert!(!dir.path().join("evil").exists());
        assert_eq!(std::fs::read_to_string(inside.join("f")).unwrap(), "x");
    }

    #[test]
    fn ends() {
        assert!(matches!(end("web:/x"), End::Service { .. }));
        assert!(matches!(end("./a:b"), End::Local(_)));
        assert!(matches!(end("-"), End::Local(_)));
        assert_eq!(split("/a/b"), ("/a".into(), "b".into()));
        assert_eq!(split("/a"), ("/".into(), "a".into()));
    }
}
