//! `GET /containers/json`: one row per container.

use std::time::Duration;

use barque_api::ApiVersion;
use barque_api::container::{ContainerSummary, SummaryHostConfig, SummaryNetworkSettings};
use barque_engine::container::health::HealthStatus;
use barque_engine::container::state::State;
use barque_engine::container::view::ContainerView;
use barque_model::Timestamp;

use super::document::Document;
use super::{endpoint, health, mounts, ports};

/// `image` is what the image's name stands for now; another id shows the container's own image by id.
pub(crate) fn row(
    view: &ContainerView,
    image_now: Option<barque_model::ImageId>,
    sizes: Option<(u64, u64)>,
    now: Timestamp,
    version: ApiVersion,
) -> ContainerSummary {
    let document = Document::parse(&view.document);
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let image_id = view.spec.image_id.map(|id| id.to_string()).unwrap_or_default();
    let moved = image_now.is_none_or(|id| Some(id) != view.spec.image_id);
    ContainerSummary {
        id: view.id.to_string(),
        names: vec![format!("/{}", view.name)],
        image: if moved && !image_id.is_empty() { image_id.clone() } else { view.spec.image_ref.clone() },
        image_id,
        image_manifest_descriptor: None,
        command: command(&view.argv),
        created: view.created_at.seconds(),
        ports: ports::summaries(view),
        size_rw: sizes.map_or(0, |(rw, _)| signed(rw)),
        size_root_fs: sizes.map_or(0, |(_, root)| signed(root)),
        labels: view.spec.labels.clone(),
        state: view.state.status().to_owned(),
        status: status(view, now),
        host_config: SummaryHostConfig {
            network_mode: document.host.network_mode.clone(),
            annotations: document.host.annotations.clone().filter(|_| version.at_least(46)),
        },
        health: version.at_least(52).then(|| health::summary(view.health.as_ref())),
        network_settings: Some(SummaryNetworkSettings { networks: endpoint::listed_networks(view) }),
        mounts: mounts::points(&view.mounts, &document.host),
    }
}

/// Path and arguments in one line; arguments with a space are quoted.
fn command(argv: &[String]) -> String {
    let Some((path, arguments)) = argv.split_first() else { return String::new() };
    let mut line = path.clone();
    for argument in arguments {
        line.push(' ');
        if argument.contains(' ') {
            line.push_str(&format!("'{argument}'"));
        } else {
            line.push_str(argument);
        }
    }
    line
}

/// `Up 3 minutes (healthy)`, `Exited (1) 2 seconds ago`, …
pub(crate) fn status(view: &ContainerView, now: Timestamp) -> String {
    let since = |then: Timestamp| barque_model::duration::human(whole_seconds(now.since(then)));
    match &view.state {
        State::Created { .. } | State::Starting { .. } => "Created".into(),
        State::Running(running) if running.paused => format!("Up {} (Paused)", since(running.started_at)),
        State::Running(running) => {
            let health = match view.health.as_ref().map(|health| health.status) {
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", since(running.started_at))
        }
        State::Restarting { exit, .. } => format!("Restarting ({}) {} ago", exit.code, since(exit.finished_at)),
        State::Exited { exit } => format!("Exited ({}) {} ago", exit.code, since(exit.finished_at)),
        State::Removing { .. } => "Removal In Progress".into(),
        State::Dead { .. } => "Dead".into(),
    }
}

fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let of = |words: &[&str]| command(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["sh", "-c", "echo a"]), "sh -c 'echo a'");
        assert_eq!(of(&["sh"]), "sh");
        assert_eq!(of(&[]), "");
    }
}
