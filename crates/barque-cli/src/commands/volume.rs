//! `volume …`.

use barque_api::container::{ContainerSummary, PruneQuery};
use barque_api::volume::{Volume, VolumeCreateRequest, VolumeListQuery};
use barque_client::Upload;

use super::container::stdin;
use super::inspect::inspect_with;
use super::{Faults, prune as pruning};
use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::natural;
use crate::opts::{self, filter};
use crate::output::inspect::Object;
use crate::output::listing;
use crate::output::live::Live;
use crate::output::rows::misc;
use crate::{save, term};

pub(crate) async fn create(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let (operand, flag) = (inv.operand(0), flags.text("name"));
    if !operand.is_empty() && !flag.is_empty() {
        return Err(Failure::new(
            "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
        ));
    }
    let cluster = ["group", "scope", "sharing", "availability", "type", "limit-bytes", "required-bytes", "secret"];
    if cluster.iter().any(|name| flags.given(name)) {
        return Err(Failure::unbuilt("cluster volumes"));
    }
    let request = VolumeCreateRequest {
        name: if operand.is_empty() { flag.to_owned() } else { operand.to_owned() },
        driver: flags.get("driver").unwrap_or("local").to_owned(),
        driver_opts: Some(opts::map(flags.all("opt"))),
        labels: Some(opts::map(flags.all("label"))),
        ..VolumeCreateRequest::default()
    };
    let volume = inv.client().await?.volume_create(&request).await?;
    inv.cli.line(&volume.name)?;
    Ok(0)
}

pub(crate) async fn ls(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    if flags.is("cluster") {
        return Err(Failure::unbuilt("cluster volumes"));
    }
    let query = VolumeListQuery { filters: filter::collect(flags.all("filter")) };
    let reply = inv.client().await?.volume_list(&query).await?;
    let mut found = reply.volumes;
    found.sort_by(|a, b| natural::compare(&a.name, &b.name));
    let quiet = flags.is("quiet");
    let source = listing::choose(flags.text("format"), Some(inv.cli.config().text("volumesFormat")), quiet);
    let rows: Vec<_> = found.iter().map(misc::volume_row).collect();
    inv.cli.out(&listing::render(misc::volume_format(source, quiet), misc::VOLUME_TITLES, &rows)?)?;
    Ok(0)
}

pub(crate) async fn inspect(inv: &Invocation<'_>) -> CliResult<u8> {
    let read = |raw| Object::read_as::<Volume>(raw, "volume.Volume");
    inspect_with(inv, |name| (format!("/volumes/{name}"), String::new()), read).await
}

pub(crate) async fn rm(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    let mut faults = Faults::default();
    for name in &inv.operands {
        match client.volume_remove(name, inv.flags.is("force")).await {
            Ok(()) => inv.cli.line(name)?,
            Err(e) => faults.add(e.into()),
        }
    }
    faults.finish()
}

pub(crate) async fn prune(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    let mut filters = pruning::filters(inv);
    let all = inv.flags.is("all");
    if all {
        if filters.contains("all") {
            return Err(Failure::new("conflicting options: cannot specify both --all and --filter all=1"));
        }
        filters.add("all", "true");
    }
    // Before 1.42, the engine knows no difference.
    let anonymous_only = !all && client.version_used().await?.at_least(42);
    if inv.flags.is("dry-run") {
        let lines = unused(inv, &filters, anonymous_only, &[]).await?;
        let freed = pruning::would_free(inv, pruning::Kind::Volumes, &filters, &[]).await?;
        return pruning::dry_run(inv, "Would delete volumes:", &lines, freed);
    }
    let what = if anonymous_only { "anonymous local volumes" } else { "all local volumes" };
    let question = format!(
        "WARNING! This will remove {what} not used by at least one container.\nAre you sure you want to continue?"
    );
    if !pruning::confirm(inv, &question) {
        return Ok(0);
    }
    let reply = client.volume_prune(&PruneQuery { filters, ..PruneQuery::default() }).await?;
    let deleted = reply.volumes_deleted.unwrap_or_default();
    pruning::report(inv, "Deleted Volumes:", &deleted, reply.space_reclaimed)
}

/// The label of volumes that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// Volumes that a prune would remove when the containers `gone` are removed already, one line each.
pub(crate) async fn unused(
    inv: &Invocation<'_>,
    filters: &barque_api::Filters,
    anonymous_only: bool,
    gone: &[ContainerSummary],
) -> CliResult<Vec<String>> {
    let wanted = barque_api::Filters::new().with("dangling", "true");
    let mut volumes = inv.client().await?.volume_list(&VolumeListQuery { filters: wanted }).await?.volumes;
    if !gone.is_empty() {
        let remaining = super::container::remaining(inv, gone).await?;
        let uses = |list: &[ContainerSummary], name: &str| list.iter().any(|c| c.mounts.iter().any(|m| m.name == name));
        let all = inv.client().await?.volume_list(&VolumeListQuery::default()).await?.volumes;
        volumes.extend(all.into_iter().filter(|v| uses(gone, &v.name) && !uses(&remaining, &v.name)));
    }
    let wanted = volumes.into_iter().filter(|volume| {
        let labels = volume.labels.clone().unwrap_or_default();
        let matches = |key: &str| filters.match_labels(key, &labels);
        (!anonymous_only || labels.contains_key(ANONYMOUS))
            && volume.driver == "local"
            && (!filters.contains("label") || matches("label"))
            && (!filters.contains("label!") || !matches("label!"))
    });
    Ok(wanted.map(|volume| volume.name).collect())
}

pub(crate) async fn update(_: &Invocation<'_>) -> CliResult<u8> {
    Err(Failure::unbuilt("volume update (cluster volumes)"))
}

pub(crate) async fn export(inv: &Invocation<'_>) -> CliResult<u8> {
    let output = inv.flags.text("output");
    save::archive("export volume", output, async { Ok(inv.client().await?.volume_export(inv.operand(0)).await?) }).await
}

pub(crate) async fn import(inv: &Invocation<'_>) -> CliResult<u8> {
    let live = Live::new("Sending files to the volume", false);
    let content = match inv.operand(1) {
        "" | "-" if term::is_terminal_in() => {
            return Err(Failure::new("requested import from stdin, but stdin is a terminal"));
        }
        "" | "-" => Upload::reader(live.reader(stdin()?)),
        path => super::image::file(path, &live).await?,
    };
    inv.client().await?.volume_import(inv.operand(0), content).await?;
    Ok(0)
}

pub(crate) async fn clone(inv: &Invocation<'_>) -> CliResult<u8> {
    let live = Live::new("Copying the volume", false);
    inv.client().await?.volume_clone(inv.operand(0), inv.operand(1)).await?;
    drop(live);
    inv.cli.line(inv.operand(1))?;
    Ok(0)
}

pub(crate) async fn rename(inv: &Invocation<'_>) -> CliResult<u8> {
    inv.client().await?.volume_rename(inv.operand(0), inv.operand(1)).await?;
    Ok(0)
}
