//! `cp`: files between this machine and a container, as streams.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use barque_api::container::CopyQuery;
use barque_model::path::clean;

use super::copy::{self, Info, place};
use super::pack::{Owner, Packer};
use super::unpack::{Options, unpack};
use super::{pipe, plain_io};
use crate::{Client, Error, Result, Upload};

/// How to copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    /// `-L`: what a link leads to, not the link.
    pub follow_link: bool,
    /// `-a` into a container: owners of this machine are kept there.
    pub owners: bool,
}

/// What passes through is counted by the caller.
pub type Tally = Box<dyn FnMut(usize) + Send>;

struct Tallied<T>(T, Tally);

impl<T: Read> Read for Tallied<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        (self.1)(count);
        Ok(count)
    }
}

impl<T: Write> Write for Tallied<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.0.write(buffer)?;
        (self.1)(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn local(error: &io::Error) -> Error {
    Error::argument(plain_io(error))
}

/// Copies `from` in the container to `to`, an absolute path here; returns it with links followed.
///
/// # Errors
/// The engine's refusal; a target that cannot be; an archive that leads out of it.
pub async fn from_container(
    client: &Client,
    container: &str,
    from: &str,
    to: &str,
    flags: Flags,
    tally: Tally,
) -> Result<String> {
    let target = copy::local_target(to).map_err(|e| local(&e))?;
    let (from, rebase) = match flags.follow_link {
        true => followed(client, container, from).await,
        false => (from.to_owned(), None),
    };
    let archive = client.container_archive_get(container, &from).await?;
    let is_dir = archive.stat.is_dir();
    let source = Info { path: from.clone(), exists: true, is_dir, rebase: rebase.clone() };
    let placement = place(&source, &target).map_err(Error::argument)?;
    // The archive's entries begin with the name of what was really read.
    let rename = match (placement.rename, rebase) {
        (Some((_, new)), Some(_)) => Some((copy::split(&from).1, new)),
        (None, Some(name)) => Some((copy::split(&from).1, name)),
        (rename, None) => rename,
    };
    let directory = PathBuf::from(&placement.directory);
    let options = Options { rebase: rename, owners: false };
    let unpacked =
        pipe::consume(archive.content, move |reader| unpack(&mut Tallied(reader, tally), &directory, &options));
    unpacked.await.map_err(|e| local(&e))?;
    Ok(target.path)
}

/// What a link in the container leads to, and the name the copy is to have.
async fn followed(client: &Client, container: &str, path: &str) -> (String, Option<String>) {
    match client.container_archive_stat(container, path).await {
        Ok(stat) if stat.is_symlink() && !copy::asserts_directory(path) => {
            let (parent, base) = copy::split(path);
            let target = Path::new(&parent).join(&stat.link_target).display().to_string();
            (clean(&target), Some(base))
        }
        _ => (path.to_owned(), None),
    }
}

/// The bytes of an archive of `from` in the container, links followed if asked.
///
/// # Errors
/// The engine's refusal.
pub async fn archive_of(client: &Client, container: &str, from: &str, flags: Flags) -> Result<crate::ByteStream> {
    let from = match flags.follow_link {
        true => followed(client, container, from).await.0,
        false => from.to_owned(),
    };
    Ok(client.container_archive_get(container, &from).await?.content)
}

/// Copies `from`, an absolute path here, to `to` in the container; returns that with a link followed.
///
/// # Errors
/// The engine's refusal; a source that is not there; a target that cannot be.
pub async fn to_container(
    client: &Client,
    container: &str,
    from: &str,
    to: &str,
    flags: Flags,
    tally: Tally,
) -> Result<String> {
    let target = container_target(client, container, to).await?;
    let (real, source) = copy::local_source(from, flags.follow_link).map_err(|e| local(&e))?;
    let placement = place(&source, &target).map_err(Error::argument)?;
    let name = match placement.rename {
        Some((_, new)) => new,
        None => copy::split(from).1,
    };
    let content = pipe::produce(move |writer| {
        let mut packer = Packer::new(Tallied(writer, tally), Owner::Kept);
        packer.tree(&real, Path::new(&name))?;
        packer.finish()
    });
    put(client, container, &placement.directory, flags, Upload::reader(content)).await?;
    Ok(target.path)
}

/// Unpacks an archive in the directory `to` of the container.
///
/// # Errors
/// The engine's refusal; `to` is no directory.
pub async fn archive_into(client: &Client, container: &str, to: &str, flags: Flags, archive: Upload) -> Result<()> {
    let target = container_target(client, container, to).await?;
    if !target.is_dir {
        return Err(Error::argument(format!("destination \"{container}:{to}\" must be a directory")));
    }
    put(client, container, &target.path, flags, archive).await
}

async fn put(client: &Client, container: &str, path: &str, flags: Flags, content: Upload) -> Result<()> {
    let query = CopyQuery { path: path.to_owned(), no_overwrite_dir_non_dir: true, copy_uid_gid: flags.owners };
    client.container_archive_put(container, &query, content).await
}

/// The destination in the container; a link there is followed once, as the engine does.
async fn container_target(client: &Client, container: &str, given: &str) -> Result<Info> {
    let path = if given.starts_with('/') { given.to_owned() } else { format!("/{given}") };
    let mut info = Info { path: path.clone(), ..Info::default() };
    let Ok(mut stat) = client.container_archive_stat(container, &path).await else { return Ok(info) };
    if stat.is_symlink() {
        let (parent, _) = copy::split(&path);
        info.path = clean(&Path::new(&parent).join(&stat.link_target).display().to_string());
        match client.container_archive_stat(container, &info.path).await {
            Ok(followed) => stat = followed,
            Err(_) => return Ok(info),
        }
    }
    info.exists = true;
    info.is_dir = stat.is_dir();
    if stat.is_device() {
        let shown = format!("{container}:{given}");
        return Err(Error::argument(format!(
            "destination {shown:?} must be a directory or a regular file: got a device"
        )));
    }
    Ok(info)
}
