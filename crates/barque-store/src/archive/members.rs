//! What an image archive holds: read once, from beginning to end, since it may come from a pipe.
//!
//! Which member is a layer is known for certain only when the manifest has been seen, often at the very end. So
//! members are told apart by their content: documents begin as JSON and are kept in memory within bounds; tar
//! streams, compressed or not, are unpacked at once and become layers later, or are dropped.

use std::collections::HashMap;
use std::io::BufRead;

use barque_model::{DiffId, Digest, Error, Result};

use super::LoadEvent;
use crate::layer::{AppliedLayer, Compression, LayerSource, clean};
use crate::tar::{Entry, Kind, Reader, bad, show};
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
        events: &mut dyn FnMut(LoadEvent),
    ) -> Result<Members> {
        let mut members = Members::default();
        let mut reader = Reader::new(input);
        while let Some(entry) = reader.next()? {
            members.count += 1;
            if members.count > MEMBERS_MAX {
                return Err(bad(format!("the archive has more than {MEMBERS_MAX} members")));
            }
            let name = String::from_utf8(clean(&entry.path)?)
                .map_err(|_| bad(format!("the archive's member '{}' is not named in UTF-8", show(&entry.path))))?;
            members.member(store, lease, &name, &entry, &mut reader, events)?;
        }
        Ok(members)
    }

    fn member<R: BufRead>(
        &mut self,
        store: &Store,
        lease: &Lease,
        name: &str,
        entry: &Entry,
        reader: &mut Reader<R>,
        events: &mut dyn FnMut(LoadEvent),
    ) -> Result<()> {
        match entry.kind {
            Kind::Directory => return Ok(()),
            // Docker before 25 wrote a layer that occurs twice once, with a link from the second place.
            Kind::Symlink | Kind::HardLink => return self.link(name, entry),
            Kind::Regular if entry.sparse.is_none() => {}
            _ => return Err(bad(format!("the archive's member '{name}' is neither file nor directory"))),
        }
        let start = read_start(reader)?;
        if is_document(&start) {
            return self.document(store, name, entry.size, start, reader);
        }
        if !is_layer(&start, entry.size) {
            // VERSION, signatures and the like.
            return Ok(());
        }
        let digest = blob_name(name);
        if let Some(found) = known(store, lease, digest)? {
            self.layers.insert(name.to_owned(), found);
            return Ok(());
        }
        let source = LayerSource { digest, size: Some(entry.size), alone: true, ..LayerSource::default() };
        let mut writer = store.layer_writer(lease, source)?;
        // What is here from an interrupted pull is passed over.
        let here = writer.offset();
        let mut current = 0;
        let mut told = 0;
        let mut push = |bytes: &[u8], from: u64| {
            let over = usize::try_from(here.saturating_sub(from)).unwrap_or(usize::MAX).min(bytes.len());
            writer.push(&bytes[over..])
        };
        push(&start, current)?;
        current += start.len() as u64;
        loop {
            let n = reader.data(u64::MAX, |bytes| push(bytes, current))?;
            current += n;
            if n == 0 || current - told >= PROGRESS {
                told = current;
                events(LoadEvent::Layer { name: name.to_owned(), current, total: entry.size });
            }
            if n == 0 {
                break;
            }
        }
        let layer = writer.finish().map_err(|e| e.context(format!("load the layer '{name}'")))?;
        self.layers.insert(name.to_owned(), Found::Applied(Box::new(layer)));
        Ok(())
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
