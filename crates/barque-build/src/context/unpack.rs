//! Archives into directories: build contexts sent as tar streams, and what `ADD` unpacks.
//!
//! Every path of an entry is resolved inside the destination's root; an entry that names `..` is refused.

use std::cell::Cell;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use barque_model::{Context as _, Error, Result};
use rustix::fs::FileType;
use tokio_util::sync::CancellationToken;

use super::Tree;
use super::tree::Kind;
use crate::copy::target::{Ids, Target, shown};
use crate::worker::Root;

/// Most entries of one archive.
const MAX_ENTRIES: u64 = 5_000_000;

/// Bytes that may stand before an entry's content: headers and extended ones, which are read as a whole.
const MAX_HEADERS: u64 = 1 << 20;

/// Longest path or link target, in bytes (the kernel's limit).
const MAX_PATH: usize = 4096;

/// Who owns what is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whom the archive names.
    Archive,
    /// Always these ids.
    Set(u32, u32),
    /// The caller.
    Caller,
}

/// How to unpack.
#[derive(Debug, Clone)]
pub struct UnpackOptions {
    pub owner: Owner,
    /// Make device nodes; else they are an error.
    pub devices: bool,
    /// Most bytes of all files together.
    pub max_bytes: u64,
    pub cancel: CancellationToken,
}

impl UnpackOptions {
    /// For a build context: everything belongs to the caller, no devices.
    pub fn context(max_bytes: u64, cancel: CancellationToken) -> Self {
        UnpackOptions { owner: Owner::Caller, devices: false, max_bytes, cancel }
    }
}

/// Unpacks a tar stream, compressed or not (gzip, bzip2, xz, zstd), into the existing directory `dir`.
///
/// Errors: `InvalidArgument` for an archive that is broken, leads outside or is too large; `Canceled`. What was
/// written before stays.
pub fn unpack_tar(reader: impl Read, dir: PathBuf, options: &UnpackOptions) -> Result<()> {
    let tree = Tree::open(Root::new(dir))?;
    unpack(reader, &tree, Path::new(""), options)
}

/// The first bytes tell the compression.
fn decoder<'r>(mut reader: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut magic = [0u8; 6];
    let mut length = 0;
    while length < magic.len() {
        match reader.read(&mut magic[length..]) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let magic = &magic[..length];
    let all = BufReader::with_capacity(128 << 10, io::Cursor::new(magic.to_vec()).chain(reader));
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(all)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(all)),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(lzma_rust2::XzReader::new(all, true)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(all)?),
        _ => Box::new(all),
    })
}

/// Whether `file` is a tar archive, possibly compressed: it starts with a valid header.
pub(crate) fn is_archive(file: &mut File) -> io::Result<bool> {
    file.seek(SeekFrom::Start(0))?;
    let mut header = [0u8; 512];
    let valid = match decoder(&*file) {
        Err(_) => false,
        Ok(mut reader) => reader.read_exact(&mut header).is_ok() && valid_header(&header),
    };
    file.seek(SeekFrom::Start(0))?;
    Ok(valid)
}

fn valid_header(header: &[u8; 512]) -> bool {
    let mut fields = tar::Header::new_old();
    fields.as_mut_bytes().copy_from_slice(header);
    let sum: u32 =
        header.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
    header.iter().any(|b| *b != 0) && fields.cksum().is_ok_and(|c| c == sum)
}

fn broken(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the archive cannot be unpacked: {why}"))
}

/// Unpacks into the directory `dir` (without links) of `tree`.
pub(crate) fn unpack(reader: impl Read, tree: &Tree, dir: &Path, options: &UnpackOptions) -> Result<()> {
    let reader = decoder(reader).context("read the archive")?;
    let budget = Rc::new(Cell::new(MAX_HEADERS));
    let content_end = Rc::new(Cell::new(u64::MAX));
    let input = Budgeted { reader, budget: budget.clone(), position: 0, content_end: content_end.clone() };
    let mut archive = tar::Archive::new(input);
    let mut unpacker = Unpacker { target: Target::new(tree), base: dir, options, bytes: 0, dirs: Vec::new() };
    let entries = archive.entries().map_err(broken)?;
    for (count, entry) in entries.enumerate() {
        if options.cancel.is_cancelled() {
            return Err(Error::canceled("unpacking was canceled"));
        }
        if count as u64 >= MAX_ENTRIES {
            return Err(broken(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let mut entry = entry.map_err(broken)?;
        budget.set(u64::MAX);
        let size = entry.header().entry_size().map_err(broken)?;
        content_end.set(entry.raw_file_position().saturating_add(size));
        unpacker.entry(&mut entry)?;
        // Content that nobody wanted is passed over here, so that only headers are read on the way to the next.
        io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
        budget.set(MAX_HEADERS);
    }
    unpacker.finish()
}

/// A reader that fails when its budget is used up: the `tar` crate keeps long names and extended headers in memory,
/// however long they say they are.
struct Budgeted<R> {
    reader: R,
    /// Bytes.
    budget: Rc<Cell<u64>>,
    /// Bytes read.
    position: u64,
    /// Where the content of the last entry ends. Docker's client leaves out what fills the block after it.
    content_end: Rc<Cell<u64>>,
}

impl<R: Read> Read for Budgeted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.get();
        if left == 0 {
            let text = format!("the headers of an entry are longer than {MAX_HEADERS} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let mut count = self.reader.read(&mut buffer[..wanted])?;
        if count == 0 && self.position >= self.content_end.get() {
            let missing = usize::try_from(self.position.wrapping_neg() % 512).unwrap_or(0);
            count = missing.min(wanted);
            buffer[..count].fill(0);
        }
        self.position += count as u64;
        self.budget.set(left - count as u64);
        Ok(count)
    }
}

struct Unpacker<'a> {
    target: Target<'a>,
    base: &'a Path,
    options: &'a UnpackOptions,
    bytes: u64,
    /// Directories whose mode and time are set last: filling them needs the one and changes the other.
    dirs: Vec<(PathBuf, u32, i64)>,
}

struct Meta {
    mode: u32,
    ids: Ids,
    mtime: i64,
    xattrs: Vec<(CString, Vec<u8>)>,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() || kind.is_gnu_longname() {
            return Ok(());
        }
        let name = entry.path_bytes().into_owned();
        let path = self.inside(&name)?;
        let meta = self.meta(entry)?;
        let say = || format!("unpack {}", String::from_utf8_lossy(&name));
        if path.as_os_str().is_empty() {
            return if kind.is_dir() {
                self.directory(Path::new(""), &meta)
            } else {
                Err(broken("an entry has no name"))
            };
        }
        // Links that earlier entries (or the image) contain are followed, but never out of the root.
        let parent = path.parent().unwrap_or(Path::new(""));
        let parent = self.target.tree().resolve(&self.base.join(parent), true).with_context(say)?;
        self.target.make_dirs(&parent, 0o755, self.ids_of(None))?;
        let file_name = path.file_name().unwrap_or_default().to_owned();
        let place = parent.join(&file_name);
        if kind.is_dir() {
            return self.directory(&place, &meta);
        }
        let dir = self.target.open_dir(&parent)?;
        self.target.remove_all(&dir, &file_name, 0).with_context(say)?;
        match kind {
            tar::EntryType::Symlink => {
                let link = self.link_name(entry)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&link), &dir, &file_name)
                    .map_err(io::Error::from)
                    .with_context(say)?;
                self.target.set_owner(&dir, &file_name, meta.ids).with_context(say)?;
                self.target.set_time(&dir, &file_name, meta.mtime).with_context(say)?;
            }
            tar::EntryType::Link => {
                let link = self.inside(&self.link_name(entry)?)?;
                self.hard_link(&link, &dir, &file_name).with_context(say)?;
            }
            tar::EntryType::Fifo | tar::EntryType::Char | tar::EntryType::Block => {
                self.node(entry, kind, &dir, &file_name, &meta, &place)?;
            }
            kind if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() => {
                let out = self.target.create(&dir, &file_name).with_context(say)?;
                self.content(entry, File::from(out), &meta).with_context(say)?;
            }
            other => return Err(broken(format!("unhandled tar header type {}", other.as_byte()))),
        }
        Ok(())
    }

    /// A name without leading `/` and `.`; `..` is refused.
    fn inside(&self, name: &[u8]) -> Result<PathBuf> {
        if name.len() > MAX_PATH || name.contains(&0) {
            return Err(broken("an entry's name is too long or holds a NUL"));
        }
        let mut path = PathBuf::new();
        for part in Path::new(OsStr::from_bytes(name)).components() {
            match part {
                Component::Normal(part) => path.push(part),
                Component::ParentDir => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    return Err(broken(format!("{name:?} leads outside of it")));
                }
                _ => {}
            }
        }
        Ok(path)
    }

    fn link_name<R: Read>(&self, entry: &tar::Entry<'_, R>) -> Result<Vec<u8>> {
        match entry.link_name_bytes() {
            Some(name) if !name.is_empty() && name.len() <= MAX_PATH && !name.contains(&0) => Ok(name.into_owned()),
            _ => Err(broken("a link has no usable target")),
        }
    }

    fn ids_of(&self, archive: Option<(u32, u32)>) -> Ids {
        match self.options.owner {
            Owner::Archive => archive.or(Some((0, 0))),
            Owner::Set(uid, gid) => Some((uid, gid)),
            Owner::Caller => None,
        }
    }

    fn meta<R: Read>(&self, entry: &mut tar::Entry<'_, R>) -> Result<Meta> {
        let id = |n: io::Result<u64>| n.ok().and_then(|n| u32::try_from(n).ok());
        let header = entry.header();
        let ids = (id(header.uid()).unwrap_or(0), id(header.gid()).unwrap_or(0));
        let mode = header.mode().map_err(broken)? & 0o7777;
        let seconds = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
        let mut meta = Meta {
            mode,
            ids: self.ids_of(Some(ids)),
            mtime: seconds.saturating_mul(1_000_000_000),
            xattrs: Vec::new(),
        };
        let Some(extensions) = entry.pax_extensions().map_err(broken)? else { return Ok(meta) };
        for extension in extensions.filter_map(std::result::Result::ok) {
            let key = extension.key_bytes();
            if key == b"mtime" {
                if let Some(nanos) = extension.value().ok().and_then(pax_time) {
                    meta.mtime = nanos;
                }
            } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                && let Ok(name) = CString::new(name)
            {
                meta.xattrs.push((name, extension.value_bytes().to_vec()));
            }
        }
        Ok(meta)
    }

    fn directory(&mut self, path: &Path, meta: &Meta) -> Result<()> {
        let say = || format!("unpack the directory {}", shown(path));
        let place = if path.as_os_str().is_empty() { self.base } else { path };
        let existing = self.target.tree().entry(place);
        let is_dir = matches!(&existing, Ok(e) if e.kind == Kind::Dir);
        if !is_dir && let (Some(parent), Some(name)) = (place.parent(), place.file_name()) {
            let dir = self.target.open_dir(parent)?;
            self.target.remove_all(&dir, name, 0).with_context(say)?;
            self.target.make_dir(&dir, name, meta.mode | 0o700, meta.ids).with_context(say)?;
        }
        let fd = self.target.open_dir(place)?;
        super::xattr::set(&fd, &meta.xattrs).with_context(say)?;
        self.target.finish(&fd, meta.mode | 0o700, meta.ids, meta.mtime).with_context(say)?;
        self.dirs.push((place.to_owned(), meta.mode, meta.mtime));
        Ok(())
    }

    fn hard_link(&self, target: &Path, dir: &std::os::fd::OwnedFd, name: &OsStr) -> io::Result<()> {
        let tree = self.target.tree();
        let parent = tree.resolve(&self.base.join(target.parent().unwrap_or(Path::new(""))), false)?;
        let from = tree.open_dir(&parent)?;
        let file = target.file_name().unwrap_or_default();
        Ok(rustix::fs::linkat(&from, file, dir, name, rustix::fs::AtFlags::empty())?)
    }

    fn node<R: Read>(
        &self,
        entry: &tar::Entry<'_, R>,
        kind: tar::EntryType,
        dir: &std::os::fd::OwnedFd,
        name: &OsStr,
        meta: &Meta,
        place: &Path,
    ) -> Result<()> {
        let say = || format!("unpack {}", shown(place));
        let kind = match kind {
            tar::EntryType::Fifo => FileType::Fifo,
            tar::EntryType::Char => FileType::CharacterDevice,
            _ => FileType::BlockDevice,
        };
        if kind != FileType::Fifo && !self.options.devices {
            return Err(broken(format!("{} is a device", shown(place))).with_hint("leave devices out of the archive"));
        }
        let number = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0);
        let header = entry.header();
        let rdev = rustix::fs::makedev(number(header.device_major()), number(header.device_minor()));
        self.target.make_node(dir, name, kind, rdev).with_context(say)?;
        self.target.set_owner(dir, name, meta.ids).with_context(say)?;
        let mode = rustix::fs::Mode::from_raw_mode(meta.mode);
        rustix::fs::chmodat(dir, name, mode, rustix::fs::AtFlags::empty())
            .map_err(io::Error::from)
            .with_context(say)?;
        self.target.set_time(dir, name, meta.mtime).with_context(say)
    }

    fn content<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, mut out: File, meta: &Meta) -> Result<()> {
        let mut buffer = vec![0u8; 64 << 10];
        loop {
            let length = match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(broken(e)),
            };
            self.bytes += length as u64;
            if self.bytes > self.options.max_bytes {
                return Err(broken(format!("its files are larger than {} bytes", self.options.max_bytes)));
            }
            if self.options.cancel.is_cancelled() {
                return Err(Error::canceled("unpacking was canceled"));
            }
            out.write_all(&buffer[..length])?;
        }
        self.target.finish(&out, meta.mode, meta.ids, meta.mtime)?;
        // After the owner: a change of owner drops capabilities.
        Ok(super::xattr::set(&out, &meta.xattrs)?)
    }

    fn finish(self) -> Result<()> {
        for (path, mode, mtime) in self.dirs.iter().rev() {
            // A later entry may have replaced the directory.
            let Ok(dir) = self.target.open_dir(path) else { continue };
            self.target
                .finish(&dir, *mode, None, *mtime)
                .with_context(|| format!("finish the directory {}", shown(path)))?;
        }
        Ok(())
    }
}

/// `1350244992.023960108` as nanoseconds.
fn pax_time(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 = digits.parse().ok()?;
    let nanos = if text.starts_with('-') { -nanos } else { nanos };
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}
