//! `/containers/{id}/archive`, `/export` and `/changes`.

use ::http::HeaderValue;
use barque_api::container::{Change, CopyQuery, PathStat as WireStat};
use barque_engine::container::CopyInOptions;
use barque_engine::container::request::PathStat;
use barque_model::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Context;
use crate::http::{self, Outcome, Reply};

const TAR: &str = "application/x-tar";
const STAT_HEADER: &str = "x-docker-container-path-stat";

fn query(context: &Context) -> Result<CopyQuery> {
    let query = context.call.query(CopyQuery::from_params)?;
    match query.path.is_empty() {
        true => Err(Error::invalid("bad parameter: 'path' cannot be empty")),
        false => Ok(query),
    }
}

fn with_stat(mut reply: Reply, stat: &PathStat) -> Outcome {
    let wire = WireStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: stat.mode,
        mtime: stat.mtime.to_string(),
        link_target: stat.link_target.clone(),
    };
    let json = serde_json::to_vec(&wire).map_err(|why| Error::internal("cannot encode the stat").with_source(why))?;
    let value = HeaderValue::try_from(STANDARD.encode(json))
        .map_err(|why| Error::internal("cannot encode the stat").with_source(why))?;
    reply.headers_mut().insert(STAT_HEADER, value);
    Ok(reply)
}

pub(super) async fn stat(context: Context, id: String) -> Outcome {
    let query = query(&context)?;
    let stat = context.state.engine.container_stat_path(&id, &query.path).await?;
    with_stat(http::status(::http::StatusCode::OK), &stat)
}

pub(super) async fn get(context: Context, id: String) -> Outcome {
    let query = query(&context)?;
    let (stat, content) = context.state.engine.container_copy_out(&id, &query.path).await?;
    with_stat(http::reader(TAR, content), &stat)
}

pub(super) async fn put(mut context: Context, id: String) -> Outcome {
    let query = query(&context)?;
    let content = context.call.reader();
    let options =
        CopyInOptions { no_overwrite_dir_non_dir: query.no_overwrite_dir_non_dir, copy_uid_gid: query.copy_uid_gid };
    context.state.engine.container_copy_in(&id, &query.path, content, options).await?;
    http::ok()
}

pub(super) async fn export(context: Context, id: String) -> Outcome {
    let content = context.state.engine.container_export(&id).await?;
    Ok(http::reader(TAR, content))
}

pub(super) async fn changes(context: Context, id: String) -> Outcome {
    let changes = context.state.engine.container_changes(&id).await?;
    let wire: Vec<Change> =
        changes.into_iter().map(|change| Change { kind: change.kind as u8, path: change.path }).collect();
    // Docker says null for none.
    http::json(&crate::convert::listed(wire))
}
