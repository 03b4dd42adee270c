//! Trees as tar streams and back, and copies of trees, all confined to a root by [`RootDir`].

mod copy;
mod pack;
#[cfg(test)]
mod tests;
mod unpack;
mod walk;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::Path;

use barque_model::Result;
use barque_sys::rootdir::RootDir;

pub(crate) use pack::{BUFFER, Packer};
pub(crate) use walk::{Descend, Visit, Visitor, walk};

/// How a tree is written as a tar stream.
#[derive(Clone, Debug, Default)]
pub struct TarTreeOptions {
    /// Name of the topmost entry in the stream instead of the path's last component (`docker cp` asks for the
    /// base name; `.` for the contents of a directory, `/` for absolute names). `None` writes the contents relative to the path.
    pub rebase: Option<OsString>,
    /// Follow a link at the end of the path.
    pub follow_link: bool,
    /// Modification times later than this (seconds since the epoch) are set to it.
    pub clamp_mtime: Option<i64>,
    /// Write whole seconds only.
    pub whole_seconds: bool,
    /// Paths relative to the topmost entry that are left out with all below them.
    pub exclude: Vec<std::path::PathBuf>,
    /// Directories, relative to the topmost entry, that are written without what is in them.
    pub hollow: Vec<std::path::PathBuf>,
}

/// How a tar stream is unpacked into a tree that may be in use.
#[derive(Clone, Debug, Default)]
pub struct UntarOptions {
    /// Give everything to this (uid, gid) instead of the archive's.
    pub chown: Option<(u32, u32)>,
    /// Refuse to replace a directory by something else and the reverse (`noOverwriteDirNonDir`).
    pub no_overwrite_dir_non_dir: bool,
    /// Keep the archive's owners; else the owner is the caller. Ignored with `chown`.
    pub keep_owners: bool,
    /// Set these permission bits on everything (files and directories) instead of the archive's.
    pub chmod: Option<u32>,
}

/// How a tree is copied.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Give everything to this (uid, gid).
    pub chown: Option<(u32, u32)>,
    /// Set these permission bits on everything but links.
    pub chmod: Option<u32>,
    /// Leave overlayfs's own marks (whiteouts, `trusted.overlay.*`) in: the source is an upper directory.
    pub raw_overlay: bool,
    /// Follow a link at the end of the source's path.
    pub follow_link: bool,
}

/// What an operation on a tree came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeSummary {
    pub entries: u64,
    /// Bytes of regular files.
    pub bytes: u64,
}

/// Writes the object at `path` within `root`, with all below it, as an uncompressed tar stream: for `export` and
/// for `cp` out of a container. Sockets are left out.
///
/// Errors: NotFound with the path; the sentence about the container is the caller's.
pub fn tar_tree(root: &RootDir, path: &Path, options: &TarTreeOptions, out: &mut dyn Write) -> Result<TreeSummary> {
    pack::tar_tree(root, path, options, out)
}

/// Unpacks a tar stream (plain or compressed) into the directory `path` within `root`: for `cp` into a container
/// and ADD. Nothing is created outside the root, even while a process inside rearranges it.
pub fn untar_into(root: &RootDir, path: &Path, input: &mut dyn Read, options: &UntarOptions) -> Result<TreeSummary> {
    unpack::untar_into(root, path, input, options)
}

/// Copies the object at `from` with all below it to `to`, keeping owners, modes, times, extended attributes, hard
/// links and holes, sharing extents where the file system can. A directory is merged into an existing one.
pub fn copy_tree(
    source: &RootDir,
    from: &Path,
    target: &RootDir,
    to: &Path,
    options: &CopyOptions,
) -> Result<TreeSummary> {
    copy::copy_tree(source, from, target, to, options)
}
