//! The steps of a plan.

use std::collections::BTreeSet;

use super::observed::Container;
use crate::file::model::Condition;

/// Why a step is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The field that changed, such as `environment.A`; empty if the reason is not a field.
    pub field: String,
    /// Its value before, if any.
    pub old: Option<String>,
    /// Its value now, if any.
    pub new: Option<String>,
    /// The reason in words, if it is not a change of a field.
    pub text: String,
    /// It may turn out that it is none: that is known only when an image was fetched.
    pub maybe: bool,
}

impl Reason {
    /// A reason in words.
    pub fn text(text: impl Into<String>) -> Self {
        Reason { field: String::new(), old: None, new: None, text: text.into(), maybe: false }
    }

    /// A reason that may turn out to be none.
    pub fn perhaps(text: impl Into<String>) -> Self {
        Reason { maybe: true, ..Reason::text(text) }
    }

    /// A changed field.
    pub fn field(field: impl Into<String>, old: Option<String>, new: Option<String>) -> Self {
        Reason { field: field.into(), old, new, text: String::new(), maybe: false }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.text);
        }
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{}: {old} → {new}", self.field),
            (None, Some(new)) if new.is_empty() => write!(f, "{} added", self.field),
            (Some(old), None) if old.is_empty() => write!(f, "{} removed", self.field),
            (None, Some(new)) => write!(f, "{}: {new} added", self.field),
            (Some(old), None) => write!(f, "{}: {old} removed", self.field),
            (None, None) => write!(f, "{} changed", self.field),
        }
    }
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Makes the network of this key.
    CreateNetwork {
        /// Key in the file.
        key: String,
    },
    /// Stops what uses a network, removes and makes it again.
    RecreateNetwork {
        /// Key in the file.
        key: String,
        /// Id of the old one.
        old: String,
        /// Containers in it.
        users: Vec<Container>,
        /// Ids of those that no other step replaces or removes: they return to it.
        kept: BTreeSet<String>,
    },
    /// Makes the volume of this key.
    CreateVolume {
        /// Key in the file.
        key: String,
    },
    /// Makes a container.
    Create {
        /// Key of its service.
        service: String,
        /// Its number.
        number: usize,
    },
    /// Makes a container in place of another.
    Recreate {
        /// Key of its service.
        service: String,
        /// Its number.
        number: usize,
        /// The one it replaces.
        old: Box<Container>,
    },
    /// Stops and removes a container.
    Remove {
        /// The container.
        old: Box<Container>,
    },
    /// Stops a container, to be started again after what it needs.
    Stop {
        /// The container.
        old: Box<Container>,
    },
    /// Starts a container, made by an earlier step or there before.
    Start {
        /// Key of its service.
        service: String,
        /// Its number.
        number: usize,
        /// The container, if it is there already.
        existing: Option<Box<Container>>,
        /// What to wait for first.
        waits: Vec<Wait>,
    },
}

/// Something a start waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Key of the service.
    pub service: String,
    /// What must hold of all its containers.
    pub condition: Condition,
    /// False: go on if it does not come to hold.
    pub required: bool,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// Name of the thing: a container, network or volume.
    pub name: String,
    /// Why.
    pub reasons: Vec<Reason>,
    /// Indices of the steps that must be done before.
    pub after: Vec<usize>,
}

impl Step {
    /// True if it may turn out not to be needed.
    pub fn is_maybe(&self) -> bool {
        !self.reasons.is_empty() && self.reasons.iter().all(|r| r.maybe)
    }
}

/// Steps, each with those that must be done before it.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
    /// Containers that are as they should be and run.
    pub running: Vec<Container>,
    /// Containers of services the file does not define.
    pub orphans: Vec<Container>,
    /// Sentences to show the user.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Adds a step and returns its index.
    pub fn push(&mut self, action: Action, name: impl Into<String>, reasons: Vec<Reason>, after: Vec<usize>) -> usize {
        self.steps.push(Step { action, name: name.into(), reasons, after });
        self.steps.len() - 1
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
