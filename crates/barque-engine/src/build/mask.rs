//! What `.dockerignore` excludes is not seen in bind mounts of a context: a layer of whiteouts above it hides it.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use barque_build::context::ContextDir;
use barque_model::{Context as _, Result};
use rustix::fs::{FileType, Mode, Timespec, Timestamps};

/// The directories that make up what a build may see of `context`, the top-most first. A new one is made in `scratch`.
/// Blocking.
pub(super) fn layers(context: &ContextDir, scratch: &Path) -> Result<Vec<PathBuf>> {
    let shown = context.path().to_owned();
    let excluded = context.excluded()?;
    if excluded.is_empty() {
        return Ok(vec![shown]);
    }
    let mask = scratch.join(barque_model::Id::random().to_string());
    std::fs::create_dir_all(&mask).with_context(|| format!("cannot make {}", mask.display()))?;
    let mut dirs = vec![PathBuf::new()];
    for path in &excluded {
        let parent = path.parent().unwrap_or(Path::new(""));
        make_parents(&mask, parent, &mut dirs)?;
        // A whiteout (overlayfs.rst): a character device without a number.
        rustix::fs::mknodat(rustix::fs::CWD, mask.join(path), FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(std::io::Error::from)
            .with_context(|| format!("cannot hide {}", path.display()))?;
    }
    // Merged directories are as their top-most one says. The deepest first: making entries changes times.
    for dir in dirs.iter().rev() {
        alike(&mask.join(dir), &shown.join(dir)).with_context(|| format!("cannot hide files of {}", dir.display()))?;
    }
    Ok(vec![mask, shown])
}

fn make_parents(mask: &Path, dir: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    let mut at = PathBuf::new();
    for part in dir {
        at.push(part);
        match std::fs::create_dir(mask.join(&at)) {
            Ok(()) => made.push(at.clone()),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("cannot hide files of {}", at.display())),
        }
    }
    Ok(())
}

/// Gives a directory the owner, mode and times of another.
fn alike(dir: &Path, other: &Path) -> std::io::Result<()> {
    let meta = std::fs::symlink_metadata(other)?;
    chown(dir, Some(meta.uid()), Some(meta.gid()))?;
    std::fs::set_permissions(dir, Permissions::from_mode(meta.mode() & 0o7777))?;
    let time = |tv_sec, nanos: i64| Timespec { tv_sec, tv_nsec: nanos as _ };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, dir, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}
