//! Unpacks a tar stream into a local directory, which nothing in it can leave.
//!
//! The archive may come from a container that wants to write elsewhere: every path is resolved by the kernel
//! beneath the target directory, and a link that leads out of it is an error.

use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps};

use super::plain_io;

/// How to unpack.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Entries' first part is replaced: `(old, new)`.
    pub rebase: Option<(String, String)>,
    /// Owners of the archive are kept; else everything belongs to the caller.
    pub owners: bool,
}

/// Unpacks all of `archive` into `target`, which exists. Gives the number of bytes in files.
pub fn unpack(archive: &mut dyn Read, target: &Path, options: &Options) -> io::Result<u64> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let root = rustix::fs::open(target, flags, Mode::empty()).map_err(|e| named(e.into(), "open", target))?;
    let mut unpacker = Unpacker { root, options, directories: Vec::new(), bytes: 0 };
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries()? {
        unpacker.entry(&mut entry?)?;
    }
    unpacker.finish()
}

struct Unpacker<'a> {
    root: OwnedFd,
    options: &'a Options,
    /// Modes and times of directories are set at the end, when nothing is written into them any more.
    directories: Vec<(PathBuf, u32, u64)>,
    bytes: u64,
}

impl Unpacker<'_> {
    fn entry(&mut self, entry: &mut tar::Entry<'_, &mut dyn Read>) -> io::Result<()> {
        let path = clean(&self.rebased(&entry.path()?))?;
        let kind = entry.header().entry_type();
        let mode = entry.header().mode()? & 0o7777;
        let mtime = entry.header().mtime()?;
        if path.as_os_str().is_empty() {
            // The directory itself.
            return Ok(());
        }
        let (parent, name) = self.parent(&path)?;
        let parent = parent.as_fd();
        match kind {
            tar::EntryType::Directory => {
                self.directory(parent, &name, &path)?;
                self.directories.push((path, mode, mtime));
                return self.own(parent, &name, entry);
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                self.clear(parent, &name, &path)?;
                self.file(parent, &name, &path, entry, mode)?;
            }
            tar::EntryType::Symlink => {
                self.clear(parent, &name, &path)?;
                let target = entry.link_name()?.ok_or_else(|| io::Error::other("a link without a target"))?;
                rustix::fs::symlinkat(&*target, parent, &name).map_err(|e| named(e.into(), "symlink", &path))?;
            }
            tar::EntryType::Link => {
                self.clear(parent, &name, &path)?;
                self.hard_link(parent, &name, &path, entry)?;
                return Ok(());
            }
            tar::EntryType::Fifo | tar::EntryType::Char | tar::EntryType::Block => {
                self.clear(parent, &name, &path)?;
                self.node(parent, &name, &path, entry, mode)?;
            }
            // Global headers and what is unknown hold no file.
            _ => return Ok(()),
        }
        self.own(parent, &name, entry)?;
        let times = stamps(mtime);
        let _ = rustix::fs::utimensat(parent, &name, &times, AtFlags::SYMLINK_NOFOLLOW);
        Ok(())
    }

    fn rebased(&self, path: &Path) -> PathBuf {
        let Some((old, new)) = &self.options.rebase else { return path.to_owned() };
        let relative = path.strip_prefix("/").unwrap_or(path);
        let rest = match old.as_str() {
            "" | "/" | "." => relative.strip_prefix(".").unwrap_or(relative),
            old => match relative.strip_prefix(old) {
                Ok(rest) => rest,
                Err(_) => return path.to_owned(),
            },
        };
        Path::new(new).join(rest)
    }

    /// The directory an entry goes into, made if need be, and the entry's name.
    fn parent(&self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let name = path.file_name().map(PathBuf::from).ok_or_else(|| escape(path))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        let mut current = self.root.try_clone()?;
        let mut walked = PathBuf::new();
        for part in parent.components() {
            walked.push(part);
            current = match self.open_directory(&walked) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(&current, part.as_os_str(), Mode::from(0o755))
                        .map_err(|e| named(e.into(), "mkdir", &walked))?;
                    self.open_directory(&walked)?
                }
                opened => opened?,
            };
        }
        Ok((current, name))
    }

    fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).map_err(|e| match e {
            rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => escape(path),
            e => named(e.into(), "open", path),
        })
    }

    fn directory(&self, parent: BorrowedFd<'_>, name: &Path, path: &Path) -> io::Result<()> {
        match rustix::fs::mkdirat(parent, name, Mode::from(0o700)) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
                if kind == rustix::fs::FileType::Directory {
                    return Ok(());
                }
                // A link to a directory is one, if it stays inside.
                if kind == rustix::fs::FileType::Symlink && self.open_directory(path).is_ok() {
                    return Ok(());
                }
                Err(io::Error::other(format!(
                    "cannot overwrite non-directory {:?} with directory",
                    path.display().to_string()
                )))
            }
            Err(e) => Err(named(e.into(), "mkdir", path)),
        }
    }

    /// Makes room: a file gives way, a directory does not.
    fn clear(&self, parent: BorrowedFd<'_>, name: &Path, path: &Path) -> io::Result<()> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {
                let shown = path.display().to_string();
                Err(io::Error::other(format!("cannot overwrite directory {shown:?} with non-directory {shown:?}")))
            }
            Err(e) => Err(named(e.into(), "remove", path)),
        }
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &Path,
        path: &Path,
        entry: &mut tar::Entry<'_, &mut dyn Read>,
        mode: u32,
    ) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(parent, name, flags, Mode::from(0o600)).map_err(|e| named(e.into(), "open", path))?;
        let mut file = std::fs::File::from(file);
        self.bytes += io::copy(entry, &mut file).map_err(|e| named(e, "write", path))?;
        rustix::fs::fchmod(&file, Mode::from(mode)).map_err(|e| named(e.into(), "chmod", path))
    }

    fn hard_link(
        &self,
        parent: BorrowedFd<'_>,
        name: &Path,
        path: &Path,
        entry: &tar::Entry<'_, &mut dyn Read>,
    ) -> io::Result<()> {
        let target = entry.link_name()?.ok_or_else(|| io::Error::other("a link without a target"))?;
        let target = clean(&self.rebased(&target))?;
        let (from, from_name) = self.parent(&target)?;
        rustix::fs::linkat(&from, &from_name, parent, name, AtFlags::empty()).map_err(|e| named(e.into(), "link", path))
    }

    fn node(
        &self,
        parent: BorrowedFd<'_>,
        name: &Path,
        path: &Path,
        entry: &tar::Entry<'_, &mut dyn Read>,
        mode: u32,
    ) -> io::Result<()> {
        let header = entry.header();
        let kind = match header.entry_type() {
            tar::EntryType::Fifo => rustix::fs::FileType::Fifo,
            tar::EntryType::Char => rustix::fs::FileType::CharacterDevice,
            _ => rustix::fs::FileType::BlockDevice,
        };
        let device = match kind {
            rustix::fs::FileType::Fifo => 0,
            _ => rustix::fs::makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)),
        };
        rustix::fs::mknodat(parent, name, kind, Mode::from(mode), device)
            .map_err(|e| named(e.into(), "mknod", path))?;
        // The mask of the caller is not the archive's. By a descriptor: there may be a link by now.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|e| named(e.into(), "open", path))?;
        let made = format!("/proc/self/fd/{}", made.as_raw_fd());
        rustix::fs::chmod(made.as_str(), Mode::from(mode)).map_err(|e| named(e.into(), "chmod", path))
    }

    fn own(&self, parent: BorrowedFd<'_>, name: &Path, entry: &tar::Entry<'_, &mut dyn Read>) -> io::Result<()> {
        if !self.options.owners {
            return Ok(());
        }
        let id = |value: u64| u32::try_from(value).map_err(io::Error::other);
        let uid = rustix::fs::Uid::from_raw(id(entry.header().uid()?)?);
        let gid = rustix::fs::Gid::from_raw(id(entry.header().gid()?)?);
        rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| named(e.into(), "chown", name))
    }

    fn finish(self) -> io::Result<u64> {
        for (path, mode, mtime) in self.directories.iter().rev() {
            // It may have been replaced by a later entry.
            let Ok(directory) = self.open_directory(path) else { continue };
            let mut mode = *mode;
            if mode == 0 {
                mode = 0o755;
            }
            rustix::fs::fchmod(&directory, Mode::from(mode)).map_err(|e| named(e.into(), "chmod", path))?;
            let _ = rustix::fs::futimens(&directory, &stamps(*mtime));
        }
        Ok(self.bytes)
    }
}

fn stamps(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// A relative path without `.` and without a way up.
fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(escape(path)),
        }
    }
    Ok(out)
}

fn escape(path: &Path) -> io::Error {
    io::Error::other(format!("{:?} leads out of the target directory", path.display().to_string()))
}

fn named(error: io::Error, verb: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{verb} {}: {}", path.display(), plain_io(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: tar::EntryType, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(1000);
        header
    }

    /// Names are written raw: the archive may be hostile.
    fn raw(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, content: &[u8], link: &str) {
        let mut header = header(kind, content.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, content).expect("append");
    }

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().expect("finish")
    }

    #[test]
    fn files_are_unpacked_and_renamed() {
        let dir = tempfile::tempdir().expect("tempdir");
        let bytes = archive(|b| {
            raw(b, tar::EntryType::Directory, "old/", b"", "");
            raw(b, tar::EntryType::Regular, "old/a", b"hello", "");
            raw(b, tar::EntryType::Link, "old/b", b"", "old/a");
            raw(b, tar::EntryType::Symlink, "old/c", b"", "a");
        });
        let options = Options { rebase: Some(("old".into(), "new".into())), owners: false };
        assert_eq!(unpack(&mut bytes.as_slice(), dir.path(), &options).expect("unpacks"), 5);
        for name in ["a", "b", "c"] {
            assert_eq!(std::fs::read_to_string(dir.path().join("new").join(name)).expect(name), "hello");
        }
    }

    #[test]
    fn nothing_leaves_the_target() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        std::fs::create_dir(&inside).expect("mkdir");
        std::fs::create_dir(&outside).expect("mkdir");
        let out = outside.to_str().expect("utf8");
        let hostile = [
            archive(|b| raw(b, tar::EntryType::Regular, "../out/x", b"1", "")),
            archive(|b| {
                raw(b, tar::EntryType::Symlink, "l", b"", out);
                raw(b, tar::EntryType::Regular, "l/x", b"1", "");
            }),
            archive(|b| {
                raw(b, tar::EntryType::Symlink, "m", b"", "../out");
                raw(b, tar::EntryType::Directory, "m/d/", b"", "");
            }),
            archive(|b| raw(b, tar::EntryType::Link, "h", b"", "../../etc/passwd")),
        ];
        for (index, bytes) in hostile.iter().enumerate() {
            let fault = unpack(&mut bytes.as_slice(), &inside, &Options::default()).expect_err("refused");
            assert!(fault.to_string().contains("leads out of the target directory"), "{index}: {fault}");
        }
        assert_eq!(std::fs::read_dir(&outside).expect("readdir").count(), 0);
        // An absolute name means the target.
        let bytes = archive(|b| raw(b, tar::EntryType::Regular, "/abs", b"1", ""));
        unpack(&mut bytes.as_slice(), &inside, &Options::default()).expect("unpacks");
        assert!(inside.join("abs").exists());
    }

    #[test]
    fn a_directory_is_not_replaced_by_a_file() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(dir.path().join("d")).expect("mkdir");
        let bytes = archive(|b| raw(b, tar::EntryType::Regular, "d", b"1", ""));
        let fault = unpack(&mut bytes.as_slice(), dir.path(), &Options::default()).expect_err("refused");
        assert!(fault.to_string().starts_with("cannot overwrite directory"), "{fault}");
    }
}
