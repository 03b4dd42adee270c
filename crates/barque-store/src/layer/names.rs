//! Names in archives: cleaned lexically, refused where they lead out, split into parent and last component.

use barque_model::Result;

use super::marks::{AUFS, OPAQUE, WHITEOUT};
use crate::tar::{bad, show};

/// PATH_MAX, less room for the root's own path.
const PATH_MAX: usize = 4000;
/// NAME_MAX of every Linux file system that can hold layers.
const NAME_MAX: usize = 255;

/// `path` without empty and `.` components, `..` resolved by its text, without a leading slash; empty for the
/// root itself.
///
/// Errors: InvalidArgument if `..` leads above the root, or the name is too long for any file system.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() {
                    return Err(bad(format!("the archive's entry '{}' lies outside of the root", show(path)))
                        .with_hint("the archive is hostile or damaged; nothing of it was kept"));
                }
            }
            _ if part.contains(&0) => return Err(bad(format!("name with a NUL byte: {}", show(path)))),
            _ if part.len() > NAME_MAX => {
                return Err(bad(format!("name of {} bytes is too long: {}", part.len(), show(path))));
            }
            _ => parts.push(part),
        }
    }
    let clean = parts.join(&b'/');
    if clean.len() > PATH_MAX {
        return Err(bad(format!("path of {} bytes is too long: {}", clean.len(), show(path))));
    }
    Ok(clean)
}

/// Parent (empty for the root) and last component of a clean, non-empty path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// What an entry of a layer archive means by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// The thing itself.
    Object,
    /// Nothing of this name is to be seen from below.
    Whiteout { parent: &'a [u8], name: &'a [u8] },
    /// Nothing in this directory is to be seen from below.
    Opaque { dir: &'a [u8] },
    /// Bookkeeping of AUFS.
    Ignore,
}

/// Errors: InvalidArgument for a whiteout of nothing, `.` or `..`, and for reserved names of directories.
pub(super) fn meaning(path: &[u8]) -> Result<Meaning<'_>> {
    let (parent, name) = split(path);
    let mut above = parent.split(|b| *b == b'/');
    if above.clone().any(|part| part.starts_with(AUFS)) {
        return Ok(Meaning::Ignore);
    }
    if above.any(|part| part.starts_with(WHITEOUT)) {
        return Err(bad(format!("reserved name of a directory: {}", show(path))));
    }
    if name == OPAQUE {
        return Ok(Meaning::Opaque { dir: parent });
    }
    if name.starts_with(AUFS) {
        return Ok(Meaning::Ignore);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Object),
        Some(b"" | b"." | b"..") => Err(bad(format!("whiteout of an impossible name: {}", show(path)))),
        Some(name) => Ok(Meaning::Whiteout { parent, name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> Option<String> {
        clean(text.as_bytes()).ok().map(|b| String::from_utf8(b).unwrap())
    }

    #[test]
    fn names_are_cleaned_and_kept_inside() {
        for (raw, want) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("a/../b", "b"),
            (".", ""),
            ("./", ""),
            ("a/..", ""),
        ] {
            assert_eq!(cleaned(raw).as_deref(), Some(want), "{raw}");
        }
        for bad in ["..", "../a", "a/../../b", "/..", "./../x", "a/b/../../../c"] {
            assert_eq!(cleaned(bad), None, "{bad}");
        }
        assert_eq!(cleaned(&"x".repeat(256)), None);
        assert_eq!(cleaned(&"x/".repeat(3000)), None);
        assert!(clean(b"a\0b").is_err());
    }

    #[test]
    fn whiteouts_are_understood() {
        assert_eq!(meaning(b"a/.wh.b").unwrap(), Meaning::Whiteout { parent: b"a", name: b"b" });
        assert_eq!(meaning(b".wh.b").unwrap(), Meaning::Whiteout { parent: b"", name: b"b" });
        assert_eq!(meaning(b"a/.wh..wh..opq").unwrap(), Meaning::Opaque { dir: b"a" });
        assert_eq!(meaning(b".wh..wh.plnk/1.2").unwrap(), Meaning::Ignore);
        assert_eq!(meaning(b".wh..wh.aufs").unwrap(), Meaning::Ignore);
        assert_eq!(meaning(b"a.wh.b").unwrap(), Meaning::Object);
        for bad in [&b"a/.wh."[..], b"a/.wh..", b".wh...", b".wh.d/x"] {
            assert!(meaning(bad).is_err(), "{}", show(bad));
        }
    }
}
