//! Recursive removal that neither follows links nor exhausts stack or descriptors on deep trees.

use std::ffi::{OsStr, OsString};
use std::io;

use rustix::io::Errno;

use super::Dir;
use super::stat::FileKind;

/// Directories open at once. Deeper ones are first moved up to where the removal began.
const DEPTH_MAX: usize = 48;
/// How often an emptied directory may be found filled again by somebody else.
const RETRIES: u32 = 16;

/// Where a removal stands: directories still to be emptied, the deepest last.
struct Level {
    dir: Dir,
    name: OsString,
    /// Directories in it that are still to be removed.
    pending: Vec<OsString>,
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

/// Removes `name` in `base` with all below it.
pub(super) fn remove_all(base: &Dir, name: &OsStr) -> io::Result<()> {
    match unlink(base, name) {
        Ok(()) => return Ok(()),
        Err(e) => match errno(&e) {
            Some(Errno::NOENT) => return Ok(()),
            // Linux says EISDIR for a directory, POSIX allows EPERM.
            Some(Errno::ISDIR | Errno::PERM) => {}
            _ => return Err(e),
        },
    }
    let mut moved = 0u64;
    let mut todo = vec![name.to_owned()];
    while let Some(top) = todo.pop() {
        remove_tree(base, &top, &mut todo, &mut moved)?;
    }
    Ok(())
}

/// Removes anything but a directory, unless something is mounted there in whatever namespace the directory is of.
fn unlink(dir: &Dir, name: &OsStr) -> io::Result<()> {
    if dir.is_mount(name)? {
        return Err(Errno::BUSY.into());
    }
    dir.unlink(name)
}

/// Opens a directory and removes from it everything but directories.
fn enter(parent: &Dir, name: &OsStr) -> io::Result<Option<Level>> {
    let dir = match parent.subdir_same_mount(name) {
        Ok(dir) => dir,
        Err(e) if errno(&e) == Some(Errno::NOENT) => return Ok(None),
        Err(e) if errno(&e) == Some(Errno::ACCESS) => {
            // A directory of one's own without permission for oneself.
            parent.chmod(name, 0o700)?;
            parent.subdir_same_mount(name)?
        }
        Err(e) => return Err(e),
    };
    let mut pending = Vec::new();
    for entry in dir.entries()? {
        if entry.kind == Some(FileKind::Directory) {
            pending.push(entry.name);
            continue;
        }
        match unlink(&dir, &entry.name) {
            Ok(()) => {}
            Err(e) => match errno(&e) {
                Some(Errno::NOENT) => {}
                Some(Errno::ISDIR) => pending.push(entry.name),
                Some(Errno::ACCESS) => {
                    dir.set_own_mode(0o700)?;
                    unlink(&dir, &entry.name)?;
                }
                _ => return Err(e),
            },
        }
    }
    Ok(Some(Level { dir, name: name.to_owned(), pending }))
}

fn remove_tree(base: &Dir, top: &OsStr, todo: &mut Vec<OsString>, moved: &mut u64) -> io::Result<()> {
    let mut stack: Vec<Level> = enter(base, top)?.into_iter().collect();
    while let Some(level) = stack.last_mut() {
        if let Some(name) = level.pending.pop() {
            if stack.len() < DEPTH_MAX {
                let level = &stack[stack.len() - 1];
                if let Some(next) = enter(&level.dir, &name)? {
                    stack.push(next);
                }
            } else {
                let aside = OsString::from(format!(".barque-remove-{}-{moved}", std::process::id()));
                *moved += 1;
                stack[stack.len() - 1].dir.rename(&name, base, &aside)?;
                todo.push(aside);
            }
            continue;
        }
        let Some(done) = stack.pop() else { break };
        let parent = stack.last().map_or(base, |l| &l.dir);
        remove_empty(parent, &done)?;
    }
    Ok(())
}

/// Removes an emptied directory; empties it again if somebody fills it meanwhile.
fn remove_empty(parent: &Dir, level: &Level) -> io::Result<()> {
    let mut retries = RETRIES;
    loop {
        match parent.rmdir(&level.name) {
            Ok(()) => return Ok(()),
            Err(e) => match errno(&e) {
                Some(Errno::NOENT) => return Ok(()),
                Some(Errno::ACCESS) if retries > 0 => parent.set_own_mode(0o700)?,
                Some(Errno::NOTEMPTY) if retries > 0 => {
                    for entry in level.dir.entries()? {
                        level.dir.remove_all(&entry.name)?;
                    }
                }
                _ => return Err(e),
            },
        }
        retries -= 1;
    }
}
