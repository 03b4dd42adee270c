//! Whether mounts below a bind's source can come and go in the container: what its propagation needs of the host.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use barque_model::{Context, Error, Result};

use super::spec::{MountSource, MountSpec};

/// Docker's refusal of a propagation that the mount the source lies on does not have.
///
/// # Errors
/// A source on a mount that is not shared for `shared`, nor at least a slave for `slave`.
pub(super) fn check(mount: &MountSpec, source: &Path) -> Result<()> {
    let MountSource::Bind { .. } = &mount.source else { return Ok(()) };
    let wanted = match mount.propagation.as_deref() {
        Some("shared" | "rshared") => &["shared:"][..],
        Some("slave" | "rslave") => &["shared:", "master:"][..],
        _ => return Ok(()),
    };
    let real = std::fs::canonicalize(source).with_context(|| format!("cannot find {}", source.display()))?;
    let table = std::fs::read("/proc/self/mountinfo").context("cannot read the table of mounts")?;
    let Some((point, fields)) = holder(&table, &real) else { return Ok(()) };
    if fields.iter().any(|field| wanted.iter().any(|w| field.starts_with(w))) {
        return Ok(());
    }
    let kind = if wanted.len() == 1 { "shared" } else { "shared or slave" };
    Err(Error::invalid(format!(
        "path {} is mounted on {} but it is not a {kind} mount",
        source.display(),
        point.display()
    ))
    .with_hint(format!("make it one: mount --make-rshared {}", point.display())))
}

/// The mount that `path` lies on, and its optional fields, proc_pid_mountinfo(5). Of several on one place the last.
fn holder(table: &[u8], path: &Path) -> Option<(PathBuf, Vec<String>)> {
    let mut best: Option<(PathBuf, Vec<String>)> = None;
    for line in table.split(|b| *b == b'\n') {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        let Some(point) = fields.get(4).map(|field| unescaped(field)) else { continue };
        let deeper = best.as_ref().is_none_or(|(b, _)| point.as_os_str().len() >= b.as_os_str().len());
        if deeper && path.starts_with(&point) {
            let optional = fields.iter().skip(6).take_while(|field| **field != b"-");
            best = Some((point, optional.map(|field| String::from_utf8_lossy(field).into_owned()).collect()));
        }
    }
    best
}

/// `\040` and its like are bytes.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, more)) = rest.split_first() {
        let octal = more
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        30 22 0:5 / /mnt/a\\040b rw master:7 - tmpfs t rw\n\
        31 22 0:6 / /mnt rw - tmpfs t rw\n\
        32 22 0:7 / /mnt rw shared:9 master:2 - tmpfs t rw\n";

    #[test]
    fn the_innermost_mount_counts_and_of_equals_the_last() {
        let of = |path: &str| holder(TABLE, Path::new(path)).unwrap();
        assert_eq!(of("/etc").1, ["shared:1"]);
        assert_eq!(of("/mnt/x").1, ["shared:9", "master:2"]);
        assert_eq!(of("/mnt/a b/c"), (PathBuf::from("/mnt/a b"), vec!["master:7".to_owned()]));
        assert_eq!(of("/mntx").0, Path::new("/"));
        assert!(holder(b"broken\n", Path::new("/")).is_none());
    }
}
