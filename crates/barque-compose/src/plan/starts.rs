//! What a plan starts, and what it does last: the containers that only stop for a while.

use std::collections::BTreeSet;

use super::observed::{Container, State};
use super::reconcile::Planner;
use super::step::{Action, Reason, Wait};
use crate::file::model::Condition;
use crate::file::project::Service;

impl Planner<'_> {
    /// Tells of each network that is made again which containers return to it, since no step replaces or removes them.
    pub(super) fn settle(&mut self) {
        let replaced: BTreeSet<String> = self
            .plan
            .steps
            .iter()
            .filter_map(|s| match &s.action {
                Action::Recreate { old, .. } | Action::Remove { old } => Some(old.id.clone()),
                _ => None,
            })
            .collect();
        for step in &mut self.plan.steps {
            let Action::RecreateNetwork { users, kept, .. } = &mut step.action else { continue };
            for container in users.iter().filter(|c| !replaced.contains(&c.id)) {
                kept.insert(container.id.clone());
                let what =
                    if container.state.is_up() { "stopped, connected to it and started" } else { "connected to it" };
                step.reasons.push(Reason::text(format!("container {} is {what} again", container.name)));
            }
        }
    }

    /// True if a container ended well and others only waited for that end. Any other that ended is started again: one
    /// that ended by itself and one that `stop` ended look the same. Whoever names a service wants it to run.
    fn is_done(&self, service: &Service, container: &Container) -> bool {
        container.state == State::Exited
            && container.exit_code == Some(0)
            && !self.wish.named.contains(&service.name)
            && self
                .project
                .services
                .values()
                .any(|s| s.spec.depends_on.get(&service.name).is_some_and(|d| d.condition == Condition::Completed))
    }

    /// A name is free only when the container that has it is gone or renamed.
    pub(super) fn names(&mut self) {
        let mut leaves: Vec<(usize, String, bool)> = Vec::new();
        for (index, step) in self.plan.steps.iter().enumerate() {
            match &step.action {
                Action::Remove { old } => leaves.push((index, old.name.clone(), true)),
                Action::Recreate { old, .. } if old.name != step.name => leaves.push((index, old.name.clone(), false)),
                _ => {}
            }
        }
        for step in &mut self.plan.steps {
            // two that swap their names cannot both be first
            let only_removed = match &step.action {
                Action::Create { .. } => false,
                Action::Recreate { .. } => true,
                _ => continue,
            };
            let earlier = leaves.iter().filter(|(_, name, removed)| *name == step.name && (*removed || !only_removed));
            step.after.extend(earlier.map(|(index, ..)| *index));
        }
    }

    /// The starts of a service: of what is made, and of what does not run.
    pub(super) fn starts(&mut self, service: &Service) {
        let waits: Vec<Wait> = service
            .spec
            .depends_on
            .iter()
            .filter(|(name, _)| self.project.services.contains_key(*name))
            .map(|(name, d)| Wait { service: name.clone(), condition: d.condition, required: d.required })
            .collect();
        let before: Vec<usize> = waits.iter().filter_map(|w| self.starts.get(&w.service)).flatten().copied().collect();
        let mut out = Vec::new();
        let made: Vec<(usize, usize)> = self
            .made
            .iter()
            .filter(|((name, _), _)| *name == service.name)
            .map(|((_, number), step)| (*number, *step))
            .collect();
        for (number, step) in &made {
            let name = self.plan.steps[*step].name.clone();
            let action =
                Action::Start { service: service.name.clone(), number: *number, existing: None, waits: waits.clone() };
            out.push(self.plan.push(action, name, Vec::new(), [before.clone(), vec![*step]].concat()));
        }
        let removed: BTreeSet<String> = self
            .plan
            .steps
            .iter()
            .filter_map(|s| match &s.action {
                Action::Remove { old } => Some(old.id.clone()),
                _ => None,
            })
            .collect();
        for container in self.observed.of_service(&service.name) {
            let replaced = made.iter().any(|(number, _)| *number == container.number.max(1));
            let mut before = before.clone();
            let up = matches!(container.state, State::Running | State::Restarting);
            if up && !replaced && !removed.contains(&container.id) {
                if let Some(stop) = self.stop_for_dependency(service, container) {
                    before.push(stop);
                    self.push_start(
                        service,
                        container,
                        &waits,
                        "a service it depends on is made again",
                        before,
                        &mut out,
                    );
                }
                continue;
            }
            if replaced || removed.contains(&container.id) || up || self.is_done(service, container) {
                continue;
            }
            let reason = match container.exit_code {
                Some(code) if container.state == State::Exited => format!("it has exited ({code})"),
                _ => format!("it is {}", container.state.as_str()),
            };
            before.extend(service.spec.networks.keys().filter_map(|k| self.networks.get(k)).copied());
            self.push_start(service, container, &waits, &reason, before, &mut out);
        }
        self.starts.insert(service.name.clone(), out);
    }

    fn push_start(
        &mut self,
        service: &Service,
        container: &Container,
        waits: &[Wait],
        why: &str,
        after: Vec<usize>,
        out: &mut Vec<usize>,
    ) {
        let action = Action::Start {
            service: service.name.clone(),
            number: container.number,
            existing: Some(Box::new(container.clone())),
            waits: waits.to_vec(),
        };
        out.push(self.plan.push(action, container.name.clone(), vec![Reason::text(why)], after));
    }

    /// With `depends_on: {x: {restart: true}}`, a container stops when that of x is made again.
    fn stop_for_dependency(&mut self, service: &Service, container: &Container) -> Option<usize> {
        let cause = service.spec.depends_on.iter().find(|(name, d)| d.restart && self.recreated.contains(*name))?;
        let reason =
            Reason::text(format!("service {}, which it depends on with restart: true, is made again", cause.0));
        self.plan.running.retain(|c| c.id != container.id);
        let action = Action::Stop { old: Box::new(container.clone()) };
        Some(self.plan.push(action, container.name.clone(), vec![reason], Vec::new()))
    }
}
