//! Waiting for containers: running, healthy, ended.

use std::time::Duration;

use barque_api::container::ContainerInspect;
use barque_model::Error;

use super::body::model_error;
use super::engine::Engine;
use super::progress::Progress;
use crate::file::model::Condition;

/// Longest pause between two looks at a container's health.
const SLOWEST: Duration = Duration::from_millis(500);

/// What has run that long is no program that fails at once (as Docker Compose, which looks that late).
const STEADY: Duration = Duration::from_millis(500);

/// Waits until a condition holds of a container.
///
/// # Errors
/// It can no longer come to hold: the container ended, or is unhealthy.
pub async fn until(
    engine: &Engine,
    progress: &Progress,
    id: &str,
    name: &str,
    service: &str,
    condition: Condition,
) -> Result<(), Error> {
    if engine.is_dry_run() || condition == Condition::Started {
        return Ok(());
    }
    let shown = format!("Container {name}");
    progress.working(&shown, "Waiting");
    let result = match condition {
        Condition::Completed => completed(engine, id, service).await,
        _ => healthy(engine, id, name).await,
    };
    match &result {
        Ok(word) => progress.done(&shown, word),
        Err(e) => progress.failed(&shown, e.message()),
    }
    result.map(|_| ())
}

async fn completed(engine: &Engine, id: &str, service: &str) -> Result<&'static str, Error> {
    let handle = engine.read().client().container_wait(id, "not-running").await.map_err(|e| model_error(&e))?;
    let code = handle.finish().await.map_err(|e| model_error(&e))?.status_code;
    if code == 0 {
        return Ok("Exited");
    }
    Err(Error::conflict(format!("service {service:?} didn't complete successfully: exit {code}"))
        .with_hint(format!("see why: compose logs {service}")))
}

async fn healthy(engine: &Engine, id: &str, name: &str) -> Result<&'static str, Error> {
    let mut pause = Duration::from_millis(20);
    loop {
        let container = engine.read().inspect(id).await.map_err(|e| model_error(&e))?;
        if let Some(outcome) = health_of(&container, name) {
            return outcome;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(SLOWEST);
    }
}

/// For how long a container has run, by this machine's clock.
fn age(container: &ContainerInspect) -> Option<Duration> {
    let started: jiff::Timestamp = container.state.started_at.parse().ok()?;
    Duration::try_from(jiff::Timestamp::now().duration_since(started)).ok()
}

/// Healthy, never to be healthy, or nothing yet.
fn health_of(container: &ContainerInspect, name: &str) -> Option<Result<&'static str, Error>> {
    let state = &container.state;
    let has_check = container
        .config
        .healthcheck
        .as_ref()
        .and_then(|h| h.test.as_ref())
        .is_some_and(|t| t.first().is_some_and(|w| w != "NONE"));
    if state.status == "exited" || state.dead {
        let text = format!("container {name} exited ({})", state.exit_code);
        return Some(Err(Error::conflict(text).with_hint(format!("see why: docker logs {name}"))));
    }
    match state.health.as_ref().map(|h| h.status.as_str()) {
        Some("healthy") => Some(Ok("Healthy")),
        Some("unhealthy") => Some(Err(unhealthy(container, name))),
        _ if !has_check && state.health.is_none() => {
            Some(Err(Error::invalid(format!("container {name} has no healthcheck configured"))
                .with_hint("add \"healthcheck:\" to the service, or wait for service_started")))
        }
        _ => None,
    }
}

fn unhealthy(container: &ContainerInspect, name: &str) -> Error {
    let error = Error::conflict(format!("container {name} is unhealthy"));
    let health = container.state.health.as_ref();
    let last = health.and_then(|h| h.log.as_ref()?.last().cloned());
    match last {
        Some(check) => {
            let output: String = check.output.trim().chars().take(200).collect();
            error.with_hint(format!("the last check ended with {}: {output}", check.exit_code))
        }
        None => error,
    }
}

/// Waits until a container runs and, if it has a healthcheck, is healthy (`up --wait`).
///
/// # Errors
/// It ended with a failure, or is unhealthy.
pub async fn running_or_healthy(
    engine: &Engine,
    progress: &Progress,
    id: &str,
    name: &str,
    may_end: bool,
) -> Result<(), Error> {
    if engine.is_dry_run() {
        return Ok(());
    }
    let shown = format!("Container {name}");
    progress.working(&shown, "Waiting");
    let (mut pause, begin) = (Duration::from_millis(20), tokio::time::Instant::now());
    loop {
        let container = engine.read().inspect(id).await.map_err(|e| model_error(&e))?;
        let outcome = if container.state.running && container.state.health.is_none() {
            let lasts = begin.elapsed() >= STEADY || age(&container).is_some_and(|age| age >= STEADY);
            lasts.then_some(Ok("Healthy"))
        } else if container.state.status == "exited" && may_end && container.state.exit_code == 0 {
            Some(Ok("Exited"))
        } else {
            health_of(&container, name)
                .filter(|r| container.state.health.is_some() || container.state.status == "exited" || r.is_ok())
        };
        match outcome {
            Some(Ok(word)) => {
                progress.done(&shown, word);
                return Ok(());
            }
            Some(Err(e)) => {
                progress.failed(&shown, e.message());
                return Err(e);
            }
            None => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(SLOWEST);
    }
}
