//! `run` and `create`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use barque_api::container::{AttachQuery, ContainerCreateQuery, ContainerCreateResponse, StartQuery};
use barque_api::image::ImageCreateQuery;
use barque_client::Client;
use barque_model::Reference;

use super::api_socket;
use super::attach::{detach_keys, with_signals};
use super::start::{status, wait_for_end, watch_window};
use crate::auth;
use crate::cli::Invocation;
use crate::error::{CliResult, Failure, path_error};
use crate::lower::{Inputs, Launch, launch};
use crate::output::progress;
use crate::reference;
use crate::term::hijack::{End, Plan, stream};
use crate::term::signals::Caught;
use crate::term::{self};

pub(crate) async fn create(inv: &Invocation<'_>) -> CliResult<u8> {
    let launch = lower(inv).map_err(|e| with_help(inv, Failure::new(e).code(125)))?;
    let id = make(inv, launch).await?;
    inv.cli.line(&id)?;
    Ok(0)
}

pub(crate) async fn run(inv: &Invocation<'_>) -> CliResult<u8> {
    let mut launch = lower(inv).map_err(|e| with_help(inv, Failure::new(e).code(125)))?;
    let detach = inv.flags.is("detach");
    let config = &mut launch.request.config;
    if detach {
        if inv.flags.given("attach") {
            return Err(Failure::new("conflicting options: cannot specify both --attach and --detach"));
        }
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    } else {
        term::check_tty(config.attach_stdin, config.tty)?;
    }
    let wanted = Wanted {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        tty: config.tty,
        removed: inv.flags.is("rm"),
    };
    let id = make(inv, launch).await.map_err(|f| status_failure(inv, f))?;
    if wanted.stdin || wanted.stdout || wanted.stderr {
        return run_attached(inv, &id, wanted).await;
    }
    let client = inv.client().await?;
    // The id is known now; whoever reads it may act on it.
    inv.cli.line(&id)?;
    client.container_start(&id, &StartQuery::default()).await.map_err(|e| status_failure(inv, e.into()))?;
    Ok(0)
}

/// Which streams to copy, and how the container ends.
#[derive(Clone, Copy)]
struct Wanted {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
    removed: bool,
}

async fn run_attached(inv: &Invocation<'_>, id: &str, wanted: Wanted) -> CliResult<u8> {
    let client = inv.client().await?;
    let keys = detach_keys(inv);
    let query = AttachQuery {
        detach_keys: keys.clone(),
        stream: true,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        ..AttachQuery::default()
    };
    let caught = inv.flags.on("sig-proxy", true).then(|| Caught::all(inv.flags.is("tty")));
    let hijacked = client.container_attach(id, &query).await?;
    let wait = wait_for_end(client, id, wanted.removed).await?;
    if let Err(e) = client.container_start(id, &StartQuery::default()).await {
        drop(hijacked);
        if wanted.removed {
            // What --rm promises holds here too.
            let _ = wait.finish().await;
        }
        return Err(status_failure(inv, e.into()));
    }
    if wanted.tty && term::is_terminal_out() {
        watch_window(client, id, false);
    }
    let plan = Plan {
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
        tty: wanted.tty,
        detach_keys: &keys,
        proxied: caught.is_some(),
    };
    let copy = async {
        match stream(hijacked, plan).await? {
            End::Detached => Ok(0),
            End::Signal(number) => Err(Failure::silent(128u8.saturating_add(number))),
            End::Output => status(wait).await,
        }
    };
    with_signals(client, id, caught, copy).await
}

fn lower(inv: &Invocation<'_>) -> Result<Launch, String> {
    match inv.flags.text("pull") {
        "" | "always" | "missing" | "never" => {}
        other => {
            return Err(format!("invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""));
        }
    }
    let mut inputs = Inputs::real();
    if let Ok(target) = inv.cli.target() {
        inputs.proxies = inv.cli.config().proxies(&target.address);
    }
    launch(&inv.flags, &inv.operands, &inputs)
}

/// `docker: …`, and where to look.
fn with_help(inv: &Invocation<'_>, failure: Failure) -> Failure {
    let (program, name) = (&inv.cli.program, inv.cmd.name);
    let message = format!("{program}: {}\n\nRun '{program} {name} --help' for more information", failure.message);
    Failure { message, ..failure }
}

/// 127 for a program that is not there, 126 for one that cannot be run, 125 for all else.
fn status_failure(inv: &Invocation<'_>, failure: Failure) -> Failure {
    if failure.message.is_empty() {
        return failure;
    }
    let says = |text: &str| failure.message.contains(text);
    let code = if says("executable file not found") || says("no such file or directory") {
        127
    } else if says("permission denied") || says("is a directory") {
        126
    } else {
        125
    };
    with_help(inv, failure.code(code))
}

/// Creates the container, pulling its image if need be; gives its id.
async fn make(inv: &Invocation<'_>, mut launch: Launch) -> CliResult<String> {
    let flags = &inv.flags;
    let cid_file = CidFile::open(flags.text("cidfile"))?;
    let named: Option<Reference> = match is_id(&launch.image) {
        true => None,
        false => Some(reference::parse(&launch.image)?.with_default_tag()),
    };
    let pull = flags.get("pull").unwrap_or("missing");
    let platform = inv.cli.platform(flags);
    if !platform.is_empty() {
        let known = platform.parse::<barque_model::Platform>();
        known.map_err(|e| Failure::new(format!("error parsing specified platform: {e}")))?;
    }
    let client = inv.client().await?;
    if client.version_used().await?.at_least(44) {
        // The endpoint has it; here it would only be warned of.
        launch.request.config.mac_address.clear();
    }
    let logins = match flags.is("use-api-socket") {
        true => api_socket::mount(inv, &mut launch.request)?,
        false => None,
    };
    if pull == "always" {
        pull_image(inv, client, &launch.image, &platform).await?;
    }
    let (height, width) = term::size_out();
    if let Some(host) = &mut launch.request.host_config {
        host.console_size = [height, width];
    }
    let query = ContainerCreateQuery { name: flags.text("name").to_owned(), platform: platform.clone() };
    let created = match client.container_create(&query, &launch.request).await {
        Err(e) if e.is_not_found() && pull == "missing" && is_missing_image(&e, named.as_ref()) => {
            if !flags.is("quiet")
                && let Some(named) = &named
            {
                inv.cli.err(&format!("Unable to find image '{}' locally", named.familiar()));
            }
            pull_image(inv, client, &launch.image, &platform).await?;
            client.container_create(&query, &launch.request).await?
        }
        other => other?,
    };
    warn(inv, &launch, &created);
    cid_file.write(&created.id)?;
    if let Some(logins) = logins {
        api_socket::copy(client, &created.id, &logins).await?;
    }
    Ok(created.id)
}

/// An id is never pulled.
fn is_id(image: &str) -> bool {
    let digits = image.strip_prefix("sha256:").unwrap_or(image);
    digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The engine says 404 for networks and containers too.
fn is_missing_image(error: &barque_client::Error, named: Option<&Reference>) -> bool {
    named.is_some() && error.message().to_lowercase().contains("image")
}

fn warn(inv: &Invocation<'_>, launch: &Launch, created: &ContainerCreateResponse) {
    for warning in &created.warnings {
        inv.cli.err(&format!("WARNING: {warning}"));
    }
    let servers = launch.request.host_config.as_ref().and_then(|h| h.dns.as_deref()).unwrap_or_default();
    let loopback = servers.iter().find(|s| s.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()));
    if let Some(server) = loopback {
        inv.cli.err(&format!("WARNING: Localhost DNS ({server}) may fail in containers."));
    }
}

/// Pulls with progress on standard error: standard output is the container's.
async fn pull_image(inv: &Invocation<'_>, client: &Client, image: &str, platform: &str) -> CliResult<()> {
    let reference = reference::parse(image)?.with_default_tag();
    let auth = auth::for_image(inv.cli.config(), &reference);
    let query = ImageCreateQuery {
        from_image: reference.name(),
        tag: match reference.digest() {
            Some(digest) => digest.to_string(),
            None => reference.tag().unwrap_or("latest").to_owned(),
        },
        platform: platform.to_owned(),
        ..ImageCreateQuery::default()
    };
    let stream = client.image_pull(&query, auth.as_ref()).await?;
    let sink = if inv.flags.is("quiet") { progress::Sink::Silent } else { progress::Sink::Stderr };
    progress::show(stream, sink, |_| Ok(())).await
}

/// The file for the container's id: made before the container, removed if there is none.
struct CidFile {
    path: PathBuf,
    file: Option<std::fs::File>,
}

impl CidFile {
    fn open(path: &str) -> CliResult<CidFile> {
        if path.is_empty() {
            return Ok(CidFile { path: PathBuf::new(), file: None });
        }
        if Path::new(path).exists() {
            return Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        let file = std::fs::File::create(path)
            .map_err(|e| path_error("open", path, &e).prefixed("failed to create the container ID file: "))?;
        Ok(CidFile { path: path.into(), file: Some(file) })
    }

    fn write(mut self, id: &str) -> CliResult<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.write_all(id.as_bytes())
            .map_err(|e| Failure::from(e).prefixed("failed to write the container ID to the file: "))
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
