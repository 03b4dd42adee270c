//! Where `cp` puts what: the rules of `cp -a` as Docker has them.

use std::io;
use std::path::{Path, PathBuf};

use barque_model::path::clean;

use super::plain_io;

/// What is known of the source or the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// As typed, made absolute: a slash or `/.` at the end has a meaning.
    pub path: String,
    pub exists: bool,
    pub is_dir: bool,
    /// The name the archive's entries begin with, where it is not the path's last part.
    pub rebase: Option<String>,
}

/// The directory to unpack in, and how the first part of each entry is renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub directory: String,
    pub rename: Option<(String, String)>,
}

/// Decides where an archive of `source` is unpacked to arrive at `target`.
pub fn place(source: &Info, target: &Info) -> Result<Placement, String> {
    let (directory, base) = split(&target.path);
    let (_, source_base) = split(&source.path);
    let rename = || {
        let old = source.rebase.clone().unwrap_or(source_base);
        Ok(Placement { directory, rename: Some((old, base)) })
    };
    match (target.exists, target.is_dir, source.is_dir) {
        (true, true, _) => Ok(Placement { directory: target.path.clone(), rename: None }),
        (true, false, true) => Err("cannot copy directory".into()),
        (false, _, false) if asserts_directory(&target.path) => Err("no such directory".into()),
        _ => rename(),
    }
}

/// The parent and the last part; `/.` at the end keeps its dot.
pub fn split(path: &str) -> (String, String) {
    let cleaned = clean(path);
    let dotted = path == "." || path.ends_with("/.");
    if dotted {
        return (cleaned, ".".into());
    }
    match cleaned.rsplit_once('/') {
        Some(("", base)) => ("/".into(), base.to_owned()),
        Some((parent, base)) => (parent.to_owned(), base.to_owned()),
        None => (String::new(), cleaned),
    }
}

/// A slash or a dot at the end says that it is a directory.
pub fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.")
}

/// `CONTAINER:PATH` or a local path.
pub fn parse_operand(text: &str) -> (Option<&str>, &str) {
    if text.starts_with('/') {
        return (None, text);
    }
    match text.split_once(':') {
        Some(("", path)) => (None, path),
        Some((container, path)) if !container.starts_with('.') => (Some(container), path),
        _ => (None, text),
    }
}

/// An absolute local path that keeps the slash or dot at its end.
pub fn absolute(path: &str) -> io::Result<String> {
    let joined = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{}/{path}", std::env::current_dir()?.display()),
    };
    let cleaned = clean(&joined);
    Ok(if path == "." || path.ends_with("/.") {
        format!("{}/.", cleaned.trim_end_matches('/'))
    } else if path.ends_with('/') && cleaned != "/" {
        format!("{cleaned}/")
    } else {
        cleaned
    })
}

/// The local source: what to pack, and its name in the archive.
pub fn local_source(path: &str, follow: bool) -> io::Result<(PathBuf, Info)> {
    let named = |e: io::Error, path: &str| io::Error::new(e.kind(), format!("lstat {path}: {}", plain_io(&e)));
    let bare = if path == "/" { path } else { path.trim_end_matches('/') };
    // A slash at the end of a link means what it leads to.
    let real = if follow || asserts_directory(path) {
        std::fs::canonicalize(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotADirectory => io::Error::other("not a directory"),
            _ => named(e, bare),
        })?
    } else {
        PathBuf::from(bare)
    };
    let metadata = std::fs::symlink_metadata(&real).map_err(|e| named(e, bare))?;
    if asserts_directory(path) && !metadata.is_dir() {
        return Err(io::Error::other("not a directory"));
    }
    Ok((real, Info { path: path.to_owned(), exists: true, is_dir: metadata.is_dir(), rebase: None }))
}

/// The local destination, links followed.
pub fn local_target(path: &str) -> io::Result<Info> {
    let mut current = path.to_owned();
    for _ in 0..10 {
        let bare = if current == "/" { "/" } else { current.trim_end_matches('/') };
        match std::fs::symlink_metadata(bare) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let (parent, _) = split(&current);
                if !Path::new(&parent).is_dir() {
                    return Err(io::Error::other(format!("invalid output path: directory {parent:?} does not exist")));
                }
                return Ok(Info { path: current, exists: false, is_dir: false, rebase: None });
            }
            Err(e) => return Err(e),
            Ok(metadata) if metadata.is_symlink() => {
                let link = std::fs::read_link(bare)?;
                let (parent, _) = split(&current);
                current = clean(&Path::new(&parent).join(link).display().to_string());
            }
            Ok(metadata) => {
                if asserts_directory(&current) && !metadata.is_dir() {
                    return Err(io::Error::other("not a directory"));
                }
                return Ok(Info { path: current, exists: true, is_dir: metadata.is_dir(), rebase: None });
            }
        }
    }
    Err(io::Error::other(format!("{path}: too many levels of symbolic links")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(path: &str, exists: bool, is_dir: bool) -> Info {
        Info { path: path.into(), exists, is_dir, rebase: None }
    }

    #[test]
    fn operands() {
        assert_eq!(parse_operand("web:/etc/x"), (Some("web"), "/etc/x"));
        assert_eq!(parse_operand("/a:b"), (None, "/a:b"));
        assert_eq!(parse_operand("./a:b"), (None, "./a:b"));
        assert_eq!(parse_operand("file"), (None, "file"));
    }

    #[test]
    fn placements_follow_cp() {
        let put = |s: (&str, bool), t: (&str, bool, bool)| place(&info(s.0, true, s.1), &info(t.0, t.1, t.2));
        let renamed = |directory: &str, old: &str, new: &str| {
            Ok(Placement { directory: directory.into(), rename: Some((old.into(), new.into())) })
        };
        let plain = |directory: &str| Ok(Placement { directory: directory.into(), rename: None });
        // A file to a new name, over a file, into a directory.
        assert_eq!(put(("/s/f", false), ("/t/g", false, false)), renamed("/t", "f", "g"));
        assert_eq!(put(("/s/f", false), ("/t/g", true, false)), renamed("/t", "f", "g"));
        assert_eq!(put(("/s/f", false), ("/t", true, true)), plain("/t"));
        // A file to a directory that is not there.
        assert_eq!(put(("/s/f", false), ("/t/new/", false, false)), Err("no such directory".into()));
        // A directory to a new name, over a file, into a directory; its content.
        assert_eq!(put(("/s/d", true), ("/t/e", false, false)), renamed("/t", "d", "e"));
        assert_eq!(put(("/s/d", true), ("/t/f", true, false)), Err("cannot copy directory".into()));
        assert_eq!(put(("/s/d", true), ("/t", true, true)), plain("/t"));
        assert_eq!(put(("/s/d/.", true), ("/t/e", false, false)), renamed("/t", ".", "e"));
        assert_eq!(put(("/s/d/.", true), ("/t", true, true)), plain("/t"));
    }

    #[test]
    fn paths() {
        assert_eq!(split("/a/b/"), ("/a".into(), "b".into()));
        assert_eq!(split("/a/b/."), ("/a/b".into(), ".".into()));
        assert_eq!(split("/a"), ("/".into(), "a".into()));
    }

    #[test]
    fn local_ends() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path().display().to_string();
        std::fs::create_dir(dir.path().join("d")).expect("mkdir");
        std::fs::write(dir.path().join("f"), "x").expect("write");
        std::os::unix::fs::symlink("d", dir.path().join("l")).expect("link");
        assert!(local_target(&format!("{root}/l")).expect("follows").is_dir);
        assert!(!local_target(&format!("{root}/new")).expect("new").exists);
        assert!(local_target(&format!("{root}/none/new")).is_err());
        assert!(local_target(&format!("{root}/f/")).is_err());
        assert!(!local_source(&format!("{root}/l"), false).expect("the link").1.is_dir);
        assert!(local_source(&format!("{root}/l/"), false).expect("the directory").1.is_dir);
        let fault = local_source(&format!("{root}/none"), false).expect_err("missing").to_string();
        assert_eq!(fault, format!("lstat {root}/none: no such file or directory"));
    }
}
