//! `images`, `history`, `inspect`, `tag`, `rmi`, `prune`.

use barque_api::container::{ContainerSummary, PruneQuery};
use barque_api::image::{ImageInspect, ImageInspectQuery, ImageListQuery, ImageRemoveQuery, ImageSummary};

use super::{platform_json, reference};
use crate::cli::Invocation;
use crate::commands::inspect::inspect_each;
use crate::commands::{Faults, prune as pruning};
use crate::error::{CliResult, Failure};
use crate::opts::filter;
use crate::output::listing;
use crate::output::rows::images::{self, View};

pub(crate) async fn ls(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    if flags.is("tree") {
        for other in ["quiet", "no-trunc", "digests"] {
            if flags.is(other) {
                return Err(Failure::new(format!("--{other} is not yet supported with --tree")));
            }
        }
        if flags.given("format") {
            return Err(Failure::new("--format is not yet supported with --tree"));
        }
    }
    let mut filters = filter::collect(flags.all("filter"));
    let name = inv.operand(0);
    if !name.is_empty() {
        filters.add("reference", name);
    }
    let (quiet, digests) = (flags.is("quiet"), flags.is("digests"));
    let query =
        ImageListQuery { all: flags.is("all"), filters, manifests: flags.is("tree"), ..ImageListQuery::default() };
    let mut found = inv.client().await?.image_list(&query).await?;
    // The engine's order is not promised; the newest first is what is expected.
    found.sort_by_key(|image| std::cmp::Reverse(image.created));
    if flags.is("tree") {
        return super::tree::show(inv, &found).await;
    }
    let source = listing::choose(flags.text("format"), Some(inv.cli.config().text("imagesFormat")), quiet);
    let format = images::format(source, quiet, digests);
    let view = View { trunc: !flags.is("no-trunc"), digests, needs_digest: digests || format.contains("{{.Digest}}") };
    let rows: Vec<_> = found.iter().flat_map(|image| images::rows(image, view)).collect();
    inv.cli.out(&listing::render(&format, images::TITLES, &rows)?)?;
    if found.is_empty() && inv.cmd.name == "images" && is_subcommand(name) {
        inv.cli
            .err(&format!("\nNo images found matching {name:?}: did you mean \"{} image {name}\"?", inv.cli.program));
    }
    Ok(0)
}

fn is_subcommand(name: &str) -> bool {
    crate::tables::ROOT.find("image").is_some_and(|group| group.find(name).is_some())
}

pub(crate) async fn history(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let query = ImageInspectQuery { platform: platform_json(flags.text("platform"))?, ..ImageInspectQuery::default() };
    let items = inv.client().await?.image_history(inv.operand(0), &query).await?;
    let human = flags.on("human", true);
    let source = listing::choose(flags.text("format"), None, false);
    let format = images::history_format(source, flags.is("quiet"), human);
    let trunc = !flags.is("no-trunc");
    let rows: Vec<_> = items.iter().map(|item| images::history_row(item, trunc, human)).collect();
    inv.cli.out(&listing::render(format, images::HISTORY_TITLES, &rows)?)?;
    Ok(0)
}

pub(crate) async fn inspect(inv: &Invocation<'_>) -> CliResult<u8> {
    let query =
        ImageInspectQuery { platform: platform_json(inv.flags.text("platform"))?, ..ImageInspectQuery::default() };
    let query = query.encode();
    inspect_each::<ImageInspect>(inv, |name| (format!("/images/{name}/json"), query.clone())).await
}

pub(crate) async fn tag(inv: &Invocation<'_>) -> CliResult<u8> {
    let target = reference(inv.operand(1)).map_err(|f| {
        let prefix = format!("Error parsing reference: {:?} is not a valid repository/tag: ", inv.operand(1));
        f.prefixed(&prefix)
    })?;
    if target.digest().is_some() {
        return Err(Failure::new("refusing to create a tag with a digest reference"));
    }
    let target = target.with_default_tag();
    let tag = target.tag().unwrap_or("latest");
    inv.client().await?.image_tag(inv.operand(0), &target.familiar_name(), tag).await?;
    Ok(0)
}

pub(crate) async fn rm(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let force = flags.is("force");
    let platforms: CliResult<Vec<String>> = flags.strings("platform").iter().map(|p| platform_json(p)).collect();
    let query = ImageRemoveQuery { force, noprune: flags.is("no-prune"), platforms: platforms? };
    let client = inv.client().await?;
    let (mut faults, mut fatal) = (Faults::default(), false);
    for name in &inv.operands {
        match client.image_remove(name, &query).await {
            Ok(done) => {
                for one in done {
                    let line = match one.deleted.as_str() {
                        "" => format!("Untagged: {}", one.untagged),
                        deleted => format!("Deleted: {deleted}"),
                    };
                    inv.cli.line(&line)?;
                }
            }
            Err(e) => {
                fatal |= !e.is_not_found();
                faults.add(e.into());
            }
        }
    }
    match faults.finish() {
        // With --force, what is gone is as wished; it is said all the same.
        Err(failure) if force && !fatal => {
            inv.cli.err(&failure.message);
            Ok(0)
        }
        result => result,
    }
}

pub(crate) async fn prune(inv: &Invocation<'_>) -> CliResult<u8> {
    let all = inv.flags.is("all");
    let mut filters = pruning::filters(inv);
    filters.remove("dangling");
    filters.add("dangling", (!all).to_string());
    if inv.flags.is("dry-run") {
        let going = dangling(inv, all, &filters, &[]).await?;
        let lines: Vec<String> = going.iter().map(line).collect();
        let freed = pruning::would_free(inv, pruning::Kind::Images, &filters, &[]).await?;
        return pruning::dry_run(inv, "Would delete images:", &lines, freed);
    }
    let what = if all { "all images without at least one container associated to them" } else { "all dangling images" };
    if !pruning::confirm(inv, &format!("WARNING! This will remove {what}.\nAre you sure you want to continue?")) {
        return Ok(0);
    }
    let reply = inv.client().await?.image_prune(&PruneQuery { filters, ..PruneQuery::default() }).await?;
    let lines: Vec<String> = reply
        .images_deleted
        .unwrap_or_default()
        .into_iter()
        .map(|one| {
            if one.untagged.is_empty() {
                format!("deleted: {}", one.deleted)
            } else {
                format!("untagged: {}", one.untagged)
            }
        })
        .collect();
    pruning::report(inv, "Deleted Images:", &lines, reply.space_reclaimed)
}

/// An image in the list of what a prune would remove.
pub(crate) fn line(image: &ImageSummary) -> String {
    let name = image.repo_tags.first().map_or("<none>", String::as_str);
    format!("{} ({name}, {})", image.id, pruning::size(image.size))
}

/// Images that a prune would remove when the containers `gone` are removed already.
pub(crate) async fn dangling(
    inv: &Invocation<'_>,
    all: bool,
    filters: &barque_api::Filters,
    gone: &[ContainerSummary],
) -> CliResult<Vec<ImageSummary>> {
    let client = inv.client().await?;
    let mut wanted = filters.clone();
    wanted.remove("until");
    wanted.remove("label!");
    wanted.remove("dangling");
    if !all {
        wanted.add("dangling", "true");
    }
    let found = client.image_list(&ImageListQuery { filters: wanted, ..ImageListQuery::default() }).await?;
    let remaining = crate::commands::container::remaining(inv, gone).await?;
    let used: std::collections::HashSet<String> = remaining.into_iter().map(|c| c.image_id).collect();
    let mut going = Vec::new();
    for image in found.into_iter().filter(|image| !used.contains(&image.id)) {
        let labels = image.labels.clone().unwrap_or_default();
        let labels_match = !filters.contains("label!") || !filters.match_labels("label!", &labels);
        if labels_match && pruning::is_old_enough(filters, image.created)? {
            going.push(image);
        }
    }
    Ok(going)
}
