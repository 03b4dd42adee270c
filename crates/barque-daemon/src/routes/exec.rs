//! `/exec`.

use barque_api::error::IdResponse;
use barque_api::exec::{ExecCreateRequest, ExecStartRequest};
use barque_api::stdcopy;
use barque_model::ErrorKind;
use tokio::io::AsyncWriteExt;

use super::Context;
use super::attach::pump;
use crate::convert;
use crate::http::{self, Outcome};
use crate::router::{Routed, inline, keep};
use crate::wording;

/// Finds the route below `/exec`.
pub(crate) fn route(context: Context, method: &str, path: &[&str]) -> Option<Routed> {
    Some(match (method, path) {
        ("GET", [id, "json"]) => inline(inspect(context, id.to_string())),
        ("POST", [id, "start"]) => keep(start(context, id.to_string())),
        ("POST", [id, "resize"]) => inline(resize(context, id.to_string())),
        _ => return None,
    })
}

/// `POST /containers/{id}/exec`.
pub(super) async fn create(context: Context, container: String) -> Outcome {
    let Context { state, mut call } = context;
    let version = call.version;
    let request: ExecCreateRequest = call.json().await?;
    let id = state.engine.exec_create(&container, convert::exec::create(request, version)?).await?;
    http::created(&IdResponse { id: id.to_string() })
}

async fn start(context: Context, id: String) -> Outcome {
    let Context { state, mut call } = context;
    // Refuses an unknown one before anything else, as Docker does.
    let view = state.engine.exec_inspect(&id).await?;
    let request: ExecStartRequest = call.json().await?;
    let start = convert::exec::start(&request, call.version);
    let tty = view.spec.process.tty;
    match state.engine.exec_start(&id, start).await {
        Ok(None) => http::ok(),
        Ok(Some(stream)) => {
            let keys = crate::detach::parse(view.spec.detach_keys.as_deref().unwrap_or_default())?;
            let wants_input = view.spec.process.attach_stdin;
            Ok(http::hijack(call, !tty, move |client| pump(client, stream, wants_input, tty.then_some(keys))))
        }
        Err(error) if request.detach || matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => Err(error),
        // The process could not be started: clients read why from the stream, and the status from inspect.
        Err(error) => Ok(http::hijack(call, !tty, move |client| tell(client, wording::sentence(&error), tty))),
    }
}

/// Writes one line to the client and ends.
async fn tell(client: http::Stream, text: String, tty: bool) {
    let http::Stream { input, mut output, .. } = client;
    let mut bytes = Vec::new();
    match tty {
        true => bytes.extend_from_slice(format!("{text}\r\n").as_bytes()),
        false => stdcopy::encode(stdcopy::Stream::Stdout, format!("{text}\r\n").as_bytes(), &mut bytes),
    }
    let _client_gone = output.write_all(&bytes).await;
    let _client_gone = output.shutdown().await;
    drop(input);
}

async fn resize(context: Context, id: String) -> Outcome {
    let (rows, columns) = super::container::terminal_size(&context)?;
    context.state.engine.exec_resize(&id, rows, columns).await?;
    http::ok()
}

async fn inspect(context: Context, id: String) -> Outcome {
    let view = context.state.engine.exec_inspect(&id).await?;
    http::json(&convert::exec::inspect(&view))
}
