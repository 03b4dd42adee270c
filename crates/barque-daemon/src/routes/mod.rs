//! The routes, one file per noun. Handlers are thin: query and body in, one call of the engine, reply out.

mod archive;
mod attach;
mod build;
mod container;
mod events;
mod exec;
mod image;
mod logs;
mod network;
mod stats;
mod system;
mod transfer;
mod unsupported;
mod volume;

use std::sync::Arc;

use ::http::Method;

use barque_engine::Gone;
use barque_model::Error;

use crate::http::Call;
use crate::router::Routed;
use crate::state::State;

/// What a route gets.
pub(crate) struct Context {
    pub(crate) state: Arc<State>,
    pub(crate) call: Call,
}

/// Tells that a prune of `kind` was made, and how many bytes it gave back (`prune` of `GET /events`).
fn pruned(context: &Context, kind: &'static str, bytes: u64, dry_run: bool) {
    if !dry_run {
        context.state.engine.events().emit(kind, "prune", "", [("reclaimed", bytes.to_string())]);
    }
}

/// What a dry run takes for gone already; `None` if it is none.
///
/// # Errors
/// An id that is none of a container or an image.
fn dry(dry_run: bool, without: &[String]) -> Result<Option<Gone>, Error> {
    let mut gone = Gone::default();
    for id in without {
        match id.starts_with("sha256:") {
            true => gone.images.insert(id.parse()?),
            false => gone.containers.insert(id.parse()?),
        };
    }
    Ok(dry_run.then_some(gone))
}

/// Finds the route of a path without its version.
pub(crate) fn find(state: &Arc<State>, call: Call, path: &[&str]) -> Option<Routed> {
    let method = call.method.clone();
    let context = Context { state: state.clone(), call };
    if method == Method::OPTIONS {
        return Some(crate::router::inline(async { crate::http::ok() }));
    }
    let method = method.as_str();
    match path {
        ["containers", _, "checkpoints", ..] => unsupported::route(method, path),
        ["containers", rest @ ..] => container::route(context, method, rest),
        ["exec", rest @ ..] => exec::route(context, method, rest),
        ["images", rest @ ..] => image::route(context, method, rest),
        ["networks", rest @ ..] => network::route(context, method, rest),
        ["volumes", rest @ ..] => volume::route(context, method, rest),
        ["build", rest @ ..] => build::route(context, method, rest),
        ["events"] if method == "GET" => Some(events::events(context)),
        ["distribution", name @ .., "json"] if method == "GET" && !name.is_empty() => {
            Some(image::distribution(context, name.join("/")))
        }
        ["commit"] if method == "POST" => Some(container::commit(context)),
        ["_ping" | "info" | "version" | "auth", ..] | ["system", "df"] => system::route(context, method, path),
        _ => unsupported::route(method, path),
    }
}
