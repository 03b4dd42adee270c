//! What an image archive holds: read once, from beginning to end, since it may come from a pipe.
//!
//! Which member is a layer is known for certain only when the manifest has been seen, often at the very end. So
//! members are told apart by their content: documents begin as JSON and are kept in memory within bounds; tar
//! streams, compressed or not, are unpacked at once and become layers later, or are dropped.

use std::collections::HashMap;
use std::io::{self, BufRead, Cursor, Read};

use barque_model::{DiffId, Digest, Error, Result};

use super::LoadEvent;
use super::positioned::{Place, Positioned, ReadAt, take_all};
use crate::error;
use crate::layer::{AppliedLayer, Compression, LayerSource, clean};
use crate::tar::{Entry, Kind, Reader, bad, show, truncated};
use crate::{Lease, Store};

/// Members an archive may have.
const MEMBERS_MAX: usize = 20_000;
/// Bytes of all documents.
const DOCUMENTS_MAX: u64 = 64 << 20;
/// Links followed from a name.
const LINKS_MAX: usize = 8;
/// How often progress is told, in bytes.
const PROGRESS: u64 = 512 * 1024;

/// A layer found in the archive.
pub(super) enum Found {
    /// Unpacked, not yet part of the store.
    Applied(Box<AppliedLayer>),
    /// It was here before: the digest of its blob, and what that unpacks to.
    Known(Digest, DiffId),
}

impl Found {
    pub(super) fn diff_id(&self) -> DiffId {
        match self {
            Found::Applied(layer) => layer.diff_id,
            Found::Known(_, diff_id) => *diff_id,
        }
    }
}

/// The members by name.
#[derive(Default)]
pub(super) struct Members {
    documents: HashMap<String, Vec<u8>>,
    layers: HashMap<String, Found>,
    links: HashMap<String, String>,
    document_bytes: u64,
    count: usize,
}

impl Members {
    /// Reads the whole archive.
    pub(super) fn read(
        store: &Store,
        lease: &Lease,
        input: impl BufRead,
        events: &mut (dyn FnMut(LoadEvent) + Send),
    ) -> Result<Members> {
        let mut members = Members::default();
        let mut reader = Reader::new(input);
        while let Some(entry) = reader.next()? {
            let Some((name, start)) = members.member(store, &entry, &mut reader)? else { continue };
            let place = Place { name, offset: 0, size: entry.size };
            let mut input = start.chain(Data(&mut reader));
            let found = take(store, lease, &place, &mut input, events)?;
            members.layers.insert(place.name, found);
        }
        Ok(members)
    }

    /// The same of a file: without reading it from end to end before the first layer is begun.
    pub(super) fn read_at(
        store: &Store,
        lease: &Lease,
        file: &dyn ReadAt,
        events: &mut (dyn FnMut(LoadEvent) + Send),
    ) -> Result<Members> {
        let mut members = Members::default();
        let mut places = Vec::new();
        let mut reader = Reader::new(Positioned::new(file, 0));
        while let Some(entry) = reader.next()? {
            let offset = Positioned::position(reader.input());
            if let Some((name, _)) = members.member(store, &entry, &mut reader)? {
                places.push(Place { name, offset, size: entry.size });
                reader.leave_out(Positioned::pass_over);
            }
        }
        members.layers.extend(take_all(store, lease, file, places, events)?);
        Ok(members)
    }

    /// Takes a member unless it is a layer, of which it gives the name and the beginning, consumed.
    fn member<R: BufRead>(
        &mut self,
        store: &Store,
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<Option<(String, Cursor<Vec<u8>>)>> {
        self.count += 1;
        if self.count > MEMBERS_MAX {
            return Err(bad(format!("the archive has more than {MEMBERS_MAX} members")));
        }
        let name = String::from_utf8(clean(&entry.path)?)
            .map_err(|_| bad(format!("the archive's member '{}' is not named in UTF-8", show(&entry.path))))?;
        match entry.kind {
            Kind::Directory => return Ok(None),
            // Docker before 25 wrote a layer that occurs twice once, with a link from the second place.
            Kind::Symlink | Kind::HardLink => return self.link(&name, entry).map(|()| None),
            Kind::Regular if entry.sparse.is_none() => {}
            _ => return Err(bad(format!("the archive's member '{name}' is neither file nor directory"))),
        }
        let start = read_start(reader)?;
        if is_document(&start) {
            return self.document(store, &name, entry.size, start, reader).map(|()| None);
        }
        // Others are VERSION, signatures and the like.
        Ok(is_layer(&start, entry.size).then(|| (name, Cursor::new(start))))
    }

    fn link(&mut self, name: &str, entry: &Entry) -> Result<()> {
        let target = match entry.kind {
            Kind::HardLink => entry.link.clone(),
            // Relative to the directory of the link.
            _ => [name.rsplit_once('/').map_or("", |(dir, _)| dir).as_bytes(), b"/", &entry.link].concat(),
        };
        let target = String::from_utf8(clean(&target)?)
            .map_err(|_| bad(format!("the archive's link '{name}' leads to a name that is not UTF-8")))?;
        self.links.insert(name.to_owned(), target);
        Ok(())
    }

    fn document<R: BufRead>(
        &mut self,
        store: &Store,
        name: &str,
        size: u64,
        mut bytes: Vec<u8>,
        reader: &mut Reader<R>,
    ) -> Result<()> {
        let limit = store.inner.limits.document_bytes;
        self.document_bytes += size;
        if (limit > 0 && size > limit) || self.document_bytes > DOCUMENTS_MAX {
            return Err(bad(format!("the archive's document '{name}' is too large: {size} bytes")));
        }
        while reader.data(u64::MAX, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })? > 0
        {}
        if let Some(digest) = blob_name(name)
            && barque_model::Digest::of(&bytes) != digest
        {
            return Err(bad(format!("digest mismatch: the archive's member '{name}' is something else")));
        }
        self.documents.insert(name.to_owned(), bytes);
        Ok(())
    }

    fn resolve<'a>(&'a self, name: &'a str) -> &'a str {
        let mut name = name;
        for _ in 0..LINKS_MAX {
            match self.links.get(name) {
                Some(target) => name = target,
                None => break,
            }
        }
        name
    }

    pub(super) fn find_document(&self, name: &str) -> Option<&[u8]> {
        self.documents.get(self.resolve(name)).map(Vec::as_slice)
    }

    /// Errors: InvalidArgument if the archive lacks it.
    pub(super) fn need_document(&self, name: &str) -> Result<&[u8]> {
        self.find_document(name).ok_or_else(|| bad(format!("the archive lacks '{name}'")))
    }

    /// A document of an OCI layout by its digest.
    pub(super) fn need_blob(&self, digest: &Digest) -> Result<&[u8]> {
        self.need_document(&blob_path(digest))
    }

    /// Errors: InvalidArgument if the archive lacks it.
    pub(super) fn need_layer(&self, name: &str) -> Result<&Found> {
        let missing = || bad(format!("the archive lacks the layer '{name}'"));
        self.layers.get(self.resolve(name)).ok_or_else(missing)
    }

    /// The layer; what is taken twice is unpacked again from its blob.
    pub(super) fn take_layer(&mut self, name: &str) -> Result<Found> {
        let name = self.resolve(name).to_owned();
        let missing = || bad(format!("the archive lacks the layer '{name}'"));
        let found = self.layers.remove(&name).ok_or_else(missing)?;
        let again = match &found {
            Found::Applied(layer) => layer.blob.map(|blob| Found::Known(blob.digest, layer.diff_id)),
            Found::Known(digest, diff_id) => Some(Found::Known(*digest, *diff_id)),
        };
        if let Some(again) = again {
            self.layers.insert(name, again);
        }
        Ok(found)
    }
}

/// The data of a tar's member.
struct Data<'a, R>(&'a mut Reader<R>);

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let (mut n, most) = (0, out.len() as u64);
        let copy = |bytes: &[u8]| {
            n = bytes.len();
            out[..n].copy_from_slice(bytes);
            Ok(())
        };
        self.0.data(most, copy).map_err(error::into_io)?;
        Ok(n)
    }
}

/// Takes a layer from the beginning of its data.
pub(super) fn take(
    store: &Store,
    lease: &Lease,
    place: &Place,
    input: &mut dyn Read,
    events: &mut dyn FnMut(LoadEvent),
) -> Result<Found> {
    let Place { name, size, .. } = place;
    let digest = blob_name(name);
    if let Some(found) = known(store, lease, digest)? {
        return Ok(found);
    }
    let source = LayerSource { digest, size: Some(*size), alone: true, ..LayerSource::default() };
    let mut writer = store.layer_writer(lease, source)?;
    let mut input = input.take(*size);
    // What is here from an interrupted pull is passed over.
    let mut here = writer.offset();
    let (mut current, mut told) = (0, 0);
    let mut buffer = vec![0; crate::tree::BUFFER];
    loop {
        let n = match input.read(&mut buffer) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(error::from_io)?,
        };
        let over = usize::try_from(here).unwrap_or(usize::MAX).min(n);
        here -= over as u64;
        writer.push(&buffer[over..n])?;
        current += n as u64;
        if n == 0 || current - told >= PROGRESS {
            told = current;
            events(LoadEvent::Layer { name: name.clone(), current, total: *size });
        }
        if n == 0 {
            break;
        }
    }
    if current < *size {
        return Err(truncated());
    }
    let layer = writer.finish().map_err(|e| e.context(format!("load the layer '{name}'")))?;
    Ok(Found::Applied(Box::new(layer)))
}

/// Where an OCI layout has a blob.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn blob_name(name: &str) -> Option<Digest> {
    name.strip_prefix("blobs/sha256/").and_then(|hex| format!("sha256:{hex}").parse().ok())
}

/// A layer that need not be unpacked because its blob is here and known to unpack to a layer that is here.
fn known(store: &Store, lease: &Lease, digest: Option<Digest>) -> Result<Option<Found>> {
    let Some(digest) = digest else { return Ok(None) };
    let diff = store.read(|r| match r.diff_of_blob(&digest)? {
        Some(diff) if r.layer_with_diff(&diff)? => Ok(Some(diff)),
        _ => Ok(None),
    })?;
    match diff {
        Some(diff) if store.hold_blob(lease, &digest)? => Ok(Some(Found::Known(digest, diff))),
        _ => Ok(None),
    }
}

/// The beginning of a member: a block, or all of it if it is shorter.
fn read_start<R: BufRead>(reader: &mut Reader<R>) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    while start.len() < crate::tar::BLOCK {
        let want = (crate::tar::BLOCK - start.len()) as u64;
        let n = reader.data(want, |bytes| {
            start.extend_from_slice(bytes);
            Ok(())
        })?;
        if n == 0 {
            break;
        }
    }
    Ok(start)
}

fn is_document(start: &[u8]) -> bool {
    let first = start.iter().find(|b| !b.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'[')) && !is_tar(start)
}

fn is_tar(start: &[u8]) -> bool {
    start.len() == crate::tar::BLOCK && (crate::tar::is_header(start) || start.iter().all(|b| *b == 0))
}

fn is_layer(start: &[u8], size: u64) -> bool {
    Compression::detect(start) != Compression::None || is_tar(start) || (size > 0 && start.iter().all(|b| *b == 0))
}

/// An archive without anything that tells of images.
pub(super) fn not_an_archive() -> Error {
    bad("this is not an image archive: it has neither manifest.json nor index.json")
        .with_hint("archives come from `save`; for the tar of a root file system use `import`")
}
