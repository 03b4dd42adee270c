//! `network …`.

mod ipam;

use barque_api::container::PruneQuery;
use barque_api::network::{
    ConfigReference, EndpointIpamConfig, EndpointSettings, Network, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, NetworkInspectQuery, NetworkListQuery,
};

use super::inspect::inspect_each;
use super::prune as pruning;
use crate::cli::Invocation;
use crate::error::{CliResult, Failure};
use crate::natural;
use crate::opts::{self, filter};
use crate::output::listing;
use crate::output::rows::misc;

fn owned(list: Vec<String>) -> Option<Vec<String>> {
    if list.is_empty() { None } else { Some(list) }
}

pub(crate) async fn create(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let given = |name: &str| flags.given(name).then(|| flags.is(name));
    let from = flags.text("config-from");
    let request = NetworkCreateRequest {
        // Engines before 1.44 make a second network of the same name without it.
        check_duplicate: !inv.client().await?.version_used().await?.at_least(44),
        name: inv.operand(0).to_owned(),
        driver: flags.get("driver").unwrap_or("bridge").to_owned(),
        scope: flags.text("scope").to_owned(),
        internal: flags.is("internal"),
        attachable: flags.is("attachable"),
        ingress: flags.is("ingress"),
        config_only: flags.is("config-only"),
        config_from: (!from.is_empty()).then(|| ConfigReference { network: from.to_owned() }),
        enable_ipv4: given("ipv4"),
        enable_ipv6: given("ipv6"),
        ipam: Some(ipam::lower(flags)?),
        options: Some(opts::map(flags.all("opt"))),
        labels: Some(opts::map(flags.all("label"))),
    };
    let reply = inv.client().await?.network_create(&request).await?;
    if !reply.warning.is_empty() {
        inv.cli.err(&format!("WARNING: {}", reply.warning));
    }
    inv.cli.line(&reply.id)?;
    Ok(0)
}

pub(crate) async fn connect(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let driver_opts: Result<std::collections::BTreeMap<String, String>, String> = flags
        .strings("driver-opt")
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
            _ => Err("invalid key/value pair format in driver options".to_owned()),
        })
        .collect();
    let driver_opts = driver_opts?;
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: flags.text("ip").to_owned(),
            ipv6_address: flags.text("ip6").to_owned(),
            link_local_ips: owned(flags.strings("link-local-ip")),
        }),
        links: owned(flags.all("link").into_iter().map(str::to_owned).collect()),
        aliases: owned(flags.strings("alias")),
        driver_opts: if driver_opts.is_empty() { None } else { Some(driver_opts) },
        gw_priority: flags.int("gw-priority").unwrap_or(0),
        ..EndpointSettings::default()
    };
    let request = NetworkConnectRequest { container: inv.operand(1).to_owned(), endpoint_config: Some(endpoint) };
    inv.client().await?.network_connect(inv.operand(0), &request).await?;
    Ok(0)
}

pub(crate) async fn disconnect(inv: &Invocation<'_>) -> CliResult<u8> {
    let request = NetworkDisconnectRequest { container: inv.operand(1).to_owned(), force: inv.flags.is("force") };
    inv.client().await?.network_disconnect(inv.operand(0), &request).await?;
    Ok(0)
}

pub(crate) async fn ls(inv: &Invocation<'_>) -> CliResult<u8> {
    let flags = &inv.flags;
    let query = NetworkListQuery { filters: filter::collect(flags.all("filter")) };
    let mut found = inv.client().await?.network_list(&query).await?;
    found.sort_by(|a, b| natural::compare(&a.name, &b.name));
    let quiet = flags.is("quiet");
    let source = listing::choose(flags.text("format"), Some(inv.cli.config().text("networksFormat")), quiet);
    let trunc = !flags.is("no-trunc");
    let rows: Vec<_> = found.iter().map(|n| misc::network_row(n, trunc)).collect();
    inv.cli.out(&listing::render(misc::network_format(source, quiet), misc::NETWORK_TITLES, &rows)?)?;
    Ok(0)
}

pub(crate) async fn inspect(inv: &Invocation<'_>) -> CliResult<u8> {
    let query = NetworkInspectQuery { verbose: inv.flags.is("verbose"), ..NetworkInspectQuery::default() }.encode();
    inspect_each::<Network>(inv, |name| (format!("/networks/{name}"), query.clone())).await
}

pub(crate) async fn rm(inv: &Invocation<'_>) -> CliResult<u8> {
    let client = inv.client().await?;
    let mut failed = false;
    for name in &inv.operands {
        match client.network_remove(name).await {
            Ok(()) => inv.cli.line(name)?,
            Err(e) if inv.flags.is("force") && e.is_not_found() => {}
            Err(e) => {
                let message = crate::hints::with_cure(inv.cli, &Failure::from(e).message).await;
                inv.cli.err(&message);
                failed = true;
            }
        }
    }
    if failed { Err(Failure::new("exit status 1")) } else { Ok(0) }
}

pub(crate) async fn prune(inv: &Invocation<'_>) -> CliResult<u8> {
    let filters = pruning::filters(inv);
    if inv.flags.is("dry-run") {
        let lines = unused(inv, &filters).await?;
        return pruning::dry_run(inv, "Would delete networks:", &lines, None);
    }
    let question = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure \
                    you want to continue?";
    if !pruning::confirm(inv, question) {
        return Ok(0);
    }
    let reply = inv.client().await?.network_prune(&PruneQuery { filters, ..PruneQuery::default() }).await?;
    let deleted = reply.networks_deleted.unwrap_or_default();
    if !deleted.is_empty() {
        inv.cli.line(&format!("Deleted Networks:\n{}\n", deleted.join("\n")))?;
    }
    Ok(0)
}

/// Networks that a prune would remove, one line each.
pub(crate) async fn unused(inv: &Invocation<'_>, filters: &barque_api::Filters) -> CliResult<Vec<String>> {
    let mut wanted = barque_api::Filters::new().with("dangling", "true").with("type", "custom");
    for value in filters.get("label") {
        wanted.add("label", value);
    }
    let found = inv.client().await?.network_list(&NetworkListQuery { filters: wanted }).await?;
    let mut lines = Vec::new();
    for network in found {
        let labels = network.labels.clone().unwrap_or_default();
        let labels_match = !filters.contains("label!") || !filters.match_labels("label!", &labels);
        if labels_match && pruning::is_old_enough(filters, pruning::seconds(&network.created))? {
            lines.push(network.name);
        }
    }
    Ok(lines)
}
