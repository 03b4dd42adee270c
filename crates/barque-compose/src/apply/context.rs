//! Build contexts: a directory as a tar stream, less what `.dockerignore` excludes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use barque_client::archive::ignore::Patterns;
use barque_client::archive::pack::{Owner, Packer};
use barque_client::archive::pipe;
use barque_client::files::{IGNORE_MAX, small_text};
use barque_model::Error;
use tokio::io::AsyncRead;

/// A context to be sent.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// The directory.
    pub dir: PathBuf,
    /// The Dockerfile: inside or outside of the directory, or its text.
    pub dockerfile: Dockerfile,
}

/// Where a Dockerfile is.
#[derive(Clone, Debug)]
pub enum Dockerfile {
    /// In the context, by relative path.
    Inside(String),
    /// Somewhere else; sent under a name of its own.
    Text(String),
}

/// The name a Dockerfile from outside the context is sent under.
const OUTSIDE: &str = ".dockerfile.barque-compose";

/// Directories to send beside a context, with their names in the archive.
pub type More = Vec<(PathBuf, PathBuf)>;

/// The tar stream, made by a thread of its own as it is read.
pub fn reader(context: Option<BuildContext>, more: More) -> impl AsyncRead + Send + 'static {
    pipe::produce(move |writer| {
        let mut packer = Packer::new(writer as &mut dyn Write, Owner::Root);
        context.iter().try_for_each(|context| context.pack(&mut packer))?;
        more.iter().try_for_each(|(path, name)| packer.tree(path, name))?;
        packer.finish()
    })
}

impl BuildContext {
    /// Looks at the directory and the Dockerfile.
    ///
    /// # Errors
    /// Either is missing.
    pub fn new(dir: &Path, dockerfile: &str, inline: &str) -> Result<Self, Error> {
        if !dir.is_dir() {
            return Err(Error::not_found(format!(
                "unable to prepare context: path {:?} not found",
                dir.display().to_string()
            ))
            .with_hint("check \"build: context:\"; relative paths start at the Compose file"));
        }
        let dockerfile = if inline.is_empty() {
            let path = PathBuf::from(crate::file::paths::absolute(dockerfile, dir, None));
            let missing =
                |e: io::Error| Error::from(e).context(format!("failed to read dockerfile: open {}", path.display()));
            match path.strip_prefix(dir) {
                Ok(inside) => {
                    std::fs::metadata(&path).map_err(missing)?;
                    Dockerfile::Inside(inside.display().to_string())
                }
                Err(_) => Dockerfile::Text(std::fs::read_to_string(&path).map_err(missing)?),
            }
        } else {
            Dockerfile::Text(inline.to_owned())
        };
        Ok(BuildContext { dir: dir.to_path_buf(), dockerfile })
    }

    /// The name of the Dockerfile in the stream.
    pub fn dockerfile_name(&self) -> String {
        match &self.dockerfile {
            Dockerfile::Inside(name) => name.clone(),
            Dockerfile::Text(_) => OUTSIDE.to_owned(),
        }
    }

    fn pack(&self, packer: &mut Packer<&mut dyn Write>) -> io::Result<()> {
        packer.filtered(&self.dir, Path::new(""), &self.patterns()?)?;
        if let Dockerfile::Text(text) = &self.dockerfile {
            packer.bytes(Path::new(OUTSIDE), text.as_bytes(), 0o644)?;
        }
        Ok(())
    }

    /// The ignore file of this Dockerfile, or that of the context. The Dockerfile itself is always sent.
    fn patterns(&self) -> io::Result<Patterns> {
        let name = self.dockerfile_name();
        let read = |name: &str| match small_text(&self.dir.join(name), IGNORE_MAX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io::Error::new(e.kind(), format!("{name}: {e}"))),
            Ok(text) => Ok(Some(text)),
        };
        let own = read(&format!("{name}.dockerignore"))?;
        let text = if own.is_some() { own } else { read(".dockerignore")? }.unwrap_or_default();
        let mut patterns = Patterns::parse(&text).map_err(io::Error::other)?;
        if !patterns.is_empty() {
            patterns.keep(".dockerignore");
            patterns.keep(&name);
        }
        Ok(patterns)
    }
}
