//! `port`, `top`, `diff`, `export`, `commit`, `update`, `inspect`, `prune`.

use barque_api::container::{CommitQuery, ContainerInspect, ContainerListQuery, ContainerSummary, PruneQuery};

use crate::cli::Invocation;
use crate::commands::{Faults, inspect::inspect_each, prune};
use crate::error::{CliResult, Failure};
use crate::lower;
use crate::natural;
use crate::output::live::Live;
use crate::output::rows::containers::join_host;
use crate::output::rows::misc::change_letter;
use crate::output::tabwriter;
use crate::reference;
use crate::save;

pub(crate) async fn port(inv: &Invocation<'_>) -> CliResult<u8> {
    let name = inv.operand(0);
    let container = inv.client().await?.container_inspect(name, false).await?;
    let ports = container.network_settings.ports.unwrap_or_default();
    let wanted = inv.operand(1);
    let mut lines: Vec<String> = if wanted.is_empty() {
        let all = ports.iter().flat_map(|(port, bindings)| bindings.iter().flatten().map(move |b| (port, b)));
        all.map(|(port, b)| format!("{port} -> {}", join_host(&b.host_ip, &b.host_port))).collect()
    } else {
        let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
        if number.parse::<u16>().is_err() {
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            let why = if digits { "value out of range" } else { "invalid syntax" };
            return Err(Failure::new(format!(
                "Error: invalid port ({number}): strconv.ParseUint: parsing {number:?}: {why}"
            )));
        }
        let protocol = if protocol.is_empty() { "tcp" } else { protocol };
        let bindings = ports.get(&format!("{number}/{protocol}")).and_then(Option::as_deref).unwrap_or_default();
        if bindings.is_empty() {
            return Err(Failure::new(format!("Error: No public port '{wanted}' published for {name}")));
        }
        bindings.iter().map(|b| join_host(&b.host_ip, &b.host_port)).collect()
    };
    lines.sort_by(|a, b| natural::compare(a, b));
    if !lines.is_empty() {
        inv.cli.line(&lines.join("\n"))?;
    }
    Ok(0)
}

pub(crate) async fn top(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    let reply = client.container_top(inv.operand(0), &inv.operands[1..].join(" ")).await?;
    let mut text = reply.titles.join("\t") + "\n";
    for process in &reply.processes {
        text.push_str(&process.join("\t"));
        text.push('\n');
    }
    inv.cli.out(&tabwriter::align(&text, tabwriter::TOP))?;
    Ok(0)
}

pub(crate) async fn diff(inv: &Invocation<'_>) -> CliResult<u8> {
    if inv.operand(0).is_empty() {
        return Err(Failure::new("Container name cannot be empty"));
    }
    let changes = inv.client().await?.container_changes(inv.operand(0)).await?;
    let lines: String = changes.iter().map(|c| format!("{} {}\n", change_letter(c), c.path)).collect();
    inv.cli.out(&lines)?;
    Ok(0)
}

pub(crate) async fn export(inv: &Invocation<'_>) -> CliResult<u8> {
    let output = inv.flags.text("output");
    save::archive("export container", output, async { Ok(inv.client().await?.container_export(inv.operand(0)).await?) })
        .await
}

pub(crate) async fn commit(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let (repo, tag) = match inv.operand(1) {
        "" => (String::new(), String::new()),
        text => {
            let reference = reference::parse(text)?;
            if reference.digest().is_some() {
                return Err(Failure::new("refusing to create a tag with a digest reference"));
            }
            let reference = reference.with_default_tag();
            (reference.familiar_name(), reference.tag().unwrap_or_default().to_owned())
        }
    };
    let query = CommitQuery {
        container: inv.operand(0).to_owned(),
        repo,
        tag,
        comment: flags.text("message").to_owned(),
        author: flags.text("author").to_owned(),
        pause: Some(flags.on("pause", true)),
        changes: flags.all("change").into_iter().map(str::to_owned).collect(),
    };
    let live = Live::new("Committing", false);
    let reply = inv.client().await?.container_commit(&query, None).await;
    drop(live);
    let reply = reply?;
    inv.cli.line(&reply.id)?;
    Ok(0)
}

pub(crate) async fn update(inv: &Invocation<'_>) -> CliResult<u8> {
    let request = lower::update(&inv.flags)?;
    let client = inv.client().await?;
    let (mut faults, mut warnings) = (Faults::default(), Vec::new());
    for name in &inv.operands {
        match client.container_update(name, &request).await {
            Ok(reply) => {
                inv.cli.line(name)?;
                warnings.extend(reply.warnings.unwrap_or_default());
            }
            Err(e) => faults.add(e.into()),
        }
    }
    if !warnings.is_empty() {
        inv.cli.line(&warnings.join("\n"))?;
    }
    faults.finish()
}

pub(crate) async fn inspect(inv: &Invocation<'_>) -> CliResult<u8> {
    let query = if inv.flags.is("size") { "size=1" } else { "" };
    inspect_each::<ContainerInspect>(inv, |name| (format!("/containers/{name}/json"), query.to_owned())).await
}

pub(crate) async fn prune(inv: &Invocation<'_>) -> CliResult<u8> {
    let filters = prune::filters(inv);
    if inv.flags.is("dry-run") {
        let lines: Vec<String> = stopped(inv, &filters).await?.iter().map(line).collect();
        let freed = prune::would_free(inv, prune::Kind::Containers, &filters, &[]).await?;
        return prune::dry_run(inv, "Would delete containers:", &lines, freed);
    }
    let question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?";
    if !prune::confirm(inv, question) {
        return Ok(0);
    }
    let reply = inv.client().await?.container_prune(&PruneQuery { filters, ..PruneQuery::default() }).await?;
    let deleted = reply.containers_deleted.unwrap_or_default();
    prune::report(inv, "Deleted Containers:", &deleted, reply.space_reclaimed)
}

/// A container in the list of what a prune would remove.
pub(crate) fn line(container: &ContainerSummary) -> String {
    let name = container.names.first().map_or("", |n| n.trim_start_matches('/'));
    format!("{} ({name})", container.id)
}

/// The containers that are left when `gone` are removed.
pub(crate) async fn remaining(inv: &Invocation<'_>, gone: &[ContainerSummary]) -> CliResult<Vec<ContainerSummary>> {
    let query = ContainerListQuery { all: true, ..ContainerListQuery::default() };
    let mut found = inv.client().await?.container_list(&query).await?;
    found.retain(|container| !gone.iter().any(|g| g.id == container.id));
    Ok(found)
}

/// Stopped containers that a prune would remove.
pub(crate) async fn stopped(inv: &Invocation<'_>, filters: &barque_api::Filters) -> CliResult<Vec<ContainerSummary>> {
    let mut wanted = barque_api::Filters::new();
    for status in ["created", "exited", "dead"] {
        wanted.add("status", status);
    }
    for (key, values) in filters.iter().filter(|(key, _)| *key == "label") {
        values.iter().for_each(|value| wanted.add(key, value.as_str()));
    }
    let query = ContainerListQuery { all: true, filters: wanted, ..ContainerListQuery::default() };
    let found = inv.client().await?.container_list(&query).await?;
    let mut out = Vec::new();
    for container in found {
        let labels_match = !filters.contains("label!") || !filters.match_labels("label!", &container.labels);
        if labels_match && prune::is_old_enough(filters, container.created)? {
            out.push(container);
        }
    }
    Ok(out)
}
