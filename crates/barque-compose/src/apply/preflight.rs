//! What can be known to fail before anything is changed: found while planning, so that nothing is left half done.

use std::collections::BTreeSet;

use barque_api::ApiVersion;
use barque_model::Error;

use super::body::{self, Making, model_error};
use super::engine::Reader;
use super::files;
use crate::file::project::{Project, Service};
use crate::plan::observed::{Observed, State};
use crate::plan::step::{Action, Plan};

/// Checks the steps of a plan: requests that cannot be made, secrets and configs that cannot be read, networks that
/// cannot be removed.
///
/// # Errors
/// The first of them.
pub async fn plan(
    reader: &Reader,
    project: &Project,
    observed: &Observed,
    plan: &Plan,
    api: ApiVersion,
) -> Result<(), Error> {
    for step in &plan.steps {
        let (name, number) = match &step.action {
            Action::Create { service, number } | Action::Recreate { service, number, .. } => (service, *number),
            Action::Start { service, existing: Some(c), .. } if c.state == State::Created => (service, c.number),
            _ => continue,
        };
        if let Some(found) = project.services.get(name) {
            service(project, found, observed, (number, &step.name), api)?;
        }
    }
    networks(reader, plan).await
}

/// Checks that a container of a service can be made.
///
/// # Errors
/// What its request would ask for and nobody can give; secrets and configs that cannot be read.
pub fn service(
    project: &Project,
    service: &Service,
    observed: &Observed,
    (number, name): (usize, &str),
    api: ApiVersion,
) -> Result<(), Error> {
    body::make(&Making {
        project,
        service,
        observed,
        image: None,
        number,
        name,
        inherit: None,
        aliases: true,
        version: "",
        api,
    })?;
    files::pack(project, service).map(|_| ())
}

/// Refuses to make networks again that containers outside of the project are in: they could not be removed, and ours
/// would have been stopped for nothing.
///
/// # Errors
/// Such a network, or the engine's refusal.
async fn networks(reader: &Reader, plan: &Plan) -> Result<(), Error> {
    for step in &plan.steps {
        let Action::RecreateNetwork { old, users, .. } = &step.action else { continue };
        let found = reader.network(old).await.map_err(|e| model_error(&e))?;
        let ours: BTreeSet<&str> = users.iter().map(|c| c.id.as_str()).collect();
        let others = found.containers.unwrap_or_default();
        let others: Vec<String> =
            others.into_iter().filter(|(id, _)| !ours.contains(id.as_str())).map(|(_, e)| e.name).collect();
        if !others.is_empty() {
            let (name, list) = (&step.name, others.join(", "));
            return Err(Error::conflict(format!(
                "network {name} changed and must be made again, but containers of others are in it: {list}"
            ))
            .with_hint(format!("stop them, or take them out: docker network disconnect {name} {}", others[0])));
        }
    }
    Ok(())
}
