//! How overlayfs marks deletions, and whether this process may write the privileged form of the marks.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use barque_sys::rootdir::{Dir, FileKind};

/// Prefix of whiteout files in layer archives (OCI image-spec, "Whiteouts").
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// Name of the file that marks its directory opaque (OCI image-spec, "Opaque Whiteout").
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// AUFS's own bookkeeping, which old archives contain.
pub(crate) const AUFS: &[u8] = b".wh..wh.";

/// Extended attributes that only the engine and overlayfs set.
pub(crate) fn is_overlay_attribute(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Attributes that are never taken from or put into archives: overlayfs's, and everything else that is trusted.
pub(crate) fn is_private_attribute(name: &[u8]) -> bool {
    name.starts_with(b"trusted.") || is_overlay_attribute(name)
}

/// What this process can do with the file system of the data root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    /// `trusted.overlay.opaque`; without the privilege `user.overlay.opaque`, for mounts with `userxattr`.
    opaque: &'static str,
    /// May give files to other users.
    pub(crate) chown: bool,
}

impl Marks {
    /// Finds out by trying in `dir`.
    pub(crate) fn probe(dir: &Path) -> Marks {
        let chown = rustix::process::geteuid().is_root();
        let name = format!("probe-{}", std::process::id());
        let privileged = || -> io::Result<()> {
            let parent = Dir::open(dir)?;
            parent.mkdir(&name, 0o700)?;
            let result = parent.set_xattr(&name, "trusted.overlay.opaque", b"n");
            parent.rmdir(&name)?;
            result
        };
        let opaque = if privileged().is_ok() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
        Marks { opaque, chown }
    }

    pub(crate) fn set_opaque(&self, dir: &Dir) -> io::Result<()> {
        dir.set_own_xattr(self.opaque, b"y")
    }

    /// Puts a whiteout at `name`.
    pub(crate) fn whiteout(&self, dir: &Dir, name: &OsStr) -> io::Result<()> {
        dir.mknod(name, FileKind::CharDevice, 0, (0, 0))
    }
}

/// Whether the attributes of a directory mark it opaque.
pub(crate) fn is_opaque(attributes: &[(std::ffi::OsString, Vec<u8>)]) -> bool {
    let mark = |n: &OsStr| n == "trusted.overlay.opaque" || n == "user.overlay.opaque";
    attributes.iter().any(|(name, value)| mark(name) && value == b"y")
}
