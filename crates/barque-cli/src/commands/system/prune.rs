//! `system prune`.

use barque_api::build::BuildPruneQuery;
use barque_api::container::PruneQuery;

use crate::cli::Invocation;
use crate::commands::prune::{self as pruning, Kind};
use crate::commands::{builder, container, image, network, volume};
use crate::error::{CliResult, Failure};

pub(crate) async fn prune(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let (all, volumes) = (flags.is("all"), flags.is("volumes"));
    let filters = pruning::filters(inv);
    if volumes && filters.contains("until") {
        return Err(Failure::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    if flags.is("dry-run") {
        return dry_run(inv, &filters, all, volumes).await;
    }
    if !pruning::confirm(inv, &question(&filters, all, volumes)) {
        return Ok(0);
    }
    let client = inv.client().await?;
    let query = PruneQuery { filters: filters.clone(), ..PruneQuery::default() };
    let mut reclaimed = 0;
    let print = |title: &str, lines: &[String]| match lines {
        [] => Ok(()),
        lines => inv.cli.line(&format!("{title}\n{}\n", lines.join("\n"))),
    };
    let reply = client.container_prune(&query).await?;
    reclaimed += reply.space_reclaimed;
    print("Deleted Containers:", &reply.containers_deleted.unwrap_or_default())?;
    print("Deleted Networks:", &client.network_prune(&query).await?.networks_deleted.unwrap_or_default())?;
    if volumes {
        let reply = client.volume_prune(&query).await?;
        reclaimed += reply.space_reclaimed;
        print("Deleted Volumes:", &reply.volumes_deleted.unwrap_or_default())?;
    }
    let mut wanted = filters.clone();
    wanted.add("dangling", (!all).to_string());
    let reply = client.image_prune(&PruneQuery { filters: wanted, ..PruneQuery::default() }).await?;
    reclaimed += reply.space_reclaimed;
    let lines = reply.images_deleted.unwrap_or_default().into_iter().map(|one| match one.untagged.as_str() {
        "" => format!("deleted: {}", one.deleted),
        name => format!("untagged: {name}"),
    });
    print("Deleted Images:", &lines.collect::<Vec<_>>())?;
    let reply = client.build_prune(&BuildPruneQuery { all, filters, ..BuildPruneQuery::default() }).await?;
    reclaimed += reply.space_reclaimed;
    print("Deleted build cache objects:", &reply.caches_deleted.unwrap_or_default())?;
    inv.cli.line(&format!("Total reclaimed space: {}", barque_model::size::human(reclaimed)))?;
    Ok(0)
}

fn question(filters: &barque_api::Filters, all: bool, volumes: bool) -> String {
    let mut items = vec!["all stopped containers", "all networks not used by at least one container"];
    if volumes {
        items.push("all anonymous volumes not used by at least one container");
    }
    items.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    items.push(if all { "all build cache" } else { "unused build cache" });
    let list = |items: &[&str]| items.iter().map(|i| format!("\n  - {i}")).collect::<String>();
    let mut text = format!("WARNING! This will remove:{}\n", list(&items));
    let mut shown: Vec<String> = Vec::new();
    for key in ["label", "label!", "until"] {
        shown.extend(filters.get(key).map(|value| format!("{key}={value}")));
    }
    shown.sort_by(|a, b| crate::natural::compare(a, b));
    if !shown.is_empty() {
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        text.push_str(&format!("\n  Items to be pruned will be filtered with:{}\n", list(&shown)));
    }
    text + "\nAre you sure you want to continue?"
}

async fn dry_run(inv: &Invocation<'_>, filters: &barque_api::Filters, all: bool, volumes: bool) -> CliResult<u8> {
    // What they alone use goes with them.
    let gone = container::stopped(inv, filters).await?;
    let mut freed = pruning::would_free(inv, Kind::Containers, filters, &[]).await?;
    let mut parts = vec![
        ("Would delete containers:", gone.iter().map(container::line).collect()),
        ("Would delete networks:", network::unused(inv, filters).await?),
    ];
    let add = |sum: Option<u64>, more: Option<u64>| Some(sum? + more?);
    if volumes {
        parts.push(("Would delete volumes:", volume::unused(inv, filters, true, &gone).await?));
        freed = add(freed, pruning::would_free(inv, Kind::Volumes, filters, &gone).await?);
    }
    let images = image::dangling(inv, all, filters, &gone).await?;
    parts.push(("Would delete images:", images.iter().map(image::line).collect()));
    let mut wanted = filters.clone();
    wanted.add("dangling", (!all).to_string());
    freed = add(freed, pruning::would_free(inv, Kind::Images, &wanted, &gone).await?);
    let without = gone.into_iter().map(|c| c.id).chain(images.into_iter().map(|i| i.id)).collect();
    let query = BuildPruneQuery { all, filters: filters.clone(), without, ..BuildPruneQuery::default() };
    let (records, more) = builder::unused(inv, query).await?;
    parts.push(("Would delete build cache objects:", records));
    inv.cli.line(&preview(&parts, add(freed, more)))?;
    Ok(0)
}

/// The parts that are not empty, each under its title.
fn preview(parts: &[(&str, Vec<String>)], freed: Option<u64>) -> String {
    let full = parts.iter().filter(|(_, lines)| !lines.is_empty());
    let full: Vec<String> = full.map(|(title, lines)| format!("{title}\n{}", lines.join("\n"))).collect();
    if full.is_empty() { pruning::NOTHING.to_owned() } else { full.join("\n\n") + &pruning::total(freed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_that_finds_nothing_says_so() {
        assert_eq!(
            preview(&[("Would delete containers:", vec![]), ("Would delete images:", vec![])], Some(0)),
            "Nothing to delete."
        );
        let some = [("A:", vec!["1".to_owned(), "2".to_owned()]), ("B:", vec![]), ("C:", vec!["3".to_owned()])];
        assert_eq!(preview(&some, None), "A:\n1\n2\n\nC:\n3");
        assert_eq!(preview(&some, Some(2000)), "A:\n1\n2\n\nC:\n3\n\nWould free: 2kB");
    }
}
