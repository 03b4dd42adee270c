//! overlayfs as a detached mount: made in the daemon's mount namespace, attached in the container's.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use barque_model::{Error, ErrorKind, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

/// Longest string fsconfig(2) takes, its NUL included.
const CONFIG_MAX: usize = 256;

/// Longest options of mount(2): a page, its NUL included.
const PAGE: usize = 4096;

/// Switched off whatever the kernel's defaults are: a copied upper layer must make sense by itself.
const FIXED: [(&str, &str); 3] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off")];

/// The layers of a mount. Without `upper` it is read-only.
#[derive(Clone, Debug)]
pub struct Layers<'a> {
    /// Top-most first.
    pub lower: &'a [PathBuf],
    /// Upper and work directory.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// Without syncing; a crash of the machine may tear the upper directory.
    pub volatile: bool,
}

/// Mounts `layers`; the mount goes when the descriptor and all that is attached of it are gone. Nobody else may have
/// the upper directory mounted.
///
/// # Errors
/// A directory that is missing, a kernel without overlayfs.
pub fn mount(layers: &Layers<'_>) -> Result<OwnedFd> {
    if layers.lower.is_empty() {
        return Err(Error::invalid("a root file system needs at least one layer"));
    }
    match mount_plainly(layers) {
        Err(f) if f.error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => mount_nested(layers),
        other => other,
    }
    .map_err(|f| explain(layers, f.option, f.error))
}

fn mount_plainly(layers: &Layers<'_>) -> Result<OwnedFd, Failure> {
    if let Some((_, work)) = layers.upper {
        // An attempt that failed leaves the mark, too.
        forget_volatile(work);
    }
    match mount_by_layer(layers) {
        // Before kernel 6.5 there is no option for a single layer; some only say so at the end.
        Err((_, Errno::INVAL)) => mount_by_string(layers).map_err(|error| Failure { option: "mount", error }),
        other => other.map_err(|(option, errno)| Failure { option, error: errno.into() }),
    }
}

/// A lower layer that lies inside another, as those over the machine's own root do: overlayfs refuses them. It takes
/// them over an overlay of the outer one alone, the last, since that is another file system.
fn mount_nested(layers: &Layers<'_>) -> Result<OwnedFd, Failure> {
    /// No layer is there, and the thread has no other use for it.
    const PLACE: &str = "/sys";
    let [inner @ .., outer] = layers.lower else { return mount_plainly(layers) };
    let mounted = barque_sys::mount::in_private_mounts(|| {
        let place = Path::new(PLACE);
        rustix::mount::mount(c"none", place, c"tmpfs", MountFlags::empty(), None)?;
        let (nothing, again) = (place.join("nothing"), place.join("outer"));
        std::fs::create_dir(&nothing)?;
        std::fs::create_dir(&again)?;
        let (base, options) = options(&Layers { lower: &[outer.clone(), nothing], upper: None, volatile: false });
        rustix::process::chdir(&base)?;
        let options = CString::new(options).map_err(io::Error::other)?;
        rustix::mount::mount(c"overlay", &again, c"overlay", MountFlags::RDONLY, options.as_c_str())?;
        let lower = [inner, &[again]].concat();
        mount_plainly(&Layers { lower: &lower, ..*layers }).map_err(|f| f.error)
    });
    mounted.map_err(|error| Failure { option: "layers inside one another", error })
}

struct Failure {
    option: &'static str,
    error: io::Error,
}

fn explain(layers: &Layers<'_>, what: &str, e: io::Error) -> Error {
    let missing = layers.lower.iter().map(PathBuf::as_path).chain(layers.upper.iter().flat_map(|(u, w)| [*u, *w]));
    if let Some(path) = missing.into_iter().find(|p| !p.is_dir()) {
        return Error::new(ErrorKind::Internal, format!("mount overlay: no such directory: {}", path.display()));
    }
    let error = Error::internal(format!("mount overlay of {} layers ({what})", layers.lower.len()));
    match e.raw_os_error() {
        Some(libc_enodev) if libc_enodev == Errno::NODEV.raw_os_error() => {
            error.with_hint("the kernel has no overlayfs: modprobe overlay")
        }
        _ => error,
    }
    .with_source(e)
}

/// A volatile mount leaves a mark so that a later mount refuses what a crash may have torn. Whether the layer
/// is still good is decided by our caller, who asks for the mount.
fn forget_volatile(work: &Path) {
    let mark = work.join("work/incompat/volatile");
    let _ = std::fs::remove_file(mark.join("dirty"));
    let _ = std::fs::remove_dir(mark);
}

/// fsconfig(2) layer by layer: no limit but the kernel's 500 layers.
fn mount_by_layer(layers: &Layers<'_>) -> Result<OwnedFd, (&'static str, Errno)> {
    let at = |option| move |errno| (option, errno);
    let fs = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("fsopen"))?;
    let fs = fs.as_fd();
    fsconfig_set_string(fs, "source", "overlay").map_err(at("source"))?;
    let set_path = |option: &'static str, path: &Path| {
        // A path too long for the call is named by a descriptor.
        if path.as_os_str().len() < CONFIG_MAX {
            return fsconfig_set_string(fs, option, path).map_err(at(option));
        }
        let dir = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(at("open"))?;
        fsconfig_set_string(fs, option, format!("/proc/self/fd/{}", dir.as_raw_fd())).map_err(at(option))
    };
    for lower in layers.lower {
        set_path("lowerdir+", lower)?;
    }
    if let Some((upper, work)) = layers.upper {
        set_path("upperdir", upper)?;
        set_path("workdir", work)?;
        for (key, value) in FIXED {
            fsconfig_set_string(fs, key, value).map_err(at(key))?;
        }
        if layers.volatile {
            fsconfig_set_flag(fs, "volatile").map_err(at("volatile"))?;
        }
    }
    fsconfig_create(fs).map_err(at("create"))?;
    let attrs = if layers.upper.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, attrs).map_err(at("fsmount"))
}

/// mount(2) with all options in one string, on a thread in a mount namespace of its own; the detached copy
/// outlives both.
fn mount_by_string(layers: &Layers<'_>) -> io::Result<OwnedFd> {
    let (base, options) = options(layers);
    let target = layers.upper.map_or_else(|| layers.lower[0].clone(), |(_, work)| work.to_path_buf());
    let flags = if layers.upper.is_none() { MountFlags::RDONLY } else { MountFlags::empty() };
    barque_sys::mount::in_private_mounts(|| {
        let options = if options.len() < PAGE {
            rustix::process::chdir(&base)?;
            options
        } else {
            let links = enter_links(layers.lower)?;
            self::options(&Layers { lower: &links, ..*layers }).1
        };
        let options = CString::new(options).map_err(io::Error::other)?;
        rustix::mount::mount(c"overlay", &target, c"overlay", flags, options.as_c_str())?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        Ok(rustix::mount::open_tree(rustix::fs::CWD, &target, flags)?)
    })
}

/// Long lists of layers: makes the working directory one of links with short names to them.
fn enter_links(lower: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let fs = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(fs.as_fd())?;
    let dir = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let mut names = Vec::with_capacity(lower.len());
    for (i, path) in lower.iter().enumerate() {
        let name = PathBuf::from(i.to_string());
        rustix::fs::symlinkat(path, &dir, &name)?;
        names.push(name);
    }
    rustix::process::fchdir(&dir)?;
    Ok(names)
}

/// The directory to be in, and the options relative to it.
fn options(layers: &Layers<'_>) -> (PathBuf, Vec<u8>) {
    let base = common_directory(layers.lower);
    let mut text = b"lowerdir=".to_vec();
    for (i, lower) in layers.lower.iter().enumerate() {
        if i > 0 {
            text.push(b':');
        }
        let relative = lower.strip_prefix(&base).unwrap_or(lower);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        escape(relative, &mut text);
    }
    if let Some((upper, work)) = layers.upper {
        for (key, path) in [("upperdir", upper), ("workdir", work)] {
            text.extend_from_slice(format!(",{key}=").as_bytes());
            escape(path, &mut text);
        }
        for (key, value) in FIXED {
            text.extend_from_slice(format!(",{key}={value}").as_bytes());
        }
        if layers.volatile {
            text.extend_from_slice(b",volatile");
        }
    }
    (base, text)
}

fn escape(path: &Path, out: &mut Vec<u8>) {
    for b in path.as_os_str().as_bytes() {
        if matches!(b, b':' | b',' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
}

fn common_directory(paths: &[PathBuf]) -> PathBuf {
    let mut common: Vec<Component<'_>> = paths[0].components().collect();
    for path in &paths[1..] {
        let same = common.iter().zip(path.components()).take_while(|(a, b)| **a == *b).count();
        common.truncate(same);
    }
    if common.is_empty() { PathBuf::from("/") } else { common.iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_relative_and_escaped() {
        let lower = ["/d/l/a:1", "/d/l/b,2", "/d/x"].map(PathBuf::from);
        let layers = Layers { lower: &lower, upper: Some((Path::new("/u"), Path::new("/w"))), volatile: true };
        let (base, text) = options(&layers);
        assert_eq!(base, Path::new("/d"));
        let text = String::from_utf8(text).unwrap();
        assert_eq!(
            text,
            "lowerdir=l/a\\:1:l/b\\,2:x,upperdir=/u,workdir=/w,index=off,metacopy=off,redirect_dir=off,volatile"
        );
    }

    #[test]
    fn the_machines_own_root_and_a_single_layer() {
        let lower = [PathBuf::from("/")];
        let (base, text) = options(&Layers { lower: &lower, upper: None, volatile: false });
        assert_eq!((base.as_path(), text.as_slice()), (Path::new("/"), b"lowerdir=.".as_slice()));
        let mixed = ["/a/b", "/"].map(PathBuf::from);
        assert_eq!(common_directory(&mixed), Path::new("/"));
    }

    #[test]
    fn no_layers_is_an_error() {
        assert!(mount(&Layers { lower: &[], upper: None, volatile: false }).is_err());
    }
}
