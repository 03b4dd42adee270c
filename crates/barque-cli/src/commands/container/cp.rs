//! `cp`.

use std::path::{Path, PathBuf};

use barque_api::container::CopyQuery;
use barque_client::{Client, Upload};

use crate::archive::copy::{self, Info, parse_operand, place};
use crate::archive::pack::{Owner, Packer};
use crate::archive::pipe;
use crate::archive::unpack::{Options, unpack};
use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::output::live::{Counted, Live};
use crate::term;
use crate::term::stdio::{Input, Output};

pub(crate) async fn cp(inv: &Invocation<'_>) -> CliResult<u8> {
    let (source, target) = (inv.operand(0), inv.operand(1));
    if source.is_empty() {
        return Err(Failure::new("source can not be empty"));
    }
    if target.is_empty() {
        return Err(Failure::new("destination can not be empty"));
    }
    match (parse_operand(source), parse_operand(target)) {
        ((Some(container), from), (None, to)) => from_container(inv, container, from, to).await,
        ((None, from), (Some(container), to)) => to_container(inv, container, from, to).await,
        ((Some(_), _), (Some(_), _)) => Err(Failure::new("copying between containers is not supported")),
        _ => Err(Failure::new("must specify at least one container source")),
    }
}

/// Whether nobody looks.
fn is_quiet(inv: &Invocation<'_>) -> bool {
    match inv.flags.given("quiet") {
        true => inv.flags.is("quiet"),
        false => !term::is_terminal_out(),
    }
}

/// Says how much was copied, where somebody looks.
fn done(inv: &Invocation<'_>, bytes: u64, target: &str) {
    if !is_quiet(inv) {
        let size = barque_model::size::human_precision(bytes, 3);
        inv.cli.err(&format!("Successfully copied {size} to {target}"));
    }
}

async fn from_container(inv: &Invocation<'_>, container: &str, from: &str, to: &str) -> CliResult<u8> {
    let client = inv.client().await?;
    let target = match to {
        "-" => None,
        to => Some(copy::local_target(&copy::absolute(to)?)?),
    };
    let (from, rebase) = match inv.flags.is("follow-link") {
        true => followed(client, container, from).await,
        false => (from.to_owned(), None),
    };
    let archive = client.container_archive_get(container, &from).await?;
    let Some(target) = target else {
        let (stdout, mut content) = (Output::stdout()?, archive.content);
        while let Some(piece) = content.next().await? {
            stdout.write_all(&piece).await?;
        }
        return Ok(0);
    };
    let is_dir = archive.stat.is_dir();
    let source = Info { path: from.clone(), exists: true, is_dir, rebase: rebase.clone() };
    let placement = place(&source, &target)?;
    // The archive's entries begin with the name of what was really read.
    let rename = match (placement.rename, rebase) {
        (Some((_, new)), Some(_)) => Some((copy::split(&from).1, new)),
        (None, Some(name)) => Some((copy::split(&from).1, name)),
        (rename, None) => rename,
    };
    let directory = PathBuf::from(&placement.directory);
    let options = Options { rebase: rename, owners: false };
    let live = Live::new("Copying from container", is_quiet(inv));
    let count = live.count();
    let unpacked =
        pipe::consume(archive.content, move |reader| unpack(&mut Counted::new(reader, count), &directory, &options))
            .await;
    drop(live);
    let bytes = unpacked?;
    done(inv, bytes, &target.path);
    Ok(0)
}

/// What a link in the container leads to, and the name the copy is to have.
async fn followed(client: &Client, container: &str, path: &str) -> (String, Option<String>) {
    match client.container_archive_stat(container, path).await {
        Ok(stat) if stat.is_symlink() && !copy::asserts_directory(path) => {
            let (parent, base) = copy::split(path);
            let target = Path::new(&parent).join(&stat.link_target).display().to_string();
            (copy::lexical(&target), Some(base))
        }
        _ => (path.to_owned(), None),
    }
}

async fn to_container(inv: &Invocation<'_>, container: &str, from: &str, to: &str) -> CliResult<u8> {
    let client = inv.client().await?;
    let target = container_target(client, container, to).await?;
    let query = |path: &str| CopyQuery {
        path: path.to_owned(),
        no_overwrite_dir_non_dir: true,
        copy_uid_gid: inv.flags.is("archive"),
    };
    if from == "-" {
        if !target.is_dir {
            return Err(Failure::new(format!("destination \"{container}:{to}\" must be a directory")));
        }
        client.container_archive_put(container, &query(&target.path), Upload::reader(stdin()?)).await?;
        return Ok(0);
    }
    let from = copy::absolute(from)?;
    let (real, source) = copy::local_source(&from, inv.flags.is("follow-link"))?;
    let placement = place(&source, &target)?;
    let name = match placement.rename {
        Some((_, new)) => new,
        None => copy::split(&from).1,
    };
    let live = Live::new("Copying to container", is_quiet(inv));
    let (counter, count) = (live.count(), live.count());
    let content = pipe::produce(move |writer| {
        let mut packer = Packer::new(Counted::new(writer, count), Owner::Kept);
        packer.tree(&real, Path::new(&name))?;
        packer.finish()
    });
    let sent = client.container_archive_put(container, &query(&placement.directory), Upload::reader(content)).await;
    drop(live);
    sent?;
    let bytes = counter.load(std::sync::atomic::Ordering::Relaxed);
    done(inv, bytes, &format!("{container}:{}", target.path));
    Ok(0)
}

/// The destination in the container; a link there is followed once, as the engine does.
async fn container_target(client: &Client, container: &str, given: &str) -> CliResult<Info> {
    let path = if given.starts_with('/') { given.to_owned() } else { format!("/{given}") };
    let mut info = Info { path: path.clone(), ..Info::default() };
    let Ok(mut stat) = client.container_archive_stat(container, &path).await else { return Ok(info) };
    if stat.is_symlink() {
        let (parent, _) = copy::split(&path);
        info.path = copy::lexical(&Path::new(&parent).join(&stat.link_target).display().to_string());
        match client.container_archive_stat(container, &info.path).await {
            Ok(followed) => stat = followed,
            Err(_) => return Ok(info),
        }
    }
    info.exists = true;
    info.is_dir = stat.is_dir();
    if stat.is_device() {
        let shown = format!("{container}:{given}");
        return Err(Failure::new(format!("destination {shown:?} must be a directory or a regular file: got a device")));
    }
    Ok(info)
}

/// Standard input as a stream, read as it comes.
pub(crate) fn stdin() -> CliResult<impl tokio::io::AsyncRead + Send + 'static> {
    let input = Input::open()?;
    let pieces = futures_util::stream::unfold(input, |input| async move {
        let mut buffer = vec![0; 64 << 10];
        match input.read(&mut buffer).await {
            Ok(0) => None,
            Ok(count) => {
                buffer.truncate(count);
                Some((Ok(bytes::Bytes::from(buffer)), input))
            }
            Err(e) => Some((Err(e), input)),
        }
    });
    Ok(tokio_util::io::StreamReader::new(Box::pin(pieces)))
}
