//! `build`.

use barque_api::build::BuildQuery;
use barque_api::query::JsonParam;
use barque_client::build_cache::{self, Exports, Imports};
use barque_client::ssh_agent::Agents;
use barque_client::{BuildHeaders, BuildOutput, ByteStream};

use super::build_options::{self, Output};
use super::context::Context;
use super::{build_debug, build_output, context, nearby};
use crate::auth;
use crate::cli::Invocation;
use crate::error::{CliResult, Failure, path_error};
use crate::output::build::{self as shown, Mode, Told};
use crate::output::progress::{self, Sink};
use crate::term::signals;

/// How this build is asked for and told.
struct Manner {
    /// The engine is Barque's.
    ours: bool,
    /// The classic builder's text instead of steps.
    classic: bool,
    mode: Mode,
    sink: Sink,
    /// The output whose files come with the build itself.
    files: Option<Output>,
}

pub(crate) async fn build(inv: &Invocation<'_>) -> CliResult<u8> {
    let variable = |name: &str| std::env::var(name).ok();
    let builder = inv.flags.get("builder").map(str::to_owned).or_else(|| variable("BUILDX_BUILDER"));
    barque_client::builder::check(&builder.unwrap_or_default())?;
    let query = build_options::query(inv, &variable)?;
    let outputs = build_options::outputs(inv)?;
    let kept = outputs.is_empty() || outputs.iter().any(Output::is_kept);
    let exports = Exports::parse("--cache-to", inv.flags.all("cache-to"))?;
    let mode = if build_options::is_quiet(inv) { Mode::Quiet } else { Mode::parse(inv.flags.text("progress"))? };
    let context = context::open(inv.operand(0), inv.flags.text("file"))?;
    check_experimental(inv).await?;
    forget_id(inv)?;
    let ours = inv.client().await?.is_barque().await?;
    if let Some(flag) = super::build_extras::needed(inv).filter(|_| !ours) {
        return Err(Failure::unbuilt(format!("build --{flag} with an engine other than Barque's")));
    }
    if context.needs_apart() && !ours {
        return Err(Failure::new("the Dockerfile from stdin is not supported with a remote context"));
    }
    if !exports.places.is_empty() && !ours {
        return Err(Failure::unbuilt("build --cache-to with an engine other than Barque's"));
    }
    let classic = !ours || matches!(variable("DOCKER_BUILDKIT").as_deref(), Some("0" | "false"));
    // Standard output may be the archive's.
    let to_stdout = outputs.iter().any(Output::is_stdout);
    if to_stdout && crate::term::is_terminal_out() {
        return Err(Failure::new("dest file is required for this output. refusing to write to console"));
    }
    let sink = match (mode, to_stdout) {
        (Mode::Quiet, _) => Sink::Silent,
        (_, true) => Sink::Stderr,
        (_, false) => Sink::Stdout,
    };
    let files = outputs.first().filter(|o| ours && !classic && outputs.len() == 1 && o.is_files()).cloned();
    let manner = Manner { ours, classic, mode, sink, files };
    let imports = signals::unless_ended(imports(inv)).await?;
    let (dockerfile, remote) = (context.dockerfile.clone(), context.remote.clone());
    let cache_from = JsonParam(imports.names.clone());
    // What goes elsewhere takes its names along.
    let tags = if kept { query.tags } else { Vec::new() };
    let query = BuildQuery { tags, dockerfile, remote, cache_from, quiet: query.quiet && classic, ..query };
    let result = match signals::unless_ended(run(inv, &query, context, &exports, &manner)).await {
        Ok((told, rest)) => finish(inv, &outputs, &exports, &manner, told, rest).await,
        Err(failure) => Err(failure),
    };
    // Only now: a cache to which nothing was added is the image that was imported.
    imports.forget(inv.client().await?).await;
    result
}

async fn imports(inv: &Invocation<'_>) -> CliResult<Imports> {
    let here = std::path::Path::new("");
    let imports = Imports::load(inv.client().await?, "--cache-from", inv.flags.all("cache-from"), here).await?;
    for dir in &imports.absent {
        inv.cli.err(&format!("no cache in {}: nothing is imported", dir.display()));
    }
    Ok(imports)
}

/// Builds; gives what was told, and what follows the last document.
async fn run(
    inv: &Invocation<'_>,
    query: &BuildQuery,
    context: Context,
    exports: &Exports,
    manner: &Manner,
) -> CliResult<(Told, Option<ByteStream>)> {
    let mut agents = Agents::default();
    let mut stream = send(inv, query, context, exports, manner, &mut agents).await?;
    if manner.classic {
        let image = follow(stream, manner.sink).await?;
        return Ok((Told { image, ..Told::default() }, None));
    }
    let mode = if build_options::is_check(inv) { Mode::Quiet } else { manner.mode };
    let (told, result) = shown::show(&mut stream, mode).await;
    if let Err(failure) = result {
        let Some(step) = &told.failed else { return Err(failure) };
        inv.cli.err(&failure.message);
        build_debug::shell(inv, step).await?;
        return Err(Failure::silent(failure.code));
    }
    Ok((told, manner.files.is_some().then(|| stream.into_rest())))
}

/// What follows a build that succeeded.
async fn finish(
    inv: &Invocation<'_>,
    outputs: &[Output],
    exports: &Exports,
    manner: &Manner,
    told: Told,
    rest: Option<ByteStream>,
) -> CliResult<u8> {
    if build_options::is_check(inv) {
        return checked(inv, &told.warnings);
    }
    if !told.cache.is_empty() {
        signals::unless_ended(build_output::cache(inv, exports, &told.cache)).await?;
    }
    let id = told.image;
    let nowhere = |o: &Output| o.is_stdout() || *o == Output::Cache;
    if manner.mode == Mode::Quiet && !id.is_empty() && !outputs.iter().any(nowhere) {
        inv.cli.line(&id)?;
    }
    let iidfile = inv.flags.text("iidfile");
    if !iidfile.is_empty() {
        if id.is_empty() {
            return Err(Failure::new(format!("server did not provide an image ID. Cannot write {iidfile}")));
        }
        std::fs::write(iidfile, &id).map_err(|e| path_error("open", iidfile, &e))?;
    }
    write_metadata(inv, &id, outputs)?;
    if let (Some(files), Some(rest)) = (&manner.files, rest) {
        signals::unless_ended(build_output::files(files, rest)).await?;
        return Ok(0);
    }
    for output in outputs {
        signals::unless_ended(build_output::deliver(inv, output, &id)).await?;
    }
    if !outputs.is_empty() && !outputs.iter().any(Output::is_kept) {
        // What was asked for is there; nobody asked for an image.
        build_cache::forget(inv.client().await?, &id).await;
    }
    Ok(0)
}

/// The file of `--iidfile` goes first: after a build that fails it must not name another image.
fn forget_id(inv: &Invocation<'_>) -> CliResult<()> {
    let path = inv.flags.text("iidfile");
    match std::fs::remove_file(path) {
        Err(e) if !path.is_empty() && e.kind() != std::io::ErrorKind::NotFound => Err(path_error("remove", path, &e)),
        _ => Ok(()),
    }
}

/// `--check`: the warnings, and whether there were any.
fn checked(inv: &Invocation<'_>, warnings: &[String]) -> CliResult<u8> {
    match warnings.len() {
        0 => inv.cli.line("Check complete, no warnings found.")?,
        1 => inv.cli.line("Check complete, 1 warning has been found!\n")?,
        n => inv.cli.line(&format!("Check complete, {n} warnings have been found!\n"))?,
    }
    warnings.iter().try_for_each(|w| inv.cli.line(&format!("WARNING: {w}")))?;
    Ok(u8::from(!warnings.is_empty()))
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

async fn send(
    inv: &Invocation<'_>,
    query: &BuildQuery,
    context: Context,
    exports: &Exports,
    manner: &Manner,
    agents: &mut Agents,
) -> CliResult<BuildOutput> {
    let client = inv.client().await?;
    let engine = if inv.cli.program == "docker" { "Docker daemon" } else { "Barque engine" };
    let label = format!("Sending build context to {engine}");
    let mut headers = BuildHeaders { auth: auth::all(inv.cli.config()), extra: Vec::new() };
    if !manner.ours {
        return Ok(client.build(query, &headers, context.upload(Vec::new(), Vec::new(), label, manner.sink)).await?);
    }
    let nearby = nearby::shares_files(client.host());
    let variable = |name: &str| std::env::var(name).ok();
    let (mut extras, more) = super::build_extras::extras(inv, &context, exports, nearby, agents, &variable)?;
    extras.status = !manner.classic;
    extras.export = manner.files.is_some();
    let head = headers.announce(&extras)?;
    let mut context = context.without_dockerfile();
    if !extras.context_dir.is_empty() {
        context = context.in_place();
    }
    let sink = if manner.classic { manner.sink } else { Sink::Silent };
    Ok(client.build(query, &headers, context.upload(head, more, label, sink)).await?)
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
fn write_metadata(inv: &Invocation<'_>, id: &str, outputs: &[Output]) -> CliResult<()> {
    let path = inv.flags.text("metadata-file");
    if path.is_empty() {
        return Ok(());
    }
    let mut document = serde_json::Map::new();
    if !id.is_empty() {
        document.insert("containerimage.config.digest".into(), id.into());
        document.insert("containerimage.digest".into(), id.into());
    }
    let mut names: Vec<String> = Vec::new();
    let tags = inv.flags.all("tag").into_iter().filter(|_| outputs.is_empty());
    for name in tags.chain(outputs.iter().flat_map(Output::names).map(String::as_str)) {
        let name = super::reference(name)?.with_default_tag().to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if !names.is_empty() {
        document.insert("image.name".into(), names.join(",").into());
    }
    let text = crate::output::json::indent(&serde_json::Value::from(document).to_string(), "", "  ");
    std::fs::write(path, text + "\n").map_err(|e| path_error("open", path, &e))
}
