//! A tree as a tar stream.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use barque_model::{Error, Result};
use barque_sys::rootdir::{Dir, FileKind, RootDir, Stat, TimeSpec, file_xattrs};
use rustix::fs::OFlags;

use super::walk::{self, Descend, Target, Visit, Visitor};
use super::{TarTreeOptions, TreeSummary};
use crate::error::{self, IoContext};
use crate::layer::is_private_attribute;
use crate::tar::{Entry, Kind, Writer};

/// Bytes read from files, and gathered for the output, at a time.
pub(crate) const BUFFER: usize = 128 * 1024;

/// Writes objects of a tree as entries. Shared by exports and diffs.
pub(crate) struct Packer<W> {
    pub(crate) writer: Writer<W>,
    pub(crate) summary: TreeSummary,
    /// Modification times are not later than this (seconds since the epoch).
    clamp: Option<i64>,
    /// First names of files with several: device and inode → name in the archive.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Packer<W> {
    pub(crate) fn new(out: W, clamp: Option<i64>, nanos: bool) -> Packer<W> {
        Packer {
            writer: Writer::new(out).with_nanos(nanos),
            summary: TreeSummary::default(),
            clamp,
            links: HashMap::new(),
            buffer: vec![0; BUFFER],
        }
    }

    fn entry(&self, name: Vec<u8>, kind: Kind, stat: &Stat) -> Entry {
        let mtime = match self.clamp {
            Some(latest) if stat.modified.seconds >= latest => TimeSpec::new(latest, 0),
            _ => stat.modified,
        };
        Entry {
            path: name,
            link: Vec::new(),
            kind,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            size: 0,
            mtime,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        }
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        self.summary.entries += 1;
        self.writer.entry(entry)
    }

    /// A directory; `name` without a final slash.
    pub(crate) fn directory(&mut self, name: &[u8], dir: &Dir, stat: &Stat) -> Result<()> {
        let mut entry = self.entry([name, b"/"].concat(), Kind::Directory, stat);
        entry.xattrs = public(dir.own_xattrs().at("read attributes of", shown(name))?);
        self.put(&entry)
    }

    /// An empty file that stands for a deletion. It says nothing else, not even when: overlayfs's mark has no time
    /// that would survive, and the same layer must give the same archive.
    pub(crate) fn whiteout(&mut self, name: Vec<u8>) -> Result<()> {
        let mtime = TimeSpec::new(0, 0);
        self.put(&Entry {
            path: name,
            link: Vec::new(),
            kind: Kind::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        })
    }

    /// Anything but a directory. Sockets are passed over, as is what vanishes meanwhile.
    pub(crate) fn object(&mut self, name: &[u8], parent: &Dir, from: &OsStr, stat: &Stat) -> Result<()> {
        let kind = match stat.kind {
            FileKind::Socket | FileKind::Directory => return Ok(()),
            FileKind::Regular => Kind::Regular,
            FileKind::Symlink => Kind::Symlink,
            FileKind::CharDevice => Kind::CharDevice,
            FileKind::BlockDevice => Kind::BlockDevice,
            FileKind::Fifo => Kind::Fifo,
        };
        let mut entry = self.entry(name.to_vec(), kind, stat);
        if stat.links > 1 {
            if let Some(first) = self.links.get(&(stat.device, stat.inode)) {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                return self.put(&entry);
            }
            self.links.insert((stat.device, stat.inode), name.to_vec());
        }
        match kind {
            Kind::Regular => return self.regular(entry, parent, from),
            Kind::Symlink => match parent.readlink(from) {
                Ok(target) => entry.link = target.as_bytes().to_vec(),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(e).at("read the link", shown(name)),
            },
            Kind::CharDevice | Kind::BlockDevice => entry.device = stat.rdev,
            _ => {}
        }
        entry.xattrs = match parent.xattrs(from) {
            Ok(attributes) => public(attributes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).at("read attributes of", shown(name)),
        };
        self.put(&entry)
    }

    fn regular(&mut self, mut entry: Entry, parent: &Dir, from: &OsStr) -> Result<()> {
        let mut file = match parent.open_file(from, OFlags::RDONLY) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e).at("open", shown(&entry.path)),
        };
        // What is open counts: the name may lead to something else by now.
        let stat = Stat::of_fd(file.as_fd()).at("examine", shown(&entry.path))?;
        if stat.kind != FileKind::Regular {
            return Ok(());
        }
        entry.size = stat.size;
        entry.xattrs = public(file_xattrs(file.as_fd()).at("read attributes of", shown(&entry.path))?);
        self.put(&entry)?;
        self.summary.bytes += entry.size;
        while self.writer.remaining() > 0 {
            let want = usize::try_from(self.writer.remaining()).unwrap_or(usize::MAX).min(self.buffer.len());
            match file.read(&mut self.buffer[..want]) {
                // The file was cut short meanwhile: the rest reads as zeros.
                Ok(0) => {
                    self.buffer[..want].fill(0);
                    self.writer.data(&self.buffer[..want])?;
                }
                Ok(n) => self.writer.data(&self.buffer[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e).at("read", shown(&entry.path)),
            }
        }
        Ok(())
    }
}

/// The attributes that belong in an archive.
fn public(attributes: Vec<(std::ffi::OsString, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let own = attributes.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value));
    // Labels say something about this machine's policy, not about the file.
    own.filter(|(name, _)| !is_private_attribute(name) && name != b"security.selinux").collect()
}

fn shown(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

struct TreeWriter<'a, W> {
    packer: Packer<W>,
    prefix: Option<Vec<u8>>,
    options: &'a TarTreeOptions,
}

impl<W> TreeWriter<'_, W> {
    fn name(&self, path: &[u8]) -> Vec<u8> {
        match &self.prefix {
            None => path.to_vec(),
            Some(prefix) => [&prefix[..], b"/", path].concat(),
        }
    }

    fn is_hollow(&self, path: &[u8]) -> bool {
        self.options.hollow.iter().any(|h| h.as_os_str().as_bytes() == path)
    }
}

impl<W: Write> Visitor for TreeWriter<'_, W> {
    fn visit(&mut self, visit: &Visit<'_>, own: Option<&Dir>) -> Result<Descend> {
        if self.options.exclude.iter().any(|e| e.as_os_str().as_bytes() == visit.path) {
            return Ok(Descend::No);
        }
        let name = self.name(visit.path);
        match own {
            Some(dir) => self.packer.directory(&name, dir, visit.stat)?,
            None => self.packer.object(&name, visit.parent, visit.name, visit.stat)?,
        }
        Ok(if self.is_hollow(visit.path) { Descend::No } else { Descend::Yes })
    }
}

/// See [`super::tar_tree`].
pub(super) fn tar_tree(
    root: &RootDir,
    path: &Path,
    options: &TarTreeOptions,
    out: &mut dyn Write,
) -> Result<TreeSummary> {
    let out = io::BufWriter::with_capacity(BUFFER, out);
    let packer = Packer::new(out, options.clamp_mtime, !options.whole_seconds);
    let prefix = options.rebase.as_ref().map(|r| r.as_bytes().strip_suffix(b"/").unwrap_or(r.as_bytes()).to_vec());
    let mut writer = TreeWriter { packer, prefix, options };
    let target = walk::open_target(root, path, options.follow_link).map_err(|e| not_found(e, path))?;
    match target {
        Target::Directory(dir, stat) => {
            if let Some(prefix) = writer.prefix.clone() {
                writer.packer.directory(&prefix, &dir, &stat)?;
            }
            if !writer.is_hollow(b"") {
                walk::walk(dir, &mut writer)?;
            }
        }
        Target::Other(parent, name, stat) => {
            let own = match &options.rebase {
                Some(rebase) => rebase.as_bytes().to_vec(),
                None => name.as_bytes().to_vec(),
            };
            writer.packer.object(&own, &parent, &name, &stat)?;
        }
    }
    let Packer { writer, summary, .. } = writer.packer;
    writer.finish()?;
    Ok(summary)
}

fn not_found(e: io::Error, path: &Path) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound => Error::not_found(format!("{}: no such file or directory", path.display())),
        _ => error::io(e, "open", path, None),
    }
}
