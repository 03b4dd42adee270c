//! An idle daemon gives memory back: what answered the last requests is not kept until the next ones.

use std::time::Duration;

use barque_engine::Engine;
use tokio::sync::Notify;

/// Without a request for this long, the daemon is idle.
const IDLE_AFTER: Duration = Duration::from_secs(5);

/// Waits for requests (`activity`, once each) to come to rest, again and again. Costs nothing while idle.
pub(crate) async fn watch(engine: &Engine, activity: &Notify) {
    loop {
        while tokio::time::timeout(IDLE_AFTER, activity.notified()).await.is_ok() {}
        engine.release_memory().await;
        activity.notified().await;
    }
}
