//! Copies many files between two trees, in parallel.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use barque_model::{Context as _, Error, Result};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::earlier::{Earlier, Wanted};
use super::target::{Ids, Target, not_a_directory, shown};
use crate::context::{Entry, Kind, Tree, changed, threads, xattr};
use crate::instructions::Chmod;

/// Files up to this size are read and written at once; larger ones the kernel copies or clones.
const SMALL: u64 = 64 << 10;

/// How every file of one copy is treated.
pub(crate) struct Rules<'a> {
    /// `None` keeps the source's owner (`keep_owner`) or gives it to root.
    pub(crate) owner: Option<(u32, u32)>,
    pub(crate) keep_owner: bool,
    pub(crate) chmod: Option<&'a Chmod>,
    pub(crate) cancel: &'a CancellationToken,
    /// Where unchanged files may be found; they are left out, to be linked.
    pub(crate) earlier: Option<&'a Earlier>,
}

impl Rules<'_> {
    fn ids(&self, entry: &Entry) -> Ids {
        self.owner.or(Some(if self.keep_owner { (entry.uid, entry.gid) } else { (0, 0) }))
    }

    fn mode(&self, entry: &Entry) -> u32 {
        self.chmod.map_or(entry.mode, |c| c.apply(entry.mode, entry.kind == Kind::Dir))
    }
}

/// One entry and where it goes.
pub(crate) struct Placed<'a> {
    pub(crate) entry: &'a Entry,
    /// In the target's root, without links.
    pub(crate) to: PathBuf,
}

/// Copies `list` (sorted by path, directories before what they hold).
pub(crate) fn copy(source: &Tree, target: &Target<'_>, list: &[Placed<'_>], rules: &Rules<'_>) -> Result<()> {
    for placed in list.iter().filter(|p| p.entry.kind == Kind::Dir) {
        make_dir(source, target, placed, rules)?;
    }
    let mut links: HashMap<(u64, u64), &Path> = HashMap::new();
    let mut later: Vec<(&Path, &Path)> = Vec::new();
    let mut groups: Vec<Vec<&Placed<'_>>> = Vec::new();
    let mut group_of: Option<(&Path, &Path)> = None;
    for placed in list.iter().filter(|p| p.entry.kind != Kind::Dir) {
        // Only a whole file system has links whose sharing matters.
        if rules.keep_owner && placed.entry.kind == Kind::File && placed.entry.nlink > 1 {
            match links.get(&(placed.entry.dev, placed.entry.ino)) {
                Some(first) => {
                    later.push((first, &placed.to));
                    continue;
                }
                None => drop(links.insert((placed.entry.dev, placed.entry.ino), &placed.to)),
            }
        }
        let parents = (parent_of(&placed.entry.path), parent_of(&placed.to));
        match groups.last_mut().filter(|g| group_of == Some(parents) && g.len() < 512) {
            Some(group) => group.push(placed),
            None => groups.push(vec![placed]),
        }
        group_of = Some(parents);
    }
    run(source, target, &groups, rules)?;
    for (first, second) in later {
        hard_link(target, first, second)?;
    }
    for placed in list.iter().rev().filter(|p| p.entry.kind == Kind::Dir) {
        let fd = target.open_dir(&placed.to)?;
        target
            .finish(&fd, rules.mode(placed.entry), rules.ids(placed.entry), placed.entry.mtime)
            .with_context(|| format!("finish the directory {}", shown(&placed.to)))?;
    }
    Ok(())
}

pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn make_dir(source: &Tree, target: &Target<'_>, placed: &Placed<'_>, rules: &Rules<'_>) -> Result<()> {
    let say = || format!("make the directory {}", shown(&placed.to));
    match target.tree().entry(&placed.to) {
        Ok(existing) if existing.kind == Kind::Dir => {}
        Ok(_) => return Err(not_a_directory(&placed.to)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let dir = target.open_dir(parent_of(&placed.to))?;
            let name = placed.to.file_name().unwrap_or_default();
            // Readable only by its owner until it is filled.
            target.make_dir(&dir, name, 0o700, rules.ids(placed.entry)).with_context(say)?;
        }
        Err(e) => return Err(e).with_context(say),
    }
    let attributes = source.open_dir(&placed.entry.path).and_then(xattr::of_fd).unwrap_or_default();
    if !attributes.is_empty() {
        xattr::set(target.open_dir(&placed.to)?, &attributes).with_context(say)?;
    }
    Ok(())
}

/// Copies groups of files that share their directories.
fn run(source: &Tree, target: &Target<'_>, groups: &[Vec<&Placed<'_>>], rules: &Rules<'_>) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        let mut buffer = vec![0u8; SMALL as usize];
        while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            if lock().is_some() {
                return;
            }
            if let Err(e) = copy_group(source, target, group, rules, &mut buffer) {
                lock().get_or_insert(e);
                return;
            }
        }
    };
    let files: usize = groups.iter().map(Vec::len).sum();
    let helpers = if files > 64 && groups.len() > 1 { threads() } else { 1 };
    std::thread::scope(|scope| {
        for _ in 1..helpers {
            scope.spawn(work);
        }
        work();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn copy_group(
    source: &Tree,
    target: &Target<'_>,
    group: &[&Placed<'_>],
    rules: &Rules<'_>,
    buffer: &mut [u8],
) -> Result<()> {
    let Some(first) = group.first() else { return Ok(()) };
    let from_path = parent_of(&first.entry.path);
    let from = source.open_dir(from_path).with_context(|| format!("open {}", from_path.display()))?;
    let to = target.open_dir(parent_of(&first.to))?;
    let before = rules.earlier.and_then(|e| Some((e, e.dir(parent_of(&first.to))?)));
    for placed in group {
        if rules.cancel.is_cancelled() {
            return Err(Error::canceled("copying was canceled"));
        }
        let name = placed.to.file_name().unwrap_or_default();
        match placed.entry.kind {
            Kind::File => copy_file(source, &from, target, (&to, before.as_ref()), placed, rules, buffer)?,
            Kind::Symlink => {
                symlink(target, &to, name, placed, rules)
                    .with_context(|| format!("make the link {}", shown(&placed.to)))?;
            }
            Kind::Fifo | Kind::CharDevice | Kind::BlockDevice => node(target, &to, name, placed, rules)?,
            // A socket without its program is nothing; Docker leaves it out too.
            Kind::Socket | Kind::Dir => {}
        }
    }
    Ok(())
}

fn copy_file(
    source: &Tree,
    from: &OwnedFd,
    target: &Target<'_>,
    (to, before): (&OwnedFd, Option<&(&Earlier, OwnedFd)>),
    placed: &Placed<'_>,
    rules: &Rules<'_>,
    buffer: &mut [u8],
) -> Result<()> {
    let entry = placed.entry;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let input = match rustix::fs::openat(from, entry.name(), flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Err(changed(source, entry)),
        Err(e) => {
            let path = source.path().join(&entry.path);
            return Err(io::Error::from(e)).with_context(|| format!("open {}", path.display()));
        }
    };
    let say = || format!("copy to {}", shown(&placed.to));
    let check = |input: &OwnedFd| -> Result<()> {
        let now = rustix::fs::fstat(input).map_err(io::Error::from).with_context(say)?;
        match Entry::from_stat(PathBuf::new(), &now) {
            Some(now) if now.unchanged(entry) => Ok(()),
            _ => Err(changed(source, entry)),
        }
    };
    check(&input)?;
    if let Some((earlier, dir)) = before {
        let (mode, ids) = (rules.mode(entry), target.settable(rules.ids(entry)));
        let wanted = Wanted { to: &placed.to, source: &input, size: entry.size, mode, ids, mtime: entry.mtime };
        if earlier.has(dir, &wanted).with_context(say)? {
            return check(&input);
        }
    }
    let name = placed.to.file_name().unwrap_or_default();
    let output = target.create(to, name).map_err(|e| in_the_way(e, &placed.to))?;
    bytes(&input, &output, entry.size, buffer, rules.cancel).with_context(say)?;
    // Small files change too while they are read.
    check(&input)?;
    let attributes = xattr::of_fd(&input).with_context(say)?;
    target.finish(&output, rules.mode(entry), rules.ids(entry), entry.mtime).with_context(say)?;
    if !attributes.is_empty() {
        // After the owner: a change of owner drops capabilities.
        xattr::set(&output, &attributes).with_context(say)?;
    }
    Ok(())
}

pub(crate) fn in_the_way(error: io::Error, path: &Path) -> Error {
    if error.kind() == io::ErrorKind::DirectoryNotEmpty {
        return Error::invalid(format!("cannot copy a file over the directory {}", shown(path)))
            .with_hint(format!("write {}/ to copy into it", shown(path)));
    }
    Error::from(error).context(format!("create {}", shown(path)))
}

/// Copies `size` bytes, keeping holes and sharing extents where the file system can.
fn bytes(input: &OwnedFd, output: &OwnedFd, size: u64, buffer: &mut [u8], cancel: &CancellationToken) -> Result<()> {
    if size <= SMALL {
        return small(input, output, buffer);
    }
    let mut at = 0u64;
    while at < size {
        if cancel.is_cancelled() {
            return Err(Error::canceled("copying was canceled"));
        }
        let data = match rustix::fs::seek(input, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(e) => return Err(io::Error::from(e).into()),
        };
        let end = rustix::fs::seek(input, SeekFrom::Hole(data)).unwrap_or(size).min(size);
        range(input, output, data, end, buffer, cancel)?;
        at = end.max(data + 1);
    }
    rustix::fs::ftruncate(output, size).map_err(io::Error::from)?;
    Ok(())
}

fn small(input: &OwnedFd, output: &OwnedFd, buffer: &mut [u8]) -> Result<()> {
    loop {
        let read = match rustix::io::read(input, &mut *buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(e) => return Err(io::Error::from(e).into()),
        };
        let mut written = 0;
        while written < read {
            match rustix::io::write(output, &buffer[written..read]) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e).into()),
            }
        }
    }
}

fn range(
    input: &OwnedFd,
    output: &OwnedFd,
    start: u64,
    end: u64,
    buffer: &mut [u8],
    cancel: &CancellationToken,
) -> Result<()> {
    const STEP: u64 = 64 << 20;
    let (mut from, mut to) = (start, start);
    let mut in_kernel = true;
    while from < end {
        if cancel.is_cancelled() {
            return Err(Error::canceled("copying was canceled"));
        }
        if in_kernel {
            let length = usize::try_from((end - from).min(STEP)).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(input, Some(&mut from), output, Some(&mut to), length) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => in_kernel = false,
                Err(e) => return Err(io::Error::from(e).into()),
            }
            continue;
        }
        let length = usize::try_from(end - from).unwrap_or(usize::MAX).min(buffer.len());
        let read = rustix::io::pread(input, &mut buffer[..length], from).map_err(io::Error::from)?;
        if read == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < read {
            written +=
                rustix::io::pwrite(output, &buffer[written..read], to + written as u64).map_err(io::Error::from)?;
        }
        from += read as u64;
        to += read as u64;
    }
    Ok(())
}

fn symlink(target: &Target<'_>, to: &OwnedFd, name: &OsStr, placed: &Placed<'_>, rules: &Rules<'_>) -> io::Result<()> {
    let link = placed.entry.link.as_deref().unwrap_or_default();
    match rustix::fs::symlinkat(link, to, name) {
        Err(Errno::EXIST) => {
            target.clear(to, name)?;
            rustix::fs::symlinkat(link, to, name)?;
        }
        result => result?,
    }
    target.set_owner(to, name, rules.ids(placed.entry))?;
    target.set_time(to, name, placed.entry.mtime)
}

fn node(target: &Target<'_>, to: &OwnedFd, name: &OsStr, placed: &Placed<'_>, rules: &Rules<'_>) -> Result<()> {
    let kind = match placed.entry.kind {
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let say = || format!("copy the special file {}", shown(&placed.to));
    target.make_node(to, name, kind, placed.entry.rdev).with_context(say)?;
    target.set_owner(to, name, rules.ids(placed.entry)).with_context(say)?;
    let mode = Mode::from_raw_mode(rules.mode(placed.entry));
    rustix::fs::chmodat(to, name, mode, rustix::fs::AtFlags::empty()).map_err(io::Error::from).with_context(say)?;
    target.set_time(to, name, placed.entry.mtime).with_context(say)
}

fn hard_link(target: &Target<'_>, first: &Path, second: &Path) -> Result<()> {
    let say = || format!("link {} to {}", shown(second), shown(first));
    let (from, to) = (target.open_dir(parent_of(first))?, target.open_dir(parent_of(second))?);
    let (old, new) = (first.file_name().unwrap_or_default(), second.file_name().unwrap_or_default());
    target.clear(&to, new).with_context(say)?;
    let flags = rustix::fs::AtFlags::empty();
    rustix::fs::linkat(from.as_fd(), old, to.as_fd(), new, flags).map_err(io::Error::from).with_context(say)
}
