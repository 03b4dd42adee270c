//! What the engine has of a project.

use std::collections::{BTreeMap, BTreeSet};

use barque_api::container::{ContainerSummary, MountPoint};
use barque_api::image::ImageInspect;
use barque_api::network::Network;
use barque_api::volume::Volume;

use super::labels;

/// The state of a container, as the engine names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Made, never started.
    #[default]
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// About to be started again by its restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Ended.
    Exited,
    /// Broken.
    Dead,
}

impl State {
    /// The state of a word of the API.
    pub fn parse(text: &str) -> State {
        match text {
            "running" => State::Running,
            "paused" => State::Paused,
            "restarting" => State::Restarting,
            "removing" => State::Removing,
            "exited" | "stopped" => State::Exited,
            "dead" => State::Dead,
            _ => State::Created,
        }
    }

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running => "running",
            State::Paused => "paused",
            State::Restarting => "restarting",
            State::Removing => "removing",
            State::Exited => "exited",
            State::Dead => "dead",
        }
    }

    /// True if its process lives or is about to.
    pub fn is_up(self) -> bool {
        matches!(self, State::Running | State::Paused | State::Restarting)
    }
}

/// A container of the project.
#[derive(Clone, Debug, Default)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name without the slash.
    pub name: String,
    /// Key of its service.
    pub service: String,
    /// Its number within the service; 0 for containers of `run`.
    pub number: usize,
    /// True if made by `run`.
    pub oneoff: bool,
    /// Its state.
    pub state: State,
    /// Exit status of an ended one, from the status text.
    pub exit_code: Option<i64>,
    /// `healthy`, `unhealthy`, `starting` or empty.
    pub health: String,
    /// Hash of its configuration.
    pub hash: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The image by name.
    pub image: String,
    /// The image by id.
    pub image_id: String,
    /// Names of the networks it is in, with their ids.
    pub networks: BTreeMap<String, String>,
    /// What is mounted.
    pub mounts: Vec<MountPoint>,
    /// The summary it was made of.
    pub summary: ContainerSummary,
}

impl Container {
    /// Reads a summary.
    pub fn new(summary: ContainerSummary) -> Self {
        let label = |key: &str| summary.labels.get(key).cloned().unwrap_or_default();
        let networks = summary.network_settings.iter().flat_map(|n| &n.networks);
        Container {
            id: summary.id.clone(),
            name: own_name(&summary.names),
            service: label(labels::SERVICE),
            number: label(labels::NUMBER).parse().unwrap_or(0),
            oneoff: label(labels::ONEOFF).eq_ignore_ascii_case("true"),
            state: State::parse(&summary.state),
            exit_code: exit_code(&summary.status),
            health: health(&summary),
            hash: label(labels::HASH),
            labels: summary.labels.clone(),
            image: summary.image.clone(),
            image_id: summary.image_id.clone(),
            networks: networks
                .map(|(name, e)| (name.clone(), e.as_ref().map(|e| e.network_id.clone()).unwrap_or_default()))
                .collect(),
            mounts: summary.mounts.clone(),
            summary,
        }
    }

    /// The name it was to get, if it was made in place of another and its maker was interrupted: until the other is gone
    /// it is called `<12 digits of the other's id>_NAME`.
    pub fn unfinished(&self) -> Option<&str> {
        let (digits, name) = self.name.split_once('_')?;
        if digits.len() != 12 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let project = self.labels.get(labels::PROJECT).map(String::as_str).unwrap_or_default();
        let usual = ["-", "_"].map(|glue| format!("{project}{glue}{}{glue}{}", self.service, self.number));
        let replaces = self.labels.get(labels::REPLACE).is_some_and(|replaced| replaced == name);
        (replaces || usual.iter().any(|u| u == name)).then_some(name)
    }

    /// `service-1`, as it is called in logs.
    pub fn log_name(&self) -> String {
        let project = self.labels.get(labels::PROJECT).map(String::as_str).unwrap_or_default();
        let short = self.name.strip_prefix(project).map(|rest| rest.trim_start_matches(['-', '_']));
        match short {
            Some(short) if !short.is_empty() && short.len() < self.name.len() => short.to_owned(),
            _ => self.name.clone(),
        }
    }
}

/// The name that is not an alias of a link (those have a second slash).
fn own_name(names: &[String]) -> String {
    let plain = |n: &&String| !n.trim_start_matches('/').contains('/');
    names.iter().find(plain).or(names.first()).map(|n| n.trim_start_matches('/').to_owned()).unwrap_or_default()
}

/// `Exited (3) 2 minutes ago` → 3.
fn exit_code(status: &str) -> Option<i64> {
    let rest = status.split_once('(')?.1;
    rest.split_once(')')?.0.parse().ok()
}

fn health(summary: &ContainerSummary) -> String {
    if let Some(health) = summary.health.as_ref().filter(|h| !h.status.is_empty() && h.status != "none") {
        return health.status.clone();
    }
    for (mark, word) in [("(healthy)", "healthy"), ("(unhealthy)", "unhealthy"), ("(health: starting)", "starting")] {
        if summary.status.contains(mark) {
            return word.to_owned();
        }
    }
    String::new()
}

/// A network or volume the engine has.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    /// Its id; the name for volumes.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The project it belongs to, if any.
    pub project: Option<String>,
    /// Its key in that project.
    pub key: Option<String>,
    /// Hash of its configuration, if known.
    pub hash: Option<String>,
    /// The configuration itself, if known.
    pub config: Option<serde_json::Value>,
}

/// An image the engine has.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// Paths of its `VOLUME`s.
    pub volumes: BTreeSet<String>,
    /// When it was last tagged, as the engine wrote it.
    pub tagged: String,
}

impl Image {
    /// Reads an inspected image.
    pub fn new(image: ImageInspect) -> Self {
        let volumes = image.config.and_then(|c| c.volumes).unwrap_or_default();
        Image { id: image.id, volumes: volumes.into_keys().collect(), tagged: image.metadata.last_tag_time }
    }
}

/// What the engine has of a project.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its containers, those of `run` too.
    pub containers: Vec<Container>,
    /// All networks, by name.
    pub networks: BTreeMap<String, Resource>,
    /// All volumes, by name.
    pub volumes: BTreeMap<String, Resource>,
    /// The images the services run, by the reference in the file; missing ones are not listed.
    pub images: BTreeMap<String, Image>,
}

impl Observed {
    /// Containers of a service that `up` takes care of, by number.
    pub fn of_service(&self, service: &str) -> Vec<&Container> {
        self.sorted(service, |c| c.unfinished().is_none())
    }

    /// Containers that were made in place of others of a service, and never got their names.
    pub fn unfinished_of(&self, service: &str) -> Vec<&Container> {
        self.sorted(service, |c| c.unfinished().is_some())
    }

    fn sorted(&self, service: &str, wanted: impl Fn(&Container) -> bool) -> Vec<&Container> {
        let ours = |c: &&Container| c.service == service && !c.oneoff && !c.labels.contains_key(labels::HOOK);
        let mut found: Vec<&Container> = self.containers.iter().filter(ours).filter(|c| wanted(c)).collect();
        found.sort_by(|a, b| a.number.cmp(&b.number).then_with(|| a.name.cmp(&b.name)));
        found
    }
}

/// Reads a network.
pub fn network(network: Network) -> Resource {
    let labels = network.labels.unwrap_or_default();
    Resource {
        id: network.id,
        name: network.name,
        project: labels.get(labels::PROJECT).cloned(),
        key: labels.get(labels::NETWORK).cloned(),
        hash: labels.get(labels::HASH).cloned(),
        config: labels.get(labels::CONFIG).and_then(|text| serde_json::from_str(text).ok()),
    }
}

/// Reads a volume.
pub fn volume(volume: Volume) -> Resource {
    let labels = volume.labels.unwrap_or_default();
    Resource {
        id: volume.name.clone(),
        name: volume.name,
        project: labels.get(labels::PROJECT).cloned(),
        key: labels.get(labels::VOLUME).cloned(),
        hash: labels.get(labels::HASH).cloned(),
        config: labels.get(labels::CONFIG).and_then(|text| serde_json::from_str(text).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_texts() {
        assert_eq!(exit_code("Exited (137) 2 minutes ago"), Some(137));
        assert_eq!(exit_code("Up 2 minutes (healthy)"), None);
        let summary = ContainerSummary { status: "Up 3 seconds (health: starting)".into(), ..Default::default() };
        assert_eq!(health(&summary), "starting");
        assert_eq!(own_name(&["/a/alias".into(), "/real".into()]), "real");
    }

    #[test]
    fn names_of_containers_whose_making_was_interrupted() {
        let container = |project: &str, name: &str, replaced: &str| Container {
            name: name.into(),
            service: "s".into(),
            number: 1,
            labels: BTreeMap::from([
                (labels::PROJECT.to_owned(), project.to_owned()),
                (labels::REPLACE.to_owned(), replaced.to_owned()),
            ]),
            ..Default::default()
        };
        assert_eq!(container("p", "0123456789ab_p-s-1", "").unfinished(), Some("p-s-1"));
        assert_eq!(container("p", "0123456789ab_p_s_1", "").unfinished(), Some("p_s_1"));
        assert_eq!(container("p", "0123456789ab_own", "own").unfinished(), Some("own"));
        for (project, name, replaced) in
            [("p", "p-s-1", ""), ("abcdefabcdef", "abcdefabcdef_s_1", ""), ("p", "abcdefabcdef_x", "abcdefabcdef_x")]
        {
            assert_eq!(container(project, name, replaced).unfinished(), None, "{name}");
        }
    }

    #[test]
    fn log_names_leave_the_project_out() {
        let container = |name: &str| Container {
            name: name.into(),
            labels: BTreeMap::from([(labels::PROJECT.to_owned(), "shop".to_owned())]),
            ..Default::default()
        };
        assert_eq!(container("shop-web-1").log_name(), "web-1");
        assert_eq!(container("shop_web_1").log_name(), "web_1");
        assert_eq!(container("custom").log_name(), "custom");
    }
}
