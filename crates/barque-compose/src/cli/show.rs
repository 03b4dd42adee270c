//! `ps`, `ls`, `images`, `port`, `top`, `version`, `volumes`.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;
use serde_json::{Value as Json, json};

use super::args::{Images, Ls, Port, Ps, Services, Version, Volumes};
use super::context::{Context, Failure, Outcome};
use super::session::Session;
use super::table::{ellipsis, human_duration, table};
use super::template;
use crate::apply::engine::Engine;
use crate::plan::labels;
use crate::plan::observed::{Container, State};
use crate::plan::reconcile::short;

/// Runs `ps`.
pub(super) async fn ps(cx: &Context, args: Ps) -> Outcome {
    let session = Session::open(cx, "Running").await?;
    let mut statuses = args.status.clone();
    if let Some(filter) = &args.filter {
        match filter.split_once('=') {
            Some(("status", value)) => statuses.push(value.to_owned()),
            Some(("source", _)) => return Err(Failure::not_implemented("ps --filter source")),
            Some((key, _)) => return Err(Failure::new(format!("unknown filter {key}"))),
            None => return Err(Failure::new("arguments to --filter should be in form KEY=VAL")),
        }
    }
    let all = args.all || !statuses.is_empty();
    let mut found = session.containers(&args.services, all, args.all).await?;
    if !statuses.is_empty() {
        found
            .retain(|c| statuses.iter().any(|s| s == c.state.as_str() || (s == "stopped" && c.state == State::Exited)));
    }
    if let Some(project) = session.project.as_ref().filter(|_| !args.orphans) {
        found.retain(|c| project.services.contains_key(&c.service));
    }
    if args.quiet {
        cx.print(&found.iter().map(|c| format!("{}\n", c.id)).collect::<String>());
        return Ok(0);
    }
    if args.list_services {
        let services: BTreeSet<&str> = found.iter().map(|c| c.service.as_str()).collect();
        cx.print(&services.into_iter().map(|s| format!("{s}\n")).collect::<String>());
        return Ok(0);
    }
    let now = jiff::Timestamp::now().as_second();
    match args.format.as_str() {
        "table" | "" => {
            let header = ["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"];
            let rows: Vec<Vec<String>> = found.iter().map(|c| ps_row(c, now, !args.no_trunc)).collect();
            cx.print(&table(10, &header, &rows));
        }
        "json" => cx.print(&found.iter().map(|c| format!("{}\n", ps_json(c, now))).collect::<String>()),
        format => {
            let rows: Vec<Json> = found.iter().map(|c| template_row(c, now)).collect();
            cx.print(&template::render(&cx.host, format, &rows)?);
        }
    }
    Ok(0)
}

/// What templates know beyond `json`: `.Label "key"`.
fn template_row(container: &Container, now: i64) -> Json {
    let mut row = ps_json(container, now);
    row["Label"] = json!(container.summary.labels);
    row
}

fn ps_row(container: &Container, now: i64, short: bool) -> Vec<String> {
    let command = if short { ellipsis(&container.summary.command, 20) } else { container.summary.command.clone() };
    vec![
        container.name.clone(),
        container.image.clone(),
        format!("{command:?}"),
        container.service.clone(),
        format!("{} ago", human_duration(now - container.summary.created)),
        container.summary.status.clone(),
        ports(container),
    ]
}

fn ps_json(container: &Container, now: i64) -> Json {
    let summary = &container.summary;
    let publishers: Vec<Json> = summary
        .ports
        .iter()
        .map(|p| json!({"URL": p.ip, "TargetPort": p.private_port, "PublishedPort": p.public_port, "Protocol": p.kind}))
        .collect();
    let labels: Vec<String> = summary.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mounts: Vec<&str> =
        container.mounts.iter().map(|m| if m.name.is_empty() { m.source.as_str() } else { m.name.as_str() }).collect();
    let created = jiff::Timestamp::from_second(summary.created).unwrap_or_default();
    json!({
        "Command": format!("{:?}", ellipsis(&summary.command, 20)),
        "CreatedAt": created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        "ExitCode": container.exit_code.unwrap_or(0),
        "Health": container.health,
        "ID": short(&container.id),
        "Image": container.image,
        "Labels": labels.join(","),
        "LocalVolumes": container.mounts.iter().filter(|m| m.driver == "local").count().to_string(),
        "Mounts": mounts.join(","),
        "Name": container.name,
        "Names": container.name,
        "Networks": container.networks.keys().cloned().collect::<Vec<_>>().join(","),
        "Ports": ports(container),
        "Project": summary.labels.get(labels::PROJECT),
        "Publishers": publishers,
        "RunningFor": format!("{} ago", human_duration(now - summary.created)),
        "Service": container.service,
        "Size": barque_model::size::human_precision(u64::try_from(summary.size_rw).unwrap_or(0), 3),
        "State": container.state.as_str(),
        "Status": summary.status,
    })
}

/// `0.0.0.0:80->80/tcp, 443/tcp`, neighbouring ports together.
fn ports(container: &Container) -> String {
    let mut all: Vec<_> =
        container.summary.ports.iter().map(|p| (p.kind.clone(), p.ip.clone(), p.private_port, p.public_port)).collect();
    all.sort();
    all.dedup();
    let mut out: Vec<String> = Vec::new();
    let mut i = 0;
    while i < all.len() {
        let (kind, ip, private, public) = &all[i];
        let mut run = 1;
        while let Some((k, a, x, y)) = all.get(i + run) {
            let step = u16::try_from(run).unwrap_or(u16::MAX);
            let next_public = if *public == 0 { *y == 0 } else { *y == public.saturating_add(step) };
            if k == kind && a == ip && *x == private.saturating_add(step) && next_public {
                run += 1;
            } else {
                break;
            }
        }
        let span = |from: u16| match run {
            1 => from.to_string(),
            n => format!("{from}-{}", usize::from(from) + n - 1),
        };
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        out.push(match *public {
            0 => format!("{}/{kind}", span(*private)),
            public => format!("{host}:{}->{}/{kind}", span(public), span(*private)),
        });
        i += run;
    }
    out.join(", ")
}

/// Runs `ls`.
pub(super) async fn ls(cx: &Context, args: Ls) -> Outcome {
    let client = cx.connect().await?;
    let engine = Engine::new(client, cx.host.auth.clone(), true);
    let mut projects: BTreeMap<String, Vec<Container>> = BTreeMap::new();
    for summary in engine.read().containers(None, args.all).await? {
        let container = Container::new(summary);
        let Some(name) = container.labels.get(labels::PROJECT).filter(|_| !container.hash.is_empty()) else { continue };
        projects.entry(name.clone()).or_default().push(container);
    }
    for filter in &args.filter {
        match filter.split_once('=') {
            Some(("name", value)) => projects.retain(|name, _| name.contains(value)),
            _ => {
                return Err(
                    Failure::new(format!("invalid filter {filter:?}")).with_hint("ls knows the filter name=TEXT")
                );
            }
        }
    }
    if args.quiet {
        cx.print(&projects.keys().map(|n| format!("{n}\n")).collect::<String>());
        return Ok(0);
    }
    let rows: Vec<[String; 3]> =
        projects.into_iter().map(|(name, found)| [name, combined_status(&found), config_files(&found)]).collect();
    if args.format == "json" {
        let list: Vec<Json> = rows.iter().map(|[n, s, f]| json!({"Name": n, "Status": s, "ConfigFiles": f})).collect();
        cx.print(&format!("{}\n", Json::Array(list)));
    } else {
        let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
        cx.print(&table(20, &["NAME", "STATUS", "CONFIG FILES"], &rows));
    }
    Ok(0)
}

/// `exited(1), running(2)`.
fn combined_status(found: &[Container]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for container in found {
        *counts.entry(container.state.as_str()).or_default() += 1;
    }
    counts.iter().map(|(state, n)| format!("{state}({n})")).collect::<Vec<_>>().join(", ")
}

fn config_files(found: &[Container]) -> String {
    let mut out: Vec<&str> = Vec::new();
    for container in found {
        let Some(listed) = container.labels.get(labels::CONFIG_FILES) else { return "N/A".to_owned() };
        for file in listed.split(',').filter(|f| !f.is_empty()) {
            if !out.contains(&file) {
                out.push(file);
            }
        }
    }
    out.join(",")
}

/// Runs `images`.
pub(super) async fn images(cx: &Context, args: Images) -> Outcome {
    let session = Session::open(cx, "Running").await?;
    let found = session.containers(&args.services, true, false).await?;
    let ids: BTreeSet<String> = found.iter().map(|c| c.image_id.clone()).collect();
    if args.quiet {
        cx.print(&ids.iter().map(|id| format!("{}\n", id.strip_prefix("sha256:").unwrap_or(id))).collect::<String>());
        return Ok(0);
    }
    let reader = session.engine.read();
    let inspected =
        try_join_all(ids.into_iter().map(|id| async move { reader.image(&id).await.map(|i| (id, i)) })).await?;
    let inspected: BTreeMap<String, _> = inspected.into_iter().collect();
    let now = jiff::Timestamp::now();
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for container in &found {
        let image = inspected.get(&container.image_id).and_then(Option::as_ref);
        let reference = image
            .and_then(|i| {
                i.repo_tags
                    .iter()
                    .find(|t| **t == container.image || **t == format!("{}:latest", container.image))
                    .or(i.repo_tags.first())
            })
            .cloned()
            .unwrap_or_else(|| container.image.clone());
        let (repository, tag) = match reference.rsplit_once(':') {
            Some((r, t)) if !t.contains('/') => (r.to_owned(), t.to_owned()),
            _ => (reference.clone(), "<none>".to_owned()),
        };
        let size = image.map_or(0, |i| u64::try_from(i.size).unwrap_or(0));
        let platform = image.map(|i| {
            [i.os.as_str(), &i.architecture, &i.variant]
                .into_iter()
                .filter(|p| !p.is_empty())
                .collect::<Vec<_>>()
                .join("/")
        });
        let platform = platform.unwrap_or_default();
        let created = image.and_then(|i| i.created.parse::<jiff::Timestamp>().ok());
        let ago = created
            .map_or_else(|| "N/A".to_owned(), |t| format!("{} ago", human_duration(now.as_second() - t.as_second())));
        let human = barque_model::size::human_precision(size, 3);
        rows.push(vec![
            container.name.clone(),
            repository.clone(),
            tag.clone(),
            platform.clone(),
            short(&container.image_id),
            human,
            ago,
        ]);
        list.push(json!({
            "ID": container.image_id, "ContainerName": container.name, "Repository": repository, "Tag": tag,
            "Platform": platform, "Size": size, "Created": created.map(|t| t.to_string()),
        }));
    }
    match args.format.as_str() {
        "json" => cx.print(&format!("{}\n", Json::Array(list))),
        _ => {
            cx.print(&table(20, &["CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED"], &rows))
        }
    }
    Ok(0)
}

/// The digest each service's image has in its registry, or here.
pub(super) async fn digests(
    cx: &Context,
    project: &crate::file::project::Project,
) -> Result<BTreeMap<String, String>, Failure> {
    let client = cx.connect().await?;
    let engine = Engine::new(client, cx.host.auth.clone(), true);
    let mut out = BTreeMap::new();
    for service in project.services.values().filter(|s| !s.spec.image.is_empty()) {
        let image = service.image(&project.name);
        if image.contains('@') {
            continue;
        }
        let auth = engine.auth_for(&image);
        let found = engine.read().client().distribution_inspect(&image, auth.as_ref()).await?;
        out.insert(service.name.clone(), format!("{image}@{}", found.descriptor.digest));
    }
    Ok(out)
}

/// Runs `port`.
pub(super) async fn port(cx: &Context, args: Port) -> Outcome {
    let session = Session::open(cx, "Running").await?;
    let container = session.one(&args.service, args.index).await?;
    let found = container
        .summary
        .ports
        .iter()
        .filter(|p| p.private_port == args.private_port && p.kind == args.protocol && p.public_port != 0)
        .min_by_key(|p| p.ip.contains(':'));
    match found {
        Some(port) if port.ip.contains(':') => cx.print(&format!("[{}]:{}\n", port.ip, port.public_port)),
        Some(port) => cx.print(&format!("{}:{}\n", port.ip, port.public_port)),
        None => {
            let all: BTreeSet<String> = container
                .summary
                .ports
                .iter()
                .filter(|p| p.public_port != 0)
                .map(|p| format!("{}/{}", p.private_port, p.kind))
                .collect();
            let hint = if all.is_empty() {
                "it publishes no port".to_owned()
            } else {
                format!("it publishes {}", all.into_iter().collect::<Vec<_>>().join(", "))
            };
            return Err(Failure::new(format!(
                "no port {}/{} for container {}",
                args.private_port, args.protocol, container.name
            ))
            .with_hint(hint));
        }
    }
    Ok(0)
}

/// Runs `top`.
pub(super) async fn top(cx: &Context, args: Services) -> Outcome {
    let session = Session::open(cx, "Running").await?;
    let found = session.containers(&args.services, false, false).await?;
    let client = session.engine.read().client();
    let found: Vec<Container> = found.into_iter().filter(|c| c.state.is_up()).collect();
    let tops = try_join_all(found.iter().map(|c| client.container_top(&c.id, ""))).await?;
    // One table of all; what not every engine's ps tells is "-". Commands are long and come last.
    let mut titles: Vec<&String> = Vec::new();
    for title in tops.iter().flat_map(|top| &top.titles) {
        if !titles.contains(&title) {
            titles.push(title);
        }
    }
    titles.sort_by_key(|title| matches!(title.as_str(), "CMD" | "COMMAND"));
    let mut rows = Vec::new();
    for (container, top) in found.iter().zip(&tops) {
        for process in &top.processes {
            let cell = |title: &String| top.titles.iter().position(|t| t == title).and_then(|at| process.get(at));
            let mut row = vec![container.service.clone(), container.number.to_string()];
            row.extend(titles.iter().map(|title| cell(title).cloned().unwrap_or_else(|| "-".to_owned())));
            rows.push(row);
        }
    }
    let header: Vec<&str> = ["SERVICE", "#"].into_iter().chain(titles.iter().map(|t| t.as_str())).collect();
    cx.print(&table(4, &header, &rows));
    Ok(0)
}

/// Runs `version`.
pub(super) fn version(cx: &Context, args: &Version) -> Outcome {
    let (own, release) = (&cx.host.version, super::COMPOSE_RELEASE);
    let shown = if cx.host.is_docker() { release } else { own.as_str() };
    match (args.short, args.format.as_deref()) {
        (true, _) => cx.print(&format!("{shown}\n")),
        (_, Some("json")) => cx.print(&format!("{}\n", json!({"version": format!("v{shown}")}))),
        _ => cx.print(&version_text(cx)),
    }
    Ok(0)
}

/// What `version` and `--version` print: under Docker's name as scripts read it, else both.
pub(super) fn version_text(cx: &Context) -> String {
    let (own, release) = (&cx.host.version, super::COMPOSE_RELEASE);
    if cx.host.is_docker() {
        format!("Docker Compose version v{release}\n")
    } else {
        format!("Barque Compose version v{own}\nDocker Compose version v{release}\n")
    }
}

/// Runs `volumes`.
pub(super) async fn volumes(cx: &Context, args: Volumes) -> Outcome {
    let session = Session::open(cx, "Running").await?;
    let mut found = session.engine.read().volumes().await?;
    found.retain(|v| v.labels.as_ref().and_then(|l| l.get(labels::PROJECT)) == Some(&session.name));
    if !args.services.is_empty() {
        let used: BTreeSet<String> = session
            .containers(&args.services, true, false)
            .await?
            .iter()
            .flat_map(|c| c.mounts.iter().map(|m| m.name.clone()))
            .collect();
        found.retain(|v| used.contains(&v.name));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    if args.quiet {
        cx.print(&found.iter().map(|v| format!("{}\n", v.name)).collect::<String>());
    } else if args.format == "json" {
        cx.print(
            &found
                .iter()
                .map(|v| format!("{}\n", json!({"Name": v.name, "Driver": v.driver, "Mountpoint": v.mountpoint})))
                .collect::<String>(),
        );
    } else {
        let rows: Vec<Vec<String>> = found.into_iter().map(|v| vec![v.driver, v.name]).collect();
        cx.print(&table(10, &["DRIVER", "VOLUME NAME"], &rows));
    }
    Ok(0)
}
