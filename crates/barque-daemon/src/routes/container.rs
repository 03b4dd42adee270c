//! `/containers` and `/commit`.

use ::http::header::CONTENT_LENGTH;
use barque_api::container::{
    CommitQuery, ContainerConfig, ContainerCreateQuery, ContainerCreateRequest, ContainerCreateResponse,
    ContainerListQuery, ContainerUpdateRequest, ContainerUpdateResponse, ContainersPruned, InspectQuery, KillQuery,
    PruneQuery, RemoveQuery, RenameQuery, ResizeQuery, StopQuery, TopQuery, TopResponse, WaitExitError, WaitQuery,
    WaitResponse,
};
use barque_api::error::IdResponse;
use barque_engine::Engine;
use barque_engine::container::request::{CommitOptions, RemoveOptions, StopOptions, UpdateContainer, WaitCondition};
use barque_engine::container::spec::{NetworkMode, Resources};
use barque_engine::container::view::ContainerView;
use barque_model::{Error, ErrorKind, ImageId, Result, Signal, Timestamp};

use super::{Context, archive, attach, exec, logs, stats};
use crate::convert::create::{self, Surroundings};
use crate::convert::document::Document;
use crate::convert::{inspect, resources, restart, summary};
use crate::filter::container::{LIST_KEYS, ListFilter, References};
use crate::http::{self, Outcome};
use crate::router::{Routed, inline, keep};
use crate::{filter, wording};

/// Finds the route below `/containers`.
pub(crate) fn route(context: Context, method: &str, path: &[&str]) -> Option<Routed> {
    Some(match (method, path) {
        ("GET", ["json"]) => inline(list(context)),
        ("POST", ["create"]) => keep(create(context)),
        ("POST", ["prune"]) => keep(prune(context)),
        ("DELETE", [id]) => keep(remove(context, id.to_string())),
        // A link's name has a slash in it.
        ("DELETE", [parent, alias]) => keep(remove(context, format!("{parent}/{alias}"))),
        (_, [id, action]) => return one(context, method, id.to_string(), action),
        ("GET", [id, "attach", "ws"]) => inline(attach::websocket(context, id.to_string())),
        _ => return None,
    })
}

/// The routes of one container.
fn one(context: Context, method: &str, id: String, action: &str) -> Option<Routed> {
    Some(match (method, action) {
        ("GET", "json") => inline(inspect_one(context, id)),
        ("GET", "top") => inline(top(context, id)),
        ("GET", "logs") => inline(logs::logs(context, id)),
        ("GET", "changes") => inline(archive::changes(context, id)),
        ("GET", "export") => inline(archive::export(context, id)),
        ("GET", "stats") => inline(stats::stats(context, id)),
        ("HEAD", "archive") => inline(archive::stat(context, id)),
        ("GET", "archive") => inline(archive::get(context, id)),
        ("PUT", "archive") => inline(archive::put(context, id)),
        ("POST", "start") => keep(start(context, id)),
        ("POST", "stop") => keep(stop(context, id)),
        ("POST", "restart") => keep(restart_one(context, id)),
        ("POST", "kill") => keep(kill(context, id)),
        ("POST", "pause") => keep(pause(context, id)),
        ("POST", "unpause") => keep(unpause(context, id)),
        ("POST", "rename") => keep(rename(context, id)),
        ("POST", "update") => keep(update(context, id)),
        ("POST", "resize") => inline(resize(context, id)),
        ("POST", "wait") => inline(wait(context, id)),
        ("POST", "attach") => inline(attach::attach(context, id)),
        ("POST", "exec") => keep(exec::create(context, id)),
        _ => return None,
    })
}

async fn list(context: Context) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(ContainerListQuery::from_params)?;
    filter::check(&query.filters, LIST_KEYS)?;
    let references = references(&state.engine, &query).await?;
    let filter = ListFilter::new(query.filters, references)?;
    let all = query.all || filter.wants_all() || query.limit > 0;
    let limit = usize::try_from(query.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let views = state.engine.containers();
    let now = Timestamp::now();
    let mut names = std::collections::HashMap::new();
    let mut rows = Vec::new();
    let shown = views.iter().filter(|view| (all || view.state.is_up()) && filter.matches(view)).take(limit);
    for view in shown {
        let sizes = match query.size {
            true => Some(state.engine.container_size(&view.id.to_string()).await?),
            false => None,
        };
        let image = image_now(&state.engine, view, &mut names).await;
        rows.push(summary::row(view, image, sizes, now, call.version));
    }
    http::json(&rows)
}

/// What a container's image name stands for now.
async fn image_now(
    engine: &barque_engine::Engine,
    view: &ContainerView,
    known: &mut std::collections::HashMap<String, Option<ImageId>>,
) -> Option<ImageId> {
    let name = &view.spec.image_ref;
    if let Some(id) = known.get(name) {
        return *id;
    }
    let id = engine.image(name).await.ok().map(|image| image.id);
    known.insert(name.clone(), id);
    id
}

/// The containers and images that filters name.
async fn references(engine: &barque_engine::Engine, query: &ContainerListQuery) -> Result<References> {
    let created = |name: &str| engine.container(name).map(|view| view.created_at);
    let filters = &query.filters;
    let before = filters.get("before").next().unwrap_or(&query.before);
    let since = filters.get("since").next().unwrap_or(&query.since);
    let mut references = References::default();
    if !before.is_empty() {
        references.before = Some(created(before)?);
    }
    if !since.is_empty() {
        references.since = Some(created(since)?);
    }
    if filters.contains("ancestor") {
        let mut ids = Vec::new();
        for name in filters.get("ancestor") {
            // An image that is gone has no containers.
            if let Ok(image) = engine.image(name).await {
                ids.push(image.id);
            }
        }
        let images = engine.images().await?;
        let mut known = 0;
        while known < ids.len() {
            let parent = ids[known];
            known += 1;
            ids.extend(images.iter().filter(|image| image.parent == Some(parent)).map(|image| image.id));
            if ids.len() > images.len() * 2 {
                break;
            }
        }
        references.ancestors = Some(ids);
    }
    Ok(references)
}

async fn create(context: Context) -> Outcome {
    let Context { state, mut call } = context;
    let query = call.query(ContainerCreateQuery::from_params)?;
    let version = call.version;
    let mut request: ContainerCreateRequest = call.json().await?;
    if let Some(host) = &mut request.host_config {
        pin_shared(&state.engine, host)?;
    }
    let settings = state.settings();
    let around = Surroundings { version, settings: &settings, machine: &state.machine };
    let (request, mut warnings) = create::container(query, request, &around)?;
    let created = state.engine.container_create(request).await.map_err(|error| match error.kind() {
        // Clients take 404 for "pull the image and try again".
        ErrorKind::NotFound if !error.message().starts_with("No such image") => {
            error.with_kind(ErrorKind::InvalidArgument)
        }
        _ => error,
    })?;
    warnings.extend(created.warnings);
    http::created(&ContainerCreateResponse { id: created.id.to_string(), warnings })
}

/// Namespaces of another container are those of that one, however it is called later: its id stands for the name.
///
/// # Errors
/// No such container, but for the network, which Docker looks for at the start.
fn pin_shared(engine: &Engine, host: &mut barque_api::container::HostConfig) -> Result<()> {
    for (mode, may_come) in [(&mut host.network_mode, true), (&mut host.pid_mode, false), (&mut host.ipc_mode, false)] {
        let Some(name) = mode.strip_prefix("container:").filter(|name| !name.is_empty()) else { continue };
        match engine.container(name) {
            Ok(view) => *mode = format!("container:{}", view.id),
            Err(_) if may_come => {}
            Err(error) => return Err(error.with_kind(ErrorKind::InvalidArgument)),
        }
    }
    Ok(())
}

async fn inspect_one(context: Context, id: String) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(InspectQuery::from_params)?;
    let view = state.engine.container(&id)?;
    let sizes = match query.size {
        true => Some(state.engine.container_size(&id).await?),
        false => None,
    };
    let mut document = inspect::container(&view, sizes, call.version);
    document.exec_ids = running_execs(&state.engine, &view).await;
    if view.spec.network.mode == NetworkMode::Default && document.host_config.links.is_some() {
        document.host_config.links = crate::convert::listed(state.engine.shown_links(&view));
    }
    http::json(&document)
}

/// Docker forgets an exec in this list as soon as it ends.
async fn running_execs(engine: &barque_engine::Engine, view: &ContainerView) -> Option<Vec<String>> {
    let mut ids = Vec::new();
    for id in view.exec_ids.iter().map(ToString::to_string) {
        if engine.exec_inspect(&id).await.is_ok_and(|exec| exec.exit_code.is_none()) {
            ids.push(id);
        }
    }
    crate::convert::listed(ids)
}

async fn top(context: Context, id: String) -> Outcome {
    let query = context.call.query(TopQuery::from_params)?;
    let text = if query.ps_args.is_empty() { "-ef" } else { &query.ps_args };
    let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let table = context.state.engine.container_top(&id, &arguments).await?;
    http::json(&TopResponse { processes: table.rows, titles: table.titles })
}

async fn start(context: Context, id: String) -> Outcome {
    let Context { state, call } = context;
    let length =
        call.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    if length.is_some_and(|length: u64| length > 7) {
        return Err(Error::invalid(wording::START_BODY));
    }
    if !call.params.get("checkpoint").unwrap_or_default().is_empty() {
        return Err(Error::not_implemented("checkpoints"));
    }
    state.engine.container_start(&id).await?;
    http::empty()
}

fn stop_options(context: &Context) -> Result<StopOptions> {
    let query = context.call.query(StopQuery::from_params)?;
    let signal = match query.signal.as_str() {
        text if !text.is_empty() && context.call.version.at_least(42) => Some(signal(text)?),
        _ => None,
    };
    Ok(StopOptions { timeout_secs: query.timeout, signal })
}

fn signal(text: &str) -> Result<Signal> {
    text.parse().map_err(|_| wording::invalid_signal(text))
}

async fn stop(context: Context, id: String) -> Outcome {
    let options = stop_options(&context)?;
    context.state.engine.container_stop(&id, options).await?;
    http::empty()
}

async fn restart_one(context: Context, id: String) -> Outcome {
    let options = stop_options(&context)?;
    context.state.engine.container_restart(&id, options).await?;
    http::empty()
}

async fn kill(context: Context, id: String) -> Outcome {
    let query = context.call.query(KillQuery::from_params)?;
    let signal = if query.signal.is_empty() { Signal::KILL } else { signal(&query.signal)? };
    match context.state.engine.container_kill(&id, signal).await {
        Ok(()) => http::empty(),
        Err(error) if error.kind() == ErrorKind::Conflict => Err(Error::conflict(wording::cannot_kill(&id, &error))),
        Err(error) => Err(error),
    }
}

async fn pause(context: Context, id: String) -> Outcome {
    context.state.engine.container_pause(&id).await?;
    http::empty()
}

async fn unpause(context: Context, id: String) -> Outcome {
    context.state.engine.container_unpause(&id).await?;
    http::empty()
}

async fn rename(context: Context, id: String) -> Outcome {
    let query = context.call.query(RenameQuery::from_params)?;
    match context.state.engine.container_rename(&id, &query.name).await {
        Ok(()) => http::empty(),
        Err(error) if error.message().starts_with("Conflict.") => {
            Err(Error::conflict(format!("Error when allocating new name: {}", error.message())))
        }
        Err(error) => Err(error),
    }
}

async fn resize(context: Context, id: String) -> Outcome {
    let (rows, columns) = terminal_size(&context)?;
    context.state.engine.container_resize(&id, rows, columns).await?;
    http::ok()
}

/// `h` and `w` of a resize.
pub(super) fn terminal_size(context: &Context) -> Result<(u16, u16)> {
    let query = context.call.query(ResizeQuery::from_params)?;
    let cell = |name: &str, value: u32| {
        u16::try_from(value)
            .map_err(|_| Error::invalid(format!("invalid resize {name} \"{value}\": value out of range")))
    };
    Ok((cell("height", query.height)?, cell("width", query.width)?))
}

async fn remove(context: Context, id: String) -> Outcome {
    let query = context.call.query(RemoveQuery::from_params)?;
    if query.link {
        let Some((parent, alias)) = id.split_once('/') else {
            context.state.engine.container(&id)?;
            return Err(Error::conflict("Conflict, cannot remove the default link name of the container"));
        };
        context.state.engine.container_remove_link(parent, alias).await?;
        return http::empty();
    }
    let options = RemoveOptions { force: query.force, volumes: query.volumes };
    context.state.engine.container_remove(&id, options).await?;
    http::empty()
}

async fn update(context: Context, id: String) -> Outcome {
    let Context { state, mut call } = context;
    let request: ContainerUpdateRequest = call.json().await?;
    let view = state.engine.container(&id)?;
    let mut document = Document::parse(&view.document);
    document.host.resources = resources::updated(&document.host.resources, &request.resources)?;
    let (limits, mut warnings): (Resources, _) =
        resources::limits(&document.host.resources, document.host.oom_score_adj, &state.machine)?;
    let restart = match request.restart_policy.name.as_str() {
        "" => None,
        _ => {
            let policy = restart::policy(&request.restart_policy)?;
            document.host.restart_policy = request.restart_policy;
            Some(policy)
        }
    };
    let changed = limits != view.spec.resources;
    let update = UpdateContainer { resources: changed.then_some(limits), restart, document: Some(document.to_text()) };
    warnings.extend(state.engine.container_update(&id, update).await?);
    http::json(&ContainerUpdateResponse { warnings: crate::convert::listed(warnings) })
}

/// The head of the reply goes out as soon as the waiter stands: from then on no exit is missed.
async fn wait(context: Context, id: String) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(WaitQuery::from_params)?;
    let at_once = call.version.at_least(30);
    let condition = match query.condition.as_str() {
        _ if !at_once => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(wording::invalid_condition(other)),
    };
    let waiter = state.engine.container_wait(&id, condition).await?;
    let document = async move {
        let result = waiter.await.map_err(std::io::Error::other)?;
        // The error is that of a removal. Why a start failed is told by the start: clients print both.
        let dead = || state.engine.container(&id).is_ok_and(|view| view.state.status() == "dead");
        let error = result.error.filter(|_| dead()).map(|message| WaitExitError { message });
        let reply = WaitResponse { error, status_code: i64::from(result.code) };
        barque_api::json::to_vec(&reply).map(bytes::Bytes::from).map_err(std::io::Error::other)
    };
    if !at_once {
        return http::json_text(document.await.map_err(Error::from)?);
    }
    Ok(http::stream("application/json", futures_util::stream::once(document)))
}

async fn prune(context: Context) -> Outcome {
    let query = context.call.query(PruneQuery::from_params)?;
    let filter = filter::container::prune(query.filters, Timestamp::now())?;
    let (removed, bytes) = context.state.engine.containers_prune(filter, query.dry_run).await?;
    super::pruned(&context, "container", bytes, query.dry_run);
    let removed = removed.iter().map(ToString::to_string).collect();
    http::json(&ContainersPruned { containers_deleted: crate::convert::listed(removed), space_reclaimed: bytes })
}

/// `POST /commit`.
pub(crate) fn commit(context: Context) -> Routed {
    keep(commit_one(context))
}

async fn commit_one(context: Context) -> Outcome {
    let Context { state, mut call } = context;
    let query = call.query(CommitQuery::from_params)?;
    let config: Option<ContainerConfig> = call.json().await?;
    let mut changes: Vec<String> = query.changes.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    changes.splice(0..0, overrides(config.as_ref())?);
    let repo_tag = match (query.repo.as_str(), query.tag.as_str()) {
        ("", _) => None,
        (repo, "") => Some(repo.to_owned()),
        (repo, tag) => Some(format!("{repo}:{tag}")),
    };
    let options = CommitOptions {
        repo_tag,
        author: query.author,
        comment: query.comment,
        changes,
        pause: query.pause.unwrap_or(true),
    };
    let id = state.engine.container_commit(&query.container, options).await?;
    http::created(&IdResponse { id: id.to_string() })
}

/// A configuration sent with a commit, as Dockerfile instructions.
fn overrides(config: Option<&ContainerConfig>) -> Result<Vec<String>> {
    let Some(config) = config.filter(|config| **config != ContainerConfig::default()) else { return Ok(Vec::new()) };
    let json = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
    let mut lines = Vec::new();
    lines.extend(config.cmd.as_ref().map(|words| format!("CMD {}", json(words))));
    lines.extend(config.entrypoint.as_ref().map(|words| format!("ENTRYPOINT {}", json(words))));
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    for entry in config.env.iter().flatten() {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        lines.push(format!("ENV {name}={}", quoted(value)));
    }
    for (name, value) in config.labels.iter().flatten() {
        lines.push(format!("LABEL {}={}", quoted(name), quoted(value)));
    }
    for (word, text) in [("USER", &config.user), ("WORKDIR", &config.working_dir), ("STOPSIGNAL", &config.stop_signal)]
    {
        if !text.is_empty() {
            lines.push(format!("{word} {text}"));
        }
    }
    lines.extend(config.exposed_ports.iter().flatten().map(|(port, _)| format!("EXPOSE {port}")));
    lines.extend(
        config.volumes.iter().flatten().map(|(path, _)| format!("VOLUME {}", json(std::slice::from_ref(path)))),
    );
    match lines.iter().find(|line| line.contains('\n')) {
        Some(line) => Err(Error::invalid(format!("the instruction {line:?} has a line break"))),
        None => Ok(lines),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_as_instructions() {
        let config: ContainerConfig = barque_api::json::from_str(
            r#"{"Cmd":["a","b c"],"Env":["X=1 2"],"User":"me","ExposedPorts":{"80/tcp":{}}}"#,
        )
        .unwrap();
        let lines = overrides(Some(&config)).unwrap();
        assert_eq!(lines, ["CMD [\"a\",\"b c\"]", "ENV X=\"1 2\"", "USER me", "EXPOSE 80/tcp"]);
        assert!(overrides(None).unwrap().is_empty());
        let hostile = ContainerConfig { user: "a\nRUN x".into(), ..Default::default() };
        assert!(overrides(Some(&hostile)).is_err());
    }
}
