//! The decisions of `up`: what to make, make again, start and remove.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::diff;
use super::labels;
use super::left_out;
use super::observed::{Container, Observed, State};
use super::step::{Action, Plan, Reason};
use crate::file::hash;
use crate::file::project::{Project, Service};

/// When containers are made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recreate {
    /// When they differ from the file.
    #[default]
    Changed,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What the command line asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Services named on the command line; empty for all.
    pub named: Vec<String>,
    /// `--scale`.
    pub scale: BTreeMap<String, usize>,
    /// For named services (all if none is named).
    pub recreate: Recreate,
    /// For services others need.
    pub recreate_deps: Recreate,
    /// `--remove-orphans`.
    pub remove_orphans: bool,
    /// Start what is made and what is stopped.
    pub start: bool,
    /// Join names with `_`.
    pub compatibility: bool,
    /// Services whose image will be pulled or built, if that has not happened yet.
    pub images_pending: BTreeMap<String, String>,
    /// Hashes of the secrets and configs that are copied into containers, by service.
    pub files: BTreeMap<String, String>,
}

/// The name of a container.
pub fn container_name(project: &Project, service: &Service, number: usize, compatibility: bool) -> String {
    if !service.spec.container_name.is_empty() {
        return service.spec.container_name.clone();
    }
    let glue = if compatibility { "_" } else { "-" };
    format!("{}{glue}{}{glue}{number}", project.name, service.name)
}

/// How many containers of a service there are; one that only lacks its name counts.
pub fn present(service: &str, observed: &Observed) -> usize {
    let unfinished = observed.unfinished_of(service);
    let all = observed.of_service(service);
    let numbers: BTreeSet<usize> = unfinished.iter().map(|c| c.number).collect();
    all.len() + numbers.into_iter().filter(|n| !all.iter().any(|c| c.number == *n)).count()
}

/// How many containers a service shall have.
pub fn scale_of(service: &Service, wish: &Wish) -> usize {
    wish.scale.get(&service.name).copied().unwrap_or_else(|| service.replicas())
}

/// The configuration a container is made of, references to other services replaced by their containers.
pub fn resolved(service: &Service, observed: &Observed) -> Json {
    let mut json = service.json.clone();
    let Some(map) = json.as_object_mut() else { return json };
    let first = |name: &str| observed.of_service(name).first().map(|c| c.id.clone());
    for key in ["network_mode", "ipc", "pid"] {
        let Some(target) = map.get(key).and_then(Json::as_str).and_then(|s| s.strip_prefix("service:")) else {
            continue;
        };
        if let Some(id) = first(target) {
            map.insert(key.to_owned(), Json::String(format!("container:{id}")));
        }
    }
    for from in map.get_mut("volumes_from").and_then(Json::as_array_mut).into_iter().flatten() {
        let text = from.as_str().unwrap_or_default().to_owned();
        match text.strip_prefix("container:") {
            Some(name) => *from = Json::String(name.to_owned()),
            None => {
                if let Some(id) = first(text.split(':').next().unwrap_or_default()) {
                    *from = Json::String(id);
                }
            }
        }
    }
    json
}

/// The form of the hashes that the project's containers have, so that the tool that made them goes on knowing them all.
pub fn hash_form(project: &Project, observed: &Observed) -> hash::Form {
    let told = project.services.values().find_map(|service| {
        let containers = observed.of_service(&service.name);
        let hashes = containers.iter().map(|c| c.hash.as_str());
        if containers.is_empty() { None } else { hash::Form::of(&resolved(service, observed), hashes) }
    });
    told.unwrap_or(hash::Form::WRITTEN)
}

/// Plans `up`.
pub fn plan(project: &Project, observed: &Observed, wish: &Wish) -> Plan {
    let mut planner = Planner {
        project,
        observed,
        wish,
        plan: Plan::default(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        recreated: BTreeSet::new(),
        made: BTreeMap::new(),
        starts: BTreeMap::new(),
        renewed: BTreeMap::new(),
    };
    planner.networks();
    planner.volumes();
    planner.plan.warnings.extend(left_out::of_files(project));
    planner.orphans();
    let order = dependency_order(project);
    for name in &order {
        planner.containers(&project.services[name]);
    }
    if wish.start {
        for name in &order {
            planner.starts(&project.services[name]);
        }
    }
    planner.settle();
    planner.names();
    planner.plan
}

/// Services, those needed by others first. A cycle, which loading refuses, would end up last.
pub fn dependency_order(project: &Project) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut left: BTreeSet<&String> = project.services.keys().collect();
    while !left.is_empty() {
        let ready: Vec<&String> = left
            .iter()
            .copied()
            .filter(|name| project.services[*name].spec.depends_on.keys().all(|d| !left.contains(d)))
            .collect();
        if ready.is_empty() {
            out.extend(left.iter().map(|n| (*n).clone()));
            break;
        }
        for name in ready {
            left.remove(name);
            out.push(name.clone());
        }
    }
    out
}

pub(super) struct Planner<'a> {
    pub(super) project: &'a Project,
    pub(super) observed: &'a Observed,
    pub(super) wish: &'a Wish,
    pub(super) plan: Plan,
    /// Steps that make networks, by key.
    pub(super) networks: BTreeMap<String, usize>,
    /// Steps that make volumes, by key.
    pub(super) volumes: BTreeMap<String, usize>,
    pub(super) recreated: BTreeSet<String>,
    /// Steps that make containers, by service and number.
    pub(super) made: BTreeMap<(String, usize), usize>,
    /// Steps that start containers, by service.
    pub(super) starts: BTreeMap<String, Vec<usize>>,
    /// Steps that make networks again, by key.
    pub(super) renewed: BTreeMap<String, usize>,
}

impl Planner<'_> {
    fn networks(&mut self) {
        for (key, network) in &self.project.networks {
            let name = &network.spec.name;
            if network.spec.external {
                continue;
            }
            let Some(found) = self.observed.networks.get(name) else {
                let step = self.plan.push(
                    Action::CreateNetwork { key: key.clone() },
                    name.clone(),
                    vec![Reason::text("it does not exist")],
                    Vec::new(),
                );
                self.networks.insert(key.clone(), step);
                continue;
            };
            if found.project.as_deref() != Some(self.project.name.as_str()) {
                let by = if found.project.is_none() {
                    "by compose".to_owned()
                } else {
                    format!("for project {:?}", self.project.name)
                };
                self.plan.warnings.push(format!(
                    "a network with name {name} exists but was not created {by}.\nSet `external: true` to use an existing network"
                ));
                continue;
            }
            let wanted = hash::network(&network.json);
            if found.hash.as_ref().is_some_and(|h| !h.is_empty() && *h != wanted) {
                let users: Vec<Container> =
                    self.observed.containers.iter().filter(|c| c.networks.contains_key(name)).cloned().collect();
                // one after the other, since a container may be in both
                let after = self.renewed.values().max().copied().into_iter().collect();
                let kept = BTreeSet::new();
                let action = Action::RecreateNetwork { key: key.clone(), old: found.id.clone(), users, kept };
                let fields = found.config.as_ref().map(|old| diff::fields(old, &network.json)).unwrap_or_default();
                let unknown = || vec![Reason::text("its configuration changed")];
                let reasons = if fields.is_empty() { unknown() } else { fields };
                let step = self.plan.push(action, name.clone(), reasons, after);
                self.networks.insert(key.clone(), step);
                self.renewed.insert(key.clone(), step);
            }
        }
    }

    fn volumes(&mut self) {
        for (key, volume) in &self.project.volumes {
            let name = &volume.spec.name;
            if volume.spec.external {
                continue;
            }
            let Some(found) = self.observed.volumes.get(name) else {
                let action = Action::CreateVolume { key: key.clone() };
                let step = self.plan.push(action, name.clone(), vec![Reason::text("it does not exist")], Vec::new());
                self.volumes.insert(key.clone(), step);
                continue;
            };
            match &found.project {
                None => self.plan.warnings.push(format!(
                    "volume {name:?} already exists but was not created by Docker Compose. Use `external: true` to use an existing volume"
                )),
                Some(other) if *other != self.project.name => self.plan.warnings.push(format!(
                    "volume {name:?} already exists but was created for project {other:?} (expected {:?}). Use `external: true` to use an existing volume",
                    self.project.name
                )),
                Some(_) => {
                    if found.hash.as_ref().is_some_and(|h| !h.is_empty() && *h != hash::volume(&volume.json)) {
                        let fields = found.config.as_ref().map(|old| diff::fields(old, &volume.json));
                        let fields: Vec<String> = fields.into_iter().flatten().map(|f| f.to_string()).collect();
                        let what = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
                        // its data is worth more than its options
                        self.plan.warnings.push(format!(
                            "Volume {name:?} exists but doesn't match configuration in compose file{what}. Remove it to have it made again (its data will be lost)"
                        ));
                    }
                }
            }
        }
    }

    /// Steps that must be done before containers of a service are made.
    fn infrastructure(&self, service: &Service) -> Vec<usize> {
        let networks = service.spec.networks.keys().filter_map(|k| self.networks.get(k));
        let volumes = service.spec.volumes.iter().filter_map(|v| self.volumes.get(&v.source));
        // A link names a container: it has to be there.
        let linked = service.spec.links.iter().map(|l| l.split(':').next().unwrap_or_default().to_owned());
        let needed = shared_with(service)
            .into_iter()
            .chain(linked)
            .flat_map(|name| self.made.iter().filter(move |((service, _), _)| *service == name).map(|(_, step)| step));
        let mut all: Vec<usize> = networks.chain(volumes).chain(needed).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn containers(&mut self, service: &Service) {
        if service.spec.provider.is_some() {
            // A program makes it, not the engine.
            return;
        }
        self.plan.warnings.extend(left_out::of_service(service));
        let wanted = scale_of(service, self.wish);
        let after = self.infrastructure(service);
        let mut existing: Vec<(Container, Vec<Reason>)> = self
            .observed
            .of_service(&service.name)
            .into_iter()
            .map(|c| (c.clone(), self.reasons(service, c)))
            .collect();
        for container in self.observed.unfinished_of(&service.name) {
            let name = container.unfinished().unwrap_or_default();
            if existing.iter().any(|(c, _)| c.number == container.number) {
                self.remove(container.clone(), format!("{name} was to be made again, and that was interrupted"));
            } else {
                // the other one is gone already, and this one has its volumes
                let reason = Reason::text("it was to be made again, and that was interrupted");
                existing.push((container.clone(), vec![reason]));
            }
        }
        // those that are up to date are kept first, then the lower numbers
        existing.sort_by_key(|(c, reasons)| (!reasons.is_empty(), c.number));
        let kept = existing.len().min(wanted);
        let mut taken: BTreeSet<usize> = existing.iter().take(kept).map(|(c, _)| c.number.max(1)).collect();
        for (i, (container, reasons)) in existing.into_iter().enumerate() {
            if i >= wanted {
                self.remove(container, format!("{wanted} containers are wanted"));
                continue;
            }
            if reasons.is_empty() {
                if container.state == State::Running {
                    self.plan.running.push(container);
                }
                continue;
            }
            let after = [after.clone(), self.renewed_of(&container)].concat();
            self.recreated.insert(service.name.clone());
            let number = container.number.max(1);
            let name = container_name(self.project, service, number, self.wish.compatibility);
            let action = Action::Recreate { service: service.name.clone(), number, old: Box::new(container) };
            let step = self.plan.push(action, name, reasons, after);
            self.made.insert((service.name.clone(), number), step);
        }
        let mut number = 0;
        for _ in kept..wanted {
            number += 1;
            while taken.contains(&number) {
                number += 1;
            }
            taken.insert(number);
            let name = container_name(self.project, service, number, self.wish.compatibility);
            let reason = Reason::text("it does not exist");
            let action = Action::Create { service: service.name.clone(), number };
            let step = self.plan.push(action, name, vec![reason], after.clone());
            self.made.insert((service.name.clone(), number), step);
        }
    }

    fn remove(&mut self, old: Container, why: String) {
        let (name, after) = (old.name.clone(), self.renewed_of(&old));
        self.plan.push(Action::Remove { old: Box::new(old) }, name, vec![Reason::text(why)], after);
    }

    /// Steps that make a network of the container again, and stop it for that.
    fn renewed_of(&self, container: &Container) -> Vec<usize> {
        let uses = |step: &&usize| match &self.plan.steps[**step].action {
            Action::RecreateNetwork { users, .. } => users.iter().any(|c| c.id == container.id),
            _ => false,
        };
        self.renewed.values().filter(uses).copied().collect()
    }

    /// Why a container must be made again; empty if it need not.
    fn reasons(&self, service: &Service, container: &Container) -> Vec<Reason> {
        let named = self.wish.named.is_empty() || self.wish.named.contains(&service.name);
        match if named { self.wish.recreate } else { self.wish.recreate_deps } {
            Recreate::Never => return Vec::new(),
            Recreate::Always if named => return vec![Reason::text("--force-recreate")],
            Recreate::Always => return vec![Reason::text("--always-recreate-deps")],
            Recreate::Changed => {}
        }
        if let Some(parent) = shared_with(service).into_iter().find(|p| self.recreated.contains(p)) {
            return vec![Reason::text(format!(
                "service {parent}, whose namespace or volumes it shares, is made again"
            ))];
        }
        let mut out = self.configuration(service, container);
        if let Some(why) = self.wish.images_pending.get(&service.name) {
            out.push(Reason::perhaps(format!("if the new image differs ({why})")));
        }
        let image = service.image(&self.project.name);
        if let Some(image) = self.observed.images.get(&image) {
            let made_of = container.labels.get(labels::IMAGE).filter(|i| !i.is_empty()).unwrap_or(&container.image_id);
            if *made_of != image.id && container.image_id != image.id {
                out.push(Reason::field("image id", Some(short(made_of)), Some(short(&image.id))));
            }
        }
        for key in service.spec.networks.keys().filter(|k| self.renewed.contains_key(*k)) {
            let name = self.project.networks.get(key).map_or(key, |n| &n.spec.name);
            out.push(Reason::text(format!("network {name} is made again")));
        }
        self.attachments(service, container, &mut out);
        out
    }

    fn configuration(&self, service: &Service, container: &Container) -> Vec<Reason> {
        let json = resolved(service, self.observed);
        if hash::FORMS.iter().any(|form| hash::service(&json, *form) == container.hash) {
            return Vec::new();
        }
        let old = container.labels.get(labels::CONFIG).and_then(|text| serde_json::from_str::<Json>(text).ok());
        if let Some(old) = old {
            let new = hash::hashed(&json, hash::Form::V5);
            let fields = diff::fields(&old, &new);
            // What a form of the hash counts besides (`depends_on`) needs no other container.
            if old == new || !fields.is_empty() {
                return fields;
            }
        }
        let by = container.labels.get(labels::VERSION).map(String::as_str).unwrap_or("an unknown version");
        let (old, new) = (short(&container.hash), short(&hash::service(&json, hash_form(self.project, self.observed))));
        vec![Reason::text(format!("its configuration changed (hash {old} → {new}; made by Compose {by})"))]
    }

    /// What became of its networks and volumes; one that was stopped while a network was made again may have lost it.
    fn attachments(&self, service: &Service, container: &Container, out: &mut Vec<Reason>) {
        for key in service.spec.networks.keys() {
            let Some(network) = self.project.networks.get(key) else { continue };
            let Some(found) = self.observed.networks.get(&network.spec.name) else { continue };
            let joined = container.networks.iter().any(|(name, id)| *name == found.name || *id == found.id);
            if !joined {
                out.push(Reason::text(format!("it is not connected to network {}", found.name)));
            }
        }
        if let (Some(old), Some(new)) = (container.labels.get(labels::FILES), self.wish.files.get(&service.name))
            && old != new
        {
            out.push(Reason::text("the content of its secrets or configs changed"));
        }
        for mount in service.spec.volumes.iter().filter(|m| m.kind == "volume" && !m.source.is_empty()) {
            let Some(volume) = self.project.volumes.get(&mount.source) else { continue };
            let name = &volume.spec.name;
            if !self.observed.volumes.contains_key(name) {
                continue;
            }
            if !container.mounts.iter().any(|m| m.kind == "volume" && m.name == *name) {
                out.push(Reason::text(format!("volume {name} is not mounted")));
            }
        }
    }

    fn orphans(&mut self) {
        let known = |c: &Container| {
            self.project.services.contains_key(&c.service) || self.project.disabled.contains_key(&c.service)
        };
        let orphans: Vec<Container> =
            self.observed.containers.iter().filter(|c| !c.oneoff && !known(c)).cloned().collect();
        if self.wish.remove_orphans {
            for orphan in &orphans {
                self.remove(orphan.clone(), format!("the file has no service {}", orphan.service));
            }
        }
        self.plan.orphans = orphans;
    }
}

/// Services whose namespaces or volumes a service uses.
pub fn shared_with(service: &Service) -> Vec<String> {
    let spec = &service.spec;
    let namespaces = [&spec.network_mode, &spec.ipc, &spec.pid];
    let namespaces = namespaces.into_iter().filter_map(|m| m.strip_prefix("service:").map(str::to_owned));
    let volumes = spec.volumes_from.iter().filter(|v| !v.starts_with("container:"));
    namespaces.chain(volumes.map(|v| v.split(':').next().unwrap_or_default().to_owned())).collect()
}

/// The first twelve digits of an id or hash.
pub fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}
