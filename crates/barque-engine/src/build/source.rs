//! Contexts and Dockerfiles made present: archives unpacked, addresses fetched, directories opened.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_build::context::{ContextDir, UnpackOptions, unpack_tar};
use barque_build::git::{GitRef, redacted};
use barque_build::ignore::Ignore;
use barque_build::options::NamedContext;
use barque_build::parse::MAX_DOCKERFILE;
use barque_build::worker::{ProgressSink, Root, UrlRequest, Worker};
use barque_model::{Context, Digest, Error, Id, Result};
use tokio_util::sync::CancellationToken;

use super::worker::EngineWorker;
use super::{ContextSource, DockerfileSource, NamedSource};
use crate::Engine;
use crate::container::files::blocking_reader;
use crate::container::request::TarStream;

/// Bytes that a context sent as an archive may unpack to.
const CONTEXT_MAX: u64 = 64 << 30;
/// Bytes of a download that tell a Dockerfile from an archive.
const HEAD: usize = 512;
/// Where the Dockerfile is unless the caller says otherwise.
const DOCKERFILE: &str = "Dockerfile";
/// Where named contexts lie in the main context's archive, each under the digest of its name.
const ARCHIVED_CONTEXTS: &str = ".barque-contexts";

/// What a build is made of, as the front end names it.
pub(super) struct Sources {
    pub(super) context: ContextSource,
    pub(super) dockerfile: DockerfileSource,
    /// Patterns instead of those of the context's own file.
    pub(super) ignore: Option<Vec<String>>,
    pub(super) contexts: Vec<(String, NamedSource)>,
    /// An archive of named contexts alone, beside a main context that is none.
    pub(super) archive: Option<TarStream>,
    /// `.git` stays in a main context from a repository.
    pub(super) keep_git_dir: bool,
}

/// What a build is made of, on this machine.
pub(super) struct Prepared {
    pub(super) context: Option<Arc<ContextDir>>,
    pub(super) contexts: BTreeMap<String, NamedContext>,
    /// The Dockerfile's text.
    pub(super) bytes: Vec<u8>,
    /// The Dockerfile's name.
    pub(super) name: String,
    /// Where the context came from: a path or an address, empty for an archive.
    pub(super) place: String,
}

impl Engine {
    /// Makes context and Dockerfile present. Gives the Dockerfile's name for messages too.
    pub(super) async fn prepare_context(
        &self,
        worker: &EngineWorker,
        sources: Sources,
        scratch: &Path,
        cancel: &CancellationToken,
    ) -> Result<Prepared> {
        let Sources { context, dockerfile, ignore, contexts, archive, keep_git_dir } = sources;
        let given = |name: &str| if name.is_empty() { DOCKERFILE.to_owned() } else { name.to_owned() };
        let (mut sent, mut fetched) = (None, None);
        let (dir, place) = match context {
            ContextSource::Empty => (None, String::new()),
            ContextSource::Directory(path) => (Some(path.clone()), path.display().to_string()),
            ContextSource::Tar(stream) => {
                let dir = self.unpack(stream, scratch.join("context"), cancel).await?;
                sent = Some(dir.clone());
                (Some(dir), String::new())
            }
            ContextSource::Remote(url) => {
                let place = redacted(&url);
                match self.fetch_context(worker, &url, keep_git_dir, scratch, cancel).await? {
                    Remote::Directory(dir) => (Some(dir), place),
                    Remote::Dockerfile(bytes) => {
                        fetched = Some(bytes);
                        (None, place)
                    }
                }
            }
        };
        let aside = scratch.join("contexts");
        if contexts.iter().any(|(_, c)| matches!(c, NamedSource::Archive)) {
            if let (None, Some(archive)) = (&sent, archive) {
                sent = Some(self.unpack(archive, scratch.join("sent"), cancel).await?);
            }
            set_aside(sent.as_deref(), &aside)?;
        }
        let mut named = BTreeMap::new();
        for (name, source) in contexts {
            named.insert(name.clone(), self.named_context(worker, &name, source, &aside, (scratch, cancel)).await?);
        }
        let (name, inline) = match dockerfile {
            // Nothing else was found at the address.
            _ if fetched.is_some() => (given(""), fetched),
            DockerfileSource::Path(path) => (given(&path), None),
            DockerfileSource::Inline(bytes, name) => (given(&name), Some(bytes)),
        };
        let Some(dir) = dir else {
            let bytes =
                inline.ok_or_else(|| Error::invalid("a build without a context needs the Dockerfile's text"))?;
            return Ok(Prepared { context: None, contexts: named, bytes, name, place });
        };
        self.blocking(move || {
            let context = match ignore {
                Some(lines) => {
                    let ignore = Ignore::parse(lines.join("\n").as_bytes())
                        .map_err(|e| Error::invalid(format!("error reading .dockerignore: {e}")))?;
                    ContextDir::with_ignore(Root::new(dir), ignore)?
                }
                // A Dockerfile from elsewhere has no ignore file of its own in the context.
                None => ContextDir::open(dir, if inline.is_some() { "" } else { &name })?,
            };
            let bytes = match inline {
                Some(bytes) => bytes,
                None => read_dockerfile(&context, &name)?,
            };
            Ok(Prepared { context: Some(context), contexts: named, bytes, name, place })
        })
        .await
    }

    async fn named_context(
        &self,
        worker: &EngineWorker,
        name: &str,
        source: NamedSource,
        aside: &Path,
        (scratch, cancel): (&Path, &CancellationToken),
    ) -> Result<NamedContext> {
        let dir = match source {
            NamedSource::Image(reference) => return Ok(NamedContext::Image(reference)),
            NamedSource::Directory(path) => path,
            NamedSource::Archive => {
                let dir = aside.join(Digest::of(name.as_bytes()).hex());
                if !is_real_dir(&dir) {
                    return Err(Error::invalid(format!("the archive has no directory for the build context {name}")));
                }
                dir
            }
            NamedSource::Remote(url) => {
                let own = scratch.join(format!("context-{}", Id::random().short()));
                match self.fetch_context(worker, &url, false, &own, cancel).await? {
                    Remote::Directory(dir) => dir,
                    Remote::Dockerfile(_) => {
                        let url = redacted(&url);
                        return Err(Error::invalid(format!("{url} is neither an archive nor a git repository"))
                            .with_hint(format!(
                                "--build-context {name}= takes those, a directory or docker-image://NAME"
                            )));
                    }
                }
            }
        };
        let opened = self.blocking(move || ContextDir::open(dir, "")).await;
        Ok(NamedContext::Directory(opened.map_err(|e| e.context(format!("cannot open the build context {name}")))?))
    }

    async fn unpack(&self, stream: TarStream, dir: PathBuf, cancel: &CancellationToken) -> Result<PathBuf> {
        let (made, cancel) = (dir.clone(), cancel.clone());
        self.blocking(move || {
            std::fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
            unpack_tar(blocking_reader(stream), made, &UnpackOptions::context(CONTEXT_MAX, cancel))
        })
        .await?;
        Ok(dir)
    }

    async fn fetch_context(
        &self,
        worker: &EngineWorker,
        url: &str,
        keep_git_dir: bool,
        scratch: &Path,
        cancel: &CancellationToken,
    ) -> Result<Remote> {
        let quiet = ProgressSink::new(|_| {});
        if let Some(git) = GitRef::parse(url) {
            let git = git.map_err(|e| Error::invalid(format!("invalid git source '{}': {e}", redacted(url))))?;
            let mut request = git.request();
            request.keep_git_dir = git.keep_git_dir.unwrap_or(keep_git_dir);
            let fetched = worker.fetch_git(&request, quiet).await?;
            return Ok(Remote::Directory(fetched.root.path().to_owned()));
        }
        let fetched = worker.fetch_url(&UrlRequest { url: url.to_owned(), checksum: None }, quiet).await?;
        let file = fetched.root.path().join(fetched.stored_name());
        let (dir, cancel) = (scratch.join("context"), cancel.clone());
        self.blocking(move || {
            let opened = std::fs::File::open(&file).context("cannot open the download")?;
            let read = |limit: usize| {
                let mut bytes = Vec::new();
                let read = (&opened).take(limit as u64).read_to_end(&mut bytes);
                read.context("cannot read the download").map(|_| bytes)
            };
            let mut bytes = read(HEAD)?;
            if is_text(&bytes) {
                bytes.extend(read(MAX_DOCKERFILE + 1 - bytes.len())?);
                if bytes.len() > MAX_DOCKERFILE {
                    return Err(Error::invalid(format!("the Dockerfile is larger than {MAX_DOCKERFILE} bytes")));
                }
                return Ok(Remote::Dockerfile(bytes));
            }
            std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let opened = std::fs::File::open(&file).context("cannot open the download")?;
            unpack_tar(opened, dir.clone(), &UnpackOptions::context(CONTEXT_MAX, cancel))?;
            Ok(Remote::Directory(dir))
        })
        .await
    }
}

/// What an address led to.
enum Remote {
    Directory(PathBuf),
    Dockerfile(Vec<u8>),
}

/// Moves the named contexts out of the archive they came in: they are no part of the main context.
///
/// Only what was unpacked from an archive is looked at, since the engine's user made that: a repository or a directory
/// of this machine may hold links of the same name that lead anywhere.
fn set_aside(sent: Option<&Path>, aside: &Path) -> Result<()> {
    let Some(sent) = sent else {
        return Err(Error::invalid("the build contexts were not sent: no archive came with the request"));
    };
    if !is_real_dir(&sent.join(ARCHIVED_CONTEXTS)) {
        return Err(Error::invalid(format!(
            "the build contexts were not sent: no directory {ARCHIVED_CONTEXTS} in the archive"
        )));
    }
    std::fs::rename(sent.join(ARCHIVED_CONTEXTS), aside).context("cannot set the named contexts aside")
}

/// A directory, not a link to one.
fn is_real_dir(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

/// No archive begins like a text. The last letter may be cut off.
fn is_text(head: &[u8]) -> bool {
    match std::str::from_utf8(head) {
        Ok(text) => !text.contains('\0'),
        Err(e) => e.error_len().is_none() && !head[..e.valid_up_to()].contains(&0),
    }
}

fn read_dockerfile(context: &ContextDir, name: &str) -> Result<Vec<u8>> {
    let limit = MAX_DOCKERFILE;
    if let Some(bytes) = context.read(Path::new(name), limit)? {
        return Ok(bytes);
    }
    // Docker also takes the name in small letters.
    if name == DOCKERFILE
        && let Some(bytes) = context.read(Path::new("dockerfile"), limit)?
    {
        return Ok(bytes);
    }
    Err(Error::invalid(format!("failed to read dockerfile: open {name}: no such file or directory"))
        .with_hint("name it with -f, or change to its directory; a .dockerignore does not hide it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_from_archives() {
        let mut cut = vec![b'x'; HEAD - 1];
        cut.extend("ü".as_bytes());
        assert!(is_text(&cut[..HEAD]) && is_text(b"FROM x\n") && is_text(b""));
        assert!(!is_text(b"name\0\0\0") && !is_text(b"\x1f\x8b\x08") && !is_text(b"BZh\xff\xfe"));
    }

    #[test]
    fn archived_contexts_are_directories_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (sent, aside) = (dir.path().join("sent"), dir.path().join("aside"));
        std::fs::create_dir(&sent).unwrap();
        assert!(set_aside(None, &aside).is_err() && set_aside(Some(&sent), &aside).is_err());
        std::os::unix::fs::symlink("/etc", sent.join(ARCHIVED_CONTEXTS)).unwrap();
        assert!(set_aside(Some(&sent), &aside).is_err() && !aside.exists());
        std::fs::remove_file(sent.join(ARCHIVED_CONTEXTS)).unwrap();
        std::fs::create_dir(sent.join(ARCHIVED_CONTEXTS)).unwrap();
        set_aside(Some(&sent), &aside).unwrap();
        assert!(aside.is_dir());
    }
}
