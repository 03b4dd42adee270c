//! Detached copies of mounts: attached nowhere, gone with their descriptors. Mount sources of a launch, and a stopped
//! container's files put together as a start would.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use barque_model::{Context, Error, IdMap, Result};
use barque_sys::mount::{MOUNT_ATTR_RDONLY, MS_PRIVATE, in_private_mounts, mount_setattr};
use barque_sys::rootdir::{FileKind, RootDir, Stat};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsmount, fsopen,
    move_mount, open_tree,
};

use crate::overlay::{self, Layers};

/// A directory every machine has, and no layer lies in; what is mounted there is seen by one thread alone.
const PLACE: &str = "/sys";

pub(crate) const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// A detached copy of the mount at `path`, or of what `subpath` means inside of it.
pub fn copy(path: &Path, subpath: Option<&Path>, recursive: bool) -> Result<OwnedFd> {
    let flags = if recursive { CLONE | OpenTreeFlags::AT_RECURSIVE } else { CLONE };
    let what = || format!("bind {}", path.display());
    let Some(subpath) = subpath else {
        return open_tree(rustix::fs::CWD, path, flags).with_context(what);
    };
    let base = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).with_context(what)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let inside = rustix::fs::openat2(&base, subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    let inside = inside.map_err(|e| match e {
        Errno::XDEV => Error::invalid(format!("subpath {} leads out of {}", subpath.display(), path.display()))
            .with_hint("links on its way have to be relative and to stay inside"),
        e => {
            Error::from(std::io::Error::from(e)).context(format!("subpath {} of {}", subpath.display(), path.display()))
        }
    })?;
    open_tree(&inside, "", flags | OpenTreeFlags::AT_EMPTY_PATH).with_context(what)
}

/// Layers of an image, read-only. overlayfs wants two at least.
pub fn image(layers: &[PathBuf], subpath: Option<&Path>) -> Result<OwnedFd> {
    let whole = match layers {
        [single] => {
            // The store's own directory: nobody writes there, whatever is done with the mount.
            let layer = copy(single, None, false)?;
            make_readonly(&layer, false)?;
            layer
        }
        many => overlay::mount(&Layers { lower: many, upper: None, volatile: false })?,
    };
    let Some(subpath) = subpath else { return Ok(whole) };
    let part = in_private_mounts(|| {
        // A part can be copied of what is attached somewhere.
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&whole, "", rustix::fs::CWD, PLACE, flags)?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let inside = rustix::fs::openat2(&whole, subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        Ok(open_tree(&inside, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH)?)
    });
    part.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            Error::invalid(format!("the image has no {} to mount", subpath.display()))
                .with_hint("look what is there: barque run --rm --entrypoint ls IMAGE -a /")
        }
        _ => Error::from(e).context(format!("mount {} of an image", subpath.display())),
    })
}

/// What is mounted below or beside it in the original is not seen here, nor the reverse.
pub(crate) fn make_private(mount: &OwnedFd, recursive: bool) -> Result<()> {
    match mount_setattr(mount.as_fd(), 0, u64::from(MS_PRIVATE), recursive) {
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(e) => Err(Error::internal("make a mount private").with_source(e)),
    }
}

fn make_readonly(mount: &OwnedFd, below: bool) -> Result<()> {
    match mount_setattr(mount.as_fd(), u64::from(MOUNT_ATTR_RDONLY), 0, below) {
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(e) => Err(Error::internal("make a mount read-only").with_source(e)),
    }
}

/// What other mounts are put on.
pub enum Base<'a> {
    /// A detached mount; places that are missing are made in it.
    Mount(OwnedFd),
    /// Layers (top-most first) that are only read; places that are missing are made in memory.
    Layers(&'a [PathBuf]),
}

/// Something to be mounted.
#[derive(Debug)]
pub struct Piece {
    /// Absolute; links in it mean what they mean inside of the base.
    pub target: String,
    pub tree: OwnedFd,
    pub readonly: bool,
    /// `readonly` goes for what is mounted below in `tree`, too.
    pub below: bool,
    pub owners: Option<Owners>,
}

/// How a bind shows its owners.
#[derive(Clone, Debug)]
pub struct Owners {
    pub map: IdMap,
    /// What is bound, for messages.
    pub path: PathBuf,
    pub recursive: bool,
    /// `USER[:GROUP]` that the container runs as.
    pub user: String,
}

/// A base with pieces on it.
#[derive(Debug)]
pub struct Composed {
    pub root: OwnedFd,
    /// The pieces that found no place, by their targets.
    pub failed: Vec<(String, Error)>,
}

/// Mounts `pieces`, outer ones first, on `base`: all of it detached. `place` is a directory that no layer lies in; what
/// happens there is not seen by anybody.
///
/// # Errors
/// A base that cannot be mounted.
pub fn compose(base: Base<'_>, place: &Path, pieces: &[Piece]) -> Result<Composed> {
    in_private_mounts(|| Ok(compose_here(base, place, pieces))).context("put the mounts together")?
}

fn compose_here(base: Base<'_>, place: &Path, pieces: &[Piece]) -> Result<Composed> {
    let root = match base {
        Base::Mount(root) => root,
        Base::Layers(layers) => readable(layers, place, pieces)?,
    };
    attach_at(&root, place)?;
    let inside = RootDir::from_fd(root.try_clone().context("hold the root")?);
    let mut failed = Vec::new();
    for piece in pieces {
        if let Err(e) = attach(&inside, piece) {
            failed.push((piece.target.clone(), e));
        }
    }
    let flags = CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(Composed { root: open_tree(&root, "", flags).context("copy the mounts")?, failed })
}

fn attach_at(mount: &OwnedFd, place: &Path) -> Result<()> {
    move_mount(mount, "", rustix::fs::CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .with_context(|| format!("mount on {}", place.display()))
}

/// The layers, with something to make places in where a piece has none.
fn readable(layers: &[PathBuf], place: &Path, pieces: &[Piece]) -> Result<OwnedFd> {
    let root = image(layers, None)?;
    let seen = RootDir::from_fd(root.try_clone().context("hold the root")?);
    if pieces.iter().all(|p| seen.stat(&p.target).is_ok()) {
        return Ok(root);
    }
    let make = || -> rustix::io::Result<OwnedFd> {
        let fs = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(fs.as_fd())?;
        fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
    };
    attach_at(&make().context("mount a tmpfs")?, place)?;
    let (upper, work) = (place.join("upper"), place.join("work"));
    for dir in [&upper, &work] {
        std::fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    overlay::mount(&Layers { lower: layers, upper: Some((&upper, &work)), volatile: true })
}

fn attach(inside: &RootDir, piece: &Piece) -> Result<()> {
    let what = || format!("mount on {}", piece.target);
    let directory = Stat::of_fd(piece.tree.as_fd()).with_context(what)?.kind == FileKind::Directory;
    let target = match inside.open_path(&piece.target, true) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            make_place(inside, &piece.target, directory).with_context(what)?;
            inside.open_path(&piece.target, true)
        }
        other => other,
    };
    let target = target.with_context(what)?;
    if (Stat::of_fd(target.as_fd()).with_context(what)?.kind == FileKind::Directory) != directory {
        // move_mount(2) calls it invalid.
        return Err(Error::invalid("not a directory").context(what()).with_hint(
            "a directory cannot be mounted on a file, nor a file on a directory: see what the mount's source is",
        ));
    }
    if let Some(Owners { map, path, recursive, user }) = &piece.owners {
        let root = inside.dir().as_fd();
        let user = crate::users::lookup(root, user, &[]).with_context(what)?;
        crate::launch::owners::map(&piece.tree, path, *recursive, map, root, &user).with_context(what)?;
    }
    make_private(&piece.tree, true)?;
    if piece.readonly {
        make_readonly(&piece.tree, piece.below).with_context(what)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&piece.tree, "", &target, "", flags).with_context(what)
}

fn make_place(inside: &RootDir, target: &str, directory: bool) -> std::io::Result<()> {
    if directory {
        return inside.mkdir_all(target, 0o755).map(drop);
    }
    if let Some(parent) = Path::new(target).parent() {
        inside.mkdir_all(parent, 0o755)?;
    }
    inside.create_new(target, 0o644).map(drop)
}
