//! A registry's directory.
//!
//! ```text
//! ROOT/
//!   layout                              "barque-registry 1"
//!   lock                                held by the process that uses the directory
//!   blobs/sha256/AB/ABCDEF…             content, manifests included; written once, never changed
//!   repositories/NAME…/
//!     _blobs/sha256/HEX                 empty: NAME holds this blob
//!     _manifests/sha256/HEX             media type: NAME holds this manifest
//!     _tags/TAG                         digest the tag names
//!     _referrers/sha256/SUBJECT/HEX     descriptor of a manifest that refers to SUBJECT
//!   uploads/ID/{data,repository}        content on its way in
//!   tmp/                                small files before their rename
//! ```
//!
//! A repository's path components never begin with `_`, so names cannot collide with these directories. Every file
//! appears whole, by rename. The time stamp of a blob or link says when it was last wanted: the collector leaves
//! recent ones alone, and whoever relies on one makes it recent first (see [`gc`](super::gc)).

mod upload;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::SystemTime;

use barque_model::{Digest, Error, Id, Result};

use crate::{Descriptor, RawManifest};

pub(super) use upload::{Batch, Finished, Session, UploadId};

const LAYOUT: &str = "barque-registry 1\n";

/// The directory, opened.
pub(super) struct Storage {
    root: PathBuf,
    durable: bool,
    /// Held while this process uses the directory.
    _lock: File,
    /// Shared by whoever makes links, exclusive for the collector's removals.
    pub(super) gate: RwLock<()>,
}

/// A valid repository name (distribution-spec 1.1, "Pulling manifests").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(String);

/// A valid tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Tag(String);

const NAME_BYTES_MAX: usize = 255;

impl Name {
    /// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)*`, at most 255 bytes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let component = |part: &str| {
            let bytes = part.as_bytes();
            bytes.first().copied().is_some_and(alnum)
                && bytes.last().copied().is_some_and(alnum)
                && bytes
                    .split(|b| alnum(*b))
                    .filter(|separator| !separator.is_empty())
                    .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
        };
        (text.len() <= NAME_BYTES_MAX && text.split('/').all(component)).then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let mut bytes = text.bytes();
        let valid =
            text.len() <= 128 && bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.' || b == b'-');
        valid.then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A blob's file and size.
pub(super) struct OpenBlob {
    pub(super) file: File,
    pub(super) size: u64,
}

impl Storage {
    /// Opens a directory, making it when missing.
    pub(super) fn open(root: &Path, durable: bool) -> Result<Self> {
        let named = |error: io::Error| {
            Error::from(error).context(format!("cannot use {} as a registry's directory", root.display()))
        };
        fs::create_dir_all(root).map_err(named)?;
        let lock = File::options().append(true).create(true).open(root.join("lock")).map_err(named)?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::conflict(format!("{} is in use by a running registry", root.display()))
                    .with_hint("stop that registry, or use another directory"));
            }
            Err(error) => return Err(named(error.into())),
        }
        let storage = Self { root: root.to_owned(), durable, _lock: lock, gate: RwLock::new(()) };
        for dir in ["blobs/sha256", "repositories", "uploads", "tmp"] {
            fs::create_dir_all(root.join(dir)).map_err(named)?;
        }
        match fs::read_to_string(root.join("layout")) {
            Ok(text) if text == LAYOUT => {}
            Ok(text) => {
                return Err(Error::invalid(format!("{} has the unknown layout {:?}", root.display(), text.trim()))
                    .with_hint("it was written by a newer version, or is not a registry's directory"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                storage.write(&root.join("layout"), LAYOUT.as_bytes()).map_err(named)?;
            }
            Err(error) => return Err(named(error)),
        }
        // What a crash left here was never visible.
        for entry in fs::read_dir(root.join("tmp")).map_err(named)?.flatten() {
            let _ = fs::remove_file(entry.path());
        }
        Ok(storage)
    }

    pub(super) fn blobs_dir(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(super) fn repositories_dir(&self) -> PathBuf {
        self.root.join("repositories")
    }

    pub(super) fn uploads_dir(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(super) fn blob_path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs_dir().join(&hex[..2]).join(&hex)
    }

    pub(super) fn repository(&self, name: &Name) -> PathBuf {
        self.repositories_dir().join(&name.0)
    }

    pub(super) fn blob_link(&self, name: &Name, digest: Digest) -> PathBuf {
        self.repository(name).join("_blobs/sha256").join(digest.hex())
    }

    pub(super) fn manifest_link(&self, name: &Name, digest: Digest) -> PathBuf {
        self.repository(name).join("_manifests/sha256").join(digest.hex())
    }

    pub(super) fn tag_path(&self, name: &Name, tag: &Tag) -> PathBuf {
        self.repository(name).join("_tags").join(&tag.0)
    }

    pub(super) fn referrers_dir(&self, name: &Name, subject: Digest) -> PathBuf {
        self.repository(name).join("_referrers/sha256").join(subject.hex())
    }

    /// Writes a small file so that it appears whole or not at all.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = self.root.join("tmp").join(Id::random().to_string());
        let result = (|| {
            let mut file = File::create_new(&temporary)?;
            file.write_all(content)?;
            if self.durable {
                file.sync_data()?;
            }
            self.rename(&temporary, path)
        })();
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let parent = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
        // New directories must reach the disk before what is in them counts.
        let mut depth = 1;
        match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let missing = parent.ancestors().take_while(|dir| !dir.exists()).count();
                depth += missing;
                fs::create_dir_all(parent)?;
                fs::rename(from, to)?;
            }
            other => other?,
        }
        if self.durable {
            for dir in parent.ancestors().take(depth) {
                File::open(dir)?.sync_all()?;
            }
        }
        Ok(())
    }

    /// Makes `path` recent. `false` when it does not exist.
    fn touch(&self, path: &Path) -> io::Result<bool> {
        match File::options().append(true).open(path) {
            Ok(file) => file.set_modified(SystemTime::now()).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a repository was ever pushed to.
    pub(super) fn knows(&self, name: &Name) -> bool {
        let dir = self.repository(name);
        ["_manifests", "_tags", "_blobs"].iter().any(|part| dir.join(part).is_dir())
    }

    /// A blob's size when `name` holds it. The answer is a promise: the collector leaves the blob alone for a while.
    pub(super) fn blob_size(&self, name: &Name, digest: Digest) -> io::Result<Option<u64>> {
        let _gate = self.gate.read();
        if !self.touch(&self.blob_link(name, digest))? {
            return Ok(None);
        }
        size_of(&self.blob_path(digest))
    }

    /// Whether `name` holds a blob.
    pub(super) fn holds(&self, name: &Name, digest: Digest) -> bool {
        self.blob_link(name, digest).exists()
    }

    /// Opens a blob that `name` holds.
    pub(super) fn open_blob(&self, name: &Name, digest: Digest) -> io::Result<Option<OpenBlob>> {
        if !self.holds(name, digest) {
            return Ok(None);
        }
        match File::open(self.blob_path(digest)) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some(OpenBlob { file, size }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Links existing content into a repository. `false` when there is no such content.
    pub(super) fn link_blob(&self, name: &Name, digest: Digest) -> io::Result<bool> {
        let _gate = self.gate.read();
        if !self.touch(&self.blob_path(digest))? {
            return Ok(false);
        }
        self.write(&self.blob_link(name, digest), b"")?;
        Ok(true)
    }

    /// Whether `name` holds a manifest. A promise as that of [`Storage::blob_size`].
    pub(super) fn has_manifest(&self, name: &Name, digest: Digest) -> io::Result<bool> {
        let _gate = self.gate.read();
        self.touch(&self.manifest_link(name, digest))
    }

    /// A manifest of a repository.
    pub(super) fn manifest(&self, name: &Name, digest: Digest) -> io::Result<Option<RawManifest>> {
        let Some(media_type) = read_optional(&self.manifest_link(name, digest))? else {
            return Ok(None);
        };
        let Some(bytes) = read_optional_bytes(&self.blob_path(digest))? else {
            return Ok(None);
        };
        Ok(Some(RawManifest { media_type, digest, bytes: bytes.into() }))
    }

    /// What a tag names.
    pub(super) fn tag(&self, name: &Name, tag: &Tag) -> io::Result<Option<Digest>> {
        Ok(read_optional(&self.tag_path(name, tag))?.and_then(|text| text.trim().parse().ok()))
    }

    /// Stores a manifest whose parts were checked, its referrer entry, and last its tag.
    pub(super) fn put_manifest(
        &self,
        name: &Name,
        manifest: &RawManifest,
        subject: Option<(Digest, Descriptor)>,
        tag: Option<&Tag>,
    ) -> io::Result<()> {
        let _gate = self.gate.read();
        let path = self.blob_path(manifest.digest);
        if !self.touch(&path)? {
            self.write(&path, &manifest.bytes)?;
        }
        self.write(&self.manifest_link(name, manifest.digest), manifest.media_type.as_bytes())?;
        if let Some((subject, descriptor)) = subject {
            let entry = self.referrers_dir(name, subject).join(manifest.digest.hex());
            self.write(&entry, &serde_json::to_vec(&descriptor)?)?;
        }
        if let Some(tag) = tag {
            self.write(&self.tag_path(name, tag), manifest.digest.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Removes a tag. `false` when there is none.
    pub(super) fn delete_tag(&self, name: &Name, tag: &Tag) -> io::Result<bool> {
        remove(&self.tag_path(name, tag))
    }

    /// Removes a manifest with the tags that name it and its entry among referrers. `false` when there is none.
    pub(super) fn delete_manifest(&self, name: &Name, digest: Digest) -> io::Result<bool> {
        let subject = self.manifest(name, digest)?.and_then(|manifest| super::manifests::subject_of(&manifest));
        // Tags first: a tag must never name what is gone.
        for tag in self.tags(name)? {
            if self.tag(name, &tag)? == Some(digest) {
                self.delete_tag(name, &tag)?;
            }
        }
        if let Some(subject) = subject {
            remove(&self.referrers_dir(name, subject).join(digest.hex()))?;
        }
        remove(&self.manifest_link(name, digest))
    }

    /// Removes a blob from a repository; the content goes when nobody holds it any more. `false` when there is none.
    pub(super) fn delete_blob(&self, name: &Name, digest: Digest) -> io::Result<bool> {
        remove(&self.blob_link(name, digest))
    }

    /// A repository's tags in byte order.
    pub(super) fn tags(&self, name: &Name) -> io::Result<Vec<Tag>> {
        let mut tags: Vec<Tag> =
            names_in(&self.repository(name).join("_tags"))?.iter().filter_map(|text| Tag::parse(text)).collect();
        tags.sort();
        Ok(tags)
    }

    /// The digests linked under one of a repository's directories (`_blobs`, `_manifests`).
    pub(super) fn links(&self, name: &Name, kind: &str) -> io::Result<Vec<Digest>> {
        let dir = self.repository(name).join(kind).join("sha256");
        Ok(names_in(&dir)?.iter().filter_map(|hex| format!("sha256:{hex}").parse().ok()).collect())
    }

    /// The manifests that refer to `subject`, in byte order of their digests.
    pub(super) fn referrers(&self, name: &Name, subject: Digest) -> io::Result<Vec<Descriptor>> {
        let dir = self.referrers_dir(name, subject);
        let mut names = names_in(&dir)?;
        names.sort();
        let mut found = Vec::new();
        for entry in names {
            if let Some(bytes) = read_optional_bytes(&dir.join(entry))?
                && let Ok(descriptor) = serde_json::from_slice(&bytes)
            {
                found.push(descriptor);
            }
        }
        Ok(found)
    }

    /// All repositories that hold a manifest, in byte order.
    pub(super) fn repositories(&self) -> io::Result<Vec<Name>> {
        let mut found = Vec::new();
        let root = self.repositories_dir();
        let mut todo = vec![(root, String::new())];
        while let Some((dir, prefix)) = todo.pop() {
            for entry in names_in(&dir)? {
                if entry == "_manifests" && !names_in(&dir.join("_manifests/sha256"))?.is_empty() {
                    found.extend(Name::parse(&prefix));
                }
                let name = if prefix.is_empty() { entry.clone() } else { format!("{prefix}/{entry}") };
                if !entry.starts_with('_') && Name::parse(&name).is_some() {
                    todo.push((dir.join(&entry), name));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The names in a directory; none when there is no such directory. Names that are not UTF-8 are not ours.
pub(super) fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

fn read_optional(path: &Path) -> io::Result<Option<String>> {
    optional(fs::read_to_string(path))
}

fn read_optional_bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    optional(fs::read(path))
}

fn size_of(path: &Path) -> io::Result<Option<u64>> {
    Ok(optional(fs::metadata(path))?.map(|metadata| metadata.len()))
}

/// Removes a file. `false` when there was none.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    Ok(optional(fs::remove_file(path))?.is_some())
}

fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags() {
        for good in ["a", "a/b", "library/python", "a.b_c__d-e---f/0", &"a".repeat(255)] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in
            ["", "/a", "a/", "a//b", "..", "a/../b", ".a", "_blobs", "a/_tags", "A", "a___b", "a..b", "a-", "é", &long]
        {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
        for good in ["latest", "_x", "1.0-RC_2", &"t".repeat(128)] {
            assert!(Tag::parse(good).is_some(), "{good}");
        }
        for bad in ["", ".x", "-x", "a/b", "a:b", "..", &"t".repeat(129)] {
            assert!(Tag::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_foreign_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path(), true).unwrap();
        let error = Storage::open(dir.path(), true).err().unwrap();
        assert!(error.message().contains("in use by a running registry"), "{error}");
        drop(storage);
        fs::write(dir.path().join("layout"), "barque-registry 9\n").unwrap();
        let error = Storage::open(dir.path(), true).err().unwrap();
        assert!(error.message().contains("unknown layout"), "{error}");
    }

    #[test]
    fn manifests_tags_and_referrers() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path(), false).unwrap();
        let (name, tag) = (Name::parse("a/b").unwrap(), Tag::parse("t").unwrap());
        let manifest = RawManifest::new("m", &b"{}"[..]);
        let subject = Digest::of(b"subject");
        let entry = Some((subject, manifest.descriptor()));
        storage.put_manifest(&name, &manifest, entry, Some(&tag)).unwrap();
        assert_eq!(storage.tag(&name, &tag).unwrap(), Some(manifest.digest));
        assert_eq!(storage.manifest(&name, manifest.digest).unwrap(), Some(manifest.clone()));
        assert_eq!(storage.referrers(&name, subject).unwrap(), [manifest.descriptor()]);
        assert_eq!(storage.repositories().unwrap(), std::slice::from_ref(&name));
        assert!(storage.delete_manifest(&name, manifest.digest).unwrap());
        assert!(!storage.delete_manifest(&name, manifest.digest).unwrap());
        assert_eq!(storage.tag(&name, &tag).unwrap(), None);
        assert!(storage.repositories().unwrap().is_empty());
    }

    #[test]
    fn repositories_come_in_byte_order() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path(), false).unwrap();
        for text in ["a/b", "a-b", "a", "b/c/d"] {
            let manifest = RawManifest::new("m", text.as_bytes().to_vec());
            storage.put_manifest(&Name::parse(text).unwrap(), &manifest, None, None).unwrap();
        }
        let names: Vec<_> = storage.repositories().unwrap().into_iter().map(|name| name.0).collect();
        assert_eq!(names, ["a", "a-b", "a/b", "b/c/d"]);
    }
}
