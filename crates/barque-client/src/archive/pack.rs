//! Packs local files into a tar stream.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::ignore::Patterns;
use super::plain_io;

/// Who owns the packed files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// As on disk.
    Kept,
    /// Everything belongs to root: a build context means no user of this machine.
    Root,
}

/// Writes a tar stream; dropped unfinished, it has no end.
pub struct Packer<W: Write> {
    tar: tar::Builder<W>,
    owner: Owner,
    /// First names of files with several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    pub fn new(writer: W, owner: Owner) -> Packer<W> {
        let mut tar = tar::Builder::new(writer);
        tar.follow_symlinks(false);
        Packer { tar, owner, links: HashMap::new() }
    }

    /// Packs `path` under `name`, with all below it.
    pub fn tree(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let metadata = context(std::fs::symlink_metadata(path), "lstat", path)?;
        self.entry(path, name, &metadata)?;
        if metadata.is_dir() {
            for child in sorted(path)? {
                self.tree(&path.join(&child), &name.join(&child))?;
            }
        }
        Ok(())
    }

    /// Packs the content of `root` but for what `patterns` leave out.
    pub fn filtered(&mut self, root: &Path, below: &Path, patterns: &Patterns) -> io::Result<()> {
        for child in sorted(&root.join(below))? {
            let name = below.join(&child);
            let path = root.join(&name);
            let metadata = match std::fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                // It was there a moment ago; a context that changes under the build is its owner's matter.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return context(Err(e), "lstat", &path),
            };
            let text = name.to_string_lossy();
            if patterns.ignores(&text) {
                if metadata.is_dir() && patterns.may_keep_below(&text) {
                    self.filtered(root, &name, patterns)?;
                }
                continue;
            }
            self.entry(&path, &name, &metadata)?;
            if metadata.is_dir() {
                self.filtered(root, &name, patterns)?;
            }
        }
        Ok(())
    }

    /// Packs bytes as a file.
    pub fn bytes(&mut self, name: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.tar.append_data(&mut header, name, content)
    }

    pub fn finish(self) -> io::Result<()> {
        self.tar.into_inner()?.flush()
    }

    fn entry(&mut self, path: &Path, name: &Path, metadata: &std::fs::Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        // A socket has no content and cannot be made from an archive.
        if kind.is_socket() {
            return Ok(());
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
        let (uid, gid) = match self.owner {
            Owner::Kept => (metadata.uid(), metadata.gid()),
            Owner::Root => (0, 0),
        };
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header.set_size(0);
        let name = if name.as_os_str().is_empty() { Path::new(".") } else { name };
        if kind.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            // A directory's name ends in a slash.
            let mut slashed = OsString::from(name);
            slashed.push("/");
            return self.tar.append_data(&mut header, slashed, io::empty());
        }
        if kind.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            let target = context(std::fs::read_link(path), "readlink", path)?;
            return self.tar.append_link(&mut header, name, target);
        }
        if kind.is_file() && metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&key) {
                header.set_entry_type(tar::EntryType::Link);
                return self.tar.append_link(&mut header, name, first.clone());
            }
            self.links.insert(key, name.to_owned());
        }
        if kind.is_file() {
            return self.file(path, name, header, metadata.len());
        }
        self.special(name, header, metadata)
    }

    fn file(&mut self, path: &Path, name: &Path, mut header: tar::Header, size: u64) -> io::Result<()> {
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(size);
        let file = context(std::fs::File::open(path), "open", path)?;
        // A file that grows or shrinks meanwhile must not spoil the archive's frame.
        let exact = Exactly { inner: file, left: size };
        self.tar.append_data(&mut header, name, exact)
    }

    fn special(&mut self, name: &Path, mut header: tar::Header, metadata: &std::fs::Metadata) -> io::Result<()> {
        let kind = metadata.file_type();
        header.set_entry_type(if kind.is_fifo() {
            tar::EntryType::Fifo
        } else if kind.is_char_device() {
            tar::EntryType::Char
        } else {
            tar::EntryType::Block
        });
        if !kind.is_fifo() {
            header.set_device_major(rustix::fs::major(metadata.rdev()))?;
            header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
        }
        self.tar.append_data(&mut header, name, io::empty())
    }
}

/// The names in a directory, in the order of their bytes.
fn sorted(path: &Path) -> io::Result<Vec<OsString>> {
    let entries = context(std::fs::read_dir(path), "open", path)?;
    let mut names: Vec<OsString> = entries.map(|e| e.map(|e| e.file_name())).collect::<io::Result<_>>()?;
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

/// Names what was done to which file.
fn context<T>(result: io::Result<T>, verb: &str, path: &Path) -> io::Result<T> {
    result.map_err(|e| io::Error::new(e.kind(), format!("{verb} {}: {}", path.display(), plain_io(&e))))
}

/// Reads exactly `left` bytes: more are cut off, missing ones are zero.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: io::Read> io::Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let count = match self.inner.read(&mut buffer[..want])? {
            0 => {
                buffer[..want].fill(0);
                want
            }
            count => count,
        };
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pack: impl FnOnce(&mut Packer<&mut Vec<u8>>)) -> Vec<String> {
        let mut bytes = Vec::new();
        let mut packer = Packer::new(&mut bytes, Owner::Root);
        pack(&mut packer);
        packer.finish().expect("finishes");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().expect("entries");
        entries.map(|e| e.expect("entry").path().expect("path").display().to_string()).collect()
    }

    #[test]
    fn trees_and_filters() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = dir.path();
        std::fs::create_dir_all(root.join("a/b")).expect("mkdir");
        std::fs::write(root.join("a/b/keep.txt"), "x").expect("write");
        std::fs::write(root.join("a/drop.log"), "x").expect("write");
        std::fs::hard_link(root.join("a/drop.log"), root.join("z")).expect("link");
        assert_eq!(
            names(|p| p.tree(&root.join("a"), Path::new("new")).expect("packs")),
            ["new/", "new/b/", "new/b/keep.txt", "new/drop.log"]
        );
        let patterns = Patterns::parse("*\n!a/b/*.txt\n!z").expect("parses");
        assert_eq!(names(|p| p.filtered(root, Path::new(""), &patterns).expect("packs")), ["a/b/keep.txt", "z"]);
        let fault = Packer::new(Vec::new(), Owner::Root).tree(&root.join("none"), Path::new("x")).expect_err("missing");
        assert!(fault.to_string().ends_with("none: no such file or directory"), "{fault}");
    }
}
