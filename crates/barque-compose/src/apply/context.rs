//! Build contexts: a directory as a tar stream, less what `.dockerignore` excludes.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use barque_client::files::{IGNORE_MAX, small_text};
use barque_model::Error;
use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use super::ignore::Ignore;

/// Bytes gathered before they are handed on.
const CHUNK: usize = 256 << 10;

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

    /// The tar stream, made by a thread of its own as it is read.
    pub fn into_reader(self) -> impl AsyncRead + Send + 'static {
        let (sender, receiver) = mpsc::channel(8);
        tokio::task::spawn_blocking(move || {
            let mut writer = Sender { sender: sender.clone(), buffer: Vec::with_capacity(CHUNK) };
            let result = self.write(&mut writer).and_then(|()| writer.flush());
            if let Err(e) = result {
                // the reader may have gone away; then nobody wants to know
                let _ = sender.blocking_send(Err(e));
            }
        });
        Receiver { receiver, piece: Bytes::new() }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut builder = tar::Builder::new(out);
        builder.follow_symlinks(false);
        let name = self.dockerfile_name();
        let read = |name: &str| match small_text(&self.dir.join(name), IGNORE_MAX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io::Error::new(e.kind(), format!("{name}: {e}"))),
            Ok(text) => Ok(Some(text)),
        };
        let own = read(&format!("{name}.dockerignore"))?;
        let text = if own.is_some() { own } else { read(".dockerignore")? }.unwrap_or_default();
        let ignore = Ignore::parse(&text);
        self.directory(&mut builder, &self.dir, "", &ignore)?;
        if let Dockerfile::Text(text) = &self.dockerfile {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Regular);
            builder.append_data(&mut header, OUTSIDE, text.as_bytes())?;
        }
        builder.finish()
    }

    fn directory(
        &self,
        builder: &mut tar::Builder<&mut dyn Write>,
        dir: &Path,
        prefix: &str,
        ignore: &Ignore,
    ) -> io::Result<()> {
        let mut entries: Vec<std::fs::DirEntry> = std::fs::read_dir(dir)?.collect::<io::Result<_>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(io::Error::other(format!("the name of {} is not UTF-8", entry.path().display())));
            };
            let relative = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let meta = entry.metadata()?;
            let needed = relative == self.dockerfile_name() || relative == ".dockerignore";
            let excluded = ignore.excludes(&relative) && !needed;
            if meta.is_dir() {
                if excluded && ignore.prunes() && !self.dockerfile_name().starts_with(&format!("{relative}/")) {
                    continue;
                }
                if !excluded {
                    append(builder, &relative, &entry.path(), &meta)?;
                }
                self.directory(builder, &entry.path(), &relative, ignore)?;
            } else if !excluded {
                append(builder, &relative, &entry.path(), &meta)?;
            }
        }
        Ok(())
    }
}

/// One entry; owners are left out, as Docker does. Sockets are skipped, since tar has none.
fn append(
    builder: &mut tar::Builder<&mut dyn Write>,
    name: &str,
    path: &Path,
    meta: &std::fs::Metadata,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_metadata_in_mode(meta, tar::HeaderMode::Complete);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(meta.mode() & 0o7777);
    let kind = meta.file_type();
    let at = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    if kind.is_symlink() {
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        let target = std::fs::read_link(path).map_err(at)?;
        builder.append_link(&mut header, name, target)
    } else if kind.is_dir() {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        builder.append_data(&mut header, format!("{name}/"), io::empty())
    } else if kind.is_file() {
        let file = std::fs::File::open(path).map_err(at)?;
        // the size may change while it is read; the header counts
        let body = Padded { file, left: meta.len() };
        header.set_size(meta.len());
        builder.append_data(&mut header, name, body)
    } else if std::os::unix::fs::FileTypeExt::is_fifo(&kind) {
        header.set_entry_type(tar::EntryType::Fifo);
        header.set_size(0);
        builder.append_data(&mut header, name, io::empty())
    } else {
        Ok(())
    }
}

/// Exactly `left` bytes of a file, zeros where it got shorter meanwhile.
struct Padded {
    file: std::fs::File,
    left: u64,
}

impl io::Read for Padded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let mut count = self.file.read(&mut buffer[..room])?;
        if count == 0 {
            buffer[..room].fill(0);
            count = room;
        }
        self.left -= count as u64;
        Ok(count)
    }
}

struct Sender {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

struct Receiver {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl AsyncRead for Receiver {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.piece.is_empty() {
            match ready!(self.receiver.poll_recv(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(e)) => return Poll::Ready(Err(e)),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = out.remaining().min(self.piece.len());
        let piece = self.piece.split_to(count);
        out.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}
