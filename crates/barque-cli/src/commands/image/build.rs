//! `build`.

use barque_client::BuildHeaders;

use super::build_options::{self, Output};
use super::{build_output, context};
use crate::auth;
use crate::cli::Invocation;
use crate::error::{CliResult, path_error};
use crate::output::progress::{self, Sink};

pub(crate) async fn build(inv: &Invocation<'_>) -> CliResult<u8> {
    let query = build_options::query(inv, &|name| std::env::var(name).ok())?;
    let outputs = build_options::outputs(inv)?;
    let quiet = build_options::is_quiet(inv);
    let context = context::open(inv.operand(0), inv.flags.text("file"))?;
    let query = barque_api::build::BuildQuery { dockerfile: context.dockerfile, remote: context.remote, ..query };
    let headers = BuildHeaders { auth: auth::all(inv.cli.config()), extra: Vec::new() };
    let stream = inv.client().await?.build(&query, &headers, context.upload).await?;
    // Standard output may be the archive's.
    let to_stdout = outputs.iter().any(|o| matches!(o, Output::Tar(path) | Output::Archive(path) if path == "-"));
    let sink = match (quiet, to_stdout) {
        (true, _) => Sink::Silent,
        (false, true) => Sink::Stderr,
        (false, false) => Sink::Stdout,
    };
    let mut id = String::new();
    progress::show(stream, sink, |aux| {
        if let Some(found) = aux.get("ID").and_then(serde_json::Value::as_str) {
            id = found.to_owned();
        }
        Ok(())
    })
    .await?;
    if quiet && !to_stdout {
        inv.cli.line(&id)?;
    }
    let iidfile = inv.flags.text("iidfile");
    if !iidfile.is_empty() {
        std::fs::write(iidfile, &id).map_err(|e| path_error("open", iidfile, &e))?;
    }
    write_metadata(inv, &id)?;
    for output in &outputs {
        build_output::deliver(inv, output, &id).await?;
    }
    Ok(0)
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
