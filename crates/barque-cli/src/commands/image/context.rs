//! What a build is made of: a directory, a stream, or an address that the engine fetches.

use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use barque_client::Upload;
use barque_client::files::{IGNORE_MAX, small_text};
use barque_model::path;
use tokio::io::AsyncReadExt;

use barque_client::archive::ignore::Patterns;
use barque_client::archive::pack::{Owner, Packer};
use barque_client::archive::pipe;
use barque_client::archive::plain_io;

use crate::error::{CliResult, Failure};
use crate::output::meter::Meter;
use crate::output::progress::Sink;

/// Ready to be sent.
pub(super) struct Context {
    body: Body,
    /// The Dockerfile's name inside the context; empty: the default.
    pub(super) dockerfile: String,
    /// The address the engine is to fetch.
    pub(super) remote: String,
    /// A Dockerfile that does not lie in the context, for engines that take it apart from it.
    pub(super) apart: Option<Apart>,
}

/// A Dockerfile from elsewhere.
#[derive(Clone)]
pub(super) struct Apart {
    pub(super) text: Vec<u8>,
    /// As the user wrote it.
    pub(super) name: String,
    /// Lines of the ignore file beside it.
    pub(super) ignore: Option<Vec<String>>,
}

enum Body {
    Empty,
    Archive(Vec<u8>),
    /// Standard input, of which the beginning was read.
    Stdin(Vec<u8>),
    Directory {
        root: PathBuf,
        patterns: Patterns,
        /// A Dockerfile from elsewhere, which lies in the context under [`Context::dockerfile`].
        extra: Option<Vec<u8>>,
    },
}

impl Context {
    /// The directory the context is.
    pub(super) fn directory(&self) -> Option<&Path> {
        match &self.body {
            Body::Directory { root, .. } => Some(root),
            _ => None,
        }
    }

    /// Whether an engine must be able to take the Dockerfile apart from the context.
    pub(super) fn needs_apart(&self) -> bool {
        !self.remote.is_empty() && self.apart.is_some()
    }

    /// Whether there is nothing but a Dockerfile.
    pub(super) fn is_dockerfile_only(&self) -> bool {
        matches!(self.body, Body::Archive(_))
    }

    /// For an engine that is told the Dockerfile apart: the archive goes without it.
    pub(super) fn without_dockerfile(mut self) -> Context {
        match &mut self.body {
            Body::Directory { extra, .. } => *extra = None,
            Body::Archive(_) => self.body = Body::Empty,
            _ => {}
        }
        self
    }

    /// For an engine that reads the directory itself.
    pub(super) fn in_place(mut self) -> Context {
        self.body = Body::Empty;
        self
    }

    /// The archive to send after `head`; what is sent is told under `label`. `more` are directories to pack next to
    /// the context's files, under other names.
    pub(super) fn upload(self, head: Vec<u8>, more: Vec<(PathBuf, PathBuf)>, label: String, sink: Sink) -> Upload {
        let dockerfile = PathBuf::from(self.dockerfile);
        let after_head = |bytes: Vec<u8>| Upload::reader(io::Cursor::new(bytes));
        let produced = match self.body {
            Body::Empty if head.is_empty() => return Upload::empty(),
            Body::Empty if more.is_empty() => return after_head(head),
            Body::Empty => pipe::produce(move |writer| {
                let mut packer = Packer::new(writer, Owner::Root);
                pack_more(&mut packer, &more)?;
                packer.finish()
            }),
            Body::Stdin(_) if !more.is_empty() => pipe::produce(|_| {
                let text = "a directory of --build-context cannot be sent next to a context from standard input";
                Err(io::Error::other(text))
            }),
            Body::Archive(bytes) => {
                return Upload::reader(AsyncReadExt::chain(
                    io::Cursor::new(head),
                    Meter::new(io::Cursor::new(bytes), label, sink),
                ));
            }
            Body::Stdin(head) => pipe::produce(move |writer| {
                writer.write_all(&head)?;
                io::copy(&mut io::stdin().lock(), writer).map(drop)
            }),
            Body::Directory { root, patterns, extra } => pipe::produce(move |writer| {
                let mut packer = Packer::new(writer, Owner::Root);
                packer.filtered(&root, Path::new(""), &patterns)?;
                if let Some(content) = extra {
                    packer.bytes(&dockerfile, &content, 0o600)?;
                }
                pack_more(&mut packer, &more)?;
                packer.finish()
            }),
        };
        Upload::reader(AsyncReadExt::chain(io::Cursor::new(head), Meter::new(produced, label, sink)))
    }
}

fn pack_more<W: io::Write>(packer: &mut Packer<W>, more: &[(PathBuf, PathBuf)]) -> io::Result<()> {
    more.iter().try_for_each(|(path, name)| packer.tree(path, name))
}

/// Finds the context that `operand` names, with the Dockerfile that `-f` names.
pub(super) fn open(operand: &str, file: &str) -> CliResult<Context> {
    let prepared = |why: String| Failure::new(format!("unable to prepare context: {why}"));
    if operand == "-" {
        if file == "-" {
            return Err(Failure::new("invalid argument: can't use stdin for both build context and dockerfile"));
        }
        return from_stdin(file);
    }
    let path = Path::new(operand);
    if path.is_dir() {
        return directory(operand, file).map_err(prepared);
    }
    if is_remote(operand) {
        let remote = operand.to_owned();
        if file == "-" {
            let mut text = Vec::new();
            io::stdin().lock().read_to_end(&mut text)?;
            let apart = Some(Apart { text, name: "Dockerfile".into(), ignore: None });
            return Ok(Context { body: Body::Empty, dockerfile: String::new(), remote, apart });
        }
        return Ok(Context { body: Body::Empty, dockerfile: file.to_owned(), remote, apart: None });
    }
    Err(prepared(match path.exists() {
        true => format!("context must be a directory: {operand}"),
        false => format!("path {operand:?} not found"),
    }))
}

/// A git repository or something to download.
pub(super) fn is_remote(text: &str) -> bool {
    let before_fragment = text.split('#').next().unwrap_or(text);
    ["http://", "https://", "git://", "ssh://"].iter().any(|scheme| text.starts_with(scheme))
        || text.starts_with("github.com/")
        || text.starts_with("git@")
        || (before_fragment.ends_with(".git") && before_fragment.contains(':'))
}

/// A Dockerfile, or a tar stream, compressed or not.
fn from_stdin(file: &str) -> CliResult<Context> {
    let mut head = vec![0; 1024];
    let mut stdin = io::stdin().lock();
    let mut filled = 0;
    while filled < head.len() {
        match stdin.read(&mut head[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    head.truncate(filled);
    if is_archive(&head) {
        let (dockerfile, remote) = (file.to_owned(), String::new());
        return Ok(Context { body: Body::Stdin(head), dockerfile, remote, apart: None });
    }
    if !file.is_empty() {
        return Err(Failure::new("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"));
    }
    stdin.read_to_end(&mut head)?;
    let mut bytes = Vec::new();
    let mut packer = Packer::new(&mut bytes, Owner::Root);
    packer.bytes(Path::new("Dockerfile"), &head, 0o600)?;
    packer.finish()?;
    let apart = Some(Apart { text: head, name: "Dockerfile".into(), ignore: None });
    Ok(Context { body: Body::Archive(bytes), dockerfile: String::new(), remote: String::new(), apart })
}

/// Tar by its checksum, or one of the compressions by its first bytes.
fn is_archive(head: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    if magic.iter().any(|m| head.starts_with(m)) {
        return true;
    }
    head.len() >= 512 && head.get(257..262).is_some_and(|m| m == b"ustar")
}

fn directory(operand: &str, file: &str) -> Result<Context, String> {
    let root = std::fs::canonicalize(operand).map_err(|e| format!("{operand}: {}", plain_io(&e)))?;
    let (name, extra) = dockerfile(&root, file)?;
    let mut patterns = patterns(&root, &name)?;
    let mut apart = None;
    if let Some(text) = &extra {
        let shown = if file == "-" { "Dockerfile" } else { file };
        let mut ignore = None;
        // Beside the Dockerfile, wherever that is.
        if file != "-"
            && let Some(text) = ignore_file(Path::new(&format!("{file}.dockerignore")))?
        {
            patterns = Patterns::parse(&text).map_err(|e| format!("error reading {file}.dockerignore: {e}"))?;
            ignore = Some(text.lines().map(str::to_owned).filter(|l| !l.starts_with('#')).collect());
        }
        apart = Some(Apart { text: text.clone(), name: shown.to_owned(), ignore });
    }
    Ok(Context { body: Body::Directory { root, patterns, extra }, dockerfile: name, remote: String::new(), apart })
}

/// The Dockerfile's name in the context, and its content where it lies elsewhere.
fn dockerfile(root: &Path, file: &str) -> Result<(String, Option<Vec<u8>>), String> {
    let aside = |content: Vec<u8>| {
        let mut random = [0; 8];
        barque_model::id::fill_random(&mut random);
        (format!(".dockerfile.{}", barque_model::id::to_hex(&random)), Some(content))
    };
    if file == "-" {
        let mut content = Vec::new();
        io::stdin().lock().read_to_end(&mut content).map_err(|e| plain_io(&e))?;
        return Ok(aside(content));
    }
    let path = match file {
        "" => {
            let usual = root.join("Dockerfile");
            let lower = root.join("dockerfile");
            if !usual.exists() && lower.exists() { lower } else { usual }
        }
        file => PathBuf::from(file),
    };
    // A pipe (`-f /dev/stdin`, `-f <(command)`) is read as it is.
    if std::fs::metadata(&path).is_ok_and(|m| m.file_type().is_fifo() || m.file_type().is_socket()) {
        return std::fs::read(&path).map(aside).map_err(|e| format!("open {}: {}", path.display(), plain_io(&e)));
    }
    let real = std::fs::canonicalize(&path).map_err(|e| {
        let shown = std::path::absolute(&path).unwrap_or(path.clone());
        let shown = path::clean(&shown.display().to_string());
        format!("unable to evaluate symlinks in Dockerfile path: lstat {shown}: {}", plain_io(&e))
    })?;
    // The name as it lies in the context, links included, so that the engine finds it there.
    let absolute = std::path::absolute(&path).unwrap_or(path);
    let absolute = PathBuf::from(path::clean(&absolute.display().to_string()));
    for candidate in [&absolute, &real] {
        if let Ok(name) = candidate.strip_prefix(root) {
            return Ok((name.display().to_string(), None));
        }
    }
    std::fs::read(&real).map(aside).map_err(|e| format!("open {}: {}", real.display(), plain_io(&e)))
}

/// The text of an ignore file, if there is one.
fn ignore_file(path: &Path) -> Result<Option<String>, String> {
    match small_text(path, IGNORE_MAX) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("open {}: {}", path.display(), plain_io(&e))),
    }
}

/// The ignore file of this Dockerfile, or that of the context. The Dockerfile itself is always sent.
fn patterns(root: &Path, dockerfile: &str) -> Result<Patterns, String> {
    let own = root.join(format!("{dockerfile}.dockerignore"));
    let (path, name) = match own.exists() {
        true => (own, format!("{dockerfile}.dockerignore")),
        false => (root.join(".dockerignore"), ".dockerignore".to_owned()),
    };
    let Some(text) = ignore_file(&path)? else { return Ok(Patterns::default()) };
    let mut patterns = Patterns::parse(&text).map_err(|e| format!("error reading {}: {e}", path.display()))?;
    if !patterns.is_empty() {
        patterns.keep(&name);
        patterns.keep(dockerfile);
    }
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for remote in ["https://x/ctx.tar.gz", "git://h/r.git#main:dir", "github.com/a/b", "git@github.com:a/b.git"] {
            assert!(is_remote(remote), "{remote}");
        }
        assert!(!is_remote("./dir") && !is_remote("dir.git"));
    }

    #[test]
    fn archives_are_told_from_dockerfiles() {
        assert!(is_archive(b"\x1f\x8brest"));
        assert!(!is_archive(b"FROM alpine\n"));
        let mut bytes = Vec::new();
        let mut packer = Packer::new(&mut bytes, Owner::Root);
        packer.bytes(Path::new("x"), b"y", 0o600).expect("packs");
        packer.finish().expect("finishes");
        assert!(is_archive(&bytes));
    }

    #[test]
    fn dockerfiles_are_found() {
        let dir = tempfile::tempdir().expect("tempdir");
        let root = std::fs::canonicalize(dir.path()).expect("real");
        assert!(dockerfile(&root, "").expect_err("none").starts_with("unable to evaluate symlinks in Dockerfile path"));
        std::fs::create_dir(root.join("sub")).expect("mkdir");
        std::fs::write(root.join("sub/Dockerfile.x"), "FROM x").expect("write");
        let inside = root.join("sub/Dockerfile.x").display().to_string();
        assert_eq!(dockerfile(&root, &inside).expect("inside").0, "sub/Dockerfile.x");
        let (name, content) = dockerfile(&root.join("sub/../sub"), &inside).map_err(|e| panic!("{e}")).expect("some");
        assert!(content.is_some() == name.starts_with(".dockerfile."));
        std::fs::write(root.join(".dockerignore"), "*").expect("write");
        let patterns = patterns(&root, "sub/Dockerfile.x").expect("parses");
        assert!(!patterns.ignores("sub/Dockerfile.x") && patterns.ignores("other"));
    }
}
