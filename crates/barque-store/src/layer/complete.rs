//! Completes an unpacked layer with what only the layers below know: files that hard links lead to, and the owners
//! and modes of directories that the archive used but did not describe.

use std::path::Path;

use barque_model::{ErrorKind, Result};
use barque_sys::rootdir::{FileKind, RootDir, Stat};
use rustix::io::Errno;

use super::apply::{Applied, ignorable, path, settle_dirs};
use super::lower::Lowers;
use super::marks::{Marks, is_overlay_attribute};
use super::names;
use crate::error::{self, IoContext};
use crate::tar::{bad, show};
use crate::tree::{self, CopyOptions};

/// Completes the layer at `target`. `lowers` are the layers below it.
pub(super) fn complete(target: &Path, mut applied: Applied, lowers: &Lowers, marks: Marks) -> Result<()> {
    let root = RootDir::open(target).at("open", target)?;
    let links = std::mem::take(&mut applied.links);
    for (name, existing) in &links {
        link(&root, name, existing, lowers, &mut applied).map_err(|e| {
            let kind = if error::is_impossible(&e) { ErrorKind::InvalidArgument } else { e.kind() };
            e.context(format!("unpack the hard link '{}' to '{}'", show(name), show(existing))).with_kind(kind)
        })?;
    }
    for dir in &applied.implied {
        if let Some((lower, stat)) = lowers.find(dir)?
            && stat.is_dir()
        {
            adopt(lower, &stat, &root, dir, marks)?;
        }
    }
    settle_dirs(&root, &applied.dirs);
    // Implied directories have no time of their own: they take that of the directory they show up in.
    for dir in applied.implied.iter().rev() {
        if let Some((_, stat)) = lowers.find(dir)?
            && stat.is_dir()
        {
            let _ = root.set_times(path(dir), None, Some(stat.modified));
        }
    }
    Ok(())
}

fn link(root: &RootDir, name: &[u8], existing: &[u8], lowers: &Lowers, applied: &mut Applied) -> Result<()> {
    let nowhere = || bad(format!("hard link to '{}', which does not exist", show(existing)));
    let found = match root.lstat(path(existing)) {
        Ok(stat) => {
            if stat.is_dir() || stat.is_whiteout() {
                return Err(nowhere());
            }
            existing.to_vec()
        }
        Err(_) => {
            let (lower, stat, real) = lowers.resolve(existing)?.ok_or_else(nowhere)?;
            if stat.is_dir() {
                return Err(bad(format!("hard link to '{}', which is a directory", show(existing))));
            }
            // Both names must lead to one file, as when the layer is unpacked onto the ones below: copy it up.
            copy_up(root, lower, &real, applied)?;
            real
        }
    };
    let (parent, _) = names::split(name);
    make_parents(root, parent, applied)?;
    match root.link(path(&found), path(name)) {
        Err(e) if e.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {
            root.remove_all(path(name)).at("replace", path(name))?;
            root.link(path(&found), path(name)).at("link", path(name))
        }
        other => other.at("link", path(name)),
    }
}

/// Copies a file of a lower layer to the same path in this one.
fn copy_up(root: &RootDir, lower: &RootDir, real: &[u8], applied: &mut Applied) -> Result<()> {
    if root.lstat(path(real)).is_ok() {
        return Ok(());
    }
    make_parents(root, names::split(real).0, applied)?;
    tree::copy_tree(lower, path(real), root, path(real), &CopyOptions::default()).map(|_| ())
}

fn make_parents(root: &RootDir, dir: &[u8], applied: &mut Applied) -> Result<()> {
    let ends = dir.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([dir.len()]);
    for end in ends.filter(|e| *e > 0) {
        let prefix = &dir[..end];
        match root.mkdir(path(prefix), 0o755) {
            Ok(()) => applied.implied.push(prefix.to_vec()),
            Err(e) if e.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {}
            Err(e) => return Err(e).at("create the directory", path(prefix)),
        }
    }
    Ok(())
}

/// Gives the directory owner, mode and attributes of its namesake below.
fn adopt(lower: &RootDir, stat: &Stat, root: &RootDir, dir: &[u8], marks: Marks) -> Result<()> {
    let at = path(dir);
    if root.lstat(at).at("examine", at)?.kind != FileKind::Directory {
        return Ok(());
    }
    if marks.chown {
        root.chown(at, stat.uid, stat.gid).at("chown", at)?;
    }
    root.chmod(at, stat.mode).at("chmod", at)?;
    for (name, value) in lower.xattrs(at).at("read attributes of", at)? {
        if !is_overlay_attribute(std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str())) {
            ignorable(root.set_xattr(at, &name, &value)).at("set attributes of", at)?;
        }
    }
    Ok(())
}
