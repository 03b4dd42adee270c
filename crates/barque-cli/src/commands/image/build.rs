//! `build`.

use std::path::Path;

use barque_api::build::BuildQuery;
use barque_client::{BuildHeaders, BuildOutput, Upload};

use super::build_options::{self, Output};
use super::context::Context;
use super::{build_output, context, nearby};
use crate::auth;
use crate::cli::Invocation;
use crate::error::{CliResult, Failure, path_error};
use crate::output::progress::{self, Sink};
use crate::term::signals;

/// A directory of the engine's machine instead of an archive; Barque's engine takes it over its unix socket.
const CONTEXT_DIR: &str = "X-Barque-Context-Dir";
/// Asks Barque's engine why each step runs.
const EXPLAIN: &str = "X-Barque-Explain";

pub(crate) async fn build(inv: &Invocation<'_>) -> CliResult<u8> {
    let query = build_options::query(inv, &|name| std::env::var(name).ok())?;
    let outputs = build_options::outputs(inv)?;
    let quiet = build_options::is_quiet(inv);
    let context = context::open(inv.operand(0), inv.flags.text("file"))?;
    check_experimental(inv).await?;
    let (dockerfile, remote) = (context.dockerfile.clone(), context.remote.clone());
    let query = BuildQuery { dockerfile, remote, ..query };
    // Standard output may be the archive's.
    let to_stdout = outputs.iter().any(|o| matches!(o, Output::Tar(path) | Output::Archive(path) if path == "-"));
    let sink = match (quiet, to_stdout) {
        (true, _) => Sink::Silent,
        (false, true) => Sink::Stderr,
        (false, false) => Sink::Stdout,
    };
    let stream = signals::unless_ended(send(inv, &query, context, sink)).await?;
    let id = signals::unless_ended(follow(stream, sink)).await?;
    if quiet && !to_stdout {
        inv.cli.line(&id)?;
    }
    let iidfile = inv.flags.text("iidfile");
    if !iidfile.is_empty() {
        if id.is_empty() {
            return Err(Failure::new(format!("server did not provide an image ID. Cannot write {iidfile}")));
        }
        std::fs::write(iidfile, &id).map_err(|e| path_error("open", iidfile, &e))?;
    }
    write_metadata(inv, &id)?;
    for output in &outputs {
        signals::unless_ended(build_output::deliver(inv, output, &id)).await?;
    }
    Ok(0)
}

/// Some flags mean nothing to an engine that has no experimental features.
async fn check_experimental(inv: &Invocation<'_>) -> CliResult<()> {
    if inv.flags.is("squash") && !inv.client().await?.server().await?.experimental {
        return Err(Failure::new(
            "\"--squash\" is only supported on a Docker daemon with experimental features enabled",
        ));
    }
    Ok(())
}

async fn send(inv: &Invocation<'_>, query: &BuildQuery, context: Context, sink: Sink) -> CliResult<BuildOutput> {
    let client = inv.client().await?;
    let ours = client.server().await?.server.starts_with("Barque/");
    let mut extra = Vec::new();
    if ours && inv.flags.is("explain") {
        extra.push((EXPLAIN.to_owned(), "1".to_owned()));
    }
    // A path that no header can carry is sent as an archive.
    let fits = |path: &&str| path.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) && !path.ends_with(' ');
    let plain = context.plain_directory().and_then(Path::to_str).filter(fits);
    let upload = match plain {
        Some(path) if ours && nearby::shares_files(client.host()) => {
            extra.push((CONTEXT_DIR.to_owned(), path.to_owned()));
            Upload::empty()
        }
        _ => {
            let engine = if inv.cli.program == "docker" { "Docker daemon" } else { "Barque engine" };
            context.upload(format!("Sending build context to {engine}"), sink)
        }
    };
    let headers = BuildHeaders { auth: auth::all(inv.cli.config()), extra };
    Ok(client.build(query, &headers, upload).await?)
}

/// Shows the build and gives the image's id. A quiet build shows what happened only if it fails.
async fn follow(stream: BuildOutput, sink: Sink) -> CliResult<String> {
    if sink == Sink::Silent {
        let (text, result) = progress::gather(stream).await;
        if let Err(failure) = result {
            progress::print(Sink::Stderr, &text)?;
            return Err(failure);
        }
        return Ok(text.trim().to_owned());
    }
    let mut id = String::new();
    let aux = |aux: &serde_json::Value| {
        if let Some(found) = aux.get("ID").and_then(serde_json::Value::as_str) {
            id = found.to_owned();
        }
        Ok(())
    };
    progress::show(stream, sink, aux).await?;
    Ok(id)
}

/// `--metadata-file`.
fn write_metadata(inv: &Invocation<'_>, id: &str) -> CliResult<()> {
    let path = inv.flags.text("metadata-file");
    if path.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = inv.flags.all("tag");
    let document = serde_json::json!({
        "containerimage.config.digest": id,
        "containerimage.digest": id,
        "image.name": names.join(","),
    });
    let text = crate::output::json::indent(&document.to_string(), "", "  ");
    std::fs::write(path, text + "\n").map_err(|e| path_error("open", path, &e))
}
