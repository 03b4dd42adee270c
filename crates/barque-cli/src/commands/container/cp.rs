//! `cp`.

use std::sync::atomic::Ordering;

use barque_client::Upload;
use barque_client::archive::copy::{absolute, parse_operand};
use barque_client::archive::cp::{self, Flags, Tally};

use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::output::live::Live;
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

fn flags(inv: &Invocation<'_>) -> Flags {
    Flags { follow_link: inv.flags.is("follow-link"), owners: inv.flags.is("archive") }
}

/// Counts for the line on the terminal.
fn tally(live: &Live) -> Tally {
    let count = live.count();
    Box::new(move |bytes| {
        count.fetch_add(bytes as u64, Ordering::Relaxed);
    })
}

async fn from_container(inv: &Invocation<'_>, container: &str, from: &str, to: &str) -> CliResult<u8> {
    let client = inv.client().await?;
    if to == "-" {
        let mut content = cp::archive_of(client, container, from, flags(inv)).await?;
        let stdout = Output::stdout()?;
        while let Some(piece) = content.next().await? {
            stdout.write_all(&piece).await?;
        }
        return Ok(0);
    }
    let live = Live::new("Copying from container", is_quiet(inv));
    let (counter, to) = (live.count(), absolute(to)?);
    let copied = cp::from_container(client, container, from, &to, flags(inv), tally(&live)).await;
    drop(live);
    done(inv, counter.load(Ordering::Relaxed), &copied?);
    Ok(0)
}

async fn to_container(inv: &Invocation<'_>, container: &str, from: &str, to: &str) -> CliResult<u8> {
    let client = inv.client().await?;
    if from == "-" {
        cp::archive_into(client, container, to, flags(inv), Upload::reader(stdin()?)).await?;
        return Ok(0);
    }
    let live = Live::new("Copying to container", is_quiet(inv));
    let (counter, from) = (live.count(), absolute(from)?);
    let copied = cp::to_container(client, container, &from, to, flags(inv), tally(&live)).await;
    drop(live);
    done(inv, counter.load(Ordering::Relaxed), &format!("{container}:{}", copied?));
    Ok(0)
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
