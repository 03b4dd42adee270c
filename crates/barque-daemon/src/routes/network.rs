//! `/networks`.

use barque_api::container::PruneQuery;
use barque_api::network::{
    NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest, NetworkListQuery,
    NetworksPruned,
};
use barque_model::Timestamp;

use super::Context;
use crate::convert;
use crate::filter;
use crate::http::{self, Outcome};
use crate::router::{Routed, inline, keep};

/// Finds the route below `/networks`.
pub(crate) fn route(context: Context, method: &str, path: &[&str]) -> Option<Routed> {
    Some(match (method, path) {
        ("GET", []) => inline(list(context)),
        ("POST", ["create"]) => keep(create(context)),
        ("POST", ["prune"]) => keep(prune(context)),
        ("GET", [id]) => inline(inspect(context, id.to_string())),
        ("DELETE", [id]) => keep(remove(context, id.to_string())),
        ("POST", [id, "connect"]) => keep(connect(context, id.to_string())),
        ("POST", [id, "disconnect"]) => keep(disconnect(context, id.to_string())),
        _ => return None,
    })
}

async fn list(context: Context) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(NetworkListQuery::from_params)?;
    let keep = filter::network::list(query.filters)?;
    let networks = state.engine.networks().await?;
    let rows: Vec<_> = networks
        .iter()
        .filter(|view| keep(view))
        .map(|view| convert::network::network(view, false, call.version))
        .collect();
    http::json(&rows)
}

async fn inspect(context: Context, id: String) -> Outcome {
    let view = context.state.engine.network(&id).await?;
    http::json(&convert::network::network(&view, true, context.call.version))
}

async fn create(context: Context) -> Outcome {
    let Context { state, mut call } = context;
    let mut request: NetworkCreateRequest = call.json().await?;
    if call.version.before(48) {
        request.enable_ipv4 = None;
    }
    let (id, warning) = state.engine.network_create(convert::network::create(request)?).await?;
    http::created(&NetworkCreateResponse { id: id.to_string(), warning: warning.unwrap_or_default() })
}

async fn remove(context: Context, id: String) -> Outcome {
    context.state.engine.network_remove(&id).await?;
    http::empty()
}

async fn connect(context: Context, id: String) -> Outcome {
    let Context { state, mut call } = context;
    let mut request: NetworkConnectRequest = call.json().await?;
    if let Some(settings) = &mut request.endpoint_config
        && call.version.before(54)
    {
        settings.mac_address.clear();
    }
    let wish = convert::endpoint::wish(&id, request.endpoint_config.as_ref())?;
    state.engine.network_connect(&id, &request.container, wish).await?;
    http::ok()
}

async fn disconnect(context: Context, id: String) -> Outcome {
    let Context { state, mut call } = context;
    let request: NetworkDisconnectRequest = call.json().await?;
    state.engine.network_disconnect(&id, &request.container, request.force).await?;
    http::ok()
}

async fn prune(context: Context) -> Outcome {
    let query = context.call.query(PruneQuery::from_params)?;
    let filter = filter::network::prune(query.filters, Timestamp::now())?;
    let removed = context.state.engine.networks_prune(filter, query.dry_run).await?;
    super::pruned(&context, "network", 0, query.dry_run);
    http::json(&NetworksPruned { networks_deleted: convert::listed(removed) })
}
