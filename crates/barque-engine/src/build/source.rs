//! Contexts and Dockerfiles made present: archives unpacked, addresses fetched, directories opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barque_build::context::{ContextDir, UnpackOptions, unpack_tar};
use barque_build::git::GitRef;
use barque_build::ignore::Ignore;
use barque_build::options::NamedContext;
use barque_build::worker::{GitRequest, ProgressSink, Root, UrlRequest, Worker};
use barque_model::{Context, Digest, Error, Id, Result};
use tokio_util::sync::CancellationToken;

use super::worker::EngineWorker;
use super::{ContextSource, DockerfileSource, NamedSource};
use crate::Engine;
use crate::container::files::blocking_reader;
use crate::container::request::TarStream;

/// Bytes that a context sent as an archive may unpack to.
const CONTEXT_MAX: u64 = 64 << 30;
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
        let Sources { context, dockerfile, ignore, contexts } = sources;
        let given = |name: &str| if name.is_empty() { DOCKERFILE.to_owned() } else { name.to_owned() };
        let (dir, place) = match context {
            ContextSource::Empty => (None, String::new()),
            ContextSource::Directory(path) => (Some(path.clone()), path.display().to_string()),
            ContextSource::Tar(stream) => (Some(self.unpack(stream, scratch, cancel).await?), String::new()),
            ContextSource::Remote(url) => match self.fetch_context(worker, &url, scratch, cancel).await? {
                Remote::Directory(dir) => (Some(dir), url),
                Remote::Dockerfile(bytes) => {
                    return Ok(Prepared {
                        context: None,
                        contexts: BTreeMap::new(),
                        bytes,
                        name: given(""),
                        place: url,
                    });
                }
            },
        };
        // Sent in the main context's archive; they are no part of it.
        let aside = scratch.join("contexts");
        if let Some(dir) = dir.as_ref().filter(|_| contexts.iter().any(|(_, c)| matches!(c, NamedSource::Archive))) {
            std::fs::rename(dir.join(ARCHIVED_CONTEXTS), &aside).context("cannot find the named contexts")?;
        }
        let mut named = BTreeMap::new();
        for (name, source) in contexts {
            named.insert(name.clone(), self.named_context(worker, &name, source, &aside, (scratch, cancel)).await?);
        }
        let (name, inline) = match dockerfile {
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
                    let ignore =
                        Ignore::new(&lines).map_err(|e| Error::invalid(format!("error reading .dockerignore: {e}")))?;
                    ContextDir::with_ignore(Root::new(dir), ignore)?
                }
                None => ContextDir::open(dir, &name)?,
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
            NamedSource::Archive => aside.join(Digest::of(name.as_bytes()).hex()),
            NamedSource::Remote(url) => {
                let own = scratch.join(format!("context-{}", Id::random().short()));
                match self.fetch_context(worker, &url, &own, cancel).await? {
                    Remote::Directory(dir) => dir,
                    Remote::Dockerfile(_) => {
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

    async fn unpack(&self, stream: TarStream, scratch: &Path, cancel: &CancellationToken) -> Result<PathBuf> {
        let dir = scratch.join("context");
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
        scratch: &Path,
        cancel: &CancellationToken,
    ) -> Result<Remote> {
        let quiet = ProgressSink::new(|_| {});
        if let Some(git) = GitRef::parse(url) {
            let git = git.map_err(|e| Error::invalid(format!("invalid git source '{url}': {e}")))?;
            let request = GitRequest {
                url: if git.looks_local { format!("https://{}", git.remote) } else { git.remote.clone() },
                reference: git.reference.clone(),
                subdir: git.subdir.clone(),
                keep_git_dir: git.keep_git_dir.unwrap_or(false),
                submodules: git.submodules.unwrap_or(true),
                checksum: git.checksum.clone(),
            };
            let fetched = worker.fetch_git(&request, quiet).await?;
            return Ok(Remote::Directory(fetched.root.path().to_owned()));
        }
        let fetched = worker.fetch_url(&UrlRequest { url: url.to_owned(), checksum: None }, quiet).await?;
        let file = fetched.root.path().join(&fetched.file_name);
        let (dir, cancel) = (scratch.join("context"), cancel.clone());
        self.blocking(move || {
            let mut head = [0u8; 512];
            let mut opened = std::fs::File::open(&file).context("cannot open the download")?;
            let length = std::io::Read::read(&mut opened, &mut head).context("cannot read the download")?;
            if is_text(&head[..length]) {
                return Ok(Remote::Dockerfile(std::fs::read(&file).context("cannot read the download")?));
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

/// No archive begins like a text.
fn is_text(head: &[u8]) -> bool {
    std::str::from_utf8(head).is_ok_and(|t| !t.contains('\0')) || head.is_empty()
}

fn read_dockerfile(context: &ContextDir, name: &str) -> Result<Vec<u8>> {
    let limit = barque_build::parse::MAX_DOCKERFILE;
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
