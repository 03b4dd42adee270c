//! Content on its way in: uploads that survive a lost connection and a restart.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use barque_model::{Digest, Id};
use bytes::Bytes;

use super::{Name, Storage};
use barque_model::Hasher;

/// Read at a time when content is hashed again.
const HASH_CHUNK_BYTES: usize = 1024 * 1024;

/// An upload's name: random, so that it cannot be guessed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::server) struct UploadId(String);

impl UploadId {
    pub(in crate::server) fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        valid.then(|| Self(text.to_owned()))
    }

    pub(in crate::server) fn as_str(&self) -> &str {
        &self.0
    }
}

/// An open upload.
pub(in crate::server) struct Session {
    pub(in crate::server) id: UploadId,
    pub(in crate::server) name: Name,
    /// Bytes received.
    pub(in crate::server) size: u64,
    file: File,
    /// Follows the content while this process has seen all of it; else the content is hashed at the end.
    hasher: Option<Hasher>,
}

/// Chunks written at once.
pub(in crate::server) type Batch = Vec<Bytes>;

impl Session {
    /// Appends and hashes. After an error the upload holds what it held before the chunk that failed.
    pub(in crate::server) fn append(&mut self, batch: &Batch) -> io::Result<()> {
        for chunk in batch {
            if let Err(error) = self.file.write_all(chunk) {
                self.file.set_len(self.size)?;
                return Err(error);
            }
            self.size += chunk.len() as u64;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(chunk);
            }
        }
        Ok(())
    }

    /// A second handle for reading what is being written.
    pub(in crate::server) fn reader(&self, storage: &Storage) -> io::Result<File> {
        File::open(storage.data_path(&self.id))
    }
}

/// How an upload ended.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) enum Finished {
    /// The content is there and linked.
    Stored,
    /// The content is something else; it is gone.
    WrongDigest(Digest),
}

impl Storage {
    fn upload_dir(&self, id: &UploadId) -> PathBuf {
        self.uploads_dir().join(&id.0)
    }

    fn data_path(&self, id: &UploadId) -> PathBuf {
        self.upload_dir(id).join("data")
    }

    /// Begins an upload into a repository.
    pub(in crate::server) fn begin(&self, name: &Name) -> io::Result<Session> {
        let id = UploadId(Id::random().to_string());
        fs::create_dir(self.upload_dir(&id))?;
        fs::write(self.upload_dir(&id).join("repository"), name.as_str())?;
        let file = File::options().append(true).create_new(true).open(self.data_path(&id))?;
        Ok(Session { id, name: name.clone(), size: 0, file, hasher: Some(Hasher::new()) })
    }

    /// Finds an upload a former process began. `None` when there is none, or it belongs to another repository.
    pub(in crate::server) fn resume(&self, name: &Name, id: &UploadId) -> io::Result<Option<Session>> {
        let owner = super::read_optional(&self.upload_dir(id).join("repository"))?;
        if owner.as_deref() != Some(name.as_str()) {
            return Ok(None);
        }
        let file = match File::options().append(true).open(self.data_path(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let size = file.metadata()?.len();
        let hasher = (size == 0).then(Hasher::new);
        Ok(Some(Session { id: id.clone(), name: name.clone(), size, file, hasher }))
    }

    /// Ends an upload: checks the digest, moves the content to its place and links it.
    pub(in crate::server) fn finish(&self, session: Session, digest: Digest) -> io::Result<Finished> {
        let Session { id, name, file, hasher, .. } = session;
        let found = match hasher {
            Some(hasher) => hasher.finish(),
            None => hash_file(File::open(self.data_path(&id))?)?,
        };
        if found != digest {
            drop(file);
            self.cancel(&id)?;
            return Ok(Finished::WrongDigest(found));
        }
        if self.durable {
            file.sync_data()?;
        }
        drop(file);
        let _gate = self.gate.read();
        let path = self.blob_path(digest);
        if !self.touch(&path)? {
            self.rename(&self.data_path(&id), &path)?;
        }
        self.write(&self.blob_link(&name, digest), b"")?;
        self.cancel(&id)?;
        Ok(Finished::Stored)
    }

    /// Forgets an upload. `false` when there is none.
    pub(in crate::server) fn cancel(&self, id: &UploadId) -> io::Result<bool> {
        match fs::remove_dir_all(self.upload_dir(id)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn hash_file(mut file: File) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; HASH_CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(text: &str) -> Batch {
        vec![Bytes::copy_from_slice(text.as_bytes())]
    }

    #[test]
    fn an_upload_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path(), true).unwrap();
        let name = Name::parse("a").unwrap();
        let mut session = storage.begin(&name).unwrap();
        session.append(&batch("hello ")).unwrap();
        let id = session.id.clone();
        drop((session, storage));

        let storage = Storage::open(dir.path(), true).unwrap();
        assert!(storage.resume(&Name::parse("b").unwrap(), &id).unwrap().is_none(), "not another repository's");
        let mut session = storage.resume(&name, &id).unwrap().unwrap();
        assert_eq!(session.size, 6);
        session.append(&batch("world")).unwrap();
        let digest = Digest::of(b"hello world");
        assert_eq!(storage.finish(session, digest).unwrap(), Finished::Stored);
        assert_eq!(storage.blob_size(&name, digest).unwrap(), Some(11));
        assert_eq!(storage.blob_size(&Name::parse("b").unwrap(), digest).unwrap(), None);
        assert!(super::super::names_in(&storage.uploads_dir()).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_digest_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path(), false).unwrap();
        let name = Name::parse("a").unwrap();
        let mut session = storage.begin(&name).unwrap();
        session.append(&batch("x")).unwrap();
        let finished = storage.finish(session, Digest::of(b"y")).unwrap();
        assert_eq!(finished, Finished::WrongDigest(Digest::of(b"x")));
        assert!(super::super::names_in(&storage.uploads_dir()).unwrap().is_empty());
        assert!(super::super::names_in(&storage.blobs_dir()).unwrap().is_empty());
        assert!(UploadId::parse("../../etc").is_none() && UploadId::parse(&"g".repeat(64)).is_none());
    }
}
