//! An upper directory in overlayfs form, as a layer archive.

use std::io::{self, Write};
use std::path::Path;

use barque_model::{DiffId, Hasher, Result};
use barque_sys::rootdir::Dir;

use super::marks::{OPAQUE, WHITEOUT, is_opaque};
use super::{DiffOptions, DiffSummary, names};
use crate::error::IoContext;
use crate::tree::{Descend, Packer, Visit, Visitor, walk};

/// Hashes what goes through.
pub(super) struct Tee<W> {
    out: W,
    hash: Hasher,
}

impl<W: Write> Tee<W> {
    pub(super) fn new(out: W) -> Tee<W> {
        Tee { out, hash: Hasher::new() }
    }

    pub(super) fn finish(self) -> (W, Hasher) {
        (self.out, self.hash)
    }
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct DiffWriter<W> {
    packer: Packer<W>,
}

impl<W: Write> Visitor for DiffWriter<W> {
    fn visit(&mut self, visit: &Visit<'_>, own: Option<&Dir>) -> Result<Descend> {
        let (parent, name) = names::split(visit.path);
        if name.starts_with(WHITEOUT) {
            return Err(barque_model::Error::invalid(format!(
                "'{}' cannot be part of a layer: names that begin with .wh. mark deletions there",
                crate::tar::show(visit.path)
            ))
            .with_hint("rename or delete this file"));
        }
        let Some(dir) = own else {
            if visit.stat.is_whiteout() {
                self.packer.whiteout(beside(parent, WHITEOUT, name))?;
            } else {
                self.packer.object(visit.path, visit.parent, visit.name, visit.stat)?;
            }
            return Ok(Descend::No);
        };
        self.packer.directory(visit.path, dir, visit.stat)?;
        if is_opaque(&dir.own_xattrs().at("read attributes of", shown(visit))?) {
            self.packer.whiteout([visit.path, b"/", OPAQUE].concat())?;
        }
        Ok(Descend::Yes)
    }
}

fn shown<'a>(visit: &Visit<'a>) -> &'a Path {
    super::apply::path(visit.path)
}

/// `parent/mark+name`.
fn beside(parent: &[u8], mark: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { [mark, name].concat() } else { [parent, b"/", mark, name].concat() }
}

/// Writes the directory `upper` as a layer archive. The root itself is not an entry, as in Docker's layers.
pub(super) fn diff(upper: &Path, options: DiffOptions, out: &mut dyn Write) -> Result<DiffSummary> {
    let dir = Dir::open(upper).at("open", upper)?;
    let out = io::BufWriter::with_capacity(crate::tree::BUFFER, Tee::new(out));
    let mut writer = DiffWriter { packer: Packer::new(out, options.clamp_mtime, false) };
    walk(dir, &mut writer)?;
    let Packer { writer, summary, .. } = writer.packer;
    let (buffered, tar_size) = writer.finish()?;
    let tee = buffered.into_inner().map_err(|e| crate::error::from_io(e.into_error()))?;
    let (_, hash) = tee.finish();
    Ok(DiffSummary { diff_id: DiffId(hash.finish()), tar_size, size: summary.bytes, entries: summary.entries })
}
