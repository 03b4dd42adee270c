//! `cp`: files between a service's containers and this machine.

use std::io::Write as _;

use barque_client::Upload;
use barque_client::archive::copy::{absolute, local_source, parse_operand};
use barque_client::archive::cp::{self, Flags};
use bytes::Bytes;

use super::args::Cp;
use super::context::{Context, Failure, Outcome};
use super::session::Session;
use super::terminal;
use crate::plan::observed::Container;

/// Runs `cp`.
pub(super) async fn cp(cx: &Context, args: Cp) -> Outcome {
    let (source, target) = (args.source.as_str(), args.target.as_str());
    let session = Session::open(cx, "Copying").await?;
    match (parse_operand(source), parse_operand(target)) {
        ((Some(service), path), (None, _)) => out(cx, &session, &args, service, path).await?,
        ((None, "-"), (Some(service), path)) => archive_into(&session, &args, service, path).await?,
        ((None, _), (Some(service), path)) => into(cx, &session, &args, service, path).await?,
        ((Some(_), _), (Some(_), _)) => return Err(Failure::new("copying between services is not supported")),
        _ => return Err(Failure::new("must specify at least one container source").with_hint("write SERVICE:PATH")),
    }
    Ok(0)
}

fn flags(args: &Cp) -> Flags {
    Flags { follow_link: args.follow_link, owners: args.archive }
}

/// A path of this machine, made absolute from where the user is.
fn here(cx: &Context, path: &str) -> Result<String, Failure> {
    let typed = if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", cx.host.cwd.display()) };
    absolute(&typed).map_err(|e| Failure::new(format!("{path}: {e}")))
}

async fn out(cx: &Context, session: &Session, args: &Cp, service: &str, path: &str) -> Result<(), Failure> {
    let container = choose(session, service, args).await?.remove(0);
    let (client, local) = (session.engine.read().client(), args.target.as_str());
    if local == "-" {
        let mut content = cp::archive_of(client, &container.name, path, flags(args)).await?;
        let mut stdout = std::io::stdout();
        while let Some(piece) = content.next().await? {
            stdout.write_all(&piece).map_err(|e| Failure::new(e.to_string()))?;
        }
        return Ok(());
    }
    if !session.engine.is_dry_run() {
        let nobody = Box::new(|_| {});
        cp::from_container(client, &container.name, path, &here(cx, local)?, flags(args), nobody).await?;
    }
    barque_client::tell(&format!("{} {} copy {}:{path} to {local} Copied", prefix(cx), container.name, container.name));
    Ok(())
}

async fn into(cx: &Context, session: &Session, args: &Cp, service: &str, path: &str) -> Result<(), Failure> {
    let local = args.source.as_str();
    let from = here(cx, local)?;
    local_source(&from, args.follow_link).map_err(|e| Failure::new(e.to_string()))?;
    for container in choose(session, service, args).await? {
        if !session.engine.is_dry_run() {
            let client = session.engine.writer()?;
            cp::to_container(client, &container.name, &from, path, flags(args), Box::new(|_| {})).await?;
        }
        barque_client::tell(&format!(
            "{} {} copy {local} to {}:{path} Copied",
            prefix(cx),
            container.name,
            container.name
        ));
    }
    Ok(())
}

/// An archive from standard input; it is kept only if several containers want it.
async fn archive_into(session: &Session, args: &Cp, service: &str, path: &str) -> Result<(), Failure> {
    let containers = choose(session, service, args).await?;
    if session.engine.is_dry_run() {
        return Ok(());
    }
    let client = session.engine.writer()?;
    if let [container] = containers.as_slice() {
        return Ok(
            cp::archive_into(client, &container.name, path, flags(args), Upload::pieces(terminal::input())).await?
        );
    }
    let (mut input, mut archive) = (terminal::input(), Vec::new());
    while let Some(piece) = input.recv().await {
        archive.extend_from_slice(&piece);
    }
    let archive = Bytes::from(archive);
    for container in &containers {
        cp::archive_into(client, &container.name, path, flags(args), Upload::bytes(archive.clone())).await?;
    }
    Ok(())
}

/// What stands before each line of a dry run.
fn prefix(cx: &Context) -> &'static str {
    if cx.global.dry_run { crate::apply::progress::DRY_RUN } else { "" }
}

async fn choose(session: &Session, service: &str, args: &Cp) -> Result<Vec<Container>, Failure> {
    let found = session.containers(&[service.to_owned()], true, args.all).await?;
    let mut found: Vec<Container> = found.into_iter().filter(|c| args.index == 0 || c.number == args.index).collect();
    found.sort_by_key(|c| (c.oneoff, c.number));
    if found.is_empty() {
        return Err(Failure::new(format!("no container found for service {service:?}")));
    }
    Ok(found)
}
