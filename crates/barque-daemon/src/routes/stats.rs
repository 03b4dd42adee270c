//! `GET /containers/{id}/stats`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use barque_api::ApiVersion;
use barque_api::container::StatsQuery;
use barque_engine::Engine;
use barque_engine::container::view::ContainerView;
use barque_model::Timestamp;
use bytes::Bytes;
use futures_util::stream;

use super::Context;
use crate::convert::stats::{Reading, reading, stopped};
use crate::http::{self, Outcome};

/// Between two readings.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn stats(context: Context, id: String) -> Outcome {
    let Context { state, call } = context;
    let query = call.query(StatsQuery::from_params)?;
    let engine = state.engine.clone();
    let view = engine.container(&id)?;
    let version = call.version;
    if query.stream.unwrap_or(true) {
        if query.one_shot && version.at_least(41) {
            return Err(barque_model::Error::invalid("cannot have stream=true and one-shot=true"));
        }
        return Ok(http::stream("application/json", readings(engine, view, version)));
    }
    let full = view.id.to_string();
    if !view.state.is_running() {
        return http::json(&stopped(&full, &view.name));
    }
    let first = read(&engine, &full).await?;
    if query.one_shot && version.at_least(41) {
        return http::json(&reading(&full, &view.name, &first, None, version));
    }
    tokio::time::sleep(INTERVAL).await;
    let second = read(&engine, &full).await?;
    http::json(&reading(&full, &view.name, &second, Some(&first), version))
}

async fn read(engine: &Engine, id: &str) -> barque_model::Result<Reading> {
    let stats = engine.container_stats(id).await?;
    Ok(Reading { stats, time: Timestamp::now().to_string() })
}

/// A document each second, until the container is gone. A stopped one gives empty readings.
fn readings(
    engine: Engine,
    view: Arc<ContainerView>,
    version: ApiVersion,
) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send {
    let id = view.id.to_string();
    stream::unfold((engine, None::<Reading>, true), move |(engine, previous, first)| {
        let id = id.clone();
        async move {
            if !first {
                tokio::time::sleep(INTERVAL).await;
            }
            let view = engine.container(&id).ok()?;
            let (document, next) = match view.state.is_running() {
                false => (stopped(&id, &view.name), None),
                true => {
                    let now = read(&engine, &id).await.ok()?;
                    (reading(&id, &view.name, &now, previous.as_ref(), version), Some(now))
                }
            };
            let bytes = barque_api::json::to_vec(&document).map(Bytes::from).map_err(io::Error::other);
            Some((bytes, (engine, next, false)))
        }
    })
}
