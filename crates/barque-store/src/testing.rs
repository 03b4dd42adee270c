//! Helpers of the crate's own tests: a store on a scratch directory, archives made by hand.

use std::path::Path;

use barque_model::{ChainId, Digest};

use crate::{AppliedLayer, LayerSource, Lease, Store, StoreOptions};

/// A store that is gone with its directory.
pub(crate) struct Scratch {
    pub(crate) store: Store,
    pub(crate) dir: tempfile::TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(StoreOptions::new(dir.path().join("root"))).unwrap();
        Scratch { store, dir }
    }

    /// Closes the store as a crash would and opens it again.
    pub(crate) fn reopen(self) -> Scratch {
        let Scratch { store, dir } = self;
        drop(store);
        let store = Store::open(StoreOptions::new(dir.path().join("root"))).unwrap();
        Scratch { store, dir }
    }

    /// Opens again although a forgotten lease keeps the old handle alive, whose lock is given up here.
    pub(crate) fn reopen_crashed(self) -> Scratch {
        self.store.inner.crash_for_tests();
        let Scratch { store, dir } = self;
        drop(store);
        let store = Store::open(StoreOptions::new(dir.path().join("root"))).unwrap();
        Scratch { store, dir }
    }

    pub(crate) fn lease(&self) -> Lease {
        self.store.lease("test").unwrap()
    }

    /// Unpacks an archive without adding it.
    pub(crate) fn apply(&self, lease: &Lease, bytes: &[u8]) -> barque_model::Result<AppliedLayer> {
        let source = LayerSource { digest: Some(Digest::of(bytes)), ..LayerSource::default() };
        let mut writer = self.store.layer_writer(lease, source)?;
        writer.push(bytes)?;
        writer.finish()
    }

    /// Adds archives as a chain of layers; the chain id of the top one.
    pub(crate) fn chain(&self, lease: &Lease, archives: &[Vec<u8>]) -> ChainId {
        let mut parent = None;
        for bytes in archives {
            let applied = self.apply(lease, bytes).unwrap();
            parent = Some(self.store.add_layer(lease, applied, parent).unwrap().chain_id);
        }
        parent.unwrap()
    }

    pub(crate) fn layer_path(&self, chain: &ChainId) -> std::path::PathBuf {
        let layer = self.store.layer(chain).unwrap().unwrap();
        self.store.layer_dir(&layer)
    }
}

/// Builds archives with the `tar` crate, independently of the crate's own writer.
pub(crate) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    /// A header with `name` written as it is, whatever it holds.
    pub(crate) fn header(kind: tar::EntryType, name: &str, link: &str, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_size(size);
        header.set_mtime(1_600_000_000);
        header.set_uid(0);
        header.set_gid(0);
        let raw = header.as_old_mut();
        raw.name[..name.len()].copy_from_slice(name.as_bytes());
        raw.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        header
    }

    pub(crate) fn raw(mut self, header: &tar::Header, data: &[u8]) -> Tar {
        self.0.append(header, data).unwrap();
        self
    }

    pub(crate) fn file(self, name: &str, data: &str) -> Tar {
        let header = Tar::header(tar::EntryType::Regular, name, "", data.len() as u64);
        self.raw(&header, data.as_bytes())
    }

    pub(crate) fn dir(self, name: &str) -> Tar {
        let header = Tar::header(tar::EntryType::Directory, name, "", 0);
        self.raw(&header, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Tar {
        let header = Tar::header(tar::EntryType::Symlink, name, target, 0);
        self.raw(&header, b"")
    }

    pub(crate) fn link(self, name: &str, target: &str) -> Tar {
        let header = Tar::header(tar::EntryType::Link, name, target, 0);
        self.raw(&header, b"")
    }

    /// A pax header before the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut body = Vec::new();
        for (key, value) in records {
            let mut length = key.len() + value.len() + 3;
            while length != key.len() + value.len() + 3 + length.to_string().len() {
                length = key.len() + value.len() + 3 + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        let header = Tar::header(tar::EntryType::XHeader, "pax", "", body.len() as u64);
        self.raw(&header, &body)
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path.as_ref()).unwrap_or_else(|e| panic!("{}: {e}", path.as_ref().display()))
}
