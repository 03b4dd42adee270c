//! `/volumes`.

use barque_api::container::PruneQuery;
use barque_api::volume::{
    VolumeCreateRequest, VolumeListQuery, VolumeListResponse, VolumeRemoveQuery, VolumeTargetQuery, VolumesPruned,
};
use barque_model::{Error, ErrorKind, Timestamp};

use super::Context;
use crate::convert;
use crate::filter;
use crate::http::{self, Outcome};
use crate::router::{Routed, inline, keep};

/// Finds the route below `/volumes`.
pub(crate) fn route(context: Context, method: &str, path: &[&str]) -> Option<Routed> {
    Some(match (method, path) {
        ("GET", []) => inline(list(context)),
        ("POST", ["create"]) => keep(create(context)),
        ("POST", ["prune"]) => keep(prune(context)),
        ("GET", [name]) => inline(inspect(context, name.to_string())),
        ("DELETE", [name]) => keep(remove(context, name.to_string())),
        // Barque's own: content in and out, copies and names.
        ("GET", [name, "archive"]) => inline(export(context, name.to_string())),
        ("PUT", [name, "archive"]) => inline(import(context, name.to_string())),
        ("POST", [name, "clone"]) => keep(clone(context, name.to_string())),
        ("POST", [name, "rename"]) => keep(rename(context, name.to_string())),
        ("PUT", [_]) => inline(async { Err(Error::not_implemented("cluster volumes")) }),
        _ => return None,
    })
}

async fn list(context: Context) -> Outcome {
    let query = context.call.query(VolumeListQuery::from_params)?;
    let keep = filter::volume::list(query.filters)?;
    let volumes = context.state.engine.volumes().await?;
    let volumes = volumes.iter().filter(|view| keep(view)).map(|view| convert::volume::volume(view, None)).collect();
    http::json(&VolumeListResponse { volumes, warnings: None })
}

async fn inspect(context: Context, name: String) -> Outcome {
    let view = context.state.engine.volume(&name).await?;
    http::json(&convert::volume::volume(&view, None))
}

async fn create(context: Context) -> Outcome {
    let Context { state, mut call } = context;
    let request: VolumeCreateRequest = call.json().await?;
    let view = state.engine.volume_create(convert::volume::create(request)?).await?;
    http::created(&convert::volume::volume(&view, None))
}

async fn remove(context: Context, name: String) -> Outcome {
    let query = context.call.query(VolumeRemoveQuery::from_params)?;
    match context.state.engine.volume_remove(&name, query.force).await {
        Err(error) if query.force && error.kind() == ErrorKind::NotFound => http::empty(),
        outcome => outcome.and_then(|()| http::empty()),
    }
}

async fn export(context: Context, name: String) -> Outcome {
    let content = context.state.engine.volume_export(&name).await?;
    Ok(http::reader("application/x-tar", content))
}

async fn import(context: Context, name: String) -> Outcome {
    let Context { state, mut call } = context;
    state.engine.volume_import(&name, call.reader()).await?;
    http::ok()
}

/// The `name` of a copy or of a new name.
fn target(context: &Context) -> barque_model::Result<String> {
    match context.call.query(VolumeTargetQuery::from_params)?.name {
        name if name.is_empty() => Err(Error::invalid("bad parameter: 'name' cannot be empty")),
        name => Ok(name),
    }
}

async fn clone(context: Context, name: String) -> Outcome {
    let target = target(&context)?;
    context.state.engine.volume_clone(&name, &target).await?;
    http::empty()
}

async fn rename(context: Context, name: String) -> Outcome {
    let target = target(&context)?;
    context.state.engine.volume_rename(&name, &target).await?;
    http::empty()
}

async fn prune(context: Context) -> Outcome {
    let query = context.call.query(PruneQuery::from_params)?;
    let filter = filter::volume::prune(query.filters, context.call.version, Timestamp::now())?;
    let (removed, bytes) =
        context.state.engine.volumes_prune(filter, super::dry(query.dry_run, &query.without)?).await?;
    super::pruned(&context, "volume", bytes, query.dry_run);
    http::json(&VolumesPruned { volumes_deleted: convert::listed(removed), space_reclaimed: bytes })
}
